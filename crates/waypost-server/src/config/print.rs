//! The configuration as its reader sees it: a commented file, a page of documentation.

use std::fmt::Write;

use super::Config;
use super::array::arrays;
use super::setting::Reload;
use super::settings::SETTINGS;

/// Columns of a comment, its `# ` included.
const WIDTH: usize = 96;

/// A complete configuration file: every key, its default, and what it does.
pub fn default_toml() -> String {
    let defaults = Config::default();
    let mut out = String::from(
        "# Waypost's configuration: every key with its default.\n\
         # A file like this is read first, then the environment (WAYPOST_SECTION__KEY), then flags\n\
         # (--set section.key=value); the last one wins. Keys that are left out keep their default.\n",
    );
    let mut section = "";
    for setting in SETTINGS {
        if setting.section != section {
            section = setting.section;
            // Writing to a String cannot fail.
            let _ = write!(out, "\n[{section}]\n");
        }
        for line in wrapped(setting.doc, WIDTH - 2) {
            let _ = writeln!(out, "# {line}");
        }
        let _ = writeln!(out, "{} = {}", setting.key, setting.show(&defaults));
    }
    for array in arrays() {
        out.push('\n');
        for line in wrapped(array.doc, WIDTH - 2) {
            let _ = writeln!(out, "# {line}");
        }
        let _ = writeln!(out, "#[[{}]]", array.name);
        for key in array.keys {
            for line in wrapped(key.doc, WIDTH - 2) {
                let _ = writeln!(out, "# {line}");
            }
            let _ = writeln!(out, "#{} = {}", key.name, key.example);
        }
    }
    out
}

/// `docs/configuration.md`.
pub fn markdown() -> String {
    let defaults = Config::default();
    let mut out = String::from(
        "# Configuration\n\n\
         Generated from the table of settings in `crates/waypost-server/src/config/settings.rs`: \
         `RENEW_DOCS=1 cargo test -p waypost-server` writes it anew, and a test fails when it is not \
         current.\n\n\
         Settings are read from a TOML file (`waypost serve --config FILE`), then from the \
         environment (`WAYPOST_SECTION__KEY`), then from flags (`--set section.key=value`, and the \
         short ones below); the last one wins. `waypost config default` prints a complete file, \
         `waypost config check FILE` says what is wrong with one.\n\n\
         A key marked *on SIGHUP* takes a new value from the file when the server gets that signal; \
         the others take it at the next start, and the server says so.\n",
    );
    let mut section = "";
    for setting in SETTINGS {
        if setting.section != section {
            section = setting.section;
            let _ = write!(
                out,
                "\n## [{section}]\n\n| key | default | what it does |\n|---|---|---|\n"
            );
        }
        let flag = setting
            .flag
            .map(|flag| format!(" Flag: `{flag}`."))
            .unwrap_or_default();
        let reload = match setting.reload {
            Reload::OnHangup => " *On SIGHUP.*",
            Reload::AtStart => "",
        };
        let _ = writeln!(
            out,
            "| `{}` | `{}` | {} Takes {}.{flag}{reload} |",
            setting.key,
            setting.show(&defaults),
            setting.doc,
            setting.expected(),
        );
    }
    for array in arrays() {
        let _ = write!(
            out,
            "\n## [[{}]]\n\n{} Only the file has such tables, as many as there are {}s.\n\n\
             | key | example | what it does |\n|---|---|---|\n",
            array.name, array.doc, array.name
        );
        for key in array.keys {
            let _ = writeln!(
                out,
                "| `{}` | `{}` | {} Takes {}. |",
                key.name, key.example, key.doc, key.expected,
            );
        }
        out.push_str(array.more);
    }
    out
}

/// The text in lines of at most that many columns, broken between words.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

//! Every setting is documented, and some test shows that it does something.

use super::Finding;
use crate::{
    repository::{File, Repository},
    rust_source,
};

/// The table of settings, and the parts of it that have files of their own.
const TABLE: &str = "crates/waypost-server/src/config/settings.rs";
const STORE: &str = "crates/waypost-server/src/config/store.rs";
const TRANSCODE: &str = "crates/waypost-server/src/config/transcode.rs";
/// The tables of keys of `[[listener]]`, `[[stream]]`, `[[topic]]`: arrays of tables, which only a file has.
const ARRAYS: &[(&str, &str)] = &[
    ("listener", "crates/waypost-server/src/config/door.rs"),
    ("stream", "crates/waypost-server/src/config/stream.rs"),
    ("topic", "crates/waypost-server/src/config/topic.rs"),
];
/// Tests in here show that a setting is read, not that it acts.
const READING: &str = "crates/waypost-server/src/config/";
const PAGE: &str = "docs/configuration.md";

pub fn check(repository: &Repository) -> Vec<Finding> {
    let page = repository.file(PAGE).map_or("", |file| file.text.as_str());
    let tests = test_code(repository, READING);
    let mut findings = Vec::new();
    let tables = [TABLE, STORE, TRANSCODE]
        .into_iter()
        .filter_map(|path| repository.file(path));
    let all = tables.flat_map(|table| {
        settings(table)
            .into_iter()
            .map(move |row| (&table.path, row))
    });
    for (path, (line, section, key)) in all {
        if !page.contains(&format!("`{key}`")) {
            let fix = format!("renew {PAGE}: RENEW_DOCS=1 cargo test -p waypost-server");
            findings.push(Finding::new(
                path,
                line,
                format!("{section}.{key} is not documented"),
                fix,
            ));
        }
        if !is_tested(&tests, &section, &key) {
            let fix = "write a test outside config/ that sets it and sees the difference";
            findings.push(Finding::new(
                path,
                line,
                format!("no test shows what {section}.{key} does"),
                fix,
            ));
        }
    }
    for (array, path) in ARRAYS {
        let table = repository.file(path);
        for (line, key) in table.map(keys).unwrap_or_default() {
            if !(tests.contains(&format!("[[{array}]]")) && tests.contains(&format!("{key} = "))) {
                let fix =
                    "write a test outside config/ that has it in a file and sees the difference";
                findings.push(Finding::new(
                    path,
                    line,
                    format!("no test shows what {key} of [[{array}]] does"),
                    fix,
                ));
            }
        }
    }
    findings
}

/// The `name: "…"` of the keys of an array, with their lines.
fn keys(table: &File) -> Vec<(usize, String)> {
    let lines = table.text.lines().enumerate();
    lines
        .filter_map(|(index, line)| Some((index + 1, quoted_after(line.trim(), "name: ")?)))
        .collect()
}

/// The `section: "…"` and `key: "…"` pairs of the table, with the key's line.
fn settings(table: &File) -> Vec<(usize, String, String)> {
    let mut section = String::new();
    let mut found = Vec::new();
    for (index, line) in table.text.lines().enumerate() {
        let line = line.trim();
        if let Some(name) = quoted_after(line, "section: ") {
            section = name;
        } else if let Some(key) = quoted_after(line, "key: ") {
            found.push((index + 1, section.clone(), key));
        }
    }
    found
}

fn quoted_after(line: &str, label: &str) -> Option<String> {
    let value = line.strip_prefix(label)?.strip_prefix('"')?;
    value.split_once('"').map(|(value, _)| value.to_owned())
}

/// A test names the setting in full, as an environment variable or a flag, or, where the key is specific enough to
/// be no other word, by the key alone (as the field of a struct of limits).
fn is_tested(tests: &str, section: &str, key: &str) -> bool {
    let full = format!("{section}.{key}");
    let variable = format!("{}__{}", section.to_uppercase(), key.to_uppercase());
    let flag = format!("--{}", key.replace('_', "-"));
    tests.contains(&full)
        || tests.contains(&variable)
        || tests.contains(&flag)
        || (key.contains('_') && tests.contains(key))
}

/// All code that runs in tests only, but for that under `except`: test modules, test files, the tests crate.
pub fn test_code(repository: &Repository, except: &str) -> String {
    let mut code = String::new();
    for file in repository
        .rust_files("")
        .filter(|file| !file.path.starts_with(except) && !file.path.starts_with("xtask/"))
    {
        let whole = file.path.starts_with("tests/") || super::pure_crates::is_test_file(&file.path);
        let start = if whole {
            0
        } else {
            rust_source::tests_start(&file.text)
        };
        code.push_str(file.text.get(start..).unwrap_or_default());
        code.push('\n');
    }
    code
}

#[cfg(test)]
mod tests {
    use super::{
        super::{expect_bad, expect_good},
        *,
    };

    const SETTINGS: (&str, &str) = (
        TABLE,
        "    Setting {\n        section: \"limits\",\n        key: \"inflight_max\",\n",
    );
    const DOCS: (&str, &str) = (PAGE, "| `inflight_max` | 20 |");
    const TEST: (&str, &str) = (
        "tests/tests/limits.rs",
        "ServerOptions::new().environment(\"WAYPOST_LIMITS__INFLIGHT_MAX\", \"2\")",
    );

    #[test]
    fn a_setting_has_a_line_and_a_test() {
        expect_good(check, &[SETTINGS, DOCS, TEST]);
        expect_bad(
            check,
            &[SETTINGS, TEST],
            &format!("{TABLE}:3"),
            "not documented",
        );
        expect_bad(check, &[SETTINGS, DOCS], &format!("{TABLE}:3"), "no test");
    }

    #[test]
    fn a_key_of_an_array_has_a_test() {
        let (array, path) = ARRAYS[0];
        let keys = (path, "    Key {\n        name: \"proxy_from\",\n");
        let test = format!("fn f() {{ r#\"[[{array}]]\nproxy_from = []\"# }}");
        expect_good(
            check,
            &[SETTINGS, DOCS, TEST, keys, ("tests/tests/doors.rs", &test)],
        );
        let place = format!("{path}:2");
        expect_bad(check, &[SETTINGS, DOCS, TEST, keys], &place, "no test");
    }

    #[test]
    fn a_test_that_only_reads_it_does_not_count() {
        let reading = (
            "crates/waypost-server/src/config/tests.rs",
            "fn f() { limits.inflight_max }",
        );
        expect_bad(
            check,
            &[SETTINGS, DOCS, reading],
            &format!("{TABLE}:3"),
            "no test",
        );
    }
}

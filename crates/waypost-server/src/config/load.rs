//! The three sources, read in order: each overrides the one before it.

use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{LoadError, Origin, Problem};
use super::literal::Literal;
use super::nearest::{distance, nearest};
use super::settings::{SETTINGS, Setting};
use super::{Config, validate};

/// What a configuration is made from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The TOML file, if one was named.
    pub file: Option<PathBuf>,
    /// The environment: [`std::env::vars_os`] in the program, a list in tests. Only names that
    /// begin with `WAYPOST_` are looked at.
    pub environment: Vec<(OsString, OsString)>,
    /// The flags of the command line.
    pub flags: Vec<Flag>,
}

/// A flag that sets a key.
#[derive(Clone, Debug)]
pub struct Flag {
    /// As the user wrote it, for messages: `--mqtt`, `--set`.
    pub name: String,
    /// The key it sets: `listen.mqtt`.
    pub key: String,
    /// The value.
    pub value: String,
}

impl Config {
    /// Reads the sources over the defaults and checks what they say together.
    pub fn load(sources: &Sources) -> Result<Self, LoadError> {
        let mut loading = Loading::new();
        if let Some(path) = &sources.file {
            loading.read_file(path);
        }
        for (name, value) in &sources.environment {
            loading.read_variable(name, value);
        }
        for flag in &sources.flags {
            loading.read_flag(flag);
        }
        loading.finish()
    }
}

/// A configuration on its way, and what was found wrong so far.
pub(super) struct Loading {
    pub(super) config: Config,
    /// Where each of [`SETTINGS`] was last given.
    origins: Vec<Origin>,
    pub(super) problems: Vec<Problem>,
}

impl Loading {
    fn new() -> Self {
        Self {
            config: Config::default(),
            origins: vec![Origin::Default; SETTINGS.len()],
            problems: Vec::new(),
        }
    }

    fn finish(mut self) -> Result<Config, LoadError> {
        validate::validate(&mut self);
        if self.problems.is_empty() {
            Ok(self.config)
        } else {
            Err(LoadError {
                problems: self.problems,
            })
        }
    }

    /// Where that setting was given, and a correct line for it there.
    pub(super) fn origin(&self, section: &str, key: &str) -> Origin {
        SETTINGS
            .iter()
            .zip(&self.origins)
            .find(|(setting, _)| setting.section == section && setting.key == key)
            .map_or(Origin::Default, |(_, origin)| origin.clone())
    }

    fn read_file(&mut self, path: &Path) {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(source) => {
                let path = path.to_owned();
                return self.problems.push(Problem::Unreadable { path, source });
            }
        };
        let file = File { path, text: &text };
        let root = match DeTable::parse(&text) {
            Ok(root) => root,
            Err(error) => {
                return self.problems.push(Problem::Syntax {
                    origin: file.origin(&error.span().unwrap_or_default()),
                    message: error.message().replace('\n', "; "),
                });
            }
        };
        for (name, value) in in_order(root.get_ref()) {
            let origin = file.origin(&name.span());
            let section = name.get_ref().as_ref();
            if !SETTINGS.iter().any(|setting| setting.section == section) {
                self.unknown_section(origin, section, value.get_ref());
                continue;
            }
            let DeValue::Table(table) = value.get_ref() else {
                let name = section.to_owned();
                self.problems.push(Problem::NotASection { origin, name });
                continue;
            };
            for (key, value) in in_order(table) {
                let found = file.excerpt(&value.span());
                let origin = file.origin(&key.span());
                self.set(
                    origin,
                    section,
                    key.get_ref(),
                    &literal(value.get_ref()),
                    found,
                );
            }
        }
    }

    /// A table is a section with a wrong name; anything else is a key outside its section.
    fn unknown_section(&mut self, origin: Origin, name: &str, value: &DeValue<'_>) {
        if matches!(value, DeValue::Table(_)) {
            let sections = SETTINGS.iter().map(|setting| setting.section);
            self.problems.push(Problem::UnknownSection {
                origin,
                name: name.to_owned(),
                nearest: nearest(name, sections).unwrap_or_default(),
            });
        } else {
            self.problems.push(Problem::UnknownKey {
                origin,
                name: name.to_owned(),
                nearest: nearest_key("", name),
            });
        }
    }

    fn read_variable(&mut self, name: &OsString, value: &OsString) {
        let name = name.to_string_lossy();
        if !name.starts_with("WAYPOST_") || is_kubernetes_service(&name) {
            return;
        }
        let Some(setting) = SETTINGS.iter().find(|setting| setting.variable() == name) else {
            let names: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
            self.problems.push(Problem::UnknownVariable {
                name: name.to_string(),
                nearest: nearest(&name, names.iter().map(String::as_str))
                    .unwrap_or_default()
                    .to_owned(),
            });
            return;
        };
        let value = value.to_string_lossy();
        self.set(
            Origin::Environment(name.to_string()),
            setting.section,
            setting.key,
            &Literal::Text(&value),
            value.to_string(),
        );
    }

    fn read_flag(&mut self, flag: &Flag) {
        let (section, key) = flag.key.split_once('.').unwrap_or(("", &flag.key));
        self.set(
            Origin::Flag(flag.name.clone()),
            section,
            key,
            &Literal::Text(&flag.value),
            flag.value.clone(),
        );
    }

    fn set(
        &mut self,
        origin: Origin,
        section: &str,
        key: &str,
        value: &Literal<'_>,
        found: String,
    ) {
        let known = SETTINGS
            .iter()
            .zip(&mut self.origins)
            .find(|(setting, _)| setting.section == section && setting.key == key);
        let Some((setting, last_origin)) = known else {
            self.problems.push(Problem::UnknownKey {
                origin,
                name: [section, key]
                    .into_iter()
                    .filter(|part| !part.is_empty())
                    .collect::<Vec<_>>()
                    .join("."),
                nearest: nearest_key(section, key),
            });
            return;
        };
        if setting.write(&mut self.config, value) {
            *last_origin = origin;
        } else {
            self.problems.push(Problem::Value {
                key: setting.name(),
                found,
                expected: setting.expected(),
                example: line_for(&origin, setting, &setting.example()),
                origin,
            });
        }
    }
}

/// That value of that setting, written as it would be at that place.
pub(super) fn line_for(origin: &Origin, setting: &Setting, toml: &str) -> String {
    // Everything but TOML is written without quotes and brackets.
    let items = toml
        .strip_prefix('[')
        .and_then(|toml| toml.strip_suffix(']'));
    let bare = items.unwrap_or(toml).replace(['"', ' '], "");
    match origin {
        Origin::File { .. } | Origin::Default => format!("{} = {toml}", setting.key),
        Origin::Environment(name) => format!("{name}={bare}"),
        Origin::Flag(name) if name == "--set" => format!("--set {}={bare}", setting.name()),
        Origin::Flag(name) => format!("{name} {bare}"),
    }
}

/// The valid `section.key` nearest to what was written; the key counts more than its section.
fn nearest_key(section: &str, key: &str) -> String {
    SETTINGS
        .iter()
        .min_by_key(|setting| {
            2 * distance(key, setting.key) + distance(section, setting.section).min(1)
        })
        .map(Setting::name)
        .unwrap_or_default()
}

/// Kubernetes gives every pod variables that describe the services beside it; for a service called
/// "waypost" they begin like ours. Settings always have a section and `__`.
fn is_kubernetes_service(name: &str) -> bool {
    !name.contains("__")
        && (name.starts_with("WAYPOST_SERVICE_") || name.starts_with("WAYPOST_PORT"))
}

/// The entries as they stand in the file: mistakes are told from the top.
fn in_order<'a, 'i>(table: &'a DeTable<'i>) -> Vec<(&'a Key<'i>, &'a Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}

fn literal<'a>(value: &'a DeValue<'_>) -> Literal<'a> {
    match value {
        DeValue::String(text) => Literal::String(text),
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
            .map_or(Literal::Other, Literal::Integer),
        DeValue::Array(items) => items
            .iter()
            .map(|item| match item.get_ref() {
                DeValue::String(text) => Some(text.as_ref()),
                _ => None,
            })
            .collect::<Option<Vec<&str>>>()
            .map_or(Literal::Other, Literal::List),
        _ => Literal::Other,
    }
}

type Key<'i> = Spanned<std::borrow::Cow<'i, str>>;

struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn origin(&self, span: &Range<usize>) -> Origin {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        Origin::File {
            path: self.path.to_owned(),
            line: before.matches('\n').count() + 1,
        }
    }

    /// The value as written, its first line, and not more of it than a message has room for.
    fn excerpt(&self, span: &Range<usize>) -> String {
        const CHARS_MAX: usize = 60;
        let whole = self.text.get(span.clone()).unwrap_or_default();
        let line = whole.lines().next().unwrap_or_default();
        let shown: String = line.chars().take(CHARS_MAX).collect();
        if shown.len() < whole.len() {
            format!("{shown}…")
        } else {
            shown
        }
    }
}

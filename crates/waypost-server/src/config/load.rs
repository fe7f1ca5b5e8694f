//! The three sources, read in order: each overrides the one before it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::array::{self, Row};
use super::door::{Draft, LISTENER_KEYS, LISTENERS_MAX};
use super::error::{LoadError, Origin, Problem};
use super::file::{File, in_order, literal};
use super::literal::Literal;
use super::nearest::{distance, nearest};
use super::setting::Setting;
use super::settings::SETTINGS;
use super::stream::{self, STREAM_KEYS, STREAMS_MAX};
use super::topic::{TOPIC_KEYS, TOPICS_MAX, Topics};
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
        let mut loading = Loading::read(sources);
        validate::validate(&mut loading);
        loading.finish()
    }

    /// Reads the sources over the defaults, each value for itself: for programs that change what the values are checked
    /// against.
    pub fn read(sources: &Sources) -> Result<Self, LoadError> {
        Loading::read(sources).finish()
    }
}

/// A configuration on its way, and what was found wrong so far.
pub(super) struct Loading {
    pub(super) config: Config,
    /// Where each of [`SETTINGS`] was last given.
    origins: Vec<Origin>,
    /// Every `[[listener]]`; what they leave out is known when all sources are read.
    pub(super) listeners: Vec<Row<Draft>>,
    pub(super) problems: Vec<Problem>,
}

impl Loading {
    pub(super) fn new() -> Self {
        Self {
            config: Config::default(),
            origins: vec![Origin::Default; SETTINGS.len()],
            listeners: Vec::new(),
            problems: Vec::new(),
        }
    }

    fn read(sources: &Sources) -> Self {
        let mut loading = Self::new();
        if let Some(path) = &sources.file {
            loading.read_file(path);
        }
        for (name, value) in &sources.environment {
            loading.read_variable(name, value);
        }
        for flag in &sources.flags {
            loading.read_flag(flag);
        }
        loading.complete_doors();
        loading
    }

    /// Gives each `[[listener]]` what it leaves out.
    pub(super) fn complete_doors(&mut self) {
        let tls = &self.config.tls;
        let rows = self.listeners.iter();
        self.config.listen.own = rows.flat_map(|row| Draft::complete(row, tls)).collect();
    }

    pub(super) fn finish(self) -> Result<Config, LoadError> {
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
        self.read_text(path, &text);
    }

    pub(super) fn read_text(&mut self, path: &Path, text: &str) {
        let file = File::new(path, text);
        let root = match DeTable::parse(text) {
            Ok(root) => root,
            Err(error) => {
                return self.problems.push(Problem::Syntax {
                    origin: file.origin(&error.span().unwrap_or_default()),
                    message: error.message().replace('\n', "; "),
                });
            }
        };
        for (name, value) in in_order(root.get_ref()) {
            match name.get_ref().as_ref() {
                "listener" => {
                    let keys = (LISTENER_KEYS, LISTENERS_MAX);
                    self.listeners = array::read(name, value, keys, &file, &mut self.problems);
                }
                "topic" => {
                    let keys = (TOPIC_KEYS, TOPICS_MAX);
                    let rows = array::read(name, value, keys, &file, &mut self.problems);
                    self.config.topics = Topics::new(rows, &mut self.problems);
                }
                "stream" => {
                    let keys = (STREAM_KEYS, STREAMS_MAX);
                    let rows = array::read(name, value, keys, &file, &mut self.problems);
                    self.config.streams = stream::complete(&rows, &mut self.problems);
                }
                section => self.read_section(section, &file.origin(&name.span()), value, &file),
            }
        }
    }

    fn read_section(
        &mut self,
        section: &str,
        origin: &Origin,
        value: &Spanned<DeValue<'_>>,
        file: &File<'_>,
    ) {
        if !SETTINGS.iter().any(|setting| setting.section == section) {
            return self.unknown_section(origin.clone(), section, value.get_ref());
        }
        let DeValue::Table(table) = value.get_ref() else {
            return self.problems.push(Problem::NotASection {
                origin: origin.clone(),
                name: section.to_owned(),
            });
        };
        for (key, value) in in_order(table) {
            let found = file.excerpt(&value.span());
            let origin = file.origin(&key.span());
            let value = literal(value.get_ref());
            self.set(origin, section, key.get_ref(), &value, found);
        }
    }

    /// A table is a section with a wrong name; anything else is a key outside its section.
    fn unknown_section(&mut self, origin: Origin, name: &str, value: &DeValue<'_>) {
        let is_array = |value: &DeValue<'_>| matches!(value, DeValue::Array(items) if items.iter().all(|item| item.get_ref().is_table()));
        if value.is_table() || is_array(value) {
            let sections = SETTINGS.iter().map(|setting| setting.section);
            let names = sections.chain(array::NAMES);
            let nearest = nearest(name, names).unwrap_or_default();
            let brackets = |name: &str, twice: bool| {
                if twice {
                    format!("[[{name}]]")
                } else {
                    format!("[{name}]")
                }
            };
            self.problems.push(Problem::UnknownSection {
                origin,
                name: brackets(name, is_array(value)),
                nearest: brackets(nearest, array::NAMES.contains(&nearest)),
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
        if !name.starts_with("WAYPOST_") || is_kubernetes_service(&name) || name == KEYS {
            return;
        }
        let Some(setting) = SETTINGS.iter().find(|setting| setting.variable() == name) else {
            // WAYPOST_DATA_DIR lacks a section: the key alone says what was meant.
            let rest = name.trim_start_matches("WAYPOST_");
            let (section, key) = rest.split_once("__").unwrap_or(("", rest));
            self.problems.push(Problem::UnknownVariable {
                name: name.to_string(),
                nearest: nearest_setting(section, key)
                    .map(Setting::variable)
                    .unwrap_or_default(),
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
                example: line_for(&origin, setting, &setting.example(value)),
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
        Origin::Environment(_) => format!("{}={bare}", setting.variable()),
        Origin::Flag(name) => match setting.flag {
            Some(flag) if name != "--set" => format!("{flag} {bare}"),
            _ => format!("--set {}={bare}", setting.name()),
        },
    }
}

/// The valid `section.key` nearest to what was written; the key counts more than its section.
fn nearest_key(section: &str, key: &str) -> String {
    nearest_setting(section, key)
        .map(Setting::name)
        .unwrap_or_default()
}

fn nearest_setting(section: &str, key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().min_by_key(|setting| {
        2 * distance(key, setting.key) + distance(section, setting.section).min(1)
    })
}

/// Where `waypost pub`, `sub` and `keys` look for keys; no setting of a server.
const KEYS: &str = "WAYPOST_KEYS";

/// Kubernetes gives every pod variables that describe the services beside it; for a service called
/// "waypost" they begin like ours. Settings always have a section and `__`.
fn is_kubernetes_service(name: &str) -> bool {
    !name.contains("__")
        && (name.starts_with("WAYPOST_SERVICE_") || name.starts_with("WAYPOST_PORT"))
}

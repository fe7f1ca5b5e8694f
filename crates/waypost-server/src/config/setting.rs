//! What a row of the table of settings is.

use super::Config;
use super::field::Field;
use super::literal::Literal;
use super::settings::SETTINGS;

/// One key of the configuration.
pub struct Setting {
    /// The TOML section it is in.
    pub section: &'static str,
    /// Its name there.
    pub key: &'static str,
    /// What it does, in a sentence or two; when it is a bound, what happens at the bound.
    pub doc: &'static str,
    /// Whether SIGHUP applies a change.
    pub reload: Reload,
    /// The flag of `waypost serve` that sets it, where it has one of its own (`--set` sets them all).
    pub flag: Option<&'static str>,
    pub(super) field: Field<Config>,
}

/// When a changed value acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// At once, on SIGHUP.
    OnHangup,
    /// When the server starts again.
    AtStart,
}

impl Setting {
    /// The setting of that name.
    pub fn find(section: &str, key: &str) -> Option<&'static Self> {
        SETTINGS
            .iter()
            .find(|setting| setting.section == section && setting.key == key)
    }

    /// `section.key`.
    pub fn name(&self) -> String {
        format!("{}.{}", self.section, self.key)
    }

    /// The environment variable that sets it.
    pub fn variable(&self) -> String {
        format!("WAYPOST_{}__{}", self.section, self.key).to_ascii_uppercase()
    }

    /// Its value in that configuration, as TOML.
    pub fn show(&self, config: &Config) -> String {
        self.field.show(config)
    }

    /// Its value as a number and a name that carries the unit, where it is a number: for machines.
    pub fn number(&self, config: &Config) -> Option<(String, u64)> {
        match &self.field {
            Field::Count(number) | Field::Bytes(number) => {
                Some((self.key.to_owned(), (number.read)(config)))
            }
            Field::Duration(number) => Some((format!("{}_ms", self.key), (number.read)(config))),
            _ => None,
        }
    }

    /// What a value must be, in words.
    pub fn expected(&self) -> String {
        self.field.expected()
    }

    /// A value that would be right there in place of `value`, as TOML.
    pub(super) fn example(&self, value: &Literal<'_>) -> String {
        match self.name().as_str() {
            "http.allowed_hosts" => r#"["broker.example.org"]"#.to_owned(),
            "http.allowed_origins" => r#"["https://broker.example.org"]"#.to_owned(),
            "listen.mqtts" => r#"["127.0.0.1:8883"]"#.to_owned(),
            "listen.ws" => r#"["127.0.0.1:8083"]"#.to_owned(),
            "listen.wss" => r#"["127.0.0.1:8084"]"#.to_owned(),
            "store.old_key_files" => r#"["old.key"]"#.to_owned(),
            "store.key_command" => r#"["pass", "show", "waypost"]"#.to_owned(),
            "tls.crl" => r#"["clients.crl"]"#.to_owned(),
            _ => self
                .field
                .nearest(value)
                .unwrap_or_else(|| self.show(&Config::default())),
        }
    }

    /// Puts a value into the configuration; `false`, and nothing changed, when it does not fit.
    pub(super) fn write(&self, config: &mut Config, value: &Literal<'_>) -> bool {
        self.field.write(config, value)
    }
}

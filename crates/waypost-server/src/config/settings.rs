//! The table of settings.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::Config;
use super::literal::{self, Literal};

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
    field: Field,
}

/// When a changed value acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// At once, on SIGHUP.
    OnHangup,
    /// When the server starts again.
    AtStart,
}

/// More shards than this serve nobody: each costs a thread and a mailbox to every other.
pub(super) const SHARDS_MAX: u16 = 256;

/// Where the value lives in [`Config`], and with that its type and unit.
enum Field {
    Count(Number),
    Bytes(Number),
    Duration(Number),
    Address(fn(&mut Config) -> &mut SocketAddr),
    Addresses(fn(&mut Config) -> &mut Vec<SocketAddr>),
    Path(fn(&mut Config) -> &mut PathBuf),
    Names(fn(&mut Config) -> &mut Vec<String>),
    Level(fn(&mut Config) -> &mut log::LevelFilter),
}

/// A number of any width: counted, in bytes, or (durations) in milliseconds.
struct Number {
    min: u64,
    max: u64,
    read: fn(&Config) -> u64,
    write: fn(&mut Config, u64) -> bool,
}

/// A number in the field of that path, within the bounds.
macro_rules! number {
    ($min:expr, $max:expr, $($path:ident).+) => {
        Number {
            min: $min,
            max: $max,
            read: |config| config.$($path).+.try_into().unwrap_or(u64::MAX),
            write: |config, value| {
                value.try_into().map(|value| config.$($path).+ = value).is_ok()
            },
        }
    };
}

/// As [`number`], where the field is a [`Duration`].
macro_rules! duration {
    ($min:expr, $max:expr, $($path:ident).+) => {
        Number {
            min: $min,
            max: $max,
            read: |config| literal::as_milliseconds(config.$($path).+),
            write: |config, value| {
                config.$($path).+ = Duration::from_millis(value);
                true
            },
        }
    };
}

/// Every setting there is, section by section, in the order they are printed.
pub const SETTINGS: &[Setting] = &[
    Setting {
        section: "listen",
        key: "mqtt",
        doc: "Addresses for MQTT over TCP. Port 0 lets the system choose; the bound addresses are \
              printed at the start.",
        reload: Reload::AtStart,
        flag: Some("--mqtt"),
        field: Field::Addresses(|config| &mut config.listen.mqtt),
    },
    Setting {
        section: "listen",
        key: "http",
        doc: "Address for HTTP: the API, health checks and metrics.",
        reload: Reload::AtStart,
        flag: Some("--http"),
        field: Field::Address(|config| &mut config.listen.http),
    },
    Setting {
        section: "server",
        key: "data_dir",
        doc: "Directory for everything the server keeps, and for the administrator's socket. It is \
              made if missing, for its owner only (mode 0700); one server at a time.",
        reload: Reload::AtStart,
        flag: Some("--data-dir"),
        field: Field::Path(|config| &mut config.server.data_dir),
    },
    Setting {
        section: "server",
        key: "shards",
        doc: "Threads that serve clients. 0: one per core.",
        reload: Reload::AtStart,
        flag: Some("--shards"),
        field: Field::Count(number!(0, 256, server.shards)),
    },
    Setting {
        section: "server",
        key: "drain_timeout",
        doc: "How long a server that was told to stop waits for clients to take what is already \
              written for them, before it closes their connections.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Duration(duration!(0, 3_600_000, server.drain_timeout)),
    },
    Setting {
        section: "server",
        key: "sys_interval",
        doc: "How often the $SYS topics are published. 0s: never.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Duration(duration!(0, 86_400_000, server.sys_interval)),
    },
    Setting {
        section: "limits",
        key: "connections_max",
        doc: "Open MQTT connections of the whole server. At the bound a new one is closed at once, \
              and counted.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Count(number!(1, 100_000_000, shell.connections_max)),
    },
    Setting {
        section: "limits",
        key: "accept_backlog",
        doc: "Connections the kernel holds per listener until they are accepted; beyond it the \
              kernel lets clients try again.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Count(number!(1, 65_535, shell.accept_backlog)),
    },
    Setting {
        section: "limits",
        key: "receive_bytes_max",
        doc: "Memory of one shard for packets that have not arrived whole. At the bound the \
              connection that wants more is not read until others are done.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Bytes(number!(1 << 20, 1 << 40, shell.receive_bytes_max)),
    },
    Setting {
        section: "limits",
        key: "mailbox_bytes_max",
        doc: "Memory for messages on their way from one shard to another. At the bound the sending \
              shard stops reading its publishers until there is room.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Bytes(number!(64 << 10, 1 << 40, shell.mailbox_bytes_max)),
    },
    Setting {
        section: "http",
        key: "allowed_hosts",
        doc: "Host names, besides loopback's, under which the API may be asked for. Any other Host \
              is refused, so that a web page elsewhere cannot reach this server through a name of \
              its own.",
        reload: Reload::OnHangup,
        flag: None,
        field: Field::Names(|config| &mut config.http.allowed_hosts),
    },
    Setting {
        section: "http",
        key: "allowed_origins",
        doc: "Origins, besides the server's own, whose pages may use the API, as a browser writes \
              them: scheme, host and port.",
        reload: Reload::OnHangup,
        flag: None,
        field: Field::Names(|config| &mut config.http.allowed_origins),
    },
    Setting {
        section: "http",
        key: "connections_max",
        doc: "Open HTTP connections. At the bound a new one waits until another is closed.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Count(number!(1, 100_000, http.connections_max)),
    },
    Setting {
        section: "http",
        key: "request_timeout",
        doc: "How long the head of an HTTP request may take to arrive, a connection may be idle \
              and an answer may take. After it the connection is closed.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Duration(duration!(100, 3_600_000, http.request_timeout)),
    },
    Setting {
        section: "log",
        key: "level",
        doc: "The least serious message that is written to standard error.",
        reload: Reload::OnHangup,
        flag: Some("--log-level"),
        field: Field::Level(|config| &mut config.log.level),
    },
];

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
        // One accessor per field keeps the table short; it asks for `&mut`, so show a copy.
        let mut copy = config.clone();
        match &self.field {
            Field::Count(number) => (number.read)(config).to_string(),
            Field::Bytes(number) => literal::quoted(&literal::show_bytes((number.read)(config))),
            Field::Duration(number) => {
                literal::quoted(&literal::show_milliseconds((number.read)(config)))
            }
            Field::Address(field) => literal::quoted(&field(&mut copy).to_string()),
            Field::Addresses(field) => list(field(&mut copy).iter().map(ToString::to_string)),
            Field::Path(field) => literal::quoted(&field(&mut copy).to_string_lossy()),
            Field::Names(field) => list(field(&mut copy).iter().cloned()),
            Field::Level(field) => literal::quoted(&field(&mut copy).as_str().to_lowercase()),
        }
    }

    /// Puts a value into the configuration; `false`, and nothing changed, when it does not fit.
    pub(super) fn write(&self, config: &mut Config, value: &Literal<'_>) -> bool {
        match &self.field {
            Field::Count(number) => number.put(config, value.count()),
            Field::Bytes(number) => number.put(config, value.text().and_then(literal::bytes)),
            Field::Duration(number) => {
                number.put(config, value.text().and_then(literal::milliseconds))
            }
            Field::Address(field) => put(field(config), value.text().and_then(literal::address)),
            Field::Addresses(field) => put(
                field(config),
                value
                    .list()
                    .filter(|items| !items.is_empty())
                    .and_then(|items| items.into_iter().map(literal::address).collect()),
            ),
            Field::Path(field) => put(
                field(config),
                value
                    .text()
                    .filter(|text| !text.is_empty())
                    .map(PathBuf::from),
            ),
            Field::Names(field) => put(
                field(config),
                value
                    .list()
                    .map(|items| items.into_iter().map(str::to_owned).collect()),
            ),
            Field::Level(field) => put(
                field(config),
                value.text().and_then(|text| text.parse().ok()),
            ),
        }
    }

    /// What a value must be, in words.
    pub fn expected(&self) -> String {
        match &self.field {
            Field::Count(number) => {
                format!("a whole number from {} to {}", number.min, number.max)
            }
            Field::Bytes(number) => format!(
                "a size with its unit (B, KiB, MiB, GiB, TiB) from {} to {}",
                literal::show_bytes(number.min),
                literal::show_bytes(number.max)
            ),
            Field::Duration(number) => format!(
                "a duration with its unit (ms, s, m, h, d) from {} to {}",
                literal::show_milliseconds(number.min),
                literal::show_milliseconds(number.max)
            ),
            Field::Address(_) => "a numeric address and port".to_owned(),
            Field::Addresses(_) => "at least one numeric address and port".to_owned(),
            Field::Path(_) => "a path".to_owned(),
            Field::Names(_) => "a list of names".to_owned(),
            Field::Level(_) => "one of off, error, warn, info, debug, trace".to_owned(),
        }
    }

    /// A value that would be right, as TOML.
    pub(super) fn example(&self) -> String {
        match (&self.field, self.key) {
            (Field::Names(_), "allowed_origins") => list(["https://broker.example.org"]),
            (Field::Names(_), _) => list(["broker.example.org"]),
            _ => self.show(&Config::default()),
        }
    }
}

#[cfg(test)]
impl Setting {
    /// A valid number other than the default, as TOML.
    pub(super) fn another_number(&self) -> String {
        let mut config = Config::default();
        match &self.field {
            Field::Count(number) | Field::Bytes(number) | Field::Duration(number) => {
                let other = if (number.read)(&config) == number.max {
                    number.min
                } else {
                    number.max
                };
                assert!(
                    (number.write)(&mut config, other),
                    "{} takes its own bound",
                    self.name()
                );
            }
            _ => panic!(
                "{} is no number: give it a value in other_values()",
                self.name()
            ),
        }
        self.show(&config)
    }
}

impl Number {
    fn put(&self, config: &mut Config, value: Option<u64>) -> bool {
        value
            .filter(|value| (self.min..=self.max).contains(value))
            .is_some_and(|value| (self.write)(config, value))
    }
}

fn put<T>(field: &mut T, value: Option<T>) -> bool {
    value.map(|value| *field = value).is_some()
}

fn list<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items
        .into_iter()
        .map(|item| literal::quoted(item.as_ref()))
        .collect();
    format!("[{}]", items.join(", "))
}

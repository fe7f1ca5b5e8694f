//! Where a setting's value lives in [`Config`], and with that its type, its unit and its bounds.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::Config;
use super::literal::{self, Literal};

/// Where the value lives in [`Config`], and with that its type and unit.
pub(super) enum Field {
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
pub(super) struct Number {
    pub(super) min: u64,
    pub(super) max: u64,
    pub(super) read: fn(&Config) -> u64,
    pub(super) write: fn(&mut Config, u64) -> bool,
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
            read: |config| $crate::config::literal::as_milliseconds(config.$($path).+),
            write: |config, value| {
                config.$($path).+ = std::time::Duration::from_millis(value);
                true
            },
        }
    };
}

/// As [`number`], where the field counts seconds.
macro_rules! seconds {
    ($min:expr, $max:expr, $($path:ident).+) => {
        Number {
            min: $min,
            max: $max,
            read: |config| u64::from(config.$($path).+) * 1_000,
            write: |config, value| {
                value.is_multiple_of(1_000)
                    && (value / 1_000).try_into().map(|value| config.$($path).+ = value).is_ok()
            },
        }
    };
}

pub(super) use {duration, number, seconds};

impl Field {
    /// Its value in that configuration, as TOML.
    pub(super) fn show(&self, config: &Config) -> String {
        // One accessor per field keeps the table short; it asks for `&mut`, so show a copy.
        let mut copy = config.clone();
        match self {
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
        match self {
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
    pub(super) fn expected(&self) -> String {
        match self {
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
}

#[cfg(test)]
impl Field {
    /// A valid number other than the default, as TOML.
    pub(super) fn another_number(&self) -> String {
        let mut config = Config::default();
        match self {
            Field::Count(number) | Field::Bytes(number) | Field::Duration(number) => {
                let other = if (number.read)(&config) == number.max {
                    number.min
                } else {
                    number.max
                };
                assert!(
                    (number.write)(&mut config, other),
                    "{} takes its own bound",
                    self.expected()
                );
            }
            _ => panic!(
                "{} is no number: give it a value in other_values()",
                self.expected()
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

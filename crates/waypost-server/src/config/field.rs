//! Where a key's value lives in its struct, and with that its type, its unit and its bounds.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use waypost_compress::Stages;
use waypost_core::POLICY_LEVELS_MAX;

use super::literal::{self, Literal};
use super::nearest::{distance, nearest};
use super::stream::{self, Retention};

/// Where the value lives in `C` ([`super::Config`], or the struct of one `[[table]]`), and with that its type and unit.
pub(super) enum Field<C> {
    Count(Number<C>),
    Bytes(Number<C>),
    Duration(Number<C>),
    Fact(fn(&mut C) -> &mut bool),
    Address(fn(&mut C) -> &mut SocketAddr),
    Addresses(fn(&mut C) -> &mut Vec<SocketAddr>),
    Networks(fn(&mut C) -> &mut Vec<IpNet>),
    Path(fn(&mut C) -> &mut PathBuf),
    OptionalPath(fn(&mut C) -> &mut Option<PathBuf>),
    Paths(fn(&mut C) -> &mut Vec<PathBuf>),
    Names(fn(&mut C) -> &mut Vec<String>),
    OptionalName(fn(&mut C) -> &mut Option<String>),
    /// A Topic Filter that a policy may have.
    Filter(fn(&mut C) -> &mut String),
    /// A Topic Name.
    OptionalTopic(fn(&mut C) -> &mut Option<Arc<str>>),
    /// Topic Filters that a stream may have.
    Filters(fn(&mut C) -> &mut Vec<String>),
    StreamName(fn(&mut C) -> &mut String),
    Retention(fn(&mut C) -> &mut Retention),
    /// Strategies of the compress family, with `+` between them.
    Stages(fn(&mut C) -> &mut Option<Stages>),
    Word(Word<C>),
}

/// A number of any width: counted, in bytes, or (durations) in milliseconds.
pub(super) struct Number<C> {
    pub(super) min: u64,
    pub(super) max: u64,
    pub(super) read: fn(&C) -> u64,
    pub(super) write: fn(&mut C, u64) -> bool,
}

/// One of a few words.
pub(super) struct Word<C> {
    pub(super) words: fn() -> Vec<&'static str>,
    pub(super) read: fn(&C) -> &'static str,
    /// `false`: it is none of them.
    pub(super) write: fn(&mut C, &str) -> bool,
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

impl<C: Clone> Field<C> {
    /// Its value there, as TOML.
    pub(super) fn show(&self, config: &C) -> String {
        // One accessor per field keeps the table short; it asks for `&mut`, so show a copy.
        let mut copy = config.clone();
        match self {
            Field::Count(number) => (number.read)(config).to_string(),
            Field::Bytes(number) => literal::quoted(&literal::show_bytes((number.read)(config))),
            Field::Duration(number) => {
                literal::quoted(&literal::show_milliseconds((number.read)(config)))
            }
            Field::Fact(field) => field(&mut copy).to_string(),
            Field::Address(field) => literal::quoted(&field(&mut copy).to_string()),
            Field::Addresses(field) => list(field(&mut copy).iter().map(ToString::to_string)),
            Field::Networks(field) => list(field(&mut copy).iter().map(ToString::to_string)),
            Field::Path(field) => literal::quoted(&field(&mut copy).to_string_lossy()),
            Field::OptionalPath(field) => {
                let path = field(&mut copy).take().unwrap_or_default();
                literal::quoted(&path.to_string_lossy())
            }
            Field::Paths(field) => list(field(&mut copy).iter().map(|path| path.to_string_lossy())),
            Field::Names(field) => list(field(&mut copy).iter().cloned()),
            Field::OptionalName(field) => {
                literal::quoted(&field(&mut copy).take().unwrap_or_default())
            }
            Field::OptionalTopic(field) => {
                literal::quoted(field(&mut copy).as_deref().unwrap_or_default())
            }
            Field::Filter(field) | Field::StreamName(field) => literal::quoted(field(&mut copy)),
            Field::Filters(field) => list(field(&mut copy).iter()),
            Field::Retention(field) => list(field(&mut copy).show()),
            Field::Stages(field) => {
                let stages = field(&mut copy).take();
                literal::quoted(
                    &stages.map_or_else(|| "identity".to_owned(), |one| one.to_string()),
                )
            }
            Field::Word(word) => literal::quoted((word.read)(config)),
        }
    }

    /// Puts a value into its place; `false`, and nothing changed, when it does not fit.
    pub(super) fn write(&self, config: &mut C, value: &Literal<'_>) -> bool {
        match self {
            Field::Count(number) => number.put(config, value.count()),
            Field::Bytes(number) => number.put(config, value.text().and_then(literal::bytes)),
            Field::Duration(number) => {
                number.put(config, value.text().and_then(literal::milliseconds))
            }
            Field::Fact(field) => put(field(config), value.fact()),
            Field::Address(field) => put(field(config), value.text().and_then(literal::address)),
            Field::Addresses(field) => put(field(config), value.items(literal::address)),
            Field::Networks(field) => put(field(config), value.items(literal::network)),
            Field::Path(field) => put(field(config), value.text().and_then(literal::path)),
            // Empty is how a later source takes back what an earlier one said.
            Field::OptionalPath(field) => put(field(config), value.text().map(literal::path)),
            Field::Paths(field) => put(field(config), value.items(literal::path)),
            Field::Names(field) => put(
                field(config),
                value.items(|item| {
                    Some(item)
                        .filter(|item| !item.is_empty())
                        .map(str::to_owned)
                }),
            ),
            Field::OptionalName(field) => put(
                field(config),
                value
                    .text()
                    .map(|name| (!name.is_empty()).then(|| name.to_owned())),
            ),
            Field::Filter(field) => put(field(config), value.text().and_then(literal::filter)),
            // Empty is how a more specific policy takes back what another one says.
            Field::OptionalTopic(field) => match value.text() {
                Some("") => put(field(config), Some(None)),
                text => put(field(config), text.and_then(literal::topic).map(Some)),
            },
            Field::Filters(field) => put(
                field(config),
                value.list().and_then(|items| stream::filters(&items)),
            ),
            Field::StreamName(field) => put(field(config), value.text().and_then(stream::name)),
            Field::Retention(field) => put(
                field(config),
                value.list().and_then(|items| Retention::read(&items)),
            ),
            Field::Stages(field) => put(
                field(config),
                value
                    .text()
                    .and_then(|text| Stages::parse(text).ok().map(Some)),
            ),
            Field::Word(word) => value.word().is_some_and(|text| (word.write)(config, text)),
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
            Field::Fact(_) => "true or false".to_owned(),
            Field::Address(_) => "a numeric address and port".to_owned(),
            Field::Addresses(_) => "a list of numeric addresses with ports".to_owned(),
            Field::Networks(_) => "a list of networks (address/prefix length)".to_owned(),
            Field::Path(_) => "a path".to_owned(),
            Field::OptionalPath(_) => "a path, or nothing (\"\")".to_owned(),
            Field::Paths(_) => "a list of paths".to_owned(),
            Field::Names(_) => "a list of names".to_owned(),
            Field::OptionalName(_) => "a name, or nothing (\"\")".to_owned(),
            Field::Filter(_) => format!(
                "a topic filter (+ fills a level, # is alone in the last one, at most \
                 {POLICY_LEVELS_MAX} levels, no $share or $queue)"
            ),
            Field::OptionalTopic(_) => "a topic without wildcards that does not begin with $SYS, $events, \
                                        $dictionary, $delayed, $from, $share or $queue, or nothing (\"\")"
                .to_owned(),
            Field::Filters(_) => format!(
                "a list of 1 to {} topic filters (+ fills a level, # is alone in the last one, at most \
                 {POLICY_LEVELS_MAX} levels, no $share, $queue, $from or $delayed)",
                stream::FILTERS_MAX
            ),
            Field::StreamName(_) => format!(
                "a name of 1 to {} of the characters a-z, 0-9, _ and -",
                stream::NAME_BYTES_MAX
            ),
            Field::Retention(_) => {
                "an age (ms, s, m, h, d), a size (B, KiB, MiB, GiB, TiB), a number of messages, \
                 or a list with at most one of each; none of them 0"
                    .to_owned()
            }
            Field::Stages(_) => format!(
                "one of {}, or two or three different ones with + between them (auto and identity only alone, \
                 zstd-dict only first)",
                waypost_names::names(waypost_compress::registry()).join(", ")
            ),
            Field::Word(word) => format!("one of {}", (word.words)().join(", ")),
        }
    }

    /// The valid value that this one was probably meant to be, as TOML, where values are words.
    pub(super) fn nearest(&self, value: &Literal<'_>) -> Option<String> {
        let Field::Word(word) = self else {
            return None;
        };
        let given = value.word()?;
        nearest(given, (word.words)().into_iter())
            // Further away it is no mistake of writing.
            .filter(|word| distance(given, word) <= given.chars().count() / 2)
            .map(literal::quoted)
    }
}

#[cfg(test)]
impl Field<super::Config> {
    /// A valid number other than the default, as TOML.
    pub(super) fn another_number(&self) -> String {
        let mut config = super::Config::default();
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

impl<C> Number<C> {
    fn put(&self, config: &mut C, value: Option<u64>) -> bool {
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

//! Values as they are written: `"10s"`, `"64MiB"`, `1000`, `"127.0.0.1:1883"`, lists of them.

use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use waypost_core::POLICY_LEVELS_MAX;
use waypost_mqtt::{Filter, Topic};

/// A value as a source gave it.
pub(super) enum Literal<'a> {
    /// From the environment or a flag, where everything is text and a list is separated by commas.
    Text(&'a str),
    /// A TOML string.
    String(&'a str),
    /// A TOML integer.
    Integer(i64),
    /// A TOML boolean.
    Fact(bool),
    /// A TOML array of strings.
    List(Vec<&'a str>),
    /// Any other TOML value: none of the settings takes one.
    Other,
}

impl<'a> Literal<'a> {
    pub(super) fn text(&self) -> Option<&'a str> {
        match self {
            Self::Text(text) | Self::String(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn count(&self) -> Option<u64> {
        match self {
            Self::Text(text) => text.replace('_', "").parse().ok(),
            Self::Integer(value) => u64::try_from(*value).ok(),
            _ => None,
        }
    }

    pub(super) fn fact(&self) -> Option<bool> {
        match self {
            Self::Text(text) => text.parse().ok(),
            Self::Fact(value) => Some(*value),
            _ => None,
        }
    }

    /// As [`Self::text`], and what TOML writes without quotes.
    pub(super) fn word(&self) -> Option<&'a str> {
        match self {
            Self::Fact(true) => Some("true"),
            Self::Fact(false) => Some("false"),
            _ => self.text(),
        }
    }

    /// Its items, if every one of them can be read.
    pub(super) fn items<T>(&self, read: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
        self.list()?.into_iter().map(read).collect()
    }

    pub(super) fn list(&self) -> Option<Vec<&'a str>> {
        match self {
            Self::Text(text) => Some(
                text.split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    .collect(),
            ),
            Self::String(text) => Some(vec![text]),
            Self::List(items) => Some(items.clone()),
            _ => None,
        }
    }
}

const BYTE_UNITS: [(&str, u64); 5] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

const MILLISECOND_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// `64MiB` in bytes.
pub(super) fn bytes(text: &str) -> Option<u64> {
    with_unit(text, &BYTE_UNITS)
}

/// `10s` in milliseconds.
pub fn milliseconds(text: &str) -> Option<u64> {
    with_unit(text, &MILLISECOND_UNITS)
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '_')?;
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.replace('_', "").parse().ok()?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.checked_mul(*factor)
}

/// Bytes in the largest unit that says them exactly.
pub(super) fn show_bytes(value: u64) -> String {
    show(value, &BYTE_UNITS, "B")
}

/// Milliseconds in the largest unit that says them exactly.
pub(super) fn show_milliseconds(value: u64) -> String {
    show(value, &MILLISECOND_UNITS, "s")
}

fn show(value: u64, units: &[(&str, u64)], zero: &str) -> String {
    units
        .iter()
        .find(|(_, factor)| value > 0 && value.is_multiple_of(*factor))
        .map_or_else(
            || format!("0{zero}"),
            |(name, factor)| format!("{}{name}", value / factor),
        )
}

pub(super) fn as_milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `127.0.0.1:1883`, `[::1]:1883`, or `localhost:1883` for the first of these.
pub(super) fn address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().ok()?))),
        None => text.parse().ok(),
    }
}

/// `10.0.0.0/8`, or an address alone for a network of one.
pub(super) fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| {
        text.parse()
            .ok()
            .map(|address: std::net::IpAddr| address.into())
    })
}

/// A Topic Filter that a policy may have.
pub(super) fn filter(text: &str) -> Option<String> {
    let filter = Filter::parse(text).ok()?;
    let first = filter.levels().next();
    let is_group = first == Some("$share") || first == Some("$queue");
    (!is_group && filter.levels().count() <= POLICY_LEVELS_MAX).then(|| text.to_owned())
}

/// First levels that are the server's, or say more than a topic.
const SPECIAL_LEVELS: [&str; 7] = [
    "$SYS",
    "$events",
    "$dictionary",
    "$delayed",
    "$from",
    "$share",
    "$queue",
];

/// A Topic Name on which the server may publish what is the application's.
pub(super) fn topic(text: &str) -> Option<Arc<str>> {
    let first = Topic::parse(text).ok()?.levels().next()?;
    (!SPECIAL_LEVELS.contains(&first)).then(|| text.into())
}

pub(super) fn path(text: &str) -> Option<PathBuf> {
    Some(text)
        .filter(|text| !text.is_empty())
        .map(PathBuf::from)
}

/// A TOML basic string.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_carry_their_unit() {
        for (text, expect) in [
            ("64MiB", Some(64 << 20)),
            ("64 MiB", Some(64 << 20)),
            ("1_024B", Some(1_024)),
            ("0B", Some(0)),
            ("16777215TiB", Some(16_777_215 << 40)),
            ("16777216TiB", None),
            ("64MB", None),
            ("64", None),
            ("MiB", None),
            ("-1B", None),
            ("1.5GiB", None),
            ("", None),
        ] {
            assert_eq!(bytes(text), expect, "{text}");
        }
    }

    #[test]
    fn durations_carry_their_unit() {
        for (text, expect) in [
            ("250ms", Some(250)),
            ("10s", Some(10_000)),
            ("5m", Some(300_000)),
            ("2h", Some(7_200_000)),
            ("7d", Some(604_800_000)),
            ("10", None),
            ("10sec", None),
            ("s", None),
        ] {
            assert_eq!(milliseconds(text), expect, "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for value in [
            0,
            1,
            999,
            1_000,
            1_500,
            60_000,
            86_400_000,
            1 << 20,
            u64::MAX,
        ] {
            assert_eq!(milliseconds(&show_milliseconds(value)), Some(value));
            assert_eq!(bytes(&show_bytes(value)), Some(value));
        }
        assert_eq!(show_milliseconds(0), "0s");
        assert_eq!(show_milliseconds(90_000), "90s");
        assert_eq!(show_bytes(16 << 20), "16MiB");
    }

    #[test]
    fn addresses_are_numeric_or_localhost() {
        assert_eq!(
            address("127.0.0.1:0"),
            Some(SocketAddr::from(([127, 0, 0, 1], 0)))
        );
        assert_eq!(
            address("localhost:1883"),
            Some(SocketAddr::from(([127, 0, 0, 1], 1883)))
        );
        assert!(address("[::1]:1883").is_some());
        for wrong in [
            "1883",
            ":1883",
            "example.org:1883",
            "127.0.0.1",
            "127.0.0.1:70000",
        ] {
            assert_eq!(address(wrong), None, "{wrong}");
        }
    }
}

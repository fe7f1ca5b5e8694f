//! Topic Names and Topic Filters (5 §4.7, §4.8; 3.1.1 §4.7).

use thiserror::Error;

/// The longest string the protocol can carry, in bytes.
const STRING_BYTES_MAX: usize = 65_535;

/// Why a string is no Topic Name or no Topic Filter.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TopicError {
    /// It has no character.
    #[error("is empty")]
    Empty,
    /// It has more than 65,535 bytes.
    #[error("is longer than 65,535 bytes")]
    TooLong,
    /// It contains U+0000.
    #[error("contains the null character")]
    Null,
    /// It contains `+` or `#`, which a Topic Name must not.
    #[error("contains a wildcard, but is a Topic Name")]
    Wildcard,
    /// `#` does not stand alone in the last level.
    #[error("has a # that is not alone in its last level")]
    MultiLevelWildcard,
    /// `+` does not fill its level.
    #[error("has a + that does not fill its level")]
    SingleLevelWildcard,
    /// The ShareName after `$share/` is empty or contains a wildcard.
    #[error("has a ShareName that is empty or contains a wildcard")]
    ShareName,
    /// Nothing follows `$share/<ShareName>`.
    #[error("has no Topic Filter after its ShareName")]
    ShareFilter,
}

/// A Topic Name: at least one character, no wildcard, no U+0000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic<'a>(&'a str);

impl<'a> Topic<'a> {
    /// The string as a Topic Name, if it is one.
    #[inline]
    pub fn parse(text: &'a str) -> Result<Self, TopicError> {
        if !text.is_empty() && text.len() <= STRING_BYTES_MAX && is_plain(text.as_bytes()) {
            return Ok(Self(text));
        }
        Err(Self::error(text))
    }

    /// Takes a string that was parsed before, as the topic of a decoded PUBLISH.
    #[inline]
    pub const fn from_validated(text: &'a str) -> Self {
        Self(text)
    }

    /// The string.
    #[inline]
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// Its levels, which may be empty strings.
    #[inline]
    pub fn levels(self) -> impl Iterator<Item = &'a str> + Clone {
        self.0.split('/')
    }

    #[cold]
    fn error(text: &str) -> TopicError {
        if text.is_empty() {
            TopicError::Empty
        } else if text.len() > STRING_BYTES_MAX {
            TopicError::TooLong
        } else if text.contains('\0') {
            TopicError::Null
        } else {
            TopicError::Wildcard
        }
    }
}

/// Whether no byte is NUL, `+` or `#`: eight bytes at a time, the last eight whether or not some of
/// them were looked at before.
#[inline]
pub(crate) fn is_plain(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk() else {
        return bytes
            .iter()
            .all(|&byte| byte != 0 && byte | BIT_APART != b'+');
    };
    let (chunks, _) = bytes.as_chunks();
    let found = chunks
        .iter()
        .fold(special(*last), |found, chunk| found | special(*chunk));
    found == 0
}

/// `#` and `+` are the same byte but for this bit.
const BIT_APART: u8 = b'#' ^ b'+';

/// Not 0 if one of the bytes is NUL, `+` or `#`.
#[inline]
const fn special(bytes: [u8; 8]) -> u64 {
    const fn all(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    const fn zeros(word: u64) -> u64 {
        word.wrapping_sub(all(0x01)) & !word & all(0x80)
    }
    let word = u64::from_ne_bytes(bytes);
    zeros(word) | zeros((word | all(BIT_APART)) ^ all(b'+'))
}

const _: () = assert!(BIT_APART.is_power_of_two() && b'+' & BIT_APART != 0);

/// A Topic Filter: at least one character, wildcards only where they may stand, no U+0000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Filter<'a>(&'a str);

impl<'a> Filter<'a> {
    /// The string as a Topic Filter, if it is one. What follows `$share/` is looked at only by
    /// [`Filter::shared`]: to version 3.1.1 it is a filter as any other.
    pub fn parse(text: &'a str) -> Result<Self, TopicError> {
        if text.is_empty() {
            return Err(TopicError::Empty);
        }
        if text.len() > STRING_BYTES_MAX {
            return Err(TopicError::TooLong);
        }
        let mut levels = text.split('/').peekable();
        while let Some(level) = levels.next() {
            if level.contains('\0') {
                return Err(TopicError::Null);
            }
            // 5 [MQTT-4.7.1-1]: # is alone in the last level.
            if level.contains('#') && (level != "#" || levels.peek().is_some()) {
                return Err(TopicError::MultiLevelWildcard);
            }
            // 5 [MQTT-4.7.1-2]: + fills its level.
            if level.contains('+') && level != "+" {
                return Err(TopicError::SingleLevelWildcard);
            }
        }
        Ok(Self(text))
    }

    /// Takes a string that was parsed before.
    #[inline]
    pub const fn from_validated(text: &'a str) -> Self {
        Self(text)
    }

    /// The string.
    #[inline]
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// Its levels, which may be empty strings.
    #[inline]
    pub fn levels(self) -> impl Iterator<Item = &'a str> + Clone {
        self.0.split('/')
    }

    /// Whether it contains `+` or `#`.
    pub fn has_wildcards(self) -> bool {
        self.0.contains(['+', '#'])
    }

    /// Whether a message on `topic` is for this filter.
    pub fn matches(self, topic: Topic<'_>) -> bool {
        // 5 [MQTT-4.7.2-1]: a filter that begins with a wildcard never matches a topic with $.
        if topic.0.starts_with('$') && self.0.starts_with(['+', '#']) {
            return false;
        }
        let mut names = topic.levels();
        for level in self.levels() {
            // 5 §4.7.1.2: what is before # may also be all there is: sport/# matches sport.
            if level == "#" {
                return true;
            }
            match names.next() {
                Some(name) if level == "+" || level == name => {}
                _ => return false,
            }
        }
        names.next().is_none()
    }

    /// Whether there is a topic that both match; the empty one, on which nobody can publish, counts.
    pub fn meets(self, other: Filter<'_>) -> bool {
        let is_wildcard = |level| matches!(level, "+" | "#");
        let (mut ours, mut theirs) = (self.levels(), other.levels());
        let mut is_first = true;
        loop {
            let (one, another) = match (ours.next(), theirs.next()) {
                (Some(one), Some(another)) => (one, another),
                // 5 §4.7.1.2: a # at the end of one takes that there is nothing more of the other.
                (Some(more), None) | (None, Some(more)) => return more == "#",
                (None, None) => return true,
            };
            // 5 [MQTT-4.7.2-1]
            let server = |level: &str, other| level.starts_with('$') && is_wildcard(other);
            if is_first && (server(one, another) || server(another, one)) {
                return false;
            }
            if one == "#" || another == "#" {
                return true;
            }
            if one != another && one != "+" && another != "+" {
                return false;
            }
            is_first = false;
        }
    }

    /// The group and the inner filter of a Shared Subscription; nothing when this is none.
    pub fn shared(self) -> Option<Result<(&'a str, Filter<'a>), TopicError>> {
        let rest = self.0.strip_prefix("$share/")?;
        Some(Self::parse_shared(rest))
    }

    fn parse_shared(rest: &'a str) -> Result<(&'a str, Filter<'a>), TopicError> {
        let (group, filter) = rest.split_once('/').unwrap_or((rest, ""));
        // 5 [MQTT-4.8.2-1], [MQTT-4.8.2-2]
        if group.is_empty() || group.contains(['+', '#']) {
            return Err(TopicError::ShareName);
        }
        if filter.is_empty() {
            return Err(TopicError::ShareFilter);
        }
        Filter::parse(filter).map(|filter| (group, filter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names() {
        // 5 [MQTT-4.7.3-1], [MQTT-4.7.3-2], [MQTT-4.7.3-3], [MQTT-3.3.2-2]
        let long = "a".repeat(65_536);
        let check = |text, expect| assert_eq!(Topic::parse(text).err(), expect, "{text:.20}");
        check("a", None);
        check("/", None);
        check(" ", None);
        check("sport/tennis/\u{feff}", None);
        check(long.get(1..).unwrap(), None);
        check("", Some(TopicError::Empty));
        check(&long, Some(TopicError::TooLong));
        check("a\0", Some(TopicError::Null));
        check("a/+", Some(TopicError::Wildcard));
        check("a/b#", Some(TopicError::Wildcard));
    }

    /// Goal: no place in a string of any length is overlooked. Method: each byte at each place.
    #[test]
    fn plain_bytes() {
        for len in 0..40 {
            let mut bytes = vec![b'a'; len];
            assert!(is_plain(&bytes));
            for index in 0..len {
                for byte in 0..=u8::MAX {
                    bytes[index] = byte;
                    let expect = !matches!(byte, 0 | b'+' | b'#');
                    assert_eq!(is_plain(&bytes), expect, "{byte} at {index} of {len}");
                }
                bytes[index] = 0xFF;
            }
        }
    }

    #[test]
    fn topic_filters() {
        // 5 [MQTT-4.7.1-1], [MQTT-4.7.1-2]; 3.1.1 [MQTT-4.7.1-2], [MQTT-4.7.1-3]
        let check = |text, expect| assert_eq!(Filter::parse(text).err(), expect, "{text}");
        for good in [
            "#",
            "+",
            "/",
            "+/+",
            "/+",
            "a/+/b/#",
            "+/a/#",
            "a//b",
            "$share/g/a",
        ] {
            check(good, None);
        }
        check("", Some(TopicError::Empty));
        check("a\0/b", Some(TopicError::Null));
        for bad in ["a#", "#/a", "a/#/b", "##", "a/#b", "#+"] {
            check(bad, Some(TopicError::MultiLevelWildcard));
        }
        for bad in ["a+", "+a/b", "a/++", "++"] {
            check(bad, Some(TopicError::SingleLevelWildcard));
        }
    }

    #[test]
    fn matching() {
        let check = |filter, topic, expect| {
            let matched = Filter::parse(filter)
                .unwrap()
                .matches(Topic::parse(topic).unwrap());
            assert_eq!(matched, expect, "{filter} {topic}");
        };
        check("sport/tennis/player1/#", "sport/tennis/player1", true);
        check(
            "sport/tennis/player1/#",
            "sport/tennis/player1/score/wimbledon",
            true,
        );
        check("sport/tennis/player1/#", "sport/tennis/player10", false);
        check("sport/tennis/+", "sport/tennis/player1", true);
        check("sport/tennis/+", "sport/tennis/player1/ranking", false);
        check("sport/+", "sport", false);
        check("sport/+", "sport/", true);
        check("+/+", "/finance", true);
        check("/+", "/finance", true);
        check("+", "/finance", false);
        check("a/b", "a/b", true);
        check("a/b", "a/b/c", false);
        check("a/b/c", "a/b", false);
        check("A", "a", false);
        // 5 [MQTT-4.7.2-1]
        check("#", "$SYS/a", false);
        check("+/monitor", "$SYS/monitor", false);
        check("$SYS/#", "$SYS/monitor", true);
        check("$SYS/monitor/+", "$SYS/monitor/clients", true);
        check("a/+", "a/$b", true);
    }

    /// Every text of up to `max` of these levels.
    fn texts(levels: &[&str], max: usize) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        let mut last = vec![String::new()];
        for depth in 0..max {
            let longer = |text: &String| {
                let text = text.clone();
                let slash = if depth == 0 { "" } else { "/" };
                levels
                    .iter()
                    .map(move |level| format!("{text}{slash}{level}"))
            };
            last = last.iter().flat_map(longer).collect();
            all.extend(last.iter().cloned());
        }
        all
    }

    /// Goal: two filters meet where there is a topic for both. Method: all pairs of up to three levels, against all topics
    /// of up to four.
    #[test]
    fn filters_meet_in_a_topic() {
        let topics = texts(&["", "a", "$b", "z"], 4);
        let topics: Vec<_> = topics.iter().map(|text| Topic(text)).collect();
        let filters = texts(&["", "a", "$b", "+", "#"], 3);
        let matched: Vec<(Filter<'_>, Vec<bool>)> = filters
            .iter()
            .filter_map(|text| Filter::parse(text).ok())
            .map(|f| (f, topics.iter().map(|topic| f.matches(*topic)).collect()))
            .collect();
        for (one, by_one) in &matched {
            for (other, by_other) in &matched {
                let expect = by_one.iter().zip(by_other).any(|(a, b)| *a && *b);
                assert_eq!(one.meets(*other), expect, "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn shared_subscriptions() {
        // 5 [MQTT-4.8.2-1], [MQTT-4.8.2-2]
        let check = |text, expect| {
            let shared = Filter::parse(text).unwrap().shared();
            assert_eq!(
                shared.map(|r| r.map(|(group, f)| (group, f.as_str()))),
                expect,
                "{text}"
            );
        };
        check("a/b", None);
        check("$share", None);
        check("$shared/a/b", None);
        check("$share/g/a/+/#", Some(Ok(("g", "a/+/#"))));
        check("$share/g//", Some(Ok(("g", "/"))));
        check("$share//a", Some(Err(TopicError::ShareName)));
        check("$share/", Some(Err(TopicError::ShareName)));
        check("$share/+/a", Some(Err(TopicError::ShareName)));
        check("$share/#", Some(Err(TopicError::ShareName)));
        check("$share/g", Some(Err(TopicError::ShareFilter)));
        check("$share/g/", Some(Err(TopicError::ShareFilter)));
    }
}

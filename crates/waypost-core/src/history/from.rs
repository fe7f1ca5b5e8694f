//! Where a subscription begins with what was: `$from/<spec>/<filter>`, or the User Property `waypost-from`.
//!
//! The spec is `last=N`, `each=N`, `since=10m`, `time=…` or `offset=N`, then perhaps `;stream=NAME`. What is wrong is said
//! with what would be right. Not here: which stream serves a filter, and where in it that is.

use waypost_mqtt::{Filter, Properties, ReasonCode};

use crate::streams::is_stream_name;

/// The User Property of a SUBSCRIBE that carries a spec for all its filters.
const FROM_PROPERTY: &str = "waypost-from";

/// What stands before a spec in a Topic Filter.
const PREFIX: &str = "$from";

/// A subscription that begins with what was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct From<'a> {
    /// What is subscribed to.
    pub filter: Filter<'a>,
    pub begin: Begin,
    /// The stream that was asked for by name.
    pub stream: Option<&'a str>,
}

/// Where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    Last(u64),
    Each(u64),
    /// So many milliseconds ago.
    Since(u64),
    /// In milliseconds since 1970.
    Time(u64),
    Offset(u64),
}

/// Why it cannot be, and what is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FromError {
    pub reason: ReasonCode,
    pub why: &'static str,
}

type Why = &'static str;

const SPEC: Why = "the spec is last=N, each=N, since=10m, time=2026-01-31T12:00:00Z or offset=N, then perhaps ;stream=NAME";
const SHAPE: Why = "a filter with history is $from/SPEC/FILTER, like $from/last=10/a/#";
const LAST: Why = "last= takes a number of messages, like last=10";
const EACH: Why = "each= takes a number of messages per topic, 1 or more";
const SINCE: Why = "since= takes a number and ms, s, m, h or d, like since=10m";
const TIME: Why = "time= takes milliseconds since 1970, or a time in UTC like 2026-01-31T12:00:00Z";
const OFFSET: Why = "offset= takes the number of a message in the stream, like offset=0";
const STREAM: Why = "after the spec may stand ;stream=NAME and nothing else";
const SHARED: Why = "a shared subscription has no history: its members share what is live";
const TWICE: Why =
    "history is asked for once: $from/ in the filter or waypost-from, not both and not twice";

/// The spec for all filters of a SUBSCRIBE. Of two, none can be meant.
pub(crate) fn spec_of(properties: Properties<'_>) -> Option<&str> {
    let all = properties.user_properties();
    let mut specs = all.filter(|(name, _)| *name == FROM_PROPERTY);
    let (_, spec) = specs.next()?;
    Some(specs.next().map_or(spec, |_| ""))
}

/// What a filter, and the property of its SUBSCRIBE, say about history; `None`: nothing.
pub(crate) fn from_of<'a>(
    filter: Filter<'a>,
    property: Option<&'a str>,
) -> Option<Result<From<'a>, FromError>> {
    let in_filter = |why| FromError {
        reason: ReasonCode::TopicFilterInvalid,
        why,
    };
    let in_property = |why| FromError {
        reason: ReasonCode::ImplementationSpecificError,
        why,
    };
    if let Some(inner) = shared(filter.as_str()) {
        let asks = property.is_some() || is_from(inner);
        return asks.then_some(Err(if is_from(inner) {
            in_filter(SHARED)
        } else {
            in_property(SHARED)
        }));
    }
    match (is_from(filter.as_str()), property) {
        (false, None) => None,
        (true, Some(_)) => Some(Err(in_property(TWICE))),
        (true, None) => Some(parse_filter(filter.as_str()).map_err(in_filter)),
        (false, Some(spec)) => Some(parse_spec(spec).map_err(in_property).map(
            |(begin, stream)| From {
                filter,
                begin,
                stream,
            },
        )),
    }
}

/// The filter inside `$from/…`, of a subscription that is there; any other filter as it is.
pub(crate) fn inner_of(filter: &str) -> &str {
    if !is_from(filter) {
        return filter;
    }
    filter.splitn(3, '/').nth(2).unwrap_or(filter)
}

fn is_from(filter: &str) -> bool {
    filter
        .strip_prefix(PREFIX)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What a shared subscription shares.
fn shared(filter: &str) -> Option<&str> {
    if let Some(rest) = filter.strip_prefix("$share/") {
        return Some(rest.split_once('/').map_or("", |(_, inner)| inner));
    }
    filter.strip_prefix("$queue/")
}

fn parse_filter(text: &str) -> Result<From<'_>, Why> {
    let mut parts = text.splitn(3, '/');
    let (_, spec, inner) = (parts.next(), parts.next(), parts.next());
    let (spec, inner) = spec.zip(inner).ok_or(SHAPE)?;
    let (begin, stream) = parse_spec(spec)?;
    if is_from(inner) {
        return Err(TWICE);
    }
    if shared(inner).is_some() {
        return Err(SHARED);
    }
    let filter = Filter::parse(inner).map_err(|_| SHAPE)?;
    Ok(From {
        filter,
        begin,
        stream,
    })
}

fn parse_spec(spec: &str) -> Result<(Begin, Option<&str>), Why> {
    let (begin, rest) = match spec.split_once(';') {
        Some((begin, rest)) => (begin, Some(rest)),
        None => (spec, None),
    };
    let (key, value) = begin.split_once('=').ok_or(SPEC)?;
    let begin = match key {
        "last" => Begin::Last(number(value).ok_or(LAST)?),
        "each" => Begin::Each(number(value).filter(|count| *count > 0).ok_or(EACH)?),
        "since" => Begin::Since(duration_ms(value).ok_or(SINCE)?),
        "time" => Begin::Time(number(value).or_else(|| utc_ms(value)).ok_or(TIME)?),
        "offset" => Begin::Offset(number(value).ok_or(OFFSET)?),
        _ => return Err(SPEC),
    };
    let stream = match rest.map(|rest| rest.strip_prefix("stream=")) {
        None => None,
        Some(name) => Some(name.filter(|name| is_stream_name(name)).ok_or(STREAM)?),
    };
    Ok((begin, stream))
}

/// Digits and nothing else.
fn number(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

fn duration_ms(text: &str) -> Option<u64> {
    let at = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (count, unit) = text.split_at_checked(at)?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number(count)?.checked_mul(unit_ms)
}

/// RFC 3339 §5.6 with the offset `Z`, no year before 1970 and no leap second.
fn utc_ms(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let fixed = |text: &str, len: usize| number(text).filter(|_| text.len() == len);
    let mut parts = date.split('-');
    let year = fixed(parts.next()?, 4).filter(|year| *year >= 1970)?;
    let month = fixed(parts.next()?, 2)?;
    let day = fixed(parts.next()?, 2)?;
    if parts.next().is_some() {
        return None;
    }
    let (clock, fraction) = match time.split_once('.') {
        Some((clock, fraction)) => (clock, Some(fraction)),
        None => (time, None),
    };
    let mut parts = clock.split(':');
    let hour = fixed(parts.next()?, 2).filter(|hour| *hour < 24)?;
    let minute = fixed(parts.next()?, 2).filter(|minute| *minute < 60)?;
    let second = fixed(parts.next()?, 2).filter(|second| *second < 60)?;
    if parts.next().is_some() {
        return None;
    }
    let ms = match fraction {
        None => 0,
        Some(digits) => {
            number(digits)?;
            let thousandths = digits.bytes().chain(*b"00").take(3);
            thousandths.fold(0, |ms, digit| ms * 10 + u64::from(digit - b'0'))
        }
    };
    let days = days_since_1970(year, month, day)?;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000 + ms)
}

fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let days_of = |month: u64| match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if !(1..=12).contains(&month) || !(1..=days_of(month)).contains(&day) {
        return None;
    }
    let years = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 });
    Some(years.sum::<u64>() + (1..month).map(days_of).sum::<u64>() + day - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Random;

    type Parsed<'a> = Option<Result<(&'a str, Begin, Option<&'a str>), &'a str>>;

    fn parsed(filter: &str) -> Parsed<'_> {
        let from = from_of(Filter::parse(filter).unwrap(), None)?;
        Some(match from {
            Ok(from) => Ok((from.filter.as_str(), from.begin, from.stream)),
            Err(error) => {
                assert_eq!(error.reason, ReasonCode::TopicFilterInvalid);
                Err(error.why)
            }
        })
    }

    #[test]
    fn specs() {
        use Begin::{Each, Last, Offset, Since, Time};
        for (filter, expect) in [
            ("$from/last=10/a/#", ("a/#", Last(10), None)),
            ("$from/last=0//", ("/", Last(0), None)),
            ("$from/each=1/+", ("+", Each(1), None)),
            ("$from/since=10m/a", ("a", Since(600_000), None)),
            ("$from/since=5ms/a", ("a", Since(5), None)),
            ("$from/since=2d/a", ("a", Since(172_800_000), None)),
            ("$from/since=0s/a", ("a", Since(0), None)),
            (
                "$from/time=1700000000123/a",
                ("a", Time(1_700_000_000_123), None),
            ),
            (
                "$from/time=2023-11-14T22:13:20Z/a",
                ("a", Time(1_700_000_000_000), None),
            ),
            (
                "$from/time=2024-02-29T00:00:00.25Z/a",
                ("a", Time(1_709_164_800_250), None),
            ),
            (
                "$from/time=1970-01-01T00:00:00.0019Z/a",
                ("a", Time(1), None),
            ),
            (
                "$from/offset=7;stream=orders/a",
                ("a", Offset(7), Some("orders")),
            ),
        ] {
            assert_eq!(parsed(filter), Some(Ok(expect)), "{filter}");
        }
        for filter in ["a", "$fromage/last=1/a", "a/$from/last=1", "$share/g/a"] {
            assert_eq!(parsed(filter), None, "{filter}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_what_is_right() {
        for (filter, expect) in [
            ("$from", SHAPE),
            ("$from/last=1", SHAPE),
            ("$from/last=1/", SHAPE),
            ("$from/+/a", SPEC),
            ("$from/#", SHAPE),
            ("$from/first=1/a", SPEC),
            ("$from/last/a", SPEC),
            ("$from//a", SPEC),
            ("$from/last=/a", LAST),
            ("$from/last=-1/a", LAST),
            ("$from/last=+1/a", SPEC),
            ("$from/last=18446744073709551616/a", LAST),
            ("$from/each=0/a", EACH),
            ("$from/each=x/a", EACH),
            ("$from/since=10/a", SINCE),
            ("$from/since=m/a", SINCE),
            ("$from/since=10w/a", SINCE),
            ("$from/since=18446744073709551615d/a", SINCE),
            ("$from/offset=1.5/a", OFFSET),
            ("$from/time=2023-02-29T00:00:00Z/a", TIME),
            ("$from/time=2024-13-01T00:00:00Z/a", TIME),
            ("$from/time=2024-00-01T00:00:00Z/a", TIME),
            ("$from/time=2024-01-01T24:00:00Z/a", TIME),
            ("$from/time=2024-01-01T00:00:60Z/a", TIME),
            ("$from/time=2024-01-01T00:00:00.Z/a", TIME),
            ("$from/time=2024-01-01T00:00:00/a", TIME),
            ("$from/time=1969-12-31T23:59:59Z/a", TIME),
            ("$from/time=2024-1-01T00:00:00Z/a", TIME),
            ("$from/last=1;/a", STREAM),
            ("$from/last=1;stream=/a", STREAM),
            ("$from/last=1;stream=a;b/a", STREAM),
            ("$from/last=1/$from/last=1/a", TWICE),
            ("$from/last=1/$share/g/a", SHARED),
            ("$from/last=1/$queue/a", SHARED),
            ("$share/g/$from/last=1/a", SHARED),
            ("$queue/$from/last=1/a", SHARED),
        ] {
            let Ok(_) = Filter::parse(filter) else {
                // The decoder refuses it before.
                continue;
            };
            assert_eq!(parsed(filter), Some(Err(expect)), "{filter}");
        }
    }

    #[test]
    fn the_property_is_for_a_plain_filter() {
        let ask = |filter, spec| from_of(Filter::parse(filter).unwrap(), Some(spec)).unwrap();
        let from = ask("a/#", "last=3").unwrap();
        assert_eq!((from.filter.as_str(), from.begin), ("a/#", Begin::Last(3)));
        for (filter, spec, why) in [
            ("a", "last", SPEC),
            ("a", "each=0", EACH),
            ("$share/g/a", "last=1", SHARED),
            ("$from/last=1/a", "last=1", TWICE),
        ] {
            let error = ask(filter, spec).unwrap_err();
            let reason = ReasonCode::ImplementationSpecificError;
            assert_eq!((error.why, error.reason), (why, reason), "{filter}");
        }
    }

    #[test]
    fn the_inner_filter_is_found_again() {
        for (filter, expect) in [
            ("$from/last=1/a/b", "a/b"),
            ("$from/last=1;stream=x//", "/"),
            ("a/b/c", "a/b/c"),
        ] {
            assert_eq!(inner_of(filter), expect);
        }
    }

    /// Goal: no text is too strange, and dates are those of a calendar. Method: random specs from the letters that
    /// matter; every day from 1970 on follows the one before.
    #[test]
    fn anything_is_parsed_or_refused() {
        let mut random = Random::seeded(7);
        let letters: Vec<_> = "lastechinmofd=;stream0123456789-:TZ.$/+#é"
            .chars()
            .collect();
        for _ in 0..20_000 {
            let len = random.next() % 24;
            let pick = |_| letters[usize::try_from(random.next() >> 33).unwrap() % letters.len()];
            let text: String = (0..len).map(pick).collect();
            let filter = format!("$from/{text}/a");
            if let Ok(filter) = Filter::parse(&filter)
                && let Some(Ok(from)) = from_of(filter, None)
            {
                assert_eq!(inner_of(filter.as_str()), from.filter.as_str());
            }
            let _ = from_of(Filter::from_validated("a"), Some(&text));
        }
        let mut expect = 0;
        for year in 1970..2101 {
            for month in 1..=12 {
                for day in 1..=31 {
                    if let Some(days) = days_since_1970(year, month, day) {
                        assert_eq!(days, expect, "{year}-{month}-{day}");
                        expect += 1;
                    }
                }
            }
        }
        assert_eq!(expect, 47_847, "days from 1970 to 2100");
    }
}

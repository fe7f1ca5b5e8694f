//! When each record is due: at once, at a steady rate, or as recorded but faster or slower.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::Value;

/// A number this large counts milliseconds since 1970: as seconds it would be the year 5138.
const MILLISECONDS_FROM: f64 = 1e11;

/// How fast records are published.
#[derive(Debug)]
pub enum Pace {
    /// As fast as the server acknowledges.
    Free,
    /// So many a second, whatever their times say.
    Rate {
        /// Messages a second, above zero.
        per_second: f64,
        /// Records so far.
        count: u64,
    },
    /// As recorded.
    Speed {
        /// 60 = an hour in a minute; above zero.
        factor: f64,
        /// A longer recorded gap is shortened to this.
        gap_max: Duration,
        /// The record before.
        previous: Option<Timestamp>,
        /// Recorded time so far, gaps shortened.
        elapsed: Duration,
    },
}

impl Pace {
    /// When the next record is due, counted from the start; `time` is its recorded time.
    pub fn due(&mut self, time: Option<Timestamp>) -> Duration {
        match self {
            Self::Free => Duration::ZERO,
            Self::Rate { per_second, count } => {
                #[allow(clippy::cast_precision_loss)] // 2^53 records are out of reach
                let due = *count as f64 / *per_second;
                *count += 1;
                duration(due)
            }
            Self::Speed {
                factor,
                gap_max,
                previous,
                elapsed,
            } => {
                if let (Some(time), Some(before)) = (time, *previous) {
                    // A record older than the one before it follows at once: file order is kept.
                    let gap = Duration::try_from(time.duration_since(before)).unwrap_or_default();
                    *elapsed += gap.min(*gap_max);
                }
                *previous = time.or(*previous);
                duration(elapsed.as_secs_f64() / *factor)
            }
        }
    }
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

/// Reads a recorded time: RFC 3339, with or without zone (then UTC is assumed) and seconds, or a
/// number of seconds or milliseconds since 1970.
pub fn parse_time(value: &Value) -> Option<Timestamp> {
    match value {
        Value::Number(number) => from_number(number.as_f64()?),
        Value::String(text) => {
            let text = text.trim();
            text.parse::<Timestamp>()
                .ok()
                .or_else(|| {
                    let civil: DateTime = text.parse().ok()?;
                    TimeZone::UTC.to_timestamp(civil).ok()
                })
                .or_else(|| from_number(text.parse().ok()?))
        }
        _ => None,
    }
}

fn from_number(number: f64) -> Option<Timestamp> {
    if !number.is_finite() {
        return None;
    }
    let ms = if number.abs() < MILLISECONDS_FROM {
        number * 1000.0
    } else {
        number
    };
    #[allow(clippy::cast_possible_truncation)] // saturates; from_millisecond checks the range
    let ms = ms.round() as i64;
    Timestamp::from_millisecond(ms).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Option<Timestamp> {
        parse_time(&Value::String(text.into()))
    }

    #[test]
    fn times_are_read_as_recorded() {
        for (text, expect) in [
            ("2008-01-02T18:55Z", "2008-01-02T18:55:00Z"),
            ("2010-12-01T08:26:00", "2010-12-01T08:26:00Z"),
            ("2010-12-01 08:26", "2010-12-01T08:26:00Z"),
            ("2019-10-07T10:00:01.5+02:00", "2019-10-07T08:00:01.5Z"),
            ("2019-10-07", "2019-10-07T00:00:00Z"),
            ("1290000000", "2010-11-17T13:20:00Z"),
            ("1290000000123", "2010-11-17T13:20:00.123Z"),
        ] {
            assert_eq!(
                time(text).map(|time| time.to_string()).as_deref(),
                Some(expect),
                "{text}"
            );
        }
        assert_eq!(
            parse_time(&serde_json::json!(1_290_000_000)),
            time("1290000000")
        );
        for bad in ["", "yesterday", "2010-13-01T00:00Z", "NaN"] {
            assert_eq!(time(bad), None, "{bad}");
        }
        assert_eq!(parse_time(&Value::Null), None);
    }

    #[test]
    fn a_rate_spreads_records_evenly() {
        let mut pace = Pace::Rate {
            per_second: 4.0,
            count: 0,
        };
        let due: Vec<_> = (0..3).map(|_| pace.due(None).as_millis()).collect();
        assert_eq!(due, [0, 250, 500]);
    }

    #[test]
    fn speed_keeps_gaps_shortens_long_ones_and_never_goes_back() {
        let mut pace = Pace::Speed {
            factor: 60.0,
            gap_max: Duration::from_mins(10),
            previous: None,
            elapsed: Duration::ZERO,
        };
        let due: Vec<_> = ["10:00", "10:01", "10:01", "09:00", "09:02", "23:00"]
            .iter()
            .map(|clock| pace.due(time(&format!("2010-01-01T{clock}Z"))).as_secs())
            .collect();
        assert_eq!(due, [0, 1, 1, 1, 3, 13]);
        assert_eq!(pace.due(None).as_secs(), 13);
    }
}

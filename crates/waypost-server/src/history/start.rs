//! Where to begin, as an operator writes it.

use waypost_store::streams::Start;

/// Where to begin: there, or so long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// There.
    At(Start),
    /// So many milliseconds ago.
    SinceMs(u64),
}

/// What it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "say where to begin: last=N, each=N, since=10m, time=2026-11-24T05:00:00Z (or milliseconds since 1970), or offset=N"
)]
pub struct FromError;

impl From {
    /// As a place in a stream.
    pub fn start(self, now_ms: u64) -> Start {
        match self {
            Self::At(start) => start,
            Self::SinceMs(ago_ms) => Start::Time(now_ms.saturating_sub(ago_ms)),
        }
    }
}

/// A time as RFC 3339 has it, ending in `Z`, in milliseconds since 1970.
pub fn utc_ms(text: &str) -> Option<u64> {
    let time: jiff::Timestamp = text.parse().ok().filter(|_| text.ends_with('Z'))?;
    u64::try_from(time.as_millisecond()).ok()
}

impl std::str::FromStr for From {
    type Err = FromError;

    fn from_str(text: &str) -> Result<Self, FromError> {
        let (kind, value) = text.split_once('=').ok_or(FromError)?;
        let number = || value.parse().map_err(|_| FromError);
        Ok(Self::At(match kind {
            "last" => Start::Last(number()?),
            "each" => Start::Each(number()?),
            "offset" => Start::Offset(number()?),
            "time" => Start::Time(number().ok().or_else(|| utc_ms(value)).ok_or(FromError)?),
            "since" => {
                let ago_ms = crate::config::milliseconds(value);
                return ago_ms.map(Self::SinceMs).ok_or(FromError);
            }
            _ => return Err(FromError),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_read() {
        const NOW: u64 = 1_700_000_000_000;
        for (text, expect) in [
            ("last=5", Some(Start::Last(5))),
            ("each=1", Some(Start::Each(1))),
            ("offset=0", Some(Start::Offset(0))),
            ("time=1700", Some(Start::Time(1_700))),
            (
                "time=2023-11-14T22:13:20Z",
                Some(Start::Time(1_700_000_000_000)),
            ),
            ("time=2023-11-14T22:13:20", None),
            ("time=2023-11-14T22:13:20+01:00", None),
            ("time=1960-01-01T00:00:00Z", None),
            ("since=10m", Some(Start::Time(NOW - 600_000))),
            ("since=10", None),
            ("last=", None),
            ("last=-1", None),
            ("first=5", None),
            ("5", None),
            ("", None),
        ] {
            let read = text.parse::<From>().ok();
            assert_eq!(read.map(|from| from.start(NOW)), expect, "{text}");
        }
    }
}

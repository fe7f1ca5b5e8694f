//! What time it is for what outlives the process.
//!
//! Between two runs only the wall clock says how much time passed, and it may be wrong. Behind the last stamp in the log
//! no time has passed. Far ahead of it somebody has to say that the clock is right ([`--accept-clock`]), or a machine
//! that wakes in 2106 would let every session expire. Until then the server's time goes on from the last stamp.

use std::time::{SystemTime, UNIX_EPOCH};

use super::trouble::NO_ALARM;

/// A clock that is further ahead than this of what the log says is believed only when told to.
const AHEAD_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

/// Whether a clock far ahead of the log is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ClockTrust {
    /// Up to a day.
    #[default]
    Checked,
    /// However far: somebody looked.
    Accepted,
}

/// The wall clock as this run counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct WallClock {
    /// What is added to the system's clock.
    offset_ms: i64,
}

/// What was found when the clock was compared with the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing to be said.
    Right,
    /// It is behind the log by that much.
    BehindMs(u64),
    /// It is ahead of the log by that much, and nobody said that this is right.
    AheadMs(u64),
}

impl Found {
    /// For people.
    pub(super) fn alarm(self) -> String {
        match self {
            Self::Right => NO_ALARM.to_owned(),
            Self::BehindMs(by) => format!(
                "{} s behind the last entry of the log: since then no time has passed for what expires",
                by.div_ceil(1_000)
            ),
            Self::AheadMs(by) => format!(
                "{} h ahead of the last entry of the log: that time counts for nothing that expires until the server is \
                 started with --accept-clock; if the clock is wrong, set it and start again",
                by / 3_600_000
            ),
        }
    }
}

impl WallClock {
    /// Compares the system's clock with the last stamp of the log, if there is one.
    pub(super) fn compare(now_ms: u64, last_ms: Option<u64>, trust: ClockTrust) -> (Self, Found) {
        let Some(last_ms) = last_ms else {
            return (Self::default(), Found::Right);
        };
        let found = if now_ms < last_ms {
            Found::BehindMs(last_ms - now_ms)
        } else if now_ms - last_ms > AHEAD_MS_MAX && trust == ClockTrust::Checked {
            Found::AheadMs(now_ms - last_ms)
        } else {
            Found::Right
        };
        let offset_ms = match found {
            Found::Right => 0,
            Found::BehindMs(by) => i64::try_from(by).unwrap_or(i64::MAX),
            Found::AheadMs(by) => i64::try_from(by).map_or(i64::MIN, |by| -by),
        };
        (Self { offset_ms }, found)
    }

    /// Milliseconds since 1970, as far as we believe it.
    pub(crate) fn now_ms(self) -> u64 {
        system_ms().saturating_add_signed(self.offset_ms)
    }
}

/// Milliseconds since 1970 by the system's clock.
pub(super) fn system_ms() -> u64 {
    let wall = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_believed_up_to_a_day_ahead_or_when_told_to() {
        const LAST: u64 = 1_800_000_000_000;
        for (now, last, is_accepted, found) in [
            (LAST, None, false, Found::Right),
            (LAST, Some(LAST), false, Found::Right),
            (LAST + AHEAD_MS_MAX, Some(LAST), false, Found::Right),
            (LAST - 1, Some(LAST), false, Found::BehindMs(1)),
            (LAST - 1, Some(LAST), true, Found::BehindMs(1)),
            (
                LAST + AHEAD_MS_MAX + 1,
                Some(LAST),
                false,
                Found::AheadMs(AHEAD_MS_MAX + 1),
            ),
            (LAST + AHEAD_MS_MAX + 1, Some(LAST), true, Found::Right),
            (LAST + 2 * AHEAD_MS_MAX, Some(LAST), true, Found::Right),
            (u64::MAX, Some(0), false, Found::AheadMs(u64::MAX)),
        ] {
            let trust = if is_accepted {
                ClockTrust::Accepted
            } else {
                ClockTrust::Checked
            };
            let (clock, said) = WallClock::compare(now, last, trust);
            assert_eq!(said, found, "{now} after {last:?}");
            let believed = now.saturating_add_signed(clock.offset_ms);
            match found {
                Found::Right => assert_eq!(believed, now),
                _ if now == u64::MAX => {}
                _ => assert_eq!(Some(believed), last, "no time has passed"),
            }
        }
    }
}

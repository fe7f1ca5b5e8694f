//! From the monotonic clock to dates that outlive the process, and back.
//!
//! A running server counts on the monotonic clock alone: what it writes down is dated by the wall as it was at the
//! start, plus what has passed since, so that a wall clock that is set meanwhile moves nothing. Only a start converts
//! dates of an earlier run, and never behind the last of them: a clock that went back means that no time has passed.

use crate::effects::Now;
use crate::timers::NEVER;

/// Dates of one run of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calendar {
    start: Now,
}

impl Calendar {
    /// Begins at a start; `last_wall_ms` is the last date the store knows, 0 without one.
    pub fn beginning(now: Now, last_wall_ms: u64) -> Self {
        Self {
            start: Now {
                monotonic_ms: now.monotonic_ms,
                wall_ms: now.wall_ms.max(last_wall_ms),
            },
        }
    }

    /// The date of a time, in milliseconds since 1970; [`u64::MAX`] stays never.
    pub(crate) fn date(&self, monotonic_ms: u64) -> u64 {
        if monotonic_ms == NEVER {
            return u64::MAX;
        }
        let Now {
            monotonic_ms: start_ms,
            wall_ms,
        } = self.start;
        wall_ms
            .saturating_add(monotonic_ms.saturating_sub(start_ms))
            .min(u64::MAX - 1)
    }

    /// The time of a date; what was before the start is due at the start.
    pub(crate) fn time(&self, wall_ms: u64) -> u64 {
        if wall_ms == u64::MAX {
            return NEVER;
        }
        let passed_ms = wall_ms.saturating_sub(self.start.wall_ms);
        self.start
            .monotonic_ms
            .saturating_add(passed_ms)
            .min(NEVER - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_read_back_in_another_run() {
        let now = |monotonic_ms, wall_ms| Now {
            monotonic_ms,
            wall_ms,
        };
        let first = Calendar::beginning(now(5_000, 1_000_000), 0);
        let date = first.date(65_000);
        assert_eq!((date, first.time(date)), (1_060_000, 65_000));
        assert_eq!((first.date(NEVER), first.time(u64::MAX)), (u64::MAX, NEVER));
        // Twenty seconds later.
        let second = Calendar::beginning(now(100, 1_020_000), 1_010_000);
        assert_eq!(second.time(date), 40_100);
        // The clock went back: no time has passed since the last date.
        let third = Calendar::beginning(now(100, 3), 1_010_000);
        assert_eq!(third.time(date), 50_100);
        assert_eq!(third.time(7), 100, "long due");
    }
}

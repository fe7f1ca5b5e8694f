//! The one place of a shard that reads a clock.

use std::time::Instant;

use waypost_core::Now;

use crate::store::WallClock;

/// Milliseconds since the shard's start, and since 1970.
pub(super) struct Clock {
    started: Instant,
    wall: WallClock,
}

impl Clock {
    pub(super) fn start(wall: WallClock) -> Self {
        Self {
            started: Instant::now(),
            wall,
        }
    }

    pub(super) fn now(&self) -> Now {
        Now {
            monotonic_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            wall_ms: self.wall.now_ms(),
        }
    }
}

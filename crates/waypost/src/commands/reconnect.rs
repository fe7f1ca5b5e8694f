//! When a lost connection is made again, and when that is given up.

use std::time::{Duration, Instant};

/// Between two attempts, growing.
const DELAY_MIN: Duration = Duration::from_millis(500);
const DELAY_MAX: Duration = Duration::from_secs(16);
/// How long a publisher tries before it gives up what it could not deliver.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Connections lost one after another without a message finished before a publisher gives up: it
/// may be the message that ends them.
pub const FRUITLESS_MAX: u32 = 5;
/// How long a publisher's session outlives its connection: longer than it tries.
pub const RESUME_SECONDS: u32 = 60;

/// The time between attempts.
#[derive(Debug)]
pub struct Backoff {
    delay: Duration,
}

impl Backoff {
    /// As after a connection that was made.
    pub const fn new() -> Self {
        Self { delay: DELAY_MIN }
    }

    /// When to try next.
    pub fn next(&mut self, now: Instant) -> Instant {
        let at = now + self.delay;
        self.delay = (self.delay * 2).min(DELAY_MAX);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_become_rarer_up_to_a_bound() {
        let now = Instant::now();
        let mut backoff = Backoff::new();
        let delays: Vec<_> = (0..7)
            .map(|_| (backoff.next(now) - now).as_millis())
            .collect();
        assert_eq!(delays, [500, 1000, 2000, 4000, 8000, 16000, 16000]);
    }
}

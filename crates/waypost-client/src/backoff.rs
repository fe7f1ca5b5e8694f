//! When a lost connection is made again, and when that is given up.

use std::time::{Duration, Instant};

use waypost_mqtt::ReasonCode;

use crate::protocol::event::Closed;

/// Between two attempts, growing.
const DELAY_MIN: Duration = Duration::from_millis(500);
const DELAY_MAX: Duration = Duration::from_secs(16);
/// How much of a delay is left to chance: clients that lost one server must not come back as one.
const JITTER_PERCENT: u8 = 50;

/// How a lost connection is made again: after a delay that doubles from attempt to attempt, shortened
/// by chance so that many clients of one server do not return in step.
///
/// ```
/// use std::time::Duration;
/// use waypost_client::Backoff;
///
/// let patient = Backoff::new().delays(Duration::from_millis(100), Duration::from_secs(60));
/// let none = Backoff::never();
/// # let _ = (patient, none);
/// ```
#[derive(Debug, Clone)]
pub struct Backoff {
    delay_min: Duration,
    delay_max: Duration,
    jitter_percent: u8,
    seed: Option<u64>,
    patience: Option<Duration>,
    fruitless_max: Option<u32>,
    passing: fn(&Closed) -> bool,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

impl Backoff {
    /// From half a second to sixteen, for as long as it takes, unless the server says that it never
    /// will: wrong credentials, a client id taken over.
    pub const fn new() -> Self {
        Self {
            delay_min: DELAY_MIN,
            delay_max: DELAY_MAX,
            jitter_percent: JITTER_PERCENT,
            seed: None,
            patience: None,
            fruitless_max: None,
            passing: is_passing,
        }
    }

    /// A lost connection is the client's end.
    pub const fn never() -> Self {
        let mut backoff = Self::new();
        backoff.passing = |_| false;
        backoff
    }

    /// The first delay, and the longest.
    #[must_use]
    pub const fn delays(mut self, min: Duration, max: Duration) -> Self {
        self.delay_min = min;
        self.delay_max = max;
        self
    }

    /// How much of each delay chance may take off, up to 100; 0: nothing.
    #[must_use]
    pub fn jitter_percent(mut self, percent: u8) -> Self {
        self.jitter_percent = percent.min(100);
        self
    }

    /// Chance from this seed, so that a test can be repeated.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Gives up when no connection was made for so long.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Gives up after so many connections one after another without a message finished: it may be
    /// the message that ends them.
    #[must_use]
    pub const fn fruitless_max(mut self, connections: u32) -> Self {
        self.fruitless_max = Some(connections);
        self
    }

    /// After which ends a connection is made again.
    #[must_use]
    pub const fn when(mut self, passing: fn(&Closed) -> bool) -> Self {
        self.passing = passing;
        self
    }
}

/// What may be over later. A server that disconnects may take the client back, but not one whose id
/// another uses: the two would throw each other out for ever.
fn is_passing(closed: &Closed) -> bool {
    match closed {
        Closed::Disconnected { reason, .. } => !matches!(
            reason,
            ReasonCode::SessionTakenOver | ReasonCode::NotAuthorized | ReasonCode::Banned
        ),
        closed => closed.is_passing(),
    }
}

/// Where the attempts of one client stand.
#[derive(Debug)]
pub(crate) struct Retries {
    policy: Backoff,
    random: u64,
    delay: Duration,
    down_since: Option<Instant>,
    fruitless: u32,
}

impl Retries {
    /// Before the first connection. `seed` is chance where the policy has none of its own.
    pub(crate) fn new(policy: Backoff, seed: u64) -> Self {
        Self {
            random: policy.seed.unwrap_or(seed),
            delay: policy.delay_min,
            policy,
            down_since: None,
            fruitless: 0,
        }
    }

    pub(crate) fn on_connected(&mut self) {
        self.down_since = None;
        self.delay = self.policy.delay_min;
    }

    pub(crate) fn on_finished(&mut self) {
        self.fruitless = 0;
    }

    /// A connection ended, or was not made; gives how long to wait for the next, or nothing.
    pub(crate) fn on_closed(
        &mut self,
        why: &Closed,
        was_connected: bool,
        now: Instant,
    ) -> Option<Duration> {
        let down_since = *self.down_since.get_or_insert(now);
        self.fruitless += u32::from(was_connected);
        let policy = &self.policy;
        let is_given_up = policy
            .patience
            .is_some_and(|patience| now - down_since >= patience)
            || policy
                .fruitless_max
                .is_some_and(|max| self.fruitless >= max);
        if is_given_up || !(policy.passing)(why) {
            return None;
        }
        let delay = self.delay;
        self.delay = (delay * 2).min(self.policy.delay_max);
        Some(self.shortened(delay))
    }

    fn shortened(&mut self, delay: Duration) -> Duration {
        let part = f64::from(self.policy.jitter_percent) / 100.0;
        delay.mul_f64(1.0 - part * self.chance())
    }

    /// From 0 to 1, by splitmix64.
    fn chance(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let bits = u32::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap_or(u32::MAX);
        f64::from(bits) / f64::from(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost() -> Closed {
        Closed::Lost(std::io::ErrorKind::ConnectionReset.into())
    }

    fn delays(policy: Backoff, count: usize) -> Vec<u128> {
        let mut retries = Retries::new(policy, 7);
        let now = Instant::now();
        let next = || retries.on_closed(&lost(), false, now);
        let delays = std::iter::repeat_with(next).take(count);
        delays.map(|delay| delay.unwrap().as_millis()).collect()
    }

    #[test]
    fn attempts_become_rarer_up_to_a_bound() {
        let plain = Backoff::new().jitter_percent(0);
        let expect = [500, 1000, 2000, 4000, 8000, 16000, 16000];
        assert_eq!(delays(plain, 7), expect);
    }

    #[test]
    fn chance_shortens_each_delay_and_comes_from_the_seed() {
        let one = delays(Backoff::new().seed(1), 50);
        assert_eq!(one, delays(Backoff::new().seed(1), 50));
        assert_ne!(one, delays(Backoff::new().seed(2), 50));
        let full = delays(Backoff::new().jitter_percent(0), 50);
        for (short, full) in one.iter().zip(full) {
            assert!((full / 2..=full).contains(short), "{short} of {full}");
        }
        let mut many: Vec<_> = one[10..].to_vec();
        many.sort_unstable();
        many.dedup();
        assert!(many.len() > 20, "they differ: {many:?}");
    }

    #[test]
    fn a_connection_made_starts_over_and_patience_ends() {
        let policy = Backoff::new()
            .jitter_percent(0)
            .patience(Duration::from_secs(30))
            .fruitless_max(3);
        let mut retries = Retries::new(policy, 0);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(
            retries.on_closed(&lost(), true, at(0)),
            Some(Duration::from_millis(500))
        );
        assert!(retries.on_closed(&lost(), false, at(29)).is_some());
        assert_eq!(retries.on_closed(&lost(), false, at(30)), None);
        retries.on_connected();
        assert_eq!(
            retries.on_closed(&lost(), true, at(31)),
            Some(Duration::from_millis(500))
        );
        retries.on_connected();
        assert_eq!(
            retries.on_closed(&lost(), true, at(32)),
            None,
            "three without a message"
        );
        retries.on_finished();
        retries.on_connected();
        assert!(retries.on_closed(&lost(), true, at(33)).is_some());
    }

    #[test]
    fn what_will_not_pass_is_not_tried_again() {
        let taken = Closed::Disconnected {
            reason: ReasonCode::SessionTakenOver,
            text: None,
        };
        let mut retries = Retries::new(Backoff::new(), 0);
        assert_eq!(retries.on_closed(&taken, true, Instant::now()), None);
        let mut never = Retries::new(Backoff::never(), 0);
        assert_eq!(never.on_closed(&lost(), true, Instant::now()), None);
    }
}

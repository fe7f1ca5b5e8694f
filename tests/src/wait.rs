//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

/// How long a test waits for anything before it fails: long enough for two cores that have much else to do.
pub const LIMIT: Duration = Duration::from_mins(1);

const POLL: Duration = Duration::from_millis(2);

/// Polls `condition` until it holds and returns its value.
///
/// Panics with `what` when `limit` has passed: a condition that never comes true is a failed test.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} for {what}");
        std::thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_what_the_condition_yields() {
        let mut calls = 0;
        let value = wait_for("the third call", LIMIT, || {
            calls += 1;
            (calls == 3).then_some(calls)
        });
        assert_eq!(value, 3);
    }

    #[test]
    #[should_panic(expected = "for what never comes")]
    fn fails_when_the_limit_has_passed() {
        wait_for("what never comes", Duration::from_millis(5), || None::<()>);
    }
}

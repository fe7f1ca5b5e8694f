//! Runs a target on mutated inputs until the time is over or it panics.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::mutate::Mutator;
use crate::{Target, corpus};

/// Inputs between two looks at the clock.
const BATCH: u64 = 64;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Inputs that were tried.
    pub inputs: u64,
    /// The first input that made the target panic; the run ended there.
    pub crash: Option<Crash>,
}

/// An input that makes a target panic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crash {
    /// The input.
    pub input: Vec<u8>,
    /// What the panic said.
    pub message: String,
}

/// Runs `target` for `seconds` on inputs made from its corpus with `seed`. The same seed makes the
/// same inputs in the same order.
pub fn run(target: &Target, seconds: u64, seed: u64) -> Report {
    let corpus = corpus::load(target.name);
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let mut mutator = Mutator::new(seed);
    let mut input = Vec::new();
    let mut inputs = 0;
    while inputs % BATCH != 0 || Instant::now() < deadline {
        mutator.make(&corpus, &mut input);
        inputs += 1;
        let crash = replay(target, &input);
        if crash.is_some() {
            return Report { inputs, crash };
        }
    }
    Report {
        inputs,
        crash: None,
    }
}

/// Runs `target` on one input.
pub fn replay(target: &Target, input: &[u8]) -> Option<Crash> {
    let panic = catch_unwind(AssertUnwindSafe(|| (target.run)(input))).err()?;
    let message = panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
        .unwrap_or_default();
    Some(Crash {
        input: input.to_vec(),
        message,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(run: fn(&[u8])) -> Target {
        Target {
            name: "mqtt_packet",
            run,
            decoder: "none",
        }
    }

    #[test]
    fn a_panic_is_found_and_its_seed_repeats_it() {
        let target = target(|input| assert!(input.first() != Some(&7), "seven"));
        let first = run(&target, 60, 1);
        let crash = first.crash.clone().unwrap();
        assert_eq!((crash.input[0], crash.message.as_str()), (7, "seven"));
        assert_eq!(run(&target, 60, 1), first);
        assert_eq!(replay(&target, &crash.input), Some(crash));
    }

    #[test]
    fn a_run_ends_when_its_time_is_over() {
        let report = run(&target(|_| {}), 0, 1);
        assert_eq!(
            report,
            Report {
                inputs: 0,
                crash: None
            }
        );
    }
}

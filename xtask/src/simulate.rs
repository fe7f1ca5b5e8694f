//! `cargo xtask simulate`: many seeds of the deterministic simulations.
//!
//! A simulation is a suite of tests that take their seeds from `WAYPOST_SEEDS=FROM..TO`. This task
//! builds them optimised, runs batch after batch until each suite had enough seeds and enough minutes, and prints one
//! JSON line a suite that says what was run and where to go on.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{arguments::Arguments, bench, failure::Failure, process};

/// What CI runs at least of each suite.
const SEEDS: u64 = 300;
const MINUTES: u64 = 3;

/// A suite's name and the tests that it is.
struct Suite {
    name: &'static str,
    package: &'static str,
    tests: &'static str,
    /// Seeds between two looks at the clock.
    batch: u64,
    /// Minutes that CI runs it at least; 0, until 10,000 seeds of it have run without a failure: the seeds that it runs
    /// at least, and no more.
    minutes: u64,
}

const SUITES: [Suite; 7] = [
    Suite {
        name: "promises",
        package: "waypost-core",
        tests: "tests::promises::",
        batch: 1000,
        minutes: MINUTES,
    },
    Suite {
        name: "groups",
        package: "waypost-core",
        tests: "tests::group_promises::",
        batch: 1000,
        minutes: 0,
    },
    // Groups that the store keeps messages for, on a machine that crashes.
    Suite {
        name: "durable-groups",
        package: "waypost-core",
        tests: "tests::durable_groups::",
        batch: 1000,
        minutes: 0,
    },
    // A seed is a run for each of its I/O steps, with one of the faults there: some hundreds.
    Suite {
        name: "log",
        package: "waypost-store",
        tests: "log::tests::promises::",
        batch: 50,
        minutes: 0,
    },
    // Log and views together: a seed is a dozen runs, each with another fault.
    Suite {
        name: "store",
        package: "waypost-store",
        tests: "store::promises::",
        batch: 1000,
        minutes: 0,
    },
    // Subscriptions that begin with what was, on a machine that crashes.
    Suite {
        name: "history",
        package: "waypost-core",
        tests: "tests::history_promises::",
        batch: 1000,
        minutes: 0,
    },
    // What outlives the process, crash after crash.
    Suite {
        name: "durable",
        package: "waypost-core",
        tests: "tests::durable_promises::",
        batch: 1000,
        minutes: 0,
    },
];

pub fn run(root: &Path, mut arguments: Arguments) -> Result<(), Failure> {
    let named = arguments.option::<String>("--suite")?;
    let seeds = arguments.option::<u64>("--seeds")?.unwrap_or(SEEDS);
    let minutes = arguments.option::<u64>("--minutes")?.unwrap_or(MINUTES);
    let from = arguments.option::<u64>("--from")?.unwrap_or(0);
    arguments.finish()?;
    let is_wanted = |suite: &&Suite| named.as_ref().is_none_or(|name| name == suite.name);
    let wanted: Vec<_> = SUITES.iter().filter(is_wanted).collect();
    if wanted.is_empty() {
        let known = SUITES.map(|suite| suite.name).join(", ");
        return Err(Failure::new(format!("no such suite; there are {known}")));
    }
    for suite in wanted {
        at_least(root, suite, from, seeds, minutes)?;
    }
    Ok(())
}

/// What CI runs.
pub fn default(root: &Path) -> Result<(), Failure> {
    SUITES
        .iter()
        .try_for_each(|suite| at_least(root, suite, 0, SEEDS, suite.minutes))
}

/// Runs `seeds` seeds from `from` on, and more until `minutes` have passed; stops at the first failure.
fn at_least(
    root: &Path,
    suite: &Suite,
    from: u64,
    seeds: u64,
    minutes: u64,
) -> Result<(), Failure> {
    let start = Instant::now();
    let mut next = from;
    let mut result = Ok(());
    while result.is_ok() && !is_enough(next - from, seeds, start.elapsed(), minutes) {
        let wanted = seeds.saturating_sub(next - from);
        let end = next
            + if wanted == 0 {
                suite.batch
            } else {
                wanted.min(suite.batch)
            };
        result = batch(root, suite, next, end);
        next = end;
    }
    let line = json!({
        "task": "simulate",
        "suite": suite.name,
        "commit": bench::commit(root),
        "machine": bench::machine(),
        "from": from,
        "seeds": next - from,
        "next": next,
        "minutes": start.elapsed().as_secs_f64() / 60.0,
        "failures": u64::from(result.is_err()),
    });
    println!("{line}");
    result
}

fn is_enough(run: u64, seeds: u64, passed: Duration, minutes: u64) -> bool {
    run >= seeds && passed >= Duration::from_secs(60 * minutes)
}

fn batch(root: &Path, suite: &Suite, from: u64, to: u64) -> Result<(), Failure> {
    let result = process::finish(
        Command::new(env!("CARGO"))
            .args(["test", "--quiet", "--locked", "--profile", "fuzz"])
            .args(["--package", suite.package, "--lib", suite.tests])
            .env("WAYPOST_SEEDS", format!("{from}..{to}"))
            .current_dir(root),
    );
    result.map_err(|failure| {
        Failure::new(format!(
            "{failure}; the seed is above; again with --suite {} --seeds 1 --minutes 0 --from SEED",
            suite.name
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enough_is_enough_seeds_and_enough_minutes() {
        let three_minutes = Duration::from_mins(3);
        assert!(is_enough(300, 300, three_minutes, 3));
        assert!(!is_enough(299, 300, three_minutes, 3));
        assert!(!is_enough(900, 300, Duration::from_secs(179), 3));
        assert!(is_enough(1, 1, Duration::ZERO, 0));
    }
}

//! `cargo xtask fuzz`: mutates the corpus against the targets of the fuzz crate.
//!
//! The runner is the fuzz crate's own program, built with the profile `fuzz` (optimised, with overflow checks and
//! debug assertions), so that a crash is repeated by one short command.

use std::path::Path;

use crate::{arguments::Arguments, failure::Failure, process};

/// All targets together, unless `--seconds` says otherwise.
const SECONDS: u64 = 60;

pub fn run(root: &Path, mut arguments: Arguments) -> Result<(), Failure> {
    let target = arguments.positional();
    let seconds = arguments.option::<u64>("--seconds")?.unwrap_or(SECONDS);
    let seed = arguments.option::<u64>("--seed")?;
    arguments.finish()?;
    start(root, target.as_deref(), seconds, seed)
}

/// Every target, `seconds` in all.
pub fn all(root: &Path, seconds: u64, seed: Option<u64>) -> Result<(), Failure> {
    start(root, None, seconds, seed)
}

fn start(
    root: &Path,
    target: Option<&str>,
    seconds: u64,
    seed: Option<u64>,
) -> Result<(), Failure> {
    let seconds = seconds.to_string();
    let seed = seed.map(|seed| seed.to_string());
    let mut words = vec![
        "run",
        "--quiet",
        "--locked",
        "--profile",
        "fuzz",
        "--package",
        "waypost-fuzz",
        "--",
        "--seconds",
        &seconds,
    ];
    if let Some(seed) = &seed {
        words.extend(["--seed", seed]);
    }
    words.extend(target);
    process::run(root, env!("CARGO"), &words)
}

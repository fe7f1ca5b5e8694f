//! `cargo xtask simulate`: many seeds of the core's deterministic simulation.
//!
//! The simulation is a test of waypost-core, `simulation_many_seeds`, that takes its seeds from the environment; this
//! task builds it optimised, runs it, and prints one JSON line that names what was run.

use std::{path::Path, process::Command, time::Instant};

use serde_json::json;

use crate::{arguments::Arguments, bench, failure::Failure, process};

const SEEDS: u64 = 300;
const MINUTES: u64 = 3;

pub fn run(root: &Path, mut arguments: Arguments) -> Result<(), Failure> {
    let seeds = arguments.option::<u64>("--seeds")?.unwrap_or(SEEDS);
    let minutes = arguments.option::<u64>("--minutes")?.unwrap_or(MINUTES);
    let from = arguments.option::<u64>("--from")?.unwrap_or(1);
    arguments.finish()?;
    let start = Instant::now();
    let result = process::finish(
        Command::new(env!("CARGO"))
            .args([
                "test",
                "--quiet",
                "--locked",
                "--profile",
                "fuzz",
                "--package",
                "waypost-core",
            ])
            .args(["simulation_many_seeds", "--", "--nocapture"])
            .env("WAYPOST_SIMULATION_SEEDS", seeds.to_string())
            .env("WAYPOST_SIMULATION_FROM", from.to_string())
            .env("WAYPOST_SIMULATION_MINUTES", minutes.to_string())
            .current_dir(root),
    );
    let line = json!({
        "task": "simulate",
        "commit": bench::commit(root),
        "machine": bench::machine(),
        "from": from,
        "seeds": seeds,
        "minutes": minutes,
        "seconds": start.elapsed().as_secs(),
        "good": result.is_ok(),
    });
    println!("{line}");
    result
}

//! `cargo xtask crash`: a server that is killed at random moments under load keeps what it has acknowledged.
//!
//! The clients and the model are `waypost-crash`, in the crate of the end-to-end tests. A run of 100 rounds or more
//! appends its JSON line to `docs/evidence/crash.jsonl`; `next` in it is where `--from` goes on.

use std::path::Path;

use crate::{arguments::Arguments, bench, failure::Failure, measured};

const EVIDENCE: &str = "docs/evidence/crash.jsonl";

/// Rounds without `--rounds`.
const ROUNDS: u64 = 5;
/// What `cargo xtask test` runs, in at most so many seconds and the round that they end in: each kind of life once.
const ROUNDS_OF_TEST: &str = "7";
const SECONDS_OF_TEST: &str = "45";
/// A run of so many rounds is evidence.
const ROUNDS_KEPT: u64 = 100;

/// What is passed on with its value.
const OPTIONS: &[&str] = &[
    "--seed",
    "--from",
    "--seconds",
    "--shards",
    "--config",
    "--dir",
    "--disk",
];

pub fn run(root: &Path, mut arguments: Arguments) -> Result<(), Failure> {
    let profile = if arguments.flag("--debug") {
        "debug"
    } else {
        "release"
    };
    let json_only = arguments.flag("--json");
    let rounds = arguments.option::<u64>("--rounds")?.unwrap_or(ROUNDS);
    let mut options = vec!["--rounds".to_owned(), rounds.to_string()];
    for name in OPTIONS {
        if let Some(value) = arguments.option::<String>(name)? {
            options.extend([(*name).to_owned(), value]);
        }
    }
    for name in ["--calm", "--mix"] {
        if arguments.flag(name) {
            options.push(name.to_owned());
        }
    }
    arguments.finish()?;
    play(root, profile, &options, !json_only && rounds >= ROUNDS_KEPT)
}

/// The short run of `cargo xtask test`.
pub fn short(root: &Path) -> Result<(), Failure> {
    let options = [
        "--mix",
        "--rounds",
        ROUNDS_OF_TEST,
        "--seconds",
        SECONDS_OF_TEST,
    ];
    play(root, "debug", &options.map(str::to_owned), false)
}

fn play(root: &Path, profile: &str, options: &[String], is_evidence: bool) -> Result<(), Failure> {
    let measured = measured::run(root, profile, "waypost-crash", "crash", options)?;
    if is_evidence {
        bench::keep(root, EVIDENCE, &measured.line)?;
    }
    if measured.status.success() {
        Ok(())
    } else {
        Err(Failure::new(
            "acknowledged messages were not where they belong; the rounds are above",
        ))
    }
}

//! `cargo xtask bench store-…`, `bench durable`, `bench history…`, `bench stream-seek`: the goals of storage, one JSON line a run to `docs/evidence/bench.jsonl`.
//!
//! The measuring is done by `waypost-storage`, in the crate of the end-to-end tests, which has the clients for it.

use std::path::Path;

use super::{EVIDENCE, keep};
use crate::{arguments::Arguments, failure::Failure, measured};

/// The scenarios, and what is passed on with its value.
const SCENARIOS: &[(&str, &[&str])] = &[
    (
        "store-start",
        &[
            "--sessions",
            "--log-gb",
            "--debtors",
            "--payload",
            "--tail-mb",
            "--shards",
        ],
    ),
    ("store-owed", &["--sessions", "--messages", "--seconds-max"]),
    (
        "store-drain",
        &["--sessions", "--messages", "--rounds", "--seconds"],
    ),
    ("store-segments", &["--segments", "--one-in"]),
    ("durable", &["--rounds", "--seconds"]),
    (
        "history",
        &["--readers", "--bytes", "--payload", "--rounds", "--seconds"],
    ),
    ("history-warm", &["--bytes", "--payload", "--rounds"]),
    ("stream-seek", &["--records", "--payload", "--seeks"]),
];

/// Takes the name of a scenario from the front, if there is one.
pub fn scenario(arguments: &mut Arguments) -> Option<&'static str> {
    let mut names = SCENARIOS.iter().map(|(name, _)| *name);
    names.find(|name| arguments.positional_is(name))
}

pub fn run(root: &Path, scenario: &str, mut arguments: Arguments) -> Result<(), Failure> {
    let print_only = arguments.flag("--json");
    let mut options = vec![scenario.to_owned()];
    let own = SCENARIOS.iter().find(|(name, _)| *name == scenario);
    let own = own.map_or(&[][..], |(_, options)| options);
    for name in own.iter().chain(&["--dir"]) {
        if let Some(value) = arguments.option::<String>(name)? {
            options.extend([(*name).to_owned(), value]);
        }
    }
    arguments.finish()?;
    let measured = measured::run(root, "release", "waypost-storage", scenario, &options)?;
    if !print_only {
        keep(root, EVIDENCE, &measured.line)?;
    }
    if measured.status.success() {
        Ok(())
    } else {
        Err(Failure::new("a goal was missed; the line above has it"))
    }
}

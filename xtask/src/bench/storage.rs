//! `cargo xtask bench store-…`, `bench durable`: the goals of storage, one JSON line a run to `docs/evidence/bench.jsonl`.
//!
//! The measuring is done by `waypost-storage`, in the crate of the end-to-end tests, which has the clients for it.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use super::{EVIDENCE, commit, keep, machine};
use crate::{arguments::Arguments, failure::Failure, process};

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
    let packages = [
        "--package",
        "waypost",
        "--package",
        "waypost-tests",
        "--bins",
    ];
    let build = [&["build", "--release", "--locked"][..], &packages].concat();
    process::run(root, env!("CARGO"), &build)?;
    let programs = process::target_directory(root)?.join("release");
    let mut command = Command::new(programs.join("waypost-storage"));
    command
        .args(options)
        .env("TEST_WAYPOST", programs.join("waypost"));
    let shown = process::shown(&command);
    eprintln!("$ {shown}");
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Failure::new(format!("{shown}: cannot be started: {error}")))?;
    let mut line: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| Failure::new(format!("{shown}: no JSON: {error}")))?;
    if let Value::Object(line) = &mut line {
        line.insert("task".to_owned(), json!(scenario));
        line.insert("commit".to_owned(), json!(commit(root)));
        line.insert("machine".to_owned(), json!(machine()));
    }
    println!("{line}");
    if !print_only {
        keep(root, EVIDENCE, &line)?;
    }
    if output.status.success() {
        Ok(())
    } else {
        Err(Failure::new("a goal was missed; the line above has it"))
    }
}

//! `cargo xtask bench storm`: what storms of connections do to live traffic, and what a TLS handshake costs beside the
//! peers; one JSON line to `docs/evidence/storm.jsonl`.
//!
//! The measuring is done by `waypost-storm`, in the crate of the end-to-end tests, which has the clients for it.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use super::{commit, keep, machine};
use crate::{arguments::Arguments, failure::Failure, process};

const EVIDENCE: &str = "docs/evidence/storm.jsonl";

/// Numbers that are passed on: `--rounds 5 --seconds 2 --clients 10000 --tls-clients 2000 --handshakes 500`.
const OPTIONS: &[&str] = &[
    "--rounds",
    "--seconds",
    "--clients",
    "--tls-clients",
    "--handshakes",
];

pub fn run(root: &Path, mut arguments: Arguments) -> Result<(), Failure> {
    let print_only = arguments.flag("--print");
    let mut options = Vec::new();
    for name in OPTIONS {
        if let Some(value) = arguments.option::<u64>(name)? {
            options.extend([(*name).to_owned(), value.to_string()]);
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
    let mut command = Command::new(programs.join("waypost-storm"));
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
        line.insert("task".to_owned(), json!("storm"));
        line.insert("commit".to_owned(), json!(commit(root)));
        line.insert("machine".to_owned(), json!(machine()));
    }
    println!("{line}");
    if print_only {
        return Ok(());
    }
    keep(root, EVIDENCE, &line)
}

//! Programs of the end-to-end tests that measure a server and print one JSON line.

use std::{
    path::Path,
    process::{Command, ExitStatus},
};

use serde_json::{Value, json};

use crate::{bench, failure::Failure, process};

/// What a program printed, with task, commit and machine, and how it ended.
pub struct Measured {
    pub line: Value,
    pub status: ExitStatus,
}

/// Builds `waypost` and the tests' programs in a profile (`debug` or `release`), runs one of them, and prints its line.
pub fn run(
    root: &Path,
    profile: &str,
    program: &str,
    task: &str,
    options: &[String],
) -> Result<Measured, Failure> {
    let mut build = vec![
        "build",
        "--locked",
        "--package",
        "waypost",
        "--package",
        "waypost-tests",
        "--bins",
    ];
    if profile == "release" {
        build.push("--release");
    }
    process::run(root, env!("CARGO"), &build)?;
    let programs = process::target_directory(root)?.join(profile);
    let mut command = Command::new(programs.join(program));
    command
        .args(options)
        .env("TEST_WAYPOST", programs.join("waypost"))
        .env("TEST_CLIENTS", "required")
        .current_dir(root);
    let (mut line, status) = process::json(&mut command)?;
    if let Value::Object(line) = &mut line {
        line.insert("task".to_owned(), json!(task));
        line.insert("commit".to_owned(), json!(bench::commit(root)));
        line.insert("machine".to_owned(), json!(bench::machine()));
    }
    println!("{line}");
    Ok(Measured { line, status })
}

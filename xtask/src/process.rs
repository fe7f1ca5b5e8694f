//! Running other programs, each shown before it runs.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output, Stdio},
};

use serde_json::Value;

use crate::failure::Failure;

/// Runs `program` with `arguments` in `directory`; its output goes to the developer.
pub fn run(directory: &Path, program: &str, arguments: &[&str]) -> Result<(), Failure> {
    finish(Command::new(program).args(arguments).current_dir(directory))
}

/// Shows and runs `command`; what it printed, and how it ended. What it says of errors goes to the developer.
pub fn captured(command: &mut Command) -> Result<Output, Failure> {
    let shown = shown(command);
    eprintln!("$ {shown}");
    command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Failure::new(format!("{shown}: cannot be started: {error}")))
}

/// Shows and runs `command`, which prints JSON.
pub fn json(command: &mut Command) -> Result<(Value, ExitStatus), Failure> {
    let output = captured(command)?;
    let value = serde_json::from_slice(&output.stdout)
        .map_err(|error| Failure::new(format!("{}: no JSON: {error}", shown(command))))?;
    Ok((value, output.status))
}

/// Shows and runs `command`; anything but exit code 0 is a failure.
pub fn finish(command: &mut Command) -> Result<(), Failure> {
    let shown = shown(command);
    eprintln!("$ {shown}");
    let status = command
        .stdin(Stdio::null())
        .status()
        .map_err(|error| Failure::new(format!("{shown}: cannot be started: {error}")))?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::new(format!("{shown}: {status}")))
    }
}

/// What `program` prints on stdout, if it runs and succeeds.
pub fn output(directory: &Path, program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Whether `program` can be started at all.
pub fn exists(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

/// The command as it would be typed.
pub fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Where cargo puts what it builds.
pub fn target_directory(root: &Path) -> Result<PathBuf, Failure> {
    let metadata = output(
        root,
        env!("CARGO"),
        &["metadata", "--format-version", "1", "--no-deps", "--locked"],
    );
    let metadata: Option<Value> = metadata.and_then(|text| serde_json::from_str(&text).ok());
    let directory =
        metadata.and_then(|metadata| Some(metadata.get("target_directory")?.as_str()?.into()));
    directory
        .ok_or_else(|| Failure::new("cargo metadata does not say where the target directory is"))
}

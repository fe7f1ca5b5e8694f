//! `cargo xtask bench`: runs the benchmarks and appends one JSON line to `docs/evidence/bench.jsonl`.
//!
//! Micro benchmarks are the crates' `benches/`, each of which prints lines `name nanoseconds` (per operation, median);
//! the macro benchmark is `waypost bench --json` against a server of its own. Figures of different machines do not
//! compare; the line names the kind of machine, and ratios inside one line are what regressions are read from.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Map, Value, json};

use crate::{arguments::Arguments, failure::Failure, process, repository::Repository};

const EVIDENCE: &str = "docs/evidence/bench.jsonl";

pub fn run(root: &Path, mut arguments: Arguments) -> Result<(), Failure> {
    let print_only = arguments.flag("--print");
    arguments.finish()?;
    let micro = micro(root)?;
    let macros = macro_benchmark(root)?;
    let line = json!({
        "task": "bench",
        "commit": commit(root),
        "machine": machine(),
        "ns_per_operation": micro,
        "waypost_bench": macros,
    });
    println!("{line}");
    if print_only {
        return Ok(());
    }
    let path = root.join(EVIDENCE);
    let append = || {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)?;
        writeln!(file, "{line}")
    };
    append().map_err(|error: std::io::Error| Failure::new(format!("{EVIDENCE}: {error}")))
}

/// Runs every crate's benches.
fn micro(root: &Path) -> Result<Map<String, Value>, Failure> {
    let mut figures = Map::new();
    for package in packages_with_benches(&Repository::read(root)?) {
        let text = capture(
            Command::new(env!("CARGO"))
                .args(["bench", "--quiet", "--locked", "--package", &package])
                .current_dir(root),
        )?;
        for (name, nanoseconds) in text.lines().filter_map(figure) {
            figures.insert(format!("{package}: {name}"), json!(nanoseconds));
        }
    }
    Ok(figures)
}

fn packages_with_benches(repository: &Repository) -> Vec<String> {
    let mut found: Vec<String> = repository
        .rust_files("crates/")
        .filter_map(|file| {
            let mut parts = file.path.split('/').skip(1);
            let package = parts.next()?;
            (parts.next() == Some("benches")).then(|| package.to_owned())
        })
        .collect();
    found.dedup();
    found
}

/// `name nanoseconds` with any words in the name.
fn figure(line: &str) -> Option<(&str, f64)> {
    let (name, value) = line.trim().rsplit_once(char::is_whitespace)?;
    value.parse().ok().map(|value| (name.trim(), value))
}

/// `waypost bench --json` of the release build.
fn macro_benchmark(root: &Path) -> Result<Value, Failure> {
    let text = capture(
        Command::new(env!("CARGO"))
            .args([
                "run",
                "--quiet",
                "--release",
                "--locked",
                "--package",
                "waypost",
                "--",
                "bench",
                "--json",
            ])
            .current_dir(root),
    )?;
    serde_json::from_str(&text)
        .map_err(|error| Failure::new(format!("waypost bench --json printed no JSON: {error}")))
}

fn capture(command: &mut Command) -> Result<String, Failure> {
    let shown = process::shown(command);
    eprintln!("$ {shown}");
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Failure::new(format!("{shown}: cannot be started: {error}")))?;
    if !output.status.success() {
        return Err(Failure::new(format!("{shown}: {}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The commit, with `-dirty` when the work tree differs from it.
pub fn commit(root: &Path) -> String {
    process::output(
        root,
        "git",
        &["describe", "--always", "--dirty", "--abbrev=12"],
    )
    .unwrap_or_else(|| "unknown".to_owned())
}

/// The kind of machine: processor and cores.
pub fn machine() -> String {
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor.lines().find_map(|line| {
        line.strip_prefix("model name")?
            .split_once(": ")
            .map(|(_, name)| name.to_owned())
    });
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{}, {cores} cores",
        model.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_figures_that_benches_print() {
        assert_eq!(
            figure("match, 100000 filters   812.5"),
            Some(("match, 100000 filters", 812.5))
        );
        assert_eq!(figure("running 0 tests"), None);
    }

    #[test]
    fn finds_the_crates_that_have_benches() {
        let repository = Repository::of(&[
            ("crates/waypost-core/benches/matching.rs", ""),
            ("crates/waypost-core/benches/publish.rs", ""),
            ("crates/waypost-mqtt/src/benches.rs", ""),
        ]);
        assert_eq!(packages_with_benches(&repository), ["waypost-core"]);
    }
}

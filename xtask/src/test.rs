//! `cargo xtask test`: all that CI runs, in the order in which it fails fastest.
//!
//! Every step runs even when an earlier one failed, so that one run shows everything; only what cannot run without
//! another step is left out. The last line counts steps and tests: `N passed, N failed`.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use crate::{
    crash, failure::Failure, fuzz, lint, process, repository::Repository, setup, simulate,
};

/// All fuzz targets together.
const FUZZ_SECONDS: u64 = 90;

/// What a step counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
    skipped: u64,
}

pub fn run(root: &Path) -> Result<(), Failure> {
    let mut total = Count::default();
    let mut failures = Vec::new();
    let mut step = |name: &str, work: &mut dyn FnMut() -> (Count, Result<(), Failure>)| {
        eprintln!("\n== {name}");
        let start = Instant::now();
        let (count, result) = work();
        total.passed += count.passed + u64::from(result.is_ok());
        total.failed += count.failed + u64::from(result.is_err() && count.failed == 0);
        total.skipped += count.skipped;
        eprintln!(
            "== {name}: {} in {:.0} s",
            if result.is_ok() { "good" } else { "failed" },
            start.elapsed().as_secs_f64()
        );
        if let Err(failure) = result {
            failures.push(format!("{name}: {failure}"));
        }
    };
    let plain = |result| (Count::default(), result);

    step("setup", &mut || plain(setup::run(root)));
    step("format", &mut || {
        plain(cargo(root, &["fmt", "--all", "--check"]))
    });
    step("lint", &mut || {
        plain(Repository::read(root).and_then(|repository| lint::run(&repository)))
    });
    step("clippy", &mut || {
        plain(cargo(
            root,
            &[
                "clippy",
                "--workspace",
                "--all-targets",
                "--locked",
                "--quiet",
                "--",
                "-D",
                "warnings",
            ],
        ))
    });
    step("tests", &mut || tests(root, &["--workspace"], "1"));
    // Several shards look like one to clients, and it is what `serve` runs by default.
    step("conformance with two shards", &mut || {
        let suites = [
            "--package=waypost-tests",
            "--test=conformance_311",
            "--test=conformance_5",
        ];
        tests(root, &suites, "2")
    });
    step("crashes", &mut || plain(crash::short(root)));
    step("fuzz", &mut || plain(fuzz::all(root, FUZZ_SECONDS, None)));
    step("simulation", &mut || plain(simulate::default(root)));
    // What `cargo run --release -- serve` builds; its tests ran above.
    step("release build", &mut || {
        plain(cargo(
            root,
            &["build", "--release", "--locked", "--package", "waypost"],
        ))
    });

    for failure in &failures {
        eprintln!("failed: {failure}");
    }
    let skipped = if total.skipped == 0 {
        String::new()
    } else {
        format!(", {} skipped", total.skipped)
    };
    println!("{} passed, {} failed{skipped}", total.passed, total.failed);
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(format!("{} steps failed", failures.len())))
    }
}

fn cargo(root: &Path, arguments: &[&str]) -> Result<(), Failure> {
    process::run(root, env!("CARGO"), arguments)
}

/// Builds and runs tests against servers of so many shards, shown as they run, and counts them.
fn tests(root: &Path, which: &[&str], shards: &str) -> (Count, Result<(), Failure>) {
    let mut count = Count::default();
    let built = cargo(
        root,
        &["build", "--locked", "--quiet", "--package", "waypost"],
    )
    .and_then(|()| process::target_directory(root));
    let target = match built {
        Ok(target) => target,
        Err(failure) => return (count, Err(failure)),
    };
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["test", "--locked", "--no-fail-fast"])
        .args(which)
        // The end-to-end tests need not build it again, and must not skip a client.
        .env("TEST_WAYPOST", target.join("debug/waypost"))
        .env("TEST_CLIENTS", "required")
        .env("TEST_SHARDS", shards)
        .current_dir(root)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let shown = process::shown(&command);
    eprintln!("$ {shown}");
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return (count, Err(Failure::new(format!("{shown}: {error}")))),
    };
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            println!("{line}");
            count.add(&line);
        }
    }
    let result = match child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) if count.failed > 0 => Err(Failure::new(format!("{} tests failed", count.failed))),
        Ok(status) => Err(Failure::new(format!("{shown}: {status}"))),
        Err(error) => Err(Failure::new(format!("{shown}: {error}"))),
    };
    (count, result)
}

impl Count {
    /// Adds a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out`.
    fn add(&mut self, line: &str) {
        let Some((_, counts)) = line
            .strip_prefix("test result: ")
            .and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for part in counts.split(';') {
            let Some((number, word)) = part.trim().split_once(' ') else {
                continue;
            };
            let number: u64 = number.parse().unwrap_or_default();
            match word {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_cargo_test_reports() {
        let mut count = Count::default();
        count.add("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s");
        count.add("test result: FAILED. 2 passed; 4 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s");
        count.add("test result of something else. 9 passed");
        assert_eq!(
            count,
            Count {
                passed: 5,
                failed: 4,
                skipped: 1
            }
        );
    }
}

//! `cargo xtask lint`: what the compiler and clippy do not check about this house.
//!
//! One file per check, each a pure function from the repository's text to findings, each tested with good and
//! bad snippets.

mod arrows;
mod decoders;
mod file_length;
mod leftovers;
mod metrics;
mod names;
mod pure_crates;
mod settings;
mod unsafe_code;

use std::fmt;

use crate::{conformance, failure::Failure, repository::Repository};

/// One thing to repair.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub file: String,
    pub line: usize,
    pub what: String,
    pub fix: String,
}

impl Finding {
    pub fn new(file: &str, line: usize, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line,
            what: what.into(),
            fix: fix.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}:{}: {}: {}",
            self.file, self.line, self.what, self.fix
        )
    }
}

type Check = fn(&Repository) -> Vec<Finding>;

const CHECKS: &[(&str, Check)] = &[
    ("arrows between crates", arrows::check),
    ("crates without I/O", pure_crates::check),
    ("file length", file_length::check),
    ("file names", names::check),
    ("decoders against fuzz targets", decoders::check),
    ("settings against tests and documentation", settings::check),
    ("metrics against tests", metrics::check),
    ("left-overs and paths of one machine", leftovers::check),
    ("unsafe code", unsafe_code::check),
    ("conformance statements against tests", conformance::check),
];

/// Runs every check and prints its findings as `file:line: what: how to fix`.
pub fn run(repository: &Repository) -> Result<(), Failure> {
    let mut total = 0;
    for (name, check) in CHECKS {
        let mut findings = check(repository);
        findings.sort();
        for finding in &findings {
            println!("{finding}");
        }
        let verdict = if findings.is_empty() {
            "good".to_owned()
        } else {
            format!("{} to repair", findings.len())
        };
        eprintln!("lint: {name}: {verdict}");
        total += findings.len();
    }
    if total == 0 {
        Ok(())
    } else {
        Err(Failure::new(format!("{total} to repair")))
    }
}

/// Fails the calling test unless `check` finds nothing in `files`.
#[cfg(test)]
#[track_caller]
fn expect_good(check: Check, files: &[(&str, &str)]) {
    assert_eq!(check(&Repository::of(files)), []);
}

/// Fails the calling test unless `check` finds exactly one thing, at `place` (`file:line`), that mentions `word`.
#[cfg(test)]
#[track_caller]
fn expect_bad(check: Check, files: &[(&str, &str)], place: &str, word: &str) {
    let findings = check(&Repository::of(files));
    let [finding] = findings.as_slice() else {
        panic!("one finding expected, got {findings:#?}")
    };
    let text = finding.to_string();
    assert!(
        text.starts_with(&format!("{place}: ")) && text.contains(word),
        "{text}"
    );
}

//! What storage costs and how soon a server with much in it is there: `waypost-storage SCENARIO`, one line of JSON.
//!
//! `cargo xtask bench store-…` builds and runs it. Exit code 1: a goal was missed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a program for developers, whose figures have few digits"
)]

mod crowd;
mod drain;
mod durable;
mod history;
mod owed;
mod segments;
mod start;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tempfile::TempDir;
use waypost_tests::bench::{option, raise_file_limit};

fn main() -> ExitCode {
    raise_file_limit();
    let scenario = std::env::args().nth(1).unwrap_or_default();
    let figures = match scenario.as_str() {
        "store-start" => start::run(),
        "store-owed" => owed::run(),
        "store-drain" => drain::run(),
        "store-segments" => segments::run(),
        "durable" => durable::run(),
        "history" => history::many_readers(),
        "history-warm" => history::one_warm_reader(),
        "stream-seek" => history::seek(),
        _ => {
            eprintln!(
                "scenarios: store-start, store-owed, store-drain, store-segments, durable, history, history-warm, \
                 stream-seek"
            );
            return ExitCode::from(2);
        }
    };
    println!("{figures}");
    if figures["is_met"] == true {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// A directory of the run's own, on the disk that is to be measured: `--dir`.
fn directory() -> TempDir {
    let parent: PathBuf = option("--dir", std::env::temp_dir());
    tempfile::tempdir_in(parent).expect("a directory")
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Where a server of the run keeps its data.
fn data_dir(directory: &Path) -> PathBuf {
    directory.join("data")
}

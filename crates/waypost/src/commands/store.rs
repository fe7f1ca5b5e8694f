//! `waypost store check|repair|stats|backup|restore`: what a server keeps on disk, looked after.

mod backup;
mod check;
mod repair;
mod restore;
mod stats;

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use waypost_server::config::Config;
use waypost_server::control::{DataDirectory, DataDirectoryError};
use waypost_server::{STORE_DIRECTORY, store_options};
use waypost_store::StoreOptions;
use waypost_store::check::CheckError;
use waypost_store::disk::RealDisk;
use waypost_store::log::{LogError, LogOptions};

use super::administration::Place;
use crate::Failure;

const EXAMPLES: &str = "\
Examples:
  waypost store check                             is everything readable? where not?
  waypost store repair                            whole again, without what is lost
  waypost store stats                             what is on the disk
  waypost store backup /backup/monday             a copy of the running server's store
  waypost store restore /backup/monday --data-dir ./new-data
                                                  a data directory from that copy

What an acknowledgement promises, how large a disk must be, encryption and what to do when a disk
was damaged: docs/storage.md.

Exit codes:
  0 done, 1 not done, 2 a mistake in flags or settings, 3 the store is damaged";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Read all of a store and say where it is damaged; changes nothing
    Check(check::Args),
    /// Make a damaged store whole again and say what is lost
    Repair(repair::Args),
    /// Say what is on the disk
    Stats(stats::Args),
    /// Copy the store of a server, while it serves or not, into an empty directory
    Backup(backup::Args),
    /// Make the store of a data directory from a backup
    Restore(restore::Args),
}

pub fn run(arguments: &Args) -> Result<(), Failure> {
    let config = arguments.place.settings()?;
    match &arguments.action {
        Action::Check(arguments) => check::run(arguments, &config),
        Action::Repair(arguments) => repair::run(arguments, &config),
        Action::Stats(arguments) => stats::run(arguments, &config),
        Action::Backup(arguments) => backup::run(arguments, &config),
        Action::Restore(arguments) => restore::run(arguments, &config),
    }
}

/// The store's directory in a data directory.
fn store_path(data_dir: &Path) -> PathBuf {
    data_dir.join(STORE_DIRECTORY)
}

/// The store of a data directory that no server uses, as long as this lives.
pub(super) struct Opened {
    _taken: DataDirectory,
    pub(super) path: PathBuf,
    pub(super) disk: Arc<RealDisk>,
    pub(super) options: StoreOptions,
}

impl Opened {
    pub(super) fn new(config: &Config) -> Result<Self, Failure> {
        let data_dir = &config.server.data_dir;
        if !store_path(data_dir).is_dir() {
            return Err(no_store(data_dir));
        }
        let taken = take(config)?;
        let path = store_path(taken.path());
        let options = store_options(config).map_err(|error| Failure::usage(error.to_string()))?;
        let disk = RealDisk::open(&path)
            .map_err(|error| Failure::new(format!("cannot open {}: {error}", path.display())))?;
        Ok(Self {
            _taken: taken,
            path,
            disk: Arc::new(disk),
            options,
        })
    }

    fn log_options(&self) -> LogOptions {
        self.options.log.clone()
    }
}

/// Makes the store's directory, where there is none: a store begins in an empty one.
pub(super) fn make_store(config: &Config) -> Result<(), Failure> {
    let taken = take(config)?;
    let path = store_path(taken.path());
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&path)
        .map_err(|error| Failure::new(format!("cannot make {}: {error}", path.display())))
}

fn no_store(data_dir: &Path) -> Failure {
    Failure::new(format!("there is no store in {}", data_dir.display()))
        .hint("name the server's data directory: --data-dir DIR")
}

fn cannot_read(opened: &Opened, error: &CheckError) -> Failure {
    let failure = Failure::new(format!("cannot read {}: {error}", opened.path.display()));
    match error {
        CheckError::Log(LogError::NoKey { .. }) => failure.hint(
            "name the settings that the server has its key from: --config FILE; store.old_key_files for older keys",
        ),
        _ => failure,
    }
}

/// A time for people, to the second.
fn timestamp(wall_ms: u64) -> String {
    let second = i64::try_from(wall_ms / 1_000).unwrap_or(i64::MAX);
    Timestamp::from_second(second).map_or_else(|_| "at no time".to_owned(), |at| at.to_string())
}

pub(super) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// Takes the data directory for this command: no server may use it meanwhile.
fn take(config: &Config) -> Result<DataDirectory, Failure> {
    DataDirectory::open(&config.server.data_dir).map_err(|error| match error {
        DataDirectoryError::InUse { path, process } => {
            let process = process.map_or_else(String::new, |process| format!(" (process {process})"));
            Failure::new(format!(
                "a server uses the data directory {}{process}",
                path.display()
            ))
            .hint("stop it first; of a running server, `waypost store backup` makes a copy to look at")
        }
        error => Failure::new(error.to_string()),
    })
}

/// Bytes done, on a terminal only.
pub(super) fn progress() -> ProgressBar {
    let bar = ProgressBar::new(0);
    match ProgressStyle::with_template(
        "{wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}",
    ) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

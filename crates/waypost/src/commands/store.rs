//! `waypost store check|repair|stats|backup|restore`: what a server keeps on disk, looked after.

mod backup;
mod restore;

use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use waypost_server::config::Config;
use waypost_server::control::{DataDirectory, DataDirectoryError};

use super::administration::Place;
use crate::Failure;

const EXAMPLES: &str = "\
Examples:
  waypost store backup /backup/monday             a copy of the running server's store
  waypost store restore /backup/monday --data-dir ./new-data
                                                  a data directory from that copy

What an acknowledgement promises, how large a disk must be, encryption and what to do when a disk
was damaged: docs/storage.md.

Exit codes:
  0 done, 1 not done, 2 a mistake in flags or settings";

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
    /// Copy the store of a server, while it serves or not, into an empty directory
    Backup(backup::Args),
    /// Make the store of a data directory from a backup
    Restore(restore::Args),
}

pub fn run(arguments: &Args) -> Result<(), Failure> {
    let config = arguments.place.settings()?;
    match &arguments.action {
        Action::Backup(arguments) => backup::run(arguments, &config),
        Action::Restore(arguments) => restore::run(arguments, &config),
    }
}

/// The store's directory in a data directory.
fn store_path(data_dir: &Path) -> PathBuf {
    data_dir.join("store")
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
fn progress() -> ProgressBar {
    let bar = ProgressBar::new(0);
    match ProgressStyle::with_template(
        "{wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}",
    ) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

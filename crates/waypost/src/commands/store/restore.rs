//! `waypost store restore DIR`: the store of a data directory from a backup.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use indicatif::HumanBytes;
use serde_json::json;
use waypost_server::config::Config;
use waypost_server::dictionaries;
use waypost_store::backup::{self, BackupError};
use waypost_store::disk::RealDisk;

use super::{progress, seconds, store_path, take, timestamp};
use crate::Failure;
use crate::commands::output::print;
use crate::failure::interrupted;

const EXAMPLES: &str = "\
Every file is checked against the backup's list; the store is there when all of it is, or not at
all. The server must be stopped, and the data directory must have no store yet. The next start reads
all of it to make its views anew, and appends to new segments only.

Examples:
  waypost store restore /backup/monday --data-dir ./new-data
  waypost store restore /backup/monday --json | jq .bytes

Exit codes:
  0 restored, 1 not restored (nothing is changed), 2 a mistake in flags or settings";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The backup, as `waypost store backup` made it
    directory: PathBuf,
    #[arg(
        long,
        help = "Print one JSON object: store, bytes, files, taken_wall_ms, elapsed_ms"
    )]
    json: bool,
}

pub fn run(arguments: &Args, config: &Config) -> Result<(), Failure> {
    let interrupted = interrupted()?;
    let started = Instant::now();
    let from = &arguments.directory;
    let backup = RealDisk::open(from).map_err(|error| cannot("open", from, &error))?;
    backup::contents(&backup).map_err(|error| unusable(from, &error))?;
    let data_directory = take(config)?;
    let store = store_path(data_directory.path());
    check_empty(&store)?;
    // Under another name until it is whole: half a store looks like one from which messages are gone.
    let unfinished = data_directory.path().join("store.restoring");
    begin(&unfinished).map_err(|error| cannot("make", &unfinished, &error))?;
    let to = RealDisk::open(&unfinished).map_err(|error| cannot("open", &unfinished, &error))?;
    let bar = progress();
    let restored = backup::restore(&backup, &to, &mut |progress| {
        bar.set_length(progress.bytes_total);
        bar.set_position(progress.bytes);
        !interrupted.load(Ordering::Relaxed)
    });
    bar.finish_and_clear();
    let contents = restored.map_err(|error| {
        // Empty by now; if it stays, the next restore takes it away.
        let _ = fs::remove_dir(&unfinished);
        unusable(from, &error)
    })?;
    dictionaries::put_back(&unfinished, data_directory.path())
        .map_err(|error| cannot("put back the dictionaries of", from, &error))?;
    finish(&unfinished, &store).map_err(|error| cannot("finish", &store, &error))?;
    if arguments.json {
        let done = json!({
            "store": store.to_string_lossy(),
            "bytes": contents.bytes(),
            "files": contents.files.len(),
            "taken_wall_ms": contents.taken_wall_ms,
            "elapsed_ms": u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
        return print(&format!("{done}\n"));
    }
    print(&format!(
        "restored {} in {} files to {}, as it was {}, {}\n",
        HumanBytes(contents.bytes()),
        contents.files.len(),
        store.display(),
        timestamp(contents.taken_wall_ms),
        seconds(started.elapsed())
    ))
}

fn cannot(what: &str, path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("cannot {what} {}: {error}", path.display()))
}

fn unusable(from: &Path, error: &BackupError) -> Failure {
    let failure = cannot("restore", from, error);
    match error {
        BackupError::Damaged { .. } => failure.hint("take another backup; nothing is changed"),
        BackupError::NoBackup => {
            failure.hint("name the directory that `waypost store backup DIR` was given")
        }
        BackupError::Newer { .. } => failure.hint("restore it with the Waypost that made it"),
        BackupError::NoRoom { .. } => failure.hint("make room, or take --data-dir on another disk"),
        _ => failure,
    }
}

/// There must be no store yet.
fn check_empty(store: &Path) -> Result<(), Failure> {
    let mut entries = match fs::read_dir(store) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(cannot("read", store, &error)),
    };
    if entries.next().is_none() {
        return Ok(());
    }
    let store = store.display();
    Err(
        Failure::new(format!("there is a store already: {store}")).hint(format!(
            "restore into another --data-dir, or keep the old one: mv '{store}' '{store}.before'"
        )),
    )
}

fn begin(unfinished: &Path) -> io::Result<()> {
    match fs::remove_dir_all(unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    DirBuilder::new().mode(0o700).create(unfinished)
}

fn finish(unfinished: &Path, store: &Path) -> io::Result<()> {
    // Takes the place of an empty directory as well.
    fs::rename(unfinished, store)?;
    let parent = store.parent().unwrap_or(store);
    File::open(parent)?.sync_all()
}

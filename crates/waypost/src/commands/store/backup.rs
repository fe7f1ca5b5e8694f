//! `waypost store backup DIR`: a copy of one moment, of a running server through its socket, else of its files.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf, absolute};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use indicatif::HumanBytes;
use serde_json::{Value, json};
use waypost_server::config::Config;
use waypost_server::dictionaries;
use waypost_store::backup::{self, Original};
use waypost_store::disk::{Disk, DiskFile, RealDisk, RealFile};
use waypost_store::log::is_segment;
use waypost_store::streams::is_stream_file;

use super::{no_store, progress, seconds, store_path, take};
use crate::Failure;
use crate::commands::administration::{Answer, Running, running};
use crate::commands::output::print;
use crate::failure::interrupted;

const EXAMPLES: &str = "\
The copy is of one moment: everything acknowledged before the command is in it. Clients are served
meanwhile. With encryption at rest the copy is encrypted with the same key: keep that elsewhere.
Users and settings are plain files beside the store: copy them as well.

Examples:
  waypost store backup /backup/monday
  waypost store backup \"/backup/$(date +%F)\" --data-dir /var/lib/waypost --json

Exit codes:
  0 complete, 1 not complete (what was copied is removed), 2 a mistake in flags or settings";

/// How often a running server is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(100);

const PATH: &str = "/api/v1/store/backup";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Where the copy goes: a directory that is empty, or not there yet
    directory: PathBuf,
    #[arg(
        long,
        help = "Print one JSON object: directory, bytes, files, taken_wall_ms, elapsed_ms"
    )]
    json: bool,
}

pub fn run(arguments: &Args, config: &Config) -> Result<(), Failure> {
    let directory = absolute(&arguments.directory)
        .map_err(|error| Failure::new(format!("cannot tell where that is: {error}")))?;
    let interrupted = interrupted()?;
    let done = match running(&config.server.data_dir)? {
        Some(running) => ask(&running, &directory, &interrupted)?,
        None => copy(config, &directory, &interrupted)?,
    };
    let number = |name: &str| done.get(name).and_then(Value::as_u64).unwrap_or(0);
    if arguments.json {
        return print(&format!("{done}\n"));
    }
    print(&format!(
        "backed up {} in {} files to {}, {}\n",
        HumanBytes(number("bytes")),
        number("files"),
        arguments.directory.display(),
        seconds(Duration::from_millis(number("elapsed_ms")))
    ))
}

/// Has the running server copy, and waits.
fn ask(running: &Running, directory: &Path, interrupted: &AtomicBool) -> Result<Value, Failure> {
    let ask = |method: &str, body: &str| {
        running.ask(method, PATH, body).map_err(|error| {
            let socket = running.socket.display();
            Failure::new(format!("the server does not answer on {socket}: {error}"))
        })
    };
    let refused = |answer: &Answer| {
        Failure::new(format!("the server makes no backup: {}", answer.error()))
            .hint("give a directory that is empty, or not there yet")
    };
    let body = json!({"directory": directory.to_string_lossy()}).to_string();
    let mut answer = ask("POST", &body)?;
    if answer.status != 202 {
        return Err(refused(&answer));
    }
    let bar = progress();
    loop {
        let state = answer.json();
        let number = |name: &str| state.get(name).and_then(Value::as_u64).unwrap_or(0);
        bar.set_length(number("bytes_total"));
        bar.set_position(number("bytes"));
        match state.get("state").and_then(Value::as_str) {
            Some("running") => {}
            Some("done") => {
                bar.finish_and_clear();
                let keep = ["directory", "bytes", "files", "taken_wall_ms", "elapsed_ms"];
                let value = |name: &str| state.get(name).cloned().unwrap_or_default();
                return Ok(keep
                    .map(|name| (name.to_owned(), value(name)))
                    .into_iter()
                    .collect());
            }
            _ => {
                bar.finish_and_clear();
                return Err(refused(&answer));
            }
        }
        if interrupted.load(Ordering::Relaxed) {
            ask("DELETE", "")?;
        }
        sleep(ASK_EVERY);
        answer = ask("GET", "")?;
    }
}

/// Copies the files of a store that nobody uses.
fn copy(config: &Config, directory: &Path, interrupted: &AtomicBool) -> Result<Value, Failure> {
    let data_dir = &config.server.data_dir;
    if !store_path(data_dir).is_dir() {
        return Err(no_store(data_dir));
    }
    let taken = take(config)?;
    let store = store_path(taken.path());
    let cannot = |what: &str, path: &Path, error: &dyn std::fmt::Display| {
        Failure::new(format!("cannot {what} {}: {error}", path.display()))
    };
    let originals = RealDisk::open(&store)
        .and_then(|disk| originals(&disk))
        .map_err(|error| cannot("read", &store, &error))?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| cannot("make", directory, &error))?;
    let to = RealDisk::open(directory).map_err(|error| cannot("open", directory, &error))?;
    let started = SystemTime::now();
    let wall = started.duration_since(SystemTime::UNIX_EPOCH);
    let wall_ms = wall.map_or(0, |wall| wall.as_millis());
    let bar = progress();
    let dictionaries =
        dictionaries::originals(data_dir).map_err(|error| cannot("read", data_dir, &error))?;
    let contents = backup::back_up_with(
        &originals,
        &dictionaries,
        u64::try_from(wall_ms).unwrap_or(0),
        &to,
        &mut |progress| {
            bar.set_length(progress.bytes_total);
            bar.set_position(progress.bytes);
            !interrupted.load(Ordering::Relaxed)
        },
    )
    .map_err(|error| {
        cannot("back up into", directory, &error)
            .hint("give a directory that is empty, or not there yet")
    })?;
    bar.finish_and_clear();
    let elapsed = started.elapsed().unwrap_or_default();
    Ok(json!({
        "directory": directory.to_string_lossy(),
        "bytes": contents.bytes(),
        "files": contents.files.len(),
        "taken_wall_ms": contents.taken_wall_ms,
        "elapsed_ms": u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
    }))
}

/// The files of a store but its views, whole.
fn originals(disk: &RealDisk) -> io::Result<Vec<Original<RealFile>>> {
    disk.list()?
        .into_iter()
        .filter(|name| is_segment(name) || is_stream_file(name))
        .map(|name| {
            let file = disk.open(&name)?;
            Ok(Original {
                length: file.len()?,
                file: Arc::new(file),
                name,
            })
        })
        .collect()
}

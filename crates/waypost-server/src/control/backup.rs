//! `POST /api/v1/store/backup`: a copy of the store while it is served; one at a time, asked for by the administrator.
//!
//! Copying takes its time, so a request only begins it: `GET` says how far it is, `DELETE` stops it.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::http::StatusCode;
use serde_json::{Value, json};
use waypost_store::backup::{BackupError, Contents, GoOn, Progress};
use waypost_store::disk::RealDisk;

/// How nice the copying thread is: serving comes first, and this is all reading and writing.
const NICENESS: i32 = 19;

/// Copies the store as it is now into an empty directory.
pub type BackUp = Arc<dyn Fn(&RealDisk, GoOn<'_>) -> Result<Contents, BackupError> + Send + Sync>;

/// The backup that goes on, or the last one.
#[derive(Default)]
pub(super) struct Backups {
    last: Arc<Mutex<Option<Backup>>>,
}

struct Backup {
    directory: PathBuf,
    started: Instant,
    progress: Progress,
    is_to_stop: bool,
    outcome: Option<Result<Contents, String>>,
}

/// What is answered: a status and an object.
pub(super) type Answer = (StatusCode, Value);

impl Backups {
    /// Begins a backup in the directory that the body names.
    pub(super) fn begin(&self, body: &[u8], back_up: Option<&BackUp>) -> Answer {
        let Some(back_up) = back_up else {
            let why = "this server keeps no store";
            return refused(StatusCode::NOT_FOUND, why);
        };
        let directory = match directory(body) {
            Ok(directory) => directory,
            Err(why) => return refused(StatusCode::UNPROCESSABLE_ENTITY, why),
        };
        let mut last = self.lock();
        if let Some(other) = last.as_ref().filter(|last| last.outcome.is_none()) {
            let why = format!(
                "a backup into {} goes on already",
                other.directory.display()
            );
            return refused(StatusCode::CONFLICT, why);
        }
        let disk = match open(&directory) {
            Ok(disk) => disk,
            Err(error) => {
                let why = format!("cannot open {}: {error}", directory.display());
                return refused(StatusCode::UNPROCESSABLE_ENTITY, why);
            }
        };
        let this = last.insert(Backup {
            directory,
            started: Instant::now(),
            progress: Progress::default(),
            is_to_stop: false,
            outcome: None,
        });
        let (shared, back_up) = (Arc::clone(&self.last), Arc::clone(back_up));
        let started = std::thread::Builder::new()
            .name("waypost-backup".to_owned())
            .spawn(move || run(&disk, &back_up, &shared));
        if let Err(error) = started {
            this.outcome = Some(Err(format!("cannot start a thread: {error}")));
        }
        (StatusCode::ACCEPTED, this.describe())
    }

    /// How far it is.
    pub(super) fn describe(&self) -> Answer {
        let nothing = || json!({"state": "none"});
        let last = self.lock();
        let description = last.as_ref().map_or_else(nothing, Backup::describe);
        (StatusCode::OK, description)
    }

    /// Stops the one that goes on; what it has copied is removed.
    pub(super) fn stop(&self) -> Answer {
        if let Some(last) = self.lock().as_mut() {
            last.is_to_stop = true;
        }
        self.describe()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Backup>> {
        lock(&self.last)
    }
}

impl Drop for Backups {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Backup {
    fn describe(&self) -> Value {
        let (state, error) = match &self.outcome {
            None => ("running", None),
            Some(Ok(_)) => ("done", None),
            Some(Err(error)) => ("failed", Some(error)),
        };
        let contents = self
            .outcome
            .as_ref()
            .and_then(|outcome| outcome.as_ref().ok());
        json!({
            "state": state,
            "directory": self.directory.to_string_lossy(),
            "bytes": self.progress.bytes,
            "bytes_total": self.progress.bytes_total,
            "elapsed_ms": u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "files": contents.map(|contents| contents.files.len()),
            "taken_wall_ms": contents.map(|contents| contents.taken_wall_ms),
            "error": error,
        })
    }
}

fn lock(last: &Mutex<Option<Backup>>) -> MutexGuard<'_, Option<Backup>> {
    last.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(disk: &RealDisk, back_up: &BackUp, last: &Mutex<Option<Backup>>) {
    // On Linux this is the calling thread's own priority, not the process's.
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        log::warn!("the backup's thread keeps its priority: {error}");
    }
    let outcome = back_up(disk, &mut |progress| {
        let mut last = lock(last);
        last.as_mut().is_some_and(|backup| {
            backup.progress = progress;
            !backup.is_to_stop
        })
    });
    let place = disk.path().display();
    match &outcome {
        Ok(contents) => log::info!("backup into {place}: {} bytes", contents.bytes()),
        Err(error) => log::error!("backup into {place}: {error}"),
    }
    if let Some(backup) = lock(last).as_mut() {
        backup.outcome = Some(outcome.map_err(|error| error.to_string()));
    }
}

/// The directory a request names. Relative to what, the server could not say.
fn directory(body: &[u8]) -> Result<PathBuf, &'static str> {
    let body: Option<Value> = serde_json::from_slice(body).ok();
    let named = body
        .as_ref()
        .and_then(|body| body.get("directory")?.as_str());
    let path = named
        .map(PathBuf::from)
        .ok_or("say where: {\"directory\": \"/absolute/path\"}")?;
    if !path.is_absolute() {
        return Err("the directory must be an absolute path");
    }
    Ok(path)
}

/// The directory, made for its owner alone if it is missing.
fn open(path: &Path) -> std::io::Result<RealDisk> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    RealDisk::open(path)
}

fn refused(status: StatusCode, why: impl Into<String>) -> Answer {
    (status, json!({"error": why.into()}))
}

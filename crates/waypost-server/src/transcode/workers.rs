//! Threads for payloads that are too large for a shard's loop.
//!
//! They take what all shards hand in, first come, first served, and answer through the shard's mailbox. When what waits
//! comes to more than its bound a shard unpacks by itself, so that its publishers are slowed and nothing is lost, and packs nothing
//! large.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use waypost_compress::{Compress, DecompressError, Stages};
use waypost_core::ShardId;

use super::books::Books;
use super::recent::Direction;
use crate::mailbox::{Inbound, Mailbox};
use crate::threads::Threads;

/// How nice these threads are: shards come first, handshakes and passwords after.
const NICENESS: i32 = 15;
/// More of them than this would only take turns with the shards.
const WORKERS_MAX: usize = 4;

/// One payload at work; a shard never gives a number twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct JobId(pub(super) u64);

/// Why a payload keeps its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It is not what it says.
    Damaged,
    /// It would be longer than it may.
    TooLong,
    /// It would not be shorter.
    NotShorter,
}

/// A payload's other form.
pub(crate) type Worked = Result<Vec<u8>, Failure>;

pub(super) struct Job {
    pub(super) id: JobId,
    pub(super) shard: ShardId,
    pub(super) direction: Direction,
    pub(super) stages: Stages,
    pub(super) books: Books,
    pub(super) payload: Vec<u8>,
    /// The most that may come out.
    pub(super) bytes_max: usize,
}

/// Where shards hand in their jobs.
#[derive(Clone, Debug)]
pub(crate) struct Workers {
    jobs: Sender<Job>,
    waiting_bytes: Arc<AtomicUsize>,
    waiting_bytes_max: usize,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:?} of {} bytes", self.id, self.payload.len())
    }
}

impl Workers {
    /// Makes the queue; the receiving end is for [`start_workers`].
    pub(crate) fn new(waiting_bytes_max: usize) -> (Self, Jobs) {
        let (sender, receiver) = channel();
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let jobs = Jobs {
            receiver: Arc::new(Mutex::new(receiver)),
            waiting_bytes: Arc::clone(&waiting_bytes),
        };
        let workers = Self {
            jobs: sender,
            waiting_bytes,
            waiting_bytes_max,
        };
        (workers, jobs)
    }

    /// `false`: too much waits already. One payload is always taken, however large.
    pub(super) fn take(&self, job: Job) -> bool {
        let bytes = job.payload.len();
        let before = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = before == 0 || before + bytes <= self.waiting_bytes_max;
        if fits && self.jobs.send(job).is_ok() {
            return true;
        }
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        false
    }
}

/// The end of the queue that the threads share.
#[derive(Clone, Debug)]
pub(crate) struct Jobs {
    receiver: Arc<Mutex<Receiver<Job>>>,
    waiting_bytes: Arc<AtomicUsize>,
}

impl Jobs {
    /// The next one; `None` when no shard is left.
    fn next(&self) -> Option<Job> {
        let receiver = self.receiver.lock();
        receiver.unwrap_or_else(PoisonError::into_inner).recv().ok()
    }

    fn work(&self, job: &Job) -> Worked {
        let mut stages = job.books.at_work(&job.stages);
        let worked = work(job.direction, &mut stages, &job.payload, job.bytes_max);
        self.waiting_bytes
            .fetch_sub(job.payload.len(), Ordering::Relaxed);
        worked
    }

    /// Does the next one, if there is one.
    #[cfg(test)]
    pub(crate) fn work_once(&self) -> Option<(JobId, Worked)> {
        let job = self.receiver.lock().unwrap().try_recv().ok()?;
        Some((job.id, self.work(&job)))
    }
}

/// Starts the threads, which end with the last shard.
pub(crate) fn start_workers(
    jobs: &Jobs,
    mailboxes: &Arc<[Arc<Mailbox>]>,
    threads: &mut Threads,
) -> io::Result<()> {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    for number in 0..count.min(WORKERS_MAX) {
        let (jobs, mailboxes) = (jobs.clone(), Arc::clone(mailboxes));
        threads.spawn(format!("transcode-{number}"), move || {
            run(&jobs, &mailboxes);
            Ok(())
        })?;
    }
    Ok(())
}

fn run(jobs: &Jobs, mailboxes: &[Arc<Mailbox>]) {
    // On Linux this is the calling thread's own priority, not the process's.
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        log::warn!("a transcoding thread keeps its priority: {error}");
    }
    while let Some(job) = jobs.next() {
        let worked = jobs.work(&job);
        if let Some(mailbox) = mailboxes.get(usize::from(job.shard.0)) {
            // A waker fails only when the shard is gone, and its subscribers with it.
            let _ = mailbox.send([Inbound::Transcoded(job.id, worked)]);
        }
    }
}

/// Packs or unpacks, whoever does it.
pub(super) fn work(
    direction: Direction,
    stages: &mut dyn Compress,
    payload: &[u8],
    bytes_max: usize,
) -> Worked {
    let mut other = Vec::new();
    match direction {
        Direction::Unpack => match stages.decompress(payload, bytes_max, &mut other) {
            Ok(()) => Ok(other),
            Err(DecompressError::TooLong { .. }) => Err(Failure::TooLong),
            Err(_) => Err(Failure::Damaged),
        },
        Direction::Pack(_) => match stages.compress(payload, &mut other) {
            Ok(()) if other.len() <= bytes_max => Ok(other),
            Ok(()) => Err(Failure::NotShorter),
            Err(_) => Err(Failure::Damaged),
        },
    }
}

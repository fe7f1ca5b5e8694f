//! The store: the log and the views as one state machine, in three parts that three threads may own.
//!
//! [`StoreWriter`] appends and syncs. What it appended and synced goes to [`Store::apply`], in order, and from time to time
//! somebody calls [`Store::commit`] and [`Store::retire_step`]: the indexer. Anybody may read.
//!
//! Only what is durable in the log may be applied: then the views never know of anything that a crash takes back.
//! Deliberately not here: threads, clocks, and what becomes of a refusal.

mod back_up;
mod open;
mod read;
mod retire;
mod stats;

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub use self::{
    open::{Recovered, ViewsAtStart},
    read::{QueueEntry, QueueRead},
    retire::Retired,
    stats::{SegmentStats, StoreFigures, StoreStats},
};
use crate::{
    disk::Disk,
    log::{BlockPosition, LogError, LogOptions, LogReader, LogWriter},
    message_cache::{MessageCache, Partitions},
    record::{Damage, MessageId, QueueId, StreamId, Table},
    streams::{Imported, Purge, STREAMS_MAX, Settled, Streams, StreamsOptions},
    views::{self, OwedQueues, Rows, Segments, Views, ViewsError},
};

/// After an error of the views, how long until they are tried again, in milliseconds.
const VIEWS_RETRY_MS: u64 = 1_000;

/// How a store works.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// How the log is written.
    pub log: LogOptions,
    /// What stays in memory of the messages that were read back.
    pub cache: &'static waypost_cache::Strategy,
    /// How much of it.
    pub cache_bytes: u64,
    /// Which of them are kept apart, by a strategy of their own.
    pub partitions: Partitions,
    /// How streams work, and which there are.
    pub streams: StreamsOptions,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            log: LogOptions::default(),
            cache: waypost_cache::default_strategy(),
            cache_bytes: 32 << 20,
            partitions: Partitions::default(),
            streams: StreamsOptions::default(),
        }
    }
}

/// Why the store does not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Because of the log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Because of the views.
    #[error(transparent)]
    Views(#[from] ViewsError),
    /// Because of the disk.
    #[error("the store's files: {0}")]
    Disk(#[from] io::Error),
    /// There are as many streams as there may be.
    #[error(
        "there are {STREAMS_MAX} streams already: take some away that are not configured any more"
    )]
    TooManyStreams,
}

impl StoreError {
    /// Whether room on the disk would help.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Log(error) => error.is_full(),
            Self::Views(error) => error.is_full(),
            Self::Disk(error) => is_full(error),
            Self::TooManyStreams => false,
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Why transactions are not in the log.
pub type Refused = LogError;

/// Blocks that were appended, on their way to the views.
#[derive(Clone, Debug, Default)]
pub struct Appended {
    blocks: Vec<(BlockPosition, Vec<u8>)>,
    wall_ms: u64,
    /// How many bytes were written to the log.
    pub log_bytes: u64,
}

/// The part that appends. There is one.
#[derive(Debug)]
pub struct StoreWriter<D: Disk> {
    log: LogWriter<D>,
}

impl<D: Disk> StoreWriter<D> {
    /// Writes the transactions of some batches. They are durable when [`Self::sync`] has returned.
    pub fn append<B: AsRef<[u8]>>(
        &mut self,
        batches: &[B],
        now_wall_ms: u64,
    ) -> Result<Appended, Refused> {
        let appended = self.log.append(batches, now_wall_ms)?;
        let mut blocks: Vec<(BlockPosition, Vec<u8>)> = Vec::with_capacity(appended.blocks.len());
        for (position, piece) in appended.pieces(batches) {
            match blocks.last_mut() {
                Some((last, records)) if *last == position => records.extend_from_slice(piece),
                _ => blocks.push((position, piece.to_vec())),
            }
        }
        Ok(Appended {
            blocks,
            wall_ms: now_wall_ms,
            log_bytes: appended.bytes,
        })
    }

    /// Makes what was appended durable. After an error nothing appended since the last sync is: append it anew, or
    /// refuse it.
    pub fn sync(&mut self) -> Result<(), Refused> {
        self.log.sync()
    }

    /// Ends the segment, if everything is synced.
    pub fn roll(&mut self) {
        self.log.roll();
    }
}

/// The part that knows what the log comes to.
#[derive(Debug)]
pub struct Store<D: Disk> {
    disk: Arc<D>,
    options: StoreOptions,
    log: LogReader<D>,
    views: Views,
    cache: MessageCache,
    trouble: Mutex<Trouble>,
    retirement: Mutex<retire::Retirement<D>>,
    streams: Streams<D>,
}

/// The views did not work.
#[derive(Clone, Copy, Debug, Default)]
struct Trouble {
    /// They must be opened again.
    is_broken: bool,
    retry_at_ms: u64,
}

impl<D: Disk> Store<D> {
    /// Folds what is durable now into the views. In the order it was appended.
    pub fn apply(&self, appended: &Appended) -> Result<(), Damage> {
        for (position, records) in &appended.blocks {
            self.views
                .apply(position.segment, position.offset, appended.wall_ms, records)?;
            self.streams
                .apply(position.segment, position.offset, appended.wall_ms, records);
        }
        Ok(())
    }

    /// Whether the views should be committed.
    pub fn is_commit_due(&self, now_ms: u64) -> bool {
        now_ms >= lock(&self.trouble).retry_at_ms
            && (self.views.is_due(now_ms) || self.streams.is_behind())
    }

    /// Commits the views: everything that was applied before the call. After an error they go on in memory, the log has
    /// what is not committed, and the next call tries again.
    pub fn commit(&self, now_ms: u64) -> Result<(), StoreError> {
        self.commit_with(&Segments::default(), now_ms)
    }

    /// Streams come first: what the views reflect is in their files.
    fn commit_with(&self, segments: &Segments<'_>, now_ms: u64) -> Result<(), StoreError> {
        match self.streams.settle(Some(&self.log)) {
            Ok(settled) => self.commit_settled(segments, settled, now_ms),
            Err(error) => {
                lock(&self.trouble).retry_at_ms = now_ms.saturating_add(VIEWS_RETRY_MS);
                Err(error.into())
            }
        }
    }

    fn commit_settled(
        &self,
        segments: &Segments<'_>,
        settled: Settled<'_>,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let segments = &Segments {
            streams: &settled.rows,
            ..*segments
        };
        let mut trouble = lock(&self.trouble);
        let committed = self
            .mend(&mut trouble)
            .and_then(|()| Ok(self.views.commit(segments, now_ms)?));
        *trouble = Trouble::default();
        if committed.is_err() {
            trouble.is_broken = true;
            trouble.retry_at_ms = now_ms.saturating_add(VIEWS_RETRY_MS);
            // So that there is something to read meanwhile.
            let _ = self.mend(&mut trouble);
        }
        if committed.is_ok() {
            self.streams.recorded(settled);
        }
        committed
    }

    /// Opens the views again after an error.
    fn mend(&self, trouble: &mut Trouble) -> Result<(), StoreError> {
        if trouble.is_broken {
            let file = self.disk.open(views::FILE)?;
            self.views.reopen(file, self.options.log.key.as_deref())?;
            trouble.is_broken = false;
        }
        Ok(())
    }

    /// The streams.
    pub fn streams(&self) -> &Streams<D> {
        &self.streams
    }

    /// Takes records of a stream away for good. Says whether there is such a stream.
    pub fn purge_stream(
        &self,
        stream: StreamId,
        what: Purge,
        now_ms: u64,
    ) -> Result<bool, StoreError> {
        let Some(settled) = self.streams.purge(&self.log, stream, what)? else {
            return Ok(false);
        };
        self.commit_settled(&Segments::default(), settled, now_ms)?;
        self.streams.maintain_step(now_ms)?;
        Ok(true)
    }

    /// Appends records that come from elsewhere to a stream, durably: all of them or, after an error, none. What enters
    /// meanwhile waits, so give no more than some megabytes at once. Gives the offset of the next record; `None` if there is
    /// no such stream.
    pub fn import<'r>(
        &self,
        stream: StreamId,
        records: impl IntoIterator<Item = Imported<'r>>,
        now_ms: u64,
    ) -> Result<Option<u64>, StoreError> {
        let Some((next, settled)) = self.streams.import(&self.log, stream, records)? else {
            return Ok(None);
        };
        self.commit_settled(&Segments::default(), settled, now_ms)?;
        Ok(Some(next))
    }

    /// The rows of a table as of the last commit: at a start, all.
    pub fn rows(&self, table: Table) -> Result<Rows, StoreError> {
        Ok(self.views.rows(table)?)
    }

    /// The queues that are owed something as of the last commit: at a start, all.
    pub fn queues(&self) -> Result<OwedQueues, StoreError> {
        Ok(self.views.queues()?)
    }

    /// Bytes read of the views' file so far.
    pub fn views_bytes_read(&self) -> u64 {
        self.views.figures().read_bytes
    }

    /// The highest numbers that were ever given, and the latest wall time.
    pub fn highest(&self) -> (MessageId, QueueId, u64) {
        self.views.highest()
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "small numbers")]
mod promises;
#[cfg(test)]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "small numbers"
)]
mod tests;

//! The thread that keeps the views up to date, at low priority.
//!
//! It folds what became durable into the views, in the log's order, then hands on what was asked to be read, so that an
//! answer knows of everything its shard wrote down before. In between it commits the views when they are due, and
//! retires what nobody is owed any more, a step at a time.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::{Duration, Instant};

use waypost_core::ShardId;
use waypost_core::stream::StreamId;
use waypost_store::{Appended, Disk, Store};

use super::clock::WallClock;
use super::figures;
use super::intake::{Ask, Intake, LogAsk};
use super::stream_desk::StreamDesk;
use super::trouble::{Source, Trouble, refusal};
use crate::metrics::Stats;

/// How nice this thread is: shards and the writer come first.
pub(super) const NICENESS: i32 = 10;
/// How often it looks whether a commit or a retirement is due while nothing comes.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What the writer hands on.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Durable, in order.
    pub(super) appended: Vec<Appended>,
    /// How many bytes the intake counts for it.
    pub(super) bytes: usize,
    /// What is to be read once that is applied.
    pub(super) asks: Vec<(ShardId, Ask)>,
}

pub(super) struct Indexer<D: Disk> {
    pub(super) store: Arc<Store<D>>,
    pub(super) work: Receiver<Work>,
    pub(super) reader: Sender<Vec<(ShardId, LogAsk)>>,
    pub(super) streams: Arc<StreamDesk>,
    pub(super) intake: Arc<Intake>,
    pub(super) trouble: Arc<Trouble>,
    pub(super) wall: WallClock,
    pub(super) stats: Arc<Stats>,
}

impl<D: Disk> Indexer<D> {
    /// Runs until the writer has ended, then commits what there is.
    pub(super) fn run(self) -> io::Result<()> {
        // However it ends: nobody else says that no more comes.
        let _end = EndStreams(Arc::clone(&self.streams));
        let mut looked = Instant::now();
        let mut has_more_to_retire = false;
        loop {
            // With something to retire it does not wait: a step, then what came meanwhile.
            let next = if has_more_to_retire {
                self.work.try_recv().map_err(|error| match error {
                    TryRecvError::Empty => RecvTimeoutError::Timeout,
                    TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
                })
            } else {
                self.work.recv_timeout(LOOK_EVERY)
            };
            match next {
                Ok(work) => self.apply(work)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.commit();
                    return Ok(());
                }
            }
            if self.store.is_commit_due(self.wall.now_ms()) {
                self.commit();
            }
            if has_more_to_retire || looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                has_more_to_retire = self.retire() | self.maintain_streams();
                figures::publish(&self.store, self.wall, &self.intake, &self.stats);
            }
        }
    }

    fn apply(&self, work: Work) -> io::Result<()> {
        for appended in &work.appended {
            self.store.apply(appended).map_err(io::Error::other)?;
        }
        self.intake.release(work.bytes);
        let grown = self.store.streams().take_grown();
        if !grown.is_empty() {
            let ids = grown.into_iter().map(|stream| StreamId(stream.0));
            self.streams.changed(ids);
        }
        let (mut of_log, mut of_streams) = (Vec::new(), Vec::new());
        for (shard, ask) in work.asks {
            match ask {
                Ask::Log(ask) => of_log.push((shard, ask)),
                Ask::Stream(ask) => of_streams.push((shard, ask)),
                // Who does not wait any more needs no answer.
                Ask::Own(caught_up) => drop(caught_up.try_send(())),
            }
        }
        if !of_log.is_empty() {
            // The reader lives as long as this sender; if it failed, the server ends.
            let _ = self.reader.send(of_log);
        }
        if !of_streams.is_empty() {
            self.streams.ask(of_streams);
        }
        Ok(())
    }

    fn commit(&self) {
        match self.store.commit(self.wall.now_ms()) {
            Ok(()) => self.trouble.end(Source::Views),
            Err(error) => {
                let refusal = refusal(error.is_full());
                self.trouble
                    .begin(Source::Views, refusal, error.to_string());
            }
        }
    }

    fn retire(&self) -> bool {
        match self.store.retire_step(self.wall.now_ms()) {
            Ok(has_more) => has_more,
            Err(error) => {
                log::warn!("the log's old segments stay for now: {error}");
                false
            }
        }
    }

    /// A step of what retention takes away and compaction writes anew.
    fn maintain_streams(&self) -> bool {
        match self.store.streams().maintain_step(self.wall.now_ms()) {
            Ok(has_more) => has_more,
            Err(error) => {
                log::warn!("what streams do not keep any more stays for now: {error}");
                false
            }
        }
    }
}

/// Tells the stream reader that it is over.
struct EndStreams(Arc<StreamDesk>);

impl Drop for EndStreams {
    fn drop(&mut self) {
        self.0.end();
    }
}

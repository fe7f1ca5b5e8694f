//! Where questions to streams wait for the thread that answers them, and where it hears that a stream grew.
//!
//! Nothing here grows by itself: of questions there are as many as shards ask, of streams as many as there are. So nobody
//! has to wait at the desk, and whoever changes a stream, from whatever thread, says so without being part of the way.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use waypost_core::ShardId;
use waypost_core::stream::{StreamAsk, StreamId};

#[derive(Debug, Default)]
struct Waiting {
    asks: VecDeque<(ShardId, StreamAsk)>,
    /// Streams that grew, or are not as they were, since that was last taken.
    grown: BTreeSet<StreamId>,
    is_ended: bool,
}

/// The desk.
#[derive(Debug, Default)]
pub(super) struct StreamDesk {
    waiting: Mutex<Waiting>,
    came: Condvar,
}

/// What the reader takes at once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// The question that waited longest.
    pub(super) ask: Option<(ShardId, StreamAsk)>,
    /// Streams whose waiting readers are to be answered.
    pub(super) grown: BTreeSet<StreamId>,
    /// Nothing more will come.
    pub(super) is_ended: bool,
}

impl StreamDesk {
    /// Takes questions.
    pub(super) fn ask(&self, asks: impl IntoIterator<Item = (ShardId, StreamAsk)>) {
        self.lock().asks.extend(asks);
        self.came.notify_one();
    }

    /// These streams grew, or are not as they were.
    pub(super) fn changed(&self, streams: impl IntoIterator<Item = StreamId>) {
        self.lock().grown.extend(streams);
        self.came.notify_one();
    }

    /// The indexer has ended.
    pub(super) fn end(&self) {
        self.lock().is_ended = true;
        self.came.notify_one();
    }

    /// Takes what there is; waits for it for `patience`, or until something comes.
    pub(super) fn take(&self, patience: Option<Duration>) -> Taken {
        let mut waiting = self.lock();
        if waiting.asks.is_empty() && waiting.grown.is_empty() && !waiting.is_ended {
            waiting = match patience {
                None => self
                    .came
                    .wait(waiting)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(patience) => {
                    self.came
                        .wait_timeout(waiting, patience)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
        Taken {
            ask: waiting.asks.pop_front(),
            grown: std::mem::take(&mut waiting.grown),
            is_ended: waiting.is_ended,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

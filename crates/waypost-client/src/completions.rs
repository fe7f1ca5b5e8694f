//! One place where the acknowledgements of many messages arrive.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::desk::Published;
use crate::error::PublishError;

/// One place where the acknowledgements of many messages arrive, of one client or of thousands,
/// without a task or an allocation for each: what [`Client::publish_into`](crate::Client::publish_into)
/// is given a key for comes out of [`Self::next`] with it.
///
/// It holds no more than was published into it and not taken out, which the clients' own bounds on
/// what is unfinished keep small for a program that takes as it publishes.
#[derive(Debug, Clone, Default)]
pub struct Completions {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    finished: Mutex<VecDeque<Finished>>,
    arrived: Notify,
}

/// The key of a message, and what became of it.
pub type Finished = (u64, Result<Published, PublishError>);

impl Completions {
    /// Nothing is finished yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next message that is finished, if there is one.
    pub fn try_next(&self) -> Option<Finished> {
        let finished = self.shared.finished.lock();
        finished.unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Waits for the next message that is finished. If the future is dropped, nothing is lost.
    pub async fn next(&self) -> Finished {
        loop {
            if let Some(finished) = self.try_next() {
                return finished;
            }
            self.shared.arrived.notified().await;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        let finished = self.shared.finished.lock();
        finished.unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Waits until something may have arrived, and takes nothing.
    pub(crate) async fn arrived(&self) {
        self.shared.arrived.notified().await;
    }

    pub(crate) fn push(&self, key: u64, outcome: Result<Published, PublishError>) {
        let finished = self.shared.finished.lock();
        finished
            .unwrap_or_else(PoisonError::into_inner)
            .push_back((key, outcome));
        self.shared.arrived.notify_one();
    }
}

//! The state that handles, subscriptions and the driver share, and what wakes them.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::{Notify, watch};

use crate::content::Reading;
use crate::core::Core;
use crate::desk::{Notice, Status};
use crate::outbox::Outbox;

/// Told what happens to a client's connection.
pub(crate) type Observer = Box<dyn Fn(&Notice) + Send + Sync>;

pub(crate) struct Shared {
    core: Mutex<Core>,
    /// There is something for the driver to do.
    pub(crate) driver: Notify,
    /// There is room for messages.
    pub(crate) room: Notify,
    status: watch::Sender<Status>,
    observer: Option<Observer>,
}

impl Shared {
    pub(crate) fn new(mut core: Core, observer: Option<Observer>) -> Self {
        core.desk.is_observed = observer.is_some();
        Self {
            core: Mutex::new(core),
            driver: Notify::new(),
            room: Notify::new(),
            status: watch::Sender::new(Status::Connecting),
            observer,
        }
    }

    /// Works on the state, then wakes whom that concerns.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Core) -> T) -> T {
        // What panicked elsewhere left a state that is whole: no step of it panics between two writes.
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = work(&mut core);
        let after = std::mem::take(&mut core.desk.after);
        drop(core);
        if let Some(status) = after.status {
            self.status.send_replace(status);
        }
        if after.driver {
            self.driver.notify_one();
        }
        if after.room {
            self.room.notify_waiters();
        }
        if let Some(observer) = &self.observer {
            after.notices.iter().for_each(observer);
        }
        outcome
    }

    pub(crate) fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// What clients and subscriptions hold: when the last is dropped the client disconnects.
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) reading: Reading,
    pub(crate) outbox: Option<Arc<Outbox>>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.with(|core| core.disconnect(Instant::now()));
    }
}

//! A start: what an earlier run left in the store is given to the shards' brokers before anybody connects.
//!
//! It is read once, for all shards. Each goes through all rows and its broker takes what is its own, so that another
//! number of shards than before is no matter.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use waypost_core::journal::{MessageId, QueueId, Table};
use waypost_core::rows::RowError;
use waypost_store::{Disk, QueueState, Row, Store, StoreError};

use super::Shard;

/// Rows, or queues, that are given to the shards at once.
const PORTION: usize = 1_024;
/// Portions that may wait for a shard.
const PORTIONS_MAX: usize = 8;

/// A part of what an earlier run left.
#[derive(Clone)]
pub(crate) enum Portion {
    /// Comes first: the last date the store knows, in milliseconds since 1970.
    Begin(u64),
    Rows(Table, Arc<[Row]>),
    Queues(Arc<[(QueueId, QueueState)]>),
    End,
}

/// What a broker could not take up.
#[derive(Debug, thiserror::Error)]
enum RestoreError {
    #[error("the store cannot be read")]
    Incomplete,
    #[error("a row of table {table} was written by a newer server (its version is {version})")]
    Newer { table: u8, version: u8 },
}

/// Reads the store for so many shards.
pub(crate) struct Past {
    shards: Vec<SyncSender<Portion>>,
}

impl Past {
    /// With what each shard gets.
    pub(crate) fn new(shards: u16) -> (Self, Vec<Receiver<Portion>>) {
        let (shards, portions) = (0..shards).map(|_| sync_channel(PORTIONS_MAX)).unzip();
        (Self { shards }, portions)
    }

    /// Gives it to the shards, which take it meanwhile. After an error they do not get the end.
    pub(crate) fn tell<D: Disk>(self, store: &Store<D>) -> Result<(), StoreError> {
        let (_, _, last_wall_ms) = store.highest();
        self.give(&Portion::Begin(last_wall_ms));
        for table in Table::BEFORE_QUEUES {
            self.tell_rows(store, table)?;
        }
        let queues = store.queues()?;
        let queues = queues.map(|queue| queue.map(|(id, state)| (QueueId(id.0), state)));
        self.tell_all(queues, Portion::Queues)?;
        for table in Table::AFTER_QUEUES {
            self.tell_rows(store, table)?;
        }
        self.give(&Portion::End);
        Ok(())
    }

    fn tell_rows<D: Disk>(&self, store: &Store<D>, table: Table) -> Result<(), StoreError> {
        let rows = store.rows(waypost_store::Table(table.0))?;
        self.tell_all(rows, |rows| Portion::Rows(table, rows))
    }

    fn tell_all<T, E>(
        &self,
        all: impl Iterator<Item = Result<T, E>>,
        portion: impl Fn(Arc<[T]>) -> Portion,
    ) -> Result<(), StoreError>
    where
        StoreError: From<E>,
    {
        let mut some = Vec::with_capacity(PORTION);
        for one in all {
            some.push(one?);
            if some.len() == PORTION {
                self.give(&portion(some.drain(..).collect()));
            }
        }
        self.give(&portion(some.into()));
        Ok(())
    }

    fn give(&self, portion: &Portion) {
        for shard in &self.shards {
            // One that has failed takes nothing any more; it has said so.
            let _ = shard.send(portion.clone());
        }
    }
}

impl Shard {
    /// Takes up what an earlier run left that is this shard's.
    pub(crate) fn restore(&mut self, past: &Receiver<Portion>) -> io::Result<()> {
        self.take_up(past).map_err(|error| {
            log::error!("shard {}: {error}", self.id.0);
            io::Error::other(error)
        })?;
        self.send_mail();
        self.publish_stats();
        Ok(())
    }

    fn take_up(&mut self, past: &Receiver<Portion>) -> Result<(), RestoreError> {
        self.now = self.clock.now();
        loop {
            match past.recv().map_err(|_| RestoreError::Incomplete)? {
                Portion::Begin(last_wall_ms) => self.broker.restore_begin(last_wall_ms, self.now),
                Portion::Rows(table, rows) => self.take_up_rows(table, &rows)?,
                Portion::Queues(queues) => {
                    for (queue, state) in &*queues {
                        self.broker.restore_queue(*queue, state.count, state.bytes);
                    }
                }
                Portion::End => {
                    self.broker.restore_end(self.now, &mut self.outlets);
                    return Ok(());
                }
            }
        }
    }

    fn take_up_rows(&mut self, table: Table, rows: &[Row]) -> Result<(), RestoreError> {
        for row in rows {
            let kept = row.message.map(|id| MessageId(id.0));
            let taken = self.broker.restore_row(
                table,
                &row.key,
                &row.value,
                kept,
                self.now,
                &mut self.outlets,
            );
            match taken {
                Ok(()) => {}
                Err(RowError::Version(version)) => {
                    let table = table.0;
                    return Err(RestoreError::Newer { table, version });
                }
                // The rest is served.
                Err(RowError::Malformed) => {
                    self.outlets.counters.store_rows_unreadable += 1;
                    log::error!("a row of table {} is damaged and passed over", table.0);
                }
            }
        }
        Ok(())
    }
}

//! A start: what an earlier run left in the store is given to the shard's broker before anybody connects.
//!
//! Every shard goes through all rows and its broker takes what is its own, so that another number of shards than before
//! is no matter.

use std::io;

use waypost_core::journal::{MessageId, QueueId, Table};
use waypost_core::rows::RowError;
use waypost_store::{Disk, Store, StoreError};

use super::Shard;

/// What a broker could not take up.
#[derive(Debug, thiserror::Error)]
enum RestoreError {
    #[error("the store cannot be read: {0}")]
    Store(#[from] StoreError),
    #[error("a row of table {table} was written by a newer server (its version is {version})")]
    Newer { table: u8, version: u8 },
}

impl Shard {
    /// Takes up what an earlier run left that is this shard's.
    pub(crate) fn restore<D: Disk>(&mut self, store: &Store<D>) -> io::Result<()> {
        self.take_up(store).map_err(|error| {
            log::error!("shard {}: {error}", self.id.0);
            io::Error::other(error)
        })?;
        self.send_mail();
        self.publish_stats();
        Ok(())
    }

    fn take_up<D: Disk>(&mut self, store: &Store<D>) -> Result<(), RestoreError> {
        self.now = self.clock.now();
        let (_, _, last_wall_ms) = store.highest();
        self.broker.restore_begin(last_wall_ms, self.now);
        for table in Table::BEFORE_QUEUES {
            self.take_up_rows(store, table)?;
        }
        for queue in store.queues()? {
            let (queue, state) = queue.map_err(StoreError::from)?;
            self.broker
                .restore_queue(QueueId(queue.0), state.count, state.bytes);
        }
        for table in Table::AFTER_QUEUES {
            self.take_up_rows(store, table)?;
        }
        self.broker.restore_end(self.now, &mut self.outlets);
        Ok(())
    }

    fn take_up_rows<D: Disk>(
        &mut self,
        store: &Store<D>,
        table: Table,
    ) -> Result<(), RestoreError> {
        for row in store.rows(waypost_store::Table(table.0))? {
            let row = row.map_err(StoreError::from)?;
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

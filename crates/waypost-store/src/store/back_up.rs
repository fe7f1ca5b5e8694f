//! A backup of a store at work.

use super::{Store, lock};
use crate::{
    backup::{self, BackupError, Contents, GoOn, Original},
    disk::{Disk, DiskFile},
    log::LogError,
};

impl<D: Disk> Store<D> {
    /// Copies the log and the streams as they are now into an empty directory: everything that was synced before the call is in it. Appending,
    /// reading and retiring go on meanwhile.
    pub fn back_up(
        &self,
        to: &impl Disk,
        now_wall_ms: u64,
        go_on: GoOn<'_>,
    ) -> Result<Contents, BackupError> {
        let originals = self.all_originals()?;
        backup::back_up(&originals, now_wall_ms, to, go_on)
    }

    /// As [`Self::back_up`], with files from elsewhere, which are asked for when those of the store are known: whatever these
    /// lean on is there by then.
    pub fn back_up_with<F: DiskFile>(
        &self,
        beside: impl FnOnce() -> Result<Vec<Original<F>>, BackupError>,
        to: &impl Disk,
        now_wall_ms: u64,
        go_on: GoOn<'_>,
    ) -> Result<Contents, BackupError> {
        let originals = self.all_originals()?;
        let beside = beside()?;
        backup::back_up_with(&originals, &beside, now_wall_ms, to, go_on)
    }

    /// Streams first: what came into the log meanwhile is in the copy of the log, and nothing is retired in between.
    fn all_originals(&self) -> Result<Vec<Original<D::File>>, LogError> {
        let _retirement = lock(&self.retirement);
        let mut originals = self.streams.originals()?;
        originals.extend(self.log.originals()?);
        Ok(originals)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::{
        Batch, MessageId, QueueId, Store, StoreOptions, Table,
        backup::restore,
        disk::{Disk, SimulatedDisk},
        log::LogOptions,
    };

    fn options() -> StoreOptions {
        StoreOptions {
            log: LogOptions {
                segment_bytes: 4_000,
                block_bytes: 200,
                ..LogOptions::default()
            },
            ..StoreOptions::default()
        }
    }

    /// Goal: a backup is a whole store whenever it is taken, while messages come and go and segments are retired. Method:
    /// work, a backup after each round, and after each the restored store beside the one that goes on.
    #[test]
    fn a_backup_at_any_moment_is_a_whole_store() {
        let disk = SimulatedDisk::new(1);
        let (store, mut writer, _) = Store::open(Arc::new(disk.clone()), options(), 1_000).unwrap();
        let mut next = 0;
        let mut retired = false;
        for round in 1..=12 {
            let mut batch = Batch::new();
            for _ in 0..20 {
                next += 1;
                let body: Vec<u8> = (0..150_u8).map(|byte| byte.wrapping_mul(next)).collect();
                let id = MessageId(next.into());
                batch.message(id, u64::MAX, &body);
                batch.owe(id, b"", [QueueId(1), QueueId(2)]);
                batch.end();
                batch.settle(QueueId(1), id);
                if next % 7 != 0 {
                    batch.settle(QueueId(2), id);
                }
                batch.put(Table(1), &[next % 9], &[next]);
                batch.end();
            }
            let appended = writer.append(&[batch.take()], 1_000 * round).unwrap();
            writer.sync().unwrap();
            store.apply(&appended).unwrap();
            store.commit(1_000 * round).unwrap();
            if round % 2 == 0 {
                while store.retire_step(1_000 * round).unwrap() {}
                store.commit(1_000 * round).unwrap();
            }
            let names = disk.list().unwrap();
            retired |= names.iter().any(|name| name.ends_with("kept"));
            let (copy, restored) = (SimulatedDisk::new(2), SimulatedDisk::new(3));
            store.back_up(&copy, 5, &mut |_| true).unwrap();
            restore(&copy, &restored, &mut |_| true).unwrap();
            let restored = Arc::new(restored);
            let (again, _writer, recovered) = Store::open(restored, options(), 9_000_000).unwrap();
            assert_eq!(recovered.damage, []);
            assert_eq!(again.highest().0, store.highest().0);
            for queue in [1, 2].map(QueueId) {
                let all = |store: &Store<SimulatedDisk>| {
                    let read = store.read_queue(queue, 0, 1_000, u64::MAX).unwrap();
                    let entries = read.entries.into_iter();
                    entries
                        .map(|entry| (entry.id, entry.body.unwrap()))
                        .collect::<Vec<_>>()
                };
                assert_eq!(all(&again), all(&store), "round {round}");
            }
            let rows = |store: &Store<SimulatedDisk>| {
                let rows = store.rows(Table(1)).unwrap().map(Result::unwrap);
                let mut rows: Vec<_> = rows.map(|row| (row.key, row.value)).collect();
                rows.sort();
                rows
            };
            assert_eq!(rows(&again), rows(&store), "round {round}");
        }
        assert!(retired, "nothing was retired");
    }
}

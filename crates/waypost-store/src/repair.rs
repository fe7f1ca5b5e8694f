//! Making a damaged store whole again, without what cannot be read.
//!
//! First the log: holes where it is damaged ([`Mended`]). Then what it comes to: queues are owed no more, and rows hold no
//! more, what was in the holes. That is written to the log like everything else. Rows that only a hole had stay as far as
//! the views know them.

use std::{collections::BTreeSet, sync::Arc};

use thiserror::Error;

use crate::{
    check::{self, CheckError, GoOn, Report},
    disk::Disk,
    log::{LogDamage, LogError, Mended},
    record::{Batch, Damage, MessageId, QueueId, Table},
    store::{Store, StoreError, StoreOptions, StoreWriter, ViewsAtStart},
    streams,
};

/// How many messages of a queue are looked at in one go,
const PAGE_MESSAGES: usize = 1_000;
/// and bytes of their contents.
const PAGE_BYTES: u64 = 8 << 20;

/// How many bytes of corrections are gathered before they are written.
const BATCH_BYTES: usize = 1 << 20;

/// What was repaired, and what is lost.
#[derive(Clone, Debug, Default)]
pub struct Repair {
    /// What was damaged, and what was done about it.
    pub mended: Vec<(LogDamage, Mended)>,
    /// Why the views were made again, if they were.
    pub views_made_again: Option<String>,
    /// How many messages are gone that somebody was owed,
    pub messages_lost: u64,
    /// how often they were owed,
    pub debts_lost: u64,
    /// and by how many queues.
    pub queues_concerned: u64,
    /// How many rows are gone because the message they held is.
    pub rows_lost: u64,
}

impl Repair {
    /// Whether there was nothing to repair.
    pub fn is_empty(&self) -> bool {
        self.mended.is_empty()
            && self.views_made_again.is_none()
            && self.debts_lost == 0
            && self.rows_lost == 0
    }
}

/// Why a store was not repaired.
#[derive(Debug, Error)]
pub enum RepairError {
    /// It cannot be looked through. Nothing is changed.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// A hole cannot be made, or a correction not be written. Repairing again goes on from there.
    #[error(transparent)]
    Log(#[from] LogError),
    /// It cannot be opened afterwards.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A correction was not understood.
    #[error("a correction cannot be applied: {0}")]
    Correction(#[from] Damage),
}

/// Repairs a store that nobody uses.
pub fn repair<D: Disk>(
    disk: Arc<D>,
    options: StoreOptions,
    now_wall_ms: u64,
    go_on: GoOn<'_>,
) -> Result<Repair, RepairError> {
    let log_options = options.log.clone();
    let recovery = check::read_all(
        Arc::clone(&disk),
        log_options,
        &mut Report::default(),
        go_on,
    )?;
    let mut mended = recovery.mend()?;
    let checked = streams::check_files(disk.clone(), options.log.clone(), &mut |_| true)?;
    let damage = checked.map(|checked| checked.damage).unwrap_or_default();
    mended.extend(streams::mend_files(&disk, options.log.clone(), damage)?);
    let (store, writer, recovered) = Store::open(disk, options, now_wall_ms)?;
    let mut repair = Repair {
        mended,
        views_made_again: match recovered.views {
            ViewsAtStart::MadeAgain(why) => Some(why),
            ViewsAtStart::Found | ViewsAtStart::New => None,
        },
        ..Repair::default()
    };
    let mut corrections = Corrections {
        store: &store,
        writer,
        batch: Batch::new(),
        now_wall_ms,
    };
    corrections.settle_lost(&mut repair)?;
    corrections.delete_lost(&mut repair)?;
    corrections.write()?;
    store.commit(now_wall_ms)?;
    Ok(repair)
}

/// Takes references to lost messages away.
struct Corrections<'s, D: Disk> {
    store: &'s Store<D>,
    writer: StoreWriter<D>,
    batch: Batch,
    now_wall_ms: u64,
}

impl<D: Disk> Corrections<'_, D> {
    fn settle_lost(&mut self, repair: &mut Repair) -> Result<(), RepairError> {
        let mut lost = BTreeSet::new();
        for queue in self.store.queues()? {
            let (queue, _) = queue.map_err(StoreError::from)?;
            let before = repair.debts_lost;
            let mut after = 0;
            loop {
                let page = self
                    .store
                    .read_queue(queue, after, PAGE_MESSAGES, PAGE_BYTES)?;
                for entry in page.entries.iter().filter(|entry| entry.body.is_none()) {
                    lost.insert(entry.id);
                    repair.debts_lost += 1;
                    self.settle(queue, entry.id)?;
                }
                match page.entries.last() {
                    Some(entry) if !page.is_end => after = entry.place,
                    _ => break,
                }
            }
            repair.queues_concerned += u64::from(repair.debts_lost > before);
        }
        repair.messages_lost = lost.len() as u64;
        Ok(())
    }

    fn delete_lost(&mut self, repair: &mut Repair) -> Result<(), RepairError> {
        for table in (0..=u8::MAX).map(Table) {
            for row in self.store.rows(table)? {
                let row = row.map_err(StoreError::from)?;
                let Some(id) = row.message else { continue };
                if self.store.message(id)?.is_none() {
                    repair.rows_lost += 1;
                    self.batch.delete(table, &row.key);
                    self.end()?;
                }
            }
        }
        Ok(())
    }

    fn settle(&mut self, queue: QueueId, id: MessageId) -> Result<(), RepairError> {
        self.batch.settle(queue, id);
        self.end()
    }

    fn end(&mut self) -> Result<(), RepairError> {
        self.batch.end();
        if self.batch.len() < BATCH_BYTES {
            return Ok(());
        }
        self.write()
    }

    fn write(&mut self) -> Result<(), RepairError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let appended = self.writer.append(&[self.batch.take()], self.now_wall_ms)?;
        self.writer.sync()?;
        self.store.apply(&appended)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{disk::SimulatedDisk, log::LogOptions, views};

    const SESSIONS: Table = Table(1);
    const RETAINED: Table = Table(6);

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

    fn open(disk: &SimulatedDisk) -> (Store<SimulatedDisk>, StoreWriter<SimulatedDisk>) {
        let (store, writer, _) = Store::open(Arc::new(disk.clone()), options(), 1_000).unwrap();
        (store, writer)
    }

    fn body(id: u64) -> Vec<u8> {
        (0..150_u8).map(|byte| byte ^ id.to_le_bytes()[0]).collect()
    }

    /// Sixty messages, each owed to two queues and held by a row, and a row of each of ten sessions.
    fn written(has_views: bool) -> SimulatedDisk {
        let disk = SimulatedDisk::new(1);
        let (store, mut writer) = open(&disk);
        for id in 1..=60_u64 {
            let mut batch = Batch::new();
            batch.message(MessageId(id), u64::MAX, &body(id));
            batch.owe(MessageId(id), b"o", [QueueId(1), QueueId(2)]);
            batch.hold(RETAINED, &id.to_be_bytes(), id, b"", Some(MessageId(id)));
            batch.end();
            if id <= 10 {
                batch.put(SESSIONS, &id.to_be_bytes(), b"session");
                batch.end();
            }
            let appended = writer.append(&[batch.take()], 1_000 + id).unwrap();
            writer.sync().unwrap();
            store.apply(&appended).unwrap();
        }
        store.commit(2_000).unwrap();
        drop((store, writer));
        if !has_views {
            disk.remove(views::FILE).unwrap();
        }
        disk.kill();
        disk
    }

    fn repaired(disk: &SimulatedDisk) -> Repair {
        repair(Arc::new(disk.clone()), options(), 3_000, &mut |_, _| true).unwrap()
    }

    /// Which messages a queue is owed; all of them have their content.
    fn owed(store: &Store<SimulatedDisk>, queue: u64) -> Vec<u64> {
        let read = store
            .read_queue(QueueId(queue), 0, 1_000, u64::MAX)
            .unwrap();
        assert!(read.is_end);
        for entry in &read.entries {
            assert_eq!(entry.body.as_deref(), Some(&body(entry.id.0)[..]));
        }
        read.entries.iter().map(|entry| entry.id.0).collect()
    }

    fn check_whole(disk: &SimulatedDisk, repair: &Repair) {
        disk.kill();
        let report = check::check(Arc::new(disk.clone()), options().log, &mut |_, _| true);
        assert_eq!(report.unwrap().damage, []);
        let (store, writer) = open(disk);
        let left = owed(&store, 1);
        assert_eq!(left, owed(&store, 2));
        assert_eq!(left.len() as u64, 60 - repair.messages_lost);
        let held: Vec<_> = store.rows(RETAINED).unwrap().map(Result::unwrap).collect();
        assert_eq!(held.len(), left.len());
        for row in held {
            assert!(store.message(row.message.unwrap()).unwrap().is_some());
        }
        drop((store, writer));
        disk.kill();
        let again = repaired(disk);
        assert!(again.is_empty(), "{again:?}");
    }

    #[test]
    fn a_sound_store_needs_no_repair() {
        let disk = written(true);
        let repair = repaired(&disk);
        assert!(repair.is_empty(), "{repair:?}");
        check_whole(&disk, &repair);
    }

    #[test]
    fn what_a_damaged_block_had_is_owed_and_held_no_more() {
        let disk = written(true);
        for (name, offset) in [("00000001.log", 1_000), ("00000003.log", 2_000)] {
            assert!(disk.flip_bit(name, offset, 1));
        }
        let repair = repaired(&disk);
        assert_eq!(repair.mended.len(), 2);
        assert!((1..=4).contains(&repair.messages_lost), "{repair:?}");
        assert_eq!(repair.debts_lost, 2 * repair.messages_lost);
        assert_eq!(repair.queues_concerned, 2);
        assert_eq!(repair.rows_lost, repair.messages_lost);
        assert_eq!(repair.views_made_again, None);
        check_whole(&disk, &repair);
        let (store, _writer) = open(&disk);
        let sessions = store.rows(SESSIONS).unwrap().count();
        assert_eq!(sessions, 10, "the views knew them all");
    }

    /// Goal: without views too, the log alone gives a whole store.
    #[test]
    fn views_that_are_lost_as_well_are_made_from_what_is_left() {
        let disk = written(false);
        assert!(disk.flip_bit("00000001.log", 1_000, 1));
        let repair = repaired(&disk);
        assert!(repair.views_made_again.is_some());
        // Who was owed what is in the hole is forgotten with it: nothing hangs, and nothing is counted.
        assert_eq!((repair.debts_lost, repair.rows_lost), (0, 0));
        disk.kill();
        let (store, _writer) = open(&disk);
        let left = owed(&store, 1);
        assert!((56..60).contains(&left.len()), "{left:?}");
        assert_eq!(left, owed(&store, 2));
    }

    #[test]
    fn who_stops_it_while_it_reads_changes_nothing() {
        let disk = written(true);
        assert!(disk.flip_bit("00000001.log", 1_000, 1));
        let before: Vec<_> = disk.list().unwrap();
        let contents: Vec<_> = before.iter().map(|name| disk.content(name)).collect();
        let ended = repair(Arc::new(disk.clone()), options(), 3_000, &mut |_, _| false);
        assert!(matches!(
            ended,
            Err(RepairError::Check(CheckError::Stopped))
        ));
        let after: Vec<_> = before.iter().map(|name| disk.content(name)).collect();
        assert_eq!(after, contents);
    }
}

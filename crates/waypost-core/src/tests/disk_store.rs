//! The real store under a world, on a simulated disk: what is written down goes through the log and the views, and what a
//! crash leaves is what they find.

use std::sync::Arc;

use waypost_store::disk::{Fault, SimulatedDisk};
use waypost_store::log::LogOptions;
use waypost_store::{Batch, Store, StoreOptions, StoreWriter};

use super::store::{Op, Row, Views};
use crate::broker::Random;
use crate::journal::{MessageId, QueueId, QueueRead, ReadEntry, Refusal, Table};

/// How small its segments are, in bytes: so that there are many.
const SEGMENT_BYTES: u64 = 4 << 10;

/// A store on a simulated disk, and what goes wrong there.
pub(in crate::tests) struct DiskStore {
    disk: SimulatedDisk,
    random: Random,
    wall_ms: u64,
    /// None: it could not be opened, or the power went.
    open: Option<Open>,
    /// At which step of the disk the power goes.
    doom: Option<u64>,
}

struct Open {
    store: Store<SimulatedDisk>,
    writer: StoreWriter<SimulatedDisk>,
}

impl std::fmt::Debug for DiskStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskStore")
            .field("steps", &self.disk.steps())
            .field("doom", &self.doom)
            .finish_non_exhaustive()
    }
}

fn options() -> StoreOptions {
    StoreOptions {
        log: LogOptions {
            segment_bytes: SEGMENT_BYTES,
            block_bytes: 512,
            ..LogOptions::default()
        },
        cache_bytes: 2 << 10,
        ..StoreOptions::default()
    }
}

impl DiskStore {
    pub fn new(seed: u64) -> Self {
        let mut disk_store = Self {
            disk: SimulatedDisk::new(seed),
            random: Random::seeded(seed ^ 0x5eed),
            wall_ms: 1_700_000_000_000,
            open: None,
            doom: None,
        };
        disk_store.start();
        disk_store
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.random.next().is_multiple_of(one_in)
    }

    fn start(&mut self) {
        let disk = Arc::new(self.disk.clone());
        if let Ok((store, writer, _)) = Store::open(disk, options(), self.wall_ms) {
            self.open = Some(Open { store, writer });
        }
    }

    /// Whether the power has gone.
    pub fn is_dead(&self) -> bool {
        self.doom.is_some_and(|doom| self.disk.steps() > doom)
    }

    /// Lets the power go within the next steps of the disk.
    pub fn doom(&mut self, within: u64) {
        let step = self.disk.steps() + self.random.next() % within.max(1);
        self.disk.crash_at(step);
        self.doom = Some(step);
    }

    /// Lets some of the next steps of the disk fail: it is full, or takes nothing.
    pub fn trouble(&mut self) {
        let step = self.disk.steps() + self.random.next() % 100;
        let fault = if self.chance(2) {
            Fault::Full
        } else {
            Fault::Write
        };
        self.disk.fail_at(step, fault, 1 + self.random.next() % 60);
    }

    /// Nothing goes wrong any more.
    pub fn heal(&mut self) {
        self.disk.heal();
        self.doom = None;
    }

    /// Writes a transaction and makes it durable, now and then with one that fails first; folds it into the views.
    pub fn write(&mut self, ops: &[Op]) -> Result<(), Refusal> {
        self.wall_ms += 1;
        let now_ms = self.wall_ms;
        let mut batch = Batch::new();
        for op in ops {
            record(&mut batch, op);
        }
        batch.end();
        let records = batch.take();
        let (commits, retires) = (self.chance(12), self.chance(6));
        let Some(Open { store, writer }) = &mut self.open else {
            return Err(Refusal::Failed);
        };
        let mut result = Err(Refusal::Failed);
        for _ in 0..2 {
            let appended = match writer.append(&[&records], now_ms) {
                Ok(appended) => appended,
                Err(error) => {
                    result = Err(refusal(error.is_full()));
                    continue;
                }
            };
            match writer.sync() {
                Ok(()) => {
                    store
                        .apply(&appended)
                        .expect("what was just written is whole");
                    result = Ok(());
                    break;
                }
                Err(error) => result = Err(refusal(error.is_full())),
            }
        }
        if commits {
            let _ = store.commit(now_ms);
        }
        if retires {
            let _ = store.retire_step(now_ms);
        }
        result
    }

    pub fn read(&self, queue: QueueId, after: u64, count_max: u32, bytes_max: u32) -> QueueRead {
        let open = self.open.as_ref().expect("a store that is read is open");
        let queue = waypost_store::QueueId(queue.0);
        for _ in 0..3 {
            // A disk that fails for a while is asked again, as a reader does.
            let read = open
                .store
                .read_queue(queue, after, count_max as usize, bytes_max.into());
            if let Ok(read) = read {
                let entries = read.entries.into_iter().map(|entry| ReadEntry {
                    place: entry.place,
                    id: MessageId(entry.id.0),
                    options: entry.options,
                    body: entry.body,
                });
                return QueueRead {
                    entries: entries.collect(),
                    is_end: read.is_end,
                };
            }
        }
        self.mend(&open.store);
        self.read(QueueId(queue.0), after, count_max, bytes_max)
    }

    /// The disk works again. Views that an error closed are opened by their next commit.
    fn mend(&self, store: &Store<SimulatedDisk>) {
        self.disk.heal();
        store
            .commit(self.wall_ms)
            .expect("a disk that works takes a commit");
    }

    pub fn message(&self, id: MessageId) -> Option<Arc<[u8]>> {
        let open = self.open.as_ref()?;
        let id = waypost_store::MessageId(id.0);
        open.store.message(id).unwrap_or_else(|_| {
            self.mend(&open.store);
            open.store.message(id).unwrap_or_default()
        })
    }

    /// The power went, or only the process died; the store is opened anew, perhaps after a start that failed too.
    pub fn crash(&mut self) {
        self.open = None;
        if self.chance(3) {
            self.disk.kill();
        } else {
            self.disk.crash();
        }
        // What was to come does not.
        self.disk.heal();
        self.doom = None;
        if self.chance(4) {
            self.doom(200);
            self.start();
            self.open = None;
            self.disk.crash();
            self.disk.heal();
            self.doom = None;
        }
        if self.chance(8) {
            // The views can always be made again.
            let _ = waypost_store::Disk::remove(&self.disk, "views.redb");
            let _ = waypost_store::Disk::sync_directory(&self.disk);
        }
        self.start();
        assert!(self.open.is_some(), "the store opens on a disk that works");
    }

    pub fn highest(&self) -> MessageId {
        let open = self.open.as_ref().expect("a store after a start is open");
        MessageId(open.store.highest().0.0)
    }

    /// What is there: every row, every queue, the content of all that is owed or held.
    pub fn views(&self) -> Views {
        let open = self.open.as_ref().expect("open");
        let mut views = Views::default();
        for table in 1..=10 {
            let rows = open.store.rows(waypost_store::Table(table)).expect("rows");
            for row in rows {
                let row = row.expect("a row");
                let id = row.message.map(|id| MessageId(id.0));
                if let Some(id) = id {
                    self.keep(&mut views, id);
                }
                let value: Row = (0, row.value.to_vec(), id);
                views.rows.insert((Table(table), row.key.to_vec()), value);
            }
        }
        for queue in open.store.queues().expect("queues") {
            let (queue, _) = queue.expect("a queue");
            let queue = QueueId(queue.0);
            let mut owed = Vec::new();
            let mut after = 0;
            loop {
                let read = self.read(queue, after, 7, u32::MAX);
                for entry in read.entries {
                    after = entry.place;
                    if let Some(body) = entry.body {
                        views.messages.insert(entry.id, body);
                    }
                    owed.push((entry.place, entry.id, entry.options));
                }
                if read.is_end {
                    break;
                }
            }
            views.queues.insert(queue, owed);
        }
        views
    }

    fn keep(&self, views: &mut Views, id: MessageId) {
        if let Some(body) = self.message(id) {
            views.messages.insert(id, body);
        }
    }
}

fn refusal(is_full: bool) -> Refusal {
    if is_full {
        Refusal::Full
    } else {
        Refusal::Failed
    }
}

fn record(batch: &mut Batch, op: &Op) {
    let message = |id: &MessageId| waypost_store::MessageId(id.0);
    let queue = |id: &QueueId| waypost_store::QueueId(id.0);
    let table = |table: &Table| waypost_store::Table(table.0);
    match op {
        Op::Message(id, expires_wall_ms, body) => {
            batch.message(message(id), *expires_wall_ms, body);
        }
        Op::Owe(id, options, queues) => batch.owe(message(id), options, queues.iter().map(queue)),
        Op::Enter(id, streams) => {
            let streams = streams.iter().map(|id| waypost_store::StreamId(id.0));
            batch.enter(message(id), streams);
        }
        Op::Settle(owed, id) => batch.settle(queue(owed), message(id)),
        Op::EndQueue(ended) => batch.end_queue(queue(ended)),
        Op::Put(to, key, value) => batch.put(table(to), key, value),
        Op::Delete(from, key) => batch.delete(table(from), key),
        Op::Hold(to, key, version, value, id) => {
            batch.hold(table(to), key, *version, value, id.as_ref().map(message));
        }
    }
}

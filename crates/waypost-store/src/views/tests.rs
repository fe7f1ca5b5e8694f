//! The fold against a model: plain maps that forget nothing they should not.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::{prelude::*, test_runner::TestRng};

use super::*;
use crate::{
    disk::{Disk, RealDisk},
    record::{Batch, Table},
};

/// What the operations come to, told the simplest way.
#[derive(Clone, Debug, Default)]
struct Model {
    messages: BTreeMap<u64, (u32, usize)>,
    queues: BTreeMap<u64, VecDeque<(u64, Vec<u8>)>>,
    rows: BTreeMap<(u8, Vec<u8>), ModelRow>,
}

#[derive(Clone, Debug)]
struct ModelRow {
    segment: u32,
    version: Option<u64>,
    value: Vec<u8>,
    id: Option<u64>,
}

impl Model {
    /// What is owed and held, and by segment what lives in it.
    fn live(&self) -> BTreeMap<u32, (u64, u64)> {
        let mut live = BTreeMap::<u32, (u64, u64)>::new();
        let owed = self.queues.values().flatten().map(|(id, _)| *id);
        let held = self.rows.values().filter_map(|row| row.id);
        for id in owed.chain(held).collect::<BTreeSet<_>>() {
            if let Some((segment, _)) = self.messages.get(&id) {
                live.entry(*segment).or_default().0 += 1;
            }
        }
        for row in self.rows.values().filter(|row| !row.is_tombstone()) {
            live.entry(row.segment).or_default().1 += 1;
        }
        live
    }
}

impl ModelRow {
    fn is_tombstone(&self) -> bool {
        self.version.is_some() && self.id.is_none()
    }
}

/// Makes operations that a core could make.
struct Random {
    rng: TestRng,
    next_message: u64,
}

impl Random {
    fn new(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(proptest::test_runner::RngAlgorithm::ChaCha, &bytes);
        Self {
            rng,
            next_message: 1,
        }
    }

    fn below(&mut self, end: u64) -> u64 {
        self.rng.next_u64() % end
    }

    /// One transaction, in a batch and in the model.
    fn transaction(&mut self, batch: &mut Batch, model: &mut Model, segment: u32) {
        match self.below(10) {
            0..=3 => self.publish(batch, model, segment),
            4..=6 => self.settle(batch, model),
            7 => {
                let (table, key) = (self.below(3) as u8, vec![self.below(6) as u8]);
                if self.below(3) == 0 {
                    batch.delete(Table(table), &key);
                    model.rows.remove(&(table, key));
                } else {
                    let value = vec![self.below(256) as u8; self.below(30) as usize];
                    batch.put(Table(table), &key, &value);
                    let row = ModelRow {
                        segment,
                        version: None,
                        value,
                        id: None,
                    };
                    model.rows.insert((table, key), row);
                }
            }
            8 => self.hold(batch, model, segment),
            _ => {
                if self.below(6) == 0 {
                    let queue = self.below(6);
                    batch.end_queue(QueueId(queue));
                    model.queues.remove(&queue);
                }
                // Somebody is owed an older message too.
                let older = model.queues.values().flatten().map(|(id, _)| *id).next();
                if let Some(id) = older {
                    let queue = self.below(6);
                    let owed = model.queues.entry(queue).or_default();
                    if owed.iter().all(|(other, _)| *other != id) {
                        batch.owe(MessageId(id), b"again", [QueueId(queue)]);
                        owed.push_back((id, b"again".to_vec()));
                    }
                }
            }
        }
        batch.end();
    }

    fn publish(&mut self, batch: &mut Batch, model: &mut Model, segment: u32) {
        let id = self.next_message + self.below(3);
        self.next_message = id + 1;
        let body = vec![id as u8; self.below(50) as usize];
        batch.message(MessageId(id), u64::MAX, &body);
        model.messages.insert(id, (segment, body.len()));
        let queues: BTreeSet<u64> = (0..self.below(5)).map(|_| self.below(6)).collect();
        for options in [b"".as_slice(), b"q2"] {
            let some: Vec<u64> = queues
                .iter()
                .copied()
                .filter(|queue| (queue % 2 == 0) == options.is_empty())
                .collect();
            batch.owe(
                MessageId(id),
                options,
                some.iter().map(|queue| QueueId(*queue)),
            );
            for queue in some {
                let owed = model.queues.entry(queue).or_default();
                owed.push_back((id, options.to_vec()));
            }
        }
    }

    fn settle(&mut self, batch: &mut Batch, model: &mut Model) {
        let queue = self.below(6);
        let owed = model.queues.entry(queue).or_default();
        let first = self.below(4) as usize;
        // Mostly one of the first, sometimes what it was never owed.
        let id = match owed.get(first) {
            Some((id, _)) => *id,
            None => self.below(20),
        };
        batch.settle(QueueId(queue), MessageId(id));
        owed.retain(|(other, _)| *other != id);
    }

    fn hold(&mut self, batch: &mut Batch, model: &mut Model, segment: u32) {
        let (table, key) = (9, vec![self.below(4) as u8]);
        let standing = model.rows.get(&(table, key.clone()));
        // Sometimes what comes late; but not so late that what it comes after is forgotten.
        let is_late = standing.is_some_and(|row| !row.is_tombstone()) && self.below(2) == 0;
        let version = standing.map_or(10, |row| row.version.unwrap()) + self.below(4);
        let version = version.saturating_sub(u64::from(is_late) * 3);
        let id = (self.below(3) > 0).then(|| {
            let id = self.next_message;
            self.next_message += 1;
            batch.message(MessageId(id), u64::MAX, b"retained");
            model.messages.insert(id, (segment, 8));
            id
        });
        batch.hold(Table(table), &key, version, b"v", id.map(MessageId));
        if standing.is_none_or(|row| row.version.unwrap() <= version) {
            let row = ModelRow {
                segment,
                version: Some(version),
                value: b"v".to_vec(),
                id,
            };
            model.rows.insert((table, key), row);
        }
    }
}

/// A log that is a list.
#[derive(Default)]
struct List(Vec<(u32, u32, Vec<u8>)>);

impl List {
    fn replay(&self, views: &Views) {
        for (segment, block, records) in &self.0 {
            views.apply(*segment, *block, 1_000, records).unwrap();
        }
    }
}

struct Run {
    directory: tempfile::TempDir,
    key: Option<MasterKey>,
    views: Option<Views>,
    list: List,
    model: Model,
}

impl Run {
    fn new(key: Option<MasterKey>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut run = Self {
            directory,
            key,
            views: None,
            list: List::default(),
            model: Model::default(),
        };
        run.open(FILE);
        run
    }

    fn disk(&self) -> RealDisk {
        RealDisk::open(self.directory.path()).unwrap()
    }

    fn open(&mut self, name: &str) {
        self.views = None;
        let disk = self.disk();
        let file = disk.create(name).or_else(|_| disk.open(name)).unwrap();
        self.views = Some(Views::open(file, self.key.as_ref(), 0).unwrap());
    }

    fn views(&self) -> &Views {
        self.views.as_ref().unwrap()
    }

    fn check(&self) {
        let views = self.views();
        for queue in 0..6 {
            let expected = self.model.queues.get(&queue).cloned().unwrap_or_default();
            let page = views.read(QueueId(queue), 0, usize::MAX, u64::MAX).unwrap();
            let read: Vec<_> = page
                .entries
                .iter()
                .map(|entry| (entry.id.0, entry.options.to_vec()))
                .collect();
            assert_eq!(read, Vec::from(expected), "queue {queue}");
            assert!(page.is_end);
            assert!(page.entries.is_sorted_by(|a, b| a.place < b.place));
            for entry in &page.entries {
                let (segment, bytes) = self.model.messages[&entry.id.0];
                let located = entry.located.unwrap();
                assert_eq!((located.segment, located.bytes as usize), (segment, bytes));
            }
            // And from anywhere on, in pieces.
            let middle = page.entries.get(page.entries.len() / 2);
            if let Some(middle) = middle {
                let rest = views
                    .read(QueueId(queue), middle.place, 2, u64::MAX)
                    .unwrap();
                let after = page
                    .entries
                    .iter()
                    .filter(|entry| entry.place > middle.place);
                let expected: Vec<_> = after.clone().take(2).map(|entry| entry.place).collect();
                let read: Vec<_> = rest.entries.iter().map(|entry| entry.place).collect();
                assert_eq!(read, expected);
                assert_eq!(rest.is_end, after.count() <= 2);
            }
        }
    }

    /// What can be said only when everything is committed.
    fn check_committed(&self) {
        let views = self.views();
        views.commit(&Segments::default(), 0).unwrap();
        self.check();
        let states: BTreeMap<_, _> = views
            .queues()
            .unwrap()
            .map(|queue| {
                queue
                    .map(|(queue, state)| (queue.0, (state.count, state.bytes)))
                    .unwrap()
            })
            .collect();
        let expected: BTreeMap<_, _> = self
            .model
            .queues
            .iter()
            .filter(|(_, owed)| !owed.is_empty())
            .map(|(queue, owed)| {
                let bytes = owed.iter().map(|(id, _)| self.model.messages[id].1 as u64);
                (*queue, (owed.len() as u64, bytes.sum::<u64>()))
            })
            .collect();
        assert_eq!(states, expected);
        for table in [0, 1, 2, 9] {
            let rows: BTreeSet<_> = views
                .rows(Table(table))
                .unwrap()
                .map(|row| {
                    let row = row.unwrap();
                    (
                        row.key.to_vec(),
                        row.value.to_vec(),
                        row.message.map(|id| id.0),
                    )
                })
                .collect();
            let expected: BTreeSet<_> = self
                .model
                .rows
                .iter()
                .filter(|((of, _), row)| *of == table && !row.is_tombstone())
                .map(|((_, key), row)| (key.clone(), row.value.clone(), row.id))
                .collect();
            assert_eq!(rows, expected, "table {table}");
        }
        let live: BTreeMap<_, _> = views
            .segments()
            .into_iter()
            .filter(|(_, figures)| !figures.is_dead())
            .map(|(segment, figures)| (segment, (figures.messages, figures.rows)))
            .collect();
        assert_eq!(live, self.model.live());
        for (segment, figures) in views.segments() {
            assert_eq!(
                figures.is_dead(),
                figures.live_bytes() == 0,
                "segment {segment}"
            );
        }
    }
}

fn play(seed: u64, key: Option<MasterKey>) {
    let mut random = Random::new(seed);
    let mut run = Run::new(key);
    let (mut segment, mut block) = (1, 128);
    for step in 0..60 {
        if random.below(8) == 0 {
            (segment, block) = (segment + 1 + random.below(2) as u32, 128);
        }
        let mut batch = Batch::new();
        for _ in 0..=random.below(12) {
            random.transaction(&mut batch, &mut run.model, segment);
        }
        let records = batch.take();
        run.views().apply(segment, block, 1_000, &records).unwrap();
        run.list.0.push((segment, block, records));
        block += 500;
        match random.below(8) {
            0 | 1 => run.views().commit(&Segments::default(), 0).unwrap(),
            2 => {
                run.open(FILE);
                run.list.replay(run.views());
            }
            _ => {}
        }
        if step % 7 == 0 {
            run.check();
        }
    }
    run.check_committed();
    // Made again from the whole log they are the same.
    run.open("again.redb");
    run.list.replay(run.views());
    run.check();
    run.check_committed();
}

#[test]
fn the_fold_is_what_the_model_says() {
    for seed in 0..60 {
        println!("seed {seed}");
        play(seed, None);
    }
}

#[test]
fn sealed_views_are_what_the_model_says() {
    for seed in 1_000..1_012 {
        println!("seed {seed}");
        play(seed, Some(MasterKey::new([3; 32])));
    }
}

#[test]
fn the_views_file_names_nobody_when_it_is_sealed() {
    for (key, is_sealed) in [(None, false), (Some(MasterKey::new([3; 32])), true)] {
        let run = Run::new(key);
        let mut batch = Batch::new();
        batch.put(Table(1), b"client-aaaa", b"user-bbbb");
        batch.message(MessageId(1), u64::MAX, b"payload-cccc");
        batch.owe(MessageId(1), b"options-dddd", [QueueId(1)]);
        batch.hold(
            Table(6),
            b"topic-eeee",
            1,
            b"value-ffff",
            Some(MessageId(1)),
        );
        batch.end();
        run.views().apply(1, 128, 0, batch.records()).unwrap();
        run.views().commit(&Segments::default(), 0).unwrap();
        let bytes = std::fs::read(run.directory.path().join(FILE)).unwrap();
        let has = |what: &str| bytes.windows(what.len()).any(|at| at == what.as_bytes());
        for name in [
            "client-aaaa",
            "user-bbbb",
            "options-dddd",
            "topic-eeee",
            "value-ffff",
        ] {
            assert_eq!(has(name), !is_sealed, "{name}");
        }
        assert!(!has("payload-cccc"));
    }
}

#[test]
fn views_of_another_key_are_refused() {
    let mut run = Run::new(Some(MasterKey::new([3; 32])));
    run.views = None;
    for key in [None, Some(MasterKey::new([4; 32]))] {
        let file = run.disk().open(FILE).unwrap();
        let refused = Views::open(file, key.as_ref(), 0).unwrap_err();
        assert!(matches!(refused, ViewsError::Other), "{refused}");
    }
}

#[test]
fn what_is_owed_and_settled_between_commits_never_reaches_the_store() {
    let run = Run::new(None);
    let mut batch = Batch::new();
    for id in 1..=100 {
        batch.message(MessageId(id), u64::MAX, b"x");
        batch.owe(MessageId(id), b"", [QueueId(1), QueueId(2)]);
        batch.end();
    }
    for id in 1..=100 {
        batch.settle(QueueId(1), MessageId(id));
        batch.settle(QueueId(2), MessageId(id));
        batch.end();
    }
    run.views().apply(1, 128, 0, batch.records()).unwrap();
    let shared = run.views().shared();
    assert!(shared.active.messages.is_empty());
    assert!(
        shared
            .active
            .queues
            .values()
            .all(|queue| queue.owed.is_empty() && queue.settled.is_empty())
    );
}

#[test]
fn a_commit_is_due_by_count_by_log_and_by_time() {
    let run = Run::new(None);
    assert!(!run.views().is_due(u64::MAX), "nothing happened");
    let mut batch = Batch::new();
    batch.put(Table(1), b"a", b"b");
    batch.end();
    run.views().apply(1, 128, 0, batch.records()).unwrap();
    assert!(!run.views().is_due(LAG_MS_MAX - 1));
    assert!(run.views().is_due(LAG_MS_MAX));
    run.views()
        .commit(&Segments::default(), LAG_MS_MAX)
        .unwrap();
    assert!(!run.views().is_due(u64::MAX));

    // Each is a debt and a message that others know.
    let messages = OVERLAY_ENTRIES_MAX as u64 / 2;
    for (block, (ids, is_due)) in [(1..messages, false), (messages..messages + 1, true)]
        .into_iter()
        .enumerate()
    {
        let mut batch = Batch::new();
        for id in ids {
            batch.owe(MessageId(id), b"", [QueueId(1)]);
        }
        batch.end();
        let block = 129 + u32::try_from(block).unwrap();
        run.views().apply(1, block, 0, batch.records()).unwrap();
        assert_eq!(run.views().is_due(LAG_MS_MAX), is_due);
    }
}

#[test]
fn what_held_a_message_is_remembered_for_two_commits() {
    let run = Run::new(None);
    let views = run.views();
    let say = |block, version, id: Option<u64>| {
        let mut batch = Batch::new();
        if let Some(id) = id {
            batch.message(MessageId(id), u64::MAX, b"x");
        }
        batch.hold(Table(6), b"topic", version, b"", id.map(MessageId));
        batch.end();
        views.apply(1, block, 0, batch.records()).unwrap();
        views.commit(&Segments::default(), 0).unwrap();
        views.rows(Table(6)).unwrap().count()
    };
    assert_eq!(say(128, 1, Some(1)), 1);
    assert_eq!(say(129, 5, None), 0);
    assert_eq!(say(130, 4, Some(2)), 0, "it came late");
    assert!(views.locate(MessageId(2)).unwrap().is_none());
    views.commit(&Segments::default(), 0).unwrap();
    assert_eq!(say(131, 4, Some(3)), 1, "forgotten");
}

//! The fold against a model: plain maps that forget nothing they should not.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::{
    disk::{Disk, RealDisk},
    model::{Model, Random},
    record::{Batch, Table},
};

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
            .filter(|(_, figures)| figures.messages + figures.rows > 0)
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

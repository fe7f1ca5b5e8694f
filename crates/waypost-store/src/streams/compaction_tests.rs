//! Goal: compaction leaves of each key the last record, at its offset, whatever else goes on, and whatever becomes of the
//! disk. Method: a stream as a plain vector beside the real one.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use super::{
    tests::{A, World, read_all},
    *,
};
use crate::{
    MessageId,
    disk::{Disk, Fault},
    model::Random,
};

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

fn compacted() -> World {
    World::new(vec![StreamOptions {
        compact: true,
        ..StreamOptions::named("a")
    }])
}

impl World {
    fn put(&mut self, all: &mut Vec<String>, body: String) {
        self.enter(&[&body]);
        self.now_ms += 1;
        all.push(body);
    }

    fn maintain(&self, now_ms: u64) {
        while self.store.streams().maintain_step(now_ms).unwrap() {}
    }

    /// How many files of streams there are, whole or not.
    fn files(&self) -> u64 {
        let names = self.disk.list().unwrap();
        names
            .iter()
            .filter(|name| name.starts_with("stream-"))
            .count() as u64
    }

    /// Ends the segment that is written: only what is before it is compacted.
    fn seal(&mut self, all: &mut Vec<String>) {
        let id = self.next_message;
        for number in 0..60 {
            self.put(all, format!("fill/{id}/{number}:{}", id * 977 + number));
        }
        self.store.commit(self.now_ms).unwrap();
    }
}

fn key(body: &str) -> &str {
    body.split_once(':').unwrap().0
}

/// The last record of each key, by offset.
fn last_of(all: &[String]) -> Vec<(u64, String)> {
    let last: BTreeMap<&str, usize> = all
        .iter()
        .enumerate()
        .map(|(offset, body)| (key(body), offset))
        .collect();
    let mut last: Vec<_> = last
        .into_values()
        .map(|offset| (offset as u64, all[offset].clone()))
        .collect();
    last.sort();
    last
}

/// Nothing that was read was not written there, and the last of each key was read.
fn hold(read: &[(u64, String)], all: &[String], said: &str) {
    assert!(read.is_sorted_by(|one, other| one.0 < other.0), "{said}");
    for (offset, body) in read {
        assert_eq!(all[*offset as usize], *body, "{said}: {offset}");
    }
    for last in last_of(all) {
        assert!(read.contains(&last), "{said}: {last:?} is gone");
    }
}

#[test]
fn of_each_key_the_last_record_stays_at_its_offset_and_files_get_fewer() {
    let mut world = compacted();
    let mut all = Vec::new();
    for number in 0..600 {
        world.put(&mut all, format!("t/{}:value {number}", number % 5));
    }
    world.seal(&mut all);
    let before = world.store.streams().list(0)[0].clone();
    world.maintain(world.now_ms);
    let after = world.store.streams().list(0)[0].clone();
    assert!(after.segments < before.segments && after.bytes * 2 < before.bytes);
    assert_eq!(after.next, before.next);
    assert_eq!(world.files(), after.segments);
    let read = world.all();
    hold(&read, &all, "");
    // All five keys have their last value in what is compacted.
    let of_t = |read: &[(u64, String)]| read.iter().filter(|it| it.1.starts_with("t/")).count();
    assert_eq!(of_t(&read), 5);
    assert_eq!(after.records, read.len() as u64);
    world.reopen(true);
    assert_eq!(world.all(), read);
    let find = |start| {
        world
            .store
            .streams()
            .find(A, start, Filter::Topic("t/3"), 0)
    };
    assert_eq!(find(Start::Last(1)).unwrap().unwrap().offset, 598);
    assert_eq!(find(Start::Last(2)).unwrap().unwrap().offset, 0);
    assert_eq!(*find(Start::Each(9)).unwrap().unwrap().picked, [598]);
    world.disk.remove(crate::views::FILE).unwrap();
    world.reopen(false);
    assert_eq!(world.all(), read);
    // Again and again: there are never many files.
    for round in 0..20 {
        for number in 0..60 {
            world.put(&mut all, format!("t/{}:round {round} {number}", number % 5));
        }
        world.store.commit(world.now_ms).unwrap();
        world.maintain(world.now_ms);
        hold(&world.all(), &all, "");
    }
    assert!(world.store.streams().list(0)[0].segments < 12);
}

#[test]
fn a_tombstone_takes_what_was_before_it_away_and_goes_a_day_later() {
    let mut world = compacted();
    let mut all = Vec::new();
    for number in 0..50 {
        world.put(&mut all, format!("gone:value {number}"));
    }
    world.put(&mut all, "gone:".to_owned());
    let tombstone_ms = world.now_ms - 1;
    world.seal(&mut all);
    let of_gone = |world: &World, now_ms| {
        let read = read_all(&world.store, 0, Filter::Topic("gone"), now_ms);
        read.into_iter()
            .map(|(offset, _)| offset)
            .collect::<Vec<_>>()
    };
    world.maintain(world.now_ms);
    assert_eq!(of_gone(&world, world.now_ms), [50]);
    world.maintain(tombstone_ms + DAY_MS - 1);
    assert_eq!(of_gone(&world, world.now_ms), [50]);
    world.maintain(tombstone_ms + 2 * DAY_MS);
    assert!(of_gone(&world, world.now_ms).is_empty());
    world.reopen(true);
    assert!(of_gone(&world, world.now_ms).is_empty());
}

/// More keys than a pass has memory for: what does not fit is for the next one.
#[test]
fn any_number_of_keys_is_compacted_in_bounded_memory() {
    let mut world = compacted();
    let mut all = Vec::new();
    for number in 0..900 {
        world.put(&mut all, format!("key/{}:value {number}", number % 200));
    }
    world.seal(&mut all);
    for day in 1..12 {
        world.maintain(world.now_ms + day * DAY_MS);
    }
    let read = world.all();
    hold(&read, &all, "");
    let values = read.iter().filter(|it| it.1.starts_with("key/"));
    assert_eq!(values.count(), 200);
}

/// A block that cannot be read: its segment stays as it is, and so do tombstones, which may stand for what is in it.
#[test]
fn what_is_damaged_is_left_as_it_is() {
    let mut world = compacted();
    let mut all = Vec::new();
    for number in 0..300 {
        world.put(&mut all, format!("t/{}:value {number}", number % 5));
    }
    world.put(&mut all, "t/1:".to_owned());
    world.seal(&mut all);
    world.reopen(false);
    let name = super::segment::file_name(A, 1);
    assert!(world.disk.flip_bit(&name, 700, 3));
    let damaged = world.disk.content(&name);
    world.maintain(world.now_ms + 3 * DAY_MS);
    assert_eq!(world.disk.content(&name), damaged);
    let read = world.all();
    // What is not damaged is compacted all the same.
    assert!(!read.iter().any(|(_, body)| body.ends_with("value 285")));
    assert!(read.iter().any(|(_, body)| body == "t/1:"));
    assert!(read.len() < all.len());
    assert_eq!(world.store.streams().list(0)[0].damaged_blocks, 1);
}

/// Everything at once: entering, commits, retention by count, compaction, and readers that go through again and again.
#[test]
fn readers_read_on_while_records_go_and_files_are_rewritten() {
    for retention_messages in [None, Some(150)] {
        let mut world = World::new(vec![StreamOptions {
            compact: true,
            retention_messages,
            ..StreamOptions::named("a")
        }]);
        let is_over = AtomicBool::new(false);
        let mut all = Vec::new();
        let store = Arc::new(std::mem::replace(&mut world.store, World::one().store));
        let mut read_by = Vec::new();
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..3)
                .map(|reader| {
                    let (store, is_over) = (&store, &is_over);
                    scope.spawn(move || {
                        let mut read = Vec::new();
                        let mut is_last = false;
                        while !is_last {
                            is_last = is_over.load(Ordering::SeqCst);
                            if reader == 2 {
                                let streams = store.streams();
                                let found = streams.find(A, Start::Each(1), Filter::All, 0);
                                let picked = found.unwrap().unwrap().picked;
                                let picks = streams.pick(A, &picked, Filter::All, 0);
                                drop(picks.unwrap().unwrap());
                            }
                            let through = read_all(store, 0, Filter::All, 0);
                            assert!(through.is_sorted_by(|one, other| one.0 < other.0));
                            read = through;
                        }
                        read
                    })
                })
                .collect();
            for number in 0..1_500_u64 {
                let body = format!("t/{}:value {number}", number % 7);
                let mut batch = crate::Batch::new();
                batch.message(MessageId(number + 1), u64::MAX, body.as_bytes());
                batch.enter(MessageId(number + 1), [A]);
                batch.end();
                let appended = world
                    .writer
                    .append(&[batch.take()], 1_000 + number)
                    .unwrap();
                world.writer.sync().unwrap();
                store.apply(&appended).unwrap();
                all.push(body);
                if number % 20 == 0 {
                    store.commit(number).unwrap();
                }
                let _ = store.streams().maintain_step(number).unwrap();
            }
            is_over.store(true, Ordering::SeqCst);
            read_by.extend(readers.into_iter().map(|reader| reader.join().unwrap()));
        });
        for read in read_by {
            hold(&read, &all, "");
        }
        while store.streams().maintain_step(9_000).unwrap() {}
        let info = store.streams().list(0)[0].clone();
        assert!(info.segments < 12, "{info:?}");
        assert!(info.records < 400, "{info:?}");
    }
}

/// The power goes, or the disk fails, at any step of a rewriting: nothing is lost.
#[test]
fn a_crash_or_an_error_in_compaction_loses_nothing() {
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let mut world = compacted();
        let mut all = Vec::new();
        for round in 0..6 {
            for _ in 0..random.below(120) {
                let (key, value) = (random.below(9), random.below(1_000));
                world.put(&mut all, format!("t/{key}:{value}"));
            }
            world.store.commit(world.now_ms).unwrap();
            let step = world.disk.steps() + random.below(60);
            let is_crash = random.below(2) == 0;
            if is_crash {
                world.disk.crash_at(step);
            } else {
                let fault = [Fault::Io, Fault::Full, Fault::Write][random.below(3) as usize];
                world.disk.fail_at(step, fault, 1 + random.below(3));
            }
            for _ in 0..20 {
                let _ = world.store.streams().maintain_step(world.now_ms);
                world.now_ms += 61_000;
            }
            if is_crash {
                world.disk.crash();
            }
            world.disk.heal();
            let said = format!("seed {seed}, round {round}, crash {is_crash}");
            if is_crash {
                if random.below(3) == 0 {
                    let _ = world.disk.remove(crate::views::FILE);
                }
                world.reopen(false);
            }
            hold(&world.all(), &all, &said);
        }
        world.reopen(true);
        hold(&world.all(), &all, "in the end");
        assert_eq!(world.files(), world.store.streams().list(0)[0].segments);
    }
}

/// Keys are what the message says, else its topic.
#[test]
fn a_key_of_its_own_counts_instead_of_the_topic() {
    let described = Described {
        topic: "t",
        key: Some("k"),
        is_tombstone: false,
    };
    assert_eq!(described.key(), "k");
    let described = Described {
        key: None,
        ..described
    };
    assert_eq!(described.key(), "t");
}

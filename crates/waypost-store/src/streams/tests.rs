//! Goal: offsets are dense, never change and never come twice, and what was synced is there, whatever becomes of the
//! process, the views or the disk. Method: a stream as a plain vector beside the real one.

use std::sync::Arc;

use super::*;
use crate::{
    Batch, MessageId, Store, StoreOptions, StoreWriter,
    disk::{Fault, SimulatedDisk},
    log::LogOptions,
    model::Random,
};

/// Bodies are a topic, a colon and the rest.
fn describe(body: &[u8]) -> Option<Described<'_>> {
    let text = std::str::from_utf8(body).ok()?;
    let (topic, rest) = text.split_once(':')?;
    Some(Described {
        topic,
        key: None,
        is_tombstone: rest.is_empty(),
    })
}

fn options(configured: Vec<StreamOptions>) -> StoreOptions {
    StoreOptions {
        log: LogOptions {
            segment_bytes: 4_000,
            block_bytes: 300,
            ..LogOptions::default()
        },
        streams: StreamsOptions {
            describe,
            configured,
            segment_bytes_max: 1_000,
            block_bytes: 200,
            cache_bytes: 2_000,
            tables_bytes: 4_000,
            ..StreamsOptions::default()
        },
        ..StoreOptions::default()
    }
}

pub(super) const A: StreamId = StreamId(1);

pub(super) struct World {
    pub disk: SimulatedDisk,
    pub options: StoreOptions,
    pub store: Store<SimulatedDisk>,
    pub writer: StoreWriter<SimulatedDisk>,
    pub next_message: u64,
    pub now_ms: u64,
}

impl World {
    pub fn new(configured: Vec<StreamOptions>) -> Self {
        let disk = SimulatedDisk::new(7);
        let options = options(configured);
        let (store, writer, _) =
            Store::open(Arc::new(disk.clone()), options.clone(), 1_000).unwrap();
        Self {
            disk,
            options,
            store,
            writer,
            next_message: 1,
            now_ms: 1_000,
        }
    }

    pub fn one() -> Self {
        Self::new(vec![StreamOptions::named("a")])
    }

    /// Each a transaction; all of one stamp.
    pub fn enter(&mut self, bodies: &[&str]) {
        let mut batch = Batch::new();
        for body in bodies {
            let id = MessageId(self.next_message);
            self.next_message += 1;
            batch.message(id, u64::MAX, body.as_bytes());
            batch.enter(id, [A]);
            batch.end();
        }
        let appended = self.writer.append(&[batch.take()], self.now_ms).unwrap();
        self.writer.sync().unwrap();
        self.store.apply(&appended).unwrap();
    }

    pub fn enter_numbered(&mut self, range: std::ops::Range<u64>) {
        for number in range {
            self.enter(&[&format!("t/{}:body {number}", number % 5)]);
            self.now_ms += 10;
        }
    }

    pub fn reopen(&mut self, is_crash: bool) {
        if is_crash {
            self.disk.crash();
        } else {
            self.disk.kill();
        }
        let opened = Store::open(
            Arc::new(self.disk.clone()),
            self.options.clone(),
            self.now_ms,
        );
        let (store, writer, recovered) = opened.unwrap();
        assert_eq!(recovered.damage, []);
        (self.store, self.writer) = (store, writer);
    }

    pub fn all(&self) -> Vec<(u64, String)> {
        read_all(&self.store, 0, Filter::All, self.now_ms)
    }
}

pub(super) fn read_all<D: Disk>(
    store: &Store<D>,
    from: u64,
    filter: Filter<'_>,
    now_ms: u64,
) -> Vec<(u64, String)> {
    let mut all = Vec::new();
    let (mut offset, mut stuck) = (from, 0);
    loop {
        let read = store.streams().read(A, offset, filter, (7, 1_000), now_ms);
        let read = read.unwrap().unwrap();
        assert!(read.next >= offset);
        for record in &read.records {
            assert!((offset..read.next).contains(&record.offset));
            let body = String::from_utf8(record.body().to_vec()).unwrap();
            all.push((record.offset, body));
        }
        // Something may come between the look and the answer.
        stuck = if read.next > offset { 0 } else { stuck + 1 };
        assert!(read.is_end || stuck < 1_000, "stuck at {offset}");
        offset = read.next;
        if read.is_end {
            return all;
        }
    }
}

pub(super) fn expected(range: std::ops::Range<u64>) -> Vec<(u64, String)> {
    range
        .map(|number| (number, format!("t/{}:body {number}", number % 5)))
        .collect()
}

#[test]
fn what_enters_is_read_back_at_dense_offsets_from_memory_and_from_files() {
    let mut world = World::one();
    world.enter_numbered(0..200);
    assert_eq!(world.all(), expected(0..200));
    world.store.commit(world.now_ms).unwrap();
    assert_eq!(world.all(), expected(0..200));
    world.enter_numbered(200..230);
    assert_eq!(world.all(), expected(0..230));
    assert!(world.store.streams().list(0)[0].segments > 2);
    assert_eq!(world.store.streams().take_grown(), [A]);
    assert_eq!(world.store.streams().take_grown(), []);
}

#[test]
fn offsets_stay_over_restarts_crashes_and_lost_views() {
    let mut world = World::one();
    let mut next = 0;
    for round in 0..24 {
        world.enter_numbered(next..next + 17);
        next += 17;
        if round % 3 == 0 {
            world.store.commit(world.now_ms).unwrap();
        }
        while round % 4 == 1 && world.store.retire_step(world.now_ms).unwrap() {}
        world.reopen(round % 2 == 0);
        assert_eq!(world.all(), expected(0..next), "round {round}");
        if round % 5 == 4 {
            world.disk.remove(crate::views::FILE).unwrap();
            world.reopen(false);
            assert_eq!(
                world.all(),
                expected(0..next),
                "round {round}, without views"
            );
        }
    }
}

#[test]
fn reading_begins_by_offset_time_last_and_each() {
    let mut world = World::one();
    world.enter_numbered(0..150);
    world.store.commit(world.now_ms).unwrap();
    world.enter_numbered(150..203);
    let streams = world.store.streams();
    let find = |start, filter: Filter<'_>| {
        let found = streams.find(A, start, filter, world.now_ms);
        let found = found.unwrap().unwrap();
        (found.picked.to_vec(), found.offset)
    };
    for offset in [0, 1, 99, 149, 150, 202, 203, 500] {
        let none = (Vec::new(), offset);
        assert_eq!(find(Start::Offset(offset), Filter::All), none);
        // The record with this offset entered at 1,000 + 10 times its offset.
        let at = find(Start::Time(1_000 + 10 * offset), Filter::All).1;
        assert_eq!(at, offset.min(203));
        let before = find(Start::Time(991 + 10 * offset), Filter::All).1;
        assert_eq!(before, offset.min(203));
    }
    for last in [1, 2, 50, 53, 54, 150, 203, 204, 9_999] {
        let first = 203_u64.saturating_sub(last);
        assert_eq!(find(Start::Last(last), Filter::All).1, first);
    }
    let third = Filter::Topic("t/3");
    // 198, 193, 188, …, 3.
    assert_eq!(find(Start::Last(1), third).1, 198);
    assert_eq!(find(Start::Last(20), third).1, 103);
    assert_eq!(find(Start::Last(1_000), third).1, 0);
    let of_two = |topic: &str| topic == "t/3" || topic == "t/4";
    let two = Filter::Topics(&of_two);
    assert_eq!(find(Start::Last(3), two).1, 194);
    assert_eq!(find(Start::Each(2), two), (vec![193, 194, 198, 199], 203));
    let (picked, _) = find(Start::Each(1), Filter::All);
    assert_eq!(picked, [198, 199, 200, 201, 202]);
    let read = streams.pick(A, &[3, 150, 151, 202, 203], Filter::All, 0);
    let offsets: Vec<u64> = read
        .unwrap()
        .unwrap()
        .records
        .iter()
        .map(|record| record.offset)
        .collect();
    assert_eq!(offsets, [3, 150, 151, 202]);
    let narrow = read_all(&world.store, 0, third, world.now_ms);
    let all = expected(0..203);
    let meant: Vec<_> = all
        .into_iter()
        .filter(|(offset, _)| offset % 5 == 3)
        .collect();
    assert_eq!(narrow, meant);
}

/// A topic that is in one block of many is found by what is written down of topics, and nothing else is read for it.
#[test]
fn a_rare_topic_is_found_without_reading_everything() {
    let mut world = World::one();
    world.enter_numbered(0..40);
    world.enter(&["rare:one"]);
    world.enter_numbered(41..400);
    world.store.commit(world.now_ms).unwrap();
    let streams = world.store.streams();
    let found = streams.find(A, Start::Last(1), Filter::Topic("rare"), 0);
    assert_eq!(found.unwrap().unwrap().offset, 40);
    let before = world.disk.steps();
    streams
        .find(A, Start::Last(1), Filter::Topic("rare"), 0)
        .unwrap();
    let narrow = world.disk.steps() - before;
    let before = world.disk.steps();
    let never = |topic: &str| topic == "never" && topic.len() > 9;
    assert_eq!(read_all(&world.store, 0, Filter::All, 0).len(), 400);
    let whole = world.disk.steps() - before;
    assert!(narrow * 3 < whole, "{narrow} steps against {whole}");
    assert!(read_all(&world.store, 0, Filter::Topics(&never), 0).is_empty());
}

/// What stays in memory of streams is what the options say, and tells what it was good for.
#[test]
fn blocks_are_kept_by_the_strategy_that_is_asked_for() {
    let mut world = World::one();
    world.options.streams.cache = waypost_cache::find("sieve").unwrap();
    world.options.streams.cache_bytes = 1 << 20;
    world.enter_numbered(0..100);
    world.store.commit(world.now_ms).unwrap();
    world.reopen(false);
    for _ in 0..2 {
        assert_eq!(read_all(&world.store, 0, Filter::All, 0).len(), 100);
    }
    let figures = world.store.figures().unwrap();
    let streams = figures.cache_partitions.last().unwrap();
    assert_eq!((&*streams.name, streams.strategy), ("streams", "sieve"));
    assert!(streams.counters.hits > 0 && streams.counters.misses > 0);
    assert!(streams.bytes > 5_000, "{}", streams.bytes);
}

#[test]
fn retention_by_count_age_and_bytes_is_exact_to_readers_and_files_go() {
    let with = |change: fn(&mut StreamOptions)| {
        let mut options = StreamOptions::named("a");
        change(&mut options);
        let mut world = World::new(vec![options]);
        world.enter_numbered(0..300);
        world.store.commit(world.now_ms).unwrap();
        let before = world.all();
        let segments = world.store.streams().list(world.now_ms)[0].segments;
        while world.store.streams().maintain_step(world.now_ms).unwrap() {}
        assert!(world.store.streams().list(world.now_ms)[0].segments < segments);
        world
            .store
            .streams()
            .find(A, Start::Last(1_000_000), Filter::All, world.now_ms)
            .unwrap();
        (before, world)
    };
    let (before, world) = with(|options| options.retention_messages = Some(77));
    assert_eq!(before, expected(223..300));
    assert_eq!(world.all(), expected(223..300));
    let info = &world.store.streams().list(world.now_ms)[0];
    assert_eq!((info.first, info.next, info.records), (223, 300, 77));
    let (before, world) = with(|options| options.retention_ms = Some(500));
    // Now is 4,000: the last fifty are not older than 500 ms.
    assert_eq!(before, expected(250..300));
    assert_eq!(world.all(), expected(250..300));
    let (_, mut world) = with(|options| options.retention_bytes = Some(4_000));
    let info = &world.store.streams().list(world.now_ms)[0];
    let kept = world.all();
    assert_eq!(kept, expected(info.first..300));
    assert!(kept.len() > 50 && kept.len() < 200, "{}", kept.len());
    world.reopen(true);
    while world.store.streams().maintain_step(world.now_ms).unwrap() {}
    assert!(world.all().len() <= kept.len());
}

#[test]
fn what_is_purged_stays_gone_without_the_views_too() {
    let mut world = World::one();
    world.enter_numbered(0..100);
    let purge = Purge::Before(60);
    assert!(world.store.purge_stream(A, purge, world.now_ms).unwrap());
    assert_eq!(world.all(), expected(60..100));
    world.enter_numbered(100..120);
    let purge = Purge::BeforeTime(1_000 + 700);
    assert!(world.store.purge_stream(A, purge, world.now_ms).unwrap());
    for without_views in [false, true] {
        if without_views {
            world.disk.remove(crate::views::FILE).unwrap();
        }
        world.reopen(false);
        assert_eq!(world.all(), expected(70..120));
    }
    assert!(
        world
            .store
            .purge_stream(A, Purge::All, world.now_ms)
            .unwrap()
    );
    assert_eq!(world.all(), []);
    world.enter_numbered(120..125);
    world.reopen(true);
    assert_eq!(world.all(), expected(120..125));
    let none = StreamId(99);
    assert!(!world.store.purge_stream(none, Purge::All, 0).unwrap());
}

#[test]
fn imports_keep_offsets_and_times_and_are_whole_or_not_there() {
    let mut world = World::one();
    let bodies: Vec<String> = (0..90_u64)
        .map(|number| format!("t/{}:body {number}", number % 5))
        .collect();
    let records = |range: std::ops::Range<usize>| {
        bodies[range.clone()]
            .iter()
            .zip(range)
            .map(|(body, number)| Imported {
                offset: Some(number as u64),
                wall_ms: 10 * number as u64,
                expires_wall_ms: u64::MAX,
                body: body.as_bytes(),
            })
            .collect::<Vec<_>>()
    };
    let next = world.store.import(A, records(0..40), 0).unwrap();
    assert_eq!(next, Some(40));
    // The disk fails in the middle: nothing of it is there, and the next goes on where it began.
    world.disk.fail_at(world.disk.steps() + 2, Fault::Write, 3);
    assert!(world.store.import(A, records(40..90), 0).is_err());
    world.disk.heal();
    assert_eq!(world.all(), expected(0..40));
    assert_eq!(world.store.import(A, records(40..90), 0).unwrap(), Some(90));
    assert_eq!(world.all(), expected(0..90));
    let at = world
        .store
        .streams()
        .find(A, Start::Time(555), Filter::All, 0);
    assert_eq!(at.unwrap().unwrap().offset, 56);
    world.reopen(true);
    world.enter_numbered(90..99);
    assert_eq!(world.all(), expected(0..99));
    assert_eq!(world.store.import(StreamId(9), [], 0).unwrap(), None);
}

/// A full disk, a sync that fails: offsets stay as they were given, and the log has what the files have not.
#[test]
fn what_cannot_be_written_comes_from_the_log_with_the_same_offsets() {
    for fault in [Fault::Full, Fault::Io, Fault::Write] {
        let mut world = World::one();
        world.enter_numbered(0..50);
        world.store.commit(world.now_ms).unwrap();
        for round in 0..40 {
            let next = 50 + round * 10;
            let mut batch = Batch::new();
            for number in next..next + 10 {
                let id = MessageId(1_000 + number);
                batch.message(
                    id,
                    u64::MAX,
                    format!("t/{}:body {number}", number % 5).as_bytes(),
                );
                batch.enter(id, [A]);
                batch.end();
            }
            let appended = world.writer.append(&[batch.take()], 9_000).unwrap();
            world.writer.sync().unwrap();
            world
                .disk
                .fail_at(world.disk.steps() + round % 7, fault, 1 + round % 3);
            world.store.apply(&appended).unwrap();
            let _ = world.store.commit(9_000);
            world.disk.heal();
            world.store.commit(9_000).unwrap();
            assert_eq!(
                world.all(),
                expected(0..next + 10),
                "{fault:?}, round {round}"
            );
        }
        assert!(world.store.figures().unwrap().streams_fell_behind > 0);
        world.reopen(true);
        assert_eq!(world.all(), expected(0..450));
        world.disk.remove(crate::views::FILE).unwrap();
        world.reopen(false);
        assert_eq!(world.all(), expected(0..450));
    }
}

#[test]
fn a_damaged_block_is_passed_over_and_counted() {
    let mut world = World::one();
    world.enter_numbered(0..100);
    world.store.commit(world.now_ms).unwrap();
    world.reopen(false);
    let name = super::segment::file_name(A, 1);
    assert!(world.disk.flip_bit(&name, 700, 3));
    for _ in 0..2 {
        let read = world.all();
        assert!(read.len() < 100 && read.len() > 70, "{}", read.len());
        assert!(read.iter().all(|record| expected(0..100).contains(record)));
        assert_eq!(world.store.streams().list(0)[0].damaged_blocks, 1);
    }
    // A segment without a table of its blocks.
    let mut world = World::one();
    world.enter_numbered(0..50);
    world.store.commit(world.now_ms).unwrap();
    world.reopen(false);
    assert!(world.disk.flip_bit(&name, 500, 3));
    let read = world.all();
    assert!(read.len() < 50 && read.len() > 20, "{}", read.len());
    assert_eq!(world.store.streams().list(0)[0].damaged_blocks, 1);
}

#[test]
fn a_stream_keeps_its_number_and_a_forgotten_one_does_not_give_it_away() {
    let named = |names: &[&str]| {
        names
            .iter()
            .map(|name| StreamOptions::named(*name))
            .collect::<Vec<_>>()
    };
    let mut world = World::new(named(&["a", "b", "c"]));
    let streams = world.store.streams();
    let ids =
        |numbers: Vec<(String, StreamId)>| numbers.iter().map(|(_, id)| id.0).collect::<Vec<_>>();
    assert_eq!(ids(streams.configure(&named(&["c", "a"])).unwrap()), [3, 1]);
    assert!(!streams.forget("a").unwrap());
    assert!(streams.forget("b").unwrap());
    assert!(!streams.forget("b").unwrap());
    assert_eq!(ids(streams.configure(&named(&["c", "b"])).unwrap()), [3, 4]);
    streams.configure(&[]).unwrap();
    assert!(streams.forget("b").unwrap());
    world.options.streams.configured = named(&["b", "a"]);
    world.reopen(true);
    world.reopen(false);
    let streams = world.store.streams();
    let listed: Vec<_> = streams
        .list(0)
        .into_iter()
        .map(|info| (info.id.0, info.name, info.is_configured))
        .collect();
    let expect = [(1, "a", true), (3, "c", false), (5, "b", true)];
    assert_eq!(
        listed,
        expect.map(|(id, name, is)| (id, name.to_owned(), is))
    );
}

#[test]
fn an_encrypted_store_shows_neither_names_nor_topics_nor_bodies() {
    let mut options = options(vec![StreamOptions::named("secret-name")]);
    let key = waypost_encrypt::MasterKey::new([5; 32]);
    options.log.key = Some(Arc::new(key));
    let disk = SimulatedDisk::new(1);
    let (store, writer, _) = Store::open(Arc::new(disk.clone()), options.clone(), 1).unwrap();
    let mut world = World {
        disk,
        options,
        store,
        writer,
        next_message: 1,
        now_ms: 1_000,
    };
    world.enter_numbered(0..300);
    world.store.commit(0).unwrap();
    for name in world.disk.list().unwrap() {
        let bytes = world.disk.content(&name);
        for word in [b"secret-name".as_slice(), b"body 7", b"t/3"] {
            assert!(
                !bytes.windows(word.len()).any(|part| part == word),
                "{name}"
            );
        }
    }
    world.reopen(true);
    assert_eq!(world.all(), expected(0..300));
}

/// Method: a stream that is in the clear, then encrypted by itself, then in the clear again, over a log that never is.
#[test]
fn a_stream_may_be_encrypted_where_the_log_is_not() {
    let key = Arc::new(waypost_encrypt::MasterKey::new([5; 32]));
    let chacha = waypost_encrypt::find_at_rest("chacha20-poly1305").unwrap();
    let mut world = World::one();
    world.options.streams.configured[0].compress = waypost_compress::find("identity").unwrap();
    world.options.log.older_keys = vec![key.clone()];
    world.options.streams.key = Some(key);
    for (round, encrypt) in [None, Some(chacha), None].into_iter().enumerate() {
        world.options.streams.configured[0].encrypt = encrypt;
        world.reopen(false);
        let before = world.disk.list().unwrap();
        let first = round as u64 * 100;
        world.enter_numbered(first..first + 100);
        world.store.commit(0).unwrap();
        world.reopen(round == 1);
        let new = world.disk.list().unwrap().into_iter();
        let mut new = new.filter(|name| is_stream_file(name) && !before.contains(name));
        let body = format!("body {}", first + 7);
        let is_shown = new.any(|name| {
            let bytes = world.disk.content(&name);
            let mut parts = bytes.windows(body.len());
            parts.any(|part| part == body.as_bytes())
        });
        assert_eq!(is_shown, encrypt.is_none(), "{round}");
        assert_eq!(world.all(), expected(0..first + 100));
    }
}

#[test]
fn what_expired_is_not_read() {
    let mut world = World::one();
    let mut batch = Batch::new();
    for number in 0..20 {
        let expires_wall_ms = if number % 2 == 0 { 5_000 } else { u64::MAX };
        batch.message(MessageId(number + 1), expires_wall_ms, b"t:x");
        batch.enter(MessageId(number + 1), [A]);
        batch.end();
    }
    let appended = world.writer.append(&[batch.take()], 1_000).unwrap();
    world.writer.sync().unwrap();
    world.store.apply(&appended).unwrap();
    for commit in [false, true] {
        if commit {
            world.store.commit(0).unwrap();
            world.reopen(false);
        }
        assert_eq!(read_all(&world.store, 0, Filter::All, 4_999).len(), 20);
        assert_eq!(read_all(&world.store, 0, Filter::All, 5_000).len(), 10);
        let last = world
            .store
            .streams()
            .find(A, Start::Last(3), Filter::All, 5_000);
        assert_eq!(last.unwrap().unwrap().offset, 15);
    }
}

/// Random work with the power going at any step: nothing that was synced is lost, no offset ever changes.
#[test]
fn whatever_happens_offsets_stay() {
    for seed in 0..30 {
        let mut random = Random::new(seed);
        let mut world = World::one();
        let mut durable = 0_u64;
        for _ in 0..40 {
            let count = 1 + random.below(20);
            match random.below(8) {
                0..=3 => {
                    world.enter_numbered(durable..durable + count);
                    durable += count;
                }
                4 => drop(world.store.commit(world.now_ms)),
                5 => {
                    // The power goes in the middle of a commit.
                    world.disk.crash_at(world.disk.steps() + random.below(30));
                    let _ = world.store.commit(world.now_ms);
                    let _ = world.store.retire_step(world.now_ms);
                    world.disk.crash();
                    world.disk.heal();
                    world.reopen(false);
                }
                6 => while world.store.retire_step(world.now_ms).unwrap() {},
                _ => {
                    if random.below(2) == 0 {
                        world.disk.kill();
                        world.disk.remove(crate::views::FILE).unwrap();
                    }
                    world.reopen(false);
                }
            }
            assert_eq!(world.all(), expected(0..durable), "seed {seed}");
        }
    }
}

/// Whoever picks records has not more of them in memory than fits, and is told where to go on.
#[test]
fn picking_is_bounded_in_bytes() {
    let bound = usize::try_from(read::PICK_BYTES_MAX).unwrap();
    let (body, within) = (format!("t:{}", "x".repeat(98)), bound / 100);
    for count in [within, within + 1, 2 * within + 2] {
        let mut world = World::one();
        world.enter(&vec![body.as_str(); count]);
        let offsets: Vec<u64> = (0..count as u64).collect();
        let streams = world.store.streams();
        let pick = |from: usize| {
            let picked = streams.pick(A, &offsets[from..], Filter::All, 0);
            picked.unwrap().unwrap()
        };
        let first = pick(0);
        // One may go beyond.
        assert_eq!(first.records.len(), count.min(within + 1));
        assert_eq!(first.next, first.records.len() as u64);
        assert_eq!(first.is_end, count <= within + 1);
        if !first.is_end {
            let second = pick(first.records.len());
            assert_eq!(second.records.len(), within + 1);
            assert!(second.is_end);
        }
    }
}

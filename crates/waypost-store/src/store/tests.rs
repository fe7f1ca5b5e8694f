use std::{path::Path, sync::Arc};

use super::*;
use crate::{disk::RealDisk, log::LogOptions, record::Batch, views::QueueState};

fn open(path: &Path) -> (Store<RealDisk>, StoreWriter<RealDisk>, Recovered) {
    let disk = Arc::new(RealDisk::open(path).unwrap());
    Store::open(disk, StoreOptions::default(), 1_000).unwrap()
}

fn bodies(store: &Store<RealDisk>, queue: u64) -> Vec<(u64, Vec<u8>)> {
    let read = store
        .read_queue(QueueId(queue), 0, 1_000, u64::MAX)
        .unwrap();
    assert!(read.is_end);
    read.entries
        .into_iter()
        .map(|entry| (entry.id.0, entry.body.unwrap().to_vec()))
        .collect()
}

fn append(store: &Store<RealDisk>, writer: &mut StoreWriter<RealDisk>, batch: &mut Batch) {
    let appended = writer.append(&[batch.take()], 2_000).unwrap();
    writer.sync().unwrap();
    store.apply(&appended).unwrap();
}

fn some_work(store: &Store<RealDisk>, writer: &mut StoreWriter<RealDisk>) {
    let mut batch = Batch::new();
    for id in 1..=10 {
        batch.message(MessageId(id), u64::MAX, format!("body {id}").as_bytes());
        batch.owe(MessageId(id), b"o", [QueueId(1), QueueId(2)]);
        batch.end();
    }
    append(store, writer, &mut batch);
    for id in 1..=9 {
        batch.settle(QueueId(1), MessageId(id));
        batch.end();
    }
    batch.put(Table(1), b"key", b"value");
    batch.hold(Table(6), b"topic", 4, b"", Some(MessageId(3)));
    batch.end();
    append(store, writer, &mut batch);
}

fn check(store: &Store<RealDisk>) {
    assert_eq!(bodies(store, 1), [(10, b"body 10".to_vec())]);
    assert_eq!(bodies(store, 2).len(), 10);
    assert_eq!(
        store.message(MessageId(3)).unwrap().unwrap()[..],
        b"body 3"[..]
    );
    assert!(store.message(MessageId(11)).unwrap().is_none());
}

fn check_at_start(store: &Store<RealDisk>, recovered: &Recovered) {
    check(store);
    assert_eq!(
        (recovered.highest_message.0, recovered.highest_queue.0),
        (10, 2)
    );
    assert_eq!(recovered.last_wall_ms, Some(2_000));
    let rows: Vec<_> = store.rows(Table(1)).unwrap().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (&rows[0].key[..], &rows[0].value[..]),
        (&b"key"[..], &b"value"[..])
    );
    let held = store.rows(Table(6)).unwrap().next().unwrap().unwrap();
    assert_eq!(held.message, Some(MessageId(3)));
    let queues: Vec<_> = store.queues().unwrap().map(Result::unwrap).collect();
    let state = |count, bytes| QueueState {
        count,
        bytes,
        oldest_wall_ms: 2_000,
    };
    assert_eq!(
        queues,
        [(QueueId(1), state(1, 7)), (QueueId(2), state(10, 61))]
    );
}

#[test]
fn what_was_appended_is_there_after_a_start() {
    let directory = tempfile::tempdir().unwrap();
    {
        let (store, mut writer, recovered) = open(directory.path());
        assert_eq!(recovered.views, ViewsAtStart::New);
        assert_eq!(recovered.last_wall_ms, None);
        some_work(&store, &mut writer);
        check(&store);
    }
    // Without and with a commit of the views.
    let (store, _, recovered) = open(directory.path());
    check_at_start(&store, &recovered);
    drop(store);
    let (store, _, recovered) = open(directory.path());
    assert_eq!(recovered.views, ViewsAtStart::Found);
    check_at_start(&store, &recovered);
}

#[test]
fn views_that_are_lost_or_damaged_are_made_again() {
    let directory = tempfile::tempdir().unwrap();
    {
        let (store, mut writer, _) = open(directory.path());
        some_work(&store, &mut writer);
        store.commit(0).unwrap();
    }
    let file = directory.path().join(views::FILE);
    std::fs::remove_file(&file).unwrap();
    let (store, writer, recovered) = open(directory.path());
    assert!(matches!(recovered.views, ViewsAtStart::MadeAgain(_)));
    check_at_start(&store, &recovered);
    drop((store, writer));
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[..4096].fill(0xaa);
    std::fs::write(&file, bytes).unwrap();
    let (store, _, recovered) = open(directory.path());
    assert!(matches!(recovered.views, ViewsAtStart::MadeAgain(_)));
    check_at_start(&store, &recovered);
}

/// Goal: whatever bits flip in the views while the server is down, the next start serves what the log has. Method: flip
/// some, anywhere, from one to hundreds, and start.
#[test]
fn flipped_bits_in_the_views_never_keep_a_store_from_opening() {
    let directory = tempfile::tempdir().unwrap();
    {
        let (store, mut writer, _) = open(directory.path());
        some_work(&store, &mut writer);
        store.commit(0).unwrap();
    }
    let file = directory.path().join(views::FILE);
    let mut random = crate::model::Random::new(5);
    let mut made_again = 0;
    for round in 0..60 {
        let mut bytes = std::fs::read(&file).unwrap();
        let flips = [1, 7, 40, 240][round % 4];
        for _ in 0..flips {
            let bit = random.below(bytes.len() as u64 * 8) as usize;
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        std::fs::write(&file, bytes).unwrap();
        let (store, _, recovered) = open(directory.path());
        check_at_start(&store, &recovered);
        made_again += usize::from(matches!(recovered.views, ViewsAtStart::MadeAgain(_)));
    }
    assert!(made_again > 10, "most of it is noticed: {made_again}");
}

/// Small segments and blocks.
fn small() -> StoreOptions {
    StoreOptions {
        log: LogOptions {
            segment_bytes: 4_096,
            block_bytes: 512,
            compress: &waypost_compress::registry()[0],
            ..LogOptions::default()
        },
        cache_bytes: 4_096,
        ..StoreOptions::default()
    }
}

fn retire_all(store: &Store<RealDisk>) {
    store.commit(0).unwrap();
    while store.retire_step(0).unwrap() {}
}

/// What is in the log; the file that is written is longer, with zeros.
fn log_bytes(store: &Store<RealDisk>) -> u64 {
    store.log.segments().iter().map(|info| info.bytes).sum()
}

/// Goal: one session that is away pins only what it is owed. Method: two sessions, one that takes everything at once and
/// one that is owed every twentieth message, over many segments; then it comes and takes that too.
#[test]
fn one_who_is_away_pins_only_what_it_is_owed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let open = || Store::open(Arc::new(RealDisk::open(path).unwrap()), small(), 0).unwrap();
    let (store, mut writer, _) = open();
    let mut batch = Batch::new();
    for id in 1..=1_000_u64 {
        batch.message(MessageId(id), u64::MAX, &[id as u8; 60]);
        let away = (id % 20 == 0).then_some(QueueId(2));
        batch.owe(MessageId(id), b"", [QueueId(1)].into_iter().chain(away));
        batch.end();
        append(&store, &mut writer, &mut batch);
        batch.settle(QueueId(1), MessageId(id));
        batch.put(Table(1), b"row", &id.to_be_bytes());
        batch.end();
        append(&store, &mut writer, &mut batch);
    }
    let before = log_bytes(&store);
    retire_all(&store);
    let after = log_bytes(&store);
    // A block header for each message, here; headers and seals of about 25 files.
    assert!(after < before / 3, "{before} {after}");
    let expected: Vec<_> = (1..=50)
        .map(|n| (n * 20, vec![(n * 20) as u8; 60]))
        .collect();
    assert_eq!(bodies(&store, 2), expected);
    assert_eq!(bodies(&store, 1), []);
    drop((store, writer));
    // The log alone says the same.
    std::fs::remove_file(path.join(views::FILE)).unwrap();
    let (store, mut writer, recovered) = open();
    assert_eq!(recovered.damage, []);
    assert_eq!(bodies(&store, 2), expected);
    assert_eq!(bodies(&store, 1), []);
    let row = store.rows(Table(1)).unwrap().next().unwrap().unwrap();
    assert_eq!(row.value[..], 1_000_u64.to_be_bytes());
    for n in 1..=50 {
        batch.settle(QueueId(2), MessageId(n * 20));
    }
    batch.end();
    append(&store, &mut writer, &mut batch);
    retire_all(&store);
    assert!(
        log_bytes(&store) < 3 * 4_096 + 4_096,
        "{}",
        log_bytes(&store)
    );
}

/// Goal: after a segment is lost, with what was in it, the store goes on, and what comes is not taken for what is lost.
#[test]
fn a_segment_that_is_lost_takes_nothing_with_it_but_its_contents() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let open = || Store::open(Arc::new(RealDisk::open(path).unwrap()), small(), 0).unwrap();
    let mut batch = Batch::new();
    {
        let (store, mut writer, _) = open();
        for id in 1..=3 {
            batch.message(MessageId(id), u64::MAX, b"a body of some length");
            batch.owe(MessageId(id), b"", [QueueId(1)]);
            batch.end();
            append(&store, &mut writer, &mut batch);
            writer.roll();
        }
        store.commit(0).unwrap();
    }
    std::fs::remove_file(path.join("00000003.log")).unwrap();
    let (store, mut writer, recovered) = open();
    assert_eq!(recovered.views, ViewsAtStart::Found);
    batch.message(MessageId(4), u64::MAX, b"new");
    batch.owe(MessageId(4), b"", [QueueId(1)]);
    batch.end();
    append(&store, &mut writer, &mut batch);
    let read = store.read_queue(QueueId(1), 0, 10, u64::MAX).unwrap();
    let read: Vec<_> = read
        .entries
        .iter()
        .map(|entry| (entry.id.0, entry.body.as_ref().map(|body| body.len())))
        .collect();
    assert_eq!(
        read,
        [(1, Some(21)), (2, Some(21)), (3, None), (4, Some(3))]
    );
    for id in 1..=4 {
        batch.settle(QueueId(1), MessageId(id));
    }
    batch.end();
    append(&store, &mut writer, &mut batch);
    retire_all(&store);
    assert_eq!(bodies(&store, 1), []);
}

/// Goal: a further debtor of a message takes at most 8 bytes of disk. Method: messages for 100 queues and for 200, several
/// commits; the examples' `figures` does it at full scale.
#[test]
fn a_further_debtor_takes_at_most_eight_bytes() {
    let taken = |queues: u64| {
        let directory = tempfile::tempdir().unwrap();
        let (store, mut writer, _) = open(directory.path());
        let mut batch = Batch::new();
        for id in 1..=4_000 {
            batch.message(MessageId(id), u64::MAX, &[3; 64]);
            batch.owe(MessageId(id), b"1", (1..=queues).map(QueueId));
            batch.end();
            if id % 1_000 == 0 {
                append(&store, &mut writer, &mut batch);
                store.commit(0).unwrap();
            }
        }
        let figures = store.figures().unwrap();
        assert_eq!((figures.queues, figures.messages), (queues, 4_000));
        assert_eq!(store.stats().unwrap().owed, queues * 4_000);
        figures.log_bytes + figures.views_file_bytes
    };
    let per_debt = (taken(200) - taken(100)) as f64 / (100.0 * 4_000.0);
    println!("{per_debt} bytes");
    assert!(per_debt <= 8.0, "{per_debt} bytes");
}

#[test]
fn a_read_is_bounded_by_count_and_by_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let (store, mut writer, _) = open(directory.path());
    some_work(&store, &mut writer);
    for (count, bytes, expected, is_end) in [
        (9, u64::MAX, 9, false),
        (10, u64::MAX, 10, true),
        (20, u64::MAX, 10, true),
        (10, 0, 1, false),
        (10, 17, 3, false),
        (10, 18, 4, false),
    ] {
        let read = store.read_queue(QueueId(2), 0, count, bytes).unwrap();
        assert_eq!(
            (read.entries.len(), read.is_end),
            (expected, is_end),
            "{count} {bytes}"
        );
    }
}

#[test]
fn an_expired_message_is_not_rewritten_but_owed_until_it_is_settled() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let open = || Store::open(Arc::new(RealDisk::open(path).unwrap()), small(), 0).unwrap();
    let (store, mut writer, _) = open();
    let mut batch = Batch::new();
    for id in 1..=300 {
        // One of ten stays; of those every second expires.
        let expires = if id % 20 == 0 { 1_000 } else { u64::MAX };
        batch.message(MessageId(id), expires, &[1; 60]);
        let away = (id % 10 == 0).then_some(QueueId(2));
        batch.owe(MessageId(id), b"", [QueueId(1)].into_iter().chain(away));
        batch.settle(QueueId(1), MessageId(id));
        batch.end();
        append(&store, &mut writer, &mut batch);
    }
    store.commit(0).unwrap();
    while store.retire_step(1_001).unwrap() {}
    let segments = store.views.segments();
    let newest = *segments.keys().next_back().unwrap();
    let read = store.read_queue(QueueId(2), 0, 100, u64::MAX).unwrap();
    assert_eq!(read.entries.len(), 30);
    for entry in &read.entries {
        let is_rewritten = entry.place >> 32 < u64::from(newest) - 1;
        let has_body = entry.body.is_some();
        assert_eq!(has_body, entry.id.0 % 20 != 0 || !is_rewritten, "{entry:?}");
    }
    assert!(read.entries.iter().any(|entry| entry.body.is_none()));
    for entry in &read.entries {
        batch.settle(QueueId(2), entry.id);
    }
    batch.end();
    append(&store, &mut writer, &mut batch);
    retire_all(&store);
    assert_eq!(store.figures().unwrap().messages, 0);
}

/// Goal: what a segment says of an older one outlives it. Method: a first segment that stays, because most of it lives; a
/// second one that settles, ends and deletes something of it and is rewritten or goes for the rest; then the views are
/// made again from what is left.
#[test]
fn what_a_segment_says_of_another_stays_as_long_as_that() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let open = || Store::open(Arc::new(RealDisk::open(path).unwrap()), small(), 0).unwrap();
    let (store, mut writer, _) = open();
    let mut batch = Batch::new();
    for id in 1..=10 {
        batch.message(MessageId(id), u64::MAX, &[1; 100]);
        batch.owe(MessageId(id), b"", [QueueId(1), QueueId(2), QueueId(3)]);
    }
    batch.put(Table(1), b"deleted", b"x");
    batch.put(Table(1), b"changed", b"x");
    batch.end();
    append(&store, &mut writer, &mut batch);
    writer.roll();
    batch.settle(QueueId(1), MessageId(4));
    batch.end_queue(QueueId(2));
    batch.delete(Table(1), b"deleted");
    batch.put(Table(1), b"changed", b"y");
    batch.message(MessageId(11), u64::MAX, &[1; 2_000]);
    batch.owe(MessageId(11), b"", [QueueId(9)]);
    batch.end();
    append(&store, &mut writer, &mut batch);
    writer.roll();
    batch.settle(QueueId(9), MessageId(11));
    batch.put(Table(1), b"changed", b"z");
    batch.end();
    append(&store, &mut writer, &mut batch);
    for _ in 0..3 {
        writer.roll();
        batch.put(Table(2), b"other", b"1");
        batch.end();
        append(&store, &mut writer, &mut batch);
    }
    retire_all(&store);
    let kept = store.log.segments();
    assert!(
        kept.iter().any(|info| info.number == 1),
        "the first stays: {kept:?}"
    );
    assert!(
        kept.iter().all(|info| info.number != 2),
        "the second is rewritten: {kept:?}"
    );
    drop((store, writer));
    std::fs::remove_file(path.join(views::FILE)).unwrap();
    let (store, _, _) = open();
    let ids: Vec<_> = bodies(&store, 1).iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, [1, 2, 3, 5, 6, 7, 8, 9, 10]);
    assert_eq!(bodies(&store, 2), []);
    assert_eq!(bodies(&store, 3).len(), 10);
    let rows: Vec<_> = store.rows(Table(1)).unwrap().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(
        (&rows[0].key[..], &rows[0].value[..]),
        (&b"changed"[..], &b"z"[..])
    );
}

/// Goal: a message that was owed to others, all of whom took it, lives for who is owed it later, also when only the log is
/// left. Method: a second segment owes it to one whose queue ends, then to another; the first one is rewritten without its
/// debtor; the second has nothing else.
#[test]
fn who_is_owed_an_older_message_keeps_it_and_what_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let open = || Store::open(Arc::new(RealDisk::open(path).unwrap()), small(), 0).unwrap();
    let (store, mut writer, _) = open();
    let mut batch = Batch::new();
    batch.message(MessageId(1), u64::MAX, b"old");
    batch.owe(MessageId(1), b"", [QueueId(1)]);
    batch.message(MessageId(2), u64::MAX, &[1; 2_000]);
    batch.owe(MessageId(2), b"", [QueueId(1)]);
    batch.end();
    append(&store, &mut writer, &mut batch);
    writer.roll();
    batch.owe(MessageId(1), b"", [QueueId(2)]);
    batch.end_queue(QueueId(2));
    batch.owe(MessageId(1), b"", [QueueId(3)]);
    batch.end();
    append(&store, &mut writer, &mut batch);
    for _ in 0..4 {
        writer.roll();
        batch.settle(QueueId(1), MessageId(1));
        batch.settle(QueueId(1), MessageId(2));
        batch.put(Table(2), b"other", b"1");
        batch.end();
        append(&store, &mut writer, &mut batch);
    }
    retire_all(&store);
    assert!(store.log.segments().iter().all(|info| info.number != 1));
    assert_eq!(bodies(&store, 3), [(1, b"old".to_vec())]);
    drop((store, writer));
    std::fs::remove_file(path.join(views::FILE)).unwrap();
    let (store, _, _) = open();
    assert_eq!(bodies(&store, 1), []);
    assert_eq!(bodies(&store, 2), []);
    assert_eq!(bodies(&store, 3), [(1, b"old".to_vec())]);
}

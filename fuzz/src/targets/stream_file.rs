//! Segments of streams: any bytes may be in a file, and damage to a good one takes records away, but adds and changes none.
//!
//! Input: a place (four bytes), what is changed there (a byte), whether the views are lost (a byte), then the records, a
//! length byte before each; the same bytes once more as a file of their own.

use std::sync::Arc;

use waypost_store::{
    Batch, MessageId, Store, StoreOptions, StoreWriter, StreamId,
    disk::{Disk, SimulatedDisk},
    log::LogOptions,
    streams::{Described, Filter, Start, StreamOptions, StreamsOptions},
};

const STREAM: StreamId = StreamId(1);
const SEGMENT: &str = "stream-1-00000001.seg";
const VIEWS: &str = "views.redb";

/// Runs the target.
pub fn run(input: &[u8]) {
    let disk = SimulatedDisk::new(0);
    disk.put(SEGMENT, input);
    if let Some((store, _)) = open(&disk) {
        read(&store);
    }
    let Some((&[a, b, c, d, change, is_lost], rest)) = input.split_first_chunk() else {
        return;
    };
    let disk = SimulatedDisk::new(0);
    let written = write(&disk, rest);
    let len = u32::try_from(disk.content(SEGMENT).len()).unwrap_or(u32::MAX);
    let place = u32::from_le_bytes([a, b, c, d]) % len.max(1);
    for bit in (0..8).filter(|bit| change >> bit & 1 == 1) {
        disk.flip_bit(SEGMENT, place.into(), bit);
    }
    if is_lost % 2 == 1 {
        let _ = disk.remove(VIEWS);
    }
    let Some((store, _)) = open(&disk) else {
        return;
    };
    let found = read(&store);
    if change == 0 {
        assert_eq!(found, written);
    }
    // What the log had again may follow what is damaged, but nothing is there that was not written.
    for (_, body) in &found {
        assert!(written.iter().any(|(_, other)| other == body));
    }
}

/// All records, by offset, ascending.
fn read(store: &Store<SimulatedDisk>) -> Vec<(u64, Vec<u8>)> {
    let streams = store.streams();
    for start in [Start::Time(5), Start::Last(3), Start::Each(2)] {
        let _ = streams.find(STREAM, start, Filter::Topic("t"), 0);
    }
    let mut all: Vec<(u64, Vec<u8>)> = Vec::new();
    let mut offset = 0;
    while let Ok(Some(read)) = streams.read(STREAM, offset, Filter::All, (100, 10_000), 0) {
        for record in &read.records {
            assert!(all.last().is_none_or(|(last, _)| *last < record.offset));
            all.push((record.offset, record.body().to_vec()));
        }
        assert!(read.is_end || read.next > offset, "stuck at {offset}");
        offset = read.next;
        if read.is_end {
            break;
        }
    }
    all
}

fn open(disk: &SimulatedDisk) -> Option<(Store<SimulatedDisk>, StoreWriter<SimulatedDisk>)> {
    let options = StoreOptions {
        log: LogOptions {
            block_bytes: 256,
            ..LogOptions::default()
        },
        streams: StreamsOptions {
            describe: |_| {
                Some(Described {
                    topic: "t",
                    key: None,
                    is_tombstone: false,
                })
            },
            configured: vec![StreamOptions::named("a")],
            segment_bytes_max: 400,
            block_bytes: 128,
            ..StreamsOptions::default()
        },
        ..StoreOptions::default()
    };
    let (store, writer, _) = Store::open(Arc::new(disk.clone()), options, 1).ok()?;
    Some((store, writer))
}

#[expect(
    clippy::expect_used,
    reason = "an oracle: a disk without faults must do"
)]
fn write(disk: &SimulatedDisk, mut rest: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let (store, mut writer) = open(disk).expect("an empty disk opens");
    let mut written = Vec::new();
    while let Some((len, after)) = rest.split_first() {
        let (body, after) = after.split_at(after.len().min((*len).into()));
        rest = after;
        let offset = written.len() as u64;
        let id = MessageId(offset + 1);
        let mut batch = Batch::new();
        batch.message(id, u64::MAX, body);
        batch.enter(id, [STREAM]);
        batch.end();
        let appended = writer.append(&[batch.take()], offset);
        let appended = appended.expect("an empty disk has room");
        writer.sync().expect("it works");
        store.apply(&appended).expect("it is sound");
        written.push((offset, body.to_vec()));
    }
    store.commit(1).expect("it works");
    written
}

//! Segments of the log: any bytes may be in a file, and damage to a good one takes away, but adds nothing.
//!
//! Input: a place (four bytes) and what is changed there (a byte), then the rows that are written first, a length byte
//! before each; the same bytes once more as a file of their own.

use std::sync::Arc;

use waypost_store::{
    Batch, Op, Table, decode_ops,
    disk::{Disk, SimulatedDisk},
    log::{LogOptions, Recovery},
};

const SEGMENT: &str = "00000001.log";

/// Runs the target.
pub fn run(input: &[u8]) {
    let disk = SimulatedDisk::new(0);
    disk.put(SEGMENT, input);
    disk.put("00000002.kept", input);
    open(&disk);

    let Some((&[a, b, c, d, change], rest)) = input.split_first_chunk() else {
        return;
    };
    let disk = SimulatedDisk::new(0);
    let written = write(&disk, rest);
    let len = u32::try_from(disk.content(SEGMENT).len()).unwrap_or(u32::MAX);
    let place = u32::from_le_bytes([a, b, c, d]) % len.max(1);
    for bit in (0..8).filter(|bit| change >> bit & 1 == 1) {
        disk.flip_bit(SEGMENT, place.into(), bit);
    }
    let found = open(&disk);
    let mut written = written.iter();
    for row in &found {
        assert!(
            written.any(|other| other == row),
            "{row:?} was not written there"
        );
    }
    if change == 0 {
        assert_eq!(written.next(), None);
    }
    assert_eq!(open(&disk), found);
}

/// What can be read; nothing that is read changes what is there.
fn open(disk: &SimulatedDisk) -> Vec<Vec<u8>> {
    let before = disk.list().map(|names| names.len()).unwrap_or_default();
    let options = LogOptions::default();
    let Ok(mut recovery) = Recovery::open(Arc::new(disk.clone()), options, None) else {
        return Vec::new();
    };
    let mut rows = Vec::new();
    while let Ok(Some(block)) = recovery.next_block() {
        assert!(block.position < block.end);
        for op in decode_ops(&block.records) {
            if let Ok(Op::Put { key, .. }) = op {
                rows.push(key.to_vec());
            }
        }
    }
    let Ok((_, reader, recovered)) = recovery.finish() else {
        return rows;
    };
    let is_told = |offset: u64, bytes: u64| bytes > 0 || offset == 0;
    assert!(
        recovered
            .damage
            .iter()
            .all(|it| is_told(it.offset, it.bytes))
    );
    for segment in reader.segments() {
        let blocks = reader
            .blocks(segment.number)
            .into_iter()
            .flatten()
            .flatten();
        for block in blocks {
            assert!(reader.read_block(block.position).is_ok());
        }
    }
    assert_eq!(
        disk.list().map(|names| names.len()).unwrap_or_default(),
        before
    );
    rows
}

#[expect(
    clippy::expect_used,
    reason = "an oracle: a disk without faults must do"
)]
fn write(disk: &SimulatedDisk, mut rest: &[u8]) -> Vec<Vec<u8>> {
    let options = LogOptions {
        block_bytes: 64,
        ..LogOptions::default()
    };
    let opened = Recovery::open(Arc::new(disk.clone()), options, None);
    let (mut writer, ..) = opened
        .and_then(Recovery::finish)
        .expect("an empty disk opens");
    let mut written = Vec::new();
    while let Some((len, after)) = rest.split_first() {
        let (row, after) = after.split_at(after.len().min((*len).into()));
        rest = after;
        let mut batch = Batch::new();
        batch.put(Table(0), row, &[]);
        batch.end();
        writer
            .append(&[batch.records()], 0)
            .expect("an empty disk has room");
        writer.sync().expect("it works");
        written.push(row.to_vec());
    }
    if !rest.is_empty() || written.len() % 2 == 1 {
        std::mem::forget(writer);
    }
    written
}

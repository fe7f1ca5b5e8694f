//! What is written is found, by every way of reading, and damage is told from an end.

use super::*;
use crate::{
    disk::{Disk, Fault},
    log::{FORMAT, LogBlock, SegmentKind},
};
use waypost_encrypt::MasterKey;

/// Writes transactions `from..to`, three to a batch, one batch to an append, each synced.
fn write(writer: &mut LogWriter<SimulatedDisk>, from: u64, to: u64) -> Vec<BlockPosition> {
    let mut positions = Vec::new();
    for first in (from..to).step_by(3) {
        let batches: Vec<_> = (first..to.min(first + 3))
            .map(|number| transaction(number, 100))
            .collect();
        let appended = writer.append(&batches, 1000 + first).unwrap();
        positions.extend(appended.blocks.iter().map(|block| block.position));
        let pieces: Vec<_> = appended.pieces(&batches).collect();
        let all: Vec<_> = pieces
            .iter()
            .flat_map(|(_, piece)| numbers(piece))
            .collect();
        assert_eq!(all, (first..to.min(first + 3)).collect::<Vec<_>>());
        writer.sync().unwrap();
        for (position, piece) in pieces {
            let records = writer.reader().read_block(position).unwrap();
            let read = numbers(&records);
            assert!(numbers(piece).iter().all(|number| read.contains(number)));
        }
    }
    positions
}

fn everything(to: u64) -> Vec<u64> {
    (0..to).collect()
}

fn all_options() -> Vec<LogOptions> {
    let key = |strategy| Arc::new(MasterKey::new([7; 32]).with_strategy(strategy));
    let mut all = Vec::new();
    for compress in waypost_compress::registry() {
        for key in std::iter::once(None).chain(waypost_encrypt::at_rest().map(|one| Some(key(one))))
        {
            all.push(LogOptions {
                compress,
                key,
                ..small()
            });
        }
    }
    all
}

#[test]
fn what_was_appended_is_read_after_a_restart() {
    for options in all_options() {
        let disk = SimulatedDisk::new(1);
        let mut written = 0;
        for _ in 0..3 {
            let (mut writer, _, recovered, found) = open(&disk, &options, None).unwrap();
            assert_eq!(found, everything(written));
            assert_eq!(recovered.damage, []);
            assert_eq!(
                recovered.last_wall_ms,
                if written > 0 { 1000 + written - 1 } else { 0 }
            );
            write(&mut writer, written, written + 40);
            written += 40;
            drop(writer);
            disk.kill();
        }
        let (_, reader, recovered, _) = open(&disk, &options, None).unwrap();
        let segments = reader.segments();
        assert!(segments.len() >= 3 && segments.iter().all(|segment| segment.sealed.is_some()));
        assert_eq!(
            recovered.end.unwrap().segment,
            segments.last().unwrap().number
        );
        let transactions = segments.iter().map(|it| it.sealed.unwrap().transactions);
        assert_eq!(transactions.sum::<u64>(), written);
        let files: u64 = segments
            .iter()
            .map(|it| disk.content(&it.file).len() as u64)
            .sum();
        assert_eq!(
            segments.iter().map(|segment| segment.bytes).sum::<u64>(),
            files
        );
    }
}

#[test]
fn reading_begins_where_it_is_asked_to() {
    let disk = SimulatedDisk::new(1);
    let (mut writer, ..) = open(&disk, &small(), None).unwrap();
    let positions = write(&mut writer, 0, 60);
    std::mem::forget(writer);
    disk.kill();
    for position in positions {
        let mut recovery = Recovery::open(Arc::new(disk.clone()), small(), Some(position)).unwrap();
        let first = recovery.next_block().unwrap().unwrap();
        assert_eq!(first.position, position);
        let (_, _, _, rest) = open(&disk, &small(), Some(first.end)).unwrap();
        let next = numbers(&first.records).last().unwrap() + 1;
        assert_eq!(rest, (next..60).collect::<Vec<_>>());
    }
    let end = open(&disk, &small(), None).unwrap().2.end.unwrap();
    let (_, _, recovered, found) = open(&disk, &small(), Some(end)).unwrap();
    assert_eq!((found, recovered.end), (vec![], Some(end)));
    assert!(!recovered.is_cut_short);
    let beyond = BlockPosition {
        segment: end.segment + 1,
        offset: 0,
    };
    assert!(open(&disk, &small(), Some(beyond)).unwrap().2.is_cut_short);
}

/// Reads at a start are the headers, the seals and what is replayed, and they are counted.
#[test]
fn a_start_reads_little_and_counts_it() {
    let disk = SimulatedDisk::new(1);
    let options = LogOptions {
        segment_bytes: 20_000,
        ..small()
    };
    let (mut writer, ..) = open(&disk, &options, None).unwrap();
    write(&mut writer, 0, 2000);
    let end = writer.end().unwrap();
    drop(writer);
    disk.kill();
    let (_, reader, ..) = open(&disk, &options, Some(end)).unwrap();
    let segments = reader.segments().len() as u64;
    assert!(segments > 10);
    assert!(
        reader.bytes_read() <= segments * 400,
        "{} of {segments}",
        reader.bytes_read()
    );
    let (_, reader, ..) = open(&disk, &options, None).unwrap();
    assert!(reader.bytes_read() > 2000 * 100);
}

#[test]
fn what_is_longer_than_a_block_is_a_block() {
    let disk = SimulatedDisk::new(1);
    let (mut writer, ..) = open(&disk, &small(), None).unwrap();
    let sizes = [10, 1000, 10, 5000, 0];
    let batches: Vec<_> = (0..)
        .zip(sizes)
        .map(|(number, bytes)| transaction(number, bytes))
        .collect();
    let appended = writer.append(&[batches.concat()], 1).unwrap();
    assert_eq!(appended.blocks.len(), 5);
    writer.sync().unwrap();
    let nothing: [Vec<u8>; 0] = [];
    assert_eq!(writer.append(&nothing, 1).unwrap().blocks, []);
    assert_eq!(writer.append(&[b""], 1).unwrap().blocks, []);
    let refused = writer.append(&[b"\x01\0\0\0"], 1).unwrap_err();
    assert!(matches!(refused, LogError::Records(_)), "{refused}");
    drop(writer);
    assert_eq!(open(&disk, &small(), None).unwrap().3, everything(5));
}

/// Any bit of any synced byte of any file: the rest is served, and the report says where.
#[test]
fn every_flipped_bit_is_found_and_costs_only_its_block() {
    for options in all_options() {
        let disk = SimulatedDisk::new(1);
        let (mut writer, ..) = open(&disk, &options, None).unwrap();
        write(&mut writer, 0, 24);
        let names = disk.list().unwrap();
        let last = names.last().unwrap().clone();
        let durable = usize::try_from(writer.end().unwrap().offset).unwrap();
        std::mem::forget(writer);
        for name in names {
            let whole = disk.content(&name);
            let len = if name == last { durable } else { whole.len() };
            for at in (0..len).step_by(37) {
                disk.kill();
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << (at % 8);
                disk.put(&name, &bytes);
                let (_, _, recovered, found) = open(&disk, &options, None).unwrap();
                let missing = everything(24)
                    .into_iter()
                    .filter(|number| !found.contains(number));
                let said = format!("{options:?} {name} {at}: {recovered:?}");
                // A block that nothing durable follows cannot be told from one that was not finished, and without its
                // header a segment that is not sealed has no salt.
                let is_told = name != last || (at >= 128 && !recovered.damage.is_empty());
                if missing.count() > 0 && is_told {
                    let damage = &recovered.damage[0];
                    assert_eq!(damage.file, name, "{said}");
                    let end = damage.offset + damage.bytes;
                    assert!((damage.offset..end).contains(&(at as u64)), "{said}");
                    assert!(found.len() >= 20, "{said}: {found:?}");
                }
                assert!(found.is_sorted(), "{said}");
            }
            disk.put(&name, &whole);
        }
    }
}

#[test]
fn damage_before_what_was_synced_is_no_end() {
    let disk = SimulatedDisk::new(1);
    let options = LogOptions {
        segment_bytes: 1 << 20,
        ..small()
    };
    let (mut writer, ..) = open(&disk, &options, None).unwrap();
    let positions = write(&mut writer, 0, 30);
    std::mem::forget(writer);
    disk.kill();
    // Two blocks an append: the header of one, the content of another.
    for position in [positions[4], positions[7]] {
        disk.flip_bit("00000001.log", u64::from(position.offset) + 10, 0);
    }
    disk.flip_bit("00000001.log", u64::from(positions[10].offset) + 60, 0);
    let (writer, reader, recovered, found) = open(&disk, &options, None).unwrap();
    let offsets: Vec<_> = recovered
        .damage
        .iter()
        .map(|damage| damage.offset)
        .collect();
    let expected = [positions[4], positions[7], positions[10]].map(|at| u64::from(at.offset));
    assert_eq!(offsets, expected);
    assert!(found.len() >= 24 && found.contains(&29), "{found:?}");
    let error = reader.read_block(positions[4]).unwrap_err();
    assert!(matches!(error, LogError::Damaged(_)), "{error}");
    let listed: Vec<_> = reader.blocks(1).unwrap().collect();
    assert_eq!(listed.iter().filter(|block| block.is_err()).count(), 3);
    drop(writer);
}

#[test]
fn a_newer_format_is_refused_and_said() {
    let disk = SimulatedDisk::new(1);
    let (mut writer, ..) = open(&disk, &small(), None).unwrap();
    write(&mut writer, 0, 3);
    drop(writer);
    let mut bytes = disk.content("00000001.log");
    bytes[8] = 9;
    let sum = crc32c::crc32c(&bytes[..124]).to_le_bytes();
    bytes[124..128].copy_from_slice(&sum);
    disk.put("00000001.log", &bytes);
    let error = open(&disk, &small(), None).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "00000001.log has format 9, and this version of Waypost reads up to {FORMAT}: start the version that wrote it, or a later one"
        )
    );
}

#[test]
fn segments_of_other_keys_and_strategies_are_read_together() {
    let disk = SimulatedDisk::new(1);
    let keys = [1, 2].map(|byte| Arc::new(MasterKey::new([byte; 32])));
    let mut written = 0;
    for (key, older) in [
        (None, None),
        (Some(0), None),
        (Some(1), Some(0)),
        (None, Some(1)),
    ] {
        let options = LogOptions {
            key: key.map(|at: usize| Arc::clone(&keys[at])),
            older_keys: older
                .iter()
                .map(|at: &usize| Arc::clone(&keys[*at]))
                .chain(keys.clone())
                .collect(),
            ..small()
        };
        let (mut writer, _, _, found) = open(&disk, &options, None).unwrap();
        assert_eq!(found, everything(written));
        write(&mut writer, written, written + 3);
        written += 3;
    }
    let error = open(&disk, &small(), None).unwrap_err().to_string();
    let expected = format!(
        "00000002.log is encrypted with key {}, which is not among the keys given",
        keys[0].id()
    );
    assert_eq!(error, expected);
}

/// Goal: nothing of what was written can be read from the disk. Method: the same bytes are looked for with and without.
#[test]
fn encrypted_blocks_show_nothing() {
    let needle = [7; 50];
    let shows = |options: &LogOptions| {
        let disk = SimulatedDisk::new(1);
        let (mut writer, ..) = open(&disk, options, None).unwrap();
        writer.append(&[transaction(7, 100)], 1).unwrap();
        writer.sync().unwrap();
        let content = disk.content("00000001.log");
        content.windows(needle.len()).any(|window| window == needle)
    };
    let key = Some(Arc::new(MasterKey::new([7; 32])));
    assert!(shows(&small()));
    assert!(!shows(&LogOptions { key, ..small() }));
}

#[test]
fn a_kept_segment_is_there_when_it_is_finished() {
    let disk = SimulatedDisk::new(1);
    let (mut writer, reader, ..) = open(&disk, &small(), None).unwrap();
    write(&mut writer, 0, 3);
    let mut kept = reader.keep(5).unwrap();
    let number = kept.number();
    assert!(kept.is_empty());
    let appended = kept.append(&[transaction(77, 10)], 5).unwrap();
    assert!(!kept.is_empty() && kept.len() > 128);
    assert!(reader.read_block(appended.blocks[0].position).is_err());
    assert_eq!(kept.finish().unwrap(), number);
    let read = reader.read_block(appended.blocks[0].position).unwrap();
    assert_eq!(numbers(&read), [77]);
    let mut given_up = reader.keep(5).unwrap();
    given_up.append(&[transaction(78, 10)], 5).unwrap();
    drop(given_up);
    let left_over = reader.keep(5).unwrap();
    std::mem::forget(left_over);
    write(&mut writer, 3, 6);
    drop(writer);
    disk.kill();
    assert_eq!(disk.list().unwrap().len(), 3);
    let (writer, reader, recovered, found) = open(&disk, &small(), None).unwrap();
    assert_eq!(found, [0, 1, 2, 3, 4, 5, 77]);
    assert_eq!(recovered.damage, []);
    let kinds: Vec<_> = reader
        .segments()
        .iter()
        .map(|segment| segment.kind)
        .collect();
    assert_eq!(kinds, [SegmentKind::Log, SegmentKind::Kept]);
    assert_eq!(disk.list().unwrap(), ["00000001.log", "00000002.kept"]);
    assert_eq!(writer.end().unwrap().segment, 1);
    // Not in the chain, and not read when the reading begins later.
    let from = Some(BlockPosition {
        segment: 1,
        offset: 128,
    });
    assert_eq!(open(&disk, &small(), from).unwrap().3, everything(6));
    reader.remove(number).unwrap();
    assert_eq!(open(&disk, &small(), None).unwrap().3, everything(6));
    assert!(matches!(
        reader.remove(number),
        Err(LogError::NoSegment { .. })
    ));
}

/// More segments than may be open at once are all read, again and again.
#[test]
fn more_segments_than_may_be_open_are_read() {
    let disk = SimulatedDisk::new(1);
    let options = LogOptions {
        segment_bytes: 300,
        ..small()
    };
    let (mut writer, reader, ..) = open(&disk, &options, None).unwrap();
    let positions = write(&mut writer, 0, 400);
    assert!(reader.segments().len() > 128);
    for position in positions.iter().chain(&positions) {
        reader.read_block(*position).unwrap();
    }
    let wrong = BlockPosition {
        offset: positions[0].offset + 1,
        ..positions[0]
    };
    assert!(matches!(
        reader.read_block(wrong),
        Err(LogError::Damaged(_))
    ));
    let beyond = BlockPosition {
        offset: u32::MAX,
        ..positions[0]
    };
    assert!(matches!(
        reader.read_block(beyond),
        Err(LogError::Damaged(_))
    ));
    let blocks: Vec<LogBlock> = reader.blocks(1).unwrap().map(Result::unwrap).collect();
    assert_eq!(blocks[0].position, positions[0]);
}

/// A block from before, left behind by a write that was refused, is none.
#[test]
fn an_older_block_after_the_last_is_not_taken_for_the_next() {
    let disk = SimulatedDisk::new(1);
    let (mut writer, ..) = open(&disk, &small(), None).unwrap();
    let positions = write(&mut writer, 0, 6);
    let [first, second] =
        [positions[0], positions[1]].map(|at| usize::try_from(at.offset).unwrap());
    let end = usize::try_from(writer.end().unwrap().offset).unwrap();
    std::mem::forget(writer);
    disk.kill();
    let mut bytes = disk.content("00000001.log");
    bytes.copy_within(first..second, end);
    disk.put("00000001.log", &bytes);
    let (_, _, recovered, found) = open(&disk, &small(), None).unwrap();
    assert_eq!((found, recovered.damage), (everything(6), vec![]));
}

/// What a failed sync leaves is not read, whatever of it came to the disk: the next segment says where the last ended.
#[test]
fn a_failed_sync_condemns_its_segment() {
    for seed in 0..100 {
        let disk = SimulatedDisk::new(seed);
        let (mut writer, reader, ..) = open(&disk, &small(), None).unwrap();
        write(&mut writer, 0, 3);
        let end = writer.end().unwrap();
        let refused = writer.append(&[transaction(3, 100)], 3).unwrap();
        // The cut that follows fails as well in every second run.
        disk.fail_at(disk.steps(), Fault::Write, 1 + seed % 2);
        let error = writer.sync().unwrap_err();
        assert!(matches!(error, LogError::Io { .. }), "{error}");
        assert!(reader.read_block(refused.blocks[0].position).is_err());
        assert_eq!(writer.end(), Some(end));
        assert_eq!(write(&mut writer, 4, 6)[0].segment, 2);
        std::mem::forget(writer);
        if seed % 4 < 2 {
            disk.crash();
        } else {
            disk.kill();
        }
        let (_, reader, recovered, found) = open(&disk, &small(), None).unwrap();
        assert_eq!(
            (found, recovered.damage),
            (vec![0, 1, 2, 4, 5], vec![]),
            "seed {seed}"
        );
        assert_eq!(reader.segments()[0].bytes, u64::from(end.offset));
    }
}

#[test]
fn a_refused_write_leaves_nothing() {
    for seed in 0..100 {
        let disk = SimulatedDisk::new(seed);
        let (mut writer, ..) = open(&disk, &small(), None).unwrap();
        write(&mut writer, 0, 3);
        let fault = [Fault::Full, Fault::Write][usize::try_from(seed % 2).unwrap()];
        disk.fail_at(disk.steps(), fault, 1);
        // Within the zeros that the file ends with, and beyond.
        let records: Vec<_> = (3..if seed < 50 { 40 } else { 80 })
            .map(|number| transaction(number, 100))
            .collect();
        let error = writer.append(&records, 3).unwrap_err();
        assert!(error.is_full() || fault == Fault::Write, "{error}");
        if seed % 4 < 2 {
            // A disk that was only full goes on where it was, one that failed elsewhere.
            let position = write(&mut writer, 80, 83)[0];
            assert!(
                position.segment == 1 || fault == Fault::Write,
                "seed {seed}"
            );
        }
        let expected: &[u64] = if seed % 4 < 2 {
            &[0, 1, 2, 80, 81, 82]
        } else {
            &[0, 1, 2]
        };
        std::mem::forget(writer);
        disk.kill();
        let (_, _, recovered, found) = open(&disk, &small(), None).unwrap();
        assert_eq!(
            (&found[..], recovered.damage),
            (expected, vec![]),
            "seed {seed}"
        );
    }
}

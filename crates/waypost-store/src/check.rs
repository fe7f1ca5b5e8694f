//! Looking through a store that nobody uses.
//!
//! [`check`] reads every block of every segment and changes nothing. The views are left out of it: what is wrong with them is
//! made again from the log at the next start.

use std::sync::Arc;

use thiserror::Error;

use crate::{
    disk::Disk,
    log::{BlockPosition, LogDamage, LogError, LogOptions, Recovery, SegmentInfo},
    record::{Op, decode_ops},
    streams::{self, StreamFiles},
};

/// How far it is, in bytes read and in bytes of all segments. Says whether to go on.
pub type GoOn<'a> = &'a mut dyn FnMut(u64, u64) -> bool;

/// What a store has, and what of it cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Its segments, by number.
    pub segments: Vec<SegmentInfo>,
    /// What cannot be read, by file and offset.
    pub damage: Vec<LogDamage>,
    /// Blocks that can.
    pub blocks: u64,
    /// Operations in them,
    pub operations: u64,
    /// of these, messages.
    pub messages: u64,
    /// Bytes of operations, before compression and encryption.
    pub record_bytes: u64,
    /// The stamp of the last block, in wall time.
    pub last_wall_ms: u64,
    /// Files of streams,
    pub stream_files: u64,
    /// their bytes,
    pub stream_bytes: u64,
    /// and the records in them that can be read.
    pub stream_records: u64,
}

impl Report {
    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }
}

/// Why a store was not looked through.
#[derive(Debug, Error)]
pub enum CheckError {
    /// The log cannot be opened or read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Whoever wanted it changed their mind.
    #[error("stopped before all was read")]
    Stopped,
}

/// The segments of a store, by number, from their first and last bytes alone.
pub fn segments<D: Disk>(
    disk: Arc<D>,
    options: LogOptions,
) -> Result<Vec<SegmentInfo>, CheckError> {
    let nowhere = BlockPosition {
        segment: u32::MAX,
        offset: 0,
    };
    Ok(Recovery::open(disk, options, Some(nowhere))?.segments())
}

/// What each stream has, from the first and last bytes of its files alone.
pub fn streams<D: Disk>(disk: Arc<D>, options: LogOptions) -> Result<Vec<StreamFiles>, CheckError> {
    Ok(streams::summaries(disk, options)?)
}

/// Reads everything. Changes nothing.
pub fn check<D: Disk>(
    disk: Arc<D>,
    options: LogOptions,
    go_on: GoOn<'_>,
) -> Result<Report, CheckError> {
    let mut report = Report::default();
    let bytes_streams = streams::file_bytes(&*disk)?;
    let mut told = (0, 0);
    let recovery = read_all(
        disk.clone(),
        options.clone(),
        &mut report,
        &mut |bytes, total| {
            told = (bytes, total);
            go_on(bytes, total + bytes_streams)
        },
    )?;
    let checked = streams::check_files(disk, options, &mut |bytes| {
        told.0 += bytes;
        go_on(told.0.min(told.1 + bytes_streams), told.1 + bytes_streams)
    })?;
    let checked = checked.ok_or(CheckError::Stopped)?;
    report.stream_files = checked.files;
    report.stream_bytes = bytes_streams;
    report.stream_records = checked.records;
    report.damage.extend(checked.damage);
    report.segments = recovery.segments();
    let found = recovery.found();
    report.damage.extend_from_slice(&found.damage);
    report
        .damage
        .sort_by(|one, other| (&one.file, one.offset).cmp(&(&other.file, other.offset)));
    report.last_wall_ms = found.last_wall_ms;
    Ok(report)
}

pub(crate) fn read_all<D: Disk>(
    disk: Arc<D>,
    options: LogOptions,
    report: &mut Report,
    go_on: GoOn<'_>,
) -> Result<Recovery<D>, CheckError> {
    let mut recovery = Recovery::open(disk, options, None)?;
    let segments = recovery.segments();
    let bytes_total = segments.iter().map(|segment| segment.bytes).sum();
    let mut bytes = 0;
    while let Some(block) = recovery.next_block()? {
        let block_bytes = u64::from(block.end.offset.saturating_sub(block.position.offset));
        report.blocks += 1;
        report.record_bytes += block.records.len() as u64;
        for op in decode_ops(&block.records) {
            match op {
                Ok(op) => {
                    report.operations += 1;
                    report.messages += u64::from(matches!(op, Op::Message { .. }));
                }
                // The checksum is right and what it covers is not: whoever wrote it was wrong.
                Err(damage) => report.damage.push(LogDamage {
                    file: segments
                        .iter()
                        .find(|segment| segment.number == block.position.segment)
                        .map_or_else(String::new, |segment| segment.file.clone()),
                    offset: block.position.offset.into(),
                    bytes: block_bytes,
                    what: damage.what,
                }),
            }
        }
        bytes += block_bytes;
        if !go_on(bytes, bytes_total) {
            return Err(CheckError::Stopped);
        }
    }
    Ok(recovery)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        disk::SimulatedDisk,
        record::{Batch, MessageId, QueueId, Table},
    };

    fn options() -> LogOptions {
        LogOptions {
            segment_bytes: 2_000,
            block_bytes: 200,
            ..LogOptions::default()
        }
    }

    /// A log of thirty messages, each owed to two queues, and of thirty rows.
    fn written() -> SimulatedDisk {
        let disk = SimulatedDisk::new(1);
        let recovery = Recovery::open(Arc::new(disk.clone()), options(), None).unwrap();
        let (mut writer, ..) = recovery.finish().unwrap();
        for id in 1..=30 {
            let mut batch = Batch::new();
            batch.message(MessageId(id), u64::MAX, &id.to_be_bytes().repeat(10));
            batch.owe(MessageId(id), b"", [QueueId(1), QueueId(2)]);
            batch.end();
            batch.put(Table(1), &id.to_be_bytes(), b"value");
            batch.end();
            writer.append(&[batch.take()], 1_000 + id).unwrap();
            writer.sync().unwrap();
        }
        drop(writer);
        disk.kill();
        disk
    }

    fn checked(disk: &SimulatedDisk) -> Report {
        check(Arc::new(disk.clone()), options(), &mut |_, _| true).unwrap()
    }

    #[test]
    fn a_sound_store_is_counted_and_left_as_it_is() {
        let disk = written();
        let names = disk.list().unwrap();
        let before: Vec<_> = names.iter().map(|name| disk.content(name)).collect();
        let report = checked(&disk);
        assert_eq!(report.damage, []);
        assert_eq!((report.messages, report.operations), (30, 90));
        assert_eq!(report.last_wall_ms, 1_030);
        assert_eq!(report.segments.len(), names.len());
        assert!(report.segments.len() > 1);
        let bytes: usize = before.iter().map(Vec::len).sum();
        assert_eq!(report.bytes(), bytes as u64);
        let listed = segments(Arc::new(disk.clone()), options()).unwrap();
        assert_eq!(listed, report.segments);
        assert_eq!(disk.list().unwrap(), names);
        let after: Vec<_> = names.iter().map(|name| disk.content(name)).collect();
        assert_eq!(after, before);
    }

    #[test]
    fn damage_is_told_by_file_and_offset_and_the_rest_counted() {
        let disk = written();
        let sound = checked(&disk);
        for (name, offset) in [("00000002.log", 300), ("00000001.log", 500)] {
            assert!(disk.flip_bit(name, offset, 1));
        }
        let report = checked(&disk);
        let told: Vec<_> = report
            .damage
            .iter()
            .map(|damage| damage.file.as_str())
            .collect();
        assert_eq!(told, ["00000001.log", "00000002.log"]);
        for (damage, at) in report.damage.iter().zip([500, 300]) {
            assert!((damage.offset..damage.offset + damage.bytes).contains(&at));
        }
        assert_eq!(report.blocks, sound.blocks - 2);
        assert!(report.messages >= 28);
    }

    /// Goal: what a program wrote wrongly is found too, though every checksum is right.
    #[test]
    fn records_that_are_none_are_damage() {
        let disk = SimulatedDisk::new(1);
        let recovery = Recovery::open(Arc::new(disk.clone()), options(), None).unwrap();
        let (mut writer, ..) = recovery.finish().unwrap();
        let nonsense = [&5_u32.to_le_bytes()[..], &[99, 1, 2, 3, 4]].concat();
        writer.append(&[nonsense], 1).unwrap();
        writer.sync().unwrap();
        drop(writer);
        disk.kill();
        let report = checked(&disk);
        assert_eq!((report.blocks, report.operations), (1, 0));
        assert_eq!(report.damage.len(), 1);
        let damage = &report.damage[0];
        assert_eq!((damage.file.as_str(), damage.offset), ("00000001.log", 128));
    }

    #[test]
    fn who_stops_it_gets_nothing() {
        let disk = Arc::new(written());
        let mut calls = 0;
        let ended = check(disk, options(), &mut |bytes, total| {
            calls += 1;
            assert!(bytes <= total);
            calls < 3
        });
        assert!(matches!(ended, Err(CheckError::Stopped)));
    }
}

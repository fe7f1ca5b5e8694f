//! The log on a simulated disk.

mod copies;
mod format;
mod mend;
mod promises;

use std::sync::Arc;

use super::{BlockPosition, LogError, LogOptions, LogReader, LogWriter, Recovered, Recovery};
use crate::{
    disk::SimulatedDisk,
    record::{Batch, Op, QueueId, Table, decode_ops},
};

/// Segments and blocks so small that a few transactions fill them.
fn small() -> LogOptions {
    LogOptions {
        segment_bytes: 2000,
        block_bytes: 200,
        compress: waypost_compress::by_number(0).unwrap(),
        ..LogOptions::default()
    }
}

/// A transaction that says which one it is, of about this many bytes.
fn transaction(number: u64, bytes: usize) -> Vec<u8> {
    let mut batch = Batch::new();
    batch.end_queue(QueueId(number));
    batch.put(Table(0), b"", &vec![number.to_le_bytes()[0]; bytes]);
    batch.end();
    batch.take()
}

/// Which transactions some records are; each must be whole.
fn numbers(records: &[u8]) -> Vec<u64> {
    let ops: Vec<_> = decode_ops(records).map(Result::unwrap).collect();
    ops.chunks(2)
        .map(|pair| match pair {
            [Op::EndQueue { queue }, Op::Put { value, .. }] => {
                let byte = queue.0.to_le_bytes()[0];
                assert!(value.iter().all(|found| *found == byte));
                queue.0
            }
            _ => panic!("half a transaction: {pair:?}"),
        })
        .collect()
}

type Opened = (
    LogWriter<SimulatedDisk>,
    LogReader<SimulatedDisk>,
    Recovered,
    Vec<u64>,
);

/// The log of a disk, and the transactions in it from `from` on.
fn open(
    disk: &SimulatedDisk,
    options: &LogOptions,
    from: Option<BlockPosition>,
) -> Result<Opened, LogError> {
    let mut recovery = Recovery::open(Arc::new(disk.clone()), options.clone(), from)?;
    let mut found = Vec::new();
    while let Some(block) = recovery.next_block()? {
        assert!(from.is_none_or(|from| block.position >= from));
        found.extend(numbers(&block.records));
    }
    let (writer, reader, recovered) = recovery.finish()?;
    Ok((writer, reader, recovered, found))
}

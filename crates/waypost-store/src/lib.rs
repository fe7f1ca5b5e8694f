//! What outlives a process: one write-ahead log per node, and the views folded from it.
//!
//! The log is the truth, everything else can be made again from it. It records a handful of generic operations
//! ([`Op`]): messages, the queues that are owed them, and keyed rows; operations between two [`Batch::end`] are one
//! transaction, all of which is there after a crash or nothing. Whatever touches the disk goes through [`Disk`], of which
//! there is a real one and a simulated one that loses, tears and damages on purpose.
//!
//! Deliberately not here: MQTT (rows and bodies are opaque), threads, clocks (time is passed in).
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

pub mod backup;
pub mod check;
pub mod disk;
pub mod log;
mod message_cache;
#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "small numbers")]
mod model;
mod record;
pub mod repair;
mod store;
pub mod streams;
mod views;

pub use disk::{Disk, DiskFile};
pub use message_cache::{FIRST_PARTITION, PARTITIONS_MAX, Partition, PartitionFigures, Partitions};
pub use record::{
    Batch, Damage, MessageId, Op, Ops, QueueId, Queues, StreamId, StreamIds, TRANSACTION_BYTES_MAX,
    Table, Transaction, Transactions, decode_ops, decode_transactions,
};
pub use store::{
    Appended, QueueEntry, QueueRead, Recovered, Refused, Retired, SegmentStats, Store, StoreError,
    StoreFigures, StoreOptions, StoreStats, StoreWriter, ViewsAtStart,
};
pub use streams::Streams;
pub use views::{OwedQueues, QueueState, Row, Rows, SegmentFigures, ViewsError, ViewsFigures};
/// The family that [`StoreOptions::cache`] is of.
pub use waypost_cache as cache;

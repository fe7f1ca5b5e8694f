//! What outlives the process: the threads between the shards and `waypost-store`.
//!
//! ```text
//! shard (journal.rs)  →  Intake  →  writer: append, sync  →  indexer: apply, commit, retire  →  reader, stream reader
//!        ↑                              │ stored, refused                                        │ what was asked for
//!        └──────────────────────────────┴────────────────────────────────────────────────────────┘
//! ```
//!
//! One writer for all shards, so that one sync serves all of them. Views are told only what is durable.
//!
//! Deliberately not here: what the operations mean (waypost-core), and what they look like on disk (waypost-store).

mod clock;
mod figures;
mod indexer;
mod intake;
mod key;
mod open;
mod reader;
mod stream_desk;
mod stream_reader;
mod streams;
#[cfg(test)]
pub(crate) mod tests;
mod trouble;
mod writer;

pub use clock::ClockTrust;
pub(crate) use clock::WallClock;
pub(crate) use intake::{Ask, HandIn, Intake, LogAsk, StorePort};
pub use key::NoKey;
pub use open::{DIRECTORY as STORE_DIRECTORY, OpenError, options as store_options};
pub(crate) use open::{OpenStore, open};
pub(crate) use streams::Served as ServedStreams;

//! Packed payloads between clients that do not speak of the same packing: `[[topic]] transcode`.
//!
//! Under such a policy a subscriber that did not accept a message's `content-encoding` gets it unpacked, and where the
//! policy also says `compress`, one that accepts that packing gets it packed; each is done once for a shard's
//! subscribers. What is large is done by [`workers`], while what comes after it waits in the connection
//! (`shard/later.rs`), so that order is kept and nobody else waits. What cannot be unpacked goes as it came.
//!
//! Deliberately not here: whose connection accepts what (`shard`), how bytes are packed (waypost-compress) and sealed
//! payloads, which nobody but their receivers can open.

mod accepted;
mod books;
mod choosers;
mod coder;
mod message;
mod plan;
mod recent;
mod rules;
mod workers;

pub(crate) use accepted::{Accepted, accepted_by};
pub(crate) use coder::{Coder, CoderLimits, Form, Settled};
pub(crate) use message::OwnedMessage;
pub(crate) use rules::{Codings, Said};
pub(crate) use workers::{JobId, Worked, Workers, start_workers};

#[cfg(test)]
pub(crate) use workers::Jobs;

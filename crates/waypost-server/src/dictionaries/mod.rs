//! Dictionaries of the server's own, for policies with `compress = "zstd-dict"` and `transcode = true`: learnt from the
//! messages of each policy by [`training`], found by their ids on the [`shelf`], and published, retained, on
//! `$dictionary/<id>`, so that whoever gets a frame that names one can ask for it.
//!
//! A policy's messages are mixed with no other's. What is sealed is not learnt from, nor what comes packed. Who may read a
//! dictionary is who may subscribe to the whole filter of its policy ([`ReadersOf`]): it says what many said there.
//!
//! **Retirement.** A better dictionary takes an older one's place at once: nothing is packed with that any more. But what was
//! packed with it may wait in a session, in a stream, as a retained message or with a client for as long as they like, and
//! names it. So a retired dictionary stays readable, over starts too, and none is ever deleted by the server; when a policy
//! has had [`VERSIONS_MAX`] of them, it keeps the last. An id stands for one dictionary for the life of a data directory.
//!
//! Deliberately not here: how one is made (waypost-compress), and who packs with it (`transcode`).

mod at_rest;
mod copies;
mod files;
mod readers;
mod shelf;
mod training;

pub(crate) use at_rest::AtRest;
pub use copies::{originals, put_back};
pub(crate) use files::Files;
pub use files::{decode_dictionary_file, encode_dictionary_file};
pub(crate) use readers::ReadersOf;
pub(crate) use shelf::{Shelf, VERSIONS_MAX};
pub(crate) use training::{Sampler, Training, start_training};

/// Where dictionaries are published, retained: below it their ids.
const TOPIC: &str = "$dictionary";

fn topic_of(id: u32) -> String {
    format!("{TOPIC}/{id}")
}

#[cfg(test)]
mod tests;

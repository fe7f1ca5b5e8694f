//! Messages sealed end to end by programs that share no code: `waypost pub` and `sub`, a page in a real Chromium, and a Python
//! script, the latter two those of `examples/sealing`. Each opens what each seals, refuses what it should, and the server in
//! between has nothing to read.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod commands;
mod exchange;
mod people;
mod pycose;
mod refusals;
mod stored;

//! What is on the disk when a client is told that it is, what happens when the disk is full, and what may be read there.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod at_rest;
mod full_disk;
mod order;
mod plain;
mod policy;
mod power_cut;

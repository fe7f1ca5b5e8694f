//! The broker of one shard, sans-I/O: sessions, topic index, retained messages, timers.

pub mod index;

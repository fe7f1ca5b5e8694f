//! One file per command: its arguments, its help, its `run`.

pub mod completions;
pub mod config;
pub mod serve;

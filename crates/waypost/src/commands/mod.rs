//! One file per command: its arguments, its help, its `run`.

pub mod bench;
pub mod completions;
pub mod config;
pub mod connection;
pub mod property;
pub mod publish;
pub mod reconnect;
pub mod replay;
pub mod serve;
pub mod subscribe;
pub mod users;

//! One file per command: its arguments, its help, its `run`. What the `simulate` commands share is in `simulate/`.

pub mod administration;
pub mod balance;
pub mod bench;
pub mod cache;
pub mod completions;
pub mod compress;
pub mod config;
pub mod connection;
pub mod encrypt;
pub mod keys;
pub mod output;
pub mod property;
pub mod publish;
pub mod reconnect;
pub mod replay;
pub mod sealing;
pub mod serve;
pub mod simulate;
pub mod store;
pub mod strategies;
pub mod streams;
pub mod subscribe;
pub mod users;

//! Who may come in and what they may do: the users file, and its rules on every shard.
//!
//! Deliberately not here: the decisions themselves (`waypost-auth`), and the questions (`waypost-core`).

mod users_file;

pub use users_file::{UsersFile, UsersFileError};

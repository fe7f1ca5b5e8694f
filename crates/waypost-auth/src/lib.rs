//! Who may do what: users and permissions, behind the core's `Permit` and `Authenticate`.
//!
//! Its decisions make no I/O: files are read and passwords hashed by the server. Deliberately not here: sockets,
//! threads, sessions.
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

mod edit;
mod file;
mod log_in;
mod password;
mod pattern;
mod permissions;
mod queue;
mod remembered;
mod rules;

pub use edit::{EditError, ListedUser, UsersText};
pub use file::{Problem, Problems};
pub use log_in::{LogIn, PasswordCheck, Question};
pub use password::{HashMemory, PasswordHash, PasswordHashError, SALT_BYTES};
pub use permissions::Permissions;
pub use queue::{Joined, Origin, Queue};
pub use remembered::{KEY_BYTES, Remembered};
pub use rules::Rules;

//! Bad input, each on a running server: what is malformed, cut, oversized, out of order or hostile ends its own
//! connection with the right reason, costs a bounded amount, and leaves everybody else's traffic untouched.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod damaged;
mod hostile;
mod limits;
mod neighbours;
mod session_limits;
mod slow_readers;

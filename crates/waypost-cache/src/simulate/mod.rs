//! What each strategy would have had in memory: a trace of requests played through it, and through what knows the future.
//!
//! Deliberately not here: files and clocks. The caller reads lines, and measures how long [`play`] takes.

mod optimum;
mod run;
mod trace;

pub use optimum::{belady_size, optimum};
pub use run::{Capacity, Outcome, play};
pub use trace::{LineError, Request, Trace};

//! The `waypost` program: one file per command.
fn main() {}

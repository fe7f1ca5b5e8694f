//! `cargo xtask bench storm`: what storms of connections do to live traffic, and what a TLS handshake costs beside the
//! peers; one JSON line to `docs/evidence/storm.jsonl`.
//!
//! The measuring is done by `waypost-storm`, in the crate of the end-to-end tests, which has the clients for it.

use std::path::Path;

use super::keep;
use crate::{arguments::Arguments, failure::Failure, measured};

const EVIDENCE: &str = "docs/evidence/storm.jsonl";

/// Numbers that are passed on: `--rounds 5 --seconds 2 --clients 10000 --tls-clients 2000 --handshakes 500`.
const OPTIONS: &[&str] = &[
    "--rounds",
    "--seconds",
    "--clients",
    "--tls-clients",
    "--handshakes",
];

pub fn run(root: &Path, mut arguments: Arguments) -> Result<(), Failure> {
    let print_only = arguments.flag("--print");
    let mut options = Vec::new();
    for name in OPTIONS {
        if let Some(value) = arguments.option::<u64>(name)? {
            options.extend([(*name).to_owned(), value.to_string()]);
        }
    }
    arguments.finish()?;
    let measured = measured::run(root, "release", "waypost-storm", "storm", &options)?;
    if print_only {
        return Ok(());
    }
    keep(root, EVIDENCE, &measured.line)
}

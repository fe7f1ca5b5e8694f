//! `cargo xtask sanitize`: the tests of what calls C through `unsafe`, under `AddressSanitizer`.
//!
//! The compiler's sanitizers are for nightly toolchains; `RUSTC_BOOTSTRAP` lets the pinned one have them, for this task alone.
//! The C code is built with them too, or a write beyond a buffer in there would be nobody's.

use std::{path::Path, process::Command, time::Instant};

use serde_json::json;

use crate::{arguments::Arguments, bench, failure::Failure, process};

/// The crates whose own code calls C, and which of their tests: each `unsafe` outside tests is in one of them.
const SUITES: &[(&str, &[&str])] = &[("waypost-compress", &["--lib", "--test", "dictionaries"])];

pub fn run(root: &Path, arguments: Arguments) -> Result<(), Failure> {
    arguments.finish()?;
    let said = process::output(root, "rustc", &["-vV"]).unwrap_or_default();
    let host = host(&said).ok_or_else(|| Failure::new("rustc -vV names no host"))?;
    SUITES
        .iter()
        .try_for_each(|(package, tests)| sanitize(root, host, package, tests))
}

fn sanitize(root: &Path, host: &str, package: &str, tests: &[&str]) -> Result<(), Failure> {
    let start = Instant::now();
    // With a target of its own, build scripts and macros run without the sanitizer.
    let result = process::finish(
        Command::new(env!("CARGO"))
            .args(["test", "--locked", "--package", package, "--target", host])
            .args(tests)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUSTFLAGS", "-Zsanitizer=address")
            .env(
                format!("CFLAGS_{}", host.replace('-', "_")),
                "-fsanitize=address -fno-omit-frame-pointer",
            )
            .current_dir(root),
    );
    let line = json!({
        "task": "sanitize",
        "sanitizer": "address",
        "package": package,
        "commit": bench::commit(root),
        "machine": bench::machine(),
        "minutes": start.elapsed().as_secs_f64() / 60.0,
        "failures": u64::from(result.is_err()),
    });
    println!("{line}");
    result
}

/// The kind of machine that `rustc -vV` says it is on.
fn host(said: &str) -> Option<&str> {
    said.lines().find_map(|line| line.strip_prefix("host: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_a_line_of_what_rustc_says() {
        let said = "rustc 1.95.0\nbinary: rustc\nhost: x86_64-unknown-linux-gnu\nrelease: 1.95.0\n";
        assert_eq!(host(said), Some("x86_64-unknown-linux-gnu"));
        assert_eq!(host("rustc 1.95.0\n"), None);
    }
}

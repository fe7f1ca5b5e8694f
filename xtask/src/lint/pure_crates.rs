//! Crates that promise to do no I/O, own no clock and start no thread.

use toml::Table;

use super::Finding;
use crate::{
    repository::{File, Repository},
    rust_source,
};

const PURE: &[&str] = &[
    "crates/waypost-mqtt/",
    "crates/waypost-core/",
    "crates/waypost-names/",
    "crates/waypost-balance/",
    "crates/waypost-route/",
    "crates/waypost-cache/",
    "crates/waypost-compress/",
    "crates/waypost-encrypt/",
    "crates/waypost-mesh/",
    "crates/waypost-auth/",
];

/// What their code must not name, tests apart.
const FORBIDDEN_CODE: &[&str] = &[
    "std::net",
    "std::fs",
    "std::thread",
    "std::process",
    "std::env",
    "std::io",
    "Instant::now",
    "SystemTime",
    "thread_rng",
    "OsRng",
    "RandomState",
    "tokio",
    "mio::",
    "println!",
    "eprintln!",
];

/// What those modules still offer without doing anything: plain values.
const PLAIN_VALUES: &[&str] = &[
    "std::net::IpAddr",
    "std::net::Ipv4Addr",
    "std::net::Ipv6Addr",
    "std::net::SocketAddr",
    "std::net::{IpAddr, SocketAddr}",
];

/// Crates whose only use is I/O, time, threads or entropy.
const FORBIDDEN_CRATES: &[&str] = &[
    "async-std",
    "crossbeam-channel",
    "getrandom",
    "io-uring",
    "libc",
    "mio",
    "nix",
    "rand",
    "rustix",
    "smol",
    "socket2",
    "tokio",
];

pub fn check(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for folder in PURE {
        if let Some(manifest) = repository.file(&format!("{folder}Cargo.toml")) {
            check_manifest(manifest, &mut findings);
        }
        let sources = format!("{folder}src/");
        for file in repository.rust_files(&sources) {
            check_source(file, &mut findings);
        }
    }
    findings
}

fn check_manifest(file: &File, findings: &mut Vec<Finding>) {
    // A manifest that is no TOML is reported by the check of the arrows.
    let Ok(manifest) = file.text.parse::<Table>() else {
        return;
    };
    let Some(dependencies) = manifest
        .get("dependencies")
        .and_then(|section| section.as_table())
    else {
        return;
    };
    for name in dependencies
        .keys()
        .filter(|name| FORBIDDEN_CRATES.contains(&name.as_str()))
    {
        let line = file
            .text
            .lines()
            .position(|line| line.starts_with(name.as_str()))
            .map_or(1, |index| index + 1);
        let what = format!("a crate without I/O uses {name}");
        findings.push(Finding::new(
            &file.path,
            line,
            what,
            "do it in waypost-server and pass the result in",
        ));
    }
}

fn check_source(file: &File, findings: &mut Vec<Finding>) {
    if is_test_file(&file.path) {
        return;
    }
    let code = rust_source::code_only(&file.text);
    let code = code
        .get(..rust_source::tests_start(&file.text))
        .unwrap_or(&code);
    for word in FORBIDDEN_CODE {
        for (offset, _) in code.match_indices(word) {
            let rest = code.get(offset..).unwrap_or_default();
            if PLAIN_VALUES.iter().any(|plain| rest.starts_with(plain)) {
                continue;
            }
            let what = format!("{word} in a crate without I/O");
            let fix = "take time, bytes and seeds as arguments; let waypost-server touch the world";
            findings.push(Finding::new(&file.path, file.line_of(offset), what, fix));
        }
    }
}

/// Whether the whole file is compiled for tests only.
pub fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/") || path.ends_with("_tests.rs")
}

#[cfg(test)]
mod tests {
    use super::{
        super::{expect_bad, expect_good},
        *,
    };

    const PATH: &str = "crates/waypost-core/src/session.rs";

    #[test]
    fn plain_values_comments_and_tests_are_free() {
        expect_good(
            check,
            &[(
                PATH,
                "use std::net::SocketAddr;\n// Instant::now is not for us\n",
            )],
        );
        expect_good(
            check,
            &[(
                PATH,
                "fn f() {}\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n",
            )],
        );
        expect_good(
            check,
            &[(
                "crates/waypost-core/src/tests/world.rs",
                "use std::thread;\n",
            )],
        );
        expect_good(
            check,
            &[("crates/waypost-server/src/lib.rs", "use std::fs;\n")],
        );
    }

    #[test]
    fn clocks_sockets_and_threads_are_found() {
        for (source, word) in [
            (
                "fn f() {\n    let now = Instant::now();\n}\n",
                "Instant::now",
            ),
            ("\nuse std::net::TcpStream;\n", "std::net"),
            ("\nuse std::thread;\n", "std::thread"),
            ("\nuse tokio::sync::Notify;\n", "tokio"),
        ] {
            expect_bad(
                check,
                &[(PATH, source)],
                "crates/waypost-core/src/session.rs:2",
                word,
            );
        }
    }

    #[test]
    fn a_dependency_that_only_does_io_is_found() {
        let manifest = "[package]\nname = \"waypost-mqtt\"\n[dependencies]\nlibc = \"1\"\n";
        expect_bad(
            check,
            &[("crates/waypost-mqtt/Cargo.toml", manifest)],
            "crates/waypost-mqtt/Cargo.toml:4",
            "libc",
        );
    }
}

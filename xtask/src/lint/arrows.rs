//! Which crate may depend on which: the table of ARCHITECTURE.md.

use toml::Table;

use super::Finding;
use crate::repository::Repository;

/// A crate and the crates of this house that it may use, in any dependency section.
const ARROWS: &[(&str, &[&str])] = &[
    ("waypost-mqtt", &[]),
    ("waypost-names", &[]),
    ("waypost-balance", &["waypost-names"]),
    ("waypost-route", &["waypost-names"]),
    ("waypost-cache", &["waypost-names"]),
    ("waypost-compress", &["waypost-names"]),
    ("waypost-encrypt", &["waypost-names"]),
    ("waypost-core", &["waypost-mqtt", "waypost-balance"]),
    ("waypost-auth", &["waypost-mqtt", "waypost-core"]),
    (
        "waypost-store",
        &[
            "waypost-mqtt",
            "waypost-cache",
            "waypost-compress",
            "waypost-encrypt",
        ],
    ),
    (
        "waypost-mesh",
        &[
            "waypost-mqtt",
            "waypost-route",
            "waypost-compress",
            "waypost-encrypt",
        ],
    ),
    (
        "waypost-client",
        &["waypost-mqtt", "waypost-compress", "waypost-encrypt"],
    ),
    (
        "waypost-server",
        &[
            "waypost-mqtt",
            "waypost-core",
            "waypost-names",
            "waypost-balance",
            "waypost-store",
            "waypost-mesh",
            "waypost-auth",
            "waypost-compress",
            "waypost-encrypt",
        ],
    ),
    ("waypost-http", &["waypost-server"]),
    ("waypost-connect", &["waypost-server"]),
    // The spike behind docs/decisions/0001-event-loop.md, a workspace of its own.
    ("event-loop", &[]),
];

/// Crates that the tests of another may use: the core is simulated on the real store.
const IN_TESTS: &[(&str, &str)] = &[("waypost-core", "waypost-store")];

/// Crates that may use any other.
const ANYTHING: &[&str] = &["waypost", "waypost-fuzz", "waypost-tests", "xtask"];

const SECTIONS: &[&str] = &["dependencies", "dev-dependencies", "build-dependencies"];

pub fn check(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in repository
        .files()
        .filter(|file| file.path.ends_with("Cargo.toml"))
    {
        let manifest: Table = match file.text.parse() {
            Ok(manifest) => manifest,
            Err(error) => {
                findings.push(Finding::new(
                    &file.path,
                    1,
                    format!("not TOML: {error}"),
                    "repair it",
                ));
                continue;
            }
        };
        let package = manifest
            .get("package")
            .and_then(|package| package.get("name"))
            .and_then(|name| name.as_str());
        let Some(package) = package.filter(|package| !ANYTHING.contains(package)) else {
            continue;
        };
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package) else {
            let fix =
                "give it a row in ARROWS of xtask/src/lint/arrows.rs and a line in ARCHITECTURE.md";
            findings.push(Finding::new(
                &file.path,
                1,
                format!("{package} is in no table of arrows"),
                fix,
            ));
            continue;
        };
        let is_for_tests = |section: &str, name: &str| {
            section == "dev-dependencies" && IN_TESTS.contains(&(package, name))
        };
        let used = SECTIONS.iter().flat_map(|section| {
            let table = manifest.get(*section).and_then(|table| table.as_table());
            let names = table.into_iter().flat_map(Table::keys);
            names.filter(move |name| !is_for_tests(section, name))
        });
        for name in used.filter(|name| is_ours(name) && !allowed.contains(&name.as_str())) {
            let line = file
                .text
                .lines()
                .position(|line| line.starts_with(name.as_str()))
                .map_or(1, |index| index + 1);
            let fix = "let the lower crate own what is needed, or pass it in; the arrows are in ARCHITECTURE.md";
            findings.push(Finding::new(
                &file.path,
                line,
                format!("{package} must not use {name}"),
                fix,
            ));
        }
    }
    findings
}

fn is_ours(name: &str) -> bool {
    name.starts_with("waypost") || name == "xtask"
}

#[cfg(test)]
mod tests {
    use super::{
        super::{expect_bad, expect_good},
        *,
    };

    const PATH: &str = "crates/waypost-core/Cargo.toml";

    #[test]
    fn follows_the_table() {
        expect_good(
            check,
            &[(
                PATH,
                "[package]\nname = \"waypost-core\"\n[dependencies]\nwaypost-mqtt.workspace = true\nfoldhash = \"1\"\n",
            )],
        );
        expect_good(
            check,
            &[(
                "xtask/Cargo.toml",
                "[package]\nname = \"xtask\"\n[dependencies]\nwaypost = \"1\"\n",
            )],
        );
        expect_good(
            check,
            &[(
                "Cargo.toml",
                "[workspace.dependencies]\nwaypost-mqtt = { path = \"\" }\n",
            )],
        );
    }

    #[test]
    fn names_the_line_of_a_wrong_arrow() {
        let manifest = "[package]\nname = \"waypost-core\"\n[dev-dependencies]\nwaypost-server.workspace = true\n";
        expect_bad(
            check,
            &[(PATH, manifest)],
            "crates/waypost-core/Cargo.toml:4",
            "must not use waypost-server",
        );
    }

    #[test]
    fn every_crate_has_a_row() {
        expect_bad(
            check,
            &[("a/Cargo.toml", "[package]\nname = \"waypost-new\"\n")],
            "a/Cargo.toml:1",
            "no table",
        );
    }
}

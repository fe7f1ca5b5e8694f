//! What must not stay behind: unfinished work, switched-off tests, debug output, paths of one machine.

use super::Finding;
use crate::{
    repository::{File, Repository},
    rust_source,
};

/// Marks of unfinished work, in any text file. Written in two halves so that this file has none.
const MARKS: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];

/// What Rust code must not have, tests included.
const CODE: &[&str] = &[
    "#[ignore",
    "todo!(",
    "unimplemented!(",
    "dbg!(",
    "assert!(true",
];

/// Folders that exist on one machine only.
const MACHINE_PATHS: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/fa", "rm/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!(".lib", "rary"),
];

pub fn check(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in repository
        .files()
        .filter(|file| !is_generated_elsewhere(&file.path))
    {
        for mark in MARKS {
            let is_word = |offset: &usize| is_whole_word(&file.text, *offset, mark);
            for (offset, _) in file
                .text
                .match_indices(mark)
                .filter(|(offset, _)| is_word(offset))
            {
                add(
                    &mut findings,
                    file,
                    offset,
                    mark,
                    "finish it, or file an issue and take the mark out",
                );
            }
        }
        for path in MACHINE_PATHS {
            for (offset, _) in file.text.match_indices(path) {
                add(
                    &mut findings,
                    file,
                    offset,
                    path,
                    "use a path from the repository's root or a temporary directory",
                );
            }
        }
        if file.is_rust() {
            let code = rust_source::code_only(&file.text);
            for word in CODE {
                for (offset, _) in code.match_indices(word) {
                    add(
                        &mut findings,
                        file,
                        offset,
                        word,
                        "finish it or take it out",
                    );
                }
            }
        }
    }
    findings
}

/// Lock files are written by package managers.
fn is_generated_elsewhere(path: &str) -> bool {
    path.ends_with("Cargo.lock") || path.ends_with("package-lock.json")
}

fn is_whole_word(text: &str, offset: usize, word: &str) -> bool {
    let before = text.get(..offset).and_then(|text| text.chars().next_back());
    let after = text
        .get(offset + word.len()..)
        .and_then(|text| text.chars().next());
    !before
        .into_iter()
        .chain(after)
        .any(|c| c.is_alphanumeric() || c == '_')
}

fn add(findings: &mut Vec<Finding>, file: &File, offset: usize, what: &str, fix: &str) {
    findings.push(Finding::new(
        &file.path,
        file.line_of(offset),
        format!("{what} left behind"),
        fix,
    ));
}

#[cfg(test)]
mod tests {
    use super::{
        super::{expect_bad, expect_good},
        *,
    };

    #[test]
    fn words_that_only_contain_a_mark_are_free() {
        expect_good(
            check,
            &[
                ("a.rs", "// mktemp -d abcXXXXXX\nlet s = \"dbg!(x)\";\n"),
                ("b.md", "Todos los temas\n"),
            ],
        );
    }

    #[test]
    fn marks_and_switched_off_tests_are_found() {
        expect_bad(
            check,
            &[("a.rs", concat!("\n// TO", "DO: more\n"))],
            "a.rs:2",
            "left behind",
        );
        expect_bad(
            check,
            &[("a.rs", "#[test]\n#[ignore]\nfn f() {}\n")],
            "a.rs:2",
            "#[ignore",
        );
        expect_bad(
            check,
            &[("a.md", concat!("see /wo", "rk/x\n"))],
            "a.md:1",
            "repository's root",
        );
    }
}

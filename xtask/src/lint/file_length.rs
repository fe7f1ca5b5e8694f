//! No Rust file beyond 600 lines before its tests.

use super::{Finding, pure_crates::is_test_file};
use crate::{repository::Repository, rust_source};

const LINES_MAX: usize = 600;

/// Files that may be longer, each with the reason. This list may only shrink.
const EXEMPT: &[(&str, &str)] = &[];

pub fn check(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in repository.rust_files("") {
        if is_test_file(&file.path) || EXEMPT.iter().any(|(path, _)| *path == file.path) {
            continue;
        }
        let lines = file.line_of(rust_source::tests_start(&file.text).saturating_sub(1));
        if lines > LINES_MAX {
            let what = format!("{lines} lines before the tests, {LINES_MAX} at most");
            findings.push(Finding::new(
                &file.path,
                LINES_MAX + 1,
                what,
                "split it by subject",
            ));
        }
    }
    findings.extend(
        EXEMPT
            .iter()
            .filter(|(path, _)| repository.file(path).is_none())
            .map(|(path, _)| {
                Finding::new(
                    "xtask/src/lint/file_length.rs",
                    1,
                    format!("{path} is exempt but gone"),
                    "take it off the list",
                )
            }),
    );
    findings
}

#[cfg(test)]
mod tests {
    use super::{
        super::{expect_bad, expect_good},
        *,
    };

    #[test]
    fn counts_up_to_the_tests() {
        let code = "fn f() {}\n".repeat(LINES_MAX);
        let tests = format!(
            "{code}#[cfg(test)]\nmod tests {{\n{}}}\n",
            "    // more\n".repeat(100)
        );
        expect_good(
            check,
            &[
                ("crates/a/src/lib.rs", &code),
                ("crates/a/src/b.rs", &tests),
            ],
        );
        expect_good(
            check,
            &[("tests/tests/conformance_5/connect.rs", &code.repeat(2))],
        );
        let long = format!("{code}fn g() {{}}\n");
        expect_bad(
            check,
            &[("crates/a/src/lib.rs", &long)],
            "crates/a/src/lib.rs:601",
            "601 lines",
        );
    }
}

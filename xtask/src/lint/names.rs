//! File and folder names that name nothing.

use super::Finding;
use crate::repository::Repository;

const EMPTY_NAMES: &[&str] = &[
    "common", "helper", "helpers", "manager", "misc", "util", "utils",
];

pub fn check(repository: &Repository) -> Vec<Finding> {
    let sources = repository.files().filter(|file| {
        let is_code = [".rs", ".py", ".mjs", ".ts"]
            .iter()
            .any(|ending| file.path.ends_with(ending));
        is_code
            && file
                .path
                .split(['/', '.'])
                .any(|part| EMPTY_NAMES.contains(&part))
    });
    sources
        .map(|file| {
            Finding::new(
                &file.path,
                1,
                "this name says nothing about what is inside",
                "name it after its subject",
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{expect_bad, expect_good},
        *,
    };

    #[test]
    fn judges_whole_words_of_the_path() {
        expect_good(
            check,
            &[("crates/a/src/utilization.rs", ""), ("docs/common.md", "")],
        );
        expect_bad(
            check,
            &[("crates/a/src/utils.rs", "")],
            "crates/a/src/utils.rs:1",
            "subject",
        );
        expect_bad(
            check,
            &[("crates/a/src/helpers/x.rs", "")],
            "crates/a/src/helpers/x.rs:1",
            "subject",
        );
    }
}

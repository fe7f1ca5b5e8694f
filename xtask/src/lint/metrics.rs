//! Every metric is documented, and some test shows that it counts.

use super::{Finding, settings::test_code};
use crate::{
    repository::{File, Repository},
    rust_source,
};

const FOLDER: &str = "crates/waypost-server/src/metrics";
const PAGE: &str = "docs/metrics.md";
const PREFIX: &str = "waypost_";

pub fn check(repository: &Repository) -> Vec<Finding> {
    let page = repository.file(PAGE).map_or("", |file| file.text.as_str());
    let tests = test_code(repository, FOLDER);
    let mut findings = Vec::new();
    for file in repository
        .rust_files(FOLDER)
        .filter(|file| !super::pure_crates::is_test_file(&file.path))
    {
        for (line, name) in names(file) {
            if !contains_word(page, &name) {
                let fix = format!("renew {PAGE}: RENEW_DOCS=1 cargo test -p waypost-server");
                findings.push(Finding::new(
                    &file.path,
                    line,
                    format!("{name} is not documented"),
                    fix,
                ));
            }
            if !contains_word(&tests, &name) {
                let fix = "write a test that makes it count and reads it, naming it in full";
                findings.push(Finding::new(
                    &file.path,
                    line,
                    format!("no test shows that {name} counts"),
                    fix,
                ));
            }
        }
    }
    findings
}

/// The metric names a file has as string literals, tests apart, each once.
fn names(file: &File) -> Vec<(usize, String)> {
    let source = rust_source::without_comments(&file.text);
    let source = source
        .get(..rust_source::tests_start(&file.text))
        .unwrap_or(&source);
    let mut found: Vec<(usize, String)> = Vec::new();
    for (offset, _) in source.match_indices(&format!("\"{PREFIX}")) {
        let name: String = source
            .get(offset + 1..)
            .unwrap_or_default()
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect();
        if !found.iter().any(|(_, known)| *known == name) && name != PREFIX {
            found.push((file.line_of(offset), name));
        }
    }
    found
}

fn contains_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(offset, _)| {
        let after = text
            .get(offset + word.len()..)
            .and_then(|rest| rest.chars().next());
        !after.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::{expect_bad, expect_good},
        *,
    };

    const TABLE: (&str, &str) = (
        "crates/waypost-server/src/metrics/mod.rs",
        "\nconst A: &str = \"waypost_messages_total\";\n",
    );
    const DOCS: (&str, &str) = (PAGE, "| `waypost_messages_total` |");
    const TEST: (&str, &str) = (
        "tests/tests/metrics.rs",
        "assert_eq!(metric(\"waypost_messages_total\"), 1);",
    );

    #[test]
    fn a_metric_has_a_line_and_a_test() {
        expect_good(check, &[TABLE, DOCS, TEST]);
        expect_bad(
            check,
            &[TABLE, TEST],
            "crates/waypost-server/src/metrics/mod.rs:2",
            "not documented",
        );
        expect_bad(
            check,
            &[TABLE, DOCS],
            "crates/waypost-server/src/metrics/mod.rs:2",
            "no test",
        );
    }

    #[test]
    fn a_longer_name_is_another_metric() {
        let test = (
            "tests/tests/metrics.rs",
            "metric(\"waypost_messages_total_bytes\")",
        );
        expect_bad(
            check,
            &[TABLE, DOCS, test],
            "crates/waypost-server/src/metrics/mod.rs:2",
            "no test",
        );
    }
}

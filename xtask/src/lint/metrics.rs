//! Every metric has a test that shows it counts.
//!
//! The names are those of the page, which a test of waypost-server keeps equal to the code's table.

use super::{Finding, settings::test_code};
use crate::repository::Repository;

const PAGE: &str = "docs/metrics.md";
/// Tests in here show that a metric is exported, not that it counts.
const EXPORTING: &str = "crates/waypost-server/src/metrics/";

pub fn check(repository: &Repository) -> Vec<Finding> {
    let Some(page) = repository.file(PAGE) else {
        return Vec::new();
    };
    let tests = test_code(repository, EXPORTING);
    let rows = page
        .text
        .lines()
        .enumerate()
        .filter_map(|(index, line)| Some((index + 1, metric(line)?)));
    rows.filter(|(_, name)| !is_tested(&tests, name))
        .map(|(line, name)| {
            let fix = "write a test that makes it count and reads it, by this name or as a field of the counters";
            Finding::new(PAGE, line, format!("no test shows that {name} counts"), fix)
        })
        .collect()
}

/// The name in a row such as ``| `waypost_takeovers_total` | counter | …``.
fn metric(line: &str) -> Option<&str> {
    let name = line.strip_prefix("| `")?.split('`').next()?;
    name.starts_with("waypost_").then_some(name)
}

fn is_tested(tests: &str, name: &str) -> bool {
    let field = name
        .trim_start_matches("waypost_")
        .trim_end_matches("_total");
    contains_word(tests, name) || contains_word(tests, &format!(".{field}"))
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

    const DOCS: (&str, &str) = (PAGE, "# Metrics\n| `waypost_takeovers_total` | counter |");

    #[test]
    fn a_metric_is_named_in_a_test() {
        expect_good(
            check,
            &[
                DOCS,
                (
                    "tests/tests/metrics.rs",
                    "server.metric(\"waypost_takeovers_total\")",
                ),
            ],
        );
        let core =
            "#[cfg(test)]\nmod tests {\n    fn f() { assert_eq!(counters.takeovers, 1); }\n}\n";
        expect_good(check, &[DOCS, ("crates/waypost-core/src/connect.rs", core)]);
        expect_bad(
            check,
            &[DOCS],
            "docs/metrics.md:2",
            "waypost_takeovers_total",
        );
    }

    #[test]
    fn a_longer_name_and_untested_code_do_not_count() {
        let other = (
            "tests/tests/metrics.rs",
            "metric(\"waypost_takeovers_total_bytes\"); stats.takeovers_refused",
        );
        let code = (
            "crates/waypost-core/src/connect.rs",
            "fn f() { counters.takeovers += 1; }",
        );
        expect_bad(check, &[DOCS, other, code], "docs/metrics.md:2", "no test");
    }
}

//! `docs/conformance.md`: every statement of MQTT 3.1.1 and 5 that binds a server, with its tests or a reason.
//!
//! A test quotes a statement in its doc comment or body: `3.1.1 [MQTT-3.1.0-2]`, `5 [MQTT-3.1.0-2]`, and without a
//! version in a file whose module documentation says `//! Statements of MQTT 5` (or `MQTT 3.1.1`). The ids `[W5-…]`
//! are this project's own for what MQTT 5 names without a number.

mod page;
mod quotes;
mod statements;

use std::path::Path;

use crate::{arguments::Arguments, failure::Failure, lint::Finding, repository::Repository};

pub use quotes::Quote;
pub use statements::{Statement, Statements, Version};

const PAGE: &str = "docs/conformance.md";

/// Writes the page, or with `--check` only compares it.
pub fn run(root: &Path, mut arguments: Arguments) -> Result<(), Failure> {
    let only_check = arguments.flag("--check");
    arguments.finish()?;
    let repository = Repository::read(root)?;
    let statements = Statements::read(&repository)?;
    let (quotes, _) = quotes::collect(&repository, &statements);
    let page = page::render(&statements, &quotes);
    let current = repository.file(PAGE).is_some_and(|file| file.text == page);
    if only_check {
        return if current {
            Ok(())
        } else {
            Err(Failure::new(format!(
                "{PAGE} is out of date: `cargo xtask conformance`"
            )))
        };
    }
    std::fs::write(root.join(PAGE), &page)
        .map_err(|error| Failure::new(format!("{PAGE}: {error}")))?;
    println!("{}", page::summary(&statements, &quotes));
    Ok(())
}

/// The lint: no statement without a test or a reason, no quote of what does not exist, no page out of date.
pub fn check(repository: &Repository) -> Vec<Finding> {
    let statements = match Statements::read(repository) {
        Ok(statements) => statements,
        Err(failure) => {
            return vec![Finding::new(
                statements::FOLDER,
                1,
                failure.to_string(),
                "repair the lists",
            )];
        }
    };
    let (quotes, mut findings) = quotes::collect(repository, &statements);
    for statement in statements.binding_a_server() {
        let tested = quotes.iter().any(|quote| quote.is_of(statement));
        match (tested, statements.reason_for(statement)) {
            (false, None) => {
                let what = format!("{} has neither a test nor a reason", statement.full_id());
                let fix = format!("quote it in a test of: {}", statement.summary);
                findings.push(Finding::new(&statement.file, statement.line, what, fix));
            }
            (true, Some(_)) => {
                let what = format!(
                    "{} has a test and a reason for having none",
                    statement.full_id()
                );
                let fix = format!("take it out of {}", statements::REASONS);
                findings.push(Finding::new(&statement.file, statement.line, what, fix));
            }
            _ => {}
        }
    }
    if repository
        .file(PAGE)
        .is_none_or(|file| file.text != page::render(&statements, &quotes))
    {
        findings.push(Finding::new(
            PAGE,
            1,
            "out of date",
            "run `cargo xtask conformance`",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    pub const LISTS: [(&str, &str); 6] = [
        (
            "tests/conformance/mqtt311.tsv",
            "id\tbinds\tsummary\n[MQTT-3.1.0-1]\tclient\tCONNECT first\n[MQTT-3.1.0-2]\tserver\tSecond CONNECT\n",
        ),
        (
            "tests/conformance/mqtt5.tsv",
            "id\tbinds\tsummary\n[MQTT-3.1.0-2]\tserver\tSecond CONNECT\n[MQTT-4.5.0-2]\tclient\tAcknowledge\n",
        ),
        (
            "tests/conformance/mqtt5-unnumbered.tsv",
            "id\tbinds\tsummary\n[W5-3.8.3-a]\tboth\tNo payload\n",
        ),
        (
            "tests/conformance/visible.tsv",
            "version\tid\n3.1.1\t[MQTT-3.1.0-1]\n",
        ),
        (
            "tests/conformance/reasons.toml",
            "[[reason]]\ntext = \"next issue\"\n\"3.1.1\" = [\"[MQTT-3.1.0-1]\"]\n",
        ),
        ("tests/conformance/deviations.md", "None.\n"),
    ];

    const TESTS: (&str, &str) = (
        "tests/tests/conformance_5.rs",
        "//! Statements of MQTT 5.\n\n/// [MQTT-3.1.0-2], [W5-3.8.3-a] and 3.1.1 [MQTT-3.1.0-2]\n#[test]\nfn second_connect() {}\n",
    );

    fn findings(tests: (&str, &str), with_page: bool) -> Vec<String> {
        let mut files = LISTS.to_vec();
        files.push(tests);
        let repository = Repository::of(&files);
        let statements = Statements::read(&repository).unwrap();
        let page = page::render(&statements, &quotes::collect(&repository, &statements).0);
        if with_page {
            files.push((PAGE, &page));
        }
        check(&Repository::of(&files))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn complete_lists_are_good() {
        assert_eq!(findings(TESTS, true), [""; 0]);
    }

    #[test]
    fn the_page_must_be_current() {
        assert_eq!(
            findings(TESTS, false),
            ["docs/conformance.md:1: out of date: run `cargo xtask conformance`"]
        );
    }

    #[test]
    fn a_statement_without_a_test_is_named_with_its_line() {
        let tests = (
            TESTS.0,
            "/// 5 [MQTT-3.1.0-2] [W5-3.8.3-a]\n#[test]\nfn second_connect() {}\n",
        );
        let found = findings(tests, true);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(
            found[0]
                .starts_with("tests/conformance/mqtt311.tsv:3: 3.1.1 [MQTT-3.1.0-2] has neither"),
            "{found:#?}"
        );
    }

    #[test]
    fn a_quote_needs_a_version_and_a_statement() {
        let source = format!(
            "{}/// 5 [MQTT-9.9.9-9]\n#[test]\nfn unknown() {{}}\n",
            TESTS.1
        );
        let found = findings((TESTS.0, &source), true);
        assert!(
            found.len() == 1
                && found[0].contains("conformance_5.rs:6: 5 [MQTT-9.9.9-9] is in no list"),
            "{found:#?}"
        );
        let source = TESTS.1.replace("//! Statements of MQTT 5.", "//! Tests.");
        let found = findings((TESTS.0, &source), true);
        assert!(
            found
                .iter()
                .any(|text| text.contains("without its version")),
            "{found:#?}"
        );
    }

    #[test]
    fn a_reason_beside_a_test_is_found() {
        let source = TESTS
            .1
            .replace("and 3.1.1", "and 3.1.1 [MQTT-3.1.0-1], 3.1.1");
        let found = findings((TESTS.0, &source), true);
        assert!(
            found.len() == 1 && found[0].contains("a test and a reason"),
            "{found:#?}"
        );
    }
}

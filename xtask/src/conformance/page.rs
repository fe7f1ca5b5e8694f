//! The page.

use super::{
    Quote, Statement, Statements,
    statements::{LISTS, REASONS},
};

/// Tests named in a row; a statement with more says how many.
const TESTS_SHOWN: usize = 3;

struct Count {
    tested: usize,
    reasoned: usize,
    missing: usize,
}

fn count<'a>(
    statements: &Statements,
    quotes: &[Quote],
    rows: impl Iterator<Item = &'a Statement>,
) -> Count {
    let mut count = Count {
        tested: 0,
        reasoned: 0,
        missing: 0,
    };
    for row in rows {
        if quotes.iter().any(|quote| quote.is_of(row)) {
            count.tested += 1;
        } else if statements.reason_for(row).is_some() {
            count.reasoned += 1;
        } else {
            count.missing += 1;
        }
    }
    count
}

/// One line for the terminal.
pub fn summary(statements: &Statements, quotes: &[Quote]) -> String {
    let Count {
        tested,
        reasoned,
        missing,
    } = count(statements, quotes, statements.binding_a_server());
    format!("{tested} statements with a test, {reasoned} with a reason, {missing} with neither")
}

pub fn render(statements: &Statements, quotes: &[Quote]) -> String {
    let mut page = String::from(
        "# Conformance\n\n\
         Every statement of MQTT 3.1.1 and MQTT 5 that binds a server, and those that bind a client where a server sees the\n\
         breach, each with the tests that quote it or the reason why there is none. Summaries are reminders; the standard\n\
         decides. Written by `cargo xtask conformance` from `tests/conformance/` and the tests; `cargo xtask lint` fails on a\n\
         statement with neither.\n\n\
         | list | statements | with a test | with a reason | with neither |\n| --- | ---: | ---: | ---: | ---: |\n",
    );
    for (file, _, title) in LISTS {
        let rows = statements
            .binding_a_server()
            .filter(|statement| statement.file == *file);
        let Count {
            tested,
            reasoned,
            missing,
        } = count(statements, quotes, rows);
        let all = tested + reasoned + missing;
        line(
            &mut page,
            format_args!("| {title} | {all} | {tested} | {reasoned} | {missing} |"),
        );
    }
    line(
        &mut page,
        format_args!("\n## Reasons\n\nKept in `{REASONS}`, ten at most.\n"),
    );
    for (index, reason) in statements.reasons.iter().enumerate() {
        line(&mut page, format_args!("{}. {}", index + 1, reason.text));
    }
    line(
        &mut page,
        format_args!("\n## Deviations\n\n{}", statements.deviations.trim_end()),
    );
    for (file, _, title) in LISTS {
        line(
            &mut page,
            format_args!(
                "\n## {title}\n\n| id | binds | statement | test |\n| --- | --- | --- | --- |"
            ),
        );
        for row in statements
            .binding_a_server()
            .filter(|statement| statement.file == *file)
        {
            let summary = row.summary.replace('|', "\\|");
            let proof = proof(statements, quotes, row);
            line(
                &mut page,
                format_args!("| {} | {} | {summary} | {proof} |", row.id, row.binds),
            );
        }
    }
    page
}

fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.push_str(&text.to_string());
    page.push('\n');
}

fn proof(statements: &Statements, quotes: &[Quote], row: &Statement) -> String {
    let tests: Vec<&Quote> = quotes.iter().filter(|quote| quote.is_of(row)).collect();
    if tests.is_empty() {
        return statements.reason_for(row).map_or_else(
            || "**none**".to_owned(),
            |number| format!("reason {number}"),
        );
    }
    let shown = tests
        .iter()
        .take(TESTS_SHOWN)
        .map(|test| format!("[`{}`](../{})", test.function, test.file));
    let mut cell = shown.collect::<Vec<_>>();
    if tests.len() > TESTS_SHOWN {
        cell.push(format!("{} more", tests.len() - TESTS_SHOWN));
    }
    cell.join(", ")
}

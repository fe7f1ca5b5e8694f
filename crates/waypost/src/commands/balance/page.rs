//! The page: for each scenario how long messages wait with each strategy.

use super::super::simulate::page::{Page, Table};
use super::super::simulate::plot::{Bars, Pair};
use super::{COLUMNS, Part};

pub(super) fn page(parts: &[Part]) -> Page {
    let said = "How long a message waits until a member begins with it; each step to the right is ten times as long. \
                ± is the 95 % confidence interval.";
    let mut page = Page::new("Balance strategies", said);
    for part in parts {
        let rows = part.soonest_first();
        let pairs = rows.iter().map(|row| Pair {
            name: row.strategy.to_owned(),
            times_us: [row.wait_p50_ms.mean * 1e3, row.wait_p99_ms.mean * 1e3],
        });
        let bars = Bars {
            label: &format!("how long messages wait, {}", part.title),
            names: ["half of them (p50)", "99 of 100 (p99)"],
            pairs: pairs.collect(),
        };
        let head: Vec<_> = std::iter::once("strategy")
            .chain(COLUMNS.iter().map(|column| column.title))
            .collect();
        let mut table = Table::new(&head);
        for row in rows {
            let figures = COLUMNS
                .iter()
                .map(|column| column.text((column.figure)(row)));
            let cells: Vec<_> = std::iter::once(row.strategy.to_owned())
                .chain(figures)
                .collect();
            table.add(None, &cells);
        }
        page.add(&part.title, bars.draw(), table);
    }
    page
}

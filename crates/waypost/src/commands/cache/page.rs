//! The page: hit ratio over capacity, one line for each strategy.

use super::super::simulate::page::{Page, Table};
use super::super::simulate::plot::{Across, Chart, Series, colour};
use super::{Row, named};

pub(super) fn page(trace: &str, rows: &[Row]) -> Page {
    let mut strategies = Vec::new();
    for row in rows {
        if !strategies.contains(&row.strategy) {
            strategies.push(row.strategy);
        }
    }
    let mut page = Page::new("Cache strategies", &format!("Trace: {trace}"));
    page.add(
        "",
        plot(&strategies, rows).draw(),
        figures(&strategies, rows),
    );
    page
}

/// Capacities are drawn side by side, evenly: they usually grow by factors.
#[allow(clippy::cast_precision_loss, reason = "a handful of capacities")]
fn plot(strategies: &[&str], rows: &[Row]) -> Chart<'static> {
    let mut capacities: Vec<_> = rows.iter().map(|row| row.capacity).collect();
    capacities.sort_by_key(|capacity| capacity.number());
    capacities.dedup();
    let series = |name: &&str| {
        let found = capacities.iter().enumerate().filter_map(|(at, capacity)| {
            let is_it = |row: &&Row| row.strategy == *name && row.capacity == *capacity;
            let row = rows.iter().find(is_it)?;
            Some((at as f64, row.outcome.hit_ratio()))
        });
        Series {
            name: (*name).to_owned(),
            points: found.collect(),
        }
    };
    Chart {
        label: "hit ratio over capacity",
        across: Across::Steps(capacities.iter().map(|kept| named(*kept)).collect()),
        across_name: "kept",
        series: strategies.iter().map(series).collect(),
    }
}

fn figures(strategies: &[&str], rows: &[Row]) -> Table {
    let mut table = Table::new(&[
        "strategy",
        "kept",
        "hits",
        "hit ratio",
        "of the bytes",
        "ns a request",
    ]);
    for row in rows {
        let at = strategies.iter().position(|name| *name == row.strategy);
        let colour = at.map(|at| colour(at, strategies.len()));
        table.add(
            colour.as_deref(),
            &[
                row.strategy.to_owned(),
                named(row.capacity),
                row.outcome.hits.to_string(),
                format!("{:.2} %", row.outcome.hit_ratio() * 100.0),
                format!("{:.2} %", row.outcome.byte_hit_ratio() * 100.0),
                format!("{:.0}", row.ns_per_request),
            ],
        );
    }
    table
}

//! The page: what is left of the bytes over the CPU time of a message, a dot for each strategy.

use super::super::simulate::page::{Page, Table};
use super::super::simulate::plot::{Across, Chart, Series, colour};
use super::measure::Row;

pub(super) fn page(said: &str, rows: &[Row]) -> Page {
    let said = format!("{said}. Lower is smaller, further left is faster.");
    let mut page = Page::new("Compress strategies", &said);
    let series = rows.iter().map(|row| Series {
        name: row.strategy.clone(),
        points: vec![(row.us_per_message(), row.ratio())],
    });
    let chart = Chart {
        label: "what is left over CPU time of a message",
        across: Across::Times,
        across_name: "CPU time to pack and unpack a message",
        series: series.collect(),
    };
    page.add("", chart.draw(), figures(rows));
    page
}

fn figures(rows: &[Row]) -> Table {
    let mut table = Table::new(&[
        "strategy",
        "messages",
        "bytes in",
        "bytes out",
        "left",
        "packed, MB/s",
        "unpacked, MB/s",
        "CPU a message, µs",
        "USD a million",
        "dictionary, bytes",
    ]);
    for (at, row) in rows.iter().enumerate() {
        table.add(
            Some(&colour(at, rows.len())),
            &[
                row.strategy.clone(),
                row.messages.to_string(),
                row.bytes_in.to_string(),
                row.bytes_out.to_string(),
                format!("{:.2} %", row.ratio() * 100.0),
                format!("{:.1}", row.compress_mb_per_s()),
                format!("{:.1}", row.decompress_mb_per_s()),
                format!("{:.1}", row.us_per_message()),
                super::usd(row.usd_per_million()),
                row.dictionary_bytes.to_string(),
            ],
        );
    }
    table
}

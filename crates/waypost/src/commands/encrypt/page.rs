//! The page: for each load what it takes a suite to seal a message, and to open it.

use super::super::simulate::page::{Page, Table};
use super::super::simulate::plot::{Bars, Pair};
use super::Row;

pub(super) fn page(rows: &[Row]) -> Page {
    let said = "CPU time of one message; each step to the right is ten times as much.";
    let mut page = Page::new("Encrypt strategies", said);
    let mut loads: Vec<&str> = rows.iter().map(|row| row.load.as_str()).collect();
    loads.dedup();
    for load in loads {
        let of_load: Vec<_> = rows.iter().filter(|row| row.load == load).collect();
        let pairs = of_load.iter().map(|row| Pair {
            name: row.suite.to_string(),
            times_us: [row.seal_us(), row.open_us()],
        });
        let bars = Bars {
            label: &format!("CPU time of a message, {load}"),
            names: ["to seal it", "to open it"],
            pairs: pairs.collect(),
        };
        page.add(load, bars.draw(), figures(&of_load));
    }
    page
}

/// A number with a comma between each three digits.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn figures(rows: &[&Row]) -> Table {
    let mut table = Table::new(&[
        "suite",
        "messages",
        "sealed a second",
        "opened a second",
        "sealed, MB/s",
        "opened, MB/s",
        "longer, bytes",
    ]);
    for row in rows {
        table.add(
            None,
            &[
                row.suite.to_string(),
                row.messages.to_string(),
                grouped(row.seal_messages_per_s()),
                grouped(row.open_messages_per_s()),
                format!("{:.1}", row.seal_mb_per_s()),
                format!("{:.1}", row.open_mb_per_s()),
                format!("{:.0}", row.overhead_bytes()),
            ],
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_readable() {
        for (number, expect) in [
            (7.0, "7"),
            (999.4, "999"),
            (1000.0, "1,000"),
            (1_234_567.0, "1,234,567"),
        ] {
            assert_eq!(grouped(number), expect);
        }
    }
}

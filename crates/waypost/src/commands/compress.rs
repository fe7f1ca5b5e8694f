//! `waypost compress simulate`: what each strategy would have saved, and at what cost, on the user's messages.

mod measure;
pub(super) mod messages;
mod page;

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use serde_json::{Value, json};
use waypost_compress::auto::Prices;
use waypost_compress::{Stages, registry};

use super::output::{Align, Cell, table};
use super::simulate::{Asked, progress};
use crate::Failure;
use crate::failure::colour;
use measure::{Halves, Row, measure};
use messages::{Fields, Messages};

const EXAMPLES: &str = "\
Examples:
  waypost compress simulate orders.jsonl --publisher-field customer
  waypost compress simulate chat.jsonl.gz --field text --publisher-field user --html plot.html
  waypost compress simulate payloads/* --strategy lz4,zstd,lz78+huffman
  waypost compress simulate orders.jsonl --json | jq 'min_by(.ratio)'

A .jsonl file is one message a line, or one field of it with --field; any other file is one message.
.gz is read as what is in it.

zstd-dict needs a dictionary. It is made of the first half of the messages; then all strategies are
measured on the second half, so that their figures compare. What a dictionary contains was sent by
at least 20 publishers: --publisher-field says who sent a message. Without it every message counts
as another publisher's. --no-privacy shows what that rule costs; a server has no such setting.

Several strategies one after the other are written with +, the first applied first: lz78+huffman.
Times are of this thread's CPU on this machine, and what is packed is unpacked and compared.

Exit codes: 0 done; 1 a strategy that did not give back what it packed; 2 a wrong argument, file or
line.";

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Pack messages by every strategy: what is left of them, and the time it takes
    Simulate(SimulateArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
struct SimulateArgs {
    /// Messages: .jsonl has one a line, any other file is one; gzip'd or not
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The message is this field of a line: its text, or its JSON
    #[arg(long, value_name = "NAME")]
    field: Option<String>,
    /// The field of a line that says who sent it; for dictionaries
    #[arg(long, value_name = "NAME")]
    publisher_field: Option<String>,
    /// Dictionaries may contain what fewer than 20 publishers sent: never so in a server
    #[arg(long)]
    no_privacy: bool,
    #[command(flatten)]
    asked: Asked,
}

pub fn run(arguments: &Args) -> Result<(), Failure> {
    let Action::Simulate(arguments) = &arguments.action;
    let strategies = arguments.asked.strategies(every, Stages::parse)?;
    let fields = Fields {
        message: arguments.field.as_deref(),
        publisher: arguments.publisher_field.as_deref(),
    };
    let messages = messages::read(&arguments.files, &fields)?;
    let halves = Halves::of(&messages, &strategies, arguments.no_privacy);
    if let Some(reason) = &halves.no_dictionary {
        eprintln!("zstd-dict has no dictionary: {reason}");
    }
    let rows = measured(&strategies, &halves)?;
    let said = said(&messages, &halves);
    let (page, text) = (page::page(&said, &rows), to_text(&said, &rows));
    let rows: Value = rows.iter().map(as_json).collect();
    arguments.asked.answer(&rows, &text, &page)
}

/// Every strategy, alone.
fn every() -> Vec<Stages> {
    let every = registry().iter().map(|row| Stages::new(vec![row]));
    every.flatten().collect()
}

fn measured(strategies: &[Stages], halves: &Halves<'_>) -> Result<Vec<Row>, Failure> {
    let bar = progress(strategies.len());
    let mut rows = Vec::new();
    for stages in strategies {
        bar.set_message(stages.to_string());
        rows.push(measure(stages, halves)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    rows.sort_by(|a, b| a.ratio().total_cmp(&b.ratio()));
    Ok(rows)
}

/// What was measured, in one line.
fn said(messages: &Messages, halves: &Halves<'_>) -> String {
    let count = halves.second.len();
    let bytes: usize = halves
        .second
        .iter()
        .map(|message| message.bytes.len())
        .sum();
    let mean = bytes / count.max(1);
    let mut said = format!("{count} messages of {mean} bytes on average");
    if count < messages.len() {
        let before = messages.len() - count;
        let _ = write!(said, ", behind {before} that a dictionary was made of");
    }
    said
}

fn to_text(said: &str, rows: &[Row]) -> String {
    let least = rows.iter().map(|row| row.bytes_out).min();
    let by_cost = |a: &&Row, b: &&Row| a.usd_per_million().total_cmp(&b.usd_per_million());
    let cheapest = rows.iter().min_by(by_cost);
    let cheapest = cheapest.map_or("", |row| row.strategy.as_str());
    let cells: Vec<_> = rows
        .iter()
        .map(|row| to_cells(row, least, cheapest))
        .collect();
    let head = [
        ("strategy", Align::Left),
        ("bytes", Align::Right),
        ("left", Align::Right),
        ("packed at", Align::Right),
        ("unpacked at", Align::Right),
        ("CPU a message", Align::Right),
        ("USD a million", Align::Right),
        ("dictionary", Align::Right),
    ];
    let mut text = format!("{said}\n\n");
    text.push_str(&table(&head, &cells, colour(&io::stdout())));
    let Prices {
        usd_per_gb,
        usd_per_core_hour,
    } = Prices::default();
    let _ = writeln!(
        text,
        "\nUSD a million messages: bytes at {usd_per_gb} a GB and time at {usd_per_core_hour} an hour of a core, the time by the table that auto reckons with."
    );
    for row in rows.iter().filter(|row| !row.explained.is_empty()) {
        let _ = writeln!(text, "\n{}: {}", row.strategy, row.explained.trim_end());
    }
    text
}

fn to_cells(row: &Row, least: Option<u64>, cheapest: &str) -> Vec<Cell> {
    let speed = |mb_per_s: f64| match mb_per_s {
        fast if fast >= 100.0 => format!("{fast:.0} MB/s"),
        slow => format!("{slow:.1} MB/s"),
    };
    let dictionary = match row.dictionary_bytes {
        0 => String::new(),
        bytes => format!("{bytes} B"),
    };
    vec![
        Cell::new(row.strategy.clone()),
        Cell::new(row.bytes_out.to_string()),
        Cell::best(
            format!("{:.1} %", 100.0 * row.ratio()),
            least == Some(row.bytes_out),
        ),
        Cell::new(speed(row.compress_mb_per_s())),
        Cell::new(speed(row.decompress_mb_per_s())),
        Cell::new(format!("{:.1} µs", row.us_per_message())),
        Cell::best(usd(row.usd_per_million()), cheapest == row.strategy),
        Cell::new(dictionary),
    ]
}

/// With three digits that say something, whatever the messages' length.
fn usd(amount: f64) -> String {
    let mut decimals = 3;
    let mut least = 0.1;
    while amount > 0.0 && amount < least && decimals < 9 {
        decimals += 1;
        least /= 10.0;
    }
    format!("{amount:.decimals$}")
}

fn as_json(row: &Row) -> Value {
    json!({
        "strategy": row.strategy,
        "messages": row.messages,
        "bytes_in": row.bytes_in,
        "bytes_out": row.bytes_out,
        "ratio": row.ratio(),
        "compress_mb_per_s": row.compress_mb_per_s(),
        "decompress_mb_per_s": row.decompress_mb_per_s(),
        "dictionary_bytes": row.dictionary_bytes,
        "compress_cpu_us_per_message": row.compress_us_per_message(),
        "decompress_cpu_us_per_message": row.decompress_us_per_message(),
        "usd_per_million_messages": row.usd_per_million(),
        "usd_per_gb": Prices::default().usd_per_gb,
        "usd_per_core_hour": Prices::default().usd_per_core_hour,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_costs_little_is_not_printed_as_nothing() {
        let check = |amount, expect| assert_eq!(usd(amount), expect);
        check(1.009, "1.009");
        check(0.1, "0.100");
        check(0.000_812_4, "0.000812");
        check(0.0, "0.000");
        check(1e-12, "0.000000000");
    }
}

//! `waypost cache simulate`: what each strategy would have kept, on a recorded trace.

mod page;

use std::cmp::Reverse;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use waypost_cache::simulate::{Capacity, Outcome, Trace, belady_size, optimum, play};
use waypost_cache::{Strategy, find, registry};

use super::output::{Align, Cell, table};
use super::simulate::{Asked, progress};
use crate::Failure;
use crate::failure::colour;

const EXAMPLES: &str = "\
Examples:
  waypost cache simulate --trace requests.txt --capacity 1000
  waypost cache simulate --trace requests.txt.gz --capacity 100,1000,10000 --html plot.html
  waypost cache simulate --trace sized.txt --capacity 64MiB --strategy lru,s3-fifo,auto
  waypost cache simulate --trace requests.txt --capacity 1000 --json | jq 'max_by(.hit_ratio)'

A trace has one request a line, in order: a key, any text without spaces, and perhaps its size in
bytes behind it. A plain number as capacity counts entries, a number with a unit counts bytes, of a
trace with sizes; then a request for a key in another size than before is a miss that replaces it.

The row `optimum` is what one would have had who knows the future (Belady): by entries nobody has
more. By bytes it is `belady-size`, a good answer and no limit.

Exit codes: 0 done; 2 a wrong argument, file or line.";

/// Requests that are taken; all of them are in memory, 16 bytes each.
const REQUESTS_MAX: usize = 200_000_000;
/// Bytes of one line.
const LINE_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Play a trace through every strategy: hit ratios and the time a request takes
    Simulate(SimulateArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
struct SimulateArgs {
    /// The requests, one a line: a key, and perhaps its size in bytes; gzip'd or not; `-`: standard input
    #[arg(long, value_name = "FILE")]
    trace: PathBuf,
    /// How much is kept: entries (1000) or bytes (64MiB); several, separated by commas
    #[arg(long, value_name = "N|SIZE", value_delimiter = ',', required = true, value_parser = parse_capacity)]
    capacity: Vec<Capacity>,
    #[command(flatten)]
    asked: Asked,
}

/// What one strategy came to at one capacity.
struct Row {
    strategy: &'static str,
    capacity: Capacity,
    outcome: Outcome,
    ns_per_request: f64,
    /// What it says of itself; empty: nothing.
    explained: String,
}

fn parse_capacity(text: &str) -> Result<Capacity, String> {
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let number: u64 = digits
        .parse()
        .map_err(|_| "a number of entries, such as 1000, or of bytes, such as 64MiB".to_owned())?;
    let unit = match text.strip_prefix(digits).unwrap_or_default().trim() {
        "" => return Ok(Capacity::Entries(number)),
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        unit => return Err(format!("{unit:?} is no unit: B, KiB, MiB or GiB")),
    };
    let bytes = number.checked_mul(unit);
    bytes.map(Capacity::Bytes).ok_or_else(|| "too large".into())
}

pub fn run(arguments: &Args) -> Result<(), Failure> {
    let Action::Simulate(arguments) = &arguments.action;
    let all = || registry().iter().collect();
    let strategies = arguments.asked.strategies(all, find)?;
    let trace = read(&arguments.trace)?;
    let by_bytes = |capacity: &Capacity| matches!(capacity, Capacity::Bytes(_));
    if !trace.has_sizes() && arguments.capacity.iter().any(by_bytes) {
        return Err(Failure::usage(
            "--capacity in bytes needs a trace with sizes, a second column: give a number of entries instead".to_owned(),
        ));
    }
    let rows = arguments.play(&trace, &strategies);
    let page = page::page(&arguments.trace.display().to_string(), &rows);
    let text = arguments.to_text(&trace, &rows);
    let rows: Value = rows.iter().map(as_json).collect();
    arguments.asked.answer(&rows, &text, &page)
}

fn read(path: &Path) -> Result<Trace, Failure> {
    let name = path.display();
    let unreadable = |error: io::Error| Failure::usage(format!("{name}: {error}"));
    let input: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).map_err(unreadable)?)
    };
    let mut packed = BufReader::with_capacity(1 << 16, input);
    let is_packed = packed
        .fill_buf()
        .map_err(unreadable)?
        .starts_with(&[0x1f, 0x8b]);
    let mut reader: Box<dyn BufRead> = if is_packed {
        let unpacked = flate2::bufread::MultiGzDecoder::new(packed);
        Box::new(BufReader::with_capacity(1 << 16, unpacked))
    } else {
        Box::new(packed)
    };
    let mut trace = Trace::default();
    let mut bytes = Vec::new();
    for number in 1_u64.. {
        bytes.clear();
        let mut one = (&mut *reader).take(LINE_BYTES_MAX);
        let count = one.read_until(b'\n', &mut bytes).map_err(unreadable)?;
        if count == 0 {
            break;
        }
        let wrong = |what: String| Failure::usage(format!("{name}, line {number}: {what}"));
        if count as u64 == LINE_BYTES_MAX && !bytes.ends_with(b"\n") {
            return Err(wrong(format!("longer than {LINE_BYTES_MAX} bytes")));
        }
        let line = std::str::from_utf8(&bytes).map_err(|_| wrong("not UTF-8".to_owned()))?;
        trace.push(line).map_err(|error| wrong(error.to_string()))?;
        if trace.requests().len() > REQUESTS_MAX {
            return Err(wrong(format!("more than {REQUESTS_MAX} requests")));
        }
    }
    Ok(trace)
}

impl SimulateArgs {
    fn play(&self, trace: &Trace, strategies: &[&'static Strategy]) -> Vec<Row> {
        let bar = progress(self.capacity.len() * (strategies.len() + 1));
        let mut rows = Vec::new();
        for capacity in &self.capacity {
            for strategy in strategies {
                bar.set_message(strategy.name);
                let begun = Instant::now();
                let (outcome, explained) = play(strategy, trace, *capacity);
                rows.push(Row {
                    strategy: strategy.name,
                    capacity: *capacity,
                    outcome,
                    ns_per_request: per_request(begun.elapsed(), &outcome),
                    explained,
                });
                bar.inc(1);
            }
            let begun = Instant::now();
            let (strategy, outcome) = match *capacity {
                Capacity::Entries(entries) => ("optimum", optimum(trace, entries)),
                Capacity::Bytes(bytes) => ("belady-size", belady_size(trace, bytes)),
            };
            rows.push(Row {
                strategy,
                capacity: *capacity,
                outcome,
                ns_per_request: per_request(begun.elapsed(), &outcome),
                explained: String::new(),
            });
            bar.inc(1);
        }
        bar.finish_and_clear();
        rows
    }

    fn to_text(&self, trace: &Trace, rows: &[Row]) -> String {
        let (requests, distinct) = (trace.requests().len(), trace.distinct());
        let mut text = format!("{requests} requests of {distinct} keys\n");
        for capacity in &self.capacity {
            let mut rows: Vec<_> = rows
                .iter()
                .filter(|row| row.capacity == *capacity)
                .collect();
            rows.sort_by_key(|row| Reverse(row.outcome.hits));
            let most = rows.iter().filter(|row| !row.is_reference());
            let most = most.map(|row| row.outcome.hits).max().unwrap_or_default();
            let cells: Vec<_> = rows.iter().map(|row| row.to_cells(most)).collect();
            let head = [
                ("strategy", Align::Left),
                ("hits", Align::Right),
                ("hit ratio", Align::Right),
                ("of the bytes", Align::Right),
                ("ns a request", Align::Right),
            ];
            let _ = writeln!(text, "\nkept: {}", named(*capacity));
            text.push_str(&table(&head, &cells, colour(&io::stdout())));
            let said = rows.iter().filter(|row| !row.explained.is_empty());
            for row in said {
                let _ = writeln!(text, "{}: {}", row.strategy, row.explained);
            }
        }
        text
    }
}

impl Row {
    /// Of those who know the future.
    fn is_reference(&self) -> bool {
        matches!(self.strategy, "optimum" | "belady-size")
    }

    fn to_cells(&self, most: u64) -> Vec<Cell> {
        let per_cent = |ratio: f64| format!("{:.2} %", 100.0 * ratio);
        let is_best = !self.is_reference() && self.outcome.hits == most;
        vec![
            Cell::new(self.strategy),
            Cell::new(self.outcome.hits.to_string()),
            Cell::best(per_cent(self.outcome.hit_ratio()), is_best),
            Cell::new(per_cent(self.outcome.byte_hit_ratio())),
            Cell::new(format!("{:.0}", self.ns_per_request)),
        ]
    }
}

fn named(capacity: Capacity) -> String {
    match capacity {
        Capacity::Entries(entries) => format!("{entries} entries"),
        Capacity::Bytes(bytes) => format!("{bytes} bytes"),
    }
}

fn as_json(row: &Row) -> Value {
    json!({
        "strategy": row.strategy,
        "capacity": row.capacity.number(),
        "requests": row.outcome.requests,
        "hits": row.outcome.hits,
        "hit_ratio": row.outcome.hit_ratio(),
        "byte_hit_ratio": row.outcome.byte_hit_ratio(),
        "ns_per_request": row.ns_per_request,
    })
}

#[allow(
    clippy::cast_precision_loss,
    reason = "a number of requests, in 53 bits"
)]
fn per_request(took: Duration, outcome: &Outcome) -> f64 {
    took.as_secs_f64() * 1e9 / outcome.requests.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capacity_counts_entries_or_bytes() {
        let check = |text: &str, expect| assert_eq!(parse_capacity(text), expect, "{text}");
        check("1000", Ok(Capacity::Entries(1000)));
        check("64MiB", Ok(Capacity::Bytes(64 << 20)));
        check("3 KiB", Ok(Capacity::Bytes(3 << 10)));
        check("5MB", Err("\"MB\" is no unit: B, KiB, MiB or GiB".into()));
        check("99999999999GiB", Err("too large".into()));
        assert!(parse_capacity("many").is_err());
    }

    #[test]
    fn a_wrong_line_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("trace.txt");
        std::fs::write(&file, "a 1\nb 2\nc\n").unwrap();
        let error = read(&file).unwrap_err().to_string();
        assert!(
            error.ends_with("trace.txt, line 3: no size, where the lines before have one"),
            "{error}"
        );
    }
}

//! `waypost encrypt simulate`: what sealing costs, suite by suite, on the user's sizes or messages.

mod measure;
mod page;

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};
use waypost_encrypt::{Suite, auto};

use super::compress::messages::{self, Fields};
use super::output::{Align, Cell, table};
use super::simulate::{Asked, progress};
use crate::Failure;
use crate::failure::colour;
use measure::{Keys, Row};

const EXAMPLES: &str = "\
Examples:
  waypost encrypt simulate
  waypost encrypt simulate --size 64,1KiB,64KiB --strategy aes-gcm,chacha20-poly1305,ecc
  waypost encrypt simulate orders.jsonl --html page.html
  waypost encrypt simulate chat.jsonl.gz --field text --json | jq 'min_by(.overhead_bytes)'

A suite is a cipher for a key that sender and receivers share (aes-gcm), or an agreement with the
receiver's public key and a cipher: ecc+aes-gcm. ecc seals to one receiver, rsa to RSA keys, hybrid
to several; here to two, on P-256 and X25519. With public keys the agreement is what costs, not the
cipher: sealing 64 bytes takes as long as 64 KiB.

What every message gets longer is the envelope: topic, message id, key ids, IV and tag. des is here
for comparison: it is obsolete, and nothing seals with it unless legacy = true.

Times are of this thread's CPU on this machine; what is sealed is opened and compared.

Exit codes: 0 done; 1 a suite that did not give back what it sealed; 2 a wrong argument, file or
line.";

/// The longest message that is sealed: what a packet of MQTT may hold.
const SIZE_MAX: usize = 256 << 20;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Seal and open messages by every suite: how many a second, and how much longer they get
    Simulate(SimulateArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
struct SimulateArgs {
    /// Messages: .jsonl has one a line, any other file is one; gzip'd or not
    #[arg(value_name = "FILE", conflicts_with = "size")]
    files: Vec<PathBuf>,
    /// Sizes of messages in place of files, separated by commas
    #[arg(long, value_name = "SIZE", value_delimiter = ',', default_value = "64,1KiB,64KiB", value_parser = parse_size)]
    size: Vec<usize>,
    /// The message is this field of a line: its text, or its JSON
    #[arg(long, value_name = "NAME", requires = "files")]
    field: Option<String>,
    #[command(flatten)]
    asked: Asked,
}

/// Messages that are sealed together, and what they are called.
struct Load {
    name: String,
    messages: Vec<Vec<u8>>,
}

fn parse_size(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let number: usize = digits
        .parse()
        .map_err(|_| "a number of bytes, such as 64 or 1KiB".to_owned())?;
    let unit = match text.strip_prefix(digits).unwrap_or_default().trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        unit => return Err(format!("{unit:?} is no unit: B, KiB or MiB")),
    };
    let bytes = number.checked_mul(unit);
    let bytes = bytes.filter(|bytes| *bytes <= SIZE_MAX);
    bytes.ok_or_else(|| format!("more than {SIZE_MAX} bytes, and so no message"))
}

pub fn run(arguments: &Args) -> Result<(), Failure> {
    let Action::Simulate(arguments) = &arguments.action;
    let begun = Instant::now();
    let auto = auto::measured(|| begun.elapsed());
    let all = || Suite::all().collect();
    let suites = arguments.asked.strategies(all, Suite::parse_legacy)?;
    let loads = arguments.loads()?;
    let keys = Keys::generate().map_err(Failure::new)?;
    let bar = progress(suites.len() * loads.len());
    let mut rows = Vec::new();
    for load in &loads {
        for suite in &suites {
            bar.set_message(format!("{suite}, {}", load.name));
            // des seals 8 MiB with a key: there is no figure for more.
            match keys.measure(*suite, load).map_err(Failure::new)? {
                Some(row) => rows.push(row),
                None => bar.suspend(|| {
                    eprintln!("{suite} does not seal {} with one key", load.name);
                }),
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let (page, text) = (page::page(&rows), to_text(&loads, &rows, auto.explain()));
    let rows: Value = rows.iter().map(as_json).collect();
    arguments.asked.answer(&rows, &text, &page)
}

impl SimulateArgs {
    fn loads(&self) -> Result<Vec<Load>, Failure> {
        if self.files.is_empty() {
            let load = |size: &usize| Load {
                name: format!("{size} bytes"),
                messages: vec![vec![b'x'; *size]],
            };
            return Ok(self.size.iter().map(load).collect());
        }
        let fields = Fields {
            message: self.field.as_deref(),
            publisher: None,
        };
        let messages = messages::read(&self.files, &fields)?;
        Ok(vec![Load {
            name: format!("{} messages", messages.len()),
            messages: messages.into_iter().map(|message| message.bytes).collect(),
        }])
    }
}

fn to_text(loads: &[Load], rows: &[Row], auto: &str) -> String {
    let head = [
        ("suite", Align::Left),
        ("sealed a second", Align::Right),
        ("opened a second", Align::Right),
        ("sealed, MB/s", Align::Right),
        ("opened, MB/s", Align::Right),
        ("CPU to seal, µs", Align::Right),
        ("to open, µs", Align::Right),
        ("longer, bytes", Align::Right),
    ];
    let mut text = String::new();
    for load in loads {
        let of_load: Vec<_> = rows.iter().filter(|row| row.load == load.name).collect();
        let best = of_load.iter().map(|row| row.seal_us());
        let best = best.fold(f64::INFINITY, f64::min);
        let cells: Vec<_> = of_load.iter().map(|row| row.to_cells(best)).collect();
        let _ = writeln!(text, "{}", load.name);
        text.push_str(&table(&head, &cells, colour(&io::stdout())));
        text.push('\n');
    }
    let _ = writeln!(text, "auto: {auto}");
    text
}

impl Row {
    fn to_cells(&self, best: f64) -> Vec<Cell> {
        vec![
            Cell::new(self.suite.to_string()),
            Cell::new(format!("{:.0}", self.seal_messages_per_s())),
            Cell::new(format!("{:.0}", self.open_messages_per_s())),
            Cell::new(format!("{:.1}", self.seal_mb_per_s())),
            Cell::new(format!("{:.1}", self.open_mb_per_s())),
            Cell::best(format!("{:.2}", self.seal_us()), self.seal_us() <= best),
            Cell::new(format!("{:.2}", self.open_us())),
            Cell::new(format!("{:.0}", self.overhead_bytes())),
        ]
    }
}

fn as_json(row: &Row) -> Value {
    json!({
        "strategy": row.suite.to_string(),
        "messages": row.messages,
        "bytes_in": row.bytes_in,
        "bytes_sealed": row.bytes_sealed,
        "overhead_bytes": row.overhead_bytes(),
        "seal_messages_per_s": row.seal_messages_per_s(),
        "open_messages_per_s": row.open_messages_per_s(),
        "seal_mb_per_s": row.seal_mb_per_s(),
        "open_mb_per_s": row.open_mb_per_s(),
        "seal_cpu_us_per_message": row.seal_us(),
        "open_cpu_us_per_message": row.open_us(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_its_unit() {
        let check = |text: &str, expect| assert_eq!(parse_size(text).ok(), expect, "{text}");
        check("64", Some(64));
        check("1KiB", Some(1024));
        check("2 MiB", Some(2 << 20));
        check("256MiB", Some(SIZE_MAX));
        check("257MiB", None);
        check("512MiB", None);
        check("1MB", None);
        check("many", None);
    }
}

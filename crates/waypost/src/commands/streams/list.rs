//! `waypost streams list`.

use std::io;

use indicatif::{HumanBytes, HumanCount};
use serde_json::{Value, json};
use waypost_server::config::Config;

use super::lines::time;
use super::source::Source;
use crate::Failure;
use crate::commands::output::{Align, Cell, print, table};
use crate::failure::colour;

const EXAMPLES: &str = "\
Of a stream that the configuration does not have any more it says `ended`: it takes no more messages,
what is in it can be read.

Examples:
  waypost streams list
  waypost streams list --json | jq -r '.streams[] | select(.records > 1000000).name'

Exit codes:
  0 done, 1 not done, 2 a mistake in flags or settings";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[arg(
        long,
        help = "Print one JSON object: streams, each with name, configured, compact, filters, retention, \
                first, next, records, bytes, segments, first_ms, last_ms, damaged_blocks"
    )]
    json: bool,
}

pub fn run(arguments: &Args, config: &Config) -> Result<(), Failure> {
    let all = Source::open(config)?.list()?;
    if arguments.json {
        return print(&format!("{:#}\n", json!({"streams": all})));
    }
    if all.is_empty() {
        return print(
            "There is no stream yet. One begins with a few lines of the server's configuration:\n\n  \
             [[stream]]\n  name = \"orders\"\n  filters = [\"orders/#\"]\n",
        );
    }
    let head = [
        ("stream", Align::Left),
        ("records", Align::Right),
        ("size", Align::Right),
        ("first", Align::Right),
        ("next", Align::Right),
        ("last", Align::Left),
        ("filters", Align::Left),
    ];
    let rows: Vec<_> = all.iter().map(row).collect();
    print(&table(&head, &rows, colour(&io::stdout())))
}

fn row(stream: &Value) -> Vec<Cell> {
    let number = |name: &str| stream.get(name).and_then(Value::as_u64);
    let texts = |name: &str| {
        let all = stream.get(name).and_then(Value::as_array);
        let texts = all.into_iter().flatten().filter_map(Value::as_str);
        texts.collect::<Vec<_>>().join(" ")
    };
    let is_configured = stream.get("configured") == Some(&Value::Bool(true));
    [
        stream
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned(),
        HumanCount(number("records").unwrap_or(0)).to_string(),
        HumanBytes(number("bytes").unwrap_or(0)).to_string(),
        number("first").unwrap_or(0).to_string(),
        number("next").unwrap_or(0).to_string(),
        number("last_ms").map_or_else(|| "-".to_owned(), time),
        if is_configured {
            texts("filters")
        } else {
            "ended".to_owned()
        },
    ]
    .into_iter()
    .map(Cell::new)
    .collect()
}

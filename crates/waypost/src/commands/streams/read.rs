//! `waypost streams read NAME`.

use std::io::{self, Write};

use waypost_mqtt::Filter;
use waypost_server::config::Config;
use waypost_server::history::From;

use super::lines::{percent_encoded, write_plain};
use super::source::Source;
use crate::Failure;

const EXAMPLES: &str = "\
Prints what there is and ends; `waypost sub --from` goes on with what is published, as its user may.

Where to begin:
  last=N     with the last N messages (that match --filter)
  each=N     with the last N of each topic, and nothing else
  since=10m  ten minutes ago; s, m, h, d
  time=T     at a time: 2026-11-24T05:00:00Z, or milliseconds since 1970
  offset=N   at a place: each message has a number in its stream, from 0 on

Examples:
  waypost streams read orders --from last=10
  waypost streams read orders --from time=2026-11-24T05:00:00Z -C 100
  waypost streams read prices --from each=1       the last message of each topic
  waypost streams read orders --filter 'orders/eu/#' --json | jq -r .payload

Exit codes:
  0 done, 1 not done, 2 a mistake in flags or settings";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The stream
    name: String,
    /// Where to begin [default: at the first message]
    #[arg(long, value_name = "SPEC", value_parser = spec)]
    from: Option<String>,
    /// Only messages on topics that match this filter
    #[arg(long, value_name = "FILTER", value_parser = filter)]
    filter: Option<String>,
    /// At most so many
    #[arg(short = 'C', long, value_name = "N")]
    count: Option<u64>,
    #[arg(
        long,
        help = "Print one JSON object a line: offset, time_ms, topic, payload (or payload_base64), qos and, \
                if they are there, publisher, address, published_ms, expires_ms, properties"
    )]
    json: bool,
}

/// So many at once.
const PAGE_COUNT: u64 = 1_000;

fn spec(text: &str) -> Result<String, String> {
    let read = text.parse::<From>();
    read.map(|_| text.to_owned())
        .map_err(|error| error.to_string())
}

/// A Topic Filter.
pub fn filter(text: &str) -> Result<String, String> {
    let read = Filter::parse(text);
    read.map(|_| text.to_owned())
        .map_err(|error| error.to_string())
}

pub fn run(arguments: &Args, config: &Config) -> Result<(), Failure> {
    let source = Source::open(config)?;
    source.find(&arguments.name)?;
    let filter = arguments
        .filter
        .as_deref()
        .map_or_else(String::new, |filter| {
            format!("&filter={}", percent_encoded(filter))
        });
    let mut place = format!("from={}", arguments.from.as_deref().unwrap_or("offset=0"));
    let mut left = arguments.count.unwrap_or(u64::MAX);
    let mut out = io::stdout().lock();
    while left > 0 {
        let count = left.min(PAGE_COUNT);
        let page = source.page(&arguments.name, &format!("{place}{filter}&count={count}"))?;
        for line in page.lines.split_inclusive(|byte| *byte == b'\n') {
            left = left.saturating_sub(1);
            let written = if arguments.json {
                out.write_all(line)
            } else {
                write_plain(line, &mut out)
            };
            match written {
                // Whoever reads has seen enough.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                written => written?,
            }
        }
        if page.is_end {
            break;
        }
        place = page.next;
    }
    match out.flush() {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        flushed => Ok(flushed?),
    }
}

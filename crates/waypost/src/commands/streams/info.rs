//! `waypost streams info NAME`.

use indicatif::{HumanBytes, HumanCount};
use serde_json::Value;
use waypost_server::config::Config;

use super::lines::time;
use super::source::Source;
use crate::Failure;
use crate::commands::output::print;

const EXAMPLES: &str = "\
Examples:
  waypost streams info orders
  waypost streams info orders --json | jq .next

Exit codes:
  0 done, 1 not done, 2 a mistake in flags or settings";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The stream
    name: String,
    #[arg(
        long,
        help = "Print one JSON object: name, configured, compact, filters, retention, first, next, records, \
                bytes, segments, first_ms, last_ms, damaged_blocks"
    )]
    json: bool,
}

pub fn run(arguments: &Args, config: &Config) -> Result<(), Failure> {
    let stream = Source::open(config)?.find(&arguments.name)?;
    if arguments.json {
        return print(&format!("{stream:#}\n"));
    }
    print(&tell(&stream))
}

fn tell(stream: &Value) -> String {
    let number = |name: &str| stream.get(name).and_then(Value::as_u64);
    let is = |name: &str| stream.get(name) == Some(&Value::Bool(true));
    let texts = |name: &str| {
        let all = stream.get(name).and_then(Value::as_array);
        let texts: Vec<_> = all
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        (!texts.is_empty()).then(|| texts.join(", "))
    };
    let retention = texts("retention").unwrap_or_else(|| "everything is kept".to_owned());
    let mut rows = vec![
        (
            "filters",
            texts("filters")
                .unwrap_or_else(|| "none any more: it is not in the configuration".to_owned()),
        ),
        (
            "keeps",
            if is("compact") {
                format!("{retention}; the last message of each key")
            } else {
                retention
            },
        ),
        (
            "records",
            HumanCount(number("records").unwrap_or(0)).to_string(),
        ),
        (
            "offsets",
            format!(
                "{} is the first, {} the next",
                number("first").unwrap_or(0),
                number("next").unwrap_or(0)
            ),
        ),
        (
            "on disk",
            format!(
                "{} in {} files",
                HumanBytes(number("bytes").unwrap_or(0)),
                number("segments").unwrap_or(0)
            ),
        ),
    ];
    if let (Some(first), Some(last)) = (number("first_ms"), number("last_ms")) {
        rows.push(("entered", format!("{} to {}", time(first), time(last))));
    }
    if let Some(damaged @ 1..) = number("damaged_blocks") {
        rows.push((
            "damaged",
            format!("{damaged} blocks; `waypost store check` says where"),
        ));
    }
    let lines: Vec<_> = rows
        .iter()
        .map(|(name, value)| format!("{name:9}{value}\n"))
        .collect();
    lines.concat()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_stream_is_told() {
        let told = tell(&json!({
            "name": "a", "configured": true, "compact": true, "filters": ["a/#", "b"],
            "retention": ["7d"], "first": 5, "next": 1_234_567, "records": 1_234_562, "bytes": 2048,
            "segments": 1, "first_ms": 0, "last_ms": 1, "damaged_blocks": 2,
        }));
        for part in [
            "filters  a/#, b\n",
            "keeps    7d; the last message of each key\n",
            "records  1,234,562\n",
            "offsets  5 is the first, 1234567 the next\n",
            "on disk  2.00 KiB in 1 files\n",
            "entered  1970-01-01T00:00:00.000Z to 1970-01-01T00:00:00.001Z\n",
            "damaged  2 blocks",
        ] {
            assert!(told.contains(part), "{part}\n{told}");
        }
        let told = tell(&json!({"configured": false, "filters": null, "retention": null}));
        assert!(told.contains("none any more"), "{told}");
        assert!(told.contains("everything is kept"), "{told}");
    }
}

//! `waypost streams purge NAME --before …`.

use indicatif::HumanCount;
use serde_json::{Value, json};
use waypost_server::config::{Config, milliseconds};
use waypost_server::history::utc_ms;
use waypost_store::streams::Purge;

use super::source::{Source, now_ms};
use crate::Failure;
use crate::commands::output::print;

const EXAMPLES: &str = "\
What is purged is gone for good, on disk as well; offsets are not given again. Retention does the
same by itself: `retention = [\"90d\", \"10GiB\"]` in the stream's settings.

  --before 90d                     what entered more than 90 days ago
  --before 2026-11-01T00:00:00Z    what entered before
  --before 41                      what stands before offset 41
  --all                            everything; a stream that is not in the configuration any more
                                   is then gone itself

Examples:
  waypost streams purge orders --before 90d
  waypost streams purge orders --all

Exit codes:
  0 done, 1 not done, 2 a mistake in flags or settings";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, group(clap::ArgGroup::new("what").required(true)))]
pub struct Args {
    /// The stream
    name: String,
    /// An age, a time or an offset
    #[arg(long, group = "what", value_name = "AGE|TIME|OFFSET", value_parser = before)]
    before: Option<Before>,
    /// Everything
    #[arg(long, group = "what")]
    all: bool,
    /// Print one JSON object: stream, purged, first, forgotten
    #[arg(long)]
    json: bool,
}

/// Before what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Offset(u64),
    Time(u64),
    Age(u64),
}

fn before(text: &str) -> Result<Before, String> {
    let offset = text.parse().ok().map(Before::Offset);
    let time = || utc_ms(text).map(Before::Time);
    let age = || milliseconds(text).map(Before::Age);
    offset
        .or_else(time)
        .or_else(age)
        .ok_or_else(|| "an age like 90d, a time like 2026-11-01T00:00:00Z, or an offset".to_owned())
}

pub fn run(arguments: &Args, config: &Config) -> Result<(), Failure> {
    let source = Source::open(config)?;
    let stream = source.find(&arguments.name)?;
    let what = match arguments.before {
        None => Purge::All,
        Some(Before::Offset(offset)) => Purge::Before(offset),
        Some(Before::Time(time_ms)) => Purge::BeforeTime(time_ms),
        Some(Before::Age(age_ms)) => Purge::BeforeTime(now_ms().saturating_sub(age_ms)),
    };
    let number = |stream: &Value, name: &str| stream.get(name).and_then(Value::as_u64).unwrap_or(0);
    let is_ended = stream.get("configured") == Some(&Value::Bool(false));
    let is_forgotten = is_ended && arguments.all;
    let (purged, first) = if is_forgotten {
        source.forget(&arguments.name)?;
        (number(&stream, "records"), number(&stream, "next"))
    } else {
        source.purge(&arguments.name, what)?;
        let left = source.find(&arguments.name)?;
        let purged = number(&stream, "records").saturating_sub(number(&left, "records"));
        (purged, number(&left, "first"))
    };
    if arguments.json {
        let done = json!({
            "stream": arguments.name, "purged": purged, "first": first, "forgotten": is_forgotten,
        });
        return print(&format!("{done}\n"));
    }
    print(&if is_forgotten {
        format!(
            "purged {} messages; the stream {} is gone\n",
            HumanCount(purged),
            arguments.name
        )
    } else {
        format!(
            "purged {} messages; {} begins with offset {first}\n",
            HumanCount(purged),
            arguments.name
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_meant_is_read() {
        for (text, expect) in [
            ("41", Some(Before::Offset(41))),
            ("90d", Some(Before::Age(90 * 86_400_000))),
            ("1970-01-01T00:00:01Z", Some(Before::Time(1_000))),
            ("1970-01-01", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(before(text).ok(), expect, "{text}");
        }
    }
}

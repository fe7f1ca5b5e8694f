//! `waypost streams import NAME [FILE]`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use flate2::read::MultiGzDecoder;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use waypost_server::config::Config;
use waypost_server::history::{Imports, LINE_BYTES_MAX, Offsets, Record, decode_line};

use super::generate::{Generator, TOPICS_MAX};
use super::source::{Source, now_ms};
use crate::Failure;
use crate::commands::output::print;
use crate::commands::store::seconds;
use crate::failure::interrupted;

const EXAMPLES: &str = "\
Reads what `waypost streams export` wrote: every message has its offset and its time again. One that
the stream has passed already is left out, so an import that broke off is simply made again; with
--append all are put behind what there is. A line made by hand needs only a topic:

  {\"topic\":\"orders/17\",\"payload\":\"two coffees\",\"time_ms\":1764000000000}

Whoever has subscribed with $from gets what is imported; nobody else does: nothing is published. With
the server stopped it is fastest; the data directory and the stream are made if they are not there.

Examples:
  waypost streams import orders orders.jsonl.gz
  zcat old/*.gz | waypost streams import orders --append
  waypost streams import past --generate 1000000 --bytes 100 --topics 50 --config waypost.toml

Exit codes:
  0 done, 1 not done, 2 a mistake in flags or settings, or a line that is none";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The stream
    name: String,
    /// What to read; gzip is recognized [default: standard input]
    #[arg(conflicts_with = "generate")]
    file: Option<PathBuf>,
    /// Put all behind what there is, whatever offsets the lines say
    #[arg(long)]
    append: bool,
    /// Make up so many messages, one millisecond apart, on topics of the stream's first filter
    #[arg(long, value_name = "N")]
    generate: Option<u64>,
    /// Bytes of the payload of each
    #[arg(long, value_name = "B", default_value_t = 100, requires = "generate")]
    bytes: usize,
    /// On so many topics
    #[arg(long, value_name = "T", default_value_t = 100, requires = "generate",
          value_parser = clap::value_parser!(u64).range(1..=TOPICS_MAX))]
    topics: u64,
    #[arg(
        long,
        help = "Print one JSON object: stream, imported, skipped, next, elapsed_ms"
    )]
    json: bool,
}

/// What is put in at once: whoever publishes waits meanwhile. The end of a batch is a sync.
const BATCH_RUNNING: Batch = Batch {
    records: 10_000,
    bytes: 4 << 20,
};
const BATCH_STOPPED: Batch = Batch {
    records: 500_000,
    bytes: 64 << 20,
};

/// How much is put in at once, at most.
#[derive(Clone, Copy)]
struct Batch {
    records: usize,
    bytes: usize,
}

pub fn run(arguments: &Args, config: &Config) -> Result<(), Failure> {
    let source = Source::open_or_make(config)?;
    let stream = source.find(&arguments.name)?;
    let begun = Instant::now();
    let done = if let Some(count) = arguments.generate {
        let filter = first_filter(&stream, &arguments.name)?;
        let (topics, bytes) = (arguments.topics, arguments.bytes);
        let mut made = Generator::new(&filter, topics, count, bytes, now_ms());
        let bar = progress(count);
        let next = &mut || Ok(made.next().inspect(|_| bar.inc(1)));
        let done = put(&source, arguments, next)?;
        bar.finish_and_clear();
        done
    } else {
        let file = arguments.file.as_deref().unwrap_or(Path::new("-"));
        let (input, bar) = open(file)?;
        let mut lines = Lines {
            input,
            name: file.display().to_string(),
            number: 0,
            line: Vec::new(),
            now_ms: now_ms(),
        };
        let done = put(&source, arguments, &mut || lines.next())?;
        bar.finish_and_clear();
        done
    };
    let elapsed = begun.elapsed();
    if arguments.json {
        let done = json!({
            "stream": arguments.name,
            "imported": done.imported,
            "skipped": done.skipped,
            "next": done.next,
            "elapsed_ms": u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        });
        return print(&format!("{done}\n"));
    }
    let skipped = match done.skipped {
        0 => String::new(),
        skipped => format!(
            "skipped {}, whose offsets the stream has passed; --append gives them new ones\n",
            HumanCount(skipped)
        ),
    };
    print(&format!(
        "imported {} messages into {}, {}\n{skipped}",
        HumanCount(done.imported),
        arguments.name,
        seconds(elapsed)
    ))
}

/// Puts in what comes, a batch at a time.
fn put(
    source: &Source,
    arguments: &Args,
    next: &mut dyn FnMut() -> Result<Option<Record>, Failure>,
) -> Result<Imports, Failure> {
    let interrupted = interrupted()?;
    let offsets = if arguments.append {
        Offsets::New
    } else {
        Offsets::Keep
    };
    let batch_max = match source {
        Source::Running(_) => BATCH_RUNNING,
        Source::Stopped(_) => BATCH_STOPPED,
    };
    let mut done = Imports::default();
    let mut batch = Vec::new();
    loop {
        batch.clear();
        let mut bytes = 0;
        let mut wrong = None;
        while batch.len() < batch_max.records && bytes < batch_max.bytes {
            match next() {
                Ok(Some(record)) => {
                    bytes += record.body.len();
                    batch.push(record);
                }
                Ok(None) => break,
                Err(failure) => {
                    wrong = Some(failure);
                    break;
                }
            }
        }
        // What stands before a line that is wrong is put in: made again, the import begins there.
        if !batch.is_empty() {
            let imports = source.import(&arguments.name, &batch, offsets)?;
            done.imported += imports.imported;
            done.skipped += imports.skipped;
            done.next = imports.next;
        }
        let told = |failure: Failure| {
            failure.hint(format!(
                "{} messages before it are in the stream",
                HumanCount(done.imported + done.skipped)
            ))
        };
        if let Some(failure) = wrong {
            return Err(told(failure));
        }
        if batch.is_empty() {
            return Ok(done);
        }
        if interrupted.load(Ordering::Relaxed) {
            return Err(told(Failure::new("interrupted").code(130)));
        }
    }
}

fn first_filter(stream: &Value, name: &str) -> Result<String, Failure> {
    let filters = stream.get("filters").and_then(Value::as_array);
    let first = filters.and_then(|filters| filters.first()?.as_str());
    first.map(str::to_owned).ok_or_else(|| {
        Failure::new(format!(
            "the stream {name} is not in the configuration: it takes no generated messages"
        ))
        .hint("name the settings that have it: --config FILE")
    })
}

/// The file, unpacked, and a bar that shows how far it is read.
fn open(file: &Path) -> Result<(Box<dyn BufRead>, ProgressBar), Failure> {
    let cannot = |error: io::Error| {
        let failure = Failure::usage(format!("cannot read {}: {error}", file.display()));
        failure.hint("`-`, or no file, is standard input")
    };
    let (input, bar): (Box<dyn Read>, _) = if file == Path::new("-") {
        (Box::new(io::stdin()), ProgressBar::hidden())
    } else {
        let input = File::open(file).map_err(cannot)?;
        let bar = crate::commands::store::progress();
        bar.set_length(input.metadata().map_err(cannot)?.len());
        (Box::new(bar.wrap_read(input)), bar)
    };
    let mut input = BufReader::with_capacity(1 << 20, input);
    let is_packed = input.fill_buf().map_err(cannot)?.starts_with(&[0x1f, 0x8b]);
    let input: Box<dyn BufRead> = if is_packed {
        Box::new(BufReader::new(MultiGzDecoder::new(input)))
    } else {
        Box::new(input)
    };
    Ok((input, bar))
}

/// Records, a line each; empty lines are none.
struct Lines {
    input: Box<dyn BufRead>,
    name: String,
    number: u64,
    line: Vec<u8>,
    now_ms: u64,
}

impl Lines {
    fn next(&mut self) -> Result<Option<Record>, Failure> {
        loop {
            self.line.clear();
            let most = LINE_BYTES_MAX as u64 + 1;
            let read = (&mut self.input)
                .take(most)
                .read_until(b'\n', &mut self.line);
            self.number += 1;
            let place = format!("{}:{}", self.name, self.number);
            if read.map_err(|error| Failure::new(format!("{place}: {error}")))? == 0 {
                return Ok(None);
            }
            if self.line.len() > LINE_BYTES_MAX {
                let why = format!("{place}: longer than {LINE_BYTES_MAX} bytes");
                return Err(Failure::usage(why));
            }
            if self.line.trim_ascii().is_empty() {
                continue;
            }
            let record = decode_line(&self.line, self.now_ms);
            return record
                .map(Some)
                .map_err(|error| Failure::usage(format!("{place}: {error}")));
        }
    }
}

/// Messages done, on a terminal only.
pub fn progress(count: u64) -> ProgressBar {
    let bar = ProgressBar::new(count);
    match ProgressStyle::with_template(
        "{wide_bar} {human_pos}/{human_len} messages {per_sec} {eta}",
    ) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

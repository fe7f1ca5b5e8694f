//! `waypost streams export NAME [FILE]`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use flate2::Compression;
use flate2::write::GzEncoder;
use indicatif::{HumanBytes, HumanCount};
use serde_json::{Value, json};
use waypost_server::config::Config;

use super::lines::percent_encoded;
use super::read::filter;
use super::source::Source;
use crate::Failure;
use crate::commands::output::print;
use crate::commands::store::seconds;
use crate::failure::interrupted;

const EXAMPLES: &str = "\
One JSON object a line, as `waypost streams read --json` prints it; `waypost streams import` reads it
again, and every message keeps its offset and its time. A name that ends in .gz is packed. The file
is there when it is whole.

Examples:
  waypost streams export orders orders.jsonl.gz
  waypost streams export orders | jq -r 'select(.topic == \"orders/17\") | .payload'
  waypost streams export orders europe.jsonl --filter 'orders/eu/#'

Exit codes:
  0 done, 1 not done, 2 a mistake in flags or settings";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The stream
    name: String,
    /// Where it goes [default: standard output]
    file: Option<PathBuf>,
    /// Only messages on topics that match this filter
    #[arg(long, value_name = "FILTER", value_parser = filter)]
    filter: Option<String>,
    #[arg(
        long,
        requires = "file",
        help = "Print one JSON object: stream, file, records, bytes, elapsed_ms"
    )]
    json: bool,
}

/// So many at once: a page ends before, when it is long.
const PAGE_COUNT: u64 = 10_000;

/// What was written.
#[derive(Debug, Default)]
struct Written {
    records: u64,
    bytes: u64,
}

pub fn run(arguments: &Args, config: &Config) -> Result<(), Failure> {
    let source = Source::open(config)?;
    let Some(file) = arguments
        .file
        .as_deref()
        .filter(|file| *file != Path::new("-"))
    else {
        let mut out = BufWriter::new(io::stdout().lock());
        return match write(&source, arguments, &mut out) {
            Err(Interrupted::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => Ok(written.map(drop)?),
        };
    };
    let begun = Instant::now();
    let unfinished = file.with_added_extension("unfinished");
    let cannot = |what: &str, path: &Path, error: &io::Error| {
        Failure::new(format!("cannot {what} {}: {error}", path.display()))
    };
    if file.exists() {
        return Err(
            Failure::new(format!("there is a file {} already", file.display()))
                .hint("name another one, or take it away"),
        );
    }
    let into = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&unfinished)
        .map_err(|error| cannot("write", &unfinished, &error))?;
    let written = write_file(&source, arguments, into, file);
    let written = written.inspect_err(|_| {
        // It is of no use; and what went wrong is what there is to tell.
        drop(fs::remove_file(&unfinished));
    })?;
    fs::rename(&unfinished, file).map_err(|error| cannot("rename", &unfinished, &error))?;
    let elapsed = begun.elapsed();
    if arguments.json {
        let done = json!({
            "stream": arguments.name,
            "file": file.to_string_lossy(),
            "records": written.records,
            "bytes": written.bytes,
            "elapsed_ms": u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        });
        return print(&format!("{done}\n"));
    }
    print(&format!(
        "exported {} messages, {}, to {}, {}\n",
        HumanCount(written.records),
        HumanBytes(written.bytes),
        file.display(),
        seconds(elapsed)
    ))
}

fn write_file(
    source: &Source,
    arguments: &Args,
    into: File,
    name: &Path,
) -> Result<Written, Interrupted> {
    let into = BufWriter::with_capacity(1 << 20, into);
    let is_packed = name.extension().is_some_and(|extension| extension == "gz");
    let (written, into) = if is_packed {
        let mut into = GzEncoder::new(into, Compression::fast());
        let written = write(source, arguments, &mut into)?;
        (written, into.finish()?)
    } else {
        let mut into = into;
        let written = write(source, arguments, &mut into)?;
        (written, into)
    };
    let into = into.into_inner().map_err(io::IntoInnerError::into_error)?;
    into.sync_all()?;
    Ok(written)
}

/// Why not all was written.
enum Interrupted {
    Write(io::Error),
    Failed(Failure),
}

impl From<io::Error> for Interrupted {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}

impl From<Failure> for Interrupted {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Interrupted> for Failure {
    fn from(interrupted: Interrupted) -> Self {
        match interrupted {
            Interrupted::Write(error) => Self::new(format!("cannot write: {error}")),
            Interrupted::Failed(failure) => failure,
        }
    }
}

fn write(source: &Source, arguments: &Args, into: &mut impl Write) -> Result<Written, Interrupted> {
    let interrupted = interrupted()?;
    let stream = source.find(&arguments.name)?;
    let number = |name: &str| stream.get(name).and_then(Value::as_u64).unwrap_or(0);
    let (first, next) = (number("first"), number("next"));
    let bar = super::import::progress(next.saturating_sub(first));
    let filter = arguments
        .filter
        .as_deref()
        .map_or_else(String::new, |filter| {
            format!("&filter={}", percent_encoded(filter))
        });
    let mut place = format!("from=offset={first}");
    let mut written = Written::default();
    loop {
        let page = source.page(
            &arguments.name,
            &format!("{place}{filter}&count={PAGE_COUNT}"),
        )?;
        into.write_all(&page.lines)?;
        let records = page.lines.split_inclusive(|byte| *byte == b'\n').count();
        written.records += records as u64;
        written.bytes += page.lines.len() as u64;
        let reached = page.next.rsplit('=').next().and_then(|at| at.parse().ok());
        let reached: u64 = reached.unwrap_or(0);
        bar.set_position(reached.saturating_sub(first));
        // What is published meanwhile is not waited for.
        if page.is_end || reached >= next {
            break;
        }
        if interrupted.load(Ordering::Relaxed) {
            bar.finish_and_clear();
            return Err(Failure::new("interrupted").code(130).into());
        }
        place = page.next;
    }
    bar.finish_and_clear();
    into.flush()?;
    Ok(written)
}

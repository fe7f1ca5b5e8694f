//! `waypost replay FILE`: publishes recorded messages again, each as its user.

mod crew;
pub(super) mod pace;
pub(super) mod records;
mod tally;
mod template;

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;
use waypost_client::Publish;
use waypost_mqtt::QoS;

use self::crew::Crew;
use self::pace::{Pace, parse_time};
use self::records::{Format, Record, RecordError, Records};
use self::tally::Tally;
use self::template::{FieldError, Template};
use super::connection::{ServerArgs, check_topic, parse_qos, random};
use super::reconnect::RESUME_SECONDS;
use crate::Failure;
use crate::failure::{Interruption, runtime};

const EXAMPLES: &str = "\
Examples:
  waypost replay chat.jsonl --topic 'chat/{room}' --client '{user}' --payload text -q 1
  waypost replay orders.csv.gz --topic 'orders/{customer}' --client '{customer}' \\
      --client-default guest --rate 500
  waypost replay chat.jsonl --topic 'chat/{room}' --client '{user}' \\
      --time-field ts --speed 60 --gap-max 600     an hour in a minute, long silences cut
  zcat log.gz | waypost replay - --topic log --json

A template's {name} is a field of the record; /, +, # and NUL in its value are percent-escaped,
{{ and }} are braces. A record is one JSON object a line, or a row of a CSV file with a header;
gzip is recognised.

A lost connection is made again for 30 seconds, and what was not acknowledged is sent again (-q 1
and 2).

Exit codes: 0 all sent (and acknowledged); 1 some messages failed; 2 a wrong argument or record;
130 interrupted.";

/// Messages and payload bytes handed to connections and not finished.
const UNFINISHED_MAX: u64 = 4_000;
const UNFINISHED_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// File descriptors kept for everything that is not a user's connection.
const FILES_RESERVED: u64 = 32;
const POLL: Duration = Duration::from_millis(500);
const CODE_INTERRUPTED: u8 = 130;

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The recorded messages: JSON lines or CSV, gzip'd or not; `-`: standard input
    file: PathBuf,
    /// Where each record is published, such as 'chat/{room}'
    #[arg(short, long, value_name = "TEMPLATE")]
    topic: String,
    /// Who publishes it, such as '{user}': one connection for each [default: one for all]
    #[arg(long, value_name = "TEMPLATE")]
    client: Option<String>,
    /// Stands for the user where the record's is null or empty
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    client_default: Option<String>,
    /// The field to send, or @json for the whole record
    #[arg(long, value_name = "FIELD|@json", default_value = "@json")]
    payload: String,
    /// QoS 0, 1 or 2
    #[arg(short, long, value_name = "QOS", default_value = "0", value_parser = parse_qos)]
    qos: QoS,
    /// The server keeps the last message of each topic
    #[arg(short, long)]
    retain: bool,
    /// So many messages a second [default: as fast as the server takes them]
    #[arg(long, value_name = "N", conflicts_with = "speed")]
    rate: Option<f64>,
    /// As recorded, X times as fast; needs --time-field
    #[arg(long, value_name = "X", requires = "time_field")]
    speed: Option<f64>,
    /// The field with a record's time: RFC 3339, zone and seconds optional, or a number since 1970
    #[arg(long, value_name = "FIELD")]
    time_field: Option<String>,
    /// Shorten longer recorded silences to so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600.0)]
    gap_max: f64,
    /// Connections at once; beyond, the least recently used is closed after its acknowledgements
    /// [default: as many as the system allows]
    #[arg(long, value_name = "N")]
    connections_max: Option<usize>,
    /// How FILE is laid out [default: by its name, else its first byte]
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Count records that cannot be used and go on
    #[arg(long)]
    skip_bad: bool,
    /// Print the final figures as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// What the arguments ask for, checked.
struct Plan<'a> {
    arguments: &'a Args,
    topic: Template,
    client: Template,
}

/// A record ready to be sent.
struct Prepared {
    topic: String,
    client: String,
    payload: Vec<u8>,
    due: Duration,
}

pub fn run(arguments: &Args) -> Result<(), Failure> {
    let plan = Plan::new(arguments)?;
    let mut pace = arguments.pace()?;
    let mut records =
        Records::open(&arguments.file, arguments.format).map_err(|error| bad_record(&error))?;
    let server = arguments.server.server()?;
    let mut options = arguments.server.options(&server, String::new());
    options.resume_seconds = RESUME_SECONDS;
    let connections_max = connections_max(arguments.connections_max)?;
    let tally = Tally {
        qos: arguments.qos,
        ..Tally::default()
    };
    let runtime = runtime()?;
    runtime.block_on(async {
        let mut crew = Crew::new(server, options, connections_max, tally);
        let interruption = Interruption::watch()?;
        let mut is_interrupted = false;
        let progress = progress_bar(&records);
        let start = Instant::now();
        let mut next = None;
        let mut ended = false;
        let outcome = loop {
            let mut timeout = POLL;
            while !ended && crew.tally().has_room() {
                if next.is_none() {
                    match plan.next(&mut records, &mut pace, crew.tally_mut()) {
                        Ok(Some(prepared)) => next = Some(prepared),
                        Ok(None) => ended = true,
                        Err(error) => return give_up(crew, &progress, bad_record(&error)).await,
                    }
                }
                let Some(prepared) = &next else { break };
                let early = prepared.due.saturating_sub(start.elapsed());
                if !early.is_zero() {
                    timeout = early.min(POLL);
                    break;
                }
                if !crew.admit(&prepared.client)? {
                    break;
                }
                if let Some(prepared) = next.take() {
                    let length = prepared.payload.len();
                    let mut message =
                        Publish::new(prepared.topic, prepared.payload).qos(arguments.qos);
                    if arguments.retain {
                        message = message.retain();
                    }
                    crew.publish(&prepared.client, message, length);
                }
            }
            ended |= is_interrupted;
            if ended && crew.tally().unfinished() == 0 && crew.disband() {
                break Ok(());
            }
            let polled = tokio::select! {
                polled = crew.poll(timeout) => polled,
                () = interruption.wait(), if !is_interrupted => {
                    is_interrupted = true;
                    Ok(())
                }
            };
            if let Err(failure) = polled {
                break Err(failure);
            }
            progress.set_position(records.position());
            let tally = crew.tally();
            progress.set_message(format!(
                "{} sent, {} acknowledged, {} failed, {} clients",
                tally.sent,
                tally.acked,
                tally.failed(),
                crew.len()
            ));
        };
        progress.finish_and_clear();
        if outcome.is_err() {
            crew.tally_mut().abandon();
        }
        let tally = crew.tally();
        let summary = if arguments.json {
            tally.to_json(start.elapsed()).to_string()
        } else {
            tally.to_text(start.elapsed())
        };
        writeln!(io::stdout(), "{summary}")?;
        outcome?;
        if is_interrupted {
            return Err(Failure::new("interrupted").code(CODE_INTERRUPTED));
        }
        match tally.failed() {
            0 => Ok(()),
            failed => Err(Failure::new(format!("{failed} messages failed"))),
        }
    })
}

impl<'a> Plan<'a> {
    fn new(arguments: &'a Args) -> Result<Self, Failure> {
        let parse = |name: &str, text: &str| {
            Template::parse(text).map_err(|error| Failure::usage(format!("{name}: {error}")))
        };
        let one_for_all = format!("waypost-replay-{:016x}", random());
        Ok(Self {
            arguments,
            topic: parse("--topic", &arguments.topic)?,
            client: parse(
                "--client",
                arguments.client.as_deref().unwrap_or(&one_for_all),
            )?,
        })
    }

    /// The next record to send; passes over bad ones when asked to.
    fn next(
        &self,
        records: &mut Records,
        pace: &mut Pace,
        tally: &mut Tally,
    ) -> Result<Option<Prepared>, RecordError> {
        loop {
            let prepared = match records.next() {
                None => return Ok(None),
                Some(Ok(record)) => {
                    let line = record.line;
                    self.prepare(record, pace)
                        .map_err(|reason| records.bad(line, reason))
                }
                Some(Err(error)) => Err(error),
            };
            match prepared {
                Err(RecordError::Bad { .. }) if self.arguments.skip_bad => {
                    tally.skipped += 1;
                }
                Err(error) => return Err(error),
                Ok(prepared) => return Ok(Some(prepared)),
            }
        }
    }

    fn prepare(&self, record: Record, pace: &mut Pace) -> Result<Prepared, String> {
        let default = self.arguments.client_default.as_deref();
        let client = self
            .client
            .render(&record, |_| default)
            .map_err(|error| match error {
                FieldError::Null(_) => {
                    format!("--client: {error}; name a stand-in: --client-default NAME")
                }
                error => format!("--client: {error}"),
            })?;
        // A topic that names the user names the stand-in too.
        let topic = self
            .topic
            .render(&record, |field| default.filter(|_| self.client.uses(field)))
            .map_err(|error| format!("--topic: {error}"))?;
        check_topic(&topic).map_err(|failure| failure.to_string())?;
        let time = match &self.arguments.time_field {
            None => None,
            Some(field) => {
                let value = record
                    .field(field)
                    .map_err(|error| format!("--time-field: {error}"))?;
                let time = parse_time(value)
                    .ok_or_else(|| format!("--time-field: `{field}` is no time: {value}"))?;
                Some(time)
            }
        };
        let payload = if self.arguments.payload == "@json" {
            record.into_json()
        } else {
            let field = &self.arguments.payload;
            match record
                .field(field)
                .map_err(|error| format!("--payload: {error}"))?
            {
                Value::String(text) => text.clone().into_bytes(),
                Value::Null => Vec::new(),
                other => other.to_string().into_bytes(),
            }
        };
        Ok(Prepared {
            topic,
            client,
            payload,
            due: pace.due(time),
        })
    }
}

impl Args {
    fn pace(&self) -> Result<Pace, Failure> {
        let positive = |name: &str, value: f64| {
            if value.is_finite() && value > 0.0 {
                Ok(value)
            } else {
                Err(Failure::usage(format!(
                    "{name} takes a number above 0, not {value}"
                )))
            }
        };
        let gap_max = Duration::try_from_secs_f64(self.gap_max)
            .map_err(|_| Failure::usage("--gap-max takes seconds, 0 or more"))?;
        Ok(match (self.rate, self.speed) {
            (Some(rate), _) => Pace::Rate {
                per_second: positive("--rate", rate)?,
                count: 0,
            },
            (None, Some(speed)) => Pace::Speed {
                factor: positive("--speed", speed)?,
                gap_max,
                previous: None,
                elapsed: Duration::ZERO,
            },
            (None, None) => Pace::Free,
        })
    }
}

impl Tally {
    fn has_room(&self) -> bool {
        self.unfinished() < UNFINISHED_MAX && self.unfinished_bytes < UNFINISHED_BYTES_MAX
    }
}

/// Raises the file descriptor limit to its hard limit; gives how many connections it allows.
pub fn connections_max(asked: Option<usize>) -> Result<usize, Failure> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let allowed = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let allowed = allowed.map_or(usize::MAX, |files| {
        usize::try_from(files.saturating_sub(FILES_RESERVED)).unwrap_or(usize::MAX)
    });
    match asked {
        Some(0) => Err(Failure::usage("--connections-max takes a number above 0")),
        Some(asked) => Ok(asked.min(allowed)),
        None => Ok(allowed),
    }
}

/// What was sent before a bad record still finishes, so that the error comes with true counts.
async fn give_up(mut crew: Crew, progress: &ProgressBar, failure: Failure) -> Result<(), Failure> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        if crew.tally().unfinished() == 0 && crew.disband() {
            break;
        }
        crew.poll(POLL).await?;
    }
    progress.finish_and_clear();
    let tally = crew.tally();
    Err(failure.hint(format!(
        "{} records before it were sent; --skip-bad passes over bad ones",
        tally.sent
    )))
}

fn bad_record(error: &RecordError) -> Failure {
    Failure::usage(error.to_string())
}

/// On a terminal; elsewhere it draws nothing.
fn progress_bar(records: &Records) -> ProgressBar {
    let (bar, template) = match records.bytes_total() {
        Some(total) => (
            ProgressBar::new(total),
            "{wide_bar} {bytes}/{total_bytes} {eta} {msg}",
        ),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes} {msg}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

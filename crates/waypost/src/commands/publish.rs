//! `waypost pub`: publishes one message, or one for each line of standard input.

use std::io::{self, BufRead, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use waypost_client::protocol::options::Options;
use waypost_client::{Closed, Completions, Notice, Publish, PublishError, Published};
use waypost_mqtt::{Property, PropertyBuffer, ProtocolVersion, QoS, ReasonCode};

use super::connection::{CODE_LOST, Server, ServerArgs, SessionArgs, check_topic, parse_qos};
use super::property::Carrier;
use super::reconnect::{self, RESUME_SECONDS};
use super::sealing::{self, SealArgs};
use crate::Failure;
use crate::failure::runtime;

const EXAMPLES: &str = "\
Examples:
  waypost pub -t chat/lobby -m 'hello'            one message, QoS 0
  waypost pub -t orders/17 -f order.json -q 1     a file, acknowledged by the server
  waypost pub -t door/open -n -r                  forget the retained message of a topic
  tail -f app.log | waypost pub -t logs/app -l    one message a line
  waypost pub -t lamp -m off --delay 600          published in ten minutes
  waypost pub -t a -m x -D publish user-property k v -D publish message-expiry-interval 60
  waypost pub --url mqtt://ann:secret@example.org:1883 -t a -m x
  waypost pub -t letters/bob -m hi --seal-for bob --sign-as ann
                                                  only bob can read it, and he knows who wrote it

A lost connection is made again for 30 seconds, and what was not acknowledged is sent again (-q 1
and 2).

Exit codes: 0 done; the server's reason code when it refuses the connection or a message;
7 the connection was lost and messages with it; 2 wrong arguments; 1 anything else.";

/// A year, in seconds.
const DELAY_MAX_S: i64 = 31_536_000;
/// The longest line or file sent as one message: MQTT's own limit.
const PAYLOAD_BYTES_MAX: u64 = 268_435_455;
/// Lines of standard input read ahead.
const LINES_AHEAD_MAX: usize = 100;
/// Messages and bytes handed to the connection and not finished.
const UNFINISHED_MAX: usize = 1_000;
const UNFINISHED_BYTES_MAX: usize = 16 * 1024 * 1024;

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Publish to this topic
    #[arg(short, long)]
    topic: String,
    #[command(flatten)]
    body: BodyArgs,
    /// QoS 0 (at most once), 1 (at least once) or 2 (exactly once)
    #[arg(short, long, value_name = "QOS", default_value = "0", value_parser = parse_qos)]
    qos: QoS,
    /// The server keeps the message and shows it to later subscribers
    #[arg(short, long)]
    retain: bool,
    /// Send the message so often
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        conflicts_with = "stdin_line"
    )]
    repeat: u64,
    /// Seconds between two of them
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 0.0,
        requires = "repeat"
    )]
    repeat_delay: f64,
    /// The server keeps the message and publishes it after so many seconds, up to a year
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(..=DELAY_MAX_S))]
    delay: Option<u32>,
    /// Another delayed message with this topic and ID takes its place; one without payload (-n) cancels it
    #[arg(long, value_name = "ID", requires = "delay")]
    delay_id: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    session: SessionArgs,
    #[command(flatten)]
    sealing: SealArgs,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct BodyArgs {
    /// The message
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Send a file as one message
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Send each line of standard input as a message
    #[arg(short = 'l', long)]
    stdin_line: bool,
    /// Send standard input as one message
    #[arg(short, long)]
    stdin_file: bool,
    /// Send a message without payload
    #[arg(short, long)]
    null_message: bool,
}

/// What is still to be sent.
enum Source {
    Repeated {
        payload: Vec<u8>,
        left: u64,
        delay: Duration,
        due: Instant,
    },
    Lines(mpsc::Receiver<io::Result<Vec<u8>>>),
}

/// What became of the messages so far.
#[derive(Default)]
struct Progress {
    handed_over: u64,
    finished: u64,
    refused: Option<(ReasonCode, String)>,
    lost: u64,
}

pub fn run(arguments: &Args) -> Result<(), Failure> {
    check_topic(&arguments.topic)?;
    let delay = Duration::try_from_secs_f64(arguments.repeat_delay)
        .map_err(|_| Failure::usage("--repeat-delay takes seconds, 0 or more"))?;
    let server = arguments.server.server()?;
    let mut options = arguments.session.options(&arguments.server, &server)?;
    options.resume_seconds = RESUME_SECONDS;
    let mut properties = arguments.session.properties(Carrier::Publish)?;
    let topic = arguments.delayed(options.version, &mut properties)?;
    arguments.check_sealing(options.version, &properties)?;
    let mut message = Publish::new(topic, []).qos(arguments.qos);
    if arguments.retain {
        message = message.retain();
    }
    if options.version == ProtocolVersion::V5 {
        for property in properties.as_properties().iter() {
            message = message.property(property);
        }
    }
    let (message, tally) = arguments.sealing.apply(message)?;
    let source = arguments.source(delay)?;
    let published = publish(arguments, &server, options, &message, source);
    let published = runtime()?.block_on(published);
    // What was sealed counts, whatever became of it.
    tally.keep()?;
    published
}

/// Publishes `message` with each payload of `source`.
async fn publish(
    arguments: &Args,
    server: &Server,
    options: Options,
    message: &Publish,
    mut source: Source,
) -> Result<(), Failure> {
    let client = server
        .client(options)
        .reconnect(reconnect::publisher())
        .unfinished_max(UNFINISHED_MAX, UNFINISHED_BYTES_MAX)
        .observe(arguments.observer(server))
        .connect()
        .await
        .map_err(|error| server.refusal(&error))?;
    let completions = Completions::new();
    let mut progress = Progress::default();
    let mut is_ended = false;
    while !is_ended || progress.finished < progress.handed_over {
        tokio::select! {
            (_, outcome) = completions.next() => progress.note(arguments, &outcome),
            payload = source.next(), if !is_ended => match payload? {
                None => is_ended = true,
                Some(payload) => {
                    let message = message.clone().payload(payload).prepared();
                    let message = message.map_err(|error| sealing::failure(&error))?;
                    let (topic, length) = (&arguments.topic, message.payload_len());
                    arguments.session.debug(&format!("PUBLISH {topic} ({length} bytes)"));
                    match client.publish_into(message, &completions, 0).await {
                        Ok(()) => progress.handed_over += 1,
                        // What there is to say is said below.
                        Err(_) => is_ended = true,
                    }
                }
            },
            _ = client.ended(), if !is_ended => is_ended = true,
        }
    }
    client.disconnect().await;
    progress.outcome(server, client.ended().await.as_ref())
}

impl Args {
    /// The topic to send to, and the properties that say what is to wait: MQTT 3.1.1 has only the topic for that.
    fn delayed(
        &self,
        version: ProtocolVersion,
        properties: &mut PropertyBuffer,
    ) -> Result<String, Failure> {
        let Some(seconds) = self.delay else {
            return Ok(self.topic.clone());
        };
        if version != ProtocolVersion::V5 {
            if self.delay_id.is_some() {
                return Err(Failure::usage("--delay-id is a property of MQTT 5")
                    .hint("leave -V out, or --delay-id"));
            }
            return Ok(format!("$delayed/{seconds}/{}", self.topic));
        }
        properties.push(Property::UserProperty(
            "waypost-delay",
            &seconds.to_string(),
        ));
        if let Some(delay_id) = &self.delay_id {
            properties.push(Property::UserProperty("waypost-delay-id", delay_id));
        }
        Ok(self.topic.clone())
    }

    /// Whether messages may be sealed and packed as was asked for.
    fn check_sealing(
        &self,
        version: ProtocolVersion,
        properties: &PropertyBuffer,
    ) -> Result<(), Failure> {
        let seals = self.sealing.seals();
        if seals && self.body.null_message {
            return Err(Failure::usage(
                "a message without payload says nothing that could be sealed",
            )
            .hint("-n without --seal-for forgets a retained message; -m '' seals an empty one"));
        }
        if version == ProtocolVersion::V5 {
            if seals && properties.as_properties().content_type().is_some() {
                let text = format!(
                    "the content type of a sealed message is {}",
                    sealing::CONTENT_TYPE
                );
                return Err(Failure::usage(text).hint("leave -D publish content-type out"));
            }
            if seals && properties.as_properties().payload_format_indicator() == Some(1) {
                let text = "what is sealed is bytes, whatever is in it";
                return Err(
                    Failure::usage(text).hint("leave -D publish payload-format-indicator out")
                );
            }
            let mut names = properties.as_properties().user_properties();
            if seals && names.any(|(name, _)| name == "content-encoding") {
                let text = "how a sealed message is packed is said inside";
                return Err(Failure::usage(text).hint(
                    "--compress packs it; leave -D publish user-property content-encoding out",
                ));
            }
        } else if !seals && self.sealing.packs() {
            return Err(Failure::usage(
                "MQTT 3.1.1 cannot say how a message is packed, so nobody could read it",
            )
            .hint("leave -V or --compress out, or seal it: the seal says it"));
        }
        Ok(())
    }

    fn source(&self, delay: Duration) -> Result<Source, Failure> {
        if self.body.stdin_line {
            return Ok(Source::Lines(read_lines()?));
        }
        Ok(Source::Repeated {
            payload: self.body.payload()?,
            left: self.repeat,
            delay,
            due: Instant::now(),
        })
    }

    /// Says on standard error what happens, as far as it is wanted.
    fn observer(&self, server: &Server) -> impl Fn(&Notice) + Send + Sync + 'static {
        let (is_debug, is_quiet) = (self.session.debug, self.session.quiet);
        let endpoint = server.endpoint.to_string();
        move |notice| match notice {
            Notice::Connected { session_present } if is_debug => {
                eprintln!("connected to {endpoint}, session present: {session_present}");
            }
            Notice::Resent if is_debug => eprintln!("sent again"),
            Notice::Lost {
                why,
                again_in: Some(_),
            } if !is_quiet => eprintln!("{endpoint}: {why}; connecting again"),
            _ => {}
        }
    }
}

impl Source {
    /// The next payload, when it is due; nothing: there is none. If the future is dropped, nothing is
    /// lost.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        match self {
            Self::Repeated { left: 0, .. } => Ok(None),
            Self::Repeated {
                payload,
                left,
                delay,
                due,
            } => {
                tokio::time::sleep_until((*due).into()).await;
                *due += *delay;
                *left -= 1;
                Ok(Some(payload.clone()))
            }
            Self::Lines(lines) => lines
                .recv()
                .await
                .transpose()
                .map_err(|error| Failure::new(format!("cannot read standard input: {error}"))),
        }
    }
}

impl Progress {
    fn note(&mut self, arguments: &Args, outcome: &Result<Published, PublishError>) {
        self.finished += 1;
        match outcome {
            Ok(published) => {
                let text = published.reason.text();
                arguments.session.debug(&format!("finished: {text}"));
            }
            Err(error @ PublishError::Refused { reason, .. }) => {
                arguments.session.debug(&format!("finished: {error}"));
                self.refused
                    .get_or_insert_with(|| (*reason, error.to_string()));
            }
            Err(_) => self.lost += 1,
        }
    }

    /// How the command ends once the connection is closed for good.
    fn outcome(&self, server: &Server, why: &Closed) -> Result<(), Failure> {
        let lost = self.lost;
        if !matches!(why, Closed::Finished) {
            let failure = server.failure(why);
            return Err(if lost > 0 {
                failure.hint(format!("{lost} messages were not acknowledged"))
            } else {
                failure
            });
        }
        match &self.refused {
            Some((reason, text)) => Err(Failure::new(text.clone()).code(reason.as_u8())),
            None if lost > 0 => {
                let text =
                    format!("{lost} messages were lost with a connection, or not surely delivered");
                Err(Failure::new(text).code(CODE_LOST))
            }
            None => Ok(()),
        }
    }
}

impl BodyArgs {
    fn payload(&self) -> Result<Vec<u8>, Failure> {
        let (name, mut reader): (_, Box<dyn Read>) = if let Some(text) = &self.message {
            return Ok(text.clone().into_bytes());
        } else if let Some(path) = &self.file {
            let file = std::fs::File::open(path)
                .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
            (path.display().to_string(), Box::new(file))
        } else if self.stdin_file {
            ("standard input".to_owned(), Box::new(io::stdin()))
        } else {
            return Ok(Vec::new());
        };
        let mut payload = Vec::new();
        reader
            .by_ref()
            .take(PAYLOAD_BYTES_MAX + 1)
            .read_to_end(&mut payload)
            .map_err(|error| Failure::new(format!("cannot read {name}: {error}")))?;
        if payload.len() as u64 > PAYLOAD_BYTES_MAX {
            return Err(Failure::usage(format!(
                "{name} is longer than a message can be ({PAYLOAD_BYTES_MAX} bytes)"
            )));
        }
        Ok(payload)
    }
}

/// Reads lines on a thread of their own: the connection must be kept alive meanwhile.
fn read_lines() -> Result<mpsc::Receiver<io::Result<Vec<u8>>>, Failure> {
    let (sender, receiver) = mpsc::channel(LINES_AHEAD_MAX);
    std::thread::Builder::new()
        .name("stdin".into())
        .spawn(move || {
            let mut input = io::stdin().lock();
            loop {
                let mut line = Vec::new();
                let outcome = input
                    .by_ref()
                    .take(PAYLOAD_BYTES_MAX)
                    .read_until(b'\n', &mut line);
                if line.last() == Some(&b'\n') {
                    line.pop();
                }
                let is_ended = matches!(outcome, Ok(0) | Err(_));
                if matches!(outcome, Ok(0))
                    || sender.blocking_send(outcome.map(|_| line)).is_err()
                    || is_ended
                {
                    return;
                }
            }
        })?;
    Ok(receiver)
}

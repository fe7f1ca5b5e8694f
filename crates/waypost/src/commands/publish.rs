//! `waypost pub`: publishes one message, or one for each line of standard input.

use std::io::{self, BufRead, Read};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use waypost_mqtt::{Property, PropertyBuffer, ProtocolVersion, QoS, ReasonCode};

use super::connection::{CODE_LOST, Server, ServerArgs, SessionArgs, check_topic, parse_qos};
use super::property::Carrier;
use super::reconnect::{Backoff, FRUITLESS_MAX, PATIENCE, RESUME_SECONDS};
use crate::Failure;
use crate::client::swarm::{Key, Swarm};
use waypost_client::protocol::event::{Closed, Event};
use waypost_client::protocol::options::Outgoing;
use waypost_client::protocol::remains::Remains;

const EXAMPLES: &str = "\
Examples:
  waypost pub -t chat/lobby -m 'hello'            one message, QoS 0
  waypost pub -t orders/17 -f order.json -q 1     a file, acknowledged by the server
  waypost pub -t door/open -n -r                  forget the retained message of a topic
  tail -f app.log | waypost pub -t logs/app -l    one message a line
  waypost pub -t lamp -m off --delay 600          published in ten minutes
  waypost pub -t a -m x -D publish user-property k v -D publish message-expiry-interval 60
  waypost pub --url mqtt://ann:secret@example.org:1883 -t a -m x

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
const OUTBOX_BYTES_MAX: usize = 1024 * 1024;
const POLL: Duration = Duration::from_secs(1);

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
    Lines(Receiver<io::Result<Vec<u8>>>),
    Ended,
}

/// Where the connection stands.
enum Link {
    Opening,
    Connected,
    /// Lost; to be made again at this time with what it left.
    Down(Instant, Remains),
    Closed(Result<(), Failure>),
}

/// What became of the messages so far.
struct Progress<'a> {
    arguments: &'a Args,
    /// As it is sent.
    topic: &'a str,
    server: &'a Server,
    link: Link,
    backoff: Backoff,
    /// Since when there is no connection, after there was one.
    down_since: Option<Instant>,
    was_connected: bool,
    /// Connections lost since a message was last finished.
    fruitless: u32,
    refused: Option<ReasonCode>,
    lost: u64,
}

pub fn run(arguments: &Args) -> Result<(), Failure> {
    check_topic(&arguments.topic)?;
    let delay = Duration::try_from_secs_f64(arguments.repeat_delay)
        .map_err(|_| Failure::usage("--repeat-delay takes seconds, 0 or more"))?;
    let server = arguments.server.server()?;
    let mut options = arguments.session.options(&arguments.server, &server)?;
    options.resume_seconds = RESUME_SECONDS;
    let options = Rc::new(options);
    let mut properties = arguments.session.properties(Carrier::Publish)?;
    let topic = arguments.delayed(options.version, &mut properties)?;
    let mut swarm = Swarm::new(server.door.clone())?;
    let mut source = arguments.source(&swarm, delay)?;
    let mut key = swarm.open(&options)?;
    let mut progress = Progress {
        arguments,
        topic: &topic,
        server: &server,
        link: Link::Opening,
        backoff: Backoff::new(),
        down_since: None,
        was_connected: false,
        fruitless: 0,
        refused: None,
        lost: 0,
    };
    loop {
        let mut timeout = POLL;
        match &mut progress.link {
            Link::Opening => {}
            Link::Connected => {
                timeout = progress.feed(&mut swarm, key, &mut source, &properties)?;
                let unfinished = swarm
                    .session(key)
                    .is_some_and(|session| session.unfinished() > 0);
                if matches!(source, Source::Ended) && !unfinished {
                    swarm.close(key, ReasonCode::Success);
                }
            }
            Link::Down(at, remains) => {
                timeout = at.saturating_duration_since(Instant::now());
                if timeout.is_zero() {
                    key = swarm.resume(&options, std::mem::take(remains))?;
                    progress.link = Link::Opening;
                }
            }
            Link::Closed(_) => return progress.outcome(),
        }
        swarm.poll(timeout.min(POLL), &mut |_, event| progress.on_event(&event))?;
    }
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

    fn source(&self, swarm: &Swarm, delay: Duration) -> Result<Source, Failure> {
        if self.body.stdin_line {
            return Ok(Source::Lines(read_lines(swarm)?));
        }
        Ok(Source::Repeated {
            payload: self.body.payload()?,
            left: self.repeat,
            delay,
            due: Instant::now(),
        })
    }
}

impl Progress<'_> {
    /// Hands over what is due and fits; gives how long to wait for more.
    fn feed(
        &mut self,
        swarm: &mut Swarm,
        key: Key,
        source: &mut Source,
        properties: &PropertyBuffer,
    ) -> Result<Duration, Failure> {
        let arguments = self.arguments;
        loop {
            let Some(session) = swarm.session(key) else {
                return Ok(POLL);
            };
            if session.unfinished() >= UNFINISHED_MAX || session.outbox().len() >= OUTBOX_BYTES_MAX
            {
                return Ok(POLL);
            }
            let line;
            let payload: &[u8] = match source {
                Source::Ended => return Ok(POLL),
                Source::Repeated { left: 0, .. } => {
                    *source = Source::Ended;
                    return Ok(POLL);
                }
                Source::Repeated {
                    payload,
                    left,
                    delay,
                    due,
                } => {
                    let now = Instant::now();
                    if *due > now {
                        return Ok(*due - now);
                    }
                    *due += *delay;
                    *left -= 1;
                    payload
                }
                Source::Lines(lines) => match lines.try_recv() {
                    Ok(outcome) => {
                        line = outcome.map_err(|error| {
                            Failure::new(format!("cannot read standard input: {error}"))
                        })?;
                        &line
                    }
                    Err(TryRecvError::Empty) => return Ok(POLL),
                    Err(TryRecvError::Disconnected) => {
                        *source = Source::Ended;
                        return Ok(POLL);
                    }
                },
            };
            let message = Outgoing {
                topic: self.topic,
                payload,
                qos: arguments.qos,
                retain: arguments.retain,
                properties: properties.as_properties(),
            };
            arguments.session.debug(&format!(
                "PUBLISH {} ({} bytes)",
                arguments.topic,
                payload.len()
            ));
            swarm.publish(key, &message, 0, &mut |_, event| self.on_event(&event));
        }
    }
}

impl Progress<'_> {
    fn on_event(&mut self, event: &Event<'_>) -> ControlFlow<()> {
        let session = &self.arguments.session;
        match event {
            Event::Connected(answer) => {
                session.debug(&format!(
                    "connected to {}, session present: {}",
                    self.server.endpoint, answer.session_present
                ));
                self.link = Link::Connected;
                self.was_connected = true;
                self.down_since = None;
                self.backoff = Backoff::new();
            }
            Event::Done { reason, .. } => {
                session.debug(&format!("finished: {}", reason.text()));
                self.fruitless = 0;
                if reason.is_error() {
                    self.refused.get_or_insert(*reason);
                }
            }
            Event::Resent => session.debug("sent again"),
            Event::Lost { .. } => self.lost += 1,
            Event::Closed { why, remains } => self.on_closed(why, remains.take()),
            Event::Message(_) | Event::Subscribed { .. } | Event::Unsubscribed { .. } => {}
        }
        ControlFlow::Continue(())
    }

    fn on_closed(&mut self, why: &Closed, remains: Remains) {
        if matches!(why, Closed::Finished) {
            self.link = Link::Closed(Ok(()));
            return;
        }
        let now = Instant::now();
        let down_since = *self.down_since.get_or_insert(now);
        self.fruitless += u32::from(matches!(self.link, Link::Connected));
        let again = self.was_connected
            && why.is_passing()
            && now - down_since < PATIENCE
            && self.fruitless < FRUITLESS_MAX;
        if again {
            if !self.arguments.session.quiet {
                eprintln!("{}: {why}; connecting again", self.server.endpoint);
            }
            self.link = Link::Down(self.backoff.next(now), remains);
        } else {
            self.lost += remains.tags().count() as u64;
            self.link = Link::Closed(Err(self.server.failure(why)));
        }
    }

    /// How the command ends once the connection is closed for good.
    fn outcome(self) -> Result<(), Failure> {
        let lost = self.lost;
        match self.link {
            Link::Closed(Err(failure)) if lost > 0 => {
                Err(failure.hint(format!("{lost} messages were not acknowledged")))
            }
            Link::Closed(Err(failure)) => Err(failure),
            _ => match self.refused {
                Some(reason) => Err(Failure::new(format!(
                    "the server refused the message: {}",
                    reason.text()
                ))
                .code(reason.as_u8())),
                None if lost > 0 => Err(Failure::new(format!(
                    "{lost} messages were lost with a connection, or not surely delivered"
                ))
                .code(CODE_LOST)),
                None => Ok(()),
            },
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
fn read_lines(swarm: &Swarm) -> Result<Receiver<io::Result<Vec<u8>>>, Failure> {
    let (sender, receiver) = sync_channel(LINES_AHEAD_MAX);
    let waker = swarm.waker()?;
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
                let ended = matches!(outcome, Ok(0) | Err(_));
                let sent = match outcome {
                    Ok(0) => Ok(()),
                    outcome => sender.send(outcome.map(|_| line)),
                };
                if ended || sent.is_err() {
                    drop(sender);
                    let _ = waker.wake();
                    return;
                }
                let _ = waker.wake();
            }
        })?;
    Ok(receiver)
}

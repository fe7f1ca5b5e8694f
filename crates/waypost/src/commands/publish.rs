//! `waypost pub`: publishes one message, or one for each line of standard input.

use std::io::{self, BufRead, Read};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use waypost_mqtt::{PropertyBuffer, QoS, ReasonCode};

use super::connection::{Server, ServerArgs, SessionArgs, check_topic, parse_qos};
use super::property::Carrier;
use crate::Failure;
use crate::client::event::{Closed, Event};
use crate::client::session::Outgoing;
use crate::client::swarm::{Key, Swarm};

const EXAMPLES: &str = "\
Examples:
  waypost pub -t chat/lobby -m 'hello'            one message, QoS 0
  waypost pub -t orders/17 -f order.json -q 1     a file, acknowledged by the server
  waypost pub -t door/open -n -r                  forget the retained message of a topic
  tail -f app.log | waypost pub -t logs/app -l    one message a line
  waypost pub -t a -m x -D publish user-property k v -D publish message-expiry-interval 60
  waypost pub --url mqtt://ann:secret@example.org:1883 -t a -m x

Exit codes: 0 done; the server's reason code when it refuses the connection or a message;
7 the connection was lost; 2 wrong arguments; 1 anything else.";

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

#[derive(Default)]
struct Progress {
    connected: bool,
    refused: Option<ReasonCode>,
    closed: Option<Result<(), Failure>>,
}

pub fn run(arguments: &Args) -> Result<(), Failure> {
    check_topic(&arguments.topic)?;
    let delay = Duration::try_from_secs_f64(arguments.repeat_delay)
        .map_err(|_| Failure::usage("--repeat-delay takes seconds, 0 or more"))?;
    let server = arguments.server.server()?;
    let options = Rc::new(arguments.session.options(&arguments.server, &server)?);
    let properties = arguments.session.properties(Carrier::Publish)?;
    let mut swarm = Swarm::new(server.address)?;
    let mut source = if arguments.body.stdin_line {
        Source::Lines(read_lines(&swarm)?)
    } else {
        let payload = arguments.body.payload()?;
        Source::Repeated {
            payload,
            left: arguments.repeat,
            delay,
            due: Instant::now(),
        }
    };
    let key = swarm.open(&options)?;
    let mut progress = Progress::default();
    loop {
        let mut timeout = POLL;
        if progress.connected {
            timeout = arguments.feed(&mut swarm, key, &mut source, &properties, &mut progress)?;
            let unfinished = swarm
                .session(key)
                .is_some_and(|session| session.unfinished() > 0);
            if matches!(source, Source::Ended) && !unfinished {
                swarm.close(key, ReasonCode::Success);
            }
        }
        swarm.poll(timeout, &mut |_, event| {
            progress.on_event(&event, &server, arguments)
        })?;
        if let Some(outcome) = progress.closed.take() {
            outcome?;
            return match progress.refused {
                None => Ok(()),
                Some(reason) => Err(Failure::new(format!(
                    "the server refused the message: {}",
                    reason.text()
                ))
                .code(reason.as_u8())),
            };
        }
    }
}

impl Args {
    /// Hands over what is due and fits; gives how long to wait for more.
    fn feed(
        &self,
        swarm: &mut Swarm,
        key: Key,
        source: &mut Source,
        properties: &PropertyBuffer,
        progress: &mut Progress,
    ) -> Result<Duration, Failure> {
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
                topic: &self.topic,
                payload,
                qos: self.qos,
                retain: self.retain,
                properties: properties.as_properties(),
            };
            self.session
                .debug(&format!("PUBLISH {} ({} bytes)", self.topic, payload.len()));
            let on = &mut |_, event: Event<'_>| {
                progress.on_answer(&event);
                ControlFlow::Continue(())
            };
            swarm.publish(key, &message, 0, on);
        }
    }
}

impl Progress {
    fn on_event(
        &mut self,
        event: &Event<'_>,
        server: &Server,
        arguments: &Args,
    ) -> ControlFlow<()> {
        match event {
            Event::Connected(answer) => {
                self.connected = true;
                arguments.session.debug(&format!(
                    "connected to {}, session present: {}",
                    server.endpoint, answer.session_present
                ));
            }
            Event::Closed {
                why: Closed::Finished,
                ..
            } => self.closed = Some(Ok(())),
            Event::Closed { why, .. } => self.closed = Some(Err(server.failure(why))),
            Event::Done { reason, .. } => {
                arguments
                    .session
                    .debug(&format!("finished: {}", reason.text()));
                self.on_answer(event);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn on_answer(&mut self, event: &Event<'_>) {
        if let Event::Done { reason, .. } = event
            && reason.is_error()
        {
            self.refused.get_or_insert(*reason);
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

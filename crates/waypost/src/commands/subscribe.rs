//! `waypost sub`: prints the messages of some topics as they arrive.

mod format;
mod history;

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use waypost_mqtt::{
    Filter, Publish, QoS, ReasonCode, ReasonCodes, RetainHandling, SubscriptionOptions,
    SubscriptionRequest, Topic,
};

use self::format::Layout;
use self::history::History;
use super::connection::{Server, ServerArgs, SessionArgs, parse_qos};
use super::property::Carrier;
use super::reconnect::Backoff;
use crate::Failure;
use crate::client::swarm::Swarm;
use crate::failure::{colour, interrupted};
use waypost_client::protocol::event::{Closed, Event};
use waypost_client::protocol::remains::Remains;

const EXAMPLES: &str = "\
Examples:
  waypost sub -t 'chat/#' -v                      topic and payload of every message
  waypost sub -t 'orders/+' -q 1 -C 10            ten messages, then stop
  waypost sub -t status -C 1 -W 5                 exit code 27 when none comes in 5 seconds
  waypost sub -t '#' --json | jq .topic           one JSON object a message
  waypost sub -t '#' -F '%I %t (%q): %p'          a layout of your own
  waypost sub -t mail -q 1 -c -i ann              what came while ann was away comes first
  waypost sub -U mail -E -c -i ann                ann wants no more mail
  waypost sub --from last=50 -t 'chat/#' -v       the last 50 messages of a stream, then what comes
  waypost sub --from since=10m -t 'orders/+' -F '%O %T %t %p'
                                                  those of the last ten minutes, with their places

History (--from), of a stream ([[stream]] in the server's settings) that has all of the filter's
messages: last=N messages, each=N messages of each topic, since=10m, time=2026-11-24T05:00:00Z (or
milliseconds since 1970), offset=N; then optionally ;stream=NAME. Live messages follow, without a gap.
With -c -i a session that is there already goes on where it was.

Layout (-F): %t topic, %p payload, %x payload in hexadecimal, %l its length, %q QoS, %r retain,
%m packet id, %U Unix time, %I ISO 8601 time, %C content type, %R response topic,
%E message expiry, %P user properties, %j the --json object, %% a percent sign, \\n, \\t, \\0;
of a stream (MQTT 5): %S its name, %O the offset in it, %T the time when the message entered.

Exit codes: 0 done or interrupted; 27 nothing (or not enough) came in time; the server's reason
code when it refuses the connection; 2 wrong arguments; 1 anything else.";

/// mosquitto's exit code for `-W`.
const CODE_TIMEOUT: u8 = 27;
const POLL: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct Args {
    /// Subscribe to this topic filter (may be repeated)
    #[arg(
        short,
        long = "topic",
        value_name = "FILTER",
        required_unless_present = "unsubscribe"
    )]
    topics: Vec<String>,
    /// Begin with what a stream has: last=N, each=N, since=10m, time=…, offset=N
    #[arg(long, value_name = "SPEC", value_parser = history::parse_spec)]
    from: Option<String>,
    /// End the session's subscription to this filter first (may be repeated; with -c -i)
    #[arg(short = 'U', long, value_name = "FILTER")]
    unsubscribe: Vec<String>,
    /// Do not print messages of these filters (may be repeated)
    #[arg(short = 'T', long = "filter-out", value_name = "FILTER")]
    filter_out: Vec<String>,
    /// Highest QoS to receive with
    #[arg(short, long, value_name = "QOS", default_value = "0", value_parser = parse_qos)]
    qos: QoS,
    /// Print the topic before the payload
    #[arg(short, long)]
    verbose: bool,
    /// Stop after this many messages
    #[arg(short = 'C', value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Stop after this many seconds, with exit code 27
    #[arg(short = 'W', value_name = "SECONDS")]
    wait: Option<f64>,
    /// No line break after a message
    #[arg(short = 'N')]
    no_newline: bool,
    /// Do not print retained messages that are older than the subscription
    #[arg(short = 'R')]
    no_retained: bool,
    /// Print retained messages only, and stop at the first that is not
    #[arg(long, conflicts_with = "no_retained")]
    retained_only: bool,
    /// Stop once subscribed, or unsubscribed (with -c -i: leave a session behind)
    #[arg(short = 'E')]
    exit_subscribed: bool,
    /// Print messages in a layout of your own
    #[arg(short = 'F', value_name = "LAYOUT", conflicts_with_all = ["verbose", "json"])]
    format: Option<String>,
    /// Print one JSON object per message: topic, payload (`payload_base64` when it is not UTF-8),
    /// qos, retain, time, properties; of a stream also stream, offset, entered
    #[arg(long, conflicts_with = "verbose")]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    session: SessionArgs,
}

/// Where the connection stands.
enum Link {
    Opening,
    /// The server accepted the connection; SUBSCRIBE is due.
    Accepted,
    Subscribed,
    /// Lost; to be made again at this time.
    Down(Instant),
    /// Over for good.
    Closed,
}

/// What became of the subscription so far.
struct Subscriber<'a> {
    arguments: &'a Args,
    server: &'a Server,
    layout: Layout,
    filtered_out: Vec<Filter<'a>>,
    /// What was read of a stream, with --from.
    history: Option<History>,
    output: io::StdoutLock<'static>,
    buffer: Vec<u8>,
    count: u64,
    link: Link,
    /// It was connected once, so a lost connection is made again.
    was_connected: bool,
    backoff: Backoff,
    /// What the lost connection left for the next.
    remains: Remains,
    /// Why to stop, once there is a reason.
    end: Option<Result<(), Failure>>,
}

pub fn run(arguments: &Args) -> Result<(), Failure> {
    // The filters themselves are checked; what stands before them is the server's to judge.
    filters(&arguments.topics)?;
    let unsubscribe = filters(&arguments.unsubscribe)?;
    let deadline = arguments.deadline()?;
    let server = arguments.server.server()?;
    let options = Rc::new(arguments.session.options(&arguments.server, &server)?);
    let properties = arguments.session.properties(Carrier::Subscribe)?;
    let mut subscriber = Subscriber {
        arguments,
        server: &server,
        layout: arguments.layout()?,
        filtered_out: filters(&arguments.filter_out)?,
        history: arguments.from.clone().map(History::new),
        output: io::stdout().lock(),
        buffer: Vec::new(),
        count: 0,
        link: Link::Opening,
        was_connected: false,
        backoff: Backoff::new(),
        remains: Remains::default(),
        end: None,
    };
    let interrupted = interrupted()?;
    let mut swarm = Swarm::new(server.door.clone())?;
    let mut key = swarm.open(&options)?;
    loop {
        let wake = [deadline, subscriber.link.due()]
            .into_iter()
            .flatten()
            .min();
        let left = wake.map(|wake| wake.saturating_duration_since(Instant::now()));
        swarm.poll(left.unwrap_or(POLL).min(POLL), &mut |_, event| {
            subscriber.on_event(&event)
        })?;
        subscriber.flush()?;
        if interrupted.load(Ordering::Relaxed) {
            subscriber.end.get_or_insert(Ok(()));
        } else if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            let failure = Failure::new(format!("timed out after {} messages", subscriber.count));
            subscriber
                .end
                .get_or_insert(Err(failure.code(CODE_TIMEOUT)));
        }
        match subscriber.link {
            Link::Closed | Link::Down(_) if subscriber.end.is_some() => {
                return subscriber.end.unwrap_or(Ok(()));
            }
            _ if subscriber.end.is_some() => swarm.close(key, ReasonCode::Success),
            Link::Accepted => {
                subscriber.link = Link::Subscribed;
                if let Some(session) = swarm.touch(key) {
                    if !unsubscribe.is_empty() {
                        session.unsubscribe(&unsubscribe);
                    }
                    let filters = subscriber.filters();
                    if !filters.is_empty() {
                        let requests = arguments.requests(&filters)?;
                        session.subscribe(&requests, properties.as_properties());
                    }
                }
            }
            Link::Down(at) if Instant::now() >= at => {
                subscriber.link = Link::Opening;
                key = swarm.resume(&options, std::mem::take(&mut subscriber.remains))?;
            }
            _ => {}
        }
    }
}

impl Args {
    fn requests<'f>(&self, filters: &'f [String]) -> Result<Vec<SubscriptionRequest<'f>>, Failure> {
        let retain_handling = if self.no_retained {
            RetainHandling::DoNotSend
        } else {
            RetainHandling::SendAtSubscribe
        };
        let options = SubscriptionOptions {
            qos: self.qos,
            retain_handling,
            ..Default::default()
        };
        let request = |filter: &'f String| {
            Ok(SubscriptionRequest {
                filter: parse_filter(filter)?,
                options,
            })
        };
        filters.iter().map(request).collect()
    }

    fn deadline(&self) -> Result<Option<Instant>, Failure> {
        let Some(seconds) = self.wait else {
            return Ok(None);
        };
        Duration::try_from_secs_f64(seconds)
            .ok()
            .and_then(|wait| Instant::now().checked_add(wait))
            .map(Some)
            .ok_or_else(|| Failure::usage("-W takes seconds, 0 or more"))
    }

    fn layout(&self) -> Result<Layout, Failure> {
        let mut layout = if let Some(text) = &self.format {
            Layout::parse(text).map_err(Failure::usage)?
        } else if self.json {
            Layout::json()
        } else if self.verbose {
            Layout::verbose(colour(&io::stdout()))
        } else {
            Layout::payload()
        };
        if !self.no_newline {
            layout.end_line();
        }
        Ok(layout)
    }
}

impl Link {
    fn due(&self) -> Option<Instant> {
        match self {
            Self::Down(at) => Some(*at),
            _ => None,
        }
    }
}

impl Subscriber<'_> {
    fn on_event(&mut self, event: &Event<'_>) -> ControlFlow<()> {
        match event {
            Event::Connected(answer) => {
                self.arguments.session.debug(&format!(
                    "connected to {}, session present: {}",
                    self.server.endpoint, answer.session_present
                ));
                self.link = if self.goes_on(answer.session_present) {
                    self.arguments
                        .session
                        .debug("the session goes on in the stream where it was");
                    Link::Subscribed
                } else {
                    Link::Accepted
                };
                self.was_connected = true;
                self.backoff = Backoff::new();
            }
            Event::Subscribed { reasons, why, .. } => self.on_subscribed(*reasons, *why),
            Event::Unsubscribed { reasons, .. } => self.on_unsubscribed(*reasons),
            Event::Message(message) => self.on_message(message),
            Event::Closed { why, remains } => {
                self.remains = remains.take();
                self.on_closed(why);
            }
            Event::Done { .. } | Event::Resent | Event::Lost { .. } => {}
        }
        if self.end.is_some() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// A session that is there already reads on where it was: another SUBSCRIBE would begin anew.
    fn goes_on(&self, session_present: bool) -> bool {
        let arguments = self.arguments;
        session_present
            && self.history.is_some()
            && arguments.unsubscribe.is_empty()
            && !arguments.exit_subscribed
    }

    /// What to subscribe to on this connection.
    fn filters(&self) -> Vec<String> {
        let topics = &self.arguments.topics;
        match &self.history {
            None => topics.clone(),
            Some(history) => history.filters(topics),
        }
    }

    fn on_subscribed(&mut self, reasons: ReasonCodes<'_>, why: Option<&str>) {
        let mut granted = false;
        let mut refusal = None;
        for (filter, reason) in self.arguments.topics.iter().zip(reasons.iter()) {
            if reason.is_error() {
                refusal = Some(reason);
                eprintln!(
                    "warning: subscription to `{filter}` refused: {}{}",
                    reason.text(),
                    why.map_or_else(String::new, |why| format!(": {why}"))
                );
            } else {
                granted = true;
                self.arguments
                    .session
                    .debug(&format!("subscribed to {filter}: {}", reason.text()));
            }
        }
        if let Some(reason) = refusal
            && !granted
        {
            let failure = Failure::new("every subscription was refused").code(reason.as_u8());
            self.end = Some(Err(failure));
        } else if self.arguments.exit_subscribed {
            self.end = Some(Ok(()));
        }
    }

    fn on_unsubscribed(&mut self, reasons: ReasonCodes<'_>) {
        let arguments = self.arguments;
        for (filter, reason) in arguments.unsubscribe.iter().zip(reasons.iter()) {
            if reason != ReasonCode::Success && !arguments.session.quiet {
                eprintln!("warning: unsubscribe from `{filter}`: {}", reason.text());
            }
        }
        if arguments.topics.is_empty() && arguments.exit_subscribed {
            self.end = Some(Ok(()));
        }
    }

    fn on_message(&mut self, message: &Publish<'_>) {
        if self.end.is_some() {
            return;
        }
        let arguments = self.arguments;
        if arguments.retained_only && !message.retain {
            self.end = Some(Ok(()));
            return;
        }
        // 3.1.1 has no Retain Handling: what was retained says so.
        if arguments.no_retained && message.retain {
            return;
        }
        if let Some(history) = &mut self.history {
            history.note(message);
        }
        let topic = Topic::from_validated(message.topic);
        if self.filtered_out.iter().any(|filter| filter.matches(topic)) {
            return;
        }
        self.layout
            .write(message, Timestamp::now(), &mut self.buffer);
        self.count += 1;
        if arguments.count.is_some_and(|count| self.count >= count) {
            self.end = Some(Ok(()));
        }
    }

    fn on_closed(&mut self, why: &Closed) {
        let again = match why {
            Closed::Finished | Closed::Refused { .. } | Closed::Protocol(_) => false,
            Closed::Unreachable(_) | Closed::Lost(_) | Closed::Silent(_) => self.was_connected,
            Closed::Door(error) => self.was_connected && error.is_passing(),
            Closed::Disconnected { reason, .. } => *reason != ReasonCode::SessionTakenOver,
        };
        if again && self.end.is_none() {
            eprintln!("{}: {why}; connecting again", self.server.endpoint);
            self.link = Link::Down(self.backoff.next(Instant::now()));
            return;
        }
        self.link = Link::Closed;
        if !matches!(why, Closed::Finished) {
            self.end
                .get_or_insert_with(|| Err(self.server.failure(why)));
        }
        self.end.get_or_insert(Ok(()));
    }

    /// Writes what was laid out; a reader that went away (`| head`) ends the command quietly.
    fn flush(&mut self) -> Result<(), Failure> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let outcome = self
            .output
            .write_all(&self.buffer)
            .and_then(|()| self.output.flush());
        self.buffer.clear();
        match outcome {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.end = Some(Ok(())),
            outcome => outcome?,
        }
        Ok(())
    }
}

fn filters(texts: &[String]) -> Result<Vec<Filter<'_>>, Failure> {
    texts.iter().map(|filter| parse_filter(filter)).collect()
}

fn parse_filter(filter: &str) -> Result<Filter<'_>, Failure> {
    Filter::parse(filter).map_err(|error| {
        Failure::usage(format!("`{filter}` is not a topic filter: {error}"))
            .hint("`+` stands for one whole level, `#` for all that follow, at the end only")
    })
}

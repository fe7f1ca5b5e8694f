//! `waypost sub`: prints the messages of some topics as they arrive.

mod format;

use std::future::Future;
use std::io::{self, Write};
use std::pin::Pin;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::mpsc;
use waypost_client::protocol::options::Options;
use waypost_client::{
    Client, Closed, Granted, Message, MessageError, Notice, Spec, Subscribe, Subscription,
};
use waypost_mqtt::{Filter, QoS, ReasonCode, RetainHandling, Topic};

use self::format::Layout;
use super::connection::{Server, ServerArgs, SessionArgs, parse_qos};
use super::property::Carrier;
use super::reconnect;
use super::sealing::{self, OpenArgs, Opener};
use crate::Failure;
use crate::failure::{Interruption, colour, runtime};

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
  waypost sub -t 'letters/ann' --open             opens what is sealed for you, says who signed it

History (--from), of a stream ([[stream]] in the server's settings) that has all of the filter's
messages: last=N messages, each=N messages of each topic, since=10m, time=2026-11-24T05:00:00Z (or
milliseconds since 1970), offset=N; then optionally ;stream=NAME. Live messages follow, without a gap.
With -c -i a session that is there already goes on where it was.

Layout (-F): %t topic, %p payload, %x payload in hexadecimal, %l its length, %q QoS, %r retain,
%m packet id, %U Unix time, %I ISO 8601 time, %C content type, %R response topic,
%E message expiry, %P user properties, %j the --json object, %% a percent sign, \\n, \\t, \\0;
of a stream (MQTT 5): %S its name, %O the offset in it, %T the time when the message entered;
with --open: %s who signed it, or nothing.

Exit codes: 0 done or interrupted; 27 nothing (or not enough) came in time; the server's reason
code when it refuses the connection; 2 wrong arguments; 1 anything else.";

/// mosquitto's exit code for `-W`.
const CODE_TIMEOUT: u8 = 27;
/// Messages between the connection and the terminal, and printed at a time.
const INBOX_MESSAGES: usize = 1_000;

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
    #[arg(long, value_name = "SPEC", value_parser = Spec::parse)]
    from: Option<Spec>,
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
    /// qos, retain, time, properties; of a stream also stream, offset, entered; with --open also sealed
    #[arg(long, conflicts_with = "verbose")]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    session: SessionArgs,
    #[command(flatten)]
    sealed: OpenArgs,
}

/// What became of the subscription so far.
struct Subscriber<'a> {
    arguments: &'a Args,
    server: &'a Server,
    layout: Layout,
    filtered_out: Vec<Filter<'a>>,
    /// What opens messages, with --open.
    opener: Option<Opener>,
    output: io::StdoutLock<'static>,
    buffer: Vec<u8>,
    count: u64,
    /// Why to stop, once there is a reason.
    end: Option<Result<(), Failure>>,
}

pub fn run(arguments: &Args) -> Result<(), Failure> {
    // The filters themselves are checked; what stands before them is the server's to judge.
    filters(&arguments.topics)?;
    filters(&arguments.unsubscribe)?;
    let deadline = arguments.deadline()?;
    let server = arguments.server.server()?;
    let options = arguments.session.options(&arguments.server, &server)?;
    let subscribe = arguments.subscribe()?;
    let mut subscriber = Subscriber {
        arguments,
        server: &server,
        layout: arguments.layout()?,
        filtered_out: filters(&arguments.filter_out)?,
        opener: arguments.sealed.opener()?,
        output: io::stdout().lock(),
        buffer: Vec::new(),
        count: 0,
        end: None,
    };
    runtime()?.block_on(async {
        let interruption = Interruption::watch()?;
        let stop = async {
            let late = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = interruption.wait() => Stop::Interrupted,
                () = late => Stop::Late,
            }
        };
        tokio::pin!(stop);
        subscriber.run(options, subscribe, stop).await?;
        subscriber.end.unwrap_or(Ok(()))
    })
}

/// What ends the command from outside.
enum Stop {
    Interrupted,
    Late,
}

impl Args {
    /// What to subscribe to; nothing, where it is only about leaving.
    fn subscribe(&self) -> Result<Option<Subscribe>, Failure> {
        let Some((first, others)) = self.topics.split_first() else {
            return Ok(None);
        };
        let retain_handling = if self.no_retained {
            RetainHandling::DoNotSend
        } else {
            RetainHandling::SendAtSubscribe
        };
        let mut subscribe = Subscribe::to(first)
            .qos(self.qos)
            .retain_handling(retain_handling);
        for other in others {
            subscribe = subscribe.and(other);
        }
        let properties = self.session.properties(Carrier::Subscribe)?;
        for property in properties.as_properties().iter() {
            subscribe = subscribe.property(property);
        }
        if let Some(spec) = &self.from {
            subscribe = subscribe.from(spec.clone());
        }
        Ok(Some(subscribe))
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
        if self.sealed.is_asked_for() && self.format.is_none() && !self.json {
            layout.name_sender();
        }
        if !self.no_newline {
            layout.end_line();
        }
        Ok(layout)
    }
}

/// Whether the user named encodings, with `-D connect user-property accept-encoding`.
fn accepts_encodings(options: &Options) -> bool {
    options
        .properties
        .as_properties()
        .user_properties()
        .any(|(name, _)| name == "accept-encoding")
}

impl Subscriber<'_> {
    /// Connects, subscribes and prints until there is a reason to stop.
    async fn run(
        &mut self,
        options: Options,
        subscribe: Option<Subscribe>,
        mut stop: Pin<&mut impl Future<Output = Stop>>,
    ) -> Result<(), Failure> {
        let (sender, mut notices) = mpsc::unbounded_channel();
        let accepts = accepts_encodings(&options);
        let client = self.server.client(options);
        let client = match &self.opener {
            Some(opener) => opener.equip(client),
            // Who said what it accepts wants to read it.
            None if accepts => client,
            None => client.raw(),
        };
        let connecting = client
            .reconnect(reconnect::subscriber())
            .inbox(INBOX_MESSAGES)
            .observe(move |notice| drop(sender.send(notice.clone())))
            .connect_with_inbox();
        let connected = tokio::select! {
            connected = connecting => connected.map_err(|error| self.server.refusal(&error))?,
            stop = &mut stop => {
                self.stop(&stop);
                return Ok(());
            }
        };
        let (client, Some(mut inbox)) = (connected.client, connected.inbox) else {
            return Ok(());
        };
        let leaving = self.leave(&client);
        tokio::pin!(leaving);
        let mut is_left = false;
        self.subscribe(&client, subscribe, connected.session_present);
        while self.end.is_none() {
            self.take(&mut inbox)?;
            if self.end.is_some() {
                break;
            }
            tokio::select! {
                biased;
                stop = &mut stop => self.stop(&stop),
                reasons = &mut leaving, if !is_left => {
                    is_left = true;
                    self.on_unsubscribed(&reasons);
                }
                notice = notices.recv() => if let Some(notice) = notice {
                    self.on_notice(&notice);
                },
                message = inbox.next() => match message {
                    Some(read) => self.on_read(read),
                    None => self.on_ended(client.ended().await.as_ref()),
                },
            }
        }
        self.flush()?;
        client.disconnect().await;
        Ok(())
    }

    /// Ends the subscriptions that are no longer wanted; gives what the server said to each.
    fn leave(&self, client: &Client) -> impl Future<Output = Vec<ReasonCode>> + use<> {
        let filters = self.arguments.unsubscribe.clone();
        let client = client.clone();
        async move {
            if filters.is_empty() {
                return std::future::pending().await;
            }
            // Whatever ends the client says so itself.
            client.unsubscribe(filters).await.unwrap_or_default()
        }
    }

    fn subscribe(&self, client: &Client, subscribe: Option<Subscribe>, session_present: bool) {
        let Some(subscribe) = subscribe else { return };
        // Whatever ends the client says so itself.
        let _ = if self.goes_on(session_present) {
            let text = "the session goes on in the stream where it was";
            self.arguments.session.debug(text);
            client.adopt_inbox(subscribe)
        } else {
            client.subscribe_inbox(subscribe)
        };
    }

    /// Prints what is there, a bounded number of messages at a time.
    fn take(&mut self, inbox: &mut Subscription) -> Result<(), Failure> {
        for _ in 0..INBOX_MESSAGES {
            if self.end.is_some() {
                break;
            }
            let Some(read) = inbox.try_next() else {
                break;
            };
            self.on_read(read);
        }
        self.flush()
    }

    fn on_notice(&mut self, notice: &Notice) {
        match notice {
            Notice::Connected { session_present } => {
                let endpoint = &self.server.endpoint;
                self.arguments.session.debug(&format!(
                    "connected to {endpoint}, session present: {session_present}"
                ));
            }
            // Others are the SDK's own: it asks for a dictionary.
            Notice::Subscribed { filters, granted } if *filters == self.arguments.topics => {
                self.on_subscribed(granted);
            }
            Notice::Lost {
                why,
                again_in: Some(_),
            } => eprintln!("{}: {why}; connecting again", self.server.endpoint),
            _ => {}
        }
    }

    /// A session that is there already reads on where it was: another SUBSCRIBE would begin anew.
    fn goes_on(&self, session_present: bool) -> bool {
        let arguments = self.arguments;
        session_present
            && arguments.from.is_some()
            && arguments.unsubscribe.is_empty()
            && !arguments.exit_subscribed
    }

    fn stop(&mut self, stop: &Stop) {
        let outcome = match stop {
            Stop::Interrupted => Ok(()),
            Stop::Late => {
                let text = format!("timed out after {} messages", self.count);
                Err(Failure::new(text).code(CODE_TIMEOUT))
            }
        };
        self.end.get_or_insert(outcome);
    }

    fn on_ended(&mut self, why: &Closed) {
        if !matches!(why, Closed::Finished) {
            self.end
                .get_or_insert_with(|| Err(self.server.failure(why)));
        }
        self.end.get_or_insert(Ok(()));
    }

    fn on_subscribed(&mut self, granted: &Granted) {
        let why = granted.text.as_deref();
        let mut is_granted = false;
        let mut refusal = None;
        for (filter, reason) in self
            .arguments
            .topics
            .iter()
            .zip(granted.reasons.iter().copied())
        {
            if reason.is_error() {
                refusal = Some(reason);
                eprintln!(
                    "warning: subscription to `{filter}` refused: {}{}",
                    reason.text(),
                    why.map_or_else(String::new, |why| format!(": {why}"))
                );
            } else {
                is_granted = true;
                self.arguments
                    .session
                    .debug(&format!("subscribed to {filter}: {}", reason.text()));
            }
        }
        if let Some(reason) = refusal
            && !is_granted
        {
            let failure = Failure::new("every subscription was refused").code(reason.as_u8());
            self.end = Some(Err(failure));
        } else if self.arguments.exit_subscribed {
            self.end = Some(Ok(()));
        }
    }

    fn on_unsubscribed(&mut self, reasons: &[ReasonCode]) {
        let arguments = self.arguments;
        for (filter, reason) in arguments.unsubscribe.iter().zip(reasons.iter().copied()) {
            if reason != ReasonCode::Success && !arguments.session.quiet {
                eprintln!("warning: unsubscribe from `{filter}`: {}", reason.text());
            }
        }
        if arguments.topics.is_empty() && arguments.exit_subscribed {
            self.end = Some(Ok(()));
        }
    }

    fn on_read(&mut self, read: Result<Message, MessageError>) {
        match read {
            Ok(message) if self.wants(&message) => self.on_message(&message),
            Err(error) if self.wants(&error.message) => {
                let (topic, why) = (error.message.topic(), sealing::why(&error));
                eprintln!("{topic}: not opened: {why}");
            }
            _ => {}
        }
    }

    /// Whether a message is one of those asked for; what is not may end the command.
    fn wants(&mut self, message: &Message) -> bool {
        if self.end.is_some() {
            return false;
        }
        let arguments = self.arguments;
        if arguments.retained_only && !message.is_retained() {
            self.end = Some(Ok(()));
            return false;
        }
        // 3.1.1 has no Retain Handling: what was retained says so.
        if arguments.no_retained && message.is_retained() {
            return false;
        }
        let topic = Topic::from_validated(message.topic());
        !self.filtered_out.iter().any(|filter| filter.matches(topic))
    }

    fn on_message(&mut self, message: &Message) {
        let sealed = self.opener.as_ref().zip(message.sealed());
        let origin = sealed.map(|(opener, sealed)| opener.origin(sealed));
        let (publish, now) = (message.as_publish(), Timestamp::now());
        self.layout
            .write(&publish, origin.as_ref(), now, &mut self.buffer);
        self.count += 1;
        let count = self.arguments.count;
        if count.is_some_and(|count| self.count >= count) {
            self.end = Some(Ok(()));
        }
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

//! A delayed message comes from a client, or the word that one is not to be published.

use waypost_mqtt::{QoS, ReasonCode, Topic};

use super::{Asked, Cancel, DelayedPromise, DelayedWord, Entry, HOME, Name};
use crate::broker::Broker;
use crate::effects::{Effects, Message, Now};
use crate::held::{Answer, Promise, Recipient, Wait};
use crate::journal::{Journal, MessageId, Refusal, Table, Until};
use crate::keep::By;
use crate::mail::Origin;
use crate::rows::message::encode;
use crate::rows::{DelayedHead, DelayedRow, Due};

/// What the dates of two shards, and what is cut off below a millisecond, may differ by: nothing comes too early.
const ROUNDING_MS: u64 = 3;

impl Broker {
    /// Why a message that may be published cannot be delayed.
    pub(crate) fn refuses_delayed(
        &mut self,
        asked: &Asked<'_>,
        payload: &[u8],
    ) -> Option<(ReasonCode, &'static str)> {
        if !self.has_store {
            return Some((
                ReasonCode::ImplementationSpecificError,
                "a delay needs a store",
            ));
        }
        if asked.is_cancel(payload) {
            return None;
        }
        let max = self.limits.delayed_messages_max;
        if self.numbers.begin_delayed(max as u64) {
            return None;
        }
        self.counters.delayed_refused += 1;
        Some((ReasonCode::QuotaExceeded, "too many delayed messages"))
    }

    /// Keeps a message until its time, and answers its publisher when that is so.
    #[expect(
        clippy::too_many_arguments,
        reason = "a message, what is asked for it, and by whom"
    )]
    pub(crate) fn accept_delayed(
        &mut self,
        slot: u32,
        asked: &Asked<'_>,
        message: &Message<'_>,
        origin: Origin,
        by: By,
        now: Now,
        out: &mut impl Effects,
    ) {
        if asked.is_cancel(message.payload.bytes) {
            self.ask_to_cancel(asked, origin, by, now, out);
            return;
        }
        self.counters.delayed_accepted += 1;
        let date_ms = self.calendar.date(now.monotonic_ms);
        let due = Due {
            wall_ms: date_ms + u64::from(asked.delay_s) * 1_000 + ROUNDING_MS,
            id: self.numbers.message(),
        };
        let mut body = std::mem::take(&mut self.scratch.body);
        body.clear();
        self.encode_delayed(slot, asked, message, origin, date_ms, &mut body);
        let name = asked.delay_id.map(|delay_id| (message.topic, delay_id));
        let row = DelayedRow {
            bytes: u32::try_from(body.len()).unwrap_or(u32::MAX),
            name,
        };
        let is_acknowledged = origin.qos != QoS::AtMostOnce;
        let policy = Topic::parse(message.topic).map(|topic| self.policies.for_topic(topic));
        let waited = policy.ok().and_then(|policy| policy.durability.until());
        let waited = waited.filter(|_| is_acknowledged);
        let number = match by {
            By::Waiting { slot, .. } if origin.qos == QoS::ExactlyOnce => self.number_of(slot),
            _ => None,
        };
        let bytes = message.payload.bytes;
        let received = self.receive(by, bytes, origin.qos, waited.is_some(), number);
        let journal = out.journal();
        write(journal, due, row, &body);
        if let Some((_, Some(row))) = received {
            row.write(journal);
        }
        self.scratch.body = body;
        let ticket = self.end(waited.unwrap_or(Until::Whenever), out);
        let entry = Entry {
            due,
            bytes: row.bytes,
        };
        let (to, answer) = self.answer_to(by, origin.qos, true);
        let question = if name.is_some() && to.is_some() && self.shard != HOME {
            Some(self.next_question())
        } else {
            None
        };
        let word = DelayedWord::Accepted {
            entry,
            name: name.map(|name| Box::new(Name::new(name))),
            question,
        };
        self.tell_delayed(word, now, out);
        let mut promise = Promise {
            received: received.map(|(received, _)| received),
            delayed: Some(DelayedPromise::Waits(due, name.is_some())),
            ..Promise::default()
        };
        let mut wait = Wait::For(ticket, waited.unwrap_or(Until::Whenever));
        if waited.is_none() {
            // Whoever waits for nothing is answered now; what becomes of the message is seen later.
            self.queue_answer(None, None, wait, promise, out);
            (wait, promise) = (Wait::Nothing, Promise::default());
        }
        let (Some(to), Some(answer)) = (to, answer) else {
            return;
        };
        if let Some(number) = question {
            let then = waited.map(|until| (ticket, until));
            self.push_answer(to, answer, Wait::Home(number, then), promise, out);
        } else {
            self.answer_when(to.id, answer, wait, promise, out);
        }
    }

    fn next_question(&mut self) -> u64 {
        self.delayed.asked += 1;
        self.delayed.asked
    }

    fn encode_delayed(
        &self,
        slot: u32,
        asked: &Asked<'_>,
        message: &Message<'_>,
        origin: Origin,
        date_ms: u64,
        body: &mut Vec<u8>,
    ) {
        let connection = origin.connection.and_then(|id| self.connections.get(id));
        let address = connection.and_then(|connection| connection.peer);
        let session = self.sessions.get(slot);
        let head = DelayedHead {
            retain: origin.retain,
            client_id: session.map_or("", |session| &session.client_id),
            user: session.and_then(|session| session.user.as_deref()),
            address,
            delay_id: asked.delay_id,
        };
        head.encode(body);
        encode(message, origin.qos, origin.publisher, None, date_ms, body);
    }

    /// A publisher takes back what it said under a name. The home knows whether there is anything.
    fn ask_to_cancel(
        &mut self,
        asked: &Asked<'_>,
        origin: Origin,
        by: By,
        now: Now,
        out: &mut impl Effects,
    ) {
        let delay_id = asked.delay_id.unwrap_or_default();
        let packet = match by {
            By::Waiting {
                slot, packet_id, ..
            } if origin.qos == QoS::ExactlyOnce => Some((self.number_of(slot), packet_id.value())),
            _ => None,
        };
        let mut cancel = Cancel {
            name: Name::new((asked.topic, delay_id)),
            question: None,
            received: packet.and_then(|(number, packet_id)| Some((number?, packet_id))),
        };
        let number = packet.and_then(|(number, _)| number);
        if self.shard == HOME {
            let (is_any, ticket) = self.cancel_delayed(&cancel, HOME, out);
            let received = self.receive(by, &[], origin.qos, ticket.is_some(), number);
            let promise = Promise {
                received: received.map(|(received, _)| received),
                ..Promise::default()
            };
            let wait = ticket.map_or(Wait::Nothing, |ticket| Wait::For(ticket, Until::Durable));
            let (to, answer) = self.answer_to(by, origin.qos, is_any);
            if let (Some(Recipient { id, .. }), Some(answer)) = (to, answer) {
                self.answer_when(id, answer, wait, promise, out);
            }
            self.read_delayed(now, out);
            return;
        }
        // The identifier is free again if that is refused.
        let received = self.receive(by, &[], origin.qos, true, number);
        let promise = Promise {
            received: received.map(|(received, _)| received),
            ..Promise::default()
        };
        let (to, answer) = self.answer_to(by, origin.qos, true);
        cancel.question = to.zip(answer).map(|(to, answer)| {
            let number = self.next_question();
            self.push_answer(to, answer, Wait::Home(number, None), promise, out);
            number
        });
        self.tell_delayed(DelayedWord::Cancel(Box::new(cancel)), now, out);
    }

    /// The home knows of a message, or says what became of what was to be cancelled.
    pub(crate) fn hear_delayed_known(
        &mut self,
        number: u64,
        outcome: Result<bool, Refusal>,
        now: Now,
        out: &mut impl Effects,
    ) {
        self.held.hear_home(number, |answer| match outcome {
            Err(why) => Some(why),
            Ok(is_any) => {
                if let Answer::Publish { reason, .. } = answer
                    && !is_any
                {
                    *reason = ReasonCode::NoMatchingSubscribers;
                }
                None
            }
        });
        self.write_pending(now, out);
    }
}

impl Asked<'_> {
    /// Whether it asks for the message of its name not to be published.
    fn is_cancel(&self, payload: &[u8]) -> bool {
        self.delay_id.is_some() && payload.is_empty()
    }

    /// Whether it goes through the calendar.
    pub(crate) fn waits(&self) -> bool {
        self.delay_s > 0 || self.delay_id.is_some()
    }
}

impl Name {
    fn new((topic, delay_id): (&str, &str)) -> Self {
        Self {
            topic: topic.into(),
            delay_id: delay_id.into(),
        }
    }
}

/// The content never expires: its time begins when it is published.
fn write(journal: &mut dyn Journal, due: Due, row: DelayedRow<'_>, body: &[u8]) {
    let Due { id, .. } = due;
    journal.message(id, u64::MAX, body);
    let mut value = Vec::new();
    row.encode(&mut value);
    let version = MessageId::default().0;
    journal.hold(Table::DELAYED, &due.key(), version, &value, Some(id));
}

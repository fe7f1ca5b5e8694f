//! From records to a client: read a window, send it as fast as the client takes it, read on meanwhile.

use waypost_mqtt::{Properties, Property, PropertyBuffer, QoS};

use super::reader::{State, Turned};
use super::{Asked, Broker};
use crate::deliver::{fit, target};
use crate::effects::{ConnectionId, Effects, IdentifierRange, Message, Now, Payload, Target};
use crate::flow::Step;
use crate::index::{SubscriberId, Subscription};
use crate::rows::message::{KeptMessage, decode_message};
use crate::stream::{StreamAnswer, StreamRecord};

/// What becomes of a record for one subscription.
pub(super) enum Aim {
    /// It is not for it, or cannot be sent to it.
    Skip,
    /// The client cannot take it now.
    Full,
    At(Target),
}

impl Broker {
    /// Asks for what the readers of a session have room for.
    fn read_history_on(&mut self, slot: u32, out: &mut impl Effects) {
        let window_messages = self.limits.history_window_messages_max;
        let bytes_max = (self.limits.history_window_bytes_max / 2).max(1);
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        let is_kept = session.number().is_some();
        let Some(delivery) = session
            .delivery
            .as_mut()
            .filter(|it| !it.readers.is_empty())
        else {
            return;
        };
        // What goes through the session's own queue is read as the client empties that.
        let window = usize::from(delivery.inflight.window);
        let has_room = delivery.cursor.waiting() * 2 <= window && !delivery.cursor.is_refused;
        let mut wanted = Vec::new();
        for reader in delivery
            .readers
            .iter_mut()
            .filter(|reader| reader.wants_read())
        {
            let is_copied = is_kept && reader.place.subscription.options.qos != QoS::AtMostOnce;
            if is_copied && !has_room {
                continue;
            }
            let count_max = (window_messages / 2).max(1);
            let count_max = if is_copied {
                count_max.min(u32::from(delivery.inflight.window).max(1))
            } else {
                count_max
            };
            let place = &reader.place;
            let question = place.wanted(count_max, bytes_max);
            wanted.push((reader.number, place.stream, place.inner.clone(), question));
        }
        for (number, stream, inner, question) in wanted {
            let asked = Asked::Window { slot, number };
            let id = self.ask_stream(asked, stream, inner, question.clone(), out);
            let session = self.sessions.get_mut(slot);
            let delivery = session.and_then(|session| session.delivery.as_mut());
            if let Some(reader) = delivery.and_then(|it| it.readers.get_mut(number)) {
                reader.begin_read(id, &question);
            }
        }
    }

    /// A reader's question is answered.
    pub(super) fn window_read(
        &mut self,
        slot: u32,
        number: u64,
        answer: StreamAnswer,
        now: Now,
        out: &mut impl Effects,
    ) {
        let read = match answer {
            StreamAnswer::Records(read) => read,
            StreamAnswer::Start { .. } | StreamAnswer::Gone => {
                self.stream_gone(slot, number, now, out);
                return;
            }
        };
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        let is_kept = session.number().is_some();
        let delivery = session.delivery.as_mut();
        let Some(reader) = delivery.and_then(|delivery| delivery.readers.get_mut(number)) else {
            return;
        };
        let read = reader.end_read(read);
        self.counters.history_windows_full += u64::from(!read.is_end);
        let is_copied = is_kept && reader.place.subscription.options.qos != QoS::AtMostOnce;
        if is_copied {
            self.copy_window(slot, number, &read, now, out);
        } else {
            reader.fill(&read);
            self.note_place(slot, number, out);
            self.turn_over_readers(slot, out);
        }
        self.go_on(slot, now, out);
    }

    /// Sends one record of a session's readers, and reads on.
    pub(crate) fn send_history(
        &mut self,
        slot: u32,
        id: ConnectionId,
        now: Now,
        out: &mut impl Effects,
    ) -> Step {
        self.read_history_on(slot, out);
        let Some(session) = self.sessions.get_mut(slot) else {
            return Step::Stop;
        };
        let delivery = session.delivery.as_mut();
        let has_some = delivery.is_some_and(|delivery| delivery.readers.has_some());
        if !has_some || !self.is_turn_of(slot, id, out) {
            return Step::Stop;
        }
        let session = self.sessions.get_mut(slot);
        let delivery = session.and_then(|session| session.delivery.as_mut());
        let Some(reader) = delivery.and_then(|delivery| delivery.readers.next_to_send()) else {
            return Step::Stop;
        };
        let (number, subscription) = (reader.number, reader.place.subscription);
        let (name, record) = (reader.place.name.clone(), reader.front().cloned());
        let Some(record) = record else {
            return Step::Stop;
        };
        let mut labels = std::mem::take(&mut self.history.labels);
        let mut identifiers = std::mem::take(&mut self.history.identifiers);
        identifiers.clear();
        let mut step = Step::Done;
        if let Some(kept) = self.open_record(&record, now) {
            let message = record_message(&kept, &name, &record, &mut labels);
            let message = self.with_expiry(message, &kept, now);
            match self.aim(slot, id, subscription, &kept, &message, &mut identifiers) {
                Aim::Skip => {}
                Aim::Full => step = Step::Stop,
                Aim::At(target) => {
                    self.counters.history_sent += 1;
                    self.counters.deliveries += 1;
                    self.history.turns.spend(&message);
                    out.deliver_many(&message, &[target], &identifiers);
                }
            }
        }
        self.history.labels = labels;
        self.history.identifiers = identifiers;
        if step == Step::Done {
            let session = self.sessions.get_mut(slot);
            let delivery = session.and_then(|session| session.delivery.as_mut());
            if let Some(reader) = delivery.and_then(|it| it.readers.get_mut(number)) {
                reader.pop();
            }
            self.turn_over_readers(slot, out);
        }
        step
    }

    /// Goes on with what was read ahead; whoever has come to the end of its stream waits there.
    fn turn_over_readers(&mut self, slot: u32, out: &mut impl Effects) {
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        let Some(delivery) = session.delivery.as_mut() else {
            return;
        };
        let mut at_end = Vec::new();
        for reader in delivery.readers.iter_mut() {
            if reader.state == State::Alone {
                match reader.turn_over() {
                    Turned::No => {}
                    Turned::End => at_end.push((reader.number, false)),
                    Turned::EmptyEnd => at_end.push((reader.number, true)),
                }
            }
        }
        for (number, is_fresh) in at_end {
            self.join_tail(slot, number, is_fresh, out);
        }
    }

    /// Reads what a record holds; `None`: nobody gets it.
    pub(super) fn open_record<'a>(
        &mut self,
        record: &'a StreamRecord,
        now: Now,
    ) -> Option<KeptMessage<'a>> {
        let Some(kept) = decode_message(record.body()) else {
            self.counters.dropped_unreadable += 1;
            return None;
        };
        // 5 [MQTT-3.3.2-5]: its delivery has not begun.
        if kept.expires_wall_ms <= self.calendar.date(now.monotonic_ms) {
            self.counters.dropped_expired += 1;
            return None;
        }
        Some(kept)
    }

    /// 5 [MQTT-3.3.2-6]: what is left of the interval.
    pub(super) fn with_expiry<'a>(
        &self,
        message: Message<'a>,
        kept: &KeptMessage<'_>,
        now: Now,
    ) -> Message<'a> {
        let left_ms = |date: u64| kept.expires_wall_ms.saturating_sub(date);
        let expiry_s = (kept.expires_wall_ms != u64::MAX).then(|| {
            let left_ms = left_ms(self.calendar.date(now.monotonic_ms));
            u32::try_from(left_ms.div_ceil(1_000)).unwrap_or(u32::MAX)
        });
        Message {
            expiry_s,
            ..message
        }
    }

    /// Whether one subscription gets a record now, and how. What is to be acknowledged has begun then.
    pub(super) fn aim(
        &mut self,
        slot: u32,
        id: ConnectionId,
        subscription: Subscription,
        kept: &KeptMessage<'_>,
        message: &Message<'_>,
        identifiers: &mut Vec<u32>,
    ) -> Aim {
        let port = self.sessions.port(SubscriberId(slot));
        let Some(session) = self.sessions.get_mut(slot) else {
            return Aim::Skip;
        };
        // 5 [MQTT-3.8.3-3]
        if subscription.options.no_local && kept.publisher == session.publisher {
            return Aim::Skip;
        }
        // 5 [MQTT-3.8.4-8], 3.1.1 [MQTT-3.8.4-6]
        let qos = kept.qos.min(subscription.options.qos);
        if qos != QoS::AtMostOnce && !session.delivery().inflight.has_room() {
            return Aim::Full;
        }
        let start = identifiers.len();
        if subscription.identifier != 0 {
            identifiers.push(subscription.identifier);
        }
        let range = IdentifierRange {
            start: u32::try_from(start).unwrap_or(u32::MAX),
            len: u16::from(subscription.identifier != 0),
        };
        let mut target = target(id, port, qos, false, range);
        if port.is_careful()
            && !fit(
                &mut self.connections,
                &self.hasher,
                message,
                &mut target,
                range.of(identifiers),
            )
        {
            // 5 [MQTT-3.1.2-25]: as though it had been sent.
            self.counters.dropped_too_large += 1;
            return Aim::Skip;
        }
        if qos != QoS::AtMostOnce {
            let inflight = &mut session.delivery().inflight;
            target.packet_id = inflight.begin(qos, false, None, None).value();
        }
        Aim::At(target)
    }
}

/// A record as it is sent, but for its expiry; `labels` is the memory for its own and those that say where it is
/// from.
pub(super) fn record_message<'a>(
    kept: &KeptMessage<'a>,
    stream: &str,
    record: &StreamRecord,
    labels: &'a mut Labels,
) -> Message<'a> {
    labels.fill(kept.properties, stream, record);
    Message {
        topic: kept.topic,
        payload: Payload {
            bytes: kept.payload,
            shared: None,
        },
        properties: labels.all.as_bytes(),
        expiry_s: None,
        verbatim: None,
    }
}

/// The User Properties that say where a record is from.
const STREAM: &str = "waypost-stream";
const OFFSET: &str = "waypost-offset";
const TIME: &str = "waypost-time";

/// Memory for the properties of a record: its own, and those that say where it is from.
#[derive(Debug, Default)]
pub(super) struct Labels {
    all: PropertyBuffer,
    digits: String,
}

impl Labels {
    fn fill(&mut self, kept: &[u8], stream: &str, record: &StreamRecord) {
        use core::fmt::Write as _;
        let Self { all, digits } = self;
        all.clear();
        for property in Properties::from_validated(kept).iter() {
            // A dead letter may have those of the stream that it was read from before it died.
            if !matches!(property, Property::UserProperty(STREAM | OFFSET | TIME, _)) {
                all.push(property);
            }
        }
        all.push(Property::UserProperty(STREAM, stream));
        for (name, number) in [(OFFSET, record.offset), (TIME, record.wall_ms)] {
            digits.clear();
            let _ = write!(digits, "{number}");
            all.push(Property::UserProperty(name, digits));
        }
    }
}

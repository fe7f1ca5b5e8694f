//! The protocol of one connection: packets in and out of byte buffers, no I/O, time passed in.
//!
//! What is published waits in [`Session::publish`]'s queue while the window of unacknowledged
//! messages is full or the server has not answered CONNECT; the caller bounds it by
//! [`Session::unfinished`] and [`Session::outbox`]. With [`Options::resume_seconds`] what is
//! unfinished when a connection ends is left to the session's next one as [`Remains`]; without, and
//! where sending it again could double it, it is reported [`Event::Lost`].

use std::collections::{HashSet, VecDeque};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use waypost_mqtt::{
    Ack, ConnAck, Connect, Disconnect, Filter, Packet, PacketId, Properties, Property,
    PropertyBuffer, ProtocolVersion, Publish, QoS, ReasonCode, Role, Subscribe,
    SubscriptionRequest, Topic, Unsubscribe, Will, decode, decode_header, encode,
};

use super::event::{Closed, Event};
use super::options::{Acknowledge, Options};
use super::remains::{InFlight, Remains, Waiting};
use crate::door::DoorError;

/// The largest packet taken from a server; a version 5 server is told so.
pub const PACKET_BYTES_MAX: u32 = 64 * 1024 * 1024;
/// How long a server may take to answer CONNECT, or to close after DISCONNECT.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// CONNECT is out.
    Connecting,
    Connected,
    /// DISCONNECT is out.
    Closing,
}

/// One connection's state.
#[derive(Debug)]
pub struct Session {
    version: ProtocolVersion,
    pub(super) state: State,
    state_since: Instant,
    keep_alive: Duration,
    last_sent: Instant,
    ping_sent: Option<Instant>,
    pub(super) outbox: Vec<u8>,
    outbox_written: usize,
    /// QoS 0 messages in the outbox: where each ends, counted from the outbox's beginning.
    pub(super) unwritten: VecDeque<(usize, u64)>,
    pub(super) in_flight: VecDeque<InFlight>,
    pub(super) in_flight_max: usize,
    pub(super) waiting: VecDeque<Waiting>,
    next_packet_id: u16,
    /// QoS 2 messages received and not yet released by the server.
    received: HashSet<PacketId>,
    pub(super) qos_max: QoS,
    pub(super) packet_bytes_max: usize,
    halted: bool,
    /// Unacknowledged messages are kept, to be sent again.
    pub(super) resumes: bool,
    /// The server keeps the session for resuming only: DISCONNECT ends it.
    ends_with_disconnect: bool,
    /// Who acknowledges what is received.
    acknowledge: Acknowledge,
    /// SUBSCRIBE and UNSUBSCRIBE that are not answered.
    requests: Vec<PacketId>,
}

/// What takes events; `Break` stops reading from that connection.
pub type Sink<'s> = &'s mut dyn FnMut(Event<'_>) -> ControlFlow<()>;

impl Session {
    /// A new connection's state, with CONNECT in its outbox. `remains` are what the session's
    /// connection before this one left; none: this is its first.
    pub fn new(options: &Options, remains: Option<Remains>, now: Instant) -> Self {
        let resumes = options.resume_seconds > 0;
        let version5 = options.version == ProtocolVersion::V5;
        let again = version5 && resumes && remains.is_some();
        let remains = remains.unwrap_or_default();
        let mut properties = options.properties.clone();
        let given = options.properties.as_properties();
        let ends_with_disconnect = version5 && resumes && given.session_expiry_interval().is_none();
        if ends_with_disconnect {
            properties.push(Property::SessionExpiryInterval(options.resume_seconds));
        }
        if version5 && given.maximum_packet_size().is_none() {
            properties.push(Property::MaximumPacketSize(PACKET_BYTES_MAX));
        }
        let mut session = Self {
            version: options.version,
            state: State::Connecting,
            state_since: now,
            keep_alive: Duration::from_secs(options.keep_alive.into()),
            last_sent: now,
            ping_sent: None,
            outbox: Vec::new(),
            outbox_written: 0,
            unwritten: VecDeque::new(),
            in_flight: remains.in_flight,
            in_flight_max: options.in_flight_max.max(1).into(),
            waiting: remains.waiting,
            next_packet_id: 1,
            received: remains.received,
            qos_max: QoS::ExactlyOnce,
            packet_bytes_max: usize::MAX,
            halted: false,
            resumes,
            ends_with_disconnect,
            acknowledge: options.acknowledge,
            requests: Vec::new(),
        };
        session.send(&Packet::Connect(Connect {
            version: options.version,
            clean_start: options.clean_start && !again,
            keep_alive: options.keep_alive,
            client_id: &options.client_id,
            properties: properties.as_properties(),
            will: options.will.as_ref().map(|will| Will {
                topic: Topic::from_validated(&will.topic),
                payload: &will.payload,
                qos: will.qos,
                retain: will.retain,
                properties: will.properties.as_properties(),
            }),
            user_name: options.user_name.as_deref(),
            password: options.password.as_deref(),
        }));
        session
    }

    /// Subscribes; the server must have answered CONNECT. The answer carries the same packet id.
    pub fn subscribe(
        &mut self,
        requests: &[SubscriptionRequest<'_>],
        properties: Properties<'_>,
    ) -> PacketId {
        let packet_id = self.take_packet_id();
        self.requests.push(packet_id);
        self.send(&Packet::Subscribe(Subscribe::new(
            packet_id, properties, requests,
        )));
        packet_id
    }

    /// Unsubscribes; the server must have answered CONNECT. The answer carries the same packet id.
    pub fn unsubscribe(&mut self, filters: &[Filter<'_>]) -> PacketId {
        let packet_id = self.take_packet_id();
        self.requests.push(packet_id);
        let unsubscribe = Unsubscribe::new(packet_id, Properties::EMPTY, filters);
        self.send(&Packet::Unsubscribe(unsubscribe));
        packet_id
    }

    /// Acknowledges a message received, where that is left to the caller
    /// ([`Acknowledge::ByCaller`]).
    pub fn acknowledge(&mut self, qos: QoS, packet_id: PacketId) {
        if self.state != State::Connected {
            return;
        }
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => {
                self.send(&Packet::PubAck(Ack::new(packet_id, ReasonCode::Success)));
            }
            QoS::ExactlyOnce => {
                self.received.insert(packet_id);
                self.send(&Packet::PubRec(Ack::new(packet_id, ReasonCode::Success)));
            }
        }
    }

    /// Says DISCONNECT after what is in the outbox. What still waits is given up.
    pub fn disconnect(&mut self, reason: ReasonCode, now: Instant) {
        if self.state != State::Closing {
            if self.state == State::Connected {
                let mut properties = PropertyBuffer::new();
                if self.ends_with_disconnect {
                    properties.push(Property::SessionExpiryInterval(0));
                }
                let properties = properties.as_properties();
                self.send(&Packet::Disconnect(Disconnect { reason, properties }));
            }
            self.state = State::Closing;
            self.state_since = now;
        }
    }

    /// Messages published and not finished.
    pub fn unfinished(&self) -> usize {
        self.unwritten.len() + self.in_flight.len() + self.waiting.len()
    }

    /// Whether DISCONNECT was asked for.
    pub fn is_closing(&self) -> bool {
        self.state == State::Closing
    }

    /// Whether CONNECT is not answered.
    pub fn is_connecting(&self) -> bool {
        self.state == State::Connecting
    }

    /// Whether the server accepted CONNECT, and DISCONNECT was not asked for.
    pub fn is_connected(&self) -> bool {
        self.state == State::Connected
    }

    /// Whether packets of the server still matter.
    pub fn is_reading(&self) -> bool {
        !self.halted && self.state != State::Closing
    }

    /// Bytes to write to the server.
    pub fn outbox(&self) -> &[u8] {
        self.outbox.get(self.outbox_written..).unwrap_or_default()
    }

    /// `count` bytes of the outbox were written.
    pub fn on_written(&mut self, count: usize, now: Instant, on: Sink<'_>) {
        self.last_sent = now;
        self.outbox_written += count;
        while let Some(&(end, tag)) = self.unwritten.front() {
            if end > self.outbox_written {
                break;
            }
            self.unwritten.pop_front();
            let _ = on(Event::Done {
                tag,
                reason: ReasonCode::Success,
                why: None,
            });
        }
        if self.outbox_written * 2 > self.outbox.len() {
            self.outbox.drain(..self.outbox_written);
            for (end, _) in &mut self.unwritten {
                *end -= self.outbox_written;
            }
            self.outbox_written = 0;
        }
    }

    /// Reads whole packets from `bytes`; gives how many bytes they took.
    pub fn handle_bytes(
        &mut self,
        bytes: &[u8],
        now: Instant,
        on: Sink<'_>,
    ) -> Result<usize, Closed> {
        if self.state == State::Connecting {
            match bytes {
                // An alert of TLS, which is no packet of a server's.
                [0x15, 3, ..] => return Err(Closed::Door(DoorError::OnlyTls)),
                [b'H', b'T', b'T', b'P', b'/', ..] => {
                    return Err(Closed::Door(DoorError::OnlyHttp));
                }
                _ => {}
            }
        }
        let mut taken = 0;
        while self.is_reading() {
            let rest = bytes.get(taken..).unwrap_or_default();
            let Some(header) = decode_header(rest).map_err(|error| protocol(&error))? else {
                break;
            };
            let length = header.total_len();
            if length > PACKET_BYTES_MAX as usize {
                return Err(Closed::Protocol(format!("a packet of {length} bytes")));
            }
            let Some(packet) = rest.get(..length) else {
                break;
            };
            let packet =
                decode(packet, self.version, Role::Server).map_err(|error| protocol(&error))?;
            self.handle_packet(&packet, now, on)?;
            taken += length;
        }
        Ok(taken)
    }

    /// Pings when nothing was sent for long, and gives up on a server that does not answer.
    pub fn handle_timeout(&mut self, now: Instant, margin: Duration) -> Result<(), Closed> {
        match self.state {
            State::Connecting if now - self.state_since > ANSWER_TIMEOUT => {
                Err(Closed::Silent("CONNECT"))
            }
            State::Closing if now - self.state_since > ANSWER_TIMEOUT => Err(Closed::Finished),
            State::Connected if !self.keep_alive.is_zero() => {
                match self.ping_sent {
                    Some(sent) if now - sent > self.keep_alive.max(ANSWER_TIMEOUT) => {
                        return Err(Closed::Silent("PINGREQ"));
                    }
                    None if now - self.last_sent + margin >= self.keep_alive => {
                        self.send(&Packet::PingReq);
                        self.ping_sent = Some(now);
                    }
                    _ => {}
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn next_timeout(&self, margin: Duration) -> Option<Instant> {
        match self.state {
            State::Connecting | State::Closing => Some(self.state_since + ANSWER_TIMEOUT),
            State::Connected if self.keep_alive.is_zero() => None,
            State::Connected => Some(match self.ping_sent {
                Some(sent) => sent + self.keep_alive.max(ANSWER_TIMEOUT),
                None => self.last_sent + self.keep_alive.saturating_sub(margin),
            }),
        }
    }

    /// Reads on after a sink said `Break`.
    pub fn read_on(&mut self) {
        self.halted = false;
    }

    /// Nothing is read from the server: it cannot be blamed for silence.
    pub fn excuse_silence(&mut self, now: Instant) {
        if let Some(sent) = &mut self.ping_sent {
            *sent = now;
        }
    }

    /// Gives what the session's next connection goes on with; reports the rest as lost.
    pub fn handle_closed(&mut self, on: Sink<'_>) -> Remains {
        for (_, tag) in self.unwritten.drain(..) {
            let _ = on(Event::Lost { tag });
        }
        let mut remains = Remains {
            received: std::mem::take(&mut self.received),
            in_flight: std::mem::take(&mut self.in_flight),
            waiting: std::mem::take(&mut self.waiting),
        };
        if !self.resumes {
            for tag in remains.tags() {
                let _ = on(Event::Lost { tag });
            }
            remains.in_flight.clear();
            remains.waiting.clear();
        }
        remains
    }

    fn handle_packet(
        &mut self,
        packet: &Packet<'_>,
        now: Instant,
        on: Sink<'_>,
    ) -> Result<(), Closed> {
        match (self.state, packet) {
            (State::Connecting, Packet::ConnAck(answer)) => {
                self.on_connack(answer, now)?;
                self.emit(Event::Connected(*answer), on);
                if answer.session_present {
                    self.send_again(on);
                } else {
                    self.start_over(on);
                }
                self.send_waiting(on);
            }
            (State::Connecting, _) | (_, Packet::ConnAck(_)) => {
                return Err(Closed::Protocol(format!(
                    "{} out of place",
                    packet.packet_type().name()
                )));
            }
            (_, Packet::Publish(publish)) => self.on_publish(publish, on)?,
            (_, Packet::PubAck(ack)) => self.finish(ack, ack.reason, on),
            (_, Packet::PubComp(ack)) => {
                // 5 §3.7.2.1: not an error during recovery; the PUBCOMP before it was lost.
                let done = ack.reason == ReasonCode::PacketIdentifierNotFound;
                let reason = if done {
                    ReasonCode::Success
                } else {
                    ack.reason
                };
                self.finish(ack, reason, on);
            }
            (_, Packet::PubRec(ack)) => self.on_pubrec(ack, on),
            (_, Packet::PubRel(ack)) => {
                let known = self.received.remove(&ack.packet_id);
                let reason = if known {
                    ReasonCode::Success
                } else {
                    ReasonCode::PacketIdentifierNotFound
                };
                self.send(&Packet::PubComp(Ack::new(ack.packet_id, reason)));
            }
            (_, Packet::SubAck(ack)) => {
                self.requests.retain(|id| *id != ack.packet_id);
                let answer = Event::Subscribed {
                    packet_id: ack.packet_id,
                    reasons: ack.reasons,
                    why: ack.properties.reason_string(),
                };
                self.emit(answer, on);
            }
            (_, Packet::PingResp) => self.ping_sent = None,
            (_, Packet::Disconnect(disconnect)) => {
                let text = disconnect.properties.reason_string().map(str::to_owned);
                return Err(Closed::Disconnected {
                    reason: disconnect.reason,
                    text,
                });
            }
            (_, Packet::UnsubAck(ack)) => {
                self.requests.retain(|id| *id != ack.packet_id);
                let (packet_id, reasons) = (ack.packet_id, ack.reasons);
                self.emit(Event::Unsubscribed { packet_id, reasons }, on);
            }
            (_, other) => {
                let name = other.packet_type().name();
                return Err(Closed::Protocol(format!("{name} is not for a client")));
            }
        }
        Ok(())
    }

    fn on_connack(&mut self, answer: &ConnAck<'_>, now: Instant) -> Result<(), Closed> {
        let properties = answer.properties;
        if answer.reason != ReasonCode::Success {
            let text = properties.reason_string().map(str::to_owned);
            return Err(Closed::Refused {
                reason: answer.reason,
                text,
            });
        }
        self.state = State::Connected;
        self.state_since = now;
        if !answer.session_present {
            self.received.clear();
        }
        if let Some(maximum) = properties.receive_maximum() {
            self.in_flight_max = self.in_flight_max.min(maximum.into());
        }
        if let Some(seconds) = properties.server_keep_alive() {
            self.keep_alive = Duration::from_secs(seconds.into());
        }
        if let Some(qos) = properties
            .maximum_qos()
            .and_then(|qos| QoS::try_from(qos).ok())
        {
            self.qos_max = qos;
        }
        if let Some(maximum) = properties.maximum_packet_size() {
            self.packet_bytes_max = usize::try_from(maximum).unwrap_or(usize::MAX);
        }
        Ok(())
    }

    fn on_publish(&mut self, publish: &Publish<'_>, on: Sink<'_>) -> Result<(), Closed> {
        if publish.topic.is_empty() {
            // 5 [MQTT-3.1.2-26]: this client announces no Topic Alias Maximum.
            return Err(Closed::Protocol(
                "a topic alias that was not offered".into(),
            ));
        }
        let known = match (publish.qos, publish.packet_id) {
            (QoS::ExactlyOnce, Some(packet_id)) => self.received.contains(&packet_id),
            _ => false,
        };
        if !known {
            self.emit(Event::Message(*publish), on);
        }
        if let Some(packet_id) = publish.packet_id
            && (known || self.acknowledge == Acknowledge::AtOnce)
        {
            self.acknowledge(publish.qos, packet_id);
        }
        Ok(())
    }

    pub(super) fn emit(&mut self, event: Event<'_>, on: Sink<'_>) {
        if on(event).is_break() {
            self.halted = true;
        }
    }

    pub(super) fn take_packet_id(&mut self) -> PacketId {
        loop {
            let candidate = PacketId::new(self.next_packet_id);
            self.next_packet_id = self.next_packet_id.wrapping_add(1);
            match candidate {
                Some(id)
                    if !self.requests.contains(&id)
                        && self.in_flight.iter().all(|sent| sent.packet_id != id) =>
                {
                    return id;
                }
                _ => {}
            }
        }
    }

    pub(super) fn send(&mut self, packet: &Packet<'_>) {
        encode(packet, self.version, &mut self.outbox);
    }
}

fn protocol(error: &waypost_mqtt::DecodeError) -> Closed {
    Closed::Protocol(error.to_string())
}

#[cfg(test)]
mod tests;

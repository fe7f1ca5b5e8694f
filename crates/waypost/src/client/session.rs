//! The protocol of one connection: packets in and out of byte buffers, no I/O, time passed in.
//!
//! What is published waits in [`Session::publish`]'s queue while the window of unacknowledged
//! messages is full or the server has not answered CONNECT; the caller bounds it by
//! [`Session::unfinished`] and [`Session::outbox`]. With [`Options::resume_seconds`] what is
//! unfinished when a connection ends is left to the session's next one as [`Remains`]; without, and
//! where sending it again could double it, it is reported [`Event::Lost`].

use std::collections::{HashSet, VecDeque};
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::{Duration, Instant};

use waypost_mqtt::{
    Ack, ConnAck, Connect, Disconnect, Filter, Packet, PacketId, Properties, Property,
    PropertyBuffer, ProtocolVersion, Publish, QoS, ReasonCode, Role, Subscribe,
    SubscriptionRequest, Topic, Unsubscribe, Will, decode, decode_header, encode,
};

use super::door::DoorError;
use super::event::{Closed, Event};
use super::options::{Options, Outgoing};
use super::remains::{InFlight, Remains, Waiting};

/// The largest packet taken from a server; a version 5 server is told so.
pub const PACKET_BYTES_MAX: u32 = 64 * 1024 * 1024;
/// How long a server may take to answer CONNECT, or to close after DISCONNECT.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
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
    state: State,
    state_since: Instant,
    keep_alive: Duration,
    last_sent: Instant,
    ping_sent: Option<Instant>,
    outbox: Vec<u8>,
    outbox_written: usize,
    /// QoS 0 messages in the outbox: where each ends, counted from the outbox's beginning.
    unwritten: VecDeque<(usize, u64)>,
    in_flight: VecDeque<InFlight>,
    in_flight_max: usize,
    waiting: VecDeque<Waiting>,
    next_packet_id: u16,
    /// QoS 2 messages received and not yet released by the server.
    received: HashSet<PacketId>,
    qos_max: QoS,
    packet_bytes_max: usize,
    halted: bool,
    /// Unacknowledged messages are kept, to be sent again.
    resumes: bool,
    /// The server keeps the session for resuming only: DISCONNECT ends it.
    ends_with_disconnect: bool,
}

/// What takes events; `Break` stops reading from that connection.
pub type Sink<'s> = &'s mut dyn FnMut(Event<'_>) -> ControlFlow<()>;

impl Session {
    /// A new connection's state, with CONNECT in its outbox. `remains` are what the session's
    /// connection before this one left; none: this is its first.
    pub fn new(options: &Rc<Options>, remains: Option<Remains>, now: Instant) -> Self {
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

    /// Publishes `message`, now or when the window opens; `tag` comes back in an event.
    pub fn publish(&mut self, message: &Outgoing<'_>, tag: u64, on: Sink<'_>) {
        if self.may_send(message.qos) && self.waiting.is_empty() {
            self.send_publish(message, tag, on);
        } else {
            self.waiting.push_back(Waiting::new(message, tag));
        }
    }

    /// Subscribes; the server must have answered CONNECT.
    pub fn subscribe(&mut self, requests: &[SubscriptionRequest<'_>], properties: Properties<'_>) {
        let packet_id = self.take_packet_id();
        self.send(&Packet::Subscribe(Subscribe::new(
            packet_id, properties, requests,
        )));
    }

    /// Unsubscribes; the server must have answered CONNECT.
    pub fn unsubscribe(&mut self, filters: &[Filter<'_>]) {
        let packet_id = self.take_packet_id();
        let unsubscribe = Unsubscribe::new(packet_id, Properties::EMPTY, filters);
        self.send(&Packet::Unsubscribe(unsubscribe));
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
            (_, Packet::PubAck(ack)) => self.finish(ack.packet_id, ack.reason, on),
            (_, Packet::PubComp(ack)) => {
                // 5 §3.7.2.1: not an error during recovery; the PUBCOMP before it was lost.
                let done = ack.reason == ReasonCode::PacketIdentifierNotFound;
                let reason = if done {
                    ReasonCode::Success
                } else {
                    ack.reason
                };
                self.finish(ack.packet_id, reason, on);
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
                let (reasons, why) = (ack.reasons, ack.properties.reason_string());
                self.emit(Event::Subscribed { reasons, why }, on);
            }
            (_, Packet::PingResp) => self.ping_sent = None,
            (_, Packet::Disconnect(disconnect)) => {
                let text = disconnect.properties.reason_string().map(str::to_owned);
                return Err(Closed::Disconnected {
                    reason: disconnect.reason,
                    text,
                });
            }
            (_, Packet::UnsubAck(ack)) => self.emit(Event::Unsubscribed(ack.reasons), on),
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
            (QoS::ExactlyOnce, Some(packet_id)) => !self.received.insert(packet_id),
            _ => false,
        };
        if !known {
            self.emit(Event::Message(*publish), on);
        }
        match (publish.qos, publish.packet_id) {
            (QoS::AtLeastOnce, Some(packet_id)) => {
                self.send(&Packet::PubAck(Ack::new(packet_id, ReasonCode::Success)));
            }
            (QoS::ExactlyOnce, Some(packet_id)) => {
                self.send(&Packet::PubRec(Ack::new(packet_id, ReasonCode::Success)));
            }
            _ => {}
        }
        Ok(())
    }

    fn on_pubrec(&mut self, ack: &Ack<'_>, on: Sink<'_>) {
        if ack.reason.is_error() {
            self.finish(ack.packet_id, ack.reason, on);
            return;
        }
        let sent = self
            .in_flight
            .iter_mut()
            .find(|message| message.packet_id == ack.packet_id);
        let reason = match sent {
            Some(message) => {
                message.released = true;
                ReasonCode::Success
            }
            None => ReasonCode::PacketIdentifierNotFound,
        };
        self.send(&Packet::PubRel(Ack::new(ack.packet_id, reason)));
    }

    fn finish(&mut self, packet_id: PacketId, reason: ReasonCode, on: Sink<'_>) {
        let at = self
            .in_flight
            .iter()
            .position(|message| message.packet_id == packet_id);
        if let Some(message) = at.and_then(|at| self.in_flight.remove(at)) {
            self.emit(
                Event::Done {
                    tag: message.tag,
                    reason,
                },
                on,
            );
            self.send_waiting(on);
        }
    }

    /// The server knows the session: what it did not acknowledge follows in the order it was sent.
    fn send_again(&mut self, on: Sink<'_>) {
        // [MQTT-4.4.0-1]: with the packet ids they had, [MQTT-4.6.0-1]: in their order.
        for sent in std::mem::take(&mut self.in_flight) {
            let reason = ReasonCode::Success;
            if sent.released {
                self.send(&Packet::PubRel(Ack::new(sent.packet_id, reason)));
            } else if let Some(kept) = &sent.message {
                self.send_message(&kept.message(), Some(sent.packet_id), true);
                self.emit(Event::Resent, on);
            }
            self.in_flight.push_back(sent);
        }
    }

    /// The server knows nothing of the session. QoS 1 may arrive twice and is sent as new; whether
    /// a message of QoS 2 arrived cannot be known, and it must not arrive twice.
    fn start_over(&mut self, on: Sink<'_>) {
        while let Some(sent) = self.in_flight.pop_back() {
            match sent.message {
                Some(kept) if kept.qos == QoS::AtLeastOnce => {
                    self.waiting.push_front(kept);
                    self.emit(Event::Resent, on);
                }
                _ => self.emit(Event::Lost { tag: sent.tag }, on),
            }
        }
    }

    fn emit(&mut self, event: Event<'_>, on: Sink<'_>) {
        if on(event).is_break() {
            self.halted = true;
        }
    }

    fn may_send(&self, qos: QoS) -> bool {
        self.state == State::Connected
            && (qos == QoS::AtMostOnce || self.in_flight.len() < self.in_flight_max)
    }

    fn send_waiting(&mut self, on: Sink<'_>) {
        while self
            .waiting
            .front()
            .is_some_and(|first| self.may_send(first.qos))
        {
            let Some(first) = self.waiting.pop_front() else {
                break;
            };
            self.send_publish(&first.message(), first.tag, on);
        }
    }

    fn send_publish(&mut self, message: &Outgoing<'_>, tag: u64, on: Sink<'_>) {
        if message.qos > self.qos_max {
            self.emit(
                Event::Done {
                    tag,
                    reason: ReasonCode::QoSNotSupported,
                },
                on,
            );
            return;
        }
        let packet_id = (message.qos > QoS::AtMostOnce).then(|| self.take_packet_id());
        let start = self.outbox.len();
        self.send_message(message, packet_id, false);
        if self.outbox.len() - start > self.packet_bytes_max {
            // 5 [MQTT-3.2.2-15]: nothing beyond the server's Maximum Packet Size is sent.
            self.outbox.truncate(start);
            self.emit(
                Event::Done {
                    tag,
                    reason: ReasonCode::PacketTooLarge,
                },
                on,
            );
            return;
        }
        match packet_id {
            Some(packet_id) => {
                self.in_flight.push_back(InFlight {
                    packet_id,
                    tag,
                    released: false,
                    message: self.resumes.then(|| Waiting::new(message, tag)),
                });
            }
            None => self.unwritten.push_back((self.outbox.len(), tag)),
        }
    }

    fn send_message(&mut self, message: &Outgoing<'_>, packet_id: Option<PacketId>, dup: bool) {
        self.send(&Packet::Publish(Publish {
            dup,
            qos: message.qos,
            retain: message.retain,
            topic: message.topic,
            packet_id,
            properties: message.properties,
            payload: message.payload,
        }));
    }

    fn take_packet_id(&mut self) -> PacketId {
        loop {
            let candidate = PacketId::new(self.next_packet_id);
            self.next_packet_id = self.next_packet_id.wrapping_add(1);
            match candidate {
                Some(id) if self.in_flight.iter().all(|message| message.packet_id != id) => {
                    return id;
                }
                _ => {}
            }
        }
    }

    fn send(&mut self, packet: &Packet<'_>) {
        encode(packet, self.version, &mut self.outbox);
    }
}

fn protocol(error: &waypost_mqtt::DecodeError) -> Closed {
    Closed::Protocol(error.to_string())
}

#[cfg(test)]
mod tests {
    use waypost_mqtt::ReasonCodes;

    use super::*;

    /// A session and what it was told, beside a server that is the test.
    struct Pair {
        session: Session,
        now: Instant,
        told: Vec<String>,
    }

    impl Pair {
        /// A client that was accepted, with a window of two.
        fn new(connack: &PropertyBuffer) -> Self {
            let answer = ConnAck {
                session_present: false,
                reason: ReasonCode::Success,
                properties: connack.as_properties(),
            };
            Self::connect(0, None, answer)
        }

        fn connect(resume_seconds: u32, remains: Option<Remains>, answer: ConnAck<'_>) -> Self {
            let options = Options {
                version: ProtocolVersion::V5,
                client_id: "c".into(),
                clean_start: true,
                keep_alive: 10,
                user_name: None,
                password: None,
                will: None,
                properties: PropertyBuffer::new(),
                in_flight_max: 2,
                resume_seconds,
            };
            let now = Instant::now();
            let session = Session::new(&Rc::new(options), remains, now);
            let mut pair = Self {
                session,
                now,
                told: Vec::new(),
            };
            assert_eq!(pair.sent(), ["CONNECT"]);
            pair.receive(&[Packet::ConnAck(answer)]).unwrap();
            pair.told.retain(|told| !told.starts_with("Connected"));
            pair
        }

        fn receive(&mut self, packets: &[Packet<'_>]) -> Result<(), Closed> {
            let mut bytes = Vec::new();
            for packet in packets {
                encode(packet, ProtocolVersion::V5, &mut bytes);
            }
            let Self { session, now, told } = self;
            let taken = session.handle_bytes(&bytes, *now, &mut |event| tell(told, &event))?;
            assert_eq!(taken, bytes.len());
            Ok(())
        }

        fn publish(&mut self, qos: QoS, tag: u64) {
            let properties = Properties::EMPTY;
            let message = Outgoing {
                topic: "t",
                payload: b"xy",
                qos,
                retain: false,
                properties,
            };
            let Self { session, told, .. } = self;
            session.publish(&message, tag, &mut |event| tell(told, &event));
        }

        /// What the client wrote, packet by packet.
        fn sent(&mut self) -> Vec<String> {
            let bytes = self.session.outbox().to_vec();
            let Self { session, now, told } = self;
            session.on_written(bytes.len(), *now, &mut |event| tell(told, &event));
            let mut rest = bytes.as_slice();
            let mut packets = Vec::new();
            while let Some(header) = decode_header(rest).unwrap() {
                let (packet, after) = rest.split_at(header.total_len());
                let packet = decode(packet, ProtocolVersion::V5, Role::Client).unwrap();
                packets.push(match packet {
                    Packet::Publish(publish) if publish.dup => "PUBLISH DUP".into(),
                    Packet::PubRel(ack) | Packet::PubComp(ack) => {
                        format!("{} {:?}", packet.packet_type().name(), ack.reason)
                    }
                    other => other.packet_type().name().to_owned(),
                });
                rest = after;
            }
            packets
        }
    }

    fn tell(told: &mut Vec<String>, event: &Event<'_>) -> ControlFlow<()> {
        told.push(match event {
            Event::Done { tag, reason } => format!("{tag} {}", reason.text()),
            Event::Lost { tag } => format!("{tag} lost"),
            Event::Resent => "again".into(),
            Event::Message(publish) => String::from_utf8_lossy(publish.payload).into_owned(),
            other => format!("{other:?}"),
        });
        ControlFlow::Continue(())
    }

    fn ack(packet_id: u16) -> Ack<'static> {
        Ack::new(PacketId::new(packet_id).unwrap(), ReasonCode::Success)
    }

    fn incoming(qos: QoS, packet_id: u16) -> Packet<'static> {
        Packet::Publish(Publish {
            dup: false,
            qos,
            retain: false,
            topic: "t",
            packet_id: PacketId::new(packet_id),
            properties: Properties::EMPTY,
            payload: b"in",
        })
    }

    #[test]
    fn beyond_the_window_messages_wait_in_order() {
        let mut pair = Pair::new(&PropertyBuffer::new());
        for tag in 1..=4 {
            pair.publish(QoS::AtLeastOnce, tag);
        }
        pair.publish(QoS::AtMostOnce, 5);
        assert_eq!(pair.sent(), ["PUBLISH", "PUBLISH"]);
        assert_eq!(pair.session.unfinished(), 5);
        pair.receive(&[Packet::PubAck(ack(1))]).unwrap();
        assert_eq!(pair.sent(), ["PUBLISH"]);
        pair.receive(&[Packet::PubAck(ack(2)), Packet::PubAck(ack(3))])
            .unwrap();
        assert_eq!(pair.sent(), ["PUBLISH", "PUBLISH"]);
        let remains = pair
            .session
            .handle_closed(&mut |event| tell(&mut pair.told, &event));
        assert_eq!(remains.tags().count(), 0);
        assert_eq!(
            pair.told,
            ["1 Success", "2 Success", "3 Success", "5 Success", "4 lost"]
        );
        assert_eq!(pair.session.unfinished(), 0);
    }

    /// Goal: nothing unacknowledged is lost with its connection, and nothing of QoS 2 is doubled.
    /// Method: the connection ends with QoS 1, QoS 2 and QoS 2 released on the way and one waiting;
    /// the next one finds the server with the session, or without.
    #[test]
    fn the_next_connection_goes_on_where_this_one_ended() {
        let answer = |session_present| ConnAck {
            session_present,
            reason: ReasonCode::Success,
            properties: Properties::EMPTY,
        };
        let check = |session_present, sent: &[&str], told: &[&str], unfinished| {
            let mut pair = Pair::connect(60, None, answer(false));
            pair.publish(QoS::ExactlyOnce, 1);
            pair.publish(QoS::ExactlyOnce, 2);
            pair.receive(&[Packet::PubRec(ack(1)), Packet::PubRec(ack(2))])
                .unwrap();
            pair.receive(&[Packet::PubComp(ack(1))]).unwrap();
            pair.publish(QoS::AtLeastOnce, 3);
            pair.publish(QoS::ExactlyOnce, 4);
            assert_eq!(pair.told, ["1 Success"]);
            let Pair {
                session,
                told: heard,
                ..
            } = &mut pair;
            let remains = session.handle_closed(&mut |event| tell(heard, &event));
            assert_eq!(remains.tags().collect::<Vec<_>>(), [2, 3, 4]);
            let mut pair = Pair::connect(60, Some(remains), answer(session_present));
            assert_eq!(pair.sent(), sent);
            assert_eq!(pair.told, told);
            assert_eq!(pair.session.unfinished(), unfinished);
            if session_present {
                // The server had finished it: its PUBCOMP was lost with the connection.
                let mut lost = ack(2);
                lost.reason = ReasonCode::PacketIdentifierNotFound;
                pair.receive(&[Packet::PubComp(lost)]).unwrap();
                assert_eq!(pair.told.last().map(String::as_str), Some("2 Success"));
            }
        };
        check(true, &["PUBREL Success", "PUBLISH DUP"], &["again"], 3);
        check(false, &["PUBLISH", "PUBLISH"], &["again", "2 lost"], 2);
    }

    #[test]
    fn the_servers_limits_are_kept() {
        let mut connack = PropertyBuffer::new();
        connack
            .push(Property::ReceiveMaximum(1))
            .push(Property::MaximumQoS(1));
        connack.push(Property::MaximumPacketSize(9));
        let mut pair = Pair::new(&connack);
        pair.publish(QoS::ExactlyOnce, 1);
        pair.publish(QoS::AtMostOnce, 2);
        assert_eq!(pair.sent(), ["PUBLISH"]);
        pair.publish(QoS::AtLeastOnce, 3);
        assert!(pair.sent().is_empty());
        assert_eq!(
            pair.told,
            ["1 QoS not supported", "2 Success", "3 Packet too large"]
        );
    }

    #[test]
    fn qos_2_goes_out_in_four_steps() {
        let mut pair = Pair::new(&PropertyBuffer::new());
        pair.publish(QoS::ExactlyOnce, 1);
        pair.receive(&[Packet::PubRec(ack(1)), Packet::PubRec(ack(9))])
            .unwrap();
        assert_eq!(
            pair.sent(),
            [
                "PUBLISH",
                "PUBREL Success",
                "PUBREL PacketIdentifierNotFound"
            ]
        );
        assert!(pair.told.is_empty());
        pair.receive(&[Packet::PubComp(ack(1))]).unwrap();
        assert_eq!(pair.told, ["1 Success"]);
    }

    #[test]
    fn qos_2_comes_in_once() {
        let mut pair = Pair::new(&PropertyBuffer::new());
        let message = incoming(QoS::ExactlyOnce, 5);
        pair.receive(&[
            message,
            message,
            Packet::PubRel(ack(5)),
            Packet::PubRel(ack(5)),
        ])
        .unwrap();
        assert_eq!(pair.told, ["in"]);
        assert_eq!(
            pair.sent(),
            [
                "PUBREC",
                "PUBREC",
                "PUBCOMP Success",
                "PUBCOMP PacketIdentifierNotFound"
            ]
        );
    }

    #[test]
    fn a_quiet_client_pings_and_gives_up_on_silence() {
        let mut pair = Pair::new(&PropertyBuffer::new());
        let margin = Duration::from_secs(1);
        let at = |seconds| pair.now + Duration::from_secs(seconds);
        let (quiet, due, hopeless) = (at(8), at(9), at(20));
        pair.session.handle_timeout(quiet, margin).unwrap();
        assert!(pair.sent().is_empty());
        pair.session.handle_timeout(due, margin).unwrap();
        assert_eq!(pair.sent(), ["PINGREQ"]);
        let silent = pair.session.handle_timeout(hopeless, margin);
        assert!(
            matches!(silent, Err(Closed::Silent("PINGREQ"))),
            "{silent:?}"
        );
        pair.receive(&[Packet::PingResp]).unwrap();
        pair.session.handle_timeout(hopeless, margin).unwrap();
    }

    #[test]
    fn a_server_that_breaks_the_protocol_is_left() {
        let connack = Packet::ConnAck(ConnAck {
            session_present: false,
            reason: ReasonCode::Success,
            properties: Properties::EMPTY,
        });
        let closed = Pair::new(&PropertyBuffer::new()).receive(&[connack]);
        assert!(matches!(closed, Err(Closed::Protocol(_))), "{closed:?}");
        let suback = Packet::SubAck(waypost_mqtt::SubAck {
            packet_id: PacketId::new(1).unwrap(),
            properties: Properties::EMPTY,
            reasons: ReasonCodes::new(&[ReasonCode::NotAuthorized]),
        });
        let mut pair = Pair::new(&PropertyBuffer::new());
        pair.receive(&[suback]).unwrap();
        assert_eq!(pair.told.len(), 1);
    }
}

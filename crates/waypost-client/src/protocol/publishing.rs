//! What a session publishes: the window, what waits for it, and what is sent again.

use waypost_mqtt::{Ack, Packet, PacketId, Publish, QoS, ReasonCode};

use super::event::Event;
use super::options::Outgoing;
use super::remains::{InFlight, Waiting};
use super::session::{Session, Sink, State};

impl Session {
    /// Publishes `message`, now or when the window opens; `tag` comes back in an event.
    pub fn publish(&mut self, message: &Outgoing<'_>, tag: u64, on: Sink<'_>) {
        if self.may_send(message.qos) && self.waiting.is_empty() {
            self.send_publish(message, tag, on);
        } else {
            self.waiting.push_back(Waiting::new(message, tag));
        }
    }

    /// As [`Self::publish`], of a message with its own bytes, which need no copy then.
    pub fn publish_owned(&mut self, message: Waiting, on: Sink<'_>) {
        if self.may_send(message.qos) && self.waiting.is_empty() {
            self.send_waiting_message(message, on);
        } else {
            self.waiting.push_back(message);
        }
    }

    pub(super) fn on_pubrec(&mut self, ack: &Ack<'_>, on: Sink<'_>) {
        if ack.reason.is_error() {
            self.finish(ack, ack.reason, on);
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

    pub(super) fn finish(&mut self, ack: &Ack<'_>, reason: ReasonCode, on: Sink<'_>) {
        let at = self
            .in_flight
            .iter()
            .position(|message| message.packet_id == ack.packet_id);
        if let Some(message) = at.and_then(|at| self.in_flight.remove(at)) {
            self.emit(
                Event::Done {
                    tag: message.tag,
                    reason,
                    why: ack.properties.reason_string(),
                },
                on,
            );
            self.send_waiting(on);
        }
    }

    /// The server knows the session: what it did not acknowledge follows in the order it was sent.
    pub(super) fn send_again(&mut self, on: Sink<'_>) {
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
    pub(super) fn start_over(&mut self, on: Sink<'_>) {
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

    fn may_send(&self, qos: QoS) -> bool {
        self.state == State::Connected
            && (qos == QoS::AtMostOnce || self.in_flight.len() < self.in_flight_max)
    }

    pub(super) fn send_waiting(&mut self, on: Sink<'_>) {
        while self
            .waiting
            .front()
            .is_some_and(|first| self.may_send(first.qos))
        {
            let Some(first) = self.waiting.pop_front() else {
                break;
            };
            self.send_waiting_message(first, on);
        }
    }

    fn send_publish(&mut self, message: &Outgoing<'_>, tag: u64, on: Sink<'_>) {
        if let Some(packet_id) = self.send_first(message, tag, on) {
            let kept = self.resumes.then(|| Waiting::new(message, tag));
            self.keep(packet_id, tag, kept);
        }
    }

    fn send_waiting_message(&mut self, message: Waiting, on: Sink<'_>) {
        let tag = message.tag;
        if let Some(packet_id) = self.send_first(&message.message(), tag, on) {
            self.keep(packet_id, tag, self.resumes.then_some(message));
        }
    }

    fn keep(&mut self, packet_id: PacketId, tag: u64, message: Option<Waiting>) {
        self.in_flight.push_back(InFlight {
            packet_id,
            tag,
            released: false,
            message,
        });
    }

    /// Sends a message for the first time; gives its packet id where an answer will come.
    fn send_first(&mut self, message: &Outgoing<'_>, tag: u64, on: Sink<'_>) -> Option<PacketId> {
        if message.qos > self.qos_max {
            let reason = ReasonCode::QoSNotSupported;
            self.emit(
                Event::Done {
                    tag,
                    reason,
                    why: None,
                },
                on,
            );
            return None;
        }
        let packet_id = (message.qos > QoS::AtMostOnce).then(|| self.take_packet_id());
        let start = self.outbox.len();
        self.send_message(message, packet_id, false);
        if self.outbox.len() - start > self.packet_bytes_max {
            // 5 [MQTT-3.2.2-15]: nothing beyond the server's Maximum Packet Size is sent.
            self.outbox.truncate(start);
            let reason = ReasonCode::PacketTooLarge;
            self.emit(
                Event::Done {
                    tag,
                    reason,
                    why: None,
                },
                on,
            );
            return None;
        }
        if packet_id.is_none() {
            self.unwritten.push_back((self.outbox.len(), tag));
        }
        packet_id
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
}

//! How connections end, from either side, and what becomes of their sessions.

use core::net::SocketAddr;

use waypost_mqtt::{Disconnect, Packet, Properties, ReasonCode};

use crate::broker::Broker;
use crate::connection::Phase;
use crate::dead::Graves;
use crate::effects::{ConnectionId, Effects, Now};
use crate::events::Event;
use crate::session::EXPIRY_NEVER_S;
use crate::timers::{NEVER, Timer};
use crate::waiting::For;

impl Broker {
    /// The client's DISCONNECT.
    pub(crate) fn handle_disconnect(
        &mut self,
        id: ConnectionId,
        slot: u32,
        disconnect: &Disconnect<'_>,
        now: Now,
        out: &mut impl Effects,
    ) {
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        if let Some(expiry_s) = disconnect.properties.session_expiry_interval() {
            // 5 §3.14.2.2.2: zero at CONNECT stays zero.
            if session.expiry_s == 0 && expiry_s > 0 {
                self.protocol_error(id, now, out);
                return;
            }
            session.expiry_s = expiry_s.min(self.limits.session_expiry_max_s);
        }
        // 5 [MQTT-3.14.4-3], 3.1.1 [MQTT-3.14.4-3]: the will goes unpublished.
        if disconnect.reason == ReasonCode::NORMAL_DISCONNECTION {
            self.drop_will(slot, out);
        }
        self.lose(id, disconnect.reason, now, out);
        out.close(id);
    }

    /// A Protocol Error of a connected client.
    #[cold]
    pub(crate) fn protocol_error(&mut self, id: ConnectionId, now: Now, out: &mut impl Effects) {
        self.counters.protocol_errors += 1;
        self.disconnect(id, ReasonCode::ProtocolError, now, out);
    }

    /// Closes a connection with a word, where the version has one.
    #[cold]
    pub(crate) fn disconnect(
        &mut self,
        id: ConnectionId,
        reason: ReasonCode,
        now: Now,
        out: &mut impl Effects,
    ) {
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        // 5 [MQTT-3.14.0-1]: only after a CONNACK that accepts.
        if connection.phase == Phase::Connected && connection.is_v5() {
            self.send(
                id,
                &Packet::Disconnect(Disconnect {
                    reason,
                    properties: Properties::EMPTY,
                }),
                out,
            );
        }
        self.lose(id, reason, now, out);
        out.close(id);
    }

    /// Closes a connection without a word.
    #[cold]
    pub(crate) fn break_off(&mut self, id: ConnectionId, now: Now, out: &mut impl Effects) {
        if self
            .connections
            .get(id)
            .is_some_and(|connection| connection.phase != Phase::Connected)
        {
            self.counters.connects_refused += 1;
        }
        self.lose(id, ReasonCode::ProtocolError, now, out);
        out.close(id);
    }

    /// Forgets a connection and takes it from its session.
    pub(crate) fn lose(
        &mut self,
        id: ConnectionId,
        reason: ReasonCode,
        now: Now,
        out: &mut impl Effects,
    ) {
        let Some(connection) = self.connections.remove(id) else {
            return;
        };
        self.counters.connections_closed += 1;
        self.held.counts.remove(connection.held);
        if connection.phase != Phase::Connected {
            let ticket = connection.ticket(id);
            if let Some(waiting) = connection.waiting {
                self.registrar.forget(waiting.claim);
                if waiting.for_what == For::Authentication {
                    self.authenticate.forget(ticket);
                }
            }
            return;
        }
        self.interest.forget(id);
        let slot = connection.session;
        self.detach(slot, connection.peer, now);
        self.rest_readers(slot, out);
        if !self
            .sessions
            .get(slot)
            .is_some_and(|session| session.is_taken_over)
        {
            self.members_away(slot, now, out);
        }
        self.announce(Event::Disconnected, slot, connection.peer, reason, now, out);
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        if session.expiry_s == 0 {
            // 5 §3.1.2.11.2, 3.1.1 [MQTT-3.1.2-6]: it ends with its connection.
            self.end_session(slot, now, out);
            return;
        }
        // 5 [MQTT-3.1.2-8]: at once, after the Will Delay, or when the session ends, whichever comes first.
        if let Some(will) = &mut session.will {
            will.due_ms = now.monotonic_ms + u64::from(will.delay_s) * 1000;
            if will.delay_s == 0 {
                self.fire_will(slot, now, out);
            }
        }
        if !self
            .sessions
            .get(slot)
            .is_some_and(|session| session.is_taken_over)
        {
            self.keep_absence(slot, now, out);
        }
        self.begin_absence(slot, now);
    }

    /// A session that outlives its connection: from now on its expiry runs.
    pub(crate) fn begin_absence(&mut self, slot: u32, now: Now) {
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        session.ends_ms = match session.expiry_s {
            EXPIRY_NEVER_S => NEVER,
            expiry_s => now.monotonic_ms + u64::from(expiry_s) * 1000,
        };
        self.arm_session(slot);
    }

    fn detach(&mut self, slot: u32, peer: Option<SocketAddr>, now: Now) {
        self.counters.sessions_detached += 1;
        self.sessions.clear_port(slot);
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        session.connection = None;
        if session.is_persistent() || session.will.is_some() {
            session.address = peer.map(Box::new);
        }
        if let Some(delivery) = &mut session.delivery {
            delivery.resume_ms = None;
            // Nothing else would take that back; the next connection asks anew.
            delivery.cursor.is_refused = false;
            delivery.is_slow = false;
            delivery.cursor.set_back();
            delivery.inflight.drop_bodies();
            let mut graves = Graves {
                dead: &mut self.dead,
                policies: &self.policies,
                limits: &self.limits,
                counters: &mut self.counters,
            };
            graves.drop_expired(&mut delivery.queue, now);
        }
    }

    /// Ends a session: its will is published, nothing of it stays.
    pub(crate) fn end_session(&mut self, slot: u32, now: Now, out: &mut impl Effects) {
        self.fire_will(slot, now, out);
        self.members_end(slot, now, out);
        self.forget_session(slot, out);
        self.held_connects.forget(slot);
        self.remove_subscriptions(slot, out);
        self.remove_readers(slot);
        if let Some(session) = self.sessions.remove(slot) {
            self.counters.sessions_ended += 1;
            let owed = session.delivery.map_or(0, |delivery| delivery.owed());
            self.counters.dropped_session_ended += owed as u64;
            self.tell_ended(session.client_id, out);
        }
    }

    pub(crate) fn connection_due(
        &mut self,
        id: ConnectionId,
        due_ms: u64,
        now: Now,
        out: &mut impl Effects,
    ) {
        match self.connections.armed_ms(id) {
            Some(armed_ms) if *armed_ms == due_ms => *armed_ms = NEVER,
            _ => return,
        }
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        if connection.deadline_ms(self.limits.connect_timeout_ms) > now.monotonic_ms {
            self.arm_connection(id);
        } else if connection.phase == Phase::Connected {
            // 5 [MQTT-3.1.2-22], 3.1.1 [MQTT-3.1.2-24]: as if the network had failed.
            self.counters.keep_alive_timeouts += 1;
            self.disconnect(id, ReasonCode::KeepAliveTimeout, now, out);
        } else {
            self.counters.connect_timeouts += 1;
            self.break_off(id, now, out);
        }
    }

    pub(crate) fn session_due(&mut self, slot: u32, due_ms: u64, now: Now, out: &mut impl Effects) {
        match self.sessions.deadline(slot) {
            Some((_, armed_ms)) if *armed_ms == due_ms => *armed_ms = NEVER,
            _ => return,
        }
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        let is_due = |at_ms: &mut u64| *at_ms <= now.monotonic_ms;
        let delivery = session.delivery.as_mut();
        if let Some(delivery) = delivery
            && delivery.resume_ms.take_if(is_due).is_some()
        {
            delivery.cursor.is_refused = false;
            self.pump(slot, now, out);
            self.relieve_members(slot, now, out);
        } else if session.ends_ms <= now.monotonic_ms {
            // 5 [MQTT-4.1.0-2]
            self.counters.sessions_expired += 1;
            self.end_session(slot, now, out);
        } else {
            self.fire_due_wills(slot, now, out);
        }
        self.arm_session(slot);
    }
}

const _: () = assert!(size_of::<Timer>() == 8);

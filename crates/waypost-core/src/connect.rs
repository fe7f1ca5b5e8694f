//! CONNECT: from the first packet to CONNACK.

use waypost_mqtt::{
    ConnAck, Connect, Packet, Property, PropertyBuffer, ProtocolVersion, ReasonCode, Role, decode,
};

use crate::alias::AliasesOut;
use crate::broker::Broker;
use crate::connection::Phase;
use crate::delayed::asked;
use crate::effects::{ConnectionId, Effects, Frame, Now};
use crate::events::Event;
use crate::hash::shared_hash;
use crate::journal::Until;
use crate::permit::{Action, Authentication, Credentials, Verdict, Who};
use crate::seal::Said;
use crate::session::{Port, Session};
use crate::timers::NEVER;
use crate::topics::{has_reserved_property, is_server_topic, levels_exceed};
use crate::waiting::{For, Waiting};
use crate::will::Will;

/// What is known of a client before its session is.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    pub user: Option<Box<str>>,
    /// Authentication Data for CONNACK.
    pub data: Option<Box<[u8]>>,
    /// The client id the server gives it, if it brought none.
    pub assigned: Option<Box<str>>,
    pub verdicts: Vec<bool>,
}

impl Broker {
    pub(crate) fn handle_connect(
        &mut self,
        id: ConnectionId,
        connect: &Connect<'_>,
        frame: Frame<'_>,
        now: Now,
        out: &mut impl Effects,
    ) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        connection.version = connect.version;
        connection.phase = Phase::Connecting;
        connection.problem_information = connect
            .properties
            .request_problem_information()
            .unwrap_or(true);
        connection.packet_bytes_max = connect.properties.maximum_packet_size().unwrap_or(u32::MAX);
        if let Some(reason) = self.refusal(connect) {
            self.deny(id, connect.client_id, connect.user_name, reason, now, out);
            return;
        }
        let method = connect.properties.authentication_method();
        if let Some(method) = method
            && !self.authenticate.supports(method)
        {
            // 5 [MQTT-4.12.0-1]
            let reason = ReasonCode::BadAuthenticationMethod;
            self.deny(id, connect.client_id, connect.user_name, reason, now, out);
            return;
        }
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let credentials = Credentials {
            client_id: connect.client_id,
            user_name: connect.user_name,
            password: connect.password,
            method,
            data: connect.properties.authentication_data(),
            address: connection.peer,
            certificate: connection.certificate(),
            ticket: connection.ticket(id),
        };
        match self.authenticate.authenticate(&credentials, 0) {
            Authentication::Accept { user, data } => {
                let admission = Admission {
                    user,
                    data,
                    ..Admission::default()
                };
                self.admit(id, connect, admission, frame, now, out);
            }
            outcome => {
                let waiting = Box::new(Waiting::new(For::Client, frame));
                self.go_on_authenticating(id, waiting, outcome, now, out);
            }
        }
    }

    /// Why a CONNECT that can be decoded is refused all the same, before anybody is asked who it is.
    fn refusal(&mut self, connect: &Connect<'_>) -> Option<ReasonCode> {
        let is_v5 = connect.version == ProtocolVersion::V5;
        if connect.client_id.len() > self.limits.client_id_bytes_max {
            return Some(ReasonCode::ClientIdentifierNotValid);
        }
        // 3.1.1 [MQTT-3.1.3-8]; 3.1 wants 1 to 23 characters, longer ones do no harm.
        if connect.client_id.is_empty()
            && !is_v5
            && (!connect.clean_start || connect.version == ProtocolVersion::V31)
        {
            return Some(ReasonCode::ClientIdentifierNotValid);
        }
        if self.too_many_user_properties(connect.properties) {
            return Some(ReasonCode::QuotaExceeded);
        }
        let will = connect.will.as_ref()?;
        if levels_exceed(will.topic.as_str(), self.limits.topic_levels_max) {
            self.counters.topic_levels_exceeded += 1;
            return Some(ReasonCode::TopicNameInvalid);
        }
        if has_reserved_property(will.properties) {
            self.counters.publishes_reserved_property += 1;
            return Some(ReasonCode::ImplementationSpecificError);
        }
        if self.too_many_user_properties(will.properties) {
            return Some(ReasonCode::QuotaExceeded);
        }
        // A will has a delay of its own.
        if !matches!(asked(will.topic.as_str(), will.properties), Ok(None)) {
            self.counters.delayed_invalid += 1;
            return Some(ReasonCode::ImplementationSpecificError);
        }
        is_server_topic(will.topic.as_str()).then_some(ReasonCode::NotAuthorized)
    }

    /// The client is known: may it leave its will? Then it gets its session.
    pub(crate) fn admit(
        &mut self,
        id: ConnectionId,
        connect: &Connect<'_>,
        mut admission: Admission,
        frame: Frame<'_>,
        now: Now,
        out: &mut impl Effects,
    ) {
        if connect.client_id.is_empty() && admission.assigned.is_none() {
            admission.assigned = Some(self.assign_client_id());
        }
        if let Some(will) = &connect.will {
            let connection = self.connections.get(id);
            let verdict = match admission.verdicts.first() {
                Some(true) => Verdict::Allow,
                Some(false) => Verdict::Deny,
                None => self.permit.check(
                    &Who {
                        client_id: admission.assigned.as_deref().unwrap_or(connect.client_id),
                        user: admission.user.as_deref(),
                        address: connection.and_then(|connection| connection.peer),
                        ticket: connection.map(|connection| connection.ticket(id)),
                    },
                    Action::Will,
                    will.topic.as_str(),
                ),
            };
            match verdict {
                Verdict::Allow => {}
                Verdict::Deny => {
                    self.counters.publishes_denied += 1;
                    let client_id = admission.assigned.as_deref().unwrap_or(connect.client_id);
                    let user = admission.user.as_deref();
                    self.deny(id, client_id, user, ReasonCode::NotAuthorized, now, out);
                    return;
                }
                Verdict::Pending => {
                    let mut waiting = Box::new(Waiting::new(For::Permit, frame));
                    waiting.user = admission.user.take();
                    waiting.data = admission.data.take();
                    waiting.assigned = admission.assigned.take();
                    self.park(id, waiting, out);
                    return;
                }
            }
            let said = match connect.version {
                ProtocolVersion::V5 => Said::In(will.properties),
                _ => Said::Nowhere,
            };
            if let Some((reason, why)) = self.refuses_seal(will.topic.as_str(), will.payload, said)
            {
                let client_id = admission.assigned.as_deref().unwrap_or(connect.client_id);
                let user = admission.user.as_deref();
                let peer = self
                    .connections
                    .get(id)
                    .and_then(|connection| connection.peer);
                let why = why.text(&self.policies).into_owned();
                self.announce_refused_for(client_id, user, peer, reason, &why, now, out);
                self.refuse_for(id, reason, &why, now, out);
                return;
            }
        }
        // 5 [MQTT-3.1.2-24], [MQTT-3.2.0-1]: who cannot be sent a CONNACK cannot be sent anything.
        if connect.properties.maximum_packet_size().is_some() {
            let (assigned, data) = (admission.assigned.as_deref(), admission.data.as_deref());
            let buffer = self.connack_properties(connect, assigned, data);
            let conn_ack = ConnAck {
                session_present: false,
                reason: ReasonCode::Success,
                properties: buffer.as_properties(),
            };
            if !self.takes(id, &Packet::ConnAck(conn_ack)) {
                self.refuse(id, ReasonCode::PacketTooLarge, now, out);
                return;
            }
        }
        if self.shards == 1 {
            self.attach(id, connect, admission, frame, now, out);
        } else {
            self.claim(id, connect, admission, frame, now, out);
        }
    }

    /// Handles the CONNECT that waited, with what is known by now.
    pub(crate) fn resume_connect(
        &mut self,
        id: ConnectionId,
        waiting: Waiting,
        now: Now,
        out: &mut impl Effects,
    ) {
        let Waiting {
            packet,
            user,
            data,
            assigned,
            verdicts,
            ..
        } = waiting;
        let version = ProtocolVersion::V5;
        if let Ok(Packet::Connect(connect)) = decode(&packet, version, Role::Client) {
            let frame = Frame {
                bytes: &packet,
                shared: None,
            };
            self.admit(
                id,
                &connect,
                Admission {
                    user,
                    data,
                    assigned,
                    verdicts,
                },
                frame,
                now,
                out,
            );
        } else {
            self.counters.invariants_broken += 1;
            self.break_off(id, now, out);
        }
    }

    /// Gives the connection its session, once what CONNACK promises is on disk.
    pub(crate) fn attach(
        &mut self,
        id: ConnectionId,
        connect: &Connect<'_>,
        admission: Admission,
        frame: Frame<'_>,
        now: Now,
        out: &mut impl Effects,
    ) {
        let assigned = admission.assigned.as_deref();
        let client_id = assigned.unwrap_or(connect.client_id);
        let found = self.sessions.find(client_id);
        if let Some(session) = found.and_then(|slot| self.sessions.get(slot))
            && session.user != admission.user
        {
            // A session belongs to the user who made it. 5 [MQTT-3.1.4-2]
            let user = admission.user.as_deref();
            self.deny(id, client_id, user, ReasonCode::NotAuthorized, now, out);
            return;
        }
        self.held_connects.begin();
        let kept = found.and_then(|slot| self.take_over(slot, connect.clean_start, now, out));
        let session_present = kept.is_some();
        let slot = match kept {
            Some(slot) => slot,
            None if self.sessions.len() >= self.limits.sessions_max => {
                self.counters.sessions_refused += 1;
                let reason = if connect.version == ProtocolVersion::V5 {
                    ReasonCode::QuotaExceeded
                } else {
                    ReasonCode::ServerUnavailable
                };
                self.deny(id, client_id, admission.user.as_deref(), reason, now, out);
                return;
            }
            None => {
                self.counters.sessions_created += 1;
                let session = Session::new(
                    client_id.into(),
                    admission.user.clone(),
                    shared_hash(client_id),
                );
                self.sessions.insert(session)
            }
        };
        if session_present {
            self.counters.sessions_resumed += 1;
        }
        let is_beginning = self.held_connects.forget(slot) || !session_present;
        if let Some(session) = self.sessions.get_mut(slot) {
            session.expiry_s = granted_expiry_s(connect, self.limits.session_expiry_max_s);
        }
        let mut ticket = self.held_connects.end_of_former();
        if self.keep_session(slot, out) {
            // A session that began is not to be one that ended, after a crash.
            if self.write_will(slot, connect.will.as_ref(), out) || is_beginning {
                ticket = Some(self.end(Until::Durable, out));
            } else {
                self.end(Until::Whenever, out);
            }
        }
        if let Some(ticket) = ticket {
            self.hold_connect(id, slot, session_present, ticket, admission, frame, out);
        } else {
            self.attached(id, slot, session_present, connect, &admission, now, out);
        }
    }

    /// The connection has its session: CONNACK, and what waits for it.
    #[expect(clippy::too_many_arguments, reason = "a CONNECT and its session")]
    pub(crate) fn attached(
        &mut self,
        id: ConnectionId,
        slot: u32,
        session_present: bool,
        connect: &Connect<'_>,
        admission: &Admission,
        now: Now,
        out: &mut impl Effects,
    ) {
        self.join(id, slot, connect, now);
        if session_present {
            // It may come from where less is allowed, or from a shard that the new rules had not reached.
            self.recheck_subscriptions(slot, now, out);
        }
        self.acknowledge(
            id,
            connect,
            session_present,
            admission.assigned.as_deref(),
            admission.data.as_deref(),
            out,
        );
        let peer = self
            .connections
            .get(id)
            .and_then(|connection| connection.peer);
        self.announce(Event::Connected, slot, peer, ReasonCode::Success, now, out);
        self.members_back(slot, now, out);
        self.wake_readers(slot);
        self.pump(slot, now, out);
        self.relieve_members(slot, now, out);
    }

    /// Takes the session from the connection it may still have. `Some` if it is kept for the new one.
    pub(crate) fn take_over(
        &mut self,
        slot: u32,
        clean_start: bool,
        now: Now,
        out: &mut impl Effects,
    ) -> Option<u32> {
        let session = self.sessions.get_mut(slot)?;
        if let Some(old) = session.connection {
            self.counters.takeovers += 1;
            // A delayed will is cancelled by this very connection, unless the session ends. 5 [MQTT-3.1.3-9]
            if clean_start {
                session.expiry_s = 0;
            }
            session.is_taken_over = !clean_start && session.is_persistent();
            // 5 [MQTT-3.1.4-3], 3.1.1 [MQTT-3.1.4-2]
            self.disconnect(old, ReasonCode::SessionTakenOver, now, out);
        } else if clean_start {
            // 5 [MQTT-3.1.2-4], 3.1.1 [MQTT-3.1.2-6]
            self.end_session(slot, now, out);
        }
        // One with expiry 0 ended with its connection.
        let session = self.sessions.get_mut(slot)?;
        session.ends_ms = NEVER;
        // Their time has come, and nobody has looked: at a start its client may be back before the first timeout.
        self.fire_due_wills(slot, now, out);
        // 5 [MQTT-3.1.3-9]: back before the Will Delay has passed.
        self.drop_will(slot, out);
        Some(slot)
    }

    /// Makes connection and session each other's, with what CONNECT asks for.
    fn join(&mut self, id: ConnectionId, slot: u32, connect: &Connect<'_>, now: Now) {
        let Self {
            connections,
            sessions,
            limits,
            ..
        } = self;
        let (Some(connection), Some(session)) = (connections.get_mut(id), sessions.get_mut(slot))
        else {
            return;
        };
        let properties = connect.properties;
        let is_v5 = connect.version == ProtocolVersion::V5;
        connection.phase = Phase::Connected;
        connection.session = slot;
        connection.last_packet_ms = now.monotonic_ms;
        if let Some(method) = properties.authentication_method() {
            connection.proof.get_or_insert_default().method = Some(method.into());
        }
        // 5 [MQTT-3.1.2-22], 3.1.1 [MQTT-3.1.2-24]: one and a half times the keep alive.
        let keep_alive_s =
            server_keep_alive(connect, limits.keep_alive_max_s).unwrap_or(connect.keep_alive);
        connection.silence_max_ms = u32::from(keep_alive_s) * 1_500;
        // 5 [MQTT-3.1.2-26], [MQTT-3.1.2-27]
        let alias_max = properties
            .topic_alias_maximum()
            .unwrap_or(0)
            .min(limits.topic_alias_out_max);
        connection.aliases_out = (alias_max > 0).then(|| Box::new(AliasesOut::new(alias_max)));
        let careful = alias_max > 0 || connection.packet_bytes_max != u32::MAX;

        session.connection = Some(id);
        session.is_taken_over = false;
        session.address = None;
        session.will = connect.will.as_ref().map(|will| Box::new(Will::new(will)));
        // 5 [MQTT-3.3.4-9]: unfinished messages stay within the client's Receive Maximum.
        let window = properties
            .receive_maximum()
            .unwrap_or(u16::MAX)
            .min(limits.inflight_max);
        session.window = window;
        if let Some(delivery) = &mut session.delivery {
            delivery.inflight.restart(window);
            delivery.cursor.stop_sweep();
            // What is in flight and in the store is read there again.
            if delivery.inflight.missing().next().is_some() {
                delivery.cursor.begin_seeking();
            }
        }
        self.sessions.set_port(slot, Port::new(id, is_v5, careful));
        self.counters.connects_accepted += 1;
        self.counters.sessions_attached += 1;
        self.arm_connection(id);
    }

    fn acknowledge(
        &mut self,
        id: ConnectionId,
        connect: &Connect<'_>,
        session_present: bool,
        assigned: Option<&str>,
        data: Option<&[u8]>,
        out: &mut impl Effects,
    ) {
        let buffer = self.connack_properties(connect, assigned, data);
        let reason = ReasonCode::Success;
        let properties = buffer.as_properties();
        self.send(
            id,
            &Packet::ConnAck(ConnAck {
                session_present,
                reason,
                properties,
            }),
            out,
        );
    }

    /// What an accepting CONNACK says.
    fn connack_properties(
        &self,
        connect: &Connect<'_>,
        assigned: Option<&str>,
        data: Option<&[u8]>,
    ) -> PropertyBuffer {
        let mut buffer = PropertyBuffer::new();
        if connect.version == ProtocolVersion::V5 {
            let limits = &self.limits;
            let granted_s = granted_expiry_s(connect, limits.session_expiry_max_s);
            if granted_s != connect.properties.session_expiry_interval().unwrap_or(0) {
                buffer.push(Property::SessionExpiryInterval(granted_s));
            }
            if limits.receive_maximum != u16::MAX {
                buffer.push(Property::ReceiveMaximum(limits.receive_maximum.max(1)));
            }
            buffer.push(Property::MaximumPacketSize(limits.packet_bytes_max.max(1)));
            // 5 [MQTT-3.2.2-16]
            if let Some(assigned) = assigned {
                buffer.push(Property::AssignedClientIdentifier(assigned));
            }
            if limits.topic_alias_max > 0 {
                buffer.push(Property::TopicAliasMaximum(limits.topic_alias_max));
            }
            // 5 [MQTT-3.1.2-21]
            if let Some(keep_alive_s) = server_keep_alive(connect, limits.keep_alive_max_s) {
                buffer.push(Property::ServerKeepAlive(keep_alive_s));
            }
            // 5 [MQTT-4.12.0-5], [MQTT-4.12.0-6]: the method of the CONNECT, and only if it had one.
            if let Some(method) = connect.properties.authentication_method() {
                buffer.push(Property::AuthenticationMethod(method));
                if let Some(data) = data {
                    buffer.push(Property::AuthenticationData(data));
                }
            }
        }
        buffer
    }

    /// Refuses a client whose CONNECT is in order, and tells those who want to know.
    #[cold]
    pub(crate) fn deny(
        &mut self,
        id: ConnectionId,
        client_id: &str,
        user: Option<&str>,
        reason: ReasonCode,
        now: Now,
        out: &mut impl Effects,
    ) {
        let peer = self
            .connections
            .get(id)
            .and_then(|connection| connection.peer);
        self.announce_refused(client_id, user, peer, reason, now, out);
        self.refuse(id, reason, now, out);
    }

    /// Refuses a CONNECT. 5 [MQTT-3.2.2-7], 3.1.1 [MQTT-3.2.2-5]: CONNACK, then the connection closes.
    #[cold]
    pub(crate) fn refuse(
        &mut self,
        id: ConnectionId,
        reason: ReasonCode,
        now: Now,
        out: &mut impl Effects,
    ) {
        self.refuse_for(id, reason, "", now, out);
    }

    /// As [`Self::refuse`], with a Reason String; empty = none.
    fn refuse_for(
        &mut self,
        id: ConnectionId,
        reason: ReasonCode,
        why: &str,
        now: Now,
        out: &mut impl Effects,
    ) {
        let mut buffer = PropertyBuffer::new();
        if !why.is_empty() {
            buffer.push(Property::ReasonString(why));
        }
        // 5 [MQTT-3.2.2-6], 3.1.1 [MQTT-3.2.2-4]: Session Present 0.
        let conn_ack = ConnAck {
            session_present: false,
            reason,
            properties: buffer.as_properties(),
        };
        self.send(id, &Packet::ConnAck(conn_ack), out);
        self.break_off(id, now, out);
    }

    /// 5 [MQTT-3.1.3-6], [MQTT-3.2.2-16]: a client id nobody else uses.
    fn assign_client_id(&mut self) -> Box<str> {
        format!(
            "waypost-{:016x}{:08x}",
            self.random.next(),
            self.random.next() >> 32
        )
        .into()
    }
}

/// Server Keep Alive, where the server wants another than the client. It can only tell an MQTT 5 client.
fn server_keep_alive(connect: &Connect<'_>, max_s: u16) -> Option<u16> {
    let too_long = max_s > 0 && (connect.keep_alive == 0 || connect.keep_alive > max_s);
    (connect.version == ProtocolVersion::V5 && too_long).then_some(max_s)
}

/// The Session Expiry Interval the server grants; Clean Session of 3.1.1 means 0 or never.
fn granted_expiry_s(connect: &Connect<'_>, max_s: u32) -> u32 {
    let wanted_s = match (connect.version, connect.clean_start) {
        (ProtocolVersion::V5, _) => connect.properties.session_expiry_interval().unwrap_or(0),
        (_, true) => 0,
        (_, false) => u32::MAX,
    };
    wanted_s.min(max_s)
}

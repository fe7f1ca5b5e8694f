//! Enhanced authentication (5 §4.12), and connections parked until somebody answers.

use waypost_mqtt::{
    Auth, Packet, Property, PropertyBuffer, ProtocolVersion, ReasonCode, Role, decode,
};

use crate::broker::Broker;
use crate::connection::Phase;
use crate::effects::{ConnectionId, Effects, Frame, Now};
use crate::permit::{Action, Answer, Authentication, Credentials, Ticket, Verdict, Who};
use crate::waiting::{For, Waiting};

impl Broker {
    /// An AUTH before CONNACK.
    pub(crate) fn handle_auth_connecting(
        &mut self,
        id: ConnectionId,
        auth: &Auth<'_>,
        now: Now,
        out: &mut impl Effects,
    ) {
        let waiting = self
            .connections
            .get_mut(id)
            .and_then(|connection| connection.waiting.take());
        let Some(mut waiting) = waiting.filter(|waiting| waiting.for_what == For::Client) else {
            self.break_off(id, now, out);
            return;
        };
        // Nothing is asked of a client that names no method, so it sends no AUTH. 5 [MQTT-4.12.0-7]
        let Ok(Packet::Connect(connect)) =
            decode(&waiting.packet, ProtocolVersion::V5, Role::Client)
        else {
            self.break_off(id, now, out);
            return;
        };
        let method = connect.properties.authentication_method();
        // 5 [MQTT-4.12.0-3], [MQTT-4.12.0-5]
        if auth.reason != ReasonCode::ContinueAuthentication
            || auth.properties.authentication_method() != method
        {
            self.refuse(id, ReasonCode::ProtocolError, now, out);
            return;
        }
        waiting.step += 1;
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let credentials = Credentials {
            client_id: connect.client_id,
            user_name: connect.user_name,
            password: connect.password,
            method,
            data: auth.properties.authentication_data(),
            address: connection.peer,
            certificate: connection.certificate(),
            ticket: connection.ticket(id),
        };
        let outcome = self.authenticate.authenticate(&credentials, waiting.step);
        self.go_on_authenticating(id, waiting, outcome, now, out);
    }

    /// One step of the authentication of a CONNECT was decided.
    pub(crate) fn go_on_authenticating(
        &mut self,
        id: ConnectionId,
        mut waiting: Box<Waiting>,
        outcome: Authentication,
        now: Now,
        out: &mut impl Effects,
    ) {
        match outcome {
            Authentication::Accept { user, data } => {
                waiting.user = user;
                waiting.data = data;
                self.resume_connect(id, *waiting, now, out);
            }
            Authentication::Continue(data) => {
                let Ok(Packet::Connect(connect)) =
                    decode(&waiting.packet, ProtocolVersion::V5, Role::Client)
                else {
                    return;
                };
                let Some(method) = connect.properties.authentication_method() else {
                    // 5 [MQTT-4.12.0-6]: no AUTH to a client that named no method.
                    self.refuse(id, ReasonCode::NotAuthorized, now, out);
                    return;
                };
                // 5 [MQTT-4.12.0-2]
                self.send_auth(
                    id,
                    ReasonCode::ContinueAuthentication,
                    method,
                    Some(&data),
                    out,
                );
                waiting.for_what = For::Client;
                if let Some(connection) = self.connections.get_mut(id) {
                    connection.waiting = Some(waiting);
                }
            }
            // 5 [MQTT-4.12.0-4]
            Authentication::Reject(reason) => {
                if let Ok(Packet::Connect(connect)) =
                    decode(&waiting.packet, ProtocolVersion::V5, Role::Client)
                {
                    self.deny(id, connect.client_id, connect.user_name, reason, now, out);
                }
            }
            Authentication::Pending => {
                waiting.for_what = For::Authentication;
                self.park(id, waiting, out);
            }
        }
    }

    /// An AUTH after CONNACK: re-authentication.
    pub(crate) fn handle_auth_connected(
        &mut self,
        id: ConnectionId,
        slot: u32,
        auth: &Auth<'_>,
        now: Now,
        out: &mut impl Effects,
    ) {
        let Self {
            connections,
            sessions,
            authenticate,
            ..
        } = self;
        let (Some(connection), Some(session)) = (connections.get_mut(id), sessions.get(slot))
        else {
            return;
        };
        // 5 [MQTT-4.12.0-7]: no method in CONNECT, no AUTH.
        let Some(proof) = &mut connection.proof else {
            self.protocol_error(id, now, out);
            return;
        };
        let step = match (auth.reason, proof.reauthentication.take()) {
            (ReasonCode::ReAuthenticate, None) => 0,
            (ReasonCode::ContinueAuthentication, Some(step)) => step + 1,
            _ => {
                self.protocol_error(id, now, out);
                return;
            }
        };
        // 5 [MQTT-4.12.1-1]: the method of CONNECT. 5 [MQTT-4.12.0-7]: none there, no AUTH here.
        let method = auth.properties.authentication_method();
        if method.is_none() || method != proof.method.as_deref() {
            self.protocol_error(id, now, out);
            return;
        }
        let credentials = Credentials {
            client_id: &session.client_id,
            user_name: None,
            password: None,
            method,
            data: auth.properties.authentication_data(),
            address: connection.peer,
            certificate: connection.certificate(),
            ticket: connection.ticket(id),
        };
        let outcome = authenticate.authenticate(&credentials, step);
        self.go_on_reauthenticating(id, slot, step, outcome, now, out);
    }

    fn go_on_reauthenticating(
        &mut self,
        id: ConnectionId,
        slot: u32,
        step: u32,
        outcome: Authentication,
        now: Now,
        out: &mut impl Effects,
    ) {
        let connection = self.connections.get_mut(id);
        let Some(proof) = connection.and_then(|connection| connection.proof.as_mut()) else {
            return;
        };
        let method = proof.method.clone().unwrap_or_default();
        match outcome {
            Authentication::Accept { user, data } => {
                // A session belongs to the user who made it.
                if self
                    .sessions
                    .get(slot)
                    .is_some_and(|session| session.user == user)
                {
                    self.send_auth(id, ReasonCode::Success, &method, data.as_deref(), out);
                } else {
                    self.disconnect(id, ReasonCode::NotAuthorized, now, out);
                }
            }
            Authentication::Continue(data) => {
                proof.reauthentication = Some(step);
                self.send_auth(
                    id,
                    ReasonCode::ContinueAuthentication,
                    &method,
                    Some(&data),
                    out,
                );
            }
            // 5 [MQTT-4.12.1-2]
            Authentication::Reject(_) => self.disconnect(id, ReasonCode::NotAuthorized, now, out),
            Authentication::Pending => {
                let no_packet = Frame {
                    bytes: &[],
                    shared: None,
                };
                let mut waiting = Box::new(Waiting::new(For::Authentication, no_packet));
                waiting.step = step;
                self.park(id, waiting, out);
            }
        }
    }

    fn send_auth(
        &mut self,
        id: ConnectionId,
        reason: ReasonCode,
        method: &str,
        data: Option<&[u8]>,
        out: &mut impl Effects,
    ) {
        // 5 [MQTT-4.12.0-5]: every AUTH repeats the method.
        let mut buffer = PropertyBuffer::new();
        buffer.push(Property::AuthenticationMethod(method));
        if let Some(data) = data {
            buffer.push(Property::AuthenticationData(data));
        }
        self.send(
            id,
            &Packet::Auth(Auth {
                reason,
                properties: buffer.as_properties(),
            }),
            out,
        );
    }

    /// Puts a connection aside until an answer comes.
    pub(crate) fn park(&mut self, id: ConnectionId, waiting: Box<Waiting>, out: &mut impl Effects) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.waiting = Some(waiting);
            out.read(id, false);
        }
    }

    /// The answer a parked connection waits for. One that waits for nothing ignores it, and so does a later one in the
    /// same slot.
    pub fn handle_verdict(
        &mut self,
        ticket: Ticket,
        answer: Answer,
        now: Now,
        out: &mut impl Effects,
    ) {
        let id = ticket.connection;
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if connection.opened != ticket.opened {
            return;
        }
        let (phase, version, slot) = (connection.phase, connection.version, connection.session);
        let Some(mut waiting) = connection.waiting.take() else {
            return;
        };
        match (waiting.for_what, answer) {
            (For::Authentication, Answer::Authenticate(outcome)) => {
                let outcome = match outcome {
                    Authentication::Pending => {
                        Authentication::Reject(ReasonCode::ServerUnavailable)
                    }
                    outcome => outcome,
                };
                out.read(id, true);
                if phase == Phase::Connected {
                    self.go_on_reauthenticating(id, slot, waiting.step, outcome, now, out);
                } else {
                    self.go_on_authenticating(id, waiting, outcome, now, out);
                }
            }
            (For::Permit, Answer::Permit(verdict)) => {
                out.read(id, true);
                waiting.verdicts.push(verdict == Verdict::Allow);
                if phase == Phase::Connected {
                    self.verdicts.known = std::mem::take(&mut waiting.verdicts);
                    self.verdicts.asked = 0;
                    if let Ok(packet) = decode(&waiting.packet, version, Role::Client) {
                        let frame = Frame {
                            bytes: &waiting.packet,
                            shared: None,
                        };
                        self.handle_connected(id, slot, &packet, frame, now, out);
                    }
                    self.verdicts.known.clear();
                } else {
                    self.resume_connect(id, *waiting, now, out);
                }
            }
            _ => connection.waiting = Some(waiting),
        }
    }

    /// Asks whether the client of a session may do something. The questions of one packet are counted, so that a
    /// packet handled anew gets the answers it had.
    pub(crate) fn ask(
        &mut self,
        id: ConnectionId,
        slot: u32,
        action: Action,
        topic: &str,
    ) -> Verdict {
        if let Some(allowed) = self.verdicts.known.get(self.verdicts.asked) {
            self.verdicts.asked += 1;
            return if *allowed {
                Verdict::Allow
            } else {
                Verdict::Deny
            };
        }
        let Some(session) = self.sessions.get(slot) else {
            return Verdict::Deny;
        };
        let connection = self.connections.get(id);
        let who = Who {
            client_id: &session.client_id,
            user: session.user.as_deref(),
            address: connection.and_then(|connection| connection.peer),
            ticket: connection.map(|connection| connection.ticket(id)),
        };
        let verdict = self.permit.check(&who, action, topic);
        if verdict != Verdict::Pending {
            self.verdicts.asked += 1;
        }
        verdict
    }

    /// Parks a connection with the packet it sent, until the verdict on its next question is there.
    pub(crate) fn park_for_permit(
        &mut self,
        id: ConnectionId,
        frame: Frame<'_>,
        verdicts: Vec<bool>,
        out: &mut impl Effects,
    ) {
        let mut waiting = Box::new(Waiting::new(For::Permit, frame));
        waiting.verdicts = verdicts;
        self.park(id, waiting, out);
    }
}

//! `$events/client/…`: what happens to clients, as JSON, for whoever subscribes. Nothing is built for nobody.

use core::net::SocketAddr;
use std::fmt::Write;

use waypost_mqtt::{QoS, ReasonCode};

use crate::broker::Broker;
use crate::effects::{Effects, Message, Now, Payload};
use crate::keep::By;
use crate::mail::Origin;

/// What happened to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    Connected,
    Disconnected,
    /// With the filter.
    Subscribed(&'a str),
    /// With the filter.
    Unsubscribed(&'a str),
    /// With the reason.
    Denied(&'a str),
}

impl Event<'_> {
    fn topic(self) -> &'static str {
        match self {
            Self::Connected => "$events/client/connected",
            Self::Disconnected => "$events/client/disconnected",
            Self::Subscribed(_) => "$events/client/subscribed",
            Self::Unsubscribed(_) => "$events/client/unsubscribed",
            Self::Denied(_) => "$events/client/denied",
        }
    }
}

impl Broker {
    /// Tells those who want to know.
    pub(crate) fn announce(
        &mut self,
        event: Event<'_>,
        slot: u32,
        peer: Option<SocketAddr>,
        reason: ReasonCode,
        now: Now,
        out: &mut impl Effects,
    ) {
        let topic = event.topic();
        if !self.is_wanted(topic) {
            return;
        }
        let Some(session) = self.sessions.get(slot) else {
            return;
        };
        let json = json(
            event,
            &session.client_id,
            session.user.as_deref(),
            peer,
            reason,
            now,
        );
        self.tell(topic, &json, now, out);
    }

    /// Tells those who want to know that a client got no session.
    pub(crate) fn announce_refused(
        &mut self,
        client_id: &str,
        user: Option<&str>,
        peer: Option<SocketAddr>,
        reason: ReasonCode,
        now: Now,
        out: &mut impl Effects,
    ) {
        self.announce_refused_for(client_id, user, peer, reason, reason.text(), now, out);
    }

    /// As [`Self::announce_refused`], with more than the reason's own words.
    #[expect(
        clippy::too_many_arguments,
        reason = "who it was, and what was wrong with it"
    )]
    pub(crate) fn announce_refused_for(
        &mut self,
        client_id: &str,
        user: Option<&str>,
        peer: Option<SocketAddr>,
        reason: ReasonCode,
        why: &str,
        now: Now,
        out: &mut impl Effects,
    ) {
        let event = Event::Denied(why);
        if self.is_wanted(event.topic()) {
            let json = json(event, client_id, user, peer, reason, now);
            self.tell(event.topic(), &json, now, out);
        }
    }

    pub(crate) fn tell(&mut self, topic: &str, json: &str, now: Now, out: &mut impl Effects) {
        let message = Message {
            topic,
            payload: Payload {
                bytes: json.as_bytes(),
                shared: None,
            },
            properties: &[],
            expiry_s: None,
            verbatim: None,
        };
        let origin = Origin {
            qos: QoS::AtLeastOnce,
            retain: false,
            publisher: 0,
            stamp: 0,
            connection: None,
            kept: None,
            is_again: false,
        };
        self.route(&message, origin, By::Server, now, out);
    }

    pub(crate) fn is_wanted(&mut self, topic: &str) -> bool {
        !self.cache.lookup(topic, &self.index).is_empty()
    }
}

fn json(
    event: Event<'_>,
    client_id: &str,
    user: Option<&str>,
    peer: Option<SocketAddr>,
    reason: ReasonCode,
    now: Now,
) -> String {
    let text = match event {
        Event::Denied(why) => why,
        _ => reason.text(),
    };
    let mut json = String::with_capacity(256);
    let _ = write!(json, "{{\"time_ms\":{},\"client_id\":", now.wall_ms);
    push_string(&mut json, client_id);
    json.push_str(",\"username\":");
    match user {
        Some(user) => push_string(&mut json, user),
        None => json.push_str("null"),
    }
    match peer {
        Some(address) => {
            let _ = write!(json, ",\"address\":\"{address}\"");
        }
        None => json.push_str(",\"address\":null"),
    }
    let _ = write!(json, ",\"reason_code\":{},\"reason\":", reason.as_u8());
    push_string(&mut json, text);
    if let Event::Subscribed(filter) | Event::Unsubscribed(filter) = event {
        json.push_str(",\"filter\":");
        push_string(&mut json, filter);
    }
    json.push('}');
    json
}

/// A JSON string (RFC 8259 §7).
pub(crate) fn push_string(json: &mut String, text: &str) {
    json.push('"');
    for character in text.chars() {
        match character {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            character if character < ' ' => {
                let _ = write!(json, "\\u{:04x}", u32::from(character));
            }
            character => json.push(character),
        }
    }
    json.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped() {
        let mut json = String::new();
        push_string(&mut json, "a\"b\\c\n\u{1f}ü");
        assert_eq!(json, "\"a\\\"b\\\\c\\u000a\\u001fü\"");
    }
}

//! Wills: what a client wants said when its connection, or its session, ends without its word.

use waypost_mqtt::{QoS, Will as WillPacket};

use crate::broker::Broker;
use crate::effects::{Effects, Message, Now, Payload};
use crate::keep::By;
use crate::mail::Origin;
use crate::permit::{Action, Verdict, Who};
use crate::timers::NEVER;

#[derive(Clone, Debug)]
pub(crate) struct Will {
    pub topic: Box<str>,
    pub payload: Box<[u8]>,
    /// Those to be forwarded, in order. 5 [MQTT-3.1.3-10]
    pub properties: Box<[u8]>,
    pub qos: QoS,
    pub retain: bool,
    pub delay_s: u32,
    pub expiry_s: Option<u32>,
    /// When it is published, once the connection is gone.
    pub due_ms: u64,
}

impl Will {
    pub fn new(will: &WillPacket<'_>) -> Self {
        let mut properties = Vec::new();
        // Will Delay Interval is not for those who get it.
        forward_without_delay(will, &mut properties);
        Self {
            topic: will.topic.as_str().into(),
            payload: will.payload.into(),
            properties: properties.into(),
            qos: will.qos,
            retain: will.retain,
            delay_s: will.properties.will_delay_interval().unwrap_or(0),
            expiry_s: will.properties.message_expiry_interval(),
            due_ms: NEVER,
        }
    }
}

fn forward_without_delay(will: &WillPacket<'_>, out: &mut Vec<u8>) {
    let mut buffer = waypost_mqtt::PropertyBuffer::new();
    for property in will.properties.iter() {
        if !matches!(property, waypost_mqtt::Property::WillDelayInterval(_)) {
            buffer.push(property);
        }
    }
    buffer.as_properties().forward_into(out);
}

impl Broker {
    /// Publishes the will of a session, if there is one and the permit still allows it, and takes it away.
    /// 5 [MQTT-3.1.2-10], 3.1.1 [MQTT-3.1.2-10]
    pub(crate) fn fire_will(&mut self, slot: u32, now: Now, out: &mut impl Effects) {
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        let Some(will) = session.will.take() else {
            return;
        };
        let who = Who {
            client_id: &session.client_id,
            user: session.user.as_deref(),
            address: session.address.as_deref().copied(),
            ticket: None,
        };
        let publisher = session.publisher;
        if self.permit.check(&who, Action::WillFires, &will.topic) != Verdict::Allow {
            self.counters.wills_denied += 1;
            return;
        }
        self.counters.wills_published += 1;
        let message = Message {
            topic: &will.topic,
            payload: Payload {
                bytes: &will.payload,
                shared: None,
            },
            properties: &will.properties,
            expiry_s: will.expiry_s,
            verbatim: None,
        };
        // 5 [MQTT-3.1.2-14], [MQTT-3.1.2-15], 3.1.1 [MQTT-3.1.2-16], [MQTT-3.1.2-17]
        let origin = Origin {
            qos: will.qos,
            retain: will.retain,
            publisher,
            stamp: 0,
            connection: None,
            kept: None,
        };
        self.route(&message, origin, By::Will(None), now, out);
    }
}

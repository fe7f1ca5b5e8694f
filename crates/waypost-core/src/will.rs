//! Wills: what a client wants said when its connection, or its session, ends without its word.

use waypost_mqtt::{QoS, Will as WillPacket};

use crate::broker::Broker;
use crate::effects::{Effects, Message, Now, Payload};
use crate::journal::{QueueId, Table, Until};
use crate::keep::By;
use crate::mail::Origin;
use crate::permit::{Action, Verdict, Who};
use crate::rows::{RowError, WillRow, queue_key};
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

impl Will {
    fn row(&self) -> WillRow<'_> {
        WillRow {
            topic: &self.topic,
            properties: &self.properties,
            payload: &self.payload,
            qos: self.qos,
            retain: self.retain,
            delay_s: self.delay_s,
            expiry_s: self.expiry_s,
        }
    }
}

impl From<WillRow<'_>> for Will {
    fn from(row: WillRow<'_>) -> Self {
        Self {
            topic: row.topic.into(),
            payload: row.payload.into(),
            properties: row.properties.into(),
            qos: row.qos,
            retain: row.retain,
            delay_s: row.delay_s,
            expiry_s: row.expiry_s,
            due_ms: NEVER,
        }
    }
}

impl Broker {
    /// Writes down the will that a session which outlives the process gets with its connection, in the transaction that
    /// is open. Returns whether there is one: CONNACK waits for it.
    pub(crate) fn write_will(
        &mut self,
        slot: u32,
        will: Option<&WillPacket<'_>>,
        out: &mut impl Effects,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(slot) else {
            return false;
        };
        let Some(queue) = session.number() else {
            return false;
        };
        if let Some(will) = will {
            session.has_will_row = true;
            let mut value = Vec::new();
            Will::new(will).row().encode(&mut value);
            out.journal().put(Table::WILLS, &queue_key(queue), &value);
        } else if std::mem::take(&mut session.has_will_row) {
            out.journal().delete(Table::WILLS, &queue_key(queue));
        }
        will.is_some()
    }

    /// Takes a will away that is not to be published.
    pub(crate) fn drop_will(&mut self, slot: u32, out: &mut impl Effects) {
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        session.will = None;
        let row = session.number().filter(|_| session.has_will_row);
        session.has_will_row = false;
        self.delete_will_row(row, out);
    }

    fn delete_will_row(&mut self, row: Option<QueueId>, out: &mut impl Effects) {
        if let Some(queue) = row {
            out.journal().delete(Table::WILLS, &queue_key(queue));
            self.end(Until::Whenever, out);
        }
    }

    /// At a start: the will of a session that was connected, or was cut off before its will was due. It counts as cut
    /// off now.
    pub(crate) fn restore_will(
        &mut self,
        slot: u32,
        value: &[u8],
        now: Now,
    ) -> Result<(), RowError> {
        let mut will = Will::from(WillRow::decode_will(value)?);
        will.due_ms = now.monotonic_ms + u64::from(will.delay_s) * 1_000;
        if let Some(session) = self.sessions.get_mut(slot) {
            session.will = Some(Box::new(will));
            session.has_will_row = true;
        }
        self.arm_session(slot);
        Ok(())
    }

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
        let row = session.number().filter(|_| session.has_will_row);
        session.has_will_row = false;
        if self.permit.check(&who, Action::WillFires, &will.topic) != Verdict::Allow {
            self.counters.wills_denied += 1;
            self.delete_will_row(row, out);
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
        self.route(&message, origin, By::Will(row), now, out);
    }
}

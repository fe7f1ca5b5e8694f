//! Wills: what a client wants said when its connection, or its session, ends without its word.

use waypost_mqtt::{Properties, QoS, Will as WillPacket};

use crate::broker::Broker;
use crate::effects::{Effects, Message, Now, Payload};
use crate::journal::{MessageId, Table, Until};
use crate::keep::By;
use crate::mail::Origin;
use crate::permit::{Action, Verdict, Who};
use crate::rows::{RowError, WILL_KEY_BYTES, WillNumber, WillRow, will_key};
use crate::seal::Said;
use crate::session::Session;
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
    /// One that was being published when an earlier run was cut off, and its number. It is due.
    overdue: Option<Box<(WillNumber, Will)>>,
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
            overdue: None,
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
    /// When there is something to be published next.
    pub fn next_due_ms(&self) -> u64 {
        let overdue = self.overdue.as_ref();
        overdue.map_or(self.due_ms, |overdue| overdue.1.due_ms)
    }

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
            overdue: None,
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
        if let Some(former) = session.will_row.take() {
            out.journal().delete(Table::WILLS, &will_key(queue, former));
        }
        let Some(will) = will else {
            return false;
        };
        let Some(number) = WillNumber::new(self.numbers.message().0) else {
            return false;
        };
        session.will_row = Some(number);
        let mut value = Vec::new();
        Will::new(will).row().encode(&mut value);
        out.journal()
            .put(Table::WILLS, &will_key(queue, number), &value);
        true
    }

    /// Takes a will away that is not to be published.
    pub(crate) fn drop_will(&mut self, slot: u32, out: &mut impl Effects) {
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        session.will = None;
        let row = session.take_will_row();
        self.delete_will_row(row, out);
    }

    fn delete_will_row(&mut self, row: Option<[u8; WILL_KEY_BYTES]>, out: &mut impl Effects) {
        if let Some(key) = row {
            out.journal().delete(Table::WILLS, &key);
            self.end(Until::Whenever, out);
        }
    }

    /// At a start: the will of a session that was connected, or was cut off before its will was due. It counts as cut
    /// off now.
    pub(crate) fn restore_will(
        &mut self,
        slot: u32,
        number: WillNumber,
        value: &[u8],
        now: Now,
    ) -> Result<(), RowError> {
        let mut will = Will::from(WillRow::decode_will(value)?);
        will.due_ms = now.monotonic_ms + u64::from(will.delay_s) * 1_000;
        self.numbers.skip(MessageId(number.get()));
        if let Some(session) = self.sessions.get_mut(slot) {
            // Rows come in the order of their numbers. All but the last were taken by connections that are long gone.
            if let (Some(mut former), Some(row)) = (session.will.take(), session.will_row) {
                former.due_ms = now.monotonic_ms;
                will.overdue = Some(Box::new((row, *former)));
            }
            session.will = Some(Box::new(will));
            session.will_row = Some(number);
        }
        self.arm_session(slot);
        Ok(())
    }

    /// Publishes what is due of a session's wills.
    pub(crate) fn fire_due_wills(&mut self, slot: u32, now: Now, out: &mut impl Effects) {
        let session = self.sessions.get_mut(slot);
        let Some(will) = session.and_then(|session| session.will.as_deref_mut()) else {
            return;
        };
        let is_due = will.due_ms <= now.monotonic_ms;
        if let Some(overdue) = will.overdue.take() {
            self.fire_overdue(slot, *overdue, now, out);
        }
        if is_due {
            self.fire_will(slot, now, out);
        }
    }

    /// The oldest first.
    fn fire_overdue(
        &mut self,
        slot: u32,
        (number, mut will): (WillNumber, Will),
        now: Now,
        out: &mut impl Effects,
    ) {
        if let Some(older) = will.overdue.take() {
            self.fire_overdue(slot, *older, now, out);
        }
        let queue = self.sessions.get(slot).and_then(Session::number);
        let row = queue.map(|queue| will_key(queue, number));
        self.publish_will(slot, &will, row, now, out);
    }

    /// Publishes the will of a session, if there is one, and takes it away. 5 [MQTT-3.1.2-10], 3.1.1 [MQTT-3.1.2-10]
    pub(crate) fn fire_will(&mut self, slot: u32, now: Now, out: &mut impl Effects) {
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        let Some(mut will) = session.will.take() else {
            return;
        };
        let row = session.take_will_row();
        if let Some(overdue) = will.overdue.take() {
            self.fire_overdue(slot, *overdue, now, out);
        }
        self.publish_will(slot, &will, row, now, out);
    }

    /// If the permit still allows it; its row goes with it.
    fn publish_will(
        &mut self,
        slot: u32,
        will: &Will,
        row: Option<[u8; WILL_KEY_BYTES]>,
        now: Now,
        out: &mut impl Effects,
    ) {
        let Some(session) = self.sessions.get(slot) else {
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
            self.delete_will_row(row, out);
            return;
        }
        let said = Said::Perhaps(Properties::from_validated(&will.properties));
        if self
            .refuses_seal(&will.topic, &will.payload, said)
            .is_some()
        {
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
            is_again: false,
        };
        self.route(&message, origin, By::Will(row), now, out);
    }
}

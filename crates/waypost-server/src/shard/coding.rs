//! Messages that some of their subscribers get in another form (`crate::transcode`).

use std::rc::Rc;

use waypost_core::{DeliveryFlags, Message, Target};
use waypost_mqtt::{ProtocolVersion, PublishHead, publish_len};

use super::connection::Connection;
use super::later::Delivery;
use super::outlets::Outlets;
use crate::transcode::{Accepted, Form, JobId, OwnedMessage, Settled, Worked};

impl Outlets {
    /// As `deliver`, each in the form it accepts.
    #[cold]
    pub(super) fn deliver_coded(
        &mut self,
        message: &Message<'_>,
        targets: &[Target],
        identifiers: &[u32],
    ) {
        let is_accepted = targets.iter().any(|target| {
            let connection = self.connections.get(target.connection.0 as usize);
            connection.is_some_and(|connection| connection.accepted != Accepted::default())
        });
        let counters = &mut self.counters;
        let Some(plan) = self.coder.plan(message, is_accepted, counters) else {
            self.deliver(message, targets, identifiers);
            return;
        };
        let mut as_it_is = Vec::new();
        let mut others: Vec<Vec<Target>> = plan.ways().iter().map(|_| Vec::new()).collect();
        for target in targets {
            let index = target.connection.0 as usize;
            let connection = self.connections.get_mut(index);
            let way = connection.and_then(|connection| {
                let Connection {
                    accepted, readable, ..
                } = connection;
                plan.way(*accepted, |filter| {
                    self.readers.may_read(index, readable, filter)
                })
            });
            let form = way.and_then(|way| others.get_mut(way));
            form.unwrap_or(&mut as_it_is).push(*target);
        }
        self.deliver(message, &as_it_is, identifiers);
        for (way, targets) in plan.ways().iter().zip(&others) {
            if targets.is_empty() {
                continue;
            }
            match self.coder.form(way, message, &mut self.counters) {
                Form::AsItIs => self.deliver(message, targets, identifiers),
                Form::Other(coded) => {
                    let other = coded.of(message);
                    self.deliver_fitting(&other, message, targets, identifiers);
                }
                Form::Later(job) => self.deliver_later(job, message, targets, identifiers),
            }
        }
    }

    /// Delivers a message in its other form, and as it came where only that is within the client's Maximum Packet Size.
    fn deliver_fitting(
        &mut self,
        other: &Message<'_>,
        message: &Message<'_>,
        targets: &[Target],
        identifiers: &[u32],
    ) {
        let fits = |connection: &Connection, target: &Target| {
            connection.packet_bytes_max == u32::MAX
                || packet_len(other, target, identifiers) <= connection.packet_bytes_max as usize
        };
        let (fitting, too_large): (Vec<_>, Vec<_>) = targets.iter().copied().partition(|target| {
            let connection = self.connections.get(target.connection.0 as usize);
            connection.is_none_or(|connection| fits(connection, target))
        });
        self.deliver(other, &fitting, identifiers);
        // 5 [MQTT-3.1.2-24]; as it came it fits, or nobody would be asked to deliver it.
        self.counters.transcode_too_large += too_large.len() as u64;
        self.deliver(message, &too_large, identifiers);
    }

    fn deliver_later(
        &mut self,
        job: JobId,
        message: &Message<'_>,
        targets: &[Target],
        identifiers: &[u32],
    ) {
        let message = Rc::new(OwnedMessage::new(message));
        for target in targets {
            let index = target.connection.0 as usize;
            let Some(connection) = self.connections.get_mut(index) else {
                continue;
            };
            let all = connection.outbox_len();
            let droppable = super::outlets::is_droppable(target);
            if droppable && all > self.bounds.each(self.outbox_bytes) {
                self.count_dropped(index, 1);
                continue;
            }
            let own = target.identifiers.of(identifiers);
            let mut target = *target;
            target.identifiers.start = 0;
            connection.later.get_or_insert_default().push(
                job,
                Delivery {
                    message: Rc::clone(&message),
                    target,
                    identifiers: own.into(),
                },
            );
            self.outbox_bytes += message.payload.len();
            self.coder.wait(job, index);
        }
    }

    /// A worker is done with a payload: whoever waited for it gets it, and what came after.
    pub(super) fn settle_coded(&mut self, job: JobId, worked: Worked) {
        let Some(settled) = self.coder.settle(job, worked, &mut self.counters) else {
            return;
        };
        let mut connections = settled.connections.clone();
        connections.dedup();
        let settled = Rc::new(settled);
        for index in connections {
            let Some(connection) = self.connections.get_mut(index) else {
                continue;
            };
            if let Some(later) = &mut connection.later {
                later.mark(job, &settled);
                self.deliver_what_is_ready(index);
            }
        }
    }

    fn deliver_what_is_ready(&mut self, index: usize) {
        let taken = |connection: &mut Connection| connection.later.take();
        let Some(mut later) = self.connections.get_mut(index).and_then(taken) else {
            return;
        };
        while let Some((settled, delivery, rest)) = later.next() {
            self.outbox_bytes -= delivery.message.payload.len();
            self.deliver_settled(&settled, &delivery);
            if let Some(connection) = self.connections.get_mut(index) {
                connection.outbox.append(rest, &mut self.pool);
            }
        }
        if let Some(connection) = self.connections.get_mut(index)
            && !later.is_empty()
        {
            connection.later = Some(later);
        }
        self.mark_dirty(index);
    }

    fn deliver_settled(&mut self, settled: &Settled, delivery: &Delivery) {
        let message = delivery.message.as_message();
        let (targets, identifiers) = ([delivery.target], &delivery.identifiers);
        match settled.form(&message) {
            Some(coded) => {
                let other = coded.of(&message);
                self.deliver_fitting(&other, &message, &targets, identifiers);
            }
            None => self.deliver(&message, &targets, identifiers),
        }
    }
}

fn packet_len(message: &Message<'_>, target: &Target, identifiers: &[u32]) -> usize {
    let is_v5 = target.flags.has(DeliveryFlags::V5);
    publish_len(&PublishHead {
        version: if is_v5 {
            ProtocolVersion::V5
        } else {
            ProtocolVersion::V311
        },
        dup: false,
        qos: target.flags.qos(),
        retain: false,
        topic: message.topic,
        packet_id: 1,
        topic_alias: (target.alias != 0).then_some(target.alias),
        message_expiry_interval: message.expiry_s,
        subscription_identifiers: target.identifiers.of(identifiers),
        properties: message.properties,
        payload_len: message.payload.bytes.len(),
    })
}

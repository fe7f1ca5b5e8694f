//! A message of a group: while it waits, when it is sent, when it is given up.

use std::net::IpAddr;
use std::rc::Rc;

use waypost_balance::{MemberId, Request};
use waypost_mqtt::QoS;

use super::key_property;
use crate::effects::{Now, ShardId};
use crate::journal::MessageId;
use crate::queue::StoredMessage;

/// Why a group gave a message up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    Refused,
    TooLarge,
    MaxDeliveries,
    QueueFull,
    Expired,
    SessionEnded,
}

/// Where a message comes from, as far as a strategy may ask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender {
    pub publisher: u64,
    pub address: Option<IpAddr>,
    pub shard: ShardId,
}

/// A message of a group that no member has yet.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// Its place in the group's order.
    pub order: u64,
    pub message: Rc<StoredMessage>,
    pub qos: QoS,
    pub retain: bool,
    pub sender: Sender,
    /// How often it was sent to a member.
    pub deliveries: u32,
    /// What the strategy gave for it, once it is some member's.
    pub token: Option<u64>,
    /// Members whose Maximum Packet Size is less than it needs.
    pub too_large_for: Vec<MemberId>,
    /// The group's queue in the store is owed it.
    pub debt: Option<MessageId>,
}

impl Waiting {
    pub fn new(message: Rc<StoredMessage>, qos: QoS, retain: bool, sender: Sender) -> Self {
        Self {
            order: 0,
            message,
            qos,
            retain,
            sender,
            deliveries: 0,
            token: None,
            too_large_for: Vec::new(),
            debt: None,
        }
    }

    pub fn request(&self, now: Now) -> Request<'_> {
        request(
            self.message.topic(),
            self.message.properties(),
            self.sender,
            now,
        )
    }
}

/// What a strategy is asked.
#[inline]
pub(crate) fn request<'a>(
    topic: &'a str,
    properties: &'a [u8],
    sender: Sender,
    now: Now,
) -> Request<'a> {
    Request {
        topic,
        key: key_property(properties),
        publisher: sender.publisher,
        address: sender.address,
        shard: sender.shard.0,
        now_us: now.monotonic_ms * 1000,
    }
}

/// A message that was given up, and who had it last.
#[derive(Debug)]
pub(crate) struct Dropped {
    pub waiting: Waiting,
    pub reason: Given,
    pub client_id: Option<Box<str>>,
}

/// What a change of members led to, beside the group itself.
#[derive(Debug, Default)]
pub(crate) struct Aftermath {
    /// Deliveries taken back from members that are away.
    pub taken_back: Vec<(MemberId, u32)>,
    pub dropped: Vec<Dropped>,
    /// What the store owes no more.
    pub finished: Vec<MessageId>,
}

/// What is to be done next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Send the next message to the member at this place: [`Group::begin`].
    Send(usize),
    Drop(Dropped),
    Idle,
}

/// A delivery that begins.
#[derive(Debug)]
pub(crate) struct Begun {
    pub id: MemberId,
    /// Its number in the group; `None` at `QoS` 0.
    pub number: Option<u32>,
    pub message: Rc<StoredMessage>,
    pub qos: QoS,
    pub retain: bool,
    /// The group's queue in the store is owed it.
    pub debt: Option<MessageId>,
}

//! What one shard sends another: a batch of mail, first in, first out.
//!
//! A publish crosses as plain bytes appended to the batch's run, so that forwarding allocates nothing in steady
//! state; everything rarer is a [`Mail`] of its own, whose place among the publishes the run remembers.

use crate::effects::{Message, Payload};
use waypost_mqtt::QoS;

/// What rarely crosses between shards.
#[derive(Debug)]
pub(crate) enum Mail {}

/// How a message came in, beyond what [`Message`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub qos: QoS,
    pub retain: bool,
    /// Hash of the publisher's client id (No Local); 0 = the server itself.
    pub publisher: u64,
    /// Lamport stamp of a retained publish; 0 for others.
    pub stamp: u64,
}

/// Everything one shard sends another in one tick.
#[derive(Debug, Default)]
pub struct MailBatch {
    run: Vec<u8>,
    mails: Vec<Mail>,
    clock: u64,
}

const PUBLISH: u8 = 1;
const MAIL: u8 = 2;
const RETAIN: u8 = 0b100;
const EXPIRES: u8 = 0b1000;
const HEAD_LEN: usize = 32;

/// One thing out of a batch.
pub(crate) enum Item<'a> {
    Publish(Message<'a>, Origin),
    Mail(Mail),
}

impl MailBatch {
    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.run.is_empty()
    }

    /// Bytes of the messages in it.
    pub fn bytes(&self) -> usize {
        self.run.len()
    }

    pub(crate) fn push(&mut self, mail: Mail) {
        self.run.push(MAIL);
        self.mails.push(mail);
    }

    /// Raises the sender's Lamport clock that travels with the batch.
    pub(crate) fn raise_clock(&mut self, clock: u64) {
        self.clock = self.clock.max(clock);
    }

    pub(crate) fn clock(&self) -> u64 {
        self.clock
    }

    pub(crate) fn push_publish(&mut self, message: &Message<'_>, origin: Origin) {
        let (Ok(topic_len), Ok(properties_len), Ok(payload_len)) = (
            u16::try_from(message.topic.len()),
            u32::try_from(message.properties.len()),
            u32::try_from(message.payload.bytes.len()),
        ) else {
            return;
        };
        let mut flags = u8::from(origin.qos);
        if origin.retain {
            flags |= RETAIN;
        }
        if message.expiry_s.is_some() {
            flags |= EXPIRES;
        }
        let mut head = [0; HEAD_LEN];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            if let Some(place) = head.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
            at += bytes.len();
        };
        put(&[PUBLISH, flags]);
        put(&topic_len.to_le_bytes());
        put(&properties_len.to_le_bytes());
        put(&payload_len.to_le_bytes());
        put(&message.expiry_s.unwrap_or_default().to_le_bytes());
        put(&origin.publisher.to_le_bytes());
        put(&origin.stamp.to_le_bytes());
        self.run.extend_from_slice(&head);
        self.run.extend_from_slice(message.topic.as_bytes());
        self.run.extend_from_slice(message.properties);
        self.run.extend_from_slice(message.payload.bytes);
    }

    pub(crate) fn into_parts(self) -> (Vec<u8>, std::vec::IntoIter<Mail>) {
        (self.run, self.mails.into_iter())
    }
}

/// Reads the next thing at `at`. `None` at the end, or `Some(Err)` when the run cannot be read on.
pub(crate) fn next_item<'a>(
    run: &'a [u8],
    mails: &mut std::vec::IntoIter<Mail>,
    at: &mut usize,
) -> Option<Result<Item<'a>, ()>> {
    let rest = run.get(*at..).filter(|rest| !rest.is_empty())?;
    let mut reader = Reader { rest };
    let item = reader.item(mails);
    *at = run.len() - reader.rest.len();
    Some(item.ok_or(()))
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn item(&mut self, mails: &mut std::vec::IntoIter<Mail>) -> Option<Item<'a>> {
        match self.array::<1>()? {
            [PUBLISH] => {
                let [flags] = self.array()?;
                let topic_len = u16::from_le_bytes(self.array()?);
                let properties_len = u32::from_le_bytes(self.array()?);
                let payload_len = u32::from_le_bytes(self.array()?);
                let expiry_s = u32::from_le_bytes(self.array()?);
                let publisher = u64::from_le_bytes(self.array()?);
                let stamp = u64::from_le_bytes(self.array()?);
                let topic = std::str::from_utf8(self.take(topic_len.into())?).ok()?;
                let properties = self.take(properties_len as usize)?;
                let payload = self.take(payload_len as usize)?;
                let message = Message {
                    topic,
                    payload: Payload {
                        bytes: payload,
                        shared: None,
                    },
                    properties,
                    expiry_s: (flags & EXPIRES != 0).then_some(expiry_s),
                    verbatim: None,
                };
                let qos = QoS::try_from(flags & 0b11).ok()?;
                Some(Item::Publish(
                    message,
                    Origin {
                        qos,
                        retain: flags & RETAIN != 0,
                        publisher,
                        stamp,
                    },
                ))
            }
            [MAIL] => mails.next().map(Item::Mail),
            _ => None,
        }
    }
}

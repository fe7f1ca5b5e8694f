//! What one shard sends another: a batch of mail, first in, first out.
//!
//! A publish crosses as plain bytes appended to the batch's run, so that forwarding allocates nothing in steady
//! state; everything rarer is a [`Mail`] of its own, whose place among the publishes the run remembers.

use waypost_mqtt::QoS;

use crate::effects::{Message, Payload, ShardId};
use crate::index::Cursor;
use crate::parcel::{OwedParcel, Parcel, RetainedParcel};

/// What rarely crosses between shards.
#[derive(Debug)]
pub(crate) enum Mail {
    /// The sender's first subscriber to a filter came, or its last one went.
    Interest { filter: Box<str>, is_wanted: bool },
    /// Confirm everything sent so far.
    Round { number: u64 },
    /// Everything up to this round is known; what the sender stamps from now on is above `clock`.
    Confirmed { number: u64, clock: u64 },
    /// The sender has a CONNECT with this client id. To its registrar.
    Claim(Claim),
    /// Nobody else has a session of that id. From the registrar.
    Granted { number: u64 },
    /// Give the session up to whoever claims it. From the registrar to the owner.
    Yield(Claim),
    /// The session is another user's. From the owner to the claimant.
    Refused { number: u64 },
    /// The session, if it is to live on. From the old owner to the new one.
    Shipped {
        number: u64,
        parcel: Option<Box<Parcel>>,
    },
    /// The claim came to an end. From the claimant to the registrar.
    Settled { client_id: Box<str>, owner: Settled },
    /// A session ended. From its owner to the registrar.
    Ended { client_id: Box<str> },
    /// The sender has the session now: what you publish from here on goes there directly. To everybody.
    Move { number: u64, old: ShardId },
    /// Everything before that point was sent. To the old owner and the new one.
    Moved { number: u64, new: ShardId },
    /// A message for a session that moves. From the old owner to the new one.
    Forwarded { number: u64, owed: OwedParcel },
    /// The last one was sent.
    Emptied { number: u64 },
    /// Retained messages for a SUBSCRIBE. To their owner.
    RetainedAsk {
        slot: u32,
        request: u64,
        filter: Box<str>,
        cursor: Cursor,
    },
    /// Some of them, and where to go on; nowhere if these were the last.
    RetainedAnswer {
        slot: u32,
        request: u64,
        retained: Vec<RetainedParcel>,
        cursor: Option<Cursor>,
    },
}

/// A client id claimed by the shard that has its CONNECT.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub client_id: Box<str>,
    pub user: Option<Box<str>>,
    pub clean_start: bool,
    pub shard: ShardId,
    /// The claimant's own number for it.
    pub number: u64,
}

/// Who has a session after a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    Here,
    Nobody,
    AsBefore,
}

/// How a message came in, beyond what [`Message`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub qos: QoS,
    pub retain: bool,
    /// Hash of the publisher's client id (No Local); 0 = the server itself.
    pub publisher: u64,
    /// Stamp of a retained publish; 0 for others.
    pub stamp: u64,
}

/// Everything one shard sends another in one tick.
#[derive(Debug, Default)]
pub struct MailBatch {
    run: Vec<u8>,
    mails: Vec<Mail>,
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

//! What one shard sends another: a batch of mail, first in, first out.
//!
//! A publish crosses as plain bytes appended to the batch's run, so that forwarding allocates nothing in steady
//! state; everything rarer is a [`Mail`] of its own, whose place among the publishes the run remembers.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use waypost_mqtt::{QoS, ReasonCode};

use crate::debts::Debts;
use crate::delayed::DelayedWord;
use crate::effects::{ConnectionId, Message, Payload, ShardId};
use crate::group::{Delivery, Join, Knew, MemberKey, Said, Taking, Word};
use crate::index::{Cursor, FilterId};
use crate::journal::{MessageId, QueueId, Refusal};
use crate::parcel::{OwedParcel, Parcel, RetainedParcel};
use crate::wanted::Wanted;

/// What rarely crosses between shards.
#[derive(Debug)]
pub(crate) enum Mail {
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
    /// The session is another user's, or its end could not be written down. From the owner to the claimant.
    Refused { number: u64, reason: ReasonCode },
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
    /// The last one was sent. What waits for the session in the store: messages and bytes.
    Emptied {
        number: u64,
        waiting: (usize, usize),
    },
    /// A session joins a group. To the group's home.
    Join(Box<Join>),
    /// What becomes of a member. To its group's home.
    Member { key: MemberKey, word: Word },
    /// What a group's home has to say to a member. To the member's shard.
    ToMember { key: MemberKey, said: Said },
    /// Retained messages for a SUBSCRIBE. To their owner.
    RetainedAsk(RetainedAsk),
    /// Some of them, and where to go on; nowhere if these were the last.
    RetainedAnswer {
        slot: u32,
        request: u64,
        retained: Vec<RetainedParcel>,
        cursor: Option<Cursor>,
    },
    /// Who is owed a message here. To the publisher's shard, which asked.
    Owes(Box<Debts>),
    /// What the receiver said it owes of the sender's messages up to this one is written down.
    Logged { upto: MessageId },
    /// A retained message the sender published is kept, or is not. To the owner of its topic.
    Retained { stamp: u64, is_kept: bool },
    /// The sender's messages that could not be written down: nobody is owed them.
    Unlogged { ids: Vec<MessageId> },
    /// What becomes of a delayed message. To their home.
    Delayed(DelayedWord),
    /// The answer to a question about a delayed message: whether there is, or was, one. From their home.
    DelayedKnown {
        number: u64,
        outcome: Result<bool, Refusal>,
    },
}

/// A question for retained messages.
#[derive(Debug)]
pub(crate) struct RetainedAsk {
    pub slot: u32,
    pub request: u64,
    pub filter: Box<str>,
    pub cursor: Cursor,
    /// Answer once as many retained publishes came from each shard.
    pub mailed: Box<[u64]>,
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
    /// Hash of the publisher's client id (No Local); 0 = the server itself; see also [`Self::DEAD_LETTERS`].
    pub publisher: u64,
    /// Stamp of a retained publish; 0 for others.
    pub stamp: u64,
    /// The publisher's, if it is one of this shard.
    pub connection: Option<ConnectionId>,
    /// Under which number the publisher's shard keeps it, if that waits for the debtors here.
    pub kept: Option<MessageId>,
    /// It was published before and the store refused it: only those get it whom the store would owe it to.
    pub is_again: bool,
}

impl Origin {
    /// In place of a publisher's hash: the server, of dead letters. Unlike what it says of itself, they are kept.
    pub const DEAD_LETTERS: u64 = 1;
}

/// What the sending shard knows of the receiver's interest in a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known<'a> {
    /// How many changes of the receiver's interest it has heard of.
    pub heard: u32,
    /// The receiver's filters that match, by their numbers there; `None`: too many to say.
    filters: Option<&'a [u8]>,
    /// The publisher's address.
    pub address: Option<IpAddr>,
}

impl<'a> Known<'a> {
    pub fn filters(self) -> Option<impl Iterator<Item = FilterId> + use<'a>> {
        let (numbers, _) = self.filters?.as_chunks();
        Some(
            numbers
                .iter()
                .map(|number| FilterId::from_number(u32::from_le_bytes(*number))),
        )
    }
}

/// Everything one shard sends another in one tick.
#[derive(Debug, Default)]
pub struct MailBatch {
    run: Vec<u8>,
    mails: Vec<Mail>,
}

const PUBLISH: u8 = 1;
const MAIL: u8 = 2;
const INTEREST: u8 = 3;
const DELIVERY: u8 = 4;
const DONE: u8 = 5;
const REFUSED: u8 = 6;
const RETURNED: u8 = 7;
const TAKEN: u8 = 8;
const RETAIN: u8 = 0b100;
const EXPIRES: u8 = 0b1000;
const IPV4: u8 = 0b1_0000;
const IPV6: u8 = 0b10_0000;
/// Of a delivery or a publish: it has a number.
const NUMBERED: u8 = 0b100_0000;
/// Of a delivery: the group's queue in the store is owed it.
const OWED: u8 = 0b1000_0000;
/// Of a publish: [`Origin::is_again`].
const AGAIN: u8 = 0b1000_0000;
const HEAD_LEN: usize = 37;
/// Filters a publish names at most; beyond that, the receiver looks for itself.
const FILTERS_MAX: usize = 64;
/// The capacity of a run that is worth keeping, in bytes.
const RUN_KEPT: usize = 256 * 1024;
/// In place of their number.
const FILTERS_MANY: u8 = u8::MAX;

/// One thing out of a batch.
pub(crate) enum Item<'a> {
    Publish(Message<'a>, Origin, Known<'a>),
    /// What the sender has for subscribers to a filter changed.
    Interest {
        filter: &'a str,
        filter_id: FilterId,
        wanted: Wanted,
    },
    /// A group's message, from its home.
    Delivery(Delivery<'a>),
    Mail(Mail),
}

#[cfg(test)]
impl MailBatch {
    /// One that ends in the middle of what it begins.
    pub(crate) fn cut_short() -> Self {
        Self {
            run: vec![PUBLISH],
            mails: Vec::new(),
        }
    }
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

    /// What becomes of a member.
    pub(crate) fn push_word(&mut self, key: MemberKey, word: Word) {
        let (kind, number) = match word {
            Word::Done { number } => (DONE, number),
            Word::Refused { number } => (REFUSED, number),
            Word::Returned {
                number,
                is_too_large: false,
            } => (RETURNED, number),
            Word::Taken { bytes } => (TAKEN, bytes),
            word => {
                self.push(Mail::Member { key, word });
                return;
            }
        };
        self.run.push(kind);
        self.run.extend_from_slice(&key.to_bits().to_le_bytes());
        self.run.extend_from_slice(&number.to_le_bytes());
    }

    fn push_message(&mut self, message: &Message<'_>) {
        let lens = [
            message.topic.len(),
            message.properties.len(),
            message.payload.bytes.len(),
        ];
        for len in lens {
            let len = u32::try_from(len).unwrap_or(u32::MAX);
            self.run.extend_from_slice(&len.to_le_bytes());
        }
        self.run.push(message.expiry_s.is_some().into());
        let expiry_s = message.expiry_s.unwrap_or_default();
        self.run.extend_from_slice(&expiry_s.to_le_bytes());
        self.run.extend_from_slice(message.topic.as_bytes());
        self.run.extend_from_slice(message.properties);
        self.run.extend_from_slice(message.payload.bytes);
    }

    /// A group's message, for a member on the receiver.
    pub(crate) fn push_delivery(
        &mut self,
        key: MemberKey,
        number: Option<u32>,
        knew: Knew,
        taking: &Taking<'_>,
    ) {
        let Taking {
            message,
            qos,
            retain,
            identifier,
            debt,
            ..
        } = taking;
        let mut flags = u8::from(*qos);
        if *retain {
            flags |= RETAIN;
        }
        if number.is_some() {
            flags |= NUMBERED;
        }
        if debt.is_some() {
            flags |= OWED;
        }
        self.run.extend_from_slice(&[DELIVERY, flags]);
        self.run.extend_from_slice(&key.to_bits().to_le_bytes());
        self.run
            .extend_from_slice(&number.unwrap_or_default().to_le_bytes());
        self.run.extend_from_slice(&knew.visit.to_le_bytes());
        self.run.extend_from_slice(&knew.returned.to_le_bytes());
        self.run.extend_from_slice(&identifier.to_le_bytes());
        if let Some((queue, id)) = debt {
            self.run.extend_from_slice(&queue.0.to_le_bytes());
            self.run.extend_from_slice(&id.0.to_le_bytes());
        }
        self.push_message(message);
    }

    pub(crate) fn push_interest(&mut self, filter: &str, filter_id: FilterId, wanted: Wanted) {
        let Ok(len) = u16::try_from(filter.len()) else {
            return;
        };
        self.run.extend_from_slice(&[INTEREST, wanted.to_byte()]);
        self.run.extend_from_slice(&len.to_le_bytes());
        self.run
            .extend_from_slice(&filter_id.number().to_le_bytes());
        self.run.extend_from_slice(filter.as_bytes());
    }

    pub(crate) fn push_publish(
        &mut self,
        message: &Message<'_>,
        origin: Origin,
        address: Option<IpAddr>,
        heard: u32,
        filters: &[u32],
    ) {
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
        if origin.kept.is_some() {
            flags |= NUMBERED;
        }
        if origin.is_again {
            flags |= AGAIN;
        }
        match address {
            Some(IpAddr::V4(_)) => flags |= IPV4,
            Some(IpAddr::V6(_)) => flags |= IPV6,
            None => {}
        }
        let mut fixed = [0; HEAD_LEN];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            if let Some(place) = fixed.get_mut(at..at + bytes.len()) {
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
        put(&heard.to_le_bytes());
        let (count, filters) = match u8::try_from(filters.len()) {
            Ok(count) if filters.len() <= FILTERS_MAX => (count, filters),
            _ => (FILTERS_MANY, Default::default()),
        };
        put(&[count]);
        self.run.extend_from_slice(&fixed);
        match address {
            Some(IpAddr::V4(address)) => self.run.extend_from_slice(&address.octets()),
            Some(IpAddr::V6(address)) => self.run.extend_from_slice(&address.octets()),
            None => {}
        }
        if let Some(MessageId(number)) = origin.kept {
            self.run.extend_from_slice(&number.to_le_bytes());
        }
        for number in filters {
            self.run.extend_from_slice(&number.to_le_bytes());
        }
        self.run.extend_from_slice(message.topic.as_bytes());
        self.run.extend_from_slice(message.properties);
        self.run.extend_from_slice(message.payload.bytes);
    }

    /// An empty batch that makes use of another's memory, unless that is unusually large.
    pub(crate) fn reusing(mut run: Vec<u8>) -> Self {
        if run.capacity() > RUN_KEPT {
            run = Vec::new();
        }
        run.clear();
        let mails = Vec::new();
        Self { run, mails }
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

    fn message(&mut self) -> Option<Message<'a>> {
        let [topic, properties, payload] = [self.array()?, self.array()?, self.array()?]
            .map(|len| u32::from_le_bytes(len) as usize);
        let [expires] = self.array()?;
        let expiry_s = u32::from_le_bytes(self.array()?);
        Some(Message {
            topic: std::str::from_utf8(self.take(topic)?).ok()?,
            properties: self.take(properties)?,
            payload: Payload {
                bytes: self.take(payload)?,
                shared: None,
            },
            expiry_s: (expires != 0).then_some(expiry_s),
            verbatim: None,
        })
    }

    /// `Some(None)`: the publisher has none.
    #[expect(clippy::option_option, reason = "cut short, or none there")]
    fn address(&mut self, flags: u8) -> Option<Option<IpAddr>> {
        Some(match flags & (IPV4 | IPV6) {
            IPV4 => Some(Ipv4Addr::from(self.array::<4>()?).into()),
            IPV6 => Some(Ipv6Addr::from(self.array::<16>()?).into()),
            _ => None,
        })
    }

    fn knew(&mut self) -> Option<Knew> {
        Some(Knew {
            visit: u32::from_le_bytes(self.array()?),
            returned: u32::from_le_bytes(self.array()?),
        })
    }

    fn debt(&mut self) -> Option<(QueueId, MessageId)> {
        let queue = QueueId(u64::from_le_bytes(self.array()?));
        Some((queue, MessageId(u64::from_le_bytes(self.array()?))))
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
                let heard = u32::from_le_bytes(self.array()?);
                let [count] = self.array()?;
                let address = self.address(flags)?;
                let kept = if flags & NUMBERED == 0 {
                    None
                } else {
                    Some(MessageId(u64::from_le_bytes(self.array()?)))
                };
                let filters = match count {
                    FILTERS_MANY => None,
                    count => Some(self.take(4 * usize::from(count))?),
                };
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
                        connection: None,
                        kept,
                        is_again: flags & AGAIN != 0,
                    },
                    Known {
                        heard,
                        filters,
                        address,
                    },
                ))
            }
            [INTEREST] => {
                let [wanted] = self.array()?;
                let len = u16::from_le_bytes(self.array()?);
                let filter_id = FilterId::from_number(u32::from_le_bytes(self.array()?));
                let filter = std::str::from_utf8(self.take(len.into())?).ok()?;
                Some(Item::Interest {
                    filter,
                    filter_id,
                    wanted: Wanted::from_byte(wanted)?,
                })
            }
            [DELIVERY] => {
                let [flags] = self.array()?;
                let key = MemberKey::from_bits(u64::from_le_bytes(self.array()?));
                let number = u32::from_le_bytes(self.array()?);
                let knew = self.knew()?;
                let identifier = u32::from_le_bytes(self.array()?);
                let debt = match flags & OWED {
                    0 => None,
                    _ => Some(self.debt()?),
                };
                Some(Item::Delivery(Delivery {
                    key,
                    number: (flags & NUMBERED != 0).then_some(number),
                    knew,
                    debt,
                    message: self.message()?,
                    qos: QoS::try_from(flags & 0b11).ok()?,
                    retain: flags & RETAIN != 0,
                    identifier,
                }))
            }
            [kind @ (DONE | REFUSED | RETURNED | TAKEN)] => {
                let key = MemberKey::from_bits(u64::from_le_bytes(self.array()?));
                let number = u32::from_le_bytes(self.array()?);
                let word = match kind {
                    DONE => Word::Done { number },
                    REFUSED => Word::Refused { number },
                    RETURNED => Word::returned(number),
                    _ => Word::Taken { bytes: number },
                };
                Some(Item::Mail(Mail::Member { key, word }))
            }
            [MAIL] => mails.next().map(Item::Mail),
            _ => None,
        }
    }
}

//! What is shipped between shards: owned, so that it may change threads.

use std::rc::Rc;

use waypost_mqtt::QoS;

use crate::cursor::{Cursor, Departed};
use crate::group::{Memberships, Tag};
use crate::history::Place;
use crate::index::{Cursor as RetainedCursor, Subscription};
use crate::inflight::{Identifiers, Inflight, Slot, Waits};
use crate::journal::{MessageId, QueueId};
use crate::queue::{Owed, StoredMessage};
use crate::retained::Retained;
use crate::retained_request::RetainedRequest;
use crate::session::{Delivery, Received, Session};
use crate::unsettled::Settled;

/// A whole session.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub client_id: Box<str>,
    number: Option<QueueId>,
    pub user: Option<Box<str>>,
    pub publisher: u64,
    pub expiry_s: u32,
    pub subscriptions: Vec<(String, Subscription)>,
    memberships: Option<Box<Memberships>>,
    pub received: Option<Box<Received>>,
    inflight: Vec<SlotParcel>,
    last_id: u16,
    queue: Vec<OwedParcel>,
    retained: Vec<RequestParcel>,
    dropped: u64,
    /// Of a session that the store keeps.
    departed: Option<Departed>,
    /// What it was settled, whether the store knows or not.
    pub settled: Vec<Settled>,
    /// What it is owed until the shard it leaves has buried it.
    pub dying: Vec<(QueueId, MessageId)>,
    /// Its subscriptions that read streams, and how far they have come.
    pub readers: Vec<(Box<str>, Place)>,
}

#[derive(Debug)]
struct SlotParcel {
    packet_id: u16,
    waits: Waits,
    retain: bool,
    message: Option<MessageParcel>,
    identifiers: Identifiers,
    tag: Option<Tag>,
    debt: Option<MessageId>,
    is_held: bool,
    is_new: bool,
}

/// A message owed to one session.
#[derive(Debug)]
pub(crate) struct OwedParcel {
    message: MessageParcel,
    identifiers: Identifiers,
    qos: QoS,
    retain: bool,
}

/// A message.
#[derive(Debug)]
pub(crate) struct MessageParcel {
    topic: Box<str>,
    properties: Box<[u8]>,
    payload: Box<[u8]>,
    /// All shards of a server have one monotonic clock.
    expires_ms: u64,
}

/// A retained message.
#[derive(Debug)]
pub(crate) struct RetainedParcel {
    message: MessageParcel,
    qos: QoS,
    publisher: u64,
    stamp: u64,
}

#[derive(Debug)]
struct RequestParcel {
    filter: Box<str>,
    qos: QoS,
    identifier: u32,
    no_local: bool,
    confirmed: Box<[u64]>,
    owner: u16,
    cursor: RetainedCursor,
    ready: Vec<RetainedParcel>,
    is_read: bool,
}

impl Parcel {
    /// Packs a session without its subscriptions' index entries.
    pub fn new(
        session: Session,
        departed: Option<Departed>,
        settled: Vec<Settled>,
        subscriptions: Vec<(String, Subscription)>,
    ) -> Self {
        let number = session.number();
        let Delivery {
            inflight,
            mut queue,
            retained,
            dropped,
            ..
        } = session
            .delivery
            .map(|delivery| *delivery)
            .unwrap_or_default();
        let (slots, last_id) = inflight.into_slots();
        let inflight = slots
            .map(|slot| SlotParcel {
                packet_id: slot.packet_id,
                waits: slot.waits,
                retain: slot.retain,
                message: slot.message.as_deref().map(MessageParcel::new),
                identifiers: slot.identifiers,
                tag: slot.tag,
                debt: slot.debt,
                is_held: slot.is_held,
                is_new: slot.is_new,
            })
            .collect();
        Self {
            client_id: session.client_id,
            number,
            user: session.user,
            publisher: session.publisher,
            expiry_s: session.expiry_s,
            subscriptions,
            memberships: session.memberships,
            received: session.received,
            inflight,
            last_id,
            queue: std::iter::from_fn(|| queue.pop())
                .map(|owed| OwedParcel::new(&owed))
                .collect(),
            retained: retained.into_iter().map(RequestParcel::new).collect(),
            dropped,
            departed,
            settled,
            dying: Vec::new(),
            readers: Vec::new(),
        }
    }

    /// Unpacks the session; its subscriptions are left to be added.
    pub fn open(self) -> (Session, Vec<(String, Subscription)>) {
        let mut session = Session::new(self.client_id, self.user, self.publisher);
        session.set_number(self.number);
        session.expiry_s = self.expiry_s;
        session.received = self.received;
        if let Some(received) = &mut session.received {
            received.begin_anew();
        }
        session.memberships = self.memberships;
        let slots = self.inflight.into_iter().map(|slot| Slot {
            packet_id: slot.packet_id,
            waits: slot.waits,
            retain: slot.retain,
            sent: false,
            message: slot.message.map(MessageParcel::open),
            identifiers: slot.identifiers,
            tag: slot.tag,
            debt: slot.debt,
            is_held: slot.is_held,
            is_new: slot.is_new,
        });
        let mut delivery = Delivery {
            inflight: Inflight::from_slots(slots, self.last_id),
            retained: self.retained.into_iter().map(RequestParcel::open).collect(),
            dropped: self.dropped,
            cursor: self.departed.map(Cursor::from).unwrap_or_default(),
            ..Delivery::default()
        };
        for owed in self.queue {
            // It was within the bounds where it comes from.
            let _ = delivery.queue.push(owed.open(), usize::MAX, usize::MAX);
        }
        delivery.retained_after = delivery.queue.tail();
        delivery.retained_after_stored = delivery.cursor.tail();
        session.delivery = Some(Box::new(delivery));
        (session, self.subscriptions)
    }
}

impl OwedParcel {
    pub fn new(owed: &Owed) -> Self {
        Self {
            message: MessageParcel::new(&owed.message),
            identifiers: owed.identifiers.clone(),
            qos: owed.qos,
            retain: owed.retain,
        }
    }

    pub fn open(self) -> Owed {
        let Self {
            message,
            identifiers,
            qos,
            retain,
        } = self;
        Owed {
            message: message.open(),
            identifiers,
            qos,
            retain,
        }
    }
}

impl MessageParcel {
    fn new(message: &StoredMessage) -> Self {
        Self {
            topic: message.topic().into(),
            properties: message.properties().into(),
            payload: message.payload().bytes.into(),
            expires_ms: message.expires_ms,
        }
    }

    fn open(self) -> Rc<StoredMessage> {
        let Self {
            topic,
            properties,
            payload,
            expires_ms,
        } = self;
        Rc::new(StoredMessage::from_parts(
            topic, properties, payload, expires_ms,
        ))
    }

    fn bytes(&self) -> usize {
        self.topic.len() + self.properties.len() + self.payload.len()
    }
}

impl RetainedParcel {
    pub fn new(retained: &Retained) -> Self {
        Self {
            message: MessageParcel::new(&retained.message),
            qos: retained.qos,
            publisher: retained.publisher,
            stamp: retained.stamp,
        }
    }

    pub fn open(self) -> Retained {
        let Self {
            message,
            qos,
            publisher,
            stamp,
        } = self;
        Retained {
            message: message.open(),
            qos,
            publisher,
            stamp,
        }
    }

    pub fn bytes(&self) -> usize {
        self.message.bytes()
    }
}

impl RequestParcel {
    fn new(request: RetainedRequest) -> Self {
        Self {
            filter: request.filter,
            qos: request.qos,
            identifier: request.identifier,
            no_local: request.no_local,
            confirmed: request.confirmed,
            owner: request.owner,
            cursor: request.cursor,
            ready: request.ready.iter().map(RetainedParcel::new).collect(),
            is_read: request.is_read,
        }
    }

    fn open(self) -> RetainedRequest {
        RetainedRequest {
            filter: self.filter,
            qos: self.qos,
            identifier: self.identifier,
            no_local: self.no_local,
            confirmed: self.confirmed,
            owner: self.owner,
            cursor: self.cursor,
            ready: self.ready.into_iter().map(RetainedParcel::open).collect(),
            is_read: self.is_read,
            overtaken: Vec::new(),
            asked: 0,
        }
    }
}

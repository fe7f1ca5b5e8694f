//! The sessions of a shard: what is kept of a client, with or without its connection.

use core::net::SocketAddr;
use core::num::NonZeroU64;
use std::collections::VecDeque;

use hashbrown::HashTable;
use waypost_mqtt::PacketId;

use crate::cursor::Cursor;
use crate::effects::ConnectionId;
use crate::group::Memberships;
use crate::hash::{Hasher, content_hash};
use crate::history::Readers;
use crate::index::{FilterId, SubscriberId};
use crate::inflight::Inflight;
use crate::journal::QueueId;
use crate::moving::Moving;
use crate::queue::Queue;
use crate::retained_request::RetainedRequest;
use crate::rows::{WILL_KEY_BYTES, WillNumber, will_key};
use crate::timers::NEVER;
use crate::will::Will;

/// A Session Expiry Interval that never runs out (5 §3.1.2.11.2).
pub(crate) const EXPIRY_NEVER_S: u32 = u32::MAX;

#[derive(Debug)]
pub(crate) struct Session {
    pub client_id: Box<str>,
    number: Option<NonZeroU64>,
    /// The user who made it; `None` = anonymous.
    pub user: Option<Box<str>>,
    /// The same on all shards: whose messages these are.
    pub publisher: u64,
    pub connection: Option<ConnectionId>,
    /// Where its last connection came from, once that is gone.
    pub address: Option<Box<SocketAddr>>,
    pub expiry_s: u32,
    /// Messages the present connection takes unacknowledged.
    pub window: u16,
    /// A connection ends only because another takes the session up.
    pub is_taken_over: bool,
    /// When it ends, while there is no connection.
    pub ends_ms: u64,
    pub will: Option<Box<Will>>,
    /// The number of the will that has a row.
    pub will_row: Option<WillNumber>,
    /// In ascending order.
    pub subscriptions: Vec<FilterId>,
    pub memberships: Option<Box<Memberships>>,
    pub delivery: Option<Box<Delivery>>,
    /// `QoS` 2 messages taken over and not released, in the order they came.
    pub received: Option<Box<Received>>,

    /// While it changes shards.
    pub moving: Option<Box<Moving>>,
}

impl Session {
    pub fn new(client_id: Box<str>, user: Option<Box<str>>, publisher: u64) -> Self {
        Self {
            client_id,
            number: None,
            user,
            publisher,
            connection: None,
            address: None,
            expiry_s: 0,
            window: 0,
            is_taken_over: false,
            ends_ms: NEVER,
            will: None,
            will_row: None,
            subscriptions: Vec::new(),
            memberships: None,
            delivery: None,
            received: None,
            moving: None,
        }
    }

    /// What it is owed messages under; `None`: it does not outlive the process.
    pub fn number(&self) -> Option<QueueId> {
        self.number.map(|number| QueueId(number.get()))
    }

    pub fn set_number(&mut self, number: Option<QueueId>) {
        self.number = number.and_then(|number| NonZeroU64::new(number.0));
    }

    /// Whether it outlives its connection.
    pub fn is_persistent(&self) -> bool {
        self.expiry_s > 0
    }

    /// Subscriptions it has, those to groups included.
    pub fn subscription_count(&self) -> usize {
        let memberships = self.memberships.as_ref();
        let readers = self.delivery.as_ref().map_or(0, |it| it.readers.len());
        self.subscriptions.len() + memberships.map_or(0, |memberships| memberships.len()) + readers
    }

    pub fn delivery(&mut self) -> &mut Delivery {
        let window = self.window;
        self.delivery.get_or_insert_with(|| {
            let mut delivery = Box::<Delivery>::default();
            delivery.inflight.window = window;
            delivery
        })
    }

    /// The key of its will's row, which is somebody else's to delete from now on.
    pub fn take_will_row(&mut self) -> Option<[u8; WILL_KEY_BYTES]> {
        let number = self.will_row.take();
        Some(will_key(self.number()?, number?))
    }

    fn deadline_ms(&self) -> u64 {
        let will_ms = self.will.as_ref().map_or(NEVER, |will| will.next_due_ms());
        let delivery = self.delivery.as_ref();
        let resume_ms = delivery.and_then(|delivery| delivery.resume_ms);
        self.ends_ms.min(will_ms).min(resume_ms.unwrap_or(NEVER))
    }

    /// Whether this `QoS` 2 message was taken over and not released yet.
    pub fn has_received(&self, packet_id: u16) -> bool {
        self.received
            .as_ref()
            .is_some_and(|received| received.ids.iter().any(|(id, _)| *id == packet_id))
    }

    /// `QoS` 2 messages taken over and not released.
    pub fn received_count(&self) -> usize {
        self.received
            .as_ref()
            .map_or(0, |received| received.ids.len())
    }

    /// A `QoS` 2 message is taken over; `has_row` says whether that is written down.
    pub fn receive(&mut self, packet_id: u16, has_row: bool) {
        self.received
            .get_or_insert_default()
            .ids
            .push_back((packet_id, has_row));
    }

    /// At a start: a message was taken over, with this content.
    pub fn restore_received(&mut self, packet_id: u16, content: Option<u64>) {
        self.receive(packet_id, true);
        if let (Some(content), Some(received)) = (content, &mut self.received) {
            received.contents.push((packet_id, content));
        }
    }

    /// Whether a message was taken over already. One taken over under its identifier before the start may be another: it
    /// was refused, and on disk all the same, as the machine stopped before it could be taken back there.
    pub fn has_received_before(&mut self, packet_id: u16, payload: &[u8]) -> bool {
        let mut contents = self.received.iter().flat_map(|received| &received.contents);
        if contents.any(|(id, before)| *id == packet_id && *before != content_hash(payload)) {
            self.release_received(packet_id);
        }
        self.has_received(packet_id)
    }

    /// The client released it; says whether it has a row. `None` if there was nothing to release.
    pub fn release_received(&mut self, packet_id: u16) -> Option<bool> {
        let received = self.received.as_mut()?;
        let at = received.ids.iter().position(|(id, _)| *id == packet_id)?;
        let (_, has_row) = received.ids.remove(at)?;
        received.contents.retain(|(id, _)| *id != packet_id);
        if received.ids.is_empty() && received.ids.capacity() > 64 {
            received.ids = VecDeque::new();
        }
        Some(has_row)
    }

    /// Whether nothing is sent under an identifier.
    pub fn is_free(&self, packet_id: PacketId) -> bool {
        let delivery = self.delivery.as_ref();
        delivery.is_none_or(|delivery| !delivery.inflight.is_in_use(packet_id))
    }

    /// How many of them wait for the store to keep them.
    pub fn unstored(&self) -> u16 {
        let received = self.received.as_ref();
        received.map_or(0, |received| received.unstored)
    }

    /// One more does, or one less.
    pub fn wait_for_store(&mut self, waits: bool) {
        let unstored = &mut self.received.get_or_insert_default().unstored;
        *unstored = if waits {
            unstored.saturating_add(1)
        } else {
            unstored.saturating_sub(1)
        };
    }

    /// Those of them that have rows.
    pub fn received_rows(&self) -> impl Iterator<Item = u16> {
        let ids = self.received.iter().flat_map(|received| &received.ids);
        ids.filter(|(_, has_row)| *has_row).map(|(id, _)| *id)
    }
}

/// Identifiers of `QoS` 2 messages taken over and not released, in the order they came. Only sessions that ever sent
/// one have it.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// Each with whether it has a row.
    ids: VecDeque<(u16, bool)>,
    /// Of those taken over before the start, what they were.
    contents: Vec<(u16, u64)>,
    /// How many are not kept yet, and will be.
    unstored: u16,
    /// Tells this session from others that were or will be in its slot, of the same client too.
    era: u32,
}

impl Received {
    /// Its session came to another shard, where nothing waits for it.
    pub fn begin_anew(&mut self) {
        self.era = 0;
    }
}

/// A `QoS` 2 message of a session of this shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReceivedId {
    pub slot: u32,
    /// Another session may be in the slot by now.
    pub era: u32,
    pub packet_id: u16,
}

/// Everything on its way to one client at `QoS` 1 and 2. Only sessions that ever had such a message have it.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    pub inflight: Inflight,
    pub queue: Queue,
    /// Retained messages a SUBSCRIBE asked for.
    pub retained: VecDeque<RetainedRequest>,
    /// Place in the queue from which on the retained messages may go, so that they do not overtake what the queue
    /// held when they were asked for.
    pub retained_after: u64,
    /// The outbox is too full: everything waits in the queue until it says that it has room.
    pub is_slow: bool,
    /// When what waits is to be sent on, though nothing happened.
    pub resume_ms: Option<u64>,
    /// Where it stands in its queue in the store, if it has one.
    pub cursor: Cursor,
    /// Place in that queue from which on the retained messages may go.
    pub retained_after_stored: u64,
    /// Messages this client lost because its queue was full.
    pub dropped: u64,
    /// Subscriptions that read streams.
    pub readers: Readers,
}

impl Delivery {
    /// Whether a message may go to the client at once.
    pub fn is_live(&self) -> bool {
        !self.is_slow && self.queue.is_empty() && self.cursor.is_live() && self.inflight.has_room()
    }

    /// Whether anything waits to be sent.
    pub fn is_waiting(&self) -> bool {
        !self.queue.is_empty()
            || !self.retained.is_empty()
            || self.inflight.has_resends()
            || self.cursor.wants_read()
            || self.cursor.front().is_some()
            || self.readers.is_waiting()
    }

    /// Whether what is retained would overtake nothing that was owed when it was asked for.
    pub fn is_turn_of_retained(&self) -> bool {
        (self.queue.is_empty() || self.queue.head() >= self.retained_after)
            && (self.cursor.is_live() || self.cursor.head() >= self.retained_after_stored)
    }

    /// Messages that wait to be sent.
    pub fn waiting(&self) -> usize {
        self.queue.len() + self.cursor.waiting()
    }

    /// Messages that would be lost with the session.
    pub fn owed(&self) -> usize {
        self.waiting() + self.inflight.owed()
    }
}

/// What the fan-out needs to know of a session, and nothing else: eight bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Port {
    connection: u32,
    flags: u8,
}

const _: () = assert!(size_of::<Port>() == 8, "eight to a cache line");

impl Port {
    const NONE: Self = Self {
        connection: u32::MAX,
        flags: 0,
    };
    const V5: u8 = 1;
    const CAREFUL: u8 = 2;

    pub fn new(connection: ConnectionId, is_v5: bool, careful: bool) -> Self {
        let v5 = if is_v5 { Self::V5 } else { 0 };
        let careful = if careful { Self::CAREFUL } else { 0 };
        Self {
            connection: connection.0,
            flags: v5 | careful,
        }
    }

    #[inline]
    pub fn connection(self) -> Option<ConnectionId> {
        (self.connection != u32::MAX).then_some(ConnectionId(self.connection))
    }

    #[inline]
    pub fn is_v5(self) -> bool {
        self.flags & Self::V5 != 0
    }

    /// The connection has Topic Aliases or a Maximum Packet Size.
    #[inline]
    pub fn is_careful(self) -> bool {
        self.flags & Self::CAREFUL != 0
    }
}

/// Numbers are given one after the other by the server itself.
fn hash_of(number: QueueId) -> u64 {
    number.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[derive(Debug)]
struct Place {
    session: Option<Session>,
    /// When the timer of this slot fires; it survives the session.
    armed_ms: u64,
}

pub(crate) struct Sessions {
    places: Vec<Place>,
    ports: Vec<Port>,
    free: Vec<u32>,
    by_client_id: HashTable<u32>,
    /// Those that the store keeps.
    by_number: HashTable<u32>,
    hasher: Hasher,
    /// The last that was given.
    eras: u32,
}

impl Sessions {
    pub fn new(hasher: Hasher) -> Self {
        Self {
            places: Vec::new(),
            ports: Vec::new(),
            free: Vec::new(),
            by_client_id: HashTable::new(),
            by_number: HashTable::new(),
            hasher,
            eras: 0,
        }
    }

    pub fn find(&self, client_id: &str) -> Option<u32> {
        let same = |slot: &u32| {
            self.get(*slot)
                .is_some_and(|session| *session.client_id == *client_id)
        };
        self.by_client_id
            .find(self.hasher.hash(client_id), same)
            .copied()
    }

    /// The session that is owed messages under this number.
    pub fn find_number(&self, number: QueueId) -> Option<u32> {
        let same = |slot: &u32| {
            self.get(*slot)
                .is_some_and(|session| session.number() == Some(number))
        };
        self.by_number.find(hash_of(number), same).copied()
    }

    /// A session is owed messages under this number from now on.
    pub fn number(&mut self, slot: u32, number: QueueId) {
        if let Some(session) = self.get_mut(slot) {
            session.set_number(Some(number));
            self.note_number(slot, number);
        }
    }

    fn note_number(&mut self, slot: u32, number: QueueId) {
        let places = &self.places;
        self.by_number.insert_unique(hash_of(number), slot, |slot| {
            let place = places.get(*slot as usize);
            let session = place.and_then(|place| place.session.as_ref());
            session.and_then(Session::number).map_or(0, hash_of)
        });
    }

    pub fn insert(&mut self, session: Session) -> u32 {
        let number = session.number();
        let hash = self.hasher.hash(&session.client_id);
        let slot = self.free.pop().unwrap_or_else(|| {
            if self.places.len() == self.places.capacity() {
                // An eighth more, not twice as many: memory per idle connection is counted.
                let more = (self.places.len() / 8).max(16);
                self.places.reserve_exact(more);
                self.ports.reserve_exact(more);
            }
            self.places.push(Place {
                session: None,
                armed_ms: NEVER,
            });
            self.ports.push(Port::NONE);
            u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(place) = self.places.get_mut(slot as usize) {
            place.session = Some(session);
        }
        let (places, hasher) = (&self.places, &self.hasher);
        self.by_client_id.insert_unique(hash, slot, |slot| {
            let place = places
                .get(*slot as usize)
                .and_then(|place| place.session.as_ref());
            place.map_or(0, |session| hasher.hash(&session.client_id))
        });
        if let Some(number) = number {
            self.note_number(slot, number);
        }
        slot
    }

    pub fn remove(&mut self, slot: u32) -> Option<Session> {
        let session = self.depart(slot)?;
        self.free.push(slot);
        Some(session)
    }

    /// Takes a session out that moves away. Its slot stays taken, and nobody finds it by its client id.
    pub fn depart(&mut self, slot: u32) -> Option<Session> {
        let session = self.places.get_mut(slot as usize)?.session.take()?;
        let hash = self.hasher.hash(&session.client_id);
        if let Ok(entry) = self.by_client_id.find_entry(hash, |other| *other == slot) {
            entry.remove();
        }
        if let Some(number) = session.number()
            && let Ok(entry) = self
                .by_number
                .find_entry(hash_of(number), |other| *other == slot)
        {
            entry.remove();
        }
        self.set_port(slot, Port::NONE);
        Some(session)
    }

    /// Puts what stays behind in the slot of one that moved away.
    pub fn leave(&mut self, slot: u32, session: Session) {
        if let Some(place) = self.places.get_mut(slot as usize) {
            place.session = Some(session);
        }
    }

    /// A session on its way.
    pub fn moving(&mut self, slot: u32) -> Option<&mut Moving> {
        self.get_mut(slot)?.moving.as_deref_mut()
    }

    /// What tells the session in a slot, which has taken over a `QoS` 2 message, from others there.
    pub fn received_era(&mut self, slot: u32) -> u32 {
        let place = self.places.get_mut(slot as usize);
        let session = place.and_then(|place| place.session.as_mut());
        let Some(received) = session.and_then(|session| session.received.as_mut()) else {
            return 0;
        };
        if received.era == 0 {
            self.eras = self.eras.checked_add(1).unwrap_or(1);
            received.era = self.eras;
        }
        received.era
    }

    /// The session that published this, if it is still there.
    pub fn received_by(&mut self, received: ReceivedId) -> Option<&mut Session> {
        let session = self.get_mut(received.slot)?;
        let era = session.received.as_ref()?.era;
        (era == received.era).then_some(session)
    }

    #[inline]
    pub fn get(&self, slot: u32) -> Option<&Session> {
        self.places.get(slot as usize)?.session.as_ref()
    }

    #[inline]
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut Session> {
        self.places.get_mut(slot as usize)?.session.as_mut()
    }

    /// The session's deadline, and what its slot remembers of its timer.
    pub fn deadline(&mut self, slot: u32) -> Option<(u64, &mut u64)> {
        let place = self.places.get_mut(slot as usize)?;
        let due_ms = place.session.as_ref().map_or(NEVER, Session::deadline_ms);
        Some((due_ms, &mut place.armed_ms))
    }

    pub fn is_armed_at(&self, slot: u32, due_ms: u64) -> bool {
        self.places
            .get(slot as usize)
            .is_some_and(|place| place.armed_ms == due_ms)
    }

    #[inline]
    pub fn port(&self, subscriber: SubscriberId) -> Port {
        self.ports
            .get(subscriber.0 as usize)
            .copied()
            .unwrap_or(Port::NONE)
    }

    pub fn set_port(&mut self, slot: u32, port: Port) {
        if let Some(place) = self.ports.get_mut(slot as usize) {
            *place = port;
        }
    }

    pub fn clear_port(&mut self, slot: u32) {
        self.set_port(slot, Port::NONE);
    }

    pub fn len(&self) -> usize {
        self.by_client_id.len()
    }

    /// Slots there are, free ones included.
    pub fn slots(&self) -> usize {
        self.places.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Session> {
        self.places
            .iter()
            .filter_map(|place| place.session.as_ref())
    }
}

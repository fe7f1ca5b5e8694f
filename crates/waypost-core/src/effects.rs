//! What the core asks of the world: the [`Effects`] sink, and the small types that pass through it.
//!
//! The shard implements [`Effects`]; the core calls it and is never called back from inside it. Not here: sockets,
//! outboxes, clocks and the encoding of packets.

use core::net::SocketAddr;
use std::rc::Rc;

use waypost_mqtt::{Packet, QoS};

use crate::journal::Journal;
use crate::mail::MailBatch;

/// A connection: the server's slab index. It is the server's to reuse once the core closed it ([`Effects::close`]) or
/// was told that it is gone (`Broker::handle_closed`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u32);

/// A shard: one thread with its loop and its sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

/// The time, given to the core with every call. Everything is counted on the monotonic clock; the wall clock only
/// dates what people read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Now {
    /// Milliseconds on a clock that never goes back.
    pub monotonic_ms: u64,
    /// Milliseconds since 1970-01-01 00:00 UTC.
    pub wall_ms: u64,
}

/// Who is at the other end of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Peer<'a> {
    /// The network address, where the transport has one.
    pub address: Option<SocketAddr>,
    /// The names its verified certificate gives it, as `kind=value` (`cn=alice`, `dns=…`, `email=…`, `uri=…`,
    /// `sha256=…`); none without one.
    pub certificate: &'a [String],
}

/// One whole packet's bytes as they came in.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The packet, fixed header included.
    pub bytes: &'a [u8],
    /// The allocation `bytes` lies in, when the packet had a buffer of its own (large packets).
    pub shared: Option<&'a Rc<Vec<u8>>>,
}

/// A payload to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Payload<'a> {
    /// The payload.
    pub bytes: &'a [u8],
    /// The allocation `bytes` lies in, if there is one to share: clone it instead of copying the bytes.
    pub shared: Option<&'a Rc<Vec<u8>>>,
}

/// A message on its way to any number of connections: what is the same for all of them.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The Topic Name.
    pub topic: &'a str,
    /// The payload.
    pub payload: Payload<'a>,
    /// MQTT 5 properties to be forwarded unaltered and in order: validated, without length prefix, without Topic
    /// Alias, Message Expiry Interval and Subscription Identifier.
    pub properties: &'a [u8],
    /// Message Expiry Interval to be sent, in seconds: what is left of it.
    pub expiry_s: Option<u32>,
    /// The incoming packet, when it is byte for byte what a 3.1.1 or 3.1 subscriber at `QoS` 0 with RETAIN 0 gets.
    pub verbatim: Option<&'a [u8]>,
}

/// A run of Subscription Identifiers inside the slice given to [`Effects::deliver_many`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct IdentifierRange {
    /// Index of the first.
    pub start: u32,
    /// How many.
    pub len: u16,
}

impl IdentifierRange {
    /// The identifiers themselves; empty when the range does not lie in `all`.
    pub fn of(self, all: &[u32]) -> &[u32] {
        let start = self.start as usize;
        all.get(start..start + usize::from(self.len))
            .unwrap_or_default()
    }
}

/// What differs in the first byte and the shape of one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct DeliveryFlags(u8);

impl DeliveryFlags {
    const QOS: u8 = 0b0000_0011;
    /// RETAIN 1.
    pub const RETAIN: Self = Self(0b0000_0100);
    /// DUP 1: this delivery is itself a retransmission.
    pub const DUP: Self = Self(0b0000_1000);
    /// The connection speaks MQTT 5.
    pub const V5: Self = Self(0b0001_0000);
    /// The alias was taught on this connection before: send the Topic Name empty.
    pub const TOPIC_KNOWN: Self = Self(0b0010_0000);

    /// Only a `QoS`, nothing else set.
    pub fn new(qos: QoS) -> Self {
        Self(u8::from(qos))
    }

    /// These flags and `other`.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These flags, and `other` if `condition` holds.
    #[must_use]
    pub fn with_if(self, condition: bool, other: Self) -> Self {
        if condition { self.with(other) } else { self }
    }

    /// Whether every bit of `other` is set.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The `QoS` of this delivery.
    pub fn qos(self) -> QoS {
        match self.0 & Self::QOS {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        }
    }

    /// All bits: deliveries with the same bits have the same first byte and shape.
    pub fn bits(self) -> u8 {
        self.0
    }
}

/// One connection that gets a message, and what is its own in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where to.
    pub connection: ConnectionId,
    /// Packet Identifier; 0 = none (`QoS` 0).
    pub packet_id: u16,
    /// Topic Alias; 0 = none.
    pub alias: u16,
    /// Subscription Identifiers; none for 3.1.1.
    pub identifiers: IdentifierRange,
    /// `QoS`, RETAIN, DUP, version, whether the topic goes without its name.
    pub flags: DeliveryFlags,
}

const _: () = assert!(
    size_of::<Target>() <= 20,
    "the fan-out loop streams targets: keep them small"
);

/// Where everything the core decides goes. No method may call the core.
pub trait Effects {
    /// Queues one packet, encoded in the connection's version.
    fn send(&mut self, connection: ConnectionId, packet: &Packet<'_>);

    /// Queues one message for many connections, at most once each. A delivery at `QoS` 0 may be dropped when the
    /// outbox is full, but for one that teaches a Topic Alias (`alias` set, `TOPIC_KNOWN` not): what follows leans
    /// on it.
    fn deliver_many(
        &mut self,
        message: &Message<'_>,
        targets: &[Target],
        subscription_identifiers: &[u32],
    );

    /// A client's message was let in, whoever gets it.
    fn published(&mut self, by: ConnectionId, message: &Message<'_>) {
        let _ = (by, message);
    }

    /// Bytes that wait in a connection's outbox.
    fn outbox_bytes(&self, connection: ConnectionId) -> usize;

    /// `handle_writable` follows once something of this connection's outbox was written, however much waits in it.
    fn tell_when_written(&mut self, connection: ConnectionId);

    /// Flush what is queued, then close. The core has forgotten the connection: no `handle_closed` follows.
    fn close(&mut self, connection: ConnectionId);

    /// `false`: hand over no more packets of this connection, not even those already read, until `true` is said.
    fn read(&mut self, connection: ConnectionId, on: bool);

    /// The batch that goes to another shard at the end of this tick. Batches arrive in the order they were sent.
    fn mailbox(&mut self, to: ShardId) -> &mut MailBatch;

    /// Where the core writes down what is to outlive the process; only asked for with a store
    /// ([`crate::BrokerConfig::has_store`]).
    fn journal(&mut self) -> &mut dyn Journal;
}

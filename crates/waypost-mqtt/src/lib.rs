//! MQTT 3.1, 3.1.1 and 5 on the wire: bytes in, packets out.
//!
//! [`decode_header`] says how long the packet at the start of a buffer is, [`decode`] turns exactly
//! one whole packet into a [`Packet`] that borrows from it, and [`encode`] writes a [`Packet`] back.
//! [`PublishHead`] is the way out for a message with many receivers: everything before the payload,
//! written once, with the place of the packet identifier returned so that it can be patched.
//!
//! [`websocket`] is the framing that MQTT may be carried in (5 §6, RFC 6455).
//!
//! Decoding checks every rule that one packet alone can break and answers with a [`DecodeError`] that
//! names offset, field and statement. Decoding never allocates.
//!
//! Deliberately not here: sockets, clocks, sessions, and every rule that needs to know what went
//! before (packet identifiers in use, topic aliases, quotas). Whether a payload that claims to be
//! UTF-8 is so is left to the application, as 5 §3.3.2.3.2 allows.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

mod decode;
mod encode;
mod error;
mod header;
mod packet;
mod property;
mod protocol;
mod reason;
mod rules;
mod topic;
pub mod websocket;

pub use decode::decode;
pub use encode::{PublishHead, encode, encode_publish_head, publish_len};
pub use error::{DecodeError, DecodeErrorKind};
pub use header::{FixedHeader, REMAINING_LENGTH_MAX, decode_header};
pub use packet::{
    Ack, Auth, ConnAck, Connect, Disconnect, Packet, Publish, ReasonCodes, SubAck, Subscribe,
    SubscriptionOptions, SubscriptionRequest, UnsubAck, Unsubscribe, Will,
};
pub use property::{Properties, Property, PropertyBuffer};
pub use protocol::{PacketId, PacketType, ProtocolVersion, QoS, RetainHandling, Role};
pub use reason::ReasonCode;
pub use topic::{Filter, Topic, TopicError};

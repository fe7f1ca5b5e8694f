//! Connections that cannot go on at once: what they wait for, and the packet they wait with.

use crate::effects::Frame;
use crate::history::Found;

/// What has to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum For {
    /// An AUTH of the client.
    Client,
    /// The outcome of an authentication.
    Authentication,
    /// The verdict of a permit.
    Permit,
    /// The session, from the shard that has it.
    Session,
    /// Streams: where subscriptions begin in them.
    Stream,
    /// The store: what CONNACK promises comes to the disk first.
    Store,
}

/// A packet kept until it can be handled, with what is known of it already. Handling starts anew when the answer is
/// there: nothing was changed before.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub for_what: For,
    /// The packet: CONNECT before CONNACK has gone; empty in a re-authentication.
    pub packet: Box<[u8]>,
    /// The verdicts that came, in the order of the questions.
    pub verdicts: Vec<bool>,
    /// Steps of the authentication so far.
    pub step: u32,
    /// Who it is, once that is known.
    pub user: Option<Box<str>>,
    /// Authentication Data for CONNACK.
    pub data: Option<Box<[u8]>>,
    /// The client id the server gave it.
    pub assigned: Option<Box<str>>,
    /// Number of the claim, while its answer is awaited.
    pub claim: u64,
    /// Where the filters of a SUBSCRIBE begin in their streams, by their place in it.
    pub starts: Vec<Option<Found>>,
    /// How many of them are not known yet.
    pub starts_awaited: usize,
}

impl Waiting {
    pub fn new(for_what: For, frame: Frame<'_>) -> Self {
        Self {
            for_what,
            packet: frame.bytes.into(),
            verdicts: Vec::new(),
            step: 0,
            user: None,
            data: None,
            assigned: None,
            claim: 0,
            starts: Vec::new(),
            starts_awaited: 0,
        }
    }
}

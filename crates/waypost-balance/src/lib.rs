//! The balance family: which member of a group gets a message, and which shard a new connection.
//!
//! [`Balance`] is what a strategy is, [`registry`] lists them all. Deliberately not here: queues, redelivery, sessions
//! (waypost-core), clocks and random sources: time comes with each [`Request`], randomness from a seed.
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

mod strategies;

use std::net::IpAddr;

pub use strategies::registry;

/// A member: the caller's slot, used again only after [`Balance::on_left`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberId(pub u32);

/// Largest weight of a member.
pub const WEIGHT_MAX: u32 = 1_000;

/// One member as a strategy sees it. The caller keeps these in a slice, in the order the members joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which one it is.
    pub id: MemberId,
    /// A hash of its client id: the same on every shard, at every start. What rendezvous hashing leans on.
    pub identity: u64,
    /// Its share beside the others', 1 to [`WEIGHT_MAX`].
    pub weight: u32,
    /// Messages sent to it and not acknowledged; at `QoS` 0 bytes in its outbox.
    pub in_flight: u64,
    /// Whether it may get a message now: it is online and has credit.
    pub is_ready: bool,
    /// The shard that has its connection.
    pub shard: u16,
    /// The site that has it; 0 = this one.
    pub site: u16,
}

/// The message a member is wanted for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Its Topic Name.
    pub topic: &'a str,
    /// Its `waypost-key`, if it has one.
    pub key: Option<&'a str>,
    /// A hash of the publisher's client id: the same on every shard, at every start.
    pub publisher: u64,
    /// The publisher's address, where its transport has one.
    pub address: Option<IpAddr>,
    /// The shard it was published at.
    pub shard: u16,
    /// Monotonic time in microseconds.
    pub now_us: u64,
}

/// Who gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The member at this index of the slice; it is ready.
    Now(usize),
    /// The member at this index, once it is ready, and nobody else while it is a member: affinity or order demands it.
    Later(usize),
    /// Nobody is ready: ask again when somebody is.
    Nobody,
}

/// A strategy at work for one group (or one listener). One instance per group.
///
/// Invariants, tested for every strategy: `Now` names a ready member; `Nobody` only if no member is ready or there is
/// none; the same calls and the same seed give the same choices; a member that joined is chosen sooner or later if the
/// strategy's inputs allow it; weights are honoured.
pub trait Balance: Send {
    /// Chooses. Nothing is counted as sent until [`Balance::on_sent`].
    fn choose(&mut self, members: &[Member], request: &Request<'_>) -> Choice;

    /// A member came, or its weight changed: it is in the slice from now on.
    fn on_joined(&mut self, _member: &Member) {}

    /// A member left for good; it is not in the slice any more.
    fn on_left(&mut self, _id: MemberId) {}

    /// The message was sent to this member. Returns a token that comes back in [`Balance::on_done`].
    fn on_sent(&mut self, _id: MemberId, _request: &Request<'_>) -> u64 {
        0
    }

    /// A message sent before is acknowledged or refused, or was taken back from its member (`elapsed_us` is then
    /// `None`). Not called for `QoS` 0.
    fn on_done(&mut self, _id: MemberId, _token: u64, _elapsed_us: Option<u64>, _now_us: u64) {}

    /// One line that says why it chose as it last did, for people.
    fn explain(&self) -> String {
        String::new()
    }
}

/// A row of the registry.
pub struct Strategy {
    /// Its name in configuration.
    pub name: &'static str,
    /// Other names it goes by.
    pub aliases: &'static [&'static str],
    /// What it does, in one line.
    pub summary: &'static str,
    /// Where its definition comes from.
    pub source: &'static str,
    /// Makes one for a group; everything random in it comes from the seed.
    pub new: fn(seed: u64) -> Box<dyn Balance>,
}

impl std::fmt::Debug for Strategy {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name)
    }
}

impl PartialEq for Strategy {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Strategy {}

/// A name that no strategy has.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("there is no balance strategy named {name:?}")]
pub struct UnknownStrategy {
    /// The name that was asked for.
    pub name: String,
}

/// Finds a strategy by name or alias; case, `_` and `-` do not matter.
pub fn find(name: &str) -> Result<&'static Strategy, UnknownStrategy> {
    let plain = |name: &str| {
        name.chars()
            .filter(|character| !matches!(character, '_' | '-'))
            .flat_map(char::to_lowercase)
            .collect::<String>()
    };
    let wanted = plain(name);
    registry()
        .iter()
        .find(|strategy| {
            std::iter::once(&strategy.name)
                .chain(strategy.aliases)
                .any(|known| plain(known) == wanted)
        })
        .ok_or_else(|| UnknownStrategy { name: name.into() })
}

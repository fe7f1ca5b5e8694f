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

mod hash;
mod random;
mod roster;
pub mod simulate;
mod strategies;

use std::net::IpAddr;

pub use strategies::{default_strategy, registry};
pub use waypost_names::UnknownStrategy;

/// A member: the caller's slot, used again only after [`Balance::on_left`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberId(pub u32);

/// Largest weight of a member.
pub const WEIGHT_MAX: u32 = 1_000;

/// One member as a strategy sees it. The caller keeps these in a slice, in the order the members joined, and only those
/// who are online: who goes offline has left, and joins again when it is back. Else a strategy of affinity would let
/// messages wait for somebody who is away.
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
    /// Whether it has credit for a message now.
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
    /// The caller keeps the message for it, sends it without asking again, and asks again only if the member leaves first.
    Later(usize),
    /// Nobody is ready: ask again when somebody is.
    Nobody,
}

/// A strategy at work for one group (or one listener). One instance per group.
///
/// Invariants, tested for every strategy: `Now` names a ready member; `Nobody` only if no member is ready or there is
/// none; the same calls and the same seed give the same choices; a member that joined is chosen sooner or later if the
/// strategy's inputs allow it; weights are honoured.
///
/// Choosing is taking a turn: a caller that asks has a message to give.
pub trait Balance: Send {
    /// Chooses.
    fn choose(&mut self, members: &[Member], request: &Request<'_>) -> Choice;

    /// A member came, or its weight changed: it is in the slice from now on. Called for each member before the first
    /// choice among it, also where a living group is given a new strategy.
    fn on_joined(&mut self, _member: &Member) {}

    /// A member left, or is offline; it is not in the slice any more. What was in flight to it is of no more interest.
    fn on_left(&mut self, _id: MemberId) {}

    /// The message is this member's: called once for each `QoS` 1 and 2 message, right after `Now` **or** `Later` named
    /// the member, so that what waits for a member counts as given to it. Returns a token that comes back in
    /// [`Balance::on_done`]. Not called for `QoS` 0.
    fn on_sent(&mut self, _id: MemberId, _request: &Request<'_>) -> u64 {
        0
    }

    /// A message given before is acknowledged or refused, or ended otherwise: taken back from its member, expired while
    /// it waited (`elapsed_us`, the time since it left for the member, is then `None`). May be left out for a member
    /// that has left.
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

/// Finds a strategy by name or alias; case, `_` and `-` do not matter.
pub fn find(name: &str) -> Result<&'static Strategy, UnknownStrategy> {
    waypost_names::find("balance", registry(), name)
}

waypost_names::named!(Strategy);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases_are_found_and_none_stands_for_two() {
        for (asked, expect) in [
            ("Round_Robin", "round-robin"),
            ("rr", "round-robin"),
            ("swrr", "weighted-round-robin"),
            ("LeastConn", "least-connections"),
            ("power-of-two-choices", "power-of-two"),
        ] {
            assert_eq!(find(asked).unwrap().name, expect, "{asked}");
        }
        assert_eq!(waypost_names::doubled(registry()), None);
        let error = find("no such thing").unwrap_err();
        assert_eq!(error.names.len(), registry().len());
        assert_eq!(error.family, "balance");
    }
}

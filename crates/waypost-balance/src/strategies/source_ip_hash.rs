//! The publisher's address decides, as HAProxy's `balance source` with `hash-type consistent` (`get_server_sh` in
//! `backend.c`, `lb_chash.c`): the words of the whole address, exclusive-or'd and avalanched, meet a ring on which each member has
//! 16 points per unit of weight; the nearest point, before or behind, has it. Who joins takes only from its neighbours.
//!
//! HAProxy keys a server's points by its number or, with `hash-key guid`, by a hash of its name; here that is the member's
//! identity, so that every shard draws the same ring. Like HAProxy's, small weights are uneven: 16 points a member are off
//! by a fifth as a rule; weights of 100 by a fiftieth.
//!
//! A choice is a binary search. The ring has at most [`RING_POINTS_MAX`] points; beyond that everybody's are halved until they
//! fit (never below one), and it is drawn anew at the first choice after members changed.

use std::net::IpAddr;

use super::rendezvous::bound_to;
use crate::{Balance, Choice, Member, MemberId, Request, Strategy};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "source-ip-hash",
    aliases: &["source", "source-hash", "haproxy-source", "consistent-hash"],
    summary: "the member nearest to the publisher's address on a consistent ring",
    source: "HAProxy's balance source with hash-type consistent",
    new: |_| Box::new(SourceIpHash::default()),
};

/// HAProxy's `BE_WEIGHT_SCALE`.
const POINTS_PER_WEIGHT: u32 = 16;
/// Points of a ring: 256 KiB, drawn in less than a millisecond.
const RING_POINTS_MAX: u64 = 32_768;

#[derive(Default)]
struct SourceIpHash {
    ring: Ring,
    is_stale: bool,
}

impl Balance for SourceIpHash {
    fn choose(&mut self, members: &[Member], request: &Request<'_>) -> Choice {
        let hash = full_hash(
            match request.address.map(|address| address.to_canonical()) {
                Some(IpAddr::V4(address)) => address.to_bits(),
                Some(IpAddr::V6(address)) => fold(&address.octets()),
                None => fold(&request.publisher.to_be_bytes()),
            },
        );
        if self.is_stale || !self.ring.is_of(members) {
            self.ring.draw(members);
            self.is_stale = false;
        }
        match self.ring.nearest(hash) {
            Some(at) => bound_to(members, at),
            None => Choice::Nobody,
        }
    }

    fn on_joined(&mut self, _: &Member) {
        self.is_stale = true;
    }

    fn on_left(&mut self, _: MemberId) {
        self.is_stale = true;
    }
}

/// Exclusive or of the words in network order.
fn fold(octets: &[u8]) -> u32 {
    let (words, _) = octets.as_chunks();
    words
        .iter()
        .fold(0, |hash, word| hash ^ u32::from_be_bytes(*word))
}

/// HAProxy's `full_hash`: one of Bob Jenkins' integer hashes, times a prime near three quarters of 2³².
fn full_hash(hash: u32) -> u32 {
    let mut a = hash;
    a = a.wrapping_add(0x7ed5_5d16).wrapping_add(a << 12);
    a = (a ^ 0xc761_c23c) ^ (a >> 19);
    a = a.wrapping_add(0x1656_67b1).wrapping_add(a << 5);
    a = a.wrapping_add(0xd3a2_646c) ^ (a << 9);
    a = a.wrapping_add(0xfd70_46c5).wrapping_add(a << 3);
    a = (a ^ 0xb55a_4f09) ^ (a >> 16);
    a.wrapping_mul(3_221_225_473)
}

/// The key that a member's points start from.
fn member_key(member: &Member) -> u32 {
    fold(&member.identity.to_be_bytes())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    key: u32,
    member: u32,
}

#[derive(Default)]
struct Ring {
    points: Vec<Point>,
    /// Whose ring it is, in the order of the slice it was drawn from.
    members: Vec<MemberId>,
}

impl Ring {
    /// Seen by its length and its ends; the callbacks tell the rest.
    fn is_of(&self, members: &[Member]) -> bool {
        self.members.len() == members.len()
            && self.members.first().copied() == members.first().map(|member| member.id)
            && self.members.last().copied() == members.last().map(|member| member.id)
    }

    fn draw(&mut self, members: &[Member]) {
        self.draw_with(members, member_key);
    }

    fn draw_with(&mut self, members: &[Member], member_key: impl Fn(&Member) -> u32) {
        let points = |member: &Member, shift: u32| {
            (member.weight.saturating_mul(POINTS_PER_WEIGHT) >> shift).max(1)
        };
        let total = |shift| -> u64 {
            let points = members.iter().map(|member| points(member, shift));
            points.map(u64::from).sum()
        };
        let shift = (0..14)
            .find(|shift| total(*shift) <= RING_POINTS_MAX)
            .unwrap_or(14);
        self.points.clear();
        self.members.clear();
        for (at, member) in (0..).zip(members) {
            let key = member_key(member);
            self.members.push(member.id);
            self.points
                .extend((0..points(member, shift)).map(|number| Point {
                    key: full_hash(key.wrapping_add(number)),
                    member: at,
                }));
        }
        self.points.sort_unstable();
    }

    /// The index of the member whose point is nearest, of equals the one before.
    fn nearest(&self, hash: u32) -> Option<usize> {
        let at = self.points.partition_point(|point| point.key < hash);
        let next = self.points.get(at).or(self.points.first())?;
        let before = at.checked_sub(1).and_then(|at| self.points.get(at));
        let before = before.or(self.points.last())?;
        let behind = hash.wrapping_sub(before.key) <= next.key.wrapping_sub(hash);
        let point = if behind { before } else { next };
        usize::try_from(point.member).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{REQUEST, joined, member};
    use super::*;

    /// HAProxy's own rings, its servers numbered from 1, computed apart from its source with Python:
    /// ```python
    /// def full_hash(a):
    ///     M = 0xffffffff
    ///     a = (a + 0x7ed55d16 + (a << 12)) & M; a = (a ^ 0xc761c23c ^ (a >> 19)) & M
    ///     a = (a + 0x165667b1 + (a << 5)) & M; a = (((a + 0xd3a2646c) & M) ^ (a << 9)) & M
    ///     a = (a + 0xfd7046c5 + (a << 3)) & M; a = (a ^ 0xb55a4f09 ^ (a >> 16)) & M
    ///     return a * 3221225473 & M
    /// def source(address, weights):
    ///     packed, h = ipaddress.ip_address(address).packed, 0
    ///     for i in range(0, len(packed), 4): h ^= int.from_bytes(packed[i:i + 4])
    ///     h = full_hash(h)
    ///     ring = sorted((full_hash((s + 1) * 4096 + n), s) for s, w in enumerate(weights) for n in range(w * 16))
    ///     at = next((i for i, (key, _) in enumerate(ring) if key >= h), 0)
    ///     (after, a), (before, b) = ring[at], ring[at - 1]
    ///     return b if (h - before) % 2**32 <= (after - h) % 2**32 else a
    /// ```
    const VECTORS: &[(&str, &[u32], usize)] = &[
        ("127.0.0.1", &[1, 1, 1], 1),
        ("127.0.0.1", &[1, 2, 4], 2),
        ("127.0.0.1", &[256, 100, 1, 10], 0),
        ("10.0.0.1", &[1, 1, 1], 0),
        ("10.0.0.1", &[1, 2, 4], 2),
        ("10.0.0.1", &[256, 100, 1, 10], 0),
        ("192.168.1.77", &[1, 1, 1], 2),
        ("192.168.1.77", &[1, 2, 4], 2),
        ("192.168.1.77", &[256, 100, 1, 10], 1),
        ("8.8.8.8", &[1, 1, 1], 2),
        ("8.8.8.8", &[1, 2, 4], 2),
        ("8.8.8.8", &[256, 100, 1, 10], 0),
        ("203.0.113.9", &[1, 1, 1], 0),
        ("203.0.113.9", &[1, 2, 4], 0),
        ("203.0.113.9", &[256, 100, 1, 10], 0),
        ("255.255.255.255", &[1, 1, 1], 1),
        ("255.255.255.255", &[1, 2, 4], 1),
        ("255.255.255.255", &[256, 100, 1, 10], 0),
        ("0.0.0.0", &[1, 1, 1], 2),
        ("0.0.0.0", &[1, 2, 4], 2),
        ("0.0.0.0", &[256, 100, 1, 10], 1),
        ("2001:db8::1", &[1, 1, 1], 0),
        ("2001:db8::1", &[1, 2, 4], 0),
        ("2001:db8::1", &[256, 100, 1, 10], 1),
        ("fe80::1234:5678:9abc:def0", &[1, 1, 1], 0),
        ("fe80::1234:5678:9abc:def0", &[1, 2, 4], 2),
        ("fe80::1234:5678:9abc:def0", &[256, 100, 1, 10], 0),
        ("2a00:1450:4001:81b::200e", &[1, 1, 1], 1),
        ("2a00:1450:4001:81b::200e", &[1, 2, 4], 1),
        ("2a00:1450:4001:81b::200e", &[256, 100, 1, 10], 1),
    ];

    #[test]
    fn the_choice_is_haproxy_s() {
        for (address, weights, expect) in VECTORS {
            let members: Vec<_> = (0..)
                .zip(*weights)
                .map(|(id, weight)| member(id, *weight))
                .collect();
            let mut ring = Ring::default();
            // HAProxy's default, `hash-key id`: the server's number × 4,096.
            ring.draw_with(&members, |member| (member.id.0 + 1) * 4_096);
            let hash = match address.parse().unwrap() {
                IpAddr::V4(address) => fold(&address.octets()),
                IpAddr::V6(address) => fold(&address.octets()),
            };
            assert_eq!(
                ring.nearest(full_hash(hash)),
                Some(*expect),
                "{address} {weights:?}"
            );
        }
    }

    fn owners(members: &[Member]) -> Vec<MemberId> {
        let mut strategy = (STRATEGY.new)(0);
        let address = |n: u32| Some(IpAddr::from(n.wrapping_mul(2_654_435_761).to_be_bytes()));
        (0..10_000)
            .map(|n| {
                let request = Request {
                    address: address(n),
                    ..REQUEST
                };
                match strategy.choose(members, &request) {
                    Choice::Now(at) => members[at].id,
                    other => panic!("{other:?}"),
                }
            })
            .collect()
    }

    #[test]
    fn who_joins_or_leaves_moves_only_its_own() {
        let mut members: Vec<_> = (0..10).map(|id| member(id, 10)).collect();
        let before = owners(&members);
        members.push(member(10, 10));
        let after = owners(&members);
        for (before, after) in before.iter().zip(&after) {
            assert!(before == after || *after == MemberId(10));
        }
        let moved = after.iter().filter(|id| **id == MemberId(10)).count();
        assert!((700..1_150).contains(&moved), "about 10,000 ÷ 11: {moved}");
        members.remove(3);
        for (after, last) in after.iter().zip(owners(&members)) {
            assert!(*after == last || *after == MemberId(3));
        }
    }

    #[test]
    fn the_whole_address_matters_and_the_member_is_waited_for() {
        let mut strategy = (STRATEGY.new)(0);
        let mut members = joined(&mut *strategy, &[1; 8]);
        let mut choose = |members: &[Member], address: &str| {
            let request = Request {
                address: Some(address.parse().unwrap()),
                ..REQUEST
            };
            strategy.choose(members, &request)
        };
        let Choice::Now(at) = choose(&members, "203.0.113.1") else {
            panic!("all are ready");
        };
        let others = (2..250).map(|last| choose(&members, &format!("203.0.113.{last}")));
        assert!(others.filter(|other| *other != Choice::Now(at)).count() > 100);
        assert_eq!(choose(&members, "::ffff:203.0.113.1"), Choice::Now(at));
        members[at].is_ready = false;
        assert_eq!(choose(&members, "203.0.113.1"), Choice::Later(at));
    }

    /// The bound at N, N + 1 and 2N points: everybody keeps its share of the ring.
    #[test]
    fn the_ring_stays_within_its_bound() {
        for (count, weight, expect) in [
            (2_048, 1, 32_768),
            (2_049, 1, 2_049 * 8),
            (4_096, 1, 32_768),
            (32, 64, 32_768),
            (1, 1_000, 16_000),
            (1_000, 1_000, 1_000 * 31),
            (40_000, 1_000, 40_000),
        ] {
            let members: Vec<_> = (0..count).map(|id| member(id, weight)).collect();
            let mut ring = Ring::default();
            ring.draw(&members);
            assert_eq!(ring.points.len(), expect, "{count} × {weight}");
        }
    }
}

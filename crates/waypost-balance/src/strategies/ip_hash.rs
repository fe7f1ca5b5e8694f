//! The publisher's address decides, as in nginx's `ip_hash` (`ngx_http_upstream_ip_hash_module.c`): the first three octets of
//! an IPv4 address or a whole IPv6 address, start 89, × 113 + octet mod 6,271, the remainder by the sum of weights walked
//! along the members. A member without credit is passed over as nginx passes over one at `max_conns`: the hash goes on from
//! where it was, and after 20 more tries the turn is smooth round robin's. So all of a /24 share a member, and a member
//! that comes or goes moves most addresses: `source-ip-hash` and `hash-client` do neither.
//!
//! A publisher without an address (a Unix socket) goes by the hash of its client id. An IPv4 address mapped into IPv6 is
//! taken for the IPv4 address it is.

use std::net::IpAddr;

use super::weighted_round_robin::Turns;
use crate::{Balance, Choice, Member, MemberId, Request, Strategy};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "ip-hash",
    aliases: &["nginx-ip-hash"],
    summary: "the member that the first three octets of the publisher's address name",
    source: "nginx's ip_hash",
    new: |_| Box::new(IpHash::default()),
};

/// How often nginx tries again before it takes turns.
const TRIES_MAX: u32 = 20;

#[derive(Default)]
struct IpHash {
    turns: Turns,
}

impl Balance for IpHash {
    fn choose(&mut self, members: &[Member], request: &Request<'_>) -> Choice {
        if members.len() >= 2 && members.iter().any(|member| member.is_ready) {
            let found = match request.address.map(|address| address.to_canonical()) {
                Some(IpAddr::V4(address)) => {
                    let [a, b, c, _] = address.octets();
                    by_hash(members, &[a, b, c])
                }
                Some(IpAddr::V6(address)) => by_hash(members, &address.octets()),
                None => by_hash(members, &request.publisher.to_be_bytes()),
            };
            if let Some(at) = found {
                return Choice::Now(at);
            }
        }
        self.turns
            .next(members, |_, member| member.is_ready)
            .map_or(Choice::Nobody, Choice::Now)
    }

    fn on_joined(&mut self, member: &Member) {
        self.turns.joined(member.id);
    }

    fn on_left(&mut self, id: MemberId) {
        self.turns.left(id);
    }
}

fn by_hash(members: &[Member], address: &[u8]) -> Option<usize> {
    let total: u64 = members.iter().map(|member| u64::from(member.weight)).sum();
    let mut hash = 89;
    for _ in 0..=TRIES_MAX {
        for octet in address {
            hash = (hash * 113 + u64::from(*octet)) % 6_271;
        }
        let at = walk(members, hash.checked_rem(total)?)?;
        if members.get(at)?.is_ready {
            return Some(at);
        }
    }
    None
}

/// The member in whose stretch of weight the remainder falls.
fn walk(members: &[Member], mut rest: u64) -> Option<usize> {
    members.iter().position(|member| {
        let weight = u64::from(member.weight);
        let is_here = rest < weight;
        rest = rest.saturating_sub(weight);
        is_here
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{REQUEST, choices, joined};
    use super::*;

    type Vector = (
        &'static str,
        &'static [u32],
        &'static [usize],
        Option<usize>,
    );

    /// Computed apart from nginx's source with Python; `away` are the members without credit:
    /// ```python
    /// def ip_hash(address, weights, away=()):
    ///     octets = ipaddress.ip_address(address).packed
    ///     octets = octets[:3] if len(octets) == 4 else octets
    ///     h, tries = 89, 0
    ///     while True:
    ///         for o in octets: h = (h * 113 + o) % 6271
    ///         w, p = h % sum(weights), 0
    ///         while w >= weights[p]: w -= weights[p]; p += 1
    ///         if p not in away: return p
    ///         tries += 1
    ///         if tries > 20: return None
    /// ```
    const VECTORS: &[Vector] = &[
        ("127.0.0.1", &[1, 1, 1], &[], Some(2)),
        ("127.0.0.1", &[1, 2, 4], &[], Some(1)),
        ("127.0.0.1", &[5, 1, 1, 10], &[], Some(3)),
        ("10.0.0.1", &[1, 1, 1], &[], Some(0)),
        ("10.0.0.1", &[1, 2, 4], &[], Some(2)),
        ("10.0.0.1", &[5, 1, 1, 10], &[], Some(3)),
        ("192.168.1.77", &[1, 1, 1], &[], Some(1)),
        ("192.168.1.77", &[1, 2, 4], &[], Some(0)),
        ("192.168.1.77", &[5, 1, 1, 10], &[], Some(0)),
        ("8.8.8.8", &[1, 1, 1], &[], Some(2)),
        ("8.8.8.8", &[1, 2, 4], &[], Some(2)),
        ("8.8.8.8", &[5, 1, 1, 10], &[], Some(3)),
        ("203.0.113.9", &[1, 1, 1], &[], Some(0)),
        ("203.0.113.9", &[1, 2, 4], &[], Some(1)),
        ("203.0.113.9", &[5, 1, 1, 10], &[], Some(3)),
        ("255.255.255.255", &[1, 1, 1], &[], Some(0)),
        ("255.255.255.255", &[1, 2, 4], &[], Some(1)),
        ("255.255.255.255", &[5, 1, 1, 10], &[], Some(3)),
        ("0.0.0.0", &[1, 1, 1], &[], Some(1)),
        ("0.0.0.0", &[1, 2, 4], &[], Some(1)),
        ("0.0.0.0", &[5, 1, 1, 10], &[], Some(2)),
        ("2001:db8::1", &[1, 1, 1], &[], Some(2)),
        ("2001:db8::1", &[1, 2, 4], &[], Some(2)),
        ("2001:db8::1", &[5, 1, 1, 10], &[], Some(3)),
        ("fe80::1234:5678:9abc:def0", &[1, 1, 1], &[], Some(2)),
        ("fe80::1234:5678:9abc:def0", &[1, 2, 4], &[], Some(1)),
        ("fe80::1234:5678:9abc:def0", &[5, 1, 1, 10], &[], Some(3)),
        ("2a00:1450:4001:81b::200e", &[1, 1, 1], &[], Some(0)),
        ("2a00:1450:4001:81b::200e", &[1, 2, 4], &[], Some(2)),
        ("2a00:1450:4001:81b::200e", &[5, 1, 1, 10], &[], Some(0)),
        ("127.0.0.1", &[1, 1, 1], &[0], Some(2)),
        ("127.0.0.1", &[1, 2, 4], &[2], Some(1)),
        (
            "127.0.0.1",
            &[1, 1, 1, 1, 1, 1, 1, 1],
            &[0, 1, 2, 3, 4, 5, 6],
            None,
        ),
        ("10.0.0.1", &[1, 1, 1], &[0], Some(1)),
        ("10.0.0.1", &[1, 2, 4], &[2], Some(0)),
        (
            "10.0.0.1",
            &[1, 1, 1, 1, 1, 1, 1, 1],
            &[0, 1, 2, 3, 4, 5, 6],
            Some(7),
        ),
        ("192.168.1.77", &[1, 1, 1], &[0], Some(1)),
        ("192.168.1.77", &[1, 2, 4], &[2], Some(0)),
        (
            "192.168.1.77",
            &[1, 1, 1, 1, 1, 1, 1, 1],
            &[0, 1, 2, 3, 4, 5, 6],
            Some(7),
        ),
        ("8.8.8.8", &[1, 1, 1], &[0], Some(2)),
        ("8.8.8.8", &[1, 2, 4], &[2], Some(1)),
        (
            "8.8.8.8",
            &[1, 1, 1, 1, 1, 1, 1, 1],
            &[0, 1, 2, 3, 4, 5, 6],
            Some(7),
        ),
        ("203.0.113.9", &[1, 1, 1], &[0], Some(2)),
        ("203.0.113.9", &[1, 2, 4], &[2], Some(1)),
        (
            "203.0.113.9",
            &[1, 1, 1, 1, 1, 1, 1, 1],
            &[0, 1, 2, 3, 4, 5, 6],
            Some(7),
        ),
        ("2001:db8::1", &[1, 1, 1], &[0], Some(2)),
        ("2001:db8::1", &[1, 2, 4], &[2], Some(1)),
        (
            "2001:db8::1",
            &[1, 1, 1, 1, 1, 1, 1, 1],
            &[0, 1, 2, 3, 4, 5, 6],
            None,
        ),
        (
            "10.4.0.1",
            &[1, 1, 1, 1, 1, 1, 1, 1],
            &[0, 1, 2, 3, 4, 5, 6],
            None,
        ),
        (
            "10.11.0.1",
            &[1, 1, 1, 1, 1, 1, 1, 1],
            &[0, 1, 2, 3, 4, 5, 6],
            None,
        ),
        // The twentieth try finds one that is ready; only one more would.
        (
            "10.8.254.1",
            &[1, 1, 1, 1, 1, 1, 1, 1],
            &[0, 1, 2, 3, 4, 5],
            Some(7),
        ),
        (
            "10.8.175.1",
            &[1, 1, 1, 1, 1, 1, 1, 1],
            &[0, 1, 2, 3, 4, 5],
            None,
        ),
    ];

    #[test]
    fn the_choice_is_nginx_s() {
        for (address, weights, away, expect) in VECTORS {
            let mut strategy = (STRATEGY.new)(0);
            let mut members = joined(&mut *strategy, weights);
            for at in *away {
                members[*at].is_ready = false;
            }
            let request = Request {
                address: Some(address.parse().unwrap()),
                ..REQUEST
            };
            if let Some(expect) = expect {
                for _ in 0..3 {
                    assert_eq!(
                        strategy.choose(&members, &request),
                        Choice::Now(*expect),
                        "{address} {weights:?} {away:?}"
                    );
                }
            } else {
                // 21 hashes and none of them ready: the ready members take turns.
                let turns: Vec<_> = (0..4)
                    .map(|_| strategy.choose(&members, &request))
                    .collect();
                let ready: Vec<_> = (0..members.len())
                    .filter(|at| !away.contains(at))
                    .cycle()
                    .map(Choice::Now)
                    .take(4)
                    .collect();
                assert_eq!(turns, ready, "{address}");
            }
        }
    }

    #[test]
    fn the_last_octet_does_not_matter_and_a_mapped_address_is_itself() {
        let mut strategy = (STRATEGY.new)(0);
        let members = joined(&mut *strategy, &[1; 7]);
        let mut chosen = |address: &str| {
            let request = Request {
                address: Some(address.parse().unwrap()),
                ..REQUEST
            };
            strategy.choose(&members, &request)
        };
        let expect = chosen("203.0.113.1");
        assert_eq!(chosen("203.0.113.254"), expect);
        assert_eq!(chosen("::ffff:203.0.113.7"), expect);
    }

    #[test]
    fn without_an_address_the_client_id_decides() {
        let mut strategy = (STRATEGY.new)(0);
        let members = joined(&mut *strategy, &[1; 7]);
        let first = choices(&mut *strategy, &members, 5);
        assert_eq!(first, vec![first[0]; 5]);
        let other = |publisher| Request {
            publisher,
            ..REQUEST
        };
        assert!((2..20).any(|publisher| {
            strategy.choose(&members, &other(publisher)) != Choice::Now(first[0])
        }));
    }
}

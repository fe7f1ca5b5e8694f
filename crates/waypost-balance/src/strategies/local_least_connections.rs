//! Least connections, near first: the fewest in flight ÷ weight among the members of the nearest ring that has one ready:
//! the shard where the message was published, this node, other sites. A message that stays on its shard costs no mailbox,
//! one that stays at its site no link; only when all who are near are at their credit does it go further.

use super::least_connections::Fewest;
use crate::{Balance, Choice, Member, MemberId, Request, Strategy};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "local-least-connections",
    aliases: &[
        "local-least-connection",
        "local-least-conn",
        "llc",
        "nearest",
    ],
    summary: "least-connections among the nearest: the same shard, the same node, then other sites",
    source: "least-connections by rings of distance",
    new: |_| Box::new(LocalLeastConnections::default()),
};

#[derive(Default)]
struct LocalLeastConnections {
    fewest: Fewest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ring {
    Shard,
    Node,
    Elsewhere,
}

#[inline]
fn ring(member: &Member, request: &Request<'_>) -> Ring {
    if member.site != 0 {
        Ring::Elsewhere
    } else if member.shard == request.shard {
        Ring::Shard
    } else {
        Ring::Node
    }
}

impl Balance for LocalLeastConnections {
    fn choose(&mut self, members: &[Member], request: &Request<'_>) -> Choice {
        let ready = members.iter().filter(|member| member.is_ready);
        let Some(nearest) = ready.map(|member| ring(member, request)).min() else {
            return Choice::Nobody;
        };
        self.fewest
            .next(members, |member| {
                member.is_ready && ring(member, request) == nearest
            })
            .map_or(Choice::Nobody, Choice::Now)
    }

    fn on_joined(&mut self, member: &Member) {
        self.fewest.joined(member.id);
    }

    fn on_left(&mut self, id: MemberId) {
        self.fewest.left(id);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{REQUEST, joined};
    use super::*;

    #[test]
    fn the_nearest_ring_with_credit_gets_it() {
        // (shard, site, in flight, ready)
        let check = |rows: &[(u16, u16, u64, bool)], expect: Choice| {
            let mut strategy = (STRATEGY.new)(0);
            let mut members = joined(&mut *strategy, &vec![1; rows.len()]);
            for (member, row) in members.iter_mut().zip(rows) {
                (member.shard, member.site, member.in_flight, member.is_ready) = *row;
            }
            let request = Request {
                shard: 1,
                ..REQUEST
            };
            assert_eq!(strategy.choose(&members, &request), expect, "{rows:?}");
        };
        let (busy, free) = ((1, 0, 9, true), (1, 0, 2, true));
        let full = (1, 0, 20, false);
        let (node, site) = ((2, 0, 1, true), (1, 3, 0, true));
        check(&[busy, free, node, site], Choice::Now(1));
        check(&[full, busy, node, site], Choice::Now(1));
        check(&[full, full, node, site], Choice::Now(2));
        check(&[full, full, (2, 0, 20, false), site], Choice::Now(3));
        check(&[site, node], Choice::Now(1));
        check(&[full, full], Choice::Nobody);
    }
}

//! Members and requests for the tests of the strategies.

use crate::{Balance, Choice, Member, MemberId, Request};

pub(crate) fn member(id: u32, weight: u32) -> Member {
    Member {
        id: MemberId(id),
        identity: crate::hash::text(&format!("client-{id}")),
        weight,
        in_flight: 0,
        is_ready: true,
        shard: 0,
        site: 0,
    }
}

/// Members 0, 1, 2, … with these weights, which have joined.
pub(crate) fn joined(strategy: &mut dyn Balance, weights: &[u32]) -> Vec<Member> {
    let members: Vec<_> = (0..)
        .zip(weights)
        .map(|(id, weight)| member(id, *weight))
        .collect();
    for member in &members {
        strategy.on_joined(member);
    }
    members
}

pub(crate) const REQUEST: Request<'static> = Request {
    topic: "t",
    key: None,
    publisher: 1,
    address: None,
    shard: 0,
    now_us: 0,
};

/// The indices of the next `count` choices, which all must be `Now`.
pub(crate) fn choices(strategy: &mut dyn Balance, members: &[Member], count: usize) -> Vec<usize> {
    let one = || match strategy.choose(members, &REQUEST) {
        Choice::Now(at) => at,
        other => panic!("{other:?}"),
    };
    std::iter::repeat_with(one).take(count).collect()
}

//! Least connections: the fewest in flight ÷ weight. Ties take turns by weight, as in nginx's `least_conn`, so that idle
//! members share by weight too.

use super::weighted_round_robin::Turns;
use crate::{Balance, Choice, Member, MemberId, Request, Strategy};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "least-connections",
    aliases: &[
        "least-connection",
        "least-conn",
        "lc",
        "join-shortest-queue",
        "jsq",
    ],
    summary: "the member with the fewest in flight for its weight",
    source: "nginx's least_conn",
    new: |_| Box::new(LeastConnections::default()),
};

#[derive(Default)]
struct LeastConnections {
    fewest: Fewest,
}

impl Balance for LeastConnections {
    fn choose(&mut self, members: &[Member], _: &Request<'_>) -> Choice {
        self.fewest
            .next(members, |member| member.is_ready)
            .map_or(Choice::Nobody, Choice::Now)
    }

    fn on_joined(&mut self, member: &Member) {
        self.fewest.joined(member.id);
    }

    fn on_left(&mut self, id: MemberId) {
        self.fewest.left(id);
    }
}

/// Who has the fewest in flight for its weight, among any part of the members.
#[derive(Default)]
pub(super) struct Fewest {
    turns: Turns,
}

impl Fewest {
    pub fn joined(&mut self, id: MemberId) {
        self.turns.joined(id);
    }

    pub fn left(&mut self, id: MemberId) {
        self.turns.left(id);
    }

    /// The next of those that are eligible.
    #[inline]
    pub fn next(
        &mut self,
        members: &[Member],
        eligible: impl Fn(&Member) -> bool,
    ) -> Option<usize> {
        let mut least = f64::INFINITY;
        for member in members {
            if eligible(member) && load(member) < least {
                least = load(member);
            }
        }
        // Among one alone nobody's turns change.
        self.turns.next(members, |_, member| {
            eligible(member) && load(member) <= least
        })
    }
}

/// In flight ÷ weight: equal where the fractions are.
#[inline]
#[allow(
    clippy::cast_precision_loss,
    reason = "beyond 2⁵³ in flight it does not matter"
)]
pub(super) fn load(member: &Member) -> f64 {
    member.in_flight as f64 / f64::from(member.weight)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{choices, joined};
    use super::*;

    #[test]
    fn the_fewest_for_its_weight_is_chosen() {
        let check = |rows: &[(u32, u64)], expect: usize| {
            let mut strategy = (STRATEGY.new)(0);
            let weights: Vec<_> = rows.iter().map(|(weight, _)| *weight).collect();
            let mut members = joined(&mut *strategy, &weights);
            for (member, (_, in_flight)) in members.iter_mut().zip(rows) {
                member.in_flight = *in_flight;
            }
            assert_eq!(choices(&mut *strategy, &members, 1), [expect], "{rows:?}");
        };
        check(&[(1, 3), (1, 2), (1, 4)], 1);
        check(&[(1, 2), (4, 7), (2, 4)], 1);
        check(&[(1, 0), (1_000, 1)], 0);
        check(&[(1_000, u64::MAX), (1_000, 5)], 1);
        check(&[(1_000, u64::MAX), (1_000, u64::MAX - 1)], 0);
    }

    #[test]
    fn the_idle_take_turns_by_weight() {
        let mut strategy = (STRATEGY.new)(0);
        let mut members = joined(&mut *strategy, &[1, 2, 4, 1]);
        members[3].in_flight = 1;
        assert_eq!(
            choices(&mut *strategy, &members, 7),
            [2, 1, 2, 0, 2, 1, 2],
            "nginx's smooth order among the three that tie"
        );
    }

    #[test]
    fn in_flight_settles_at_the_weights() {
        let mut strategy = (STRATEGY.new)(0);
        let mut members = joined(&mut *strategy, &[1, 2, 4]);
        for _ in 0..700 {
            let at = choices(&mut *strategy, &members, 1)[0];
            members[at].in_flight += 1;
        }
        let in_flight: Vec<_> = members.iter().map(|member| member.in_flight).collect();
        assert_eq!(in_flight, [100, 200, 400]);
    }
}

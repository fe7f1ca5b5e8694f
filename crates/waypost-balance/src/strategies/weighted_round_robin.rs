//! Smooth weighted round robin, as nginx has it since 1.3.1 (commit 52327e0627f4, `ngx_http_upstream_get_peer`).
//!
//! Each choice gives every ready member its weight on top of what it has; who has most is chosen and pays the sum of all.
//! So a member of weight 5 beside two of weight 1 is not chosen five times in a row: {a, a, b, a, c, a, a}.

use crate::roster::Roster;
use crate::{Balance, Choice, Member, MemberId, Request, Strategy};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "weighted-round-robin",
    aliases: &["wrr", "swrr", "smooth-weighted-round-robin"],
    summary: "each member as often as its weight says, the turns spread evenly",
    source: "nginx's smooth weighted round robin",
    new: |_| Box::new(WeightedRoundRobin::default()),
};

#[derive(Default)]
struct WeightedRoundRobin {
    turns: Turns,
}

impl Balance for WeightedRoundRobin {
    fn choose(&mut self, members: &[Member], _: &Request<'_>) -> Choice {
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

/// Whose turn it is, among any part of the members: also what settles the ties of other strategies.
#[derive(Default)]
pub(super) struct Turns {
    roster: Roster<i64>,
}

impl Turns {
    pub fn joined(&mut self, id: MemberId) {
        self.roster.joined(id);
    }

    pub fn left(&mut self, id: MemberId) {
        self.roster.left(id);
    }

    /// The next of those that are eligible.
    #[inline]
    pub fn next(
        &mut self,
        members: &[Member],
        eligible: impl Fn(usize, &Member) -> bool,
    ) -> Option<usize> {
        let mut total = 0;
        let mut best = None;
        let mut most = i64::MIN;
        let seats = self.roster.seats(members);
        for (at, (seat, member)) in seats.iter_mut().zip(members).enumerate() {
            // Without a branch on who is eligible: among ties that is as good as random.
            let is_eligible = eligible(at, member);
            let share = i64::from(member.weight) * i64::from(is_eligible);
            seat.state += share;
            total += share;
            if is_eligible && seat.state > most {
                best = Some(at);
                most = seat.state;
            }
        }
        let at = best?;
        if let Some(seat) = seats.get_mut(at) {
            seat.state -= total;
        }
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{choices, joined};
    use super::*;

    /// The sequence of nginx's commit message for {a: 5, b: 1, c: 1}, and what its algorithm gives for others,
    /// computed apart with Python:
    /// ```python
    /// def smooth(weights, count):
    ///     current = [0] * len(weights)
    ///     for _ in range(count):
    ///         current = [c + w for c, w in zip(current, weights)]
    ///         best = current.index(max(current))
    ///         current[best] -= sum(weights)
    ///         yield best
    /// ```
    #[test]
    fn the_sequence_is_nginx_s() {
        let check = |weights: &[u32], expect: &[usize]| {
            let mut strategy = (STRATEGY.new)(0);
            let members = joined(&mut *strategy, weights);
            let expect = [expect, expect].concat();
            assert_eq!(choices(&mut *strategy, &members, expect.len()), expect);
        };
        check(&[5, 1, 1], &[0, 0, 1, 0, 2, 0, 0]);
        check(&[1, 2, 4], &[2, 1, 2, 0, 2, 1, 2]);
        check(&[4, 3, 2], &[0, 1, 2, 0, 1, 0, 2, 1, 0]);
        check(&[1, 1, 1], &[0, 1, 2]);
    }

    #[test]
    fn who_is_not_ready_saves_up_nothing() {
        let mut strategy = (STRATEGY.new)(0);
        let mut members = joined(&mut *strategy, &[1, 1]);
        members[1].is_ready = false;
        assert_eq!(choices(&mut *strategy, &members, 5), [0; 5]);
        members[1].is_ready = true;
        assert_eq!(choices(&mut *strategy, &members, 4), [0, 1, 0, 1]);
    }
}

//! Round robin: each ready member in turn, in the order they joined.
//!
//! Weights by interleaving: lap `n` passes only members of weight `n` or more, and after the heaviest one's last lap comes
//! lap 1 again. So over one cycle everybody has exactly its share, and with equal weights it is the plain thing. Known from
//! switches as interleaved weighted round robin. A light member waits out the laps of the heavy ones: who wants the turns
//! spread evenly takes `weighted-round-robin`.

use crate::roster::Roster;
use crate::{Balance, Choice, Member, MemberId, Request, Strategy};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "round-robin",
    aliases: &["rr", "interleaved-weighted-round-robin", "iwrr"],
    summary: "each member in turn; a weight is so many turns in a cycle",
    source: "textbook; weights: interleaved weighted round robin",
    new: |_| {
        Box::new(RoundRobin {
            roster: Roster::default(),
            next: 0,
            lap: 1,
        })
    },
};

struct RoundRobin {
    /// Who was where, so that somebody's leaving costs nobody else a turn.
    roster: Roster<()>,
    next: usize,
    lap: u32,
}

impl RoundRobin {
    /// The first ready member of this lap from `next` on.
    #[inline]
    fn rest_of_lap(&self, members: &[Member]) -> Option<usize> {
        let rest = members.get(self.next..)?;
        let step = rest
            .iter()
            .position(|member| member.is_ready && member.weight >= self.lap)?;
        Some(self.next + step)
    }
}

impl Balance for RoundRobin {
    fn choose(&mut self, members: &[Member], _: &Request<'_>) -> Choice {
        if let Some(at) = self.rest_of_lap(members) {
            self.next = at + 1;
            return Choice::Now(at);
        }
        for lap in [self.lap + 1, 1] {
            self.lap = lap;
            self.next = 0;
            if let Some(at) = self.rest_of_lap(members) {
                self.next = at + 1;
                return Choice::Now(at);
            }
        }
        Choice::Nobody
    }

    fn on_joined(&mut self, member: &Member) {
        self.roster.joined(member.id);
    }

    fn on_left(&mut self, id: MemberId) {
        if self.roster.left(id).is_some_and(|at| at < self.next) {
            self.next -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{REQUEST, choices, joined, member};
    use super::*;

    #[test]
    fn each_in_turn() {
        let mut strategy = (STRATEGY.new)(0);
        let mut members = joined(&mut *strategy, &[1, 1, 1]);
        assert_eq!(choices(&mut *strategy, &members, 7), [0, 1, 2, 0, 1, 2, 0]);
        members[1].is_ready = false;
        assert_eq!(choices(&mut *strategy, &members, 3), [2, 0, 2]);
        for member in &mut members {
            member.is_ready = false;
        }
        assert_eq!(strategy.choose(&members, &REQUEST), Choice::Nobody);
        assert_eq!(strategy.choose(&[], &REQUEST), Choice::Nobody);
    }

    #[test]
    fn laps_honour_weights() {
        let mut strategy = (STRATEGY.new)(0);
        let members = joined(&mut *strategy, &[4, 2, 1]);
        let cycle = [0, 1, 2, 0, 1, 0, 0];
        assert_eq!(
            choices(&mut *strategy, &members, 14),
            [cycle, cycle].concat()
        );
        let mut strategy = (STRATEGY.new)(0);
        let members = joined(&mut *strategy, &[3, 3]);
        assert_eq!(choices(&mut *strategy, &members, 6), [0, 1, 0, 1, 0, 1]);
    }

    #[test]
    fn nobody_loses_its_turn_when_another_leaves() {
        let mut strategy = (STRATEGY.new)(0);
        let mut members = joined(&mut *strategy, &[1, 1, 1, 1]);
        assert_eq!(choices(&mut *strategy, &members, 2), [0, 1]);
        members.remove(0);
        strategy.on_left(MemberId(0));
        assert_eq!(choices(&mut *strategy, &members, 1), [1], "member 2");
        members.push(member(7, 1));
        strategy.on_joined(&member(7, 1));
        assert_eq!(choices(&mut *strategy, &members, 3), [2, 3, 0]);
    }
}

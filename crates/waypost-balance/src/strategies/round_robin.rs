//! Round robin: each ready member in turn.

use crate::{Balance, Choice, Member, Request, Strategy};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "round-robin",
    aliases: &[],
    summary: "each member in turn",
    source: "textbook",
    new: |_| Box::new(RoundRobin::default()),
};

#[derive(Default)]
struct RoundRobin {
    next: usize,
}

impl Balance for RoundRobin {
    fn choose(&mut self, members: &[Member], _: &Request<'_>) -> Choice {
        let count = members.len();
        for step in 0..count {
            let at = (self.next + step) % count;
            if members.get(at).is_some_and(|member| member.is_ready) {
                self.next = at + 1;
                return Choice::Now(at);
            }
        }
        Choice::Nobody
    }
}

//! Power of two choices: two members drawn by weight, the one with fewer in flight ÷ weight (M. Mitzenmacher, "The Power of
//! Two Choices in Randomized Load Balancing", 2001; nginx's `random two least_conn`). Nearly as short a wait as looking
//! at all members, for the price of looking at two.

use super::least_connections::load;
use crate::random::Lottery;
use crate::{Balance, Choice, Member, Request, Strategy};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "power-of-two",
    aliases: &["power-of-two-choices", "p2c", "random-two-least-conn"],
    summary: "the less loaded of two drawn at random",
    source: "Mitzenmacher 2001; nginx's random two least_conn",
    new: |seed| {
        Box::new(PowerOfTwo {
            lottery: Lottery::new(seed),
        })
    },
};

struct PowerOfTwo {
    lottery: Lottery,
}

impl Balance for PowerOfTwo {
    fn choose(&mut self, members: &[Member], _: &Request<'_>) -> Choice {
        let Some(first) = self.lottery.draw(members, None) else {
            return Choice::Nobody;
        };
        // The first drawn wins a tie: so idle members share by weight.
        let second = self.lottery.draw(members, Some(first)).filter(|second| {
            match (members.get(first), members.get(*second)) {
                (Some(first), Some(second)) => load(second) < load(first),
                _ => false,
            }
        });
        Choice::Now(second.unwrap_or(first))
    }

    fn on_joined(&mut self, member: &Member) {
        self.lottery.joined(member);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{choices, joined};
    use super::*;

    #[test]
    fn the_more_loaded_of_two_is_never_chosen() {
        let mut strategy = (STRATEGY.new)(3);
        let mut members = joined(&mut *strategy, &[1, 1, 1]);
        for (member, in_flight) in members.iter_mut().zip([5, 3, 9]) {
            member.in_flight = in_flight;
        }
        let chosen = choices(&mut *strategy, &members, 3_000);
        let share = |at| chosen.iter().filter(|chosen| **chosen == at).count();
        assert_eq!(share(2), 0, "always beside a less loaded one");
        // Member 1 wins two of the three pairs.
        assert!((1_900..2_100).contains(&share(1)), "{}", share(1));
    }

    #[test]
    fn the_only_ready_one_is_chosen() {
        let mut strategy = (STRATEGY.new)(3);
        let mut members = joined(&mut *strategy, &[1; 100]);
        for member in &mut members {
            member.is_ready = member.id.0 == 77;
        }
        assert_eq!(choices(&mut *strategy, &members, 10), [77; 10]);
    }
}

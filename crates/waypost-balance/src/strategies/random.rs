//! Random: any ready member, as likely as its weight says.

use crate::random::Lottery;
use crate::{Balance, Choice, Member, Request, Strategy};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "random",
    aliases: &["weighted-random", "rand"],
    summary: "any member, as likely as its weight says",
    source: "textbook",
    new: |seed| {
        Box::new(Random {
            lottery: Lottery::new(seed),
        })
    },
};

struct Random {
    lottery: Lottery,
}

impl Balance for Random {
    fn choose(&mut self, members: &[Member], _: &Request<'_>) -> Choice {
        self.lottery
            .draw(members, None)
            .map_or(Choice::Nobody, Choice::Now)
    }

    fn on_joined(&mut self, member: &Member) {
        self.lottery.joined(member);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{choices, joined};
    use super::*;

    /// Goal: the shares are the weights'. Method: χ² of 100,000 draws with 4 degrees of freedom, below its 99.9th
    /// percentile; by rejection and, with one member far heavier or few ready, by the pass over all.
    #[test]
    fn shares_are_the_weights() {
        for (weights, away) in [
            (vec![1, 2, 4, 8, 16], 0),
            (vec![1, 1, 1, 1, 1], 0),
            (vec![3, 1, 4, 1_000, 1_000], 0),
            ([&[1, 2, 3, 4, 5], [9; 200].as_slice()].concat(), 200),
        ] {
            let mut strategy = (STRATEGY.new)(7);
            let mut members = joined(&mut *strategy, &weights);
            let ready = members.len() - away;
            for member in members.iter_mut().skip(ready) {
                member.is_ready = false;
            }
            let mut counts = vec![0_u32; members.len()];
            for at in choices(&mut *strategy, &members, 100_000) {
                counts[at] += 1;
            }
            let total: u32 = weights[..ready].iter().sum();
            let chi_squared: f64 = counts[..ready]
                .iter()
                .zip(&weights)
                .map(|(count, weight)| {
                    let expected = 1e5 * f64::from(*weight) / f64::from(total);
                    (f64::from(*count) - expected).powi(2) / expected
                })
                .sum();
            assert_eq!(counts[ready..].iter().sum::<u32>(), 0);
            assert!(chi_squared < 18.47, "{weights:?}: χ² = {chi_squared}");
        }
    }
}

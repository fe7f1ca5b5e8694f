//! Random numbers from a seed (`SplitMix64`, Steele, Lea, Flood 2014), and drawing a member by weight.

use crate::Member;
use crate::hash::mix;

/// `SplitMix64`.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    #[inline]
    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// Evenly among 0 to `bound` − 1; 0 if that is empty. The bias is below `bound` ÷ 2⁶⁴.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.next()) * u128::from(bound);
        u64::try_from(product >> 64).unwrap_or(0)
    }
}

/// Draws ready members, each as often as its weight says.
///
/// First by rejection, which touches a member or two of a thousand: a draw among all, kept with probability weight ÷
/// heaviest weight if it is ready. After [`DRAWS_MAX`] rejections (few are ready, or one is far heavier than the rest)
/// by one pass over all. Both have exactly the weights' distribution.
#[derive(Clone, Debug)]
pub(crate) struct Lottery {
    random: Random,
    heaviest: u32,
}

/// Rejected draws before a pass over all members.
const DRAWS_MAX: u32 = 8;

impl Lottery {
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            heaviest: 1,
        }
    }

    /// A member came or has a new weight: rejection needs the heaviest of all.
    pub fn joined(&mut self, member: &Member) {
        self.heaviest = self.heaviest.max(member.weight);
    }

    /// The index of a ready member other than `but`, if there is one.
    #[inline]
    pub fn draw(&mut self, members: &[Member], but: Option<usize>) -> Option<usize> {
        for _ in 0..DRAWS_MAX {
            let at = usize::try_from(self.random.below(members.len() as u64)).ok()?;
            let member = members.get(at)?;
            if member.is_ready
                && Some(at) != but
                && (member.weight >= self.heaviest
                    || self.random.below(u64::from(self.heaviest)) < u64::from(member.weight))
            {
                return Some(at);
            }
        }
        self.draw_from_all(members, but)
    }

    fn draw_from_all(&mut self, members: &[Member], but: Option<usize>) -> Option<usize> {
        let eligible = |at: usize, member: &Member| member.is_ready && Some(at) != but;
        let mut total = 0;
        self.heaviest = 1;
        for (at, member) in members.iter().enumerate() {
            self.heaviest = self.heaviest.max(member.weight);
            if eligible(at, member) {
                total += u64::from(member.weight);
            }
        }
        let mut ticket = self.random.below(total);
        for (at, member) in members.iter().enumerate() {
            if eligible(at, member) {
                let weight = u64::from(member.weight);
                if ticket < weight {
                    return Some(at);
                }
                ticket -= weight;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first numbers of `SplitMix64` from seed 1234567, as in the reference of its authors.
    #[test]
    fn splitmix_is_the_published_one() {
        let mut random = Random::new(1_234_567);
        let numbers: Vec<_> = (0..3).map(|_| random.next()).collect();
        assert_eq!(
            numbers,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn below_stays_below() {
        let mut random = Random::new(1);
        assert_eq!(random.below(0), 0);
        assert!((0..1_000).all(|_| random.below(7) < 7));
    }
}

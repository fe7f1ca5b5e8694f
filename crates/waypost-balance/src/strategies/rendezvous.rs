//! Weighted rendezvous hashing: every member draws a number from the key and its identity; the highest has it. Who joins
//! takes only what it wins, who leaves gives up only what it had.
//!
//! D. Thaler, C. Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998. The weighted score −w ÷ ln h:
//! J. Resch, "New Hashing Algorithms for Data Storage", SNIA 2015; C. Schindelhauer, G. Schomaker, "Weighted Distributed
//! Hash Tables", 2005. One pass over all members per choice.

use crate::hash::{mix, unit};
use crate::{Choice, Member};

/// The owner of a key among those members that are eligible.
#[inline]
pub(super) fn owner(
    members: &[Member],
    key: u64,
    eligible: impl Fn(&Member) -> bool,
) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (at, member) in members.iter().enumerate() {
        if !eligible(member) {
            continue;
        }
        let weight = f64::from(member.weight.max(1));
        let drawn = unit(mix(member.identity ^ key));
        match best {
            // −ln h ≥ 1 − h, so the score is at most w ÷ (1 − h): that spares nearly all the logarithms.
            Some((_, most)) if weight <= most * (1.0 - drawn) => {}
            Some((_, most)) if weight / -drawn.ln() <= most => {}
            _ => best = Some((at, weight / -drawn.ln())),
        }
    }
    best.map(|(at, _)| at)
}

/// The message is its owner's, now or later.
#[inline]
pub(super) fn choose(members: &[Member], key: u64) -> Choice {
    let Some(at) = owner(members, key, |_| true) else {
        return Choice::Nobody;
    };
    bound_to(members, at)
}

/// What a strategy of affinity answers when the message is for the member at this index.
#[inline]
pub(super) fn bound_to(members: &[Member], at: usize) -> Choice {
    if members.get(at).is_some_and(|member| member.is_ready) {
        Choice::Now(at)
    } else {
        Choice::Later(at)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::member;
    use super::*;
    use crate::hash::text;

    const KEYS: usize = 20_000;

    fn owners(members: &[Member]) -> Vec<u32> {
        let owner = |key| owner(members, text(&format!("key-{key}")), |_| true).unwrap();
        (0..KEYS).map(|key| members[owner(key)].id.0).collect()
    }

    /// Goal: sparing logarithms changes no owner. Method: against the definition.
    #[test]
    fn the_owner_is_the_definition_s() {
        let members: Vec<_> = (0..40).map(|id| member(id, 1 + id % 7)).collect();
        for key in (0..2_000).map(|key| text(&format!("key-{key}"))) {
            let score =
                |member: &Member| -f64::from(member.weight) / unit(mix(member.identity ^ key)).ln();
            let most = members
                .iter()
                .enumerate()
                .max_by(|(_, a), (_, b)| score(a).total_cmp(&score(b)))
                .unwrap();
            assert_eq!(owner(&members, key, |_| true), Some(most.0));
        }
        assert_eq!(owner(&[], 1, |_| true), None);
    }

    /// Goal: shares are the weights' within four standard deviations of the binomial distribution.
    #[test]
    fn shares_are_the_weights() {
        for weights in [vec![1; 10], vec![1, 2, 4], vec![1_000, 1, 999]] {
            let members: Vec<_> = (0..)
                .zip(&weights)
                .map(|(id, weight)| member(id, *weight))
                .collect();
            let owners = owners(&members);
            let total: u32 = weights.iter().sum();
            for member in &members {
                let count = owners.iter().filter(|id| **id == member.id.0).count();
                let share = f64::from(member.weight) / f64::from(total);
                let expected = 20_000.0 * share;
                let deviation = (expected * (1.0 - share)).sqrt();
                #[allow(clippy::cast_precision_loss)]
                let off = (count as f64 - expected).abs() / deviation.max(1.0);
                assert!(off < 4.0, "{weights:?} member {}: {count}", member.id.0);
            }
        }
    }

    /// Goal: who leaves gives up its keys and nobody else any; who joins takes its share and nothing moves between others.
    #[test]
    fn only_a_share_of_the_keys_moves() {
        let ten: Vec<_> = (0..10).map(|id| member(id, 1)).collect();
        let before = owners(&ten);
        let mut nine = ten.clone();
        nine.remove(4);
        for (before, after) in before.iter().zip(owners(&nine)) {
            assert!(*before == 4 || *before == after);
        }
        let eleven = [&ten[..], &[member(10, 1)]].concat();
        let moved = before
            .iter()
            .zip(owners(&eleven))
            .filter(|(before, after)| {
                assert!(**before == *after || *after == 10);
                **before != *after
            })
            .count();
        assert!(
            (1_600..2_040).contains(&moved),
            "about 20,000 ÷ 11: {moved}"
        );
        // A member that becomes heavier only takes.
        let mut heavier = ten.clone();
        heavier[3].weight = 2;
        for (before, after) in before.iter().zip(owners(&heavier)) {
            assert!(*before == after || after == 3);
        }
    }

    #[test]
    fn the_order_of_the_members_does_not_matter() {
        let mut members: Vec<_> = (0..20).map(|id| member(id, 1 + id)).collect();
        let before = owners(&members);
        members.reverse();
        assert_eq!(before, owners(&members));
    }
}

//! What one could keep who knew the future.

use std::{cmp::Reverse, collections::BinaryHeap};

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::{Outcome, Trace};
use crate::Key;

/// Wanted never again.
const NEVER: usize = usize::MAX;

/// Sizes whose first bits are equal are one class: so many classes for each power of two.
const CLASSES_PER_OCTAVE: u64 = 4;

/// Belady's optimum for so many entries: what is wanted latest goes. No strategy that keeps what was just wanted has more
/// hits.
///
/// Belady: A study of replacement algorithms for a virtual-storage computer, IBM Systems Journal, 1966.
pub fn optimum(trace: &Trace, capacity: u64) -> Outcome {
    let next = next_uses(trace, false);
    let mut outcome = Outcome::default();
    // When what is kept is wanted next. The heap has older answers too, which the map does not confirm.
    let mut kept: HashMap<Key, usize, FixedState> = HashMap::default();
    let mut latest = BinaryHeap::new();
    for (request, next) in trace.requests().iter().zip(next) {
        let is_hit = kept.contains_key(&request.key);
        outcome.count(request.size, is_hit);
        if !is_hit && kept.len() as u64 >= capacity {
            while let Some((next, key)) = latest.pop() {
                if kept.get(&key) == Some(&next) {
                    kept.remove(&key);
                    break;
                }
            }
        }
        if capacity > 0 {
            kept.insert(request.key, next);
            latest.push((next, request.key));
        }
    }
    outcome
}

/// The same idea for so many bytes: what goes is what is large and wanted late, by the product of both. A good answer to a
/// problem that has no quick best one: a reference, not a limit. Sizes are compared in classes, four for each power of two.
///
/// Berger, Beckmann, Harchol-Balter: Practical Bounds on Optimal Caching with Variable Object Sizes, SIGMETRICS 2018.
pub fn belady_size(trace: &Trace, capacity_bytes: u64) -> Outcome {
    struct Kept {
        next: usize,
        size: u64,
    }
    let next = next_uses(trace, true);
    let mut outcome = Outcome::default();
    let mut kept: HashMap<Key, Kept, FixedState> = HashMap::default();
    let mut classes: Vec<BinaryHeap<(usize, Reverse<Key>)>> = Vec::new();
    let mut bytes = 0;
    for (now, (request, next)) in trace.requests().iter().zip(next).enumerate() {
        let before = kept.remove(&request.key);
        bytes -= before.as_ref().map_or(0, |kept| kept.size);
        let is_hit = before.is_some_and(|kept| kept.size == request.size);
        outcome.count(request.size, is_hit);
        if next == NEVER || request.size > capacity_bytes {
            continue;
        }
        let size = request.size;
        kept.insert(request.key, Kept { next, size });
        bytes += size;
        let class = class_of(size);
        while classes.len() <= class {
            classes.push(BinaryHeap::new());
        }
        if let Some(class) = classes.get_mut(class) {
            class.push((next, Reverse(request.key)));
        }
        while bytes > capacity_bytes {
            let mut worst: Option<(u128, Key)> = None;
            for (at, class) in classes.iter_mut().enumerate() {
                // What the map does not confirm is an older answer.
                while let Some((next, Reverse(key))) = class.peek() {
                    let entry = kept.get(key);
                    let entry = entry.filter(|it| it.next == *next && class_of(it.size) == at);
                    let Some(entry) = entry else {
                        class.pop();
                        continue;
                    };
                    let cost = (next - now) as u128 * u128::from(entry.size);
                    if worst.is_none_or(|(most, _)| cost > most) {
                        worst = Some((cost, *key));
                    }
                    break;
                }
            }
            let Some(gone) = worst.and_then(|(_, key)| kept.remove(&key)) else {
                break;
            };
            bytes -= gone.size;
        }
    }
    outcome
}

fn class_of(size: u64) -> usize {
    let Some(octave) = size.checked_ilog2() else {
        return 0;
    };
    let bits = CLASSES_PER_OCTAVE.ilog2();
    let fraction = (size << bits >> octave) & (CLASSES_PER_OCTAVE - 1);
    usize::try_from(u64::from(octave) * CLASSES_PER_OCTAVE + fraction).unwrap_or(0)
}

/// For each request, when the same is wanted next; in the same size, where sizes count.
fn next_uses(trace: &Trace, is_sized: bool) -> Vec<usize> {
    let mut later: HashMap<Key, (usize, u64), FixedState> = HashMap::default();
    let mut next: Vec<_> = trace
        .requests()
        .iter()
        .enumerate()
        .rev()
        .map(|(at, request)| {
            let next = later.insert(request.key, (at, request.size));
            let next = next.filter(|(_, size)| !is_sized || *size == request.size);
            next.map_or(NEVER, |(at, _)| at)
        })
        .collect();
    next.reverse();
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_latest_goes() {
        let trace = Trace::of_lines("a b c a b d a b c".split(' ')).unwrap();
        // c makes room for d, d for c: a and b are hits twice each.
        assert_eq!(optimum(&trace, 3).hits, 5 - 1);
        assert_eq!(optimum(&trace, 2).hits, 2);
        assert_eq!(optimum(&trace, 0).hits, 0);
        assert_eq!(optimum(&trace, 10).hits, 5);
    }

    /// Goal: it is the optimum. Method: beside it every way of evicting, tried to the end.
    #[test]
    fn nobody_hits_more_often() {
        fn best(trace: &[u64], kept: &[u64], capacity: usize) -> u64 {
            let Some((key, rest)) = trace.split_first() else {
                return 0;
            };
            if kept.contains(key) {
                return 1 + best(rest, kept, capacity);
            }
            if kept.len() < capacity {
                let more: Vec<_> = kept.iter().copied().chain([*key]).collect();
                return best(rest, &more, capacity);
            }
            let ways = (0..kept.len()).map(|at| {
                let mut other = kept.to_vec();
                other[at] = *key;
                best(rest, &other, capacity)
            });
            ways.max().unwrap_or(0)
        }
        let mut state = 7_u64;
        for _ in 0..100 {
            let keys: Vec<u64> = (0..14)
                .map(|_| {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    (state >> 33) % 6
                })
                .collect();
            let lines: Vec<_> = keys.iter().map(u64::to_string).collect();
            let trace = Trace::of_lines(lines.iter().map(String::as_str)).unwrap();
            for capacity in 1..4 {
                let expect = best(&keys, &[], capacity);
                assert_eq!(optimum(&trace, capacity as u64).hits, expect, "{keys:?}");
            }
        }
    }

    #[test]
    fn by_bytes_the_large_and_late_goes() {
        // One of 90 bytes, wanted at the end, beside nine of 10 that are wanted sooner.
        let mut lines = vec!["large 90".to_owned()];
        for _ in 0..2 {
            lines.extend((0..9).map(|key| format!("{key} 10")));
        }
        lines.push("large 90".into());
        let trace = Trace::of_lines(lines.iter().map(String::as_str)).unwrap();
        assert_eq!(belady_size(&trace, 100).hits, 9);
        assert_eq!(belady_size(&trace, 180).hits, 10);
        assert_eq!(belady_size(&trace, 0).hits, 0);
    }

    #[test]
    fn classes_grow_with_the_size() {
        let classes: Vec<_> = [0, 1, 2, 3, 4, 5, 6, 7, 8, 1 << 40].map(class_of).into();
        assert!(classes.is_sorted(), "{classes:?}");
        assert_eq!(class_of(4), class_of(4));
        assert_ne!(class_of(4), class_of(5));
    }
}

//! What `auto` picks, when it moves, and that a move loses nothing it should not.

use std::collections::BTreeMap;

use super::*;

/// Wants keys that weigh one; how many were there.
fn want(auto: &mut Auto, keys: impl IntoIterator<Item = u64>) -> usize {
    let mut evicted = Vec::new();
    let wanted = keys.into_iter().map(Key);
    wanted
        .filter(|key| {
            let is_kept = auto.get(*key);
            if !is_kept {
                auto.insert(*key, 1, &mut evicted);
            }
            is_kept
        })
        .count()
}

fn name(auto: &Auto) -> &'static str {
    OTHERS[auto.at].name
}

/// Random numbers that are small more often than large.
fn skewed(seed: u64, count: usize, below: u64) -> impl Iterator<Item = u64> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let (a, b) = (state >> 33, (state >> 13) & 0xf_ffff);
        ((a % below) * b) >> 20
    })
    .take(count)
}

/// Goal: it follows the requests. Method: a loop longer than the cache, of which `mfu` keeps most; then keys that are wanted
/// twice, soon after each other, and never again, where `lru` finds every second one and `mfu` none.
#[test]
fn it_moves_to_what_is_best_and_says_why() {
    let mut auto = Auto::new(100);
    want(&mut auto, (0..30_000).map(|at| at % 120));
    let picked = name(&auto);
    let hits = want(&mut auto, (0..1_200).map(|at| at % 120));
    assert!(hits > 600, "{picked}: {hits}");
    let before = auto.moves;
    let twice = |from: u64| (from..from + 40_000).flat_map(|at| [at, at - 30]);
    want(&mut auto, twice(1_000));
    assert!(auto.moves > before, "{}", auto.explain());
    let hits = want(&mut auto, twice(41_000));
    assert!(hits > 39_000, "{hits}: {}", auto.explain());
    let said = auto.explain();
    assert!(said.starts_with(name(&auto)), "{said}");
    assert!(
        said.contains("(all keys)") && said.contains("mfu "),
        "{said}"
    );
}

/// Goal: chance moves little. Method: keys by chance, all alike, so that no strategy is better than another; there are eight
/// hundred batches after which it could move.
#[test]
fn it_hardly_moves_where_nobody_is_better() {
    let mut auto = Auto::new(200);
    let mut state = 7_u64;
    let keys = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % 1_000
    });
    want(&mut auto, keys.take(200_000));
    assert!(auto.moves <= 3, "{}", auto.explain());
}

/// The bound at N - 1, N, N + 1 and 2 N entries.
#[test]
fn ghosts_are_complete_below_the_bound_and_sampled_from_it_on() {
    let bound = GHOST_ENTRIES_MAX as u64;
    for (entries, shift) in [(bound - 1, 0), (bound, 1), (bound + 1, 1), (2 * bound, 2)] {
        let mut auto = Auto::new(entries);
        want(
            &mut auto,
            (0..entries + 2 * BATCH as u64).cycle().take(40_000),
        );
        assert_eq!(auto.sample_shift, shift, "{entries}");
        let kept = auto.ghosts.iter().filter_map(|it| it.cache.as_ref());
        let most = kept.map(|cache| cache.len()).max().unwrap();
        assert!(most <= GHOST_ENTRIES_MAX, "{most} of {entries}");
        assert_eq!(auto.ghosts.iter().any(|it| it.cache.is_none()), shift == 0);
    }
}

/// Goal: a large cache moves too, though its ghosts have not learnt enough. Method: a loop a little longer than the cache.
#[test]
fn a_sampled_choice_takes_over_after_it_has_seen_everything() {
    let mut auto = Auto::new(10_000);
    let turn = || (0..300_000_u64).map(|at| at % 12_000);
    want(&mut auto, turn());
    assert!(
        auto.sample_shift > 0 && auto.moves > 0,
        "{}",
        auto.explain()
    );
    let hits = want(&mut auto, turn());
    assert!(hits > 150_000, "{hits}: {}", auto.explain());
}

/// Goal: what every cache promises holds while it moves. Method: workloads by turns, with weights and removals, against a
/// model that knows only what was inserted, evicted and removed.
#[test]
fn moves_keep_what_a_cache_promises() {
    const CAPACITY: u64 = 1_000;
    let mut auto = Auto::new(CAPACITY);
    let mut model = BTreeMap::<Key, u64>::new();
    let mut evicted = Vec::new();
    for turn in 0..12_u64 {
        let keys: Vec<u64> = match turn % 3 {
            0 => (0..30_000).map(|at| at % 250).collect(),
            1 => (0..15_000_u64)
                .flat_map(|at| [at + 1_000, at + 900])
                .collect(),
            _ => skewed(turn, 30_000, 3_000).collect(),
        };
        for (at, key) in keys.into_iter().map(Key).enumerate() {
            assert_eq!(auto.get(key), model.contains_key(&key), "{turn}, {at}");
            assert_eq!(auto.weight_of(key), model.get(&key).copied());
            let weight = 1 + (key.0 * 7 + u64::from(at % 97 == 0)) % 9;
            if model.get(&key) != Some(&weight) {
                model.insert(key, weight);
                auto.insert(key, weight, &mut evicted);
                for gone in evicted.drain(..) {
                    assert!(model.remove(&gone).is_some(), "{gone:?} was not kept");
                }
            }
            if at % 51 == 0 {
                assert_eq!(auto.remove(key), model.remove(&key).is_some());
            }
            assert!(auto.weight() <= CAPACITY);
        }
        assert_eq!(auto.weight(), model.values().sum::<u64>());
        assert_eq!(auto.len(), model.len());
        let mut kept = BTreeMap::new();
        auto.each(&mut |key, weight| {
            assert_eq!(kept.insert(key, weight), None);
        });
        assert_eq!(kept, model);
    }
    assert!(auto.moves >= 3, "{}", auto.explain());
}

/// Goal: who takes over soon keeps what it would have kept from the beginning. Method: `lru` takes over from `mfu`, and the
/// same requests run through a plain `lru`.
#[test]
fn after_a_move_it_is_as_if_it_had_always_been_at_work() {
    let find = |name| crate::find(name).unwrap();
    let mut plain = (find("lru").new)(300);
    let mut work = AtWork::new((find("mfu").new)(300), 300);
    let mut ghost = (find("lru").new)(300);
    let mut lost = 0;
    for (at, key) in skewed(3, 60_000, 2_000).map(Key).enumerate() {
        let mut scratch = Vec::new();
        let is_hit = plain.get(key);
        if !is_hit {
            plain.insert(key, 1, &mut scratch);
        }
        if at == 20_000 {
            // The ghost has seen what plain saw, but for this request.
            ghost = work.hand_over(ghost);
            assert!(work.leftovers.len() > 20, "{}", work.leftovers.len());
        }
        let is_kept = work.get(key);
        if !is_kept {
            work.insert(key, 1, &mut scratch);
        }
        if at < 20_000 && !ghost.get(key) {
            ghost.insert(key, 1, &mut scratch);
        }
        lost += usize::from(at >= 20_000 && is_hit && !is_kept);
        if at > 30_000 {
            assert_eq!(is_kept, is_hit, "{at}");
        }
    }
    assert!(
        (1..=300).contains(&lost),
        "each key is read at most once: {lost}"
    );
    assert_eq!(work.moving, 0);
}

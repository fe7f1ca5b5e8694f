//! What every strategy of the registry must hold, whatever is wanted in whatever order.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::HashMap;

use proptest::prelude::*;
use waypost_cache::{Key, default_strategy, registry};

#[derive(Clone, Debug)]
enum Step {
    Get(u64),
    Insert(u64, u64),
    Remove(u64),
}

fn steps() -> impl proptest::strategy::Strategy<Value = Vec<Step>> {
    let key = 0..40_u64;
    let weight = prop_oneof![8 => 0..300_u64, 1 => 900..1_100_u64, 1 => Just(u64::MAX)];
    let step = prop_oneof![
        4 => key.clone().prop_map(Step::Get),
        4 => (key.clone(), weight).prop_map(|(key, weight)| Step::Insert(key, weight)),
        1 => key.prop_map(Step::Remove),
    ];
    proptest::collection::vec(step, 0..400)
}

const CAPACITY: u64 = 1_000;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_kept_is_known_and_never_above_the_capacity(steps in steps()) {
        for strategy in registry() {
            let mut cache = (strategy.new)(CAPACITY);
            let mut again = (strategy.new)(CAPACITY);
            let mut kept: HashMap<Key, u64> = HashMap::new();
            for step in &steps {
                match *step {
                    Step::Get(key) => {
                        prop_assert_eq!(cache.get(Key(key)), kept.contains_key(&Key(key)));
                        again.get(Key(key));
                    }
                    Step::Insert(key, weight) => {
                        let (mut evicted, mut evicted_again) = (Vec::new(), Vec::new());
                        cache.insert(Key(key), weight, &mut evicted);
                        again.insert(Key(key), weight, &mut evicted_again);
                        prop_assert_eq!(&evicted, &evicted_again, "the same calls, the same evictions");
                        kept.insert(Key(key), weight);
                        for key in evicted {
                            prop_assert!(kept.remove(&key).is_some(), "{key:?} went twice or was never there");
                        }
                    }
                    Step::Remove(key) => {
                        prop_assert_eq!(cache.remove(Key(key)), kept.remove(&Key(key)).is_some());
                        again.remove(Key(key));
                    }
                }
                prop_assert_eq!(cache.len(), kept.len());
                prop_assert_eq!(cache.is_empty(), kept.is_empty());
                prop_assert_eq!(cache.weight(), kept.values().sum::<u64>());
                prop_assert!(cache.weight() <= CAPACITY, "{strategy:?} keeps {}", cache.weight());
            }
        }
    }
}

#[test]
fn what_fits_stays() {
    for strategy in registry() {
        let mut cache = (strategy.new)(CAPACITY);
        let mut evicted = Vec::new();
        for key in 0..10 {
            cache.insert(Key(key), CAPACITY / 10, &mut evicted);
        }
        assert!(evicted.is_empty(), "{strategy:?} let {evicted:?} go");
        assert!((0..10).all(|key| cache.get(Key(key))));
    }
}

#[test]
fn a_capacity_of_nothing_keeps_nothing_that_weighs() {
    for strategy in registry() {
        let mut cache = (strategy.new)(0);
        let mut evicted = Vec::new();
        cache.insert(Key(1), 1, &mut evicted);
        assert_eq!((evicted, cache.len()), (vec![Key(1)], 0));
    }
}

#[test]
fn the_default_is_in_the_registry() {
    assert!(registry().contains(default_strategy()));
}

//! Every strategy against a slow reference of its own: plain vectors, searched from end to end, as close to the words of the
//! strategy's source as code comes. Same hits, same evictions in the same order, call by call.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod arc;
mod counted;
mod decayed;
mod queues;
mod s3_fifo;
mod w_tinylfu;

use proptest::prelude::*;
use waypost_cache::{Cache, Key, find, registry};

/// What a reference does.
trait Reference {
    /// Whether it is kept.
    fn get(&mut self, key: u64) -> bool;
    /// What goes.
    fn insert(&mut self, key: u64, weight: u64) -> Vec<u64>;
    /// Whether it was kept.
    fn remove(&mut self, key: u64) -> bool;
}

type Make = fn(u64) -> Box<dyn Reference>;

/// `auto` does what the strategy it picked does; its own tests are beside its file, and `traces.rs`.
const REFERENCES: &[(&str, Make)] = &[
    ("lru", |capacity| Box::new(queues::Lru::new(capacity))),
    ("fifo", |capacity| Box::new(queues::Fifo::new(capacity))),
    ("sieve", |capacity| Box::new(queues::Sieve::new(capacity))),
    ("lfu", |capacity| Box::new(counted::Counted::lfu(capacity))),
    ("mfu", |capacity| Box::new(counted::Counted::mfu(capacity))),
    ("lru-lfu", |capacity| Box::new(decayed::Lrfu::new(capacity))),
    ("arc", |capacity| Box::new(arc::Arc::new(capacity))),
    ("s3-fifo", |capacity| {
        Box::new(s3_fifo::S3Fifo::new(capacity))
    }),
    ("w-tinylfu", |capacity| {
        Box::new(w_tinylfu::WTinyLfu::new(capacity))
    }),
];

#[derive(Clone, Copy, Debug)]
enum Step {
    /// As who reads through a cache does: look, and insert what was not there.
    Want(u64, u64),
    Get(u64),
    Insert(u64, u64),
    Remove(u64),
}

struct Pair {
    name: &'static str,
    cache: Box<dyn Cache>,
    reference: Box<dyn Reference>,
    evicted: Vec<Key>,
}

impl Pair {
    fn new(name: &'static str, make: Make, capacity: u64) -> Self {
        Self {
            name,
            cache: (find(name).unwrap().new)(capacity),
            reference: make(capacity),
            evicted: Vec::new(),
        }
    }

    fn get(&mut self, key: u64) -> bool {
        let is_kept = self.cache.get(Key(key));
        assert_eq!(is_kept, self.reference.get(key), "{}: get {key}", self.name);
        is_kept
    }

    fn insert(&mut self, key: u64, weight: u64) {
        self.evicted.clear();
        self.cache.insert(Key(key), weight, &mut self.evicted);
        let evicted: Vec<_> = self.evicted.iter().map(|key| key.0).collect();
        let expect = self.reference.insert(key, weight);
        assert_eq!(evicted, expect, "{}: insert {key} {weight}", self.name);
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Want(key, weight) => {
                if !self.get(key) {
                    self.insert(key, weight);
                }
            }
            Step::Get(key) => {
                self.get(key);
            }
            Step::Insert(key, weight) => self.insert(key, weight),
            Step::Remove(key) => assert_eq!(
                self.cache.remove(Key(key)),
                self.reference.remove(key),
                "{}: remove {key}",
                self.name
            ),
        }
    }
}

#[test]
fn every_strategy_has_a_reference() {
    for strategy in registry().iter().filter(|it| it.name != "auto") {
        assert!(REFERENCES.iter().any(|(name, _)| *name == strategy.name));
    }
}

fn keys() -> impl proptest::strategy::Strategy<Value = u64> {
    // Some are wanted much more often than others.
    prop_oneof![3 => 0..5_u64, 3 => 0..20_u64, 2 => 0..60_u64]
}

fn steps(weights: std::ops::Range<u64>) -> impl proptest::strategy::Strategy<Value = Vec<Step>> {
    let weight = move || weights.clone();
    let step = prop_oneof![
        20 => (keys(), weight()).prop_map(|(key, weight)| Step::Want(key, weight)),
        2 => keys().prop_map(Step::Get),
        2 => (keys(), weight()).prop_map(|(key, weight)| Step::Insert(key, weight)),
        1 => keys().prop_map(Step::Remove),
    ];
    proptest::collection::vec(step, 0..600)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn by_entries(steps in steps(1..2), capacity in 0..40_u64) {
        for (name, make) in REFERENCES {
            let mut pair = Pair::new(name, *make, capacity);
            for step in &steps {
                pair.take(*step);
            }
        }
    }

    #[test]
    fn by_bytes(steps in steps(0..60), capacity in 0..400_u64) {
        for (name, make) in REFERENCES {
            let mut pair = Pair::new(name, *make, capacity);
            for step in &steps {
                pair.take(*step);
            }
        }
    }
}

/// What programs do: some keys often, loops, scans, and a working set that moves.
fn trace() -> Vec<u64> {
    let mut state = 42_u64;
    let mut random = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut trace = Vec::new();
    for round in 0..30_u64 {
        for _ in 0..150 {
            let below = 1 + random(200);
            trace.push(random(below) + round * 5);
        }
        trace.extend((0..2).flat_map(|_| 10_000..10_080));
        trace.extend(20_000 + round * 60..20_060 + round * 60);
    }
    trace
}

#[test]
fn traces_as_programs_make_them() {
    for (name, make) in REFERENCES {
        for capacity in [1, 2, 10, 50, 100] {
            let mut pair = Pair::new(name, *make, capacity);
            for key in trace() {
                pair.take(Step::Want(key, 1));
            }
            let mut pair = Pair::new(name, *make, capacity * 100);
            for key in trace() {
                pair.take(Step::Want(key, 1 + key * 7 % 200));
            }
        }
    }
}

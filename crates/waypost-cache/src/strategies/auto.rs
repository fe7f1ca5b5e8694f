//! Tries all the others on the keys only, and does what the best of them does.
//!
//! Beside the strategy at work every strategy of the registry runs as a ghost: it keeps keys and no values, sees the same
//! requests, and its hits are what it would have been good for. As long as fewer than [`GHOST_ENTRIES_MAX`] entries are kept
//! ghosts see everything; beyond that a sample of the keys, chosen by their hash, in a cache that is smaller by as much.
//! Waldspurger, Park, Garthwaite, Ahmad: Efficient MRC Construction with SHARDS, FAST 2015.
//!
//! Requests are played to the ghosts in batches, one ghost after the other, so that each finds its own entries in the
//! processor's cache. A ghost's hits count less the longer they are ago. Who is better by a margin takes over, and is left
//! alone for a while: that is the hysteresis. A move loses nothing: the new strategy is given what the old one kept, what
//! would have gone first first. It takes as long as inserting all that anew.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use super::OTHERS;
use crate::{Cache, Key, Strategy};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "auto",
    aliases: &["adaptive"],
    summary: "runs every other strategy on the keys only and does what the best of them does",
    source: "ghost caches, sampled as in SHARDS (Waldspurger, Park, Garthwaite and Ahmad 2015, FAST)",
    new: |capacity| Box::new(Auto::new(capacity)),
};

/// From so many entries on ghosts see a sample: half of the keys, then a quarter, so that a ghost keeps fewer than this.
const GHOST_ENTRIES_MAX: usize = 4_096;

/// So many requests are played to the ghosts at once.
const BATCH: usize = 256;

/// A ghost's hits count by half after so many requests for each entry it keeps,
const HALF_LIFE_TURNOVERS: f64 = 8.0;

/// and after at least so many.
const HALF_LIFE_REQUESTS_MIN: f64 = 4000.0;

/// Better by this part of the recent requests takes over.
const MARGIN: f64 = 0.005;

/// And by so many times the square root of the recent requests: less may be chance.
const EVIDENCE: f64 = 0.3;

/// After a move there is none for this part of a half-life.
const REST_HALF_LIVES: f64 = 0.1;

/// Where it begins: the place in [`OTHERS`].
const FIRST: usize = 7;

/// The seed of the hash that samples: none that a strategy's own table uses.
const SAMPLE_SEED: u64 = 0x5a3d;

/// What happened, as the ghosts are told.
#[derive(Clone, Copy)]
enum Event {
    /// Wanted, and it was there.
    Hit(Key, u64),
    /// Wanted, and it was read.
    Miss(Key, u64),
    /// Read though nobody asked for it.
    Put(Key, u64),
    Gone(Key),
}

struct Ghost {
    strategy: &'static Strategy,
    cache: Box<dyn Cache>,
    /// Hits, those long ago counted less.
    recent: f64,
}

impl Ghost {
    fn new(strategy: &'static Strategy, capacity: u64) -> Self {
        Self {
            strategy,
            cache: (strategy.new)(capacity),
            recent: 0.0,
        }
    }

    /// Plays a batch; how many hits.
    fn play(&mut self, batch: &[Event], evicted: &mut Vec<Key>) -> u32 {
        let mut hits = 0;
        for event in batch {
            match *event {
                Event::Hit(key, weight) => {
                    if self.cache.get(key) {
                        hits += 1;
                    } else {
                        self.cache.insert(key, weight, evicted);
                    }
                }
                Event::Miss(key, weight) => {
                    if self.cache.get(key) && self.cache.weight_of(key) == Some(weight) {
                        hits += 1;
                    } else {
                        self.cache.insert(key, weight, evicted);
                    }
                }
                Event::Put(key, weight) => {
                    if self.cache.weight_of(key) != Some(weight) {
                        self.cache.insert(key, weight, evicted);
                    }
                }
                Event::Gone(key) => {
                    self.cache.remove(key);
                }
            }
            evicted.clear();
        }
        hits
    }
}

struct Auto {
    capacity: u64,
    /// What is at work, and whose ghost is its own.
    working: Box<dyn Cache>,
    at: usize,
    ghosts: Vec<Ghost>,
    /// The ghosts see one key of 2 to this.
    sample_shift: u32,
    batch: Vec<Event>,
    /// Somebody wanted it and it was not there: if it is inserted next, that was a miss.
    missed: Option<Key>,
    /// Requests the ghosts saw, those long ago counted less, as their hits.
    recent: f64,
    requests: u64,
    /// Requests the ghosts saw since the last move.
    rested: f64,
    moves: u64,
    moved_at: u64,
    evicted: Vec<Key>,
}

impl Auto {
    fn new(capacity: u64) -> Self {
        let ghosts: Vec<_> = OTHERS
            .iter()
            .map(|strategy| Ghost::new(strategy, capacity))
            .collect();
        let first = OTHERS.get(FIRST).unwrap_or(super::default_strategy());
        Self {
            capacity,
            working: (first.new)(capacity),
            at: FIRST,
            ghosts,
            sample_shift: 0,
            batch: Vec::with_capacity(BATCH),
            missed: None,
            recent: 0.0,
            requests: 0,
            rested: 0.0,
            moves: 0,
            moved_at: 0,
            evicted: Vec::new(),
        }
    }

    fn is_sampled(&self, key: Key) -> bool {
        self.sample_shift == 0
            || FixedState::with_seed(SAMPLE_SEED).hash_one(key) >> (64 - self.sample_shift) == 0
    }

    fn tell(&mut self, event: Event) {
        self.batch.push(event);
        if self.batch.len() >= BATCH {
            self.learn();
        }
    }

    #[allow(
        clippy::cast_precision_loss,
        reason = "a number of entries, in 53 bits"
    )]
    fn learn(&mut self) {
        let wanted = self
            .batch
            .iter()
            .filter(|event| matches!(event, Event::Hit(..) | Event::Miss(..)))
            .count() as f64;
        let entries = (self.working.len() >> self.sample_shift) as f64;
        let half_life = (entries * HALF_LIFE_TURNOVERS).max(HALF_LIFE_REQUESTS_MIN);
        let keep = (-wanted / half_life).exp2();
        for ghost in &mut self.ghosts {
            let hits = ghost.play(&self.batch, &mut self.evicted);
            ghost.recent = ghost.recent * keep + f64::from(hits);
        }
        self.batch.clear();
        self.recent = self.recent * keep + wanted;
        self.rested += wanted;
        if self.rested >= half_life * REST_HALF_LIVES {
            self.choose();
        }
        while self.working.len() >> self.sample_shift >= GHOST_ENTRIES_MAX {
            self.sample_fewer();
        }
    }

    fn choose(&mut self) {
        let working = self.ghosts.get(self.at).map_or(0.0, |ghost| ghost.recent);
        let best = self
            .ghosts
            .iter()
            .enumerate()
            .max_by(|a, b| a.1.recent.total_cmp(&b.1.recent));
        let Some((at, best)) = best else { return };
        let margin = self.recent * MARGIN + self.recent.sqrt() * EVIDENCE;
        if best.recent - working <= margin {
            return;
        }
        let mut next = (best.strategy.new)(self.capacity);
        self.working
            .each(&mut |key, weight| next.insert(key, weight, &mut self.evicted));
        self.evicted.clear();
        self.working = next;
        self.at = at;
        self.rested = 0.0;
        self.moves += 1;
        self.moved_at = self.requests;
    }

    /// Halves the sample: ghosts begin anew with those of their keys that are still in it.
    fn sample_fewer(&mut self) {
        self.sample_shift += 1;
        let mut ghosts = std::mem::take(&mut self.ghosts);
        for ghost in &mut ghosts {
            let mut smaller = (ghost.strategy.new)(self.capacity >> self.sample_shift);
            ghost.cache.each(&mut |key, weight| {
                if self.is_sampled(key) {
                    smaller.insert(key, weight, &mut Vec::new());
                }
            });
            ghost.cache = smaller;
        }
        self.ghosts = ghosts;
    }
}

impl Cache for Auto {
    fn get(&mut self, key: Key) -> bool {
        self.requests += 1;
        let is_kept = self.working.get(key);
        if self.is_sampled(key) {
            match self.working.weight_of(key) {
                Some(weight) => self.tell(Event::Hit(key, weight)),
                None => self.missed = Some(key),
            }
        }
        is_kept
    }

    fn insert(&mut self, key: Key, weight: u64, evicted: &mut Vec<Key>) {
        if self.is_sampled(key) {
            let event = if self.missed.take() == Some(key) {
                Event::Miss(key, weight)
            } else {
                Event::Put(key, weight)
            };
            self.tell(event);
        }
        self.working.insert(key, weight, evicted);
    }

    fn remove(&mut self, key: Key) -> bool {
        if self.is_sampled(key) {
            self.tell(Event::Gone(key));
        }
        self.working.remove(key)
    }

    fn weight_of(&self, key: Key) -> Option<u64> {
        self.working.weight_of(key)
    }

    fn weight(&self) -> u64 {
        self.working.weight()
    }

    fn len(&self) -> usize {
        self.working.len()
    }

    fn each(&self, visit: &mut dyn FnMut(Key, u64)) {
        self.working.each(visit);
    }

    fn explain(&self) -> String {
        let mut ghosts: Vec<_> = self.ghosts.iter().enumerate().collect();
        ghosts.sort_by(|a, b| b.1.recent.total_cmp(&a.1.recent));
        let ratios: Vec<_> = ghosts
            .iter()
            .map(|(_, ghost)| {
                let per_cent = 100.0 * ghost.recent / self.recent.max(1.0);
                format!("{} {per_cent:.1} %", ghost.strategy.name)
            })
            .collect();
        let name = OTHERS.get(self.at).map_or("", |strategy| strategy.name);
        let since = match self.moves {
            0 => "from the beginning".to_owned(),
            1 => format!("since request {}, after 1 move", self.moved_at),
            moves => format!("since request {}, after {moves} moves", self.moved_at),
        };
        let sample = match self.sample_shift {
            0 => "all keys".to_owned(),
            shift => format!("one key in {}", 1_u64 << shift),
        };
        format!(
            "{name} {since}; of {} requests lately the keys-only runs hit ({sample}): {}",
            self.recent.round(),
            ratios.join(", ")
        )
    }
}

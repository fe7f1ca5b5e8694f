//! Tries all the others on the keys only, and does what the best of them does.
//!
//! Beside the strategy at work every other one runs as a ghost: it keeps keys and no values, sees the same requests, and its
//! hits are what it would have been good for. As long as fewer than [`GHOST_ENTRIES_MAX`] entries are kept ghosts see
//! everything, and one of them is itself at work; beyond that they see a sample of the keys, chosen by their hash, in a cache
//! that is smaller by as much. Waldspurger, Park, Garthwaite, Ahmad: Efficient MRC Construction with SHARDS, FAST 2015.
//!
//! Requests are played to the ghosts in batches, one ghost after the other, so that each finds its own entries in the
//! processor's cache. A ghost's hits count less the longer they are ago. Who is better by a margin, and by a part of what a
//! move costs (each key that it would have and that is not here must be read), takes over, and is left alone for a while:
//! that is the hysteresis. How a move goes is in `at_work.rs`: nothing that was learnt is lost, and nothing is thrown away at
//! once. A ghost that sees a sample has not learnt enough to be at work: its strategy first runs on all keys for a turnover,
//! and takes over if it is still the best then.

mod at_work;

use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use self::at_work::AtWork;
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

/// and after at least so many: some loops are long.
const HALF_LIFE_REQUESTS_MIN: f64 = 24_000.0;

/// Better by this part of the recent requests takes over,
const MARGIN: f64 = 0.005;

/// and by so many times the square root of the recent requests: less may be chance;
const EVIDENCE: f64 = 0.3;

/// and by this part of the keys that it would have and that would have to be read.
const COST: f64 = 0.25;

/// In the beginning and after a move there is none for this part of a half-life.
const REST_HALF_LIVES: f64 = 0.05;

/// What a move costs is asked again after this part of a turnover.
const ASK_AGAIN_TURNOVERS: f64 = 0.5;

/// Where a cache begins that is small enough for complete ghosts: the place in [`OTHERS`]. It is the best on most small ones.
const FIRST: usize = 8;

/// Where a larger one begins, while nothing had to go yet: what a move would cost there is more than the first may lose.
const FIRST_LARGE: usize = 7;

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
    /// `None`: it sees everything and is itself at work.
    cache: Option<Box<dyn Cache>>,
    /// Hits, those long ago counted less.
    recent: f64,
}

impl Ghost {
    fn new(strategy: &'static Strategy, capacity: u64) -> Self {
        Self {
            strategy,
            cache: Some((strategy.new)(capacity)),
            recent: 0.0,
        }
    }

    /// Plays a batch; how many hits.
    fn play(&mut self, batch: &[Event], evicted: &mut Vec<Key>) -> Option<u32> {
        let cache = self.cache.as_mut()?;
        let mut hits = 0;
        for event in batch {
            match *event {
                Event::Hit(key, weight) => {
                    if cache.get(key) {
                        hits += 1;
                    } else {
                        cache.insert(key, weight, evicted);
                    }
                }
                Event::Miss(key, weight) => {
                    if cache.get(key) && cache.weight_of(key) == Some(weight) {
                        hits += 1;
                    } else {
                        cache.insert(key, weight, evicted);
                    }
                }
                Event::Put(key, weight) => {
                    if cache.weight_of(key) != Some(weight) {
                        cache.insert(key, weight, evicted);
                    }
                }
                Event::Gone(key) => {
                    cache.remove(key);
                }
            }
            evicted.clear();
        }
        Some(hits)
    }
}

/// A strategy that is about to take over. It sees all keys, until it knows enough.
struct Next {
    at: usize,
    cache: Box<dyn Cache>,
    /// Requests until then.
    requests: usize,
}

impl Next {
    /// Plays what was wanted, and is here if it weighs something.
    fn get(&mut self, key: Key, weight: Option<u64>, evicted: &mut Vec<Key>) {
        self.requests = self.requests.saturating_sub(1);
        if !self.cache.get(key)
            && let Some(weight) = weight
        {
            self.cache.insert(key, weight, evicted);
            evicted.clear();
        }
    }

    /// Plays what was read.
    fn insert(&mut self, key: Key, weight: u64, evicted: &mut Vec<Key>) {
        if self.cache.weight_of(key) != Some(weight) {
            self.cache.insert(key, weight, evicted);
            evicted.clear();
        }
    }
}

struct Auto {
    capacity: u64,
    /// What is at work, and whose ghost is its own.
    working: AtWork,
    /// Who may take over next, where ghosts see a sample.
    next: Option<Next>,
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
    /// Requests the ghosts see before the next choice.
    rest: f64,
    /// Something had to go: until then all strategies keep the same.
    has_evicted: bool,
    moves: u64,
    moved_at: u64,
    evicted: Vec<Key>,
}

impl Auto {
    fn new(capacity: u64) -> Self {
        let mut ghosts: Vec<_> = OTHERS
            .iter()
            .map(|strategy| Ghost::new(strategy, capacity))
            .collect();
        let first = ghosts.get_mut(FIRST).and_then(|ghost| ghost.cache.take());
        let first = first.unwrap_or_else(|| (super::default_strategy().new)(capacity));
        Self {
            capacity,
            working: AtWork::new(first, capacity),
            next: None,
            at: FIRST,
            ghosts,
            sample_shift: 0,
            batch: Vec::with_capacity(BATCH),
            missed: None,
            recent: 0.0,
            requests: 0,
            rest: HALF_LIFE_REQUESTS_MIN * REST_HALF_LIVES,
            has_evicted: false,
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
        let half_life = self.half_life();
        let keep = (-wanted / half_life).exp2();
        let hits_at_work = self.working.take_hits();
        for ghost in &mut self.ghosts {
            let hits = ghost.play(&self.batch, &mut self.evicted);
            ghost.recent = ghost.recent * keep + f64::from(hits.unwrap_or(hits_at_work));
        }
        self.batch.clear();
        self.recent = self.recent * keep + wanted;
        self.rest -= wanted;
        if self.rest <= 0.0 {
            self.choose();
        }
        while self.working.len() >> self.sample_shift >= GHOST_ENTRIES_MAX {
            self.sample_fewer();
        }
    }

    /// In requests the ghosts see.
    fn half_life(&self) -> f64 {
        (self.turnover() * HALF_LIFE_TURNOVERS).max(HALF_LIFE_REQUESTS_MIN)
    }

    /// As many requests as a ghost has entries.
    #[allow(
        clippy::cast_precision_loss,
        reason = "a number of entries, in 53 bits"
    )]
    fn turnover(&self) -> f64 {
        (self.working.len() >> self.sample_shift) as f64
    }

    fn choose(&mut self) {
        let ghosts = self.ghosts.iter().enumerate();
        let best = ghosts.max_by(|a, b| a.1.recent.total_cmp(&b.1.recent));
        let working = self.ghosts.get(self.at);
        let (Some((at, best)), Some(working)) = (best, working) else {
            return;
        };
        let gain = best.recent - working.recent;
        if gain <= self.recent * MARGIN + self.recent.sqrt() * EVIDENCE {
            self.next = None;
            return;
        }
        if gain <= self.cost(best) * COST {
            self.rest = self.turnover() * ASK_AGAIN_TURNOVERS;
            return;
        }
        if self.sample_shift == 0 {
            self.move_to(at);
            return;
        }
        match self.next.take() {
            Some(next) if next.at == at && next.requests == 0 => {
                self.working.hand_over(next.cache);
                self.note_move(at);
            }
            Some(next) if next.at == at => self.next = Some(next),
            _ => {
                let mut cache = (best.strategy.new)(self.capacity);
                self.working
                    .each(&mut |key, weight| cache.insert(key, weight, &mut self.evicted));
                self.evicted.clear();
                let requests = self.working.len();
                self.next = Some(Next {
                    at,
                    cache,
                    requests,
                });
            }
        }
    }

    /// How many keys a ghost has that are not here.
    fn cost(&self, ghost: &Ghost) -> f64 {
        let mut absent = 0.0;
        if let Some(cache) = &ghost.cache {
            cache.each(&mut |key, _| {
                if self.working.weight_of(key).is_none() {
                    absent += 1.0;
                }
            });
        }
        absent
    }

    /// Lets a complete ghost take over.
    fn move_to(&mut self, to: usize) {
        let next = self.ghosts.get_mut(to).and_then(|it| it.cache.take());
        let Some(next) = next else { return };
        let last = self.working.hand_over(next);
        if let Some(ghost) = self.ghosts.get_mut(self.at) {
            ghost.cache = Some(last);
        }
        self.note_move(to);
    }

    fn note_move(&mut self, to: usize) {
        self.at = to;
        self.rest = self.half_life() * REST_HALF_LIVES;
        self.moves += 1;
        self.moved_at = self.requests;
    }

    /// Halves the sample: ghosts begin anew with those of their keys that are still in it.
    fn sample_fewer(&mut self) {
        if self.sample_shift == 0 && !self.has_evicted {
            self.move_to(FIRST_LARGE);
            self.moves = 0;
        }
        self.sample_shift += 1;
        let mut evicted = Vec::new();
        let mut ghosts = std::mem::take(&mut self.ghosts);
        for ghost in &mut ghosts {
            let mut smaller = (ghost.strategy.new)(self.capacity >> self.sample_shift);
            let cache = match &ghost.cache {
                Some(cache) => &**cache,
                None => self.working.strategy(),
            };
            cache.each(&mut |key, weight| {
                if self.is_sampled(key) {
                    smaller.insert(key, weight, &mut evicted);
                }
            });
            ghost.cache = Some(smaller);
        }
        self.ghosts = ghosts;
    }
}

impl Cache for Auto {
    fn get(&mut self, key: Key) -> bool {
        self.requests += 1;
        let is_kept = self.working.get(key);
        if let Some(next) = &mut self.next {
            next.get(key, self.working.weight_of(key), &mut self.evicted);
        }
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
        if let Some(next) = &mut self.next {
            next.insert(key, weight, &mut self.evicted);
        }
        let before = evicted.len();
        self.working.insert(key, weight, evicted);
        self.has_evicted |= evicted.len() > before;
    }

    fn remove(&mut self, key: Key) -> bool {
        if self.is_sampled(key) {
            self.tell(Event::Gone(key));
        }
        if let Some(next) = &mut self.next {
            next.cache.remove(key);
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

#[cfg(test)]
mod tests;

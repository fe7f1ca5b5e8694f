//! The subscriptions of a shard, as a trie over topic levels.
//!
//! A node stands for a filter or the beginning of one. It names its `+` and its `#` child itself; its literal
//! children are found in one hash table for the whole trie, by parent and level. A match goes level by level with the
//! list of nodes that fit so far, so its cost is the number of nodes visited, and each node is visited at most once.

use hashbrown::HashTable;
use waypost_mqtt::Filter;

use super::hash::Seed;
use super::levels::{LevelId, Levels, shrink};
use super::slab::Slab;
use super::subscribers::{Lists, Subscribers};
use super::versions::{PREFIX_LEVELS_MAX, Prefixes, Stamp, Versions};
use super::{Matched, SubscriberId, Subscription};

/// Stands for a filter that has a subscriber: what a session keeps instead of the string.
///
/// It is good for as long as the session keeps its subscription; the number is used again afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilterId(u32);

/// 32 bytes.
struct Node {
    parent: u32,
    level: LevelId,
    /// The `+` child, or [`NO_CHILD`].
    single: u32,
    /// The `#` child, or [`NO_CHILD`].
    multi: u32,
    /// How many literal children it has: a match asks the table only where there are some.
    literals: u32,
    subscribers: Subscribers,
}

const _: () = assert!(size_of::<Option<Node>>() == 32, "two nodes to a cache line");

const ROOT: u32 = 0;
/// The root is nobody's child.
const NO_CHILD: u32 = ROOT;

/// All subscriptions of a shard: filter and subscriber to [`Subscription`].
pub struct SubscriptionIndex {
    seed: Seed,
    levels: Levels,
    nodes: Slab<Node>,
    /// Every literal node but the root, found by the hash of its parent and level.
    edges: HashTable<u32>,
    lists: Lists,
    versions: Versions,
    len: usize,
}

/// How many elements a scratch `Vec` keeps room for between two matches.
pub(super) const SCRATCH_KEPT: usize = 4096;

/// Memory to match in, used again and again.
#[derive(Default)]
pub(super) struct MatchScratch {
    /// The nodes that fit, from the root on; those of the level under way are the last.
    frontier: Vec<u32>,
    matched: Vec<Matched>,
}

impl MatchScratch {
    /// Gives back what only an unusually large match needs.
    pub(super) fn trim(&mut self) {
        self.frontier.clear();
        self.frontier.shrink_to(SCRATCH_KEPT);
        self.matched.clear();
        self.matched.shrink_to(SCRATCH_KEPT);
    }
}

impl SubscriptionIndex {
    /// An empty index whose hashes nobody can predict without the seed.
    pub fn new(seed: u64) -> Self {
        let seed = Seed::new(seed);
        let mut index = Self {
            levels: Levels::new(seed.clone()),
            seed,
            nodes: Slab::new(),
            edges: HashTable::new(),
            lists: Lists::new(),
            versions: Versions::new(),
            len: 0,
        };
        index.nodes.insert(Node::new(ROOT, LevelId::MULTI));
        index
    }

    /// Adds a subscription, or replaces the one this subscriber has with this filter; answers what it replaced.
    pub fn insert(
        &mut self,
        filter: Filter<'_>,
        subscriber: SubscriberId,
        subscription: Subscription,
    ) -> (FilterId, Option<Subscription>) {
        let mut id = ROOT;
        for text in filter.levels() {
            id = match text {
                "+" => self.child_or_insert(id, LevelId::SINGLE),
                "#" => self.child_or_insert(id, LevelId::MULTI),
                _ => {
                    let level = self.levels.acquire(text);
                    self.child_or_insert(id, level)
                }
            };
        }
        let replaced = match self.nodes.get_mut(id) {
            Some(node) => self
                .lists
                .insert(&mut node.subscribers, subscriber, subscription),
            None => None,
        };
        if replaced.is_none() {
            self.len += 1;
        }
        // A client that comes back and asks for the same again changes nothing.
        if replaced != Some(subscription) {
            self.changed(id);
        }
        (FilterId(id), replaced)
    }

    /// The filter's number, if anything is subscribed to it or to a filter that begins with its levels.
    pub fn find(&self, filter: Filter<'_>) -> Option<FilterId> {
        let mut id = ROOT;
        for text in filter.levels() {
            let level = match text {
                "+" => LevelId::SINGLE,
                "#" => LevelId::MULTI,
                _ => self.levels.find(text)?,
            };
            id = self.child(id, level)?;
        }
        Some(FilterId(id))
    }

    /// What this subscriber asked for with this filter.
    pub fn get(&self, filter: FilterId, subscriber: SubscriberId) -> Option<Subscription> {
        self.lists
            .get(self.nodes.get(filter.0)?.subscribers, subscriber)
    }

    /// Ends a subscription; the last one with a filter frees its nodes and levels.
    pub fn remove(&mut self, filter: FilterId, subscriber: SubscriberId) -> Option<Subscription> {
        let node = self.nodes.get_mut(filter.0)?;
        let removed = self.lists.remove(&mut node.subscribers, subscriber)?;
        self.len -= 1;
        self.changed(filter.0);
        self.prune(filter.0);
        Some(removed)
    }

    /// The filter as a string.
    pub fn filter_string(&self, filter: FilterId) -> String {
        let mut levels = Vec::new();
        self.climb(filter.0, |level| levels.push(self.levels.text(level)));
        levels.reverse();
        levels.join("/")
    }

    /// Fills `out` with the subscriptions that match a topic, ordered by subscriber, so that those of one stand side
    /// by side.
    pub fn matches(&self, topic: &str, out: &mut Vec<Matched>) {
        let mut scratch = MatchScratch {
            frontier: Vec::new(),
            matched: std::mem::take(out),
        };
        self.collect(topic, &mut scratch);
        *out = scratch.matched;
    }

    /// As [`Self::matches`], in memory that can be used again.
    pub(super) fn collect<'a>(&self, topic: &str, scratch: &'a mut MatchScratch) -> &'a [Matched] {
        let matched = &mut scratch.matched;
        matched.clear();
        let mut lists = 0;
        self.walk(topic, &mut scratch.frontier, |subscribers| {
            lists += 1;
            self.lists
                .for_each(subscribers, |subscriber, subscription| {
                    matched.push(Matched {
                        subscriber,
                        subscription,
                    });
                });
        });
        if lists > 1 {
            // Each list is in order; a stable sort finds these runs and merges them.
            matched.sort_by_key(|matched| matched.subscriber);
        }
        matched
    }

    fn walk(&self, topic: &str, frontier: &mut Vec<u32>, mut found: impl FnMut(Subscribers)) {
        let mut report = |subscribers: Subscribers| {
            if !subscribers.is_none() {
                found(subscribers);
            }
        };
        // [MQTT-4.7.2-1]: a filter that begins with a wildcard does not match a topic that begins with $.
        let mut wildcards = !topic.starts_with('$');
        frontier.clear();
        frontier.push(ROOT);
        let mut first = 0;
        for text in topic.split('/') {
            let end = frontier.len();
            if first == end {
                return;
            }
            let mut level = None;
            for position in first..end {
                let Some(&id) = frontier.get(position) else {
                    break;
                };
                let Some(node) = self.nodes.get(id) else {
                    continue;
                };
                if wildcards {
                    if node.multi != NO_CHILD {
                        report(self.subscribers(node.multi));
                    }
                    if node.single != NO_CHILD {
                        frontier.push(node.single);
                    }
                }
                if node.literals > 0
                    && let Some(level) = *level.get_or_insert_with(|| self.levels.find(text))
                    && let Some(child) = self.literal_child(id, level)
                {
                    frontier.push(child);
                }
            }
            first = end;
            wildcards = true;
        }
        for &id in frontier.get(first..).unwrap_or_default() {
            let Some(node) = self.nodes.get(id) else {
                continue;
            };
            report(node.subscribers);
            // 4.7.1.2: the multi-level wildcard represents the parent too; a/# matches a.
            if node.multi != NO_CHILD {
                report(self.subscribers(node.multi));
            }
        }
    }

    /// Number of subscriptions.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no subscription.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of nodes: of distinct filters and distinct beginnings of filters.
    pub fn nodes(&self) -> usize {
        self.nodes.len() - 1
    }

    /// Number of distinct literal levels.
    pub fn levels(&self) -> usize {
        self.levels.len()
    }

    /// Number of literal edges.
    pub fn edges(&self) -> usize {
        self.edges.len()
    }

    /// Bytes on the heap, as asked of the allocator.
    pub fn bytes(&self) -> usize {
        self.levels.bytes()
            + self.nodes.bytes()
            + self.edges.allocation_size()
            + self.lists.bytes()
            + self.versions.bytes()
    }

    /// Counts every change of the index.
    #[inline]
    pub(super) fn version(&self) -> u64 {
        self.versions.all()
    }

    /// Which changes concern a topic.
    pub(super) fn prefixes(&self, topic: &str) -> Prefixes {
        Prefixes::new(topic.split('/').map(|text| self.levels.hash(text)))
    }

    #[inline]
    pub(super) fn stamp(&self, prefixes: Prefixes) -> Stamp {
        self.versions.stamp(prefixes)
    }

    fn subscribers(&self, id: u32) -> Subscribers {
        self.nodes
            .get(id)
            .map_or(Subscribers::None, |node| node.subscribers)
    }

    fn child(&self, parent: u32, level: LevelId) -> Option<u32> {
        let child = match level {
            LevelId::SINGLE => self.nodes.get(parent)?.single,
            LevelId::MULTI => self.nodes.get(parent)?.multi,
            _ => return self.literal_child(parent, level),
        };
        (child != NO_CHILD).then_some(child)
    }

    #[inline]
    fn literal_child(&self, parent: u32, level: LevelId) -> Option<u32> {
        let same = |id: &u32| {
            self.nodes
                .get(*id)
                .is_some_and(|node| node.parent == parent && node.level == level)
        };
        self.edges
            .find(self.seed.pair(parent, level.0), same)
            .copied()
    }

    /// Takes over a reference to the level.
    fn child_or_insert(&mut self, parent: u32, level: LevelId) -> u32 {
        if let Some(child) = self.child(parent, level) {
            self.levels.release(level);
            return child;
        }
        let child = self.nodes.insert(Node::new(parent, level));
        if let Some(node) = self.nodes.get_mut(parent) {
            match level {
                LevelId::SINGLE => node.single = child,
                LevelId::MULTI => node.multi = child,
                _ => {
                    node.literals += 1;
                    let hash = |id: &u32| edge_hash(&self.seed, &self.nodes, *id);
                    self.edges.insert_unique(hash(&child), child, hash);
                }
            }
        }
        child
    }

    /// Frees a node without subscribers and children, and so on upwards.
    fn prune(&mut self, mut id: u32) {
        while id != ROOT {
            let Some(node) = self.nodes.get(id) else {
                return;
            };
            if !node.is_unused() {
                return;
            }
            let (parent, level) = (node.parent, node.level);
            if level != LevelId::SINGLE && level != LevelId::MULTI {
                let hash = edge_hash(&self.seed, &self.nodes, id);
                if let Ok(entry) = self.edges.find_entry(hash, |other| *other == id) {
                    entry.remove();
                }
                self.levels.release(level);
            }
            self.nodes.remove(id);
            if let Some(node) = self.nodes.get_mut(parent) {
                match level {
                    LevelId::SINGLE => node.single = NO_CHILD,
                    LevelId::MULTI => node.multi = NO_CHILD,
                    _ => node.literals -= 1,
                }
            }
            id = parent;
        }
        shrink(&mut self.edges, |id| {
            edge_hash(&self.seed, &self.nodes, *id)
        });
        if self.nodes.len() == 1 {
            // Only the root is left: start again, so that the memory of what was goes back.
            self.nodes = Slab::new();
            self.nodes.insert(Node::new(ROOT, LevelId::MULTI));
        }
    }

    fn changed(&mut self, filter: u32) {
        // The levels nearest the root are met last: keep the latest three, and forget them at a wildcard.
        let mut literals = [LevelId::SINGLE; PREFIX_LEVELS_MAX];
        let mut count = 0;
        self.climb(filter, |level| {
            if level == LevelId::SINGLE || level == LevelId::MULTI {
                count = 0;
            } else {
                literals.rotate_right(1);
                if let Some(first) = literals.first_mut() {
                    *first = level;
                }
                count = PREFIX_LEVELS_MAX.min(count + 1);
            }
        });
        let levels = &self.levels;
        self.versions.change(
            literals
                .into_iter()
                .take(count)
                .map(|level| levels.hash_of(level)),
        );
    }

    /// Calls `each` for the levels of a filter, the last one first.
    fn climb(&self, filter: u32, mut each: impl FnMut(LevelId)) {
        let mut id = filter;
        while id != ROOT
            && let Some(node) = self.nodes.get(id)
        {
            each(node.level);
            id = node.parent;
        }
    }
}

impl Node {
    fn new(parent: u32, level: LevelId) -> Self {
        Self {
            parent,
            level,
            single: NO_CHILD,
            multi: NO_CHILD,
            literals: 0,
            subscribers: Subscribers::None,
        }
    }

    fn is_unused(&self) -> bool {
        self.subscribers.is_none()
            && self.literals == 0
            && self.single == NO_CHILD
            && self.multi == NO_CHILD
    }
}

fn edge_hash(seed: &Seed, nodes: &Slab<Node>, id: u32) -> u64 {
    nodes
        .get(id)
        .map_or(0, |node| seed.pair(node.parent, node.level.0))
}

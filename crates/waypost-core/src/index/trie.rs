//! The subscriptions of a shard, as a trie over topic levels.
//!
//! A node stands for a filter or the beginning of one. It names its `+` and its `#` child itself, and its literal
//! child when there is but one; several are found in one hash table for the whole trie, by parent and level. A match
//! goes level by level with the list of nodes that fit so far, so its cost is the number of nodes visited, and each
//! node is visited at most once.

use waypost_mqtt::Filter;

use super::hash::Seed;
use super::levels::{LevelId, Levels};
use super::slab::Slab;
use super::split_table::SplitTable;
use super::subscribers::{Lists, Subscribers};
use super::versions::{PREFIX_LEVELS_MAX, Prefixes, Stamp, Versions};
use super::{Matched, SubscriberId, Subscription};

/// Stands for a filter that has a subscriber: what a session keeps instead of the string.
///
/// It is good for as long as the session keeps its subscription; the number is used again afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilterId(u32);

impl FilterId {
    /// The number by which another shard names the filter; never 0.
    pub fn number(self) -> u32 {
        self.0
    }

    /// The filter of a number.
    pub fn from_number(number: u32) -> Self {
        Self(number)
    }
}

/// 32 bytes.
struct Node {
    parent: u32,
    level: LevelId,
    /// The `+` child, or [`NO_CHILD`].
    single: u32,
    /// The `#` child, or [`NO_CHILD`].
    multi: u32,
    literals: Literals,
    subscribers: Subscribers,
}

const _: () = assert!(size_of::<Option<Node>>() == 32, "two nodes to a cache line");

/// The literal children of a node, packed into 32 bits: none, the number of the only one, or how many are in the table.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Literals(u32);

const ROOT: u32 = 0;
/// The root is nobody's child.
const NO_CHILD: u32 = ROOT;

/// All subscriptions of a shard: filter and subscriber to [`Subscription`].
pub struct SubscriptionIndex {
    seed: Seed,
    levels: Levels,
    nodes: Slab<Node>,
    /// The literal nodes that are not an only child, found by the hash of parent and level.
    edges: SplitTable,
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
            edges: SplitTable::new(),
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
                    let level = self.levels.acquire(text.as_bytes());
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
                _ => self.levels.find(text.as_bytes())?,
            };
            id = self.child(id, level)?;
        }
        Some(FilterId(id))
    }

    /// Whether exactly one session or group of this shard has this filter.
    pub fn has_one_local(&self, filter: FilterId) -> bool {
        let [first, second] = self.lists.first_two(self.subscribers(filter.0));
        first.is_some_and(SubscriberId::is_local) && !second.is_some_and(SubscriberId::is_local)
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

    /// As [`Self::matches`], in memory that can be used again; answers also which changes would concern this topic.
    pub(super) fn collect<'a>(
        &self,
        topic: &str,
        scratch: &'a mut MatchScratch,
    ) -> (&'a [Matched], Prefixes) {
        let matched = &mut scratch.matched;
        matched.clear();
        let mut lists = 0;
        let prefixes = self.walk(topic.as_bytes(), &mut scratch.frontier, |subscribers| {
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
        (matched, prefixes)
    }

    /// As [`Self::collect`] for this shard's own alone, when their filters that match are known.
    pub(super) fn collect_known<'a>(
        &self,
        topic: &str,
        filters: &mut dyn Iterator<Item = FilterId>,
        scratch: &'a mut MatchScratch,
    ) -> (&'a [Matched], Prefixes) {
        let matched = &mut scratch.matched;
        matched.clear();
        for filter in filters {
            let subscribers = self.subscribers(filter.0);
            self.lists
                .for_each(subscribers, |subscriber, subscription| {
                    if subscriber.is_local() {
                        matched.push(Matched {
                            subscriber,
                            subscription,
                        });
                    }
                });
        }
        matched.sort_by_key(|matched| matched.subscriber);
        debug_assert!(self.are_all_locals(topic, matched), "{topic}");
        let levels = topic.split('/').take(PREFIX_LEVELS_MAX);
        let prefixes = Prefixes::new(levels.map(|level| self.levels.hash(level.as_bytes())));
        (matched, prefixes)
    }

    /// Whether these are the subscriptions of this shard's own that a search finds.
    fn are_all_locals(&self, topic: &str, known: &[Matched]) -> bool {
        let mut found = Vec::new();
        self.matches(topic, &mut found);
        found.retain(|matched| matched.subscriber.is_local());
        found.len() == known.len() && known.iter().all(|matched| found.contains(matched))
    }

    fn walk(
        &self,
        topic: &[u8],
        frontier: &mut Vec<u32>,
        mut found: impl FnMut(Subscribers),
    ) -> Prefixes {
        let mut report = |subscribers: Subscribers| {
            if !subscribers.is_none() {
                found(subscribers);
            }
        };
        // 3.1.1 and 5 [MQTT-4.7.2-1]: a filter that begins with a wildcard does not match a topic that begins with $.
        let mut wildcards = !topic.starts_with(b"$");
        let mut hashes = [0; PREFIX_LEVELS_MAX];
        let mut depth = 0;
        frontier.clear();
        frontier.push(ROOT);
        let mut first = 0;
        for text in topic.split(|byte| *byte == b'/') {
            let mut sought = Sought {
                text,
                hash: self.levels.hash(text),
                level: None,
            };
            let end = frontier.len();
            match hashes.get_mut(depth) {
                Some(hash) => *hash = sought.hash,
                None if first == end => break,
                None => {}
            }
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
                if node.literals != Literals::NONE
                    && let Some(child) = self.literal_child(id, node, sought.hash, |level| {
                        sought.is(level, &self.levels)
                    })
                {
                    frontier.push(child);
                }
            }
            first = end;
            wildcards = true;
            depth += 1;
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
        Prefixes::new(hashes.into_iter().take(depth))
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

    /// Number of literal edges in the table: of those that are not an only child.
    pub fn edges(&self) -> usize {
        self.edges.len()
    }

    /// Bytes on the heap, as asked of the allocator.
    pub fn bytes(&self) -> usize {
        self.levels.bytes()
            + self.nodes.bytes()
            + self.edges.bytes()
            + self.lists.bytes()
            + self.versions.bytes()
    }

    /// Counts every change of the index.
    #[inline]
    pub(super) fn version(&self) -> u64 {
        self.versions.all()
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
        let node = self.nodes.get(parent)?;
        let child = match level {
            LevelId::SINGLE => node.single,
            LevelId::MULTI => node.multi,
            _ => {
                return self.literal_child(parent, node, self.levels.hash_of(level), |other| {
                    other == level
                });
            }
        };
        (child != NO_CHILD).then_some(child)
    }

    #[inline]
    fn literal_child(
        &self,
        parent: u32,
        node: &Node,
        hash: u32,
        mut is_it: impl FnMut(LevelId) -> bool,
    ) -> Option<u32> {
        if let Some(only) = node.literals.only() {
            return is_it(self.nodes.get(only)?.level).then_some(only);
        }
        self.edges.find(self.seed.pair(parent, hash), |id| {
            self.nodes
                .get(id)
                .is_some_and(|child| child.parent == parent && is_it(child.level))
        })
    }

    /// Takes over a reference to the level.
    fn child_or_insert(&mut self, parent: u32, level: LevelId) -> u32 {
        if let Some(child) = self.child(parent, level) {
            self.levels.release(level);
            return child;
        }
        let child = self.nodes.insert(Node::new(parent, level));
        self.link(parent, child, level);
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
            self.unlink(parent, id, level);
            self.nodes.remove(id);
            id = parent;
        }
        if self.nodes.len() == 1 {
            // Only the root is left: start again, so that the memory of what was goes back.
            self.nodes = Slab::new();
            self.nodes.insert(Node::new(ROOT, LevelId::MULTI));
        }
    }

    fn link(&mut self, parent: u32, child: u32, level: LevelId) {
        let Some(node) = self.nodes.get_mut(parent) else {
            return;
        };
        match level {
            LevelId::SINGLE => node.single = child,
            LevelId::MULTI => node.multi = child,
            _ => {
                let only = node.literals.only();
                node.literals = node.literals.with(child);
                if node.literals.only().is_none() {
                    // The second child brings the first into the table.
                    let hash_of = |id| edge_hash(&self.seed, &self.levels, &self.nodes, id);
                    for id in only.into_iter().chain([child]) {
                        self.edges.insert(hash_of(id), id, hash_of);
                    }
                }
            }
        }
    }

    fn unlink(&mut self, parent: u32, child: u32, level: LevelId) {
        let Some(node) = self.nodes.get_mut(parent) else {
            return;
        };
        match level {
            LevelId::SINGLE => node.single = NO_CHILD,
            LevelId::MULTI => node.multi = NO_CHILD,
            _ => {
                let only = node.literals.only();
                node.literals = node.literals.without_one();
                if only.is_none() {
                    let hash_of = |id| edge_hash(&self.seed, &self.levels, &self.nodes, id);
                    self.edges.remove(hash_of(child), child, hash_of);
                }
                self.levels.release(level);
            }
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
            literals: Literals::NONE,
            subscribers: Subscribers::None,
        }
    }

    fn is_unused(&self) -> bool {
        self.subscribers.is_none()
            && self.literals == Literals::NONE
            && self.single == NO_CHILD
            && self.multi == NO_CHILD
    }
}

impl Literals {
    const NONE: Self = Self(0);
    /// Set when the other bits count the children in the table; a single child that was once one of several stays
    /// there.
    const TABLE: u32 = 1 << 31;

    #[inline]
    fn only(self) -> Option<u32> {
        (self != Self::NONE && self.0 & Self::TABLE == 0).then_some(self.0)
    }

    fn with(self, child: u32) -> Self {
        match self.only() {
            _ if self == Self::NONE => Self(child),
            Some(_) => Self(Self::TABLE | 2),
            None => Self(self.0 + 1),
        }
    }

    fn without_one(self) -> Self {
        if self.only().is_some() || self.0 == Self::TABLE | 1 {
            Self::NONE
        } else {
            Self(self.0 - 1)
        }
    }
}

/// A level of a topic, sought among the children of several nodes.
struct Sought<'a> {
    text: &'a [u8],
    hash: u32,
    /// Its number, once a child had it: comparing texts twice is not needed.
    level: Option<LevelId>,
}

impl Sought<'_> {
    #[inline]
    fn is(&mut self, level: LevelId, levels: &Levels) -> bool {
        if let Some(known) = self.level {
            return known == level;
        }
        let found = levels.is(level, self.text, self.hash);
        if found {
            self.level = Some(level);
        }
        found
    }
}

fn edge_hash(seed: &Seed, levels: &Levels, nodes: &Slab<Node>, id: u32) -> u32 {
    nodes
        .get(id)
        .map_or(0, |node| seed.pair(node.parent, levels.hash_of(node.level)))
}

#[cfg(test)]
mod tests {
    use waypost_mqtt::SubscriptionOptions;

    use super::*;

    const SUBSCRIPTION: Subscription = Subscription {
        options: SubscriptionOptions {
            qos: waypost_mqtt::QoS::AtMostOnce,
            no_local: false,
            retain_as_published: false,
            retain_handling: waypost_mqtt::RetainHandling::SendAtSubscribe,
        },
        identifier: 0,
    };

    fn insert(index: &mut SubscriptionIndex, filter: &str, subscriber: u32) -> FilterId {
        let filter = Filter::parse(filter).unwrap();
        index
            .insert(filter, SubscriberId(subscriber), SUBSCRIPTION)
            .0
    }

    fn matches(index: &SubscriptionIndex, topic: &str) -> Vec<u32> {
        let mut matched = Vec::new();
        index.matches(topic, &mut matched);
        matched
            .into_iter()
            .map(|matched| matched.subscriber.0)
            .collect()
    }

    #[test]
    fn wildcards_match_as_the_standard_says() {
        let check = |filter: &str, topic: &str, expect: bool| {
            let mut index = SubscriptionIndex::new(1);
            insert(&mut index, filter, 1);
            assert_eq!(
                !matches(&index, topic).is_empty(),
                expect,
                "{filter} {topic}"
            );
        };
        // 3.1.1 and 5 §4.7.1
        check("sport/tennis/player1/#", "sport/tennis/player1", true);
        check(
            "sport/tennis/player1/#",
            "sport/tennis/player1/score/wimbledon",
            true,
        );
        check("sport/#", "sport", true);
        check("sport/#", "sports", false);
        check("#", "a", true);
        check("#", "/", true);
        check("sport/+", "sport", false);
        check("sport/+", "sport/", true);
        check("sport/tennis/+", "sport/tennis/player1/ranking", false);
        check("+/+", "/finance", true);
        check("/+", "/finance", true);
        check("+", "/finance", false);
        check("+", "finance", true);
        check("/", "/", true);
        check("+/+", "/", true);
        check("a//b", "a//b", true);
        check("a/+/b", "a//b", true);
        check("a/b", "a//b", false);
        check("+/#", "a", true);
        check("a/+/#", "a", false);
        check("a/+/#", "a/", true);
        // 3.1.1 and 5 [MQTT-4.7.2-1]
        check("#", "$SYS/uptime", false);
        check("+/uptime", "$SYS/uptime", false);
        check("$SYS/#", "$SYS/uptime", true);
        check("$SYS/+", "$SYS/uptime", true);
        check("a/+", "a/$SYS", true);
        check("a/#", "a/$SYS", true);
        // 3.1.1 and 5 [MQTT-4.7.3-1], [MQTT-4.7.3-4]: nothing is folded, trimmed or normalized.
        check("ACCOUNTS", "Accounts", false);
        check("a", "a ", false);
        check("\u{e9}", "e\u{301}", false);
    }

    #[test]
    fn a_subscription_is_found_replaced_and_gone() {
        let mut index = SubscriptionIndex::new(1);
        let id = insert(&mut index, "a/+/c", 7);
        let filter = Filter::parse("a/+/c").unwrap();
        assert_eq!(index.find(filter), Some(id));
        assert_eq!(index.filter_string(id), "a/+/c");
        let other = Subscription {
            identifier: 9,
            ..SUBSCRIPTION
        };
        assert_eq!(
            index.insert(filter, SubscriberId(7), other),
            (id, Some(SUBSCRIPTION))
        );
        assert_eq!(index.get(id, SubscriberId(7)), Some(other));
        assert_eq!(index.get(id, SubscriberId(8)), None);
        assert_eq!(index.len(), 1);
        assert_eq!(index.remove(id, SubscriberId(8)), None);
        assert_eq!(index.remove(id, SubscriberId(7)), Some(other));
        assert_eq!(index.remove(id, SubscriberId(7)), None);
        assert_eq!(index.find(filter), None);
        assert!(index.is_empty());
    }

    /// Goal: an end of a subscription takes only what nobody else needs. Method: one trunk, branches cut one by one.
    #[test]
    fn nodes_levels_and_edges_go_with_their_last_filter() {
        let mut index = SubscriptionIndex::new(1);
        let counts = |index: &SubscriptionIndex| (index.nodes(), index.levels(), index.edges());
        let trunk = insert(&mut index, "a/b", 1);
        assert_eq!(counts(&index), (2, 2, 0));
        let below = insert(&mut index, "a/b/c/+/#", 1);
        assert_eq!(counts(&index), (5, 3, 0));
        let beside = insert(&mut index, "a/c", 1);
        assert_eq!(counts(&index), (6, 3, 2));
        index.remove(trunk, SubscriberId(1));
        assert_eq!(counts(&index), (6, 3, 2));
        index.remove(beside, SubscriberId(1));
        assert_eq!(
            counts(&index),
            (5, 3, 1),
            "an only child that was one of several stays in the table"
        );
        assert_eq!(matches(&index, "a/b/c/d"), [1]);
        index.remove(below, SubscriberId(1));
        assert_eq!(counts(&index), (0, 0, 0));
    }

    /// Goal: depth costs time in proportion and no stack. Method: the longest topic there is, 65,535 separators.
    #[test]
    fn the_deepest_filter_is_only_long() {
        let mut index = SubscriptionIndex::new(1);
        let empty = index.bytes();
        let deep = "/".repeat(65_535);
        let wild = format!("{}+", "+/".repeat(32_767));
        let ids = [&deep, &wild].map(|filter| insert(&mut index, filter, 1));
        assert_eq!(index.nodes(), 65_536 + 32_768);
        assert_eq!(index.levels(), 1);
        assert_eq!(index.filter_string(ids[0]), deep);
        assert_eq!(index.filter_string(ids[1]), wild);
        assert_eq!(matches(&index, &deep), [1]);
        assert_eq!(matches(&index, &"/".repeat(32_767)), [1]);
        assert!(matches(&index, &"/".repeat(32_768)).is_empty());
        for id in ids {
            index.remove(id, SubscriberId(1));
        }
        assert_eq!((index.nodes(), index.bytes()), (0, empty));
    }

    /// Goal: filters made to branch everywhere cost no more than the nodes they paid for.
    /// Method: every combination of `+` and a literal in 12 levels; count the nodes a match keeps.
    #[test]
    fn a_match_visits_no_node_twice() {
        let mut index = SubscriptionIndex::new(1);
        for combination in 0..1u32 << 12 {
            let levels = (0..12).map(|n| if combination >> n & 1 == 1 { "+" } else { "a" });
            insert(&mut index, &levels.collect::<Vec<_>>().join("/"), 1);
        }
        let mut scratch = MatchScratch::default();
        let topic = ["a"; 12].join("/");
        assert_eq!(index.collect(&topic, &mut scratch).0.len(), 1 << 12);
        assert_eq!(scratch.frontier.len(), index.nodes() + 1);
        let beside = ["b"; 12].join("/");
        assert_eq!(index.collect(&beside, &mut scratch).0.len(), 1);
        assert_eq!(scratch.frontier.len(), 13);
        // Levels below the deepest filter are not even looked up.
        let longer = format!("{topic}{}", "/a".repeat(10_000));
        assert_eq!(index.collect(&longer, &mut scratch).0.len(), 0);
        assert_eq!(scratch.frontier.len(), index.nodes() + 1);
    }

    /// Goal: nodes with children of the same names are not mixed up. Method: so many that tags in the table collide.
    #[test]
    fn children_are_told_apart_by_their_parents() {
        let mut index = SubscriptionIndex::new(1);
        let leaves = |n| if n % 2 == 0 { ["a", "b"] } else { ["b", "c"] };
        for n in 0..4_000 {
            for leaf in leaves(n) {
                insert(&mut index, &format!("{n}/{leaf}"), n);
            }
        }
        for n in 0..4_000 {
            for leaf in ["a", "b", "c"] {
                let expect = leaves(n).contains(&leaf).then_some(n);
                let found = matches(&index, &format!("{n}/{leaf}"));
                assert_eq!(found, Vec::from_iter(expect));
            }
        }
    }

    #[test]
    fn the_same_subscription_again_changes_nothing() {
        let mut index = SubscriptionIndex::new(1);
        insert(&mut index, "a", 1);
        let version = index.version();
        insert(&mut index, "a", 1);
        assert_eq!(index.version(), version);
        insert(&mut index, "a", 2);
        assert_ne!(index.version(), version);

        let version = index.version();
        let other = Subscription {
            identifier: 9,
            ..SUBSCRIPTION
        };
        index.insert(Filter::parse("a").unwrap(), SubscriberId(2), other);
        assert_ne!(index.version(), version);
    }
}

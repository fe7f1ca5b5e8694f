//! Values by topic, enumerated by filter: the retained messages.
//!
//! The topics are kept in the order of the tree: a topic, then all below it, then its next sibling. Where the filter
//! excludes what comes next, the enumeration jumps over it, so that its cost is the number of branches it visits.
//! A [`Cursor`] is the last topic visited, not a place in memory: it stays good whatever changes between two steps.
//! Topics added or removed behind it are not seen again, those ahead of it are.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use hashbrown::HashTable;
use waypost_mqtt::Filter;

use super::hash::Seed;

/// Takes the place of `/` inside, because it sorts before every character a topic may contain.
const SEPARATOR: char = '\0';
/// The first byte that sorts after the separator: a branch followed by it sorts just after all that is below.
const AFTER_SEPARATOR: char = '\u{1}';
/// The first character that sorts after `$`.
const AFTER_DOLLAR: char = '%';

/// One value per topic.
pub struct TopicTree<V> {
    seed: Seed,
    /// Found by the hash of the topic.
    values: HashTable<(Arc<str>, V)>,
    order: BTreeSet<Arc<str>>,
}

/// Where an enumeration goes on; the default is the beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor(String);

impl<V> TopicTree<V> {
    /// An empty tree whose hashes nobody can predict without the seed.
    pub fn new(seed: u64) -> Self {
        Self {
            seed: Seed::new(seed),
            values: HashTable::new(),
            order: BTreeSet::new(),
        }
    }

    /// Number of topics.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is no topic.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The value of a topic.
    pub fn get(&self, topic: &str) -> Option<&V> {
        self.value(&inside(topic))
    }

    /// The value of a topic, to be changed.
    pub fn get_mut(&mut self, topic: &str) -> Option<&mut V> {
        let topic = inside(topic);
        let hash = self.seed.bytes(topic.as_bytes());
        self.values
            .find_mut(hash, |entry| *entry.0 == *topic)
            .map(|entry| &mut entry.1)
    }

    /// Sets the value of a topic; answers the one before.
    pub fn insert(&mut self, topic: &str, value: V) -> Option<V> {
        let topic = inside(topic);
        let hash = self.seed.bytes(topic.as_bytes());
        if let Some(entry) = self.values.find_mut(hash, |entry| *entry.0 == *topic) {
            return Some(std::mem::replace(&mut entry.1, value));
        }
        let topic: Arc<str> = topic.into();
        self.order.insert(Arc::clone(&topic));
        let seed = &self.seed;
        self.values
            .insert_unique(hash, (topic, value), |entry| seed.bytes(entry.0.as_bytes()));
        None
    }

    /// Takes the value of a topic away.
    pub fn remove(&mut self, topic: &str) -> Option<V> {
        let topic = inside(topic);
        let hash = self.seed.bytes(topic.as_bytes());
        let ((topic, value), _) = self
            .values
            .find_entry(hash, |entry| *entry.0 == *topic)
            .ok()?
            .remove();
        self.order.remove(&topic);
        let seed = &self.seed;
        if self.values.len() * 8 < self.values.capacity() {
            self.values.shrink_to(self.values.len() * 2, |entry| {
                seed.bytes(entry.0.as_bytes())
            });
        }
        Some(value)
    }

    /// Calls `visit` for every topic the filter matches, in the order of the tree.
    pub fn matching(&self, filter: Filter<'_>, visit: &mut dyn FnMut(&str, &V)) {
        self.matching_step(filter, &mut Cursor::default(), usize::MAX, visit);
    }

    /// Looks at up to `steps_max` branches from the cursor on and calls `visit` for the topics the filter matches;
    /// answers whether it came to the end.
    pub fn matching_step(
        &self,
        filter: Filter<'_>,
        cursor: &mut Cursor,
        steps_max: usize,
        visit: &mut dyn FnMut(&str, &V),
    ) -> bool {
        if !filter.has_wildcards() {
            if let Some(value) = self.get(filter.as_str()) {
                visit(filter.as_str(), value);
            }
            return true;
        }
        let filter = inside(filter.as_str());
        let from = &mut cursor.0;
        let mut topic_outside = String::new();
        let mut steps = 0..steps_max;
        while !steps.is_empty() {
            let range = (Bound::Included(from.as_str()), Bound::Unbounded);
            let mut topics = self.order.range::<str, _>(range);
            // As long as topics match, the next is the one to look at; else `from` says where to go on.
            for _ in &mut steps {
                let Some(topic) = topics.next() else {
                    return true;
                };
                match advance(&filter, topic, from) {
                    Advance::Match => {
                        if let Some(value) = self.value(topic) {
                            outside(topic, &mut topic_outside);
                            visit(&topic_outside, value);
                        }
                    }
                    Advance::Skip => break,
                    Advance::End => return true,
                }
            }
        }
        false
    }

    fn value(&self, topic: &str) -> Option<&V> {
        let hash = self.seed.bytes(topic.as_bytes());
        self.values
            .find(hash, |entry| *entry.0 == *topic)
            .map(|entry| &entry.1)
    }
}

enum Advance {
    /// The filter matches the topic.
    Match,
    /// It does not, nor what lies between the topic and the new place.
    Skip,
    /// It matches nothing from here on.
    End,
}

/// Compares a topic with a filter and moves `from` to the next place the filter could match.
fn advance(filter: &str, topic: &str, from: &mut String) -> Advance {
    from.clear();
    let mut names = topic.split(SEPARATOR);
    // The bytes of the topic that the filter has matched, with the separator that follows.
    let mut matched = 0;
    for level in filter.split(SEPARATOR) {
        // 3.1.1 and 5 [MQTT-4.7.2-1]: a filter that begins with a wildcard does not match a topic that begins with $.
        if matched == 0 && (level == "+" || level == "#") && topic.starts_with('$') {
            from.push(AFTER_DOLLAR);
            return Advance::Skip;
        }
        if level == "#" {
            return matches_and_goes_on(topic, from);
        }
        let Some(name) = names.next() else {
            // The topic is above what the filter asks for: go on below it.
            from.push_str(topic);
            from.push(SEPARATOR);
            if level != "+" {
                from.push_str(level);
            }
            return Advance::Skip;
        };
        if level != "+" {
            match name.cmp(level) {
                Ordering::Equal => {}
                Ordering::Less => {
                    from.push_str(topic.get(..matched).unwrap_or_default());
                    from.push_str(level);
                    return Advance::Skip;
                }
                Ordering::Greater => return leaves_branch(topic, matched, from),
            }
        }
        matched += name.len() + 1;
    }
    if names.next().is_some() {
        return leaves_branch(topic, matched, from);
    }
    matches_and_goes_on(topic, from)
}

fn matches_and_goes_on(topic: &str, from: &mut String) -> Advance {
    // Nothing sorts between a topic and the same with a separator.
    from.push_str(topic);
    from.push(SEPARATOR);
    Advance::Match
}

/// Goes on behind everything below the first `matched` bytes of a topic, the last of which is a separator.
fn leaves_branch(topic: &str, matched: usize, from: &mut String) -> Advance {
    let Some(branch) = matched.checked_sub(1).and_then(|end| topic.get(..end)) else {
        return Advance::End;
    };
    from.push_str(branch);
    from.push(AFTER_SEPARATOR);
    Advance::Skip
}

fn inside(topic: &str) -> String {
    topic.replace('/', "\0")
}

fn outside(topic: &str, out: &mut String) {
    out.clear();
    out.extend(topic.chars().map(|character| {
        if character == SEPARATOR {
            '/'
        } else {
            character
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(topics: &[&str]) -> TopicTree<usize> {
        let mut tree = TopicTree::new(1);
        for (number, topic) in topics.iter().enumerate() {
            tree.insert(topic, number);
        }
        tree
    }

    fn matching(tree: &TopicTree<usize>, filter: &str) -> Vec<String> {
        let mut found = Vec::new();
        tree.matching(Filter::parse(filter).unwrap(), &mut |topic, _| {
            found.push(topic.to_owned());
        });
        found
    }

    #[test]
    fn a_value_is_set_replaced_and_taken() {
        let mut tree = TopicTree::new(1);
        assert_eq!(tree.insert("a/b", 1), None);
        assert_eq!(tree.insert("a/b", 2), Some(1));
        *tree.get_mut("a/b").unwrap() += 1;
        assert_eq!(
            (tree.get("a/b"), tree.get("a"), tree.len()),
            (Some(&3), None, 1)
        );
        assert_eq!(tree.remove("a/b"), Some(3));
        assert_eq!(tree.remove("a/b"), None);
        assert!(tree.is_empty() && tree.order.is_empty());
    }

    #[test]
    fn a_filter_finds_its_topics_in_the_order_of_the_tree() {
        let tree = tree(&[
            "a-b/c", "a/b", "a", "a/b/c", "/", "$SYS/a", "a/c/c", "b", "a/", "a!",
        ]);
        let check =
            |filter, expect: &[&str]| assert_eq!(matching(&tree, filter), expect, "{filter}");
        check(
            "#",
            &["/", "a", "a/", "a/b", "a/b/c", "a/c/c", "a!", "a-b/c", "b"],
        );
        check("a/#", &["a", "a/", "a/b", "a/b/c", "a/c/c"]);
        check("+", &["a", "a!", "b"]);
        check("+/+", &["/", "a/", "a/b", "a-b/c"]);
        check("+/+/c", &["a/b/c", "a/c/c"]);
        check("a/+/c", &["a/b/c", "a/c/c"]);
        check("a/b", &["a/b"]);
        check("c/#", &[]);
        // 3.1.1 and 5 [MQTT-4.7.2-1]
        check("+/a", &[]);
        check("$SYS/+", &["$SYS/a"]);
    }

    /// Goal: what a filter excludes is jumped over. Method: steps are counted by the smallest bound that suffices.
    #[test]
    fn the_cost_is_the_branches_visited() {
        let mut tree = TopicTree::new(1);
        for branch in 0..10 {
            for leaf in 0..1_000 {
                tree.insert(&format!("{branch}/{leaf}/state"), ());
            }
        }
        let check = |filter: &str, steps_max| {
            let filter = Filter::parse(filter).unwrap();
            let mut cursor = Cursor::default();
            assert!(
                tree.matching_step(filter, &mut cursor, steps_max, &mut |_, ()| {}),
                "{filter:?}"
            );
        };
        check("5/77/+", 5);
        check("+/77/state", 40);
        check("7/#", 1_003);
        check("+/none/#", 40);
        check("+/+/none", 10 * 2 * 1_000 + 40);
    }

    /// Goal: a cursor survives any change. Method: between steps, topics come and go before and behind it.
    #[test]
    fn a_cursor_goes_on_whatever_has_changed() {
        let mut tree = tree(&["a/1", "a/3", "a/5", "a/7"]);
        let filter = Filter::parse("a/+").unwrap();
        let (mut cursor, mut found) = (Cursor::default(), Vec::new());
        let mut step = |tree: &TopicTree<usize>, steps_max| {
            tree.matching_step(filter, &mut cursor, steps_max, &mut |topic, _| {
                found.push(topic.to_owned());
            })
        };
        assert!(!step(&tree, 0));
        assert!(!step(&tree, 2));
        for gone in ["a/1", "a/3", "a/5"] {
            tree.remove(gone);
        }
        for new in ["a/2", "a/6"] {
            tree.insert(new, 0);
        }
        assert!(step(&tree, 100));
        assert_eq!(found, ["a/1", "a/3", "a/6", "a/7"]);
    }

    #[test]
    fn the_deepest_topic_is_only_long() {
        let mut tree = TopicTree::new(1);
        let deep = "/".repeat(65_535);
        tree.insert(&deep, 1);
        let wild = format!("{}#", "+/".repeat(32_767));
        assert_eq!(matching(&tree, &wild), [deep]);
    }
}

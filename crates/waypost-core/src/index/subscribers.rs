//! Who subscribed to one filter.
//!
//! Most filters have one subscriber, some a few, a handful very many, so there are three shapes.

use std::collections::BTreeMap;

use super::slab::Slab;
use super::{SubscriberId, Subscription};

/// Beyond this many, a sorted `Vec` would move too much memory per insertion; it becomes a tree.
const SORTED_MAX: usize = 512;
/// Below this many, a tree becomes a sorted `Vec` again.
const TREE_MIN: usize = 128;

/// The subscribers of a node: 12 bytes in the node itself.
#[derive(Clone, Copy)]
pub(super) enum Subscribers {
    None,
    One(SubscriberId, Subscription),
    Many(ListId),
}

const _: () = assert!(
    size_of::<Subscribers>() == 12,
    "the tag fits where the options have room"
);

/// A list of two or more subscribers.
#[derive(Clone, Copy)]
pub(super) struct ListId(u32);

enum List {
    Sorted(Vec<(SubscriberId, Subscription)>),
    Tree(BTreeMap<SubscriberId, Subscription>),
}

/// All lists of an index.
pub(super) struct Lists {
    slots: Slab<List>,
    heap_bytes: usize,
}

impl Subscribers {
    pub(super) fn is_none(self) -> bool {
        matches!(self, Self::None)
    }
}

impl Lists {
    pub(super) const fn new() -> Self {
        Self {
            slots: Slab::new(),
            heap_bytes: 0,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.slots.bytes() + self.heap_bytes
    }

    pub(super) fn get(
        &self,
        subscribers: Subscribers,
        subscriber: SubscriberId,
    ) -> Option<Subscription> {
        match subscribers {
            Subscribers::None => None,
            Subscribers::One(one, subscription) => (one == subscriber).then_some(subscription),
            Subscribers::Many(list) => match self.slots.get(list.0)? {
                List::Sorted(sorted) => {
                    let position = sorted
                        .binary_search_by_key(&subscriber, |entry| entry.0)
                        .ok()?;
                    sorted.get(position).map(|entry| entry.1)
                }
                List::Tree(tree) => tree.get(&subscriber).copied(),
            },
        }
    }

    /// The first two subscribers.
    pub(super) fn first_two(&self, subscribers: Subscribers) -> [Option<SubscriberId>; 2] {
        match subscribers {
            Subscribers::None => [None; 2],
            Subscribers::One(one, _) => [Some(one), None],
            Subscribers::Many(list) => match self.slots.get(list.0) {
                Some(List::Sorted(sorted)) => [0, 1].map(|at| Some(sorted.get(at)?.0)),
                Some(List::Tree(tree)) => {
                    let mut keys = tree.keys().copied();
                    [keys.next(), keys.next()]
                }
                None => [None; 2],
            },
        }
    }

    /// Calls `each` for every subscriber, in ascending order.
    #[inline]
    pub(super) fn for_each(
        &self,
        subscribers: Subscribers,
        mut each: impl FnMut(SubscriberId, Subscription),
    ) {
        match subscribers {
            Subscribers::None => {}
            Subscribers::One(subscriber, subscription) => each(subscriber, subscription),
            Subscribers::Many(list) => match self.slots.get(list.0) {
                Some(List::Sorted(sorted)) => {
                    for entry in sorted {
                        each(entry.0, entry.1);
                    }
                }
                Some(List::Tree(tree)) => {
                    for entry in tree {
                        each(*entry.0, *entry.1);
                    }
                }
                None => {}
            },
        }
    }

    /// Adds or replaces a subscriber; answers what it replaced.
    pub(super) fn insert(
        &mut self,
        subscribers: &mut Subscribers,
        subscriber: SubscriberId,
        subscription: Subscription,
    ) -> Option<Subscription> {
        match *subscribers {
            Subscribers::None => {
                *subscribers = Subscribers::One(subscriber, subscription);
                None
            }
            Subscribers::One(one, replaced) if one == subscriber => {
                *subscribers = Subscribers::One(subscriber, subscription);
                Some(replaced)
            }
            Subscribers::One(one, other) => {
                let mut sorted = vec![(one, other), (subscriber, subscription)];
                sorted.sort_unstable_by_key(|entry| entry.0);
                let list = List::Sorted(sorted);
                self.heap_bytes += list.heap_bytes();
                *subscribers = Subscribers::Many(ListId(self.slots.insert(list)));
                None
            }
            Subscribers::Many(list) => {
                let list = self.slots.get_mut(list.0)?;
                self.heap_bytes -= list.heap_bytes();
                let replaced = list.insert(subscriber, subscription);
                self.heap_bytes += list.heap_bytes();
                replaced
            }
        }
    }

    pub(super) fn remove(
        &mut self,
        subscribers: &mut Subscribers,
        subscriber: SubscriberId,
    ) -> Option<Subscription> {
        match *subscribers {
            Subscribers::None => None,
            Subscribers::One(one, removed) => {
                (one == subscriber).then(|| *subscribers = Subscribers::None)?;
                Some(removed)
            }
            Subscribers::Many(id) => {
                let list = self.slots.get_mut(id.0)?;
                self.heap_bytes -= list.heap_bytes();
                let removed = list.remove(subscriber);
                self.heap_bytes += list.heap_bytes();
                if let List::Sorted(sorted) = list
                    && let [(one, subscription)] = sorted.as_slice()
                {
                    *subscribers = Subscribers::One(*one, *subscription);
                    self.heap_bytes -= list.heap_bytes();
                    self.slots.remove(id.0);
                }
                removed
            }
        }
    }
}

impl List {
    fn insert(
        &mut self,
        subscriber: SubscriberId,
        subscription: Subscription,
    ) -> Option<Subscription> {
        let sorted = match self {
            Self::Tree(tree) => return tree.insert(subscriber, subscription),
            Self::Sorted(sorted) => sorted,
        };
        match sorted.binary_search_by_key(&subscriber, |entry| entry.0) {
            Ok(position) => {
                let entry = sorted.get_mut(position)?;
                Some(std::mem::replace(&mut entry.1, subscription))
            }
            Err(_) if sorted.len() == SORTED_MAX => {
                let mut tree: BTreeMap<_, _> = sorted.drain(..).collect();
                tree.insert(subscriber, subscription);
                *self = Self::Tree(tree);
                None
            }
            Err(position) => {
                if sorted.len() == sorted.capacity() {
                    // Half as much again, not twice: lists are many and most never grow further.
                    sorted.reserve_exact(sorted.len() / 2 + 1);
                }
                sorted.insert(position, (subscriber, subscription));
                None
            }
        }
    }

    fn remove(&mut self, subscriber: SubscriberId) -> Option<Subscription> {
        match self {
            Self::Tree(tree) => {
                let removed = tree.remove(&subscriber)?;
                if tree.len() < TREE_MIN {
                    *self = Self::Sorted(std::mem::take(tree).into_iter().collect());
                }
                Some(removed)
            }
            Self::Sorted(sorted) => {
                let position = sorted
                    .binary_search_by_key(&subscriber, |entry| entry.0)
                    .ok()?;
                let (_, removed) = sorted.remove(position);
                if sorted.len() < sorted.capacity() / 4 {
                    sorted.shrink_to(sorted.len() * 2);
                }
                Some(removed)
            }
        }
    }

    /// Bytes on the heap. A tree's nodes are the standard library's own affair; 26 bytes per subscriber is what was
    /// measured for ids in ascending (31) and in random (22) order.
    fn heap_bytes(&self) -> usize {
        match self {
            Self::Sorted(sorted) => sorted.capacity() * size_of::<(SubscriberId, Subscription)>(),
            Self::Tree(tree) => tree.len() * 26,
        }
    }
}

#[cfg(test)]
mod tests {
    use waypost_mqtt::SubscriptionOptions;

    use super::*;

    fn subscription(identifier: u32) -> Subscription {
        Subscription {
            options: SubscriptionOptions::default(),
            identifier,
        }
    }

    /// Goal: the shapes hold the same, up to many and back to none. Method: a model, at the sizes where shapes change.
    #[test]
    fn every_shape_holds_what_a_map_holds() {
        for count in [1, 2, 3, 512, 513, 1_024] {
            let (mut lists, mut subscribers) = (Lists::new(), Subscribers::None);
            let mut model = BTreeMap::new();
            // Not in order: 37 has no divisor in common with the counts.
            for n in (0..count).map(|n| n * 37 % count) {
                let id = SubscriberId(n);
                assert_eq!(lists.insert(&mut subscribers, id, subscription(1)), None);
                let replaced = lists.insert(&mut subscribers, id, subscription(n));
                assert_eq!(replaced, Some(subscription(1)));
                model.insert(id, subscription(n));
            }
            for n in (0..count).map(|n| n * 41 % count) {
                let id = SubscriberId(n);
                assert_eq!(lists.get(subscribers, id), Some(subscription(n)));
                let mut all = Vec::new();
                lists.for_each(subscribers, |id, subscription| all.push((id, subscription)));
                assert!(all.into_iter().eq(model.clone()), "{count} {n}");
                assert_eq!(lists.remove(&mut subscribers, SubscriberId(count)), None);
                assert_eq!(lists.remove(&mut subscribers, id), model.remove(&id));
                assert_eq!(lists.remove(&mut subscribers, id), None);
            }
            assert!(subscribers.is_none() && lists.bytes() == 0, "{count}");
        }
    }

    #[test]
    fn a_list_that_loses_most_gives_memory_back() {
        let (mut lists, mut subscribers) = (Lists::new(), Subscribers::None);
        for n in 0..512 {
            lists.insert(&mut subscribers, SubscriberId(n), subscription(0));
        }
        for n in 10..512 {
            lists.remove(&mut subscribers, SubscriberId(n));
        }
        assert!(lists.heap_bytes <= 4 * 10 * 12, "{}", lists.heap_bytes);
    }

    #[test]
    fn the_shape_follows_the_number() {
        let (mut lists, mut subscribers) = (Lists::new(), Subscribers::None);
        let is_tree = |lists: &Lists, subscribers| match subscribers {
            Subscribers::Many(list) => matches!(lists.slots.get(list.0), Some(List::Tree(_))),
            _ => false,
        };
        for n in 0..1_024 {
            lists.insert(&mut subscribers, SubscriberId(n), subscription(0));
            assert_eq!(is_tree(&lists, subscribers), n >= 512);
        }
        for left in (0..1_024).rev() {
            lists.remove(&mut subscribers, SubscriberId(left));
            assert_eq!(is_tree(&lists, subscribers), left >= 128);
            assert_eq!(matches!(subscribers, Subscribers::One(..)), left == 1);
        }
    }
}

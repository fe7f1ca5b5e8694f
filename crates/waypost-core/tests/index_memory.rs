//! The topic index's own account of its memory, held against the allocator's.

#![allow(unsafe_code, reason = "a counting allocator is a GlobalAlloc")]
#![allow(clippy::unwrap_used, reason = "a test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use waypost_core::index::{MatchCache, SubscriberId, Subscription, SubscriptionIndex};
use waypost_mqtt::{Filter, SubscriptionOptions};

struct Counting;

thread_local! {
    /// Of this thread only: tests run side by side.
    static BYTES: Cell<usize> = const { Cell::new(0) };
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches nothing it manages.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.set(BYTES.get().wrapping_add(layout.size()));
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.set(BYTES.get().wrapping_sub(layout.size()));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const COUNT: u32 = 100_000;
/// What one subscription may cost with the four bytes its session keeps: 1,000,000 in 300 MB would be 300.
const BYTES_PER_SUBSCRIPTION_MAX: usize = 200;

/// What this thread allocated since then and has not freed. Wrapping: a thread also frees what others allocated.
fn bytes_since(before: usize) -> usize {
    BYTES.get().wrapping_sub(before)
}

fn subscription() -> Subscription {
    Subscription {
        options: SubscriptionOptions::default(),
        identifier: 0,
    }
}

fn close(estimate: usize, counted: usize) -> bool {
    estimate.abs_diff(counted) * 100 <= counted * 5
}

/// Goal: bounded memory per subscription, an honest estimate, and nothing left at the end.
/// Method: 100,000 subscriptions of a shape, in bytes as the allocator counts them.
fn check(name: &str, filter: impl Fn(u32) -> String) {
    let before = BYTES.get();
    let mut index = SubscriptionIndex::new(1);
    let empty = index.bytes();
    assert_eq!(bytes_since(before), empty, "{name}: empty");
    let mut ids = Vec::with_capacity(COUNT as usize);
    let session_bytes = bytes_since(before) - empty;
    for n in 0..COUNT {
        let text = filter(n);
        let filter = Filter::parse(&text).unwrap();
        ids.push(index.insert(filter, SubscriberId(n), subscription()).0);
    }
    let counted = bytes_since(before);
    let per_subscription = counted / COUNT as usize;
    assert!(
        per_subscription <= BYTES_PER_SUBSCRIPTION_MAX,
        "{name}: {per_subscription} bytes"
    );
    let index_counted = counted - session_bytes;
    assert!(
        close(index.bytes(), index_counted),
        "{name}: {} and {index_counted}",
        index.bytes()
    );
    for (n, id) in (0..).zip(ids) {
        index.remove(id, SubscriberId(n)).unwrap();
    }
    assert_eq!(
        (index.nodes(), index.levels(), index.edges()),
        (0, 0, 0),
        "{name}"
    );
    assert_eq!(
        (index.bytes(), bytes_since(before)),
        (empty, empty),
        "{name}: left"
    );
}

#[test]
fn memory_is_bounded_counted_and_given_back() {
    check("own filters", |n| format!("chat/user{n}/inbox"));
    check("rooms of ten", |n| format!("rooms/{}/messages", n / 10));
    check("long levels", |n| {
        format!("{n}-is-more-than-fits-into-a-slot")
    });
    check("three shapes", |n| match n % 3 {
        0 => format!("s/{n}/+/7/#"),
        1 => format!("s/+/dev{n}/#"),
        _ => format!("s/{n}/dev/+/temp"),
    });
}

/// The tree of a filter with very many subscribers is the standard library's: its bytes are an estimate.
#[test]
fn one_filter_for_all_is_small() {
    let before = BYTES.get();
    let mut index = SubscriptionIndex::new(1);
    for n in 0..COUNT {
        index.insert(
            Filter::parse("news").unwrap(),
            SubscriberId(n),
            subscription(),
        );
    }
    let counted = bytes_since(before);
    assert!(counted <= 40 * COUNT as usize, "{counted} bytes");
    assert!(
        index.bytes().abs_diff(counted) * 4 <= counted,
        "{} and {counted}",
        index.bytes()
    );
}

#[test]
fn a_hit_allocates_nothing_and_the_cache_counts_what_it_holds() {
    let mut index = SubscriptionIndex::new(1);
    for n in 0..100 {
        index.insert(
            Filter::parse("news/+").unwrap(),
            SubscriberId(n),
            subscription(),
        );
    }
    let before = BYTES.get();
    let mut cache = MatchCache::new(1, 10_000, 64 << 20);
    let topics: Vec<_> = (0..2_000).map(|n| format!("news/{n}")).collect();
    let topics_bytes = topics.iter().map(String::capacity).sum::<usize>() + size_of_val(&*topics);
    for topic in &topics {
        cache.lookup(topic, &index);
    }
    let counted = bytes_since(before) - topics_bytes;
    assert!(
        close(cache.bytes(), counted),
        "{} and {counted}",
        cache.bytes()
    );
    let allocations = ALLOCATIONS.get();
    for topic in &topics {
        assert_eq!(cache.lookup(topic, &index).merged().len(), 100);
    }
    assert_eq!(ALLOCATIONS.get(), allocations);
}

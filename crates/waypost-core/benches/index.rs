//! What the topic index costs: nanoseconds of this thread's CPU and bytes.
//!
//! The longest single insertions and removals are by the wall's clock: on a busy machine they show the neighbours.
//!
//! `cargo bench -p waypost-core --bench index [PART OF A NAME]`

#![allow(unsafe_code, reason = "a counting allocator is a GlobalAlloc")]
#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    clippy::semicolon_if_nothing_returned,
    missing_docs,
    reason = "a benchmark"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use waypost_core::index::{
    FilterId, MatchCache, SubscriberId, Subscription, SubscriptionIndex, TopicTree,
};
use waypost_mqtt::{Filter, QoS, RetainHandling, SubscriptionOptions};

struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged; counting touches nothing it manages.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Relaxed);
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    let wanted = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'))
        .unwrap_or_default();
    let benches: [(&str, fn()); 8] = [
        ("100,000 filters", hundred_thousand),
        ("one million, own filters", || {
            million("own filters", |n| format!("chat/user{n}/inbox"))
        }),
        ("one million, one filter", || {
            million("one filter", |_| "news/all".into())
        }),
        ("one million, rooms of ten", || {
            million("rooms of ten", |n| format!("rooms/{}/messages", n / 10))
        }),
        ("one million, three shapes", || {
            million("three shapes", shape)
        }),
        ("fan-out", fan_out),
        ("hostile", hostile),
        ("retained", retained),
    ];
    for (name, bench) in benches.iter().filter(|(name, _)| name.contains(&wanted)) {
        println!("{name}");
        bench();
    }
}

fn subscription() -> Subscription {
    let options = SubscriptionOptions {
        qos: QoS::AtMostOnce,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::SendAtSubscribe,
    };
    Subscription {
        options,
        identifier: 0,
    }
}

fn shape(n: u32) -> String {
    match n % 3 {
        0 => format!("s/{n}/+/7/#"),
        1 => format!("s/+/dev{n}/#"),
        _ => format!("s/{n}/dev/+/temp"),
    }
}

fn show(name: &str, value: f64, unit: &str) {
    println!("  {name:<44} {value:>12.1} {unit}");
}

/// Nanoseconds of CPU per call of `each`, called for all items.
fn time<T>(items: impl IntoIterator<Item = T>, mut each: impl FnMut(T)) -> f64 {
    let (start, mut count) = (cpu_ns(), 0);
    for item in items {
        each(item);
        count += 1;
    }
    (cpu_ns() - start) / f64::from(count)
}

#[repr(C)]
struct TimeSpec {
    seconds: i64,
    nanoseconds: i64,
}

// SAFETY: the signature is that of POSIX.
unsafe extern "C" {
    fn clock_gettime(clock: i32, time: *mut TimeSpec) -> i32;
}

/// What this thread has used of a CPU, in nanoseconds (Linux): other processes do not count.
fn cpu_ns() -> f64 {
    const CLOCK_THREAD_CPUTIME_ID: i32 = 3;
    let mut time = TimeSpec {
        seconds: 0,
        nanoseconds: 0,
    };
    // SAFETY: the pointer is to a timespec as the C library defines it on 64-bit Linux.
    assert_eq!(
        unsafe { clock_gettime(CLOCK_THREAD_CPUTIME_ID, &raw mut time) },
        0
    );
    time.seconds as f64 * 1e9 + time.nanoseconds as f64
}

/// The fastest of ten rounds: what is left when nothing else disturbs.
fn fastest(mut round: impl FnMut() -> f64) -> f64 {
    (0..10).map(|_| round()).fold(f64::MAX, f64::min)
}

fn hundred_thousand() {
    let mut index = SubscriptionIndex::new(1);
    let filters: Vec<String> = (0..100_000).map(shape).collect();
    let before = BYTES.load(Relaxed);
    let insert = time(filters.iter().zip(0..), |(filter, n)| {
        index.insert(
            Filter::parse(filter).unwrap(),
            SubscriberId(n % 100),
            subscription(),
        );
    });
    show("insert, 100,000 filters", insert, "ns");
    show(
        "memory per filter",
        (BYTES.load(Relaxed) - before) as f64 / 1e5,
        "bytes",
    );
    let topics: Vec<String> = (0..20_000)
        .map(|i| format!("s/{}/dev/{}/temp", 3 * i + 2, i % 5))
        .collect();

    let mut matched = Vec::new();
    let mut found = 0;
    let match_ns = fastest(|| {
        found = 0;
        time(&topics, |topic| {
            index.matches(topic, &mut matched);
            found += matched.len();
        })
    });
    assert_eq!(found, 20_000);
    show("match without the cache, 20,000 topics", match_ns, "ns");

    let new_cache = || MatchCache::new(1, 65_536, 64 << 20);
    let mut cache = new_cache();
    let before = BYTES.load(Relaxed);
    let cold = fastest(|| {
        cache = new_cache();
        time(&topics, |topic| {
            black_box(cache.lookup(topic, &index).merged());
        })
    });
    show("cold, 20,000 topics", cold, "ns");
    show(
        "memory per topic",
        (BYTES.load(Relaxed) - before) as f64 / 2e4,
        "bytes",
    );
    show(
        "memory per topic, own estimate",
        cache.bytes() as f64 / 2e4,
        "bytes",
    );
    let allocations = ALLOCATIONS.load(Relaxed);
    let warm = fastest(|| {
        time((0..5).flat_map(|_| &topics), |topic| {
            black_box(cache.lookup(topic, &index).merged());
        })
    });
    assert_eq!(
        ALLOCATIONS.load(Relaxed),
        allocations,
        "a hit allocates nothing"
    );
    show("warm, 20,000 topics in turn", warm, "ns");
    let hit = fastest(|| {
        time(0..1_000_000, |_| {
            black_box(cache.lookup(black_box(&topics[7]), &index).merged());
        })
    });
    show("warm, one topic", hit, "ns");

    let filter = Filter::parse("elsewhere/1").unwrap();
    let churn = |index: &mut SubscriptionIndex| {
        let (id, _) = index.insert(filter, SubscriberId(1), subscription());
        index.remove(id, SubscriberId(1));
    };
    let churn_ns = fastest(|| time(&topics, |_| churn(&mut index)));
    show("a subscription and its end", churn_ns, "ns");
    let both = fastest(|| {
        time(&topics, |topic| {
            churn(&mut index);
            black_box(cache.lookup(topic, &index).merged());
        })
    });
    show(
        "warm, with that elsewhere in between",
        both - churn_ns,
        "ns",
    );
    let mut small = MatchCache::new(1, 1_000, 64 << 20);
    let evicting = time((0..5).flat_map(|_| &topics), |topic| {
        black_box(small.lookup(topic, &index).merged());
    });
    show("every look-up evicts", evicting, "ns");
}

fn million(name: &str, filter: impl Fn(u32) -> String) {
    let mut scattered: Vec<u32> = (0..1_000_000).collect();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for n in (1..scattered.len()).rev() {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        scattered.swap(n, (random >> 33) as usize % (n + 1));
    }
    let mut ids: Vec<FilterId> = Vec::with_capacity(1_000_000);
    let mut index = SubscriptionIndex::new(1);
    let before = BYTES.load(Relaxed);
    let mut longest = Duration::ZERO;
    let filters: Vec<String> = (0..1_000_000).map(&filter).collect();
    let strings = BYTES.load(Relaxed) - before;
    let insert = time(filters.iter().zip(0..), |(filter, n)| {
        let start = Instant::now();
        ids.push(
            index
                .insert(
                    Filter::parse(filter).unwrap(),
                    SubscriberId(n),
                    subscription(),
                )
                .0,
        );
        longest = longest.max(start.elapsed());
    });
    show("insert", insert, "ns");
    show("longest insert", longest.as_micros() as f64, "us");
    let counted = BYTES.load(Relaxed) - before - strings;
    show(
        "memory, with 4 bytes per filter id",
        counted as f64 / 1e6 + 4.0,
        "MB",
    );
    show(
        "memory, own estimate",
        index.bytes() as f64 / 1e6 + 4.0,
        "MB",
    );
    show("nodes", index.nodes() as f64, "");
    let mut longest = Duration::ZERO;
    let remove = time(&scattered, |n| {
        let start = Instant::now();
        index.remove(ids[*n as usize], SubscriberId(*n)).unwrap();
        longest = longest.max(start.elapsed());
    });
    show("remove, in random order", remove, "ns");
    show("longest remove", longest.as_micros() as f64, "us");
    show(
        "memory left",
        (BYTES.load(Relaxed) - before - strings) as f64,
        "bytes",
    );
    let insert = time(&scattered, |n| {
        ids[*n as usize] = index
            .insert(
                Filter::parse(&filters[*n as usize]).unwrap(),
                SubscriberId(*n),
                subscription(),
            )
            .0;
    });
    show("insert, in random order", insert, "ns");
    let counted = BYTES.load(Relaxed) - before - strings;
    show("memory then", counted as f64 / 1e6 + 4.0, "MB");
    show(
        "memory then, own estimate",
        index.bytes() as f64 / 1e6 + 4.0,
        "MB",
    );
    assert_eq!(index.len(), 1_000_000, "{name}");
}

fn fan_out() {
    for count in [10, 1_000, 100_000] {
        let mut index = SubscriptionIndex::new(1);
        for n in 0..count {
            index.insert(
                Filter::parse("news/+/#").unwrap(),
                SubscriberId(n),
                subscription(),
            );
        }
        let topics: Vec<String> = (0..100).map(|n| format!("news/{n}")).collect();
        let mut cache = MatchCache::new(1, 1_000, 1 << 30);
        let cold = fastest(|| {
            cache = MatchCache::new(1, 1_000, 1 << 30);
            time(&topics, |topic| {
                black_box(cache.lookup(topic, &index).merged());
            })
        });
        show(&format!("cold, {count} subscribers"), cold, "ns");
        let warm = time(&topics, |topic| {
            let all = cache.lookup(topic, &index).merged().iter();
            black_box(
                all.map(|merged| {
                    merged.subscriber.0 ^ u32::from(merged.flags.retain_as_published())
                })
                .sum::<u32>(),
            );
        });
        show(
            "warm, and a pass over the list, each",
            warm / f64::from(count),
            "ns",
        );
        index.insert(
            Filter::parse("news/#").unwrap(),
            SubscriberId(5),
            subscription(),
        );
        let merging = time(&topics, |topic| {
            black_box(cache.lookup(topic, &index).merged());
        });
        show("changed, two lists to merge", merging, "ns");
    }
}

fn hostile() {
    let mut index = SubscriptionIndex::new(1);
    // Every combination of + and a literal in 16 levels, none of which matches: the last level is another.
    for combination in 0..1u32 << 16 {
        let levels: Vec<&str> = (0..16)
            .map(|n| if combination >> n & 1 == 1 { "+" } else { "a" })
            .collect();
        let filter = format!("{}/end", levels.join("/"));
        index.insert(
            Filter::parse(&filter).unwrap(),
            SubscriberId(1),
            subscription(),
        );
    }
    let mut matched = Vec::new();
    let topic = format!("{}other", "a/".repeat(16));
    let combinations = time(0..10, |_| index.matches(&topic, &mut matched));
    show(
        "65,536 combinations of 16 levels, one match",
        combinations / 1e3,
        "us",
    );
    show("per node", combinations / index.nodes() as f64, "ns");

    let mut index = SubscriptionIndex::new(1);
    let deep = "/".repeat(65_535);
    let filter = Filter::parse(&deep).unwrap();
    let insert = time(0..1, |_| {
        index.insert(filter, SubscriberId(1), subscription());
    });
    show("65,536 levels, insert", insert / 1e3, "us");
    let match_ns = time(0..10, |_| index.matches(&deep, &mut matched));
    assert_eq!(matched.len(), 1);
    show("65,536 levels, match", match_ns / 1e3, "us");
    let id = index.find(filter).unwrap();
    let remove = time(0..1, |_| {
        index.remove(id, SubscriberId(1));
    });
    show("65,536 levels, remove", remove / 1e3, "us");
}

fn retained() {
    let mut tree = TopicTree::new(1);
    let topics: Vec<String> = (0..1_000_000)
        .map(|n| format!("site/{}/device/{n}/state", n / 1_000))
        .collect();
    let before = BYTES.load(Relaxed);
    let insert = time(&topics, |topic| {
        tree.insert(topic, 0u64);
    });
    show("insert, 1,000,000 topics", insert, "ns");
    show(
        "memory per topic, with 8 bytes of value",
        (BYTES.load(Relaxed) - before) as f64 / 1e6,
        "bytes",
    );
    let replace = time(topics.iter().step_by(7), |topic| {
        tree.insert(topic, 1u64);
    });
    show("replace", replace, "ns");
    for filter in ["#", "site/+/device/5/state", "site/7/#"] {
        let mut found = 0;
        let all = time(0..1, |_| {
            tree.matching(Filter::parse(filter).unwrap(), &mut |_, _| found += 1)
        });
        show(&format!("{filter}: {found} found, all"), all / 1e3, "us");
    }
    let remove = time(&topics, |topic| {
        tree.remove(topic);
    });
    show("remove", remove, "ns");
    show(
        "memory left",
        (BYTES.load(Relaxed) - before) as f64,
        "bytes",
    );
}

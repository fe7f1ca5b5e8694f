//! Recorded traces: hit ratios that others computed, and how near `auto` comes to the best of the others.
//!
//! They lie beside a checkout; a clone without them skips this, and has the small traces of the other tests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_precision_loss
)]

use std::fs::File;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use waypost_cache::simulate::{Capacity, Trace, optimum, play};
use waypost_cache::{find, registry};

const TRACES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/cache");

/// Name, a tenth of its keys, and what LRU and Belady's optimum hit then, in per cent, as the source of the traces says.
const KNOWN: [(&str, u64, f64, f64); 17] = [
    ("web12", 1_375, 68.5, 80.0),
    ("orm_busy", 3_105, 81.7, 87.7),
    ("scarab_recs", 11_612, 49.7, 66.0),
    ("adaptsize_sized", 3_681, 34.2, 45.0),
    ("arc_oltp", 12_178, 61.5, 72.0),
    ("corda_vault", 9_046, 33.3, 33.3),
    ("lirs_sprite", 707, 86.5, 91.4),
    ("lirs_multi1", 260, 43.4, 52.7),
    ("lirs_multi2", 568, 36.9, 54.9),
    ("lirs_multi3", 745, 35.5, 52.9),
    ("lirs_cpp", 122, 75.7, 84.1),
    ("lirs_cs", 140, 1.8, 10.1),
    ("lirs_gli", 252, 0.9, 17.8),
    ("lirs_ps", 308, 16.3, 54.4),
    ("lirs_2pools", 993, 54.4, 68.5),
    ("lirs_loop", 101, 0.0, 9.9),
    ("lirs_zigzag", 200, 9.6, 9.6),
];

/// How much is kept, in per cent of the keys.
const PER_CENT_KEPT: [u64; 5] = [1, 5, 10, 20, 40];

/// From so many requests on `auto` may lose one point to the best, learning included; before, six.
const LONG: usize = 90_000;

fn trace(name: &str) -> Option<Trace> {
    let file = File::open(Path::new(TRACES).join(format!("{name}.txt.gz"))).ok()?;
    let mut text = String::new();
    MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
    Some(Trace::of_lines(text.lines()).unwrap())
}

fn per_cent(hits: u64, trace: &Trace) -> f64 {
    100.0 * hits as f64 / trace.requests().len() as f64
}

#[test]
fn lru_and_the_optimum_hit_what_others_computed() {
    for (name, capacity, lru, best) in KNOWN {
        let Some(trace) = trace(name) else {
            eprintln!("skipped: no ../shared/data");
            return;
        };
        assert_eq!(trace.distinct() as u64 / 10, capacity, "{name}");
        let (outcome, _) = play(find("lru").unwrap(), &trace, Capacity::Entries(capacity));
        let hits = per_cent(outcome.hits, &trace);
        assert!(
            (hits - lru).abs() < 0.051,
            "lru on {name}: {hits:.2}, {lru}"
        );
        let hits = per_cent(optimum(&trace, capacity).hits, &trace);
        assert!(
            (hits - best).abs() < 0.051,
            "optimum on {name}: {hits:.2}, {best}"
        );
    }
}

/// What the best of the others hits, in per cent, and `auto`; what they are called and say.
fn compare(trace: &Trace, capacity: u64) -> (f64, f64, String) {
    let hits = |strategy| {
        let (outcome, said) = play(strategy, trace, Capacity::Entries(capacity));
        (per_cent(outcome.hits, trace), said)
    };
    let others = registry().iter().filter(|it| it.name != "auto");
    let (best, winner) = others
        .map(|strategy| (hits(strategy).0, strategy.name))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .unwrap();
    let (auto, said) = hits(find("auto").unwrap());
    let line = format!("{capacity}: {winner} {best:.2}, auto {auto:.2}: {said}");
    (best, auto, line)
}

/// In a clone that has no recorded traces: a loop, keys by Zipf's law, the same with scans between, and one after the other.
#[test]
fn auto_is_near_the_best_on_traces_made_here() {
    let mut state = 1_u64;
    let mut zipf = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let uniform = (state >> 11) as f64 / (1_u64 << 53) as f64;
        10_000_f64.powf(uniform).floor().to_string()
    };
    let looped: Vec<_> = (0..100_000).map(|at| format!("l{}", at % 2_000)).collect();
    let skewed: Vec<_> = (0..100_000).map(|_| zipf()).collect();
    let mut scanned = Vec::new();
    for (at, key) in skewed.iter().enumerate() {
        scanned.push(key.clone());
        if at / 2_000 % 3 == 0 {
            scanned.push(format!("s{at}"));
        }
    }
    let all = [&looped[..], &skewed, &scanned].concat();
    for (name, keys) in [
        ("loop", looped),
        ("zipf", skewed),
        ("scans", scanned),
        ("all", all),
    ] {
        let trace = Trace::of_lines(keys.iter().map(String::as_str)).unwrap();
        for capacity in [100, 500, 1_000] {
            let (best, auto, line) = compare(&trace, capacity);
            assert!(auto >= best - 1.0, "{name} {line}");
        }
    }
}

#[test]
fn auto_is_near_the_best_of_the_others() {
    let mut far = Vec::new();
    for (name, ..) in KNOWN {
        let Some(trace) = trace(name) else {
            eprintln!("skipped: no ../shared/data");
            return;
        };
        let is_long = trace.requests().len() >= LONG;
        let points = if is_long { 1.0 } else { 6.0 };
        for part in PER_CENT_KEPT {
            let capacity = trace.distinct() as u64 * part / 100;
            let (best, auto, line) = compare(&trace, capacity);
            if auto < best - points {
                far.push(format!("{name} {line}"));
            }
        }
    }
    assert!(far.is_empty(), "{far:#?}");
}

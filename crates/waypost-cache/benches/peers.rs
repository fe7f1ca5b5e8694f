//! What a request costs and what it finds, beside `moka` and `quick_cache`: `cargo bench -p waypost-cache`, or
//! `cargo bench -p waypost-cache -- TRACE…` with traces of one's own (one key a line, gzip'd or not).
//!
//! All run in one process, in turns; a figure is the best of some rounds, since what disturbs only adds. The peers keep an
//! empty value and are made for many threads, which costs them something here; ours keep keys only and leave the lock to
//! their owner.

#![allow(
    missing_docs,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a program for developers, whose figures have few digits"
)]

use std::{
    error::Error,
    hint::black_box,
    io::Read,
    path::{Path, PathBuf},
    time::Instant,
};

use flate2::read::MultiGzDecoder;
use waypost_cache::{
    Key, registry,
    simulate::{Capacity, Trace, play},
};

const ROUNDS: usize = 5;

/// Where the traces are beside a checkout.
const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/cache");

fn main() -> Result<(), Box<dyn Error>> {
    let given: Vec<PathBuf> = std::env::args_os()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .map(PathBuf::from)
        .collect();
    let mut traces = Vec::new();
    for path in &given {
        traces.push((name_of(path), read(path)?));
    }
    for name in ["arc_oltp", "orm_busy"] {
        let path = Path::new(SHARED).join(format!("{name}.txt.gz"));
        if given.is_empty() && path.exists() {
            traces.push((name.to_owned(), read(&path)?));
        }
    }
    if traces.is_empty() {
        println!("skipped: no ../shared/data; instead 500,000 requests, keys by Zipf 1");
        traces.push(("zipf".to_owned(), zipf()));
    }
    for (name, trace) in &traces {
        compare(name, trace);
    }
    Ok(())
}

/// Hits and nanoseconds a request.
type Figures = (u64, f64);

fn compare(name: &str, trace: &Trace) {
    let capacity = (trace.distinct() / 10).max(1);
    let requests = trace.requests().len();
    println!("{name}: {requests} requests, {capacity} entries");
    println!("strategy      hits %  ns/request  requests/s  cost ÷ moka  ÷ quick_cache");
    let mut rows: Vec<(&str, Figures)> = Vec::new();
    let mut note = |name, figures: Figures| match rows.iter_mut().find(|row| row.0 == name) {
        Some(row) => row.1.1 = row.1.1.min(figures.1),
        None => rows.push((name, figures)),
    };
    for _ in 0..ROUNDS {
        note("moka", timed(trace, || with_moka(trace, capacity)));
        note("quick_cache", timed(trace, || with_quick(trace, capacity)));
        for strategy in registry() {
            let run = || {
                play(strategy, trace, Capacity::Entries(capacity as u64))
                    .0
                    .hits
            };
            note(strategy.name, timed(trace, run));
        }
    }
    let cost = |name| {
        rows.iter()
            .find(|row| row.0 == name)
            .map_or(0.0, |row| row.1.1)
    };
    let (moka, quick) = (cost("moka"), cost("quick_cache"));
    for (name, (hits, ns)) in &rows {
        println!(
            "{name:<12} {:>7.2} {ns:>11.1} {:>11.0} {:>12.2} {:>14.2}",
            *hits as f64 / requests as f64 * 100.0,
            1e9 / ns,
            ns / moka,
            ns / quick
        );
    }
    println!();
}

fn timed(trace: &Trace, run: impl FnOnce() -> u64) -> Figures {
    let start = Instant::now();
    let hits = black_box(run());
    let ns = start.elapsed().as_secs_f64() * 1e9 / trace.requests().len() as f64;
    (hits, ns)
}

fn with_moka(trace: &Trace, capacity: usize) -> u64 {
    let cache = moka::sync::Cache::new(capacity as u64);
    let mut hits = 0;
    for request in trace.requests() {
        if cache.get(&request.key).is_some() {
            hits += 1;
        } else {
            cache.insert(request.key, ());
        }
    }
    hits
}

fn with_quick(trace: &Trace, capacity: usize) -> u64 {
    let mut cache = quick_cache::unsync::Cache::<Key, ()>::new(capacity);
    let mut hits = 0;
    for request in trace.requests() {
        if cache.get(&request.key).is_some() {
            hits += 1;
        } else {
            cache.insert(request.key, ());
        }
    }
    hits
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn read(path: &Path) -> Result<Trace, Box<dyn Error>> {
    let bytes = std::fs::read(path)?;
    let mut text = String::new();
    if path.extension().is_some_and(|extension| extension == "gz") {
        MultiGzDecoder::new(bytes.as_slice()).read_to_string(&mut text)?;
    } else {
        text = String::from_utf8(bytes)?;
    }
    Ok(Trace::of_lines(text.lines())?)
}

fn zipf() -> Trace {
    let mut state = 1_u64;
    let mut trace = Trace::default();
    for _ in 0..500_000 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let uniform = (state >> 11) as f64 / (1_u64 << 53) as f64;
        // The inverse of the logarithm that the sum of 1 / rank is near to.
        let rank = 100_000_f64.powf(uniform) as u64;
        trace.push(&rank.to_string()).unwrap_or_default();
    }
    trace
}

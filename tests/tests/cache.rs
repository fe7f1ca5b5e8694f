//! `waypost cache simulate` with the built program, as its user sees it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;
use waypost_tests::waypost;

fn simulate(directory: &Path, words: &str) -> Output {
    waypost()
        .args(["cache", "simulate"])
        .args(words.split(' '))
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Files to play: a loop of five keys twelve times, the same packed, and one with sizes.
fn traces() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let looped = "page-0\npage-1\npage-2\npage-3\npage-4\n".repeat(12);
    let file = directory.path().join("loop.txt");
    fs::write(&file, &looped).unwrap();
    let packed = Command::new("gzip").arg("-kn").arg(&file).status();
    assert!(packed.unwrap().success());
    let sized = "a 10\na 10\na 12\na 12\nb 9\na 12\nc 4000\n";
    fs::write(directory.path().join("sized.txt"), sized).unwrap();
    directory
}

fn rows(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{output:?}");
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
    rows.as_array().unwrap().clone()
}

fn hits(rows: &[Value], strategy: &str) -> u64 {
    let row = rows.iter().find(|row| row["strategy"] == strategy).unwrap();
    row["hits"].as_u64().unwrap()
}

#[test]
fn every_strategy_has_a_row_and_so_has_the_limit() {
    let traces = traces();
    let plain = rows(&simulate(
        traces.path(),
        "--trace loop.txt --capacity 4,5 --json",
    ));
    let strategies = 10;
    assert_eq!(plain.len(), 2 * (strategies + 1));
    let keys: std::collections::BTreeSet<_> = plain[0].as_object().unwrap().keys().collect();
    let expect = [
        "byte_hit_ratio",
        "capacity",
        "hit_ratio",
        "hits",
        "ns_per_request",
        "requests",
        "strategy",
    ];
    assert!(keys.into_iter().eq(expect), "{}", plain[0]);
    let (four, five) = plain.split_at(strategies + 1);
    assert!(
        four.iter()
            .all(|row| row["capacity"] == 4 && row["requests"] == 60)
    );
    assert_eq!(hits(four, "lru"), 0, "a loop that is one too long");
    // Who knows the future misses each key once, and then one request in four.
    assert_eq!(hits(four, "optimum"), 60 - 5 - 55 / 4);
    assert!(
        five.iter().all(|row| row["hits"] == 55),
        "all that fits stays"
    );
    let best = four.iter().filter(|row| row["strategy"] != "optimum");
    assert!(best.map(|row| row["hits"].as_u64().unwrap()).max().unwrap() <= 42);
    let packed = rows(&simulate(
        traces.path(),
        "--trace loop.txt.gz --capacity 4 --json",
    ));
    assert_eq!(hits(&packed, "mfu"), hits(four, "mfu"));
}

/// A request for another size than is kept is a miss that replaces it.
#[test]
fn sizes_count_bytes() {
    let traces = traces();
    let by_bytes = rows(&simulate(
        traces.path(),
        "--trace sized.txt --capacity 1KiB,22B --json",
    ));
    let (first, second) = by_bytes.split_at(by_bytes.len() / 2);
    for rows in [first, second] {
        assert_eq!((hits(rows, "lru"), hits(rows, "belady-size")), (3, 3));
        assert!(rows.iter().all(|row| row["strategy"] != "optimum"));
    }
    let ratio = first[0]["byte_hit_ratio"].as_f64().unwrap();
    assert!((ratio - 34.0 / 4_065.0).abs() < 1e-6, "{ratio}");
}

#[test]
fn people_get_a_table_and_a_page() {
    let traces = traces();
    let words =
        "--trace loop.txt --capacity 3,4 --strategy lru,auto --html page.html --svg plot.svg";
    let output = simulate(traces.path(), words);
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "60 requests of 5 keys",
        "kept: 4 entries",
        "optimum",
        "auto: w-tinylfu from",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let page = fs::read_to_string(traces.path().join("page.html")).unwrap();
    for part in [
        "<svg",
        "<polyline",
        "prefers-color-scheme:dark",
        "<td>4 entries",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let plot = fs::read_to_string(traces.path().join("plot.svg")).unwrap();
    assert!(
        plot.starts_with("<svg xmlns=") && plot.contains(">auto</text>"),
        "{plot}"
    );
    // Nothing is loaded from elsewhere.
    assert!(!page.contains("http"), "{page}");
}

#[test]
fn a_mistake_is_told_with_what_would_be_right() {
    let traces = traces();
    for (words, expect) in [
        (
            "--trace loop.txt --capacity 1MiB",
            "give a number of entries instead",
        ),
        ("--trace loop.txt --capacity 5MB", "B, KiB, MiB or GiB"),
        ("--trace loop.txt --capacity 5 --strategy lruu", "lru"),
        (
            "--trace nowhere.txt --capacity 5",
            "nowhere.txt: No such file",
        ),
        ("--trace loop.txt", "--capacity <N|SIZE>"),
    ] {
        let output = simulate(traces.path(), words);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words}: {error}");
        assert!(error.contains(expect), "{words}: {error}");
    }
}

//! `waypost compress simulate`, as its user sees it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::fmt::Write as _;
use std::process::{Command, Output};

use serde_json::Value;

fn waypost(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waypost"));
    command.args(["compress", "simulate"]).args(arguments);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn good(arguments: &[&str]) -> String {
    let outcome = waypost(arguments);
    assert!(outcome.status.success(), "{}", text(&outcome.stderr));
    text(&outcome.stdout)
}

/// A file of 600 messages that 30 users sent.
fn messages(directory: &tempfile::TempDir) -> String {
    let mut lines = String::new();
    for n in 0..600 {
        let user = format!("user-{}", n % 30);
        let text = format!("order {n} has been placed, thank you for buying from us");
        writeln!(lines, "{}", serde_json::json!({"user": user, "text": text})).unwrap();
    }
    let file = directory.path().join("orders.jsonl");
    std::fs::write(&file, lines).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn every_strategy_is_a_row_and_all_are_of_the_same_messages() {
    let directory = tempfile::tempdir().unwrap();
    let file = messages(&directory);
    let arguments = [&file, "--publisher-field", "user", "--json"];
    let rows: Vec<Value> = serde_json::from_str(&good(&arguments)).unwrap();
    let mut names: Vec<_> = rows
        .iter()
        .map(|row| row["strategy"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    let mut expect: Vec<_> = waypost_compress::registry()
        .iter()
        .map(|row| row.name)
        .collect();
    expect.sort_unstable();
    assert_eq!(names, expect);
    let fixed = [
        "strategy",
        "messages",
        "bytes_in",
        "bytes_out",
        "ratio",
        "compress_mb_per_s",
        "decompress_mb_per_s",
        "dictionary_bytes",
    ];
    for row in &rows {
        let keys: Vec<_> = row.as_object().unwrap().keys().collect();
        assert_eq!(keys[..fixed.len()], fixed);
        assert_eq!(row["messages"], 300);
        assert_eq!(row["bytes_in"], rows[0]["bytes_in"]);
        assert!(
            row["compress_cpu_us_per_message"].as_f64().unwrap() > 0.0,
            "{row}"
        );
        let is_dictionary = row["dictionary_bytes"].as_u64().unwrap() > 0;
        assert_eq!(
            is_dictionary,
            ["zstd-dict", "auto"].contains(&row["strategy"].as_str().unwrap()),
            "{row}"
        );
        assert!(
            row["usd_per_million_messages"].as_f64().unwrap() > 0.0,
            "{row}"
        );
        if row["strategy"] == "identity" {
            assert_eq!(row["bytes_out"], row["bytes_in"]);
            assert_eq!(row["ratio"], 1.0);
        }
    }
}

#[test]
fn privacy_costs_what_few_sent() {
    let directory = tempfile::tempdir().unwrap();
    let file = messages(&directory);
    let play = |more: &[&str]| {
        let arguments = [&[file.as_str(), "--strategy", "zstd-dict", "--json"], more].concat();
        let outcome = waypost(&arguments);
        assert!(outcome.status.success(), "{}", text(&outcome.stderr));
        let rows: Value = serde_json::from_slice(&outcome.stdout).unwrap();
        (
            rows[0]["dictionary_bytes"].as_u64().unwrap(),
            text(&outcome.stderr),
        )
    };
    // 30 users are enough; one is not.
    let (shared, said) = play(&["--publisher-field", "user"]);
    assert!(shared > 0 && said.is_empty(), "{said}");
    let one = std::fs::read_to_string(&file)
        .unwrap()
        .replace("\"user-", "\"u\",\"x\":\"");
    let lonely = directory.path().join("lonely.jsonl");
    std::fs::write(&lonely, one).unwrap();
    let arguments = [
        lonely.to_str().unwrap(),
        "--strategy",
        "zstd-dict",
        "--publisher-field",
        "user",
        "--json",
    ];
    let outcome = waypost(&arguments);
    let rows: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!(rows[0]["dictionary_bytes"], 0);
    assert_eq!(rows[0]["messages"], 600, "nothing was set apart");
    assert!(text(&outcome.stderr).contains("no dictionary: 1 publishers"));
    let outcome = waypost(&[&arguments[..], &["--no-privacy"]].concat());
    let rows: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert!(rows[0]["dictionary_bytes"].as_u64().unwrap() > 0);
}

#[test]
fn the_table_and_the_plots_name_every_strategy() {
    let directory = tempfile::tempdir().unwrap();
    let file = messages(&directory);
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (html, svg) = (path("plot.html"), path("plot.svg"));
    let strategies = "lz4,RLE,lz78+huffman,zstd-dict";
    let table = good(&[
        &file,
        "--field",
        "text",
        "--strategy",
        strategies,
        "--html",
        &html,
        "--svg",
        &svg,
    ]);
    assert!(
        table.starts_with("300 messages of 55 bytes on average, behind 300 that"),
        "{table}"
    );
    assert!(!table.contains('\x1b'), "no colours beside a terminal");
    let (html, svg) = (
        std::fs::read_to_string(html).unwrap(),
        std::fs::read_to_string(svg).unwrap(),
    );
    for name in ["lz4", "rle", "lz78+huffman", "zstd-dict"] {
        for (what, text) in [("table", &table), ("page", &html), ("plot", &svg)] {
            assert!(text.contains(name), "{name} is not in the {what}");
        }
    }
    assert!(svg.starts_with("<svg xmlns=") && !html.contains("http"));
}

#[test]
fn failures_say_what_to_do_and_have_their_codes() {
    let directory = tempfile::tempdir().unwrap();
    let file = messages(&directory);
    let check = |arguments: &[&str], part: &str| {
        let outcome = waypost(arguments);
        let stderr = text(&outcome.stderr);
        assert_eq!(outcome.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(part), "{arguments:?}: {stderr}");
    };
    check(&[], "FILE");
    check(&["no-such-file.jsonl"], "no-such-file.jsonl");
    check(&[&file, "--strategy", "zstt"], "did you mean zstd?");
    check(&[&file, "--strategy", "lz4+lz4"], "stands there twice");
    check(&[&file, "--strategy", "lz4+identity"], "these do: ");
    check(
        &[&file, "--field", "txt"],
        "orders.jsonl:1: --field: no field \"txt\"; there are: ",
    );
    check(
        &[&file, "--publisher-field", "who"],
        "--publisher-field: no field \"who\"",
    );
}

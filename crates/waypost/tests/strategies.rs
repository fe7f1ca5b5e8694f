//! `waypost strategies` and `waypost balance simulate`, as their user sees them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::io::Write as _;
use std::process::{Command, Output};

use serde_json::Value;

fn waypost(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waypost"));
    command.args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn good(arguments: &[&str]) -> String {
    let outcome = waypost(arguments);
    assert!(outcome.status.success(), "{}", text(&outcome.stderr));
    text(&outcome.stdout)
}

const QUICK: [&str; 6] = ["balance", "simulate", "--runs", "2", "--messages", "2000"];

fn rows(arguments: &[&str]) -> Vec<Value> {
    serde_json::from_str(&good(arguments)).unwrap()
}

#[test]
fn strategies_are_listed_for_people_and_for_programs() {
    let all = rows(&["strategies", "--json"]);
    let balance = rows(&["strategies", "balance", "--json"]);
    assert!(balance.len() >= 13 && all.len() >= balance.len());
    let listed = good(&["strategies", "balance"]);
    assert!(!listed.contains('\x1b'), "no colours beside a terminal");
    for row in &balance {
        let keys: Vec<_> = row.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["family", "name", "aliases", "summary", "source"]);
        assert_eq!(row["family"], "balance");
        assert!(listed.contains(row["name"].as_str().unwrap()));
    }
}

#[test]
fn every_strategy_in_every_scenario_is_a_row_and_a_seed_is_a_replay() {
    let arguments = [&QUICK[..], &["--json"]].concat();
    let figures = rows(&arguments);
    assert_eq!(
        figures.len(),
        6 * rows(&["strategies", "balance", "--json"]).len()
    );
    for row in &figures {
        assert_eq!(row.as_object().unwrap().keys().next().unwrap(), "strategy");
        for ratio in ["imbalance", "order_kept"] {
            let ratio = row[ratio].as_f64().unwrap();
            assert!((0.0..=1.0).contains(&ratio), "{row}");
        }
        for figure in ["wait_p50_ms", "wait_p99_ms", "throughput_per_s"] {
            assert!(row[figure].as_f64().unwrap() >= 0.0, "{row}");
        }
    }
    assert_eq!(rows(&arguments), figures);
    let other = rows(&[&arguments[..], &["--seed", "2"]].concat());
    assert_ne!(other, figures);
}

#[test]
fn the_table_names_scenario_and_strategies_once() {
    let table = good(
        &[
            &QUICK[..],
            &[
                "--scenario",
                "Slow_Member",
                "--strategy",
                "rr,lc,RoundRobin",
            ],
        ]
        .concat(),
    );
    assert!(table.starts_with("slow-member: "), "{table}");
    assert_eq!(table.matches("round-robin").count(), 1, "{table}");
    assert_eq!(table.matches("least-connections").count(), 1, "{table}");
    assert!(!table.contains('\x1b'), "no colours beside a terminal");
}

#[test]
fn recorded_arrivals_are_played_packed_or_not() {
    let directory = tempfile::tempdir().unwrap();
    let mut lines = String::new();
    for n in 0..400 {
        let time = format!("2026-01-01T10:{:02}:{:02}Z", n / 60, n % 60);
        lines += &serde_json::json!({"ts": time, "user": n % 7}).to_string();
        lines.push('\n');
    }
    let plain = directory.path().join("chat.jsonl");
    std::fs::write(&plain, &lines).unwrap();
    let packed = directory.path().join("chat.jsonl.gz");
    let mut encoder = flate2::write::GzEncoder::new(
        std::fs::File::create(&packed).unwrap(),
        flate2::Compression::fast(),
    );
    encoder.write_all(lines.as_bytes()).unwrap();
    encoder.finish().unwrap();
    let play = |file: &std::path::Path| {
        let file = file.to_str().unwrap();
        let arguments = [
            "balance",
            "simulate",
            "--arrivals",
            file,
            "--time-field",
            "ts",
            "--runs",
            "2",
        ];
        rows(
            &[
                &arguments[..],
                &[
                    "--key-field",
                    "user",
                    "--strategy",
                    "ordered,random",
                    "--json",
                ],
            ]
            .concat(),
        )
    };
    let figures = play(&plain);
    assert_eq!(figures.len(), 2);
    assert_eq!(
        (&figures[0]["messages"], &figures[0]["order_kept"]),
        (&400.into(), &1.0.into())
    );
    assert_eq!(play(&packed), figures);
}

#[test]
fn failures_say_what_to_do_and_have_their_codes() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.jsonl");
    std::fs::write(&file, "{\"t\": 1, \"k\": 1}\n{\"t\": \"soon\"}\n").unwrap();
    let file = file.to_str().unwrap();
    let check = |arguments: &[&str], code: i32, part: &str| {
        let outcome = waypost(arguments);
        let stderr = text(&outcome.stderr);
        assert_eq!(outcome.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(part), "{arguments:?}: {stderr}");
    };
    let simulate = ["balance", "simulate"];
    let with = |more: &[&'static str]| [&simulate[..], more].concat();
    check(&["strategies", "balanse"], 2, "balance");
    check(
        &with(&["--strategy", "round-robbin"]),
        2,
        "did you mean round-robin?",
    );
    check(&with(&["--scenario", "mm9"]), 2, "there are: mm8, weights");
    check(
        &with(&["--scenario", "weights", "--members", "3"]),
        2,
        "are given",
    );
    check(&with(&["--members", "0"]), 2, "1..=1000");
    check(&with(&["--members", "1001"]), 2, "1..=1000");
    check(&with(&["--load", "11"]), 2, "at most 10");
    check(&with(&["--service-ms", "nan"]), 2, "above 0");
    check(&with(&["--runs", "1"]), 2, "2..=1000");
    check(&with(&["--arrivals", "x.jsonl"]), 2, "--time-field");
    let arrivals = |field: &'static str, more: &[&'static str]| {
        let mut arguments = vec![
            "balance",
            "simulate",
            "--arrivals",
            file,
            "--time-field",
            field,
        ];
        arguments.extend(more);
        waypost(&arguments)
    };
    for (outcome, part) in [
        (
            arrivals("t", &[]),
            "a.jsonl:2: --time-field: not a time in `t`",
        ),
        (
            arrivals("time", &[]),
            "a.jsonl:1: --time-field: no field `time`",
        ),
        (
            arrivals("t", &["--key-field", "key"]),
            "a.jsonl:1: --key-field: no field `key`",
        ),
        (
            arrivals("t", &["--load", "1", "--speed", "1"]),
            "cannot be used with",
        ),
    ] {
        let stderr = text(&outcome.stderr);
        assert_eq!(outcome.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(part), "{stderr}");
    }
    check(
        &with(&["--arrivals", "no-such-file.jsonl", "--time-field", "t"]),
        2,
        "no-such-file.jsonl",
    );
}

//! `waypost encrypt simulate`, as its user sees it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::process::{Command, Output};

use serde_json::Value;

fn waypost(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waypost"));
    command.args(["encrypt", "simulate"]).args(arguments);
    command.output().unwrap()
}

fn rows(arguments: &[&str]) -> Vec<Value> {
    let outcome = waypost(&[arguments, &["--json"]].concat());
    let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
    assert!(outcome.status.success(), "{said}");
    serde_json::from_slice(&outcome.stdout).unwrap()
}

fn refused(arguments: &[&str], expect: &str) {
    let outcome = waypost(arguments);
    let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
    assert_eq!(outcome.status.code(), Some(2), "{said}");
    assert!(said.contains(expect), "{said}");
}

#[test]
fn sizes_and_suites_are_rows_with_their_figures() {
    let suites = "aes-gcm,ecc,hybrid+chacha20-poly1305,des";
    let rows = rows(&["--size", "64,1KiB", "--strategy", suites]);
    let names: Vec<_> = rows
        .iter()
        .map(|row| row["strategy"].as_str().unwrap())
        .collect();
    let expect = ["aes-gcm", "ecc+aes-gcm", "hybrid+chacha20-poly1305", "des"];
    assert_eq!(names, [expect, expect].concat());
    for row in &rows {
        for figure in [
            "seal_messages_per_s",
            "open_messages_per_s",
            "seal_mb_per_s",
            "open_mb_per_s",
            "seal_cpu_us_per_message",
            "open_cpu_us_per_message",
        ] {
            assert!(row[figure].as_f64().unwrap() > 0.0, "{row}: {figure}");
        }
        let longer = row["overhead_bytes"].as_f64().unwrap();
        assert!((80.0..500.0).contains(&longer), "{row}");
    }
    assert_eq!(
        (&rows[0]["bytes_in"], &rows[4]["bytes_in"]),
        (&64.into(), &1024.into())
    );
}

#[test]
fn messages_of_a_file_are_sealed_and_a_page_shows_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("orders.jsonl");
    std::fs::write(&file, "{\"text\":\"2 pizzas\"}\n{\"text\":\"1 soup\"}\n").unwrap();
    let page = directory.path().join("page.html");
    let (file, page) = (file.to_str().unwrap(), page.to_str().unwrap());
    let arguments = [
        file,
        "--field",
        "text",
        "--strategy",
        "aes-gcm",
        "--html",
        page,
    ];
    let rows = rows(&arguments);
    assert_eq!(
        (&rows[0]["messages"], &rows[0]["bytes_in"]),
        (&2.into(), &14.into())
    );
    let page = std::fs::read_to_string(page).unwrap();
    for part in ["<svg ", "aes-gcm", "2 messages"] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn the_table_names_its_columns() {
    let outcome = waypost(&["--size", "64", "--strategy", "aes-gcm"]);
    let table = String::from_utf8_lossy(&outcome.stdout).into_owned();
    for part in [
        "64 bytes",
        "sealed a second",
        "CPU to seal",
        "aes-gcm",
        "\nauto: ",
    ] {
        assert!(table.contains(part), "{table}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    refused(
        &["--strategy", "ecc+aes"],
        "is no suite; there are: aes-gcm",
    );
    refused(&["--strategy", "rot13"], "there is no encrypt strategy");
    refused(&["--size", "1GB"], "is no unit");
    refused(&["/nowhere/orders.jsonl"], "/nowhere/orders.jsonl");
    refused(
        &["/nowhere/orders.jsonl", "--size", "64"],
        "cannot be used with",
    );
}

//! `examples/orders`, run as its page says.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use waypost_tests::{LIMIT, Program, Server, ServerOptions, required_program, wait_for, waypost};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/orders");
const DATA: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../shared/data/orders/orders.jsonl"
);

fn configuration() -> String {
    fs::read_to_string(Path::new(EXAMPLE).join("waypost.toml")).unwrap()
}

/// A worker, killed when dropped.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Worker {
    /// Starts one and waits until it is in the group.
    fn start(mut python: Command, server: &Server, name: &str) -> Self {
        let address = server.mqtt();
        python.arg(Path::new(EXAMPLE).join("worker.py")).args([
            name,
            &address.ip().to_string(),
            &address.port().to_string(),
        ]);
        let mut child = python.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        // What it prints later has to be read, or it stops.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Self(child)
    }
}

fn run(server: &Server, command: &str, arguments: &[&str]) -> String {
    let address = server.mqtt();
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let done = waypost()
        .arg(command)
        .args(["--host", &host, "-p", &port])
        .args(arguments)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command}: {error}");
    String::from_utf8(done.stdout).unwrap()
}

/// Numbers of the orders that are refused.
fn refused(file: &Path) -> Vec<String> {
    let orders = fs::read_to_string(file).unwrap();
    let orders = orders
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let is_refused = |order: &Value| {
        order["event"] == "order.cancelled" && order["total"].as_f64().unwrap() < 0.0
    };
    let refused = orders.filter(is_refused);
    let mut numbers: Vec<_> = refused
        .map(|order| order["order"].as_str().unwrap().to_owned())
        .collect();
    numbers.sort();
    numbers
}

/// Runs the example on a file: the office is away while the workers are at work.
fn play(file: &Path) {
    let (Some(anna), Some(ben)) = (
        required_program(Program::Python),
        required_program(Program::Python),
    ) else {
        return;
    };
    let server = ServerOptions::new().configuration(&configuration()).start();
    run(
        &server,
        "sub",
        &["-i", "office", "-c", "-q", "2", "-t", "dead/orders", "-E"],
    );
    let workers = [
        Worker::start(anna, &server, "anna"),
        Worker::start(ben, &server, "ben"),
    ];
    let file_name = file.to_string_lossy();
    run(
        &server,
        "replay",
        &[&file_name, "-q", "1", "-t", "orders/{order}"],
    );
    let expect = refused(file);
    let count = u32::try_from(expect.len()).unwrap();
    server.wait_for_metric("waypost_dead_letters_refused_total", count.into());
    wait_for("the workers to be done", LIMIT, || {
        (server.metric("waypost_group_messages_waiting") == 0.0).then_some(())
    });
    drop(workers);
    let count = count.to_string();
    let letters = run(
        &server,
        "sub",
        &[
            "-i",
            "office",
            "-c",
            "-q",
            "2",
            "-t",
            "dead/orders",
            "-C",
            &count,
            "-F",
            "%P %p",
        ],
    );
    let mut found = Vec::new();
    for letter in letters.lines() {
        let (properties, order) = letter.split_once(" {").unwrap();
        let order: Value = serde_json::from_str(&format!("{{{order}")).unwrap();
        let number = order["order"].as_str().unwrap();
        assert_eq!(
            properties,
            format!(
                "waypost-dead-topic:orders/{number} waypost-dead-reason:refused waypost-dead-count:1"
            )
        );
        found.push(number.to_owned());
    }
    found.sort();
    assert_eq!(found, expect);
}

#[test]
fn what_the_workers_refuse_comes_to_the_office() {
    let file = Path::new(EXAMPLE).join("orders.jsonl");
    assert_eq!(refused(&file), ["C1003", "C1006", "C1008"]);
    play(&file);
}

/// The same with two thousand real orders.
#[test]
fn real_orders_are_refused_and_read_too() {
    let Ok(orders) = fs::read_to_string(DATA) else {
        eprintln!("skipped: no ../shared/data");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let path: PathBuf = directory.path().join("orders.jsonl");
    let mut file = fs::File::create(&path).unwrap();
    for line in orders.lines().take(2_000) {
        writeln!(file, "{line}").unwrap();
    }
    play(&path);
}

//! What a storm of connections does to clients that are already there, and what a TLS handshake costs beside the peers.
//!
//! `cargo xtask bench storm` builds and runs it; it prints one line of JSON. The server has one core, with its shard, its
//! listener and its porters; the storm and the live traffic have the other. Both cores are kept awake at nice 19 all the
//! while. Quiet and stormy phases alternate; the figures are medians of the phases' p99, since one alone varies twelvefold.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod crowd;
mod handshakes;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::setpriority_process;
use serde_json::{Value, json};
use waypost_tests::bench::{Awake, median, option, raise_file_limit, run_on};
use waypost_tests::{Certificates, LIMIT, Server, ServerOptions, wait_for};

use crowd::Crowd;
use waypost_tests::probe::Probe;

/// What the server is measured with: one shard, TLS, room for the crowd.
fn server(certificates: &Certificates) -> Server {
    ServerOptions::new()
        .arguments([
            "--mqtts",
            "127.0.0.1:0",
            "--cert",
            &certificates.file("server.pem"),
            "--key",
            &certificates.file("server.key"),
        ])
        .shards(1)
        .start()
}

fn main() -> ExitCode {
    let rounds = option("--rounds", 5);
    let quiet = Duration::from_secs(option("--seconds", 2));
    let (clients, tls_clients) = (option("--clients", 10_000), option("--tls-clients", 2_000));
    raise_file_limit();
    let certificates = Certificates::make();
    run_on(0);
    let server = server(&certificates);
    let awake = Awake::keep();
    run_on(1);
    let probe = Probe::start(&server, false);
    // The storm makes way for the traffic it disturbs: only the server is to be the cause.
    setpriority_process(None, 10).expect("a lower priority");

    let mut storms = serde_json::Map::new();
    let mut is_met = true;
    for (name, count) in [
        ("accept", clients),
        ("reconnect", clients),
        ("tls", tls_clients),
    ] {
        let mut crowd = Crowd::new(&server, &certificates, name, count);
        let figures = storm(&probe, &mut crowd, rounds, quiet);
        is_met &= figures["is_met"] == true;
        storms.insert(name.to_owned(), figures);
        drop(crowd);
        settle(&server);
    }
    drop(probe);
    drop(server);
    drop(awake);
    let handshake = handshakes::compare(&certificates, option("--handshakes", 500), 3);
    println!(
        "{}",
        json!({"rounds": rounds, "storms": storms, "handshake": handshake})
    );
    if is_met {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// One kind of storm, quiet and stormy in turn.
fn storm(probe: &Probe, crowd: &mut Crowd, rounds: u32, quiet: Duration) -> Value {
    crowd.prepare();
    let (mut quiets, mut storms, mut seconds) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        thread::sleep(Duration::from_millis(500));
        probe.begin();
        thread::sleep(quiet);
        quiets.push(probe.p99_ms());
        probe.begin();
        let begun = Instant::now();
        crowd.storm();
        seconds.push(begun.elapsed().as_secs_f64());
        storms.push(probe.p99_ms());
    }
    let (without, with) = (median(quiets), median(storms));
    json!({
        "connections": crowd.len(),
        "seconds": median(seconds),
        "quiet_p99_ms": without,
        "storm_p99_ms": with,
        "ratio": with / without,
        "is_met": with <= (2.0 * without).max(without + 1.0),
    })
}

/// Waits until only the live traffic is left.
fn settle(server: &Server) {
    wait_for("the crowd to be gone", LIMIT, || {
        (server.metric("waypost_connections") < 2.5).then_some(())
    });
}

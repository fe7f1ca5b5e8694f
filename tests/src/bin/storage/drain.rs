//! `store-drain`: what live traffic feels when many sessions come back at once and take what they are owed.
//!
//! The server has one core, everybody else the other; both are kept awake at nice 19. Quiet phases and phases in which
//! the sessions drain alternate; the figures are medians of the phases' p99.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::setpriority_process;
use serde_json::{Value, json};
use waypost_tests::ServerOptions;
use waypost_tests::bench::{Awake, median, option, run_on};

use super::crowd::{Client, Crowd, publish_all};
use super::owed::settle;
use super::{data_dir, directory};
use waypost_tests::probe::Probe;

const RATIO_MAX: f64 = 1.5;
/// Or so much more, whichever is more.
const MORE_MS_MAX: f64 = 1.0;
const TOPIC: &str = "drain/backlog";
const PAYLOAD: [u8; 64] = [b'x'; 64];
const IN_FLIGHT: usize = 1_000;

/// A drained phase that takes longer has failed.
const DRAIN_LIMIT: Duration = Duration::from_mins(5);

pub fn run() -> Value {
    let sessions: u64 = option("--sessions", 1_000);
    let messages: u64 = option("--messages", 2_000);
    let rounds: u32 = option("--rounds", 5);
    let quiet = Duration::from_secs(option("--seconds", 10));
    let directory = directory();
    run_on(0);
    let server = ServerOptions::new()
        .data_dir(&data_dir(directory.path()))
        .shards(1)
        .start();
    let awake = Awake::keep();
    run_on(1);
    let id = |session: u64| format!("drain-{session}");
    for session in 0..sessions {
        let mut client = Client::connect(server.mqtt(), &id(session), false);
        client.subscribe(TOPIC);
        client.disconnect();
    }
    let probe = Probe::start(&server, true);
    // Those who drain make way for the traffic they disturb: only the server is to be the cause.
    setpriority_process(None, 10).expect("a lower priority");
    let (mut quiets, mut drained, mut seconds) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        publish_all(
            server.mqtt(),
            messages,
            IN_FLIGHT,
            |_, client| client.publish(TOPIC, &PAYLOAD),
            || true,
        );
        settle(&server);
        thread::sleep(Duration::from_millis(500));
        probe.begin();
        thread::sleep(quiet);
        quiets.push(probe.p99_ms());
        probe.begin();
        let begun = Instant::now();
        let clients =
            (0..sessions).map(|session| Client::begin(server.mqtt(), &id(session), false));
        let mut crowd = Crowd::new(clients.collect());
        while crowd.received() < sessions * messages {
            assert!(
                begun.elapsed() < DRAIN_LIMIT,
                "{} of {} messages came",
                crowd.received(),
                sessions * messages
            );
            crowd.turn(|_, _, _| ());
        }
        seconds.push(begun.elapsed().as_secs_f64());
        drained.push(probe.p99_ms());
        crowd.disconnect();
    }
    drop(probe);
    drop(awake);
    let (without, with) = (median(quiets.clone()), median(drained.clone()));
    json!({
        "sessions": sessions,
        "messages_each": messages,
        "rounds": rounds,
        "quiet_seconds": quiet.as_secs(),
        "drain_seconds": median(seconds),
        "quiet_p99_ms": without,
        "drained_p99_ms": with,
        "ratio": with / without,
        "quiet_p99s_ms": quiets,
        "drained_p99s_ms": drained,
        "goal_ratio": RATIO_MAX,
        "goal_more_ms": MORE_MS_MAX,
        "is_met": with <= (RATIO_MAX * without).max(without + MORE_MS_MAX),
    })
}

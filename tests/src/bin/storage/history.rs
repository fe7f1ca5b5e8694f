//! `history`, `history-warm`, `stream-seek`: what reading a stream from its past costs, and how soon it begins.
//!
//! The stream is made by `waypost streams import --generate`, before the server starts. The server has one core, everybody
//! else the other. Reading is at `QoS` 0, as fast as the server lets it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::setpriority_process;
use serde_json::{Value, json};
use waypost_mqtt::{ProtocolVersion, QoS};
use waypost_tests::bench::{Awake, median, option, run_on};
use waypost_tests::probe::Probe;
use waypost_tests::{RawClient, Server, ServerOptions, waypost};

use super::{data_dir, directory, megabytes};

const NAME: &str = "past";
const CONFIGURATION: &str = "[[stream]]\nname = \"past\"\nfilters = [\"past/#\"]\n";
const FILTER: &str = "past/#";
/// How much slower live traffic may become, at the 99th percentile.
const RATIO_MAX: f64 = 1.5;
/// Or so much more, whichever is more.
const MORE_MS_MAX: f64 = 1.0;
const WARM_MB_PER_S_MIN: f64 = 500.0;
const SEEK_MS_MAX: f64 = 10.0;
/// A stream of this size or more is only made where there is room for it.
const LARGE_BYTES: u64 = 1_000_000_000;
const FREE_BYTES_MIN: u64 = 25_000_000_000;
const TOPICS: u64 = 100;

/// A server whose stream has so many records.
struct Past {
    server: Server,
    records: u64,
    import_seconds: f64,
}

/// Or why there is none.
fn past(directory: &Path, records: u64, payload: u64) -> Result<Past, Value> {
    let free = rustix::fs::statvfs(directory).map_or(0, |fs| fs.f_bavail * fs.f_frsize);
    if records * (payload + 30) >= LARGE_BYTES && free < FREE_BYTES_MIN {
        let gigabytes = free / 1_000_000_000;
        return Err(
            json!({ "skipped": format!("{gigabytes} GB free, 25 are needed"), "is_met": true }),
        );
    }
    let configuration = directory.join("waypost.toml");
    std::fs::write(&configuration, CONFIGURATION).expect("a configuration");
    let begun = Instant::now();
    let status = waypost()
        .args(["streams", "import", NAME])
        .args(["--generate", &records.to_string()])
        .args(["--bytes", &payload.to_string()])
        .args(["--topics", &TOPICS.to_string()])
        .arg("--config")
        .arg(&configuration)
        .arg("--data-dir")
        .arg(data_dir(directory))
        .stdout(Stdio::null())
        .status();
    assert!(status.expect("waypost runs").success(), "the import failed");
    let import_seconds = begun.elapsed().as_secs_f64();
    run_on(0);
    let server = ServerOptions::new()
        .data_dir(&data_dir(directory))
        .configuration(CONFIGURATION)
        .shards(1)
        .start();
    run_on(1);
    Ok(Past {
        server,
        records,
        import_seconds,
    })
}

/// A connection that has asked for the stream from an offset on.
fn reader(server: &Server, name: &str, from: &str) -> TcpStream {
    let mut client = RawClient::connect(server, ProtocolVersion::V311, name);
    let filter = format!("$from/{from}/{FILTER}");
    client.send_raw(&waypost_tests::subscribe_bytes(
        ProtocolVersion::V311,
        1,
        &[(&filter, 0)],
    ));
    client.into_stream()
}

pub fn many_readers() -> Value {
    let readers: u64 = option("--readers", 100);
    let payload: u64 = option("--payload", 1_024);
    let records = option("--bytes", 10_000_000_000_u64) / payload;
    let rounds: u32 = option("--rounds", 6);
    let phase = Duration::from_secs(option("--seconds", 10));
    let directory = directory();
    let past = match past(directory.path(), records, payload) {
        Ok(past) => past,
        Err(skipped) => return skipped,
    };
    let awake = Awake::keep();
    let probe = Probe::start(&past.server, true);
    // Those who read make way for the traffic they disturb: only the server is to be the cause.
    setpriority_process(None, 10).expect("a lower priority");
    let read = Arc::new(AtomicU64::new(0));
    let (mut quiets, mut loaded, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..u64::from(rounds) {
        probe.begin();
        thread::sleep(phase);
        quiets.push(probe.p99_ms());
        let stop = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..readers)
            .map(|number| {
                // Everybody begins somewhere else.
                let from = (number * u64::from(rounds) + round) * past.records
                    / (readers * u64::from(rounds));
                let name = format!("reader-{number}");
                let stream = reader(&past.server, &name, &format!("offset={from}"));
                let (read, stop) = (Arc::clone(&read), Arc::clone(&stop));
                thread::spawn(move || discard(stream, &read, &stop))
            })
            .collect();
        let before = read.load(Ordering::Relaxed);
        probe.begin();
        let begun = Instant::now();
        thread::sleep(phase);
        loaded.push(probe.p99_ms());
        let bytes = read.load(Ordering::Relaxed) - before;
        rates.push(bytes as f64 / 1e6 / begun.elapsed().as_secs_f64());
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().expect("a reader");
        }
    }
    drop(probe);
    drop(awake);
    let (without, with) = (median(quiets.clone()), median(loaded.clone()));
    json!({
        "readers": readers,
        "records": past.records,
        "payload_bytes": payload,
        "stream_mb": megabytes(records * payload),
        "import_seconds": past.import_seconds,
        "rounds": rounds,
        "phase_seconds": phase.as_secs(),
        "read_mb_per_s": median(rates),
        "quiet_p99_ms": without,
        "loaded_p99_ms": with,
        "ratio": with / without,
        "quiet_p99s_ms": quiets,
        "loaded_p99s_ms": loaded,
        "goal_ratio": RATIO_MAX,
        "goal_more_ms": MORE_MS_MAX,
        "is_met": with <= (RATIO_MAX * without).max(without + MORE_MS_MAX),
    })
}

fn discard(mut stream: TcpStream, read: &AtomicU64, stop: &AtomicBool) {
    let mut buffer = vec![0; 256 << 10];
    let patience = Some(Duration::from_millis(100));
    stream.set_read_timeout(patience).expect("a time-out");
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => panic!("the server closed the connection of a reader"),
            Ok(count) => {
                read.fetch_add(count as u64, Ordering::Relaxed);
            }
            // Nothing for now.
            Err(_) => {}
        }
    }
}

pub fn one_warm_reader() -> Value {
    let payload: u64 = option("--payload", 4_096);
    let records = option("--bytes", 1_000_000_000_u64) / payload;
    let rounds: u32 = option("--rounds", 5);
    let directory = directory();
    let past = match past(directory.path(), records, payload) {
        Ok(past) => past,
        Err(skipped) => return skipped,
    };
    let mut rates = Vec::new();
    let mut buffer = vec![0; 1 << 20];
    // The first time it is cold.
    for round in 0..=rounds {
        let begun = Instant::now();
        let mut stream = reader(&past.server, &format!("reader-{round}"), "offset=0");
        let mut left = past.records * payload;
        while left > 0 {
            let count = stream.read(&mut buffer).expect("the stream");
            assert!(count > 0, "the server closed the connection");
            left = left.saturating_sub(count as u64);
        }
        let rate = megabytes(past.records * payload) / begun.elapsed().as_secs_f64();
        if round > 0 {
            rates.push(rate);
        }
        // A farewell, so that the server writes nothing more for it.
        let _ = stream.write_all(&[0xe0, 0]);
    }
    let rate = median(rates.clone());
    json!({
        "records": past.records,
        "payload_bytes": payload,
        "stream_mb": megabytes(past.records * payload),
        "import_seconds": past.import_seconds,
        "rounds": rounds,
        "mb_per_s": rate,
        "mb_per_s_of_rounds": rates,
        "goal_mb_per_s": WARM_MB_PER_S_MIN,
        "is_met": rate >= WARM_MB_PER_S_MIN,
    })
}

pub fn seek() -> Value {
    let records: u64 = option("--records", 100_000_000);
    let payload: u64 = option("--payload", 16);
    let seeks: u64 = option("--seeks", 100);
    let directory = directory();
    let past = match past(directory.path(), records, payload) {
        Ok(past) => past,
        Err(skipped) => return skipped,
    };
    let info = info(&past.server);
    let (first_ms, last_ms) = (number(&info, "first_ms"), number(&info, "last_ms"));
    // The server makes the table of the newest segment when it starts: whoever comes in that moment waits for it.
    let just_started = begin(&past.server, &format!("offset={}", past.records - 1));
    let offset = |at: u64| format!("offset={}", at * (past.records - 1) / seeks);
    let time = |at: u64| format!("time={}", first_ms + at * (last_ms - first_ms) / seeks);
    let offsets: Vec<f64> = (0..seeks)
        .map(|at| begin(&past.server, &offset(at)))
        .collect();
    let times: Vec<f64> = (0..seeks)
        .map(|at| begin(&past.server, &time(at)))
        .collect();
    let slowest = |all: &[f64]| all.iter().copied().fold(0.0, f64::max);
    let (by_offset, by_time) = (slowest(&offsets), slowest(&times));
    json!({
        "records": past.records,
        "payload_bytes": payload,
        "import_seconds": past.import_seconds,
        "seeks": seeks,
        "just_started_ms": just_started,
        "offset_ms_median": median(offsets),
        "offset_ms_max": by_offset,
        "time_ms_median": median(times),
        "time_ms_max": by_time,
        "goal_ms": SEEK_MS_MAX,
        "is_met": by_offset < SEEK_MS_MAX && by_time < SEEK_MS_MAX,
    })
}

/// How long it takes from SUBSCRIBE to the first message, in milliseconds.
fn begin(server: &Server, from: &str) -> f64 {
    let mut client = RawClient::connect(server, ProtocolVersion::V311, "seeker");
    let filter = format!("$from/{from}/{FILTER}");
    let begun = Instant::now();
    client.subscribe(&filter, QoS::AtMostOnce);
    let message = client.receive_message();
    let took = begun.elapsed().as_secs_f64() * 1e3;
    assert!(!message.bytes().is_empty());
    client.cut();
    took
}

fn info(server: &Server) -> Value {
    let (status, body) = server.get(&format!("/api/v1/streams/{NAME}"));
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).expect("JSON")
}

fn number(info: &Value, name: &str) -> u64 {
    info[name]
        .as_u64()
        .unwrap_or_else(|| panic!("no {name} in {info}"))
}

//! What the store takes: `cargo run --release -p waypost-store --example figures -- SCENARIO [SCALE]`.
//!
//! A JSON line for each scenario; `SCALE` divides the numbers that the goals name (1 = as they are). The directory is
//! `./figures-store`, made anew and removed at the end.
//!
//! - `all`: 1,000,000 messages owed to each of 1,000 queues, then read by one of them.
//! - `alone`: 1,000 messages owed to each of 1,000 queues, none to two.
//! - `away`: ten segments of messages for many that take them at once, a twentieth for one that is away.
//! - `start`: 1,000,000 rows of sessions; how long a start takes.
//! - `pairs`: what one debt costs that is settled before the views are committed.
#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a program for developers, whose figures have few digits"
)]

use std::{
    fs, io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use waypost_store::{
    Batch, Disk, MessageId, QueueId, Store, StoreOptions, StoreWriter, Table, disk::RealDisk,
};

const DIRECTORY: &str = "figures-store";
const BODY: [u8; 64] = [7; 64];

/// How much is appended at once.
const APPEND_BYTES: usize = 256 << 10;

type Parts = (Store<RealDisk>, StoreWriter<RealDisk>);

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let scenario = arguments.next().unwrap_or_default();
    let scale: u64 = arguments.next().map_or(1, |scale| scale.parse().unwrap());
    let run = match scenario.as_str() {
        "all" => all,
        "alone" => alone,
        "away" => away,
        "start" => start,
        "pairs" => pairs,
        _ => {
            eprintln!("scenarios: all, alone, away, start, pairs");
            std::process::exit(2);
        }
    };
    if Path::new(DIRECTORY).exists() {
        fs::remove_dir_all(DIRECTORY)?;
    }
    fs::create_dir(DIRECTORY)?;
    let figures = run(scale);
    println!(
        "{{\"scenario\": \"{scenario}\", \"scale\": {scale}, {figures}, {}}}",
        process()
    );
    fs::remove_dir_all(DIRECTORY)
}

fn open() -> Parts {
    let disk = Arc::new(RealDisk::open(Path::new(DIRECTORY)).unwrap());
    let (store, writer, _) = Store::open(disk, StoreOptions::default(), 0).unwrap();
    (store, writer)
}

/// Appends, syncs and folds, and commits when that is due.
fn work((store, writer): &mut Parts, batch: &mut Batch, now_ms: u64) {
    let appended = writer.append(&[batch.take()], now_ms).unwrap();
    writer.sync().unwrap();
    store.apply(&appended).unwrap();
    if store.is_commit_due(now_ms) {
        store.commit(now_ms).unwrap();
    }
}

fn all(scale: u64) -> String {
    let (messages, queues) = (1_000_000 / scale, 1_000);
    let mut parts = open();
    let began = Instant::now();
    let mut batch = Batch::new();
    for id in 1..=messages {
        batch.message(MessageId(id), u64::MAX, &BODY);
        batch.owe(MessageId(id), &[1], (1..=queues).map(QueueId));
        batch.end();
        if batch.len() > APPEND_BYTES {
            work(&mut parts, &mut batch, 0);
        }
    }
    work(&mut parts, &mut batch, 0);
    parts.0.commit(0).unwrap();
    let written = began.elapsed();
    let bytes = disk_bytes();
    let began = Instant::now();
    let (mut read, mut after) = (0, 0);
    loop {
        let page = parts.0.read_queue(QueueId(1), after, 100, 1 << 20).unwrap();
        read += page
            .entries
            .iter()
            .filter(|entry| entry.body.is_some())
            .count() as u64;
        after = page.entries.last().map_or(after, |entry| entry.place);
        if page.is_end {
            break;
        }
    }
    let per_debt = (bytes - messages * BODY.len() as u64) as f64 / (messages * queues) as f64;
    format!(
        "\"messages\": {messages}, \"queues\": {queues}, \"seconds\": {:.1}, \"disk_bytes\": {bytes}, \"disk_bytes_per_debt\": {per_debt:.2}, \"read\": {read}, \"read_us\": {:.2}",
        written.as_secs_f64(),
        micros(began.elapsed(), read),
    )
}

fn alone(scale: u64) -> String {
    let (queues, each) = (1_000, 1_000 / scale);
    let mut parts = open();
    let began = Instant::now();
    let mut batch = Batch::new();
    for n in 0..queues * each {
        batch.message(MessageId(n + 1), u64::MAX, &BODY);
        batch.owe(MessageId(n + 1), &[1], [QueueId(n % queues + 1)]);
        batch.end();
        if batch.len() > APPEND_BYTES {
            work(&mut parts, &mut batch, 0);
        }
    }
    work(&mut parts, &mut batch, 0);
    parts.0.commit(0).unwrap();
    let written = began.elapsed();
    let bytes = disk_bytes();
    let began = Instant::now();
    let mut read = 0;
    for queue in 1..=10 {
        let page = parts
            .0
            .read_queue(QueueId(queue), 0, usize::MAX, u64::MAX)
            .unwrap();
        read += page
            .entries
            .iter()
            .filter(|entry| entry.body.is_some())
            .count() as u64;
    }
    format!(
        "\"messages\": {}, \"queues\": {queues}, \"seconds\": {:.1}, \"disk_bytes\": {bytes}, \"disk_bytes_per_message\": {:.1}, \"read\": {read}, \"read_us\": {:.2}",
        queues * each,
        written.as_secs_f64(),
        bytes as f64 / (queues * each) as f64,
        micros(began.elapsed(), read),
    )
}

fn away(scale: u64) -> String {
    let mut parts = open();
    let mut batch = Batch::new();
    let (mut id, mut owed, mut noise) = (0_u64, 0, 0x2545_f491_4f6c_dd1d_u64);
    let mut now_ms = 0;
    while parts.0.figures().unwrap().log_segments + parts.0.figures().unwrap().kept_segments
        < 10 / scale.min(3) + 2
    {
        for _ in 0..20_000 {
            id += 1;
            // What does not compress, so that segments fill as they would.
            let mut body = [0; 256];
            for byte in &mut body {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                *byte = noise.to_le_bytes()[3];
            }
            batch.message(MessageId(id), u64::MAX, &body);
            let is_away = id % 20 == 0;
            owed += if is_away { body.len() as u64 } else { 0 };
            let away = is_away.then_some(QueueId(100));
            batch.owe(MessageId(id), &[1], (1..=10).map(QueueId).chain(away));
            batch.end();
            (1..=10).for_each(|queue| batch.settle(QueueId(queue), MessageId(id)));
            batch.end();
            if batch.len() > APPEND_BYTES {
                work(&mut parts, &mut batch, now_ms);
            }
        }
        now_ms += 1_000;
        if parts.0.figures().unwrap().log_segments > 10 {
            break;
        }
    }
    work(&mut parts, &mut batch, now_ms);
    parts.0.commit(now_ms).unwrap();
    let before = disk_bytes();
    let began = Instant::now();
    while parts.0.retire_step(now_ms).unwrap() {}
    format!(
        "\"messages\": {id}, \"owed_bytes\": {owed}, \"disk_bytes_before\": {before}, \"disk_bytes\": {}, \"bound\": {}, \"retire_seconds\": {:.2}",
        disk_bytes(),
        2 * owed + 2 * (64 << 20),
        began.elapsed().as_secs_f64(),
    )
}

fn start(scale: u64) -> String {
    let rows = 1_000_000 / scale;
    let mut parts = open();
    let mut batch = Batch::new();
    for row in 0..rows {
        batch.put(Table(1), &row.to_be_bytes(), &[row.to_le_bytes()[0]; 120]);
        batch.put(
            Table(2),
            &[row.to_be_bytes().as_slice(), b"sensors/+/state"].concat(),
            &[1; 6],
        );
        batch.end();
        if batch.len() > APPEND_BYTES {
            work(&mut parts, &mut batch, 0);
        }
    }
    work(&mut parts, &mut batch, 0);
    drop(parts);
    let began = Instant::now();
    let disk = Arc::new(RealDisk::open(Path::new(DIRECTORY)).unwrap());
    let (store, _, recovered) = Store::open(disk, StoreOptions::default(), 0).unwrap();
    let opened = began.elapsed();
    let count: usize = [1, 2]
        .map(|table| store.rows(Table(table)).unwrap().count())
        .iter()
        .sum();
    format!(
        "\"rows\": {count}, \"open_seconds\": {:.2}, \"seconds\": {:.2}, \"log_bytes_read\": {}, \"views_bytes_read\": {}, \"disk_bytes\": {}",
        opened.as_secs_f64(),
        began.elapsed().as_secs_f64(),
        recovered.log_bytes_read,
        recovered.views_bytes_read,
        disk_bytes(),
    )
}

fn pairs(scale: u64) -> String {
    let pairs = 4_000_000 / scale;
    let (store, mut writer) = open();
    let mut batch = Batch::new();
    let mut spent = Duration::ZERO;
    for id in 1..=pairs {
        batch.message(MessageId(id), u64::MAX, &BODY);
        batch.owe(MessageId(id), &[1], [QueueId(id % 50)]);
        batch.end();
        if let Some(settled) = id.checked_sub(500).filter(|settled| *settled > 0) {
            batch.settle(QueueId(settled % 50), MessageId(settled));
            batch.end();
        }
        if batch.len() > APPEND_BYTES {
            let appended = writer.append(&[batch.take()], 0).unwrap();
            let began = Instant::now();
            store.apply(&appended).unwrap();
            spent += began.elapsed();
        }
    }
    format!(
        "\"pairs\": {pairs}, \"ns_per_pair\": {:.0}",
        micros(spent, pairs) * 1_000.0
    )
}

fn micros(spent: Duration, count: u64) -> f64 {
    spent.as_secs_f64() * 1e6 / count.max(1) as f64
}

/// What the files take.
fn disk_bytes() -> u64 {
    let disk = RealDisk::open(Path::new(DIRECTORY)).unwrap();
    let names = disk.list().unwrap();
    let len = |name: &String| fs::metadata(Path::new(DIRECTORY).join(name)).unwrap().len();
    names.iter().map(len).sum()
}

/// Memory and CPU of this process.
fn process() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1))
            .unwrap_or("0")
            .to_owned()
    };
    let schedstat = fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let cpu_ns: f64 = schedstat
        .split_whitespace()
        .next()
        .and_then(|ns| ns.parse().ok())
        .unwrap_or_default();
    format!(
        "\"memory_peak_kib\": {}, \"memory_kib\": {}, \"cpu_seconds\": {:.1}",
        kib("VmHWM"),
        kib("RssAnon"),
        cpu_ns / 1e9
    )
}

//! What it costs to append to the log on the real disk: `cargo bench -p waypost-store`, in cargo's target directory.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::indexing_slicing
)]

use std::{
    fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use waypost_encrypt::MasterKey;
use waypost_store::{
    Batch, MessageId, QueueId,
    disk::RealDisk,
    log::{LogOptions, Recovery},
};

const EACH: Duration = Duration::from_secs(1);

fn main() {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("waypost-log-bench");
    println!(
        "records of a message of 64 B and one debtor; one append and one sync for so many of them"
    );
    for (compress, key) in [
        ("identity", false),
        ("lz4", false),
        ("zstd", false),
        ("lz4", true),
    ] {
        for records in [1, 16, 256, 4096] {
            let _ = fs::remove_dir_all(&directory);
            fs::create_dir_all(&directory).unwrap();
            let disk = Arc::new(RealDisk::open(&directory).unwrap());
            let options = LogOptions {
                compress: waypost_compress::find(compress).unwrap(),
                key: key.then(|| Arc::new(MasterKey::new([1; 32]))),
                ..LogOptions::default()
            };
            measure(disk, options, records);
            fs::remove_dir_all(&directory).unwrap();
        }
    }
}

fn measure(disk: Arc<RealDisk>, options: LogOptions, records: u64) {
    let name = format!(
        "{:?}{}",
        options.compress,
        options.key.as_ref().map_or("", |_| ", aes-gcm")
    );
    let (mut writer, ..) = Recovery::open(disk, options, None)
        .unwrap()
        .finish()
        .unwrap();
    let (mut id, mut bytes, mut plain) = (0, 0, 0);
    let (mut encoding, mut appending) = (0, 0);
    let mut syncs = Vec::new();
    let mut batch = Batch::new();
    let first_ns = cpu_ns();
    let begin = Instant::now();
    while begin.elapsed() < EACH {
        let start = cpu_ns();
        for _ in 0..records {
            id += 1;
            let mut body = [b'x'; 64];
            body[..8].copy_from_slice(&mix(id));
            body[20..28].copy_from_slice(&mix(!id));
            batch.message(MessageId(id), u64::MAX, &body);
            batch.owe(MessageId(id), &[1], [QueueId(id % 50)]);
            batch.end();
        }
        let encoded = cpu_ns();
        let records = batch.take();
        plain += records.len();
        bytes += writer.append(&[records], id).unwrap().bytes;
        let appended = cpu_ns();
        let before = Instant::now();
        writer.sync().unwrap();
        syncs.push(before.elapsed());
        encoding += encoded - start;
        appending += appended - encoded;
    }
    let passed = begin.elapsed().as_secs_f64();
    syncs.sort_unstable();
    let all = cpu_ns() - first_ns;
    println!(
        "{name:18} {records:5}: {:8.0} records/s, {:6.1} MB/s, {:.2} of it written; sync {:5.0} us in the median; CPU a record: encode {:.3} us, append {:.3} us, all {:.3} us",
        id as f64 / passed,
        plain as f64 / passed / 1e6,
        bytes as f64 / plain as f64,
        syncs[syncs.len() / 2].as_secs_f64() * 1e6,
        encoding as f64 / id as f64 / 1e3,
        appending as f64 / id as f64 / 1e3,
        all as f64 / id as f64 / 1e3,
    );
}

/// Bytes that do not compress.
fn mix(number: u64) -> [u8; 8] {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29)
        .wrapping_mul(0xbf58_476d_1ce4_e5b9)
        .to_le_bytes()
}

/// What this thread has used, system time included.
fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap()
}

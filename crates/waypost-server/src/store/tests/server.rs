//! A whole server over a disk that can be told to fail, and clients that speak MQTT 5 to it.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use waypost_core::journal::{QueueId, Table};
use waypost_core::rows::{SessionRow, WillNumber, queue_key, will_key};
use waypost_store::{Batch, PARTITIONS_MAX, Store};

use super::disk::{Faults, FaultyDisk};
use super::{LIMIT, open};
use crate::config::Config;
use crate::door::Bound;
use crate::metrics::Stats;
use crate::server::{Server, StartError, start_over};
use crate::store::clock::ClockTrust;
use crate::store::open::OpenStore;

const CONNACK: u8 = 0x20;
const PUBLISH_QOS1: u8 = 0x32;
const PUBACK: u8 = 0x40;
const SUBACK: u8 = 0x90;
const SUCCESS: u8 = 0x00;
const NO_SUBSCRIBERS: u8 = 0x10;
const QUOTA_EXCEEDED: u8 = 0x97;
const UNSPECIFIED: u8 = 0x80;

struct Running {
    server: Server,
    faults: Arc<Faults>,
    stats: Arc<Stats>,
    address: SocketAddr,
}

impl Running {
    fn start(directory: &TempDir, change: impl FnOnce(&mut Config)) -> Self {
        Self::try_start(directory, change).unwrap()
    }

    fn try_start(
        directory: &TempDir,
        change: impl FnOnce(&mut Config),
    ) -> Result<Self, StartError> {
        let mut config = Config::default();
        config.listen.mqtt = vec!["127.0.0.1:0".parse().unwrap()];
        config.server.data_dir = directory.path().to_owned();
        config.server.shards = 2;
        config.server.drain_timeout = Duration::from_millis(100);
        change(&mut config);
        let stats = Arc::new(Stats::new(config.server.shard_count()));
        let disk = FaultyDisk::new(directory);
        let faults = Arc::clone(&disk.faults);
        let store = OpenStore::open(
            Arc::new(disk),
            open::options(&config).unwrap(),
            config.store.pending_bytes_max,
            ClockTrust::Checked,
            &stats,
        )
        .unwrap();
        let server = start_over(&config, store, Arc::clone(&stats))?;
        let Bound::Tcp(address) = server.addresses()[0].place else {
            panic!("a door of TCP");
        };
        Ok(Self {
            server,
            faults,
            stats,
            address,
        })
    }

    fn stop(self) {
        self.server.handle().drain();
        self.server.join().unwrap();
    }

    fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !holds(self) {
            assert!(Instant::now() < deadline, "{what} did not come");
        }
    }

    fn batches(&self) -> u64 {
        self.stats.server.store_batches.load(Ordering::Relaxed)
    }

    /// A session that outlives its connection subscribes, and its client goes.
    fn leave_subscribed(&self, id: &str, filter: &str) {
        let (mut client, is_known) = Client::connect(self, id, true);
        assert!(!is_known);
        assert_eq!(client.subscribe(filter), 1);
    }

    fn publisher(&self) -> Client {
        Client::connect(self, "publisher", false).0
    }
}

/// A client that writes packets and reads answers, one at a time.
struct Client(TcpStream);

impl Client {
    /// One whose session outlives its connection, or not; says whether there was one.
    fn connect(running: &Running, id: &str, is_kept: bool) -> (Self, bool) {
        let stream = TcpStream::connect(running.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut client = Self(stream);
        let expiry: u32 = if is_kept { 3_600 } else { 0 };
        let mut body = b"\x00\x04MQTT\x05\x00\x00\x3c\x05\x11".to_vec();
        body.extend_from_slice(&expiry.to_be_bytes());
        string(&mut body, id);
        client.send(0x10, &body);
        let (kind, body) = client.receive();
        assert_eq!((kind, body[1]), (CONNACK, SUCCESS));
        (client, body[0] == 1)
    }

    fn subscribe(&mut self, filter: &str) -> u8 {
        let mut body = vec![0, 1, 0];
        string(&mut body, filter);
        body.push(1);
        self.send(0x82, &body);
        let (kind, body) = self.receive();
        assert_eq!(kind, SUBACK);
        body[body.len() - 1]
    }

    fn send_publish(&mut self, topic: &str, id: u16, payload: &[u8]) {
        let mut body = Vec::new();
        string(&mut body, topic);
        body.extend_from_slice(&id.to_be_bytes());
        body.push(0);
        body.extend_from_slice(payload);
        self.send(PUBLISH_QOS1, &body);
    }

    /// The reason code of the PUBACK.
    fn publish(&mut self, topic: &str, id: u16, payload: &[u8]) -> u8 {
        self.send_publish(topic, id, payload);
        self.puback(id)
    }

    fn puback(&mut self, id: u16) -> u8 {
        let (kind, body) = self.receive();
        assert_eq!((kind, &body[..2]), (PUBACK, &id.to_be_bytes()[..]));
        body.get(2).copied().unwrap_or(SUCCESS)
    }

    /// The payload of a message, which is acknowledged.
    fn message(&mut self) -> Vec<u8> {
        let (kind, body) = self.receive();
        assert_eq!(kind & 0xf6, PUBLISH_QOS1, "a message at QoS 1");
        let topic = usize::from(body[1]);
        let id = [body[2 + topic], body[3 + topic]];
        self.send(PUBACK, &id);
        body[5 + topic..].to_vec()
    }

    fn send(&mut self, kind: u8, body: &[u8]) {
        let mut packet = vec![kind];
        let mut len = body.len();
        while len >= 0x80 {
            packet.push(len.to_le_bytes()[0] | 0x80);
            len /= 0x80;
        }
        packet.push(len.to_le_bytes()[0]);
        packet.extend_from_slice(body);
        self.0.write_all(&packet).unwrap();
    }

    /// Messages 1 to `count` on `a/b`, each acknowledged before the next.
    fn publish_numbered(&mut self, count: u16) {
        for id in 1..=count {
            assert_eq!(self.publish("a/b", id, &id.to_be_bytes()), SUCCESS);
        }
    }

    /// Messages 1 to `count`, in order.
    fn expect_numbered(&mut self, count: u16) {
        for id in 1..=count {
            assert_eq!(self.message(), id.to_be_bytes());
        }
    }

    fn receive(&mut self) -> (u8, Vec<u8>) {
        let mut byte = [0];
        self.0.read_exact(&mut byte).unwrap();
        let kind = byte[0];
        let (mut len, mut shift) = (0, 0);
        loop {
            self.0.read_exact(&mut byte).unwrap();
            len |= usize::from(byte[0] & 0x7f) << shift;
            shift += 7;
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; len];
        self.0.read_exact(&mut body).unwrap();
        (kind, body)
    }
}

fn string(into: &mut Vec<u8>, text: &str) {
    let len = u16::try_from(text.len()).unwrap();
    into.extend_from_slice(&len.to_be_bytes());
    into.extend_from_slice(text.as_bytes());
}

/// Goal: QoS 1 without durable interest touches no disk, not even a full one. Method: batches are counted.
#[test]
fn qos_1_without_durable_interest_touches_no_disk() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(&directory, |_| {});
    let (mut subscriber, _) = Client::connect(&running, "live", false);
    assert_eq!(subscriber.subscribe("a/#"), 1);
    let mut publisher = running.publisher();
    // The batches of the start come before this SUBACK's.
    let (mut kept, _) = Client::connect(&running, "kept", true);
    assert_eq!(kept.subscribe("elsewhere"), 1);
    let before = running.batches();
    running.faults.set_full(true);
    for id in 1..=100 {
        assert_eq!(publisher.publish("a/b", id, b"payload"), SUCCESS);
        assert_eq!(subscriber.message(), b"payload");
    }
    assert_eq!(publisher.publish("nobody", 101, b""), NO_SUBSCRIBERS);
    assert_eq!(running.batches(), before);
    running.until("the figures of the last tick", |running| {
        let shell = running.stats.totals().shell;
        shell.publish_bytes_received >= 100 * 7 && shell.publish_bytes_sent >= 100 * 7
    });
    running.stop();
}

#[test]
fn what_a_session_is_owed_outlives_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(&directory, |_| {});
    let (mut subscriber, is_known) = Client::connect(&running, "kept", true);
    assert!(!is_known);
    assert_eq!(subscriber.subscribe("a/#"), 1);
    drop(subscriber);
    let mut publisher = running.publisher();
    publisher.publish_numbered(50);
    running.stop();

    let running = Running::start(&directory, |_| {});
    let (mut subscriber, is_known) = Client::connect(&running, "kept", true);
    assert!(is_known);
    subscriber.expect_numbered(50);
    let server = &running.stats.server;
    assert!(server.store_queue_reads.load(Ordering::Relaxed) > 0);
    assert!(server.store_messages_read.load(Ordering::Relaxed) >= 50);
    assert!(server.store_start_log_bytes.load(Ordering::Relaxed) > 0);
    assert!(server.store_start_views_bytes.load(Ordering::Relaxed) > 0);
    assert_eq!(server.store_damage.load(Ordering::Relaxed), 0);
    assert_eq!(running.stats.totals().shell.store_rows_unreadable, 0);
    assert!(running.stats.store_sync_duration.total() > 0);
    running.stop();
}

/// Goal: a session that asked for an expiry keeps no more of it than is left; a clock that is far ahead of the log
/// lets it go only with --accept-clock. Method: the log's last entry is made two days old.
#[test]
fn a_clock_far_ahead_is_believed_only_when_told_to() {
    const TWO_DAYS_MS: u64 = 2 * 24 * 60 * 60 * 1_000;
    let directory = tempfile::tempdir().unwrap();
    let now_ms = crate::store::clock::system_ms();
    let disk = Arc::new(FaultyDisk::new(&directory));
    let options = || open::options(&Config::default()).unwrap();
    let (_, mut log, _) =
        waypost_store::Store::open(disk, options(), now_ms - TWO_DAYS_MS).unwrap();
    let mut batch = waypost_store::Batch::new();
    batch.delete(waypost_store::Table(0), b"a row");
    batch.end();
    log.append(&[batch.records()], now_ms - TWO_DAYS_MS)
        .unwrap();
    log.sync().unwrap();
    drop(log);
    for (trust, is_believed) in [(ClockTrust::Checked, false), (ClockTrust::Accepted, true)] {
        let disk = Arc::new(FaultyDisk::new(&directory));
        let stats = Stats::new(1);
        let store = OpenStore::open(disk, options(), 1, trust, &stats).unwrap();
        let is_now = store.wall.now_ms() >= now_ms;
        assert_eq!(is_now, is_believed, "{trust:?}");
    }
}

/// Goal: ENOSPC is a negative acknowledgement, and no start is needed to recover.
#[test]
fn publishers_are_refused_while_the_disk_is_full() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(&directory, |_| {});
    running.leave_subscribed("kept", "a/#");
    let mut publisher = running.publisher();
    assert_eq!(publisher.publish("a/b", 1, b"1"), SUCCESS);
    running.faults.set_full(true);
    assert_eq!(publisher.publish("a/b", 2, b"2"), QUOTA_EXCEEDED);
    assert_eq!(
        publisher.publish("a/b", 3, b"3"),
        QUOTA_EXCEEDED,
        "at once now"
    );
    let full = |running: &Running| running.stats.server.store_full.load(Ordering::Relaxed);
    assert_eq!(full(&running), 1);
    running.faults.set_full(false);
    running.until("the end of it", |running| full(running) == 0);
    assert_eq!(publisher.publish("a/b", 4, b"4"), SUCCESS);

    let (mut subscriber, _) = Client::connect(&running, "kept", true);
    assert_eq!(subscriber.message(), b"1");
    assert_eq!(subscriber.message(), b"4");
    running.stop();
}

#[test]
fn publishers_are_refused_while_the_disk_fails() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(&directory, |_| {});
    running.leave_subscribed("kept", "a/#");
    let mut publisher = running.publisher();
    running.faults.fails_syncs.store(true, Ordering::SeqCst);
    assert_eq!(publisher.publish("a/b", 1, b"1"), UNSPECIFIED);
    let failed = |running: &Running| running.stats.server.store_failed.load(Ordering::Relaxed);
    assert_eq!(failed(&running), 1);
    running.faults.fails_syncs.store(false, Ordering::SeqCst);
    running.until("the end of it", |running| failed(running) == 0);
    assert_eq!(publisher.publish("a/b", 2, b"2"), SUCCESS);
    running.stop();
}

/// Goal: an acknowledgement waits for the sync that covers it. Method: syncs are held.
#[test]
fn a_puback_waits_for_the_sync() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(&directory, |_| {});
    let (mut subscriber, _) = Client::connect(&running, "kept", true);
    assert_eq!(subscriber.subscribe("a/#"), 1);
    let mut publisher = running.publisher();
    running.faults.hold_syncs();
    publisher.send_publish("a/b", 1, b"1");
    // Live at once, whatever the disk does.
    assert_eq!(subscriber.message(), b"1");
    running.until("the sync", |running| running.faults.holding() > 0);
    publisher.0.set_nonblocking(true).unwrap();
    running.until("the figure", |running| {
        running.stats.totals().gauges.answers_waiting == 1
    });
    let nothing = publisher.0.read(&mut [0]).unwrap_err();
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
    publisher.0.set_nonblocking(false).unwrap();
    running.faults.let_syncs_go();
    assert_eq!(publisher.puback(1), SUCCESS);
    running.stop();
}

/// Goal: `store.pending_bytes_max` slows publishers. Method: syncs are held while one publishes much more than that.
#[test]
fn a_publisher_is_not_read_while_the_store_is_full() {
    const MESSAGES: u16 = 400;
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(&directory, |config| {
        // With more shards a publish is handed in when the others have answered: all could be read by then.
        config.server.shards = 1;
        config.store.pending_bytes_max = 64 << 10;
        config.limits.receive_maximum = MESSAGES;
    });
    running.leave_subscribed("kept", "a/#");
    let mut publisher = running.publisher();
    running.faults.hold_syncs();
    let mut writing = Client(publisher.0.try_clone().unwrap());
    let written = std::thread::spawn(move || {
        for id in 1..=MESSAGES {
            writing.send_publish("a/b", id, &[0; 4_096]);
        }
    });
    let pending = |running: &Running| {
        let stats = &running.stats.server;
        stats.store_pending_bytes.load(Ordering::Relaxed)
    };
    running.until("the figures", |running| pending(running) > 64 << 10);
    running.until("the pause", |running| {
        running.stats.totals().shell.reads_paused_store > 0
    });
    running.faults.let_syncs_go();
    for id in 1..=MESSAGES {
        assert_eq!(publisher.puback(id), SUCCESS);
    }
    written.join().unwrap();
    running.until("all of it", |running| pending(running) == 0);
    running.stop();
}

/// Goal: each setting of how the log is written acts: `store.segment_bytes`, `store.compress`, `store.encrypt`,
/// `store.cache`, `store.cache_bytes`. Method: what is on disk, and what is in memory, after the same work.
#[test]
fn settings_of_the_store_act() {
    const PLANTED: &[u8] = b"a planted payload that is easy to find";
    let work = |change: &dyn Fn(&mut Config)| {
        let directory = tempfile::tempdir().unwrap();
        let running = Running::start(&directory, |config| change(config));
        running.leave_subscribed("kept", "a/#");
        let mut publisher = running.publisher();
        for id in 1..=60 {
            let payload = PLANTED.repeat(1_000);
            assert_eq!(publisher.publish("a/b", id, &payload), SUCCESS);
        }
        let (mut subscriber, _) = Client::connect(&running, "kept", true);
        for _ in 1..=60 {
            assert_eq!(subscriber.message().len(), PLANTED.len() * 1_000);
        }
        let cached = |running: &Running| {
            running
                .stats
                .server
                .store_cache_bytes
                .load(Ordering::Relaxed)
        };
        running.until("the figures", |running| {
            let server = &running.stats.server;
            server.store_views_commits.load(Ordering::Relaxed) > 0
                && server.store_cache_misses.load(Ordering::Relaxed) > 0
        });
        let cached = cached(&running);
        running.stop();
        let mut files = Vec::new();
        for entry in std::fs::read_dir(directory.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "log") {
                files.push(std::fs::read(path).unwrap());
            }
        }
        let finds = |needle: &[u8]| {
            let windows = |file: &Vec<u8>| file.windows(needle.len()).any(|one| one == needle);
            files.iter().any(windows)
        };
        (files.len(), finds(PLANTED), cached)
    };
    let (segments, is_found, cached) = work(&|config| {
        config.store.compress = "identity";
        config.store.segment_bytes = 1 << 20;
        config.store.cache_bytes = 64 << 20;
    });
    assert!(segments >= 2, "store.segment_bytes: {segments}");
    assert!(is_found, "neither packed nor encrypted");
    assert!(cached > 1 << 20, "store.cache_bytes: {cached}");
    let (segments, _, cached) = work(&|config| {
        config.store.compress = "zstd";
        config.store.segment_bytes = 1 << 20;
        config.store.cache_bytes = 0;
    });
    assert_eq!(segments, 1, "store.compress makes it small");
    assert_eq!(cached, 0, "store.cache_bytes");
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("key");
    std::fs::write(&key, [7; 32]).unwrap();
    for encrypt in ["aes-gcm", "chacha20-poly1305"] {
        let (_, is_found, _) = work(&|config| {
            config.store.compress = "identity";
            config.store.encrypt = encrypt;
            config.store.key_file = Some(key.clone());
        });
        assert!(!is_found, "store.encrypt");
    }
}

/// Goal: `cache` and `cache_bytes` of a `[[topic]]` act, and tell. Method: messages are read back by who was away, of one
/// topic that has a part too small for them, of one that says nothing, and of more with a part than there may be.
#[test]
fn a_topic_has_memory_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("waypost.toml");
    let mut policies =
        "[[topic]]\nfilter = \"a/own\"\ncache = \"auto\"\ncache_bytes = \"64KiB\"\n".to_owned();
    for number in 0..PARTITIONS_MAX {
        let _ = write!(
            policies,
            "[[topic]]\nfilter = \"a/{number}\"\ncache_bytes = \"1KiB\"\n"
        );
    }
    std::fs::write(&file, policies).unwrap();
    let sources = crate::config::Sources {
        file: Some(file),
        ..Default::default()
    };
    let loaded = Config::load(&sources).unwrap();
    let running = Running::start(&directory, |config| config.topics = loaded.topics);
    running.leave_subscribed("kept", "a/#");
    let mut publisher = running.publisher();
    for id in 1..=60 {
        let topic = if id % 2 == 0 { "a/own" } else { "a/other" };
        assert_eq!(publisher.publish(topic, id, &[7; 8 << 10]), SUCCESS);
    }
    for (number, id) in (0..PARTITIONS_MAX).zip(61..) {
        let payload = [7; 100];
        assert_eq!(
            publisher.publish(&format!("a/{number}"), id, &payload),
            SUCCESS
        );
    }
    let (mut subscriber, _) = Client::connect(&running, "kept", true);
    for at in 0..60 + PARTITIONS_MAX {
        assert!(subscriber.message().len() >= 100, "{at}");
    }
    running.until("the figures", |running| {
        let crowded_out = &running.stats.server.store_cache_crowded_out;
        crowded_out.load(Ordering::Relaxed) > 0
    });
    let parts = running.stats.cache_partitions();
    assert_eq!(parts.len(), 2 + PARTITIONS_MAX, "and that of streams");
    let part = |name| parts.iter().find(|part| &*part.name == name).unwrap();
    let (node, own) = (part("store"), part("a/own"));
    assert_eq!((node.strategy, own.strategy), ("lru", "auto"));
    assert!(node.bytes >= 30 * (8 << 10), "{node:?}");
    assert!(own.bytes > 0 && own.bytes <= 64 << 10, "{own:?}");
    assert!(
        own.counters.misses > 0 && own.explanation.contains("w-tinylfu"),
        "{own:?}"
    );
    assert_eq!(part("a/0").strategy, "lru");
    let page = crate::metrics::render(
        &running.stats,
        &crate::metrics::Process {
            version: "",
            uptime: Duration::ZERO,
            ready: true,
        },
    );
    for (name, is_more) in [
        (
            "waypost_store_cache_partition_hits_total",
            node.counters.hits > 0,
        ),
        ("waypost_store_cache_partition_misses_total", true),
        ("waypost_store_cache_partition_bytes", true),
        (
            "waypost_store_cache_partition_hit_ratio",
            node.counters.hits > 0,
        ),
    ] {
        let sample = format!("{name}{{partition=\"store\"}} ");
        let mut lines = page.lines();
        let value = lines.find_map(|line| line.strip_prefix(&sample)).unwrap();
        assert_eq!(
            value.parse::<f64>().unwrap() > 0.0,
            is_more,
            "{sample}{value}"
        );
    }
    running.stop();
}

/// Goal: a group with a member whose session is kept loses nothing that its publisher was told is kept, over more than is
/// kept in memory.
#[test]
fn what_a_group_is_owed_outlives_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(&directory, |_| {});
    running.leave_subscribed("member", "$share/g/a/#");
    let mut publisher = running.publisher();
    publisher.publish_numbered(300);
    running.stop();

    let running = Running::start(&directory, |_| {});
    let (mut member, is_known) = Client::connect(&running, "member", true);
    assert!(is_known);
    member.expect_numbered(300);
    running.stop();
}

/// Goal: if one shard cannot take up what the store has, the start ends with an error; nobody waits for ever. Method: a
/// will in an encoding of the future, which only the shard of its session reads.
#[test]
fn a_shard_that_fails_at_the_start_ends_it() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config::default();
    let options = || open::options(&config).unwrap();
    {
        let disk = Arc::new(FaultyDisk::new(&directory));
        let (store, mut writer, _) = Store::open(disk, options(), 1).unwrap();
        let (mut batch, mut row) = (Batch::new(), Vec::new());
        let key = queue_key(QueueId(1));
        SessionRow {
            client_id: "c",
            user: None,
            expiry_s: 1_000,
            away_since_ms: None,
            in_flight: Vec::new(),
        }
        .encode(&mut row);
        batch.put(waypost_store::Table(Table::SESSIONS.0), &key, &row);
        let will = will_key(QueueId(1), WillNumber::MIN);
        batch.put(waypost_store::Table(Table::WILLS.0), &will, &[u8::MAX]);
        batch.end();
        let appended = writer.append(&[batch.take()], 1).unwrap();
        writer.sync().unwrap();
        store.apply(&appended).unwrap();
    }
    let (told, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let outcome = Running::try_start(&directory, |_| {});
        told.send(matches!(outcome, Err(StartError::NotRestored)))
    });
    assert!(ended.recv_timeout(LIMIT).expect("the start ends"));
}

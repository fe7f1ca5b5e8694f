//! The store's threads over a disk that can be told to fail, with shards played by the tests.

pub(crate) mod disk;
mod server;
mod streams;

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::{Poll, Token, Waker};
use tempfile::TempDir;
use waypost_core::ShardId;
use waypost_core::journal::{
    Journal, MessageId, QueueId, QueueRead, Refusal, Stored, Table, Ticket, Until,
};
use waypost_core::stream::{ReaderId, StreamAnswer};

use super::clock::ClockTrust;
use super::open::OpenStore;
use super::*;
use crate::mailbox::{Inbound, Mailbox};
use crate::metrics::Stats;
use crate::shard::journal::ShardJournal;
use crate::threads::Threads;
use disk::{Faults, FaultyDisk};
use std::sync::Arc;

const LIMIT: Duration = Duration::from_mins(1);
const PENDING_BYTES_MAX: usize = 64 << 10;

/// A running store, and the shards' ends of it.
struct Rig {
    shards: Vec<Played>,
    intake: Arc<Intake>,
    faults: Arc<Faults>,
    stats: Arc<Stats>,
    threads: Threads,
}

/// A shard that writes down what a test says and keeps what it is told.
struct Played {
    journal: ShardJournal,
    mailbox: Arc<Mailbox>,
    _poll: Poll,
    stored: Stored,
    refused: Vec<(Ticket, Ticket, Refusal)>,
    reads: Vec<(QueueId, QueueRead)>,
    alarms: Vec<String>,
    answers: Vec<(ReaderId, StreamAnswer)>,
}

impl Rig {
    fn open(directory: &TempDir, shards: u16) -> Self {
        Self::with(directory, shards, &crate::config::StoreConfig::default())
    }

    fn with(directory: &TempDir, shards: u16, config: &crate::config::StoreConfig) -> Self {
        let config = crate::config::Config {
            store: config.clone(),
            ..Default::default()
        };
        Self::with_config(directory, shards, &config)
    }

    fn with_config(directory: &TempDir, shards: u16, config: &crate::config::Config) -> Self {
        let disk = FaultyDisk::new(directory);
        let faults = Arc::clone(&disk.faults);
        let stats = Arc::new(Stats::new(shards));
        let store = OpenStore::open(
            Arc::new(disk),
            open::options(config).unwrap(),
            PENDING_BYTES_MAX,
            ClockTrust::Checked,
            &stats,
        )
        .unwrap();
        let port = store.port(usize::from(shards));
        let intake = Arc::clone(&port.intake);
        let played: Vec<_> = (0..shards)
            .map(|shard| {
                let poll = Poll::new().unwrap();
                let waker = Waker::new(poll.registry(), Token(0)).unwrap();
                Played {
                    journal: ShardJournal::new(ShardId(shard), Arc::clone(&intake)),
                    mailbox: Mailbox::new(waker, 1 << 20),
                    _poll: poll,
                    stored: Stored::default(),
                    refused: Vec::new(),
                    reads: Vec::new(),
                    alarms: Vec::new(),
                    answers: Vec::new(),
                }
            })
            .collect();
        let mailboxes: Arc<[_]> = played.iter().map(|one| Arc::clone(&one.mailbox)).collect();
        let mut threads = Threads::new();
        store
            .start(&intake, &mailboxes, &stats, &mut threads)
            .unwrap();
        Self {
            shards: played,
            intake,
            faults,
            stats,
            threads,
        }
    }

    /// Ends as the server does: the shards first.
    fn close(self) {
        drop(self.shards);
        self.threads.join().unwrap();
    }

    fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + LIMIT;
        loop {
            for shard in &mut self.shards {
                shard.hear();
            }
            if holds(self) {
                return;
            }
            assert!(Instant::now() < deadline, "{what} did not come");
            std::thread::yield_now();
        }
    }

    fn syncs(&self) -> u64 {
        self.stats.server.store_syncs.load(Ordering::Relaxed)
    }
}

impl Played {
    /// A transaction with one message that a queue is owed.
    fn publish(&mut self, id: u64, queue: u64, until: Until) -> Ticket {
        self.journal
            .message(MessageId(id), u64::MAX, &id.to_be_bytes());
        self.journal
            .owe(MessageId(id), b"options", &[QueueId(queue)]);
        let ticket = self.journal.end(until);
        self.journal.hand_in();
        ticket
    }

    fn hear(&mut self) {
        let mut inbound = VecDeque::new();
        self.mailbox.take(&mut inbound, &mut Vec::new());
        for one in inbound {
            match one {
                Inbound::Stored(stored) => {
                    assert!(stored.written >= self.stored.written, "tickets ascend");
                    assert!(stored.durable >= self.stored.durable, "tickets ascend");
                    self.stored = stored;
                }
                Inbound::NotStored {
                    first,
                    last,
                    refusal,
                } => self.refused.push((first, last, refusal)),
                Inbound::QueueRead(queue, read) => self.reads.push((queue, read)),
                Inbound::StreamAnswer(reader, answer) => self.answers.push((reader, answer)),
                Inbound::System(messages) => self.alarms.extend(
                    messages
                        .into_iter()
                        .filter(|(topic, _)| topic == trouble::ALARM_TOPIC)
                        .map(|(_, alarm)| String::from_utf8(alarm).unwrap()),
                ),
                _ => panic!("nothing else comes from the store"),
            }
        }
    }

    fn read_ids(&self) -> Vec<u64> {
        let entries = self.reads.iter().flat_map(|(_, read)| &read.entries);
        entries
            .map(|entry| {
                assert_eq!(&*entry.options, b"options");
                let body = entry.body.as_deref().expect("not damaged");
                assert_eq!(body, entry.id.0.to_be_bytes());
                entry.id.0
            })
            .collect()
    }
}

#[test]
fn what_was_told_durable_is_read_after_a_start() {
    let directory = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&directory, 1);
    let ticket = rig.shards[0].publish(1, 7, Until::Durable);
    rig.until("durable", |rig| rig.shards[0].stored.durable == ticket);
    rig.close();

    let mut rig = Rig::open(&directory, 1);
    rig.shards[0].journal.read_queue(QueueId(7), 0, 10, 1_000);
    rig.shards[0].journal.hand_in();
    rig.until("the answer", |rig| !rig.shards[0].reads.is_empty());
    assert_eq!(rig.shards[0].read_ids(), [1]);
    assert!(rig.shards[0].reads[0].1.is_end);
    rig.close();
}

/// Goal: a read knows of everything its shard wrote down before, durable or not.
#[test]
fn a_read_sees_what_was_written_down_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&directory, 1);
    for id in 1..=20 {
        let shard = &mut rig.shards[0];
        shard.reads.clear();
        shard.publish(id, 7, Until::Whenever);
        if id > 1 {
            shard.journal.settle(QueueId(7), MessageId(id - 1));
            shard.journal.end(Until::Whenever);
        }
        shard.journal.read_queue(QueueId(7), 0, 10, 1_000);
        shard.journal.hand_in();
        rig.until("the answer", |rig| !rig.shards[0].reads.is_empty());
        assert_eq!(rig.shards[0].read_ids(), [id]);
    }
    rig.close();
}

/// Goal: group commit groups. Method: while one sync is held, many transactions of two shards come; they share one.
#[test]
fn what_comes_during_a_sync_shares_the_next() {
    const EACH: u64 = 100;
    let directory = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&directory, 2);
    rig.faults.hold_syncs();
    rig.shards[0].publish(1, 7, Until::Durable);
    let faults = Arc::clone(&rig.faults);
    rig.until("a sync", |_| faults.holding() > 0);
    let before = rig.syncs();
    for id in 2..2 + EACH {
        for (shard, played) in (0..).zip(&mut rig.shards) {
            played.publish(2 * id + shard, 7, Until::Durable);
        }
    }
    rig.faults.let_syncs_go();
    rig.until("all of it", |rig| {
        rig.shards[0].stored.durable == Ticket(EACH + 1)
            && rig.shards[1].stored.durable == Ticket(EACH)
    });
    let syncs = rig.syncs() - before;
    assert!(syncs <= 3, "{syncs} syncs");
    let stats = &rig.stats.server;
    assert_eq!(
        stats.store_transactions.load(Ordering::Relaxed),
        2 * EACH + 1
    );
    assert_eq!(stats.store_batches.load(Ordering::Relaxed), 2 * EACH + 1);
    assert!(stats.store_log_bytes.load(Ordering::Relaxed) > 2 * EACH * 8);
    assert_eq!(rig.stats.store_sync_duration.total(), rig.syncs());
    rig.close();
}

/// Goal: what nobody waits for costs no sync of its own at once, and is durable within about a second.
#[test]
fn what_nobody_waits_for_is_synced_later() {
    let directory = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&directory, 1);
    let began = Instant::now();
    let mut last = Ticket(0);
    for id in 1..=100 {
        last = rig.shards[0].publish(id, 7, Until::Whenever);
    }
    rig.until("durable", |rig| rig.shards[0].stored.durable == last);
    assert!(began.elapsed() >= Duration::from_millis(900));
    assert!(rig.syncs() <= 2, "{} syncs", rig.syncs());
    rig.close();
}

/// Goal: `os` is told after the write. Method: syncs are held.
#[test]
fn written_is_told_before_durable() {
    let directory = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&directory, 1);
    let ticket = rig.shards[0].publish(1, 7, Until::Durable);
    rig.until("durable", |rig| rig.shards[0].stored.durable == ticket);
    rig.faults.hold_syncs();
    let later = rig.shards[0].publish(2, 7, Until::Written);
    rig.until("written", |rig| rig.shards[0].stored.written == later);
    assert_eq!(rig.shards[0].stored.durable, ticket);
    rig.faults.let_syncs_go();
    rig.until("durable", |rig| rig.shards[0].stored.durable == later);
    rig.close();
}

/// Goal: back-pressure at N, N + 1 and 2 N bytes. Method: syncs are held, so that nothing is taken off.
#[test]
fn a_store_behind_its_bound_is_full_until_it_has_caught_up() {
    let directory = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&directory, 1);
    rig.faults.hold_syncs();
    let mut id = 0;
    while rig.intake.bytes() < 2 * PENDING_BYTES_MAX {
        let before = rig.intake.bytes();
        assert_eq!(rig.shards[0].journal.is_full(), before > PENDING_BYTES_MAX);
        id += 1;
        rig.shards[0].publish(id, 7, Until::Durable);
    }
    assert!(rig.shards[0].journal.is_full());
    rig.faults.let_syncs_go();
    rig.until("room", |rig| rig.intake.bytes() == 0);
    assert!(!rig.shards[0].journal.is_full());
    rig.until("all of it", |rig| {
        rig.shards[0].stored.durable == Ticket(id)
    });
    rig.close();
}

#[test]
fn a_full_disk_refuses_and_works_again_without_a_start() {
    let directory = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&directory, 2);
    let kept = rig.shards[0].publish(1, 7, Until::Durable);
    rig.until("durable", |rig| rig.shards[0].stored.durable == kept);

    rig.faults.set_full(true);
    let refused = rig.shards[0].publish(2, 7, Until::Durable);
    rig.until("the refusal", |rig| !rig.shards[0].refused.is_empty());
    let [(first, last, refusal)] = rig.shards[0].refused[..] else {
        panic!("refused once: {:?}", rig.shards[0].refused);
    };
    assert_eq!((first, last, refusal), (refused, refused, Refusal::Full));
    assert_eq!(rig.shards[0].stored.durable, kept);
    let server = Arc::clone(&rig.stats);
    assert_eq!(server.server.store_full.load(Ordering::Relaxed), 1);
    let alarm = |rig: &Rig| rig.shards[0].alarms.last().cloned();
    rig.until("the alarm", |rig| {
        alarm(rig).is_some_and(|alarm| alarm.contains("no room"))
    });

    // Meanwhile everything is refused at once, and what is there is read.
    rig.shards[1].publish(3, 7, Until::Whenever);
    rig.shards[1].journal.read_queue(QueueId(7), 0, 10, 1_000);
    rig.shards[1].journal.hand_in();
    rig.until("the answer", |rig| !rig.shards[1].reads.is_empty());
    assert_eq!(rig.shards[1].read_ids(), [1]);
    assert_eq!(rig.shards[1].refused.len(), 1);
    assert_eq!(
        server
            .server
            .store_transactions_refused
            .load(Ordering::Relaxed),
        2
    );

    rig.faults.set_full(false);
    rig.until("the end of it", |_| {
        server.server.store_full.load(Ordering::Relaxed) == 0
    });
    rig.until("the all-clear", |rig| {
        alarm(rig).as_deref() == Some(trouble::NO_ALARM)
    });
    let again = rig.shards[0].publish(4, 7, Until::Durable);
    rig.until("durable", |rig| rig.shards[0].stored.durable == again);
    rig.close();

    let mut rig = Rig::open(&directory, 1);
    rig.shards[0].journal.read_queue(QueueId(7), 0, 10, 1_000);
    rig.shards[0].journal.hand_in();
    rig.until("the answer", |rig| !rig.shards[0].reads.is_empty());
    assert_eq!(
        rig.shards[0].read_ids(),
        [1, 4],
        "what was refused is not there"
    );
    rig.close();
}

/// Goal: one failed sync loses nothing: what it was for is written again, elsewhere.
#[test]
fn what_a_failed_sync_was_for_is_written_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&directory, 1);
    let kept = rig.shards[0].publish(1, 7, Until::Durable);
    rig.until("durable", |rig| rig.shards[0].stored.durable == kept);
    rig.faults.syncs_to_fail.store(1, Ordering::SeqCst);
    let again = rig.shards[0].publish(2, 7, Until::Durable);
    rig.until("durable", |rig| rig.shards[0].stored.durable == again);
    assert!(rig.shards[0].refused.is_empty());
    let failed = &rig.stats.server.store_syncs_failed;
    assert_eq!(failed.load(Ordering::Relaxed), 1);
    rig.close();

    let mut rig = Rig::open(&directory, 1);
    rig.shards[0].journal.read_queue(QueueId(7), 0, 10, 1_000);
    rig.shards[0].journal.hand_in();
    rig.until("the answer", |rig| !rig.shards[0].reads.is_empty());
    assert_eq!(rig.shards[0].read_ids(), [1, 2], "each once");
    rig.close();
}

#[test]
fn a_disk_that_fails_every_sync_refuses() {
    let directory = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&directory, 1);
    let kept = rig.shards[0].publish(1, 7, Until::Durable);
    rig.until("durable", |rig| rig.shards[0].stored.durable == kept);
    rig.faults.fails_syncs.store(true, Ordering::SeqCst);
    let refused = rig.shards[0].publish(2, 7, Until::Durable);
    rig.until("the refusal", |rig| {
        rig.shards[0].refused == [(refused, refused, Refusal::Failed)]
    });
    let server = Arc::clone(&rig.stats);
    assert_eq!(server.server.store_failed.load(Ordering::Relaxed), 1);
    rig.faults.fails_syncs.store(false, Ordering::SeqCst);
    rig.until("the end of it", |_| {
        server.server.store_failed.load(Ordering::Relaxed) == 0
    });
    let again = rig.shards[0].publish(3, 7, Until::Durable);
    rig.until("durable", |rig| rig.shards[0].stored.durable == again);
    rig.close();
}

/// Goal: whoever asks for what cannot be read now gets it when it can, and is not told that there is nothing.
#[test]
fn what_cannot_be_read_is_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&directory, 1);
    let ticket = rig.shards[0].publish(1, 7, Until::Durable);
    rig.until("durable", |rig| rig.shards[0].stored.durable == ticket);
    rig.faults.fails_reads.store(true, Ordering::SeqCst);
    rig.shards[0].journal.read_queue(QueueId(7), 0, 10, 1_000);
    rig.shards[0].journal.hand_in();
    let stats = Arc::clone(&rig.stats);
    let failed = &stats.server.store_reads_failed;
    rig.until("the failure", |_| failed.load(Ordering::Relaxed) > 0);
    assert!(rig.shards[0].reads.is_empty());
    rig.faults.fails_reads.store(false, Ordering::SeqCst);
    rig.until("the answer", |rig| !rig.shards[0].reads.is_empty());
    assert_eq!(rig.shards[0].read_ids(), [1]);
    rig.close();
}

/// Goal: rows come back as they were, for whoever restores them.
#[test]
fn rows_are_there_after_a_start() {
    let directory = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&directory, 1);
    let journal = &mut rig.shards[0].journal;
    journal.put(Table::SESSIONS, b"1", b"one");
    journal.put(Table::SESSIONS, b"2", b"two");
    journal.delete(Table::SESSIONS, b"1");
    journal.end(Until::Whenever);
    rig.close();
    let disk = FaultyDisk::new(&directory);
    let stats = Stats::new(1);
    let options = open::options(&crate::config::Config::default()).unwrap();
    let store = OpenStore::open(Arc::new(disk), options, 1, ClockTrust::Checked, &stats).unwrap();
    let rows = store.store.rows(waypost_store::Table(Table::SESSIONS.0));
    let rows: Vec<_> = rows
        .unwrap()
        .map(|row| row.unwrap().value.to_vec())
        .collect();
    assert_eq!(rows, [b"two".to_vec()]);
}

/// Goal: every figure of the store is told, and what nobody is owed any more goes from the disk. Method: of many messages
/// few stay, in segments that are small.
#[test]
fn figures_are_told_and_old_segments_go() {
    const BODY: [u8; 16 << 10] = [7; 16 << 10];
    let directory = tempfile::tempdir().unwrap();
    let config = crate::config::StoreConfig {
        segment_bytes: 1 << 20,
        compress: "identity",
        ..crate::config::StoreConfig::default()
    };
    let mut rig = Rig::with(&directory, 1, &config);
    let mut last = Ticket(0);
    for id in 1..=600_u64 {
        let journal = &mut rig.shards[0].journal;
        journal.put(Table::SESSIONS, &id.to_be_bytes(), b"a row");
        journal.message(MessageId(id), u64::MAX, &BODY);
        journal.owe(MessageId(id), b"options", &[QueueId(1 + id % 20)]);
        // The messages of one queue of twenty stay.
        if id % 20 != 0 {
            journal.settle(QueueId(1 + id % 20), MessageId(id));
        }
        last = journal.end(Until::Durable);
        journal.hand_in();
        rig.until("room", |rig| !rig.shards[0].journal.is_full());
    }
    rig.until("durable", |rig| rig.shards[0].stored.durable == last);
    let stats = Arc::clone(&rig.stats);
    let of = |metric: &std::sync::atomic::AtomicU64| metric.load(Ordering::Relaxed);
    let server = &stats.server;
    rig.until("the old segments to go", |_| {
        of(&server.store_rewritten_bytes) > 0 && of(&server.store_retired_bytes) > 4 << 20
    });
    assert!(of(&server.store_segments_retired) >= 4);
    assert!(of(&server.store_views_commits) > 0);
    for _ in 0..2 {
        rig.shards[0].reads.clear();
        rig.shards[0]
            .journal
            .read_queue(QueueId(1), 0, 100, u32::MAX);
        rig.shards[0].journal.hand_in();
        rig.until("the answer", |rig| !rig.shards[0].reads.is_empty());
        assert_eq!(rig.shards[0].reads[0].1.entries.len(), 30);
    }
    rig.until("the figures", |_| of(&server.store_cache_hits) >= 30);
    assert!(of(&server.store_cache_misses) > 0);
    assert!(of(&server.store_cache_bytes) >= 30 * (16 << 10));
    assert_eq!(of(&server.store_messages), 30);
    assert!(of(&server.store_message_bytes) >= 30 * (16 << 10));
    assert_eq!(of(&server.store_queues), 1);
    assert_eq!(of(&server.store_rows), 600);
    assert!(of(&server.store_segments) >= 2);
    assert!(of(&server.store_segment_bytes) >= of(&server.store_live_bytes));
    assert!(of(&server.store_live_bytes) >= 30 * (16 << 10));
    assert!(of(&server.store_views_bytes) > 0);
    // Whenever a commit took all of it, there is something new.
    let deadline = Instant::now() + LIMIT;
    let mut id = 600;
    while of(&server.store_views_behind_bytes) == 0 {
        assert!(Instant::now() < deadline, "the lag did not come");
        id += 1;
        let ticket = rig.shards[0].publish(id, 1, Until::Durable);
        rig.until("durable", |rig| rig.shards[0].stored.durable == ticket);
    }
    rig.close();
}

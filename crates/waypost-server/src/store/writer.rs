//! The thread that writes the log.
//!
//! It takes what all shards handed in meanwhile, appends it in that order, and makes it durable with one sync if anybody
//! waits for that; there is no timer, so that a lone message does not wait and many share one sync. Transactions nobody
//! waits for go along with the next sync, and have one of their own after a second at the latest.
//!
//! What is not durable yet is not told to the views: after a sync that failed nothing has to be taken back out of them.
//! It is appended once more, to a new segment, and refused if that fails too. While the disk refuses, so does the
//! writer, at once; it tries again every second until the disk works.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use waypost_core::ShardId;
use waypost_core::journal::{Refusal, Stored};
use waypost_store::{Appended, Batch, Disk, Refused, StoreWriter, Table};

use super::clock::WallClock;
use super::figures::add;
use super::indexer::Work;
use super::intake::{Ask, HandIn, Intake, Taken};
use super::trouble::{Source, Trouble, refusal};
use crate::mailbox::{Inbound, Mailbox};
use crate::metrics::Stats;

/// What nobody waits for is durable after this time at the latest.
const LAZY_SYNC_AFTER: Duration = Duration::from_secs(1);
/// Or when there is this much of it.
const LAZY_SYNC_BYTES: usize = 8 << 20;
/// While the disk refuses, how often it is tried again.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// The table of the server's own rows. The core's begin at 1.
const OWN_TABLE: Table = Table(0);

pub(super) struct Writer<D: Disk> {
    log: StoreWriter<D>,
    intake: Arc<Intake>,
    indexer: Sender<Work>,
    mailboxes: Arc<[Arc<Mailbox>]>,
    trouble: Arc<Trouble>,
    wall: WallClock,
    stats: Arc<Stats>,
    /// How far each shard's transactions have come.
    stored: Vec<Stored>,
    waiting: Waiting,
    probe_at: Option<Instant>,
}

/// What is appended and waits for a sync.
#[derive(Default)]
struct Waiting {
    handed_in: Vec<HandIn>,
    appended: Vec<Appended>,
    bytes: usize,
    since: Option<Instant>,
    /// Somebody waits for it.
    is_awaited: bool,
}

impl<D: Disk> Writer<D> {
    pub(super) fn new(
        log: StoreWriter<D>,
        intake: Arc<Intake>,
        indexer: Sender<Work>,
        mailboxes: Arc<[Arc<Mailbox>]>,
        trouble: Arc<Trouble>,
        wall: WallClock,
        stats: Arc<Stats>,
    ) -> Self {
        Self {
            log,
            intake,
            indexer,
            stored: vec![Stored::default(); mailboxes.len()],
            mailboxes,
            trouble,
            wall,
            stats,
            waiting: Waiting::default(),
            probe_at: None,
        }
    }

    /// Writes until no shard is left that could hand in more.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut handed_in = Vec::new();
        loop {
            let taken = self.intake.take(&mut handed_in, self.patience());
            if taken == Taken::Some {
                self.accept(&mut handed_in);
            }
            if self.is_sync_due() || taken == Taken::Ended {
                self.sync();
            }
            if taken == Taken::Ended {
                return Ok(());
            }
            self.probe_if_due();
        }
    }

    /// How long to wait for something to do.
    fn patience(&self) -> Option<Duration> {
        let sync_at = self.waiting.since.map(|since| since + LAZY_SYNC_AFTER);
        let next = [sync_at, self.probe_at].into_iter().flatten().min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn is_sync_due(&self) -> bool {
        let waiting = &self.waiting;
        waiting.is_awaited
            || waiting.bytes >= LAZY_SYNC_BYTES
            || waiting
                .since
                .is_some_and(|since| since.elapsed() >= LAZY_SYNC_AFTER)
    }

    fn accept(&mut self, handed_in: &mut Vec<HandIn>) {
        let stats = &self.stats.server;
        add(&stats.store_batches, handed_in.len() as u64);
        if self.trouble.refusal().is_some() {
            self.refuse(handed_in);
            return;
        }
        let records: Vec<&[u8]> = handed_in
            .iter()
            .map(|one| one.records.as_slice())
            .filter(|records| !records.is_empty())
            .collect();
        if !records.is_empty() {
            match self.log.append(&records, self.wall.now_ms()) {
                Ok(appended) => self.waiting.appended.push(appended),
                Err(refused) => {
                    // What was appended before is not concerned; it goes first, so that nobody hears of a later
                    // transaction before an earlier one.
                    self.sync();
                    self.stumble(&refused);
                    self.refuse(handed_in);
                    return;
                }
            }
        }
        let bytes: usize = records.iter().map(|records| records.len()).sum();
        let waiting = &mut self.waiting;
        waiting.bytes += bytes;
        if bytes > 0 && waiting.since.is_none() {
            waiting.since = Some(Instant::now());
        }
        // Who asks for something to be read wants what it wrote down before to be seen.
        waiting.is_awaited |= handed_in
            .iter()
            .any(|one| one.is_awaited_durable || !one.asks.is_empty());
        self.tell_written(handed_in);
        self.waiting.handed_in.append(handed_in);
    }

    /// Tells those who wait for no more than this that their transactions are with the operating system.
    fn tell_written(&mut self, handed_in: &[HandIn]) {
        for one in handed_in.iter().filter(|one| one.is_awaited_written) {
            let shard = usize::from(one.shard.0);
            if let Some(stored) = self.stored.get_mut(shard) {
                stored.written = one.last;
                let stored = *stored;
                self.tell(one.shard, Inbound::Stored(stored));
            }
        }
    }

    /// Makes durable what is appended, tells the shards and hands it on to the views.
    fn sync(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        if waiting.bytes > 0
            && let Err(refused) = self
                .sync_log()
                .or_else(|refused| self.write_again(&mut waiting, &refused))
        {
            self.stumble(&refused);
            self.refuse(&mut waiting.handed_in);
            return;
        }
        let transactions = waiting.handed_in.iter().map(|one| one.transactions).sum();
        add(&self.stats.server.store_transactions, transactions);
        add(&self.stats.server.store_log_bytes, waiting.bytes as u64);
        let mut told = vec![false; self.stored.len()];
        for one in waiting.handed_in.iter().filter(|one| one.transactions > 0) {
            let shard = usize::from(one.shard.0);
            if let (Some(stored), Some(told)) = (self.stored.get_mut(shard), told.get_mut(shard)) {
                (stored.written, stored.durable) = (one.last, one.last);
                *told = true;
            }
        }
        for (shard, stored) in (0..).zip(&self.stored) {
            if told.get(usize::from(shard)) == Some(&true) {
                self.tell(ShardId(shard), Inbound::Stored(*stored));
            }
        }
        let asks = take_asks(&mut waiting.handed_in);
        self.hand_on(Work {
            appended: waiting.appended,
            bytes: waiting.bytes,
            asks,
        });
    }

    fn sync_log(&mut self) -> Result<(), Refused> {
        let began = Instant::now();
        let synced = self.log.sync();
        let stats = &self.stats.server;
        add(&stats.store_syncs, 1);
        self.stats.store_sync_duration.count(began.elapsed());
        synced
    }

    /// A sync failed: what it was to make durable goes to a new segment.
    fn write_again(&mut self, waiting: &mut Waiting, refused: &Refused) -> Result<(), Refused> {
        log::warn!("the log is written again from the last sync on, in a new segment: {refused}");
        add(&self.stats.server.store_syncs_failed, 1);
        let records: Vec<&[u8]> = waiting
            .handed_in
            .iter()
            .map(|one| one.records.as_slice())
            .filter(|records| !records.is_empty())
            .collect();
        waiting.appended = vec![self.log.append(&records, self.wall.now_ms())?];
        self.sync_log()
    }

    /// From now on everything is refused, until a probe succeeds.
    fn stumble(&mut self, refused: &Refused) {
        self.trouble
            .begin(Source::Log, refusal(refused.is_full()), refused.to_string());
        self.probe_at = Some(Instant::now() + PROBE_EVERY);
    }

    /// Tries the disk with a transaction that changes nothing.
    fn probe_if_due(&mut self) {
        if self.probe_at.is_none_or(|at| at > Instant::now()) {
            return;
        }
        let mut batch = Batch::new();
        batch.delete(OWN_TABLE, b"probe");
        batch.end();
        let probed = match self.log.append(&[batch.records()], self.wall.now_ms()) {
            Ok(appended) => self.sync_log().map(|()| appended),
            Err(refused) => Err(refused),
        };
        match probed {
            Ok(appended) => {
                self.probe_at = None;
                self.hand_on(Work {
                    appended: vec![appended],
                    ..Work::default()
                });
                self.trouble.end(Source::Log);
            }
            Err(refused) => self.stumble(&refused),
        }
    }

    /// Tells shards that their transactions are not kept. What they ask to read they get.
    fn refuse(&mut self, handed_in: &mut Vec<HandIn>) {
        let refusal = self.trouble.refusal().unwrap_or(Refusal::Failed);
        for one in handed_in.iter().filter(|one| one.transactions > 0) {
            let stats = &self.stats.server;
            add(&stats.store_transactions_refused, one.transactions);
            let (first, last) = (one.first, one.last);
            self.tell(
                one.shard,
                Inbound::NotStored {
                    first,
                    last,
                    refusal,
                },
            );
            self.intake.release(one.records.len());
        }
        let asks = take_asks(handed_in);
        handed_in.clear();
        if !asks.is_empty() {
            self.hand_on(Work {
                asks,
                ..Work::default()
            });
        }
    }

    fn hand_on(&self, work: Work) {
        // The indexer lives as long as this sender; if it failed, the server ends.
        let _ = self.indexer.send(work);
    }

    fn tell(&self, shard: ShardId, inbound: Inbound) {
        if let Some(mailbox) = self.mailboxes.get(usize::from(shard.0)) {
            // A waker fails only when the shard is gone, and then nobody waits for it.
            let _ = mailbox.send([inbound]);
        }
    }
}

fn take_asks(handed_in: &mut [HandIn]) -> Vec<(ShardId, Ask)> {
    handed_in
        .iter_mut()
        .flat_map(|one| {
            let shard = one.shard;
            one.asks.drain(..).map(move |ask| (shard, ask))
        })
        .collect()
}

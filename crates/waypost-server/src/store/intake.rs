//! Where the shards hand in what they wrote down, and the writer takes it: first in, first out, one wake per batch.
//!
//! Bounded by bytes from the hand-in until the views know of them: a shard that finds it full stops reading its clients
//! until there is room, so that nothing is ever dropped. What is written down meanwhile for other reasons (mail, timers)
//! is taken beyond the bound.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::clock::WallClock;
use waypost_core::ShardId;
use waypost_core::journal::{MessageId, QueueId, Ticket};
use waypost_core::stream::StreamAsk;

/// What a shard wrote down in one tick.
#[derive(Debug)]
pub(crate) struct HandIn {
    /// Whose it is.
    pub(crate) shard: ShardId,
    /// Transactions, as `waypost_store::Batch` encodes them; empty when it only asks.
    pub(crate) records: Vec<u8>,
    /// How many transactions.
    pub(crate) transactions: u64,
    /// The first of them.
    pub(crate) first: Ticket,
    /// The last of them; the last before, when there are none.
    pub(crate) last: Ticket,
    /// Somebody waits until it is with the operating system.
    pub(crate) is_awaited_written: bool,
    /// Somebody waits until it is on disk.
    pub(crate) is_awaited_durable: bool,
    /// What is to be read once the views know of the transactions.
    pub(crate) asks: Vec<Ask>,
}

/// Something to be read, once the views know of all that was handed in before.
#[derive(Debug)]
pub(crate) enum Ask {
    /// Something of the log, for a shard.
    Log(LogAsk),
    /// Something of a stream, for a shard.
    Stream(StreamAsk),
    /// Nothing: somebody reads for himself, and is to hear when he may.
    Own(SyncSender<()>),
}

/// Something of the log to be read back for a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogAsk {
    /// What a queue is owed.
    Queue {
        queue: QueueId,
        after: u64,
        count_max: u32,
        bytes_max: u32,
    },
    /// A message's content.
    Message(MessageId),
}

#[derive(Debug, Default)]
struct Queue {
    handed_in: Vec<HandIn>,
    /// The writer sleeps and is to be woken.
    is_awaited: bool,
    /// Shards that may hand in more.
    shards: usize,
}

/// The way from the shards to the writer.
#[derive(Debug)]
pub(crate) struct Intake {
    queue: Mutex<Queue>,
    came: Condvar,
    bytes: AtomicUsize,
    bytes_max: usize,
}

/// A shard's end of the store.
#[derive(Clone, Debug)]
pub(crate) struct StorePort {
    /// Where it hands in.
    pub(crate) intake: Arc<Intake>,
    /// What time it is.
    pub(crate) wall: WallClock,
}

impl StorePort {
    pub(crate) fn new(shards: usize, bytes_max: usize, wall: WallClock) -> Self {
        Self {
            intake: Intake::new(shards, bytes_max),
            wall,
        }
    }
}

/// What the writer found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Something was handed in.
    Some,
    /// Nothing, within the time.
    Nothing,
    /// Nothing, and no shard is left that could.
    Ended,
}

impl Intake {
    pub(crate) fn new(shards: usize, bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::new(Queue {
                shards,
                ..Queue::default()
            }),
            came: Condvar::new(),
            bytes: AtomicUsize::new(0),
            bytes_max,
        })
    }

    /// Takes a shard's tick.
    pub(crate) fn hand_in(&self, handed_in: HandIn) {
        self.bytes
            .fetch_add(handed_in.records.len(), Ordering::Relaxed);
        let mut queue = self.lock();
        queue.handed_in.push(handed_in);
        let wake = std::mem::take(&mut queue.is_awaited);
        drop(queue);
        if wake {
            self.came.notify_one();
        }
    }

    /// Waits until the views know of everything that was handed in before, at most for `patience`. So whoever reads them
    /// from outside finds what was acknowledged before he asked.
    pub(crate) fn catch_up(&self, patience: Duration) {
        let (caught_up, wait) = sync_channel(1);
        self.hand_in(HandIn {
            shard: ShardId(0),
            records: Vec::new(),
            transactions: 0,
            first: Ticket::default(),
            last: Ticket::default(),
            is_awaited_written: false,
            is_awaited_durable: false,
            asks: vec![Ask::Own(caught_up)],
        });
        // Late, or at an end: he reads what is there.
        let _ = wait.recv_timeout(patience);
    }

    /// A shard ended: it hands in nothing more.
    pub(crate) fn shard_ended(&self) {
        let mut queue = self.lock();
        queue.shards = queue.shards.saturating_sub(1);
        drop(queue);
        self.came.notify_one();
    }

    /// More waits than the bound: shards should slow their clients.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes() > self.bytes_max
    }

    /// Bytes handed in that the views do not know of yet.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The views know of that many bytes more, or they were refused.
    pub(super) fn release(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Takes everything there is into `into`, which is empty; waits for something at most for `patience`.
    pub(super) fn take(&self, into: &mut Vec<HandIn>, patience: Option<Duration>) -> Taken {
        let mut queue = self.lock();
        if queue.handed_in.is_empty() && queue.shards > 0 {
            queue.is_awaited = true;
            queue = match patience {
                None => self
                    .came
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(patience) => {
                    self.came
                        .wait_timeout(queue, patience)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
            queue.is_awaited = false;
        }
        std::mem::swap(&mut queue.handed_in, into);
        match (into.is_empty(), queue.shards) {
            (false, _) => Taken::Some,
            (true, 0) => Taken::Ended,
            (true, _) => Taken::Nothing,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn handed_in(bytes: usize) -> HandIn {
        HandIn {
            shard: ShardId(0),
            records: vec![0; bytes],
            transactions: 1,
            first: Ticket(1),
            last: Ticket(1),
            is_awaited_written: false,
            is_awaited_durable: false,
            asks: Vec::new(),
        }
    }

    #[test]
    fn it_is_full_beyond_its_bound_until_there_is_room() {
        const N: usize = 1_000;
        let intake = Intake::new(1, N);
        for (add, is_full) in [(N, false), (1, true), (N - 1, true)] {
            intake.hand_in(handed_in(add));
            assert_eq!(intake.is_full(), is_full, "{} bytes", intake.bytes());
        }
        let mut taken = Vec::new();
        assert_eq!(intake.take(&mut taken, None), Taken::Some);
        let lengths: Vec<_> = taken.drain(..).map(|one| one.records.len()).collect();
        assert_eq!(lengths, [N, 1, N - 1], "in order");
        assert!(intake.is_full(), "taken is not kept yet");
        for (release, is_full) in [(N - 1, true), (1, false), (N, false)] {
            intake.release(release);
            assert_eq!(intake.is_full(), is_full);
        }
        assert_eq!(intake.bytes(), 0);
    }

    #[test]
    fn it_ends_with_the_last_shard_and_not_before_all_is_taken() {
        let intake = Intake::new(2, 1);
        let mut taken = Vec::new();
        let moment = Some(Duration::ZERO);
        assert_eq!(intake.take(&mut taken, moment), Taken::Nothing);
        intake.shard_ended();
        assert_eq!(intake.take(&mut taken, moment), Taken::Nothing);
        intake.hand_in(handed_in(1));
        intake.shard_ended();
        assert_eq!(intake.take(&mut taken, None), Taken::Some);
        taken.clear();
        assert_eq!(intake.take(&mut taken, None), Taken::Ended);
    }

    #[test]
    fn who_reads_for_himself_waits_for_what_came_before() {
        let intake = Intake::new(1, 1);
        intake.hand_in(handed_in(1));
        let reading = {
            let intake = Arc::clone(&intake);
            std::thread::spawn(move || intake.catch_up(Duration::from_mins(1)))
        };
        let mut taken = Vec::new();
        let mut asks = Vec::new();
        while asks.is_empty() {
            intake.take(&mut taken, None);
            asks.extend(taken.drain(..).flat_map(|one| one.asks));
        }
        assert!(!reading.is_finished(), "nobody said that it is known");
        for ask in asks {
            let Ask::Own(caught_up) = ask else {
                panic!("{ask:?}");
            };
            caught_up.send(()).unwrap();
        }
        reading.join().unwrap();
        intake.catch_up(Duration::ZERO);
    }

    #[test]
    fn whoever_waits_is_woken() {
        let intake = Intake::new(1, 1);
        let waiting = {
            let intake = Arc::clone(&intake);
            std::thread::spawn(move || {
                let mut taken = Vec::new();
                intake.take(&mut taken, None);
                taken.len()
            })
        };
        intake.hand_in(handed_in(1));
        assert_eq!(waiting.join().unwrap(), 1);
    }
}

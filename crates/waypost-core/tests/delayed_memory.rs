//! What delayed messages take in memory, as the allocator counts it.

#![allow(unsafe_code, reason = "a counting allocator is a GlobalAlloc")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use waypost_core::journal::{Journal, MessageId, NoJournal, Numbers, Table};
use waypost_core::rows::{DelayedRow, Due};
use waypost_core::{
    AllowAll, Broker, BrokerConfig, ConnectionId, Effects, Limits, MailBatch, Message, Now,
    RetainedClock, ShardId, Target,
};
use waypost_mqtt::Packet;

struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged; counting touches nothing it manages.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Nowhere(NoJournal);

impl Effects for Nowhere {
    fn send(&mut self, _: ConnectionId, _: &Packet<'_>) {}
    fn deliver_many(&mut self, _: &Message<'_>, _: &[Target], _: &[u32]) {}
    fn outbox_bytes(&self, _: ConnectionId) -> usize {
        0
    }
    fn tell_when_written(&mut self, _: ConnectionId) {}

    fn close(&mut self, _: ConnectionId) {}
    fn read(&mut self, _: ConnectionId, _: bool) {}
    fn mailbox(&mut self, _: ShardId) -> &mut MailBatch {
        panic!("there is one shard")
    }
    fn journal(&mut self) -> &mut dyn Journal {
        &mut self.0
    }
}

const COUNT: u64 = 1_000_000;
const WALL_MS: u64 = 1_700_000_000_000;
/// What one may take, with a name or without one.
const BYTES_MAX: [usize; 2] = [50, 130];

/// Goal: as many as may wait take a bounded amount of memory, however large they are. Method: their rows, in the order of
/// their times or in any other.
#[test]
fn a_million_delayed_messages() {
    for (is_named, bytes_max) in [false, true].into_iter().zip(BYTES_MAX) {
        for is_shuffled in [false, true] {
            let config = BrokerConfig {
                shard: ShardId(0),
                shards: 1,
                seed: 1,
                limits: Limits::default(),
                clock: RetainedClock::default(),
                policies: std::sync::Arc::default(),
                streams: std::sync::Arc::default(),
                has_store: true,
                is_sealed: |_| false,
                numbers: Numbers::default(),
            };
            let mut broker = Broker::new(config, Box::new(AllowAll), Box::new(AllowAll));
            let now = Now {
                monotonic_ms: 0,
                wall_ms: WALL_MS,
            };
            broker.restore_begin(0, now);
            let before = BYTES.load(Ordering::Relaxed);
            for number in 1..=COUNT {
                // A factor without common divisors goes through all of them.
                let place = if is_shuffled {
                    number * 7_919 % COUNT
                } else {
                    number
                };
                let due = Due {
                    wall_ms: WALL_MS + 3_600_000 + place,
                    id: MessageId(number),
                };
                let delay_id = number.to_string();
                let row = DelayedRow {
                    bytes: 16 * 1024 * 1024,
                    name: is_named.then_some(("orders/reminder", &delay_id)),
                };
                let mut value = Vec::new();
                row.encode(&mut value);
                let mut out = Nowhere(NoJournal);
                let restored =
                    broker.restore_row(Table::DELAYED, &due.key(), &value, None, now, &mut out);
                restored.unwrap();
            }
            assert_eq!(broker.delayed() as u64, COUNT);
            let bytes = BYTES.load(Ordering::Relaxed) - before;
            let each = bytes / usize::try_from(COUNT).unwrap();
            println!("named: {is_named}, shuffled: {is_shuffled}: {each} bytes each");
            assert!(each <= bytes_max, "{each} bytes each");
            drop(broker);
            let left = BYTES.load(Ordering::Relaxed).saturating_sub(before);
            assert!(left < 1024 * 1024, "{left} bytes are left");
        }
    }
}

//! The machine stops, and starts again with what the store has.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Net, Shard, World};
use crate::journal::{Numbers, QueueId, Table};
use crate::mail::MailBatch;
use crate::{AllowAll, Broker, BrokerConfig, Now, RetainedClock, ShardId};

impl World {
    /// The machine stops and starts again, a while later: every connection and all mail is gone, and what the store had
    /// on disk is restored.
    pub fn crash_and_restore(&mut self) {
        let shards = self.shards.len();
        self.restart(shards, 1_000);
    }

    /// As [`Self::crash_and_restore`], with as many shards and after as many milliseconds.
    pub fn restart(&mut self, shards: usize, down_ms: u64) {
        self.store.crash(shards);
        for wire in &mut self.wires {
            wire.is_closed = true;
            wire.inbox.clear();
        }
        self.links = (0..shards * shards).map(|_| VecDeque::new()).collect();
        let last_wall_ms = self.now.wall_ms;
        self.now = Now {
            monotonic_ms: 5_000,
            wall_ms: last_wall_ms + down_ms,
        };
        let views = self.store.durable.clone();
        let message = self.store.highest();
        // A store knows by itself only of queues that are owed something.
        let owed = views.queues.keys().max().copied();
        let queue = owed.unwrap_or(QueueId(0));
        let (numbers, clock) = (Numbers::after(message, queue), RetainedClock::default());
        self.shards = (0..shards)
            .map(|number| {
                let config = BrokerConfig {
                    shard: ShardId(u16::try_from(number).unwrap()),
                    shards: u16::try_from(shards).unwrap(),
                    seed: self.random.next(),
                    limits: self.limits.clone(),
                    clock: clock.clone(),
                    policies: Arc::clone(&self.policies),
                    streams: Arc::clone(&self.streams),
                    has_store: true,
                    is_sealed: |payload| payload.starts_with(b"sealed"),
                    numbers: numbers.clone(),
                };
                Shard {
                    broker: Broker::new(config, Box::new(AllowAll), Box::new(AllowAll)),
                    mail: (0..shards).map(|_| MailBatch::default()).collect(),
                }
            })
            .collect();
        for shard in 0..shards {
            self.call(shard, |broker, now, net| {
                broker.restore_begin(last_wall_ms, now);
                let take_up = |broker: &mut Broker, net: &mut Net<'_>, tables: &[Table]| {
                    for wanted in tables {
                        let rows = views.rows.iter().filter(|row| row.0.0 == *wanted);
                        for ((table, key), (_, value, kept)) in rows {
                            broker
                                .restore_row(*table, key, value, *kept, now, net)
                                .unwrap();
                        }
                    }
                };
                take_up(broker, net, &Table::BEFORE_QUEUES);
                for (queue, entries) in &views.queues {
                    let bytes = entries.iter().map(|(_, id, _)| views.messages[id].len());
                    let bytes: usize = bytes.sum();
                    broker.restore_queue(*queue, entries.len() as u64, bytes as u64);
                }
                take_up(broker, net, &Table::AFTER_QUEUES);
                broker.restore_end(now, net);
            });
        }
        // Interest reaches the others before any client does.
        while !self.is_start_held && self.deliver_mail() {}
    }
}

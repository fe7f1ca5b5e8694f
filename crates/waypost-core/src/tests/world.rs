//! One or many real brokers, a clock moved by hand, and clients that speak bytes.

mod clients;
mod net;
mod options;
mod restart;
mod shown;

use std::collections::VecDeque;
use std::sync::Arc;

use waypost_mqtt::{Packet, ProtocolVersion, Role, decode, encode};

use super::store::{Answer as StoreAnswer, MemoryStore};
use crate::broker::Random;
use crate::journal::Numbers;
use crate::mail::MailBatch;
use crate::{
    AllowAll, Answer, Authenticate, Broker, BrokerConfig, ConnectionId, Frame, Limits, Now, Peer,
    Permit, RetainedClock, ShardId, Ticket,
};
use net::Net;
pub(super) use options::{Options, options, v3, v5};
use shown::line;

/// Steps after which a world that does not come to rest has failed.
const STEPS_MAX: usize = 200_000;

/// A client's end of a connection.
#[derive(Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fault or a fact of its own"
)]
struct Wire {
    shard: usize,
    id: u32,
    version: Option<ProtocolVersion>,
    /// Whole packets the server sent and the client has not looked at.
    received: VecDeque<Vec<u8>>,
    /// Packets the client sent while it was parked.
    inbox: VecDeque<Vec<u8>>,
    is_parked: bool,
    is_closed: bool,
    /// The client reads nothing: what is sent stays in the outbox.
    is_stalled: bool,
    outbox_bytes: usize,
    was_above: bool,
}

struct Shard {
    broker: Broker,
    mail: Vec<MailBatch>,
}

pub(super) struct World {
    shards: Vec<Shard>,
    wires: Vec<Wire>,
    /// By sender and receiver.
    links: Vec<VecDeque<MailBatch>>,
    names: std::collections::BTreeMap<usize, Client>,
    pub now: Now,
    random: Random,
    pub limits: Limits,
    policies: Arc<crate::Policies>,
    streams: Arc<crate::Streams>,
    /// Mail waits until it is delivered by hand.
    pub is_mail_held: bool,
    /// Who was sent a packet, one after the other, since this was emptied.
    pub arrivals: VecDeque<Client>,
    pub store: MemoryStore,
    /// What is handed in to the store waits until [`World::store_step`] is called by hand.
    pub is_store_held: bool,
    /// After a start, what shards tell each other waits as other mail does.
    pub is_start_held: bool,
}

/// A client's handle in a world.
pub(super) type Client = usize;

impl World {
    pub fn new() -> Self {
        Self::with(1, Limits::default())
    }

    pub fn with_limits(change: impl FnOnce(&mut Limits)) -> Self {
        let mut limits = Limits::default();
        change(&mut limits);
        Self::with(1, limits)
    }

    pub fn with(shards: u16, limits: Limits) -> Self {
        Self::with_permit(shards, limits, 1, |_| {
            (Box::new(AllowAll), Box::new(AllowAll))
        })
    }

    pub fn seeded(shards: u16, limits: Limits, seed: u64) -> Self {
        Self::with_permit(shards, limits, seed, |_| {
            (Box::new(AllowAll), Box::new(AllowAll))
        })
    }

    pub fn with_permit(
        shards: u16,
        mut limits: Limits,
        seed: u64,
        make: impl Fn(u16) -> (Box<dyn Permit + Send>, Box<dyn Authenticate + Send>),
    ) -> Self {
        // These clients send no PINGREQ: only a test that sets the bound has it.
        if limits.keep_alive_max_s == Limits::default().keep_alive_max_s {
            limits.keep_alive_max_s = 0;
        }
        let count = usize::from(shards);
        let clock = RetainedClock::default();
        let numbers = Numbers::default();
        let now = Now {
            monotonic_ms: 1_000_000,
            wall_ms: 1_700_000_000_000,
        };
        let shards = (0..shards)
            .map(|number| {
                let (permit, authenticate) = make(number);
                let config = BrokerConfig {
                    shard: ShardId(number),
                    shards,
                    seed: seed + u64::from(number),
                    limits: limits.clone(),
                    clock: clock.clone(),
                    policies: Arc::default(),
                    streams: Arc::default(),
                    has_store: true,
                    is_sealed: |payload| payload.starts_with(b"sealed"),
                    numbers: numbers.clone(),
                };
                let mut broker = Broker::new(config, permit, authenticate);
                broker.restore_begin(0, now);
                Shard {
                    broker,
                    mail: (0..count).map(|_| MailBatch::default()).collect(),
                }
            })
            .collect();
        Self {
            shards,
            wires: Vec::new(),
            names: std::collections::BTreeMap::new(),
            links: (0..count * count).map(|_| VecDeque::new()).collect(),
            now,
            random: Random::seeded(seed),
            limits,
            policies: Arc::default(),
            streams: Arc::default(),
            is_mail_held: false,
            arrivals: VecDeque::new(),
            store: MemoryStore::with_shards(count),
            is_store_held: false,
            is_start_held: false,
        }
    }

    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Remembers the connection a script calls by a number.
    pub fn name_wire(&mut self, name: usize, client: Client) {
        self.names.insert(name, client);
    }

    /// The connection last remembered under a number.
    pub fn newest_wire(&self, name: usize) -> Client {
        self.names[&name]
    }

    /// From now on nothing is written down.
    pub fn without_store(mut self) -> Self {
        for shard in &mut self.shards {
            shard.broker.has_store = false;
        }
        self
    }

    pub fn broker(&self, shard: usize) -> &Broker {
        &self.shards[shard].broker
    }

    /// These policies hold from now on, on every shard.
    pub fn adopt(&mut self, policies: &Arc<crate::Policies>) {
        self.policies = Arc::clone(policies);
        for shard in 0..self.shards.len() {
            let policies = Arc::clone(policies);
            self.call(shard, |broker, now, net| {
                broker.handle_policies(policies, now, net);
            });
        }
        self.settle();
    }

    /// These streams are configured from now on, on every shard; their numbers follow their order, from 1.
    pub fn configure(&mut self, streams: &[(&str, &[&str])]) {
        let stream = |(id, (name, filters)): (u32, &(&str, &[&str]))| crate::Stream {
            id: crate::stream::StreamId(id),
            name: (*name).into(),
            filters: filters.iter().map(ToString::to_string).collect(),
        };
        let streams = (1..).zip(streams).map(stream).collect();
        self.streams = Arc::new(crate::Streams::new(streams).unwrap());
        for shard in &mut self.shards {
            shard.broker.handle_streams(Arc::clone(&self.streams));
        }
    }

    /// Calls one shard's broker, then does what it asked for.
    fn call(&mut self, shard: usize, call: impl FnOnce(&mut Broker, Now, &mut Net<'_>)) {
        let now = self.now;
        let count = self.shards.len();
        let Shard { broker, mail } = &mut self.shards[shard];
        let mut net = Net {
            shard,
            wires: &mut self.wires,
            mail,
            unparked: Vec::new(),
            arrivals: &mut self.arrivals,
            pen: self.store.pen(shard),
        };
        call(broker, now, &mut net);
        let unparked = std::mem::take(&mut net.unparked);
        drop(net);
        for (to, batch) in mail.iter_mut().enumerate() {
            if !batch.is_empty() {
                let link = shard * count + to;
                self.links[link].push_back(std::mem::take(batch));
            }
        }
        for client in unparked {
            self.drain_inbox(client);
        }
        self.flush();
    }

    /// The outboxes of clients that read become empty.
    fn flush(&mut self) {
        let half = self.limits.outbox_bytes_max / 2;
        for at in 0..self.wires.len() {
            let wire = &mut self.wires[at];
            if wire.outbox_bytes > half {
                wire.was_above = true;
            }
            if !wire.is_stalled && wire.outbox_bytes > 0 {
                wire.outbox_bytes = 0;
                if std::mem::take(&mut wire.was_above) && !wire.is_closed {
                    let (shard, id) = (wire.shard, ConnectionId(wire.id));
                    self.call(shard, |broker, now, net| {
                        broker.handle_writable(id, now, net);
                    });
                }
            }
        }
    }

    /// Delivers mail in an order that only the seed knows, until there is none; runs what is due at once.
    pub fn settle(&mut self) {
        for _ in 0..STEPS_MAX {
            let due = (0..self.shards.len()).find(|shard| {
                self.shards[*shard]
                    .broker
                    .next_timeout()
                    .is_some_and(|due_ms| due_ms <= self.now.monotonic_ms)
            });
            if let Some(shard) = due {
                self.call(shard, |broker, now, net| broker.handle_timeout(now, net));
                continue;
            }
            // Mail and the store take turns as the seed says.
            let can_store = !self.is_store_held && !self.store.is_idle();
            if can_store && self.random.next() & (1 << 40) != 0 && self.store_step() {
                continue;
            }
            if !self.is_mail_held && self.deliver_mail() {
                continue;
            }
            if self.is_store_held || !self.store_step() {
                return;
            }
        }
        panic!("the world does not come to rest");
    }

    /// Makes the oldest thing handed in to the store durable and tells its shard; `false` if there is none.
    pub fn store_step(&mut self) -> bool {
        let Some((shard, answer)) = self.store.step(self.now.wall_ms) else {
            return false;
        };
        let Some(answer) = answer else {
            return true;
        };
        self.call(shard, |broker, now, net| match answer {
            StoreAnswer::Stored(stored) => broker.handle_stored(stored, now, net),
            StoreAnswer::Refused(first, last, why) => {
                broker.handle_not_stored(first, last, why, now, net);
            }
            StoreAnswer::QueueRead(queue, read) => broker.handle_queue_read(queue, read, now, net),
            StoreAnswer::Stream(reader, answer) => {
                broker.handle_stream_answer(reader, answer, now, net);
            }
            StoreAnswer::MessageRead(id, body) => {
                broker.handle_message_read(id, body.as_deref(), now, net);
            }
        });
        true
    }

    /// Tells every shard that all it handed in is with the operating system.
    pub fn store_written(&mut self) {
        for (shard, stored) in self.store.written().into_iter().enumerate() {
            self.call(shard, |broker, now, net| {
                broker.handle_stored(stored, now, net);
            });
        }
        self.settle();
    }

    /// Delivers one batch of mail; `false` if there is none.
    pub fn deliver_mail(&mut self) -> bool {
        let waiting: Vec<_> = (0..self.links.len())
            .filter(|link| !self.links[*link].is_empty())
            .collect();
        if waiting.is_empty() {
            return false;
        }
        let link = waiting[usize::try_from(self.random.next() >> 33).unwrap() % waiting.len()];
        let (from, to) = (link / self.shards.len(), link % self.shards.len());
        let batch = self.links[link].pop_front().unwrap();
        let from = ShardId(u16::try_from(from).unwrap());
        self.call(to, |broker, now, net| {
            broker.handle_mail(from, batch, now, net);
        });
        true
    }

    /// Puts a batch among the mail from one shard to another.
    pub fn post(&mut self, from: usize, to: usize, batch: MailBatch) {
        let shards = self.shards.len();
        self.links[from * shards + to].push_back(batch);
    }

    /// Moves the clock, stopping at every deadline on the way.
    pub fn advance(&mut self, ms: u64) {
        let end = self.now.monotonic_ms + ms;
        for _ in 0..STEPS_MAX {
            self.settle();
            let next = self
                .shards
                .iter()
                .filter_map(|shard| shard.broker.next_timeout())
                .min();
            let to = next
                .filter(|due_ms| *due_ms < end)
                .unwrap_or(end)
                .max(self.now.monotonic_ms);
            self.now.wall_ms += to - self.now.monotonic_ms;
            self.now.monotonic_ms = to;
            if to == end {
                self.settle();
                return;
            }
        }
        panic!("the clock does not come to {end}");
    }

    pub fn open_at(&mut self, shard: usize) -> Client {
        let used = |id: u32| {
            self.wires
                .iter()
                .any(|wire| wire.shard == shard && wire.id == id && !wire.is_closed)
        };
        let id = (0..=u32::MAX).find(|id| !used(*id)).unwrap();
        self.wires.push(Wire {
            shard,
            id,
            ..Wire::default()
        });
        let peer = Peer {
            address: Some(([127, 0, 0, 1], 50_000).into()),
            ..Peer::default()
        };
        self.call(shard, |broker, now, net| {
            broker.handle_open(ConnectionId(id), peer, now, net);
        });
        self.wires.len() - 1
    }

    pub fn open(&mut self) -> Client {
        self.open_at(0)
    }

    /// Sends a packet and lets the world come to rest.
    pub fn send(&mut self, client: Client, packet: &Packet<'_>) {
        if let Packet::Connect(connect) = packet {
            self.wires[client].version = Some(connect.version);
        }
        let version = self.wires[client].version.unwrap_or(ProtocolVersion::V5);
        let mut bytes = Vec::new();
        encode(packet, version, &mut bytes);
        self.send_bytes(client, bytes);
        self.settle();
    }

    pub fn send_bytes(&mut self, client: Client, bytes: Vec<u8>) {
        self.wires[client].inbox.push_back(bytes);
        self.drain_inbox(client);
    }

    fn drain_inbox(&mut self, client: Client) {
        while let wire = &mut self.wires[client]
            && !wire.is_parked
            && !wire.is_closed
            && let Some(bytes) = wire.inbox.pop_front()
        {
            let (shard, id) = (wire.shard, ConnectionId(wire.id));
            let version = wire.version.unwrap_or(ProtocolVersion::V5);
            self.call(shard, |broker, now, net| {
                match decode(&bytes, version, Role::Client) {
                    Ok(packet) => {
                        broker.handle_packet(
                            id,
                            &packet,
                            Frame {
                                bytes: &bytes,
                                shared: None,
                            },
                            now,
                            net,
                        );
                    }
                    Err(error) => broker.handle_malformed(id, &error, now, net),
                }
            });
        }
    }

    /// The network fails.
    pub fn cut(&mut self, client: Client) {
        let wire = &mut self.wires[client];
        if wire.is_closed {
            return;
        }
        wire.is_closed = true;
        let (shard, id) = (wire.shard, ConnectionId(wire.id));
        self.call(shard, |broker, now, net| broker.handle_closed(id, now, net));
        self.settle();
    }

    pub fn answer(&mut self, client: Client, answer: Answer) {
        let (shard, id) = (
            self.wires[client].shard,
            ConnectionId(self.wires[client].id),
        );
        self.call(shard, |broker, now, net| {
            let connection = broker.connections.get(id).unwrap();
            broker.handle_verdict(connection.ticket(id), answer, now, net);
        });
        self.settle();
    }

    pub fn answer_ticket(&mut self, shard: usize, ticket: Ticket, answer: Answer) {
        self.call(shard, |broker, now, net| {
            broker.handle_verdict(ticket, answer, now, net);
        });
        self.settle();
    }

    /// Gives a shard other judges.
    pub fn change_rules(
        &mut self,
        shard: usize,
        permit: impl Permit + Send + 'static,
        authenticate: impl Authenticate + Send + 'static,
    ) {
        self.call(shard, |broker, now, net| {
            broker.handle_rules_changed(Box::new(permit), Box::new(authenticate), now, net);
        });
    }

    pub fn drain(&mut self) {
        for shard in 0..self.shards.len() {
            self.call(shard, |broker, now, net| broker.handle_drain(now, net));
        }
        self.settle();
    }

    pub fn publish_system(&mut self, topic: &str, payload: &str, retain: bool) {
        self.call(0, |broker, now, net| {
            broker.publish_system(topic, payload.as_bytes(), retain, now, net);
        });
        self.settle();
    }

    pub fn stall(&mut self, client: Client, is_stalled: bool) {
        self.wires[client].is_stalled = is_stalled;
        self.flush();
        self.settle();
    }

    pub fn version(&self, client: Client) -> ProtocolVersion {
        self.wires[client].version.unwrap()
    }

    pub fn is_closed(&self, client: Client) -> bool {
        self.wires[client].is_closed
    }

    pub fn is_parked(&self, client: Client) -> bool {
        self.wires[client].is_parked
    }

    /// What the client received since the last call, each packet as one line.
    pub fn take(&mut self, client: Client) -> Vec<String> {
        let wire = &mut self.wires[client];
        let version = wire.version.unwrap_or(ProtocolVersion::V5);
        let mut lines: Vec<_> = wire
            .received
            .drain(..)
            .map(|bytes| match decode(&bytes, version, Role::Server) {
                Ok(packet) => line(&packet),
                Err(error) => panic!("the server sent {bytes:02x?}: {error}"),
            })
            .collect();
        if wire.is_closed {
            lines.push("closed".into());
        }
        lines
    }

    /// The first raw packet received.
    pub fn take_one(&mut self, client: Client) -> Option<Vec<u8>> {
        self.wires[client].received.pop_front()
    }

    /// The raw packets received.
    pub fn take_bytes(&mut self, client: Client) -> Vec<Vec<u8>> {
        self.wires[client].received.drain(..).collect()
    }
}

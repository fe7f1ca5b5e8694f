//! One or many real brokers, a clock moved by hand, and clients that speak bytes.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Arc;

use waypost_mqtt::{
    Ack, Connect, Disconnect, Packet, PacketId, Properties, Property, PropertyBuffer,
    ProtocolVersion, Publish, PublishHead, QoS, ReasonCode, Role, Subscribe, SubscriptionOptions,
    SubscriptionRequest, Topic, Unsubscribe, Will, decode, encode, encode_publish_head,
};

use super::store::{Answer as StoreAnswer, MemoryStore, Pen, Row};
use crate::broker::Random;
use crate::journal::{Journal, Numbers, QueueId, Table};
use crate::mail::MailBatch;
use crate::{
    AllowAll, Answer, Authenticate, Broker, BrokerConfig, ConnectionId, DeliveryFlags, Effects,
    Frame, Limits, Message, Now, Peer, Permit, RetainedClock, ShardId, Target, Ticket,
};

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
    /// Mail waits until it is delivered by hand.
    pub is_mail_held: bool,
    /// Who was sent a packet, one after the other, since this was emptied.
    pub arrivals: VecDeque<Client>,
    pub store: MemoryStore,
    /// What is handed in to the store waits until [`World::store_step`] is called by hand.
    pub is_store_held: bool,
}

struct Net<'a> {
    shard: usize,
    wires: &'a mut [Wire],
    mail: &'a mut [MailBatch],
    unparked: Vec<usize>,
    arrivals: &'a mut VecDeque<Client>,
    pen: Pen<'a>,
}

impl Net<'_> {
    fn position(&self, id: ConnectionId) -> Client {
        self.wires
            .iter()
            .rposition(|wire| wire.shard == self.shard && wire.id == id.0 && !wire.is_closed)
            .expect("the core writes to an open connection")
    }

    fn wire(&mut self, id: ConnectionId) -> &mut Wire {
        let at = self.position(id);
        &mut self.wires[at]
    }

    fn put(&mut self, id: ConnectionId, bytes: Vec<u8>) {
        let at = self.position(id);
        let wire = &mut self.wires[at];
        wire.outbox_bytes += bytes.len();
        if !bytes.is_empty() {
            wire.received.push_back(bytes);
            self.arrivals.push_back(at);
        }
    }
}

impl Effects for Net<'_> {
    fn send(&mut self, connection: ConnectionId, packet: &Packet<'_>) {
        let version = self
            .wire(connection)
            .version
            .expect("nothing is sent before CONNECT");
        let mut bytes = Vec::new();
        encode(packet, version, &mut bytes);
        self.put(connection, bytes);
    }

    fn deliver_many(
        &mut self,
        message: &Message<'_>,
        targets: &[Target],
        subscription_identifiers: &[u32],
    ) {
        let mut connections: Vec<_> = targets.iter().map(|target| target.connection).collect();
        connections.sort_unstable();
        connections.dedup();
        assert_eq!(
            connections.len(),
            targets.len(),
            "at most once to each connection"
        );
        for target in targets {
            let version = self.wire(target.connection).version.unwrap();
            let flags = target.flags;
            assert_eq!(flags.has(DeliveryFlags::V5), version == ProtocolVersion::V5);
            let mut bytes = Vec::new();
            if let (Some(verbatim), true) = (message.verbatim, version < ProtocolVersion::V5)
                && flags == DeliveryFlags::new(QoS::AtMostOnce)
            {
                bytes.extend_from_slice(verbatim);
            } else {
                let head = PublishHead {
                    version,
                    dup: flags.has(DeliveryFlags::DUP),
                    qos: flags.qos(),
                    retain: flags.has(DeliveryFlags::RETAIN),
                    topic: if flags.has(DeliveryFlags::TOPIC_KNOWN) {
                        ""
                    } else {
                        message.topic
                    },
                    packet_id: target.packet_id,
                    topic_alias: (target.alias != 0).then_some(target.alias),
                    message_expiry_interval: message.expiry_s,
                    subscription_identifiers: target.identifiers.of(subscription_identifiers),
                    properties: message.properties,
                    payload_len: message.payload.bytes.len(),
                };
                encode_publish_head(&head, &mut bytes);
                bytes.extend_from_slice(message.payload.bytes);
            }
            self.put(target.connection, bytes);
        }
    }

    fn outbox_bytes(&self, connection: ConnectionId) -> usize {
        let shard = self.shard;
        let wire = self
            .wires
            .iter()
            .rev()
            .find(|wire| wire.shard == shard && wire.id == connection.0);
        wire.unwrap().outbox_bytes
    }

    fn close(&mut self, connection: ConnectionId) {
        self.wire(connection).is_closed = true;
    }

    fn read(&mut self, connection: ConnectionId, on: bool) {
        let shard = self.shard;
        let at = self
            .wires
            .iter()
            .rposition(|wire| wire.shard == shard && wire.id == connection.0)
            .unwrap();
        self.wires[at].is_parked = !on;
        if on {
            self.unparked.push(at);
        }
    }

    fn mailbox(&mut self, to: ShardId) -> &mut MailBatch {
        assert_ne!(usize::from(to.0), self.shard, "no mail to oneself");
        &mut self.mail[usize::from(to.0)]
    }

    fn journal(&mut self) -> &mut dyn Journal {
        &mut self.pen
    }
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
                    has_store: true,
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
            is_mail_held: false,
            arrivals: VecDeque::new(),
            store: MemoryStore::with_shards(count),
            is_store_held: false,
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
        let queues = views.rows.keys().filter_map(|(table, key)| {
            let key = key.get(..8).filter(|_| *table == Table::SESSIONS)?;
            Some(u64::from_be_bytes(key.try_into().unwrap()))
        });
        let groups = views.queues.keys().map(|queue| queue.0);
        let queue = QueueId(queues.chain(groups).max().unwrap_or_default() + 1_000);
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
                    has_store: true,
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
                let is_first = |table: Table| matches!(table, Table::SESSIONS | Table::GROUPS);
                let (first, then): (Vec<_>, Vec<_>) = views
                    .rows
                    .iter()
                    .partition(|((table, _), _)| is_first(*table));
                let mut row = |((table, key), (_, value, kept)): (&(Table, Vec<u8>), &Row)| {
                    broker
                        .restore_row(*table, key, value, *kept, now, net)
                        .unwrap();
                };
                first.into_iter().for_each(&mut row);
                for (queue, entries) in &views.queues {
                    let bytes = entries.iter().map(|(_, id, _)| views.messages[id].len());
                    let bytes: usize = bytes.sum();
                    broker.restore_queue(*queue, entries.len() as u64, bytes as u64);
                }
                let mut row = |((table, key), (_, value, kept)): (&(Table, Vec<u8>), &Row)| {
                    broker
                        .restore_row(*table, key, value, *kept, now, net)
                        .unwrap();
                };
                then.into_iter().for_each(&mut row);
                broker.restore_end(now, net);
            });
        }
        // Interest reaches the others before any client does.
        while self.deliver_mail() {}
    }

    /// Makes the oldest thing handed in to the store durable and tells its shard; `false` if there is none.
    pub fn store_step(&mut self) -> bool {
        let Some((shard, answer)) = self.store.step() else {
            return false;
        };
        self.call(shard, |broker, now, net| match answer {
            StoreAnswer::Stored(stored) => broker.handle_stored(stored, now, net),
            StoreAnswer::Refused(first, last, why) => {
                broker.handle_not_stored(first, last, why, now, net);
            }
            StoreAnswer::QueueRead(queue, read) => broker.handle_queue_read(queue, read, now, net),
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

    // -- what clients do --

    /// A connection at shard 0, accepted. Its CONNACK is taken.
    pub fn connect(&mut self, options: &Options) -> Client {
        let (client, connack) = self.try_connect(options);
        assert!(connack.starts_with("CONNACK 00"), "{connack}");
        client
    }

    /// A connection and the first line it receives.
    pub fn try_connect(&mut self, options: &Options) -> (Client, String) {
        let client = self.open_at(options.shard);
        self.send_connect(client, options);
        let wire = &mut self.wires[client];
        let first = wire.received.pop_front();
        let line = first.map_or("nothing".into(), |bytes| {
            line(&decode(&bytes, wire.version.unwrap(), Role::Server).unwrap())
        });
        (client, line)
    }

    pub fn send_connect(&mut self, client: Client, options: &Options) {
        let will = options.will.as_ref().map(|will| Will {
            topic: Topic::parse(&will.topic).unwrap(),
            payload: will.payload.as_bytes(),
            qos: will.qos,
            retain: will.retain,
            properties: will.properties.as_properties(),
        });
        let connect = Connect {
            version: options.version,
            clean_start: options.clean_start,
            keep_alive: options.keep_alive,
            client_id: &options.client_id,
            properties: options.properties.as_properties(),
            will,
            user_name: options.user_name.as_deref(),
            password: None,
        };
        self.send(client, &Packet::Connect(connect));
    }

    /// Subscribes with Packet Identifier 1 and takes the SUBACK.
    pub fn subscribe(&mut self, client: Client, filter: &str, qos: u8) -> String {
        self.subscribe_with(client, &[(filter, options(qos))], 0)
    }

    pub fn subscribe_with(
        &mut self,
        client: Client,
        filters: &[(&str, SubscriptionOptions)],
        identifier: u32,
    ) -> String {
        let requests: Vec<_> = filters
            .iter()
            .map(|(filter, options)| SubscriptionRequest {
                filter: waypost_mqtt::Filter::parse(filter).unwrap(),
                options: *options,
            })
            .collect();
        let mut buffer = PropertyBuffer::new();
        if identifier != 0 {
            buffer.push(Property::SubscriptionIdentifier(identifier));
        }
        let packet_id = PacketId::new(1).unwrap();
        self.send(
            client,
            &Packet::Subscribe(Subscribe::new(packet_id, buffer.as_properties(), &requests)),
        );
        self.take_first(client, "SUBACK")
    }

    pub fn unsubscribe(&mut self, client: Client, filter: &str) -> String {
        let filters = [waypost_mqtt::Filter::parse(filter).unwrap()];
        let packet_id = PacketId::new(2).unwrap();
        self.send(
            client,
            &Packet::Unsubscribe(Unsubscribe::new(packet_id, Properties::EMPTY, &filters)),
        );
        self.take_first(client, "UNSUBACK")
    }

    /// Takes the first line that begins so out of what was received.
    pub fn take_first(&mut self, client: Client, start: &str) -> String {
        let wire = &mut self.wires[client];
        let version = wire.version.unwrap();
        let lines: Vec<_> = wire
            .received
            .iter()
            .map(|bytes| line(&decode(bytes, version, Role::Server).unwrap()))
            .collect();
        match lines.iter().position(|line| line.starts_with(start)) {
            Some(at) => {
                wire.received.remove(at);
                lines[at].clone()
            }
            None => format!("no {start} in {lines:?}"),
        }
    }

    pub fn publish(&mut self, client: Client, topic: &str, payload: &str, qos: u8) {
        self.publish_with(
            client,
            topic,
            payload,
            qos,
            10,
            false,
            &PropertyBuffer::new(),
        );
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of a PUBLISH")]
    pub fn publish_with(
        &mut self,
        client: Client,
        topic: &str,
        payload: &str,
        qos: u8,
        packet_id: u16,
        retain: bool,
        properties: &PropertyBuffer,
    ) {
        let qos = QoS::try_from(qos).unwrap();
        let publish = Publish {
            dup: false,
            qos,
            retain,
            topic,
            packet_id: PacketId::new(packet_id).filter(|_| qos != QoS::AtMostOnce),
            properties: properties.as_properties(),
            payload: payload.as_bytes(),
        };
        self.send(client, &Packet::Publish(publish));
    }

    pub fn retain(&mut self, client: Client, topic: &str, payload: &str, qos: u8) {
        self.publish_with(
            client,
            topic,
            payload,
            qos,
            10,
            true,
            &PropertyBuffer::new(),
        );
        if qos == 2 {
            self.ack(client, "PUBREL", 10);
        }
    }

    pub fn ack(&mut self, client: Client, kind: &str, packet_id: u16) {
        self.ack_with(client, kind, packet_id, ReasonCode::Success);
    }

    pub fn ack_with(&mut self, client: Client, kind: &str, packet_id: u16, reason: ReasonCode) {
        let ack = Ack::new(PacketId::new(packet_id).unwrap(), reason);
        let packet = match kind {
            "PUBACK" => Packet::PubAck(ack),
            "PUBREC" => Packet::PubRec(ack),
            "PUBREL" => Packet::PubRel(ack),
            "PUBCOMP" => Packet::PubComp(ack),
            _ => panic!("{kind}"),
        };
        self.send(client, &packet);
    }

    pub fn disconnect(&mut self, client: Client, reason: ReasonCode) {
        self.disconnect_with(client, reason, &PropertyBuffer::new());
    }

    pub fn disconnect_with(
        &mut self,
        client: Client,
        reason: ReasonCode,
        properties: &PropertyBuffer,
    ) {
        let properties = properties.as_properties();
        self.send(
            client,
            &Packet::Disconnect(Disconnect { reason, properties }),
        );
    }
}

/// Subscription Options with nothing but a QoS.
pub(super) fn options(qos: u8) -> SubscriptionOptions {
    SubscriptionOptions {
        qos: QoS::try_from(qos).unwrap(),
        ..SubscriptionOptions::default()
    }
}

/// What a CONNECT says.
pub(super) struct Options {
    pub shard: usize,
    pub version: ProtocolVersion,
    pub client_id: String,
    pub clean_start: bool,
    pub keep_alive: u16,
    pub properties: PropertyBuffer,
    pub will: Option<WillOptions>,
    pub user_name: Option<String>,
}

pub(super) struct WillOptions {
    pub topic: String,
    pub payload: String,
    pub qos: QoS,
    pub retain: bool,
    pub properties: PropertyBuffer,
}

fn connect_options(version: ProtocolVersion, client_id: &str) -> Options {
    Options {
        shard: 0,
        version,
        client_id: client_id.into(),
        clean_start: true,
        keep_alive: 0,
        properties: PropertyBuffer::new(),
        will: None,
        user_name: None,
    }
}

/// MQTT 5, Clean Start, no expiry.
pub(super) fn v5(client_id: &str) -> Options {
    connect_options(ProtocolVersion::V5, client_id)
}

/// MQTT 3.1.1, Clean Session.
pub(super) fn v3(client_id: &str) -> Options {
    connect_options(ProtocolVersion::V311, client_id)
}

impl Options {
    /// Clean Start 0; in MQTT 5 the session lives for that many seconds.
    pub fn persistent(mut self, expiry_s: u32) -> Self {
        self.clean_start = false;
        if self.version == ProtocolVersion::V5 {
            self.properties
                .push(Property::SessionExpiryInterval(expiry_s));
        }
        self
    }

    pub fn at(mut self, shard: usize) -> Self {
        self.shard = shard;
        self
    }

    pub fn clean(mut self, clean_start: bool) -> Self {
        self.clean_start = clean_start;
        self
    }

    pub fn user(mut self, user_name: &str) -> Self {
        self.user_name = Some(user_name.into());
        self
    }

    pub fn keep_alive(mut self, keep_alive: u16) -> Self {
        self.keep_alive = keep_alive;
        self
    }

    pub fn with(mut self, property: Property<'_>) -> Self {
        self.properties.push(property);
        self
    }

    pub fn will(mut self, topic: &str, payload: &str, qos: u8, retain: bool) -> Self {
        self.will = Some(WillOptions {
            topic: topic.into(),
            payload: payload.into(),
            qos: QoS::try_from(qos).unwrap(),
            retain,
            properties: PropertyBuffer::new(),
        });
        self
    }

    pub fn will_with(mut self, property: Property<'_>) -> Self {
        self.will.as_mut().unwrap().properties.push(property);
        self
    }
}

/// One packet as one line.
fn line(packet: &Packet<'_>) -> String {
    let mut text = packet.packet_type().name().to_string();
    let properties = match packet {
        Packet::ConnAck(connack) => {
            let _ = write!(text, " {:02X}", connack.reason.as_u8());
            if connack.session_present {
                text.push_str(" present");
            }
            // What every CONNACK has is no news.
            return text
                + &shown(connack.properties, |property| {
                    !matches!(
                        property,
                        Property::ReceiveMaximum(1_000)
                            | Property::MaximumPacketSize(16_777_216)
                            | Property::TopicAliasMaximum(1_000)
                            | Property::SharedSubscriptionAvailable(false)
                    )
                });
        }
        Packet::Publish(publish) => {
            let _ = write!(text, " q{}", u8::from(publish.qos));
            if let Some(packet_id) = publish.packet_id {
                let _ = write!(text, " #{}", packet_id.value());
            }
            text.push_str(if publish.dup { " dup" } else { "" });
            text.push_str(if publish.retain { " retain" } else { "" });
            let payload = String::from_utf8_lossy(publish.payload);
            let _ = write!(text, " {}={payload}", publish.topic);
            publish.properties
        }
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            let _ = write!(text, " #{}", ack.packet_id.value());
            if ack.reason != ReasonCode::Success {
                let _ = write!(text, " {:02X}", ack.reason.as_u8());
            }
            ack.properties
        }
        Packet::SubAck(ack) => {
            let _ = write!(text, " #{}", ack.packet_id.value());
            for reason in ack.reasons.iter() {
                let _ = write!(text, " {:02X}", reason.as_u8());
            }
            ack.properties
        }
        Packet::UnsubAck(ack) => {
            let _ = write!(text, " #{}", ack.packet_id.value());
            for reason in ack.reasons.iter() {
                let _ = write!(text, " {:02X}", reason.as_u8());
            }
            ack.properties
        }
        Packet::Disconnect(disconnect) => {
            let _ = write!(text, " {:02X}", disconnect.reason.as_u8());
            disconnect.properties
        }
        Packet::Auth(auth) => {
            let _ = write!(text, " {:02X}", auth.reason.as_u8());
            auth.properties
        }
        _ => Properties::EMPTY,
    };
    text + &shown(properties, |_| true)
}

fn shown(properties: Properties<'_>, keep: impl Fn(&Property<'_>) -> bool) -> String {
    let mut text = String::new();
    for property in properties.iter().filter(|property| keep(property)) {
        let _ = write!(text, " {property:?}");
    }
    text
}

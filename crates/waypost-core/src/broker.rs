//! The broker of one shard: what comes in, and who handles it.

use std::net::SocketAddr;
use std::sync::Arc;

use waypost_mqtt::{Ack, Auth, DecodeError, Disconnect, Packet, QoS, ReasonCode};

use crate::calendar::Calendar;
use crate::clock::RetainedClock;
use crate::connection::{Connections, Phase};
use crate::counters::Counters;
use crate::dead::DeadLetters;
use crate::debtor::Unlogged;
use crate::delayed::Delayed;
use crate::deliver::Scratch;
use crate::effects::{ConnectionId, Effects, Frame, Message, Now, Payload, Peer, ShardId};
use crate::exactly_once::HeldRows;
use crate::fresh::Fresh;
use crate::group::Groups;
use crate::hash::Hasher;
use crate::held::HeldAnswers;
use crate::history::History;
use crate::index::{MatchCache, SubscriptionIndex};
use crate::interest::Interest;
use crate::journal::Numbers;
use crate::keep::By;
use crate::kept_session::HeldConnects;
use crate::limits::Limits;
use crate::mail::Origin;
use crate::moving::MovingSessions;
use crate::orphans::Orphans;
use crate::permit::{Authenticate, Permit};
use crate::policy::Policies;
use crate::registrar::Registrar;
use crate::restore::Restore;
use crate::retained::RetainedStore;
use crate::seal::IsSealed;
use crate::session::{Delivery, Sessions};
use crate::streams::Streams;
use crate::sweep::Sweep;
use crate::timers::{Timer, Timers};
use crate::unsettled::Unsettled;

/// What a broker is made from.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// Which shard it is.
    pub shard: ShardId,
    /// How many shards there are.
    pub shards: u16,
    /// Seed of everything that is random. Secret: the hash tables lean on it.
    pub seed: u64,
    /// Its bounds.
    pub limits: Limits,
    /// The same for all shards.
    pub clock: RetainedClock,
    /// What the configuration says about topics.
    pub policies: Arc<Policies>,
    /// The streams of the configuration.
    pub streams: Arc<Streams>,
    /// What is to outlive the process is written to [`Effects::journal`].
    pub has_store: bool,
    /// What policies that speak of sealed messages go by.
    pub is_sealed: IsSealed,
    /// The same for all shards.
    pub numbers: Numbers,
}

/// A session as an operator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client<'a> {
    /// Its client id.
    pub client_id: &'a str,
    /// The user who made it; `None` = anonymous.
    pub user: Option<&'a str>,
    /// Its connection, if there is one.
    pub connection: Option<ConnectionId>,
    /// Where that comes from: behind a proxy, the client's own address.
    pub address: Option<SocketAddr>,
    /// Subscriptions it has.
    pub subscriptions: usize,
    /// Messages that wait for it.
    pub queued: usize,
    /// Messages sent on this connection and not acknowledged.
    pub in_flight: usize,
    /// Messages it lost because its queue was full.
    pub dropped: u64,
}

/// The broker of one shard. See the crate's documentation for the way in and out.
pub struct Broker {
    pub(crate) shard: ShardId,
    pub(crate) shards: u16,
    pub(crate) limits: Limits,
    pub(crate) permit: Box<dyn Permit + Send>,
    pub(crate) authenticate: Box<dyn Authenticate + Send>,
    pub(crate) connections: Connections,
    pub(crate) sessions: Sessions,
    pub(crate) index: SubscriptionIndex,
    pub(crate) cache: MatchCache,
    pub(crate) retained: RetainedStore,
    pub(crate) timers: Timers,
    pub(crate) counters: Counters,
    pub(crate) hasher: Hasher,
    pub(crate) random: Random,
    pub(crate) scratch: Scratch,
    /// Verdicts known before a parked packet is handled anew.
    pub(crate) verdicts: Verdicts,
    pub(crate) interest: Interest,
    pub(crate) fresh: Fresh,
    pub(crate) registrar: Registrar,
    pub(crate) moving: MovingSessions,
    /// The next session to look at after a change of the rules.
    pub(crate) recheck: Option<u32>,
    pub(crate) clock: RetainedClock,
    pub(crate) groups: Groups,
    pub(crate) policies: Arc<Policies>,
    pub(crate) streams: Arc<Streams>,
    pub(crate) has_store: bool,
    pub(crate) is_sealed: IsSealed,
    pub(crate) numbers: Numbers,
    pub(crate) held: HeldAnswers,
    pub(crate) calendar: Calendar,
    pub(crate) unlogged: Unlogged,
    pub(crate) held_rows: HeldRows,
    pub(crate) unsettled: Unsettled,
    pub(crate) held_connects: HeldConnects,
    pub(crate) restore: Restore,
    pub(crate) orphans: Orphans,
    pub(crate) delayed: Delayed,
    pub(crate) dead: DeadLetters,
    pub(crate) sweep: Sweep,
    pub(crate) history: History,
}

/// Bytes of the match cache: an estimate of what its entries take.
const MATCH_CACHE_BYTES_PER_ENTRY: usize = 1_024;

impl Broker {
    /// An empty broker.
    pub fn new(
        config: BrokerConfig,
        permit: Box<dyn Permit + Send>,
        authenticate: Box<dyn Authenticate + Send>,
    ) -> Self {
        let mut random = Random(config.seed);
        let hasher = Hasher::new(random.next());
        let entries_max = config.limits.match_cache_entries_max;
        let cache_bytes_max = entries_max.saturating_mul(MATCH_CACHE_BYTES_PER_ENTRY);
        Self {
            shard: config.shard,
            shards: config.shards.max(1),
            permit,
            authenticate,
            connections: Connections::default(),
            sessions: Sessions::new(hasher.clone()),
            index: SubscriptionIndex::new(random.next()),
            cache: MatchCache::new(random.next(), entries_max, cache_bytes_max),
            retained: RetainedStore::new(
                random.next(),
                config.clock.clone(),
                config.shard,
                config.shards,
            ),
            timers: Timers::default(),
            counters: Counters::default(),
            hasher,
            scratch: Scratch::default(),
            verdicts: Verdicts::default(),
            interest: Interest::new(
                config.shards,
                MatchCache::new(random.next(), entries_max, cache_bytes_max),
            ),
            fresh: Fresh::new(config.shard, config.shards),
            registrar: Registrar::default(),
            moving: MovingSessions::default(),
            delayed: Delayed::new(&mut random),
            random,
            clock: config.clock,
            groups: Groups::default(),
            recheck: None,
            policies: config.policies,
            streams: config.streams,
            has_store: config.has_store,
            is_sealed: config.is_sealed,
            numbers: config.numbers,
            held: HeldAnswers::default(),
            calendar: Calendar::default(),
            unlogged: Unlogged::default(),
            held_rows: HeldRows::default(),
            unsettled: Unsettled::default(),
            held_connects: HeldConnects::default(),
            restore: Restore::default(),
            orphans: Orphans::default(),
            dead: DeadLetters::default(),
            sweep: Sweep::default(),
            history: History::default(),
            limits: config.limits,
        }
    }

    /// A connection was made.
    pub fn handle_open(
        &mut self,
        id: ConnectionId,
        peer: Peer<'_>,
        now: Now,
        _: &mut impl Effects,
    ) {
        self.counters.connections_opened += 1;
        self.connections.insert(id, peer, now.monotonic_ms);
        self.arm_connection(id);
    }

    /// A whole packet came.
    pub fn handle_packet(
        &mut self,
        id: ConnectionId,
        packet: &Packet<'_>,
        frame: Frame<'_>,
        now: Now,
        out: &mut impl Effects,
    ) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        match connection.phase {
            Phase::Connected => {
                // 5 [MQTT-3.1.2-22]: what keeps a connection alive is any packet.
                connection.last_packet_ms = now.monotonic_ms;
                let session = connection.session;
                self.handle_connected(id, session, packet, frame, now, out);
            }
            Phase::Opened => match packet {
                Packet::Connect(connect) => self.handle_connect(id, connect, frame, now, out),
                // 5 [MQTT-3.1.0-1]: CONNECT comes first. 5 [MQTT-3.14.0-1]: no DISCONNECT before CONNACK.
                _ => self.break_off(id, now, out),
            },
            Phase::Connecting => match packet {
                Packet::Auth(auth) => self.handle_auth_connecting(id, auth, now, out),
                // 5 [MQTT-3.1.2-30]: until CONNACK, only AUTH or DISCONNECT.
                _ => self.break_off(id, now, out),
            },
        }
    }

    /// Handles a packet of a connection that has its session.
    pub(crate) fn handle_connected(
        &mut self,
        id: ConnectionId,
        session: u32,
        packet: &Packet<'_>,
        frame: Frame<'_>,
        now: Now,
        out: &mut impl Effects,
    ) {
        match packet {
            Packet::Publish(publish) => self.handle_publish(id, session, publish, frame, now, out),
            // These have no answer that could refuse them.
            Packet::PubAck(Ack { properties, .. })
            | Packet::PubRec(Ack { properties, .. })
            | Packet::PubRel(Ack { properties, .. })
            | Packet::PubComp(Ack { properties, .. })
            | Packet::Disconnect(Disconnect { properties, .. })
            | Packet::Auth(Auth { properties, .. })
                if self.too_many_user_properties(*properties) =>
            {
                self.disconnect(id, ReasonCode::QuotaExceeded, now, out);
            }
            Packet::PubAck(ack) => self.handle_puback(id, session, ack, now, out),
            Packet::PubRec(ack) => self.handle_pubrec(id, session, ack, now, out),
            Packet::PubRel(ack) => self.handle_pubrel(id, session, ack, out),
            Packet::PubComp(ack) => self.handle_pubcomp(id, session, ack, now, out),
            Packet::Subscribe(subscribe) => {
                self.handle_subscribe(id, session, subscribe, frame, now, out);
            }
            Packet::Unsubscribe(unsubscribe) => {
                self.handle_unsubscribe(id, session, unsubscribe, now, out);
            }
            // 5 [MQTT-3.12.4-1]
            Packet::PingReq => self.send(id, &Packet::PingResp, out),
            Packet::Disconnect(disconnect) => {
                self.handle_disconnect(id, session, disconnect, now, out);
            }
            Packet::Auth(auth) => self.handle_auth_connected(id, session, auth, now, out),
            // 5 [MQTT-3.1.0-2]: a second CONNECT is a Protocol Error. The others are the server's to send.
            Packet::Connect(_)
            | Packet::ConnAck(_)
            | Packet::SubAck(_)
            | Packet::UnsubAck(_)
            | Packet::PingResp => self.protocol_error(id, now, out),
        }
    }

    /// Bytes came that are no packet. The connection is closed.
    pub fn handle_malformed(
        &mut self,
        id: ConnectionId,
        error: &DecodeError,
        now: Now,
        out: &mut impl Effects,
    ) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        self.counters.malformed_packets += 1;
        match (connection.phase, error.connack) {
            (Phase::Connected, _) => self.disconnect(id, error.reason, now, out),
            (Phase::Opened, Some(version)) => {
                connection.version = version;
                self.refuse(id, error.reason, now, out);
            }
            _ => self.break_off(id, now, out),
        }
    }

    /// The network failed, or the client closed without DISCONNECT.
    pub fn handle_closed(&mut self, id: ConnectionId, now: Now, out: &mut impl Effects) {
        self.lose(id, ReasonCode::UnspecifiedError, now, out);
    }

    /// An outbox that had been above half of `outbox_bytes_max` fell below a quarter: what waits is sent.
    pub fn handle_writable(&mut self, id: ConnectionId, now: Now, out: &mut impl Effects) {
        if let Some(connection) = self.connections.get(id)
            && connection.phase == Phase::Connected
        {
            let slot = connection.session;
            self.pump(slot, now, out);
            self.relieve_members(slot, now, out);
        }
    }

    /// When [`Self::handle_timeout`] is to be called, on the monotonic clock; it may be called too often.
    pub fn next_timeout(&self) -> Option<u64> {
        if self.moving.to_yield.is_empty() && self.recheck.is_none() {
            let dead_ms = self.dead.next_ms();
            let next = self.timers.next().into_iter().chain(dead_ms);
            next.chain(self.next_burst_ms()).min()
        } else {
            Some(0)
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now, out: &mut impl Effects) {
        for claim in std::mem::take(&mut self.moving.to_yield) {
            self.handle_yield(&claim, now, out);
        }
        self.recheck_sessions(now, out);
        // Deadlines set meanwhile are later than now, or wait for the next call.
        let mut rounds = self.timers.len();
        while rounds > 0
            && let Some((due_ms, timer)) = self.timers.pop_due(now.monotonic_ms)
        {
            rounds -= 1;
            match timer {
                Timer::Connection(slot) => {
                    self.connection_due(ConnectionId(slot), due_ms, now, out);
                }
                Timer::Session(slot) => self.session_due(slot, due_ms, now, out),
                Timer::Retained => {
                    self.retained_due(due_ms, now, out);
                }
                Timer::Delayed => self.delayed_due(due_ms, now, out),
                Timer::Sweep => self.sweep_due(due_ms, now, out),
            }
        }
        self.publish_dead_letters(now, out);
        self.send_burst(now, out);
        self.compact_timers();
    }

    /// These are the streams from now on. Whoever reads one goes on.
    pub fn handle_streams(&mut self, streams: Arc<Streams>) {
        self.streams = streams;
    }

    /// The server shuts down: every connection gets DISCONNECT 0x8B.
    pub fn handle_drain(&mut self, now: Now, out: &mut impl Effects) {
        for id in self.connections.ids() {
            self.disconnect(id, ReasonCode::ServerShuttingDown, now, out);
        }
    }

    /// A message of the server's own, on `$SYS/…`.
    pub fn publish_system(
        &mut self,
        topic: &str,
        payload: &[u8],
        retain: bool,
        now: Now,
        out: &mut impl Effects,
    ) {
        let message = Message {
            topic,
            payload: Payload {
                bytes: payload,
                shared: None,
            },
            properties: &[],
            expiry_s: None,
            verbatim: None,
        };
        self.route(
            &message,
            Origin {
                qos: QoS::AtMostOnce,
                retain,
                publisher: 0,
                stamp: 0,
                connection: None,
                kept: None,
                is_again: false,
            },
            By::Server,
            now,
            out,
        );
    }

    /// What was counted since it was made.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Connections there are, those that have not sent CONNECT included.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Sessions there are, connected or not.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Sessions with a connection.
    pub fn sessions_connected(&self) -> usize {
        let counters = &self.counters;
        usize::try_from(counters.sessions_attached - counters.sessions_detached).unwrap_or(0)
    }

    /// Subscriptions of all sessions; those to groups count where the group has its home.
    pub fn subscriptions(&self) -> usize {
        self.index.len() - self.interest.len() - self.groups.len()
            + self.groups.members()
            + self.history_readers()
    }

    /// Groups that have their home on this shard.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Members of these groups, connected or not.
    pub fn group_members(&self) -> usize {
        self.groups.members()
    }

    /// Messages that wait in these groups in memory, not only in the store.
    #[cfg(test)]
    pub(crate) fn group_messages_in_memory(&self) -> usize {
        self.groups.in_memory()
    }

    /// Messages that wait in these groups for a member.
    pub fn group_messages_waiting(&self) -> usize {
        self.groups.waiting()
    }

    /// What this shard knows of groups, as a home and as a member's shard: nothing, when nobody is in any.
    pub fn group_traces(&self) -> usize {
        self.groups.traces()
    }

    /// Retained messages this shard owns.
    pub fn retained(&self) -> usize {
        self.retained.len()
    }

    /// Topics and payloads of these, in bytes.
    pub fn retained_bytes(&self) -> usize {
        self.retained.bytes()
    }

    /// Delayed messages that wait for their time: all of them are on one shard.
    pub fn delayed(&self) -> usize {
        self.delayed.len()
    }

    /// Acknowledgements that wait until what they promise is kept.
    pub fn answers_waiting(&self) -> usize {
        self.held.len()
    }

    /// Messages that wait or are in flight, for all sessions. Walks over all of them.
    pub fn messages_owed(&self) -> usize {
        self.sessions
            .iter()
            .filter_map(|session| session.delivery.as_ref())
            .map(|delivery| delivery.owed())
            .sum()
    }

    /// A session of this shard, with what an operator wants to see of it.
    pub fn client(&self, client_id: &str) -> Option<Client<'_>> {
        let session = self.sessions.get(self.sessions.find(client_id)?)?;
        if session.moving.is_some() {
            return None;
        }
        let delivery = session.delivery.as_deref();
        Some(Client {
            client_id: &session.client_id,
            user: session.user.as_deref(),
            connection: session.connection,
            address: session
                .connection
                .and_then(|id| self.connections.get(id))
                .and_then(|connection| connection.peer),
            subscriptions: session.subscription_count(),
            queued: delivery.map_or(0, Delivery::waiting),
            in_flight: delivery.map_or(0, |delivery| usize::from(delivery.inflight.unacknowledged)),
            dropped: delivery.map_or(0, |delivery| delivery.dropped),
        })
    }

    /// What the shards know of each other: filters the others want, client ids this one is the registrar of, and
    /// sessions on their way.
    pub fn shared_state(&self) -> [usize; 3] {
        [self.interest.len(), self.registrar.len(), self.moving.len()]
    }

    /// Deadlines in the heap, those that no longer count included.
    pub fn timers(&self) -> usize {
        self.timers.len()
    }

    pub(crate) fn arm_connection(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let due_ms = connection.deadline_ms(self.limits.connect_timeout_ms);
        if let Some(armed_ms) = self.connections.armed_ms(id) {
            self.timers.arm(Timer::Connection(id.0), due_ms, armed_ms);
        }
    }

    pub(crate) fn arm_session(&mut self, slot: u32) {
        if let Some((due_ms, armed_ms)) = self.sessions.deadline(slot) {
            self.timers.arm(Timer::Session(slot), due_ms, armed_ms);
        }
    }

    fn compact_timers(&mut self) {
        let Self {
            timers,
            connections,
            sessions,
            retained,
            delayed,
            sweep,
            ..
        } = self;
        if timers.len() > 1_024 + 4 * (connections.len() + sessions.len()) {
            timers.retain(|due_ms, timer| match timer {
                Timer::Connection(slot) => connections.is_armed_at(slot, due_ms),
                Timer::Session(slot) => sessions.is_armed_at(slot, due_ms),
                Timer::Retained => retained.is_armed_at(due_ms),
                Timer::Delayed => delayed.is_armed_at(due_ms),
                Timer::Sweep => sweep.is_armed_at(due_ms),
            });
        }
    }
}

/// Answers the questions of a packet that is handled anew.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    pub known: Vec<bool>,
    pub asked: usize,
}

/// `SplitMix64`.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    #[cfg(test)]
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }
}

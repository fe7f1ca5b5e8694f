//! One shard: a thread, its event loop, its connections, its broker.
//!
//! A tick: wait for events; read each ready connection once (64 KiB at most, or the rest of one large
//! packet, and no more once the tick has sent enough, so that nobody starves the others); let the core handle what was read, what other shards sent and what is due; then
//! write every outbox that got something, once. A tick ends when the ready events are handled, never
//! by a timer, so that latency at low load does not suffer.
//!
//! Deliberately not here: what a packet means (waypost-core), how it is encoded (waypost-mqtt),
//! accepting (`listener`).

mod clock;
mod coding;
mod connection;
pub(crate) mod journal;
mod later;
mod layers;
mod outbox;
mod outlets;
mod readers;
mod reading;
pub(crate) mod restore;
#[cfg(test)]
mod tests;
mod writing;

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Interest, Poll, Token, Waker};
use waypost_core::{Broker, ConnectionId, MailBatch, Now, Peer, ShardId};

use crate::client_report::{ClientQuestion, ClientReport};
use crate::mailbox::{Handover, Inbound, Mailbox};
use crate::metrics::{Gauges, ShardStats};
use crate::store::StorePort;
use crate::transcode::Coder;
use clock::Clock;
use connection::Connection;
use journal::ShardJournal;
use layers::Layers;
use outlets::{OutboxBounds, Outlets};
use waypost_mqtt::websocket::CloseCode;

/// The waker's token; connections have theirs from 0 up.
const WAKER: Token = Token(usize::MAX);
/// Events taken from the kernel at once.
const EVENTS_PER_TICK: usize = 1024;
/// The shard's one read buffer, and so the most that one connection is read per tick.
const READ_BUFFER_BYTES: usize = 64 * 1024;
/// Outbox memory kept for reuse between ticks.
const POOL_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long a closed connection may take to read what was left for it.
const LINGER_MS: u64 = 5_000;
/// Connections that come, greet or go in one tick. Such work is long beside a message's, and comes in storms: those who
/// are there must not wait for all of it.
const NEWCOMERS_PER_TICK: usize = 32;
/// While another shard's mailbox or the store is full, how often to look again.
const FULL_RETRY_MS: u64 = 1;

/// The bounds of the shell; the core has its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShellLimits {
    /// The largest packet a client may send, in bytes.
    pub(crate) packet_bytes_max: usize,
    /// Bytes that may wait for one connection before QoS 0 messages are dropped, oldest first.
    pub(crate) outbox_bytes_max: usize,
    /// Bytes that may wait in all outboxes of the shard together.
    pub(crate) outboxes_bytes_max: usize,
    /// Bytes of large packets on their way in, in all connections of a shard together.
    pub(crate) receive_bytes_max: usize,
    /// How long a drain waits for clients to read what is left for them.
    pub(crate) drain_timeout_ms: u64,
}

/// A shard before its thread runs.
pub(crate) struct Shard {
    id: ShardId,
    broker: Broker,
    poll: Poll,
    inbox: Arc<Mailbox>,
    /// Every shard's mailbox, by shard; the own one is there too.
    mailboxes: Arc<[Arc<Mailbox>]>,
    outlets: Outlets,
    limits: ShellLimits,
    stats: Arc<ShardStats>,
    clock: Clock,
    now: Now,
    read_buffer: Vec<u8>,
    /// Buffers of large packets that are on their way in, in bytes.
    receive_bytes: usize,
    received: VecDeque<Inbound>,
    /// Connections handed over that are not taken yet. The server's places bound them.
    newcomers: VecDeque<Handover>,
    /// Batches that were read, on their way back to be filled again.
    spare: Vec<MailBatch>,
    /// Closed connections that the peer has not closed yet, by the time we stop waiting.
    lingering: BTreeSet<(u64, usize)>,
    /// Connections whose outbox fell below a quarter of its bound in this tick.
    relieved: Vec<usize>,
    /// Outboxes being flushed, swapped with the outlets' list.
    flushing: Vec<usize>,
    /// Connections being read, swapped with the outlets' list.
    reading: Vec<usize>,
    /// The count of packets sent at which this tick reads no more.
    sent_max: u64,
    draining: bool,
    drained_at: u64,
}

/// What a shard's threads and neighbours are made of before the shard itself.
pub(crate) struct ShardPort {
    pub(crate) poll: Poll,
    pub(crate) mailbox: Arc<Mailbox>,
}

impl ShardPort {
    pub(crate) fn new(mailbox_bytes_max: usize) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        Ok(Self {
            poll,
            mailbox: Mailbox::new(waker, mailbox_bytes_max),
        })
    }
}

impl Shard {
    #[expect(clippy::too_many_arguments, reason = "all that a shard is made of")]
    pub(crate) fn new(
        id: ShardId,
        port: ShardPort,
        mailboxes: Arc<[Arc<Mailbox>]>,
        store: StorePort,
        broker: Broker,
        limits: ShellLimits,
        stats: Arc<ShardStats>,
        coder: Coder,
    ) -> Self {
        let clock = Clock::start(store.wall);
        let mut outlets = Outlets::new(
            mailboxes.len(),
            ShardJournal::new(id, store.intake),
            OutboxBounds::of(&limits),
            POOL_BYTES_MAX,
            coder,
        );
        outlets.readers.is_open = broker.is_open();
        Self {
            id,
            broker,
            poll: port.poll,
            inbox: port.mailbox,
            outlets,
            mailboxes,
            limits,
            stats,
            now: clock.now(),
            clock,
            read_buffer: vec![0; READ_BUFFER_BYTES],
            receive_bytes: 0,
            received: VecDeque::new(),
            newcomers: VecDeque::new(),
            spare: Vec::new(),
            lingering: BTreeSet::new(),
            sent_max: 0,
            relieved: Vec::new(),
            flushing: Vec::new(),
            reading: Vec::new(),
            draining: false,
            drained_at: u64::MAX,
        }
    }

    /// Runs until the shard has drained. An error is one of the poller, never of a connection.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_PER_TICK);
        loop {
            self.wait(&mut events, self.timeout())?;
            self.tick();
            if self.draining && (self.outlets.connections.is_empty() || self.drain_is_over()) {
                return Ok(());
            }
        }
    }

    /// Waits for events and notes them.
    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(events, timeout) {
            Ok(()) => {}
            // What the events were is unknown then, and nothing is lost: they are still ready.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
            Err(error) => return Err(error),
        }
        self.now = self.clock.now();
        for event in &*events {
            self.note(event);
        }
        Ok(())
    }

    fn tick(&mut self) {
        self.receive();
        if self.a_mailbox_is_full() {
            self.outlets.counters.reads_paused += self.outlets.ready.len() as u64;
        } else if self.outlets.journal.is_full() {
            self.outlets.counters.reads_paused_store += self.outlets.ready.len() as u64;
        } else {
            self.read_ready();
        }
        if self
            .broker
            .next_timeout()
            .is_some_and(|due| due <= self.now.monotonic_ms)
        {
            self.broker.handle_timeout(self.now, &mut self.outlets);
        }
        self.ask_for_readers();
        // Before any acknowledgement: who has a PUBACK and then does something on another shard finds the message there.
        self.send_mail();
        self.flush_dirty();
        self.send_mail();
        self.end_lingering();
        self.publish_stats();
    }

    fn publish_stats(&self) {
        let gauges = Gauges {
            connections: self.outlets.connections.len() as u64,
            clients: self.broker.sessions_connected() as u64,
            sessions: self.broker.sessions() as u64,
            subscriptions: self.broker.subscriptions() as u64,
            groups: self.broker.groups() as u64,
            group_members: self.broker.group_members() as u64,
            group_messages_waiting: self.broker.group_messages_waiting() as u64,
            dead_letters_waiting: self.broker.dead_letters_waiting() as u64,
            delayed_messages: self.broker.delayed() as u64,
            history_readers: self.broker.history_readers() as u64,
            history_reads_waiting: self.broker.history_reads_waiting() as u64,
            retained_messages: self.broker.retained() as u64,
            retained_bytes: self.broker.retained_bytes() as u64,
            answers_waiting: self.broker.answers_waiting() as u64,
            outbox_bytes: self.outlets.outbox_bytes as u64,
            transcode_waiting: self.outlets.coder.waiting() as u64,
            receive_bytes: self.receive_bytes as u64,
        };
        self.stats
            .publish(self.broker.counters(), &self.outlets.counters, &gauges);
    }

    /// How long the next wait may take.
    fn timeout(&self) -> Option<Duration> {
        if self.a_mailbox_is_full() || self.outlets.journal.is_full() {
            return Some(Duration::from_millis(FULL_RETRY_MS));
        }
        let lists = [&self.outlets.ready, &self.outlets.dirty, &self.relieved];
        if !self.newcomers.is_empty() || lists.iter().any(|list| !list.is_empty()) {
            return Some(Duration::ZERO);
        }
        let linger = self.lingering.first().map(|&(due, _)| due);
        let drained = self.draining.then_some(self.drained_at);
        let due = [self.broker.next_timeout(), linger, drained]
            .into_iter()
            .flatten()
            .min()?;
        Some(Duration::from_millis(
            due.saturating_sub(self.clock.now().monotonic_ms),
        ))
    }

    fn a_mailbox_is_full(&self) -> bool {
        self.mailboxes.len() > 1 && self.mailboxes.iter().any(|mailbox| mailbox.is_full())
    }

    fn note(&mut self, event: &Event) {
        if event.token() == WAKER {
            return;
        }
        let index = event.token().0;
        let Some(connection) = self.outlets.connections.get_mut(index) else {
            return;
        };
        connection.hung_up |= event.is_read_closed() || event.is_error();
        if event.is_writable() && connection.blocked {
            connection.blocked = false;
            self.outlets.mark_dirty(index);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.outlets.mark_ready(index);
        }
    }

    fn receive(&mut self) {
        let mut received = std::mem::take(&mut self.received);
        self.inbox.take(&mut received, &mut self.spare);
        for inbound in received.drain(..) {
            match inbound {
                Inbound::Handover(handover) => self.newcomers.push_back(handover),
                Inbound::Mail { from, batch } => {
                    let spare = self
                        .broker
                        .handle_mail(from, batch, self.now, &mut self.outlets);
                    self.spare.push(spare);
                }
                Inbound::System(messages) => {
                    for (topic, payload) in messages {
                        self.broker.publish_system(
                            &topic,
                            &payload,
                            true,
                            self.now,
                            &mut self.outlets,
                        );
                    }
                }
                Inbound::Transcoded(job, worked) => self.outlets.settle_coded(job, worked),
                Inbound::Policies(policies, codings) => {
                    self.outlets.coder.adopt(codings);
                    self.broker
                        .handle_policies(policies, self.now, &mut self.outlets);
                }
                Inbound::Client(question) => self.report_client(&question),
                Inbound::Rules(permit, authenticate) => {
                    self.broker.handle_rules_changed(
                        permit,
                        authenticate,
                        self.now,
                        &mut self.outlets,
                    );
                    self.forget_readers();
                }
                Inbound::Verdict(ticket, answer) => {
                    self.broker
                        .handle_verdict(ticket, answer, self.now, &mut self.outlets);
                }
                Inbound::Stored(stored) => {
                    self.broker
                        .handle_stored(stored, self.now, &mut self.outlets);
                }
                Inbound::NotStored {
                    first,
                    last,
                    refusal,
                } => {
                    self.broker.handle_not_stored(
                        first,
                        last,
                        refusal,
                        self.now,
                        &mut self.outlets,
                    );
                }
                Inbound::QueueRead(queue, read) => {
                    self.broker
                        .handle_queue_read(queue, read, self.now, &mut self.outlets);
                }
                Inbound::MessageRead(id, body) => {
                    self.broker.handle_message_read(
                        id,
                        body.as_deref(),
                        self.now,
                        &mut self.outlets,
                    );
                }
                Inbound::Streams(streams) => self.broker.handle_streams(streams),
                Inbound::StreamAnswer(reader, answer) => {
                    self.broker
                        .handle_stream_answer(reader, answer, self.now, &mut self.outlets);
                }
                Inbound::Drain => self.drain(),
            }
        }
        self.received = received;
        for _ in 0..NEWCOMERS_PER_TICK {
            let Some(handover) = self.newcomers.pop_front() else {
                break;
            };
            self.adopt(handover);
        }
    }

    /// Answers if the client is one of ours.
    fn report_client(&self, question: &ClientQuestion) {
        let Some(client) = self.broker.client(&question.client_id) else {
            return;
        };
        let connection = client
            .connection
            .and_then(|id| self.outlets.connections.get(id.0 as usize));
        let report = ClientReport {
            client_id: client.client_id.to_owned(),
            user: client.user.map(str::to_owned),
            shard: self.id.0,
            connected: client.connection.is_some(),
            address: client.address.map(|address| address.to_string()),
            subscriptions: client.subscriptions,
            queued: client.queued,
            in_flight: client.in_flight,
            outbox_bytes: connection.map_or(0, Connection::outbox_len),
            dropped_queue_full: client.dropped,
            dropped_outbox_full: connection.map_or(0, |connection| connection.qos0_dropped.into()),
        };
        // Who asked may have given up by now.
        let _ = question.answer.try_send(report);
    }

    fn adopt(&mut self, handover: Handover) {
        let layers = Layers::of(handover.tls, handover.framing);
        let connection = Connection::new(handover.socket, layers, handover.place);
        let index = self.outlets.connections.insert(connection);
        let Some(connection) = self.outlets.connections.get_mut(index) else {
            return;
        };
        let registered = self.poll.registry().register(
            &mut connection.socket,
            Token(index),
            Interest::READABLE | Interest::WRITABLE,
        );
        let id = u32::try_from(index).ok().filter(|_| registered.is_ok());
        let (Some(id), false) = (id, self.draining) else {
            self.outlets.connections.remove(index);
            return;
        };
        let peer = Peer {
            address: handover.peer,
            certificate: &handover.certificate,
        };
        self.broker
            .handle_open(ConnectionId(id), peer, self.now, &mut self.outlets);
        self.take_unread(index, &handover.unread);
        self.outlets.mark_ready(index);
    }

    fn drain(&mut self) {
        if self.draining {
            return;
        }
        self.draining = true;
        self.drained_at = self
            .now
            .monotonic_ms
            .saturating_add(self.limits.drain_timeout_ms);
        for (_, connection) in &mut self.outlets.connections {
            if let Some(layers) = &mut connection.layers {
                layers.close_with(CloseCode::GOING_AWAY);
            }
        }
        self.broker.handle_drain(self.now, &mut self.outlets);
    }

    fn drain_is_over(&self) -> bool {
        self.now.monotonic_ms >= self.drained_at
    }

    /// Hands in what was written down, then sends the mail that may speak of it.
    fn send_mail(&mut self) {
        self.outlets.journal.hand_in();
        for (mail, mailbox) in self.outlets.mail.iter_mut().zip(self.mailboxes.iter()) {
            if !mail.is_empty() {
                // A waker fails only when its shard is gone, and then nobody waits for the mail.
                let _ = mailbox.send_mail(self.id, mail);
            }
        }
    }
}

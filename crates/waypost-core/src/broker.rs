//! The broker of one shard: what comes in, and who handles it.

use waypost_mqtt::{DecodeError, Packet};

use crate::counters::Counters;
use crate::effects::{ConnectionId, Effects, Frame, Now, Peer, ShardId};
use crate::limits::Limits;
use crate::mail::MailBatch;
use crate::permit::{Answer, Authenticate, Permit};

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
}

/// The broker of one shard. See the crate's documentation for the way in and out.
pub struct Broker {
    config: BrokerConfig,
    permit: Box<dyn Permit + Send>,
    authenticate: Box<dyn Authenticate + Send>,
    counters: Counters,
}

impl Broker {
    /// An empty broker.
    pub fn new(
        config: BrokerConfig,
        permit: Box<dyn Permit + Send>,
        authenticate: Box<dyn Authenticate + Send>,
    ) -> Self {
        Self {
            config,
            permit,
            authenticate,
            counters: Counters::default(),
        }
    }

    /// A connection was made.
    pub fn handle_open(
        &mut self,
        connection: ConnectionId,
        peer: Peer,
        now: Now,
        out: &mut impl Effects,
    ) {
        let _ = (connection, peer, now, out);
    }

    /// A whole packet came.
    pub fn handle_packet(
        &mut self,
        connection: ConnectionId,
        packet: &Packet<'_>,
        frame: Frame<'_>,
        now: Now,
        out: &mut impl Effects,
    ) {
        let _ = (connection, packet, frame, now, out);
    }

    /// Bytes came that are no packet. The connection will be closed.
    pub fn handle_malformed(
        &mut self,
        connection: ConnectionId,
        error: &DecodeError,
        now: Now,
        out: &mut impl Effects,
    ) {
        let _ = (connection, error, now, out);
    }

    /// The network failed, or the client closed without DISCONNECT.
    pub fn handle_closed(&mut self, connection: ConnectionId, now: Now, out: &mut impl Effects) {
        let _ = (connection, now, out);
    }

    /// An outbox that had been above half of `outbox_bytes_max` fell below a quarter: what waits is sent.
    pub fn handle_writable(&mut self, connection: ConnectionId, now: Now, out: &mut impl Effects) {
        let _ = (connection, now, out);
    }

    /// A batch came from another shard.
    pub fn handle_mail(
        &mut self,
        from: ShardId,
        batch: MailBatch,
        now: Now,
        out: &mut impl Effects,
    ) {
        let _ = (from, batch, now, out);
    }

    /// When [`Self::handle_timeout`] is to be called, on the monotonic clock; it may be called too often.
    pub fn next_timeout(&self) -> Option<u64> {
        None
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now, out: &mut impl Effects) {
        let _ = (now, out);
    }

    /// The server shuts down: every connection gets DISCONNECT 0x8B.
    pub fn handle_drain(&mut self, now: Now, out: &mut impl Effects) {
        let _ = (now, out);
    }

    /// The answer a parked connection waits for.
    pub fn handle_verdict(
        &mut self,
        connection: ConnectionId,
        answer: Answer,
        now: Now,
        out: &mut impl Effects,
    ) {
        let _ = (connection, answer, now, out);
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
        let _ = (topic, payload, retain, now, out);
    }

    /// What was counted since it was made.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Connections there are, those that have not sent CONNECT included.
    pub fn connections(&self) -> usize {
        0
    }

    /// Sessions there are, connected or not.
    pub fn sessions(&self) -> usize {
        0
    }

    /// Sessions with a connection.
    pub fn sessions_connected(&self) -> usize {
        0
    }

    /// Subscriptions of all sessions.
    pub fn subscriptions(&self) -> usize {
        0
    }

    /// Retained messages this shard owns.
    pub fn retained(&self) -> usize {
        0
    }

    /// Topics and payloads of these, in bytes.
    pub fn retained_bytes(&self) -> usize {
        0
    }
}

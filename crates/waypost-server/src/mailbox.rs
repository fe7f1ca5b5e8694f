//! How threads talk to a shard: one FIFO per shard, filled in batches, one wake per batch.
//!
//! Bounded by bytes: whoever fills a mailbox beyond its bound stops reading its own clients until
//! there is room again (`is_full`), so that nothing in flight between shards is ever dropped.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mio::Waker;
use waypost_core::journal::{MessageId, QueueId, QueueRead, Refusal, Stored, Ticket};
use waypost_core::stream::{ReaderId, StreamAnswer};
use waypost_core::{Answer, Authenticate, MailBatch, Permit, Policies, ShardId, Streams};

use crate::client_report::ClientQuestion;
use crate::door::entrance::Place;
use crate::socket::{Framing, Socket};
use crate::stream::tls::Tls;
use crate::transcode::{Codings, JobId, Worked};

/// What reaches a shard from outside its own loop.
pub(crate) enum Inbound {
    /// An accepted connection, from the listener.
    Handover(Handover),
    /// What another shard's core sent.
    Mail {
        /// The sending shard.
        from: ShardId,
        /// Its mail of one tick, in order.
        batch: MailBatch,
    },
    /// Messages of the server itself (`$SYS`), retained.
    System(Vec<(String, Vec<u8>)>),
    /// What the configuration says about topics from now on.
    Policies(Arc<Policies>, Arc<Codings>),
    /// What an operator wants to know of a client.
    Client(ClientQuestion),
    /// Other judges, for other rules.
    Rules(Box<dyn Permit + Send>, Box<dyn Authenticate + Send>),
    /// The answer that a parked connection waits for.
    Verdict(waypost_core::Ticket, Answer),
    /// How far the shard's transactions have come.
    Stored(Stored),
    /// Transactions, from the first to the last, that are not kept.
    NotStored {
        first: Ticket,
        last: Ticket,
        refusal: Refusal,
    },
    /// What a queue is owed, as it was asked for.
    QueueRead(QueueId, QueueRead),
    /// A message's content, as it was asked for; `None`: it is damaged, or gone.
    MessageRead(MessageId, Option<Arc<[u8]>>),
    /// What the configuration says of streams from now on.
    Streams(Arc<Streams>),
    /// The answer of a stream.
    StreamAnswer(ReaderId, StreamAnswer),
    /// What became of a payload that a worker had.
    Transcoded(JobId, Worked),
    /// Say goodbye to every client and end.
    Drain,
}

/// The most that may have been read beyond the handshakes.
pub(crate) const UNREAD_BYTES_MAX: usize = 16 * 1024;

/// An accepted connection on its way to its shard, after every handshake below MQTT.
pub(crate) struct Handover {
    /// The socket, non-blocking and registered nowhere.
    pub(crate) socket: Socket,
    /// Where it comes from; `None` through a Unix socket.
    pub(crate) peer: Option<SocketAddr>,
    /// The names of its verified certificate (`waypost_core::Peer::certificate`).
    pub(crate) certificate: Vec<String>,
    /// The TLS connection, its handshake done.
    pub(crate) tls: Option<Tls>,
    /// What MQTT's bytes are wrapped in, inside TLS.
    pub(crate) framing: Framing,
    /// What was read beyond the handshakes: decrypted, still framed; at most `UNREAD_BYTES_MAX`.
    /// What could not be decrypted yet is in `tls`.
    pub(crate) unread: Vec<u8>,
    /// Its place among the connections of the server.
    pub(crate) place: Place,
}

impl Handover {
    /// A connection that speaks MQTT from its first byte.
    pub(crate) fn plain(socket: Socket, peer: Option<SocketAddr>, place: Place) -> Self {
        Self {
            socket,
            peer,
            certificate: Vec::new(),
            tls: None,
            framing: Framing::Raw,
            unread: Vec::new(),
            place,
        }
    }
}

#[derive(Default)]
struct Queue {
    inbound: VecDeque<Inbound>,
    /// Batches that were read, for senders to fill again.
    spare: Vec<MailBatch>,
}

/// Batches kept to be filled again.
const SPARE_MAX: usize = 8;

/// The receiving end's queue; senders share it.
pub(crate) struct Mailbox {
    queue: Mutex<Queue>,
    waker: Waker,
    woken: AtomicBool,
    bytes: AtomicUsize,
    bytes_max: usize,
}

impl Mailbox {
    pub(crate) fn new(waker: Waker, bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::default(),
            waker,
            woken: AtomicBool::new(false),
            bytes: AtomicUsize::new(0),
            bytes_max,
        })
    }

    /// Adds everything in order and wakes the shard, once for all of it.
    pub(crate) fn send(&self, inbound: impl IntoIterator<Item = Inbound>) -> io::Result<()> {
        {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            for item in inbound {
                self.bytes.fetch_add(item.bytes(), Ordering::Relaxed);
                queue.inbound.push_back(item);
            }
        }
        self.wake()
    }

    /// Sends a shard's mail of one tick and leaves an empty batch in its place.
    pub(crate) fn send_mail(&self, from: ShardId, mail: &mut MailBatch) -> io::Result<()> {
        {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            self.bytes.fetch_add(mail.bytes(), Ordering::Relaxed);
            let spare = queue.spare.pop().unwrap_or_default();
            let batch = std::mem::replace(mail, spare);
            queue.inbound.push_back(Inbound::Mail { from, batch });
        }
        self.wake()
    }

    fn wake(&self) -> io::Result<()> {
        if self.woken.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.waker.wake()
    }

    /// Takes everything that has arrived; `into` is the empty queue to leave in its place, `spare` what was read of
    /// the batches before.
    pub(crate) fn take(&self, into: &mut VecDeque<Inbound>, spare: &mut Vec<MailBatch>) {
        self.woken.store(false, Ordering::Release);
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut queue.inbound, into);
        let room = SPARE_MAX.saturating_sub(queue.spare.len());
        queue.spare.extend(spare.drain(..).take(room));
        self.bytes.store(0, Ordering::Relaxed);
    }

    /// More waits here than the bound: senders should slow their clients.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.bytes_max
    }
}

impl Inbound {
    fn bytes(&self) -> usize {
        match self {
            Self::Mail { batch, .. } => batch.bytes(),
            Self::Handover(_)
            | Self::System(_)
            | Self::Policies(..)
            | Self::Client(_)
            | Self::Rules(..)
            | Self::Verdict(..)
            | Self::Stored(_)
            | Self::NotStored { .. }
            // What is read is bounded by what the shard asked for.
            | Self::QueueRead(..)
            | Self::MessageRead(..)
            | Self::Streams(..)
            | Self::StreamAnswer(..)
            // And what is transcoded by what may wait for it.
            | Self::Transcoded(..)
            | Self::Drain => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use mio::{Poll, Token};

    use super::*;

    #[test]
    fn batches_that_were_read_go_back_to_the_senders_up_to_a_bound() {
        let poll = Poll::new().unwrap();
        let waker = Waker::new(poll.registry(), Token(0)).unwrap();
        let mailbox = Mailbox::new(waker, 1);
        let (mut inbound, mut mail) = (VecDeque::new(), MailBatch::default());
        for read in [0, SPARE_MAX, SPARE_MAX + 1, 2 * SPARE_MAX] {
            let mut spare: Vec<_> = (0..read).map(|_| MailBatch::default()).collect();
            mailbox.take(&mut inbound, &mut spare);
            inbound.clear();
            assert!(spare.is_empty());
            let spares = || mailbox.queue.lock().unwrap().spare.len();
            assert_eq!(spares(), read.min(SPARE_MAX));
            for sent in 1..=SPARE_MAX {
                mailbox.send_mail(ShardId(1), &mut mail).unwrap();
                assert_eq!(spares(), read.min(SPARE_MAX).saturating_sub(sent));
            }
            mailbox.take(&mut inbound, &mut spare);
            assert_eq!(inbound.drain(..).len(), SPARE_MAX);
        }
    }
}

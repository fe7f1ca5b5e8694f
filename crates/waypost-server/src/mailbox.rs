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
use mio::net::TcpStream;
use waypost_core::{MailBatch, ShardId};

use crate::client_report::ClientQuestion;
use crate::listener::Place;

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
    /// What an operator wants to know of a client.
    Client(ClientQuestion),
    /// Say goodbye to every client and end.
    Drain,
}

/// An accepted connection on its way to its shard.
pub(crate) struct Handover {
    /// The socket, non-blocking and not registered yet.
    pub(crate) socket: TcpStream,
    /// Where it comes from.
    pub(crate) peer: SocketAddr,
    /// Its place among the connections of the server.
    pub(crate) place: Place,
}

/// The receiving end's queue; senders share it.
pub(crate) struct Mailbox {
    queue: Mutex<VecDeque<Inbound>>,
    waker: Waker,
    woken: AtomicBool,
    bytes: AtomicUsize,
    bytes_max: usize,
}

impl Mailbox {
    pub(crate) fn new(waker: Waker, bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::new(VecDeque::new()),
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
                queue.push_back(item);
            }
        }
        if self.woken.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.waker.wake()
    }

    /// Takes everything that has arrived; `into` is the empty queue to leave in its place.
    pub(crate) fn take(&self, into: &mut VecDeque<Inbound>) {
        self.woken.store(false, Ordering::Release);
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *queue, into);
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
            Self::Handover(_) | Self::System(_) | Self::Client(_) | Self::Drain => 0,
        }
    }
}

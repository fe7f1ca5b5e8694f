//! Accepting TCP connections, on a thread of its own, and handing them to the shards in turn.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mio::{Events, Interest, Poll, Token, Waker};

use crate::mailbox::{Handover, Inbound, Mailbox};
use crate::metrics::Stats;
use crate::socket::Socket;

/// The waker's token; listeners have theirs from 0 up.
const WAKER: Token = Token(usize::MAX);
/// Connections accepted before the shards are told, so that a storm costs few wakes, and before it
/// is looked whether to stop.
const ACCEPT_BATCH: usize = 64;
/// How long accepting pauses when it fails: the process or the system has no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// The accepting side before its thread runs.
pub(crate) struct Listener {
    poll: Poll,
    sockets: Vec<mio::net::TcpListener>,
    mailboxes: Arc<[Arc<Mailbox>]>,
    next_shard: usize,
    connections_max: usize,
    connections: Arc<AtomicUsize>,
    stats: Arc<Stats>,
}

/// One connection's place among the `limits.connections_max` of the server, free again when this is
/// dropped.
pub(crate) struct Place(Arc<AtomicUsize>);

impl Place {
    /// `None`: all `places` are taken.
    pub(crate) fn take(taken: &Arc<AtomicUsize>, places: usize) -> Option<Self> {
        // Only the listener takes places, so none is taken between the look and the addition.
        if taken.load(Ordering::Relaxed) >= places {
            return None;
        }
        taken.fetch_add(1, Ordering::Relaxed);
        Some(Self(Arc::clone(taken)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Stops a running listener.
pub(crate) struct StopListener(Waker);

impl StopListener {
    pub(crate) fn stop(&self) -> io::Result<()> {
        self.0.wake()
    }
}

impl Listener {
    pub(crate) fn new(
        sockets: Vec<TcpListener>,
        mailboxes: Arc<[Arc<Mailbox>]>,
        connections_max: usize,
        stats: Arc<Stats>,
    ) -> io::Result<(Self, StopListener)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let mut registered = Vec::with_capacity(sockets.len());
        for (index, socket) in sockets.into_iter().enumerate() {
            socket.set_nonblocking(true)?;
            let mut socket = mio::net::TcpListener::from_std(socket);
            poll.registry()
                .register(&mut socket, Token(index), Interest::READABLE)?;
            registered.push(socket);
        }
        let listener = Self {
            poll,
            sockets: registered,
            mailboxes,
            next_shard: 0,
            connections_max,
            connections: Arc::default(),
            stats,
        };
        Ok((listener, StopListener(waker)))
    }

    /// Accepts until it is stopped. An error is one of the poller, never of a connection.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(16);
        let mut timeout = None;
        loop {
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            if events.iter().any(|event| event.token() == WAKER) {
                return Ok(());
            }
            // Readiness is told once, so every listener is tried until nothing waits there.
            timeout = (0..self.sockets.len())
                .filter_map(|index| self.accept_some(index))
                .min();
        }
    }

    /// Accepts some of what waits. Returns when to go on; `None` = when somebody else comes.
    fn accept_some(&mut self, index: usize) -> Option<Duration> {
        let mut batches: Vec<Vec<Inbound>> = Vec::new();
        batches.resize_with(self.mailboxes.len(), Vec::new);
        let end = self.accept_batch(index, &mut batches);
        for (batch, mailbox) in batches.into_iter().zip(self.mailboxes.iter()) {
            if !batch.is_empty() {
                // A waker fails only when its shard is gone: the connections close with it.
                let _ = mailbox.send(batch);
            }
        }
        match end {
            BatchEnd::More => Some(Duration::ZERO),
            BatchEnd::Empty => None,
            BatchEnd::Failed => {
                self.stats
                    .server
                    .accept_errors
                    .fetch_add(1, Ordering::Relaxed);
                Some(PAUSE)
            }
        }
    }

    fn accept_batch(&mut self, index: usize, batches: &mut [Vec<Inbound>]) -> BatchEnd {
        for _ in 0..ACCEPT_BATCH {
            let Some(listener) = self.sockets.get(index) else {
                return BatchEnd::Empty;
            };
            let (socket, peer) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return BatchEnd::Empty,
                Err(error) if is_of_one_connection(&error) => continue,
                Err(_) => return BatchEnd::Failed,
            };
            let Some(place) = Place::take(&self.connections, self.connections_max) else {
                self.stats
                    .server
                    .accepts_refused
                    .fetch_add(1, Ordering::Relaxed);
                continue;
            };
            self.stats.server.accepts.fetch_add(1, Ordering::Relaxed);
            // Small packets must not wait for a full segment; the shard writes once per tick anyway.
            // A socket that refuses the option is closed already and the shard will find out.
            let _ = socket.set_nodelay(true);
            let handover = Handover::plain(Socket::Tcp(socket), Some(peer), place);
            self.hand_over(handover, batches);
        }
        BatchEnd::More
    }

    fn hand_over(&mut self, handover: Handover, batches: &mut [Vec<Inbound>]) {
        let shard = self.next_shard % self.mailboxes.len().max(1);
        self.next_shard = self.next_shard.wrapping_add(1);
        if let Some(batch) = batches.get_mut(shard) {
            batch.push(Inbound::Handover(handover));
        }
    }
}

enum BatchEnd {
    More,
    Empty,
    /// What waits stays in the backlog and can be accepted later: there is no descriptor for it now,
    /// or the system has another reason that does not go away by trying again at once.
    Failed,
}

/// Whether the error is that of a connection that was gone before it was accepted; the next one may
/// be well.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
    )
}

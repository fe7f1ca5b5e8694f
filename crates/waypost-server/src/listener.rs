//! Accepting TCP connections, on a thread of its own, and handing them to the shards in turn.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token, Waker};

use crate::mailbox::{Handover, Inbound, Mailbox};
use crate::metrics::Stats;

/// The waker's token; listeners have theirs from 0 up.
const WAKER: Token = Token(usize::MAX);
/// Connections accepted before the shards are told, so that a storm costs few wakes.
const ACCEPT_BATCH: usize = 64;
/// How long accepting pauses when the process or the system has no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// The accepting side before its thread runs.
pub(crate) struct Listener {
    poll: Poll,
    sockets: Vec<mio::net::TcpListener>,
    mailboxes: Arc<[Arc<Mailbox>]>,
    next_shard: usize,
    connections_max: usize,
    stats: Arc<Stats>,
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
            stats,
        };
        Ok((listener, StopListener(waker)))
    }

    /// Accepts until it is stopped. An error is one of the poller, never of a connection.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(16);
        let mut paused = false;
        loop {
            let timeout = paused.then_some(PAUSE);
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            if events.iter().any(|event| event.token() == WAKER) {
                return Ok(());
            }
            // Readiness is told once, so after a pause every listener is tried.
            paused = false;
            for index in 0..self.sockets.len() {
                paused |= self.accept_all(index);
            }
        }
    }

    /// Accepts what waits. True: there is more, but no descriptor for it now.
    fn accept_all(&mut self, index: usize) -> bool {
        loop {
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
                BatchEnd::More => {}
                BatchEnd::Empty => return false,
                BatchEnd::Exhausted => {
                    self.stats
                        .server
                        .accept_errors
                        .fetch_add(1, Ordering::Relaxed);
                    return true;
                }
            }
        }
    }

    fn accept_batch(&mut self, index: usize, batches: &mut [Vec<Inbound>]) -> BatchEnd {
        let mut open = self.open_connections();
        for _ in 0..ACCEPT_BATCH {
            let Some(listener) = self.sockets.get(index) else {
                return BatchEnd::Empty;
            };
            let (socket, peer) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return BatchEnd::Empty,
                Err(error) if is_exhaustion(&error) => return BatchEnd::Exhausted,
                // The connection was gone before it was accepted.
                Err(_) => continue,
            };
            if open >= self.connections_max as u64 {
                self.stats
                    .server
                    .accepts_refused
                    .fetch_add(1, Ordering::Relaxed);
                continue;
            }
            open += 1;
            self.stats.server.accepts.fetch_add(1, Ordering::Relaxed);
            self.hand_over(socket, peer, batches);
        }
        BatchEnd::More
    }

    /// Connections the shards have, and those on their way there.
    fn open_connections(&self) -> u64 {
        let totals = self.stats.totals();
        let accepted = self.stats.server.accepts.load(Ordering::Relaxed);
        let on_the_way = accepted.saturating_sub(totals.core.connections_opened);
        totals.gauges.connections + on_the_way
    }

    fn hand_over(
        &mut self,
        socket: mio::net::TcpStream,
        peer: SocketAddr,
        batches: &mut [Vec<Inbound>],
    ) {
        // Small packets must not wait for a full segment; the shard writes once per tick anyway.
        // A socket that refuses the option is closed already and the shard will find out.
        let _ = socket.set_nodelay(true);
        let shard = self.next_shard % self.mailboxes.len().max(1);
        self.next_shard = self.next_shard.wrapping_add(1);
        if let Some(batch) = batches.get_mut(shard) {
            batch.push(Inbound::Handover(Handover { socket, peer }));
        }
    }
}

enum BatchEnd {
    More,
    Empty,
    Exhausted,
}

/// EMFILE, ENFILE, ENOBUFS, ENOMEM: the connection stays in the backlog and can be accepted later.
fn is_exhaustion(error: &io::Error) -> bool {
    const ENOMEM: i32 = 12;
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = 105;
    matches!(
        error.raw_os_error(),
        Some(ENOMEM | ENFILE | EMFILE | ENOBUFS)
    )
}

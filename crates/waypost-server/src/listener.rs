//! Accepting connections, on a thread of its own: to a shard where MQTT begins at once, to a porter where handshakes come
//! first.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::{Events, Poll, Token, Waker};

use crate::door::Door;
use crate::door::entrance::Entrance;
use crate::door::gate::Gate;
use crate::door::porter::{Arrival, Handshakes, PorterInbox};
use crate::mailbox::Handover;
use crate::metrics::Stats;

/// The waker's token; gates have theirs from 0 up.
const WAKER: Token = Token(usize::MAX);
/// Connections accepted before the shards are told, so that a storm costs few wakes, and before it
/// is looked whether to stop.
const ACCEPT_BATCH: usize = 64;
/// How nice the listener's thread is: those who are there come before those who come.
const NICENESS: i32 = 15;
/// How long accepting pauses when it fails: the process or the system has no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// The accepting side before its thread runs.
pub(crate) struct Listener {
    poll: Poll,
    gates: Vec<(Gate, Arc<Door>)>,
    entrance: Arc<Entrance>,
    handshakes: Arc<Handshakes>,
    porters: Arc<[Arc<PorterInbox>]>,
    next_porter: usize,
    is_stopped: Arc<AtomicBool>,
    stats: Arc<Stats>,
}

/// Stops a running listener.
pub(crate) struct StopListener {
    is_stopped: Arc<AtomicBool>,
    waker: Arc<Waker>,
}

impl StopListener {
    pub(crate) fn stop(&self) -> io::Result<()> {
        self.is_stopped.store(true, Ordering::Release);
        self.waker.wake()
    }
}

/// What a listener is made of besides its gates.
pub(crate) struct ListenerPort {
    poll: Poll,
    waker: Arc<Waker>,
}

impl ListenerPort {
    pub(crate) fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        Ok(Self { poll, waker })
    }

    /// What makes the listener look again who waits.
    pub(crate) fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }
}

impl Listener {
    pub(crate) fn new(
        port: ListenerPort,
        gates: Vec<(Gate, Arc<Door>)>,
        entrance: Arc<Entrance>,
        handshakes: Arc<Handshakes>,
        porters: Arc<[Arc<PorterInbox>]>,
        stats: Arc<Stats>,
    ) -> io::Result<(Self, StopListener)> {
        let mut gates = gates;
        for (index, (gate, _)) in gates.iter_mut().enumerate() {
            gate.register(port.poll.registry(), Token(index))?;
        }
        let is_stopped = Arc::new(AtomicBool::new(false));
        let stop = StopListener {
            is_stopped: Arc::clone(&is_stopped),
            waker: port.waker,
        };
        let listener = Self {
            poll: port.poll,
            gates,
            entrance,
            handshakes,
            porters,
            next_porter: 0,
            is_stopped,
            stats,
        };
        Ok((listener, stop))
    }

    /// Accepts until it is stopped. An error is one of the poller, never of a connection.
    pub(crate) fn run(mut self) -> io::Result<()> {
        // On Linux this is the calling thread's own priority, not the process's.
        if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
            log::warn!("the listener's thread keeps its priority: {error}");
        }
        let mut events = Events::with_capacity(16);
        let mut timeout = None;
        loop {
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            if self.is_stopped.load(Ordering::Acquire) {
                return Ok(());
            }
            // Readiness is told once, so every gate is tried until nothing waits there.
            timeout = (0..self.gates.len())
                .filter_map(|index| self.accept_some(index))
                .min();
        }
    }

    /// Accepts some of what waits. Returns when to go on; `None` = when somebody else comes, or the waker says so.
    fn accept_some(&mut self, index: usize) -> Option<Duration> {
        let mut handovers = Vec::new();
        let mut arrivals = Vec::new();
        let end = self.accept_batch(index, &mut handovers, &mut arrivals);
        if !handovers.is_empty() {
            self.entrance.admit(handovers);
        }
        if !arrivals.is_empty() {
            self.next_porter = self.next_porter.wrapping_add(1);
            let porter = self.next_porter % self.porters.len().max(1);
            if let Some(porter) = self.porters.get(porter) {
                porter.send(arrivals);
            }
        }
        let counts = &self.stats.server;
        match end {
            BatchEnd::More => Some(Duration::ZERO),
            BatchEnd::Empty => None,
            BatchEnd::NoPlace => {
                counts.accepts_paused.fetch_add(1, Ordering::Relaxed);
                None
            }
            BatchEnd::Failed => {
                counts.accept_errors.fetch_add(1, Ordering::Relaxed);
                Some(PAUSE)
            }
        }
    }

    fn accept_batch(
        &self,
        index: usize,
        handovers: &mut Vec<Handover>,
        arrivals: &mut Vec<Arrival>,
    ) -> BatchEnd {
        let Some((gate, door)) = self.gates.get(index) else {
            return BatchEnd::Empty;
        };
        let may_have_handshake = door.may_have_handshake();
        for _ in 0..ACCEPT_BATCH {
            if may_have_handshake && !self.handshakes.has_place() {
                return BatchEnd::NoPlace;
            }
            let (socket, peer) = match gate.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return BatchEnd::Empty,
                Err(error) if is_of_one_connection(&error) => continue,
                Err(_) => return BatchEnd::Failed,
            };
            let Some(place) = self.entrance.place() else {
                self.stats
                    .server
                    .accepts_refused
                    .fetch_add(1, Ordering::Relaxed);
                continue;
            };
            self.stats.server.accepts.fetch_add(1, Ordering::Relaxed);
            if may_have_handshake && door.has_handshake(peer) {
                arrivals.push(Arrival::new(socket, peer, place, door, &self.handshakes));
            } else {
                handovers.push(Handover::plain(socket, peer, place));
            }
        }
        BatchEnd::More
    }
}

enum BatchEnd {
    More,
    Empty,
    /// As many handshakes as may be are on their way; who ends one wakes us.
    NoPlace,
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

//! The porter: threads that do the handshakes below MQTT, so that no shard's clients wait for them.
//!
//! They run at the lowest priority and hold at most `limits.handshakes_max` connections together. When that many are on
//! their way the listener leaves the others in the kernel's backlog, where they lose nothing but time; each is closed when
//! `limits.handshake_timeout` is over, so that clients who never finish cost places for a bounded time.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token, Waker};
use slab::Slab;

use super::Door;
use super::entrance::{Entrance, Place};
use super::handshake::{Buffers, Failure, Handshake, Progress};
use crate::metrics::Stats;
use crate::socket::Socket;

/// The waker's token; handshakes have theirs from 0 up.
const WAKER: Token = Token(usize::MAX);
/// Handshakes that go a step before the shards get those that are done: a step of TLS takes up to a millisecond.
const STEPS_PER_TURN: usize = 32;
/// How nice a porter's thread is: shards come first, and everything else of the server too.
const NICENESS: i32 = 19;
/// How long a refused client has to read why.
const GOODBYE: Duration = Duration::from_secs(1);

/// The places of all handshakes together.
pub(crate) struct Handshakes {
    open: AtomicUsize,
    max: usize,
    /// The listener left somebody waiting for a place.
    is_waited_for: AtomicBool,
    /// Wakes the listener.
    waker: Arc<Waker>,
    stats: Arc<Stats>,
}

impl Handshakes {
    pub(crate) fn new(max: usize, waker: Arc<Waker>, stats: Arc<Stats>) -> Arc<Self> {
        Arc::new(Self {
            open: AtomicUsize::new(0),
            max,
            is_waited_for: AtomicBool::new(false),
            waker,
            stats,
        })
    }

    /// Whether there is a place. If not, the waker is woken when there is one again.
    pub(crate) fn has_place(&self) -> bool {
        if self.open.load(Ordering::SeqCst) < self.max {
            return true;
        }
        self.is_waited_for.store(true, Ordering::SeqCst);
        // One that ended in between saw nobody waiting.
        self.open.load(Ordering::SeqCst) < self.max
    }

    fn take(self: &Arc<Self>) -> HandshakePlace {
        self.tell(self.open.fetch_add(1, Ordering::SeqCst) + 1);
        HandshakePlace(Arc::clone(self))
    }

    fn tell(&self, open: usize) {
        let gauge = &self.stats.server.handshakes_open;
        gauge.store(open as u64, Ordering::Relaxed);
    }
}

/// One of the places of [`Handshakes`], free again when this is dropped.
struct HandshakePlace(Arc<Handshakes>);

impl Drop for HandshakePlace {
    fn drop(&mut self) {
        let handshakes = &self.0;
        let left = handshakes.open.fetch_sub(1, Ordering::SeqCst) - 1;
        handshakes.tell(left);
        if handshakes.is_waited_for.swap(false, Ordering::SeqCst) {
            // It fails only when the listener is gone.
            let _ = handshakes.waker.wake();
        }
    }
}

/// A connection that was accepted and has its handshakes before it.
pub(crate) struct Arrival {
    handshake: Handshake,
    place: HandshakePlace,
}

impl Arrival {
    pub(crate) fn new(
        socket: Socket,
        peer: Option<SocketAddr>,
        place: Place,
        door: &Arc<Door>,
        handshakes: &Arc<Handshakes>,
    ) -> Self {
        Self {
            handshake: Handshake::new(socket, peer, place, Arc::clone(door)),
            place: handshakes.take(),
        }
    }
}

/// The end of a porter that other threads hold. What waits in it is bounded by [`Handshakes`].
pub(crate) struct PorterInbox {
    arrivals: Mutex<Vec<Arrival>>,
    is_stopped: AtomicBool,
    waker: Waker,
}

impl PorterInbox {
    pub(crate) fn send(&self, arrivals: Vec<Arrival>) {
        let mut waiting = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.extend(arrivals);
        drop(waiting);
        // It fails only when the porter is gone: the connections close with it.
        let _ = self.waker.wake();
    }

    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        let _ = self.waker.wake();
    }
}

/// One porter before its thread runs.
pub(crate) struct Porter {
    poll: Poll,
    inbox: Arc<PorterInbox>,
    entrance: Arc<Entrance>,
    stats: Arc<Stats>,
    timeout: Duration,
    open: Slab<Open>,
    deadlines: BTreeSet<(Instant, usize)>,
    done: Vec<Handshake>,
    buffers: Buffers,
}

struct Open {
    handshake: Handshake,
    _place: HandshakePlace,
    deadline: Instant,
    is_registered: bool,
}

impl Porter {
    pub(crate) fn new(
        entrance: Arc<Entrance>,
        stats: Arc<Stats>,
        timeout: Duration,
    ) -> io::Result<(Self, Arc<PorterInbox>)> {
        let poll = Poll::new()?;
        let inbox = Arc::new(PorterInbox {
            arrivals: Mutex::default(),
            is_stopped: AtomicBool::new(false),
            waker: Waker::new(poll.registry(), WAKER)?,
        });
        let porter = Self {
            poll,
            inbox: Arc::clone(&inbox),
            entrance,
            stats,
            timeout,
            open: Slab::new(),
            deadlines: BTreeSet::new(),
            done: Vec::new(),
            buffers: Buffers::default(),
        };
        Ok((porter, inbox))
    }

    /// Works until it is stopped; those whose handshakes are not done then are closed. An error is one of the poller,
    /// never of a connection.
    pub(crate) fn run(mut self) -> io::Result<()> {
        // On Linux this is the calling thread's own priority, not the process's.
        if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
            log::warn!("a porter's thread keeps its priority: {error}");
        }
        let mut events = Events::with_capacity(STEPS_PER_TURN);
        loop {
            match self.poll.poll(&mut events, self.patience()) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            if self.inbox.is_stopped.load(Ordering::Acquire) {
                return Ok(());
            }
            for event in &events {
                if event.token() != WAKER {
                    self.advance(event.token().0);
                }
            }
            self.admit();
            self.receive();
            self.close_late();
            self.admit();
        }
    }

    fn patience(&self) -> Option<Duration> {
        let (first, _) = self.deadlines.first()?;
        // Rounded up, or the poller would wake a moment too early again and again.
        Some(first.saturating_duration_since(Instant::now()) + Duration::from_millis(1))
    }

    fn receive(&mut self) {
        let arrivals = {
            let mut arrivals = self
                .inbox
                .arrivals
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *arrivals)
        };
        let deadline = Instant::now() + self.timeout;
        for (count, arrival) in arrivals.into_iter().enumerate() {
            let key = self.open.insert(Open {
                handshake: arrival.handshake,
                _place: arrival.place,
                deadline,
                is_registered: false,
            });
            self.deadlines.insert((deadline, key));
            self.stats.server.handshakes.fetch_add(1, Ordering::Relaxed);
            self.advance(key);
            if count % STEPS_PER_TURN == STEPS_PER_TURN - 1 {
                self.admit();
            }
        }
    }

    fn advance(&mut self, key: usize) {
        let Some(open) = self.open.get_mut(key) else {
            return;
        };
        match open.handshake.advance(&mut self.buffers) {
            Progress::Waiting => self.wait_for(key),
            Progress::Refused(failure) => {
                self.count(key, &failure);
                self.say_goodbye(key);
            }
            Progress::Over => drop(self.remove(key)),
            Progress::Done => {
                let Some(mut done) = self.remove(key) else {
                    return;
                };
                if done.is_registered {
                    done.handshake.deregister(self.poll.registry());
                }
                if done.handshake.is_resumed() {
                    let resumed = &self.stats.server.handshakes_resumed;
                    resumed.fetch_add(1, Ordering::Relaxed);
                }
                self.done.push(done.handshake);
            }
        }
    }

    fn wait_for(&mut self, key: usize) {
        let Some(open) = self.open.get_mut(key) else {
            return;
        };
        if open.is_registered {
            return;
        }
        // Registering tells what is ready already, so nothing is missed for having looked first.
        open.is_registered = true;
        if open
            .handshake
            .register(self.poll.registry(), Token(key))
            .is_err()
        {
            drop(self.remove(key));
        }
    }

    /// Leaves a refused connection open for as long as it takes to read why.
    fn say_goodbye(&mut self, key: usize) {
        let Some(open) = self.open.get_mut(key) else {
            return;
        };
        self.deadlines.remove(&(open.deadline, key));
        open.deadline = open.deadline.min(Instant::now() + GOODBYE);
        self.deadlines.insert((open.deadline, key));
        match open.handshake.advance(&mut self.buffers) {
            Progress::Waiting => self.wait_for(key),
            _ => drop(self.remove(key)),
        }
    }

    fn close_late(&mut self) {
        let now = Instant::now();
        while let Some(&(deadline, key)) = self.deadlines.first()
            && deadline <= now
        {
            self.deadlines.pop_first();
            if self
                .open
                .get(key)
                .is_some_and(|open| !open.handshake.is_refused())
            {
                self.count(key, &Failure::TimedOut);
            }
            drop(self.remove(key));
        }
    }

    fn remove(&mut self, key: usize) -> Option<Open> {
        let open = self.open.try_remove(key)?;
        self.deadlines.remove(&(open.deadline, key));
        Some(open)
    }

    /// Hands to the shards whoever is done.
    fn admit(&mut self) {
        if self.done.is_empty() {
            return;
        }
        self.entrance
            .admit(self.done.drain(..).map(Handshake::into_handover));
    }

    fn count(&self, key: usize, failure: &Failure) {
        let counts = &self.stats.server;
        let (count, why) = match failure {
            Failure::Gone => (&counts.handshakes_gone, "the client left".to_owned()),
            Failure::Proxy(why) => (&counts.handshakes_failed_proxy, why.to_string()),
            Failure::Tls(why) => (&counts.handshakes_failed_tls, why.to_string()),
            Failure::Certificate(why) => (&counts.handshakes_failed_certificate, why.to_string()),
            Failure::Upgrade(status, why) => (
                &counts.handshakes_failed_upgrade,
                format!("{status}, {why}"),
            ),
            Failure::TooMuch => (
                &counts.handshakes_failed_upgrade,
                "it said too much at once".to_owned(),
            ),
            Failure::TimedOut => (&counts.handshakes_timed_out, "it took too long".to_owned()),
        };
        count.fetch_add(1, Ordering::Relaxed);
        let Some(open) = self.open.get(key) else {
            return;
        };
        let (door, peer) = (open.handshake.door(), open.handshake.peer());
        // A proxy that speaks another version is a mistake of the operator's; the rest is the clients' business.
        let level = match failure {
            Failure::Proxy(_) => log::Level::Warn,
            _ => log::Level::Debug,
        };
        log::log!(level, "{door}: the handshake of {peer} failed: {why}");
    }
}

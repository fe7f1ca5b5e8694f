//! The task that moves bytes between a client's state and its socket, connection after connection.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::Interest;

use crate::core::Core;
use crate::door::wire::Wire;
use crate::door::{Address, Door, DoorError};
use crate::protocol::event::Closed;
use crate::shared::Shared;
use crate::socket::Socket;

/// Bytes read at a time, by all clients of a thread into one buffer: an idle one owns none.
const READ_BYTES: usize = 64 * 1024;
/// Reads from one connection before others have their turn.
const READS_PER_TURN: usize = 16;
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Without a timer of the protocol the task looks around so often.
const TICK_MAX: Duration = Duration::from_hours(1);

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// The way to a server: a door, and the name that is looked up for each connection anew, if it has one.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    pub(crate) door: Door,
    pub(crate) name: Option<(String, u16)>,
}

impl Way {
    /// A socket to the first address that answers.
    async fn connect(&self) -> Result<Socket, Closed> {
        let attempt = async {
            let Some((host, port)) = &self.name else {
                return Socket::connect(&self.door.address).await;
            };
            let mut outcome = Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the name has no address",
            ));
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), *port))
                .await?
                .collect();
            for address in addresses {
                outcome = Socket::connect(&Address::Tcp(address)).await;
                if outcome.is_ok() {
                    break;
                }
            }
            outcome
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, attempt).await {
            Ok(outcome) => outcome.map_err(Closed::Unreachable),
            Err(_) => Err(Closed::Silent("CONNECT")),
        }
    }
}

/// Keeps a client connected until it has ended.
pub(crate) async fn run(shared: Arc<Shared>, way: Way) {
    loop {
        let why = connection(&shared, &way).await;
        let again_in = shared.with(|core| core.on_closed(why, Instant::now()));
        let Some(delay) = again_in else { return };
        let due = tokio::time::Instant::now() + delay;
        while !shared.with(|core| core.is_ended()) {
            tokio::select! {
                () = tokio::time::sleep_until(due) => break,
                () = shared.driver.notified() => {}
            }
        }
        if shared.with(|core| core.is_ended()) {
            return;
        }
    }
}

async fn connection(shared: &Shared, way: &Way) -> Closed {
    let socket = tokio::select! {
        socket = way.connect() => match socket {
            Ok(socket) => socket,
            Err(why) => return why,
        },
        () = ended(shared) => return Closed::Finished,
    };
    let wire = match Wire::new(&way.door) {
        Ok(wire) => wire,
        Err(error) => return Closed::Door(error),
    };
    let mut connection = Connection {
        shared,
        socket,
        wire,
        inbox: Vec::new(),
        unwrapped: Vec::new(),
        is_shut: false,
        is_write_closed: false,
    };
    shared.with(|core| core.begin(Instant::now()));
    let why = connection.run().await;
    if let Some(wire) = &connection.wire {
        // Such as the alert that says what was wrong with the server's certificate.
        let _ = connection.socket.try_write(wire.pending());
    }
    why
}

/// Waits until the client is given up.
async fn ended(shared: &Shared) {
    while !shared.with(|core| core.is_ended()) {
        shared.driver.notified().await;
    }
}

struct Connection<'a> {
    shared: &'a Shared,
    socket: Socket,
    /// What lies between the socket and MQTT, if anything.
    wire: Option<Box<Wire>>,
    /// The beginning of a packet whose end has not come, or packets there is no room for.
    inbox: Vec<u8>,
    /// What one read of a wire had inside.
    unwrapped: Vec<u8>,
    /// Everything is written after DISCONNECT; the server closes next.
    is_shut: bool,
    /// The socket takes nothing any more; what the server said before it closed is still to be read.
    is_write_closed: bool,
}

/// What a connection waits for.
struct Wait {
    interest: Option<Interest>,
    until: Instant,
    shut: bool,
}

impl Connection<'_> {
    async fn run(&mut self) -> Closed {
        let timer = tokio::time::sleep(TICK_MAX);
        tokio::pin!(timer);
        loop {
            let shared = self.shared;
            let wait = match shared.with(|core| self.work(core)) {
                Ok(wait) => wait,
                Err(why) => return why,
            };
            if wait.shut {
                self.is_shut = true;
                if self.socket.shutdown_write().await.is_err() {
                    self.is_write_closed = true;
                }
                continue;
            }
            // An earlier timer than needed does no harm, a timer set anew for each packet does.
            let until = tokio::time::Instant::from_std(wait.until);
            if until < timer.deadline() || timer.is_elapsed() {
                timer.as_mut().reset(until);
            }
            let ready = async {
                match wait.interest {
                    Some(interest) => self.socket.ready(interest).await,
                    None => std::future::pending().await,
                }
            };
            let is_ready = tokio::select! {
                ready = ready => {
                    if let Err(error) = ready {
                        return self.ended(shared, error);
                    }
                    true
                }
                () = shared.driver.notified() => false,
                () = &mut timer => {
                    let now = Instant::now();
                    if let Err(why) = shared.with(|core| core.handle_timeout(now)) {
                        return self.silent(why);
                    }
                    timer.as_mut().reset(tokio::time::Instant::from_std(now + TICK_MAX));
                    false
                }
            };
            if is_ready
                && wait.interest.is_some_and(Interest::is_readable)
                && let Err(why) = self.read()
            {
                return why;
            }
        }
    }

    /// Takes what waited for room, writes what is to be written; says what to wait for.
    fn work(&mut self, core: &mut Core) -> Result<Wait, Closed> {
        let now = Instant::now();
        if !self.inbox.is_empty() && !core.is_full() {
            let taken = core.handle_bytes(&self.inbox, now)?;
            self.inbox.drain(..taken);
            self.shrink();
        }
        let is_pending = !self.is_write_closed && self.write(core, now)?;
        let is_closing = core.session().is_none_or(|session| session.is_closing());
        let is_all_written = !is_pending
            && core
                .session()
                .is_none_or(|session| session.outbox().is_empty())
            && self.wire.as_ref().is_none_or(|wire| wire.is_closed());
        let is_reading = !core.is_full() || is_closing;
        let interest = match (is_reading, is_pending) {
            (true, true) => Some(Interest::READABLE | Interest::WRITABLE),
            (true, false) => Some(Interest::READABLE),
            (false, true) => Some(Interest::WRITABLE),
            (false, false) => None,
        };
        let until = core.next_timeout().unwrap_or(now + TICK_MAX);
        Ok(Wait {
            interest,
            until: until.min(now + TICK_MAX),
            shut: is_closing && is_all_written && !self.is_shut,
        })
    }

    /// Writes what the socket takes; true: there is more.
    fn write(&mut self, core: &mut Core, now: Instant) -> Result<bool, Closed> {
        loop {
            let Some(session) = core.session() else {
                return Ok(false);
            };
            let bytes = match &mut self.wire {
                None => session.outbox(),
                Some(wire) => {
                    if wire.pending().is_empty() && wire.is_open() {
                        wire.wrap(session.outbox()).map_err(Closed::Door)?;
                    }
                    if wire.pending().is_empty() && session.is_closing() {
                        wire.close().map_err(Closed::Door)?;
                    }
                    wire.pending()
                }
            };
            if bytes.is_empty() {
                return Ok(false);
            }
            match self.socket.try_write(bytes) {
                Ok(count) => {
                    let count = match &mut self.wire {
                        None => count,
                        Some(wire) => wire.on_written(count),
                    };
                    if count > 0 {
                        core.on_written(count, now);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.is_write_closed = true;
                    return Ok(false);
                }
            }
        }
    }

    fn read(&mut self) -> Result<(), Closed> {
        let shared = self.shared;
        BUFFER.with_borrow_mut(|buffer| {
            for _ in 0..READS_PER_TURN {
                let count = match self.socket.try_read(buffer) {
                    Ok(0) => {
                        let error = io::ErrorKind::UnexpectedEof.into();
                        return Err(self.ended(shared, error));
                    }
                    Ok(count) => count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(self.ended(shared, error)),
                };
                let bytes = buffer.get(..count).unwrap_or_default();
                let is_full = self.take(bytes)?;
                if is_full || count < READ_BYTES {
                    return Ok(());
                }
            }
            Ok(())
        })
    }

    /// Takes bytes of the socket; true: there is no room for more.
    fn take(&mut self, bytes: &[u8]) -> Result<bool, Closed> {
        let shared = self.shared;
        let now = Instant::now();
        let Some(wire) = &mut self.wire else {
            return shared.with(|core| self.receive(core, bytes, now));
        };
        let mut unwrapped = std::mem::take(&mut self.unwrapped);
        let ended = wire.receive(bytes, &mut unwrapped);
        // What came before the end, or before what was wrong, comes first.
        let is_full = shared.with(|core| self.receive(core, &unwrapped, now));
        unwrapped.clear();
        self.unwrapped = unwrapped;
        let is_full = is_full?;
        match ended {
            Ok(None) => Ok(is_full),
            Ok(Some(text)) => Err(self.ended(shared, io::Error::other(text))),
            Err(error) => {
                let is_connected = shared
                    .with(|core| core.session().is_some_and(|session| session.is_connected()));
                Err(match error {
                    // Once it works, what breaks is this connection, not the door.
                    DoorError::Tls(error) if is_connected => Closed::Lost(io::Error::other(error)),
                    error => Closed::Door(error),
                })
            }
        }
    }

    fn receive(&mut self, core: &mut Core, bytes: &[u8], now: Instant) -> Result<bool, Closed> {
        if self.inbox.is_empty() {
            let taken = core.handle_bytes(bytes, now)?;
            let rest = bytes.get(taken..).unwrap_or_default();
            self.inbox.extend_from_slice(rest);
        } else {
            self.inbox.extend_from_slice(bytes);
            let taken = core.handle_bytes(&self.inbox, now)?;
            self.inbox.drain(..taken);
            self.shrink();
        }
        Ok(core.is_full())
    }

    fn shrink(&mut self) {
        if self.inbox.is_empty() && self.inbox.capacity() > READ_BYTES {
            self.inbox = Vec::new();
        }
    }

    fn silent(&self, why: Closed) -> Closed {
        match (&self.wire, why) {
            (Some(wire), Closed::Silent(_)) if !wire.is_open() => Closed::Silent(wire.awaited()),
            (_, why) => why,
        }
    }

    /// What the end of the socket's connection means.
    fn ended(&self, shared: &Shared, error: io::Error) -> Closed {
        let is_connecting = shared.with(|core| {
            core.session()
                .is_some_and(|session| session.is_connecting())
        });
        match &self.wire {
            _ if self.is_shut => Closed::Finished,
            Some(wire) if !wire.is_open() => Closed::Door(wire.ended_early()),
            _ if is_connecting => Closed::Door(DoorError::ClosedBeforeMqtt),
            _ if error.kind() == io::ErrorKind::UnexpectedEof => {
                Closed::Lost(io::Error::new(error.kind(), "the server closed it"))
            }
            _ => Closed::Lost(error),
        }
    }
}

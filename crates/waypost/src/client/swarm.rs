//! Many connections to one server on one thread: sockets, one `mio` loop, no protocol.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use waypost_client::door::wire::Wire;
use waypost_client::door::{Door, DoorError};
use waypost_client::protocol::event::{Closed, Event};
use waypost_client::protocol::options::{Options, Outgoing};
use waypost_client::protocol::session::Session;
use waypost_mqtt::ReasonCode;

use super::socket::Socket;

/// Bytes read at a time, shared by all connections.
const READ_BYTES: usize = 64 * 1024;
/// Reads from one connection before the others have their turn.
const READS_PER_TURN: usize = 16;
/// Events taken from the system at a time.
const EVENTS_MAX: usize = 1024;
/// How often keep alive is looked at.
const TICK: Duration = Duration::from_millis(500);

/// One connection of a [`Swarm`]; free for another once its [`Event::Closed`] was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(usize);

impl Key {
    /// A small number; no two open connections have the same.
    pub const fn index(self) -> usize {
        self.0
    }
}

/// What takes events; `Break` stops reading from that connection.
pub type Sink<'s> = &'s mut dyn FnMut(Key, Event<'_>) -> ControlFlow<()>;

#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own about the socket"
)]
struct Connection {
    socket: Socket,
    /// What lies between the socket and MQTT, if anything.
    wire: Option<Box<Wire>>,
    session: Session,
    /// The beginning of a packet whose end has not come.
    inbox: Vec<u8>,
    /// The socket is connected.
    established: bool,
    /// The last write took everything.
    writable: bool,
    /// Everything is written after DISCONNECT, or nothing can be; the server closes next.
    shut: bool,
    /// It is in `Swarm::dirty`.
    dirty: bool,
}

/// The connections and their loop.
pub struct Swarm {
    poll: Poll,
    events: Events,
    door: Door,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Connections whose outbox may hold something new.
    dirty: Vec<usize>,
    /// Connections that had more to read than their turn allowed.
    unread: Vec<usize>,
    /// Connections that could not even begin; reported by the next [`Self::poll`].
    stillborn: Vec<(usize, Session, Closed)>,
    buffer: Box<[u8]>,
    /// What one read of a wire had inside.
    unwrapped: Vec<u8>,
    next_tick: Instant,
}

impl Swarm {
    /// A swarm that will connect through `door`.
    pub fn new(door: Door) -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS_MAX),
            door,
            connections: Vec::new(),
            free: Vec::new(),
            dirty: Vec::new(),
            unread: Vec::new(),
            stillborn: Vec::new(),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            unwrapped: Vec::new(),
            next_tick: Instant::now() + TICK,
        })
    }

    /// Begins a connection.
    pub fn open(&mut self, options: &Rc<Options>) -> io::Result<Key> {
        let begun = match Socket::connect(&self.door.address) {
            Ok(socket) => Wire::new(&self.door)
                .map(|wire| (socket, wire))
                .map_err(Closed::Door),
            // No descriptors: that is no word of the server's.
            Err(error) if matches!(error.raw_os_error(), Some(code) if code == rustix::io::Errno::MFILE.raw_os_error()) =>
            {
                return Err(error);
            }
            Err(error) => Err(Closed::Unreachable(error)),
        };
        let index = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        let session = Session::new(options, None, Instant::now());
        let (mut socket, wire) = match begun {
            Ok(begun) => begun,
            Err(closed) => {
                self.stillborn.push((index, session, closed));
                return Ok(Key(index));
            }
        };
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut socket, Token(index), interest)?;
        if let Some(slot) = self.connections.get_mut(index) {
            *slot = Some(Connection {
                socket,
                wire,
                session,
                inbox: Vec::new(),
                established: false,
                writable: false,
                shut: false,
                dirty: false,
            });
        }
        Ok(Key(index))
    }

    /// Publishes on `key`; nothing happens when it is gone.
    pub fn publish(&mut self, key: Key, message: &Outgoing<'_>, tag: u64, on: Sink<'_>) {
        if let Some(session) = self.touch(key) {
            session.publish(message, tag, &mut |event| on(key, event));
        }
    }

    /// A connection's protocol state to change; what it wants to send goes out in the next
    /// [`Self::poll`].
    pub fn touch(&mut self, key: Key) -> Option<&mut Session> {
        let connection = self.connections.get_mut(key.0)?.as_mut()?;
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(key.0);
        }
        Some(&mut connection.session)
    }

    /// Says DISCONNECT after all that was sent; [`Event::Closed`] follows.
    pub fn close(&mut self, key: Key, reason: ReasonCode) {
        if let Some(session) = self.touch(key) {
            session.disconnect(reason, Instant::now());
        }
    }

    /// Writes what is to be written, waits at most `timeout` for the network, and reads.
    pub fn poll(&mut self, timeout: Duration, on: Sink<'_>) -> io::Result<()> {
        for (index, session, closed) in std::mem::take(&mut self.stillborn) {
            self.report(index, session, &closed, on);
        }
        self.flush(on);
        let now = Instant::now();
        let timeout = if self.unread.is_empty() && self.dirty.is_empty() {
            timeout.min(self.next_tick.saturating_duration_since(now))
        } else {
            Duration::ZERO
        };
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            outcome => outcome?,
        }
        let now = Instant::now();
        let mut readable = std::mem::take(&mut self.unread);
        let mut writable = Vec::new();
        for event in &self.events {
            if event.is_writable() || event.is_error() {
                writable.push(event.token().0);
            }
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                readable.push(event.token().0);
            }
        }
        for index in writable {
            self.on_writable(index, on);
        }
        for index in readable {
            self.read(index, now, on);
        }
        self.flush(on);
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            for index in 0..self.connections.len() {
                self.tick(index, now, on);
            }
        }
        Ok(())
    }

    fn flush(&mut self, on: Sink<'_>) {
        let now = Instant::now();
        for index in std::mem::take(&mut self.dirty) {
            if let Some(Some(connection)) = self.connections.get_mut(index) {
                connection.dirty = false;
                match connection.write(now, &mut |event| on(Key(index), event)) {
                    Ok(true) => {}
                    // What the server said before it closed is still to be read.
                    Ok(false) => self.unread.push(index),
                    Err(closed) => self.drop_connection(index, &closed, on),
                }
            }
        }
    }

    fn on_writable(&mut self, index: usize, on: Sink<'_>) {
        let Some(Some(connection)) = self.connections.get_mut(index) else {
            return;
        };
        if !connection.established {
            match connection.socket.failure() {
                Some(error) if error.kind() == io::ErrorKind::NotConnected => return,
                Some(error) => {
                    return self.drop_connection(index, &Closed::Unreachable(error), on);
                }
                None => connection.established = true,
            }
            connection.socket.set_nodelay();
        }
        connection.writable = true;
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(index);
        }
    }

    fn read(&mut self, index: usize, now: Instant, on: Sink<'_>) {
        let Some(Some(connection)) = self.connections.get_mut(index) else {
            return;
        };
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(index);
        }
        let mut turns = READS_PER_TURN;
        loop {
            if turns == 0 {
                self.unread.push(index);
                return;
            }
            turns -= 1;
            let outcome = match connection.socket.read(&mut self.buffer) {
                Ok(0) => Err(connection.ended(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => {
                    let bytes = self.buffer.get(..count).unwrap_or_default();
                    let on = &mut |event: Event<'_>| on(Key(index), event);
                    if connection.wire.is_some() {
                        self.unwrapped.clear();
                        connection.unwrap_and_receive(bytes, &mut self.unwrapped, now, on)
                    } else {
                        connection.receive(bytes, now, on)
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(connection.ended(error)),
            };
            if let Err(closed) = outcome {
                return self.drop_connection(index, &closed, on);
            }
        }
    }

    fn tick(&mut self, index: usize, now: Instant, on: Sink<'_>) {
        let Some(Some(connection)) = self.connections.get_mut(index) else {
            return;
        };
        match connection.session.handle_timeout(now, TICK * 2) {
            Err(closed) => {
                let closed = match (&connection.wire, closed) {
                    (Some(wire), Closed::Silent(_)) if !wire.is_open() => {
                        Closed::Silent(wire.awaited())
                    }
                    (_, closed) => closed,
                };
                self.drop_connection(index, &closed, on);
            }
            Ok(()) if !connection.session.outbox().is_empty() && !connection.dirty => {
                connection.dirty = true;
                self.dirty.push(index);
            }
            Ok(()) => {}
        }
    }

    fn drop_connection(&mut self, index: usize, closed: &Closed, on: Sink<'_>) {
        let Some(mut connection) = self.connections.get_mut(index).and_then(Option::take) else {
            return;
        };
        if let Some(wire) = &connection.wire {
            // Such as the alert that says what was wrong with the server's certificate.
            let _ = connection.socket.write(wire.pending());
        }
        self.report(index, connection.session, closed, on);
    }

    /// The end of a connection; its slot is free again.
    fn report(&mut self, index: usize, mut session: Session, closed: &Closed, on: Sink<'_>) {
        let remains = session.handle_closed(&mut |event| on(Key(index), event));
        let _ = on(
            Key(index),
            Event::Closed {
                why: closed,
                remains: &RefCell::new(remains),
            },
        );
        self.free.push(index);
    }
}

impl Connection {
    /// Writes what the socket takes; false: it takes nothing any more.
    fn write(
        &mut self,
        now: Instant,
        on: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<bool, Closed> {
        if self.wire.is_some() {
            return self.wrap_and_write(now, on);
        }
        while self.writable && !self.session.outbox().is_empty() {
            match self.socket.write(self.session.outbox()) {
                Ok(count) => self.session.on_written(count, now, on),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.writable = false;
                    return Ok(false);
                }
            }
        }
        if self.session.is_closing() && self.session.outbox().is_empty() {
            self.shut();
        }
        Ok(true)
    }

    fn wrap_and_write(
        &mut self,
        now: Instant,
        on: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<bool, Closed> {
        let Some(wire) = &mut self.wire else {
            return Ok(true);
        };
        while self.writable {
            if wire.pending().is_empty() {
                if wire.is_open() {
                    wire.wrap(self.session.outbox()).map_err(Closed::Door)?;
                }
                if wire.pending().is_empty() && self.session.is_closing() {
                    wire.close().map_err(Closed::Door)?;
                }
                if wire.pending().is_empty() {
                    break;
                }
            }
            match self.socket.write(wire.pending()) {
                Ok(count) => match wire.on_written(count) {
                    0 => {}
                    out => self.session.on_written(out, now, on),
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.writable = false;
                    return Ok(false);
                }
            }
        }
        if wire.is_closed() && wire.pending().is_empty() {
            self.shut();
        }
        Ok(true)
    }

    /// The server reads to the end before it closes; a plain close with something unread here
    /// would reset the connection and could take the last messages with it.
    fn shut(&mut self) {
        if !self.shut {
            self.shut = true;
            let _ = self.socket.shutdown_write();
        }
    }

    fn unwrap_and_receive(
        &mut self,
        bytes: &[u8],
        unwrapped: &mut Vec<u8>,
        now: Instant,
        on: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<(), Closed> {
        let Some(wire) = &mut self.wire else {
            return Ok(());
        };
        let ended = wire.receive(bytes, unwrapped);
        // What came before the end, or before what was wrong, comes first.
        self.receive(unwrapped, now, on)?;
        match ended {
            Ok(None) => Ok(()),
            Ok(Some(text)) => Err(self.ended(io::Error::other(text))),
            // Once it works, what breaks is this connection, not the door.
            Err(DoorError::Tls(error)) if self.session.is_connected() => {
                Err(Closed::Lost(io::Error::other(error)))
            }
            Err(error) => Err(Closed::Door(error)),
        }
    }

    fn receive(
        &mut self,
        bytes: &[u8],
        now: Instant,
        on: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<(), Closed> {
        if !self.session.is_reading() {
            return Ok(());
        }
        if self.inbox.is_empty() {
            let taken = self.session.handle_bytes(bytes, now, on)?;
            self.inbox
                .extend_from_slice(bytes.get(taken..).unwrap_or_default());
        } else {
            self.inbox.extend_from_slice(bytes);
            let taken = self.session.handle_bytes(&self.inbox, now, on)?;
            self.inbox.drain(..taken);
        }
        if self.inbox.is_empty() && self.inbox.capacity() > READ_BYTES {
            self.inbox = Vec::new();
        }
        Ok(())
    }

    /// What the end of the socket's connection means.
    fn ended(&self, error: io::Error) -> Closed {
        match &self.wire {
            _ if self.shut => Closed::Finished,
            _ if !self.established => Closed::Unreachable(error),
            Some(wire) if !wire.is_open() => Closed::Door(wire.ended_early()),
            _ if self.session.is_connecting() => Closed::Door(DoorError::ClosedBeforeMqtt),
            _ if error.kind() == io::ErrorKind::UnexpectedEof => {
                Closed::Lost(io::Error::new(error.kind(), "the server closed it"))
            }
            _ => Closed::Lost(error),
        }
    }
}

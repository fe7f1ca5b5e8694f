//! Candidate: mio (epoll, edge-triggered). One read buffer for the loop, outboxes flushed once per
//! tick with one write per connection, a bounded number of reads per connection and tick. A record
//! that does not fit the read buffer is read into its own allocation and shared, not copied.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustix::net::{RecvFlags, SendFlags};

use crate::plan::{Plan, Remainder};

const LISTENER: Token = Token(usize::MAX);
const EVENTS_PER_TICK: usize = 1024;
const READ_BUFFER_BYTES: usize = 64 * 1024;
/// After so many full reads a connection waits for the next tick.
const READS_PER_TICK: usize = 4;

/// Where bytes wait until the end of the tick: the two ways that are compared.
pub trait Outboxes: Default {
    /// One more connection.
    fn open(&mut self);
    /// Appends `bytes` to the outboxes of `receivers`.
    fn give(&mut self, receivers: Range<usize>, bytes: &[u8]);
    /// Connections that were given something since the last tick.
    fn take_dirty(&mut self) -> Vec<u32>;
    /// Writes what waits for one connection; says whether the socket took all of it.
    fn flush(&mut self, index: usize, stream: &TcpStream) -> io::Result<bool>;
    /// The socket is full: what waits must outlive the tick.
    fn keep(&mut self, index: usize);
    /// The tick is over, `dirty` is empty again.
    fn end_tick(&mut self, dirty: Vec<u32>);
}

/// As many bytes as the socket takes now; fewer than `bytes` means that it is full.
pub fn send(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match rustix::net::send(stream, bytes, SendFlags::NOSIGNAL) {
        Ok(sent) => Ok(sent),
        Err(rustix::io::Errno::AGAIN) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

struct Connection {
    stream: TcpStream,
    /// The socket was full; nothing is written until the poller says that it is writable.
    blocked: bool,
    remainder: Remainder,
    /// A record longer than the read buffer, as far as it has arrived.
    long: Vec<u8>,
    long_out: VecDeque<Rc<Vec<u8>>>,
    long_sent: usize,
}

struct Loop<O> {
    plan: Plan,
    connections: Vec<Connection>,
    outboxes: O,
    buffer: Vec<u8>,
    long_dirty: Vec<usize>,
    /// Given back when the last receiver has it, so that no message pays for fresh pages.
    spare: Option<Vec<u8>>,
}

impl<O: Outboxes> Loop<O> {
    fn open(&mut self, stream: TcpStream) {
        self.connections.push(Connection {
            stream,
            blocked: false,
            remainder: Remainder::default(),
            long: Vec::new(),
            long_out: VecDeque::new(),
            long_sent: 0,
        });
        self.outboxes.open();
    }

    /// Says whether there may be more to read.
    fn read(&mut self, index: usize) -> io::Result<bool> {
        if self.plan.record_bytes > READ_BUFFER_BYTES {
            return self.read_long(index);
        }
        let receivers = self.plan.receivers(index, self.connections.len());
        for _ in 0..READS_PER_TICK {
            let connection = &mut self.connections[index];
            let received =
                match rustix::net::recv(&connection.stream, &mut self.buffer, RecvFlags::empty()) {
                    Ok((0, _)) => return Err(ErrorKind::UnexpectedEof.into()),
                    Ok((received, _)) => received,
                    Err(rustix::io::Errno::AGAIN) => return Ok(false),
                    Err(error) => return Err(error.into()),
                };
            let outboxes = &mut self.outboxes;
            let bytes = &self.buffer[..received];
            connection
                .remainder
                .whole_records(self.plan.record_bytes, bytes, |records| {
                    outboxes.give(receivers.clone(), records);
                });
            // epoll(7): fewer bytes than asked for means that the stream is drained; the next edge comes.
            if received < self.buffer.len() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn read_long(&mut self, index: usize) -> io::Result<bool> {
        let wanted = self.plan.record_bytes;
        let receivers = self.plan.receivers(index, self.connections.len());
        let connection = &mut self.connections[index];
        if connection.long.capacity() < wanted {
            connection.long = self
                .spare
                .take()
                .unwrap_or_else(|| Vec::with_capacity(wanted));
        }
        while connection.long.len() < wanted {
            let spare = rustix::buffer::spare_capacity(&mut connection.long);
            match rustix::net::recv(&connection.stream, spare, RecvFlags::empty()) {
                Ok((0, _)) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        let record = Rc::new(std::mem::take(&mut connection.long));
        for receiver in receivers {
            self.connections[receiver]
                .long_out
                .push_back(Rc::clone(&record));
            self.long_dirty.push(receiver);
        }
        Ok(true)
    }

    fn flush(&mut self, index: usize) -> io::Result<()> {
        let connection = &mut self.connections[index];
        if connection.blocked {
            return Ok(());
        }
        while let Some(record) = connection.long_out.front() {
            connection.long_sent += send(&connection.stream, &record[connection.long_sent..])?;
            if connection.long_sent < record.len() {
                connection.blocked = true;
                return Ok(());
            }
            connection.long_sent = 0;
            if let Some(mut bytes) = connection.long_out.pop_front().and_then(Rc::into_inner) {
                bytes.clear();
                self.spare = Some(bytes);
            }
        }
        connection.blocked = !self.outboxes.flush(index, &connection.stream)?;
        Ok(())
    }

    fn end_tick(&mut self) -> io::Result<()> {
        for index in std::mem::take(&mut self.long_dirty) {
            self.flush(index)?;
        }
        let mut dirty = self.outboxes.take_dirty();
        for index in &dirty {
            let connection = &self.connections[*index as usize];
            if connection.blocked {
                self.outboxes.keep(*index as usize);
            } else {
                let flushed = self.outboxes.flush(*index as usize, &connection.stream)?;
                self.connections[*index as usize].blocked = !flushed;
            }
        }
        dirty.clear();
        self.outboxes.end_tick(dirty);
        Ok(())
    }
}

/// Serves until the first connection closes.
pub fn run<O: Outboxes>(listener: TcpListener, plan: Plan) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(EVENTS_PER_TICK);
    let mut listener = mio::net::TcpListener::from_std(listener);
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut state = Loop {
        plan,
        connections: Vec::new(),
        outboxes: O::default(),
        buffer: vec![0; READ_BUFFER_BYTES],
        long_dirty: Vec::new(),
        spare: None,
    };
    let mut unfinished: Vec<usize> = Vec::new();
    loop {
        let timeout = if unfinished.is_empty() {
            None
        } else {
            Some(Duration::ZERO)
        };
        match poll.poll(&mut events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        }
        for index in std::mem::take(&mut unfinished) {
            if state.read(index)? {
                unfinished.push(index);
            }
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    let token = Token(state.connections.len());
                    // Both interests once: a socket that is never full never costs an epoll_ctl.
                    poll.registry().register(
                        &mut stream,
                        token,
                        Interest::READABLE | Interest::WRITABLE,
                    )?;
                    state.open(stream);
                }
                continue;
            }
            let index = event.token().0;
            if event.is_writable() && state.connections[index].blocked {
                state.connections[index].blocked = false;
                state.flush(index)?;
            }
            if event.is_readable() && !unfinished.contains(&index) && state.read(index)? {
                unfinished.push(index);
            }
        }
        state.end_tick()?;
    }
}

//! Candidate: io_uring. Multishot accept and receive into one ring of provided buffers, one send in
//! flight per connection, completions run only inside `submit_and_wait` (DEFER_TASKRUN, SINGLE_ISSUER).
//!
//! The kernel owns every buffer that is in flight, so unlike the other candidates this one cannot be
//! written without `unsafe`, and a record that does not fit a provided buffer is copied once more.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::collections::VecDeque;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd};
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, Fd};
use io_uring::{IoUring, cqueue, opcode, squeue};

use crate::plan::{Plan, Remainder};

const SUBMISSIONS: u32 = 4096;
const COMPLETIONS: u32 = 65_536;
const BUFFER_GROUP: u16 = 0;
const KIND_BITS: u64 = 2;
const ACCEPT: u64 = 0;
const RECEIVE: u64 = 1;
const SEND: u64 = 2;

/// Provided buffers: a ring of descriptors shared with the kernel, and the bytes they point to.
struct Buffers {
    ring: *mut BufRingEntry,
    bytes: *mut u8,
    count: u16,
    each: usize,
    tail: u16,
}

impl Buffers {
    fn register(ring: &IoUring, count: u16, each: usize) -> io::Result<Self> {
        let page = |bytes: usize| -> io::Result<*mut u8> {
            let layout = Layout::from_size_align(bytes, 4096).map_err(io::Error::other)?;
            // SAFETY: the layout is not empty. Never freed: the ring lives as long as the process.
            let pointer = unsafe { alloc_zeroed(layout) };
            if pointer.is_null() {
                handle_alloc_error(layout);
            }
            Ok(pointer)
        };
        let mut buffers = Self {
            ring: page(usize::from(count) * size_of::<BufRingEntry>())?.cast(),
            bytes: page(usize::from(count) * each)?,
            count,
            each,
            tail: 0,
        };
        // SAFETY: the descriptors are page-aligned, zeroed and live as long as the process.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                buffers.ring as u64,
                count,
                BUFFER_GROUP,
                0,
            )?;
        }
        (0..count).for_each(|id| buffers.give_back(id));
        Ok(buffers)
    }

    /// The bytes of a completion that names buffer `id`.
    fn received(&self, id: u16, length: usize) -> &[u8] {
        // SAFETY: the kernel wrote `length <= each` bytes into `id < count` and owns it no more.
        unsafe { std::slice::from_raw_parts(self.bytes.add(usize::from(id) * self.each), length) }
    }

    fn give_back(&mut self, id: u16) {
        // SAFETY: `tail % count` lies in the ring; the kernel reads the descriptor only after the
        // release store of the tail, which overlays the first descriptor's reserved field.
        unsafe {
            let entry = &mut *self.ring.add(usize::from(self.tail % self.count));
            entry.set_addr(self.bytes.add(usize::from(id) * self.each) as u64);
            entry.set_len(u32::try_from(self.each).unwrap_or(u32::MAX));
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
            let tail = BufRingEntry::tail(self.ring).cast_mut().cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }
}

/// What the kernel reads from until the send completes.
enum Flying {
    Nothing,
    Copied(Vec<u8>),
    Shared { _record: Rc<Vec<u8>> },
}

struct Connection {
    stream: TcpStream,
    flying: Flying,
    out: Vec<u8>,
    dirty: bool,
    remainder: Remainder,
    long: Vec<u8>,
    long_out: VecDeque<Rc<Vec<u8>>>,
}

struct Loop {
    ring: IoUring,
    plan: Plan,
    connections: Vec<Connection>,
    buffers: Buffers,
    dirty: Vec<usize>,
    pool: Vec<Vec<u8>>,
    starved: Vec<usize>,
}

impl Loop {
    fn submit(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: what the entry points to is kept in `buffers` or `Connection::flying` until it completes.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            self.ring.submit()?;
        }
        Ok(())
    }

    fn receive(&mut self, index: usize) -> io::Result<()> {
        let fd = Fd(self.connections[index].stream.as_raw_fd());
        let entry = opcode::RecvMulti::new(fd, BUFFER_GROUP).build();
        self.submit(&entry.user_data((index as u64) << KIND_BITS | RECEIVE))
    }

    /// Starts the next send unless one is in flight.
    fn send(&mut self, index: usize) -> io::Result<()> {
        let connection = &mut self.connections[index];
        connection.dirty = false;
        if !matches!(connection.flying, Flying::Nothing) {
            return Ok(());
        }
        let (pointer, length) = if let Some(record) = connection.long_out.pop_front() {
            let parts = (record.as_ptr(), record.len());
            connection.flying = Flying::Shared { _record: record };
            parts
        } else if connection.out.is_empty() {
            return Ok(());
        } else {
            let bytes = std::mem::take(&mut connection.out);
            let parts = (bytes.as_ptr(), bytes.len());
            connection.flying = Flying::Copied(bytes);
            parts
        };
        let fd = Fd(connection.stream.as_raw_fd());
        let length = u32::try_from(length).map_err(io::Error::other)?;
        let entry = opcode::Send::new(fd, pointer, length)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build();
        self.submit(&entry.user_data((index as u64) << KIND_BITS | SEND))
    }

    fn accepted(&mut self, fd: i32) -> io::Result<()> {
        // SAFETY: the completion handed over a new descriptor that nothing else owns.
        let stream = unsafe { TcpStream::from_raw_fd(fd) };
        stream.set_nodelay(true)?;
        self.connections.push(Connection {
            stream,
            flying: Flying::Nothing,
            out: Vec::new(),
            dirty: false,
            remainder: Remainder::default(),
            long: Vec::new(),
            long_out: VecDeque::new(),
        });
        self.receive(self.connections.len() - 1)
    }

    fn mark(connection: &mut Connection, index: usize, dirty: &mut Vec<usize>) {
        if !connection.dirty {
            connection.dirty = true;
            dirty.push(index);
        }
    }

    fn received(&mut self, index: usize, id: u16, length: usize) {
        let receivers = self.plan.receivers(index, self.connections.len());
        let record_bytes = self.plan.record_bytes;
        if record_bytes > self.buffers.each {
            self.received_of_long(index, id, length, receivers);
        } else {
            let mut remainder = std::mem::take(&mut self.connections[index].remainder);
            remainder.whole_records(record_bytes, self.buffers.received(id, length), |records| {
                for receiver in receivers.clone() {
                    let connection = &mut self.connections[receiver];
                    if connection.out.capacity() == 0 {
                        connection.out = self.pool.pop().unwrap_or_default();
                    }
                    connection.out.extend_from_slice(records);
                    Self::mark(connection, receiver, &mut self.dirty);
                }
            });
            self.connections[index].remainder = remainder;
        }
        self.buffers.give_back(id);
    }

    fn received_of_long(&mut self, index: usize, id: u16, length: usize, receivers: Range<usize>) {
        let mut bytes = self.buffers.received(id, length);
        while !bytes.is_empty() {
            let connection = &mut self.connections[index];
            if connection.long.capacity() == 0 {
                connection.long = self.pool.pop().unwrap_or_default();
                connection.long.reserve_exact(self.plan.record_bytes);
            }
            let (now, later) = bytes.split_at(
                bytes
                    .len()
                    .min(self.plan.record_bytes - connection.long.len()),
            );
            connection.long.extend_from_slice(now);
            bytes = later;
            if connection.long.len() == self.plan.record_bytes {
                let record = Rc::new(std::mem::take(&mut connection.long));
                for receiver in receivers.clone() {
                    let connection = &mut self.connections[receiver];
                    connection.long_out.push_back(Rc::clone(&record));
                    Self::mark(connection, receiver, &mut self.dirty);
                }
            }
        }
    }

    fn sent(&mut self, index: usize) -> io::Result<()> {
        let spare = match std::mem::replace(&mut self.connections[index].flying, Flying::Nothing) {
            Flying::Nothing => None,
            Flying::Copied(bytes) => Some(bytes),
            Flying::Shared { _record } => Rc::into_inner(_record),
        };
        if let Some(mut bytes) = spare {
            bytes.clear();
            self.pool.push(bytes);
        }
        self.send(index)
    }

    fn completed(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        let index =
            usize::try_from(completion.user_data() >> KIND_BITS).map_err(io::Error::other)?;
        let kind = completion.user_data() & ((1 << KIND_BITS) - 1);
        let result = completion.result();
        if kind == RECEIVE && result == -libc::ENOBUFS {
            self.starved.push(index);
            return Ok(());
        }
        if result < 0 {
            return Err(io::Error::from_raw_os_error(-result));
        }
        match kind {
            ACCEPT => return self.accepted(result),
            SEND => return self.sent(index),
            _ => {}
        }
        let id = cqueue::buffer_select(completion.flags()).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.received(
            index,
            id,
            usize::try_from(result).map_err(io::Error::other)?,
        );
        if !cqueue::more(completion.flags()) {
            self.starved.push(index);
        }
        Ok(())
    }
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// Serves until the first connection closes. `URING_BUFFERS` and `URING_BUFFER_BYTES` size the ring.
pub fn run(listener: TcpListener, plan: Plan) -> io::Result<()> {
    let ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_cqsize(COMPLETIONS)
        .build(SUBMISSIONS)?;
    let count = u16::try_from(setting("URING_BUFFERS", 256)).map_err(io::Error::other)?;
    let buffers = Buffers::register(&ring, count, setting("URING_BUFFER_BYTES", 16 * 1024))?;
    let mut state = Loop {
        ring,
        plan,
        connections: Vec::new(),
        buffers,
        dirty: Vec::new(),
        pool: Vec::new(),
        starved: Vec::new(),
    };
    state.submit(
        &opcode::AcceptMulti::new(Fd(listener.as_raw_fd()))
            .build()
            .user_data(ACCEPT),
    )?;
    let mut completions: Vec<cqueue::Entry> = Vec::new();
    loop {
        state.ring.submit_and_wait(1)?;
        completions.extend(state.ring.completion());
        for completion in completions.drain(..) {
            state.completed(&completion)?;
        }
        for index in std::mem::take(&mut state.starved) {
            state.receive(index)?;
        }
        let mut dirty = std::mem::take(&mut state.dirty);
        for index in dirty.drain(..) {
            state.send(index)?;
        }
        state.dirty = dirty;
    }
}

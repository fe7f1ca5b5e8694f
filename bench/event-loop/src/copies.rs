//! Outboxes that own a copy of every byte. A buffer comes from a pool when its connection is given
//! something and goes back when it is flushed, so an idle connection owns none.

use std::io;
use std::ops::Range;

use mio::net::TcpStream;

use crate::mio_loop::{Outboxes, send};

#[derive(Default)]
struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
    dirty: bool,
}

/// See the module.
#[derive(Default)]
pub struct Copies {
    outboxes: Vec<Outbox>,
    dirty: Vec<u32>,
    pool: Vec<Vec<u8>>,
}

impl Outboxes for Copies {
    fn open(&mut self) {
        self.outboxes.push(Outbox::default());
    }

    fn give(&mut self, receivers: Range<usize>, bytes: &[u8]) {
        for index in receivers {
            let outbox = &mut self.outboxes[index];
            if outbox.bytes.capacity() == 0 {
                outbox.bytes = self.pool.pop().unwrap_or_default();
            }
            outbox.bytes.extend_from_slice(bytes);
            if !outbox.dirty {
                outbox.dirty = true;
                self.dirty.push(u32::try_from(index).unwrap_or(u32::MAX));
            }
        }
    }

    fn take_dirty(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.dirty)
    }

    fn flush(&mut self, index: usize, stream: &TcpStream) -> io::Result<bool> {
        let outbox = &mut self.outboxes[index];
        outbox.dirty = false;
        if outbox.bytes.is_empty() {
            return Ok(true);
        }
        outbox.sent += send(stream, &outbox.bytes[outbox.sent..])?;
        if outbox.sent < outbox.bytes.len() {
            return Ok(false);
        }
        outbox.sent = 0;
        let mut buffer = std::mem::take(&mut outbox.bytes);
        buffer.clear();
        self.pool.push(buffer);
        Ok(true)
    }

    fn keep(&mut self, index: usize) {
        self.outboxes[index].dirty = false;
    }

    fn end_tick(&mut self, dirty: Vec<u32>) {
        self.dirty = dirty;
    }
}

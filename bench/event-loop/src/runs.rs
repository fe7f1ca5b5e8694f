//! Outboxes that own no bytes: what a tick publishes is written once, one after another, into the
//! tick's bytes, and an outbox is a list of runs of them. Neighbouring runs merge, so a subscriber of
//! everything has one run and is written straight from the tick's bytes; others are gathered into one
//! small buffer just before the write. Only what a full socket refuses is copied to the connection.

use std::io;
use std::ops::Range;

use mio::net::TcpStream;

use crate::mio_loop::{Outboxes, send};

#[derive(Clone, Copy, Default, PartialEq)]
struct Run {
    start: u32,
    end: u32,
}

impl Run {
    fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }
}

#[derive(Default)]
struct Outbox {
    /// The last run, still growing; empty when the outbox is clean.
    last: Run,
    earlier: Vec<Run>,
    /// What the socket has refused so far.
    #[expect(
        clippy::box_collection,
        reason = "8 bytes in every idle connection instead of 24"
    )]
    backlog: Option<Box<Vec<u8>>>,
}

/// See the module.
#[derive(Default)]
pub struct Runs {
    outboxes: Vec<Outbox>,
    dirty: Vec<u32>,
    tick: Vec<u8>,
    gathered: Vec<u8>,
    pool: Vec<Vec<Run>>,
}

impl Outboxes for Runs {
    fn open(&mut self) {
        self.outboxes.push(Outbox::default());
    }

    fn give(&mut self, receivers: Range<usize>, bytes: &[u8]) {
        if receivers.is_empty() {
            return;
        }
        let start = u32::try_from(self.tick.len()).unwrap_or(u32::MAX);
        self.tick.extend_from_slice(bytes);
        let run = Run {
            start,
            end: u32::try_from(self.tick.len()).unwrap_or(u32::MAX),
        };
        for index in receivers {
            let outbox = &mut self.outboxes[index];
            if outbox.last == Run::default() {
                outbox.last = run;
                self.dirty.push(u32::try_from(index).unwrap_or(u32::MAX));
            } else if outbox.last.end == run.start {
                outbox.last.end = run.end;
            } else {
                if outbox.earlier.capacity() == 0 {
                    outbox.earlier = self.pool.pop().unwrap_or_default();
                }
                outbox.earlier.push(outbox.last);
                outbox.last = run;
            }
        }
    }

    fn take_dirty(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.dirty)
    }

    fn flush(&mut self, index: usize, stream: &TcpStream) -> io::Result<bool> {
        let outbox = &mut self.outboxes[index];
        let last = std::mem::take(&mut outbox.last);
        if let Some(backlog) = &mut outbox.backlog {
            let sent = send(stream, backlog)?;
            backlog.drain(..sent);
            let flushed = backlog.is_empty();
            if flushed {
                outbox.backlog = None;
            }
            return Ok(flushed);
        }
        let bytes = if outbox.earlier.is_empty() {
            last.of(&self.tick)
        } else {
            self.gathered.clear();
            let mut earlier = std::mem::take(&mut outbox.earlier);
            earlier
                .drain(..)
                .chain([last])
                .for_each(|run| self.gathered.extend_from_slice(run.of(&self.tick)));
            self.pool.push(earlier);
            &self.gathered
        };
        if bytes.is_empty() {
            return Ok(true);
        }
        let sent = send(stream, bytes)?;
        if sent < bytes.len() {
            outbox.backlog = Some(Box::new(bytes[sent..].to_vec()));
        }
        Ok(sent == bytes.len())
    }

    fn keep(&mut self, index: usize) {
        let outbox = &mut self.outboxes[index];
        let last = std::mem::take(&mut outbox.last);
        let backlog = outbox.backlog.get_or_insert_default();
        outbox
            .earlier
            .drain(..)
            .chain([last])
            .for_each(|run| backlog.extend_from_slice(run.of(&self.tick)));
    }

    fn end_tick(&mut self, dirty: Vec<u32>) {
        self.dirty = dirty;
        self.tick.clear();
    }
}

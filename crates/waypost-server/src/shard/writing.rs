//! From the outboxes to the sockets, and the end of a connection.

use std::net::Shutdown;

use mio::event::Source;

use super::connection::ConnectionState;
use super::reading::connection_id;
use super::{LINGER_MS, Shard};

impl Shard {
    /// Writes every outbox that got something in this tick, once. What a drained outbox makes the
    /// core send is written in the same tick; what is added after that waits for the next one.
    pub(super) fn flush_dirty(&mut self) {
        self.flush_list();
        if self.relieved.is_empty() {
            return;
        }
        let mut relieved = std::mem::take(&mut self.relieved);
        for index in relieved.drain(..) {
            self.broker
                .handle_writable(connection_id(index), self.now, &mut self.outlets);
        }
        self.relieved = relieved;
        self.flush_list();
    }

    fn flush_list(&mut self) {
        std::mem::swap(&mut self.flushing, &mut self.outlets.dirty);
        let mut flushing = std::mem::take(&mut self.flushing);
        for index in flushing.drain(..) {
            self.flush(index);
        }
        self.flushing = flushing;
    }

    fn flush(&mut self, index: usize) {
        let Some(connection) = self.outlets.connections.get_mut(index) else {
            return;
        };
        connection.in_dirty = false;
        if connection.blocked || connection.state == ConnectionState::Lingering {
            return;
        }
        if self.outlets.write(index).is_err() {
            self.outlets.counters.write_errors += 1;
            self.lost(index);
            return;
        }
        let bytes_max = self.outlets.bounds.each(self.outlets.outbox_bytes);
        let Some(connection) = self.outlets.connections.get_mut(index) else {
            return;
        };
        let left = connection.waiting_len();
        if left == 0 && connection.state == ConnectionState::Flushing {
            self.linger(index);
        } else if left < bytes_max / 4 && connection.state == ConnectionState::Open {
            if connection.congested.take() {
                self.relieved.push(index);
            }
            if std::mem::take(&mut connection.stalled) {
                self.outlets.mark_ready(index);
            }
        }
    }

    /// Everything is written: shut our side and read until the peer closes its own. One that has
    /// closed already may have left bytes that would turn our closing into a reset.
    fn linger(&mut self, index: usize) {
        let Some(connection) = self.outlets.connections.get_mut(index) else {
            return;
        };
        connection.state = ConnectionState::Lingering;
        if connection.socket.shutdown(Shutdown::Write).is_err() {
            self.remove(index);
            return;
        }
        self.outlets.mark_ready(index);
    }

    /// Gives up on closed connections whose peer does not close, or does not read.
    pub(super) fn end_lingering(&mut self) {
        let mut closed = std::mem::take(&mut self.outlets.closed);
        for index in closed.drain(..) {
            self.forget_unread(index);
            if let Some(connection) = self.outlets.connections.get_mut(index) {
                let mut close_by_ms = self.now.monotonic_ms + LINGER_MS;
                if self.draining && connection.state == ConnectionState::Flushing {
                    close_by_ms = close_by_ms.max(self.drained_at);
                }
                connection.close_by_ms = close_by_ms;
                self.lingering.insert((close_by_ms, index));
            }
        }
        self.outlets.closed = closed;
        while let Some(&(due, index)) = self.lingering.first()
            && due <= self.now.monotonic_ms
        {
            self.lingering.pop_first();
            // The place may have gone to another connection meanwhile.
            if self
                .outlets
                .connections
                .get(index)
                .is_some_and(|connection| connection.close_by_ms == due)
            {
                self.remove(index);
            }
        }
    }

    /// Closes the socket and gives everything back.
    pub(super) fn remove(&mut self, index: usize) {
        self.forget_unread(index);
        if !self.outlets.connections.contains(index) {
            return;
        }
        let mut connection = self.outlets.connections.remove(index);
        self.outlets.outbox_bytes -= connection.waiting_len();
        connection.outbox.release(&mut self.outlets.pool);
        // Closing the descriptor deregisters it; a failure here changes nothing.
        let _ = connection.socket.deregister(self.poll.registry());
    }
}

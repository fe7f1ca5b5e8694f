//! How much of what was goes before what is: all readers of a shard take turns, and between two turns live traffic goes on.
//!
//! Nobody waits for history as for what is published now, and one reader can take all that a shard can send. So the readers
//! together send a burst, and who has more stands in a line for the next one. Of what is sent, little waits in an outbox:
//! the stream keeps it as well.

use std::collections::VecDeque;

use crate::broker::Broker;
use crate::effects::{ConnectionId, Effects, Message, Now};

/// What the readers of a shard send in one burst, in bytes: well below a millisecond's work.
const BURST_BYTES: usize = 64 * 1024;
/// What a record is charged with beside its bytes: to send a small one takes as long as to copy this many.
const RECORD_BYTES: usize = 256;
/// What may wait in a reader's outbox, in bytes: enough to keep a connection busy until the next burst.
const OUTBOX_BYTES: usize = 128 * 1024;

/// Whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Bytes sent in this burst.
    spent: usize,
    /// Slots of sessions with more to send: each once, so at most as many as there are readers.
    line: VecDeque<u32>,
}

impl Turns {
    /// A record is sent.
    pub fn spend(&mut self, message: &Message<'_>) {
        let bytes = message.topic.len() + message.properties.len() + message.payload.bytes.len();
        self.spent += bytes + RECORD_BYTES;
    }

    fn is_over(&self) -> bool {
        self.spent >= BURST_BYTES
    }
}

impl Broker {
    /// When the next burst is due.
    pub(crate) fn next_burst_ms(&self) -> Option<u64> {
        (!self.history.turns.line.is_empty()).then_some(0)
    }

    /// Whether a session sends of its history now. If not, it gets its turn, or hears when its client has taken something.
    pub(super) fn is_turn_of(
        &mut self,
        slot: u32,
        id: ConnectionId,
        out: &mut impl Effects,
    ) -> bool {
        if out.outbox_bytes(id) >= OUTBOX_BYTES {
            out.tell_when_written(id);
            return false;
        }
        let turns = &mut self.history.turns;
        if !turns.is_over() {
            return true;
        }
        let session = self.sessions.get_mut(slot);
        if let Some(delivery) = session.and_then(|session| session.delivery.as_mut())
            && !std::mem::replace(&mut delivery.readers.is_in_line, true)
        {
            turns.line.push_back(slot);
        }
        false
    }

    /// The next burst: those in the line go on, as far as it goes.
    pub(crate) fn send_burst(&mut self, now: Now, out: &mut impl Effects) {
        self.history.turns.spent = 0;
        for _ in 0..self.history.turns.line.len() {
            if self.history.turns.is_over() {
                return;
            }
            let Some(slot) = self.history.turns.line.pop_front() else {
                return;
            };
            let session = self.sessions.get_mut(slot);
            if let Some(delivery) = session.and_then(|session| session.delivery.as_mut()) {
                delivery.readers.is_in_line = false;
                self.pump(slot, now, out);
            }
        }
    }
}

//! What waits in a group, in the group's order.
//!
//! What was taken back from a member goes before what was not yet dispatched, in order among itself: every message has
//! its place in the group's order, given when it came. Counted here is also what waits for one member only.

use std::collections::{BTreeMap, VecDeque};

use super::message::{Dropped, Given, Waiting};
use crate::effects::Now;
use crate::journal::MessageId;
use crate::timers::NEVER;

#[derive(Debug, Default)]
pub(crate) struct Line {
    /// Not dispatched yet.
    queue: VecDeque<Waiting>,
    /// Taken back, by the group's order: all of it comes before the queue.
    again: BTreeMap<u64, Waiting>,
    /// Messages that wait, those kept for one member included.
    count: usize,
    bytes: usize,
    next_order: u64,
    /// Nothing that was never dispatched expires before.
    expires_ms: Option<u64>,
}

impl Line {
    /// Messages that wait.
    pub fn count(&self) -> usize {
        self.count
    }

    /// What they are charged with.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A message comes: at the end.
    pub fn push(&mut self, mut waiting: Waiting) {
        waiting.order = self.next_order;
        self.next_order += 1;
        self.count_in(&waiting);
        self.note_expiry(&waiting);
        self.queue.push_back(waiting);
    }

    fn note_expiry(&mut self, waiting: &Waiting) {
        let at_ms = Some(waiting.message.expires_ms).filter(|at_ms| *at_ms != NEVER);
        self.expires_ms = self.expires_ms.into_iter().chain(at_ms).min();
    }

    /// When the first message expires that was never dispatched, or earlier.
    pub fn expires_ms(&self) -> Option<u64> {
        self.expires_ms
    }

    /// One that came before is back.
    pub fn put_back(&mut self, mut waiting: Waiting) {
        waiting.token = None;
        self.count_in(&waiting);
        self.again.insert(waiting.order, waiting);
    }

    /// A message waits for one member.
    pub fn count_in(&mut self, waiting: &Waiting) {
        self.count += 1;
        self.bytes += waiting.message.queued_bytes();
    }

    /// It does so no more.
    pub fn count_out(&mut self, waiting: &Waiting) {
        self.count -= 1;
        self.bytes -= waiting.message.queued_bytes();
        if self.count == 0 {
            self.queue.shrink_to(16);
        }
    }

    pub fn head(&self) -> Option<&Waiting> {
        let first = self.again.first_key_value();
        first
            .map(|(_, waiting)| waiting)
            .or_else(|| self.queue.front())
    }

    pub fn pop(&mut self) -> Option<Waiting> {
        let waiting = match self.again.pop_first() {
            Some((_, waiting)) => waiting,
            None => self.queue.pop_front()?,
        };
        self.count_out(&waiting);
        Some(waiting)
    }

    /// Takes out what expired and was never dispatched.
    pub fn take_expired(&mut self, now: Now) -> Vec<Dropped> {
        let mut dropped = Vec::new();
        if self.expires_ms.is_none_or(|at_ms| at_ms > now.monotonic_ms) {
            return dropped;
        }
        self.expires_ms = None;
        for waiting in std::mem::take(&mut self.queue) {
            if waiting.message.is_expired(now) {
                self.count_out(&waiting);
                dropped.push(Dropped {
                    waiting,
                    reason: Given::Expired,
                    client_id: None,
                });
            } else {
                self.note_expiry(&waiting);
                self.queue.push_back(waiting);
            }
        }
        dropped
    }

    /// Takes out a message that is not owed after all, if it waits for whoever is next.
    pub fn forget(&mut self, id: MessageId) {
        let is_it = |waiting: &Waiting| waiting.debt == Some(id);
        let at = self.queue.iter().position(is_it);
        let found = at.and_then(|at| self.queue.remove(at)).or_else(|| {
            let order = self.again.iter().find(|(_, waiting)| is_it(waiting));
            let order = *order?.0;
            self.again.remove(&order)
        });
        if let Some(waiting) = found {
            self.count_out(&waiting);
        }
    }

    /// Takes out everything.
    pub fn clear(&mut self) -> impl Iterator<Item = Waiting> + use<> {
        self.count = 0;
        self.bytes = 0;
        let waiting = std::mem::take(&mut self.again).into_values();
        waiting.chain(std::mem::take(&mut self.queue))
    }
}

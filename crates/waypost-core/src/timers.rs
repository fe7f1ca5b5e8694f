//! Every deadline of a shard: one heap, armed lazily.
//!
//! A slot (of a connection, of a session) has at most one entry that counts: the one whose time equals what the slot
//! remembers as armed. A deadline that moves away is not re-armed; the entry fires early, its owner looks at what is
//! really due and arms again. So a keep alive costs nothing per packet.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Whose deadline it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Connect timeout or keep alive of the connection in this slot.
    Connection(u32),
    /// Will delay or expiry of the session in this slot.
    Session(u32),
    /// The next expiry of a retained message.
    Retained,
    /// The next delayed message, or its reading.
    Delayed,
    /// A look for what expired.
    Sweep,
}

/// "Not armed", and "never" as a deadline.
pub(crate) const NEVER: u64 = u64::MAX;

#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(u64, Timer)>>,
}

impl Timers {
    /// Sees to it that `timer` fires at `due_ms` or earlier. `armed_ms` is what its slot remembers.
    pub fn arm(&mut self, timer: Timer, due_ms: u64, armed_ms: &mut u64) {
        if due_ms < *armed_ms {
            *armed_ms = due_ms;
            self.heap.push(Reverse((due_ms, timer)));
        }
    }

    /// When the first entry fires.
    pub fn next(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((due_ms, _))| *due_ms)
    }

    /// Takes the first entry that is due. The caller compares its time with what the slot remembers.
    pub fn pop_due(&mut self, now_ms: u64) -> Option<(u64, Timer)> {
        if self.next()? > now_ms {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    /// Entries, those that no longer count included.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Throws away the entries that `counts` does not know any more: deadlines that moved closer leave one behind.
    pub fn retain(&mut self, mut counts: impl FnMut(u64, Timer) -> bool) {
        self.heap
            .retain(|Reverse((due_ms, timer))| counts(*due_ms, *timer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_that_moves_away_costs_no_entry() {
        let mut timers = Timers::default();
        let mut armed = NEVER;
        timers.arm(Timer::Connection(1), 100, &mut armed);
        timers.arm(Timer::Connection(1), 200, &mut armed);
        assert_eq!((timers.len(), armed), (1, 100));
        timers.arm(Timer::Connection(1), 50, &mut armed);
        assert_eq!((timers.len(), armed, timers.next()), (2, 50, Some(50)));
        assert_eq!(timers.pop_due(49), None);
        assert_eq!(timers.pop_due(50), Some((50, Timer::Connection(1))));
        assert_eq!(
            timers.pop_due(100),
            Some((100, Timer::Connection(1))),
            "stale: its time is not the armed one"
        );
    }
}

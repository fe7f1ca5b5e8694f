//! Who has seen a message's id before has seen the message before: a window of ids for each sender.

use std::collections::{HashMap, HashSet, VecDeque};

use super::{MessageId, Sender};

/// Ids that are remembered for each sender.
pub const REMEMBERED_IDS: usize = 4_096;

/// Senders whose ids are remembered.
pub const REMEMBERED_SENDERS: usize = 1_024;

/// A message with this id came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message {0} was opened before: it was sent again, or somebody plays it back")]
pub struct Repeated(pub MessageId);

/// Remembers the ids of opened messages, so that one that is played back is seen. When a window is full its oldest id goes;
/// when there are too many senders, the one that was quiet the longest. Both are counted: beyond them a repetition is not seen.
#[derive(Debug)]
pub struct RepeatGuard {
    ids_max: usize,
    senders_max: usize,
    windows: HashMap<Sender, Window>,
    clock: u64,
    forgotten_ids: u64,
    forgotten_senders: u64,
}

#[derive(Debug, Default)]
struct Window {
    seen: HashSet<MessageId>,
    order: VecDeque<MessageId>,
    last: u64,
}

impl Default for RepeatGuard {
    fn default() -> Self {
        Self::new(REMEMBERED_IDS, REMEMBERED_SENDERS)
    }
}

impl RepeatGuard {
    /// One that remembers so many ids of so many senders, at least one of each.
    pub fn new(ids_max: usize, senders_max: usize) -> Self {
        Self {
            ids_max: ids_max.max(1),
            senders_max: senders_max.max(1),
            windows: HashMap::new(),
            clock: 0,
            forgotten_ids: 0,
            forgotten_senders: 0,
        }
    }

    /// Remembers the id of a message that opened, or says that it was there before.
    pub fn check(&mut self, sender: Sender, id: MessageId) -> Result<(), Repeated> {
        self.clock += 1;
        if !self.windows.contains_key(&sender) && self.windows.len() == self.senders_max {
            let quiet = self.windows.iter().min_by_key(|(_, window)| window.last);
            if let Some(quiet) = quiet.map(|(sender, _)| *sender) {
                self.windows.remove(&quiet);
                self.forgotten_senders += 1;
            }
        }
        let window = self.windows.entry(sender).or_default();
        window.last = self.clock;
        if !window.seen.insert(id) {
            return Err(Repeated(id));
        }
        window.order.push_back(id);
        if window.order.len() > self.ids_max
            && let Some(oldest) = window.order.pop_front()
        {
            window.seen.remove(&oldest);
            self.forgotten_ids += 1;
        }
        Ok(())
    }

    /// How many ids went because a window was full.
    pub fn forgotten_ids(&self) -> u64 {
        self.forgotten_ids
    }

    /// How many senders went because there were too many.
    pub fn forgotten_senders(&self) -> u64 {
        self.forgotten_senders
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeyId;

    fn id(number: u8) -> MessageId {
        MessageId([number; 16])
    }

    #[test]
    fn a_repetition_is_seen_within_the_window() {
        for (others, is_seen) in [(2, true), (3, false), (6, false)] {
            let mut guard = RepeatGuard::new(3, 2);
            assert_eq!(guard.check(Sender::Unknown, id(0)), Ok(()));
            for other in 1..=others {
                guard.check(Sender::Unknown, id(other)).unwrap();
            }
            let again = guard.check(Sender::Unknown, id(0));
            assert_eq!(again == Err(Repeated(id(0))), is_seen, "{others} others");
            assert_eq!(
                guard.forgotten_ids(),
                u64::from(others.saturating_sub(2)) + u64::from(!is_seen)
            );
        }
    }

    #[test]
    fn each_sender_has_its_window_and_the_quiet_one_goes() {
        let sender = |number| Sender::Signed {
            key_id: KeyId([number; 8]),
        };
        for (others, is_seen) in [(1, true), (2, false), (4, false)] {
            let mut guard = RepeatGuard::new(3, 2);
            guard.check(sender(0), id(0)).unwrap();
            for other in 1..=others {
                assert_eq!(guard.check(sender(other), id(0)), Ok(()));
            }
            assert_eq!(
                guard.check(sender(0), id(0)).is_err(),
                is_seen,
                "{others} others"
            );
            assert_eq!(guard.forgotten_senders() > 0, !is_seen);
        }
    }
}

//! Messages at `QoS` 0, which wait for nobody and are acknowledged by nobody: what counts is what is in the outboxes.

use waypost_balance::{Choice, MemberId, Request};

use super::seats::Detail;
use super::state::Group;

impl Group {
    /// Chooses for a message at `QoS` 0, which waits for nobody: a member that is behind with acknowledgements may get
    /// it, one whose outbox is full may not.
    #[inline]
    pub fn choose_at_once(&mut self, request: &Request<'_>) -> Option<usize> {
        let (members, details) = self.seats.online();
        match self.strategy.choose(members, request) {
            Choice::Now(at) => Some(at),
            Choice::Later(at) => details
                .get(at)
                .is_some_and(|detail| !detail.room.is_slow)
                .then_some(at),
            Choice::Nobody => details.iter().position(|detail| !detail.room.is_slow),
        }
    }

    /// A message was sent at `QoS` 0; this many bytes are in the member's outbox now.
    #[inline]
    pub fn sent_at_once(&mut self, at: usize, bytes: usize) {
        if let Some(id) = self.seats.set_bytes(at, bytes as u64) {
            self.loaded.push(id);
        }
    }

    /// Looks again at outboxes that had something in them: each after as many messages as there are such outboxes, so
    /// that a message pays for one at most.
    #[inline]
    pub fn look_at_outboxes(&mut self, bytes: impl Fn(&Detail) -> Option<usize>) {
        if self.unlooked < self.loaded.len() {
            self.unlooked += 1;
            return;
        }
        self.unlooked = 0;
        let seats = &mut self.seats;
        self.loaded.retain(|id| {
            let Some(at) = seats.online_at(*id) else {
                return false;
            };
            let Some(bytes) = seats.detail_at(at).and_then(&bytes) else {
                return true;
            };
            seats.set_bytes(at, bytes as u64);
            bytes > 0
        });
    }

    /// A member of another shard has taken this many bytes into its outbox.
    pub fn taken_elsewhere(&mut self, id: MemberId, bytes: u64) {
        if let Some(at) = self.seats.online_at(id) {
            let left = self.seats.bytes(at).saturating_sub(bytes);
            self.seats.set_bytes(at, left);
        }
    }
}

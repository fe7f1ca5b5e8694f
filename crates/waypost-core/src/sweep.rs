//! What expires for those who are away: looked for slowly, while there is anything that can.
//!
//! Whoever is connected, or takes from a group, finds what expired in its turn. For the others a shard looks at some of
//! its sessions and groups every second. A queue in memory knows when its first message expires. One in the store is
//! read through once that time has come, one session after the other and a page at a time, so that however much waits
//! on disk takes little from what is live; after a start nobody knows, and each is read once if there are dead letters
//! to be made. Not here: what becomes of what is found.

use crate::broker::Broker;
use crate::dead::{Cause, Graves};
use crate::debtor::{date_of, opened};
use crate::effects::{Effects, Message, Now};
use crate::journal::{QueueId, QueueRead, Until};
use crate::timers::{NEVER, Timer};

/// From one look to the next.
const PAUSE_MS: u64 = 1_000;
/// From one page of a queue in the store to the next.
const PAGE_PAUSE_MS: u64 = 50;
/// Sessions looked at in one go.
const SESSIONS_MAX: u32 = 4_096;
/// One page: messages, and bytes of their contents.
const PAGE_MESSAGES_MAX: u32 = 512;
const PAGE_BYTES_MAX: u32 = 1024 * 1024;

#[derive(Debug)]
pub(crate) struct Sweep {
    armed_ms: u64,
    /// The session to look at next.
    at: u32,
    /// Something was found on this round that can expire later.
    pub is_needed: bool,
    /// Whose queue in the store is being read through.
    reading: Option<u32>,
}

impl Default for Sweep {
    fn default() -> Self {
        Self {
            armed_ms: NEVER,
            at: 0,
            is_needed: false,
            reading: None,
        }
    }
}

impl Sweep {
    pub fn is_armed_at(&self, due_ms: u64) -> bool {
        self.armed_ms == due_ms
    }
}

impl Broker {
    /// A message may wait here until it expires.
    #[inline]
    pub(crate) fn sweep_for(&mut self, message: &Message<'_>, now: Now) {
        if message.expiry_s.is_some() || self.limits.queue_age_max_ms > 0 {
            self.arm_sweep(now);
        }
    }

    /// Something may expire: it is looked for from now on.
    pub(crate) fn arm_sweep(&mut self, now: Now) {
        self.sweep.is_needed = true;
        if self.sweep.armed_ms == NEVER {
            self.arm_sweep_in(PAUSE_MS, now);
        }
    }

    #[cold]
    fn arm_sweep_in(&mut self, ms: u64, now: Now) {
        let due_ms = now.monotonic_ms + ms;
        self.timers
            .arm(Timer::Sweep, due_ms, &mut self.sweep.armed_ms);
    }

    pub(crate) fn sweep_due(&mut self, due_ms: u64, now: Now, out: &mut impl Effects) {
        if !self.sweep.is_armed_at(due_ms) {
            return;
        }
        self.sweep.armed_ms = NEVER;
        // What is to be published goes first.
        if self.dead.len() > self.limits.dead_letters_waiting_max / 2 {
            self.arm_sweep_in(PAGE_PAUSE_MS, now);
            return;
        }
        if let Some(slot) = self.sweep.reading {
            if self.sweep_on(slot, out) {
                self.arm_sweep_in(PAGE_PAUSE_MS, now);
                return;
            }
            self.sweep.reading = None;
        }
        let slots = u32::try_from(self.sessions.slots()).unwrap_or(u32::MAX);
        for _ in 0..SESSIONS_MAX {
            if self.sweep.at >= slots {
                self.sweep.at = 0;
                if self.sweep_groups(now, out) {
                    self.arm_sweep_in(PAGE_PAUSE_MS, now);
                } else if std::mem::take(&mut self.sweep.is_needed) {
                    self.arm_sweep_in(PAUSE_MS, now);
                }
                return;
            }
            let slot = self.sweep.at;
            self.sweep.at += 1;
            if self.sweep_session(slot, now) && self.sweep_on(slot, out) {
                self.sweep.reading = Some(slot);
                self.sweep.is_needed = true;
                self.arm_sweep_in(PAGE_PAUSE_MS, now);
                return;
            }
        }
        self.arm_sweep_in(PAUSE_MS, now);
    }

    /// Buries what expired in memory. Returns whether the queue in the store is to be read through.
    fn sweep_session(&mut self, slot: u32, now: Now) -> bool {
        let Self {
            sessions,
            dead,
            policies,
            limits,
            counters,
            sweep,
            ..
        } = self;
        let session = sessions.get_mut(slot);
        let Some(session) = session.filter(|session| session.moving.is_none()) else {
            return false;
        };
        let is_away = session.connection.is_none();
        let Some(delivery) = &mut session.delivery else {
            return false;
        };
        let has_dead_letters = policies.has_dead_letters();
        let mut graves = Graves {
            dead,
            policies,
            limits,
            counters,
        };
        graves.drop_expired(&mut delivery.queue, now);
        let expires_ms = delivery.cursor.expires_ms(has_dead_letters);
        sweep.is_needed |= delivery.queue.expires_ms() != NEVER || expires_ms != NEVER;
        is_away && expires_ms <= now.monotonic_ms && delivery.cursor.begin_sweep()
    }

    /// Reads a page, unless one is under way. `false`: the session is not read through any more.
    fn sweep_on(&mut self, slot: u32, out: &mut impl Effects) -> bool {
        let session = self.sessions.get_mut(slot);
        let session = session.filter(|session| session.moving.is_none());
        let Some(session) = session.filter(|session| session.connection.is_none()) else {
            return false;
        };
        let number = session.number();
        let (Some(number), Some(delivery)) = (number, session.delivery.as_mut()) else {
            return false;
        };
        if !delivery.cursor.is_sweeping() {
            return false;
        }
        if !delivery.cursor.is_reading() {
            let after = delivery.cursor.begin_read();
            let journal = out.journal();
            journal.read_queue(number, after, PAGE_MESSAGES_MAX, PAGE_BYTES_MAX);
        }
        true
    }

    /// A page of a session's queue came.
    pub(crate) fn hear_swept(
        &mut self,
        slot: u32,
        queue: QueueId,
        read: QueueRead,
        now: Now,
        out: &mut impl Effects,
    ) {
        let (calendar, age_max_ms) = (self.calendar, self.limits.queue_age_max_ms);
        let Some(delivery) = self
            .sessions
            .get_mut(slot)
            .and_then(|session| session.delivery.as_mut())
        else {
            return;
        };
        let (mut expired, mut lost) = (Vec::new(), Vec::new());
        let mut expires_ms = NEVER;
        for entry in read.entries {
            let id = entry.id;
            let is_gone = delivery.cursor.is_settled(id)
                || delivery.inflight.owes(id)
                || self.unsettled.has(queue, id)
                || self.dead.has(queue, id);
            if is_gone {
                continue;
            }
            let too_old_ms = match age_max_ms {
                0 => NEVER,
                age_max_ms => calendar.time(date_of(&entry).saturating_add(age_max_ms)),
            };
            let Some(owed) = opened(entry, calendar) else {
                delivery.cursor.expire(0);
                lost.push(id);
                continue;
            };
            let at_ms = owed.message.expires_ms.min(too_old_ms);
            if at_ms > now.monotonic_ms {
                expires_ms = expires_ms.min(at_ms);
                continue;
            }
            delivery.cursor.expire(owed.message.queued_bytes());
            let is_too_old = too_old_ms <= now.monotonic_ms;
            self.counters.dropped_too_old += u64::from(is_too_old);
            self.counters.dropped_expired += u64::from(!is_too_old);
            expired.push((id, owed));
        }
        self.counters.dropped_expired += lost.len() as u64;
        let mut is_any_settled = false;
        for id in lost {
            if delivery.cursor.settle(id) {
                out.journal().settle(queue, id);
                is_any_settled = true;
            }
        }
        delivery.cursor.swept(expires_ms, read.is_end);
        if is_any_settled {
            self.end(Until::Whenever, out);
        }
        for (id, owed) in expired {
            self.bury_debt(slot, id, &owed, Cause::Expired, out);
        }
    }
}

//! Where a session stands in its queue in the store.
//!
//! It is *live* while everything it is owed has been sent to it: what comes goes to its client at once. A session
//! that is slow or away, or that is owed something at `QoS` 2, is *behind*: nothing of what it is owed is in memory,
//! and as its window has room the queue is read from where it stands. It is live again when a read came to the end,
//! everything it is owed is written down, and nothing was owed since. Not here: reading, sending and writing down
//! (`debtor.rs`).

use std::collections::VecDeque;

use crate::effects::Now;
use crate::journal::MessageId;
use crate::limits::Limits;
use crate::queue::Owed;
use crate::timers::NEVER;

/// What the queue in the store holds for one session, and how far it was sent.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    behind: Option<Box<Behind>>,
    /// Messages in the queue that were not sent, and what they are charged with.
    waiting: usize,
    waiting_bytes: usize,
    /// When the first of what waits expires, on the monotonic clock.
    expires_ms: Option<u64>,
    /// What that is of the messages from before the start is not known.
    is_unswept: bool,
    /// Messages that expired and were not found, whose places others have taken.
    vacated: usize,
    /// Messages ever taken out of the queue, to tell what was there at a given time.
    taken: u64,
    /// What it is owed and its publishers' shards have not written down yet, in the order it came.
    unlogged: VecDeque<MessageId>,
    /// Of these, what its client has acknowledged already.
    acknowledged: Vec<MessageId>,
    /// What was there at the start may have been sent before: everything up to this number.
    pub again_upto: MessageId,
    /// Its order among the `QoS` 2 messages sent to it.
    pub order: u64,
    /// The store refused what has to be on disk before anything can be sent. It is asked again after a while.
    pub is_refused: bool,
}

#[derive(Debug, Default)]
struct Behind {
    /// The place in the queue up to which it was read.
    after: u64,
    /// There may be more behind that place than the last read saw.
    has_more: bool,
    /// It looks for what has to be sent again, and for nothing else.
    is_seeking: bool,
    /// It looks for what expired; the first message found that does so later.
    sweep: Option<u64>,
    reading: Reading,
    /// What was settled since the read that is under way was asked for: it may see it all the same.
    settled: Vec<MessageId>,
    /// What was read and not sent.
    ready: VecDeque<Ready>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Reading {
    #[default]
    No,
    Yes,
    /// The cursor was set back meanwhile: the answer is for nobody.
    InVain,
}

/// What a session that changes shards takes along. There it reads its queue from the beginning.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Departed {
    again_upto: MessageId,
    order: u64,
}

impl From<Departed> for Cursor {
    fn from(departed: Departed) -> Self {
        let mut cursor = Self {
            again_upto: departed.again_upto,
            order: departed.order,
            ..Self::default()
        };
        cursor.fall_behind();
        cursor
    }
}

/// A message that was read and not sent.
#[derive(Debug)]
pub(crate) struct Ready {
    pub id: MessageId,
    pub owed: Owed,
}

impl Cursor {
    /// Whether a message may go to the client at once.
    pub fn is_live(&self) -> bool {
        self.behind.is_none()
    }

    /// Messages that wait in the queue.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Where the queue begins, counted from the session's first message.
    pub fn head(&self) -> u64 {
        self.taken
    }

    /// Where it ends.
    pub fn tail(&self) -> u64 {
        self.taken + self.waiting as u64
    }

    /// The session goes to another shard: what goes with it. What is not written down yet stays, and so do the counts,
    /// until all of it is.
    pub fn depart(&self) -> Departed {
        Departed {
            again_upto: self.again_upto,
            order: self.order,
        }
    }

    /// What the shard it came from counted.
    pub fn arrive(&mut self, (waiting, waiting_bytes): (usize, usize)) {
        self.waiting += waiting;
        self.waiting_bytes += waiting_bytes;
    }

    /// Messages that wait in the queue, and what they are charged with.
    pub fn counts(&self) -> (usize, usize) {
        (self.waiting, self.waiting_bytes)
    }

    /// At the start: the queue holds this.
    pub fn restore(&mut self, waiting: usize, waiting_bytes: usize) {
        self.waiting = waiting;
        self.waiting_bytes = waiting_bytes;
        self.is_unswept = waiting > 0;
        self.fall_behind();
    }

    /// At the start: some of what the queue holds was sent before.
    pub fn begun_before(&mut self, count: usize) {
        self.waiting = self.waiting.saturating_sub(count);
        if self.waiting == 0 {
            self.waiting_bytes = 0;
        }
    }

    /// Whether the queue takes one more message.
    pub fn has_place(&mut self, bytes: usize, limits: &Limits, now: Now) -> bool {
        let is_within = |cursor: &Self| {
            cursor.waiting < limits.queue_messages_max
                && cursor.waiting_bytes + bytes <= limits.queue_bytes_max
        };
        if !is_within(self)
            && let Some(_) = self.expires_ms.take_if(|at_ms| *at_ms <= now.monotonic_ms)
        {
            // What expired makes room first. Which it is, is seen when it is read.
            self.waiting = self.waiting.saturating_sub(1);
            self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes);
            self.vacated += 1;
            // The others are looked for.
            self.is_unswept = true;
        }
        is_within(self)
    }

    /// When the first of what waits expires, or earlier; [`NEVER`]: nothing does. What nobody has looked at since the
    /// start may be anything.
    pub fn expires_ms(&self, is_everything_looked_at: bool) -> u64 {
        if self.is_unswept && self.waiting > 0 && (is_everything_looked_at || self.vacated > 0) {
            return 0;
        }
        self.expires_ms.unwrap_or(NEVER)
    }

    /// Its queue is to be read through for what expired, if nothing else is read.
    pub fn begin_sweep(&mut self) -> bool {
        let is_refused = self.is_refused;
        let Some(behind) = &mut self.behind else {
            return false;
        };
        let is_free = behind.reading == Reading::No && behind.ready.is_empty();
        if !is_free || behind.is_seeking || is_refused {
            return false;
        }
        behind.after = 0;
        behind.sweep = Some(NEVER);
        // Of what comes meanwhile it is kept.
        self.expires_ms = None;
        true
    }

    pub fn is_sweeping(&self) -> bool {
        let behind = self.behind.as_ref();
        behind.is_some_and(|behind| behind.sweep.is_some())
    }

    /// A page was read through, of which the first message to expire is this.
    pub fn swept(&mut self, expires_ms: u64, is_end: bool) {
        let Some(behind) = &mut self.behind else {
            return;
        };
        behind.settled.clear();
        let sweep = behind.sweep.get_or_insert(NEVER);
        *sweep = expires_ms.min(*sweep);
        if is_end {
            let expires_ms = behind.sweep.take().filter(|at_ms| *at_ms != NEVER);
            self.expires_ms = self.expires_ms.into_iter().chain(expires_ms).min();
            self.is_unswept = false;
            self.vacated = 0;
            self.fall_behind();
        }
    }

    /// It is read for its client from here on.
    pub fn stop_sweep(&mut self) {
        if let Some(behind) = &mut self.behind
            && behind.sweep.take().is_some()
        {
            self.is_unswept = true;
            self.expires_ms = Some(0);
            self.fall_behind();
        }
    }

    /// A message was found that expired.
    pub fn expire(&mut self, bytes: usize) {
        if self.vacated > 0 {
            self.vacated -= 1;
            self.taken += 1;
        } else {
            self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes);
            self.take();
        }
    }

    /// A message is owed and sent at once.
    pub fn owe(&mut self, id: MessageId) {
        self.unlogged.push_back(id);
    }

    /// A message is owed and waits.
    pub fn owe_later(&mut self, id: MessageId, bytes: usize, expires_ms: Option<u64>) {
        self.owe(id);
        self.waiting += 1;
        self.waiting_bytes += bytes;
        self.expires_ms = self.expires_ms.into_iter().chain(expires_ms).min();
        self.behind.get_or_insert_default();
    }

    /// Messages are owed and on disk already; the first that expires does so at this time.
    pub fn owe_stored(&mut self, count: usize, bytes: usize, expires_ms: Option<u64>) {
        self.waiting += count;
        self.waiting_bytes += bytes;
        self.expires_ms = self.expires_ms.into_iter().chain(expires_ms).min();
        self.behind.get_or_insert_default().has_more = true;
    }

    /// A message it is owed is written down. Returns whether it is to be settled at once.
    pub fn logged(&mut self, id: MessageId) -> bool {
        self.forget_unlogged(id);
        if let Some(behind) = &mut self.behind {
            behind.has_more = true;
        }
        let at = self.acknowledged.iter().position(|other| *other == id);
        at.is_some_and(|at| {
            self.acknowledged.swap_remove(at);
            if let Some(behind) = &mut self.behind
                && behind.reading == Reading::Yes
            {
                behind.settled.push(id);
            }
            true
        })
    }

    /// A message it was to be owed is not. Returns whether it waited.
    pub fn unlogged(&mut self, id: MessageId, was_sent: bool) {
        self.forget_unlogged(id);
        self.acknowledged.retain(|other| *other != id);
        if !was_sent {
            // What it was charged with is not known any more; an empty queue sets it right.
            self.take();
        }
    }

    /// A message was read: it is written down, whether that was told or not.
    pub fn seen(&mut self, id: MessageId) {
        self.forget_unlogged(id);
    }

    fn forget_unlogged(&mut self, id: MessageId) {
        if let Some(at) = self.unlogged.iter().position(|other| *other == id) {
            self.unlogged.remove(at);
        }
    }

    /// Whether publishers' shards have written down everything it is owed.
    pub fn is_logged(&self) -> bool {
        self.unlogged.is_empty()
    }

    /// A message is done with. Returns whether it is to be settled now; else when it is written down.
    pub fn settle(&mut self, id: MessageId) -> bool {
        if self.unlogged.contains(&id) {
            self.acknowledged.push(id);
            return false;
        }
        if let Some(behind) = &mut self.behind
            && behind.reading == Reading::Yes
        {
            behind.settled.push(id);
        }
        true
    }

    /// From here on everything is read from the queue, from its beginning.
    pub fn fall_behind(&mut self) {
        let behind = self.behind.get_or_insert_default();
        behind.after = 0;
        behind.has_more = true;
        behind.ready.clear();
        behind.settled.clear();
        if behind.reading == Reading::Yes {
            behind.reading = Reading::InVain;
        }
    }

    /// As [`Self::fall_behind`], if it is not live: the connection is gone.
    pub fn set_back(&mut self) {
        if self.behind.is_some() {
            self.fall_behind();
            self.seek(false);
        }
    }

    /// From here on what has to be sent again is read, before anything else.
    pub fn begin_seeking(&mut self) {
        self.fall_behind();
        self.seek(true);
    }

    fn seek(&mut self, is_seeking: bool) {
        if let Some(behind) = &mut self.behind {
            behind.is_seeking = is_seeking;
        }
    }

    pub fn is_seeking(&self) -> bool {
        self.behind.as_ref().is_some_and(|behind| behind.is_seeking)
    }

    /// What has to be sent again is found, or is not there.
    pub fn end_seeking(&mut self) {
        self.begin_seeking();
        self.seek(false);
    }

    /// Where to read on, if there is anything to read and nothing left of what was.
    pub fn wants_read(&self) -> bool {
        self.behind.as_deref().is_some_and(|behind| {
            behind.has_more && behind.reading == Reading::No && behind.ready.is_empty()
        }) && !self.is_refused
    }

    /// A read is asked for, from the place returned on.
    pub fn begin_read(&mut self) -> u64 {
        let behind = self.behind.get_or_insert_default();
        behind.reading = Reading::Yes;
        behind.has_more = false;
        behind.after
    }

    /// Whether a read is under way.
    pub fn is_reading(&self) -> bool {
        let behind = self.behind.as_ref();
        behind.is_some_and(|behind| behind.reading != Reading::No)
    }

    /// A read came; `false`: in vain.
    pub fn end_read(&mut self, last_place: Option<u64>, is_end: bool) -> bool {
        let Some(behind) = &mut self.behind else {
            return false;
        };
        if std::mem::take(&mut behind.reading) != Reading::Yes {
            return false;
        }
        behind.has_more |= !is_end;
        behind.after = last_place.unwrap_or(behind.after);
        true
    }

    /// Whether a message that was read is one the client had meanwhile.
    pub fn is_settled(&self, id: MessageId) -> bool {
        self.acknowledged.contains(&id)
            || self
                .behind
                .as_ref()
                .is_some_and(|behind| behind.settled.contains(&id))
    }

    /// What was read is looked through. Returns whether everything it is owed was read.
    pub fn is_at_end(&mut self) -> bool {
        let Some(behind) = &mut self.behind else {
            return false;
        };
        behind.settled.clear();
        !behind.has_more && self.unlogged.is_empty()
    }

    /// Everything that waits was read.
    pub fn count_ready(&mut self) {
        if let Some(behind) = &self.behind {
            let ready = &behind.ready;
            self.waiting = ready.len();
            self.waiting_bytes = ready.iter().map(|ready| charge(&ready.owed)).sum();
        }
    }

    pub fn push(&mut self, ready: Ready) {
        if let Some(behind) = &mut self.behind {
            behind.ready.push_back(ready);
        }
    }

    /// What is to be sent next.
    pub fn front(&self) -> Option<&Ready> {
        self.behind.as_ref()?.ready.front()
    }

    pub fn pop(&mut self) -> Option<Ready> {
        let ready = self.behind.as_mut()?.ready.pop_front()?;
        self.waiting_bytes = self.waiting_bytes.saturating_sub(charge(&ready.owed));
        self.take();
        Some(ready)
    }

    /// A message left the queue.
    pub fn take(&mut self) {
        self.taken += 1;
        self.waiting = self.waiting.saturating_sub(1);
        if self.waiting == 0 {
            self.waiting_bytes = 0;
        }
    }

    /// Live again, if everything it is owed was sent.
    pub fn catch_up(&mut self) {
        let is_caught_up = self.behind.as_ref().is_some_and(|behind| {
            !behind.has_more && behind.reading == Reading::No && behind.ready.is_empty()
        });
        if is_caught_up && self.unlogged.is_empty() {
            self.behind = None;
            (self.waiting, self.waiting_bytes, self.expires_ms) = (0, 0, None);
            (self.is_unswept, self.vacated) = (false, 0);
        }
    }
}

fn charge(owed: &Owed) -> usize {
    owed.message.queued_bytes()
}

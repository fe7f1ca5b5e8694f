//! Delayed messages: accepted now, published at their time.
//!
//! The shard that a client publishes one at writes it down as any message that is kept, with a row under its time, and
//! tells the *home* of all delayed messages, which is one shard. The home knows of each when it is due and how large it
//! is ([`pending`]); shortly before, the content is read back. It is then published as a will is: what everybody is owed
//! of it and the end of its row are one transaction, so that after a crash it is published or it waits, and never both.
//!
//! A message with a name (`waypost-delay-id`) takes the place of the one before it. It does so once it is kept, and is
//! not published before the row of that one is deleted: so that the disk never has the earlier and not the later. The
//! earlier one is not published as long as it is not known whether the later one is kept, and whoever published that is
//! answered when the home knows of it.
//!
//! Not here: when clients and shards are told that something is kept (`held.rs`), and clocks (`calendar.rs`).

mod accept;
mod asked;
mod pending;
mod release;

use std::collections::{BTreeSet, VecDeque};

pub(crate) use asked::{Asked, asked, forward_without_delay};
pub(crate) use pending::Entry;
use pending::{Cancelled, Mark, Outcome, Pending};

use crate::broker::{Broker, Random};
use crate::effects::{Effects, Now, ShardId};
use crate::hash::Hasher;
use crate::interest::post;
use crate::journal::{MessageId, QueueId, Refusal, Table, Ticket, Until};
use crate::mail::Mail;
use crate::rows::{DelayedRow, Due, RowError, packet_key};
use crate::timers::{NEVER, Timer};

/// The shard that has all delayed messages.
const HOME: ShardId = ShardId(0);
/// How long after a refusal the store is asked again.
const RETRY_MS: u64 = 1_000;
/// How long before its time a content is read.
const AHEAD_MS: u64 = 1_000;

/// What the home is told of a message.
#[derive(Debug)]
pub(crate) enum DelayedWord {
    /// It was accepted, and is on its way to the store.
    Accepted {
        entry: Entry,
        name: Option<Box<Name>>,
        /// Under which number somebody waits for the home to know of it.
        question: Option<u64>,
    },
    /// It is kept, or is not. Of those without a name only the latter is said.
    Kept { due: Due, is_kept: bool },
    /// What has this name is not to be published.
    Cancel(Box<Cancel>),
}

/// What replaces and cancels goes by.
#[derive(Debug)]
pub(crate) struct Name {
    topic: Box<str>,
    delay_id: Box<str>,
}

/// What a publisher takes back.
#[derive(Debug)]
pub(crate) struct Cancel {
    name: Name,
    /// Under which number somebody waits for what becomes of it.
    question: Option<u64>,
    /// The session and the identifier it came with, at `QoS` 2: taken note of in the same transaction, so that a repeat
    /// cancels nothing that came later.
    received: Option<(QueueId, u16)>,
}

/// What a transaction said of a delayed message, to be put right if it is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DelayedPromise {
    /// It waits for its time. The flag: it has a name.
    Waits(Due, bool),
    /// It was published.
    Published(Entry),
}

/// Rows that are being deleted.
#[derive(Debug)]
enum Deleting {
    /// What a message took the place of.
    Replaced(MessageId, Vec<Due>),
    /// What was cancelled, if there was anything, and whoever asked.
    Cancelled(Option<Cancelled>, ShardId, Option<u64>),
    /// What is not to be published.
    Dropped(Entry),
}

/// The delayed messages, at their home; and at every shard what it asked the home.
pub(crate) struct Delayed {
    pending: Pending,
    deleting: VecDeque<(Ticket, Deleting)>,
    /// The store refused to delete what these took the place of.
    undeleted: BTreeSet<MessageId>,
    /// The store refused something: nothing is published before.
    resume_ms: u64,
    armed_ms: u64,
    /// Two halves of what a name is hashed to.
    hashers: [Hasher; 2],
    /// Questions to the home so far.
    asked: u64,
    /// After a start: nothing is published before all shards have confirmed this round, and told of their sessions by
    /// that.
    restored: Option<u64>,
}

impl Delayed {
    pub fn new(random: &mut Random) -> Self {
        Self {
            pending: Pending::default(),
            deleting: VecDeque::new(),
            undeleted: BTreeSet::new(),
            resume_ms: 0,
            armed_ms: NEVER,
            hashers: [Hasher::new(random.next()), Hasher::new(random.next())],
            asked: 0,
            restored: None,
        }
    }

    pub fn len(&self) -> usize {
        self.pending.len()
    }

    pub fn is_armed_at(&self, due_ms: u64) -> bool {
        self.armed_ms == due_ms
    }

    fn mark(&self, topic: &str, delay_id: &str) -> Mark {
        let text = format!("{topic}\0{delay_id}");
        let [high, low] = &self.hashers;
        u128::from(high.hash(&text)) << 64 | u128::from(low.hash(&text))
    }
}

impl Broker {
    /// Tells the home.
    pub(crate) fn tell_delayed(&mut self, word: DelayedWord, now: Now, out: &mut impl Effects) {
        if self.shard == HOME {
            self.hear_delayed(HOME, word, now, out);
        } else {
            post(HOME, Mail::Delayed(word), out);
        }
    }

    /// As home.
    pub(crate) fn hear_delayed(
        &mut self,
        from: ShardId,
        word: DelayedWord,
        now: Now,
        out: &mut impl Effects,
    ) {
        match word {
            DelayedWord::Accepted {
                entry,
                name,
                question,
            } => {
                let name = name.as_deref();
                let mark = name.map(|name| self.delayed.mark(&name.topic, &name.delay_id));
                let outcome = self.delayed.pending.insert(entry, mark, false);
                self.come_to(outcome, out);
                if let Some(number) = question {
                    let outcome = Ok(true);
                    post(from, Mail::DelayedKnown { number, outcome }, out);
                }
            }
            DelayedWord::Kept { due, is_kept } => {
                let outcome = self.delayed.pending.hear(due, is_kept);
                self.come_to(outcome, out);
                // What it was to replace may have waited for this.
                let armed_ms = &mut self.delayed.armed_ms;
                self.timers.arm(Timer::Delayed, now.monotonic_ms, armed_ms);
            }
            DelayedWord::Cancel(cancel) => {
                let (_, ticket) = self.cancel_delayed(&cancel, from, out);
                if ticket.is_none()
                    && let Some(number) = cancel.question
                {
                    let outcome = Ok(false);
                    post(from, Mail::DelayedKnown { number, outcome }, out);
                }
            }
        }
        // Another one may be the first now.
        self.read_delayed(now, out);
    }

    fn come_to(&mut self, outcome: Outcome, out: &mut impl Effects) {
        match outcome {
            Outcome::Nothing => {}
            Outcome::Replace(by) => self.delete_replaced(by, out),
            Outcome::Gone => self.numbers.end_delayed(),
        }
    }

    /// Deletes what a message took the place of.
    fn delete_replaced(&mut self, by: MessageId, out: &mut impl Effects) {
        let (rows, waited) = self.delayed.pending.take_replaced(by);
        self.counters.delayed_replaced += waited as u64;
        for _ in 0..waited {
            self.numbers.end_delayed();
        }
        if rows.is_empty() {
            return;
        }
        let ticket = self.delete_delayed(&rows, Until::Whenever, out);
        let deleting = Deleting::Replaced(by, rows);
        self.delayed.deleting.push_back((ticket, deleting));
    }

    /// As home: what has a name is not to be published. Returns whether there is anything, and it is not too late; and
    /// the transaction to wait for, if there is one.
    fn cancel_delayed(
        &mut self,
        cancel: &Cancel,
        from: ShardId,
        out: &mut impl Effects,
    ) -> (bool, Option<Ticket>) {
        let Cancel {
            name,
            question,
            received,
        } = cancel;
        let mark = self.delayed.mark(&name.topic, &name.delay_id);
        let cancelled = self.delayed.pending.cancel(mark);
        let is_any = cancelled.is_some();
        if !is_any && received.is_none() {
            return (false, None);
        }
        if let Some((queue, packet_id)) = *received {
            let key = packet_key(queue, packet_id);
            out.journal().put(Table::RECEIVED, &key, &[]);
        }
        let rows = cancelled.as_ref().map(|cancelled| &*cancelled.rows);
        let ticket = self.delete_delayed(rows.unwrap_or_default(), Until::Durable, out);
        let deleting = Deleting::Cancelled(cancelled, from, *question);
        self.delayed.deleting.push_back((ticket, deleting));
        (is_any, Some(ticket))
    }

    fn delete_delayed(&mut self, rows: &[Due], until: Until, out: &mut impl Effects) -> Ticket {
        for due in rows {
            out.journal().delete(Table::DELAYED, &due.key());
        }
        self.end(until, out)
    }

    /// Transactions up to here are on disk.
    pub(crate) fn delayed_stored(&mut self, durable: Ticket, now: Now, out: &mut impl Effects) {
        let mut is_any_done = false;
        while let Some((_, done)) = self
            .delayed
            .deleting
            .pop_front_if(|(ticket, _)| *ticket <= durable)
        {
            is_any_done = true;
            match done {
                Deleting::Replaced(by, rows) => {
                    self.delayed.pending.replaced_deleted(by, &rows);
                }
                Deleting::Cancelled(cancelled, from, question) => {
                    self.counters.delayed_cancelled += u64::from(cancelled.is_some());
                    for _ in cancelled.iter().flat_map(|cancelled| &cancelled.waited) {
                        self.numbers.end_delayed();
                    }
                    if let Some(number) = question {
                        let outcome = Ok(cancelled.is_some());
                        post(from, Mail::DelayedKnown { number, outcome }, out);
                    }
                }
                Deleting::Dropped(_) => {}
            }
        }
        if is_any_done {
            self.release_delayed(now, out);
        }
    }

    /// Transactions from the first to the last are not kept.
    pub(crate) fn delayed_refused(
        &mut self,
        first: Ticket,
        last: Ticket,
        why: Refusal,
        now: Now,
        out: &mut impl Effects,
    ) {
        let is_refused = |(ticket, _): &(Ticket, Deleting)| (first..=last).contains(ticket);
        let deleting = std::mem::take(&mut self.delayed.deleting);
        let (refused, going_on): (VecDeque<_>, _) = deleting.into_iter().partition(is_refused);
        self.delayed.deleting = going_on;
        for (_, refused) in refused {
            match refused {
                Deleting::Replaced(by, _) => {
                    self.delayed.undeleted.insert(by);
                }
                Deleting::Cancelled(cancelled, from, question) => {
                    if let Some(number) = question {
                        let outcome = Err(why);
                        post(from, Mail::DelayedKnown { number, outcome }, out);
                    }
                    let put_back = cancelled.map(|it| self.delayed.pending.put_back(it));
                    if let Some(Outcome::Replace(by)) = put_back {
                        self.delayed.undeleted.insert(by);
                    }
                }
                Deleting::Dropped(entry) => {
                    self.numbers.begin_delayed(u64::MAX);
                    self.delayed.pending.not_dropped(entry);
                }
            }
            self.delayed.resume_ms = now.monotonic_ms + RETRY_MS;
        }
        self.arm_delayed(now);
    }

    /// At a start: a row of delayed messages.
    pub(crate) fn restore_delayed(&mut self, key: &[u8], value: &[u8]) -> Result<(), RowError> {
        let due = Due::decode_due(key)?;
        let DelayedRow { bytes, name } = DelayedRow::decode_delayed(value)?;
        self.numbers.skip(due.id);
        if self.shard != HOME {
            return Ok(());
        }
        self.numbers.begin_delayed(u64::MAX);
        let mark = name.map(|(topic, delay_id)| self.delayed.mark(topic, delay_id));
        let entry = Entry { due, bytes };
        if let Outcome::Replace(by) = self.delayed.pending.insert(entry, mark, true) {
            self.delayed.undeleted.insert(by);
        }
        Ok(())
    }

    /// At a start: all rows have come.
    pub(crate) fn begin_delayed(&mut self, now: Now, out: &mut impl Effects) {
        if self.shard != HOME || self.delayed.len() == 0 {
            return;
        }
        if self.shards > 1 {
            self.delayed.restored = Some(self.ask_round(out));
        }
        self.release_delayed(now, out);
    }

    /// Other shards have confirmed a round.
    pub(crate) fn delayed_confirmed(&mut self, now: Now, out: &mut impl Effects) {
        let all = self.fresh.confirmed_by_all();
        let restored = &mut self.delayed.restored;
        if restored.take_if(|round| *round <= all).is_some() {
            self.release_delayed(now, out);
        }
    }

    /// As home: what is due is published, and what is due soon read.
    pub(crate) fn delayed_due(&mut self, due_ms: u64, now: Now, out: &mut impl Effects) {
        if self.delayed.armed_ms != due_ms {
            return;
        }
        self.delayed.armed_ms = NEVER;
        self.release_delayed(now, out);
    }

    fn arm_delayed(&mut self, now: Now) {
        let delayed = &mut self.delayed;
        let Some(first) = delayed.pending.first() else {
            return;
        };
        let due_ms = self.calendar.time(first.wall_ms);
        let is_asked = delayed.pending.is_first_asked();
        // What was asked for wakes by itself.
        let due_ms = match is_asked {
            true if due_ms <= now.monotonic_ms => NEVER,
            true => due_ms,
            false => due_ms.saturating_sub(AHEAD_MS),
        };
        let is_refused = delayed.resume_ms > now.monotonic_ms;
        let due_ms = if is_refused {
            delayed.resume_ms
        } else {
            due_ms
        };
        self.timers
            .arm(Timer::Delayed, due_ms, &mut delayed.armed_ms);
    }
}

//! One group as its home shard has it: who is in it, what waits, what is in flight. A pure state machine.
//!
//! The strategy sees only members that are online. Not here: how a message reaches a member, and who is told of what.

use std::rc::Rc;
use std::sync::Arc;

use waypost_balance::{Balance, Choice, Member, MemberId};
use waypost_mqtt::QoS;

use super::debtor::Debtor;
use super::line::Line;
use super::membership::Room;
use super::message::{Aftermath, Begun, Dropped, Given, Step, Waiting};
use super::seats::{Detail, Seats, Sent};
use crate::effects::Now;
use crate::index::FilterId;
use crate::limits::Limits;
use crate::policy::Policy;

pub(crate) struct Group {
    /// The Topic Filter of its subscriptions, `$share/…` or `$queue/…`: what tells groups apart.
    pub filter: Box<str>,
    /// What it matches, in the index.
    pub filter_id: FilterId,
    policy: Policy,
    pub(super) strategy: Box<dyn Balance>,
    seed: u64,
    pub seats: Seats,
    pub(super) line: Line,
    /// What it is to the store, if it is owed messages by it.
    pub debtor: Option<Debtor>,
    /// As many of these are in the shard's sum.
    pub counted: usize,
    /// Members that have become ready and have something kept for them.
    runnable: Vec<MemberId>,
    next_number: u32,
    /// Members with bytes in their outbox when that was last looked at.
    pub(super) loaded: Vec<MemberId>,
    /// Messages at `QoS` 0 since then.
    pub(super) unlooked: usize,
    /// When what expired was last looked for.
    swept_ms: u64,
}

impl Group {
    pub fn new(filter: Box<str>, filter_id: FilterId, policy: Policy, seed: u64) -> Self {
        Self {
            filter,
            filter_id,
            strategy: (policy.balance.new)(seed),
            policy,
            seed,
            seats: Seats::default(),
            line: Line::default(),
            debtor: None,
            counted: 0,
            runnable: Vec::new(),
            next_number: 0,
            loaded: Vec::new(),
            unlooked: 0,
            swept_ms: 0,
        }
    }

    /// Messages that wait for a member.
    pub fn waiting(&self) -> usize {
        let beyond = self.debtor.as_ref().map_or(0, |debtor| debtor.beyond().0);
        self.line.count() + beyond
    }

    /// Whether one more message may wait. What expired makes room first; it is looked for once a millisecond at most.
    pub fn has_place(&mut self, bytes: usize, limits: &Limits, now: Now) -> (bool, Vec<Dropped>) {
        let mut dropped = Vec::new();
        if self.is_full(bytes, limits) && self.swept_ms != now.monotonic_ms {
            self.swept_ms = now.monotonic_ms;
            dropped = self.line.take_expired(now);
        }
        (!self.is_full(bytes, limits), dropped)
    }

    fn is_full(&self, bytes: usize, limits: &Limits) -> bool {
        let (beyond, beyond_bytes) = self.debtor.as_ref().map_or((0, 0), Debtor::beyond);
        self.line.count() + beyond >= limits.group_queue_messages_max
            || self.line.bytes() + beyond_bytes + bytes > limits.group_queue_bytes_max
    }

    /// Puts a message at the end: in memory, unless that has its share of what the store has too.
    pub fn push(&mut self, waiting: Waiting, limits: &Limits) {
        let bytes = waiting.message.queued_bytes();
        if let Some((debtor, id)) = self.debtor.as_mut().zip(waiting.debt)
            && !debtor.keeps(id, waiting.qos, bytes, &self.line, limits)
        {
            return;
        }
        self.line.push(waiting);
    }

    /// What is to be done with what waits.
    pub fn next(&mut self, now: Now) -> Step {
        while let Some(id) = self.runnable.last() {
            if let Some(at) = self.seats.online_at(*id)
                && self.seats.is_ready(at)
                && let Some(kept) = self
                    .seats
                    .detail_at(at)
                    .and_then(|detail| detail.kept.front())
            {
                if kept.message.is_expired(now) {
                    return self.drop_kept(at, now);
                }
                return Step::Send(at);
            }
            self.runnable.pop();
        }
        loop {
            let Some(head) = self.line.head() else {
                return Step::Idle;
            };
            if self.seats.online().0.is_empty() {
                return Step::Idle;
            }
            let is_given_up = head.message.is_expired(now).then_some(Given::Expired);
            let choice = match is_given_up {
                Some(_) => Choice::Nobody,
                None if head.too_large_for.is_empty() => {
                    let (members, _) = self.seats.online();
                    let request = self.line.head().map(|head| head.request(now));
                    request.map_or(Choice::Nobody, |request| {
                        self.strategy.choose(members, &request)
                    })
                }
                None => self.seats.choose_other_than(&head.too_large_for),
            };
            // Everybody online was tried.
            let is_too_large = choice == Choice::Nobody
                && self
                    .line
                    .head()
                    .is_some_and(|head| !head.too_large_for.is_empty());
            let is_given_up = is_given_up.or(is_too_large.then_some(Given::TooLarge));
            if let Some(reason) = is_given_up {
                return self.line.pop().map_or(Step::Idle, |waiting| {
                    Step::Drop(Dropped {
                        waiting,
                        reason,
                        client_id: None,
                    })
                });
            }
            match choice {
                Choice::Now(at) => return Step::Send(at),
                Choice::Later(at) if self.seats.is_ready(at) => return Step::Send(at),
                Choice::Later(at) => self.keep_for(at, now),
                Choice::Nobody => return Step::Idle,
            }
        }
    }

    fn drop_kept(&mut self, at: usize, now: Now) -> Step {
        let id = self.seats.id_at(at);
        let kept = self
            .seats
            .detail_at_mut(at)
            .and_then(|detail| detail.kept.pop_front());
        let (Some(id), Some(waiting)) = (id, kept) else {
            return Step::Idle;
        };
        self.line.count_out(&waiting);
        if let Some(token) = waiting.token {
            self.strategy
                .on_done(id, token, None, now.monotonic_ms * 1000);
        }
        Step::Drop(Dropped {
            waiting,
            reason: Given::Expired,
            client_id: None,
        })
    }

    /// The head is this member's, though it cannot have it now.
    fn keep_for(&mut self, at: usize, now: Now) {
        let Some(id) = self.seats.id_at(at) else {
            return;
        };
        let Some(mut waiting) = self.line.pop() else {
            return;
        };
        waiting.token = Some(self.strategy.on_sent(id, &waiting.request(now)));
        self.line.count_in(&waiting);
        if let Some(detail) = self.seats.detail_at_mut(at) {
            detail.keep(waiting);
        }
    }

    /// Begins the delivery of what [`Self::next`] spoke of.
    pub fn begin(&mut self, at: usize, now: Now) -> Option<Begun> {
        let id = self.seats.id_at(at)?;
        let kept = self
            .seats
            .detail_at_mut(at)
            .and_then(|detail| detail.kept.pop_front());
        let mut waiting = match kept {
            Some(waiting) => {
                self.line.count_out(&waiting);
                waiting
            }
            None => self.line.pop()?,
        };
        let detail = self.seats.detail_at(at)?;
        // 5 [MQTT-4.8.2-3]: the lower of the published and the granted QoS, for each member.
        let qos = waiting.qos.min(detail.qos);
        let knew = detail.knew;
        let retain = waiting.retain && detail.retain_as_published;
        let message = Rc::clone(&waiting.message);
        if qos == QoS::AtMostOnce {
            if let Some(token) = waiting.token {
                self.strategy
                    .on_done(id, token, None, now.monotonic_ms * 1000);
            }
            return Some(Begun {
                id,
                number: None,
                message,
                qos,
                retain,
                debt: waiting.debt,
            });
        }
        let token = match waiting.token.take() {
            Some(token) => token,
            None => self.strategy.on_sent(id, &waiting.request(now)),
        };
        let number = self.next_number;
        self.next_number = number.wrapping_add(1);
        waiting.deliveries += 1;
        let debt = waiting.debt;
        self.seats.sent(
            at,
            Sent {
                number,
                qos,
                knew,
                since_ms: now.monotonic_ms,
                token,
                waiting,
            },
        );
        Some(Begun {
            id,
            number: Some(number),
            message,
            qos,
            retain,
            debt,
        })
    }

    /// A member has acknowledged a message, or refused it; one taken back before changes nothing.
    pub fn done(&mut self, id: MemberId, number: u32, now: Now) -> Option<Waiting> {
        let sent = self.seats.finish(id, number)?;
        if self.seats.online_at(id).is_some() {
            let elapsed_ms = now.monotonic_ms.saturating_sub(sent.since_ms);
            let now_us = now.monotonic_ms * 1000;
            self.strategy
                .on_done(id, sent.token, Some(elapsed_ms * 1000), now_us);
        }
        self.became_ready(id);
        Some(sent.waiting)
    }

    /// A delivery never reached the member's client.
    pub fn returned(&mut self, id: MemberId, number: u32, is_too_large: bool, now: Now) {
        let Some(sent) = self.seats.finish(id, number) else {
            return;
        };
        if is_too_large {
            self.ended_otherwise(id, sent.token, now);
            let mut waiting = unsent(sent);
            waiting.too_large_for.push(id);
            self.line.put_back(waiting);
        } else {
            // Whatever was sent after it, and before its shard's word came, is on its way back too.
            let knew = sent.knew;
            let is_later = |other: u32| other.wrapping_sub(number) < u32::MAX / 2;
            let later = self
                .seats
                .take_in_flight(id, |other| other.knew == knew && is_later(other.number));
            self.seats.count_returned(id, knew);
            for sent in std::iter::once(sent).chain(later) {
                self.give_again(id, sent, now);
            }
        }
        self.became_ready(id);
    }

    /// A delivery was not begun; those after it may have been.
    pub fn not_kept(&mut self, id: MemberId, number: u32, now: Now) {
        if let Some(sent) = self.seats.finish(id, number) {
            self.ended_otherwise(id, sent.token, now);
            self.line.put_back(unsent(sent));
            self.became_ready(id);
        }
    }

    /// A delivery that came back goes before what is kept for its member by now.
    fn give_again(&mut self, id: MemberId, sent: Sent, now: Now) {
        let token = sent.token;
        let mut waiting = unsent(sent);
        if let Some(at) = self.seats.online_at(id)
            && let Some(detail) = self.seats.detail_at_mut(at)
            && !detail.kept.is_empty()
        {
            waiting.token = Some(token);
            self.line.count_in(&waiting);
            detail.keep(waiting);
        } else {
            self.ended_otherwise(id, token, now);
            self.line.put_back(waiting);
        }
    }

    fn ended_otherwise(&mut self, id: MemberId, token: u64, now: Now) {
        if self.seats.online_at(id).is_some() {
            self.strategy
                .on_done(id, token, None, now.monotonic_ms * 1000);
        }
    }

    fn became_ready(&mut self, id: MemberId) {
        if let Some(at) = self.seats.online_at(id)
            && self.seats.is_ready(at)
            && self
                .seats
                .detail_at(at)
                .is_some_and(|detail| !detail.kept.is_empty())
        {
            self.runnable.push(id);
        }
    }

    /// Says whether a member's outbox is too full for more, and whether its window is.
    pub fn set_room(&mut self, id: MemberId, room: Room) {
        self.seats.set_room(id, room);
        self.became_ready(id);
    }

    /// A member comes, online or not.
    pub fn join(&mut self, member: Member, detail: Detail, is_online: bool) -> MemberId {
        let id = self.seats.add(member, detail);
        if is_online {
            self.come_back(id, None, Now::default());
        }
        id
    }

    /// A member subscribed again.
    pub fn change(&mut self, id: MemberId, weight: u32, change: impl FnOnce(&mut Detail)) {
        if let Some(member) = self.seats.change(id, weight, change) {
            self.strategy.on_joined(&member);
        }
    }

    /// A member is online, with this credit.
    pub fn come_back(&mut self, id: MemberId, credit: Option<u32>, now: Now) {
        let Some(at) = self.seats.come(id, credit) else {
            // Its session was taken over by another connection.
            if let (Some(at), Some(credit)) = (self.seats.online_at(id), credit) {
                if let Some(detail) = self.seats.detail_at_mut(at) {
                    detail.credit = credit;
                }
                self.set_room(id, Room::default());
                self.announce_in_flight(at, now, false, true);
            }
            return;
        };
        if let Some(member) = self.seats.online().0.get(at) {
            self.strategy.on_joined(member);
        }
        self.announce_in_flight(at, now, true, true);
    }

    /// Tells the strategy of what is in flight to a member.
    fn announce_in_flight(&mut self, at: usize, now: Now, is_new: bool, is_sent_again: bool) {
        let Self {
            seats, strategy, ..
        } = self;
        let (Some(id), Some(detail)) = (seats.id_at(at), seats.detail_at_mut(at)) else {
            return;
        };
        for sent in &mut detail.in_flight {
            if is_new {
                sent.token = strategy.on_sent(id, &sent.waiting.request(now));
            }
            if is_sent_again {
                sent.since_ms = now.monotonic_ms;
                sent.waiting.deliveries += u32::from(sent.qos == QoS::AtLeastOnce);
            }
        }
    }

    /// A member has no connection any more.
    pub fn go_away(&mut self, id: MemberId) {
        if let Some(kept) = self.seats.go(id) {
            self.strategy.on_left(id);
            for waiting in kept {
                self.line.count_out(&waiting);
                self.line.put_back(waiting);
            }
        }
    }

    /// A member unsubscribed: these deliveries are its to finish, the others go back. 5 [MQTT-3.10.4-3]
    pub fn unsubscribe(&mut self, id: MemberId, held: &[u32]) {
        self.go_away(id);
        for sent in self.take_all_but(id, held) {
            self.take_again(sent);
        }
        self.seats.end(id);
    }

    fn take_all_but(&mut self, id: MemberId, held: &[u32]) -> Vec<Sent> {
        self.seats
            .take_in_flight(id, |sent| !held.contains(&sent.number))
    }

    /// A member's session goes from shard to shard, with these deliveries; the others never came to it. It keeps what
    /// it has, as one does that another connection of its shard took over, and has room again when it says so.
    /// Returns which of the deliveries it has no more.
    pub fn travel(&mut self, id: MemberId, mut held: Vec<u32>, now: Now) -> Vec<u32> {
        self.seats.set_room(id, Room::NONE);
        if let Some(at) = self.seats.online_at(id) {
            // Nobody says any more what became of them.
            self.seats.set_bytes(at, 0);
        }
        for sent in self.take_all_but(id, &held) {
            self.give_again(id, sent, now);
        }
        if let Some(detail) = self.seats.detail(id) {
            let is_kept = |number: &u32| {
                let mut kept = detail.in_flight.iter();
                kept.any(|sent| sent.number == *number)
            };
            held.retain(|number| !is_kept(number));
        }
        held
    }

    /// A member's session ended: what the client had taken over is done, what it may have at `QoS` 2 dies with it.
    pub fn end_session(&mut self, id: MemberId, lost: &[u32], done: &[u32], after: &mut Aftermath) {
        self.go_away(id);
        for sent in self.seats.take_in_flight(id, |_| true) {
            if lost.contains(&sent.number) {
                let client_id = self.seats.client_id(id);
                after.dropped.push(Dropped {
                    waiting: sent.waiting,
                    reason: Given::SessionEnded,
                    client_id,
                });
            } else if done.contains(&sent.number) {
                after.finished.extend(sent.waiting.debt);
            } else {
                self.retry(sent, id, after);
            }
        }
        self.seats.end(id);
    }

    /// A message that was never begun goes back.
    fn take_again(&mut self, sent: Sent) {
        self.line.put_back(unsent(sent));
    }

    /// A message that was sent and not acknowledged is tried again, unless that was its last time.
    fn retry(&mut self, sent: Sent, id: MemberId, after: &mut Aftermath) {
        if self.is_last(&sent) {
            after.dropped.push(Dropped {
                waiting: sent.waiting,
                reason: Given::MaxDeliveries,
                client_id: self.seats.client_id(id),
            });
        } else {
            self.line.put_back(sent.waiting);
        }
    }

    /// Where a message goes that it gives up.
    pub fn dead_letter(&self) -> Option<&Arc<str>> {
        self.policy.dead_letter.as_ref()
    }

    fn is_last(&self, sent: &Sent) -> bool {
        let max = self.policy.max_deliveries;
        max > 0 && sent.waiting.deliveries >= max
    }

    /// Takes back what members that are away have not acknowledged at `QoS` 1, if somebody else can have it.
    pub fn relieve_the_absent(&mut self, after: &mut Aftermath) {
        let anybody = !self.seats.online().0.is_empty();
        for id in self.seats.absent() {
            let max = self.policy.max_deliveries;
            let taken = self.seats.take_in_flight(id, |sent| {
                sent.qos == QoS::AtLeastOnce
                    && (anybody || (max > 0 && sent.waiting.deliveries >= max))
            });
            for sent in taken {
                after.taken_back.push((id, sent.number));
                self.retry(sent, id, after);
            }
        }
    }

    /// Nobody is in the group any more: everything it still has.
    pub fn dissolve(&mut self) -> Vec<Dropped> {
        let all = self.line.clear();
        all.map(|waiting| Dropped {
            waiting,
            reason: Given::SessionEnded,
            client_id: None,
        })
        .collect()
    }

    /// Goes by another policy from now on; what waited for one member is shared out anew.
    pub fn adopt(&mut self, policy: Policy, now: Now) {
        let is_same = policy.balance == self.policy.balance;
        self.policy = policy;
        if is_same {
            return;
        }
        self.strategy = (self.policy.balance.new)(self.seed);
        for member in self.seats.online().0 {
            self.strategy.on_joined(member);
        }
        for at in 0..self.seats.online().0.len() {
            let kept = self
                .seats
                .detail_at_mut(at)
                .map(|detail| std::mem::take(&mut detail.kept));
            for waiting in kept.into_iter().flatten() {
                self.line.count_out(&waiting);
                self.line.put_back(waiting);
            }
            self.announce_in_flight(at, now, true, false);
        }
        self.runnable.clear();
    }
}

/// A message that its member's client was never sent.
fn unsent(sent: Sent) -> Waiting {
    let mut waiting = sent.waiting;
    waiting.deliveries = waiting.deliveries.saturating_sub(1);
    waiting
}

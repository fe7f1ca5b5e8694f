//! Messages whose debtors other shards have yet to name, and what waits behind them.

use super::writing::{ReceivedRow, Retains, Spent, Writing, needed_wall_ms, row_of, waited};
use crate::broker::Broker;
use crate::debts::Debts;
use crate::effects::{Effects, Now, ShardId};
use crate::held::{Answer, Pending, Promise, Recipient, Wait};
use crate::interest::post;
use crate::journal::{MessageId, Until};
use crate::mail::Mail;
use crate::session::ReceivedId;
use crate::stream::StreamId;

/// A message whose debtors are not all named.
#[derive(Debug)]
pub(crate) struct PendingPublish {
    pub debts: Debts,
    /// Shards with debtors.
    pub owing: Vec<ShardId>,
    pub(super) until: Until,
    pub(super) expires_wall_ms: u64,
    pub(super) body: Box<[u8]>,
    pub(super) entered: Box<[StreamId]>,
    /// Topic, stamp, and whether that leaves nothing.
    pub(super) retains: Option<(Box<str>, u64, bool)>,
    /// With its row, if its session has a number.
    pub(super) received: Option<(ReceivedId, Option<ReceivedRow>)>,
    pub(super) spent: Option<Spent>,
    pub(super) to: Option<Recipient>,
    pub(super) answer: Option<Answer>,
    pub(super) is_reported: bool,
}

impl Broker {
    /// Another shard says who is owed a message of this one.
    pub(crate) fn hear_owes(
        &mut self,
        from: ShardId,
        debts: &Debts,
        now: Now,
        out: &mut impl Effects,
    ) {
        let Some(publish) = debts.id.and_then(|id| self.held.pending_publish(id)) else {
            return;
        };
        publish.debts.asked = publish.debts.asked.saturating_sub(1);
        if !debts.is_empty() {
            publish.debts.add(debts);
            publish.owing.push(from);
        }
        self.write_pending(now, out);
    }

    /// Writes down what no shard has to be asked about any more, in order.
    pub(crate) fn write_pending(&mut self, now: Now, out: &mut impl Effects) {
        let mut logged: Vec<(ShardId, MessageId)> = Vec::new();
        while let Some(pending) = self.held.next_pending() {
            match pending {
                Pending::Answer {
                    to,
                    answer,
                    wait,
                    promise,
                } => {
                    self.count_pending_less(Some(to), Some(answer));
                    self.queue_answer(Some(to), Some(answer), wait, promise, out);
                }
                Pending::Publish(publish) => self.write_publish(*publish, &mut logged, out),
            }
        }
        for (shard, upto) in logged {
            if shard == self.shard {
                self.logged(shard, upto, now, out);
            } else {
                post(shard, Mail::Logged { upto }, out);
            }
        }
        self.release_due(now, out);
    }

    fn write_publish(
        &mut self,
        publish: PendingPublish,
        logged: &mut Vec<(ShardId, MessageId)>,
        out: &mut impl Effects,
    ) {
        let PendingPublish {
            mut debts,
            owing,
            until,
            expires_wall_ms,
            body,
            entered,
            retains,
            received,
            spent,
            to,
            answer,
            is_reported,
        } = publish;
        self.count_pending_less(to, answer);
        // It may have been released, or its session ended, since.
        let is_received = |sessions: &mut crate::session::Sessions, received| {
            let session: Option<&mut crate::session::Session> = sessions.received_by(received);
            session.is_some_and(|session| session.has_received(received.packet_id))
        };
        let row = received.filter(|(received, _)| is_received(&mut self.sessions, *received));
        let id = debts.id;
        let is_owed = !debts.is_empty();
        let writing = Writing {
            id,
            expires_wall_ms,
            needed_wall_ms: needed_wall_ms(&debts, expires_wall_ms),
            body: &body,
            debts: Some(&mut debts),
            entered: &entered,
            retains: retains.as_ref().map(|(topic, stamp, is_cleared)| Retains {
                topic,
                stamp: *stamp,
                is_cleared: *is_cleared,
            }),
            received: row_of(row),
            spent,
        };
        let wait = if writing.is_empty() {
            Wait::Nothing
        } else {
            writing.write(out.journal());
            let waited = waited(until, to, spent);
            Wait::For(self.end_with(spent, waited, out), until)
        };
        if let Some(id) = id.filter(|_| is_owed) {
            for shard in owing.iter().copied().chain([self.shard]) {
                match logged.iter_mut().find(|(known, _)| *known == shard) {
                    Some((_, upto)) => *upto = id,
                    None => logged.push((shard, id)),
                }
            }
        }
        let retained = retains.filter(|_| is_reported);
        let promise = Promise {
            message: id.filter(|_| is_owed),
            owing,
            received: received.map(|(received, _)| received),
            released: None,
            retained: retained.map(|(topic, stamp, _)| (self.owner(&topic), stamp)),
            delayed: spent.and_then(Spent::promise),
        };
        self.queue_answer(to, answer, wait, promise, out);
    }
}

//! SUBACKs and UNSUBACKs that wait: until every shard knows of the change, and until it is on disk.

use std::collections::VecDeque;

use waypost_mqtt::{PacketId, ReasonCode};

use super::{Answer, READING_MAX, UNKNOWN, Unconfirmed};
use crate::broker::Broker;
use crate::connection::Connection;
use crate::effects::{ConnectionId, Effects, Now};
use crate::journal::{Refusal, Ticket};
use crate::subscribe::SubAckAnswer;

impl Broker {
    /// Answers a SUBSCRIBE once every shard knows of it.
    pub(crate) fn confirm_subscribe(
        &mut self,
        id: ConnectionId,
        slot: u32,
        answer: SubAckAnswer,
        now: Now,
        out: &mut impl Effects,
    ) {
        if self.shards == 1 && answer.ticket.is_none() {
            self.finish_subscribe(id, slot, answer, &[self.clock.last()], now, out);
        } else {
            let ticket = answer.ticket;
            self.begin_round(id, slot, Answer::SubAck(answer), ticket, out);
        }
    }

    /// Answers an UNSUBSCRIBE once every shard knows of it.
    pub(crate) fn confirm_unsubscribe(
        &mut self,
        id: ConnectionId,
        slot: u32,
        packet_id: PacketId,
        reasons: Vec<ReasonCode>,
        ticket: Option<Ticket>,
        out: &mut impl Effects,
    ) {
        if self.shards == 1 && ticket.is_none() {
            self.finish_unsubscribe(id, packet_id, &reasons, out);
        } else {
            let answer = Answer::UnsubAck(packet_id, reasons);
            self.begin_round(id, slot, answer, ticket, out);
        }
    }

    fn begin_round(
        &mut self,
        id: ConnectionId,
        slot: u32,
        answer: Answer,
        ticket: Option<Ticket>,
        out: &mut impl Effects,
    ) {
        let round = self.ask_round(out);
        let mut clocks = vec![UNKNOWN; usize::from(self.shards)];
        if let Some(own) = clocks.get_mut(usize::from(self.shard.0)) {
            *own = self.clock.last();
        }
        let clocks = clocks.into();
        self.interest.unconfirmed.push_back(Unconfirmed {
            round,
            id,
            slot,
            answer,
            clocks,
            // With one shard, nobody is asked.
            is_reading: self.shards == 1,
            ticket,
        });
    }

    /// Rows up to here are on disk.
    pub(crate) fn answers_stored(&mut self, durable: Ticket, now: Now, out: &mut impl Effects) {
        let unconfirmed = self.interest.unconfirmed.iter_mut();
        for unconfirmed in unconfirmed
            .take_while(|unconfirmed| unconfirmed.ticket.is_none_or(|ticket| ticket <= durable))
        {
            unconfirmed.ticket = None;
        }
        self.answer_confirmed(now, out);
    }

    /// Rows from the first to the last are not kept: what was changed with them is said to have failed.
    pub(crate) fn answers_refused(
        &mut self,
        first: Ticket,
        last: Ticket,
        why: Refusal,
        now: Now,
        out: &mut impl Effects,
    ) {
        let mut unconfirmed = std::mem::take(&mut self.interest.unconfirmed);
        let mut to_close = Vec::new();
        let mut checked = VecDeque::with_capacity(unconfirmed.len());
        while let Some(mut next) = unconfirmed.pop_front() {
            let is_refused = |ticket: &mut Ticket| (first..=last).contains(ticket);
            if next.ticket.take_if(is_refused).is_none() {
                checked.push_back(next);
                continue;
            }
            pass_on(&mut next, &mut unconfirmed);
            checked.push_back(next);
            let Some(unconfirmed) = checked.back_mut() else {
                continue;
            };
            match &mut unconfirmed.answer {
                Answer::SubAck(answer) => {
                    self.refuse_subscribe(unconfirmed.slot, answer, why, now, out);
                }
                Answer::UnsubAck(_, reasons) => {
                    reasons.fill(ReasonCode::UnspecifiedError);
                    // 3.1.1 has no way to say so.
                    let connection = self.connections.get(unconfirmed.id);
                    if !connection.is_some_and(Connection::is_v5) {
                        to_close.push(unconfirmed.id);
                    }
                }
            }
        }
        self.interest.unconfirmed = checked;
        for id in to_close {
            self.disconnect(id, why.reason(), now, out);
        }
        self.answer_confirmed(now, out);
    }

    /// Sends the SUBACKs and UNSUBACKs that need not wait. What is published after a SUBACK must not take the place
    /// of what was retained before, so that is read first, as far as it is not too much.
    pub(crate) fn answer_confirmed(&mut self, now: Now, out: &mut impl Effects) {
        let is_restoring = self.retained.restoring.is_going_on();
        loop {
            self.read_for_subacks(out);
            if !self
                .interest
                .unconfirmed
                .front()
                .is_some_and(|unconfirmed| unconfirmed.is_ready(is_restoring))
            {
                return;
            }
            let Some(Unconfirmed {
                id,
                slot,
                answer,
                clocks,
                ..
            }) = self.interest.unconfirmed.pop_front()
            else {
                return;
            };
            match answer {
                Answer::SubAck(answer) => {
                    self.finish_subscribe(id, slot, answer, &clocks, now, out);
                }
                Answer::UnsubAck(packet_id, reasons) => {
                    self.finish_unsubscribe(id, packet_id, &reasons, out);
                }
            }
        }
    }

    fn read_for_subacks(&mut self, out: &mut impl Effects) {
        for unconfirmed in self
            .interest
            .unconfirmed
            .iter_mut()
            .take(READING_MAX)
            .take_while(|unconfirmed| !unconfirmed.clocks.contains(&UNKNOWN))
        {
            if let Answer::SubAck(SubAckAnswer { requests, .. }) = &mut unconfirmed.answer
                && !std::mem::replace(&mut unconfirmed.is_reading, true)
            {
                requests.retain(|request| self.clock.census().may_match(&request.filter));
                self.retained
                    .read_ahead(requests, unconfirmed.slot, self.shards, out);
            }
        }
    }
}

/// What a refused SUBSCRIBE added is not taken back if a later one of the session asks for it too: that one added it.
fn pass_on(refused: &mut Unconfirmed, later: &mut VecDeque<Unconfirmed>) {
    let Answer::SubAck(refused_answer) = &mut refused.answer else {
        return;
    };
    refused_answer.new.retain(|filter| {
        let next = later.iter_mut().find_map(|later| match &mut later.answer {
            Answer::SubAck(answer) if later.id == refused.id => {
                answer.kept.contains(filter).then_some(answer)
            }
            _ => None,
        });
        match next {
            Some(next) => {
                next.new.push(filter.clone());
                false
            }
            None => true,
        }
    });
}

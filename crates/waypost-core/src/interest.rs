//! Interest across shards: which other shards want a message, and when all of them know what this one wants.
//!
//! A shard tells the others of the first session that subscribes to a filter and of the last one that leaves. They
//! keep it in their index like any subscriber, so that one look-up says who gets a message here and which shards get
//! it. It crosses once to each of these, with the numbers of the filters that match there: as long as nobody's
//! interest changes, the receiver need not search its own index. SUBACK and UNSUBACK wait until every shard has confirmed a round that began
//! after the change. With one shard there is nobody to tell.

mod unconfirmed;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::rc::Rc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use waypost_mqtt::{PacketId, QoS, ReasonCode};

use crate::broker::Broker;
use crate::counters::Counters;
use crate::debts::{Debts, Ledger};
use crate::deliver::Source;
use crate::effects::{ConnectionId, Effects, Message, Now, ShardId};
use crate::group::{MemberKey, Said};
use crate::index::{CachedMatch, FilterId, MatchCache, SubscriptionIndex};
use crate::journal::{MessageId, Ticket};
use crate::mail::{Item, Known, Mail, MailBatch, Origin, next_item};
use crate::retained_request::RetainedRequest;
use crate::subscribe::SubAckAnswer;

/// From this size on a payload that came from another shard is shared, not copied.
const SHARED_PAYLOAD_MIN: usize = 16 * 1024;

/// What the other shards want, and what is not yet confirmed by them.
pub(crate) struct Interest {
    /// Filters of other shards in the index.
    pub remote: usize,
    /// Which sessions get what comes from other shards.
    received: MatchCache,
    /// Changes that the others were told of; it may wrap.
    pub told: u32,
    /// Changes that each shard told of.
    pub heard: Box<[u32]>,
    /// How many of the subscribers of this shard to a filter outlive the process.
    pub durable: HashMap<u32, u32, FixedState>,
    rounds: u64,
    /// In the order of their rounds.
    unconfirmed: VecDeque<Unconfirmed>,
    /// Members of groups here that wait for a round, with their shards.
    joins: VecDeque<(u64, ShardId, MemberKey)>,
}

/// A SUBACK or UNSUBACK that waits.
struct Unconfirmed {
    round: u64,
    id: ConnectionId,
    slot: u32,
    answer: Answer,
    /// Each shard's clock when it confirmed; [`UNKNOWN`] before.
    clocks: Box<[u64]>,
    /// Its retained messages are being read.
    is_reading: bool,
    /// What has to be on disk first.
    ticket: Option<Ticket>,
}

impl Unconfirmed {
    fn is_ready(&self, is_restoring: bool) -> bool {
        if self.ticket.is_some() {
            return false;
        }
        match &self.answer {
            Answer::SubAck(answer) => {
                self.is_reading
                    && answer.joins.is_empty()
                    && (answer.requests.is_empty() || !is_restoring)
                    && answer.requests.iter().all(|request| request.asked == 0)
            }
            Answer::UnsubAck(..) => !self.clocks.contains(&UNKNOWN),
        }
    }
}

enum Answer {
    SubAck(SubAckAnswer),
    UnsubAck(PacketId, Vec<ReasonCode>),
}

const UNKNOWN: u64 = u64::MAX;
/// SUBACKs for which retained messages are read at a time.
const READING_MAX: usize = 64;

impl Interest {
    pub fn new(shards: u16, received: MatchCache) -> Self {
        Self {
            remote: 0,
            received,
            told: 0,
            heard: vec![0; shards.into()].into(),
            durable: HashMap::default(),
            rounds: 0,
            unconfirmed: VecDeque::new(),
            joins: VecDeque::new(),
        }
    }

    fn confirm(&mut self, shard: ShardId, round: u64, clock: u64) {
        for unconfirmed in self
            .unconfirmed
            .iter_mut()
            .take_while(|unconfirmed| unconfirmed.round <= round)
        {
            if let Some(place) = unconfirmed.clocks.get_mut(usize::from(shard.0))
                && *place == UNKNOWN
            {
                *place = clock;
            }
        }
    }

    /// The requests for retained messages that SUBACKs wait for, with their sessions.
    pub fn reading(&mut self) -> impl Iterator<Item = (u32, &mut Vec<RetainedRequest>)> {
        self.unconfirmed
            .iter_mut()
            .take(READING_MAX)
            .take_while(|unconfirmed| !unconfirmed.clocks.contains(&UNKNOWN))
            .filter_map(|unconfirmed| match &mut unconfirmed.answer {
                Answer::SubAck(answer) => Some((unconfirmed.slot, &mut answer.requests)),
                Answer::UnsubAck(..) => None,
            })
    }

    /// A connection that is gone waits for no answer.
    pub fn forget(&mut self, id: ConnectionId) {
        self.unconfirmed.retain(|unconfirmed| unconfirmed.id != id);
    }

    pub fn len(&self) -> usize {
        self.remote
    }

    /// The round that will tell of what changes now.
    pub fn next_round(&self) -> u64 {
        self.rounds + 1
    }

    /// A message goes to subscribers before their SUBACK.
    pub fn overtake(&mut self, topic: &str, stamp: u64) {
        for request in self.reading().flat_map(|(_, requests)| requests) {
            request.overtake(topic, stamp);
        }
    }

    /// Which sessions get a message from another shard.
    pub fn lookup(
        &mut self,
        topic: &str,
        known: Known<'_>,
        index: &SubscriptionIndex,
    ) -> &CachedMatch {
        // Only who knows all of this shard's interest knows the filters that match.
        let is_current = known.heard == self.told;
        let mut filters = known.filters().filter(|_| is_current);
        let filters = filters
            .as_mut()
            .map(|filters| -> &mut dyn Iterator<Item = FilterId> { filters });
        self.received.lookup_known(topic, index, filters)
    }

    /// Sends a message to the shards that want it, and to the one that is to retain it. Shards with durable
    /// interest are asked who is owed it.
    #[expect(clippy::too_many_arguments, reason = "a message and where it goes")]
    pub fn forward(
        &self,
        matched: &CachedMatch,
        message: &Message<'_>,
        origin: Origin,
        address: Option<IpAddr>,
        mut retainer: Option<ShardId>,
        ledger: &mut Ledger<'_>,
        counters: &mut Counters,
        out: &mut impl Effects,
    ) {
        let mut send = |shard: ShardId, kept: Option<MessageId>, filters: &[u32]| {
            let heard = self.heard.get(usize::from(shard.0)).copied();
            counters.publishes_forwarded += 1;
            let mailbox = out.mailbox(shard);
            let origin = Origin { kept, ..origin };
            mailbox.push_publish(message, origin, address, heard.unwrap_or_default(), filters);
        };
        for merged in matched.shards() {
            let Some(shard) = merged.subscriber.shard().map(ShardId) else {
                continue;
            };
            retainer = retainer.filter(|retainer| *retainer != shard);
            let is_durable = merged.flags.qos() != QoS::AtMostOnce;
            let kept = if is_durable { ledger.ask() } else { None };
            send(shard, kept, matched.identifiers_of(*merged));
        }
        if let Some(retainer) = retainer {
            send(retainer, None, &[]);
        }
    }
}

fn share_payload<'a>(message: &mut Message<'a>, run: &'a Rc<Vec<u8>>) {
    if message.payload.bytes.len() >= SHARED_PAYLOAD_MIN {
        message.payload.shared = Some(run);
    }
}

/// Sends mail to another shard.
pub(crate) fn post(to: ShardId, mail: Mail, out: &mut impl Effects) {
    out.mailbox(to).push(mail);
}

impl Broker {
    pub(crate) fn others(&self) -> impl Iterator<Item = ShardId> + use<> {
        let own = self.shard.0;
        (0..self.shards)
            .filter(move |shard| *shard != own)
            .map(ShardId)
    }

    /// A member of a group that began here is told so once every shard knows of the group.
    pub(crate) fn ask_round_for(&mut self, to: ShardId, key: MemberKey, out: &mut impl Effects) {
        let round = self.ask_round(out);
        self.interest.joins.push_back((round, to, key));
    }

    fn answer_joins(&mut self, out: &mut impl Effects) {
        let all = self.fresh.confirmed_by_all();
        while let Some((_, to, key)) = self
            .interest
            .joins
            .pop_front_if(|(round, ..)| *round <= all)
        {
            let said = Said::Joined { is_accepted: true };
            post(to, Mail::ToMember { key, said }, out);
        }
    }

    /// The home of a group has answered a SUBSCRIBE.
    pub(crate) fn joined(
        &mut self,
        key: MemberKey,
        is_accepted: bool,
        now: Now,
        out: &mut impl Effects,
    ) {
        for unconfirmed in &mut self.interest.unconfirmed {
            let Answer::SubAck(answer) = &mut unconfirmed.answer else {
                continue;
            };
            let Some(at) = answer.joins.iter().position(|(of, _)| *of == key) else {
                continue;
            };
            let (_, reason) = answer.joins.swap_remove(at);
            if !is_accepted && let Some(reason) = answer.reasons.get_mut(reason) {
                *reason = ReasonCode::QuotaExceeded;
            }
            break;
        }
        self.answer_confirmed(now, out);
    }

    /// Asks the others to confirm what they were told so far.
    pub(crate) fn ask_round(&mut self, out: &mut impl Effects) -> u64 {
        let round = self.interest.next_round();
        self.interest.rounds = round;
        for shard in self.others() {
            post(shard, Mail::Round { number: round }, out);
        }
        round
    }

    /// A batch came from another shard. Returns an empty one in its memory, to be filled again.
    pub fn handle_mail(
        &mut self,
        from: ShardId,
        batch: MailBatch,
        now: Now,
        out: &mut impl Effects,
    ) -> MailBatch {
        let (run, mut mails) = batch.into_parts();
        let run = Rc::new(run);
        let mut at = 0;
        let mut round = None;
        while let Some(item) = next_item(&run, &mut mails, &mut at) {
            match item {
                Ok(Item::Publish(mut message, origin, known)) => {
                    self.counters.publishes_from_shards += 1;
                    share_payload(&mut message, &run);
                    if origin.retain {
                        self.retain(&message, origin, now);
                        self.came_to_owner(from, message.topic, out);
                    }
                    self.fan_out(&message, origin, Source::Shard(from, known), now, out);
                    if origin.kept.is_some() {
                        let debts = std::mem::replace(&mut self.scratch.debts, Debts::NONE);
                        post(from, Mail::Owes(Box::new(debts)), out);
                    }
                }
                Ok(Item::Interest {
                    filter,
                    filter_id,
                    wanted,
                }) => self.hear_interest(from, filter, filter_id, wanted),
                Ok(Item::Delivery(mut delivery)) => {
                    share_payload(&mut delivery.message, &run);
                    self.hear_delivery(from, &delivery, now, out);
                }
                Ok(Item::Mail(Mail::Round { number })) => round = Some(number),
                Ok(Item::Mail(mail)) => self.handle_one(from, mail, now, out),
                Err(()) => {
                    self.counters.mail_malformed += 1;
                    break;
                }
            }
        }
        self.report_taken(from, out);
        // One confirmation for all rounds of the batch.
        if let Some(number) = round {
            post(
                from,
                Mail::Confirmed {
                    number,
                    clock: self.clock.last(),
                },
                out,
            );
        }
        Rc::try_unwrap(run).map_or_else(|_| MailBatch::default(), MailBatch::reusing)
    }

    fn handle_one(&mut self, from: ShardId, mail: Mail, now: Now, out: &mut impl Effects) {
        match mail {
            Mail::Round { number } => post(
                from,
                Mail::Confirmed {
                    number,
                    clock: self.clock.last(),
                },
                out,
            ),
            Mail::Confirmed { number, clock } => {
                self.fresh.confirm(from, number);
                self.answer_joins(out);
                self.end_orphans(now, out);
                self.delayed_confirmed(now, out);
                self.interest.confirm(from, number, clock);
                self.answer_confirmed(now, out);
            }
            Mail::Claim(claim) => self.handle_claim(claim, now, out),
            Mail::Granted { number }
            | Mail::Shipped {
                number,
                parcel: None,
            } => {
                self.handle_granted(number, now, out);
            }
            Mail::Yield(claim) => self.moving.to_yield.push(claim),
            Mail::Refused { number, reason } => self.handle_refused(number, reason, now, out),
            Mail::Shipped {
                number,
                parcel: Some(parcel),
            } => {
                self.handle_shipped(from, number, *parcel, now, out);
            }
            Mail::Settled { client_id, owner } => {
                self.handle_settled(from, &client_id, owner, now, out);
            }
            Mail::Ended { client_id } => self.handle_ended(from, &client_id),
            Mail::Move { number, old } => self.handle_move(from, number, old, out),
            Mail::Moved { number, new } => self.handle_moved(from, number, new, now, out),
            Mail::Forwarded { number, owed } => self.handle_forwarded(number, owed.open(), now),
            Mail::Emptied { number, waiting } => {
                self.handle_emptied(number, waiting, now, out);
            }
            Mail::Join(join) => self.hear_join(from, *join, now, out),
            Mail::Member { key, word } => self.hear_by_key(from, key, word, now, out),
            Mail::ToMember { key, said } => self.hear_of_group(key, said, now, out),
            Mail::RetainedAsk(ask) => self.take_retained_ask(from, ask, out),
            Mail::RetainedAnswer {
                slot,
                request,
                retained,
                cursor,
            } => {
                self.take_retained(slot, request, retained, cursor, now, out);
            }
            Mail::Owes(debts) => self.hear_owes(from, &debts, now, out),
            Mail::Retained { stamp, is_kept } => self.hear_retained(stamp, is_kept),
            Mail::Logged { upto } => self.logged(from, upto, now, out),
            Mail::Unlogged { ids } => self.unlogged(from, &ids, now, out),
            Mail::Delayed(word) => self.hear_delayed(from, word, now, out),
            Mail::DelayedKnown { number, outcome } => {
                self.hear_delayed_known(number, outcome, now, out);
            }
        }
    }
}

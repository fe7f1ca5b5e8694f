//! SUBSCRIBE and UNSUBSCRIBE.

use waypost_mqtt::{
    Filter, Packet, PacketId, Properties, Property, PropertyBuffer, QoS, ReasonCode, ReasonCodes,
    RetainHandling, SubAck, Subscribe, SubscriptionRequest, UnsubAck, Unsubscribe,
};

use crate::broker::Broker;
use crate::effects::{ConnectionId, Effects, Frame, Now};
use crate::events::Event;
use crate::group::{MemberKey, group_of, weight_of};
use crate::history::{Found, From, from_of, spec_of};
use crate::index::{Cursor, SubscriberId, Subscription};
use crate::journal::{Refusal, Ticket, Until};
use crate::permit::{Action, Verdict};
use crate::retained_request::RetainedRequest;
use crate::session::Session;
use crate::topics::levels_exceed;

/// A SUBACK, and what follows it.
pub(crate) struct SubAckAnswer {
    pub packet_id: PacketId,
    pub reasons: Vec<ReasonCode>,
    /// Reason String; empty = none.
    pub why: &'static str,
    /// Homes of groups that have to answer first, and for which of the reasons.
    pub joins: Vec<(MemberKey, usize)>,
    pub requests: Vec<RetainedRequest>,
    /// What its rows were written in, if the store keeps the session.
    pub ticket: Option<Ticket>,
    /// Filters that were not subscribed to before; only with rows.
    pub new: Vec<Box<str>>,
    /// All filters that were; only with rows.
    pub kept: Vec<Box<str>>,
    /// Those of its subscriptions that read a stream, from when it has gone.
    pub readers: Vec<u64>,
}

/// What a SUBSCRIBE says of all its filters.
struct Asks<'a> {
    refuse_all: bool,
    /// `None`: it cannot be understood.
    weight: Option<u32>,
    spec: Option<&'a str>,
}

/// What a filter comes to before anything is changed.
enum Judged<'a> {
    Granted(Option<From<'a>>),
    /// With a Reason String; empty = none.
    Refused(ReasonCode, &'static str),
    Pending,
}

/// The Reason String where there was a stream for a filter, and is none any more.
const GONE: &str = "the stream has just been taken away";

impl Broker {
    pub(crate) fn handle_subscribe(
        &mut self,
        id: ConnectionId,
        slot: u32,
        subscribe: &Subscribe<'_>,
        frame: Frame<'_>,
        now: Now,
        out: &mut impl Effects,
    ) {
        let is_shared = |filter: Filter<'_>| group_of(filter).is_some();
        // 5 [MQTT-3.8.3-4]: a Protocol Error, whether there are shared subscriptions or not.
        if subscribe
            .requests()
            .any(|request| request.options.no_local && is_shared(request.filter))
        {
            self.protocol_error(id, now, out);
            return;
        }
        // Everything is asked before anything is changed: a packet that has to wait is handled anew.
        let asks = Asks {
            refuse_all: self.too_many_user_properties(subscribe.properties),
            weight: weight_of(subscribe.properties).ok(),
            spec: spec_of(subscribe.properties),
        };
        let mut why = "";
        let mut verdicts = Vec::new();
        let (mut reasons, mut froms) = (Vec::new(), Vec::new());
        for request in subscribe.requests() {
            match self.judge(id, slot, request.filter, &asks, &mut verdicts) {
                Judged::Granted(from) => {
                    reasons.push(granted(request.options.qos));
                    froms.push(from);
                }
                Judged::Refused(reason, said) => {
                    why = if said.is_empty() { why } else { said };
                    reasons.push(reason);
                    froms.push(None);
                }
                Judged::Pending => {
                    self.park_for_permit(id, frame, verdicts, out);
                    return;
                }
            }
        }
        let Some(starts) = self.find_starts(id, &froms, frame, verdicts, now, out) else {
            return;
        };
        let identifier = subscribe
            .properties
            .subscription_identifiers()
            .next()
            .unwrap_or(0);
        let is_kept = self.number_of(slot).is_some();
        let mut answer = SubAckAnswer {
            packet_id: subscribe.packet_id,
            ticket: None,
            new: Vec::new(),
            kept: Vec::new(),
            reasons,
            why,
            joins: Vec::new(),
            requests: Vec::new(),
            readers: Vec::new(),
        };
        // 5 [MQTT-3.8.4-5], 3.1.1 [MQTT-3.8.4-4]: like a series of single ones.
        for (at, (request, from)) in subscribe.requests().zip(&froms).enumerate() {
            let mut reason = answer.reasons.get(at).copied();
            if let Some(reason) = reason.as_mut().filter(|reason| !reason.is_error()) {
                let before = self.subscription_count(slot);
                *reason = if let Some(from) = from {
                    let found = starts.get(at).and_then(Option::as_ref);
                    self.subscribe_to_stream(
                        slot,
                        request,
                        identifier,
                        from,
                        found,
                        &mut answer,
                        out,
                    )
                } else if is_shared(request.filter) {
                    let weight = asks.weight.unwrap_or(1);
                    match self.subscribe_to_group(slot, request, identifier, weight, now, out) {
                        Ok(join) => {
                            answer.joins.extend(join.map(|key| (key, at)));
                            granted(request.options.qos)
                        }
                        Err(reason) => reason,
                    }
                } else {
                    self.subscribe_one(slot, request, identifier, &mut answer.requests, out)
                };
                if is_kept && self.subscription_count(slot) > before {
                    answer.new.push(request.filter.as_str().into());
                }
            }
            let reason = reason.unwrap_or(ReasonCode::UnspecifiedError);
            if let Some(place) = answer.reasons.get_mut(at) {
                *place = reason;
            }
            self.announce_subscription(id, slot, request.filter, reason, now, out);
        }
        if is_kept {
            self.keep_subscriptions(slot, subscribe, &froms, &asks, &mut answer, out);
        }
        self.confirm_subscribe(id, slot, answer, now, out);
    }

    /// What a filter comes to before anything is changed.
    fn judge<'a>(
        &mut self,
        id: ConnectionId,
        slot: u32,
        filter: Filter<'a>,
        asks: &Asks<'a>,
        verdicts: &mut Vec<bool>,
    ) -> Judged<'a> {
        if asks.refuse_all {
            return Judged::Refused(ReasonCode::QuotaExceeded, "");
        }
        if let Some(reason) = self.unsuitable(filter) {
            return Judged::Refused(reason, "");
        }
        let group = group_of(filter).and_then(Result::ok);
        if asks.weight.is_none() && group.is_some() {
            let why = "waypost-weight is a number from 1 to 1000";
            return Judged::Refused(ReasonCode::ImplementationSpecificError, why);
        }
        let from = match from_of(filter, asks.spec) {
            Some(Err(error)) => return Judged::Refused(error.reason, error.why),
            Some(Ok(from)) => Some(from),
            None => None,
        };
        let inner = group.map_or(filter, |(_, inner)| inner);
        let asked = from.map_or(inner, |from| from.filter);
        match self.ask(id, slot, Action::Subscribe, asked.as_str()) {
            Verdict::Allow => verdicts.push(true),
            Verdict::Deny => {
                verdicts.push(false);
                return Judged::Refused(ReasonCode::NotAuthorized, "");
            }
            Verdict::Pending => return Judged::Pending,
        }
        match from.map(|from| self.check_stream(&from)) {
            Some(Err(error)) => Judged::Refused(error.reason, error.why),
            Some(Ok(())) | None => Judged::Granted(from),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a filter and where it begins")]
    fn subscribe_to_stream(
        &mut self,
        slot: u32,
        request: SubscriptionRequest<'_>,
        identifier: u32,
        from: &From<'_>,
        found: Option<&Found>,
        answer: &mut SubAckAnswer,
        out: &mut impl Effects,
    ) -> ReasonCode {
        let Some(found) = found.filter(|found| !found.is_gone) else {
            answer.why = GONE;
            return ReasonCode::ImplementationSpecificError;
        };
        match self.subscribe_history(slot, request, from.filter, identifier, found, out) {
            Ok(number) => {
                answer.readers.push(number);
                granted(request.options.qos)
            }
            Err(reason) => reason,
        }
    }

    /// Writes down what was subscribed to, in one transaction.
    fn keep_subscriptions(
        &mut self,
        slot: u32,
        subscribe: &Subscribe<'_>,
        froms: &[Option<From<'_>>],
        asks: &Asks<'_>,
        answer: &mut SubAckAnswer,
        out: &mut impl Effects,
    ) {
        let identifiers = subscribe.properties.subscription_identifiers();
        let identifier = identifiers.take(1).sum();
        let outcomes = subscribe.requests().zip(froms).zip(&answer.reasons);
        for ((request, from), reason) in outcomes {
            if reason.is_error() {
                continue;
            }
            let filter = request.filter;
            if from.is_some() {
                self.keep_reader(slot, filter.as_str(), out);
            } else {
                let subscription = Subscription {
                    options: request.options,
                    identifier,
                };
                let weight = group_of(filter).map(|_| asks.weight.unwrap_or(1));
                self.forget_reader_of(slot, filter.as_str(), out);
                self.keep_subscription(slot, filter, subscription, weight.unwrap_or(0), out);
            }
            answer.kept.push(filter.as_str().into());
        }
        answer.ticket = Some(self.end(Until::Durable, out));
    }

    fn subscription_count(&self, slot: u32) -> usize {
        let session = self.sessions.get(slot);
        session.map_or(0, Session::subscription_count)
    }

    /// The rows of a SUBSCRIBE are not kept: what it added is taken back, and its answer says so.
    pub(crate) fn refuse_subscribe(
        &mut self,
        slot: u32,
        answer: &mut SubAckAnswer,
        why: Refusal,
        now: Now,
        out: &mut impl Effects,
    ) {
        for reason in answer
            .reasons
            .iter_mut()
            .filter(|reason| !reason.is_error())
        {
            *reason = why.reason();
        }
        for filter in std::mem::take(&mut answer.new) {
            if let Ok(filter) = Filter::parse(&filter) {
                self.unsubscribe_one(slot, filter, now, out);
            }
        }
        for number in std::mem::take(&mut answer.readers) {
            self.remove_reader_numbered(slot, number);
        }
        answer.joins.clear();
        answer.requests.clear();
    }

    /// Why nobody can subscribe to this filter.
    fn unsuitable(&mut self, filter: Filter<'_>) -> Option<ReasonCode> {
        if levels_exceed(filter.as_str(), self.limits.topic_levels_max) {
            self.counters.topic_levels_exceeded += 1;
            return Some(ReasonCode::TopicFilterInvalid);
        }
        // 5 [MQTT-4.8.2-1], [MQTT-4.8.2-2]
        let is_wrong = group_of(filter).is_some_and(|group| group.is_err());
        is_wrong.then_some(ReasonCode::TopicFilterInvalid)
    }

    fn subscribe_one(
        &mut self,
        slot: u32,
        request: SubscriptionRequest<'_>,
        identifier: u32,
        requests: &mut Vec<RetainedRequest>,
        out: &mut impl Effects,
    ) -> ReasonCode {
        let SubscriptionRequest { filter, options } = request;
        // 5 [MQTT-3.8.4-3]: one with the same filter is replaced, also one that read a stream.
        self.remove_reader(slot, filter.as_str());
        let Some(session) = self.sessions.get_mut(slot) else {
            return ReasonCode::UnspecifiedError;
        };
        let is_durable = session.number().is_some();
        let subscriber = SubscriberId(slot);
        if session.subscription_count() >= self.limits.subscriptions_per_session_max
            && self
                .index
                .find(filter)
                .and_then(|found| self.index.get(found, subscriber))
                .is_none()
        {
            self.counters.subscriptions_exceeded += 1;
            return ReasonCode::QuotaExceeded;
        }
        // 5 [MQTT-3.8.4-3], 3.1.1 [MQTT-3.8.4-3]: one with the same filter is replaced.
        let (filter_id, replaced) = self.index.insert(
            filter,
            subscriber,
            Subscription {
                options,
                identifier,
            },
        );
        if replaced.is_none() {
            if let Err(at) = session.subscriptions.binary_search(&filter_id) {
                session.subscriptions.insert(at, filter_id);
            }
            self.interest_gained(filter, filter_id, is_durable, out);
            if self.shards > 1 {
                let round = self.interest.next_round();
                self.fresh.begin(slot, filter_id, round);
            }
        }
        let wants_retained = match options.retain_handling {
            // 5 [MQTT-3.3.1-9], [MQTT-3.8.4-4], 3.1.1 [MQTT-3.3.1-6], [MQTT-3.8.4-3]
            RetainHandling::SendAtSubscribe => true,
            // 5 [MQTT-3.3.1-10]
            RetainHandling::SendIfNew => replaced.is_none(),
            // 5 [MQTT-3.3.1-11]
            RetainHandling::DoNotSend => false,
        };
        // With other shards, what they have is known once they have confirmed.
        if wants_retained && (self.shards > 1 || self.may_have_retained(filter.as_str())) {
            requests.push(RetainedRequest {
                filter: filter.as_str().into(),
                qos: options.qos,
                identifier,
                no_local: options.no_local,
                confirmed: Box::default(),
                owner: self.first_owner(filter),
                asked: 0,
                cursor: Cursor::default(),
                ready: std::collections::VecDeque::new(),
                is_read: false,
                overtaken: Vec::new(),
            });
        }
        granted(options.qos)
    }

    fn announce_subscription(
        &mut self,
        id: ConnectionId,
        slot: u32,
        filter: Filter<'_>,
        reason: ReasonCode,
        now: Now,
        out: &mut impl Effects,
    ) {
        let peer = self
            .connections
            .get(id)
            .and_then(|connection| connection.peer);
        if reason.is_error() {
            self.counters.subscribes_refused += 1;
            self.announce(Event::Denied(reason.text()), slot, peer, reason, now, out);
        } else {
            self.counters.subscribes_accepted += 1;
            self.announce(
                Event::Subscribed(filter.as_str()),
                slot,
                peer,
                reason,
                now,
                out,
            );
        }
    }

    /// 5 [MQTT-3.8.4-1], [MQTT-3.8.4-2], [MQTT-3.8.4-6], [MQTT-3.9.3-1], 3.1.1 [MQTT-3.8.4-1], [MQTT-3.9.3-1]; then
    /// the retained messages.
    pub(crate) fn finish_subscribe(
        &mut self,
        id: ConnectionId,
        slot: u32,
        answer: SubAckAnswer,
        confirmed: &[u64],
        now: Now,
        out: &mut impl Effects,
    ) {
        let SubAckAnswer {
            packet_id,
            reasons,
            why,
            requests,
            readers,
            ..
        } = answer;
        let mut buffer = PropertyBuffer::new();
        // 5 [MQTT-3.1.2-29]
        if !why.is_empty()
            && self
                .connections
                .get(id)
                .is_some_and(|connection| connection.is_v5() && connection.problem_information)
        {
            buffer.push(Property::ReasonString(why));
        }
        let properties = buffer.as_properties();
        let reasons = ReasonCodes::new(&reasons);
        self.send(
            id,
            &Packet::SubAck(SubAck {
                packet_id,
                properties,
                reasons,
            }),
            out,
        );
        let mut is_anything = false;
        for request in requests {
            if self.may_have_retained(&request.filter) {
                is_anything = true;
                self.request_retained(
                    slot,
                    RetainedRequest {
                        confirmed: confirmed.into(),
                        ..request
                    },
                );
            }
        }
        if is_anything {
            self.pump(slot, now, out);
        }
        if !readers.is_empty() {
            self.begin_readers(slot, &readers, now, out);
        }
    }

    pub(crate) fn handle_unsubscribe(
        &mut self,
        id: ConnectionId,
        slot: u32,
        unsubscribe: &Unsubscribe<'_>,
        now: Now,
        out: &mut impl Effects,
    ) {
        let refuse_all = self.too_many_user_properties(unsubscribe.properties);
        let mut reasons = Vec::new();
        let mut is_kept = false;
        // 5 [MQTT-3.10.4-6], 3.1.1 [MQTT-3.10.4-6]: like a series of single ones.
        for filter in unsubscribe.filters() {
            reasons.push(if refuse_all {
                ReasonCode::ImplementationSpecificError
            } else if self.unsubscribe_one(slot, filter, now, out) {
                self.counters.unsubscribes += 1;
                let peer = self
                    .connections
                    .get(id)
                    .and_then(|connection| connection.peer);
                let event = Event::Unsubscribed(filter.as_str());
                self.announce(event, slot, peer, ReasonCode::Success, now, out);
                is_kept |= self.forget_subscription(slot, filter.as_str(), out);
                ReasonCode::Success
            } else {
                // It may have a row all the same: the store may have refused to delete it.
                is_kept |= self.forget_subscription(slot, filter.as_str(), out);
                ReasonCode::NoSubscriptionExisted
            });
        }
        let ticket = is_kept.then(|| self.end(Until::Durable, out));
        self.confirm_unsubscribe(id, slot, unsubscribe.packet_id, reasons, ticket, out);
    }

    /// 5 [MQTT-3.10.4-1], 3.1.1 [MQTT-3.10.4-1]: only exactly that filter.
    pub(crate) fn unsubscribe_one(
        &mut self,
        slot: u32,
        filter: Filter<'_>,
        now: Now,
        out: &mut impl Effects,
    ) -> bool {
        if self.remove_reader(slot, filter.as_str()) {
            return true;
        }
        if group_of(filter).is_some() {
            return self.unsubscribe_from_group(slot, filter, now, out);
        }
        self.unsubscribe_live(slot, filter, out)
    }

    /// Ends a subscription that stands in the index.
    pub(crate) fn unsubscribe_live(
        &mut self,
        slot: u32,
        filter: Filter<'_>,
        out: &mut impl Effects,
    ) -> bool {
        let Some(filter_id) = self.index.find(filter) else {
            return false;
        };
        let Some(session) = self.sessions.get_mut(slot) else {
            return false;
        };
        let Ok(at) = session.subscriptions.binary_search(&filter_id) else {
            return false;
        };
        session.subscriptions.remove(at);
        let is_durable = session.number().is_some();
        self.fresh.end(slot, filter_id);
        // 5 [MQTT-3.10.4-2]; what was begun is finished, 5 [MQTT-3.10.4-3].
        self.interest_ends(filter_id, is_durable, out);
        self.index.remove(filter_id, SubscriberId(slot));
        true
    }

    /// 5 [MQTT-3.10.4-4], [MQTT-3.10.4-5], [MQTT-3.11.3-1], 3.1.1 [MQTT-3.10.4-4], [MQTT-3.10.4-5]
    pub(crate) fn finish_unsubscribe(
        &mut self,
        id: ConnectionId,
        packet_id: PacketId,
        reasons: &[ReasonCode],
        out: &mut impl Effects,
    ) {
        let is_v5 = self
            .connections
            .get(id)
            .is_some_and(super::connection::Connection::is_v5);
        let reasons = if is_v5 {
            ReasonCodes::new(reasons)
        } else {
            ReasonCodes::EMPTY
        };
        let properties = Properties::EMPTY;
        self.send(
            id,
            &Packet::UnsubAck(UnsubAck {
                packet_id,
                properties,
                reasons,
            }),
            out,
        );
    }

    /// Takes every subscription of a session away.
    pub(crate) fn remove_subscriptions(&mut self, slot: u32, out: &mut impl Effects) {
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        let is_durable = session.number().is_some();
        self.fresh.forget(slot);
        for filter_id in std::mem::take(&mut session.subscriptions) {
            self.interest_ends(filter_id, is_durable, out);
            self.index.remove(filter_id, SubscriberId(slot));
        }
    }
}

fn granted(qos: QoS) -> ReasonCode {
    match qos {
        QoS::AtMostOnce => ReasonCode::GRANTED_QOS_0,
        QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
        QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
    }
}

//! Interest across shards: which other shards want a message, and when all of them know what this one wants.

use waypost_mqtt::{Filter, PacketId, ReasonCode};

use crate::broker::Broker;
use crate::effects::{ConnectionId, Effects, Message, Now};
use crate::index::FilterId;
use crate::mail::Origin;
use crate::retained::RetainedRequest;

impl Broker {
    /// Sends a message to the shards that want it. Returns whether there was one.
    pub(crate) fn forward(&mut self, _: &Message<'_>, _: Origin, _: &mut impl Effects) -> bool {
        false
    }

    /// Whether another shard has a subscriber for this topic.
    pub(crate) fn is_wanted_elsewhere(&mut self, _: &str) -> bool {
        false
    }

    /// A subscription was added.
    pub(crate) fn interest_gained(&mut self, _: Filter<'_>, _: FilterId, _: &mut impl Effects) {}

    /// A subscription was removed.
    pub(crate) fn interest_lost(&mut self, _: Filter<'_>, _: FilterId, _: &mut impl Effects) {}

    /// Whether a subscription to this filter could be sent retained messages.
    pub(crate) fn may_have_retained(&self, _: Filter<'_>) -> bool {
        self.shards > 1 || self.retained.len() > 0
    }

    /// Answers a SUBSCRIBE once every shard knows of it.
    #[expect(clippy::too_many_arguments, reason = "an answer and what follows it")]
    pub(crate) fn confirm_subscribe(
        &mut self,
        id: ConnectionId,
        slot: u32,
        packet_id: PacketId,
        reasons: Vec<ReasonCode>,
        requests: Vec<RetainedRequest>,
        now: Now,
        out: &mut impl Effects,
    ) {
        self.finish_subscribe(
            id,
            slot,
            packet_id,
            &reasons,
            requests,
            &[self.clock],
            now,
            out,
        );
    }

    /// Answers an UNSUBSCRIBE once every shard knows of it.
    pub(crate) fn confirm_unsubscribe(
        &mut self,
        id: ConnectionId,
        _: u32,
        packet_id: PacketId,
        reasons: Vec<ReasonCode>,
        out: &mut impl Effects,
    ) {
        self.finish_unsubscribe(id, packet_id, &reasons, out);
    }

    /// A batch came from another shard.
    pub fn handle_mail(
        &mut self,
        _: crate::effects::ShardId,
        _: crate::mail::MailBatch,
        _: Now,
        _: &mut impl Effects,
    ) {
    }
}

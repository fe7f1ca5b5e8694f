//! What happened, counted.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Everything the core counts, since it was made. Gauges are methods of `Broker`.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// Every counter with its name, in the order of their declaration.
            pub fn rows(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }
        }
    };
}

counters! {
    /// Connections handed over by the transport.
    connections_opened,
    /// Connections that are gone, for whatever reason.
    connections_closed,
    /// CONNECTs accepted.
    connects_accepted,
    /// CONNECTs refused, by CONNACK or by closing.
    connects_refused,
    /// Connections closed because no CONNECT was accepted in time.
    connect_timeouts,
    /// Connections closed because the client was silent for one and a half times its keep alive.
    keep_alive_timeouts,
    /// Connections that lost their session to a newer one with the same client id.
    takeovers,
    /// Connections closed for a malformed packet.
    malformed_packets,
    /// Connections closed for a Protocol Error.
    protocol_errors,
    /// Connections closed because a message came beyond Receive Maximum.
    receive_maximum_exceeded,
    /// Times a session got a connection.
    sessions_attached,
    /// Times a session lost it.
    sessions_detached,
    /// Sessions made.
    sessions_created,
    /// Sessions taken up again by a new connection.
    sessions_resumed,
    /// Sessions ended, their expiry included.
    sessions_ended,
    /// Sessions ended because their expiry interval ran out.
    sessions_expired,
    /// CONNECTs refused because there were `sessions_max` sessions.
    sessions_refused,
    /// PUBLISH packets received.
    publishes_received,
    /// PUBLISH packets received at `QoS` 1.
    publishes_received_qos1,
    /// PUBLISH packets received at `QoS` 2.
    publishes_received_qos2,
    /// `QoS` 2 PUBLISH packets received again before their PUBREL, and not delivered again.
    publishes_repeated,
    /// PUBLISH packets handed to outboxes.
    deliveries,
    /// Of these, sent again on a new connection (DUP 1).
    redeliveries,
    /// Messages that matched nobody.
    publishes_unmatched,
    /// PUBLISH packets refused: the topic is the server's or the permit denied it.
    publishes_denied,
    /// PUBLISH packets refused for a user property that is the server's.
    publishes_reserved_property,
    /// Messages refused because their topic takes only sealed ones.
    publishes_unsealed_refused,
    /// Messages refused because their topic takes no sealed ones.
    publishes_sealed_refused,
    /// Packets refused for more user properties than `user_properties_max`.
    user_properties_exceeded,
    /// Messages dropped because the client's Maximum Packet Size is less than they need.
    dropped_too_large,
    /// Other packets dropped because the client's Maximum Packet Size is less than they need.
    packets_too_large,
    /// Messages dropped because the session's queue was full.
    dropped_queue_full,
    /// Messages dropped because they expired before they were sent.
    dropped_expired,
    /// Messages dropped because they waited longer than `queue_age_max`.
    dropped_too_old,
    /// Messages dropped because what the store holds of them cannot be read.
    dropped_unreadable,
    /// Messages put in a session's queue.
    queued,
    /// Messages lost with a session that ended while they waited or were in flight.
    dropped_session_ended,
    /// Messages a client refused with a reason of 0x80 or higher.
    refused_by_client,
    /// SUBSCRIBE filters accepted.
    subscribes_accepted,
    /// SUBSCRIBE filters refused.
    subscribes_refused,
    /// Of these, because the session had `subscriptions_per_session_max` subscriptions.
    subscriptions_exceeded,
    /// Filters unsubscribed.
    unsubscribes,
    /// Wills published.
    wills_published,
    /// Wills that were not published because the permit denied it when they fired.
    wills_denied,
    /// Subscriptions ended because a change of the rules forbids them.
    subscriptions_revoked,
    /// Connections closed because a change of the rules has no place for their users.
    rules_disconnects,
    /// Messages stored as retained.
    retained_stored,
    /// Retained messages removed by an empty payload.
    retained_removed,
    /// Retained messages that expired.
    retained_expired,
    /// Retained messages not stored because the store was full.
    retained_refused,
    /// Retained messages that could not be read at a start.
    retained_unreadable,
    /// Retained messages sent because of a SUBSCRIBE.
    retained_sent,
    /// Filters whose retained messages were left out because `retained_pending_max` filters already waited for theirs.
    retained_pending_exceeded,
    /// Topics or filters refused for more levels than `topic_levels_max`.
    topic_levels_exceeded,
    /// Times a session stopped being live because its outbox was above half its limit.
    slow_readers,
    /// Subscriptions to groups refused because the group had `group_members_max` members.
    group_members_refused,
    /// Groups refused because the shard had `groups_max`.
    groups_refused,
    /// Messages taken back from a member that did not acknowledge them, for another.
    group_redeliveries,
    /// Messages of groups dropped at `QoS` 0 because no member could take them.
    group_dropped_not_ready,
    /// Messages of groups dropped because a member refused them.
    group_dropped_refused,
    /// Messages of groups dropped because they are too large for every member.
    group_dropped_too_large,
    /// Messages of groups dropped because they had been sent as often as the policy says.
    group_dropped_max_deliveries,
    /// Messages of groups dropped because the group's queue was full.
    group_dropped_queue_full,
    /// Messages of groups dropped because they expired before they were sent.
    group_dropped_expired,
    /// Messages of groups dropped because the store could not be read.
    group_dropped_unreadable,
    /// Times that a group had more in the store than in memory.
    group_windows_exceeded,
    /// Messages of groups dropped because the last member went, or with the session that had them at `QoS` 2.
    group_dropped_session_ended,
    /// Delayed messages accepted.
    delayed_accepted,
    /// Delayed messages published at their time.
    delayed_released,
    /// Delayed messages cancelled by name.
    delayed_cancelled,
    /// Delayed messages in whose place another of their name came.
    delayed_replaced,
    /// Messages refused because `delayed_messages_max` waited already.
    delayed_refused,
    /// Messages refused because what they say of a delay cannot be.
    delayed_invalid,
    /// Delayed messages not published because the permit denied it at their time.
    delayed_denied,
    /// Delayed messages not published because they could not be read at their time.
    delayed_unreadable,
    /// Dead letters published for messages that expired.
    dead_letters_expired,
    /// Dead letters published for messages that a member of a group refused, or that were too large for every one.
    dead_letters_refused,
    /// Dead letters published for messages that a group had delivered as often as it may.
    dead_letters_max_deliveries,
    /// Dead letters published for messages that came to a full queue.
    dead_letters_queue_full,
    /// Messages that died and were dropped, though a policy says where dead letters go: they were dead letters
    /// themselves, or too many waited.
    dead_letters_dropped,
    /// Records of streams sent to subscriptions that read them, or put into the queues of their sessions.
    history_sent,
    /// Questions to streams.
    history_reads,
    /// Reads of a stream that brought as much as they may, and not all there was.
    history_windows_full,
    /// Times a subscription at the end of its stream could not take what came, and read on alone.
    history_fell_behind,
    /// Subscriptions to streams refused because the session had as many as it may.
    history_readers_exceeded,
    /// Subscriptions that ended because their stream is gone.
    history_gone,
    /// Answers to clients that waited for the store.
    answers_held,
    /// Times a client was not read on because as many of its answers waited for the store as it may have messages
    /// unfinished.
    answers_paused,
    /// Answers that the store refused: negative, or none and the connection closed.
    answers_refused,
    /// Messages sent to other shards.
    publishes_forwarded,
    /// Messages received from other shards.
    publishes_from_shards,
    /// Batches from other shards that could not be read to the end.
    mail_malformed,
    /// State found broken inside one session; its connection was closed.
    invariants_broken,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_name_every_counter_once() {
        let names: Vec<_> = Counters::default().rows().map(|(name, _)| name).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), names.len());
        assert_eq!(size_of::<Counters>(), names.len() * 8);
    }
}

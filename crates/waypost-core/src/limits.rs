//! Every bound of the core, with its unit and what happens when it is reached.

/// The bounds of one shard's broker. Each has a counter in [`crate::Counters`] that says how often it was hit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest packet a client may send, in bytes: Maximum Packet Size in CONNACK. Beyond: DISCONNECT 0x95. The
    /// transport enforces it; the core announces it.
    pub packet_bytes_max: u32,
    /// Bytes that may wait in one connection's outbox. From half of it on, messages at `QoS` 1 and 2 wait in the
    /// session's queue; those at `QoS` 0 are dropped by the outbox, oldest first, when it is full.
    pub outbox_bytes_max: usize,
    /// Messages that may wait for one session. When full, the newest is dropped, so that what a client missed
    /// is the end of a long absence and never a hole in it. (`QoS` 0 does not wait in the core.)
    pub queue_messages_max: usize,
    /// Memory that may wait for one session, in bytes: topics, properties, payloads and 160 bytes a message; the same
    /// policy.
    pub queue_bytes_max: usize,
    /// How long a message that the store keeps may wait for one session, in milliseconds; 0 = no bound. An older one is
    /// dropped when its turn comes.
    pub queue_age_max_ms: u64,
    /// Unacknowledged messages sent to one client at a time, where its Receive Maximum does not say less. The others
    /// wait in the session's queue.
    pub inflight_max: u16,
    /// Receive Maximum in CONNACK: unfinished messages at `QoS` 1 and 2 a client may have sent. Beyond: DISCONNECT 0x93.
    pub receive_maximum: u16,
    /// Topic Alias Maximum in CONNACK. Beyond: DISCONNECT 0x94.
    pub topic_alias_max: u16,
    /// Topic Aliases the server makes on one connection, where the client's maximum does not say less. The first
    /// topics get them.
    pub topic_alias_out_max: u16,
    /// Levels a Topic Name or Topic Filter may have. Beyond: 0x8F for a filter, 0x90 for a name.
    pub topic_levels_max: u16,
    /// Subscriptions one session may hold. Beyond: SUBACK 0x97.
    pub subscriptions_per_session_max: usize,
    /// Sessions, connected or not, on one shard. Beyond: CONNACK 0x97 (3.1.1: 0x03).
    pub sessions_max: usize,
    /// Retained messages of clients owned by one shard. Beyond: a new topic is not retained, its message delivered all
    /// the same.
    pub retained_messages_max: usize,
    /// Bytes of their topics and payloads owned by one shard; the same policy.
    pub retained_bytes_max: usize,
    /// Topics whose subscriber list is remembered. When full, one that was not asked for lately is forgotten.
    pub match_cache_entries_max: usize,
    /// Longest keep alive, in seconds; 0 = none. A longer one (or none) of an MQTT 5 client is replaced by Server
    /// Keep Alive.
    pub keep_alive_max_s: u16,
    /// Longest Session Expiry Interval, in seconds; `u32::MAX` = sessions may live for ever. A longer one is
    /// shortened, and CONNACK says so.
    pub session_expiry_max_s: u32,
    /// From the opening of a connection to its CONNECT and the end of its authentication, in milliseconds. Beyond:
    /// closed.
    pub connect_timeout_ms: u64,
    /// Bytes of a client id. Beyond: CONNACK 0x85 (3.1.1: 0x02).
    pub client_id_bytes_max: usize,
    /// User properties in one packet of a client. Beyond: refused with 0x97; a message at `QoS` 0 is dropped; the
    /// connection closes where the packet has no answer.
    pub user_properties_max: usize,
    /// Messages handed to one client in one step when its queue or its retained messages are sent. The rest follows
    /// when its outbox has room.
    pub burst_messages_max: usize,
    /// Filters of one session that wait for their retained messages after its SUBSCRIBEs. Beyond: a filter gets none.
    pub retained_pending_max: usize,
    /// Groups that have their home on one shard. Beyond: SUBACK 0x97.
    pub groups_max: usize,
    /// Members of one group, connected or not. Beyond: SUBACK 0x97.
    pub group_members_max: usize,
    /// Messages that may wait in one group for a member. When full, the newest is dropped, and told of.
    pub group_queue_messages_max: usize,
    /// Memory that may wait in one group, in bytes, counted as for a session; the same policy.
    pub group_queue_bytes_max: usize,
    /// Messages of one group that one member may have unacknowledged, where its window does not say less.
    pub group_credit_max: u16,
    /// Messages that the store has for one group and that wait in memory too. The others are read when half of these are
    /// left.
    pub group_window_messages_max: usize,
    /// Memory for these, in bytes, counted as for a session; the same policy. One message may go beyond.
    pub group_window_bytes_max: usize,
    /// Delayed messages that wait for their time, on all shards together. Beyond: 0x97.
    pub delayed_messages_max: usize,
    /// Dead letters of one shard that are on their way: to be published, or to the disk. Beyond: a message that dies is
    /// dropped and counted.
    pub dead_letters_waiting_max: usize,
    /// Memory for these, in bytes, counted as for a session; the same policy.
    pub dead_letters_waiting_bytes_max: usize,
    /// Subscriptions of one session that read a stream. Beyond: SUBACK 0x97.
    pub history_readers_per_session_max: usize,
    /// Records of one such subscription in memory. The others are read when half of these are sent.
    pub history_window_messages_max: u32,
    /// Memory for these, in bytes of their contents; the same policy. One record may go beyond, in either half.
    pub history_window_bytes_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            packet_bytes_max: 16 * 1024 * 1024,
            outbox_bytes_max: 16 * 1024 * 1024,
            queue_messages_max: 1_000_000,
            queue_bytes_max: 64 * 1024 * 1024,
            queue_age_max_ms: 0,
            inflight_max: 256,
            receive_maximum: 1_000,
            topic_alias_max: 1_000,
            topic_alias_out_max: 100,
            topic_levels_max: 200,
            subscriptions_per_session_max: 1_000_000,
            sessions_max: 1_000_000,
            retained_messages_max: 1_000_000,
            retained_bytes_max: 1024 * 1024 * 1024,
            match_cache_entries_max: 100_000,
            keep_alive_max_s: 60,
            session_expiry_max_s: u32::MAX,
            connect_timeout_ms: 10_000,
            client_id_bytes_max: 1_024,
            user_properties_max: 1_000,
            burst_messages_max: 1_000,
            retained_pending_max: 10_000,
            groups_max: 100_000,
            group_members_max: 10_000,
            group_queue_messages_max: 1_000_000,
            group_queue_bytes_max: 64 * 1024 * 1024,
            group_credit_max: 64,
            group_window_messages_max: 256,
            group_window_bytes_max: 1024 * 1024,
            delayed_messages_max: 1_000_000,
            dead_letters_waiting_max: 10_000,
            dead_letters_waiting_bytes_max: 64 * 1024 * 1024,
            history_readers_per_session_max: 100,
            history_window_messages_max: 256,
            history_window_bytes_max: 1024 * 1024,
        }
    }
}

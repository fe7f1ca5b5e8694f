//! The table of metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use waypost_core::Counters;

/// Whether a metric only grows or goes up and down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Counts since the start.
    Counter,
    /// What is now.
    Gauge,
}

impl Kind {
    /// The word Prometheus uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

/// Where the value of a metric is read.
#[derive(Clone, Copy)]
pub enum Scope {
    /// Once per shard.
    Shard(fn(&Snapshot) -> u64),
    /// Once per server.
    Server(fn(&ServerStats) -> u64),
}

/// One row of the table.
pub struct Metric {
    /// The name it is exported under; the unit is in the name where it is not a count of things.
    pub name: &'static str,
    /// Counter or gauge.
    pub kind: Kind,
    /// What is counted, in a sentence.
    pub help: &'static str,
    /// Where its value is.
    pub scope: Scope,
}

macro_rules! metrics {
    (
        core { $($core:ident: $core_help:literal,)* }
        shell { $($shell:ident: $shell_help:literal,)* }
        gauges { $($gauge:ident: $gauge_help:literal,)* }
        server { $($server:ident: $server_help:literal,)* }
        server_gauges { $($server_gauge:ident: $server_gauge_help:literal,)* }
    ) => {
        /// What a shard counts outside its broker, since it started.
        // The help is Prometheus's, without backticks.
        #[allow(clippy::doc_markdown)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct ShellCounters {
            $(#[doc = $shell_help] pub $shell: u64,)*
        }

        /// What is in a shard now.
        // The help is Prometheus's, without backticks.
        #[allow(clippy::doc_markdown)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Gauges {
            $(#[doc = $gauge_help] pub $gauge: u64,)*
        }

        /// One shard's numbers where other threads can read them. Aligned so that two shards never
        /// write to one cache line.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct ShardStats {
            $($core: AtomicU64,)*
            $($shell: AtomicU64,)*
            $($gauge: AtomicU64,)*
        }

        impl ShardStats {
            /// Copies a shard's numbers to where others read them: once per tick.
            pub fn publish(&self, core: &Counters, shell: &ShellCounters, gauges: &Gauges) {
                $(self.$core.store(core.$core, Ordering::Relaxed);)*
                $(self.$shell.store(shell.$shell, Ordering::Relaxed);)*
                $(self.$gauge.store(gauges.$gauge, Ordering::Relaxed);)*
            }

            /// The numbers as they were last published. Each is right; together they may be from
            /// two ticks.
            pub fn read(&self) -> Snapshot {
                let mut snapshot = Snapshot::default();
                $(snapshot.core.$core = self.$core.load(Ordering::Relaxed);)*
                $(snapshot.shell.$shell = self.$shell.load(Ordering::Relaxed);)*
                $(snapshot.gauges.$gauge = self.$gauge.load(Ordering::Relaxed);)*
                snapshot
            }
        }

        /// The numbers of a shard, or of several together, at one time.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Snapshot {
            /// What the broker counts.
            pub core: Counters,
            /// What the shard counts outside it.
            pub shell: ShellCounters,
            /// What is there now.
            pub gauges: Gauges,
        }

        impl Snapshot {
            /// Adds another shard's numbers.
            pub fn add(&mut self, other: &Self) {
                $(self.core.$core = self.core.$core.wrapping_add(other.core.$core);)*
                $(self.shell.$shell = self.shell.$shell.wrapping_add(other.shell.$shell);)*
                $(self.gauges.$gauge = self.gauges.$gauge.wrapping_add(other.gauges.$gauge);)*
            }
        }

        #[cfg(test)]
        impl Snapshot {
            /// A different number in every field, from 1 up.
            pub(super) fn numbered() -> Self {
                let mut numbers = 1..;
                let mut snapshot = Self::default();
                $(snapshot.core.$core = numbers.next().unwrap();)*
                $(snapshot.shell.$shell = numbers.next().unwrap();)*
                $(snapshot.gauges.$gauge = numbers.next().unwrap();)*
                snapshot
            }
        }

        /// What is counted outside the shards, by whichever thread does it.
        #[allow(clippy::doc_markdown)]
        #[derive(Debug, Default)]
        pub struct ServerStats {
            $(#[doc = $server_help] pub $server: AtomicU64,)*
            $(#[doc = $server_gauge_help] pub $server_gauge: AtomicU64,)*
        }

        /// Every metric there is.
        pub const METRICS: &[Metric] = &[
            $(Metric {
                name: concat!("waypost_", stringify!($core), "_total"),
                kind: Kind::Counter,
                help: $core_help,
                scope: Scope::Shard(|snapshot| snapshot.core.$core),
            },)*
            $(Metric {
                name: concat!("waypost_", stringify!($shell), "_total"),
                kind: Kind::Counter,
                help: $shell_help,
                scope: Scope::Shard(|snapshot| snapshot.shell.$shell),
            },)*
            $(Metric {
                name: concat!("waypost_", stringify!($gauge)),
                kind: Kind::Gauge,
                help: $gauge_help,
                scope: Scope::Shard(|snapshot| snapshot.gauges.$gauge),
            },)*
            $(Metric {
                name: concat!("waypost_", stringify!($server), "_total"),
                kind: Kind::Counter,
                help: $server_help,
                scope: Scope::Server(|server| server.$server.load(Ordering::Relaxed)),
            },)*
            $(Metric {
                name: concat!("waypost_", stringify!($server_gauge)),
                kind: Kind::Gauge,
                help: $server_gauge_help,
                scope: Scope::Server(|server| server.$server_gauge.load(Ordering::Relaxed)),
            },)*
        ];
    };
}

metrics! {
    core {
        connections_opened: "Connections handed to the broker.",
        connections_closed: "Connections the broker has let go, for whatever reason.",
        connects_accepted: "CONNECT packets accepted.",
        connects_refused: "CONNECT packets refused, by CONNACK or by closing.",
        connect_timeouts: "Connections closed because no CONNECT was accepted in time.",
        keep_alive_timeouts: "Connections closed because the client was silent for one and a half times its keep alive.",
        takeovers: "Connections that lost their session to a newer one with the same client id.",
        malformed_packets: "Connections closed for a malformed packet.",
        protocol_errors: "Connections closed for a Protocol Error.",
        receive_maximum_exceeded: "Connections closed because a message came beyond Receive Maximum.",
        sessions_created: "Sessions made.",
        sessions_resumed: "Sessions taken up again by a new connection.",
        sessions_attached: "Times a session got a connection.",
        sessions_detached: "Times a session lost its connection.",
        sessions_ended: "Sessions ended, expired ones included.",
        sessions_expired: "Sessions ended because their expiry interval ran out.",
        sessions_refused: "CONNECT packets refused because limits.sessions_max was reached.",
        publishes_received: "PUBLISH packets received.",
        publishes_received_qos1: "PUBLISH packets received at QoS 1.",
        publishes_received_qos2: "PUBLISH packets received at QoS 2.",
        publishes_repeated: "QoS 2 PUBLISH packets received again before their PUBREL, and not delivered again.",
        deliveries: "PUBLISH packets handed to outboxes.",
        redeliveries: "PUBLISH packets sent again on a new connection (DUP 1).",
        publishes_unmatched: "Messages that matched nobody.",
        publishes_denied: "PUBLISH packets refused: the topic is the server's, or permission was denied.",
        publishes_reserved_property: "PUBLISH packets refused for a user property that is the server's.",
        publishes_unsealed_refused: "Messages refused because their policy says seal = required and they are not sealed: PUBLISH packets, wills at CONNECT, wills and delayed messages at their time.",
        publishes_sealed_refused: "Messages refused because their policy says seal = refused and they are sealed, counted alike.",
        user_properties_exceeded: "Packets refused for more user properties than limits.user_properties_max.",
        dropped_too_large: "Messages dropped because the client's Maximum Packet Size is less than they need.",
        packets_too_large: "Other packets dropped because the client's Maximum Packet Size is less than they need.",
        dropped_queue_full: "Messages dropped because the session's queue was full.",
        dropped_expired: "Messages dropped because they expired before they were sent.",
        dropped_too_old: "Messages dropped because they waited for a session longer than limits.queue_age_max.",
        dropped_unreadable: "Messages dropped because what the store holds of them cannot be read.",
        queued: "Messages put in a session's queue.",
        dropped_session_ended: "Messages lost with a session that ended while they waited or were in flight.",
        refused_by_client: "Messages a client refused with a reason code of 0x80 or higher.",
        subscribes_accepted: "Topic filters of SUBSCRIBE packets accepted.",
        subscribes_refused: "Topic filters of SUBSCRIBE packets refused.",
        subscriptions_exceeded: "Topic filters refused because limits.subscriptions_per_session_max was reached.",
        unsubscribes: "Topic filters unsubscribed.",
        wills_published: "Wills published.",
        wills_denied: "Wills not published because permission was denied when they fired.",
        subscriptions_revoked: "Subscriptions ended because a change of users or permissions forbids them.",
        rules_disconnects: "Connections closed because a change of users has no place for theirs.",
        retained_stored: "Messages stored as retained.",
        retained_removed: "Retained messages removed by an empty payload.",
        retained_expired: "Retained messages that expired.",
        retained_refused: "Retained messages not stored because the store was full.",
        retained_unreadable: "Retained messages lost at a start because the store could not read them.",
        retained_sent: "Retained messages sent because of a SUBSCRIBE.",
        retained_pending_exceeded: "Filters whose retained messages were left out because limits.retained_pending_max filters already waited for theirs.",
        topic_levels_exceeded: "Topics and filters refused for more levels than limits.topic_levels_max.",
        slow_readers: "Times a session stopped being live because its outbox was above half its limit.",
        group_members_refused: "Subscriptions to groups refused because limits.group_members_max was reached.",
        groups_refused: "Groups refused because limits.groups_max was reached.",
        group_redeliveries: "Messages of groups taken back from a member that did not acknowledge them, for another.",
        group_dropped_not_ready: "Messages of groups dropped at QoS 0 because no member could take them.",
        group_dropped_refused: "Messages of groups dropped because a member refused them.",
        group_dropped_too_large: "Messages of groups dropped because they are too large for every member.",
        group_dropped_max_deliveries: "Messages of groups dropped because they had been sent max_deliveries times.",
        group_dropped_queue_full: "Messages of groups dropped because limits.group_queue_messages_max or limits.group_queue_bytes_max was reached.",
        group_dropped_unreadable: "Messages of groups dropped because the store could not be read.",
        group_windows_exceeded: "Times that a group had more in the store than limits.group_window_messages_max or limits.group_window_bytes_max let wait in memory.",
        group_dropped_expired: "Messages of groups dropped because they expired before they were sent.",
        group_dropped_session_ended: "Messages of groups dropped with the last member, or with the session that had them at QoS 2.",
        dead_letters_expired: "Dead letters published for messages that expired, or waited longer than limits.queue_age_max.",
        dead_letters_refused: "Dead letters published for messages that a member of a group refused, or that were too large for every one.",
        dead_letters_max_deliveries: "Dead letters published for messages that a group had sent max_deliveries times, or that were at QoS 2 with a member whose session ended.",
        dead_letters_queue_full: "Dead letters published for messages that came to a full queue, of a session or of a group.",
        dead_letters_dropped: "Messages that died and were dropped though a policy has dead_letter: dead letters themselves, or more than limits.dead_letters_waiting_max or limits.dead_letters_waiting_bytes_max.",
        delayed_accepted: "Delayed messages accepted.",
        delayed_released: "Delayed messages published at their time.",
        delayed_cancelled: "Delayed messages cancelled by waypost-delay-id.",
        delayed_replaced: "Delayed messages in whose place another with their topic and waypost-delay-id came.",
        delayed_refused: "Messages refused because limits.delayed_messages_max was reached.",
        delayed_invalid: "Messages and wills refused because what they say of a delay cannot be.",
        delayed_denied: "Delayed messages not published because permission was denied at their time.",
        delayed_unreadable: "Delayed messages not published because the store could not read them at their time.",
        history_sent: "Records of streams sent to subscriptions that read them, or put into the queues of their sessions.",
        history_reads: "Questions to streams, of subscriptions that read them.",
        history_windows_full: "Reads of a stream that brought what limits.history_window_messages_max or limits.history_window_bytes_max allow, and not all there was.",
        history_fell_behind: "Times a subscription at the end of its stream could not take what came, and read on alone.",
        history_readers_exceeded: "Subscriptions that read a stream refused because limits.history_readers_per_session_max was reached.",
        history_gone: "Subscriptions that ended because their stream is gone.",
        answers_held: "Acknowledgements that waited until what they promise was kept.",
        answers_paused: "Times a client was not read on because limits.receive_maximum of its acknowledgements waited for the store.",
        answers_refused: "Acknowledgements the store refused: negative, or none and the connection closed.",
        publishes_forwarded: "Messages sent to other shards.",
        publishes_from_shards: "Messages received from other shards.",
        mail_malformed: "Batches from other shards that could not be read to the end.",
        invariants_broken: "Sessions whose state was found broken; their connections were closed.",
    }
    shell {
        bytes_received: "Bytes read from MQTT connections.",
        bytes_sent: "Bytes written to MQTT connections.",
        packets_received: "MQTT packets received, of any type.",
        packets_sent: "MQTT packets put in outboxes, of any type.",
        publish_bytes_received: "Payload bytes of PUBLISH packets received.",
        publish_bytes_sent: "Payload bytes of PUBLISH packets put in outboxes.",
        dropped_qos0_outbox: "QoS 0 messages dropped, oldest first, because the client's outbox was full.",
        reads_paused: "Times a connection was not read on because another shard's mailbox was full, or its own outbox.",
        reads_paused_store: "Times a connection was not read on because store.pending_bytes_max was reached: more is written down than the disk keeps up with.",
        receive_bytes_exceeded: "Connections closed for a packet that did not fit in limits.receive_bytes_max together with others.",
        packets_over_limit: "Connections closed for a packet above limits.packet_bytes_max.",
        read_errors: "Connections whose reading failed.",
        write_errors: "Connections whose writing failed.",
        store_rows_unreadable: "Rows of the store that could not be read at the start; they were left out.",
        transcode_unpacked: "Payloads unpacked for subscribers that did not accept their content-encoding, each once for a shard's subscribers.",
        transcode_unpacked_bytes_in: "Bytes of these as they came.",
        transcode_unpacked_bytes_out: "Bytes of these, unpacked.",
        transcode_packed: "Payloads packed for subscribers that accept their policy's compress, each once for a shard's subscribers.",
        transcode_packed_bytes_in: "Bytes of these as they came.",
        transcode_packed_bytes_out: "Bytes of these, packed.",
        transcode_not_shorter: "Payloads left as they are because packing does not make them shorter.",
        transcode_undecodable: "Payloads forwarded as they came because they are not what their content-encoding says.",
        transcode_bombs: "Payloads forwarded as they came because they would be unpacked to more than limits.transcoded_bytes_max.",
        transcode_unknown_encodings: "Messages forwarded as they came because no strategy has their content-encoding.",
        transcode_too_large: "Deliveries of messages as they came because the client's Maximum Packet Size is less than they need unpacked.",
        transcode_off_loop: "Payloads given to a transcoding thread because of their size.",
        transcode_workers_full: "Payloads unpacked by the shard itself, or not packed, because limits.transcode_waiting_bytes_max was reached.",
        tls_errors: "Connections closed after their handshake because TLS could not go on: a record that cannot be opened, an alert.",
        websocket_errors: "Connections closed for a WebSocket frame against RFC 6455, or with text.",
    }
    gauges {
        connections: "MQTT connections open, those that have not logged in yet included.",
        clients: "MQTT clients connected.",
        sessions: "Sessions, connected or not.",
        subscriptions: "Subscriptions of all sessions.",
        groups: "Groups of shared subscriptions, counted on their home shards.",
        group_members: "Members of these groups, connected or not.",
        group_messages_waiting: "Messages that wait in these groups for a member.",
        history_readers: "Subscriptions that read a stream.",
        history_reads_waiting: "Questions of these whose answers are awaited, those that wait at the end of a stream included.",
        retained_messages: "Retained messages.",
        retained_bytes: "Bytes of retained topics and payloads.",
        dead_letters_waiting: "Dead letters on their way: to be published, or to the disk.",
        delayed_messages: "Delayed messages that wait for their time.",
        answers_waiting: "Acknowledgements that wait until what they promise is kept.",
        outbox_bytes: "Bytes that wait in outboxes.",
        transcode_waiting: "Payloads that transcoding threads have, or that wait for one.",
        receive_bytes: "Memory held for packets that have not arrived whole, in bytes.",
    }
    server {
        accepts: "MQTT connections accepted by the listeners.",
        accept_errors: "Times accepting a connection failed, for want of file descriptors for example.",
        accepts_paused: "Times accepting stopped because limits.handshakes_max handshakes were on their way.",
        accepts_refused: "Connections closed at once because limits.connections_max was reached.",
        handshakes: "Connections that began a handshake below MQTT: a PROXY header, TLS or the upgrade to WebSocket.",
        handshakes_resumed: "TLS handshakes that resumed an earlier session of the client.",
        handshakes_failed_proxy: "Connections closed because their PROXY header was missing or wrong.",
        handshakes_failed_tls: "Connections closed because TLS failed, but for the client's certificate.",
        handshakes_failed_certificate: "Connections closed because the client's certificate was missing or not good.",
        handshakes_failed_upgrade: "Connections closed because their HTTP request was no WebSocket that may come in.",
        handshakes_timed_out: "Connections closed because their handshakes were not done within limits.handshake_timeout.",
        handshakes_gone: "Connections that ended during their handshakes.",
        certificate_reloads_failed: "Certificates, keys and revocation lists that could not be taken over; the old ones stayed.",
        passwords_hashed: "Passwords checked by hashing.",
        passwords_wrong: "Of these, wrong ones, and those of user names that are nobody's.",
        log_ins_remembered: "Log-ins by a user name and a password that were right within the last minute, not hashed again.",
        log_ins_forgotten: "Right credentials forgotten early because limits.log_ins_remembered_max was reached.",
        log_ins_refused: "Log-ins refused because limits.log_ins_waiting_max was reached, or by an address that failed and has two waiting.",
        dictionaries_trained: "Dictionaries learnt from the messages of policies with compress = zstd-dict or auto, and better than those before them.",
        dictionary_samples: "Messages handed in to learn dictionaries from.",
        dictionary_samples_dropped: "Messages not learnt from because others waited.",
        verdicts_forgotten: "Verdicts on publishing forgotten because limits.verdicts_max was reached.",
        users_reloads_failed: "Users files that could not be taken over; the old users stayed.",
        http_connections: "HTTP connections accepted, those on the administrator's socket included.",
        http_requests: "HTTP requests answered.",
        http_requests_refused: "HTTP requests refused for their Host, their Origin or their user.",
        http_timeouts: "HTTP connections closed because a request was too slow, or the connection idle or old.",
        reloads: "Configurations read again and taken over, on SIGHUP or through the API.",
        reloads_failed: "Configurations read again and refused; the old one stayed.",
        store_batches: "Batches of transactions that shards handed in to the log, one per tick that had something.",
        store_transactions: "Transactions made durable. Divided by waypost_store_syncs_total: how many share a sync.",
        store_transactions_refused: "Transactions refused because the disk was full or failed.",
        store_log_bytes: "Bytes of transactions made durable, before they are packed.",
        store_syncs: "Syncs (fdatasync) of the log.",
        store_syncs_failed: "Of these, failed ones: what they were to make durable was written again, to a new segment.",
        store_queue_reads: "Times messages that a session or group is owed were read back, a window at a time.",
        store_reads_failed: "Times something could not be read back because the disk failed; it is tried again every second.",
        store_cache_hits: "Messages wanted back that were in the message cache (store.cache).",
        store_cache_misses: "Messages wanted back that had to be read from the log.",
        store_cache_crowded_out: "Messages kept in the store's own part of the message cache because there were 64 others.",
        store_views_commits: "Times the views' file was brought up to date with the log.",
        store_segments_retired: "Files of the log taken away: nobody was owed anything of them, or they were rewritten.",
        store_retired_bytes: "Their bytes.",
        store_rewritten_bytes: "Bytes of the log written anew because little of a file was still needed.",
        store_messages_read: "Messages read back from disk or the message cache.",
        stream_reads_crowded_out: "Times a reader of a stream that waited for more was answered with nothing, because too many waited.",
    }
    server_gauges {
        handshakes_open: "Connections whose handshakes below MQTT are on their way.",
        store_pending_bytes: "Bytes on their way to the log and the views; clients are not read above store.pending_bytes_max.",
        store_messages: "Messages kept on disk: owed to somebody, or retained.",
        store_message_bytes: "Bytes of their contents.",
        store_start_log_bytes: "Bytes of the log read at the start: what the views were behind, headers and seals.",
        store_start_views_bytes: "Bytes of the views read at the start.",
        store_damage: "Damaged places of the store found at the start; the log names them.",
        store_queues: "Sessions and groups that are owed messages on disk.",
        store_rows: "Rows on disk: sessions, subscriptions, packet ids, wills, retained messages, groups.",
        store_segments: "Files of the log.",
        store_segment_bytes: "Their bytes.",
        store_live_bytes: "Bytes in them that are still needed.",
        store_views_bytes: "Bytes of the views' file.",
        store_views_behind_bytes: "Bytes of the log that the views' file does not reflect yet: a start reads them.",
        store_cache_bytes: "Bytes of messages in the message cache.",
        stream_reads_waiting: "Readers that wait until a stream grows; one for all of a shard that are at its end.",
        store_full: "1 while the disk is full and nothing that has to outlive the server is acknowledged.",
        store_failed: "1 while the disk fails otherwise, likewise.",
        certificate_expiry_time_seconds: "When the first of the server's certificates expires, in seconds since 1970; 0 without one.",
    }
}

//! The table of settings.

use super::door::ClientCertificates;
use super::field::{Field, Number, Word, duration, number, seconds};
use super::setting::{Reload, Setting};
use super::{store, transcode, words};

/// More shards than this serve nobody: each costs a thread and a mailbox to every other.
pub(super) const SHARDS_MAX: u16 = 256;

/// Every setting there is, section by section, in the order they are printed.
pub const SETTINGS: &[Setting] = &[
    Setting {
        section: "listen",
        key: "mqtt",
        doc: "Addresses for MQTT over TCP. Port 0 lets the system choose; the bound addresses are \
              printed at the start.",
        reload: Reload::AtStart,
        flag: Some("--mqtt"),
        field: Field::Addresses(|config| &mut config.listen.mqtt),
    },
    Setting {
        section: "listen",
        key: "mqtts",
        doc: "Addresses for MQTT over TLS; needs tls.cert and tls.key.",
        reload: Reload::AtStart,
        flag: Some("--mqtts"),
        field: Field::Addresses(|config| &mut config.listen.mqtts),
    },
    Setting {
        section: "listen",
        key: "ws",
        doc: "Addresses for MQTT over WebSocket, on any path, besides /mqtt of listen.http.",
        reload: Reload::AtStart,
        flag: Some("--ws"),
        field: Field::Addresses(|config| &mut config.listen.ws),
    },
    Setting {
        section: "listen",
        key: "wss",
        doc: "Addresses for MQTT over WebSocket over TLS; needs tls.cert and tls.key.",
        reload: Reload::AtStart,
        flag: Some("--wss"),
        field: Field::Addresses(|config| &mut config.listen.wss),
    },
    Setting {
        section: "listen",
        key: "unix",
        doc: "Path of a Unix socket for MQTT, for programs of the same user on this machine.",
        reload: Reload::AtStart,
        flag: Some("--unix"),
        field: Field::OptionalPath(|config| &mut config.listen.unix),
    },
    Setting {
        section: "listen",
        key: "http",
        doc: "Address for HTTP: the API, health checks and metrics.",
        reload: Reload::AtStart,
        flag: Some("--http"),
        field: Field::Address(|config| &mut config.listen.http),
    },
    Setting {
        section: "tls",
        key: "cert",
        doc: "The server's certificate and the chain behind it (PEM), for every TLS door.",
        reload: Reload::OnHangup,
        flag: Some("--cert"),
        field: Field::OptionalPath(|config| &mut config.tls.cert),
    },
    Setting {
        section: "tls",
        key: "key",
        doc: "The private key of that certificate (PEM).",
        reload: Reload::OnHangup,
        flag: Some("--key"),
        field: Field::OptionalPath(|config| &mut config.tls.key),
    },
    Setting {
        section: "tls",
        key: "client_ca",
        doc: "The authorities whose client certificates are taken (PEM).",
        reload: Reload::OnHangup,
        flag: None,
        field: Field::OptionalPath(|config| &mut config.tls.client_ca),
    },
    Setting {
        section: "tls",
        key: "client_certificates",
        doc: "Whether clients are asked for a certificate. optional: one that is given must be \
              good; required: without a good one there is no connection.",
        reload: Reload::OnHangup,
        flag: None,
        field: Field::Word(Word {
            words: ClientCertificates::names,
            read: |config| config.tls.client_certificates.as_str(),
            write: |config, name| config.tls.client_certificates.put(name),
        }),
    },
    Setting {
        section: "tls",
        key: "crl",
        doc: "Certificate revocation lists (PEM or DER): client certificates listed there are not taken.",
        reload: Reload::OnHangup,
        flag: None,
        field: Field::Paths(|config| &mut config.tls.crl),
    },
    Setting {
        section: "auth",
        key: "anonymous",
        doc: "Whether clients without a user name are let in. auto: as long as there are no users.",
        reload: Reload::OnHangup,
        flag: None,
        field: Field::Word(words::ANONYMOUS),
    },
    Setting {
        section: "auth",
        key: "users_file",
        doc: "The file of users and permissions. Empty: users.toml in server.data_dir.",
        reload: Reload::OnHangup,
        flag: None,
        field: Field::OptionalPath(|config| &mut config.auth.users_file),
    },
    Setting {
        section: "auth",
        key: "allow_anonymous_from_anywhere",
        doc: "Whether doors that other machines reach may be opened while nobody is asked who \
              they are. Anyone who reaches them may then read and write everything.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Fact(|config| &mut config.auth.allow_anonymous_from_anywhere),
    },
    Setting {
        section: "server",
        key: "data_dir",
        doc: "Directory for everything the server keeps, and for the administrator's socket. It is \
              made if missing, for its owner only (mode 0700); one server at a time.",
        reload: Reload::AtStart,
        flag: Some("--data-dir"),
        field: Field::Path(|config| &mut config.server.data_dir),
    },
    Setting {
        section: "server",
        key: "shards",
        doc: "Threads that serve clients. 0: one per core.",
        reload: Reload::AtStart,
        flag: Some("--shards"),
        field: Field::Count(number!(0, 256, server.shards)),
    },
    Setting {
        section: "server",
        key: "balance",
        doc: "How the shard of a new connection is chosen: a strategy of `waypost strategies \
              balance`. In flight are a shard's connections; the key is the client's address.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Word(words::BALANCE),
    },
    Setting {
        section: "server",
        key: "handshake_threads",
        doc: "Threads for what comes before MQTT: PROXY headers, TLS and the upgrade to WebSocket. \
              They run at the lowest priority. 0: one per core, at most 4.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Count(number!(0, 64, server.handshake_threads)),
    },
    Setting {
        section: "server",
        key: "hash_threads",
        doc: "Threads that check passwords, at the lowest priority, with 19 MiB each while they work. \
              0: one per two cores, at most 4.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Count(number!(0, 64, server.hash_threads)),
    },
    Setting {
        section: "server",
        key: "drain_timeout",
        doc: "How long a server that was told to stop waits for clients to take what is already \
              written for them, before it closes their connections.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Duration(duration!(0, 3_600_000, server.drain_timeout)),
    },
    Setting {
        section: "server",
        key: "sys_interval",
        doc: "How often the $SYS topics are published. 0s: never.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Duration(duration!(0, 86_400_000, server.sys_interval)),
    },
    Setting {
        section: "limits",
        key: "connections_max",
        doc: "Open MQTT connections of the whole server. At the bound a new one is closed at once, and counted.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Count(number!(1, 100_000_000, shell.connections_max)),
    },
    Setting {
        section: "limits",
        key: "accept_backlog",
        doc: "Connections the kernel holds per listener until they are accepted; beyond it the \
              kernel lets clients try again.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Count(number!(1, 65_535, shell.accept_backlog)),
    },
    Setting {
        section: "limits",
        key: "handshakes_max",
        doc: "Handshakes below MQTT (PROXY header, TLS, upgrade to WebSocket) at once. At the bound \
              no connection that needs one is accepted: it waits in the kernel's backlog.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Count(number!(1, 1_000_000, shell.handshakes_max)),
    },
    Setting {
        section: "limits",
        key: "log_ins_waiting_max",
        doc: "Connections that may wait for their password to be checked. At the bound an address with more than two \
              of them makes room for one with fewer; anybody else is refused (0x89, MQTT 3.1.1: 3).",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Count(number!(1, 1_000_000, shell.log_ins_waiting_max)),
    },
    Setting {
        section: "limits",
        key: "log_ins_remembered_max",
        doc: "Right user names and passwords remembered for a minute, as keyed hashes, so that a \
              client that comes back need not be checked. When full, the oldest are forgotten.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Count(number!(0, 10_000_000, shell.log_ins_remembered_max)),
    },
    Setting {
        section: "limits",
        key: "verdicts_max",
        doc: "Answers to \"may this user publish there\" that one shard remembers. When full, one \
              that was not asked for lately is forgotten.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Count(number!(0, 10_000_000, shell.verdicts_max)),
    },
    Setting {
        section: "limits",
        key: "handshake_timeout",
        doc: "From the opening of a connection to the end of its handshakes below MQTT. Beyond it \
              the connection is closed.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Duration(duration!(100, 3_600_000, shell.handshake_timeout)),
    },
    Setting {
        section: "limits",
        key: "outboxes_bytes_max",
        doc: "Memory of one shard for what waits to be written to all its clients. Beyond it a \
              client that is slow to read may have no more than 64 KiB waiting: the rest goes the \
              way of a full outbox (limits.outbox_bytes_max).",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Bytes(number!(1 << 20, 1 << 40, shell.outboxes_bytes_max)),
    },
    Setting {
        section: "limits",
        key: "receive_bytes_max",
        doc: "Memory of one shard for large packets that have not arrived whole. At the bound a \
              connection that begins another one is closed (0x97).",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Bytes(number!(1 << 20, 1 << 40, shell.receive_bytes_max)),
    },
    Setting {
        section: "limits",
        key: "mailbox_bytes_max",
        doc: "Memory for messages on their way from one shard to another. At the bound the sending \
              shard stops reading its publishers until there is room.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Bytes(number!(64 << 10, 1 << 40, shell.mailbox_bytes_max)),
    },
    Setting {
        section: "limits",
        key: "packet_bytes_max",
        doc: "The largest packet a client may send; MQTT 5 clients are told as Maximum Packet \
              Size. Beyond it the connection is closed (0x95).",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Bytes(number!(2, 268_435_460, limits.packet_bytes_max)),
    },
    Setting {
        section: "limits",
        key: "outbox_bytes_max",
        doc: "Memory for what waits to be written to one client. From half of it on, messages at QoS 1 and 2 wait in \
              the session's queue; when it is full, messages at QoS 0 are dropped, oldest first.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Bytes(number!(64 << 10, 1 << 40, limits.outbox_bytes_max)),
    },
    Setting {
        section: "limits",
        key: "queue_messages_max",
        doc: "Messages that may wait for one session. When full, the newest is dropped, so that \
              what a client missed is the end of a long absence and never a hole in it.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Count(number!(0, 1_000_000_000, limits.queue_messages_max)),
    },
    Setting {
        section: "limits",
        key: "queue_bytes_max",
        doc: "Payload bytes that may wait for one session; the same policy.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Bytes(number!(0, 1 << 40, limits.queue_bytes_max)),
    },
    Setting {
        section: "limits",
        key: "queue_age_max",
        doc: "How long a message that the store keeps may wait for one session. An older one is dropped when its \
              turn comes. 0s: no bound.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Duration(number!(0, 4_294_967_295_000, limits.queue_age_max_ms)),
    },
    Setting {
        section: "limits",
        key: "inflight_max",
        doc: "Unacknowledged messages sent to one client at a time, where its Receive Maximum \
              does not say less. The others wait in the session's queue.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Count(number!(1, 65_535, limits.inflight_max)),
    },
    Setting {
        section: "limits",
        key: "receive_maximum",
        doc: "Unfinished messages at QoS 1 and 2 a client may have sent; MQTT 5 clients are told \
              as Receive Maximum. Beyond it the connection is closed (0x93).",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Count(number!(1, 65_535, limits.receive_maximum)),
    },
    Setting {
        section: "limits",
        key: "topic_alias_max",
        doc: "Topic Aliases a client may use; MQTT 5 clients are told as Topic Alias Maximum. \
              Beyond it the connection is closed (0x94).",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Count(number!(0, 65_535, limits.topic_alias_max)),
    },
    Setting {
        section: "limits",
        key: "topic_alias_out_max",
        doc: "Topic Aliases the server makes on one connection, where the client's maximum does \
              not say less. The first topics get them.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Count(number!(0, 65_535, limits.topic_alias_out_max)),
    },
    Setting {
        section: "limits",
        key: "topic_levels_max",
        doc: "Levels a topic or filter may have. Beyond it a filter is refused with 0x8F, a topic with 0x90.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Count(number!(1, 65_535, limits.topic_levels_max)),
    },
    Setting {
        section: "limits",
        key: "subscriptions_per_session_max",
        doc: "Subscriptions of one session. Beyond it a SUBSCRIBE is refused with 0x97.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Count(number!(
            1,
            1_000_000_000,
            limits.subscriptions_per_session_max
        )),
    },
    Setting {
        section: "limits",
        key: "sessions_max",
        doc: "Sessions on one shard, connected or not. Beyond it a CONNECT is refused with 0x97 (MQTT 3.1.1: 0x03).",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Count(number!(1, 1_000_000_000, limits.sessions_max)),
    },
    Setting {
        section: "limits",
        key: "retained_messages_max",
        doc: "Retained messages of clients kept by one shard. Beyond it a message on a new topic is \
              delivered and not retained.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Count(number!(0, 1_000_000_000, limits.retained_messages_max)),
    },
    Setting {
        section: "limits",
        key: "retained_bytes_max",
        doc: "Bytes of their topics and payloads kept by one shard; the same policy.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Bytes(number!(0, 1 << 40, limits.retained_bytes_max)),
    },
    Setting {
        section: "limits",
        key: "match_cache_entries_max",
        doc: "Topics whose list of subscribers one shard remembers. When full, one that was not \
              asked for lately is forgotten.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Count(number!(1, 1_000_000_000, limits.match_cache_entries_max)),
    },
    Setting {
        section: "limits",
        key: "keep_alive_max",
        doc: "The longest keep alive. MQTT 5 clients that ask for a longer one, or none, are \
              given this one. 0s: no bound.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Duration(seconds!(0, 65_535_000, limits.keep_alive_max_s)),
    },
    Setting {
        section: "limits",
        key: "session_expiry_max",
        doc: "The longest time a session is kept after its client has gone. A longer one is \
              shortened, and MQTT 5 clients are told. 4294967295s: for ever, as in the standard.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Duration(seconds!(0, 4_294_967_295_000, limits.session_expiry_max_s)),
    },
    Setting {
        section: "limits",
        key: "connect_timeout",
        doc: "From the opening of a connection to the end of its log-in. Beyond it the connection is closed.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Duration(number!(100, 3_600_000, limits.connect_timeout_ms)),
    },
    Setting {
        section: "limits",
        key: "client_id_bytes_max",
        doc: "Length of a client id. Beyond it a CONNECT is refused with 0x85 (MQTT 3.1.1: 0x02).",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Bytes(number!(23, 65_535, limits.client_id_bytes_max)),
    },
    Setting {
        section: "limits",
        key: "user_properties_max",
        doc: "User properties in one packet of a client. Beyond it the packet is refused with 0x97, a message at QoS \
              0 is dropped, and where the packet has no answer the connection is closed.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Count(number!(0, 1_000_000, limits.user_properties_max)),
    },
    Setting {
        section: "limits",
        key: "burst_messages_max",
        doc: "Messages handed to one client in one step when its queue or its retained messages \
              are sent. The rest follows when its outbox has room.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Count(number!(1, 1_000_000, limits.burst_messages_max)),
    },
    Setting {
        section: "limits",
        key: "retained_pending_max",
        doc: "Filters of one session that may wait for their retained messages after its \
              SUBSCRIBEs. Beyond it a filter gets none.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Count(number!(0, 1_000_000_000, limits.retained_pending_max)),
    },
    Setting {
        section: "limits",
        key: "groups_max",
        doc: "Groups of shared subscriptions that have their home on one shard. Beyond it a SUBSCRIBE to \
              a new one gets 0x97.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Count(number!(0, 1_000_000_000, limits.groups_max)),
    },
    Setting {
        section: "limits",
        key: "group_members_max",
        doc: "Members one group may have, connected or not. Beyond it a SUBSCRIBE gets 0x97.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Count(number!(1, 1_000_000_000, limits.group_members_max)),
    },
    Setting {
        section: "limits",
        key: "group_queue_messages_max",
        doc: "Messages that may wait in one group for a member. When it is full, the newest is dropped, counted \
              and told on $events/group/dropped.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Count(number!(0, 1_000_000_000, limits.group_queue_messages_max)),
    },
    Setting {
        section: "limits",
        key: "group_queue_bytes_max",
        doc: "Memory that may wait in one group, counted as for one session; the same policy.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Bytes(number!(0, 1 << 40, limits.group_queue_bytes_max)),
    },
    Setting {
        section: "limits",
        key: "group_credit_max",
        doc: "Messages of one group that one member may have unacknowledged, where its Receive Maximum does \
              not say less.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Count(number!(1, 65_535, limits.group_credit_max)),
    },
    transcode::TRANSCODED_BYTES_MAX,
    transcode::TRANSCODE_WAITING_BYTES_MAX,
    store::GROUP_WINDOW_MESSAGES_MAX,
    store::GROUP_WINDOW_BYTES_MAX,
    store::DELAYED_MESSAGES_MAX,
    store::DEAD_LETTERS_WAITING_MAX,
    store::DEAD_LETTERS_WAITING_BYTES_MAX,
    store::HISTORY_READERS_PER_SESSION_MAX,
    store::HISTORY_WINDOW_MESSAGES_MAX,
    store::HISTORY_WINDOW_BYTES_MAX,
    store::SEGMENT_BYTES,
    store::COMPRESS,
    store::ENCRYPT,
    store::KEY_FILE,
    store::KEY_ENV,
    store::KEY_COMMAND,
    store::OLD_KEY_FILES,
    store::CACHE,
    store::CACHE_BYTES,
    store::PENDING_BYTES_MAX,
    Setting {
        section: "http",
        key: "tls",
        doc: "Whether the HTTP address speaks TLS instead of plain text, with the certificate of \
              [tls]: the API as HTTPS, MQTT over WebSocket as WSS.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Fact(|config| &mut config.http.tls),
    },
    Setting {
        section: "http",
        key: "allowed_hosts",
        doc: "Host names, besides loopback's, under which the API may be asked for. Any other Host is refused, so \
              that a web page elsewhere cannot reach this server through a name of its own.",
        reload: Reload::OnHangup,
        flag: None,
        field: Field::Names(|config| &mut config.http.allowed_hosts),
    },
    Setting {
        section: "http",
        key: "allowed_origins",
        doc: "Origins, besides the server's own, whose pages may use the API, as a browser writes \
              them: scheme, host and port.",
        reload: Reload::OnHangup,
        flag: None,
        field: Field::Names(|config| &mut config.http.allowed_origins),
    },
    Setting {
        section: "http",
        key: "connections_max",
        doc: "Open HTTP connections. At the bound a new one waits until another is closed.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Count(number!(1, 100_000, http.connections_max)),
    },
    Setting {
        section: "http",
        key: "request_timeout",
        doc: "How long the head of an HTTP request may take to arrive, and a connection may be \
              idle. After it the connection is closed.",
        reload: Reload::AtStart,
        flag: None,
        field: Field::Duration(duration!(100, 3_600_000, http.request_timeout)),
    },
    Setting {
        section: "log",
        key: "level",
        doc: "The least serious message that is written to standard error.",
        reload: Reload::OnHangup,
        flag: Some("--log-level"),
        field: Field::Word(words::LEVEL),
    },
];

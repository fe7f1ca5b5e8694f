//! What the operator decides: every setting, from a TOML file, then the environment, then flags.
//!
//! [`SETTINGS`] is the one table of settings: parsing, `waypost config default`, the environment's
//! names, `docs/configuration.md` and the tests are all read from it, so a new key is a field here
//! and one entry there. A key exists only when it acts.
//!
//! Deliberately not here: what a setting does. Each part of the server reads its own fields.

mod array;
mod door;
mod error;
mod field;
mod file;
mod literal;
mod load;
mod nearest;
mod print;
mod setting;
mod settings;
mod store;
mod stream;
#[cfg(test)]
mod tests;
mod topic;
mod transcode;
mod validate;
mod words;

pub use door::{ClientCertificates, ListenConfig, ListenerConfig, Place, Protocol, TlsConfig};
pub use error::{LoadError, Origin, Problem};
pub use literal::milliseconds;
pub use load::{Flag, Sources};
pub use print::{default_toml, markdown};
pub use setting::{Reload, Setting};
pub use settings::SETTINGS;
pub(crate) use store::NO_ENCRYPTION;
pub use store::StoreConfig;
pub use stream::{Retention, StreamConfig};
pub use topic::{Explained, Topics};

use std::path::PathBuf;
use std::time::Duration;

/// Everything the operator can decide, with its defaults.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// `[listen]`: the doors.
    pub listen: ListenConfig,
    /// `[[topic]]`: what holds for the topics of some filters.
    pub topics: Topics,
    /// `[[stream]]`: named records of messages.
    pub streams: Vec<StreamConfig>,
    /// `[tls]`: what every TLS door has, where it does not say otherwise.
    pub tls: TlsConfig,
    /// `[auth]`: who may come in.
    pub auth: AuthConfig,
    /// `[server]`: the process.
    pub server: ServerConfig,
    /// `[limits]`: the bounds the broker of each shard keeps.
    pub limits: waypost_core::Limits,
    /// `[limits]` too: the bounds the shell keeps (sockets, buffers, mailboxes).
    pub shell: ShellLimits,
    /// `[store]`: how what outlives the process is kept.
    pub store: StoreConfig,
    /// `[http]`: the control side.
    pub http: HttpConfig,
    /// `[log]`: what is said on standard error.
    pub log: LogConfig,
}

/// `[server]`: the process.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerConfig {
    /// Where the server keeps its data and its administrator's socket.
    pub data_dir: PathBuf,
    /// Threads that serve clients; 0 means one per core. Read it through [`ServerConfig::shard_count`].
    pub shards: u16,
    /// Threads for handshakes below MQTT; 0 means as many as cores, up to 4.
    pub handshake_threads: u16,
    /// Threads that hash passwords; 0 means one per two cores, at most four.
    pub hash_threads: u16,
    /// The strategy (`waypost_balance`) that chooses the shard of a new connection.
    pub balance: &'static str,
    /// How long a drain waits for clients to take what they are owed.
    pub drain_timeout: Duration,
    /// How often `$SYS` is published; zero: never.
    pub sys_interval: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./waypost-data"),
            shards: 0,
            handshake_threads: 0,
            hash_threads: 0,
            balance: "round-robin",
            drain_timeout: Duration::from_secs(10),
            sys_interval: Duration::from_secs(10),
        }
    }
}

impl ServerConfig {
    /// The number of shards to start: as configured, or one per core this process may use.
    pub fn shard_count(&self) -> u16 {
        if self.shards > 0 {
            return self.shards;
        }
        std::thread::available_parallelism()
            .ok()
            .and_then(|cores| u16::try_from(cores.get()).ok())
            .unwrap_or(1)
            .min(settings::SHARDS_MAX)
    }
}

/// `[auth]`: who may come in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AuthConfig {
    /// Whether clients without a user name are let in; `None`: as long as there are no users.
    pub anonymous: Option<bool>,
    /// The file of users and permissions; `None`: `users.toml` in the data directory.
    pub users_file: Option<PathBuf>,
    /// Whether doors that other machines reach may be opened while nobody is asked who they are.
    pub allow_anonymous_from_anywhere: bool,
}

/// The bounds of `[limits]` that the shell keeps; the broker's own are in [`waypost_core`].
#[derive(Clone, Debug, PartialEq)]
pub struct ShellLimits {
    /// Open MQTT connections, over all shards; one more is accepted and closed at once, counted.
    pub connections_max: usize,
    /// Connections the kernel holds until they are accepted (`listen(2)`'s backlog).
    pub accept_backlog: u32,
    /// Handshakes below MQTT at once; while that many are on their way nobody is accepted who needs one.
    pub handshakes_max: usize,
    /// Connections that wait for their password to be checked; beyond it, an address that has more than two of them
    /// makes room for one that has fewer, and anybody else is refused.
    pub log_ins_waiting_max: usize,
    /// Right credentials remembered for a minute; beyond it, the oldest are forgotten.
    pub log_ins_remembered_max: usize,
    /// Verdicts on publishing that a shard remembers; beyond it, one that was not asked for lately is forgotten.
    pub verdicts_max: usize,
    /// From accepting a connection to the end of its handshakes; beyond it, it is closed.
    pub handshake_timeout: Duration,
    /// Bytes one shard may hold in large packets that have not arrived whole; beyond it, a connection
    /// that begins another one is closed.
    pub receive_bytes_max: usize,
    /// Bytes that may wait in all outboxes of one shard together; beyond it each client may have
    /// only a small part of `limits.outbox_bytes_max` waiting.
    pub outboxes_bytes_max: usize,
    /// Bytes waiting in one mailbox between two shards; beyond it the sender's clients are not read.
    pub mailbox_bytes_max: usize,
    /// The most that a payload is unpacked to for subscribers; one that would be larger stays as it came.
    pub transcoded_bytes_max: usize,
    /// Bytes of payloads that wait to be transcoded; beyond it a shard does it by itself.
    pub transcode_waiting_bytes_max: usize,
}

impl Default for ShellLimits {
    fn default() -> Self {
        Self {
            connections_max: 1_000_000,
            accept_backlog: 4_096,
            handshakes_max: 1_024,
            log_ins_waiting_max: 1_000,
            log_ins_remembered_max: 100_000,
            verdicts_max: 10_000,
            handshake_timeout: Duration::from_secs(10),
            receive_bytes_max: 256 << 20,
            outboxes_bytes_max: 512 << 20,
            mailbox_bytes_max: 16 << 20,
            transcoded_bytes_max: 16 << 20,
            transcode_waiting_bytes_max: 64 << 20,
        }
    }
}

/// `[http]`: who may reach the control side through a browser, and how much of it.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpConfig {
    /// Whether the HTTP address speaks TLS, with the certificate of `[tls]`.
    pub tls: bool,
    /// Names, besides loopback's, under which the API may be asked for.
    pub allowed_hosts: Vec<String>,
    /// Origins, besides the server's own, whose pages may ask.
    pub allowed_origins: Vec<String>,
    /// Open HTTP connections; one more waits in the kernel's backlog.
    pub connections_max: usize,
    /// How long a request's head may take to arrive, and an idle connection may stay open.
    pub request_timeout: Duration,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            tls: false,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            connections_max: 256,
            request_timeout: Duration::from_secs(10),
        }
    }
}

/// `[log]`: what is said on standard error.
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    /// The least serious message that is written.
    pub level: log::LevelFilter,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            level: log::LevelFilter::Info,
        }
    }
}

impl Config {
    /// The settings whose values differ between `self` and `other`.
    pub fn changes<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'static Setting> + 'a {
        SETTINGS
            .iter()
            .filter(move |setting| setting.show(self) != setting.show(other))
    }

    /// The names of what differs and acts then: settings, and arrays as `[[topic]]`.
    pub fn changed(&self, other: &Self, when: Reload) -> Vec<String> {
        let settings = self.changes(other).filter(|setting| setting.reload == when);
        // A door is opened at the start; what holds for it can change later.
        let place = |door: &ListenerConfig| (door.protocol, door.place.clone());
        let places = |config: &Self| config.listen.own.iter().map(place).collect::<Vec<_>>();
        let listener = if places(self) == places(other) {
            Reload::OnHangup
        } else {
            Reload::AtStart
        };
        let caches = self.topics.acts_at_start() != other.topics.acts_at_start();
        let arrays = [
            ("[[topic]] cache and cache_bytes", Reload::AtStart, caches),
            (
                "[[listener]]",
                listener,
                self.listen.own != other.listen.own,
            ),
            (
                "[[stream]]",
                Reload::OnHangup,
                self.streams != other.streams,
            ),
            ("[[topic]]", Reload::OnHangup, self.topics != other.topics),
        ];
        let arrays = arrays
            .iter()
            .filter(|(_, reload, differs)| *reload == when && *differs);
        settings
            .map(Setting::name)
            .chain(arrays.map(|(name, ..)| (*name).to_owned()))
            .collect()
    }
}

//! How a client is to connect.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use waypost_encrypt::KeyRing;
use waypost_mqtt::{Property, PropertyBuffer, ProtocolVersion, Topic};

use crate::backoff::{Backoff, Retries};
use crate::client::Client;
use crate::content::{CONTENT_BYTES_MAX, Reading};
use crate::core::{Core, UnfinishedMax};
use crate::desk::{Desk, Granted, Notice};
use crate::door::endpoint::{Endpoint, Scheme};
use crate::door::tls::TlsOptions;
use crate::door::{Address, Door};
use crate::driver::{self, Way};
use crate::error::ConnectError;
use crate::offline::OfflineStore;
use crate::outbox::Outbox;
use crate::protocol::options::{Acknowledge, Options, WillOptions};
use crate::publish::Publish;
use crate::routes::{Capacity, QueueId, WhenFull};
use crate::shared::{Handle, Observer, Shared};
use crate::subscription::{CAPACITY_DEFAULT, Subscription};

/// Messages of QoS 1 and 2 sent and not acknowledged, unless asked otherwise.
const IN_FLIGHT_MAX: u16 = 100;
/// Messages published and not finished, and their bytes, unless asked otherwise.
const UNFINISHED_MAX: UnfinishedMax = UnfinishedMax {
    messages: 1_000,
    bytes: 16 * 1024 * 1024,
};
/// How long a session outlives a lost connection of a running program.
const RESUME_SECONDS: u32 = 300;
/// Seconds without traffic before a ping.
const KEEP_ALIVE_SECONDS: u16 = 60;

/// How a client is to connect: [`Client::builder`] makes one.
///
/// ```no_run
/// # async fn connect() -> Result<(), waypost_client::ConnectError> {
/// use std::time::Duration;
/// use waypost_client::{Backoff, Client, Publish, QoS};
///
/// let client = Client::builder("mqtts://broker.example.org")
///     .client_id("till-4")
///     .credentials("till", "secret")
///     .will(Publish::new("tills/4", "gone").retain())
///     .session_expiry(Duration::from_secs(86_400))
///     .clean_start(false)
///     .reconnect(Backoff::new().patience(Duration::from_secs(600)))
///     .connect()
///     .await?;
/// # drop(client);
/// # Ok(())
/// # }
/// ```
pub struct Builder {
    way: Goal,
    tls: TlsOptions,
    options: Options,
    will: Option<Publish>,
    backoff: Backoff,
    unfinished_max: UnfinishedMax,
    observer: Option<Observer>,
    inbox: Option<usize>,
    reading: Reading,
    offline: Option<Box<dyn OfflineStore>>,
}

enum Goal {
    Url(String),
    Door(Box<Door>),
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the credentials.
        f.debug_struct("Builder")
            .field("client_id", &self.options.client_id)
            .finish_non_exhaustive()
    }
}

impl Builder {
    pub(crate) fn new(way: impl Into<String>) -> Self {
        Self::with(Goal::Url(way.into()))
    }

    /// A client that connects through a door that was found already.
    pub fn through(door: Door) -> Self {
        Self::with(Goal::Door(Box::new(door)))
    }

    fn with(way: Goal) -> Self {
        Self {
            way,
            tls: TlsOptions::default(),
            options: Options {
                version: ProtocolVersion::V5,
                client_id: String::new(),
                clean_start: true,
                keep_alive: KEEP_ALIVE_SECONDS,
                user_name: None,
                password: None,
                will: None,
                properties: PropertyBuffer::new(),
                in_flight_max: IN_FLIGHT_MAX,
                resume_seconds: RESUME_SECONDS,
                acknowledge: Acknowledge::ByCaller,
            },
            will: None,
            backoff: Backoff::new(),
            unfinished_max: UNFINISHED_MAX,
            observer: None,
            inbox: None,
            reading: Reading {
                is_raw: false,
                bytes_max: CONTENT_BYTES_MAX,
                dictionaries: Arc::default(),
                ring: None,
                is_sealed_only: false,
                reads_dead_letters: false,
            },
            offline: None,
        }
    }

    /// Takes all that is said in CONNECT from `options`; [`Acknowledge`] stays the client's own.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = Options {
            acknowledge: Acknowledge::ByCaller,
            ..options
        };
        self
    }

    /// Who it is: unique in its site. Left out, a new one each time.
    #[must_use]
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.options.client_id = client_id.into();
        self
    }

    /// Who connects, and how they prove it; instead of what the URL says.
    #[must_use]
    pub fn credentials(
        mut self,
        user_name: impl Into<String>,
        password: impl Into<Vec<u8>>,
    ) -> Self {
        self.options.user_name = Some(user_name.into());
        self.options.password = Some(password.into());
        self
    }

    /// The authorities to trust, a PEM file; left out, the system's.
    #[must_use]
    pub fn ca(mut self, file: impl Into<PathBuf>) -> Self {
        self.tls.ca_file = Some(file.into());
        self
    }

    /// The client's own certificate chain and its key, PEM files.
    #[must_use]
    pub fn certificate(mut self, chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.tls.certificate = Some((chain.into(), key.into()));
        self
    }

    /// MQTT 5 unless asked otherwise.
    #[must_use]
    pub fn version(mut self, version: ProtocolVersion) -> Self {
        self.options.version = version;
        self
    }

    /// Without traffic for so long the client pings; zero: never. Whole seconds.
    #[must_use]
    pub fn keep_alive(mut self, time: Duration) -> Self {
        self.options.keep_alive = u16::try_from(time.as_secs()).unwrap_or(u16::MAX);
        self
    }

    /// Whether the server forgets an earlier session of this client id first: it does unless asked
    /// otherwise. A connection that is made again goes on with the session either way (MQTT 5).
    #[must_use]
    pub fn clean_start(mut self, clean_start: bool) -> Self {
        self.options.clean_start = clean_start;
        self
    }

    /// How long the session outlives the program, in whole seconds (MQTT 5). Left out it ends with
    /// the program's DISCONNECT, and five minutes after a connection that was lost.
    #[must_use]
    pub fn session_expiry(mut self, time: Duration) -> Self {
        let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let properties = &mut self.options.properties;
        properties.push(Property::SessionExpiryInterval(seconds));
        self
    }

    /// What the server publishes when the connection ends otherwise than by DISCONNECT.
    #[must_use]
    pub fn will(mut self, will: Publish) -> Self {
        self.will = Some(will);
        self
    }

    /// A property of CONNECT (MQTT 5).
    #[must_use]
    pub fn property(mut self, property: Property<'_>) -> Self {
        self.options.properties.push(property);
        self
    }

    /// Messages of QoS 1 and 2 sent and not acknowledged, at most; a server may allow fewer. The
    /// others wait their turn.
    #[must_use]
    pub fn in_flight_max(mut self, messages: u16) -> Self {
        self.options.in_flight_max = messages;
        self
    }

    /// Messages published and not finished at most, and their bytes; beyond, publishing waits.
    #[must_use]
    pub fn unfinished_max(mut self, messages: usize, bytes: usize) -> Self {
        self.unfinished_max = UnfinishedMax {
            messages: messages.max(1),
            bytes,
        };
        self
    }

    /// How a lost connection is made again.
    #[must_use]
    pub fn reconnect(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Tells what happens to the connection: on the client's task, which must not wait there.
    #[must_use]
    pub fn observe(mut self, observer: impl Fn(&Notice) + Send + Sync + 'static) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// Messages that no subscription of the program asks for, such as those of a session from
    /// before, are for [`Connected::inbox`], so many at a time.
    #[must_use]
    pub fn inbox(mut self, capacity: usize) -> Self {
        self.inbox = Some(capacity);
        self
    }

    /// Which packings the client takes, in HTTP's words (`zstd`, `br`, `deflate`, `waypost-zstd-dict`): under a
    /// `transcode` policy the server unpacks for a client what it does not take, and packs what it
    /// does (MQTT 5).
    #[must_use]
    pub fn accept_encoding<'a>(mut self, encodings: impl IntoIterator<Item = &'a str>) -> Self {
        let encodings: Vec<_> = encodings.into_iter().collect();
        let list = encodings.join(", ");
        let properties = &mut self.options.properties;
        properties.push(Property::UserProperty("accept-encoding", &list));
        self
    }

    /// The longest payload that is unpacked; 64 MiB unless asked otherwise. A message that says it is
    /// longer is an error, before memory is spent on it.
    #[must_use]
    pub fn content_bytes_max(mut self, bytes: usize) -> Self {
        self.reading.bytes_max = bytes;
        self
    }

    /// What sealed messages are opened with, and whose signatures count, such as a
    /// [`KeyDirectory`](crate::keys::KeyDirectory). Without keys they are handed over as they came.
    #[must_use]
    pub fn keys(mut self, ring: Arc<dyn KeyRing + Send + Sync>) -> Self {
        self.reading.ring = Some(ring);
        self
    }

    /// All subscriptions and the inbox are [`Subscribe::sealed_only`](crate::Subscribe::sealed_only).
    #[must_use]
    pub fn sealed_only(mut self) -> Self {
        self.reading.is_sealed_only = true;
        self
    }

    /// All subscriptions and the inbox read [`Subscribe::dead_letters`](crate::Subscribe::dead_letters).
    #[must_use]
    pub fn dead_letters(mut self) -> Self {
        self.reading.reads_dead_letters = true;
        self
    }

    /// Messages are handed over as they came, packed or not, sealed or not.
    #[must_use]
    pub fn raw(mut self) -> Self {
        self.reading.is_raw = true;
        self
    }

    /// Keeps what is published at QoS 1 and 2 while there is no connection, and what was on its way
    /// when one was lost, where it survives the program; the next that opens the store sends it
    /// first, in order. Handing a message over is then done when it is on disk. Whatever a program
    /// that was killed had sent without hearing of it is sent again, QoS 2 too.
    /// [`Self::start`] begins without a server.
    #[must_use]
    pub fn offline(mut self, store: impl OfflineStore + 'static) -> Self {
        self.offline = Some(Box::new(store));
        self
    }

    /// Connects; the server has accepted the client when this is done. Lost connections are made
    /// again from then on.
    pub async fn connect(self) -> Result<Client, ConnectError> {
        Ok(self.connect_with_inbox().await?.client)
    }

    /// As [`Self::connect`], with the inbox that [`Self::inbox`] asks for, and what the server said.
    pub async fn connect_with_inbox(self) -> Result<Connected, ConnectError> {
        let mut connected = self.spawn(false)?;
        connected.session_present = connected.client.connected().await?;
        Ok(connected)
    }

    /// Gives a client at once and connects in the background; the first connection is tried again
    /// as lost ones are. What is published meanwhile waits.
    pub fn start(self) -> Result<Client, ConnectError> {
        Ok(self.spawn(true)?.client)
    }

    fn spawn(mut self, is_lazy: bool) -> Result<Connected, ConnectError> {
        let runtime = tokio::runtime::Handle::try_current();
        let runtime = runtime.map_err(|_| ConnectError::NoRuntime)?;
        let way = self.way()?;
        self.complete()?;
        let mut seed = [0; 8];
        getrandom::fill(&mut seed)?;
        let retries = Retries::new(self.backoff, u64::from_ne_bytes(seed));
        let mut desk = Desk::new(self.options.version, retries);
        let inbox = self.inbox.map(|capacity| {
            let capacity = Capacity {
                messages: capacity,
                ..CAPACITY_DEFAULT
            };
            let queue = desk.routes.add_queue(capacity, WhenFull::Wait);
            desk.routes.set_inbox(queue);
            queue
        });
        let core = Core::new(self.options, self.unfinished_max, is_lazy, desk);
        let shared = Arc::new(Shared::new(core, self.observer));
        runtime.spawn(driver::run(Arc::clone(&shared), way));
        let reading = self.reading;
        let outbox = self.offline.map(|store| {
            let outbox = Arc::new(Outbox::new(runtime.clone(), Arc::clone(&shared), store));
            runtime.spawn(Arc::clone(&outbox).run());
            outbox
        });
        let handle = Arc::new(Handle {
            shared,
            reading,
            outbox,
        });
        let take = |queue: QueueId| {
            let granted = Granted {
                reasons: Vec::new(),
                text: None,
            };
            Subscription::new(Arc::clone(&handle), queue, None, granted)
        };
        Ok(Connected {
            inbox: inbox.map(take),
            session_present: false,
            client: Client::new(handle),
        })
    }

    /// The client's id, and its will.
    fn complete(&mut self) -> Result<(), ConnectError> {
        if self.options.client_id.is_empty() {
            let mut id = [0; 8];
            getrandom::fill(&mut id)?;
            self.options.client_id = format!("waypost-{:016x}", u64::from_ne_bytes(id));
        }
        if let Some(will) = self.will.take() {
            Topic::parse(&will.topic).map_err(|error| ConnectError::WillTopic {
                topic: will.topic.clone(),
                error,
            })?;
            self.options.will = Some(WillOptions {
                topic: will.topic,
                payload: will.payload,
                qos: will.qos,
                retain: will.retain,
                properties: will.properties,
            });
        }
        Ok(())
    }

    fn way(&mut self) -> Result<Way, ConnectError> {
        let url = match &self.way {
            Goal::Door(door) => {
                let door = Door::clone(door);
                return Ok(Way { door, name: None });
            }
            Goal::Url(url) => url,
        };
        let endpoint = Endpoint::parse(url)?;
        if self.options.user_name.is_none() {
            self.options.user_name.clone_from(&endpoint.user_name);
            let password = endpoint.password.as_ref();
            self.options.password = password.map(|password| password.clone().into_bytes());
        }
        let (address, name) = match endpoint.scheme {
            Scheme::Unix => (Address::Unix(PathBuf::from(&endpoint.host)), None),
            _ => (
                Address::Tcp(([0, 0, 0, 0], 0).into()),
                Some((endpoint.host.clone(), endpoint.port)),
            ),
        };
        let door = Door::at(address, &endpoint, &self.tls)?;
        Ok(Way { door, name })
    }
}

/// A client that was accepted, and what there is besides.
#[derive(Debug)]
pub struct Connected {
    /// The client.
    pub client: Client,
    /// What no subscription asks for, where [`Builder::inbox`] was called.
    pub inbox: Option<Subscription>,
    /// Whether the server had the session already.
    pub session_present: bool,
}

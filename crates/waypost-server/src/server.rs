//! Starting and stopping: sockets are bound, shards and the listener get their threads.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Map, Value, json};
use tokio::sync::mpsc::{Receiver, channel};
use waypost_balance::UnknownStrategy;
use waypost_core::{Broker, BrokerConfig, RetainedClock, ShardId, Streams};
use waypost_store::Disk;

use crate::auth::{Users, UsersFileError, UsersHandle};
use crate::client_report::{ClientQuestion, ClientReport};
use crate::config::{Config, Protocol, Topics};
use crate::control::{BackUp, Upgraded};
use crate::dictionaries::{AtRest, Files, Sampler, Shelf, Training, start_training};
use crate::door::entrance::Entrance;
use crate::door::gate::Gate;
use crate::door::porter::{Handshakes, Porter, PorterInbox};
use crate::door::{self, Bound, CertificateError, Door};
use crate::history::Access;
use crate::listener::{Listener, ListenerPort, StopListener};
use crate::mailbox::{Handover, Inbound, Mailbox};
use crate::metrics::Stats;
use crate::shard::restore::Past;
use crate::shard::{Shard, ShardPort, ShellLimits};
use crate::socket::{Framing, Socket};
use crate::store::{self, ClockTrust, OpenError, OpenStore, ServedStreams, StorePort};
use crate::threads::Threads;
use crate::transcode::{Coder, CoderLimits, Workers, start_workers};

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A door could not be opened.
    #[error("cannot listen on {door}: {source}{}", hint(.door, .source))]
    Listen {
        /// The door as configured.
        door: String,
        /// What the system said.
        source: io::Error,
    },
    /// A door's certificate, key or revocation list cannot be used.
    #[error("{door}: {source}")]
    Certificate {
        /// The door as configured.
        door: String,
        /// What is wrong with it.
        source: CertificateError,
    },
    /// The users file cannot be used.
    #[error(transparent)]
    Users(#[from] UsersFileError),
    /// What has to outlive the server cannot be kept.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// A shard could not take up what an earlier run left.
    #[error("a shard could not take up what the store has; the log says why")]
    NotRestored,
    /// The streams cannot be made or opened.
    #[error("the streams: {0}")]
    Streams(String),
    /// `server.balance` names no strategy.
    #[error("server.balance: {0}")]
    Balance(#[from] UnknownStrategy),
    /// A poller, a waker or a thread could not be made.
    #[error("cannot start {what}: {source}")]
    Thread {
        /// What was being started.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// What to do about it, where we know.
fn hint(door: &str, source: &io::Error) -> String {
    let protocol = door.split(' ').next().unwrap_or(door);
    match source.kind() {
        io::ErrorKind::AddrInUse if protocol == Protocol::Unix.as_str() => {
            "\n  another program listens there; stop it, or choose another path: --unix PATH"
                .to_owned()
        }
        io::ErrorKind::AddrInUse => format!(
            "\n  another program listens there; stop it, or choose another address: --{protocol} 127.0.0.1:0 takes any free port"
        ),
        io::ErrorKind::PermissionDenied => {
            "\n  ports below 1024 need a privilege; choose a higher one".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "\n  no interface of this machine has that address".to_owned()
        }
        _ => String::new(),
    }
}

/// A running server.
pub struct Server {
    addresses: Vec<DoorAddress>,
    stats: Arc<Stats>,
    handle: Handle,
    threads: Threads,
    back_up: BackUp,
}

/// Where a door is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoorAddress {
    /// What it speaks.
    pub protocol: Protocol,
    /// Where it is, with the port the system chose.
    pub place: Bound,
}

impl DoorAddress {
    /// The places of all doors under the names of their protocols, for scripts. `mqtt` is always there.
    pub fn by_protocol(doors: &[Self]) -> Map<String, Value> {
        let mut places = Map::new();
        places.insert(Protocol::Mqtt.as_str().to_owned(), json!([]));
        for door in doors {
            let entry = places.entry(door.protocol.as_str()).or_insert(json!([]));
            if let Value::Array(entry) = entry {
                entry.push(door.place.to_string().into());
            }
        }
        places
    }
}

/// Sets the secret of the users apart from those of the shards.
const USERS_SEED: u64 = 0x5573_6572_735f_5f5f;

/// More threads than this for handshakes take turns on the cores anyway.
const HANDSHAKE_THREADS_BY_DEFAULT: usize = 4;

/// Starts shards, porters and listener. Clients are served when this returns. The data directory must be this process's
/// ([`crate::control::DataDirectory`]).
pub fn start(config: &Config, trust: ClockTrust) -> Result<Server, StartError> {
    let stats = Arc::new(Stats::new(config.server.shard_count()));
    let store = store::open(config, trust, &stats)?;
    start_over(config, store, stats)
}

/// As [`start`], over a store that is open.
pub(crate) fn start_over<D: Disk>(
    config: &Config,
    store: OpenStore<D>,
    stats: Arc<Stats>,
) -> Result<Server, StartError> {
    let gates = open(config)?;
    let doors: Arc<[Arc<Door>]> = gates.iter().map(|(_, door)| Arc::clone(door)).collect();
    let ports = (0..config.server.shard_count())
        .map(|_| ShardPort::new(config.shell.mailbox_bytes_max))
        .collect::<io::Result<Vec<_>>>()
        .map_err(cannot_start("a shard's poller"))?;
    let mailboxes: Arc<[_]> = ports.iter().map(|port| Arc::clone(&port.mailbox)).collect();
    door::tell_expiry(&doors, &stats);
    let seed = seed().map_err(cannot_start("the random source"))?;
    let (shelf, sampler, training) = dictionaries(config, &stats, store.at_rest.clone())?;
    let users = Users::read(config, seed ^ USERS_SEED, &stats, &shelf)?;
    let strategy = waypost_balance::find(config.server.balance)?;
    let entrance = Arc::new(Entrance::new(
        Arc::clone(&mailboxes),
        config.shell.connections_max,
        strategy,
        seed,
    ));
    let port = ListenerPort::new().map_err(cannot_start("the listener"))?;
    let handshakes = Handshakes::new(
        config.shell.handshakes_max,
        port.waker(),
        Arc::clone(&stats),
    );
    let porters = (0..porter_count(config, &doors))
        .map(|_| {
            let (entrance, stats) = (Arc::clone(&entrance), Arc::clone(&stats));
            Porter::new(entrance, stats, config.shell.handshake_timeout)
        })
        .collect::<io::Result<Vec<_>>>()
        .map_err(cannot_start("a porter"))?;
    let inboxes: Arc<[_]> = porters.iter().map(|(_, inbox)| Arc::clone(inbox)).collect();
    let (listener, stop_listener) = Listener::new(
        port,
        gates,
        Arc::clone(&entrance),
        handshakes,
        Arc::clone(&inboxes),
        Arc::clone(&stats),
    )
    .map_err(cannot_start("the listener"))?;
    let mut threads = Threads::new();
    let back_up = store.back_up(&config.server.data_dir);
    let store_port = store.port(usize::from(config.server.shard_count()));
    let streams = store.streams(&store_port.intake);
    let catalogue = streams.configure(config).map_err(StartError::Streams)?;
    start_shards(
        config,
        ports,
        (store, &store_port),
        (&users, &catalogue),
        (&shelf, sampler),
        seed,
        &stats,
        &mut threads,
    )?;
    start_training(training, &mailboxes, &mut threads)
        .map_err(cannot_start("the thread that learns dictionaries"))?;
    let users = users
        .start(config, &mailboxes, &mut threads)
        .map_err(cannot_start("the checking of passwords"))?;
    for (index, (porter, _)) in porters.into_iter().enumerate() {
        threads
            .spawn(format!("porter-{index}"), move || porter.run())
            .map_err(cannot_start("a porter's thread"))?;
    }
    threads
        .spawn("listener".to_owned(), move || listener.run())
        .map_err(cannot_start("the listener's thread"))?;
    Ok(Server {
        addresses: doors
            .iter()
            .map(|door| DoorAddress {
                protocol: door.protocol,
                place: door.bound.clone(),
            })
            .collect(),
        handle: Handle {
            mailboxes,
            stats: Arc::clone(&stats),
            stop_listener: Arc::new(stop_listener),
            porters: inboxes,
            entrance,
            doors,
            users,
            streams,
        },
        stats,
        threads,
        back_up,
    })
}

/// The dictionaries there are, and who learns others.
fn dictionaries(
    config: &Config,
    stats: &Arc<Stats>,
    at_rest: AtRest,
) -> Result<(Arc<Shelf>, Sampler, Training), StartError> {
    let shelf = Arc::new(Shelf::default());
    let files = Files::open(&config.server.data_dir, &shelf, at_rest)
        .map_err(cannot_start("the dictionaries"))?;
    let (sampler, training) = Training::new(Arc::clone(&shelf), files, stats);
    Ok((shelf, sampler, training))
}

/// Starts the shards, each with what the store has for it, then the store's own threads.
#[expect(clippy::too_many_arguments, reason = "all that shards are made of")]
fn start_shards<D: Disk>(
    config: &Config,
    ports: Vec<ShardPort>,
    (store, store_port): (OpenStore<D>, &StorePort),
    (users, streams): (&Users, &Arc<Streams>),
    (shelf, sampler): (&Arc<Shelf>, Sampler),
    seed: u64,
    stats: &Arc<Stats>,
    threads: &mut Threads,
) -> Result<(), StartError> {
    let mailboxes: Arc<[_]> = ports.iter().map(|port| Arc::clone(&port.mailbox)).collect();
    let shards = config.server.shard_count();
    let clock = RetainedClock::default();
    let (tell_restored, restored) = std::sync::mpsc::channel();
    let mut waiting = Vec::new();
    let (workers, jobs) = Workers::new(config.shell.transcode_waiting_bytes_max);
    start_workers(&jobs, &mailboxes, threads).map_err(cannot_start("a transcoding thread"))?;
    let (past, portions) = Past::new(shards);
    let each = ports.into_iter().zip(portions).zip(&stats.shards);
    for (index, ((port, portions), shard_stats)) in (0..shards).zip(each) {
        let id = ShardId(index);
        let broker_config = BrokerConfig {
            shard: id,
            shards,
            seed: seed.wrapping_add(u64::from(index)),
            limits: config.limits.clone(),
            clock: clock.clone(),
            policies: Arc::clone(config.topics.policies()),
            streams: Arc::clone(streams),
            has_store: true,
            is_sealed: |payload| waypost_encrypt::check_sealed(payload).is_ok(),
            numbers: store.numbers.clone(),
        };
        let limits = shell_limits(config);
        let codings = Arc::clone(config.topics.codings());
        let coder_limits = CoderLimits {
            unpacked_bytes_max: config
                .shell
                .transcoded_bytes_max
                .min(limits.packet_bytes_max),
        };
        let workers = workers.clone();
        let books = (Arc::clone(shelf), Some(sampler.clone()));
        let (mailboxes, stats) = (Arc::clone(&mailboxes), Arc::clone(shard_stats));
        let store_port = store_port.clone();
        let tell_restored = tell_restored.clone();
        let (go_on, may_go_on) = std::sync::mpsc::channel();
        waiting.push(go_on);
        let (permit, authenticate) = users.judges(id);
        // A broker is not Send (its messages are counted without atomics), so it is made where it lives.
        threads
            .spawn(format!("shard-{index}"), move || {
                let broker = Broker::new(broker_config, permit, authenticate);
                let coder = Coder::new(id, codings, coder_limits, workers, books);
                let mut shard = Shard::new(
                    id, port, mailboxes, store_port, broker, limits, stats, coder,
                );
                shard.restore(&portions)?;
                drop(portions);
                // One that fails is missed as soon as all others have said that they have not.
                let _ = tell_restored.send(());
                drop(tell_restored);
                match may_go_on.recv() {
                    Ok(()) => shard.run(),
                    Err(_) => Ok(()),
                }
            })
            .map_err(cannot_start("a shard's thread"))?;
    }
    drop((tell_restored, workers, sampler));
    if let Err(error) = past.tell(&store.store) {
        log::error!("the store cannot be read: {error}");
    }
    store.count_start(stats);
    for _ in 0..shards {
        restored.recv().map_err(|_| StartError::NotRestored)?;
    }
    // A will that is due at the start goes to sessions of other shards: first each has to have the others' interest.
    for shard in waiting {
        let _ = shard.send(());
    }
    let now = stats.totals().gauges;
    // Retained messages are read from now on, while clients are served already.
    log::info!(
        "sessions: {}, subscriptions: {}",
        now.sessions,
        now.subscriptions
    );
    store
        .start(&store_port.intake, &mailboxes, stats, threads)
        .map_err(cannot_start("the store's threads"))
}

fn shell_limits(config: &Config) -> ShellLimits {
    ShellLimits {
        packet_bytes_max: config.limits.packet_bytes_max as usize,
        outbox_bytes_max: config.limits.outbox_bytes_max,
        receive_bytes_max: config.shell.receive_bytes_max,
        outboxes_bytes_max: config.shell.outboxes_bytes_max,
        drain_timeout_ms: u64::try_from(config.server.drain_timeout.as_millis())
            .unwrap_or(u64::MAX),
    }
}

/// Opens every door, and reads what it needs, before any thread starts.
fn open(config: &Config) -> Result<Vec<(Gate, Arc<Door>)>, StartError> {
    config
        .doors()
        .iter()
        .map(|own| {
            let (gate, bound) =
                Gate::open(&own.place, config.shell.accept_backlog).map_err(|source| {
                    StartError::Listen {
                        door: door::name(own),
                        source,
                    }
                })?;
            let door =
                Door::new(own, &config.http, bound).map_err(|source| StartError::Certificate {
                    door: door::name(own),
                    source,
                })?;
            Ok((gate, Arc::new(door)))
        })
        .collect()
}

/// Threads for handshakes: none where no door needs them.
fn porter_count(config: &Config, doors: &[Arc<Door>]) -> usize {
    if !doors.iter().any(|door| door.may_have_handshake()) {
        return 0;
    }
    match config.server.handshake_threads {
        0 => std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(HANDSHAKE_THREADS_BY_DEFAULT),
        threads => usize::from(threads),
    }
}

fn cannot_start(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::Thread { what, source }
}

impl Server {
    /// The doors, in the order of the configuration.
    pub fn addresses(&self) -> &[DoorAddress] {
        &self.addresses
    }

    /// Everything that is counted.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// What copies the store while it is at work.
    pub fn back_up(&self) -> BackUp {
        Arc::clone(&self.back_up)
    }

    /// What other threads may ask of it, while one waits in [`Server::join`].
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Waits until every thread has ended, or one has failed: then the server is to end, since it
    /// serves only some of its clients.
    pub fn join(self) -> io::Result<()> {
        self.threads.join()
    }
}

/// What any thread may ask of a running server.
#[derive(Clone)]
pub struct Handle {
    mailboxes: Arc<[Arc<Mailbox>]>,
    stop_listener: Arc<StopListener>,
    porters: Arc<[Arc<PorterInbox>]>,
    doors: Arc<[Arc<Door>]>,
    entrance: Arc<Entrance>,
    users: Arc<UsersHandle>,
    streams: Arc<dyn ServedStreams>,
    stats: Arc<Stats>,
}

impl Handle {
    /// Publishes messages of the server itself, retained, as `(topic, payload)`.
    pub fn publish_system(&self, messages: Vec<(String, Vec<u8>)>) {
        if let Some(mailbox) = self.mailboxes.first() {
            // A waker fails only when the shard is gone, and then nobody listens.
            let _ = mailbox.send([Inbound::System(messages)]);
        }
    }

    /// Tells every shard what the configuration says about topics from now on.
    fn set_policies(&self, topics: &Topics) {
        for mailbox in self.mailboxes.iter() {
            // A waker fails only when the shard is gone, and its groups with it.
            let (policies, codings) = (topics.policies(), topics.codings());
            let _ = mailbox.send([Inbound::Policies(Arc::clone(policies), Arc::clone(codings))]);
        }
    }

    /// Has the store keep the streams of the configuration, then tells every shard.
    fn set_streams(&self, config: &Config) -> Result<(), String> {
        let streams = self
            .streams
            .configure(config)
            .map_err(|error| format!("the streams stay as they were: {error}"))?;
        for mailbox in self.mailboxes.iter() {
            // A waker fails only when the shard is gone, and its readers with it.
            let _ = mailbox.send([Inbound::Streams(Arc::clone(&streams))]);
        }
        Ok(())
    }

    /// The streams, for whoever looks after them.
    pub fn streams(&self) -> Arc<dyn Access> {
        self.streams.access()
    }

    /// Asks every shard for a client. The receiver ends without a report when nobody has it.
    pub fn find_client(&self, client_id: &str) -> Receiver<ClientReport> {
        let (answer, answers) = channel(self.mailboxes.len().max(1));
        for mailbox in self.mailboxes.iter() {
            let client_id = client_id.to_owned();
            let answer = answer.clone();
            // A waker fails only when the shard is gone, and its clients with it.
            let _ = mailbox.send([Inbound::Client(ClientQuestion { client_id, answer })]);
        }
        answers
    }

    /// Takes over what can change while the server runs; what cannot be used is returned, and the old stays.
    pub fn reload(&self, config: &Config) -> Vec<String> {
        self.set_policies(&config.topics);
        let mut problems = door::reload(&self.doors, config, &self.stats);
        problems.extend(self.users.reload(config));
        problems.extend(self.set_streams(config).err());
        problems
    }

    /// Lets a connection in that was upgraded to WebSocket elsewhere; `unread` was read of it beyond that.
    pub fn admit_websocket(&self, upgraded: Upgraded) {
        let counts = &self.stats.server;
        let Upgraded {
            socket,
            unread,
            tls,
        } = upgraded;
        let (tls, certificate) = tls.unzip();
        let peer = socket.peer_addr().ok();
        // Small packets must not wait for a full segment. One that cannot be set is closed already.
        let _ = socket.set_nodelay(true);
        let Some(place) = self.entrance.place() else {
            counts.accepts_refused.fetch_add(1, Ordering::Relaxed);
            return;
        };
        counts.accepts.fetch_add(1, Ordering::Relaxed);
        let socket = Socket::Tcp(mio::net::TcpStream::from_std(socket));
        self.entrance.admit([Handover {
            framing: Framing::WebSocket,
            unread,
            tls,
            certificate: certificate.unwrap_or_default(),
            ..Handover::plain(socket, peer, place)
        }]);
    }

    /// Accepts nobody any more, says DISCONNECT 0x8B (Server shutting down) to every client, writes
    /// what is queued for them and ends.
    pub fn drain(&self) {
        let _ = self.stop_listener.stop();
        for porter in self.porters.iter() {
            porter.stop();
        }
        self.users.stop();
        for mailbox in self.mailboxes.iter() {
            let _ = mailbox.send([Inbound::Drain]);
        }
    }
}

/// The one random number of the process; everything random in the core comes from it.
fn seed() -> io::Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(io::Error::from)?;
    Ok(u64::from_ne_bytes(bytes))
}

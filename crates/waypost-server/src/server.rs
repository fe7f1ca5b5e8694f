//! Starting and stopping: sockets are bound, shards and the listener get their threads.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use tokio::sync::mpsc::{Receiver, channel};
use waypost_core::{AllowAll, Broker, BrokerConfig, Policies, RetainedClock, ShardId};

use crate::client_report::{ClientQuestion, ClientReport};
use crate::config::Config;
use crate::control::listen;
use crate::listener::{Listener, StopListener};
use crate::mailbox::{Inbound, Mailbox};
use crate::metrics::Stats;
use crate::shard::{Shard, ShardPort, ShellLimits};
use crate::threads::Threads;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address could not be bound.
    #[error("cannot listen on {address}: {source}{}", hint(.source))]
    Listen {
        /// The address as configured.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
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
fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            "\n  another program listens there; stop it, or choose another address: --mqtt 127.0.0.1:0 takes any free port"
        }
        io::ErrorKind::PermissionDenied => {
            "\n  ports below 1024 need a privilege; choose a higher one"
        }
        io::ErrorKind::AddrNotAvailable => "\n  no interface of this machine has that address",
        _ => "",
    }
}

/// A running server.
pub struct Server {
    addresses: Vec<SocketAddr>,
    stats: Arc<Stats>,
    handle: Handle,
    threads: Threads,
}

/// Starts shards and listener. Clients are served when this returns.
pub fn start(config: &Config) -> Result<Server, StartError> {
    let shards = config.server.shard_count();
    let sockets = config
        .listen
        .mqtt
        .iter()
        .map(|&address| {
            listen(address, config.shell.accept_backlog)
                .map_err(|source| StartError::Listen { address, source })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let addresses = sockets
        .iter()
        .map(TcpListener::local_addr)
        .collect::<io::Result<Vec<_>>>()
        .map_err(|source| StartError::Thread {
            what: "the listener",
            source,
        })?;

    let ports = (0..shards)
        .map(|_| ShardPort::new(config.shell.mailbox_bytes_max))
        .collect::<io::Result<Vec<_>>>()
        .map_err(|source| StartError::Thread {
            what: "a shard's poller",
            source,
        })?;
    let mailboxes: Arc<[_]> = ports.iter().map(|port| Arc::clone(&port.mailbox)).collect();
    let stats = Arc::new(Stats::new(shards));
    let clock = RetainedClock::default();
    let (listener, stop_listener) = Listener::new(
        sockets,
        Arc::clone(&mailboxes),
        config.shell.connections_max,
        Arc::clone(&stats),
    )
    .map_err(|source| StartError::Thread {
        what: "the listener",
        source,
    })?;
    let mut threads = Threads::new();
    let seed = seed().map_err(|source| StartError::Thread {
        what: "the random source",
        source,
    })?;
    for ((index, port), shard_stats) in (0..shards).zip(ports).zip(&stats.shards) {
        let broker_config = BrokerConfig {
            shard: ShardId(index),
            shards,
            seed: seed.wrapping_add(u64::from(index)),
            limits: config.limits.clone(),
            clock: clock.clone(),
            policies: Arc::clone(config.topics.policies()),
        };
        let limits = ShellLimits {
            packet_bytes_max: config.limits.packet_bytes_max as usize,
            outbox_bytes_max: config.limits.outbox_bytes_max,
            receive_bytes_max: config.shell.receive_bytes_max,
            outboxes_bytes_max: config.shell.outboxes_bytes_max,
            drain_timeout_ms: u64::try_from(config.server.drain_timeout.as_millis())
                .unwrap_or(u64::MAX),
        };
        let (mailboxes, stats) = (Arc::clone(&mailboxes), Arc::clone(shard_stats));
        // A broker is not Send (its messages are counted without atomics), so it is made where it lives.
        threads
            .spawn(format!("shard-{index}"), move || {
                let broker = Broker::new(broker_config, Box::new(AllowAll), Box::new(AllowAll));
                Shard::new(ShardId(index), port, mailboxes, broker, limits, stats).run()
            })
            .map_err(|source| StartError::Thread {
                what: "a shard's thread",
                source,
            })?;
    }
    threads
        .spawn("listener".to_owned(), move || listener.run())
        .map_err(|source| StartError::Thread {
            what: "the listener's thread",
            source,
        })?;
    Ok(Server {
        addresses,
        stats,
        handle: Handle {
            mailboxes,
            stop_listener: Arc::new(stop_listener),
        },
        threads,
    })
}

impl Server {
    /// The bound MQTT addresses, in the order of the configuration.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Everything that is counted.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
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
    pub fn set_policies(&self, policies: &Arc<Policies>) {
        for mailbox in self.mailboxes.iter() {
            // A waker fails only when the shard is gone, and its groups with it.
            let _ = mailbox.send([Inbound::Policies(Arc::clone(policies))]);
        }
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

    /// Accepts nobody any more, says DISCONNECT 0x8B (Server shutting down) to every client, writes
    /// what is queued for them and ends.
    pub fn drain(&self) {
        let _ = self.stop_listener.stop();
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

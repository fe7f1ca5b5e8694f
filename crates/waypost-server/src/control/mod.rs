//! The control side: health, metrics, API and the administrator's socket, on a thread of its own.
//!
//! It runs on one thread at nice 15 with its own small runtime, so that nothing asked here takes
//! time from the shards. [`Doors::open`] takes the data directory and the listeners, before
//! anything else of the server starts; [`Doors::serve`] answers on them.
//!
//! Deliberately not here: clients' connections (`listener`, `shard`), and signals, which belong to
//! the program.

mod backup;
#[cfg(test)]
mod backup_tests;
mod connections;
pub(crate) mod data_directory;
pub(crate) mod guard;
mod listen;
mod logger;
mod pages;
mod reload;
mod secure;
#[cfg(test)]
mod secure_tests;
mod streams;
#[cfg(test)]
mod tests;

pub use backup::BackUp;
pub use data_directory::{DataDirectory, DataDirectoryError};
pub use listen::listen;
pub use logger::start as start_log;
pub use reload::{Apply, Reloaded, Reloading};

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::mpsc::Receiver;
use tokio::sync::oneshot;

use self::backup::Backups;
use crate::client_report::ClientReport;
use crate::config::{Config, HttpConfig, StreamConfig};
use crate::door::{Bound, CertificateError, Door};
use crate::history::Access;
use crate::metrics::Stats;
use crate::server::DoorAddress;
use crate::stream::tls::Tls;

/// How nice the control thread is: shards come first.
const NICENESS: i32 = 15;

/// How far the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Not all doors are open yet.
    Starting,
    /// Clients are served.
    Serving,
    /// Clients are told to go; no new ones.
    Draining,
}

impl Phase {
    /// One word, as health checks and the API say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Draining => "draining",
        }
    }
}

/// The phase, where every thread can see it.
#[derive(Debug, Default)]
pub struct PhaseCell(AtomicU8);

impl PhaseCell {
    /// Now.
    pub fn get(&self) -> Phase {
        match self.0.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            _ => Phase::Draining,
        }
    }

    /// From now on.
    pub fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Release);
    }
}

/// What `$SYS` is published through: topic and payload pairs, to be retained.
pub type PublishSystem = Box<dyn Fn(Vec<(String, Vec<u8>)>) + Send>;

/// How a client is found: its id in, what its shard says of it out.
pub type FindClient = Box<dyn Fn(&str) -> Receiver<ClientReport> + Send + Sync>;

/// Who takes a connection that was upgraded to WebSocket on `/mqtt`.
pub type AdmitWebSocket = Box<dyn Fn(Upgraded) + Send + Sync>;

/// A connection of the HTTP address that was upgraded to WebSocket.
pub struct Upgraded {
    pub(crate) socket: TcpStream,
    /// What was read of it beyond the request, decrypted.
    pub(crate) unread: Vec<u8>,
    /// Its TLS, and the names of the client's certificate.
    pub(crate) tls: Option<(Tls, Vec<String>)>,
}

/// What the control side tells about, and through whom.
pub struct Context {
    /// As the server was started.
    pub config: Config,
    /// The numbers.
    pub stats: Arc<Stats>,
    /// How far the server is.
    pub phase: Arc<PhaseCell>,
    /// The doors, as they are open.
    pub doors: Vec<DoorAddress>,
    /// Called every `server.sys_interval` while clients are served.
    pub publish_system: PublishSystem,
    /// Asked for `/api/v1/clients/{client_id}`.
    pub find_client: FindClient,
    /// Given the connections of `/mqtt`.
    pub admit_websocket: AdmitWebSocket,
    /// Asked on `/api/v1/reload` and by [`Control::reload`].
    pub reloading: Reloading,
    /// Asked on `/api/v1/store/backup`; none where there is no store.
    pub back_up: Option<BackUp>,
    /// Asked on `/api/v1/streams…`; none where there is no store.
    pub streams: Option<Arc<dyn Access>>,
}

/// Why the control side cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDirectory(#[from] DataDirectoryError),
    /// The HTTP address is to speak TLS and cannot.
    #[error("http.tls: {0}")]
    Certificate(#[from] CertificateError),
    /// The HTTP address cannot be listened on.
    #[error("cannot listen for HTTP on {address}: {source}; choose another: --http 127.0.0.1:0")]
    Http {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// The data directory and the listeners, taken but not answered on yet.
pub struct Doors {
    directory: DataDirectory,
    http: TcpListener,
    http_address: SocketAddr,
    http_door: Option<Door>,
    socket: UnixListener,
    socket_path: PathBuf,
}

impl Doors {
    /// Takes the data directory for this process, then listens on the HTTP address and on the
    /// administrator's socket.
    pub fn open(config: &Config) -> Result<Self, OpenError> {
        let directory = DataDirectory::open(&config.server.data_dir)?;
        let http_error = |source| OpenError::Http {
            address: config.listen.http,
            source,
        };
        let http = listen(config.listen.http, config.shell.accept_backlog).map_err(http_error)?;
        let http_address = http.local_addr().map_err(http_error)?;
        let http_door = config
            .http_door()
            .map(|own| Door::new(&own, &config.http, Bound::Tcp(http_address)))
            .transpose()?;
        let (socket, socket_path) = directory.listen()?;
        Ok(Self {
            directory,
            http,
            http_address,
            http_door,
            socket,
            socket_path,
        })
    }

    /// The bound HTTP address.
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// The administrator's socket.
    pub fn socket_path(&self) -> &Path {
        &self.socket_path
    }

    /// Answers, on a thread of its own, until [`Control::stop`].
    pub fn serve(self, context: Context) -> io::Result<Control> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let shared = Arc::new(Shared {
            http: RwLock::new(Arc::new(context.config.http.clone())),
            streams_configured: RwLock::new(context.config.streams.clone().into()),
            config: context.config,
            stats: context.stats,
            phase: context.phase,
            started: Instant::now(),
            doors: context.doors,
            find_client: context.find_client,
            admit_websocket: context.admit_websocket,
            reloading: context.reloading,
            reload_turn: Mutex::default(),
            back_up: context.back_up,
            streams: context.streams,
            backups: Backups::default(),
            http_address: self.http_address,
            http_door: self.http_door,
            socket_path: self.socket_path,
            data_dir: self.directory.path().to_owned(),
        });
        let (stop, stopped) = oneshot::channel();
        let thread = {
            let shared = Arc::clone(&shared);
            let publish_system = context.publish_system;
            let (http, socket) = (self.http, self.socket);
            std::thread::Builder::new()
                .name("waypost-control".to_owned())
                .spawn(move || {
                    // On Linux this is the calling thread's own priority, not the process's.
                    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
                        log::warn!("the control thread keeps its priority: {error}");
                    }
                    runtime.block_on(async {
                        let answering = connections::answer(http, socket, &shared, publish_system);
                        if let Err(error) = answering {
                            log::error!("the control side cannot answer: {error}");
                        }
                        // An error means that the other end is gone: time to stop as well.
                        let _ = stopped.await;
                    });
                })?
        };
        Ok(Control {
            shared,
            stop: Some(stop),
            thread: Some(thread),
            _directory: self.directory,
        })
    }
}

/// What the handlers see.
struct Shared {
    config: Config,
    /// The part of the configuration that can change while the server runs.
    http: RwLock<Arc<HttpConfig>>,
    /// The streams of the configuration, as they are now.
    streams_configured: RwLock<Arc<[StreamConfig]>>,
    stats: Arc<Stats>,
    phase: Arc<PhaseCell>,
    started: Instant,
    doors: Vec<DoorAddress>,
    find_client: FindClient,
    admit_websocket: AdmitWebSocket,
    reloading: Reloading,
    reload_turn: Mutex<()>,
    back_up: Option<BackUp>,
    streams: Option<Arc<dyn Access>>,
    backups: Backups,
    http_address: SocketAddr,
    /// What the HTTP address speaks TLS by, if it does.
    http_door: Option<Door>,
    socket_path: PathBuf,
    data_dir: PathBuf,
}

impl Shared {
    fn http(&self) -> Arc<HttpConfig> {
        Arc::clone(&self.http.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn streams_configured(&self) -> Arc<[StreamConfig]> {
        let streams = self.streams_configured.read();
        Arc::clone(&streams.unwrap_or_else(PoisonError::into_inner))
    }
}

/// The running control side.
pub struct Control {
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Held until the end: the lock on the data directory.
    _directory: DataDirectory,
}

impl Control {
    /// Reads the configuration again and applies what can change while the server runs; a mistake changes nothing. What
    /// became of it is in the log as well.
    pub fn reload(&self) -> Result<Reloaded, String> {
        self.shared.reload()
    }

    /// Stops answering, removes the administrator's socket and lets the data directory go.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // Neither can fail in a way that matters: the thread is gone already, or it panicked and
        // said so.
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
        // Under the lock still, so that it is ours.
        if let Err(error) = std::fs::remove_file(&self.shared.socket_path) {
            log::warn!("{} stays: {error}", self.shared.socket_path.display());
        }
    }
}

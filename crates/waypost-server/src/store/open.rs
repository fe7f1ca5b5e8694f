//! Opening what an earlier run left, before anything listens, and starting the threads.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use waypost_core::journal::{MessageId, Numbers, QueueId};
use waypost_core::rows::message::decode_message;
use waypost_names::UnknownStrategy;
use waypost_store::disk::RealDisk;
use waypost_store::log::LogOptions;
use waypost_store::streams::StreamsOptions;
use waypost_store::{
    Disk, Partitions, Recovered, Store, StoreError, StoreOptions, StoreWriter, ViewsAtStart, cache,
};

use super::clock::{ClockTrust, Found, WallClock, system_ms};
use super::figures::set;
use super::indexer::{self, Indexer};
use super::intake::{Intake, StorePort};
use super::key::{self, NoKey};
use super::reader::{self, Reader};
use super::stream_desk::StreamDesk;
use super::stream_reader::{self, StreamReader};
use super::streams::{OfServer, Served, stream_options};
use super::trouble::{CLOCK_TOPIC, Trouble};
use super::writer::Writer;
use crate::config::{Config, NO_ENCRYPTION};
use crate::control::BackUp;
use crate::dictionaries::{self, AtRest};
use crate::mailbox::Mailbox;
use crate::metrics::Stats;
use crate::threads::Threads;

/// The store's directory in the data directory.
pub const DIRECTORY: &str = "store";

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its directory cannot be made or opened.
    #[error("cannot use {} for what has to outlive the server: {source}; choose another data directory with --data-dir", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is to be encrypted, and there is no key.
    #[error(transparent)]
    Key(#[from] NoKey),
    /// `store.compress` names no strategy.
    #[error("store.compress: {0}")]
    Compress(UnknownStrategy),
    /// `store.cache` names no strategy.
    #[error("store.cache: {0}")]
    Cache(UnknownStrategy),
    /// What is in it cannot be used.
    #[error("cannot open the store in {}: {source}", path.display())]
    Store {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        source: StoreError,
    },
}

/// The store, open, before its threads run.
pub(crate) struct OpenStore<D: Disk> {
    pub(crate) store: Arc<Store<D>>,
    log: StoreWriter<D>,
    /// What goes on behind what an earlier run gave.
    pub(crate) numbers: Numbers,
    /// What time it is.
    pub(crate) wall: WallClock,
    clock: Found,
    pending_bytes_max: usize,
    desk: Arc<StreamDesk>,
    /// The keys of what is on disk.
    pub(crate) at_rest: AtRest,
}

/// Opens the store in the data directory.
pub(crate) fn open(
    config: &Config,
    trust: ClockTrust,
    stats: &Stats,
) -> Result<OpenStore<RealDisk>, OpenError> {
    let path = config.server.data_dir.join(DIRECTORY);
    let failed = |source| OpenError::Directory {
        path: path.clone(),
        source,
    };
    make(&path).map_err(failed)?;
    let disk = RealDisk::open(&path).map_err(failed)?;
    let options = options(config)?;
    let mut streams = options.streams.configured.iter();
    if config.store.encrypt == NO_ENCRYPTION
        && let Some(stream) = streams.find(|stream| stream.encrypt.is_some())
    {
        log::warn!(
            "stream {}: its files are encrypted, but not the log that its messages go through first; set store.encrypt",
            stream.name
        );
    }
    OpenStore::open(
        Arc::new(disk),
        options,
        config.store.pending_bytes_max,
        trust,
        stats,
    )
    .map_err(|source| OpenError::Store { path, source })
}

impl<D: Disk> OpenStore<D> {
    /// Opens the store on a disk, and says what was found.
    pub(super) fn open(
        disk: Arc<D>,
        options: StoreOptions,
        pending_bytes_max: usize,
        trust: ClockTrust,
        stats: &Stats,
    ) -> Result<Self, StoreError> {
        let began = Instant::now();
        let now_ms = system_ms();
        let at_rest = AtRest {
            current: options.log.key.clone(),
            older: options.log.older_keys.clone(),
        };
        let (store, log, recovered) = Store::open(disk, options, now_ms)?;
        let (wall, clock) = WallClock::compare(now_ms, recovered.last_wall_ms, trust);
        if clock != Found::Right {
            log::error!("the clock: {}", clock.alarm());
        }
        report(&recovered, began.elapsed(), stats);
        Ok(Self {
            numbers: Numbers::after(
                MessageId(recovered.highest_message.0),
                QueueId(recovered.highest_queue.0),
            ),
            store: Arc::new(store),
            log,
            wall,
            clock,
            pending_bytes_max,
            desk: Arc::default(),
            at_rest,
        })
    }

    /// What copies it while it is at work.
    pub(crate) fn back_up(&self, data_directory: &Path) -> BackUp {
        let (store, wall) = (Arc::clone(&self.store), self.wall);
        let data_directory = data_directory.to_owned();
        Arc::new(move |to, go_on| {
            let dictionaries = || dictionaries::originals(&data_directory);
            store.back_up_with(dictionaries, to, wall.now_ms(), go_on)
        })
    }

    /// The streams, for whoever changes or looks after them.
    pub(crate) fn streams(&self, intake: &Arc<Intake>) -> Arc<dyn Served> {
        Arc::new(OfServer {
            store: Arc::clone(&self.store),
            desk: Arc::clone(&self.desk),
            intake: Arc::clone(intake),
            wall: self.wall,
        })
    }

    /// Counts what was read of the views since they were opened, when the rows have been read too.
    pub(crate) fn count_start(&self, stats: &Stats) {
        let read_bytes = self.store.views_bytes_read();
        set(&stats.server.store_start_views_bytes, read_bytes);
    }

    /// What each shard gets of it.
    pub(crate) fn port(&self, shards: usize) -> StorePort {
        StorePort::new(shards, self.pending_bytes_max, self.wall)
    }

    /// Starts the threads. They end when every shard has.
    pub(crate) fn start(
        self,
        intake: &Arc<Intake>,
        mailboxes: &Arc<[Arc<Mailbox>]>,
        stats: &Arc<Stats>,
        threads: &mut Threads,
    ) -> io::Result<()> {
        let trouble = Arc::new(Trouble::none(Arc::clone(mailboxes), Arc::clone(stats)));
        trouble.say(CLOCK_TOPIC, &self.clock.alarm());
        let (to_indexer, work) = channel();
        let (to_reader, asks) = channel();
        let writer = Writer::new(
            self.log,
            Arc::clone(intake),
            to_indexer,
            Arc::clone(mailboxes),
            Arc::clone(&trouble),
            self.wall,
            Arc::clone(stats),
        );
        let indexer = Indexer {
            store: Arc::clone(&self.store),
            work,
            reader: to_reader,
            streams: Arc::clone(&self.desk),
            intake: Arc::clone(intake),
            trouble,
            wall: self.wall,
            stats: Arc::clone(stats),
        };
        let stream_reader = StreamReader {
            store: Arc::clone(&self.store),
            desk: self.desk,
            mailboxes: Arc::clone(mailboxes),
            wall: self.wall,
            stats: Arc::clone(stats),
        };
        let reader = Reader {
            store: self.store,
            asks,
            mailboxes: Arc::clone(mailboxes),
            stats: Arc::clone(stats),
        };
        threads.spawn("store-writer".to_owned(), move || writer.run())?;
        threads.spawn("store-indexer".to_owned(), move || {
            at_niceness(indexer::NICENESS);
            indexer.run()
        })?;
        threads.spawn("store-reader".to_owned(), move || {
            at_niceness(reader::NICENESS);
            reader.run();
            Ok(())
        })?;
        threads.spawn("stream-reader".to_owned(), move || {
            at_niceness(stream_reader::NICENESS);
            stream_reader.run();
            Ok(())
        })
    }
}

/// Gives way to others from now on; on Linux this is the calling thread's own priority, not the process's.
fn at_niceness(niceness: i32) {
    if let Err(error) = rustix::process::setpriority_process(None, niceness) {
        log::warn!("a thread of the store keeps its priority: {error}");
    }
}

/// For its owner only, as the directory around it, which has its name on the disk before anything is acknowledged. That
/// is seen to at each start: a run may have ended between the two.
fn make(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    match path.parent() {
        Some(around) => File::open(around)?.sync_all(),
        None => Ok(()),
    }
}

/// How a configuration says the store works; its keys are read.
pub fn options(config: &Config) -> Result<StoreOptions, OpenError> {
    let streams = stream_options(config).map_err(OpenError::Compress)?;
    let partitions = partitions(config);
    let config = &config.store;
    let keys = key::read(config, |name| std::env::var_os(name))?;
    let current = keys.current.map(Arc::new);
    let mut older_keys: Vec<_> = keys.older.into_iter().map(Arc::new).collect();
    let of_log = if config.encrypt == NO_ENCRYPTION {
        // Only files of streams have it.
        older_keys.extend(current.clone());
        None
    } else {
        current.clone()
    };
    let cache = cache::find(config.cache).map_err(OpenError::Cache)?;
    Ok(StoreOptions {
        log: LogOptions {
            segment_bytes: config.segment_bytes,
            compress: waypost_compress::find(config.compress).map_err(OpenError::Compress)?,
            key: of_log,
            older_keys,
            ..LogOptions::default()
        },
        cache,
        cache_bytes: config.cache_bytes,
        partitions,
        streams: StreamsOptions {
            cache,
            key: current,
            ..streams
        },
    })
}

/// Which messages are kept apart from the others in memory, by their topics.
fn partitions(config: &Config) -> Partitions {
    let (topics, store) = (config.topics.clone(), config.store.clone());
    Partitions::by(move |body| topics.partition(decode_message(body)?.topic, &store))
}

/// Says what an earlier run left.
fn report(recovered: &Recovered, took: Duration, stats: &Stats) {
    let stats = &stats.server;
    set(&stats.store_start_log_bytes, recovered.log_bytes_read);
    set(&stats.store_start_views_bytes, recovered.views_bytes_read);
    set(&stats.store_damage, recovered.damage.len() as u64);
    for damage in &recovered.damage {
        log::error!(
            "the store is damaged, what can be read is served: {damage}; `waypost store check` says more"
        );
    }
    match &recovered.views {
        ViewsAtStart::New => log::info!("the store is new"),
        ViewsAtStart::Found => log::info!(
            "the store is open after {:.2} s: {} B of the log read and {} B of the views",
            took.as_secs_f64(),
            recovered.log_bytes_read,
            recovered.views_bytes_read
        ),
        ViewsAtStart::MadeAgain(why) => log::warn!(
            "the store is open after {:.2} s: its views were made again from the log ({} B read), because {why}",
            took.as_secs_f64(),
            recovered.log_bytes_read
        ),
    }
}

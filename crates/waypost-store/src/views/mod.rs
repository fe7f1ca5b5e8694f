//! What the operations of the log come to: rows, queues and where the messages are that somebody refers to.
//!
//! A fold in two layers. [`overlay`] has what happened since the last commit, in memory and bounded; a kept embedded store
//! (redb, on a file of our disk) has the rest, with the position of the log that it reflects in the same commit. While an
//! overlay is committed it stays readable, and a new one takes what happens meanwhile. Every commit is durable, so that
//! an error or a crash takes back no more than the overlays hold, which the log has.
//!
//! Deliberately not here: the log, the messages' contents, what rows and options mean.

mod backend;
mod base;
mod chunk;
mod cloak;
mod commit;
pub(crate) mod number;
mod overlay;
mod read;
mod snapshot;
mod tables;
#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "small numbers")]
mod tests;

use std::{
    collections::BTreeMap,
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use redb::Database;
use waypost_encrypt::MasterKey;

use self::{backend::Backend, base::Base, cloak::Cloak, overlay::Overlay};
pub(crate) use self::{
    commit::{Moved, Segments},
    overlay::{Covers, FILES},
    read::Located,
    snapshot::Snapshot,
};
pub use self::{
    number::Unreadable,
    read::{OwedQueues, Row, Rows},
    tables::{QueueState, SegmentFigures},
};
use crate::{
    disk::DiskFile,
    record::{Damage, MessageId, QueueId, decode_ops},
};

/// The name of the views' file.
pub(crate) const FILE: &str = "views.redb";

/// Memory of the embedded store for pages that were read or are to be written.
const CACHE_BYTES: usize = 24 << 20;

/// A commit is due with this many things in the overlay.
pub(crate) const OVERLAY_ENTRIES_MAX: usize = 400_000;
/// Or with this much memory in it.
pub(crate) const OVERLAY_BYTES_MAX: usize = 24 << 20;
/// Or when this much of the log would have to be read again.
pub(crate) const LAG_BYTES_MAX: u64 = 64 << 20;
/// Or after this time.
pub(crate) const LAG_MS_MAX: u64 = 5_000;

/// The last block that is reflected, and how many debts its segment had up to there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// 0 = nothing yet.
    pub segment: u32,
    pub block: u32,
    pub ordinal: u32,
}

impl Position {
    /// The place in queues of the debt that was counted last: ascending through the log.
    fn place(self) -> u64 {
        u64::from(self.segment) << 32 | u64::from(self.ordinal)
    }

    /// The segment that says what is owed at a place.
    fn segment_of(place: u64) -> u32 {
        u32::try_from(place >> 32).unwrap_or(u32::MAX)
    }
}

/// The views do not work.
#[derive(Debug, thiserror::Error)]
pub enum ViewsError {
    /// The embedded store says so. The log has everything: open the views again, or make them anew.
    #[error("the views' store: {0}")]
    Store(Box<redb::Error>),
    /// What is in it cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// They are of another format, or their key is another.
    #[error("the views are of another format or key")]
    Other,
    /// Their file cannot be used.
    #[error("the views' file: {0}")]
    File(#[from] io::Error),
    /// They are being opened again.
    #[error("the views are closed after an error")]
    Closed,
    /// Some of their pages are not what was written.
    #[error("the views' file is damaged")]
    Damaged,
}

impl ViewsError {
    /// Whether room on the disk would help.
    pub fn is_full(&self) -> bool {
        let error = match self {
            Self::File(error) => error,
            Self::Store(error) => match &**error {
                redb::Error::Io(error) => error,
                _ => return false,
            },
            _ => return false,
        };
        let kind = error.kind();
        matches!(
            kind,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }
}

macro_rules! from_redb {
    ($($error:ty),*) => {$(
        impl From<$error> for ViewsError {
            fn from(error: $error) -> Self {
                Self::Store(Box::new(error.into()))
            }
        }
    )*};
}

from_redb!(
    redb::DatabaseError,
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::CommitError,
    redb::SetDurabilityError
);

/// The views. One thread applies and commits; any may read.
pub(crate) struct Views {
    shared: RwLock<Shared>,
    /// Held while a commit goes on.
    committing: Mutex<()>,
    read_bytes: Arc<AtomicU64>,
}

struct Shared {
    cloak: Arc<Cloak>,
    db: Option<Arc<Database>>,
    base: Arc<Base>,
    /// What is being committed.
    frozen: Option<Arc<Overlay>>,
    active: Overlay,
    /// When the last commit was, in the caller's milliseconds.
    committed_at_ms: u64,
}

impl fmt::Debug for Views {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Views")
    }
}

/// How much is in the views.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ViewsFigures {
    /// Things in memory that are not committed.
    pub overlay_entries: usize,
    /// Memory they take, about.
    pub overlay_bytes: usize,
    /// Bytes of log that are not committed.
    pub lag_bytes: u64,
    /// Commits so far.
    pub commits: u64,
    /// Bytes read of the views' file so far.
    pub read_bytes: u64,
}

impl Views {
    /// Opens the views in a file, or begins them if it is empty. With a key they are sealed.
    pub(crate) fn open<F: DiskFile>(
        file: F,
        key: Option<&MasterKey>,
        now_ms: u64,
    ) -> Result<Self, ViewsError> {
        let read_bytes = Arc::new(AtomicU64::new(0));
        let opened = Opened::new(file, key, &read_bytes)?;
        let base = opened.base;
        let views = Self {
            shared: RwLock::new(Shared {
                cloak: Arc::new(opened.cloak),
                active: Overlay::after(base.header.number + 1, base.header.position),
                db: Some(Arc::new(opened.db)),
                base: Arc::new(base),
                frozen: None,
                committed_at_ms: now_ms,
            }),
            committing: Mutex::new(()),
            read_bytes,
        };
        if views.base().header.format == 0 {
            // All tables are there from now on.
            views.commit(&Segments::default(), now_ms)?;
        }
        Ok(views)
    }

    /// As [`Self::open`] for a file that an earlier run left: every page of it is read and held against its checksum
    /// first. The embedded store panics on some damage; that, too, is no more than views to be thrown away.
    pub(crate) fn open_verified<F: DiskFile>(
        file: F,
        key: Option<&MasterKey>,
        now_ms: u64,
    ) -> Result<Self, ViewsError> {
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let views = Self::open(file, key, now_ms)?;
            views.verify()?;
            Ok(views)
        }));
        opened.unwrap_or(Err(ViewsError::Damaged))
    }

    fn verify(&self) -> Result<(), ViewsError> {
        let mut shared = self.write();
        let db = shared.db.as_mut().and_then(Arc::get_mut);
        // Nobody else has it yet.
        let db = db.ok_or(ViewsError::Closed)?;
        // What it would mend by going back to an earlier commit the log may not have any more.
        if db.check_integrity()? {
            Ok(())
        } else {
            Err(ViewsError::Damaged)
        }
    }

    /// Opens them again after an error of the embedded store. What was not committed is still in memory.
    pub(crate) fn reopen<F: DiskFile>(
        &self,
        file: F,
        key: Option<&MasterKey>,
    ) -> Result<(), ViewsError> {
        let mut shared = self.write();
        // One at a time has the file.
        shared.db = None;
        let opened = Opened::new(file, key, &self.read_bytes)?;
        let number = opened.base.header.number;
        if number < shared.base.header.number {
            return Err(ViewsError::Other);
        }
        // A commit that ended in an error may be there all the same.
        if shared
            .frozen
            .as_ref()
            .is_some_and(|frozen| frozen.number <= number)
        {
            shared.frozen = None;
        }
        shared.base = Arc::new(opened.base);
        shared.cloak = Arc::new(opened.cloak);
        shared.db = Some(Arc::new(opened.db));
        Ok(())
    }

    /// Folds a block. Blocks come in the order of the log; one that is reflected already is passed over.
    pub(crate) fn apply(
        &self,
        segment: u32,
        block: u32,
        wall_ms: u64,
        records: &[u8],
    ) -> Result<(), Damage> {
        let mut shared = self.write();
        let overlay = &mut shared.active;
        let at = overlay.position;
        if (segment, block) <= (at.segment, at.block) {
            return Ok(());
        }
        let ordinal = if segment == at.segment { at.ordinal } else { 0 };
        overlay.position = Position {
            segment,
            block,
            ordinal,
        };
        overlay.wall_ms = overlay.wall_ms.max(wall_ms);
        overlay.log_bytes += records.len() as u64;
        *overlay.written.entry(segment).or_default() += records.len() as u64;
        decode_ops(records).try_for_each(|op| {
            overlay.apply(op?, segment, block, wall_ms);
            Ok(())
        })
    }

    /// Whether the whole log is being folded, from now on, or that is over: with the next commit then.
    pub(crate) fn is_rebuild(&self, is_rebuild: bool) {
        self.write().active.is_rebuild = is_rebuild;
    }

    /// From the next block on, the segment in this place of the log is in another file than its own.
    pub(crate) fn stands_for(&self, segment: u32, file: u32) {
        self.write().active.files.insert(segment, file);
    }

    /// Whether it is time to commit.
    pub(crate) fn is_due(&self, now_ms: u64) -> bool {
        let shared = self.shared();
        let overlay = &shared.active;
        !overlay.is_empty()
            && (overlay.entries() >= OVERLAY_ENTRIES_MAX
                || overlay.bytes() >= OVERLAY_BYTES_MAX
                || overlay.log_bytes >= LAG_BYTES_MAX
                || now_ms.saturating_sub(shared.committed_at_ms) >= LAG_MS_MAX)
    }

    /// Commits everything that was applied before the call.
    pub(crate) fn commit(&self, segments: &Segments<'_>, now_ms: u64) -> Result<(), ViewsError> {
        let _one = self
            .committing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // One that failed goes first.
        if self.frozen().is_some() {
            let first = Segments {
                streams: segments.streams,
                ..Segments::default()
            };
            self.commit_frozen(&first, now_ms)?;
        }
        {
            let mut shared = self.write();
            let next = shared.active.next();
            shared.frozen = Some(Arc::new(std::mem::replace(&mut shared.active, next)));
        }
        self.commit_frozen(segments, now_ms)
    }

    fn commit_frozen(&self, segments: &Segments<'_>, now_ms: u64) -> Result<(), ViewsError> {
        let (db, base, cloak, frozen) = {
            let shared = self.shared();
            let db = shared.db.clone().ok_or(ViewsError::Closed)?;
            let Some(frozen) = shared.frozen.clone() else {
                return Ok(());
            };
            (db, shared.base.clone(), shared.cloak.clone(), frozen)
        };
        let base = commit::commit(&db, &frozen, &base, &cloak, segments)?;
        let mut shared = self.write();
        shared.base = Arc::new(base);
        shared.committed_at_ms = now_ms;
        shared.frozen = None;
        drop(shared);
        // The overlay's memory is given back outside the lock.
        drop(frozen);
        Ok(())
    }

    fn shared(&self) -> RwLockReadGuard<'_, Shared> {
        self.shared.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Shared> {
        self.shared.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn frozen(&self) -> Option<Arc<Overlay>> {
        self.shared().frozen.clone()
    }

    fn base(&self) -> Arc<Base> {
        self.shared().base.clone()
    }

    /// The last block that a commit reflects.
    pub(crate) fn committed(&self) -> Position {
        self.base().header.position
    }

    /// How far each stream is, as of the last commit.
    pub(crate) fn streams(&self) -> Result<BTreeMap<u32, Vec<u8>>, ViewsError> {
        use redb::{ReadableDatabase, ReadableTable};
        let (db, cloak) = {
            let shared = self.shared();
            let db = shared.db.clone().ok_or(ViewsError::Closed)?;
            (db, shared.cloak.clone())
        };
        let table = match db.begin_read()?.open_table(tables::STREAMS) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(BTreeMap::new()),
            Err(error) => return Err(error.into()),
        };
        let mut streams = BTreeMap::new();
        for row in table.iter()? {
            let (stream, state) = row?;
            streams.insert(stream.value(), cloak.open(state.value())?.into_owned());
        }
        Ok(streams)
    }

    /// What lives in the segments, as of the last commit.
    pub(crate) fn segments(&self) -> BTreeMap<u32, SegmentFigures> {
        self.base().segments.clone()
    }

    /// What is still said of other segments, by whom and of whom, as of the last commit.
    pub(crate) fn covers(&self) -> BTreeMap<(u32, u32), Covers> {
        self.base().covers.clone()
    }

    /// The highest numbers and the latest wall time that ever occurred.
    pub(crate) fn highest(&self) -> (MessageId, QueueId, u64) {
        let shared = self.shared();
        let (mut message, mut queue, mut wall_ms) = (
            shared.base.header.highest_message,
            shared.base.header.highest_queue,
            shared.base.header.wall_ms,
        );
        for overlay in shared
            .frozen
            .iter()
            .map(Arc::as_ref)
            .chain([&shared.active])
        {
            message = message.max(overlay.highest_message);
            queue = queue.max(overlay.highest_queue);
            wall_ms = wall_ms.max(overlay.wall_ms);
        }
        (MessageId(message), QueueId(queue), wall_ms)
    }

    /// How much is in them.
    pub(crate) fn figures(&self) -> ViewsFigures {
        let shared = self.shared();
        let mut figures = ViewsFigures {
            commits: shared.base.header.number,
            read_bytes: self.read_bytes.load(Ordering::Relaxed),
            ..ViewsFigures::default()
        };
        for overlay in shared
            .frozen
            .iter()
            .map(Arc::as_ref)
            .chain([&shared.active])
        {
            figures.overlay_entries += overlay.entries();
            figures.overlay_bytes += overlay.bytes();
            figures.lag_bytes += overlay.log_bytes;
        }
        figures
    }
}

/// The embedded store and what is to be known of it at once.
struct Opened {
    db: Database,
    base: Base,
    cloak: Cloak,
}

impl Opened {
    fn new<F: DiskFile>(
        file: F,
        key: Option<&MasterKey>,
        read_bytes: &Arc<AtomicU64>,
    ) -> Result<Self, ViewsError> {
        let backend = Backend {
            file,
            read_bytes: read_bytes.clone(),
        };
        let db = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(backend)?;
        let (base, note) = if let Some(read) = Base::read(&db)? {
            read
        } else {
            let note = Cloak::note(key)?;
            base::begin(&db, &note)?;
            (Base::default(), note)
        };
        if base.header.format != 0 && base.header.format != tables::FORMAT {
            return Err(ViewsError::Other);
        }
        let cloak = Cloak::of_note(&note, key).ok_or(ViewsError::Other)?;
        Ok(Self { db, base, cloak })
    }
}

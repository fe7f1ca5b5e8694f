//! How much there is, and of what.

use std::{collections::BTreeMap, sync::Arc};

use waypost_cache::Counters;

use super::{Store, StoreError, lock, retire::Retired};
use crate::{
    backup::Original,
    disk::{Disk, DiskFile},
    log::SegmentKind,
    message_cache::PartitionFigures,
    streams::StreamInfo,
    views::{self, SegmentFigures, ViewsFigures},
};

/// What can be told at once.
#[derive(Clone, Debug, Default)]
pub struct StoreFigures {
    /// Segments of the log.
    pub log_segments: u64,
    /// Kept segments.
    pub kept_segments: u64,
    /// Bytes of all segments.
    pub log_bytes: u64,
    /// Bytes of records in them that are still needed, as of the last commit of the views.
    pub live_bytes: u64,
    /// Messages that somebody is owed or holds, as of the last commit.
    pub messages: u64,
    /// Bytes of their contents, likewise.
    pub message_bytes: u64,
    /// Queues that are owed something, as of the last commit.
    pub queues: u64,
    /// Rows, as of the last commit.
    pub rows: u64,
    /// Bytes of the views' file.
    pub views_file_bytes: u64,
    /// What the views have in memory, and how far they are behind.
    pub views: ViewsFigures,
    /// What retirement did since the start.
    pub retired: Retired,
    /// What the cache of messages was good for.
    pub cache: Counters,
    /// Bytes of messages in it.
    pub cache_bytes: u64,
    /// The same of each of its partitions, and last of the blocks of streams that readers share.
    pub cache_partitions: Vec<PartitionFigures>,
    /// Messages that were put into the first partition because there were as many others as there may be.
    pub cache_crowded_out: u64,
    /// Bytes of streams' files.
    pub stream_bytes: u64,
    /// How often a stream fell behind, because its files could not be written.
    pub streams_fell_behind: u64,
}

/// What takes a walk through the views to tell.
#[derive(Clone, Debug, Default)]
pub struct StoreStats {
    /// What can be told at once.
    pub figures: StoreFigures,
    /// The segments, by their place in the log.
    pub segments: Vec<SegmentStats>,
    /// Messages that queues are owed, each counted by each queue.
    pub owed: u64,
    /// Bytes of their contents, likewise.
    pub owed_bytes: u64,
    /// Rows by table.
    pub rows: BTreeMap<u8, u64>,
    /// The streams, by number.
    pub streams: Vec<StreamInfo>,
}

/// A segment.
#[derive(Clone, Debug)]
pub struct SegmentStats {
    /// Its place in the log.
    pub segment: u32,
    /// The file that stands for it.
    pub file: String,
    /// How long that is.
    pub bytes: u64,
    /// What lives in it.
    pub figures: SegmentFigures,
}

impl<D: Disk> Store<D> {
    /// How much there is.
    pub fn figures(&self) -> Result<StoreFigures, StoreError> {
        let mut figures = StoreFigures {
            views: self.views.figures(),
            views_file_bytes: self.disk.open(views::FILE)?.len()?,
            ..StoreFigures::default()
        };
        for info in self.log.segments() {
            match info.kind {
                SegmentKind::Log => figures.log_segments += 1,
                SegmentKind::Kept => figures.kept_segments += 1,
            }
            figures.log_bytes += info.bytes;
        }
        let segments = self.views.segments();
        figures.live_bytes = segments.values().map(SegmentFigures::live_bytes).sum();
        figures.messages = segments.values().map(|figures| figures.messages).sum();
        figures.message_bytes = segments.values().map(|it| it.message_bytes).sum();
        figures.retired = lock(&self.retirement).done;
        figures.rows = segments.values().map(|figures| figures.rows).sum();
        figures.queues = self.views.queue_count()?;
        figures.stream_bytes = self.streams.bytes();
        figures.streams_fell_behind = self.streams.times_behind();
        figures.cache_partitions = self.cache.figures();
        for part in &figures.cache_partitions {
            figures.cache.hits += part.counters.hits;
            figures.cache.misses += part.counters.misses;
            figures.cache.evictions += part.counters.evictions;
            figures.cache_bytes += part.bytes;
        }
        figures.cache_partitions.push(self.streams.cache_figures());
        figures.cache_crowded_out = self.cache.crowded_out();
        Ok(figures)
    }

    /// How much there is, in detail. Reads all queues and rows.
    pub fn stats(&self) -> Result<StoreStats, StoreError> {
        let mut stats = StoreStats {
            figures: self.figures()?,
            rows: self.views.row_counts()?,
            streams: self.streams.list(self.views.highest().2),
            ..StoreStats::default()
        };
        for queue in self.views.queues()? {
            let (_, owed) = queue?;
            stats.owed += owed.count;
            stats.owed_bytes += owed.bytes;
        }
        let infos: BTreeMap<u32, _> = self
            .log
            .segments()
            .into_iter()
            .map(|info| (info.number, info))
            .collect();
        for (segment, figures) in self.views.segments() {
            if let Some(info) = infos.get(&figures.file_of(segment)) {
                stats.segments.push(SegmentStats {
                    segment,
                    file: info.file.clone(),
                    bytes: info.bytes,
                    figures,
                });
            }
        }
        Ok(stats)
    }

    /// The files that a backup of this moment needs: open, so that they can be read whatever is retired meanwhile.
    pub fn originals(&self) -> Result<Vec<Original<D::File>>, StoreError> {
        // No segment goes while they are opened.
        let _retirement = lock(&self.retirement);
        self.log
            .segments()
            .into_iter()
            .map(|info| {
                Ok(Original {
                    file: Arc::new(self.disk.open(&info.file)?),
                    name: info.file,
                    length: info.bytes,
                })
            })
            .collect()
    }
}

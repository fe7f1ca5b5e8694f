//! A start: the views are opened and the rest of the log is folded into them; or, if they are not there, all of it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use super::{Store, StoreError, StoreOptions, StoreWriter, Trouble};
use crate::{
    disk::Disk,
    log::{BlockPosition, LogBlock, LogDamage, LogReader, Recovery, SegmentKind},
    message_cache::MessageCache,
    record::{MessageId, Op, QueueId, decode_ops},
    streams::Streams,
    views::{self, FILES, Segments, Views, ViewsError},
};

/// What became of the views.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ViewsAtStart {
    /// They were there.
    Found,
    /// There was no store.
    New,
    /// They were made again from the whole log; why.
    MadeAgain(String),
}

/// What was found at a start.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// What of the log could not be read.
    pub damage: Vec<LogDamage>,
    /// What became of the views.
    pub views: ViewsAtStart,
    /// The latest stamp of an earlier run.
    pub last_wall_ms: Option<u64>,
    /// The highest number of a message that an earlier run gave.
    pub highest_message: MessageId,
    /// The highest number of a queue.
    pub highest_queue: QueueId,
    /// Bytes read of segments: the tail of the log, headers and seals.
    pub log_bytes_read: u64,
    /// Bytes read of the views.
    pub views_bytes_read: u64,
    /// Blocks folded into the views.
    pub blocks: u64,
}

impl<D: Disk> Store<D> {
    /// Opens what is there, or begins.
    pub fn open(
        disk: Arc<D>,
        options: StoreOptions,
        now_wall_ms: u64,
    ) -> Result<(Self, StoreWriter<D>, Recovered), StoreError> {
        let (views, at_start) = open_views(&*disk, &options, now_wall_ms)?;
        let from = match at_start {
            ViewsAtStart::Found => {
                let position = views.committed();
                BlockPosition {
                    segment: position.segment,
                    offset: position.block,
                }
            }
            // In another order than by number: once the ends of all segments are known.
            ViewsAtStart::New | ViewsAtStart::MadeAgain(_) => BlockPosition {
                segment: u32::MAX,
                offset: 0,
            },
        };
        let rows = match at_start {
            ViewsAtStart::Found => Some(views.streams()?),
            ViewsAtStart::New | ViewsAtStart::MadeAgain(_) => None,
        };
        let committed = views.committed();
        let (streams, stream_damage) = Streams::open(
            disk.clone(),
            options.log.clone(),
            options.streams.clone(),
            &rows,
            (committed.segment, committed.block),
        )?;
        let mut start = Start {
            views: &views,
            streams: &streams,
            now_wall_ms,
            damage: Vec::new(),
            blocks: 0,
        };
        let mut recovery = Recovery::open(disk.clone(), options.log.clone(), Some(from))?;
        // Also of segments that are lost: what the views know of them is not to be taken for what comes.
        for (segment, figures) in views.segments() {
            recovery.number_is_taken(segment.max(figures.file));
        }
        while let Some(block) = recovery.next_block()? {
            if at_start == ViewsAtStart::Found {
                start.fold(block.position.segment, &block)?;
            }
        }
        let (writer, log, recovered) = recovery.finish()?;
        start.damage.extend(recovered.damage);
        start.damage.extend(stream_damage);
        if at_start == ViewsAtStart::Found {
            start.commit(&Segments::default(), Some(&log))?;
            start.remove_leftovers(&log, writer.current())?;
        } else {
            start.fold_all(&log)?;
        }
        let Start { damage, blocks, .. } = start;
        streams.remove_left_over()?;
        let (highest_message, highest_queue, wall_ms) = views.highest();
        let last_wall_ms = wall_ms.max(recovered.last_wall_ms);
        let recovered = Recovered {
            damage,
            views: at_start,
            last_wall_ms: (last_wall_ms > 0).then_some(last_wall_ms),
            highest_message,
            highest_queue,
            log_bytes_read: log.bytes_read(),
            views_bytes_read: views.figures().read_bytes,
            blocks,
        };
        let store = Self {
            cache: MessageCache::new(
                options.cache,
                options.cache_bytes,
                options.partitions.clone(),
            ),
            disk,
            options,
            log,
            views,
            trouble: Mutex::new(Trouble::default()),
            retirement: Mutex::default(),
            streams,
        };
        Ok((store, StoreWriter { log: writer }, recovered))
    }
}

fn is_segment(name: &str) -> bool {
    [".log", ".kept"]
        .into_iter()
        .any(|extension| name.ends_with(extension))
}

/// Opens the views; those that cannot be used are thrown away.
fn open_views<D: Disk>(
    disk: &D,
    options: &StoreOptions,
    now_wall_ms: u64,
) -> Result<(Views, ViewsAtStart), StoreError> {
    let key = options.log.key.as_deref();
    let names = disk.list()?;
    let has_views = names.iter().any(|name| name == views::FILE);
    let mut at_start = if names.iter().any(|name| is_segment(name)) {
        ViewsAtStart::MadeAgain("they were not there".to_owned())
    } else {
        ViewsAtStart::New
    };
    if has_views {
        let opened = disk
            .open(views::FILE)
            .map_err(ViewsError::from)
            .and_then(|file| Views::open_verified(file, key, now_wall_ms));
        match opened {
            Ok(views) if views.committed().segment > 0 => return Ok((views, ViewsAtStart::Found)),
            // A start that did not come to its end.
            Ok(_) => {}
            Err(error) => at_start = ViewsAtStart::MadeAgain(error.to_string()),
        }
        disk.remove(views::FILE)?;
    }
    let file = disk.create(views::FILE)?;
    disk.sync_directory()?;
    Ok((Views::open(file, key, now_wall_ms)?, at_start))
}

struct Start<'v, D: Disk> {
    views: &'v Views,
    streams: &'v Streams<D>,
    now_wall_ms: u64,
    damage: Vec<LogDamage>,
    blocks: u64,
}

impl<D: Disk> Start<'_, D> {
    fn commit(
        &self,
        segments: &Segments<'_>,
        log: Option<&LogReader<D>>,
    ) -> Result<(), StoreError> {
        let settled = self.streams.settle(log)?;
        let segments = Segments {
            streams: &settled.rows,
            ..*segments
        };
        self.views.commit(&segments, self.now_wall_ms)?;
        self.streams.recorded(settled);
        Ok(())
    }

    /// Folds a block of the segment whose place in the log is `segment`.
    fn fold(&mut self, segment: u32, block: &LogBlock) -> Result<(), StoreError> {
        let offset = block.position.offset;
        let folded = self
            .views
            .apply(segment, offset, block.wall_ms, &block.records);
        if let Err(damage) = folded {
            self.damage.push(LogDamage {
                file: format!("{:08}", block.position.segment),
                offset: offset.into(),
                bytes: block.records.len() as u64,
                what: damage.what,
            });
        }
        self.streams
            .apply(segment, offset, block.wall_ms, &block.records);
        self.blocks += 1;
        if self.views.is_due(self.now_wall_ms) {
            self.commit(&Segments::default(), None)?;
        }
        Ok(())
    }

    /// Makes the views from all segments, each in its place.
    fn fold_all(&mut self, log: &LogReader<D>) -> Result<(), StoreError> {
        let mut files = BTreeMap::<u32, u32>::new();
        for info in log.segments() {
            let place = match info.kind {
                SegmentKind::Log => info.number,
                SegmentKind::Kept => place_of(log, info.number)?.unwrap_or(info.number),
            };
            // What was written later has what was still needed of what was written before.
            let file = files.entry(place).or_insert(info.number);
            *file = info.number.max(*file);
        }
        self.views.is_rebuild(true);
        for (&place, &file) in &files {
            if file != place {
                self.views.stands_for(place, file);
            }
            for block in log.blocks(file)? {
                match block {
                    Ok(block) => self.fold(place, &block)?,
                    Err(damage) if self.damage.contains(&damage) => {}
                    Err(damage) => self.damage.push(damage),
                }
            }
        }
        self.views.is_rebuild(false);
        let which = Segments {
            sweep: true,
            ..Segments::default()
        };
        self.commit(&which, Some(log))?;
        for info in log.segments() {
            if !files.values().any(|file| *file == info.number) {
                log.remove(info.number)?;
            }
        }
        Ok(())
    }

    /// Removes files that nothing stands in, as a crash during a retirement leaves them.
    fn remove_leftovers(&self, log: &LogReader<D>, current: Option<u32>) -> Result<(), StoreError> {
        let position = self.views.committed();
        let files: Vec<u32> = self
            .views
            .segments()
            .iter()
            .map(|(segment, figures)| figures.file_of(*segment))
            .collect();
        for info in log.segments() {
            let is_reflected = match info.kind {
                SegmentKind::Kept => true,
                SegmentKind::Log => info.number < position.segment && info.sealed.is_some(),
            };
            if is_reflected && !files.contains(&info.number) && Some(info.number) != current {
                log.remove(info.number)?;
            }
        }
        Ok(())
    }
}

/// The place in the log of a kept segment.
fn place_of<D: Disk>(log: &LogReader<D>, number: u32) -> Result<Option<u32>, StoreError> {
    let first = log.blocks(number)?.find_map(Result::ok);
    let records = first.map(|block| block.records).unwrap_or_default();
    let place = match decode_ops(&records).next() {
        Some(Ok(Op::Put {
            table: FILES,
            value,
            ..
        })) => value.first_chunk().map(|place| u32::from_be_bytes(*place)),
        _ => None,
    };
    Ok(place)
}

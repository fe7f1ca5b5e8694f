//! Taking segments away, and rewriting those that little lives in.
//!
//! A segment in which nothing lives goes. One of which less than half lives is written anew, in its place in the log but
//! into another file, a *kept* one, with what lives and nothing else: step by step, while everything else goes on. What a
//! kept segment is worth is what lived when it was written; when less than half of that lives it is written anew again.
//!
//! The log alone must give the same views at any time. So what a segment says of others stays as long as those may have
//! what it speaks of: a message that is settled, a row that is deleted. The views count that, by segment and segment
//! ([`crate::views::Covers`]); a segment that is needed only for it is kept, however short.
//!
//! The order of things: the new file is synced and named; a commit of the views says that it stands for the segment; the
//! old file goes. What a crash leaves over in between the next start removes.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::{Store, StoreError, lock};
use crate::{
    disk::Disk,
    log::{Blocks, KeptWriter, LogError},
    record::{Batch, MessageId, Op, QueueId, Queues, decode_ops, decode_transactions},
    views::{Covers, FILES, Moved, SegmentFigures, Segments, Snapshot},
};

/// How many bytes of records a step rewrites, about.
const STEP_BYTES: usize = 1 << 20;

/// The newest segments, which are not rewritten: most of what lives in them will not for long.
const NEWEST: usize = 2;

/// A segment being rewritten.
#[derive(Debug)]
pub(super) struct Rewriting<D: Disk> {
    segment: u32,
    file: u32,
    blocks: Blocks<D>,
    kept: KeptWriter<D>,
    moved: Moved,
    /// What it says of others that is still needed.
    says: Covers,
    /// Messages whose content is in this segment, and whether it is still wanted.
    contents: HashMap<u64, bool>,
    pairs: Pairs,
}

/// How far a segment is.
enum Step {
    Some,
    All,
    /// It is damaged, or does not have what it should: it stays as it is.
    Refused,
}

/// What retirement has in hand.
#[derive(Debug)]
pub(super) struct Retirement<D: Disk> {
    rewriting: Option<Rewriting<D>>,
    /// Files that stay, because they are damaged.
    damaged: Vec<u32>,
    pub(super) done: Retired,
}

/// What retirement did since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retired {
    /// Files taken away, those that were rewritten included.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes written anew.
    pub rewritten_bytes: u64,
}

impl<D: Disk> Default for Retirement<D> {
    fn default() -> Self {
        Self {
            rewriting: None,
            damaged: Vec::new(),
            done: Retired::default(),
        }
    }
}

impl<D: Disk> Store<D> {
    /// Does some of what is to be done; says whether there may be more. For the thread that commits.
    pub fn retire_step(&self, now_wall_ms: u64) -> Result<bool, StoreError> {
        let mut retirement = lock(&self.retirement);
        if let Some(mut rewriting) = retirement.rewriting.take() {
            match rewriting.step(&self.views.snapshot()?, now_wall_ms)? {
                Step::Some => retirement.rewriting = Some(rewriting),
                Step::All => self.exchange(rewriting, &mut retirement.done, now_wall_ms)?,
                Step::Refused => retirement.damaged.push(rewriting.file),
            }
            return Ok(true);
        }
        let segments = self.views.segments();
        let covers = self.views.covers();
        // Everything that a segment before this one says is in the views.
        let newest = self.views.committed().segment;
        let gone: Vec<u32> = segments
            .range(..newest)
            .filter(|(segment, figures)| {
                figures.is_dead() && says(&covers, **segment) == Covers::default()
            })
            .map(|(segment, _)| *segment)
            .collect();
        if !gone.is_empty() {
            let which = Segments {
                gone: &gone,
                ..Segments::default()
            };
            self.commit_with(&which, now_wall_ms)?;
            for segment in &gone {
                let Some(figures) = segments.get(segment) else {
                    continue;
                };
                match self.take_away(figures.file_of(*segment), &mut retirement.done) {
                    Ok(()) | Err(StoreError::Log(LogError::NoSegment { .. })) => {}
                    Err(error) => return Err(error),
                }
            }
            return Ok(true);
        }
        let older = segments.len().saturating_sub(NEWEST);
        let candidate = segments
            .range(..newest)
            .take(older)
            .find(|(segment, figures)| {
                let file = figures.file_of(**segment);
                is_worth_rewriting(figures) && !retirement.damaged.contains(&file)
            });
        let Some((&segment, figures)) = candidate else {
            return Ok(false);
        };
        let file = figures.file_of(segment);
        let blocks = match self.log.blocks(file) {
            Ok(blocks) => blocks,
            Err(LogError::NoSegment { .. }) => {
                // It is lost. What lived in it is known by name only.
                retirement.damaged.push(file);
                return Ok(true);
            }
            Err(error) => return Err(error.into()),
        };
        let mut kept = self.log.keep(now_wall_ms)?;
        let mut note = Batch::new();
        note.put(FILES, b"place", &segment.to_be_bytes());
        note.end();
        kept.append(&[note.take()], now_wall_ms)?;
        retirement.rewriting = Some(Rewriting {
            segment,
            file,
            blocks,
            moved: Moved {
                segment,
                file: kept.number(),
                covers_before: covers
                    .iter()
                    .filter(|((_, of), _)| *of == segment)
                    .map(|((by, _), covers)| (*by, *covers))
                    .collect(),
                ..Moved::default()
            },
            kept,
            says: says(&covers, segment),
            contents: HashMap::new(),
            pairs: Pairs::of(segment),
        });
        Ok(true)
    }

    /// The new file takes the old one's place.
    fn exchange(
        &self,
        rewriting: Rewriting<D>,
        done: &mut Retired,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let file = rewriting.kept.finish()?;
        let which = Segments {
            moved: Some(&rewriting.moved),
            ..Segments::default()
        };
        if let Err(error) = self.commit_with(&which, now_ms) {
            // Perhaps it is committed, perhaps not: the views say so when they are open again. Until then both files stay,
            // and the next start removes one of them.
            let is_broken = lock(&self.trouble).is_broken;
            let segments = self.views.segments();
            let stands = segments.get(&rewriting.segment).map(|it| it.file);
            if is_broken {
                return Err(error);
            }
            if stands != Some(file) {
                self.log.remove(file)?;
                return Err(error);
            }
        }
        done.rewritten_bytes += self.file_bytes(file);
        self.take_away(rewriting.file, done)
    }

    fn take_away(&self, file: u32, done: &mut Retired) -> Result<(), StoreError> {
        let bytes = self.file_bytes(file);
        self.log.remove(file)?;
        done.segments += 1;
        done.bytes += bytes;
        Ok(())
    }

    fn file_bytes(&self, file: u32) -> u64 {
        let segments = self.log.segments();
        let info = segments.iter().find(|info| info.number == file);
        info.map_or(0, |info| info.bytes)
    }
}

fn is_worth_rewriting(figures: &SegmentFigures) -> bool {
    let live = figures.live_bytes();
    live * 2 < figures.whole_bytes && (live > 0 || figures.file == 0)
}

/// What a segment says of all others.
fn says(covers: &BTreeMap<(u32, u32), Covers>, segment: u32) -> Covers {
    covers
        .range((segment, 0)..=(segment, u32::MAX))
        .fold(Covers::default(), |sum, (_, covers)| Covers {
            entries: sum.entries + covers.entries,
            rows: sum.rows + covers.rows,
        })
}

impl<D: Disk> Rewriting<D> {
    fn step(&mut self, views: &Snapshot, now_wall_ms: u64) -> Result<Step, StoreError> {
        let mut read = 0;
        while read < STEP_BYTES {
            let Some(block) = self.blocks.next() else {
                return Ok(if self.pairs.is_left() {
                    Step::Refused
                } else {
                    Step::All
                });
            };
            let Ok(block) = block else {
                return Ok(Step::Refused);
            };
            read += block.records.len();
            let mut batch = Batch::new();
            for transaction in decode_transactions(&block.records) {
                let Ok(transaction) = transaction else {
                    break;
                };
                for op in transaction.ops() {
                    let Ok(op) = op else {
                        break;
                    };
                    self.rewrite(op, &mut batch, views, now_wall_ms)?;
                }
                batch.end();
            }
            self.write(&batch.take(), block.wall_ms)?;
        }
        Ok(Step::Some)
    }

    /// What is still needed of an operation.
    fn rewrite(
        &mut self,
        op: Op<'_>,
        batch: &mut Batch,
        views: &Snapshot,
        now_wall_ms: u64,
    ) -> Result<(), StoreError> {
        match op {
            Op::Message {
                id,
                expires_wall_ms,
                ..
            } => {
                let is_wanted = views.has_message(id, self.segment)?;
                let has_expired = expires_wall_ms <= now_wall_ms;
                self.contents.insert(id.0, is_wanted && !has_expired);
                if is_wanted && has_expired {
                    self.moved.expired.push(id.0);
                } else if is_wanted {
                    batch.push(op);
                }
            }
            Op::Owe {
                id,
                options,
                queues,
            } => {
                let owed = self.still_owed(id, queues, views)?;
                if self.contents.get(&id.0) != Some(&false) {
                    batch.owe(id, options, owed);
                }
            }
            Op::Settle { id, .. } => {
                // What it settles was owed behind the content, and is left out if that is in this segment.
                if self.says.entries > 0 && !self.contents.contains_key(&id.0) {
                    batch.push(op);
                }
            }
            Op::EndQueue { .. } => {
                if self.says.entries > 0 {
                    batch.push(op);
                }
            }
            // Streams have what entered in files of their own by now.
            Op::Put { table: FILES, .. } | Op::Enter { .. } => {}
            Op::Put { table, key, value } => {
                if views.stands(table, key, self.segment, None, value)? {
                    batch.push(op);
                } else if self.says.rows > 0 {
                    batch.delete(table, key);
                }
            }
            Op::Delete { .. } => {
                if self.says.rows > 0 {
                    batch.push(op);
                }
            }
            Op::Hold {
                table,
                key,
                version,
                value,
                id,
            } => {
                let hold = (version, id.map(|id| id.0));
                if views.stands(table, key, self.segment, Some(hold), value)? {
                    batch.push(op);
                } else if self.says.rows > 0 {
                    batch.hold(table, key, version, &[], None);
                }
            }
        }
        Ok(())
    }

    fn still_owed(
        &mut self,
        id: MessageId,
        queues: Queues<'_>,
        views: &Snapshot,
    ) -> Result<Vec<QueueId>, StoreError> {
        let mut owed = Vec::new();
        for queue in queues.iter() {
            if self.pairs.has(queue, id, views)? {
                owed.push(queue);
            }
        }
        Ok(owed)
    }

    /// Writes what is left of a block, and remembers where messages are now.
    fn write(&mut self, records: &[u8], wall_ms: u64) -> Result<(), StoreError> {
        if records.is_empty() {
            return Ok(());
        }
        let batches = [records];
        let appended = self.kept.append(&batches, wall_ms)?;
        for (position, piece) in appended.pieces(&batches) {
            for op in decode_ops(piece) {
                match op {
                    Ok(Op::Message { id, .. }) => {
                        self.moved.messages.push((id.0, position.offset, 0));
                    }
                    Ok(Op::Owe { id, queues, .. }) => {
                        if let Some((last, _, bytes)) = self.moved.messages.last_mut()
                            && *last == id.0
                        {
                            let more = u32::try_from(queues.count()).unwrap_or(u32::MAX);
                            *bytes = bytes.saturating_add(more).saturating_add(16);
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// What queues are still owed of a segment, walked through in the segment's own order.
#[derive(Debug)]
struct Pairs {
    segment: u32,
    queues: HashMap<u64, Ahead>,
}

/// What comes next in a queue.
#[derive(Debug, Default)]
struct Ahead {
    /// Read from the views.
    entries: VecDeque<(u64, u64)>,
    /// Up to here.
    place: u64,
    is_end: bool,
    /// Whether the content of the first entry is known to be there.
    is_known: bool,
}

impl Pairs {
    fn of(segment: u32) -> Self {
        Self {
            segment,
            queues: HashMap::new(),
        }
    }

    /// Whether a queue is still owed a message. Asked in the order in which they were owed.
    fn has(&mut self, queue: QueueId, id: MessageId, views: &Snapshot) -> Result<bool, StoreError> {
        let ahead = self.queues.entry(queue.0).or_default();
        loop {
            if ahead.entries.is_empty() && !ahead.is_end {
                ahead.entries = views.owed(queue, self.segment, ahead.place)?;
                match ahead.entries.back() {
                    Some((place, _)) => ahead.place = *place,
                    None => ahead.is_end = true,
                }
            }
            let Some(&(_, next)) = ahead.entries.front() else {
                return Ok(false);
            };
            let is_next = next == id.0;
            // What expired was left out when the segment was rewritten before, but is owed until somebody settles it.
            if is_next || !(ahead.is_known || views.is_known(MessageId(next))?) {
                ahead.entries.pop_front();
                ahead.is_known = false;
            } else {
                ahead.is_known = true;
            }
            if is_next || ahead.is_known {
                return Ok(is_next);
            }
        }
    }

    /// Whether a queue is owed something that the segment did not say.
    fn is_left(&self) -> bool {
        self.queues.values().any(|ahead| !ahead.entries.is_empty())
    }
}

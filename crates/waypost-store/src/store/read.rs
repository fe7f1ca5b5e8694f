//! Reading messages back: first which, from the views; then their contents, from the cache or the log.

use std::{collections::BTreeMap, sync::Arc};

use super::{Store, StoreError};
use crate::{
    disk::Disk,
    log::{BlockPosition, LogError},
    record::{MessageId, Op, QueueId, decode_ops},
    views::Located,
};

/// How often a message is looked for anew, because what it was in is retired meanwhile.
const TRIES: usize = 4;

/// A part of what a queue is owed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueRead {
    /// In the order they were owed.
    pub entries: Vec<QueueEntry>,
    /// There is nothing behind the last entry.
    pub is_end: bool,
}

/// One message that a queue is owed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueEntry {
    /// Its place in the queue, ascending.
    pub place: u64,
    /// Which message.
    pub id: MessageId,
    /// How the queue is owed it.
    pub options: Box<[u8]>,
    /// Its content; `None`: it is damaged, or it expired and is gone.
    pub body: Option<Arc<[u8]>>,
}

type Bodies = BTreeMap<MessageId, Arc<[u8]>>;

impl<D: Disk> Store<D> {
    /// What a queue is owed behind a place (0: from the beginning): at most `count_max` messages, and no more once their
    /// contents exceed `bytes_max`.
    pub fn read_queue(
        &self,
        queue: QueueId,
        after: u64,
        count_max: usize,
        bytes_max: u64,
    ) -> Result<QueueRead, StoreError> {
        let page = self.views.read(queue, after, count_max, bytes_max)?;
        let wanted = page
            .entries
            .iter()
            .filter_map(|entry| Some((entry.id, entry.located?)))
            .collect();
        let mut bodies = self.bodies(wanted)?;
        Ok(QueueRead {
            entries: page
                .entries
                .into_iter()
                .map(|entry| QueueEntry {
                    place: entry.place,
                    body: bodies.remove(&entry.id),
                    id: entry.id,
                    options: entry.options,
                })
                .collect(),
            is_end: page.is_end,
        })
    }

    /// A message's content; `None` if nobody is owed it or holds it, or if it is damaged.
    pub fn message(&self, id: MessageId) -> Result<Option<Arc<[u8]>>, StoreError> {
        let Some(located) = self.views.locate(id)? else {
            return Ok(None);
        };
        let mut bodies = self.bodies(BTreeMap::from([(id, located)]))?;
        Ok(bodies.remove(&id))
    }

    /// The contents of messages, each block read once.
    fn bodies(&self, mut wanted: BTreeMap<MessageId, Located>) -> Result<Bodies, StoreError> {
        let mut bodies = Bodies::new();
        wanted.retain(|id, _| match self.cache.get(*id) {
            Some(body) => {
                bodies.insert(*id, body);
                false
            }
            None => true,
        });
        for _ in 0..TRIES {
            let mut blocks = BTreeMap::<BlockPosition, Vec<MessageId>>::new();
            for (id, located) in &wanted {
                let position = BlockPosition {
                    segment: located.file,
                    offset: located.block,
                };
                blocks.entry(position).or_default().push(*id);
            }
            let mut moved = Vec::new();
            for (position, ids) in blocks {
                match self.log.read_block(position) {
                    Ok(records) => self.take_bodies(&records, &ids, &mut bodies),
                    Err(LogError::NoSegment { .. }) => moved.extend(ids),
                    // What cannot be read any more is told apart from what cannot be read now.
                    Err(LogError::Damaged(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            wanted.clear();
            for id in moved {
                if let Some(located) = self.views.locate(id)? {
                    wanted.insert(id, located);
                }
            }
            if wanted.is_empty() {
                break;
            }
        }
        Ok(bodies)
    }

    /// Takes what is wanted out of a block, and into the cache all that is in it: who reads a queue wants the next ones
    /// next.
    fn take_bodies(&self, records: &[u8], ids: &[MessageId], bodies: &mut Bodies) {
        for op in decode_ops(records) {
            let Ok(Op::Message { id, body, .. }) = op else {
                continue;
            };
            let body: Arc<[u8]> = body.into();
            let is_wanted = ids.contains(&id);
            if is_wanted {
                bodies.insert(id, body.clone());
            }
            self.cache.put(id, body, is_wanted);
        }
    }
}

//! What the operations come to, without files: plain maps that forget nothing. Tests hold the store against it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::{prelude::*, test_runner::TestRng};

use crate::record::{Batch, MessageId, QueueId, Table};

/// What the operations come to, told the simplest way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub messages: BTreeMap<u64, (u32, usize)>,
    pub queues: BTreeMap<u64, VecDeque<(u64, Vec<u8>)>>,
    pub rows: BTreeMap<(u8, Vec<u8>), ModelRow>,
    /// Who was ever owed what: once at most.
    pub ever: BTreeSet<(u64, u64)>,
}

#[derive(Clone, Debug)]
pub(crate) struct ModelRow {
    pub segment: u32,
    pub version: Option<u64>,
    pub value: Vec<u8>,
    pub id: Option<u64>,
}

impl Model {
    /// What is owed and held, and by segment what lives in it.
    pub fn live(&self) -> BTreeMap<u32, (u64, u64)> {
        let mut live = BTreeMap::<u32, (u64, u64)>::new();
        let owed = self.queues.values().flatten().map(|(id, _)| *id);
        let held = self.rows.values().filter_map(|row| row.id);
        for id in owed.chain(held).collect::<BTreeSet<_>>() {
            if let Some((segment, _)) = self.messages.get(&id) {
                live.entry(*segment).or_default().0 += 1;
            }
        }
        for row in self.rows.values().filter(|row| !row.is_tombstone()) {
            live.entry(row.segment).or_default().1 += 1;
        }
        live
    }
}

impl ModelRow {
    pub fn is_tombstone(&self) -> bool {
        self.version.is_some() && self.id.is_none()
    }
}

/// Makes operations that a core could make.
pub(crate) struct Random {
    rng: TestRng,
    next_message: u64,
}

impl Random {
    pub fn new(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(proptest::test_runner::RngAlgorithm::ChaCha, &bytes);
        Self {
            rng,
            next_message: 1,
        }
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.rng.next_u64() % end
    }

    /// One transaction, in a batch and in the model.
    pub fn transaction(&mut self, batch: &mut Batch, model: &mut Model, segment: u32) {
        match self.below(10) {
            0..=3 => self.publish(batch, model, segment),
            4..=6 => self.settle(batch, model),
            7 => {
                let (table, key) = (self.below(3) as u8, vec![self.below(6) as u8]);
                if self.below(3) == 0 {
                    batch.delete(Table(table), &key);
                    model.rows.remove(&(table, key));
                } else {
                    let value = vec![self.below(256) as u8; self.below(30) as usize];
                    batch.put(Table(table), &key, &value);
                    let row = ModelRow {
                        segment,
                        version: None,
                        value,
                        id: None,
                    };
                    model.rows.insert((table, key), row);
                }
            }
            8 => self.hold(batch, model, segment),
            _ => {
                if self.below(6) == 0 {
                    let queue = self.below(6);
                    batch.end_queue(QueueId(queue));
                    model.queues.remove(&queue);
                }
                // Somebody is owed an older message too.
                let older = model.queues.values().flatten().map(|(id, _)| *id).next();
                if let Some(id) = older {
                    let queue = self.below(6);
                    let owed = model.queues.entry(queue).or_default();
                    if model.ever.insert((queue, id)) {
                        batch.owe(MessageId(id), b"again", [QueueId(queue)]);
                        owed.push_back((id, b"again".to_vec()));
                    }
                }
            }
        }
        batch.end();
    }

    fn publish(&mut self, batch: &mut Batch, model: &mut Model, segment: u32) {
        let id = self.next_message + self.below(3);
        self.next_message = id + 1;
        let body = vec![id as u8; self.below(50) as usize];
        batch.message(MessageId(id), u64::MAX, &body);
        model.messages.insert(id, (segment, body.len()));
        let queues: BTreeSet<u64> = (0..self.below(5)).map(|_| self.below(6)).collect();
        for options in [b"".as_slice(), b"q2"] {
            let some: Vec<u64> = queues
                .iter()
                .copied()
                .filter(|queue| (queue % 2 == 0) == options.is_empty())
                .collect();
            batch.owe(
                MessageId(id),
                options,
                some.iter().map(|queue| QueueId(*queue)),
            );
            for queue in some {
                model.ever.insert((queue, id));
                let owed = model.queues.entry(queue).or_default();
                owed.push_back((id, options.to_vec()));
            }
        }
    }

    fn settle(&mut self, batch: &mut Batch, model: &mut Model) {
        let queue = self.below(6);
        let owed = model.queues.entry(queue).or_default();
        let first = self.below(4) as usize;
        // Mostly one of the first, sometimes what it was never owed.
        let id = match owed.get(first) {
            Some((id, _)) => *id,
            None => self.below(20),
        };
        batch.settle(QueueId(queue), MessageId(id));
        owed.retain(|(other, _)| *other != id);
    }

    fn hold(&mut self, batch: &mut Batch, model: &mut Model, segment: u32) {
        let (table, key) = (9, vec![self.below(4) as u8]);
        let standing = model.rows.get(&(table, key.clone()));
        // Sometimes what comes late; but not so late that what it comes after is forgotten.
        let is_late = standing.is_some_and(|row| !row.is_tombstone()) && self.below(2) == 0;
        let version = standing.map_or(10, |row| row.version.unwrap()) + self.below(4);
        let version = version.saturating_sub(u64::from(is_late) * 3);
        let id = (self.below(3) > 0).then(|| {
            let id = self.next_message;
            self.next_message += 1;
            batch.message(MessageId(id), u64::MAX, b"retained");
            model.messages.insert(id, (segment, 8));
            id
        });
        batch.hold(Table(table), &key, version, b"v", id.map(MessageId));
        if standing.is_none_or(|row| row.version.unwrap() <= version) {
            let row = ModelRow {
                segment,
                version: Some(version),
                value: b"v".to_vec(),
                id,
            };
            model.rows.insert((table, key), row);
        }
    }
}

//! Streams in memory, that answer as the store does: dense offsets in the order in which transactions became durable.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use waypost_mqtt::{Filter, Topic};

use crate::rows::message::decode_message;
use crate::stream::{Start, StreamAnswer, StreamAsk, StreamId, StreamRead, StreamRecord, Wanted};

/// A message in a stream.
#[derive(Clone, Debug)]
pub(in crate::tests) struct Entered {
    wall_ms: u64,
    body: Arc<[u8]>,
}

impl Entered {
    fn topic(&self) -> &str {
        decode_message(&self.body).unwrap().topic
    }

    fn is_for(&self, filter: &str) -> bool {
        let topic = Topic::from_validated(self.topic());
        Filter::parse(filter).unwrap().matches(topic)
    }
}

/// All streams of a store.
#[derive(Clone, Debug, Default)]
pub(in crate::tests) struct MemoryStreams {
    all: BTreeMap<StreamId, Vec<Entered>>,
    /// What is below these offsets has been retired.
    firsts: BTreeMap<StreamId, u64>,
    /// Streams that nobody can ask any more.
    gone: BTreeSet<StreamId>,
}

impl MemoryStreams {
    pub fn enter(&mut self, stream: StreamId, wall_ms: u64, body: &Arc<[u8]>) {
        let all = self.all.entry(stream).or_default();
        let wall_ms = all.last().map_or(wall_ms, |last| last.wall_ms.max(wall_ms));
        let body = Arc::clone(body);
        all.push(Entered { wall_ms, body });
    }

    /// What is below an offset is retired.
    pub fn retire(&mut self, stream: StreamId, first: u64) {
        self.firsts.insert(stream, first);
    }

    /// Nobody can ask it any more.
    pub fn remove(&mut self, stream: StreamId) {
        self.gone.insert(stream);
    }

    /// Topics and contents, in order.
    pub fn shown(&self, stream: StreamId) -> Vec<String> {
        let all = self.all.get(&stream).into_iter().flatten();
        let shown = all.map(|entered| {
            let kept = decode_message(&entered.body).unwrap();
            let payload = String::from_utf8_lossy(kept.payload);
            format!("{}={payload}", kept.topic)
        });
        shown.collect()
    }

    /// What a reader gets that began when the stream had so many records: offsets, with the QoS of each.
    pub fn expected(
        &self,
        stream: StreamId,
        start: Start,
        filter: &str,
        len: u64,
    ) -> Vec<(u64, u8)> {
        let mut then = self.clone();
        let all = then.all.entry(stream).or_default();
        all.truncate(usize::try_from(len).unwrap());
        let (picked, from) = match start {
            Start::Offset(offset) => (Vec::new(), offset),
            _ => then.start(stream, start, filter),
        };
        let matching = self.matching(stream, 0, filter);
        let is_meant = |offset: u64| offset >= from || picked.contains(&offset);
        let meant = matching.filter(|(offset, _)| is_meant(*offset));
        let qos = |entered: &Entered| decode_message(&entered.body).unwrap().qos.into();
        meant
            .map(|(offset, entered)| (offset, qos(entered)))
            .collect()
    }

    /// Where the next message will be.
    pub fn next(&self, stream: StreamId) -> u64 {
        self.all.get(&stream).map_or(0, Vec::len) as u64
    }

    fn matching<'a>(
        &'a self,
        stream: StreamId,
        from: u64,
        filter: &'a str,
    ) -> impl DoubleEndedIterator<Item = (u64, &'a Entered)> {
        let from = from.max(self.firsts.get(&stream).copied().unwrap_or_default());
        let all = self.all.get(&stream).map(Vec::as_slice).unwrap_or_default();
        let all = all.iter().enumerate();
        let all = all.map(|(offset, entered)| (offset as u64, entered));
        all.filter(move |(offset, entered)| *offset >= from && entered.is_for(filter))
    }

    /// The answer to a question; `None`: it waits until the stream grows.
    pub fn answer(&self, ask: &StreamAsk) -> Option<StreamAnswer> {
        let StreamAsk {
            stream,
            filter,
            wanted,
            ..
        } = ask;
        if self.gone.contains(stream) {
            return Some(StreamAnswer::Gone);
        }
        let next = self.next(*stream);
        Some(match wanted {
            Wanted::Start(start) => {
                let (picked, offset) = self.start(*stream, *start, filter);
                let picked = picked.into();
                StreamAnswer::Start { picked, offset }
            }
            Wanted::From {
                offset,
                count_max,
                bytes_max,
                waits,
            } => {
                let mut read = StreamRead {
                    next: next.max(*offset),
                    is_end: true,
                    ..StreamRead::default()
                };
                let mut bytes = 0;
                for (at, entered) in self.matching(*stream, *offset, filter) {
                    if read.records.len() >= *count_max as usize || bytes > *bytes_max as usize {
                        (read.next, read.is_end) = (at, false);
                        break;
                    }
                    bytes += entered.body.len();
                    read.records.push(record(at, entered));
                }
                if *waits && read.records.is_empty() {
                    return None;
                }
                StreamAnswer::Records(read)
            }
            Wanted::Picked(picked) => {
                let matching = self.matching(*stream, 0, filter);
                let found = matching.filter(|(offset, _)| picked.contains(offset));
                StreamAnswer::Records(StreamRead {
                    records: found.map(|(at, entered)| record(at, entered)).collect(),
                    next: picked.last().map_or(0, |last| last + 1),
                    is_end: false,
                })
            }
        })
    }

    fn start(&self, stream: StreamId, start: Start, filter: &str) -> (Vec<u64>, u64) {
        let next = self.next(stream);
        match start {
            Start::Offset(offset) => (Vec::new(), offset),
            Start::Time(wall_ms) => {
                let mut all = self.matching(stream, 0, "#");
                let first = all.find(|(_, entered)| entered.wall_ms >= wall_ms);
                (Vec::new(), first.map_or(next, |(offset, _)| offset))
            }
            Start::Last(count) => {
                let last = self.matching(stream, 0, filter).rev();
                let first = last
                    .take(usize::try_from(count).unwrap_or(usize::MAX))
                    .last();
                (Vec::new(), first.map_or(next, |(offset, _)| offset))
            }
            Start::Each(count) => {
                let mut by_topic = BTreeMap::<&str, u64>::new();
                let mut picked = Vec::new();
                for (offset, entered) in self.matching(stream, 0, filter).rev() {
                    let seen = by_topic.entry(entered.topic()).or_default();
                    *seen += 1;
                    if *seen <= count {
                        picked.push(offset);
                    }
                }
                picked.reverse();
                (picked, next)
            }
        }
    }
}

fn record(offset: u64, entered: &Entered) -> StreamRecord {
    // The content lies in the middle of a block.
    let mut block = b"before".to_vec();
    block.extend_from_slice(&entered.body);
    let end = u32::try_from(block.len()).unwrap();
    block.extend_from_slice(b"behind");
    StreamRecord {
        offset,
        wall_ms: entered.wall_ms,
        block: block.into(),
        body: 6..end,
    }
}

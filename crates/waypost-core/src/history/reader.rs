//! One subscription that reads a stream, and where it stands.
//!
//! Everything below `done` is sent, passed over, or owed by the session's own queue; everything below `asked` was
//! asked for. Between the two lies what is in memory: at most one window, in two halves, so that one is read while the
//! other is sent. At the end of its stream a reader has nothing in memory and waits with the others (`tail.rs`).

use std::collections::VecDeque;
use std::sync::Arc;

use crate::index::Subscription;
use crate::stream::{ReaderId, StreamId, StreamRead, StreamRecord, Wanted};

/// A reader, in the order in which a shard gave the numbers: never given twice.
pub(crate) type ReaderNumber = u64;

/// What the readers of one session are.
#[derive(Debug, Default)]
pub(crate) struct Readers {
    all: Vec<Reader>,
    /// Whose turn it is to send.
    turn: usize,
    /// The session waits for the next burst.
    pub is_in_line: bool,
}

/// A subscription that reads a stream.
#[derive(Debug)]
pub(crate) struct Reader {
    pub number: ReaderNumber,
    /// The filter it was subscribed with.
    pub filter: Box<str>,
    pub place: Place,
    pub state: State,
    /// The question whose answer is awaited.
    pub reading: Option<ReaderId>,
    /// Up to where that asks, if it is for picked offsets.
    pub reading_upto: Option<u64>,
    /// What is sent, and what comes after it.
    halves: [Half; 2],
    /// Up to where it is written down how far it has come.
    pub noted: u64,
}

/// What a subscription reads, and how far it has come: what it takes to another shard.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The filter that is read.
    pub inner: Arc<str>,
    pub subscription: Subscription,
    pub stream: StreamId,
    pub name: Arc<str>,
    /// Offsets that are read first, ascending.
    pub picked: Arc<[u64]>,
    /// Then everything from here on.
    pub begin: u64,
    pub done: u64,
    pub asked: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Its SUBACK has not gone, or its session is away.
    Idle,
    /// It reads, or is about to.
    Alone,
    /// It waits at the end of its stream.
    AtTail,
    /// What it read is on its way to the disk, as owed to its session. Then it waits at the end, if it did before.
    Copying { was_at_tail: bool },
}

#[derive(Debug, Default)]
struct Half {
    records: VecDeque<StreamRecord>,
    /// Where the records end.
    next: u64,
    is_end: bool,
    is_used: bool,
    /// It was empty from the beginning.
    is_empty: bool,
}

/// What going on with the next half came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turned {
    /// There is more to send, or to read.
    No,
    /// That was the end of the stream when it was read, a while ago perhaps.
    End,
    /// It is the end of the stream.
    EmptyEnd,
}

impl Place {
    /// Everything that is not read is done with.
    pub fn settle(&mut self) {
        if !self.is_picking(self.done) {
            self.done = self.done.max(self.begin);
        }
        if !self.is_picking(self.asked) {
            self.asked = self.asked.max(self.begin);
        }
        self.asked = self.asked.max(self.done);
    }

    /// It has had everything below an offset, and asked for no more.
    pub fn pass(&mut self, next: u64) {
        self.done = self.done.max(next);
        self.asked = self.done;
        self.settle();
    }

    /// What is to be asked for next: at most `count_max` records, about `bytes_max` bytes.
    pub fn wanted(&self, count_max: u32, bytes_max: u32) -> Wanted {
        let from = self.picked.partition_point(|offset| *offset < self.asked);
        let rest = self.picked.get(from..).unwrap_or_default();
        if rest.is_empty() {
            return Wanted::From {
                offset: self.asked,
                count_max,
                bytes_max,
                waits: false,
            };
        }
        let count = rest.len().min(count_max as usize);
        Wanted::Picked(rest.get(..count).unwrap_or_default().into())
    }

    /// Whether there are picked offsets from this one on.
    fn is_picking(&self, from: u64) -> bool {
        self.picked.last().is_some_and(|last| *last >= from)
    }
}

impl Reader {
    pub fn new(number: ReaderNumber, filter: Box<str>, mut place: Place) -> Self {
        place.asked = place.done;
        place.settle();
        Self {
            number,
            filter,
            noted: place.done,
            place,
            state: State::Idle,
            reading: None,
            reading_upto: None,
            halves: <[Half; 2]>::default(),
        }
    }

    /// A question is asked.
    pub fn begin_read(&mut self, id: ReaderId, wanted: &Wanted) {
        self.reading = Some(id);
        self.reading_upto = match wanted {
            Wanted::Picked(offsets) => offsets.last().map(|last| last.saturating_add(1)),
            _ => None,
        };
    }

    /// Its answer is taken out: what it brought, with the place where it ends set right. `next` of an answer to picked
    /// offsets counts only as far as it says that less was looked at.
    pub fn end_read(&mut self, mut read: StreamRead) -> StreamRead {
        self.reading = None;
        if let Some(upto) = self.reading_upto.take() {
            let after_last = read.records.last().map_or(0, |last| last.offset + 1);
            let looked_at = read.next.max(after_last);
            read.next = if looked_at == 0 {
                upto
            } else {
                looked_at.min(upto)
            };
            read.is_end = false;
        }
        let asked = self.place.asked;
        read.records.retain(|record| record.offset >= asked);
        self.place.asked = asked.max(read.next);
        self.place.settle();
        read.next = self.place.asked;
        read
    }

    /// Takes what was read into memory.
    pub fn fill(&mut self, read: &StreamRead) {
        let at = usize::from(self.halves[0].is_used);
        if let Some(half) = self.halves.get_mut(at) {
            *half = Half {
                is_empty: read.records.is_empty(),
                records: compact(&read.records),
                next: read.next,
                is_end: read.is_end,
                is_used: true,
            };
        }
    }

    /// Whether there is room in memory to read on, and something to read.
    pub fn wants_read(&self) -> bool {
        let [now, ahead] = &self.halves;
        self.state == State::Alone
            && self.reading.is_none()
            && !ahead.is_used
            && !(now.is_used && now.is_end)
    }

    /// What is to be sent next.
    pub fn front(&self) -> Option<&StreamRecord> {
        self.halves[0].records.front()
    }

    /// It is sent, or passed over.
    pub fn pop(&mut self) {
        if let Some(record) = self.halves[0].records.pop_front() {
            self.place.done = self.place.done.max(record.offset.saturating_add(1));
        }
    }

    /// Goes on with the other half where one is used up.
    pub fn turn_over(&mut self) -> Turned {
        let mut turned = Turned::No;
        while self.halves[0].is_used && self.halves[0].records.is_empty() {
            let [now, ahead] = &mut self.halves;
            self.place.done = self.place.done.max(now.next);
            turned = match (now.is_end, now.is_empty) {
                (false, _) => Turned::No,
                (true, false) => Turned::End,
                (true, true) => Turned::EmptyEnd,
            };
            *now = std::mem::take(ahead);
        }
        if self.halves[0].is_used || self.reading.is_some() {
            Turned::No
        } else {
            turned
        }
    }

    /// Forgets what it has in memory, and what it asked for; that is read again. Returns the question that nobody waits
    /// for any more.
    pub fn set_back(&mut self) -> Option<ReaderId> {
        self.halves = <[Half; 2]>::default();
        self.place.pass(0);
        self.reading_upto = None;
        self.reading.take()
    }

    /// Records in memory, and what their blocks take.
    #[cfg(test)]
    pub fn in_memory(&self) -> (usize, usize) {
        let mut blocks: Vec<&Arc<[u8]>> = Vec::new();
        let mut count = 0;
        for record in self.halves.iter().flat_map(|half| &half.records) {
            count += 1;
            if !blocks.iter().any(|block| Arc::ptr_eq(block, &record.block)) {
                blocks.push(&record.block);
            }
        }
        (count, blocks.iter().map(|block| block.len()).sum())
    }
}

/// Records keep the blocks alive that they lie in: where that is more than twice as much as they are, they are copied.
fn compact(records: &[StreamRecord]) -> VecDeque<StreamRecord> {
    let mut kept = VecDeque::with_capacity(records.len());
    for run in records.chunk_by(|one, other| Arc::ptr_eq(&one.block, &other.block)) {
        let bytes: usize = run.iter().map(|record| record.body().len()).sum();
        let block_bytes = run.first().map_or(0, |record| record.block.len());
        if bytes.saturating_mul(2) >= block_bytes {
            kept.extend(run.iter().cloned());
            continue;
        }
        let mut all = Vec::with_capacity(bytes);
        let ranges: Vec<_> = run
            .iter()
            .map(|record| {
                let start = u32::try_from(all.len()).unwrap_or(u32::MAX);
                all.extend_from_slice(record.body());
                start..u32::try_from(all.len()).unwrap_or(u32::MAX)
            })
            .collect();
        let block: Arc<[u8]> = all.into();
        kept.extend(run.iter().zip(ranges).map(|(record, body)| StreamRecord {
            offset: record.offset,
            wall_ms: record.wall_ms,
            block: Arc::clone(&block),
            body,
        }));
    }
    kept
}

impl Readers {
    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Reader> {
        self.all.iter()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Reader> {
        self.all.iter_mut()
    }

    pub fn push(&mut self, reader: Reader) {
        self.all.push(reader);
    }

    pub fn get_mut(&mut self, number: ReaderNumber) -> Option<&mut Reader> {
        self.all.iter_mut().find(|reader| reader.number == number)
    }

    pub fn find(&self, filter: &str) -> Option<&Reader> {
        self.all.iter().find(|reader| *reader.filter == *filter)
    }

    /// Takes the one out that was subscribed with this filter.
    pub fn remove(&mut self, filter: &str) -> Option<Reader> {
        let at = self
            .all
            .iter()
            .position(|reader| *reader.filter == *filter)?;
        Some(self.all.remove(at))
    }

    /// Takes all of them out.
    pub fn take(&mut self) -> Vec<Reader> {
        std::mem::take(&mut self.all)
    }

    /// Whether one has something to send or to ask for.
    pub fn is_waiting(&self) -> bool {
        let mut all = self.all.iter();
        all.any(|reader| reader.front().is_some() || reader.wants_read())
    }

    /// Whether one has something to send.
    pub fn has_some(&self) -> bool {
        self.all.iter().any(|reader| reader.front().is_some())
    }

    /// The next one that has something to send: they take turns.
    pub fn next_to_send(&mut self) -> Option<&mut Reader> {
        let len = self.all.len();
        let has_front = |at: &usize| self.all.get(*at).is_some_and(|it| it.front().is_some());
        let at = (self.turn..len)
            .chain(0..self.turn.min(len))
            .find(has_front)?;
        self.turn = at + 1;
        self.all.get_mut(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_mqtt::SubscriptionOptions;

    fn reader(picked: &[u64], begin: u64) -> Reader {
        let place = Place {
            inner: "#".into(),
            subscription: Subscription {
                options: SubscriptionOptions::default(),
                identifier: 0,
            },
            stream: StreamId(1),
            name: "s".into(),
            picked: picked.into(),
            begin,
            done: 0,
            asked: 0,
        };
        let mut reader = Reader::new(1, "f".into(), place);
        reader.state = State::Alone;
        reader
    }

    fn record(offset: u64, block: &Arc<[u8]>, body: std::ops::Range<u32>) -> StreamRecord {
        StreamRecord {
            offset,
            wall_ms: 0,
            block: Arc::clone(block),
            body,
        }
    }

    fn read(offsets: &[u64], next: u64, is_end: bool) -> StreamRead {
        let block: Arc<[u8]> = vec![0; 8].into();
        StreamRead {
            records: offsets.iter().map(|it| record(*it, &block, 0..8)).collect(),
            next,
            is_end,
        }
    }

    fn ask(reader: &mut Reader) -> Wanted {
        assert!(reader.wants_read());
        let wanted = reader.place.wanted(2, 100);
        reader.begin_read(ReaderId(1), &wanted);
        assert!(!reader.wants_read());
        wanted
    }

    #[test]
    fn picked_offsets_come_first_and_then_everything() {
        let mut reader = reader(&[3, 5, 9], 12);
        assert_eq!(ask(&mut reader), Wanted::Picked([3, 5].into()));
        // 3 is gone.
        let got = reader.end_read(read(&[5], 0, true));
        assert!((got.next, got.is_end) == (6, false));
        reader.fill(&got);
        assert_eq!(ask(&mut reader), Wanted::Picked([9].into()));
        reader.pop();
        assert_eq!(reader.turn_over(), Turned::No);
        assert_eq!(reader.place.done, 6);
        let got = reader.end_read(read(&[9], 10, false));
        reader.fill(&got);
        reader.pop();
        assert_eq!(reader.turn_over(), Turned::No);
        let Wanted::From { offset, .. } = ask(&mut reader) else {
            panic!("everything")
        };
        assert_eq!(offset, 12);
        let got = reader.end_read(read(&[], 12, true));
        reader.fill(&got);
        assert_eq!(reader.turn_over(), Turned::EmptyEnd);
    }

    #[test]
    fn at_most_one_window_is_in_memory() {
        let mut reader = reader(&[], 0);
        ask(&mut reader);
        let got = reader.end_read(read(&[0, 1], 2, false));
        reader.fill(&got);
        ask(&mut reader);
        let got = reader.end_read(read(&[2, 3], 4, false));
        reader.fill(&got);
        assert!(!reader.wants_read(), "both halves are full");
        reader.pop();
        assert_eq!(reader.turn_over(), Turned::No);
        assert!(!reader.wants_read());
        reader.pop();
        assert_eq!(reader.turn_over(), Turned::No);
        assert!(reader.wants_read(), "one is used up");
        assert_eq!(reader.front().map(|record| record.offset), Some(2));
        reader.set_back();
        assert_eq!((reader.place.done, reader.place.asked), (2, 2));
    }

    #[test]
    fn records_do_not_keep_large_blocks_alive() {
        let block: Arc<[u8]> = vec![7; 1_000].into();
        for (bytes, is_copied) in [(499, true), (500, false), (1_000, false)] {
            let got = compact(&[record(4, &block, 0..bytes)]);
            assert_eq!(!Arc::ptr_eq(&got[0].block, &block), is_copied, "{bytes}");
            assert_eq!(got[0].body(), &block[..bytes as usize]);
        }
    }
}

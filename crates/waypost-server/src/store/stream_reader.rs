//! The thread that reads streams for shards: whoever reads history must not stand in the way of queues.
//!
//! One question after the other, each bounded, so that a hundred readers take turns. A question that finds nothing and
//! may wait is parked at its stream, and asked again when that grew. Nothing is missed in between: what grew is heard
//! after it was read.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use waypost_core::ShardId;
use waypost_core::stream::{
    Start, StreamAnswer, StreamAsk, StreamId, StreamRead, StreamRecord, Wanted,
};
use waypost_store::{Disk, Store, StoreError, streams};

use super::clock::WallClock;
use super::figures::{add, set};
use super::stream_desk::StreamDesk;
use crate::history::with_filter;
use crate::mailbox::{Inbound, Mailbox};
use crate::metrics::Stats;

/// How nice this thread is: whoever reads history is behind everybody else. Where shards have all cores to themselves, live
/// traffic would wait for it; where they wait for what it reads, it has their time.
pub(super) const NICENESS: i32 = 19;

/// What could not be read is tried again after this time.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Questions of one shard that may be parked at one stream. The one that waited longest is answered with nothing to make
/// room: whoever asked may ask again.
pub(super) const PARKED_MAX: usize = 1_024;

/// What is to be tried again, by the time. No more than readers ask for, each one thing at a time.
type Postponed = VecDeque<(Instant, ShardId, StreamAsk)>;

pub(super) struct StreamReader<D: Disk> {
    pub(super) store: Arc<Store<D>>,
    pub(super) desk: Arc<StreamDesk>,
    pub(super) mailboxes: Arc<[Arc<Mailbox>]>,
    pub(super) wall: WallClock,
    pub(super) stats: Arc<Stats>,
}

/// What becomes of a question.
enum Outcome {
    Answer(StreamAnswer),
    /// There is more to look at, from this offset on, and nothing was found yet.
    Later(u64),
    /// To be asked again, from this offset on, when the stream grew.
    Park(u64),
}

impl<D: Disk> StreamReader<D> {
    /// Reads until the indexer has ended.
    pub(super) fn run(self) {
        self.look_at_ends();
        let mut parked = Parked::default();
        let mut postponed = Postponed::new();
        loop {
            let patience = postponed
                .front()
                .map(|(due, ..)| due.saturating_duration_since(Instant::now()));
            let taken = self.desk.take(patience);
            if taken.is_ended {
                return;
            }
            for stream in taken.grown {
                self.desk.ask(parked.take(stream));
            }
            if let Some((shard, ask)) = taken.ask {
                self.serve(shard, ask, &mut parked, &mut postponed);
            } else if postponed
                .front()
                .is_some_and(|(due, ..)| *due <= Instant::now())
                && let Some((_, shard, ask)) = postponed.pop_front()
            {
                self.serve(shard, ask, &mut parked, &mut postponed);
            }
            set(&self.stats.server.stream_reads_waiting, parked.count());
        }
    }

    /// A segment that an earlier run did not finish has no table of its blocks: the first search makes it. Now, so that no
    /// subscriber waits for that.
    fn look_at_ends(&self) {
        let now_ms = self.wall.now_ms();
        let (streams, all) = (self.store.streams(), streams::Filter::All);
        for stream in streams.list(now_ms) {
            let end = stream.next.saturating_sub(1);
            // What cannot be read now is told to whoever reads it.
            drop(streams.read(stream.id, end, all, (1, 1), now_ms));
        }
    }

    fn serve(
        &self,
        shard: ShardId,
        mut ask: StreamAsk,
        parked: &mut Parked,
        postponed: &mut Postponed,
    ) {
        match self.answer(&ask) {
            Ok(Outcome::Answer(answer)) => self.tell(shard, &ask, answer),
            Ok(Outcome::Later(next)) => {
                ask.move_to(next);
                self.desk.ask([(shard, ask)]);
            }
            Ok(Outcome::Park(next)) => {
                ask.move_to(next);
                if let Some((shard, ask)) = parked.park(shard, ask) {
                    add(&self.stats.server.stream_reads_crowded_out, 1);
                    let answer = StreamAnswer::Records(StreamRead {
                        records: Vec::new(),
                        next: ask.offset(),
                        is_end: true,
                    });
                    self.tell(shard, &ask, answer);
                }
            }
            Err(error) => {
                log::error!("{ask:?} waits, because the stream cannot be read: {error}");
                add(&self.stats.server.store_reads_failed, 1);
                postponed.push_back((Instant::now() + TRY_AGAIN_AFTER, shard, ask));
            }
        }
    }

    fn tell(&self, shard: ShardId, ask: &StreamAsk, answer: StreamAnswer) {
        if let Some(mailbox) = self.mailboxes.get(usize::from(shard.0)) {
            // A waker fails only when the shard is gone, and then nobody waits for it.
            let _ = mailbox.send([Inbound::StreamAnswer(ask.reader, answer)]);
        }
    }

    fn answer(&self, ask: &StreamAsk) -> Result<Outcome, StoreError> {
        with_filter(&ask.filter, |filter| self.answer_filtered(ask, filter))
    }

    fn answer_filtered(
        &self,
        ask: &StreamAsk,
        filter: streams::Filter<'_>,
    ) -> Result<Outcome, StoreError> {
        let stream = waypost_store::StreamId(ask.stream.0);
        let now_ms = self.wall.now_ms();
        let streams = self.store.streams();
        let read = match &ask.wanted {
            Wanted::Start(start) => {
                let found = streams.find(stream, store_start(*start), filter, now_ms)?;
                let answer = found.map_or(StreamAnswer::Gone, |found| StreamAnswer::Start {
                    picked: found.picked,
                    offset: found.offset,
                });
                return Ok(Outcome::Answer(answer));
            }
            Wanted::Picked(offsets) => streams.pick(stream, offsets, filter, now_ms)?,
            Wanted::From {
                offset,
                count_max,
                bytes_max,
                waits,
            } => {
                let bounds = (*count_max as usize, u64::from(*bytes_max));
                match streams.read(stream, *offset, filter, bounds, now_ms)? {
                    Some(read) if read.records.is_empty() && !read.is_end => {
                        return Ok(Outcome::Later(read.next));
                    }
                    Some(read) if read.records.is_empty() && *waits => {
                        return Ok(Outcome::Park(read.next));
                    }
                    read => read,
                }
            }
        };
        Ok(Outcome::Answer(match read {
            None => StreamAnswer::Gone,
            Some(read) => {
                self.count(ask.stream, &read);
                StreamAnswer::Records(StreamRead {
                    records: read.records.into_iter().map(record).collect(),
                    next: read.next,
                    is_end: read.is_end,
                })
            }
        }))
    }

    fn count(&self, stream: StreamId, read: &streams::StreamRead) {
        let bytes = read.records.iter().map(|record| record.body().len() as u64);
        let streams = &self.stats.streams;
        streams.count_read(stream.0, read.records.len() as u64, bytes.sum());
    }
}

/// Questions that wait until their streams grow, by stream and shard.
#[derive(Debug, Default)]
struct Parked(BTreeMap<(StreamId, ShardId), VecDeque<StreamAsk>>);

impl Parked {
    /// Gives the question for which there is no more room.
    fn park(&mut self, shard: ShardId, ask: StreamAsk) -> Option<(ShardId, StreamAsk)> {
        let waiting = self.0.entry((ask.stream, shard)).or_default();
        // A reader asks one thing at a time: what it asked before, nobody waits for any more.
        waiting.retain(|other| other.reader != ask.reader);
        waiting.push_back(ask);
        if waiting.len() <= PARKED_MAX {
            return None;
        }
        waiting.pop_front().map(|ask| (shard, ask))
    }

    /// Those that wait for a stream.
    fn take(&mut self, stream: StreamId) -> Vec<(ShardId, StreamAsk)> {
        let all = (stream, ShardId(0))..=(stream, ShardId(u16::MAX));
        let found: Vec<_> = self.0.extract_if(all, |_, _| true).collect();
        let asks = |((_, shard), asks): ((StreamId, ShardId), VecDeque<StreamAsk>)| {
            asks.into_iter().map(move |ask| (shard, ask))
        };
        found.into_iter().flat_map(asks).collect()
    }

    fn count(&self) -> u64 {
        self.0.values().map(|waiting| waiting.len() as u64).sum()
    }
}

trait Moves {
    /// Reads on from there.
    fn move_to(&mut self, next: u64);
    /// From where it reads.
    fn offset(&self) -> u64;
}

impl Moves for StreamAsk {
    fn move_to(&mut self, next: u64) {
        if let Wanted::From { offset, .. } = &mut self.wanted {
            *offset = next;
        }
    }

    fn offset(&self) -> u64 {
        match self.wanted {
            Wanted::From { offset, .. } => offset,
            _ => 0,
        }
    }
}

fn store_start(start: Start) -> streams::Start {
    match start {
        Start::Offset(offset) => streams::Start::Offset(offset),
        Start::Time(time_ms) => streams::Start::Time(time_ms),
        Start::Last(count) => streams::Start::Last(count),
        Start::Each(count) => streams::Start::Each(count),
    }
}

fn record(record: streams::StreamRecord) -> StreamRecord {
    StreamRecord {
        offset: record.offset,
        wall_ms: record.wall_ms,
        block: record.block,
        body: record.body,
    }
}

#[cfg(test)]
mod tests {
    use waypost_core::stream::ReaderId;

    use super::*;

    fn ask(reader: u64, stream: u32, offset: u64) -> StreamAsk {
        StreamAsk {
            reader: ReaderId(reader),
            stream: StreamId(stream),
            filter: "#".into(),
            wanted: Wanted::From {
                offset,
                count_max: 1,
                bytes_max: 1,
                waits: true,
            },
        }
    }

    #[test]
    fn what_is_parked_is_bounded_for_each_shard_and_stream() {
        let n = PARKED_MAX as u64;
        let mut parked = Parked::default();
        for reader in 0..n {
            assert_eq!(parked.park(ShardId(0), ask(reader, 1, 5)), None);
        }
        assert_eq!(parked.park(ShardId(1), ask(0, 1, 5)), None);
        assert_eq!(parked.park(ShardId(0), ask(0, 2, 5)), None);
        for reader in n..2 * n {
            assert_eq!(
                parked.park(ShardId(0), ask(reader, 1, 5)),
                Some((ShardId(0), ask(reader - n, 1, 5))),
                "the one that waited longest"
            );
        }
        assert_eq!(parked.count(), n + 2);
        let taken = parked.take(StreamId(1));
        assert_eq!(taken.len(), PARKED_MAX + 1);
        assert_eq!(taken[0], (ShardId(0), ask(n, 1, 5)), "in order");
        assert_eq!(parked.take(StreamId(1)), []);
        assert_eq!(parked.take(StreamId(2)), [(ShardId(0), ask(0, 2, 5))]);
        assert_eq!(parked.count(), 0);
    }

    #[test]
    fn a_reader_waits_once() {
        let mut parked = Parked::default();
        for offset in 0..3 {
            assert_eq!(parked.park(ShardId(0), ask(7, 1, offset)), None);
        }
        assert_eq!(parked.take(StreamId(1)), [(ShardId(0), ask(7, 1, 2))]);
    }

    #[test]
    fn the_desk_hands_out_in_order_and_hears_of_growth_once() {
        let desk = StreamDesk::default();
        desk.ask([(ShardId(0), ask(1, 1, 0)), (ShardId(1), ask(2, 1, 0))]);
        for _ in 0..3 {
            desk.changed([StreamId(1), StreamId(2)]);
        }
        let taken = desk.take(None);
        assert_eq!(taken.ask, Some((ShardId(0), ask(1, 1, 0))));
        assert_eq!(taken.grown, [StreamId(1), StreamId(2)].into());
        let taken = desk.take(None);
        assert_eq!(taken.ask, Some((ShardId(1), ask(2, 1, 0))));
        assert!(taken.grown.is_empty() && !taken.is_ended);
        assert_eq!(desk.take(Some(Duration::ZERO)).ask, None);
        desk.end();
        assert!(desk.take(None).is_ended);
    }
}

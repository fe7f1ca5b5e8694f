//! Looking after streams: what there is, pages of records, taking away, putting in.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use waypost_mqtt::{Filter as TopicFilter, Topic};
use waypost_store::streams::{Filter, Imported, Purge, Start, StreamInfo, StreamRecord};
use waypost_store::{Disk, Store, StoreError, StreamId};

use super::line::{Record, encode_line};
use crate::config::StreamConfig;

/// Why something cannot be done with a stream.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// There is none of that name.
    #[error("there is no stream {0}")]
    NoStream(String),
    /// It is configured, and cannot be taken away.
    #[error("the stream {0} is in the configuration; take it out there first")]
    Configured(String),
    /// The store cannot.
    #[error("the store: {0}")]
    Store(#[from] StoreError),
}

/// Which records are wanted.
#[derive(Clone, Debug)]
pub struct PageAsk {
    /// Where to begin.
    pub start: Start,
    /// Only behind this offset: where the page before ended.
    pub after: Option<u64>,
    /// Only those whose topics match this Topic Filter.
    pub filter: Option<String>,
    /// At most so many.
    pub count_max: usize,
    /// No more once their bodies exceed this.
    pub bytes_max: u64,
}

/// Some records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The records.
    pub records: Vec<StreamRecord>,
    /// Behind which offset the next page goes on; `None` if nothing was looked at.
    pub after: Option<u64>,
    /// Nothing stands behind it.
    pub is_end: bool,
}

impl Page {
    /// A line for each record.
    pub fn lines(&self) -> Vec<u8> {
        let mut lines = Vec::new();
        for record in &self.records {
            encode_line(record, &mut lines);
        }
        lines
    }
}

/// What becomes of the offsets that imported records say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offsets {
    /// They have them again. One that the stream has passed is not put in: it is there, or it was. So an import that broke
    /// off can be made again.
    Keep,
    /// All are put behind what there is.
    New,
}

/// What came of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imports {
    /// Records put in.
    pub imported: u64,
    /// Records left out, because the stream has passed their offsets.
    pub skipped: u64,
    /// The offset that the next record gets.
    pub next: u64,
}

/// A page ends after this time, whatever was found: whoever waits for it shall know that it goes on.
const PAGE_TIME_MAX: Duration = Duration::from_secs(1);

/// The streams of a store, for whoever looks after them.
pub trait Access: Send + Sync {
    /// All there are, by name.
    fn list(&self) -> Vec<StreamInfo>;
    /// Some records.
    fn page(&self, stream: &str, ask: &PageAsk) -> Result<Page, AccessError>;
    /// Takes records away for good.
    fn purge(&self, stream: &str, what: Purge) -> Result<(), AccessError>;
    /// Takes a stream away that is not configured.
    fn forget(&self, stream: &str) -> Result<(), AccessError>;
    /// Puts records in, durably, all of them or none.
    fn import(
        &self,
        stream: &str,
        records: &[Record],
        offsets: Offsets,
    ) -> Result<Imports, AccessError>;

    /// The one of that name.
    fn find(&self, stream: &str) -> Result<StreamInfo, AccessError>;
}

/// What time it is, in milliseconds since 1970.
pub type Clock = Box<dyn Fn() -> u64 + Send + Sync>;

/// What is at work around an open store.
pub struct Around {
    /// Is told that a stream is not as it was.
    pub changed: Box<dyn Fn(StreamId) + Send + Sync>,
    /// Waits until the streams have all that was acknowledged.
    pub catch_up: Box<dyn Fn() + Send + Sync>,
}

impl Around {
    /// Nothing: the store is open for this alone.
    pub fn nothing() -> Self {
        Self {
            changed: Box::new(|_| {}),
            catch_up: Box::new(|| {}),
        }
    }
}

/// The streams of an open store.
pub struct OfStore<D: Disk> {
    store: Arc<Store<D>>,
    now_ms: Clock,
    around: Around,
}

impl<D: Disk> OfStore<D> {
    /// Those of this store.
    pub fn new(store: Arc<Store<D>>, now_ms: Clock, around: Around) -> Self {
        Self {
            store,
            now_ms,
            around,
        }
    }

    fn named(&self, stream: &str) -> Result<StreamInfo, AccessError> {
        let all = self.store.streams().list((self.now_ms)());
        let mut named = all.into_iter().filter(|info| info.name == stream);
        named
            .next()
            .ok_or_else(|| AccessError::NoStream(stream.to_owned()))
    }

    /// Says when the first record entered: the store itself knows only when its block did, or what stood before it.
    fn date(&self, info: &mut StreamInfo) {
        let streams = self.store.streams();
        let first = streams.read(info.id, info.first, Filter::All, (1, 0), (self.now_ms)());
        if let Ok(Some(read)) = first
            && let Some(record) = read.records.first()
        {
            info.first_ms = Some(record.wall_ms);
        }
    }

    /// Of those that are picked one by one ([`Start::Each`]), the ones behind the page before.
    fn picked(
        &self,
        id: StreamId,
        picked: &[u64],
        ask: &PageAsk,
        filter: Filter<'_>,
    ) -> Result<Option<Page>, StoreError> {
        let begin = match ask.after {
            None => 0,
            Some(after) => picked.partition_point(|offset| *offset <= after),
        };
        let mut left = picked.get(begin..).unwrap_or_default();
        let mut page = Page {
            after: ask.after,
            ..Page::default()
        };
        let (started, mut bytes) = (Instant::now(), 0);
        while page.records.len() < ask.count_max
            && bytes <= ask.bytes_max
            && started.elapsed() < PAGE_TIME_MAX
        {
            let count = PICKED_AT_ONCE.min(ask.count_max - page.records.len());
            let (now, _) = left.split_at(count.min(left.len()));
            if now.is_empty() {
                break;
            }
            let streams = self.store.streams();
            let Some(read) = streams.pick(id, now, filter, (self.now_ms)())? else {
                return Ok(None);
            };
            bytes += body_bytes(&read.records);
            page.records.extend(read.records);
            // Less is looked at where messages are large.
            let count = now.partition_point(|offset| *offset < read.next);
            let (done, later) = left.split_at(count);
            page.after = done.last().copied().or(page.after);
            left = later;
        }
        page.is_end = left.is_empty();
        Ok(Some(page))
    }

    fn from(
        &self,
        id: StreamId,
        mut offset: u64,
        ask: &PageAsk,
        filter: Filter<'_>,
    ) -> Result<Option<Page>, StoreError> {
        let mut page = Page::default();
        let (started, mut bytes) = (Instant::now(), 0);
        while !page.is_end
            && page.records.len() < ask.count_max
            && bytes <= ask.bytes_max
            && started.elapsed() < PAGE_TIME_MAX
        {
            let left = (
                ask.count_max - page.records.len(),
                ask.bytes_max.saturating_sub(bytes),
            );
            let streams = self.store.streams();
            let Some(read) = streams.read(id, offset, filter, left, (self.now_ms)())? else {
                return Ok(None);
            };
            bytes += body_bytes(&read.records);
            page.records.extend(read.records);
            offset = read.next;
            page.is_end = read.is_end;
        }
        page.after = offset.checked_sub(1);
        Ok(Some(page))
    }
}

/// So many are looked up before it is seen whether a page is full.
const PICKED_AT_ONCE: usize = 64;

fn body_bytes(records: &[StreamRecord]) -> u64 {
    records
        .iter()
        .map(|record| record.body().len() as u64)
        .sum()
}

/// Does something with a Topic Filter as the store wants it.
pub(crate) fn with_filter<T>(filter: &str, act: impl FnOnce(Filter<'_>) -> T) -> T {
    if !filter.contains(['+', '#']) {
        return act(Filter::Topic(filter));
    }
    let filter = TopicFilter::from_validated(filter);
    act(Filter::Topics(&|topic| {
        filter.matches(Topic::from_validated(topic))
    }))
}

impl<D: Disk> Access for OfStore<D> {
    fn list(&self) -> Vec<StreamInfo> {
        (self.around.catch_up)();
        let mut all = self.store.streams().list((self.now_ms)());
        for info in &mut all {
            self.date(info);
        }
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    fn find(&self, stream: &str) -> Result<StreamInfo, AccessError> {
        (self.around.catch_up)();
        let mut info = self.named(stream)?;
        self.date(&mut info);
        Ok(info)
    }

    fn page(&self, stream: &str, ask: &PageAsk) -> Result<Page, AccessError> {
        if ask.after.is_none() {
            (self.around.catch_up)();
        }
        let id = self.named(stream)?.id;
        let answer = |filter: Filter<'_>| {
            let offset = match (ask.start, ask.after) {
                (Start::Each(_), _) | (_, None) => {
                    let streams = self.store.streams();
                    let found = streams.find(id, ask.start, filter, (self.now_ms)())?;
                    match found {
                        None => return Ok(None),
                        Some(found) if matches!(ask.start, Start::Each(_)) => {
                            return self.picked(id, &found.picked, ask, filter);
                        }
                        Some(found) => found.offset,
                    }
                }
                (_, Some(after)) => after.saturating_add(1),
            };
            self.from(id, offset, ask, filter)
        };
        let page = match &ask.filter {
            None => answer(Filter::All),
            Some(filter) => with_filter(filter, answer),
        };
        page?.ok_or_else(|| AccessError::NoStream(stream.to_owned()))
    }

    fn purge(&self, stream: &str, what: Purge) -> Result<(), AccessError> {
        let id = self.named(stream)?.id;
        let is_there = self.store.purge_stream(id, what, (self.now_ms)())?;
        (self.around.changed)(id);
        is_there
            .then_some(())
            .ok_or_else(|| AccessError::NoStream(stream.to_owned()))
    }

    fn forget(&self, stream: &str) -> Result<(), AccessError> {
        let info = self.find(stream)?;
        if info.is_configured {
            return Err(AccessError::Configured(info.name));
        }
        self.store.streams().forget(stream)?;
        (self.around.changed)(info.id);
        Ok(())
    }

    fn import(
        &self,
        stream: &str,
        records: &[Record],
        offsets: Offsets,
    ) -> Result<Imports, AccessError> {
        let info = self.named(stream)?;
        let now_ms = (self.now_ms)();
        let fresh = fresh(records, offsets, info.next);
        let imported = fresh.iter().map(|(offset, record)| Imported {
            offset: *offset,
            wall_ms: record.wall_ms.unwrap_or(now_ms),
            expires_wall_ms: record.expires_wall_ms,
            body: &record.body,
        });
        let next = self.store.import(info.id, imported, now_ms)?;
        (self.around.changed)(info.id);
        Ok(Imports {
            imported: fresh.len() as u64,
            skipped: (records.len() - fresh.len()) as u64,
            next: next.ok_or_else(|| AccessError::NoStream(stream.to_owned()))?,
        })
    }
}

/// The records that go into a stream that has come to `next`, and the offsets they get there if they say which.
fn fresh(records: &[Record], offsets: Offsets, mut next: u64) -> Vec<(Option<u64>, &Record)> {
    let mut fresh = Vec::with_capacity(records.len());
    for record in records {
        match (record.offset, offsets) {
            (Some(offset), Offsets::Keep) if offset < next => {}
            (Some(offset), Offsets::Keep) => {
                next = offset.saturating_add(1);
                fresh.push((Some(offset), record));
            }
            _ => {
                next += 1;
                fresh.push((None, record));
            }
        }
    }
    fresh
}

/// A stream as the API and `waypost streams` tell it, with what the configuration says of it.
pub fn describe(info: &StreamInfo, configured: Option<&StreamConfig>) -> Value {
    json!({
        "name": info.name,
        "configured": info.is_configured,
        "compact": info.is_compacted,
        "filters": configured.map(|stream| &stream.filters),
        "retention": configured.map(|stream| stream.retention.show()),
        "first": info.first,
        "next": info.next,
        "records": info.records,
        "bytes": info.bytes,
        "segments": info.segments,
        "first_ms": info.first_ms,
        "last_ms": info.last_ms,
        "damaged_blocks": info.damaged_blocks,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stream_has_passed_is_not_put_in_again() {
        let record = |offset| Record {
            offset,
            wall_ms: None,
            expires_wall_ms: u64::MAX,
            body: Vec::new(),
        };
        let said = [Some(3), Some(5), None, Some(6), Some(9), Some(4)];
        let records = said.map(record);
        for (offsets, next, expect) in [
            (Offsets::Keep, 0, vec![Some(3), Some(5), None, Some(9)]),
            (Offsets::Keep, 5, vec![Some(5), None, Some(9)]),
            (Offsets::Keep, 10, vec![None]),
            (Offsets::New, 10, vec![None; 6]),
        ] {
            let fresh = fresh(&records, offsets, next);
            let found: Vec<_> = fresh.iter().map(|(offset, _)| *offset).collect();
            assert_eq!(found, expect, "{offsets:?} {next}");
        }
    }
}

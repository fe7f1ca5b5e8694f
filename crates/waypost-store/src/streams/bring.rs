//! What comes and goes other than through the log: imports and purges. Both hold up who folds, and are over when the views
//! know of them.

use super::{
    Streams,
    api::{Imported, Purge},
    fold::Settled,
    segment::Head,
};
use crate::{disk::Disk, log::LogReader, record::StreamId, store::StoreError};

/// After so many records full blocks are written.
const WRITE_EVERY: usize = 1_000;

impl<D: Disk> Streams<D> {
    /// Appends records from elsewhere. They are shown once the views know of them.
    pub(crate) fn import<'r>(
        &self,
        log: &LogReader<D>,
        id: StreamId,
        records: impl IntoIterator<Item = Imported<'r>>,
    ) -> Result<Option<(u64, Settled<'_>)>, StoreError> {
        let Some(stream) = self.stream(id) else {
            return Ok(None);
        };
        let mut settled = self.settle(Some(log))?;
        {
            let mut state = stream.change();
            state.hidden_from = Some(state.next());
        }
        settled.fold.dirty.insert(id);
        settled.fold.grown.insert(id);
        let brought = self.bring(&stream, records).and_then(|()| {
            self.settle_fold(&mut settled.fold)?;
            Ok(stream.state().head.next)
        });
        match brought {
            Ok(next) => {
                settled.rows = self.rows(&settled.fold);
                Ok(Some((next, settled)))
            }
            Err(error) => {
                if !settled.fold.behind.contains(&id) {
                    self.fall_behind(&stream, &mut settled.fold, &error);
                }
                Err(error.into())
            }
        }
    }

    fn bring<'r>(
        &self,
        stream: &super::stream::Stream<D>,
        records: impl IntoIterator<Item = Imported<'r>>,
    ) -> Result<(), crate::log::LogError> {
        let mut records = records.into_iter().peekable();
        while records.peek().is_some() {
            {
                let mut state = stream.change();
                for record in records.by_ref().take(WRITE_EVERY) {
                    let at = state.head;
                    let head = Head {
                        next: at.next.max(record.offset.unwrap_or(0)),
                        last_ms: at.last_ms.max(record.wall_ms),
                        ..at
                    };
                    self.push(&mut state, head, record.expires_wall_ms, record.body);
                }
            }
            self.write_full(stream)?;
        }
        Ok(())
    }

    /// Takes records away: in the header of a segment of its own stands from where on there are any.
    pub(crate) fn purge(
        &self,
        log: &LogReader<D>,
        id: StreamId,
        what: Purge,
    ) -> Result<Option<Settled<'_>>, StoreError> {
        let Some(stream) = self.stream(id) else {
            return Ok(None);
        };
        let mut settled = self.settle(Some(log))?;
        let next = stream.state().next();
        let floor = match what {
            Purge::All => next,
            Purge::Before(offset) => offset.min(next),
            Purge::BeforeTime(wall_ms) => self.at_time(&stream, wall_ms)?,
        };
        let head = {
            let mut state = stream.change();
            state.head.floor = state.head.floor.max(floor);
            state.head
        };
        settled.fold.dirty.insert(id);
        let done = self
            .end_segment(&stream)
            .and_then(|()| self.begin_segment(&stream, head))
            .and_then(|()| self.settle_fold(&mut settled.fold));
        if let Err(error) = done {
            if !settled.fold.behind.contains(&id) {
                self.fall_behind(&stream, &mut settled.fold, &error);
            }
            return Err(error.into());
        }
        settled.rows = self.rows(&settled.fold);
        Ok(Some(settled))
    }
}

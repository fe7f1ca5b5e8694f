//! Where subscriptions with history begin: found before anything of their SUBSCRIBE is changed.
//!
//! What is counted from the end of a stream has to be fixed before SUBACK goes, so that nothing published after it is
//! passed over. The connection is parked with its packet meanwhile, which is handled anew with what was found.

use std::sync::Arc;

use waypost_mqtt::{Packet, ReasonCode, Role, decode};

use super::from::{Begin, From, FromError};
use super::{Asked, Broker};
use crate::effects::{ConnectionId, Effects, Frame, Now};
use crate::held::Recipient;
use crate::stream::{Start, StreamAnswer, StreamId, Wanted};
use crate::waiting::{For, Waiting};

/// Which stream serves a filter, and where in it the subscription begins.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub stream: StreamId,
    pub name: Arc<str>,
    pub picked: Arc<[u64]>,
    pub begin: u64,
    /// The stream has gone meanwhile.
    pub is_gone: bool,
}

const NO_STREAM: &str = "no stream of the server keeps all that this filter matches";
const NO_SUCH_STREAM: &str = "there is no stream of this name";
const OTHER_STREAM: &str = "the stream of this name does not keep all that this filter matches";

impl Broker {
    /// The stream that serves a filter.
    fn stream_for(&self, from: &From<'_>) -> Result<(StreamId, Arc<str>), &'static str> {
        let stream = match from.stream {
            None => self.streams.serving(from.filter).ok_or(NO_STREAM)?,
            Some(name) => {
                let stream = self.streams.named(name).ok_or(NO_SUCH_STREAM)?;
                if !self.streams.covers(stream.id, from.filter) {
                    return Err(OTHER_STREAM);
                }
                stream
            }
        };
        Ok((stream.id, Arc::clone(&stream.name)))
    }

    /// Whether a stream serves a filter.
    pub(crate) fn check_stream(&self, from: &From<'_>) -> Result<(), FromError> {
        self.stream_for(from).map(drop).map_err(|why| FromError {
            reason: ReasonCode::ImplementationSpecificError,
            why,
        })
    }

    /// Where each of these begins; `None`: they have to be asked for, and the packet is handled anew.
    pub(crate) fn find_starts(
        &mut self,
        id: ConnectionId,
        froms: &[Option<From<'_>>],
        frame: Frame<'_>,
        verdicts: Vec<bool>,
        now: Now,
        out: &mut impl Effects,
    ) -> Option<Vec<Option<Found>>> {
        if let Some(known) = self.history.known.take() {
            return Some(known);
        }
        if froms.iter().all(Option::is_none) {
            return Some(Vec::new());
        }
        let mut found = Vec::with_capacity(froms.len());
        let mut starts = Vec::new();
        let date = self.calendar.date(now.monotonic_ms);
        for (at, from) in froms.iter().enumerate() {
            let stream = from.as_ref().and_then(|it| self.stream_for(it).ok());
            let Some((from, (stream, name))) = from.as_ref().zip(stream) else {
                found.push(None);
                continue;
            };
            let (start, begin) = match from.begin {
                Begin::Offset(offset) => (None, offset),
                Begin::Last(count) => (Some(Start::Last(count)), 0),
                Begin::Each(count) => (Some(Start::Each(count)), 0),
                Begin::Since(ms) => (Some(Start::Time(date.saturating_sub(ms))), 0),
                // One in the future is now: what comes meanwhile is not passed over.
                Begin::Time(ms) => (Some(Start::Time(ms.min(date))), 0),
            };
            starts.extend(start.map(|start| (at, stream, from.filter, start)));
            found.push(Some(Found {
                stream,
                name,
                picked: Arc::default(),
                begin,
                is_gone: false,
            }));
        }
        if starts.is_empty() {
            return Some(found);
        }
        let to = self.recipient(id)?;
        let mut waiting = Box::new(Waiting::new(For::Stream, frame));
        waiting.verdicts = verdicts;
        waiting.starts_awaited = starts.len();
        waiting.starts = found;
        self.park(id, waiting, out);
        for (at, stream, filter, start) in starts {
            let (asked, wanted) = (Asked::Start { to, at }, Wanted::Start(start));
            self.ask_stream(asked, stream, filter.as_str().into(), wanted, out);
        }
        None
    }

    /// A stream says where a subscription begins.
    pub(super) fn start_found(
        &mut self,
        to: Recipient,
        at: usize,
        answer: StreamAnswer,
        now: Now,
        out: &mut impl Effects,
    ) {
        let connection = self.connections.get_mut(to.id);
        let Some(connection) = connection.filter(|connection| connection.opened == to.opened)
        else {
            return;
        };
        let (version, slot) = (connection.version, connection.session);
        let is_for_stream = |waiting: &mut Box<Waiting>| waiting.for_what == For::Stream;
        let Some(mut waiting) = connection.waiting.take_if(is_for_stream) else {
            return;
        };
        if let Some(Some(found)) = waiting.starts.get_mut(at) {
            match answer {
                StreamAnswer::Start { picked, offset } => {
                    found.picked = picked;
                    found.begin = offset;
                }
                _ => found.is_gone = true,
            }
        }
        waiting.starts_awaited = waiting.starts_awaited.saturating_sub(1);
        if waiting.starts_awaited > 0 {
            connection.waiting = Some(waiting);
            return;
        }
        out.read(to.id, true);
        self.verdicts.known = std::mem::take(&mut waiting.verdicts);
        self.verdicts.asked = 0;
        self.history.known = Some(std::mem::take(&mut waiting.starts));
        if let Ok(packet) = decode(&waiting.packet, version, Role::Client)
            && matches!(packet, Packet::Subscribe(_))
        {
            let frame = Frame {
                bytes: &waiting.packet,
                shared: None,
            };
            self.handle_connected(to.id, slot, &packet, frame, now, out);
        }
        self.verdicts.known.clear();
        self.history.known = None;
    }
}

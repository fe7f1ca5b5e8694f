//! Subscriptions that begin with what was: reading streams at a subscriber's pace.
//!
//! Such a subscription is not in the topic index: it is a *reader* of a stream and never of the live fan-out, so that
//! what was and what comes are one sequence. `from.rs` reads what is asked for, `start.rs` finds where that begins before
//! the SUBACK goes, `reader.rs` is one reader, `sending.rs` sends what it read, `turns.rs` is how little of that goes at once, `tail.rs` is where readers wait together
//! at the end of a stream, `copying.rs` puts what a session has to get for sure into its own queue. Not here: the streams
//! themselves (`stream.rs`, `streams.rs`), and who is asked whether somebody may read them.

mod copying;
mod from;
mod reader;
mod sending;
mod start;
mod subscribing;
mod tail;
mod turns;

use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) use self::copying::Copies;
pub(crate) use self::from::{From, from_of, inner_of, spec_of};
pub(crate) use self::reader::{Place, Reader, Readers, State};
use self::sending::Labels;
pub(crate) use self::start::Found;
use self::tail::{TailKey, Tails};
use self::turns::Turns;
use crate::broker::Broker;
use crate::effects::{Effects, Now};
use crate::held::Recipient;
use crate::journal::MessageId;
use crate::stream::{ReaderId, StreamAnswer, StreamAsk, StreamId, Wanted};

/// What a shard knows of readers beside what is in their sessions.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// The last number given to a reader or a question.
    last: u64,
    /// Whose answers are awaited: one for each reader, each tail and each filter of a SUBSCRIBE at most.
    asked: BTreeMap<ReaderId, Asked>,
    tails: Tails,
    /// Readers there are.
    count: usize,
    pub copies: Copies,
    /// Messages up to this number were written down before the start.
    pub restored_upto: MessageId,
    turns: Turns,
    /// Where the filters of a packet that is handled anew begin.
    known: Option<Vec<Option<Found>>>,
    labels: Labels,
    identifiers: Vec<u32>,
}

/// What an answer is for.
#[derive(Debug)]
enum Asked {
    /// A filter of a SUBSCRIBE, by its place in the packet.
    Start {
        to: Recipient,
        at: usize,
    },
    /// A reader of a session.
    Window {
        slot: u32,
        number: u64,
    },
    Tail(TailKey),
}

impl History {
    fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn forget(&mut self, id: Option<ReaderId>) {
        if let Some(id) = id {
            self.asked.remove(&id);
        }
    }
}

impl Broker {
    /// Subscriptions that read a stream.
    pub fn history_readers(&self) -> usize {
        self.history.count
    }

    /// Questions to streams whose answers are awaited, those that wait at an end included.
    pub fn history_reads_waiting(&self) -> usize {
        self.history.asked.len()
    }

    fn ask_stream(
        &mut self,
        asked: Asked,
        stream: StreamId,
        filter: Arc<str>,
        wanted: Wanted,
        out: &mut impl Effects,
    ) -> ReaderId {
        let reader = ReaderId(self.history.next_number());
        self.history.asked.insert(reader, asked);
        self.counters.history_reads += 1;
        out.journal().read_stream(StreamAsk {
            reader,
            stream,
            filter,
            wanted,
        });
        reader
    }

    /// A stream answers. Nobody reads it any more whose number is not known here.
    pub fn handle_stream_answer(
        &mut self,
        reader: ReaderId,
        answer: StreamAnswer,
        now: Now,
        out: &mut impl Effects,
    ) {
        match self.history.asked.remove(&reader) {
            Some(Asked::Start { to, at }) => self.start_found(to, at, answer, now, out),
            Some(Asked::Window { slot, number }) => {
                self.window_read(slot, number, answer, now, out);
            }
            Some(Asked::Tail(key)) => self.tail_read(&key, answer, now, out),
            None => {}
        }
    }
}

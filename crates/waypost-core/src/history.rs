//! Subscriptions that begin with what was: reading streams at a subscriber's pace.

use crate::broker::Broker;
use crate::effects::{Effects, Now};
use crate::stream::{ReaderId, StreamAnswer};

impl Broker {
    /// A stream answers. Nobody reads it any more whose number is not known here.
    pub fn handle_stream_answer(
        &mut self,
        _reader: ReaderId,
        _answer: StreamAnswer,
        _now: Now,
        _out: &mut impl Effects,
    ) {
    }
}

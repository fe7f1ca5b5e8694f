//! What one connection gets once a payload is transcoded: the message that waits for it, and all that comes after.
//!
//! While something waits here nothing passes it, so that a client sees one order. Only the connection that asked for
//! another form waits; whoever takes the message as it came has it already.

use std::collections::VecDeque;
use std::rc::Rc;

use waypost_core::Target;

use super::outbox::Outbox;
use crate::transcode::{JobId, OwnedMessage, Settled};

/// A message that waits for its other form.
pub(super) struct Delivery {
    pub(super) message: Rc<OwnedMessage>,
    pub(super) target: Target,
    pub(super) identifiers: Box<[u32]>,
}

struct Part {
    job: JobId,
    /// What became of its payload, once it is known.
    settled: Option<Rc<Settled>>,
    delivery: Delivery,
    /// What comes after it.
    rest: Outbox,
}

/// Everything that waits in one connection.
#[derive(Default)]
pub(super) struct Later {
    parts: VecDeque<Part>,
    bytes: usize,
}

impl Later {
    /// Bytes that wait, as far as they are known: a message counts with the payload it came with.
    pub(super) fn len(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, job: JobId, delivery: Delivery) {
        self.bytes += delivery.message.payload.len();
        self.parts.push_back(Part {
            job,
            settled: None,
            delivery,
            rest: Outbox::default(),
        });
    }

    /// Where what comes next goes; [`Self::grow`] is to be told how much it is.
    pub(super) fn tail(&mut self) -> Option<&mut Outbox> {
        self.parts.back_mut().map(|part| &mut part.rest)
    }

    pub(super) fn grow(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// The payload of this job is there: those that wait for it may go as soon as it is their turn.
    pub(super) fn mark(&mut self, job: JobId, settled: &Rc<Settled>) {
        for part in self.parts.iter_mut().filter(|part| part.job == job) {
            part.settled = Some(Rc::clone(settled));
        }
    }

    /// The first message, if its payload is there, and what comes after it.
    pub(super) fn next(&mut self) -> Option<(Rc<Settled>, Delivery, Outbox)> {
        let part = self.parts.pop_front_if(|part| part.settled.is_some())?;
        self.bytes -= part.delivery.message.payload.len() + part.rest.len();
        Some((part.settled?, part.delivery, part.rest))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
}

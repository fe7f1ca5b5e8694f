//! Messages kept for clients that cannot take them now: stored once, owed by reference.

use std::collections::VecDeque;
use std::rc::Rc;

use waypost_mqtt::QoS;

use crate::effects::{Message, Now, Payload};
use crate::inflight::Identifiers;
use crate::timers::NEVER;

/// A message kept: one allocation shared by everybody who is owed it.
#[derive(Debug)]
pub(crate) struct StoredMessage {
    topic: Box<str>,
    properties: Box<[u8]>,
    payload: StoredPayload,
    /// Monotonic; [`NEVER`] without Message Expiry Interval.
    pub expires_ms: u64,
}

/// What a message that waits costs besides its bytes: its own record, its allocations, its place in a queue.
const MESSAGE_OVERHEAD_BYTES: usize = 160;

#[derive(Debug)]
enum StoredPayload {
    Own(Box<[u8]>),
    /// A range of a large packet's own buffer.
    Shared {
        buffer: Rc<Vec<u8>>,
        start: usize,
        end: usize,
    },
}

impl StoredMessage {
    pub fn new(message: &Message<'_>, now: Now) -> Self {
        let bytes = message.payload.bytes;
        let payload = message
            .payload
            .shared
            .and_then(|buffer| shared_range(buffer, bytes));
        Self {
            topic: message.topic.into(),
            properties: message.properties.into(),
            payload: payload.unwrap_or_else(|| StoredPayload::Own(bytes.into())),
            expires_ms: message
                .expiry_s
                .map_or(NEVER, |s| now.monotonic_ms + u64::from(s) * 1000),
        }
    }

    pub fn from_parts(
        topic: Box<str>,
        properties: Box<[u8]>,
        payload: Box<[u8]>,
        expires_ms: u64,
    ) -> Self {
        Self {
            topic,
            properties,
            payload: StoredPayload::Own(payload),
            expires_ms,
        }
    }

    pub fn topic(&self) -> &str {
        &self.topic
    }

    pub fn properties(&self) -> &[u8] {
        &self.properties
    }

    pub fn payload(&self) -> Payload<'_> {
        match &self.payload {
            StoredPayload::Own(bytes) => Payload {
                bytes,
                shared: None,
            },
            StoredPayload::Shared { buffer, start, end } => Payload {
                bytes: buffer.get(*start..*end).unwrap_or_default(),
                shared: Some(buffer),
            },
        }
    }

    pub fn is_expired(&self, now: Now) -> bool {
        self.expires_ms <= now.monotonic_ms
    }

    /// As it is sent now. 5 [MQTT-3.3.2-6]: the interval received less the time it waited here.
    pub fn message(&self, now: Now) -> Message<'_> {
        let expiry_s = (self.expires_ms != NEVER).then(|| {
            let left_ms = self.expires_ms.saturating_sub(now.monotonic_ms);
            u32::try_from(left_ms.div_ceil(1000)).unwrap_or(u32::MAX)
        });
        Message {
            topic: &self.topic,
            payload: self.payload(),
            properties: &self.properties,
            expiry_s,
            verbatim: None,
        }
    }

    /// Its topic, properties and payload.
    pub fn bytes(&self) -> usize {
        self.topic.len() + self.properties.len() + self.payload().bytes.len()
    }

    /// What it is charged with where it waits.
    pub fn queued_bytes(&self) -> usize {
        MESSAGE_OVERHEAD_BYTES + self.bytes()
    }
}

/// What messages in the store are charged with beside their bytes.
pub(crate) fn queued_overhead(count: usize) -> usize {
    MESSAGE_OVERHEAD_BYTES.saturating_mul(count)
}

/// What a message is charged with that waits in the store.
pub(crate) fn queued_bytes(message: &Message<'_>) -> usize {
    MESSAGE_OVERHEAD_BYTES
        + message.topic.len()
        + message.properties.len()
        + message.payload.bytes.len()
}

fn shared_range(buffer: &Rc<Vec<u8>>, bytes: &[u8]) -> Option<StoredPayload> {
    let start = (bytes.as_ptr() as usize).checked_sub(buffer.as_ptr() as usize)?;
    let end = start.checked_add(bytes.len())?;
    // A small payload must not keep a large buffer alive.
    (end <= buffer.len() && bytes.len() * 2 >= buffer.len()).then(|| StoredPayload::Shared {
        buffer: Rc::clone(buffer),
        start,
        end,
    })
}

/// A message one session is owed.
#[derive(Debug)]
pub(crate) struct Owed {
    pub message: Rc<StoredMessage>,
    pub identifiers: Identifiers,
    pub qos: QoS,
    pub retain: bool,
}

/// The messages one session waits for, oldest first.
#[derive(Debug)]
pub(crate) struct Queue {
    messages: VecDeque<Owed>,
    bytes: usize,
    /// Nothing expires before; [`NEVER`]: nothing does.
    expires_ms: u64,
    /// Messages ever taken out, to tell what was there at a given time.
    taken: u64,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            messages: VecDeque::new(),
            bytes: 0,
            expires_ms: NEVER,
            taken: 0,
        }
    }
}

impl Queue {
    /// Puts a message at the end, unless a bound is reached.
    pub fn push(&mut self, owed: Owed, messages_max: usize, bytes_max: usize) -> Result<(), Owed> {
        let bytes = owed.message.queued_bytes();
        if self.messages.len() >= messages_max || self.bytes + bytes > bytes_max {
            return Err(owed);
        }
        self.bytes += bytes;
        self.expires_ms = self.expires_ms.min(owed.message.expires_ms);
        self.messages.push_back(owed);
        Ok(())
    }

    /// Takes out what expired. It is looked for only if something can have.
    pub fn take_expired(&mut self, now: Now) -> Vec<Owed> {
        if self.expires_ms > now.monotonic_ms {
            return Vec::new();
        }
        let mut expired = Vec::new();
        self.expires_ms = NEVER;
        for owed in std::mem::take(&mut self.messages) {
            if owed.message.is_expired(now) {
                self.bytes -= owed.message.queued_bytes();
                expired.push(owed);
            } else {
                self.expires_ms = self.expires_ms.min(owed.message.expires_ms);
                self.messages.push_back(owed);
            }
        }
        self.taken += expired.len() as u64;
        expired
    }

    /// When the first message expires, or earlier; [`NEVER`]: none does.
    pub fn expires_ms(&self) -> u64 {
        self.expires_ms
    }

    pub fn front(&self) -> Option<&Owed> {
        self.messages.front()
    }

    pub fn pop(&mut self) -> Option<Owed> {
        let owed = self.messages.pop_front()?;
        self.bytes -= owed.message.queued_bytes();
        self.taken += 1;
        if self.messages.is_empty() {
            self.messages.shrink_to(16);
            self.expires_ms = NEVER;
        }
        Some(owed)
    }

    pub fn len(&self) -> usize {
        self.messages.len()
    }

    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Where the queue begins, counted from the session's first message.
    pub fn head(&self) -> u64 {
        self.taken
    }

    /// Where it ends.
    pub fn tail(&self) -> u64 {
        self.taken + self.messages.len() as u64
    }
}

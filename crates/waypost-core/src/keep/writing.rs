//! One transaction with a message: what stands in it, and until when its content is needed.

use super::By;
use crate::dead::settle;
use crate::debts::Debts;
use crate::delayed::{DelayedPromise, Entry};
use crate::held::Recipient;
use crate::journal::{Journal, MessageId, QueueId, Table, Until};
use crate::rows::{RetainedRow, WILL_KEY_BYTES, packet_key};
use crate::session::ReceivedId;
use crate::stream::StreamId;
use crate::unsettled::Settled;

/// A row, or a debt, that ends with what is published from it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Spent {
    Will([u8; WILL_KEY_BYTES]),
    Delayed(Entry),
    Dead(Settled),
}

impl Spent {
    pub fn of(by: By) -> Option<Self> {
        match by {
            By::Will(row) => row.map(Self::Will),
            By::Delayed(entry) => Some(Self::Delayed(entry)),
            By::DeadLetter(settled) => settled.map(Self::Dead),
            By::Server | By::Client | By::Waiting { .. } => None,
        }
    }

    pub fn delete(self, journal: &mut dyn Journal) {
        match self {
            Self::Will(key) => journal.delete(Table::WILLS, &key),
            Self::Delayed(entry) => journal.delete(Table::DELAYED, &entry.due.key()),
            Self::Dead(settled) => settle(settled, journal),
        }
    }

    pub fn promise(self) -> Option<DelayedPromise> {
        match self {
            Self::Will(_) | Self::Dead(_) => None,
            Self::Delayed(entry) => Some(DelayedPromise::Published(entry)),
        }
    }
}

/// What a retained publish leaves behind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retains<'a> {
    pub topic: &'a str,
    pub stamp: u64,
    pub is_cleared: bool,
}

/// The identifier of a `QoS` 2 message, as it is written down.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReceivedRow {
    pub queue: QueueId,
    pub packet_id: u16,
    /// What tells the message from another under this identifier.
    pub content: u64,
}

impl ReceivedRow {
    pub fn write(self, journal: &mut dyn Journal) {
        let key = packet_key(self.queue, self.packet_id);
        journal.put(Table::RECEIVED, &key, &self.content.to_le_bytes());
    }
}

/// A transaction to be.
pub(super) struct Writing<'a> {
    pub id: Option<MessageId>,
    pub expires_wall_ms: u64,
    /// Until when it is needed.
    pub needed_wall_ms: u64,
    pub body: &'a [u8],
    pub debts: Option<&'a mut Debts>,
    /// In ascending order.
    pub entered: &'a [StreamId],
    pub retains: Option<Retains<'a>>,
    pub received: Option<ReceivedRow>,
    pub spent: Option<Spent>,
}

impl Writing<'_> {
    pub fn is_empty(&self) -> bool {
        self.debts.as_ref().is_none_or(|debts| debts.is_empty())
            && self.entered.is_empty()
            && self.retains.is_none()
            && self.received.is_none()
            && self.spent.is_none()
    }

    pub fn write(self, journal: &mut dyn Journal) {
        let debts = self.debts.filter(|debts| !debts.is_empty());
        let is_held = self.retains.is_some_and(|retains| !retains.is_cleared);
        let enters = !self.entered.is_empty();
        if let Some(id) = self.id.filter(|_| debts.is_some() || enters || is_held) {
            journal.message(id, self.needed_wall_ms, self.body);
            if enters {
                journal.enter(id, self.entered);
            }
            if let Some(debts) = debts {
                debts.for_each(|options, queues| journal.owe(id, options, queues));
            }
        }
        if let Some(Retains {
            topic,
            stamp,
            is_cleared,
        }) = self.retains
        {
            let row = RetainedRow {
                stamp,
                expires_wall_ms: self.expires_wall_ms,
            };
            let (key, value) = (topic.as_bytes(), row.encode());
            let id = self.id.filter(|_| !is_cleared);
            journal.hold(Table::RETAINED, key, stamp, &value, id);
        }
        if let Some(row) = self.received {
            row.write(journal);
        }
        if let Some(spent) = self.spent {
            spent.delete(journal);
        }
    }
}

/// How far a transaction is to come at once: for whoever waits for an answer, and so that a crash finds what was
/// delayed as published soon after it was.
pub fn waited(until: Until, to: Option<Recipient>, spent: Option<Spent>) -> Until {
    if to.is_some() || matches!(spent, Some(Spent::Delayed(_))) {
        until
    } else {
        Until::Whenever
    }
}

pub fn row_of(received: Option<(ReceivedId, Option<ReceivedRow>)>) -> Option<ReceivedRow> {
    received.and_then(|(_, row)| row)
}

/// Until when the content of a message is needed. What is to be buried is, after it expired.
pub fn needed_wall_ms(debts: &Debts, expires_wall_ms: u64) -> u64 {
    if debts.outlives && !debts.is_empty() {
        u64::MAX
    } else {
        expires_wall_ms
    }
}

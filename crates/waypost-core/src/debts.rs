//! Who is owed a message that is kept: collected during fan-out, on the publisher's shard and on those it asks.

use waypost_mqtt::{QoS, Topic};

use crate::broker::Broker;
use crate::journal::{MessageId, Numbers, QueueId, Until};
use crate::mail::Origin;
use crate::policy::Policies;
use crate::rows::options;

/// The debtors of one message.
#[derive(Debug, Default)]
pub(crate) struct Debts {
    /// Under which number it is kept, once there is somebody to keep it for.
    pub id: Option<MessageId>,
    keeping: Keeping,
    /// Options of debts, one after the other.
    options: Vec<u8>,
    entries: Vec<Debt>,
    /// Other shards that were asked and have not answered.
    pub asked: u16,
    /// Some debtor needs it after it expired: to bury it.
    pub outlives: bool,
}

/// Whether a message is kept at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Keeping {
    /// Nobody asked yet: a look at the policies costs, and most messages have no such debtors.
    #[default]
    Unknown,
    No,
    Yes(Until),
}

#[derive(Clone, Copy, Debug)]
struct Debt {
    start: u32,
    end: u32,
    queue: QueueId,
}

impl Debts {
    /// Of a message that is not kept.
    pub const NONE: Self = Self {
        id: None,
        keeping: Keeping::No,
        options: Vec::new(),
        entries: Vec::new(),
        asked: 0,
        outlives: false,
    };

    /// Whether a message can have any. What nobody has to acknowledge is kept for nobody; a message of the server's own,
    /// which may come in the middle of another's fan-out, neither.
    pub fn are_of(origin: Origin) -> bool {
        origin.qos != QoS::AtMostOnce && origin.publisher != 0
    }

    /// Where the debtors of a message are collected: here, or nowhere.
    pub fn of<'a>(&'a mut self, origin: Origin, is_kept: bool, none: &'a mut Self) -> &'a mut Self {
        if Self::are_of(origin) {
            self.begin(is_kept, origin.kept);
            self
        } else {
            none
        }
    }

    /// A message comes whose debtors are to be collected. `asked`: its number, if another shard asked.
    pub fn begin(&mut self, is_kept: bool, asked: Option<MessageId>) {
        self.id = asked;
        self.keeping = match (is_kept, asked) {
            (_, Some(_)) => Keeping::Yes(Until::Durable),
            (true, None) => Keeping::Unknown,
            (false, None) => Keeping::No,
        };
        self.options.clear();
        self.entries.clear();
        self.asked = 0;
        self.outlives = false;
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn push(&mut self, queue: QueueId, qos: QoS, retain: bool, identifiers: &[u32]) {
        let start = self.options.len();
        options::encode(qos, retain, identifiers, &mut self.options);
        let last = self.entries.last().copied();
        let is_same = last.is_some_and(|last| self.options_of(last) == self.options.get(start..));
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let (start, end) = match last {
            Some(last) if is_same => {
                self.options.truncate(start);
                (last.start, last.end)
            }
            _ => (place(start), place(self.options.len())),
        };
        self.entries.push(Debt { start, end, queue });
    }

    fn options_of(&self, debt: Debt) -> Option<&[u8]> {
        self.options.get(debt.start as usize..debt.end as usize)
    }

    /// Adds what another shard collected.
    pub fn add(&mut self, other: &Self) {
        self.outlives |= other.outlives;
        let base = u32::try_from(self.options.len()).unwrap_or(u32::MAX);
        self.options.extend_from_slice(&other.options);
        self.entries.extend(other.entries.iter().map(|debt| Debt {
            start: debt.start.saturating_add(base),
            end: debt.end.saturating_add(base),
            queue: debt.queue,
        }));
    }

    /// Calls `each` with every kind of options and the queues that are owed the message so, ascending.
    pub fn for_each(&mut self, mut each: impl FnMut(&[u8], &[QueueId])) {
        let Self {
            options, entries, ..
        } = self;
        let of = |debt: &Debt| {
            options
                .get(debt.start as usize..debt.end as usize)
                .unwrap_or_default()
        };
        entries.sort_unstable_by(|one, other| {
            let is_same = (one.start, one.end) == (other.start, other.end);
            let by_options = if is_same {
                core::cmp::Ordering::Equal
            } else {
                of(one).cmp(of(other))
            };
            by_options.then(one.queue.cmp(&other.queue))
        });
        let mut queues = Vec::with_capacity(entries.len());
        for same in entries.chunk_by(|one, other| of(one) == of(other)) {
            queues.clear();
            queues.extend(same.iter().map(|debt| debt.queue));
            queues.dedup();
            if let Some(first) = same.first() {
                each(of(first), &queues);
            }
        }
    }
}

/// The debts of one message with what it takes to decide whether it is kept.
pub(crate) struct Ledger<'a> {
    pub debts: &'a mut Debts,
    pub policies: &'a Policies,
    pub numbers: &'a Numbers,
    pub topic: &'a str,
}

impl Ledger<'_> {
    /// How far a transaction with this message has to come before its publisher is answered; `None`: it is not kept.
    pub fn until(&mut self) -> Option<Until> {
        if self.debts.keeping == Keeping::Unknown {
            let topic = Topic::parse(self.topic).ok();
            let until = topic.and_then(|topic| self.policies.for_topic(topic).durability.until());
            self.debts.keeping = until.map_or(Keeping::No, Keeping::Yes);
        }
        match self.debts.keeping {
            Keeping::Yes(until) => Some(until),
            Keeping::No | Keeping::Unknown => None,
        }
    }

    /// Whether a queue would be told a number.
    pub fn is_kept(&mut self) -> bool {
        self.until().is_some()
    }

    /// The number of the message; `None`: it is not kept.
    pub fn id(&mut self) -> Option<MessageId> {
        self.until()?;
        Some(*self.debts.id.get_or_insert_with(|| self.numbers.message()))
    }

    /// Another shard is to be asked for its debtors, under this number. `None`: the message is not kept.
    pub fn ask(&mut self) -> Option<MessageId> {
        let id = self.id()?;
        self.debts.asked += 1;
        Some(id)
    }

    /// A queue is owed the message, and is told its number. `None`: the message is not kept, what is owed of it waits
    /// in memory.
    pub fn owe(
        &mut self,
        queue: QueueId,
        qos: QoS,
        retain: bool,
        identifiers: &[u32],
    ) -> Option<MessageId> {
        let id = self.id()?;
        self.debts.push(queue, qos, retain, identifiers);
        Some(id)
    }
}

impl Broker {
    /// A queue is owed a message whose fan-out goes on, and is told its number. `None`: it is not kept, what is owed of
    /// it waits in memory.
    pub(crate) fn owe(
        &mut self,
        topic: &str,
        origin: Origin,
        queue: QueueId,
        retain: bool,
        identifiers: &[u32],
    ) -> Option<MessageId> {
        if !Debts::are_of(origin) {
            return None;
        }
        let mut ledger = Ledger {
            debts: &mut self.scratch.debts,
            policies: &self.policies,
            numbers: &self.numbers,
            topic,
        };
        ledger.owe(queue, origin.qos, retain, identifiers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::options::decode_options;

    #[test]
    fn debts_are_grouped_by_options_and_sorted() {
        let (policies, numbers) = (Policies::default(), Numbers::default());
        let mut debts = Debts::default();
        debts.begin(true, None);
        let mut ledger = Ledger {
            debts: &mut debts,
            policies: &policies,
            numbers: &numbers,
            topic: "a",
        };
        let id = ledger.owe(QueueId(9), QoS::AtLeastOnce, false, &[]);
        assert_eq!(id, Some(MessageId(1)));
        ledger.owe(QueueId(3), QoS::AtLeastOnce, false, &[]);
        ledger.owe(QueueId(4), QoS::ExactlyOnce, false, &[8]);
        ledger.owe(QueueId(1), QoS::AtLeastOnce, false, &[]);
        let mut other = Debts::default();
        other.begin(true, id);
        Ledger {
            debts: &mut other,
            ..ledger
        }
        .owe(QueueId(2), QoS::AtLeastOnce, false, &[]);
        debts.add(&other);
        let mut seen = Vec::new();
        debts.for_each(|options, queues| {
            let qos = decode_options(options).unwrap().qos;
            seen.push((qos, queues.iter().map(|queue| queue.0).collect::<Vec<_>>()));
        });
        assert_eq!(
            seen,
            [
                (QoS::AtLeastOnce, vec![1, 2, 3, 9]),
                (QoS::ExactlyOnce, vec![4])
            ]
        );
        assert_eq!(numbers.message(), MessageId(2), "one number for all");
    }
}

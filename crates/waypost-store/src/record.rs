//! The operations that the log records, as bytes.
//!
//! Records are a sequence of transactions, each with its length before it (four bytes, little endian). In a transaction
//! every operation is a byte that says which, then its fields: numbers as LEB128, byte strings with their length before
//! them. Debtors are written as differences, so that a further one costs about a byte.
//!
//! Deliberately not here: checksums, blocks and files (`log`), and what the operations come to (`views`).

mod reading;

pub use self::reading::{
    Damage, Ops, Queues, StreamIds, Transaction, Transactions, decode_ops, decode_transactions,
};

/// The most bytes that one transaction may have.
pub const TRANSACTION_BYTES_MAX: usize = 1 << 30;

/// A message's number: unique in a data directory, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u64);

/// The number of a durable session or of a durable group: never used again, small and dense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub u64);

/// The number of a stream: never used again, small and dense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

/// A table of keyed rows. What it holds is the core's matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(pub u8);

/// One operation, as it was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op<'a> {
    /// A message's content.
    Message {
        /// Its number.
        id: MessageId,
        /// When it need not be kept any more, in wall time; `u64::MAX` = never.
        expires_wall_ms: u64,
        /// What the core wrote.
        body: &'a [u8],
    },
    /// Queues that are owed a message. There may be several for one message, with different options.
    Owe {
        /// Which message.
        id: MessageId,
        /// How they are owed it, in the core's words.
        options: &'a [u8],
        /// Who, ascending.
        queues: Queues<'a>,
    },
    /// A message, whose content stands before this in the same transaction, enters streams.
    Enter {
        /// Which message.
        id: MessageId,
        /// Which streams, ascending.
        streams: StreamIds<'a>,
    },
    /// A queue is owed a message no more; without effect if it was not.
    Settle {
        /// Which queue.
        queue: QueueId,
        /// Which message.
        id: MessageId,
    },
    /// A queue ends, with everything that it was owed.
    EndQueue {
        /// Which queue.
        queue: QueueId,
    },
    /// A row, in place of the one with this key.
    Put {
        /// In which table.
        table: Table,
        /// Its key.
        key: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
    /// No row with this key.
    Delete {
        /// In which table.
        table: Table,
        /// Its key.
        key: &'a [u8],
    },
    /// A row that keeps a message alive, unless there is one with this key and a higher version.
    Hold {
        /// In which table.
        table: Table,
        /// Its key.
        key: &'a [u8],
        /// Its version; the highest stays.
        version: u64,
        /// Its value.
        value: &'a [u8],
        /// The message; `None`: nothing is held, a tombstone.
        id: Option<MessageId>,
    },
}

const MESSAGE: u8 = 1;
const OWE: u8 = 2;
const SETTLE: u8 = 3;
const END_QUEUE: u8 = 4;
const PUT: u8 = 5;
const DELETE: u8 = 6;
const HOLD: u8 = 7;
const HOLD_NOTHING: u8 = 8;
const ENTER: u8 = 9;

/// Bytes of the length before a transaction.
const LENGTH: usize = 4;

/// Transactions being written down. What was recorded since the last [`Batch::end`] belongs to the transaction that the
/// next one ends.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Where the open transaction begins; the end of `bytes` while nothing of it is recorded.
    open: usize,
}

impl Batch {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records [`Op::Message`].
    pub fn message(&mut self, id: MessageId, expires_wall_ms: u64, body: &[u8]) {
        self.begin(MESSAGE);
        self.number(id.0);
        // Never, the largest number, becomes the smallest.
        self.number(expires_wall_ms.wrapping_add(1));
        self.string(body);
    }

    /// Records [`Op::Owe`] for queues in ascending order; without effect if there are none.
    pub fn owe(
        &mut self,
        id: MessageId,
        options: &[u8],
        queues: impl IntoIterator<Item = QueueId>,
    ) {
        let mut last: Option<u64> = None;
        for QueueId(queue) in queues {
            match last.and_then(|last| queue.checked_sub(last)) {
                Some(0) => continue,
                Some(step) => self.number(step),
                // The first, or one out of order, which begins another list.
                None => {
                    if last.is_some() {
                        self.number(0);
                    }
                    self.begin(OWE);
                    self.number(id.0);
                    self.string(options);
                    self.number(queue);
                }
            }
            last = Some(queue);
        }
        if last.is_some() {
            self.number(0);
        }
    }

    /// Records [`Op::Enter`] for streams in ascending order; without effect if there are none.
    pub fn enter(&mut self, id: MessageId, streams: impl IntoIterator<Item = StreamId>) {
        let mut last: Option<u32> = None;
        for StreamId(stream) in streams {
            match last {
                None => {
                    self.begin(ENTER);
                    self.number(id.0);
                    self.number(stream.into());
                }
                Some(last) if last < stream => self.number((stream - last).into()),
                Some(_) => continue,
            }
            last = Some(stream);
        }
        if last.is_some() {
            self.number(0);
        }
    }

    /// Records [`Op::Settle`].
    pub fn settle(&mut self, queue: QueueId, id: MessageId) {
        self.begin(SETTLE);
        self.number(queue.0);
        self.number(id.0);
    }

    /// Records [`Op::EndQueue`].
    pub fn end_queue(&mut self, queue: QueueId) {
        self.begin(END_QUEUE);
        self.number(queue.0);
    }

    /// Records [`Op::Put`].
    pub fn put(&mut self, table: Table, key: &[u8], value: &[u8]) {
        self.begin(PUT);
        self.bytes.push(table.0);
        self.string(key);
        self.string(value);
    }

    /// Records [`Op::Delete`].
    pub fn delete(&mut self, table: Table, key: &[u8]) {
        self.begin(DELETE);
        self.bytes.push(table.0);
        self.string(key);
    }

    /// Records [`Op::Hold`].
    pub fn hold(
        &mut self,
        table: Table,
        key: &[u8],
        version: u64,
        value: &[u8],
        id: Option<MessageId>,
    ) {
        self.begin(if id.is_some() { HOLD } else { HOLD_NOTHING });
        self.bytes.push(table.0);
        self.string(key);
        self.number(version);
        self.string(value);
        if let Some(MessageId(id)) = id {
            self.number(id);
        }
    }

    /// Records an operation that was read elsewhere.
    pub fn push(&mut self, op: Op<'_>) {
        match op {
            Op::Message {
                id,
                expires_wall_ms,
                body,
            } => self.message(id, expires_wall_ms, body),
            Op::Owe {
                id,
                options,
                queues,
            } => self.owe(id, options, queues.iter()),
            Op::Enter { id, streams } => self.enter(id, streams.iter()),
            Op::Settle { queue, id } => self.settle(queue, id),
            Op::EndQueue { queue } => self.end_queue(queue),
            Op::Put { table, key, value } => self.put(table, key, value),
            Op::Delete { table, key } => self.delete(table, key),
            Op::Hold {
                table,
                key,
                version,
                value,
                id,
            } => self.hold(table, key, version, value, id),
        }
    }

    /// Ends the transaction. Says whether there was one: an empty one leaves no trace.
    pub fn end(&mut self) -> bool {
        let len = self.bytes.len().saturating_sub(self.open + LENGTH);
        // A length beyond the bound is refused by the log.
        let written = u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
        let Some(head) = self.bytes.get_mut(self.open..self.open + LENGTH) else {
            return false;
        };
        head.copy_from_slice(&written);
        self.open = self.bytes.len();
        true
    }

    /// How many bytes are recorded, those of an open transaction included.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing is recorded.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The transactions that have ended.
    pub fn records(&self) -> &[u8] {
        self.bytes.get(..self.open).unwrap_or_default()
    }

    /// Takes the transactions that have ended out of it; an open one stays.
    pub fn take(&mut self) -> Vec<u8> {
        let open = self.bytes.split_off(self.open);
        self.open = 0;
        std::mem::replace(&mut self.bytes, open)
    }

    /// Forgets everything but the room it took.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.open = 0;
    }

    fn begin(&mut self, kind: u8) {
        if self.bytes.len() == self.open {
            self.bytes.extend_from_slice(&[0; LENGTH]);
        }
        self.bytes.push(kind);
    }

    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        self.bytes.push(number.to_le_bytes()[0]);
    }

    fn string(&mut self, string: &[u8]) {
        self.number(string.len() as u64);
        self.bytes.extend_from_slice(string);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An operation that owns what it says.
    #[derive(Clone, Debug)]
    enum Said {
        Message(u64, u64, Vec<u8>),
        Owe(u64, Vec<u8>, Vec<u64>),
        Enter(u64, Vec<u32>),
        Settle(u64, u64),
        EndQueue(u64),
        Put(u8, Vec<u8>, Vec<u8>),
        Delete(u8, Vec<u8>),
        Hold(u8, Vec<u8>, u64, Vec<u8>, Option<u64>),
    }

    impl Said {
        fn record(&self, batch: &mut Batch) {
            match self.clone() {
                Self::Message(id, expires, body) => batch.message(MessageId(id), expires, &body),
                Self::Owe(id, options, queues) => {
                    batch.owe(MessageId(id), &options, queues.into_iter().map(QueueId));
                }
                Self::Enter(id, streams) => {
                    batch.enter(MessageId(id), streams.into_iter().map(StreamId));
                }
                Self::Settle(queue, id) => batch.settle(QueueId(queue), MessageId(id)),
                Self::EndQueue(queue) => batch.end_queue(QueueId(queue)),
                Self::Put(table, key, value) => batch.put(Table(table), &key, &value),
                Self::Delete(table, key) => batch.delete(Table(table), &key),
                Self::Hold(table, key, version, value, id) => {
                    batch.hold(Table(table), &key, version, &value, id.map(MessageId));
                }
            }
        }

        fn read(op: Op<'_>) -> Self {
            match op {
                Op::Message {
                    id,
                    expires_wall_ms,
                    body,
                } => Self::Message(id.0, expires_wall_ms, body.to_vec()),
                Op::Owe {
                    id,
                    options,
                    queues,
                } => {
                    let read: Vec<_> = queues.iter().map(|queue| queue.0).collect();
                    assert_eq!(read.len(), queues.count());
                    Self::Owe(id.0, options.to_vec(), read)
                }
                Op::Enter { id, streams } => {
                    Self::Enter(id.0, streams.iter().map(|stream| stream.0).collect())
                }
                Op::Settle { queue, id } => Self::Settle(queue.0, id.0),
                Op::EndQueue { queue } => Self::EndQueue(queue.0),
                Op::Put { table, key, value } => Self::Put(table.0, key.to_vec(), value.to_vec()),
                Op::Delete { table, key } => Self::Delete(table.0, key.to_vec()),
                Op::Hold {
                    table,
                    key,
                    version,
                    value,
                    id,
                } => Self::Hold(
                    table.0,
                    key.to_vec(),
                    version,
                    value.to_vec(),
                    id.map(|id| id.0),
                ),
            }
        }
    }

    impl PartialEq for Said {
        fn eq(&self, other: &Self) -> bool {
            format!("{self:?}") == format!("{other:?}")
        }
    }

    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![
            0..200u64,
            any::<u64>(),
            Just(u64::MAX),
            Just(127),
            Just(128)
        ]
    }

    fn string() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(any::<u8>(), 0..200)
    }

    fn said() -> impl Strategy<Value = Said> {
        let queues = proptest::collection::btree_set(number(), 1..20);
        let queues = queues.prop_map(|set| set.into_iter().collect());
        let streams = proptest::collection::btree_set(any::<u32>(), 1..9);
        let streams = streams.prop_map(|set| set.into_iter().collect());
        let table = any::<u8>();
        prop_oneof![
            (number(), streams).prop_map(|(id, streams)| Said::Enter(id, streams)),
            (number(), number(), string()).prop_map(|(id, at, body)| Said::Message(id, at, body)),
            (number(), string(), queues).prop_map(|(id, how, who)| Said::Owe(id, how, who)),
            (number(), number()).prop_map(|(queue, id)| Said::Settle(queue, id)),
            number().prop_map(Said::EndQueue),
            (table, string(), string()).prop_map(|(table, key, row)| Said::Put(table, key, row)),
            (any::<u8>(), string()).prop_map(|(table, key)| Said::Delete(table, key)),
            (
                any::<u8>(),
                string(),
                number(),
                string(),
                proptest::option::of(number())
            )
                .prop_map(|(table, key, version, row, id)| Said::Hold(
                    table, key, version, row, id
                )),
        ]
    }

    fn script() -> impl Strategy<Value = Vec<Vec<Said>>> {
        proptest::collection::vec(proptest::collection::vec(said(), 1..6), 0..6)
    }

    fn recorded(script: &[Vec<Said>]) -> Batch {
        let mut batch = Batch::new();
        for transaction in script {
            for said in transaction {
                said.record(&mut batch);
            }
            assert!(batch.end());
        }
        batch
    }

    /// What can be read, transaction by transaction, and what stopped it.
    fn read(records: &[u8]) -> (Vec<Vec<Said>>, Option<Damage>) {
        let mut script = Vec::new();
        for transaction in decode_transactions(records) {
            let ops = match transaction {
                Ok(transaction) => transaction.ops(),
                Err(damage) => return (script, Some(damage)),
            };
            let mut said = Vec::new();
            for op in ops {
                match op {
                    Ok(op) => said.push(Said::read(op)),
                    Err(damage) => return (script, Some(damage)),
                }
            }
            script.push(said);
        }
        (script, None)
    }

    proptest! {
        #[test]
        fn what_was_recorded_is_read(script in script()) {
            let batch = recorded(&script);
            prop_assert_eq!(batch.len(), batch.records().len());
            prop_assert_eq!(read(batch.records()), (script.clone(), None));
            let flat: Vec<_> = decode_ops(batch.records()).map(|op| Said::read(op.unwrap())).collect();
            prop_assert_eq!(flat, script.concat());
            let mut again = Batch::new();
            for transaction in decode_transactions(batch.records()) {
                transaction.unwrap().ops().for_each(|op| again.push(op.unwrap()));
                again.end();
            }
            prop_assert_eq!(again.records(), batch.records());
        }

    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn what_is_cut_off_is_whole_transactions_or_damage(script in script()) {
            let batch = recorded(&script);
            for len in 0..batch.len() {
                let (found, damage) = read(&batch.records()[..len]);
                prop_assert_eq!(&found[..], &script[..found.len()]);
                let whole = recorded(&found).len();
                prop_assert_eq!(damage.is_none(), whole == len);
                prop_assert!(damage.is_none_or(|damage| damage.offset <= len));
            }
        }

        #[test]
        fn no_damage_panics_or_runs_on(script in script(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut records = recorded(&script).take();
            if !records.is_empty() {
                let at = at.index(records.len());
                records[at] = byte;
            }
            let (_, damage) = read(&records);
            let flat = decode_ops(&records).filter_map(Result::err).last();
            prop_assert_eq!(flat, damage);
            prop_assert!(damage.is_none_or(|damage| damage.offset <= records.len()));
        }

        #[test]
        fn no_bytes_panic(records in string()) {
            let _ = read(&records);
        }
    }

    #[test]
    fn a_further_debtor_costs_a_byte() {
        let mut one = Batch::new();
        one.owe(MessageId(7), b"\x01", [QueueId(1_000_000)]);
        let mut many = Batch::new();
        many.owe(MessageId(7), b"\x01", (1_000_000..1_001_000).map(QueueId));
        assert_eq!(many.len() - one.len(), 999);
    }

    #[test]
    fn debtors_out_of_order_are_all_owed() {
        let mut batch = Batch::new();
        batch.owe(MessageId(7), b"", [5, 5, 9, 2, 3].map(QueueId));
        batch.end();
        let (script, damage) = read(batch.records());
        let expected = [
            Said::Owe(7, vec![], vec![5, 9]),
            Said::Owe(7, vec![], vec![2, 3]),
        ];
        assert_eq!((script, damage), (vec![expected.to_vec()], None));
    }

    #[test]
    fn nothing_leaves_no_trace() {
        let mut batch = Batch::new();
        assert!(!batch.end());
        batch.owe(MessageId(1), b"options", []);
        assert!(!batch.end());
        assert!(batch.is_empty());
    }

    #[test]
    fn an_open_transaction_stays_when_the_ended_are_taken() {
        let mut batch = Batch::new();
        batch.end_queue(QueueId(1));
        batch.end();
        batch.end_queue(QueueId(2));
        let first = batch.take();
        batch.end_queue(QueueId(3));
        batch.end();
        assert_eq!(read(&first).0, [[Said::EndQueue(1)]]);
        assert_eq!(
            read(batch.records()).0,
            [[Said::EndQueue(2), Said::EndQueue(3)]]
        );
        batch.clear();
        assert!(batch.is_empty() && batch.records().is_empty());
    }

    #[test]
    fn damage_says_where() {
        let records = [2, 0, 0, 0, END_QUEUE, 1, 1, 0, 0, 0, 0xff];
        let damage = decode_ops(&records).last().unwrap().unwrap_err();
        assert_eq!(
            damage.to_string(),
            "byte 10 of the records: no operation has this number"
        );
        let too_large = [0xff; 4];
        let damage = decode_ops(&too_large).last().unwrap().unwrap_err();
        assert_eq!(
            damage.to_string(),
            "byte 0 of the records: no length of a transaction"
        );
    }
}

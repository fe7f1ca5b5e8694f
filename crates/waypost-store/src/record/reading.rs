//! Reading records: transactions, then their operations, with nothing copied.

use thiserror::Error;

use super::{
    DELETE, END_QUEUE, ENTER, HOLD, HOLD_NOTHING, LENGTH, MESSAGE, MessageId, OWE, Op, PUT,
    QueueId, SETTLE, StreamId, TRANSACTION_BYTES_MAX, Table,
};

/// Records that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("byte {offset} of the records: {what}")]
pub struct Damage {
    /// Where in the records.
    pub offset: usize,
    /// What is wrong there.
    pub what: &'static str,
}

/// The transactions of some records, up to the first that cannot be told from the next.
pub fn decode_transactions(records: &[u8]) -> Transactions<'_> {
    Transactions {
        cursor: Cursor {
            rest: records,
            offset: 0,
        },
    }
}

/// The operations of all transactions of some records, up to the first damage.
pub fn decode_ops(records: &[u8]) -> impl Iterator<Item = Result<Op<'_>, Damage>> {
    let mut transactions = decode_transactions(records);
    let mut ops = Ops::default();
    std::iter::from_fn(move || {
        loop {
            if let Some(op) = ops.next() {
                if op.is_err() {
                    transactions.cursor.rest = &[];
                }
                return Some(op);
            }
            match transactions.next()? {
                Ok(transaction) => ops = transaction.ops(),
                Err(damage) => return Some(Err(damage)),
            }
        }
    })
}

/// The iterator of [`decode_transactions`].
#[derive(Clone, Debug)]
pub struct Transactions<'a> {
    cursor: Cursor<'a>,
}

impl<'a> Iterator for Transactions<'a> {
    type Item = Result<Transaction<'a>, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.cursor.rest.is_empty() {
            return None;
        }
        let transaction = self.cursor.transaction();
        if transaction.is_err() {
            self.cursor.rest = &[];
        }
        Some(transaction)
    }
}

/// One transaction, not yet looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transaction<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Transaction<'a> {
    /// Its operations, up to the first that cannot be read.
    pub fn ops(self) -> Ops<'a> {
        Ops {
            cursor: Cursor {
                rest: self.bytes,
                offset: self.offset,
            },
        }
    }

    /// How many bytes of records it is, with its length before it.
    pub fn record_bytes(self) -> usize {
        LENGTH + self.bytes.len()
    }
}

/// The iterator of [`Transaction::ops`].
#[derive(Clone, Debug, Default)]
pub struct Ops<'a> {
    cursor: Cursor<'a>,
}

impl<'a> Iterator for Ops<'a> {
    type Item = Result<Op<'a>, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.cursor.rest.is_empty() {
            return None;
        }
        let op = self.cursor.op();
        if op.is_err() {
            self.cursor.rest = &[];
        }
        Some(op)
    }
}

/// The debtors of an [`Op::Owe`]: at least one, ascending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queues<'a> {
    bytes: &'a [u8],
    count: usize,
}

impl<'a> Queues<'a> {
    /// How many.
    pub fn count(self) -> usize {
        self.count
    }

    /// Who.
    pub fn iter(self) -> impl ExactSizeIterator<Item = QueueId> + Clone + use<'a> {
        let mut cursor = Cursor {
            rest: self.bytes,
            offset: 0,
        };
        let mut last = 0u64;
        (0..self.count).map(move |_| {
            // Checked when it was decoded.
            last = last.wrapping_add(cursor.number("").unwrap_or_default());
            QueueId(last)
        })
    }
}

/// The streams of an [`Op::Enter`]: at least one, ascending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamIds<'a>(Queues<'a>);

impl<'a> StreamIds<'a> {
    /// Which.
    pub fn iter(self) -> impl ExactSizeIterator<Item = StreamId> + Clone + use<'a> {
        // Checked when it was decoded.
        let number = |QueueId(number)| StreamId(u32::try_from(number).unwrap_or(u32::MAX));
        self.0.iter().map(number)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Cursor<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Cursor<'a> {
    fn transaction(&mut self) -> Result<Transaction<'a>, Damage> {
        let before = *self;
        let head = self.take(LENGTH, "a transaction's length is cut off")?;
        let len = head
            .iter()
            .rev()
            .fold(0, |len, byte| len << 8 | usize::from(*byte));
        if len == 0 || len > TRANSACTION_BYTES_MAX {
            return Err(before.damage("no length of a transaction"));
        }
        let offset = self.offset;
        let bytes = self.take(len, "a transaction is cut off")?;
        Ok(Transaction { bytes, offset })
    }

    fn op(&mut self) -> Result<Op<'a>, Damage> {
        let before = *self;
        match self.byte("an operation is cut off")? {
            MESSAGE => Ok(Op::Message {
                id: self.id()?,
                expires_wall_ms: self.number("when a message expires")?.wrapping_sub(1),
                body: self.string("a message's content")?,
            }),
            OWE => Ok(Op::Owe {
                id: self.id()?,
                options: self.string("the options of what is owed")?,
                queues: self.queues()?,
            }),
            ENTER => Ok(Op::Enter {
                id: self.id()?,
                streams: self.streams()?,
            }),
            SETTLE => Ok(Op::Settle {
                queue: self.queue()?,
                id: self.id()?,
            }),
            END_QUEUE => Ok(Op::EndQueue {
                queue: self.queue()?,
            }),
            PUT => Ok(Op::Put {
                table: self.table()?,
                key: self.string("a row's key")?,
                value: self.string("a row's value")?,
            }),
            DELETE => Ok(Op::Delete {
                table: self.table()?,
                key: self.string("a row's key")?,
            }),
            kind @ (HOLD | HOLD_NOTHING) => Ok(Op::Hold {
                table: self.table()?,
                key: self.string("a row's key")?,
                version: self.number("a row's version")?,
                value: self.string("a row's value")?,
                id: (kind == HOLD).then(|| self.id()).transpose()?,
            }),
            _ => Err(before.damage("no operation has this number")),
        }
    }

    fn id(&mut self) -> Result<MessageId, Damage> {
        self.number("a message's number").map(MessageId)
    }

    fn queue(&mut self) -> Result<QueueId, Damage> {
        self.number("a queue's number").map(QueueId)
    }

    fn table(&mut self) -> Result<Table, Damage> {
        self.byte("a table's number").map(Table)
    }

    fn queues(&mut self) -> Result<Queues<'a>, Damage> {
        const WHAT: &str = "the queues that are owed a message";
        let before = *self;
        let mut last = self.number(WHAT)?;
        let mut count = 1;
        loop {
            let at = *self;
            let step = self.number(WHAT)?;
            if step == 0 {
                break;
            }
            last = last.checked_add(step).ok_or_else(|| at.damage(WHAT))?;
            count += 1;
        }
        let len = self.offset - before.offset;
        let bytes = before.rest.get(..len).unwrap_or_default();
        Ok(Queues { bytes, count })
    }

    fn streams(&mut self) -> Result<StreamIds<'a>, Damage> {
        let before = *self;
        let streams = self.queues()?;
        match streams.iter().last() {
            Some(QueueId(last)) if u32::try_from(last).is_ok() => Ok(StreamIds(streams)),
            _ => Err(before.damage("the streams that a message enters")),
        }
    }

    fn string(&mut self, what: &'static str) -> Result<&'a [u8], Damage> {
        let before = *self;
        let len = self.number(what)?;
        let len = usize::try_from(len).map_err(|_| before.damage(what))?;
        self.take(len, what)
    }

    fn number(&mut self, what: &'static str) -> Result<u64, Damage> {
        let before = *self;
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte(what)?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(before.damage(what));
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(before.damage(what))
    }

    fn byte(&mut self, what: &'static str) -> Result<u8, Damage> {
        let (byte, rest) = self.rest.split_first().ok_or_else(|| self.damage(what))?;
        self.rest = rest;
        self.offset += 1;
        Ok(*byte)
    }

    fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], Damage> {
        let (taken, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or_else(|| self.damage(what))?;
        self.rest = rest;
        self.offset += len;
        Ok(taken)
    }

    fn damage(&self, what: &'static str) -> Damage {
        Damage {
            offset: self.offset,
            what,
        }
    }
}

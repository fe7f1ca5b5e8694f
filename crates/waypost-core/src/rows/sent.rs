//! A `QoS` 2 message sent to a session that outlives its connection, and not completed.

use super::keys::read;
use super::{RowError, put_number};
use crate::journal::MessageId;

const VERSION: u8 = 1;
const IS_RECEIVED: u8 = 1;

/// What the server waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// PUBREC: the message may have to be sent again.
    PubRec,
    /// PUBCOMP: it is the client's.
    PubComp,
}

/// What is kept of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentRow {
    /// Which message.
    pub id: MessageId,
    /// What the server waits for.
    pub stage: Stage,
    /// Where it stands among the others that were sent to this session.
    pub order: u64,
}

impl SentRow {
    /// Appends it in its encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let received = match self.stage {
            Stage::PubRec => 0,
            Stage::PubComp => IS_RECEIVED,
        };
        out.extend_from_slice(&[VERSION, received]);
        put_number(self.id.0, out);
        put_number(self.order, out);
    }

    /// Reads it back.
    pub fn decode_sent(value: &[u8]) -> Result<Self, RowError> {
        read(value, VERSION, |reader| {
            let flags = reader.byte()?;
            if flags & !IS_RECEIVED != 0 {
                return None;
            }
            let stage = if flags & IS_RECEIVED == 0 {
                Stage::PubRec
            } else {
                Stage::PubComp
            };
            let id = MessageId(reader.number()?);
            let order = reader.number()?;
            Some(Self { id, stage, order })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::keys::tests::check;

    #[test]
    fn is_read_back_and_nothing_else_is() {
        for stage in [Stage::PubRec, Stage::PubComp] {
            let row = SentRow {
                id: MessageId(u64::MAX),
                stage,
                order: 0,
            };
            let mut value = Vec::new();
            row.encode(&mut value);
            assert_eq!(SentRow::decode_sent(&value), Ok(row));
            check(&value, |value| {
                SentRow::decode_sent(value).map(|row| row.id)
            });
        }
    }
}

//! A group that is owed messages: its key is the Topic Filter of its subscriptions.

use super::keys::read;
use super::{RowError, put_number};
use crate::journal::QueueId;

const VERSION: u8 = 1;

/// Appends it in its encoding.
pub fn encode_group(queue: QueueId, out: &mut Vec<u8>) {
    out.push(VERSION);
    put_number(queue.0, out);
}

/// Reads the number of its queue.
pub fn decode_group(value: &[u8]) -> Result<QueueId, RowError> {
    read(value, VERSION, |reader| Some(QueueId(reader.number()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::keys::tests::check;

    #[test]
    fn is_read_back_and_nothing_else_is() {
        for queue in [QueueId(1), QueueId(300), QueueId(u64::MAX)] {
            let mut value = Vec::new();
            encode_group(queue, &mut value);
            assert_eq!(decode_group(&value), Ok(queue));
            check(&value, decode_group);
        }
    }
}

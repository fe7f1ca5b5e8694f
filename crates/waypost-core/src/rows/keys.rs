//! The keys of the rows of sessions, and what is common to their values.
//!
//! Keys begin with the number of the session's queue, most significant byte first, so that the rows of a session lie
//! together. The first byte of a value is the version of its encoding: a newer server reads what an older one wrote,
//! an older one refuses what it does not know.

use core::num::NonZeroU64;

use super::Reader;
use crate::journal::QueueId;

/// Why a row cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowError {
    /// A newer server wrote it.
    Version(u8),
    /// It ends too early, goes on behind its end, or says what cannot be.
    Malformed,
}

/// The key of a session's only row in a table.
pub fn queue_key(queue: QueueId) -> [u8; 8] {
    queue.0.to_be_bytes()
}

/// The key of a session's row for a Packet Identifier.
pub fn packet_key(queue: QueueId, packet_id: u16) -> [u8; 10] {
    let mut key = [0; 10];
    if let Some((head, tail)) = key.split_at_mut_checked(8) {
        head.copy_from_slice(&queue.0.to_be_bytes());
        tail.copy_from_slice(&packet_id.to_be_bytes());
    }
    key
}

/// Bytes of a will's key.
pub const WILL_KEY_BYTES: usize = 16;

/// A message number that a will got when its connection came.
pub type WillNumber = NonZeroU64;

/// The key of a session's will. Each has its own: the one before may be on its way to the log still.
pub fn will_key(queue: QueueId, number: WillNumber) -> [u8; WILL_KEY_BYTES] {
    (u128::from(queue.0) << 64 | u128::from(number.get())).to_be_bytes()
}

/// The key of a session's row for a Topic Filter.
pub fn filter_key(queue: QueueId, filter: &str, key: &mut Vec<u8>) {
    key.clear();
    key.extend_from_slice(&queue.0.to_be_bytes());
    key.extend_from_slice(filter.as_bytes());
}

/// Whose row a key is.
pub fn decode_queue_key(key: &[u8]) -> Result<QueueId, RowError> {
    let key = key.try_into().map_err(|_| RowError::Malformed)?;
    Ok(QueueId(u64::from_be_bytes(key)))
}

/// Whose row a key is, and for which Packet Identifier.
pub fn decode_packet_key(key: &[u8]) -> Result<(QueueId, u16), RowError> {
    let (queue, packet_id) = key.split_at_checked(8).ok_or(RowError::Malformed)?;
    let packet_id = packet_id.try_into().map_err(|_| RowError::Malformed)?;
    Ok((decode_queue_key(queue)?, u16::from_be_bytes(packet_id)))
}

/// Whose will a key is of, and its number.
pub fn decode_will_key(key: &[u8]) -> Result<(QueueId, WillNumber), RowError> {
    let (queue, number) = key.split_at_checked(8).ok_or(RowError::Malformed)?;
    let number = number.try_into().map_err(|_| RowError::Malformed)?;
    let number = WillNumber::new(u64::from_be_bytes(number)).ok_or(RowError::Malformed)?;
    Ok((decode_queue_key(queue)?, number))
}

/// Whose row a key is, and for which Topic Filter.
pub fn decode_filter_key(key: &[u8]) -> Result<(QueueId, &str), RowError> {
    let (queue, filter) = key.split_at_checked(8).ok_or(RowError::Malformed)?;
    let filter = core::str::from_utf8(filter).map_err(|_| RowError::Malformed)?;
    Ok((decode_queue_key(queue)?, filter))
}

/// Reads a value of a known version to its end.
pub(super) fn read<'a, T>(
    value: &'a [u8],
    version: u8,
    read: impl FnOnce(&mut Reader<'a>) -> Option<T>,
) -> Result<T, RowError> {
    let (first, rest) = value.split_first().ok_or(RowError::Malformed)?;
    if *first != version {
        return Err(RowError::Version(*first));
    }
    let mut reader = Reader::new(rest);
    let row = read(&mut reader).ok_or(RowError::Malformed)?;
    if reader.is_empty() {
        Ok(row)
    } else {
        Err(RowError::Malformed)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[test]
    fn keys_sort_by_queue_and_are_read_back() {
        let queue = QueueId(0x0102_0304);
        assert!(queue_key(QueueId(255)) < queue_key(QueueId(256)));
        assert_eq!(decode_queue_key(&queue_key(queue)), Ok(queue));
        assert_eq!(decode_packet_key(&packet_key(queue, 7)), Ok((queue, 7)));
        let number = |number| WillNumber::new(number).unwrap();
        assert!(will_key(queue, number(255)) < will_key(queue, number(256)));
        assert_eq!(
            decode_will_key(&will_key(queue, number(1 << 40))),
            Ok((queue, number(1 << 40)))
        );
        let mut key = Vec::new();
        filter_key(queue, "a/#", &mut key);
        assert_eq!(decode_filter_key(&key), Ok((queue, "a/#")));
        for len in 0..8 {
            assert!(decode_queue_key(&key[..len]).is_err());
            assert!(decode_packet_key(&key[..len]).is_err());
            assert!(decode_filter_key(&key[..len]).is_err());
        }
    }

    /// Every truncation, every longer one and every other version of a value is refused.
    pub(in crate::rows) fn check<T>(value: &[u8], decode: impl Fn(&[u8]) -> Result<T, RowError>) {
        for len in 0..value.len() {
            assert!(
                decode(&value[..len]).is_err(),
                "{len} bytes of {value:02x?}"
            );
        }
        let mut other = value.to_vec();
        other.push(0);
        assert!(decode(&other).is_err());
        for version in (0..=u8::MAX).filter(|version| *version != value[0]) {
            other[0] = version;
            assert_eq!(decode(&other).err(), Some(RowError::Version(version)));
        }
        for at in 0..value.len() {
            for bit in 0..8 {
                let mut broken = value.to_vec();
                broken[at] ^= 1 << bit;
                let _ = decode(&broken);
            }
        }
    }
}

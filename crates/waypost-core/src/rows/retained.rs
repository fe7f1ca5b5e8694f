//! What is known of a retained message without reading it.

use super::keys::{RowError, read};

/// The version of the encoding.
const VERSION: u8 = 1;

/// The value of a row of retained messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetainedRow {
    /// The stamp it was published with: the highest is the last word.
    pub stamp: u64,
    /// When it expires, in milliseconds since 1970; `u64::MAX` = never.
    pub expires_wall_ms: u64,
}

impl RetainedRow {
    /// The value of the row.
    pub fn encode(&self) -> [u8; 17] {
        let mut value = [VERSION; 17];
        if let Some((stamp, expires)) = value
            .get_mut(1..)
            .and_then(|rest| rest.split_at_mut_checked(8))
        {
            stamp.copy_from_slice(&self.stamp.to_le_bytes());
            expires.copy_from_slice(&self.expires_wall_ms.to_le_bytes());
        }
        value
    }

    /// Reads the value of a row.
    pub fn decode_retained(value: &[u8]) -> Result<Self, RowError> {
        read(value, VERSION, |reader| {
            Some(Self {
                stamp: u64::from_le_bytes(reader.array()?),
                expires_wall_ms: u64::from_le_bytes(reader.array()?),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_comes_back() {
        let row = RetainedRow {
            stamp: 7 << 16 | 3,
            expires_wall_ms: u64::MAX,
        };
        let value = row.encode();
        assert_eq!(RetainedRow::decode_retained(&value), Ok(row));
        for len in 0..value.len() {
            assert_eq!(
                RetainedRow::decode_retained(&value[..len]),
                Err(RowError::Malformed)
            );
        }
        assert_eq!(
            RetainedRow::decode_retained(&[9; 17]),
            Err(RowError::Version(9))
        );
    }
}

//! A subscription of a session that outlives its connection.

use waypost_mqtt::SubscriptionOptions;

use super::keys::read;
use super::{RowError, put_number};
use crate::index::Subscription;

const VERSION: u8 = 1;

/// What was asked for with a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionRow {
    /// Options and identifier.
    pub subscription: Subscription,
    /// Its weight, where the filter is a group's.
    pub weight: u16,
}

impl SubscriptionRow {
    /// Appends it in its encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let Subscription {
            options,
            identifier,
        } = self.subscription;
        out.extend_from_slice(&[VERSION, options.as_u8()]);
        put_number(identifier.into(), out);
        put_number(self.weight.into(), out);
    }

    /// Reads it back.
    pub fn decode_subscription(value: &[u8]) -> Result<Self, RowError> {
        read(value, VERSION, |reader| {
            Some(Self {
                subscription: Subscription {
                    options: SubscriptionOptions::from_u8(reader.byte()?)?,
                    identifier: u32::try_from(reader.number()?).ok()?,
                },
                weight: u16::try_from(reader.number()?).ok()?,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::keys::tests::check;

    #[test]
    fn is_read_back_and_nothing_else_is() {
        for byte in 0..=u8::MAX {
            let Some(options) = SubscriptionOptions::from_u8(byte) else {
                continue;
            };
            let row = SubscriptionRow {
                subscription: Subscription {
                    options,
                    identifier: 268_435_455,
                },
                weight: 1_000,
            };
            let mut value = Vec::new();
            row.encode(&mut value);
            assert_eq!(SubscriptionRow::decode_subscription(&value), Ok(row));
            check(&value, SubscriptionRow::decode_subscription);
        }
    }
}

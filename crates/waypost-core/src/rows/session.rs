//! A session that outlives its connection.

use super::keys::read;
use super::{RowError, put_bytes, put_number};
use crate::journal::MessageId;

const VERSION: u8 = 1;
const HAS_USER: u8 = 1;
const IS_AWAY: u8 = 2;

/// What is kept of a session beside its subscriptions and messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow<'a> {
    /// Its client id.
    pub client_id: &'a str,
    /// The user who made it; `None` = anonymous.
    pub user: Option<&'a str>,
    /// Session Expiry Interval, in seconds.
    pub expiry_s: u32,
    /// When its connection ended, in milliseconds since 1970; `None`: it has one.
    pub away_since_ms: Option<u64>,
    /// What was in flight at `QoS` 1 when its connection ended, in the order it was sent.
    pub in_flight: Vec<InFlight>,
}

/// A message that was sent and is not finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// The identifier it was sent under.
    pub packet_id: u16,
    /// Which message.
    pub id: MessageId,
}

impl<'a> SessionRow<'a> {
    /// Appends it in its encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let flags = self.user.map_or(0, |_| HAS_USER) | self.away_since_ms.map_or(0, |_| IS_AWAY);
        out.extend_from_slice(&[VERSION, flags]);
        put_number(self.expiry_s.into(), out);
        put_bytes(self.client_id.as_bytes(), out);
        if let Some(user) = self.user {
            put_bytes(user.as_bytes(), out);
        }
        if let Some(away_since_ms) = self.away_since_ms {
            put_number(away_since_ms, out);
            put_number(self.in_flight.len() as u64, out);
            for InFlight { packet_id, id } in &self.in_flight {
                put_number((*packet_id).into(), out);
                put_number(id.0, out);
            }
        }
    }

    /// Reads it back.
    pub fn decode_session(value: &'a [u8]) -> Result<Self, RowError> {
        read(value, VERSION, |reader| {
            let flags = reader.byte()?;
            if flags & !(HAS_USER | IS_AWAY) != 0 {
                return None;
            }
            let expiry_s = u32::try_from(reader.number()?).ok()?;
            let client_id = reader.text()?;
            let user = if flags & HAS_USER != 0 {
                Some(reader.text()?)
            } else {
                None
            };
            let mut away_since_ms = None;
            let mut in_flight = Vec::new();
            if flags & IS_AWAY != 0 {
                away_since_ms = Some(reader.number()?);
                let count = usize::try_from(reader.number()?).ok()?;
                if count > reader.rest().len() {
                    return None;
                }
                in_flight.reserve_exact(count);
                for _ in 0..count {
                    let packet_id = u16::try_from(reader.number()?).ok()?;
                    let id = MessageId(reader.number()?);
                    in_flight.push(InFlight { packet_id, id });
                }
            }
            Some(Self {
                client_id,
                user,
                expiry_s,
                away_since_ms,
                in_flight,
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
        for away_since_ms in [None, Some(1_700_000_000_000)] {
            for user in [None, Some(""), Some("ünal")] {
                let row = SessionRow {
                    client_id: "sensor-17",
                    user,
                    expiry_s: u32::MAX,
                    away_since_ms,
                    in_flight: away_since_ms
                        .map(|_| InFlight {
                            packet_id: 65_535,
                            id: MessageId(1 << 40),
                        })
                        .into_iter()
                        .collect(),
                };
                let mut value = Vec::new();
                row.encode(&mut value);
                assert_eq!(SessionRow::decode_session(&value), Ok(row));
                check(&value, |value| {
                    SessionRow::decode_session(value).map(|row| row.expiry_s)
                });
            }
        }
    }
}

//! The rows of sessions and of delayed messages: what can be read is written back byte for byte.
//!
//! Input: which table, then a key or a value.

use waypost_core::rows::group::{decode_group, encode_group};
use waypost_core::rows::{
    DelayedRow, Due, ReaderRow, RetainedRow, SentRow, SessionRow, SubscriptionRow, WillRow,
    decode_filter_key, decode_packet_key, decode_picked, decode_queue_key, decode_will_key,
    encode_picked, filter_key, packet_key, queue_key, will_key,
};

/// Runs the target.
pub fn run(input: &[u8]) {
    let Some((table, bytes)) = input.split_first() else {
        return;
    };
    let mut written = Vec::new();
    let is_read = match table % 14 {
        7 => decode_group(bytes)
            .map(|queue| encode_group(queue, &mut written))
            .is_ok(),
        0 => SessionRow::decode_session(bytes)
            .map(|row| row.encode(&mut written))
            .is_ok(),
        1 => SubscriptionRow::decode_subscription(bytes)
            .map(|row| row.encode(&mut written))
            .is_ok(),
        2 => SentRow::decode_sent(bytes)
            .map(|row| row.encode(&mut written))
            .is_ok(),
        3 => decode_queue_key(bytes)
            .map(|queue| written.extend_from_slice(&queue_key(queue)))
            .is_ok(),
        4 => decode_packet_key(bytes)
            .map(|(queue, id)| written.extend_from_slice(&packet_key(queue, id)))
            .is_ok(),
        5 => WillRow::decode_will(bytes)
            .map(|row| row.encode(&mut written))
            .is_ok(),
        6 => RetainedRow::decode_retained(bytes)
            .map(|row| written.extend_from_slice(&row.encode()))
            .is_ok(),
        8 => decode_will_key(bytes)
            .map(|(queue, number)| written.extend_from_slice(&will_key(queue, number)))
            .is_ok(),
        10 => DelayedRow::decode_delayed(bytes)
            .map(|row| row.encode(&mut written))
            .is_ok(),
        11 => Due::decode_due(bytes)
            .map(|due| written.extend_from_slice(&due.key()))
            .is_ok(),
        12 => ReaderRow::decode_reader(bytes)
            .map(|row| row.encode(&mut written))
            .is_ok(),
        13 => decode_picked(bytes)
            .map(|picked| encode_picked(&picked, &mut written))
            .is_ok(),
        _ => decode_filter_key(bytes)
            .map(|(queue, filter)| filter_key(queue, filter, &mut written))
            .is_ok(),
    };
    if is_read {
        assert_eq!(written, bytes);
    }
}

//! Bytes as they come from a socket: headers are read, whole packets decoded one after another.
//!
//! Input: a byte for version and sender, then the bytes of the stream.

use waypost_mqtt::decode_header;

use super::mqtt_packet::{check, connection};

/// Runs the target.
pub fn run(input: &[u8]) {
    let Some((&selector, mut stream)) = input.split_first() else {
        return;
    };
    let (version, sender) = connection(selector);
    while let Ok(Some(header)) = decode_header(stream) {
        assert!((2..=5).contains(&header.header_len));
        assert_eq!(header.total_len(), header.header_len + header.remaining_len);
        let Some((packet, rest)) = stream.split_at_checked(header.total_len()) else {
            return;
        };
        check(packet, version, sender);
        stream = rest;
    }
}

//! One packet, framed so that its Remaining Length is right: whatever is decoded can be written, and
//! what was written says the same.
//!
//! Input: a byte for version and sender, the packet's first byte, what follows the fixed header.

use waypost_mqtt::{Packet, ProtocolVersion, Role, decode, encode};

/// Runs the target.
pub fn run(input: &[u8]) {
    let Some((&[selector, first_byte], body)) = input.split_first_chunk() else {
        return;
    };
    let (version, sender) = connection(selector);
    let mut packet = vec![first_byte];
    let mut len = body.len();
    while len >= 0x80 {
        packet.push(len.to_le_bytes()[0] | 0x80);
        len >>= 7;
    }
    packet.push(len.to_le_bytes()[0]);
    packet.extend_from_slice(body);
    check(&packet, version, sender);
}

/// The version and sender that a selector byte means.
pub(super) fn connection(selector: u8) -> (ProtocolVersion, Role) {
    let version = match selector >> 1 & 0b11 {
        0 => ProtocolVersion::V31,
        1 => ProtocolVersion::V311,
        _ => ProtocolVersion::V5,
    };
    let sender = if selector & 1 == 0 {
        Role::Client
    } else {
        Role::Server
    };
    (version, sender)
}

/// Decodes one packet; panics when it does not come back from being written, or when an error
/// points beyond it.
pub(super) fn check(packet: &[u8], version: ProtocolVersion, sender: Role) {
    match decode(packet, version, sender) {
        Ok(decoded) => {
            read_all(&decoded);
            let version = match &decoded {
                Packet::Connect(connect) => connect.version,
                _ => version,
            };
            let mut written = Vec::new();
            encode(&decoded, version, &mut written);
            assert_eq!(
                decode(&written, version, sender).as_ref(),
                Ok(&decoded),
                "{packet:02X?} became {written:02X?}"
            );
        }
        Err(error) => {
            assert!(error.offset <= packet.len(), "{error}");
            assert!(error.reason.is_error(), "{error}");
            assert!(!error.to_string().is_empty());
        }
    }
}

/// Looks at every part that is read lazily.
fn read_all(packet: &Packet<'_>) {
    let shown = format!("{packet:?}");
    let parts = match packet {
        Packet::Subscribe(subscribe) => subscribe.requests().count(),
        Packet::Unsubscribe(unsubscribe) => unsubscribe.filters().count(),
        Packet::SubAck(suback) => suback.reasons.iter().count(),
        _ => 1,
    };
    assert!(parts > 0, "{shown}");
}

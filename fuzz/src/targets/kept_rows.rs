//! What the core reads back from disk: contents of messages, those of delayed ones, options of debts.

use waypost_core::rows::DelayedHead;
use waypost_core::rows::message::decode_message;
use waypost_core::rows::options::decode_options;

/// The first byte says what the rest is.
pub fn run(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else {
        return;
    };
    match kind % 8 {
        0 => {
            if let Some(message) = decode_message(bytes) {
                assert!(message.topic.len() + message.payload.len() <= bytes.len());
            }
        }
        1 => {
            if let Some(options) = decode_options(bytes) {
                assert!(options.identifiers().count() < bytes.len());
            }
        }
        2 => {
            if let Some((head, message)) = DelayedHead::decode_content(bytes) {
                let mut written = Vec::new();
                head.encode(&mut written);
                assert!(bytes.starts_with(&written));
                assert!(message.payload.len() < bytes.len());
            }
        }
        _ => {}
    }
}

//! Frames of WebSocket as they come from a socket, in pieces.
//!
//! Input: a byte for the sender and the length of the pieces, then the bytes of the stream.

use waypost_mqtt::websocket::{Decoder, End, FrameHeader, Opcode, Sender};

/// Runs the target.
pub fn run(input: &[u8]) {
    let Some((&selector, stream)) = input.split_first() else {
        return;
    };
    let sender = match selector & 1 {
        0 => Sender::Client,
        _ => Sender::Server,
    };
    let step = usize::from(selector >> 1) + 1;
    let (payload, end) = decode(sender, stream, stream.len().max(1));
    assert!(payload.len() <= stream.len());
    assert_eq!((payload.clone(), end), decode(sender, stream, step));
    // What came in is the same when it is sent on.
    let mut frame = FrameHeader::new(Opcode::Binary, payload.len())
        .as_slice()
        .to_vec();
    frame.extend_from_slice(&payload);
    assert_eq!(decode(Sender::Server, &frame, step), (payload, None));
}

fn decode(sender: Sender, stream: &[u8], step: usize) -> (Vec<u8>, Option<End>) {
    let mut decoder = Decoder::new(sender);
    let mut payload = Vec::new();
    for piece in stream.chunks(step) {
        // Payload is taken where it is, as that of a large packet.
        let in_place = decoder.payload_left().min(piece.len()).min(step / 2);
        let (payload_only, piece) = piece.split_at(in_place);
        let mut payload_only = payload_only.to_vec();
        Decoder::decode_in_place(&mut decoder, &mut payload_only);
        payload.append(&mut payload_only);
        Decoder::decode(&mut decoder, piece, &mut |bytes| {
            bytes.append_to(&mut payload);
        });
        if let Some(ping) = decoder.take_unanswered_ping() {
            assert!(ping.len() <= 125);
        }
    }
    (payload, decoder.end())
}

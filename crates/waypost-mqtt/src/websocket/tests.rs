//! Frames in every way, and beside another implementation.

use std::io::{self, Read, Write};

use proptest::prelude::*;
use tungstenite::protocol::{CloseFrame, Role};
use tungstenite::{Error, Message, WebSocket};

use super::*;

/// What came of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    payload: Vec<u8>,
    pings: Vec<Vec<u8>>,
    end: Option<End>,
}

/// Decodes `wire` in pieces that end at `cuts`; the payload of every other piece where it is.
fn decode_cut(sender: Sender, wire: &[u8], cuts: &[usize]) -> Outcome {
    let mut decoder = Decoder::new(sender);
    let mut outcome = Outcome::default();
    let mut at = 0;
    for (number, &cut) in cuts.iter().chain([&wire.len()]).enumerate() {
        let cut = cut.clamp(at, wire.len());
        if number % 2 == 1 {
            let until = cut.min(at.saturating_add(decoder.payload_left()));
            let mut payload = wire[at..until].to_vec();
            decoder.decode_in_place(&mut payload);
            outcome.payload.append(&mut payload);
            at = until;
        }
        decoder.decode(&wire[at..cut], &mut |bytes| {
            assert!(bytes.len() > 0);
            bytes.append_to(&mut outcome.payload);
        });
        at = cut;
        outcome.pings.extend(decoder.take_unanswered_ping());
    }
    outcome.end = decoder.end();
    outcome
}

fn decode(wire: &[u8]) -> Outcome {
    decode_cut(Sender::Client, wire, &[])
}

const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

fn check_end(wire: &[u8], end: Option<End>) {
    let whole = decode(wire);
    assert_eq!(whole.end, end, "{wire:02X?}");
    let one_by_one: Vec<usize> = (0..wire.len()).collect();
    assert_eq!(decode_cut(Sender::Client, wire, &one_by_one).end, end);
}

#[test]
fn wrong_frames_end_with_the_status_of_their_rule() {
    let masked = |first: u8, second: u8, rest: &[u8]| [&[first, second], rest].concat();
    let cases: &[(Vec<u8>, FrameError)] = &[
        (masked(0xC2, 0x80, &MASK), UNKNOWN_BITS),
        (masked(0xA2, 0x80, &MASK), UNKNOWN_BITS),
        (masked(0x92, 0x80, &MASK), UNKNOWN_BITS),
        (masked(0x83, 0x80, &MASK), UNKNOWN_BITS),
        (masked(0x8B, 0x80, &MASK), UNKNOWN_BITS),
        (vec![0x82, 0x01, 0x00], WRONG_MASK),
        (frame(true, 1, MASK, b"text"), TEXT),
        (frame(true, 0, MASK, b"more of nothing"), WRONG_ORDER),
        (
            [frame(false, 2, MASK, b"a"), frame(true, 2, MASK, b"b")].concat(),
            WRONG_ORDER,
        ),
        (frame(false, 9, MASK, b""), WRONG_CONTROL),
        (frame(true, 9, MASK, &[0; 126]), WRONG_CONTROL),
        (masked(0x82, 0xFE, &[0, 125, 1, 2, 3, 4]), WRONG_LENGTH),
        (
            masked(0x82, 0xFF, &[0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 1, 2, 3, 4]),
            WRONG_LENGTH,
        ),
        (
            masked(0x82, 0xFF, &[0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]),
            WRONG_LENGTH,
        ),
        (frame(true, 8, MASK, &[3]), WRONG_CLOSE),
        (frame(true, 8, MASK, &1005_u16.to_be_bytes()), WRONG_CLOSE),
        (frame(true, 8, MASK, &999_u16.to_be_bytes()), WRONG_CLOSE),
        (frame(true, 8, MASK, &5000_u16.to_be_bytes()), WRONG_CLOSE),
        (frame(true, 8, MASK, &[3, 0xE8, 0xFF]), WRONG_REASON),
    ];
    for (wire, error) in cases {
        check_end(wire, Some(End::Failed(*error)));
        // Nothing is heard after the end.
        let more = [wire.clone(), frame(true, 2, MASK, b"more")].concat();
        check_end(&more, Some(End::Failed(*error)));
    }
}

#[test]
fn what_is_right_goes_through() {
    check_end(&frame(true, 8, MASK, b""), Some(End::Closed(None)));
    let going = [&1001_u16.to_be_bytes()[..], "über".as_bytes()].concat();
    let closed = Some(End::Closed(Some(CloseCode(1001))));
    check_end(&frame(true, 8, MASK, &going), closed);
    let between = [
        frame(false, 2, MASK, b"on"),
        frame(true, 9, MASK, b"a"),
        frame(false, 0, [0; 4], b"e m"),
        frame(true, 10, MASK, b"unasked"),
        frame(true, 9, MASK, &[7; CONTROL_BYTES_MAX]),
        frame(false, 0, MASK, b""),
        frame(true, 0, MASK, b"essage"),
        frame(true, 2, MASK, b", another"),
    ]
    .concat();
    let outcome = decode(&between);
    assert_eq!(outcome.payload, b"one message, another");
    // Only the last ping needs an answer.
    assert_eq!(outcome.pings, [vec![7; CONTROL_BYTES_MAX]]);
    assert_eq!(outcome.end, None);
}

#[test]
fn a_length_of_every_form_is_the_same_to_both_sides() {
    for len in [0, 1, 125, 126, 127, 65_535, 65_536, 100_000] {
        let payload = vec![b'x'; len];
        let header = FrameHeader::new(Opcode::Binary, len);
        let wire = [header.as_slice(), &payload].concat();
        let outcome = decode_cut(Sender::Server, &wire, &[3, 9, 70_000]);
        assert_eq!(outcome.end, None);
        assert!(outcome.payload == payload, "{len}");
        assert!(decode(&frame(true, 2, MASK, &payload)).payload == payload);
    }
    // A frame that never ends is no more than its bytes.
    let mut endless = vec![0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
    endless.extend([0; 4]);
    endless.extend(b"begun");
    assert_eq!(decode(&endless).payload, b"begun");
    assert_eq!(decode(&endless).end, None);
}

#[test]
fn unmasking_from_every_place_and_of_every_length() {
    let payload: Vec<u8> = (0..100).collect();
    let wire = frame(true, 2, MASK, &payload);
    for first in 0..payload.len() {
        for second in first..payload.len() {
            let cuts = [6 + first, 6 + second];
            assert!(decode_cut(Sender::Client, &wire, &cuts).payload == payload);
        }
    }
}

#[test]
fn every_wrong_byte_is_handled() {
    let wire = [
        frame(false, 2, MASK, b"one"),
        frame(true, 9, MASK, b"ping"),
        frame(true, 0, MASK, &[1; 130]),
        frame(true, 8, MASK, &[3, 0xE8, b'x']),
    ]
    .concat();
    for at in 0..wire.len() {
        for change in 1..=255 {
            let mut wrong = wire.clone();
            wrong[at] ^= change;
            let whole = decode(&wrong);
            assert!(whole.payload.len() < wrong.len());
            let cut = decode_cut(Sender::Client, &wrong, &[at, at + 1]);
            assert_eq!((whole.payload, whole.end), (cut.payload, cut.end));
        }
        decode(&wire[..at]);
    }
}

/// A frame of a client, right or not.
fn frame(is_last: bool, opcode: u8, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![u8::from(is_last) << 7 | opcode];
    match payload.len() {
        len @ ..126 => bytes.push(0x80 | u8::try_from(len).unwrap()),
        len @ 126..0x1_0000 => {
            bytes.push(0x80 | 0x7E);
            bytes.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
        len => {
            bytes.push(0x80 | 0x7F);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    bytes
}

/// Any such frame.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..20),
        8 => prop::collection::vec(any::<u8>(), 120..140),
        1 => Just(vec![5; 66_000]),
        4 => Just(vec![3, 0xE8]),
    ];
    let opcode = prop_oneof![
        8 => Just(2_u8), 4 => Just(0), 2 => Just(9), 1 => Just(10), 1 => Just(8), 1 => 0_u8..16
    ];
    (prop::bool::weighted(0.7), opcode, any::<[u8; 4]>(), payload)
        .prop_map(|(is_last, opcode, mask, payload)| frame(is_last, opcode, mask, &payload))
}

/// Frames, and whether a byte of them was changed.
fn any_stream() -> impl Strategy<Value = (Vec<u8>, bool)> {
    let change = prop::option::weighted(0.3, (any::<prop::sample::Index>(), 1..=255_u8));
    (prop::collection::vec(any_frame(), 1..8), change).prop_map(|(frames, change)| {
        let mut wire = frames.concat();
        if let Some((at, change)) = change {
            let at = at.index(wire.len());
            wire[at] ^= change;
        }
        (wire, change.is_some())
    })
}

/// A stream in memory: what is read, what was written.
struct Pipe {
    incoming: io::Cursor<Vec<u8>>,
    written: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.incoming.read(into)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn peer(role: Role, incoming: Vec<u8>) -> WebSocket<Pipe> {
    let pipe = Pipe {
        incoming: io::Cursor::new(incoming),
        written: Vec::new(),
    };
    WebSocket::from_raw_socket(pipe, role, None)
}

/// All it reads, and whether it found something wrong.
fn read_all(peer: &mut WebSocket<Pipe>) -> (Vec<Message>, Option<Error>) {
    let mut messages = Vec::new();
    loop {
        match peer.read() {
            Ok(message) => messages.push(message),
            Err(Error::Io(_) | Error::ConnectionClosed | Error::AlreadyClosed) => {
                return (messages, None);
            }
            Err(error) => return (messages, Some(error)),
        }
    }
}

fn binary(messages: &[Message]) -> Vec<u8> {
    let binary = messages.iter().filter(|message| message.is_binary());
    binary
        .flat_map(|message| message.clone().into_data())
        .collect()
}

proptest! {
    #[test]
    fn every_way_to_cut_a_stream_gives_the_same(
        (wire, _) in any_stream(),
        mut cuts in prop::collection::vec(0..2_000_usize, 0..10),
    ) {
        cuts.sort_unstable();
        let (whole, cut) = (decode(&wire), decode_cut(Sender::Client, &wire, &cuts));
        prop_assert_eq!(whole.end, cut.end);
        prop_assert!(whole.payload == cut.payload);
        prop_assert!(cut.pings.ends_with(&whole.pings));
    }

    /// Goal: another server understands the same. It looks at whole frames and hands on whole messages
    /// only, takes text and lengths in more bytes than they need, and has a bound for messages.
    #[test]
    fn tungstenite_understands_the_same((wire, is_changed) in any_stream()) {
        let ours = decode(&wire);
        let (messages, error) = read_all(&mut peer(Role::Server, wire));
        if let Some(End::Failed(TEXT | WRONG_LENGTH)) = ours.end {
            return Ok(());
        }
        prop_assert!(ours.payload.starts_with(&binary(&messages)));
        match ours.end {
            Some(End::Failed(wrong)) => {
                let closed_wrongly = wrong == WRONG_CLOSE;
                prop_assert!(error.is_some() || closed_wrongly || is_changed, "{} {:?}", wrong, messages);
            }
            _ => prop_assert!(
                matches!(error, None | Some(Error::Capacity(_))), "{:?} {:?}", error, ours.end
            ),
        }
    }

    #[test]
    fn what_a_tungstenite_client_says_arrives(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8),
    ) {
        let mut client = peer(Role::Client, Vec::new());
        for payload in &payloads {
            client.send(Message::binary(payload.clone())).unwrap();
            client.send(Message::Ping(b"?".to_vec().into())).unwrap();
        }
        client.close(Some(CloseFrame { code: 1000.into(), reason: "".into() })).unwrap();
        client.flush().unwrap();
        let outcome = decode(&client.get_ref().written);
        prop_assert_eq!(outcome.payload, payloads.concat());
        prop_assert_eq!(outcome.end, Some(End::Closed(Some(CloseCode::NORMAL))));
    }

    #[test]
    fn a_tungstenite_client_hears_what_we_say(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..3_000), 0..4),
        pong in prop::collection::vec(any::<u8>(), 0..CONTROL_BYTES_MAX),
    ) {
        let mut wire = Vec::new();
        for payload in &payloads {
            wire.extend_from_slice(FrameHeader::new(Opcode::Pong, pong.len()).as_slice());
            wire.extend_from_slice(&pong);
            wire.extend_from_slice(FrameHeader::new(Opcode::Binary, payload.len()).as_slice());
            wire.extend_from_slice(payload);
        }
        wire.extend_from_slice(&close_frame(CloseCode::GOING_AWAY));
        let (messages, error) = read_all(&mut peer(Role::Client, wire));
        prop_assert!(error.is_none(), "{:?}", error);
        prop_assert!(binary(&messages) == payloads.concat());
        let closed = messages.last().cloned();
        let is_going = |frame: &CloseFrame| u16::from(frame.code) == 1001;
        prop_assert!(matches!(&closed, Some(Message::Close(Some(frame))) if is_going(frame)));
    }
}

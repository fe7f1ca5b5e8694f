//! WebSocket's frames (RFC 6455 §5), both directions, for a stream of MQTT bytes in binary frames.
//!
//! MQTT does not care where frames begin and end (MQTT 5 §6.0), so nothing is collected: the payload
//! of a binary frame is handed on, unmasked while it is copied, as it comes. Control frames are
//! answered between, a wrong frame ends the connection with the status the RFC names for it.
//!
//! Deliberately not here: the HTTP Upgrade before the first frame, and what is in them.

/// The payload of a control frame at most, RFC 6455 §5.5.
const CONTROL_BYTES_MAX: usize = 125;
/// Two bytes, a length of eight, a mask of four.
const HEADER_BYTES_MAX: usize = 14;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0F;
const MASKED: u8 = 0x80;

/// What a frame is, RFC 6455 §5.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// More of the message before.
    Continuation,
    /// Text: never MQTT.
    Text,
    /// Bytes.
    Binary,
    /// The last frame of one side.
    Close,
    /// To be answered by a pong.
    Ping,
    /// The answer.
    Pong,
}

impl Opcode {
    fn of(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }

    fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xA,
        }
    }
}

/// Why a side closes, RFC 6455 §7.4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// All is done.
    pub const NORMAL: Self = Self(1000);
    /// The server stops.
    pub const GOING_AWAY: Self = Self(1001);
    /// The peer broke a rule.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// The peer sent text.
    pub const UNSUPPORTED: Self = Self(1003);
    /// A close reason that is not UTF-8.
    pub const INVALID_DATA: Self = Self(1007);
    /// A packet larger than the server accepts.
    pub const TOO_LARGE: Self = Self(1009);

    /// Whether it may stand in a frame: 1005, 1006 and 1015 may not, others mean nothing.
    fn may_be_sent(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

/// A wrong frame: the rule it broke, and the status to close with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a WebSocket frame {problem}")]
pub struct FrameError {
    /// What is wrong with it.
    pub problem: &'static str,
    /// What to say to the peer.
    pub code: CloseCode,
}

const fn broken(problem: &'static str) -> FrameError {
    FrameError {
        problem,
        code: CloseCode::PROTOCOL_ERROR,
    }
}

const UNKNOWN_BITS: FrameError = broken("has reserved bits or an unknown opcode (§5.2)");
const WRONG_MASK: FrameError = broken("is masked by a server or not masked by a client (§5.1)");
const WRONG_LENGTH: FrameError = broken("has a length in more bytes than it needs (§5.2)");
const WRONG_CONTROL: FrameError = broken("of control is fragmented or too long (§5.5)");
const WRONG_ORDER: FrameError = broken("continues nothing, or does not continue (§5.4)");
const WRONG_CLOSE: FrameError = broken("of closing has a wrong status (§7.4)");
const TEXT: FrameError = FrameError {
    problem: "has text ([MQTT-6.0.0-1])",
    code: CloseCode::UNSUPPORTED,
};
const WRONG_REASON: FrameError = FrameError {
    problem: "of closing has a reason that is not UTF-8 (§5.5.1)",
    code: CloseCode::INVALID_DATA,
};

/// Who sends the frames that are decoded: a client masks each, a server none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// Its frames are masked.
    Client,
    /// Its frames are not.
    Server,
}

/// Some payload of binary frames, still masked.
#[derive(Clone, Copy, Debug)]
pub struct Masked<'a> {
    bytes: &'a [u8],
    /// Turned so that its first byte is for the first byte here.
    mask: [u8; 4],
}

impl<'a> Masked<'a> {
    /// How many bytes there are.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes under a mask, or to be put under it: both are the same.
    pub fn new(bytes: &'a [u8], mask: [u8; 4]) -> Self {
        Self { bytes, mask }
    }

    /// Bytes that were never masked.
    pub fn unmasked(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            mask: [0; 4],
        }
    }

    /// The first `at` bytes and the rest.
    pub fn split_at(self, at: usize) -> (Self, Self) {
        let (bytes, rest) = self.bytes.split_at(at.min(self.bytes.len()));
        let mut mask = self.mask;
        mask.rotate_left(bytes.len() % 4);
        (Self { bytes, ..self }, Self { bytes: rest, mask })
    }

    /// Copies them to the beginning of `place`, unmasked.
    pub fn copy_to(self, place: &mut [u8]) {
        let Some(place) = place.get_mut(..self.bytes.len()) else {
            return;
        };
        if self.mask == [0; 4] {
            place.copy_from_slice(self.bytes);
            return;
        }
        let mask = wide(self.mask);
        let (from, from_rest) = self.bytes.as_chunks::<8>();
        let (to, to_rest) = place.as_chunks_mut::<8>();
        for (to, from) in to.iter_mut().zip(from) {
            *to = (u64::from_ne_bytes(*from) ^ mask).to_ne_bytes();
        }
        for ((to, from), mask) in to_rest.iter_mut().zip(from_rest).zip(mask.to_ne_bytes()) {
            *to = from ^ mask;
        }
    }

    /// Appends them to `bytes`, unmasked.
    pub fn append_to(self, bytes: &mut Vec<u8>) {
        let at = bytes.len();
        bytes.resize(at + self.len(), 0);
        self.copy_to(bytes.get_mut(at..).unwrap_or_default());
    }
}

/// Decodes the frames of one side, in pieces of any length.
#[derive(Debug)]
pub struct Decoder {
    sender: Sender,
    /// The beginning of a header that is not whole yet.
    header: [u8; HEADER_BYTES_MAX],
    header_len: u8,
    /// A binary message is not at its end yet.
    in_message: bool,
    /// What is still to come of a frame's payload, and its mask, turned to its next byte.
    payload_left: u64,
    mask: [u8; 4],
    /// The control frame whose payload that is, if it is no binary frame's.
    control: Option<Control>,
    /// The last ping that is not answered: only that one must be (§5.5.3), so pings cost no more.
    unanswered: Option<Vec<u8>>,
    end: Option<End>,
}

#[derive(Debug)]
struct Control {
    opcode: Opcode,
    payload: Vec<u8>,
}

/// Nothing is decoded any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer closed: what to answer, `None` if it said no status.
    Closed(Option<CloseCode>),
    /// The peer sent a wrong frame.
    Failed(FrameError),
}

impl Decoder {
    /// Before the first frame of `sender`.
    pub fn new(sender: Sender) -> Self {
        Self {
            sender,
            header: [0; HEADER_BYTES_MAX],
            header_len: 0,
            in_message: false,
            payload_left: 0,
            mask: [0; 4],
            control: None,
            unanswered: None,
            end: None,
        }
    }

    /// Takes the next bytes of the stream. The payload of binary frames goes to `payload`; after the
    /// end nothing does.
    pub fn decode(&mut self, mut bytes: &[u8], payload: &mut dyn FnMut(Masked<'_>)) {
        while !bytes.is_empty() && self.end.is_none() {
            let header = if self.payload_left > 0 {
                self.take_payload(&mut bytes, payload);
                Ok(())
            } else {
                self.take_header(&mut bytes)
            };
            if let Err(error) = header.and_then(|()| self.take_control()) {
                self.end = Some(End::Failed(error));
            }
        }
    }

    /// How many of the next bytes are payload of a binary frame, and nothing else.
    pub fn payload_left(&self) -> usize {
        if self.control.is_some() || self.end.is_some() {
            return 0;
        }
        usize::try_from(self.payload_left).unwrap_or(usize::MAX)
    }

    /// Takes the next bytes, no more than `payload_left`, and unmasks them where they are.
    pub fn decode_in_place(&mut self, bytes: &mut [u8]) {
        debug_assert!(bytes.len() <= self.payload_left());
        unmask(bytes, self.mask);
        self.mask.rotate_left(bytes.len() % 4);
        self.payload_left -= bytes.len() as u64;
    }

    /// Why nothing is decoded any more.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// The payload of the pong that is due.
    pub fn take_unanswered_ping(&mut self) -> Option<Vec<u8>> {
        self.unanswered.take()
    }

    /// Whether a pong is due.
    pub fn has_unanswered_ping(&self) -> bool {
        self.unanswered.is_some()
    }

    fn take_payload(&mut self, bytes: &mut &[u8], payload: &mut dyn FnMut(Masked<'_>)) {
        let left = usize::try_from(self.payload_left).unwrap_or(usize::MAX);
        let all = Masked {
            bytes,
            mask: self.mask,
        };
        let (now, rest) = all.split_at(left);
        self.payload_left -= now.len() as u64;
        self.mask = rest.mask;
        *bytes = rest.bytes;
        match &mut self.control {
            Some(control) => now.append_to(&mut control.payload),
            None => payload(now),
        }
    }

    /// Takes what there is of a header, and acts on it when it is whole.
    fn take_header(&mut self, bytes: &mut &[u8]) -> Result<(), FrameError> {
        while let needed = self.header_bytes_needed()
            && let have = usize::from(self.header_len)
            && have < needed
        {
            let count = bytes.len().min(needed - have);
            let Some((now, rest)) = bytes.split_at_checked(count).filter(|_| count > 0) else {
                return Ok(());
            };
            if let Some(place) = self.header.get_mut(have..have + count) {
                place.copy_from_slice(now);
            }
            *bytes = rest;
            self.header_len += u8::try_from(count).unwrap_or(0);
        }
        self.header_len = 0;
        self.begin_frame()
    }

    fn header_bytes_needed(&self) -> usize {
        let second = self.header[1];
        if self.header_len < 2 {
            return 2;
        }
        let length = match second & !MASKED {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + if second & MASKED == 0 { 0 } else { 4 }
    }

    fn begin_frame(&mut self) -> Result<(), FrameError> {
        let [first, second, ..] = self.header;
        let opcode = Opcode::of(first & OPCODE).filter(|_| first & RESERVED == 0);
        let opcode = opcode.ok_or(UNKNOWN_BITS)?;
        let is_masked = second & MASKED != 0;
        if is_masked != (self.sender == Sender::Client) {
            return Err(WRONG_MASK);
        }
        let [_, _, b2, b3, b4, b5, b6, b7, b8, b9, ..] = self.header;
        let (length, mask_at, needless) = match second & !MASKED {
            126 => (u64::from(u16::from_be_bytes([b2, b3])), 4, 0..126),
            127 => {
                let length = u64::from_be_bytes([b2, b3, b4, b5, b6, b7, b8, b9]);
                (length, 10, 0..1 << 16)
            }
            length => (u64::from(length), 2, 0..0),
        };
        if needless.contains(&length) || length >> 63 != 0 {
            return Err(WRONG_LENGTH);
        }
        let is_last = first & FIN != 0;
        match opcode {
            Opcode::Text => return Err(TEXT),
            Opcode::Binary if self.in_message => return Err(WRONG_ORDER),
            Opcode::Continuation if !self.in_message => return Err(WRONG_ORDER),
            Opcode::Binary | Opcode::Continuation => self.in_message = !is_last,
            Opcode::Close | Opcode::Ping | Opcode::Pong => {
                if !is_last || length > CONTROL_BYTES_MAX as u64 {
                    return Err(WRONG_CONTROL);
                }
                self.control = Some(Control {
                    opcode,
                    payload: Vec::new(),
                });
            }
        }
        self.payload_left = length;
        let mask = self.header.get(mask_at..).and_then(<[u8]>::first_chunk);
        self.mask = mask.copied().filter(|_| is_masked).unwrap_or_default();
        Ok(())
    }

    /// Acts on a control frame that is whole.
    fn take_control(&mut self) -> Result<(), FrameError> {
        if self.payload_left > 0 {
            return Ok(());
        }
        let Some(Control { opcode, payload }) = self.control.take() else {
            return Ok(());
        };
        match opcode {
            Opcode::Ping => self.unanswered = Some(payload),
            Opcode::Close => self.end = Some(End::Closed(close_code(&payload)?)),
            _ => {}
        }
        Ok(())
    }
}

/// The status in the payload of a Close frame, RFC 6455 §5.5.1.
fn close_code(payload: &[u8]) -> Result<Option<CloseCode>, FrameError> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return payload.is_empty().then_some(None).ok_or(WRONG_CLOSE);
    };
    let code = CloseCode(u16::from_be_bytes(*code));
    if !code.may_be_sent() {
        return Err(WRONG_CLOSE);
    }
    str::from_utf8(reason).map_err(|_| WRONG_REASON)?;
    Ok(Some(code))
}

fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let mask = wide(mask);
    let (chunks, rest) = bytes.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ mask).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.to_ne_bytes()) {
        *byte ^= mask;
    }
}

/// A mask twice: eight bytes at a time, which the compiler makes sixteen or more.
fn wide(mask: [u8; 4]) -> u64 {
    let mask = u64::from(u32::from_ne_bytes(mask));
    mask << 32 | mask
}

/// What stands before a payload of a server's frame.
#[derive(Clone, Copy, Debug)]
pub struct FrameHeader {
    bytes: [u8; 10],
    len: u8,
}

impl FrameHeader {
    /// A whole message in one frame, its payload not masked.
    pub fn new(opcode: Opcode, payload_len: usize) -> Self {
        let mut bytes = [0; 10];
        let len = payload_len as u64;
        let (first, length) = match (u8::try_from(len), u16::try_from(len)) {
            (Ok(short @ ..126), _) => (short, &[][..]),
            (_, Ok(middle)) => (126, &middle.to_be_bytes()[..]),
            _ => (127, &len.to_be_bytes()[..]),
        };
        let head = [FIN | opcode.bits(), first];
        for (place, byte) in bytes.iter_mut().zip(head.iter().chain(length)) {
            *place = *byte;
        }
        Self {
            bytes,
            len: u8::try_from(2 + length.len()).unwrap_or(10),
        }
    }

    /// Its bytes.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// The last frame of a server.
pub fn close_frame(code: CloseCode) -> [u8; 4] {
    let [high, low] = code.0.to_be_bytes();
    [FIN | Opcode::Close.bits(), 2, high, low]
}

#[cfg(test)]
mod tests;

//! The MQ coder: binary arithmetic coding without multiplications, as ITU-T T.88 (JBIG2) Annex E and T.800 (JPEG 2000)
//! Annex C have it. The names are theirs: A the interval, C the code, CT the bits until a byte goes out or comes in.

/// What ends a code: no code has such a pair in it.
pub(super) const MARKER: [u8; 2] = [0xff, 0xac];

/// How likely a bit is in one context: a row of [`ROWS`], twice, plus the likely bit.
#[derive(Clone, Copy, Default)]
pub(super) struct State(u8);

struct Row {
    /// The part of the interval that is the unlikely bit's.
    qe: u32,
    /// The row after a likely bit, and after an unlikely one.
    next: [u8; 2],
    /// Whether an unlikely bit becomes the likely one.
    switches: bool,
}

const fn row(qe: u32, likely: u8, unlikely: u8, switches: bool) -> Row {
    Row {
        qe,
        next: [likely, unlikely],
        switches,
    }
}

/// T.88, table E.1.
const ROWS: [Row; 47] = [
    row(0x5601, 1, 1, true),
    row(0x3401, 2, 6, false),
    row(0x1801, 3, 9, false),
    row(0x0ac1, 4, 12, false),
    row(0x0521, 5, 29, false),
    row(0x0221, 38, 33, false),
    row(0x5601, 7, 6, true),
    row(0x5401, 8, 14, false),
    row(0x4801, 9, 14, false),
    row(0x3801, 10, 14, false),
    row(0x3001, 11, 17, false),
    row(0x2401, 12, 18, false),
    row(0x1c01, 13, 20, false),
    row(0x1601, 29, 21, false),
    row(0x5601, 15, 14, true),
    row(0x5401, 16, 14, false),
    row(0x5101, 17, 15, false),
    row(0x4801, 18, 16, false),
    row(0x3801, 19, 17, false),
    row(0x3401, 20, 18, false),
    row(0x3001, 21, 19, false),
    row(0x2801, 22, 19, false),
    row(0x2401, 23, 20, false),
    row(0x2201, 24, 21, false),
    row(0x1c01, 25, 22, false),
    row(0x1801, 26, 23, false),
    row(0x1601, 27, 24, false),
    row(0x1401, 28, 25, false),
    row(0x1201, 29, 26, false),
    row(0x1101, 30, 27, false),
    row(0x0ac1, 31, 28, false),
    row(0x09c1, 32, 29, false),
    row(0x08a1, 33, 30, false),
    row(0x0521, 34, 31, false),
    row(0x0441, 35, 32, false),
    row(0x02a1, 36, 33, false),
    row(0x0221, 37, 34, false),
    row(0x0141, 38, 35, false),
    row(0x0111, 39, 36, false),
    row(0x0085, 40, 37, false),
    row(0x0049, 41, 38, false),
    row(0x0025, 42, 39, false),
    row(0x0015, 43, 40, false),
    row(0x0009, 44, 41, false),
    row(0x0005, 45, 42, false),
    row(0x0001, 45, 43, false),
    row(0x5601, 46, 46, false),
];

impl State {
    fn row(self) -> &'static Row {
        // A state is made of the rows' own numbers; the last row stands for none.
        ROWS.get(usize::from(self.0 >> 1))
            .unwrap_or(const { &ROWS[46] })
    }

    fn likely_bit(self) -> u8 {
        self.0 & 1
    }

    fn saw_likely(&mut self, row: &Row) {
        self.0 = row.next[0] << 1 | self.likely_bit();
    }

    fn saw_unlikely(&mut self, row: &Row) {
        self.0 = row.next[1] << 1 | (self.likely_bit() ^ u8::from(row.switches));
    }
}

pub(super) struct Encoder<'a> {
    into: &'a mut Vec<u8>,
    a: u32,
    c: u32,
    ct: u32,
    /// The last byte, which a carry may still change; none at the beginning.
    last: Option<u8>,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(into: &'a mut Vec<u8>) -> Self {
        Self {
            into,
            a: 0x8000,
            c: 0,
            ct: 12,
            last: None,
        }
    }

    pub(super) fn encode(&mut self, state: &mut State, bit: u8) {
        let row = state.row();
        self.a -= row.qe;
        if bit == state.likely_bit() {
            if self.a & 0x8000 != 0 {
                self.c += row.qe;
                return;
            }
            if self.a < row.qe {
                self.a = row.qe;
            } else {
                self.c += row.qe;
            }
            state.saw_likely(row);
        } else {
            if self.a < row.qe {
                self.c += row.qe;
            } else {
                self.a = row.qe;
            }
            state.saw_unlikely(row);
        }
        while self.a & 0x8000 == 0 {
            self.a <<= 1;
            self.c <<= 1;
            self.ct -= 1;
            if self.ct == 0 {
                self.byte_out();
            }
        }
    }

    fn byte_out(&mut self) {
        if self.last != Some(0xff) && self.c & 0x800_0000 != 0 {
            // The carry. Before the first byte there is none: the code is below 1.
            self.last = self.last.map(|byte| byte.wrapping_add(1));
            self.c &= 0x7ff_ffff;
        }
        let is_stuffed = self.last == Some(0xff);
        self.into.extend(self.last);
        // Behind FF stand seven bits and room for a carry.
        let shift = if is_stuffed { 20 } else { 19 };
        self.last = Some((self.c >> shift & 0xff) as u8);
        self.c &= (1 << shift) - 1;
        self.ct = if is_stuffed { 7 } else { 8 };
    }

    /// Writes what is left, as few bits as tell the interval, and the marker.
    pub(super) fn finish(mut self) {
        let above = self.c + self.a;
        self.c |= 0xffff;
        if self.c >= above {
            self.c -= 0x8000;
        }
        for _ in 0..2 {
            self.c <<= self.ct;
            self.byte_out();
        }
        self.into.extend(self.last.filter(|byte| *byte != 0xff));
        self.into.extend_from_slice(&MARKER);
    }
}

pub(super) struct Decoder<'a> {
    code: &'a [u8],
    at: usize,
    a: u32,
    c: u32,
    ct: u32,
}

impl<'a> Decoder<'a> {
    /// `code` without its marker.
    pub(super) fn new(code: &'a [u8]) -> Self {
        let mut decoder = Self {
            code,
            at: 0,
            a: 0x8000,
            c: u32::from(code.first().copied().unwrap_or(0xff)) << 16,
            ct: 0,
        };
        decoder.byte_in();
        decoder.c <<= 7;
        decoder.ct -= 7;
        decoder
    }

    /// The byte at a place; behind the end stands the marker.
    fn byte(&self, at: usize) -> u32 {
        u32::from(self.code.get(at).copied().unwrap_or(0xff))
    }

    fn byte_in(&mut self) {
        if self.byte(self.at) != 0xff {
            self.at += 1;
            self.c += self.byte(self.at) << 8;
            self.ct = 8;
        } else if self.byte(self.at + 1) <= 0x8f {
            self.at += 1;
            self.c += self.byte(self.at) << 9;
            self.ct = 7;
        } else {
            self.c += 0xff00;
            self.ct = 8;
        }
    }

    pub(super) fn decode(&mut self, state: &mut State) -> u8 {
        let row = state.row();
        self.a -= row.qe;
        let is_likely = if self.c >> 16 < row.qe {
            let is_likely = self.a < row.qe;
            self.a = row.qe;
            is_likely
        } else {
            self.c -= row.qe << 16;
            if self.a & 0x8000 != 0 {
                return state.likely_bit();
            }
            self.a >= row.qe
        };
        let bit = state.likely_bit() ^ u8::from(!is_likely);
        if is_likely {
            state.saw_likely(row);
        } else {
            state.saw_unlikely(row);
        }
        while self.a & 0x8000 == 0 {
            if self.ct == 0 {
                self.byte_in();
            }
            self.a <<= 1;
            self.c <<= 1;
            self.ct -= 1;
        }
        bit
    }

    /// Whether all of the code has been looked at.
    pub(super) fn is_at_end(&self) -> bool {
        self.at >= self.code.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// T.88, H.2: one context, the bits of the first coded as the second.
    const PLAIN: [u8; 32] = [
        0x00, 0x02, 0x00, 0x51, 0x00, 0x00, 0x00, 0xc0, 0x03, 0x52, 0x87, 0x2a, 0xaa, 0xaa, 0xaa,
        0xaa, 0x82, 0xc0, 0x20, 0x00, 0xfc, 0xd7, 0x9e, 0xf6, 0xbf, 0x7f, 0xed, 0x90, 0x4f, 0x46,
        0xa3, 0xbf,
    ];
    const CODE: [u8; 30] = [
        0x84, 0xc7, 0x3b, 0xfc, 0xe1, 0xa1, 0x43, 0x04, 0x02, 0x20, 0x00, 0x00, 0x41, 0x0d, 0xbb,
        0x86, 0xf4, 0x31, 0x7f, 0xff, 0x88, 0xff, 0x37, 0x47, 0x1a, 0xdb, 0x6a, 0xdf, 0xff, 0xac,
    ];

    fn bits(bytes: &[u8]) -> impl Iterator<Item = u8> {
        bytes
            .iter()
            .flat_map(|byte| (0..8).rev().map(move |shift| byte >> shift & 1))
    }

    #[test]
    fn the_test_sequence_of_t88() {
        let mut code = Vec::new();
        let mut encoder = Encoder::new(&mut code);
        let mut state = State::default();
        for bit in bits(&PLAIN) {
            encoder.encode(&mut state, bit);
        }
        encoder.finish();
        assert_eq!(code, CODE);
        let mut decoder = Decoder::new(&CODE[..28]);
        let mut state = State::default();
        assert!(bits(&PLAIN).all(|bit| decoder.decode(&mut state) == bit));
        assert!(decoder.is_at_end());
    }

    include!("../../../tests/data/every_state.rs");

    /// Goal: a wrong number in the table does not stay unseen where others decode [`every_state`]. Method: the ways out of
    /// states that are taken, with the contexts of `arithmetic`. Row 46 is for codes that set a context to it: no way leads there.
    #[test]
    fn a_message_leaves_every_state_both_ways() {
        let mut code = Vec::new();
        let mut encoder = Encoder::new(&mut code);
        let mut states = [State::default(); 256];
        let mut taken = std::collections::BTreeSet::new();
        for byte in every_state() {
            let mut context = 1;
            for bit in bits(&[byte]) {
                let state = &mut states[context];
                let (row, is_likely, a) = (state.0 >> 1, bit == state.likely_bit(), encoder.a);
                encoder.encode(state, bit);
                if !is_likely || encoder.a != a - ROWS[usize::from(row)].qe {
                    taken.insert((row, is_likely));
                }
                context = context << 1 | usize::from(bit);
            }
        }
        let all: Vec<_> = (0..46)
            .flat_map(|row| [(row, false), (row, true)])
            .collect();
        assert!(taken.iter().eq(&all), "{taken:?}");
        assert!(ROWS[..46].iter().all(|row| !row.next.contains(&46)));
    }
}

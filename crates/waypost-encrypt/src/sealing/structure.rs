//! What a sealed payload looks like from outside: the server looks here, without any key, and an opener before it decodes.
//!
//! Deliberately not here: whether it opens, and what the labels of this profile say (`open.rs`).

/// How deep items may stand in each other within headers.
pub(crate) const DEPTH_MAX: usize = 8;

/// How many labels the headers of one structure may have.
pub const HEADER_LABELS_MAX: usize = 32;

/// How many recipients an envelope may have.
pub const RECIPIENTS_MAX: usize = 128;

/// COSE tags (RFC 9052, table 1) of what counts as sealed.
pub(crate) const ENCRYPT0: u64 = 16;
pub(crate) const MAC0: u64 = 17;
pub(crate) const SIGN1: u64 = 18;
pub(crate) const ENCRYPT: u64 = 96;

/// Why a payload is not sealed: where, and which rule it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not sealed: byte {offset} breaks the rule that {rule}")]
pub struct NotSealed {
    /// The offset in the payload.
    pub offset: usize,
    /// What would have to hold there.
    pub rule: &'static str,
}

/// The parts of a structure, where they stand in its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parts<'a> {
    pub(crate) tag: u64,
    /// What the byte string of the protected header contains.
    pub(crate) protected: &'a [u8],
    /// The other header, encoded.
    pub(crate) unprotected: &'a [u8],
    /// The ciphertext, or the payload that is authenticated or signed.
    pub(crate) content: &'a [u8],
    /// The MAC or the signature; the recipients, encoded; nothing in a `COSE_Encrypt0`.
    pub(crate) last: &'a [u8],
}

/// Whether `payload` is sealed: one complete CBOR item tagged 16, 17 or 96 whose outer headers parse (RFC 9052). It says
/// nothing about whether it opens. Nothing is allocated, and every byte is looked at once.
pub fn check_sealed(payload: &[u8]) -> Result<(), NotSealed> {
    sealed_parts(payload).map(|_| ())
}

/// The parts of what is sealed.
pub(crate) fn sealed_parts(payload: &[u8]) -> Result<Parts<'_>, NotSealed> {
    let mut reader = Reader::new(payload);
    let tag = reader.tag()?;
    let parts = match tag {
        ENCRYPT0 => reader.encrypt0()?,
        MAC0 => reader.authenticated(MAC0, "COSE_Mac0 is an array of 4")?,
        ENCRYPT => reader.encrypt()?,
        _ => return Err(reader.refused(0, "the tag is 16, 17 or 96")),
    };
    reader.end()?;
    Ok(parts)
}

/// The parts of a signed text (`COSE_Sign1`, tag 18) in one complete item.
pub(crate) fn signed_parts(bytes: &[u8]) -> Result<Parts<'_>, NotSealed> {
    let mut reader = Reader::new(bytes);
    if reader.tag()? != SIGN1 {
        return Err(reader.refused(0, "the tag is 18"));
    }
    let parts = reader.authenticated(SIGN1, "COSE_Sign1 is an array of 4")?;
    reader.end()?;
    Ok(parts)
}

/// The parts of an untagged `COSE_Encrypt0`: what stands in the `COSE_Mac0` of `aes` and `des`.
pub(crate) fn inner_parts(bytes: &[u8]) -> Result<Parts<'_>, NotSealed> {
    let mut reader = Reader::new(bytes);
    let parts = reader.encrypt0()?;
    reader.end()?;
    Ok(parts)
}

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;

/// The first bytes of an item: its major type, and the number beside it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Head {
    major: u8,
    number: u64,
}

/// A label of a header; how it was encoded does not matter.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Label<'a> {
    Number { is_negative: bool, number: u64 },
    Text(&'a [u8]),
}

/// The labels of one structure, both of its headers together: none may stand there twice.
struct Labels<'a> {
    seen: [Option<Label<'a>>; HEADER_LABELS_MAX],
    count: usize,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where `bytes` begin in the payload.
    begins: usize,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            begins: 0,
        }
    }

    fn refused(&self, at: usize, rule: &'static str) -> NotSealed {
        NotSealed {
            offset: self.begins + at,
            rule,
        }
    }

    fn end(&self) -> Result<(), NotSealed> {
        if self.at == self.bytes.len() {
            Ok(())
        } else {
            Err(self.refused(self.at, "nothing follows the item"))
        }
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], NotSealed> {
        let cut = |at| NotSealed {
            offset: at,
            rule: "the item is complete",
        };
        let end = usize::try_from(count)
            .ok()
            .and_then(|count| self.at.checked_add(count))
            .ok_or(cut(self.begins + self.at))?;
        let taken = self.bytes.get(self.at..end);
        let taken = taken.ok_or(cut(self.begins + self.bytes.len()))?;
        self.at = end;
        Ok(taken)
    }

    /// The head of an item of a definite length.
    fn head(&mut self) -> Result<Head, NotSealed> {
        let at = self.at;
        let first = self.take(1)?.first().copied().unwrap_or_default();
        let (major, info) = (first >> 5, first & 31);
        let number = match info {
            0..=23 => u64::from(info),
            24..=27 => {
                let following = self.take(1 << (info - 24))?;
                following
                    .iter()
                    .fold(0, |number, byte| number << 8 | u64::from(*byte))
            }
            31 => return Err(self.refused(at, "every length is definite")),
            _ => return Err(self.refused(at, "the item is well-formed CBOR")),
        };
        // RFC 8949, 3.3: simple values below 32 are not written in two bytes.
        if major == 7 && info == 24 && number < 32 {
            return Err(self.refused(at, "the item is well-formed CBOR"));
        }
        Ok(Head { major, number })
    }

    fn tag(&mut self) -> Result<u64, NotSealed> {
        let head = self.head()?;
        if head.major == TAG {
            Ok(head.number)
        } else {
            Err(self.refused(0, "the item is tagged"))
        }
    }

    fn array_of(&mut self, count: u64, rule: &'static str) -> Result<(), NotSealed> {
        let at = self.at;
        let expect = Head {
            major: ARRAY,
            number: count,
        };
        if self.head()? == expect {
            Ok(())
        } else {
            Err(self.refused(at, rule))
        }
    }

    fn bytes(&mut self, rule: &'static str) -> Result<&'a [u8], NotSealed> {
        let at = self.at;
        let head = self.head()?;
        if head.major == BYTES {
            self.take(head.number)
        } else {
            Err(self.refused(at, rule))
        }
    }

    fn encrypt0(&mut self) -> Result<Parts<'a>, NotSealed> {
        self.array_of(3, "COSE_Encrypt0 is an array of 3")?;
        let (protected, unprotected) = self.headers()?;
        Ok(Parts {
            tag: ENCRYPT0,
            protected,
            unprotected,
            content: self.bytes("the ciphertext is a byte string")?,
            last: &[],
        })
    }

    /// What has a MAC or a signature at its end.
    fn authenticated(&mut self, tag: u64, rule: &'static str) -> Result<Parts<'a>, NotSealed> {
        self.array_of(4, rule)?;
        let (protected, unprotected) = self.headers()?;
        Ok(Parts {
            tag,
            protected,
            unprotected,
            content: self.bytes("the payload is a byte string")?,
            last: self.bytes("the tag or the signature is a byte string")?,
        })
    }

    fn encrypt(&mut self) -> Result<Parts<'a>, NotSealed> {
        self.array_of(4, "COSE_Encrypt is an array of 4")?;
        let (protected, unprotected) = self.headers()?;
        let content = self.bytes("the ciphertext is a byte string")?;
        let at = self.at;
        self.recipients()?;
        Ok(Parts {
            tag: ENCRYPT,
            protected,
            unprotected,
            content,
            last: self.since(at),
        })
    }

    /// What was read since a place.
    fn since(&self, at: usize) -> &'a [u8] {
        self.bytes.get(at..self.at).unwrap_or_default()
    }

    /// A structure's two headers: the protected one in a byte string, the other as it is.
    fn headers(&mut self) -> Result<(&'a [u8], &'a [u8]), NotSealed> {
        let mut labels = Labels {
            seen: [None; HEADER_LABELS_MAX],
            count: 0,
        };
        let protected = self.bytes("the protected header is a byte string")?;
        if !protected.is_empty() {
            let mut inner = Reader {
                bytes: protected,
                at: 0,
                begins: self.begins + self.at - protected.len(),
            };
            inner.header(&mut labels)?;
            inner.end()?;
        }
        let at = self.at;
        self.header(&mut labels)?;
        Ok((protected, self.since(at)))
    }

    fn header(&mut self, labels: &mut Labels<'a>) -> Result<(), NotSealed> {
        let at = self.at;
        let head = self.head()?;
        if head.major != MAP {
            return Err(self.refused(at, "a header is a map"));
        }
        for _ in 0..head.number {
            let at = self.at;
            let label = self.label()?;
            if labels.seen.contains(&Some(label)) {
                return Err(self.refused(at, "a label stands in the headers once"));
            }
            let free = labels.seen.get_mut(labels.count);
            let free =
                free.ok_or_else(|| self.refused(at, "the headers have at most 32 labels"))?;
            *free = Some(label);
            labels.count += 1;
            self.value(label)?;
        }
        Ok(())
    }

    fn label(&mut self) -> Result<Label<'a>, NotSealed> {
        let at = self.at;
        let head = self.head()?;
        match head.major {
            UNSIGNED | NEGATIVE => Ok(Label::Number {
                is_negative: head.major == NEGATIVE,
                number: head.number,
            }),
            TEXT => Ok(Label::Text(self.take(head.number)?)),
            _ => Err(self.refused(at, "a label is a number or a text")),
        }
    }

    /// The value of a label: of the right type for the labels of RFC 9052, table 2.
    fn value(&mut self, label: Label<'a>) -> Result<(), NotSealed> {
        let at = self.at;
        let major = self.bytes.get(at).map_or(7, |first| first >> 5);
        let is_right = match label {
            Label::Number {
                is_negative: false,
                number,
            } => match number {
                1 => matches!(major, UNSIGNED | NEGATIVE | TEXT),
                2 => major == ARRAY,
                3 => matches!(major, UNSIGNED | TEXT),
                4..=6 => major == BYTES,
                _ => true,
            },
            _ => true,
        };
        if !is_right {
            return Err(self.refused(at, "the labels of COSE have values of their types"));
        }
        self.item()
    }

    /// Any one item, with what stands in it.
    fn item(&mut self) -> Result<(), NotSealed> {
        // How many items are still to come at each depth.
        let mut open = [0_u64; DEPTH_MAX];
        let mut depth = 0;
        loop {
            let at = self.at;
            let head = self.head()?;
            let within = match head.major {
                BYTES => {
                    self.take(head.number)?;
                    0
                }
                TEXT => {
                    let text = self.take(head.number)?;
                    if std::str::from_utf8(text).is_err() {
                        return Err(self.refused(at, "a text is UTF-8"));
                    }
                    0
                }
                ARRAY => head.number,
                MAP => head.number.saturating_mul(2),
                TAG => 1,
                _ => 0,
            };
            if within > 0 {
                let slot = open.get_mut(depth);
                let slot =
                    slot.ok_or_else(|| self.refused(at, "items stand at most 8 deep in headers"))?;
                *slot = within;
                depth += 1;
                continue;
            }
            // An item is whole: so are all that wait for nothing else.
            loop {
                let Some(slot) = depth.checked_sub(1).and_then(|at| open.get_mut(at)) else {
                    return Ok(());
                };
                *slot -= 1;
                if *slot > 0 {
                    break;
                }
                depth -= 1;
            }
        }
    }

    fn recipients(&mut self) -> Result<(), NotSealed> {
        let at = self.at;
        let head = self.head()?;
        if head.major != ARRAY || head.number == 0 {
            return Err(self.refused(at, "there is an array of recipients"));
        }
        if head.number > RECIPIENTS_MAX as u64 {
            return Err(self.refused(at, "there are at most 128 recipients"));
        }
        for _ in 0..head.number {
            self.array_of(3, "a recipient is an array of 3")?;
            self.headers()?;
            self.bytes("what a recipient is given is a byte string")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(payload: &[u8], expect: Result<(), (usize, &str)>) {
        let found = check_sealed(payload).map_err(|error| (error.offset, error.rule));
        assert_eq!(found, expect, "{payload:02x?}");
    }

    /// `16([h'A10103', {4: h'01', 5: h'02'}, h'AABB'])`.
    const ENCRYPT0_ITEM: &[u8] = &[
        0xd0, 0x83, 0x43, 0xa1, 0x01, 0x03, 0xa2, 0x04, 0x41, 0x01, 0x05, 0x41, 0x02, 0x42, 0xaa,
        0xbb,
    ];

    fn envelope(recipients: usize) -> Vec<u8> {
        let mut payload = vec![0xd8, 96, 0x84, 0x40, 0xa0, 0x41, 7, 0x98];
        payload.push(u8::try_from(recipients).unwrap());
        for _ in 0..recipients {
            payload.extend([0x83, 0x40, 0xa1, 0x01, 0x38, 0x28, 0x40]);
        }
        payload
    }

    fn labelled(count: u8) -> Vec<u8> {
        let mut payload = vec![0xd0, 0x83, 0x40, 0xb8, count];
        for label in 0..count {
            payload.extend([0x18, 100 + label, 0xf6]);
        }
        payload.push(0x40);
        payload
    }

    fn nested(depth: usize) -> Vec<u8> {
        let mut payload = vec![0xd0, 0x83, 0x40, 0xa1, 0x18, 99];
        payload.extend(std::iter::repeat_n(0x81, depth));
        payload.extend([0xf6, 0x40]);
        payload
    }

    #[test]
    fn the_three_structures_are_sealed() {
        check(ENCRYPT0_ITEM, Ok(()));
        check(&[0xd1, 0x84, 0x40, 0xa0, 0x40, 0x40], Ok(()));
        check(&envelope(1), Ok(()));
        // The same tag in three bytes, and a label that is a text.
        check(
            &[0xd9, 0, 16, 0x83, 0x40, 0xa1, 0x61, b'x', 0x01, 0x40],
            Ok(()),
        );
    }

    #[test]
    fn every_truncation_and_extension_is_refused() {
        for whole in [ENCRYPT0_ITEM, &envelope(2)] {
            for length in 0..whole.len() {
                assert!(check_sealed(&whole[..length]).is_err(), "{length} bytes");
            }
            let longer = [whole, &[0]].concat();
            check(&longer, Err((whole.len(), "nothing follows the item")));
        }
    }

    #[test]
    fn what_is_not_sealed_is_refused_with_place_and_rule() {
        check(b"", Err((0, "the item is complete")));
        check(b"{\"text\": \"hello\"}", Err((0, "the item is tagged")));
        check(&[0xd2, 0x84, 0x40], Err((0, "the tag is 16, 17 or 96")));
        check(
            &[0xd0, 0x9f, 0x40, 0xa0, 0x40, 0xff],
            Err((1, "every length is definite")),
        );
        check(
            &[0xd0, 0x83, 0x40, 0xa0, 0xf6],
            Err((4, "the ciphertext is a byte string")),
        );
        check(
            &[0xd0, 0x83, 0x41, 0x80, 0xa0, 0x40],
            Err((3, "a header is a map")),
        );
        check(
            &[0xd0, 0x83, 0x43, 0xa1, 0x01, 0x03, 0xa1, 0x01, 0x03, 0x40],
            Err((7, "a label stands in the headers once")),
        );
        check(
            &[0xd0, 0x83, 0x43, 0xa1, 0x04, 0x03, 0xa0, 0x40],
            Err((5, "the labels of COSE have values of their types")),
        );
        check(
            &[0xd0, 0x83, 0x40, 0xa1, 0x18, 99, 0x61, 0xff, 0x40],
            Err((6, "a text is UTF-8")),
        );
        check(
            &[0xd8, 96, 0x84, 0x40, 0xa0, 0x40, 0x80],
            Err((6, "there is an array of recipients")),
        );
        // An array that promises more than memory has costs nothing.
        let mut huge = vec![0xd0, 0x83, 0x40, 0xa1, 0x18, 99, 0x9b];
        huge.extend([0xff; 8]);
        check(&huge, Err((15, "the item is complete")));
        let mut huge = vec![0xd0, 0x83, 0x5b];
        huge.extend([0xff; 8]);
        check(&huge, Err((11, "the item is complete")));
    }

    #[test]
    fn bounds_hold_at_n_and_refuse_beyond() {
        for (count, is_sealed) in [(128, true), (129, false), (255, false)] {
            assert_eq!(check_sealed(&envelope(count)).is_ok(), is_sealed, "{count}");
        }
        for (count, is_sealed) in [(32, true), (33, false), (64, false)] {
            assert_eq!(check_sealed(&labelled(count)).is_ok(), is_sealed, "{count}");
        }
        for (depth, is_sealed) in [(8, true), (9, false), (16, false), (100_000, false)] {
            assert_eq!(check_sealed(&nested(depth)).is_ok(), is_sealed, "{depth}");
        }
    }
}

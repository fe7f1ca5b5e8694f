//! Numbers as bytes: LEB128, as the log writes them.

/// What is kept in the views cannot be read: they have to be made again from the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the views hold no {0} where one belongs")]
pub struct Unreadable(pub &'static str);

/// Appends a number.
pub(crate) fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

/// A signed difference as a number that is small where the difference is.
pub(crate) fn fold_sign(difference: i64) -> u64 {
    (difference << 1 ^ difference >> 63).cast_unsigned()
}

/// What [`fold_sign`] made of it.
pub(crate) fn unfold_sign(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

/// Reads what [`put`] wrote, from the front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Numbers<'a> {
    /// From `bytes`; `what` names them if they cannot be read.
    pub(crate) fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn next(&mut self) -> Result<u64, Unreadable> {
        // Most numbers are of one byte.
        if let Some((&byte, rest)) = self.rest.split_first()
            && byte < 0x80
        {
            self.rest = rest;
            return Ok(u64::from(byte));
        }
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Unreadable(self.what))
    }

    pub(crate) fn small(&mut self) -> Result<u32, Unreadable> {
        u32::try_from(self.next()?).map_err(|_| Unreadable(self.what))
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Unreadable> {
        let (&byte, rest) = self.rest.split_first().ok_or(Unreadable(self.what))?;
        self.rest = rest;
        Ok(byte)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Unreadable> {
        let len = usize::try_from(self.next()?).map_err(|_| Unreadable(self.what))?;
        let (bytes, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(Unreadable(self.what))?;
        self.rest = rest;
        Ok(bytes)
    }
}

//! A buffer of bytes on their way to a socket.

/// Bytes to send, in memory that is used again without being filled with zeros each time.
#[derive(Default)]
pub(crate) struct Outgoing {
    /// All initialised; those up to `len` are to be sent.
    bytes: Vec<u8>,
    len: usize,
}

impl Outgoing {
    /// What is to be sent.
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Forgets what is in it; the memory stays.
    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// Makes sure of memory for `len` bytes more.
    pub(crate) fn reserve(&mut self, len: usize) {
        if self.bytes.len() < self.len + len {
            self.bytes.resize(self.len + len, 0);
        }
    }

    /// Appends what `write` puts at the beginning of the room it is given: it returns how much that
    /// is, or how much room it needs and is asked once more.
    pub(crate) fn put(&mut self, mut write: impl FnMut(&mut [u8]) -> Result<usize, usize>) {
        for _ in 0..2 {
            match write(self.bytes.get_mut(self.len..).unwrap_or_default()) {
                Ok(len) => {
                    self.len = (self.len + len).min(self.bytes.len());
                    return;
                }
                Err(needed) => self.reserve(needed),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_more_room_gets_it() {
        let mut out = Outgoing::default();
        let put = |bytes: &'static [u8]| {
            move |room: &mut [u8]| {
                let place = room.get_mut(..bytes.len()).ok_or(bytes.len())?;
                place.copy_from_slice(bytes);
                Ok(bytes.len())
            }
        };
        out.put(put(b"ab"));
        out.put(put(b"cde"));
        assert_eq!(out.as_slice(), b"abcde");
        out.put(|_| Err(100));
        assert_eq!(out.as_slice(), b"abcde");
        out.clear();
        assert_eq!(out.as_slice(), b"");
        out.put(put(b"f"));
        assert_eq!(out.as_slice(), b"f");
    }
}

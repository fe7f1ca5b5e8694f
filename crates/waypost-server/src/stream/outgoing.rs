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

    /// Nothing is to be sent.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
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

    /// Appends `bytes`.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        if let Some(place) = self.bytes.get_mut(self.len..self.len + bytes.len()) {
            place.copy_from_slice(bytes);
            self.len += bytes.len();
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
        out.extend(b"ab");
        out.put(|room| {
            let place = room.get_mut(..3).ok_or(3_usize)?;
            place.copy_from_slice(b"cde");
            Ok(3)
        });
        assert_eq!(out.as_slice(), b"abcde");
        out.put(|_| Err(100));
        assert_eq!(out.as_slice(), b"abcde");
        out.clear();
        assert!(out.is_empty());
        out.extend(b"f");
        assert_eq!(out.as_slice(), b"f");
    }
}

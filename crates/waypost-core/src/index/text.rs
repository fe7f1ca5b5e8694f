//! A short text without an allocation of its own.

/// Text of at most `N` bytes lies inside; longer text on the heap.
pub(super) enum Text<const N: usize> {
    Inline { len: u8, bytes: [u8; N] },
    Heap(Box<[u8]>),
}

impl<const N: usize> Text<N> {
    pub(super) fn new(text: &[u8]) -> Self {
        let mut bytes = [0; N];
        match (u8::try_from(text.len()), bytes.get_mut(..text.len())) {
            (Ok(len), Some(inside)) => {
                inside.copy_from_slice(text);
                Self::Inline { len, bytes }
            }
            _ => Self::Heap(text.into()),
        }
    }

    #[inline]
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Heap(bytes) => bytes,
        }
    }

    pub(super) fn as_str(&self) -> &str {
        str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Inline { .. } => 0,
            Self::Heap(bytes) => bytes.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_back_whatever_its_length() {
        for text in ["", "a", "exactly eight", "æøå", &"long ".repeat(100)] {
            assert_eq!(Text::<13>::new(text.as_bytes()).as_str(), text);
        }
        assert_eq!(Text::<13>::new(b"exactly eight").heap_bytes(), 0);
        assert_eq!(Text::<13>::new(b"fourteen bytes").heap_bytes(), 14);
    }
}

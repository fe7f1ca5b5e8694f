//! Slots with stable numbers, reused once empty.
//!
//! The slots lie in chunks, so that growing copies nothing and wastes at most one chunk.

const CHUNK_BITS: u32 = 12;
const CHUNK_SLOTS: usize = 1 << CHUNK_BITS;
const NONE: u32 = u32::MAX;
/// The top bit of a number is its user's to use.
const SLOTS_MAX: u32 = 1 << 31;

pub(super) struct Slab<T> {
    chunks: Vec<Vec<Slot<T>>>,
    /// The most recently emptied slot, the head of a list through all empty ones.
    vacant: u32,
    len: usize,
}

enum Slot<T> {
    Occupied(T),
    Vacant { next: u32 },
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self {
            chunks: Vec::new(),
            vacant: NONE,
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// One more than the highest number in use.
    pub(super) fn end(&self) -> u32 {
        let full = self.chunks.len().saturating_sub(1) * CHUNK_SLOTS;
        u32::try_from(full + self.chunks.last().map_or(0, Vec::len)).unwrap_or(NONE)
    }

    #[inline]
    pub(super) fn get(&self, id: u32) -> Option<&T> {
        match self
            .chunks
            .get((id >> CHUNK_BITS) as usize)?
            .get(id as usize % CHUNK_SLOTS)?
        {
            Slot::Occupied(value) => Some(value),
            Slot::Vacant { .. } => None,
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        match self.slot(id)? {
            Slot::Occupied(value) => Some(value),
            Slot::Vacant { .. } => None,
        }
    }

    fn slot(&mut self, id: u32) -> Option<&mut Slot<T>> {
        self.chunks
            .get_mut((id >> CHUNK_BITS) as usize)?
            .get_mut(id as usize % CHUNK_SLOTS)
    }

    pub(super) fn insert(&mut self, value: T) -> u32 {
        self.len += 1;
        let id = self.vacant;
        if let Some(slot) = self.slot(id)
            && let Slot::Vacant { next } = *slot
        {
            *slot = Slot::Occupied(value);
            self.vacant = next;
            return id;
        }
        if self
            .chunks
            .last()
            .is_none_or(|chunk| chunk.len() == CHUNK_SLOTS)
        {
            // Only the first chunk grows step by step: a small index stays small.
            let capacity = if self.chunks.is_empty() {
                0
            } else {
                CHUNK_SLOTS
            };
            self.chunks.push(Vec::with_capacity(capacity));
        }
        let id = self.end();
        assert!(id < SLOTS_MAX, "fewer than 2^31 slots");
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.push(Slot::Occupied(value));
        }
        id
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<T> {
        let next = self.vacant;
        let slot = self.slot(id)?;
        if matches!(slot, Slot::Vacant { .. }) {
            return None;
        }
        let Slot::Occupied(value) = std::mem::replace(slot, Slot::Vacant { next }) else {
            return None;
        };
        self.vacant = id;
        self.len -= 1;
        if self.len == 0 {
            *self = Self::new();
        }
        Some(value)
    }

    /// Bytes of the slots, occupied or not.
    pub(super) fn bytes(&self) -> usize {
        let slots: usize = self.chunks.iter().map(Vec::capacity).sum();
        slots * size_of::<Slot<T>>() + self.chunks.capacity() * size_of::<Vec<Slot<T>>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_stable_and_reused() {
        let mut slab = Slab::new();
        let ids: Vec<u32> = (0..10_000u32).map(|n| slab.insert(n)).collect();
        assert_eq!(slab.remove(ids[5_000]), Some(5_000));
        assert_eq!(slab.remove(ids[5_000]), None);
        assert_eq!(slab.get(ids[5_000]), None);
        assert_eq!(slab.insert(7), ids[5_000]);
        assert_eq!(slab.get(ids[9_999]), Some(&9_999));
        assert_eq!(slab.get(10_000), None);
        assert_eq!(slab.get(NONE), None);
        assert_eq!(slab.len(), 10_000);
    }

    #[test]
    fn an_emptied_slab_keeps_no_memory() {
        let mut slab = Slab::new();
        for n in 0..10_000u32 {
            slab.insert(n);
        }
        for n in 0..10_000u32 {
            slab.remove(n);
        }
        assert_eq!((slab.len(), slab.bytes()), (0, 0));
    }
}

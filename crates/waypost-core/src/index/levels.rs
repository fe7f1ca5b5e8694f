//! Topic levels, each text stored once and counted.

use super::hash::Seed;
use super::slab::Slab;
use super::split_table::SplitTable;
use super::text::Text;

/// Stands for the text of one level; two levels with the same text have the same number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LevelId(pub(super) u32);

impl LevelId {
    /// `+`, which is never stored as a text.
    pub(super) const SINGLE: Self = Self(u32::MAX);
    /// `#`, likewise.
    pub(super) const MULTI: Self = Self(u32::MAX - 1);
}

/// 32 bytes; the levels of most filters fit inside.
struct Level {
    text: Text<22>,
    hash: u32,
    references: u32,
}

pub(super) struct Levels {
    seed: Seed,
    slots: Slab<Level>,
    /// Found by the hash of the text.
    table: SplitTable,
    heap_bytes: usize,
}

impl Levels {
    pub(super) fn new(seed: Seed) -> Self {
        Self {
            seed,
            slots: Slab::new(),
            table: SplitTable::new(),
            heap_bytes: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    #[inline]
    pub(super) fn hash(&self, text: &[u8]) -> u32 {
        (self.seed.bytes(text) >> 32) as u32
    }

    #[inline]
    pub(super) fn find(&self, text: &[u8]) -> Option<LevelId> {
        let hash = self.hash(text);
        self.table
            .find(hash, |id| self.is(LevelId(id), text, hash))
            .map(LevelId)
    }

    /// Whether a number stands for this text, which has this hash.
    #[inline]
    pub(super) fn is(&self, id: LevelId, text: &[u8], hash: u32) -> bool {
        self.slots
            .get(id.0)
            .is_some_and(|level| level.hash == hash && level.text.as_bytes() == text)
    }

    /// The number of a text, with one more reference to it.
    pub(super) fn acquire(&mut self, text: &[u8]) -> LevelId {
        let hash = self.hash(text);
        if let Some(id) = self
            .table
            .find(hash, |id| self.is(LevelId(id), text, hash))
            .map(LevelId)
        {
            if let Some(level) = self.slots.get_mut(id.0) {
                level.references += 1;
            }
            return id;
        }
        let text = Text::new(text);
        self.heap_bytes += text.heap_bytes();
        let id = LevelId(self.slots.insert(Level {
            text,
            hash,
            references: 1,
        }));
        self.table
            .insert(hash, id.0, |other| hash_of(&self.slots, LevelId(other)));
        id
    }

    /// Gives one reference back; the last one frees the number.
    pub(super) fn release(&mut self, id: LevelId) {
        let Some(level) = self.slots.get_mut(id.0) else {
            return;
        };
        level.references -= 1;
        if level.references > 0 {
            return;
        }
        let hash = level.hash;
        self.heap_bytes -= level.text.heap_bytes();
        self.table
            .remove(hash, id.0, |other| hash_of(&self.slots, LevelId(other)));
        self.slots.remove(id.0);
    }

    pub(super) fn text(&self, id: LevelId) -> &str {
        match id {
            LevelId::SINGLE => "+",
            LevelId::MULTI => "#",
            _ => self.slots.get(id.0).map_or("", |level| level.text.as_str()),
        }
    }

    pub(super) fn hash_of(&self, id: LevelId) -> u32 {
        hash_of(&self.slots, id)
    }

    pub(super) fn bytes(&self) -> usize {
        self.slots.bytes() + self.table.bytes() + self.heap_bytes
    }
}

fn hash_of(slots: &Slab<Level>, id: LevelId) -> u32 {
    slots.get(id.0).map_or(0, |level| level.hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_one_number_until_its_last_reference_goes() {
        let mut levels = Levels::new(Seed::new(1));
        let empty = levels.bytes();
        let long = "x".repeat(1_000);
        let (a, b) = (levels.acquire(b"a"), levels.acquire(long.as_bytes()));
        assert_ne!(a, b);
        assert_eq!(levels.acquire(long.as_bytes()), b);
        assert_eq!(levels.find(long.as_bytes()), Some(b));
        assert_eq!(levels.text(b), long);
        levels.release(b);
        assert_eq!(levels.find(long.as_bytes()), Some(b));
        levels.release(b);
        assert_eq!(levels.find(long.as_bytes()), None);
        assert_eq!(levels.acquire(b""), b, "the number is used again");
        levels.release(a);
        levels.release(b);
        assert_eq!((levels.len(), levels.bytes()), (0, empty));
    }
}

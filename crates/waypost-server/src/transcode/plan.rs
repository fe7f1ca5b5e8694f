//! What is to be done with a message, and for whom.

use std::sync::Arc;

use waypost_compress::dictionary::Dictionary;
use waypost_compress::{Stages, zstd_dict};

use super::accepted::Accepted;
use super::recent::Direction;
use crate::dictionaries::Shelf;

/// What is to be done with a message.
#[derive(Debug)]
pub(crate) enum Plan {
    /// It is packed, and unpacked for whoever cannot read that.
    Unpack(Way),
    /// It is not packed, but is for whoever can read one of these; the first of them is the best.
    Pack(Vec<Way>),
}

impl Plan {
    /// The way to the form that somebody gets; `None`: the message as it came. `may_read`: the dictionaries of the policy
    /// with this filter.
    pub(crate) fn way(
        &self,
        accepted: Accepted,
        mut may_read: impl FnMut(&Arc<str>) -> bool,
    ) -> Option<usize> {
        let mut reads =
            |way: &Way| accepted.covers(way.needs) && way.book.as_ref().is_none_or(&mut may_read);
        match self {
            Self::Unpack(way) => (!reads(way)).then_some(0),
            Self::Pack(ways) => ways.iter().position(reads),
        }
    }

    /// All ways of it.
    pub(crate) fn ways(&self) -> &[Way] {
        match self {
            Self::Unpack(way) => std::slice::from_ref(way),
            Self::Pack(ways) => ways,
        }
    }
}

/// From a message to another form of it.
#[derive(Debug)]
pub(crate) struct Way {
    pub(super) direction: Direction,
    pub(super) stages: Stages,
    /// What whoever gets the packed form has to accept,
    needs: Accepted,
    /// and the filter of the policy whose dictionary they have to read.
    book: Option<Arc<str>>,
    /// What packs.
    pub(super) dictionary: Option<Arc<Dictionary>>,
}

impl Way {
    /// To the unpacked form of a payload. `None`: nobody can be known to accept how it is packed.
    pub(super) fn unpacking(stages: Stages, payload: &[u8], shelf: &Shelf) -> Option<Self> {
        // `zstd-dict` comes first where it comes at all: with others after it, nothing says which dictionary it is, and it
        // could be anybody's.
        let book = match stages.strategies() {
            [only] if only.name == zstd_dict::NAME => {
                let id = zstd_dict::dictionary_id(payload);
                id.and_then(|id| shelf.filter_of(id))
            }
            [first, ..] if first.name == zstd_dict::NAME => Some(EVERYTHING.into()),
            _ => None,
        };
        Some(Self {
            direction: Direction::Unpack,
            needs: Accepted::of(&stages)?,
            stages,
            book,
            dictionary: None,
        })
    }

    /// To the packed form by these stages, with this dictionary where they use one.
    pub(super) fn packing(
        key: u64,
        (stages, needs): (Stages, Accepted),
        filter: &Arc<str>,
        dictionary: Option<&Arc<Dictionary>>,
    ) -> Self {
        let uses = |name: &str| stages.strategies().iter().any(|one| one.name == name);
        let dictionary = dictionary.filter(|_| uses(zstd_dict::NAME));
        Self {
            direction: Direction::Pack(key),
            stages,
            needs,
            book: dictionary.map(|_| Arc::clone(filter)),
            dictionary: dictionary.cloned(),
        }
    }
}

/// Who may subscribe to this may read every dictionary.
const EVERYTHING: &str = "#";

//! What packs the messages of policies that leave it to the server: `compress = "auto"`.

use std::sync::Arc;

use waypost_compress::Strategy;
use waypost_compress::auto::Auto;
use waypost_compress::dictionary::Dictionary;

use super::coder::INLINE_BYTES_MAX;
use crate::dictionaries::Shelf;

/// Policies whose choices a shard remembers, each with some MiB of strategies at work. The one that was not asked for longest
/// begins anew when its messages come again.
const CHOOSERS_MAX: usize = 16;

struct Chooser {
    policy: u64,
    dictionary: Option<u32>,
    auto: Auto,
}

/// One for each policy, the one asked last at the end.
#[derive(Default)]
pub(super) struct Choosers {
    all: Vec<Chooser>,
}

impl Choosers {
    /// What packs a message of this policy cheaper than it is, the cheapest first. What a long one costs is told by its
    /// beginning, for this is done on the shard's loop.
    pub(super) fn rank(
        &mut self,
        policy: u64,
        dictionary: Option<&Arc<Dictionary>>,
        known: &Arc<Shelf>,
        (payload, content_type): (&[u8], Option<&str>),
    ) -> Vec<&'static Strategy> {
        let place = self.all.iter().position(|one| one.policy == policy);
        let mut chooser = match place {
            Some(place) => self.all.remove(place),
            None => Chooser {
                policy,
                dictionary: None,
                auto: Auto::default(),
            },
        };
        let id = dictionary.map(|dictionary| dictionary.id());
        if chooser.dictionary != id {
            let known = Arc::<Shelf>::clone(known);
            chooser.auto.set_dictionary(known, dictionary);
            chooser.dictionary = id;
        }
        let beginning = payload.get(..INLINE_BYTES_MAX).unwrap_or(payload);
        let ranked = chooser.auto.rank(beginning, content_type);
        if self.all.len() == CHOOSERS_MAX {
            self.all.remove(0);
        }
        self.all.push(chooser);
        // It refuses only what is longer than any packet.
        ranked.unwrap_or_default()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_policies_are_remembered() {
        for count in [CHOOSERS_MAX, CHOOSERS_MAX + 1, 2 * CHOOSERS_MAX] {
            let (mut choosers, shelf) = (Choosers::default(), Arc::default());
            for policy in 0..count {
                let message = (&b"hello, hello, hello, hello, hello"[..], None);
                choosers.rank(policy as u64, None, &shelf, message);
            }
            assert_eq!(choosers.len(), CHOOSERS_MAX);
        }
    }
}

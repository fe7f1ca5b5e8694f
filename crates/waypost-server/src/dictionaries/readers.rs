//! Who may read a dictionary: who may subscribe to the whole filter of the policy whose messages it is made of.

use std::sync::Arc;

use waypost_core::{Action, Permit, Verdict, Who};

use super::{Shelf, TOPIC};

/// A [`Permit`] that knows of dictionaries, around one that does not.
pub(crate) struct ReadersOf<P> {
    pub(crate) permit: P,
    pub(crate) shelf: Arc<Shelf>,
}

impl<P: Permit> Permit for ReadersOf<P> {
    fn check(&mut self, who: &Who<'_>, action: Action, topic: &str) -> Verdict {
        let below = topic.strip_prefix(TOPIC);
        let below = below.filter(|below| below.is_empty() || below.starts_with('/'));
        let (Some(below), Action::Subscribe) = (below, action) else {
            return self.permit.check(who, action, topic);
        };
        // Several at once, and what is not there yet, would be of policies that nobody can name.
        let id = below.strip_prefix('/').and_then(|id| id.parse().ok());
        match id.and_then(|id| self.shelf.filter_of(id)) {
            Some(filter) => self.permit.check(who, action, &filter),
            None => Verdict::Deny,
        }
    }

    fn is_open(&self) -> bool {
        self.permit.is_open()
    }
}

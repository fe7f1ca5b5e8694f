//! Which connections may read which dictionaries: those whose session may subscribe to the whole filter of the policy.
//!
//! The core knows, and cannot be asked while it delivers. So who is not known yet gets the message without a dictionary, and
//! is asked for at the end of the tick.

use std::collections::HashMap;
use std::sync::Arc;

use super::Shard;
use super::reading::connection_id;

/// What is known of one connection, by the filters of policies; there are as many at most as dictionaries are made for.
pub(super) type Readable = Option<Box<HashMap<Arc<str>, bool>>>;

/// What is to be asked.
#[derive(Debug, Default)]
pub(super) struct Readers {
    /// Everybody may read everything.
    pub(super) is_open: bool,
    asked: Vec<(usize, Arc<str>)>,
}

impl Readers {
    /// Whether the connection at that place may.
    pub(super) fn may_read(
        &mut self,
        index: usize,
        readable: &mut Readable,
        filter: &Arc<str>,
    ) -> bool {
        if self.is_open {
            return true;
        }
        let known = readable.get_or_insert_default();
        if let Some(may) = known.get(filter) {
            return *may;
        }
        known.insert(Arc::clone(filter), false);
        self.asked.push((index, Arc::clone(filter)));
        false
    }
}

impl Shard {
    /// Asks what was not known.
    pub(super) fn ask_for_readers(&mut self) {
        for (index, filter) in std::mem::take(&mut self.outlets.readers.asked) {
            let may = self.broker.may_subscribe(connection_id(index), &filter);
            if let Some(connection) = self.outlets.connections.get_mut(index) {
                connection
                    .readable
                    .get_or_insert_default()
                    .insert(filter, may);
            }
        }
    }

    /// Other rules hold: nothing is known.
    pub(super) fn forget_readers(&mut self) {
        self.outlets.readers.is_open = self.broker.is_open();
        for (_, connection) in &mut self.outlets.connections {
            connection.readable = None;
        }
    }
}

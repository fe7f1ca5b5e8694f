//! What waits for its time, as its home knows it: when, which, and how large; never the message itself.

use std::collections::{BTreeMap, BTreeSet};

use crate::journal::MessageId;
use crate::rows::Due;

/// Contents read ahead at a time.
pub(super) const READING_MAX: usize = 256;
/// Bytes of these. The first one is read in any case.
pub(super) const READING_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A topic and what a publisher calls a message on it, hashed under a secret.
pub(super) type Mark = u128;

/// A message that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub due: Due,
    /// Bytes of its content.
    pub bytes: u32,
}

/// A content that was asked for.
#[derive(Debug)]
enum Content {
    Asked,
    /// `None`: it is damaged, or was never kept.
    Read(Option<Box<[u8]>>),
}

#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Bytes of their contents.
    entries: BTreeMap<Due, u32>,
    /// Those that can be replaced and cancelled.
    named: BTreeMap<Mark, Due>,
    /// Of these, those whose shard has not said whether they are kept.
    unsure: BTreeMap<MessageId, Mark>,
    /// What each takes the place of, until that is deleted on disk: it is not published before.
    replaced: BTreeMap<MessageId, Vec<Due>>,
    /// Published, which the store refused to take note of.
    again: BTreeSet<MessageId>,
    reading: BTreeMap<MessageId, (Content, u32)>,
    reading_bytes: usize,
}

/// A message whose time has come.
#[derive(Debug)]
pub(super) struct Ready {
    pub entry: Entry,
    /// `None`: it is damaged, or was never kept.
    pub body: Option<Box<[u8]>>,
    /// It was published before, and the store refused to take note.
    pub is_again: bool,
}

/// What a word about a message comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Nothing,
    /// What this one takes the place of is to be deleted.
    Replace(MessageId),
    /// It waits no more.
    Gone,
}

/// Messages that were cancelled together: one, and what it was to take the place of.
#[derive(Debug)]
pub(super) struct Cancelled {
    pub mark: Mark,
    due: Due,
    /// Whose rows go.
    pub rows: Vec<Due>,
    /// Which of them waited.
    pub waited: Vec<Entry>,
}

impl Pending {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn first(&self) -> Option<Due> {
        self.entries.first_key_value().map(|(due, _)| *due)
    }

    /// One comes. `is_kept`: it is in the store already.
    pub fn insert(&mut self, entry: Entry, mark: Option<Mark>, is_kept: bool) -> Outcome {
        let Entry { due, bytes } = entry;
        self.entries.insert(due, bytes);
        let Some(mark) = mark else {
            return Outcome::Nothing;
        };
        if !is_kept {
            self.unsure.insert(due.id, mark);
        }
        match self.named.get(&mark) {
            // Of two shards' messages, the later one may come first.
            Some(later) if later.id > due.id => self.replace(later.id, due),
            earlier => {
                let earlier = earlier.copied();
                self.named.insert(mark, due);
                earlier.map_or(Outcome::Nothing, |earlier| self.replace(due.id, earlier))
            }
        }
    }

    fn replace(&mut self, by: MessageId, earlier: Due) -> Outcome {
        self.replaced.entry(by).or_default().push(earlier);
        if self.unsure.contains_key(&by) {
            Outcome::Nothing
        } else {
            Outcome::Replace(by)
        }
    }

    /// Its shard says whether it is kept.
    pub fn hear(&mut self, due: Due, is_kept: bool) -> Outcome {
        let mark = self.unsure.remove(&due.id);
        if is_kept {
            let replaces = mark.is_some() && self.replaced.contains_key(&due.id);
            return if replaces {
                Outcome::Replace(due.id)
            } else {
                Outcome::Nothing
            };
        }
        let earlier = self.replaced.remove(&due.id).unwrap_or_default();
        self.forget_content(due.id);
        let was_there = self.entries.remove(&due).is_some();
        match mark.and_then(|mark| Some((mark, *self.named.get(&mark)?))) {
            // What was to be replaced stays.
            Some((mark, last)) if last == due => {
                let mut waiting = earlier.into_iter();
                match waiting.find(|earlier| self.entries.contains_key(earlier)) {
                    Some(earlier) => self.named.insert(mark, earlier),
                    None => self.named.remove(&mark),
                };
            }
            Some((_, last)) => {
                if let Some(replaced) = self.replaced.get_mut(&last.id) {
                    replaced.retain(|replaced| *replaced != due);
                    replaced.extend(earlier);
                }
            }
            None => {}
        }
        if was_there {
            Outcome::Gone
        } else {
            Outcome::Nothing
        }
    }

    /// What a message takes the place of: all whose rows go, and how many of them waited.
    pub fn take_replaced(&mut self, by: MessageId) -> (Vec<Due>, usize) {
        let mut rows = self.replaced.remove(&by).unwrap_or_default();
        let mut waited = 0;
        let mut at = 0;
        while let Some(due) = rows.get(at).copied() {
            rows.extend(self.replaced.remove(&due.id).into_iter().flatten());
            waited += usize::from(self.entries.remove(&due).is_some());
            self.forget_content(due.id);
            at += 1;
        }
        rows.sort_unstable();
        rows.dedup();
        if !rows.is_empty() {
            self.replaced.insert(by, rows.clone());
        }
        (rows, waited)
    }

    /// Rows of what a message takes the place of are deleted on disk.
    pub fn replaced_deleted(&mut self, by: MessageId, rows: &[Due]) {
        if let Some(replaced) = self.replaced.get_mut(&by) {
            replaced.retain(|due| !rows.contains(due));
            if replaced.is_empty() {
                self.replaced.remove(&by);
            }
        }
    }

    /// Takes out what has a name. `None`: nothing of that name waits.
    pub fn cancel(&mut self, mark: Mark) -> Option<Cancelled> {
        let due = self.named.remove(&mark)?;
        let mut rows = vec![due];
        let mut waited = Vec::new();
        let mut at = 0;
        while let Some(due) = rows.get(at).copied() {
            rows.extend(self.replaced.remove(&due.id).into_iter().flatten());
            let bytes = self.entries.remove(&due);
            waited.extend(bytes.map(|bytes| Entry { due, bytes }));
            self.forget_content(due.id);
            at += 1;
        }
        Some(Cancelled {
            mark,
            due,
            rows,
            waited,
        })
    }

    /// It could not be cancelled: it waits on, unless another one of the name came.
    pub fn put_back(&mut self, cancelled: Cancelled) -> Outcome {
        let Cancelled {
            mark,
            due,
            mut rows,
            waited,
        } = cancelled;
        for Entry { due, bytes } in waited {
            self.entries.insert(due, bytes);
        }
        let later = self.named.get(&mark).copied();
        let by = later.unwrap_or(due);
        if later.is_none() {
            self.named.insert(mark, due);
            rows.retain(|row| *row != due);
        }
        if !rows.is_empty() {
            self.replaced.entry(by.id).or_default().extend(rows);
        }
        if self.unsure.contains_key(&by.id) || !self.replaced.contains_key(&by.id) {
            Outcome::Nothing
        } else {
            Outcome::Replace(by.id)
        }
    }

    /// The store refused to take note that one was published. It is to be published again.
    pub fn refused(&mut self, entry: Entry) {
        self.entries.insert(entry.due, entry.bytes);
        self.again.insert(entry.due.id);
    }

    /// The store refused to take note that one is not to be published.
    pub fn not_dropped(&mut self, entry: Entry) {
        self.entries.insert(entry.due, entry.bytes);
    }

    /// Takes the first one whose time has come and whose content was read.
    pub fn pop(&mut self, date_ms: u64) -> Option<Ready> {
        let (due, bytes) = self.entries.first_key_value()?;
        let entry = Entry {
            due: *due,
            bytes: *bytes,
        };
        let id = entry.due.id;
        let is_read = matches!(self.reading.get(&id), Some((Content::Read(_), _)));
        if entry.due.wall_ms > date_ms
            || !is_read
            || self.replaced.contains_key(&id)
            || self.may_be_replaced(entry.due)
        {
            return None;
        }
        self.entries.remove(&entry.due);
        Some(Ready {
            entry,
            body: self.forget_content(id),
            is_again: self.again.remove(&id),
        })
    }

    /// Whether it is not known yet that what is to take its place is kept. There are only a few such at a time.
    fn may_be_replaced(&self, due: Due) -> bool {
        let is_unsure = |by: &MessageId| self.unsure.contains_key(by);
        let mut replaced = self.replaced.iter();
        replaced.any(|(by, earlier)| is_unsure(by) && earlier.contains(&due))
    }

    /// It is being published: too late to replace or to cancel it.
    pub fn too_late(&mut self, mark: Mark, due: Due) {
        if self.named.get(&mark) == Some(&due) {
            self.named.remove(&mark);
        }
    }

    /// As [`Self::too_late`], of one whose name cannot be read.
    pub fn forget_name(&mut self, due: Due) {
        self.named.retain(|_, named| *named != due);
    }

    fn forget_content(&mut self, id: MessageId) -> Option<Box<[u8]>> {
        let (content, bytes) = self.reading.remove(&id)?;
        self.reading_bytes -= bytes as usize;
        match content {
            Content::Asked => None,
            Content::Read(content) => content,
        }
    }

    /// What is to be read next of what is due until then.
    pub fn read_ahead(&mut self, date_ms: u64) -> Vec<MessageId> {
        let mut asked = Vec::new();
        let Some(first) = self.first().filter(|first| first.wall_ms <= date_ms) else {
            return asked;
        };
        let has_room =
            self.reading.len() <= READING_MAX / 2 && self.reading_bytes <= READING_BYTES_MAX / 2;
        if !has_room && self.reading.contains_key(&first.id) {
            return asked;
        }
        for (due, bytes) in self.entries.iter().take(READING_MAX) {
            if due.wall_ms > date_ms {
                break;
            }
            if self.reading.contains_key(&due.id) {
                continue;
            }
            let is_full = self.reading.len() >= READING_MAX
                || self.reading_bytes + *bytes as usize > READING_BYTES_MAX;
            if is_full && *due != first {
                break;
            }
            self.reading.insert(due.id, (Content::Asked, *bytes));
            self.reading_bytes += *bytes as usize;
            asked.push(due.id);
        }
        asked
    }

    /// Whether the content of the first one is there, or comes.
    pub fn is_first_asked(&self) -> bool {
        self.first()
            .is_some_and(|first| self.reading.contains_key(&first.id))
    }

    /// A content came; `false`: nobody asked for it.
    pub fn take_content(&mut self, id: MessageId, body: Option<&[u8]>) -> bool {
        match self.reading.get_mut(&id) {
            Some((content, _)) => {
                *content = Content::Read(body.map(Box::from));
                true
            }
            None => false,
        }
    }
}

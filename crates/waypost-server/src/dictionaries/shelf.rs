//! Every dictionary of this server, by id, and which of them each policy packs with.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use waypost_compress::dictionary::{Dictionaries, Dictionary};

/// Dictionaries that one policy may have in all; then it keeps the last.
pub(crate) const VERSIONS_MAX: usize = 16;

/// What all threads look up; new ones are put there by one.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    books: RwLock<Books>,
}

#[derive(Debug, Default)]
struct Books {
    all: HashMap<u32, Book>,
    current: HashMap<Arc<str>, Arc<Dictionary>>,
}

#[derive(Debug)]
struct Book {
    dictionary: Arc<Dictionary>,
    /// The filter of the policy whose messages it is made of.
    filter: Arc<str>,
}

impl Shelf {
    fn read<T>(&self, look: impl FnOnce(&Books) -> T) -> T {
        look(&self.books.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A policy packs with this one from now on.
    pub(crate) fn put(&self, filter: &Arc<str>, dictionary: Arc<Dictionary>) {
        let mut books = self.books.write().unwrap_or_else(PoisonError::into_inner);
        let book = Book {
            dictionary: Arc::clone(&dictionary),
            filter: Arc::clone(filter),
        };
        books.all.insert(dictionary.id(), book);
        books.current.insert(Arc::clone(filter), dictionary);
    }

    /// What the policy with this filter packs with.
    pub(crate) fn current(&self, filter: &str) -> Option<Arc<Dictionary>> {
        self.read(|books| books.current.get(filter).cloned())
    }

    /// The filter of the policy whose messages it is made of.
    pub(crate) fn filter_of(&self, id: u32) -> Option<Arc<str>> {
        self.read(|books| books.all.get(&id).map(|book| Arc::clone(&book.filter)))
    }

    /// Whether something may name this id.
    pub(crate) fn is_taken(&self, id: u32) -> bool {
        self.read(|books| books.all.contains_key(&id))
    }

    /// How many dictionaries a policy has had.
    pub(crate) fn versions(&self, filter: &str) -> usize {
        self.read(|books| {
            let of_filter = |book: &&Book| *book.filter == *filter;
            books.all.values().filter(of_filter).count()
        })
    }

    /// All of them, by id.
    pub(crate) fn all(&self) -> Vec<Arc<Dictionary>> {
        let mut all: Vec<_> = self.read(|books| {
            let each = books.all.values();
            each.map(|book| Arc::clone(&book.dictionary)).collect()
        });
        all.sort_by_key(|dictionary: &Arc<Dictionary>| dictionary.id());
        all
    }
}

impl Dictionaries for Shelf {
    fn find(&self, id: u32) -> Option<Arc<Dictionary>> {
        self.read(|books| {
            let book = books.all.get(&id)?;
            Some(Arc::clone(&book.dictionary))
        })
    }
}

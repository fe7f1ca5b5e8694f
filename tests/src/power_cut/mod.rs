//! A file system in memory that forgets at a power cut what nobody has synced.
//!
//! [`Volatile`] is its content, now and as it would be found after a cut; [`PowerCut`] mounts it with FUSE. What was not
//! synced is lost page by page, at random, so that writes are torn and arrive out of order; a file's length likewise;
//! names made, removed and changed since their directory was synced survive up to a random one of them, as a journal
//! would have it. Syncing a file does not sync its name.

mod mount;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

pub use mount::PowerCut;

use crate::random::Random;

/// Unit in which unsynced writes are lost.
const PAGE: usize = 4096;
/// The number of the root directory.
const ROOT: u64 = 1;

type Page = [u8; PAGE];

/// What an inode is.
#[derive(Debug)]
enum Node {
    File(File),
    Directory(Directory),
    /// A socket: a name, nothing more.
    Socket,
}

#[derive(Debug, Default)]
struct File {
    len: u64,
    pages: HashMap<u64, Arc<Page>>,
    dirty: BTreeSet<u64>,
    durable_len: u64,
    durable: HashMap<u64, Arc<Page>>,
}

#[derive(Debug, Default)]
struct Directory {
    entries: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    /// What was done since the last sync: entries that changed together, none where one went.
    changes: Vec<Vec<(String, Option<u64>)>>,
}

/// The file system's content.
#[derive(Debug)]
pub struct Volatile {
    nodes: HashMap<u64, Node>,
    last: u64,
    random: Random,
}

/// Why an operation is not possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    NoEntry,
    Exists,
    NotDirectory,
    IsDirectory,
    NotEmpty,
}

impl Volatile {
    /// An empty one, whose cuts follow from a seed.
    pub fn new(seed: u64) -> Self {
        let nodes = HashMap::from([(ROOT, Node::Directory(Directory::default()))]);
        Self {
            nodes,
            last: ROOT,
            random: Random::new(seed),
        }
    }

    fn directory(&mut self, node: u64) -> Result<&mut Directory, Refused> {
        match self.nodes.get_mut(&node) {
            Some(Node::Directory(directory)) => Ok(directory),
            Some(_) => Err(Refused::NotDirectory),
            None => Err(Refused::NoEntry),
        }
    }

    fn file(&mut self, node: u64) -> Result<&mut File, Refused> {
        match self.nodes.get_mut(&node) {
            Some(Node::File(file)) => Ok(file),
            Some(_) => Err(Refused::IsDirectory),
            None => Err(Refused::NoEntry),
        }
    }

    fn look_up(&mut self, parent: u64, name: &str) -> Result<u64, Refused> {
        self.directory(parent)?
            .entries
            .get(name)
            .copied()
            .ok_or(Refused::NoEntry)
    }

    fn make(&mut self, parent: u64, name: &str, node: Node) -> Result<u64, Refused> {
        let number = self.last + 1;
        let directory = self.directory(parent)?;
        if directory.entries.contains_key(name) {
            return Err(Refused::Exists);
        }
        directory.change(vec![(name.to_owned(), Some(number))]);
        self.last = number;
        self.nodes.insert(number, node);
        Ok(number)
    }

    fn remove(&mut self, parent: u64, name: &str) -> Result<(), Refused> {
        let node = self.look_up(parent, name)?;
        if let Some(Node::Directory(directory)) = self.nodes.get(&node)
            && !directory.entries.is_empty()
        {
            return Err(Refused::NotEmpty);
        }
        self.directory(parent)?
            .change(vec![(name.to_owned(), None)]);
        Ok(())
    }

    /// Renames within one directory at once, and between two in two steps.
    fn rename(&mut self, parent: u64, name: &str, to: u64, new: &str) -> Result<(), Refused> {
        let node = self.look_up(parent, name)?;
        if parent == to {
            self.directory(parent)?
                .change(vec![(name.to_owned(), None), (new.to_owned(), Some(node))]);
        } else {
            self.directory(to)?
                .change(vec![(new.to_owned(), Some(node))]);
            self.directory(parent)?
                .change(vec![(name.to_owned(), None)]);
        }
        Ok(())
    }

    fn sync(&mut self, node: u64) -> Result<(), Refused> {
        match self.nodes.get_mut(&node) {
            Some(Node::File(file)) => file.sync(),
            Some(Node::Directory(directory)) => {
                directory.durable = directory.entries.clone();
                directory.changes.clear();
            }
            Some(Node::Socket) => {}
            None => return Err(Refused::NoEntry),
        }
        Ok(())
    }

    /// The power goes and comes back. Nobody may have a file open.
    pub fn cut(&mut self) {
        let mut numbers: Vec<u64> = self.nodes.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            let Some(mut node) = self.nodes.remove(&number) else {
                continue;
            };
            match &mut node {
                Node::File(file) => self.cut_file(file),
                Node::Directory(directory) => {
                    let kept = self.random.below(directory.changes.len() as u64 + 1);
                    let changes = std::mem::take(&mut directory.changes);
                    directory.entries = directory.durable.clone();
                    for (name, node) in changes
                        .into_iter()
                        .take(usize::try_from(kept).unwrap_or_default())
                        .flatten()
                    {
                        set(&mut directory.entries, name, node);
                    }
                    directory.durable = directory.entries.clone();
                }
                Node::Socket => {}
            }
            self.nodes.insert(number, node);
        }
        self.forget_unnamed();
    }

    fn cut_file(&mut self, file: &mut File) {
        for page in std::mem::take(&mut file.dirty) {
            let now = file.pages.get(&page).cloned();
            match (self.random.below(8), now) {
                // Reached the disk by itself.
                (0..4, Some(now)) => {
                    file.durable.insert(page, now);
                }
                // Torn: sectors of 512 bytes, some of them new.
                (4, Some(now)) => {
                    let mut torn = file.durable.get(&page).map_or([0; PAGE], |old| **old);
                    for (torn, now) in torn.chunks_mut(512).zip(now.chunks(512)) {
                        if self.random.below(2) == 0 {
                            torn.copy_from_slice(now);
                        }
                    }
                    file.durable.insert(page, Arc::new(torn));
                }
                _ => {}
            }
        }
        if file.len != file.durable_len && self.random.below(2) == 0 {
            file.durable_len = file.len;
        }
        file.len = file.durable_len;
        file.durable
            .retain(|page, _| page * (PAGE as u64) < file.len);
        file.pages = file.durable.clone();
    }

    /// What no directory names is gone.
    fn forget_unnamed(&mut self) {
        let mut named = HashSet::from([ROOT]);
        let mut folders = vec![ROOT];
        while let Some(folder) = folders.pop() {
            if let Some(Node::Directory(directory)) = self.nodes.get(&folder) {
                for &node in directory.entries.values() {
                    named.insert(node);
                    folders.push(node);
                }
            }
        }
        self.nodes.retain(|number, _| named.contains(number));
    }
}

fn set(entries: &mut BTreeMap<String, u64>, name: String, node: Option<u64>) {
    match node {
        Some(node) => entries.insert(name, node),
        None => entries.remove(&name),
    };
}

impl Directory {
    fn change(&mut self, change: Vec<(String, Option<u64>)>) {
        for (name, node) in &change {
            set(&mut self.entries, name.clone(), *node);
        }
        self.changes.push(change);
    }
}

impl File {
    fn read(&self, offset: u64, size: usize) -> Vec<u8> {
        let end = self.len.min(offset + size as u64);
        let mut bytes = Vec::with_capacity(size);
        let mut at = offset;
        while at < end {
            let (page, within) = split(at);
            let count = (PAGE - within).min(usize::try_from(end - at).unwrap_or(PAGE));
            match self.pages.get(&page) {
                Some(page) => bytes.extend_from_slice(&page[within..within + count]),
                None => bytes.resize(bytes.len() + count, 0),
            }
            at += count as u64;
        }
        bytes
    }

    fn write(&mut self, offset: u64, mut bytes: &[u8]) {
        let mut at = offset;
        while !bytes.is_empty() {
            let (page, within) = split(at);
            let (now, rest) = bytes.split_at(bytes.len().min(PAGE - within));
            let content = Arc::make_mut(
                self.pages
                    .entry(page)
                    .or_insert_with(|| Arc::new([0; PAGE])),
            );
            content[within..within + now.len()].copy_from_slice(now);
            self.dirty.insert(page);
            at += now.len() as u64;
            bytes = rest;
        }
        self.len = self.len.max(at);
    }

    fn set_len(&mut self, len: u64) {
        if len < self.len {
            let (last, within) = split(len);
            self.pages
                .retain(|&page, _| page < last || page == last && within > 0);
            if let Some(page) = self.pages.get_mut(&last) {
                Arc::make_mut(page)[within..].fill(0);
                self.dirty.insert(last);
            }
            // A shorter file is a change of its metadata, which is journaled at once here.
            self.durable_len = self.durable_len.min(len);
            self.durable
                .retain(|&page, _| page < last || page == last && within > 0);
        }
        self.len = len;
    }

    fn sync(&mut self) {
        for page in std::mem::take(&mut self.dirty) {
            if let Some(now) = self.pages.get(&page) {
                self.durable.insert(page, Arc::clone(now));
            }
        }
        self.durable_len = self.len;
    }
}

fn split(offset: u64) -> (u64, usize) {
    let page = PAGE as u64;
    (
        offset / page,
        usize::try_from(offset % page).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a file holds after a cut, for many seeds, when `old` is synced and `new` is not.
    fn cuts(old: &[u8], new: &[u8]) -> Vec<Vec<u8>> {
        let after = |seed| {
            let mut disk = Volatile::new(seed);
            let file = disk
                .make(ROOT, "file", Node::File(File::default()))
                .unwrap();
            disk.file(file).unwrap().write(0, old);
            disk.sync(file).unwrap();
            disk.sync(ROOT).unwrap();
            disk.file(file).unwrap().write(old.len() as u64, new);
            disk.cut();
            disk.file(file).unwrap().read(0, old.len() + new.len())
        };
        (0..100).map(after).collect()
    }

    #[test]
    fn what_is_synced_stays_and_the_rest_may_go() {
        let (old, new) = (vec![1; PAGE + 7], vec![2; 3 * PAGE]);
        let all = cuts(&old, &new);
        assert!(all.iter().all(|content| content.starts_with(&old)));
        assert!(all.iter().any(|content| content.len() == old.len()));
        assert!(
            all.iter()
                .any(|content| content.len() > old.len() && !content.ends_with(&new))
        );
        assert!(
            all.iter()
                .any(|content| content[old.len()..].contains(&2)
                    && content[old.len()..].contains(&0))
        );
    }

    #[test]
    fn names_stay_up_to_a_change_once_their_directory_is_not_synced() {
        let mut seen = BTreeSet::new();
        for seed in 0..100 {
            let mut disk = Volatile::new(seed);
            disk.make(ROOT, "old", Node::Socket).unwrap();
            disk.sync(ROOT).unwrap();
            disk.rename(ROOT, "old", ROOT, "new").unwrap();
            disk.make(ROOT, "later", Node::Socket).unwrap();
            disk.cut();
            seen.insert(
                disk.directory(ROOT)
                    .unwrap()
                    .entries
                    .keys()
                    .cloned()
                    .collect::<Vec<_>>(),
            );
        }
        let expected = [vec!["later", "new"], vec!["new"], vec!["old"]];
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_shorter_file_is_shorter() {
        let mut file = File::default();
        file.write(0, &[1; 2 * PAGE]);
        file.sync();
        file.set_len(10);
        file.set_len(20);
        assert_eq!(file.read(0, 100), [[1; 10], [0; 10]].concat());
    }
}

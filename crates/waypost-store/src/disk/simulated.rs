//! A disk in memory that loses, tears and damages, by a seed.
//!
//! It knows what was written and what was synced. A crash ([`SimulatedDisk::crash`]) keeps what was synced and, page by
//! page, as luck has it, what was not: each page new, old or torn between two sectors; files of any length between; names
//! made, changed and removed, or not. A failed sync keeps some pages and forgets that the others were ever written, so that
//! later syncs do not bring them to the disk. Every operation that a disk could fail at is a step: a test lets a run fail
//! or crash at each of them in turn.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Disk, DiskFile};

const PAGE: usize = 4096;
const SECTOR: usize = 512;

/// What goes wrong at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No room: writes, syncs and what changes names fail, a write perhaps halfway.
    Full,
    /// The disk fails: the operation is an error, and a write or a sync perhaps did a part of it.
    Io,
    /// As [`Self::Io`], but what is there can be read.
    Write,
    /// What is read has a wrong bit.
    FlippedBit,
}

/// A simulated disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    dice: Dice,
    steps: u64,
    /// From which step on nothing works until the crash has come.
    crash_at: Option<u64>,
    /// A fault, at how many steps from which one on.
    fault: Option<(Fault, u64, u64)>,
    /// Bytes that all files may have together.
    capacity: u64,
    /// How often it crashed: files opened before are gone.
    life: u64,
    files: BTreeMap<u64, Content>,
    next_file: u64,
    names: BTreeMap<String, u64>,
    synced_names: BTreeMap<String, u64>,
    /// What happened to names since they were synced.
    renamings: Vec<Renaming>,
}

#[derive(Clone, Debug)]
enum Renaming {
    Create(String, u64),
    Rename(String, String),
    Remove(String),
}

#[derive(Debug, Default)]
struct Content {
    now: Vec<u8>,
    synced: Vec<u8>,
    /// Pages written since they were synced.
    dirty: BTreeSet<usize>,
    is_len_dirty: bool,
}

impl SimulatedDisk {
    /// An empty disk. What it does depends on the seed and on what is asked of it, on nothing else.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            dice: Dice(seed),
            steps: 0,
            crash_at: None,
            fault: None,
            capacity: u64::MAX,
            life: 0,
            files: BTreeMap::new(),
            next_file: 0,
            names: BTreeMap::new(),
            synced_names: BTreeMap::new(),
            renamings: Vec::new(),
        })))
    }

    /// How many steps there were.
    pub fn steps(&self) -> u64 {
        self.lock().steps
    }

    /// Lets the power go at this step: it and all that follow fail, until [`Self::crash`].
    pub fn crash_at(&self, step: u64) {
        self.lock().crash_at = Some(step);
    }

    /// Lets `times` steps from this one on go wrong, as far as the fault concerns what is done there.
    pub fn fail_at(&self, step: u64, fault: Fault, times: u64) {
        self.lock().fault = Some((fault, step, times));
    }

    /// Nothing goes wrong any more, until it is asked for again.
    pub fn heal(&self) {
        let mut state = self.lock();
        state.fault = None;
        state.crash_at = None;
    }

    /// How many bytes all files may have together.
    pub fn set_capacity(&self, bytes: u64) {
        self.lock().capacity = bytes;
    }

    /// The power went and came back: what was not synced is there, partly there or gone. Files that were open are no more.
    pub fn crash(&self) {
        self.lock().crash();
    }

    /// The process died: nothing is lost, but files that were open are no more.
    pub fn kill(&self) {
        self.lock().life += 1;
    }

    /// Changes a bit for good. Says whether there is such a byte.
    pub fn flip_bit(&self, name: &str, offset: u64, bit: u8) -> bool {
        let mut state = self.lock();
        let Some(file) = state.names.get(name).copied() else {
            return false;
        };
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let content = state.files.get_mut(&file);
        content.is_some_and(|content| {
            let flip = |byte: &mut u8| *byte ^= 1 << (bit % 8);
            content.synced.get_mut(offset).map(flip);
            content.now.get_mut(offset).map(flip).is_some()
        })
    }

    /// What a file holds; nothing if there is none.
    pub fn content(&self, name: &str) -> Vec<u8> {
        let state = self.lock();
        let file = state.names.get(name);
        let content = file.and_then(|file| state.files.get(file));
        content
            .map(|content| content.now.clone())
            .unwrap_or_default()
    }

    /// Makes a file of these bytes, synced, in place of one of that name.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let mut state = self.lock();
        let file = state.next_file;
        state.next_file += 1;
        let content = Content {
            now: bytes.to_vec(),
            synced: bytes.to_vec(),
            ..Content::default()
        };
        state.files.insert(file, content);
        state.names.insert(name.to_owned(), file);
        state.synced_names.insert(name.to_owned(), file);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, file: u64, life: u64) -> SimulatedFile {
        SimulatedFile {
            disk: self.clone(),
            file,
            life,
        }
    }
}

impl State {
    /// Counts a step and says what goes wrong at it.
    fn step(&mut self) -> Result<Option<Fault>, io::Error> {
        let step = self.steps;
        self.steps += 1;
        if self.crash_at.is_some_and(|at| at <= step) {
            return Err(power());
        }
        let fault = self
            .fault
            .filter(|(_, at, times)| (*at..at.saturating_add(*times)).contains(&step));
        Ok(fault.map(|(fault, ..)| fault))
    }

    /// A step that changes names: of nothing in it is left when it fails.
    fn step_of_names(&mut self) -> io::Result<()> {
        match self.step()? {
            Some(Fault::Io | Fault::Write) => Err(broken()),
            Some(Fault::Full) => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    /// A step that changes nothing.
    fn step_of_reading(&mut self) -> io::Result<Option<Fault>> {
        match self.step()? {
            Some(Fault::Io) => Err(broken()),
            fault => Ok(fault),
        }
    }

    fn used(&self) -> u64 {
        let named = self.names.values().filter_map(|file| self.files.get(file));
        named.map(|content| content.now.len() as u64).sum()
    }

    fn content(&mut self, file: u64, life: u64) -> io::Result<&mut Content> {
        if life != self.life {
            return Err(power());
        }
        self.files.get_mut(&file).ok_or_else(power)
    }

    fn named(&self, name: &str) -> io::Result<u64> {
        let file = self.names.get(name).copied();
        file.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename(&mut self, renaming: Renaming) {
        renaming.apply(&mut self.names);
        self.renamings.push(renaming);
    }

    fn write(&mut self, file: u64, life: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let used = self.used();
        let capacity = self.capacity;
        let (bytes, error) = match self.step() {
            Ok(Some(Fault::Io | Fault::Write)) => (self.part_of(bytes), Some(broken())),
            Ok(Some(Fault::Full)) => (self.part_of(bytes), Some(io::ErrorKind::StorageFull.into())),
            Ok(_) => (bytes, None),
            Err(error) => (self.part_of(bytes), Some(error)),
        };
        let content = self.content(file, life)?;
        let grown = (offset + bytes.len()).saturating_sub(content.now.len()) as u64;
        let (bytes, error) = if used.saturating_add(grown) > capacity {
            let room = usize::try_from(capacity.saturating_sub(used)).unwrap_or(usize::MAX);
            let room = (content.now.len() + room).saturating_sub(offset);
            let part = bytes.get(..room).unwrap_or_default();
            (part, Some(io::ErrorKind::StorageFull.into()))
        } else {
            (bytes, error)
        };
        content.write(offset, bytes);
        error.map_or(Ok(()), Err)
    }

    /// What a write that fails has written all the same.
    fn part_of<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let len = self.dice.below(bytes.len() + 1);
        bytes.get(..len).unwrap_or_default()
    }

    fn sync(&mut self, file: u64, life: u64) -> io::Result<()> {
        let (is_failing, error) = match self.step() {
            Ok(Some(Fault::Io | Fault::Write)) => (true, Some(broken())),
            Ok(Some(Fault::Full)) => (true, Some(io::ErrorKind::StorageFull.into())),
            Ok(_) => (false, None),
            // What reaches the disk then is for the crash to say.
            Err(error) => return Err(error),
        };
        let mut dice = self.dice.split();
        let content = self.content(file, life)?;
        let dirty = std::mem::take(&mut content.dirty);
        if std::mem::take(&mut content.is_len_dirty) && (!is_failing || dice.coin()) {
            content.synced.resize(content.now.len(), 0);
        }
        for page in dirty {
            if !is_failing || dice.coin() {
                content.keep(page, 0, PAGE);
            }
        }
        error.map_or(Ok(()), Err)
    }

    fn crash(&mut self) {
        self.life += 1;
        self.crash_at = None;
        for content in self.files.values_mut() {
            content.crash(&mut self.dice);
        }
        // All of them, none, or any: file systems differ.
        let odds = self.dice.below(3);
        for renaming in std::mem::take(&mut self.renamings) {
            let is_kept = match odds {
                0 => false,
                1 => true,
                _ => self.dice.coin(),
            };
            if is_kept {
                renaming.apply(&mut self.synced_names);
            }
        }
        self.names = self.synced_names.clone();
        let named: BTreeSet<_> = self.names.values().copied().collect();
        self.files.retain(|file, _| named.contains(file));
    }
}

impl Renaming {
    /// Does it, unless the name it is about is not there.
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Create(name, file) => {
                names.insert(name.clone(), *file);
            }
            Self::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

impl Content {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if bytes.is_empty() {
            return;
        }
        if end > self.now.len() {
            self.set_len(end);
        }
        if let Some(place) = self.now.get_mut(offset..end) {
            place.copy_from_slice(bytes);
        }
        self.dirty.extend(offset / PAGE..end.div_ceil(PAGE));
    }

    fn set_len(&mut self, len: usize) {
        let pages = self.now.len().min(len) / PAGE..self.now.len().max(len).div_ceil(PAGE);
        self.dirty.extend(pages);
        self.now.resize(len, 0);
        self.is_len_dirty = true;
    }

    /// Brings the bytes `from..to` of a page to the disk.
    fn keep(&mut self, page: usize, from: usize, to: usize) {
        let end = (page * PAGE + to).min(self.now.len());
        let begin = (page * PAGE + from).min(end);
        if self.synced.len() < end {
            self.synced.resize(end, 0);
        }
        let pair = (self.synced.get_mut(begin..end), self.now.get(begin..end));
        if let (Some(old), Some(new)) = pair {
            old.copy_from_slice(new);
        }
    }

    fn crash(&mut self, dice: &mut Dice) {
        let len = if self.is_len_dirty {
            let (a, b) = (self.synced.len(), self.now.len());
            match dice.below(3) {
                0 => a,
                1 => b,
                _ => a.min(b) + dice.below(a.max(b) - a.min(b) + 1),
            }
        } else {
            self.synced.len()
        };
        for page in std::mem::take(&mut self.dirty) {
            match dice.below(4) {
                0 => {}
                // Torn: the sectors before this one are new, or those after it.
                1 => {
                    let sector = dice.below(PAGE / SECTOR + 1) * SECTOR;
                    if dice.coin() {
                        self.keep(page, 0, sector);
                    } else {
                        self.keep(page, sector, PAGE);
                    }
                }
                _ => self.keep(page, 0, PAGE),
            }
        }
        self.synced.resize(len, 0);
        self.now.clone_from(&self.synced);
        self.is_len_dirty = false;
    }
}

impl Disk for SimulatedDisk {
    type File = SimulatedFile;

    fn create(&self, name: &str) -> io::Result<SimulatedFile> {
        let mut state = self.lock();
        state.step_of_names()?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = state.next_file;
        state.next_file += 1;
        state.files.insert(file, Content::default());
        state.rename(Renaming::Create(name.to_owned(), file));
        Ok(self.file(file, state.life))
    }

    fn open(&self, name: &str) -> io::Result<SimulatedFile> {
        let mut state = self.lock();
        state.step_of_reading()?;
        Ok(self.file(state.named(name)?, state.life))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut state = self.lock();
        state.step_of_reading()?;
        Ok(state.names.keys().cloned().collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.step_of_names()?;
        state.named(from)?;
        state.rename(Renaming::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.step_of_names()?;
        state.named(name)?;
        state.rename(Renaming::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.step_of_names()?;
        state.synced_names = state.names.clone();
        state.renamings.clear();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.lock();
        Ok(state.capacity.saturating_sub(state.used()))
    }
}

/// A file of a [`SimulatedDisk`].
#[derive(Debug)]
pub struct SimulatedFile {
    disk: SimulatedDisk,
    file: u64,
    /// The disk's life in which it was opened.
    life: u64,
}

impl DiskFile for SimulatedFile {
    fn len(&self) -> io::Result<u64> {
        let mut state = self.disk.lock();
        Ok(state.content(self.file, self.life)?.now.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut state = self.disk.lock();
        let fault = state.step_of_reading()?;
        let flipped = state.dice.below(8 * buffer.len().max(1));
        let content = state.content(self.file, self.life)?;
        let begin = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = content
            .now
            .get(begin..)
            .and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        if let (Some(Fault::FlippedBit), Some(byte)) = (fault, buffer.get_mut(flipped / 8)) {
            *byte ^= 1 << (flipped % 8);
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.write(self.file, self.life, offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.lock().sync(self.file, self.life)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.step_of_names()?;
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let (used, capacity) = (state.used(), state.capacity);
        let content = state.content(self.file, self.life)?;
        let grown = len.saturating_sub(content.now.len()) as u64;
        if used.saturating_add(grown) > capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        content.set_len(len);
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let now = self.len()?;
        if now < len { self.set_len(len) } else { Ok(()) }
    }

    fn lock(&self) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.content(self.file, self.life).map(|_| ())
    }
}

fn power() -> io::Error {
    io::Error::other("the power is gone")
}

fn broken() -> io::Error {
    // EIO, which has no kind of its own.
    io::Error::from_raw_os_error(5)
}

/// `SplitMix64`, seeded.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap_or_default()
    }

    fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }

    fn split(&mut self) -> Self {
        Self(self.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(disk: &SimulatedDisk, name: &str) -> Vec<u8> {
        let file = disk.open(name).unwrap();
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read_at(0, &mut bytes).unwrap();
        bytes
    }

    /// What is left of three pages of which the first is synced, and of two names of which the first is, over many seeds.
    fn after_crashes() -> Vec<(Vec<u8>, Vec<String>)> {
        let outcome = |seed| {
            let disk = SimulatedDisk::new(seed);
            let file = disk.create("a").unwrap();
            file.write_at(0, &[1; PAGE]).unwrap();
            file.sync().unwrap();
            disk.sync_directory().unwrap();
            file.write_at(PAGE as u64, &[2; 2 * PAGE]).unwrap();
            disk.create("b").unwrap();
            disk.crash();
            assert!(file.len().is_err(), "seed {seed}");
            (read(&disk, "a"), disk.list().unwrap())
        };
        (0..200).map(outcome).collect()
    }

    #[test]
    fn what_was_synced_stays_and_the_rest_is_kept_lost_or_torn() {
        let outcomes = after_crashes();
        assert!(outcomes.iter().all(|(bytes, _)| bytes[..PAGE] == [1; PAGE]));
        let has = |what: &dyn Fn(&[u8]) -> bool| outcomes.iter().any(|(bytes, _)| what(bytes));
        assert!(has(&|bytes| bytes.len() == PAGE));
        assert!(has(&|bytes| bytes[PAGE..] == [2; 2 * PAGE]));
        let second_lost = |bytes: &[u8]| {
            bytes.len() == 3 * PAGE
                && bytes[PAGE..2 * PAGE] == [0; PAGE]
                && bytes[2 * PAGE..] == [2; PAGE]
        };
        assert!(has(&second_lost));
        let torn =
            |bytes: &[u8]| bytes.len() == 3 * PAGE && bytes[PAGE] == 2 && bytes[2 * PAGE - 1] == 0;
        assert!(has(&torn));
        assert!(outcomes.iter().any(|(_, names)| names.len() == 1));
        assert!(outcomes.iter().any(|(_, names)| names.len() == 2));
        assert_eq!(outcomes, after_crashes());
    }

    /// A failed sync loses some pages for good, and a later one that succeeds does not bring them back.
    #[test]
    fn a_sync_after_a_failed_one_lies() {
        let outcome = |seed| {
            let disk = SimulatedDisk::new(seed);
            let file = disk.create("a").unwrap();
            disk.sync_directory().unwrap();
            file.write_at(0, &[1; PAGE]).unwrap();
            disk.fail_at(disk.steps(), Fault::Io, 1);
            assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(5));
            file.sync().unwrap();
            assert_eq!(read(&disk, "a"), [1; PAGE]);
            disk.crash();
            read(&disk, "a") == [1; PAGE]
        };
        let kept = (0..100).filter(|seed| outcome(*seed)).count();
        assert!((20..80).contains(&kept), "{kept}");
    }

    #[test]
    fn nothing_works_from_the_crash_on() {
        let disk = SimulatedDisk::new(1);
        let file = disk.create("a").unwrap();
        disk.crash_at(disk.steps());
        assert!(file.write_at(0, b"x").is_err());
        assert!(file.sync().is_err());
        assert!(disk.create("b").is_err());
        disk.kill();
        disk.heal();
        assert_eq!(disk.list().unwrap(), ["a"]);
        assert!(file.sync().is_err());
    }

    #[test]
    fn a_full_disk_takes_what_fits() {
        let disk = SimulatedDisk::new(1);
        disk.set_capacity(10);
        let file = disk.create("a").unwrap();
        file.write_at(0, &[1; 8]).unwrap();
        let error = file.write_at(8, &[2; 8]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.len().unwrap(), 10);
        assert_eq!(disk.free_bytes().unwrap(), 0);
        assert!(file.allocate(11).is_err());
        file.write_at(0, &[3; 8]).unwrap();
        disk.set_capacity(20);
        file.write_at(8, &[2; 8]).unwrap();
        assert_eq!(read(&disk, "a"), [[3; 8], [2; 8]].concat());
    }

    #[test]
    fn bits_flip_for_once_or_for_good() {
        let disk = SimulatedDisk::new(1);
        disk.put("a", &[0; 16]);
        let file = disk.open("a").unwrap();
        disk.fail_at(disk.steps(), Fault::FlippedBit, 1);
        let mut bytes = [0; 16];
        file.read_at(0, &mut bytes).unwrap();
        assert_eq!(bytes.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
        assert_eq!(disk.content("a"), [0; 16]);
        assert!(disk.flip_bit("a", 3, 1));
        assert!(!disk.flip_bit("a", 16, 1) && !disk.flip_bit("b", 0, 1));
        assert_eq!(read(&disk, "a")[3], 2);
    }
}

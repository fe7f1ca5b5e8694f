//! Looking through the files of streams, and mending them, while nobody uses the store.

use std::{io, sync::Arc};

use super::{
    api::StreamsOptions,
    files::{Files, Opened},
    segment::{END, End, HEADER, Header, TABLE, TOPICS, of_file_name},
    table::{Table, Topics},
    walk::{Step, Walk},
};
use crate::{
    disk::{Disk, DiskFile},
    log::{
        LogDamage, LogError, LogOptions, Mended, SET_ASIDE,
        block::{BLOCK_HEADER, HOLE},
        write_hole,
    },
    record::StreamId,
};

/// What a stream has on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamFiles {
    /// Its number.
    pub id: StreamId,
    /// Its name; empty if no file says it, as of a stream that was forgotten.
    pub name: String,
    /// How many files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Where the first of them begins.
    pub first: u64,
    /// The offset that its next record gets, if the last file is whole; else the one that file begins with.
    pub next: u64,
}

/// What was found in the files of streams.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checked {
    pub files: u64,
    pub records: u64,
    pub blocks: u64,
    pub damage: Vec<LogDamage>,
}

/// Whether a file of this name is a segment of a stream.
pub fn is_stream_file(name: &str) -> bool {
    of_file_name(name).is_some()
}

/// The files of all streams, and their lengths, by stream and number.
fn names<D: Disk>(disk: &D) -> Result<Vec<(StreamId, u32, String)>, LogError> {
    let names = disk.list();
    let names = names.map_err(|error| LogError::io("listing", "the store", error))?;
    let mut names: Vec<_> = names
        .into_iter()
        .filter_map(|name| of_file_name(&name).map(|(id, number)| (id, number, name)))
        .collect();
    names.sort_unstable();
    Ok(names)
}

/// How many bytes the files of streams have.
pub(crate) fn file_bytes<D: Disk>(disk: &D) -> Result<u64, LogError> {
    let mut bytes = 0;
    for (.., name) in names(disk)? {
        let len = disk.open(&name).and_then(|file| file.len());
        bytes += len.map_err(|error| LogError::io("reading", &name, error))?;
    }
    Ok(bytes)
}

/// What every stream has, from the first and the last bytes of its files.
pub(crate) fn summaries<D: Disk>(
    disk: Arc<D>,
    options: LogOptions,
) -> Result<Vec<StreamFiles>, LogError> {
    let all = names(&*disk)?;
    let files = Files::new(disk, options, &StreamsOptions::default());
    let mut streams: Vec<StreamFiles> = Vec::new();
    for (id, _, name) in all {
        let (opened, end) = match files.open(&name) {
            Ok(opened) => opened,
            Err(LogError::Damaged(_)) => continue,
            Err(error) => return Err(error),
        };
        let len = opened.file.len();
        let len = len.map_err(|error| LogError::io("reading", &name, error))?;
        let begin = files.begin(&name, &opened).ok().map(|(begin, _)| begin);
        let first = begin.as_ref().map(|begin| begin.head.next);
        let first = first.or(end.map(|end| end.first)).unwrap_or(0);
        let next = end.map_or(first, |end| end.head.next);
        if streams.last().is_none_or(|stream| stream.id != id) {
            streams.push(StreamFiles {
                id,
                name: String::new(),
                files: 0,
                bytes: 0,
                first,
                next,
            });
        }
        if let Some(stream) = streams.last_mut() {
            stream.files += 1;
            stream.bytes += len;
            stream.next = next;
            if let Some(begin) = begin {
                stream.name = begin.name;
            }
        }
    }
    Ok(streams)
}

/// Reads the files of all streams and changes nothing. `go_on` is told how many bytes a part had; `None` if it says no.
pub(crate) fn check_files<D: Disk>(
    disk: Arc<D>,
    options: LogOptions,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<Option<Checked>, LogError> {
    let mut checked = Checked::default();
    let all = names(&*disk)?;
    let files = Files::new(disk, options, &StreamsOptions::default());
    for (.., name) in all {
        checked.files += 1;
        let (opened, end) = match files.open(&name) {
            Ok(opened) => opened,
            Err(LogError::Damaged(damage)) => {
                checked.damage.push(damage);
                continue;
            }
            Err(error) => return Err(error),
        };
        if !check_file(&files, &name, &opened, end, &mut checked, go_on)? {
            return Ok(None);
        }
    }
    Ok(Some(checked))
}

fn check_file<D: Disk>(
    files: &Files<D>,
    name: &str,
    opened: &Opened<D::File>,
    end: Option<End>,
    checked: &mut Checked,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<bool, LogError> {
    let io = |error| LogError::io("reading", name, error);
    let len = opened.file.len().map_err(io)?;
    let damaged = |offset: u64, bytes: u64, what| LogDamage {
        file: name.to_owned(),
        offset,
        bytes,
        what,
    };
    let mut header = [0; HEADER];
    opened.file.read_at(0, &mut header).map_err(io)?;
    if Header::read(&header).is_err() {
        let what = "the header is damaged, but not its copy at the end";
        checked.damage.push(damaged(0, HEADER as u64, what));
    }
    let (begin_at, has_begin) = match files.begin(name, opened) {
        Ok((_, begin_at)) => (begin_at, true),
        // The walk tells what is wrong there.
        Err(LogError::Damaged(_)) => (HEADER as u64, false),
        Err(error) => return Err(error),
    };
    let blocks_before = checked.blocks;
    let mut walk = match end {
        Some(end) => Walk::bounded(files, name, opened, begin_at, end.table_at),
        None => Walk::tail(files, name, opened, begin_at, len),
    };
    let mut told = 0;
    loop {
        match walk.next()? {
            Step::Block(_, block) => {
                checked.blocks += 1;
                checked.records += block.records.len() as u64;
            }
            Step::Damage(damage) => checked.damage.push(damage),
            Step::End => break,
        }
        if !go_on(walk.at - told) {
            return Ok(false);
        }
        told = walk.at;
    }
    if end.is_none() && !has_begin && checked.blocks == blocks_before {
        let what = "neither its begin nor its end can be read";
        checked.damage.push(damaged(0, len, what));
    }
    if let Some(end) = end {
        let end_at = len.saturating_sub(END as u64);
        let topics_at = if end.topics_at > 0 {
            end.topics_at
        } else {
            end_at
        };
        let parts = [
            (
                TABLE,
                end.table_at,
                topics_at,
                "the table of its blocks is damaged",
            ),
            (
                TOPICS,
                topics_at,
                end_at,
                "the list of its topics is damaged",
            ),
        ];
        for (kind, at, to, what) in parts {
            if at < to && !is_sound(files, name, opened, kind, at)? {
                checked.damage.push(damaged(at, to - at, what));
            }
        }
    }
    Ok(go_on(len.saturating_sub(told)))
}

fn is_sound<D: Disk>(
    files: &Files<D>,
    name: &str,
    opened: &Opened<D::File>,
    kind: u8,
    at: u64,
) -> Result<bool, LogError> {
    match files.plain(name, opened, at, kind) {
        Ok((_, plain)) if kind == TABLE => Ok(Table::decode(&plain).is_ok()),
        Ok((_, plain)) => Ok(Topics::decode(plain).is_ok()),
        Err(LogError::Damaged(_)) => Ok(is_hole(opened, at)),
        Err(error) => Err(error),
    }
}

/// Whether what was there was found damaged once, and mended.
pub(super) fn is_hole<F: DiskFile>(opened: &Opened<F>, at: u64) -> bool {
    let mut bytes = [0; BLOCK_HEADER];
    let read = opened.file.read_at(at, &mut bytes);
    let header = read.ok().and_then(|()| opened.cipher.header(&bytes));
    header.is_some_and(|header| header.kind == HOLE)
}

/// Mends what [`check_files`] found.
pub(crate) fn mend_files<D: Disk>(
    disk: &Arc<D>,
    options: LogOptions,
    damage: Vec<LogDamage>,
) -> Result<Vec<(LogDamage, Mended)>, LogError> {
    let files = Files::new(disk.clone(), options, &StreamsOptions::default());
    let mut mended = Vec::with_capacity(damage.len());
    for damage in damage {
        let how = mend(&files, &damage)?;
        mended.push((damage, how));
    }
    let synced = disk.sync_directory();
    synced.map_err(|error| LogError::io("syncing", "the store", error))?;
    Ok(mended)
}

fn mend<D: Disk>(files: &Files<D>, damage: &LogDamage) -> Result<Mended, LogError> {
    let name = &damage.file;
    let io = |error: io::Error| LogError::io("mending", name, error);
    let opened = match files.open(name) {
        Ok((opened, Some(_))) if damage.offset == 0 => {
            let header = opened.header.encode();
            opened.file.write_at(0, &header).map_err(io)?;
            opened.file.sync().map_err(io)?;
            return Ok(Mended::Header);
        }
        Ok((opened, _)) if damage.offset > 0 => opened,
        Ok(_) | Err(LogError::Damaged(_)) => {
            let aside = format!("{name}{SET_ASIDE}");
            files.disk.rename(name, &aside).map_err(io)?;
            return Ok(Mended::SetAside);
        }
        Err(error) => return Err(error),
    };
    write_hole(&opened.file, &opened.cipher, damage).map_err(io)?;
    Ok(Mended::Hole)
}

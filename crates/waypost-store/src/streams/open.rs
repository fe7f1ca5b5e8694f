//! A start: what earlier runs left of the streams.
//!
//! The views say how far each stream goes; what its files have behind that is cut, since the log has it too. Without the
//! views they go as far as their blocks can be read, and the last block says which part of the log is in them.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicU32, AtomicU64},
    },
};

use super::{
    Streams,
    api::StreamsOptions,
    check::is_hole,
    files::{Files, Opened, Segment},
    fold::Fold,
    segment::{Begin, End, HEADER, Head, UNFINISHED, of_file_name},
    stream::{Durable, State, Stream, write},
    walk::{Step, Walk},
};
use crate::{
    disk::{Disk, DiskFile},
    log::{LogDamage, LogError, LogOptions},
    record::StreamId,
    store::{StoreError, lock},
    views::number::{Numbers, Unreadable},
};

/// How far each stream is, as the views have it; `None` if they are made again.
pub(crate) type Rows = Option<BTreeMap<u32, Vec<u8>>>;

fn decode_row(bytes: &[u8]) -> Result<(Durable, String), Unreadable> {
    let mut numbers = Numbers::new(bytes, "state of a stream");
    let durable = Durable {
        number: numbers.small()?,
        len: numbers.next()?,
        head: Head::decode(&mut numbers)?,
    };
    let name = String::from_utf8_lossy(numbers.rest()).into_owned();
    Ok((durable, name))
}

/// A file of a stream.
struct FoundFile<F> {
    segment: Segment,
    begin: Begin,
    opened: Opened<F>,
    len: u64,
}

impl<D: Disk> Streams<D> {
    /// Opens what there is. `applied` is the last block of the log that the views reflect.
    pub(crate) fn open(
        disk: Arc<D>,
        log: LogOptions,
        options: StreamsOptions,
        rows: &Rows,
        applied: (u32, u32),
    ) -> Result<(Self, Vec<LogDamage>), StoreError> {
        let mut by_stream = BTreeMap::<StreamId, Vec<(u32, String)>>::new();
        for name in disk.list()? {
            if let Some((stream, number)) = of_file_name(&name) {
                by_stream.entry(stream).or_default().push((number, name));
            } else if name
                .strip_suffix(UNFINISHED)
                .is_some_and(|name| of_file_name(name).is_some())
            {
                disk.remove(&name)?;
            }
        }
        // Also those of which no file is left: their numbers and offsets are not given again.
        for id in rows.iter().flat_map(BTreeMap::keys) {
            by_stream.entry(StreamId(*id)).or_default();
        }
        let highest = by_stream.keys().map(|id| id.0).max();
        let fold = Fold {
            applied,
            synced: applied,
            ..Fold::default()
        };
        let streams = Self {
            files: Files::new(disk, log, &options),
            options,
            all: RwLock::default(),
            fold: Mutex::new(fold),
            next_id: AtomicU32::new(highest.unwrap_or(0).saturating_add(1)),
            maintenance: Mutex::default(),
            left_over: Mutex::default(),
            fell_behind: AtomicU64::new(0),
            trouble: Mutex::default(),
        };
        let mut damage = Vec::new();
        for (id, mut names) in by_stream {
            names.sort_unstable();
            let is_newest = Some(id.0) == highest;
            streams.open_stream(id, names, rows, is_newest, &mut damage)?;
        }
        streams.configure(&streams.options.configured)?;
        Ok((streams, damage))
    }

    /// The views have all that there is to know: what is left over of earlier runs goes.
    pub(crate) fn remove_left_over(&self) -> io::Result<()> {
        for name in std::mem::take(&mut *lock(&self.left_over)) {
            self.files.disk.remove(&name)?;
        }
        Ok(())
    }

    fn open_stream(
        &self,
        id: StreamId,
        names: Vec<(u32, String)>,
        rows: &Rows,
        is_newest: bool,
        damage: &mut Vec<LogDamage>,
    ) -> Result<(), StoreError> {
        let row = rows.as_ref().and_then(|rows| rows.get(&id.0));
        let row = row.and_then(|row| decode_row(row).ok());
        let (row, row_name) = row.unzip();
        let newest = names.last().map_or(0, |(number, _)| *number);
        let next_number = newest.max(row.map_or(0, |row| row.number)) + 1;
        let mut found = Vec::with_capacity(names.len());
        let mut floor = row.map_or(0, |row| row.head.floor);
        let mut left_over = Vec::new();
        for (number, name) in names {
            let is_behind_row = row.is_some_and(|row| number > row.number);
            match self.find_file(&name, damage) {
                Ok(file) => {
                    floor = floor.max(file.begin.head.floor);
                    if file.begin.is_forgotten {
                        left_over.extend(
                            found
                                .into_iter()
                                .map(|file: FoundFile<D::File>| file.segment.name),
                        );
                        if !is_newest {
                            left_over.push(name);
                        }
                        lock(&self.left_over).append(&mut left_over);
                        lock(&self.fold).gone.push(id);
                        return Ok(());
                    }
                    if is_behind_row {
                        left_over.push(name);
                    } else {
                        found.push(file);
                    }
                }
                Err(LogError::Damaged(_)) if is_behind_row => left_over.push(name),
                Err(LogError::Damaged(found)) => damage.push(found),
                Err(error) => return Err(error.into()),
            }
        }
        let name = found
            .iter()
            .rev()
            .map(|file| file.begin.name.as_str())
            .find(|name| !name.is_empty());
        let name = name.or(row_name.as_deref().filter(|name| !name.is_empty()));
        let name = name.map_or_else(|| format!("stream-{}", id.0), ToOwned::to_owned);
        let mut durable = if let Some(row) = row {
            cut_to(row, found.last_mut(), damage)?;
            row
        } else {
            // The run before may have been killed before it synced them.
            for file in &found {
                let synced = file.opened.file.sync();
                synced.map_err(|error| LogError::io("syncing", &file.segment.name, error))?;
            }
            self.find_end(found.last_mut(), damage)?
        };
        durable.head.floor = floor;
        let past = supersede(found, &mut left_over);
        lock(&self.left_over).append(&mut left_over);
        let mut state = State::after(durable, past);
        state.recorded_number = row.map_or(0, |row| row.number);
        let stream = Arc::new(Stream::new(id, name, state, next_number));
        write(&self.all).insert(id, stream);
        let mut fold = lock(&self.fold);
        fold.unrecorded.insert(id);
        Ok(())
    }

    fn find_file(
        &self,
        name: &str,
        damage: &mut Vec<LogDamage>,
    ) -> Result<FoundFile<D::File>, LogError> {
        let (opened, end) = self.files.open(name)?;
        let len = opened
            .file
            .len()
            .map_err(|error| LogError::io("reading", name, error))?;
        let (begin, begin_at) = match (self.files.begin(name, &opened), &end) {
            (Ok(begin), _) => begin,
            // The end says it too, but for the name.
            (Err(LogError::Damaged(_)), Some(end)) => {
                let head = Head {
                    next: end.first,
                    floor: end.head.floor,
                    last_ms: end.first_ms,
                    ..Head::default()
                };
                let begin = Begin {
                    name: String::new(),
                    head,
                    is_forgotten: false,
                };
                (begin, HEADER as u64)
            }
            (Err(LogError::Damaged(found)), None) => {
                let head = self.head_of_first(name, &opened, len, &found)?;
                if !is_hole(&opened, HEADER as u64) {
                    damage.push(found);
                }
                let begin = Begin {
                    name: String::new(),
                    head,
                    is_forgotten: false,
                };
                (begin, HEADER as u64)
            }
            (Err(error), _) => return Err(error),
        };
        let segment = match &end {
            Some(end) => self.whole(name, &opened, begin_at, len, end),
            None => Segment {
                uid: self.files.take_uid(),
                number: opened.header.number,
                name: name.to_owned(),
                salt: opened.header.salt,
                begin_at,
                end_at: len,
                bytes: len,
                first: begin.head.next,
                // Until it is known how far it goes.
                head: begin.head,
                first_ms: begin.head.last_ms,
                records: 0,
                has_expiring: true,
                tables: None,
                is_trimmed: false,
            },
        };
        Ok(FoundFile {
            segment,
            begin,
            opened,
            len,
        })
    }

    /// Where a segment begins of which neither begin nor end can be read: with its first block, if it has one.
    fn head_of_first(
        &self,
        name: &str,
        opened: &Opened<D::File>,
        len: u64,
        found: &LogDamage,
    ) -> Result<Head, LogError> {
        let mut walk = Walk::tail(&self.files, name, opened, HEADER as u64, len);
        loop {
            match walk.next()? {
                Step::Block(at, _) => {
                    return Ok(Head {
                        next: at.first,
                        last_ms: at.first_ms,
                        ..Head::default()
                    });
                }
                Step::Damage(_) => {}
                Step::End => return Err(LogError::Damaged(found.clone())),
            }
        }
    }

    fn whole(
        &self,
        name: &str,
        opened: &Opened<D::File>,
        begin_at: u64,
        len: u64,
        end: &End,
    ) -> Segment {
        Segment {
            uid: self.files.take_uid(),
            number: opened.header.number,
            name: name.to_owned(),
            salt: opened.header.salt,
            begin_at,
            end_at: end.table_at,
            bytes: len,
            first: end.first,
            head: end.head,
            first_ms: end.first_ms,
            records: end.records,
            has_expiring: end.has_expiring,
            tables: Some((end.table_at, end.topics_at)),
            is_trimmed: false,
        }
    }

    /// Finds out how far a stream goes of which the views know nothing, and cuts what is torn.
    fn find_end(
        &self,
        last: Option<&mut FoundFile<D::File>>,
        damage: &mut Vec<LogDamage>,
    ) -> Result<Durable, LogError> {
        let Some(last) = last else {
            return Ok(Durable::default());
        };
        let number = last.segment.number;
        if last.segment.tables.is_some() {
            return Ok(Durable {
                number,
                len: last.len,
                head: last.segment.head,
            });
        }
        let mut head = last.begin.head;
        let name = last.segment.name.clone();
        let begin_at = last.segment.begin_at;
        let mut walk = Walk::tail(&self.files, &name, &last.opened, begin_at, last.len);
        loop {
            match walk.next()? {
                Step::Block(at, block) => {
                    head.next = at.next;
                    head.last_ms = at.last_ms;
                    head.position = block.position;
                }
                Step::Damage(found) => damage.push(found),
                Step::End => break,
            }
        }
        let end_at = walk.at.min(last.len);
        if end_at < last.len {
            let cut = last.opened.file.set_len(end_at);
            cut.map_err(|error| LogError::io("cutting", &name, error))?;
        }
        last.left_over(end_at, head);
        Ok(Durable {
            number,
            len: end_at,
            head,
        })
    }
}

/// Cuts what the newest segment has beyond what the views know of.
fn cut_to<F: DiskFile>(
    row: Durable,
    last: Option<&mut FoundFile<F>>,
    damage: &mut Vec<LogDamage>,
) -> Result<(), LogError> {
    let Some(last) = last.filter(|last| last.segment.number == row.number) else {
        return Ok(());
    };
    if last.len == row.len && last.segment.tables.is_some() {
        return Ok(());
    }
    if last.len < row.len {
        damage.push(LogDamage {
            file: last.segment.name.clone(),
            offset: last.len,
            bytes: row.len - last.len,
            what: "the file is shorter than the views know it",
        });
    }
    if last.len > row.len {
        let cut = last.opened.file.set_len(row.len);
        cut.map_err(|error| LogError::io("cutting", &last.segment.name, error))?;
    }
    let end_at = row.len.min(last.len).max(last.segment.begin_at);
    last.left_over(end_at, row.head);
    Ok(())
}

impl<F> FoundFile<F> {
    /// It ends here, without an end.
    fn left_over(&mut self, end_at: u64, head: Head) {
        let segment = &mut self.segment;
        segment.end_at = end_at;
        segment.bytes = end_at;
        segment.head = head;
        segment.records = head.next.saturating_sub(segment.first);
        segment.has_expiring = true;
        segment.tables = None;
    }
}

/// What a segment has from the first offset of a newer one on does not count: it was written there again.
fn supersede<F>(found: Vec<FoundFile<F>>, left_over: &mut Vec<String>) -> Vec<Arc<Segment>> {
    let mut past = Vec::with_capacity(found.len());
    let mut newer: Option<Head> = None;
    for file in found.into_iter().rev() {
        let mut segment = file.segment;
        if let Some(newer) = newer {
            if segment.first >= newer.next {
                left_over.push(segment.name);
                continue;
            }
            if segment.tables.is_none() {
                segment.head = newer;
                segment.records = newer.next - segment.first;
            } else if segment.head.next > newer.next {
                segment.head = newer;
                segment.is_trimmed = true;
            }
        }
        newer = Some(Head {
            next: segment.first,
            ..file.begin.head
        });
        past.push(Arc::new(segment));
    }
    past.reverse();
    past
}

//! Recorded messages, read one at a time: JSON lines or CSV with a header, gzip'd or not.
//!
//! Memory is bounded by one record ([`RECORD_BYTES_MAX`]), whatever the file holds.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_json::{Map, Value};

use super::template::FieldError;

/// The longest record read: MQTT's own limit is 256 MiB, our server's 16 MiB.
pub const RECORD_BYTES_MAX: u64 = 16 * 1024 * 1024;
const BUFFER_BYTES: usize = 64 * 1024;

/// How records are laid out in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One JSON object a line
    Jsonl,
    /// Comma-separated values; the first line names the fields
    Csv,
}

/// One recorded message.
#[derive(Debug)]
pub struct Record {
    /// Where it begins in the (unpacked) file, counted from 1.
    pub line: u64,
    fields: Map<String, Value>,
    json: Option<Vec<u8>>,
}

/// Why there is no next record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// This record is bad; the next may be good.
    #[error("{path}:{line}: {reason}")]
    Bad {
        /// The file's name.
        path: String,
        /// The record's first line.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The file cannot be read on.
    #[error("{path}: {error}")]
    Unreadable {
        /// The file's name.
        path: String,
        /// What the system said.
        error: io::Error,
    },
}

impl Record {
    /// Reads one JSON object; the error says what is wrong with `json`.
    pub fn from_json(line: u64, json: &[u8]) -> Result<Self, String> {
        match serde_json::from_slice(json) {
            Ok(Value::Object(fields)) => Ok(Self {
                line,
                fields,
                json: Some(json.to_vec()),
            }),
            Ok(_) => Err(
                "not a JSON object; a JSON array becomes one object a line by \
                          `jq -c '.[]'`"
                    .into(),
            ),
            Err(error) => Err(format!("not JSON: {error}")),
        }
    }

    fn from_csv(line: u64, header: &csv::StringRecord, row: &csv::StringRecord) -> Self {
        let fields = header
            .iter()
            .zip(row)
            .map(|(name, value)| (name.to_owned(), Value::String(value.to_owned())))
            .collect();
        Self {
            line,
            fields,
            json: None,
        }
    }

    /// A field's value.
    pub fn field(&self, name: &str) -> Result<&Value, FieldError> {
        self.fields.get(name).ok_or_else(|| FieldError::Unknown {
            field: name.to_owned(),
            available: self.fields.keys().cloned().collect(),
        })
    }

    /// The whole record as JSON: the line itself, or an object made of the CSV row.
    pub fn into_json(self) -> Vec<u8> {
        self.json
            .unwrap_or_else(|| Value::Object(self.fields).to_string().into_bytes())
    }
}

/// The records of one file, in order.
pub struct Records {
    source: Source,
    path: PathBuf,
    /// Bytes of the file as it lies on disk that were read, for a progress bar.
    position: Rc<Cell<u64>>,
    bytes_total: Option<u64>,
}

enum Source {
    Jsonl {
        reader: Box<dyn BufRead>,
        line: u64,
    },
    Csv {
        reader: csv::Reader<Budgeted>,
        budget: Rc<Cell<u64>>,
        header: csv::StringRecord,
    },
    Ended,
}

impl Records {
    /// Opens `path` (`-`: standard input). Without a `format` the name and the first byte decide.
    pub fn open(path: &Path, format: Option<Format>) -> Result<Self, RecordError> {
        let unreadable = |error| RecordError::Unreadable {
            path: path.display().to_string(),
            error,
        };
        let (input, bytes_total): (Box<dyn Read>, _) = if path == Path::new("-") {
            (Box::new(io::stdin()), None)
        } else {
            let file = File::open(path).map_err(unreadable)?;
            let length = file.metadata().map_err(unreadable)?.len();
            (Box::new(file), Some(length))
        };
        let position = Rc::new(Cell::new(0));
        let metered = Metered {
            inner: input,
            position: Rc::clone(&position),
        };
        let mut packed = BufReader::with_capacity(BUFFER_BYTES, metered);
        let gzip = packed
            .fill_buf()
            .map_err(unreadable)?
            .starts_with(&[0x1f, 0x8b]);
        let mut reader: Box<dyn BufRead> = if gzip {
            let unpacked = flate2::bufread::MultiGzDecoder::new(packed);
            Box::new(BufReader::with_capacity(BUFFER_BYTES, unpacked))
        } else {
            Box::new(packed)
        };
        let beginning = reader.fill_buf().map_err(unreadable)?;
        let byte_order_mark = beginning.starts_with(b"\xef\xbb\xbf");
        let format = format.or_else(|| format_of_name(path)).unwrap_or({
            let text = beginning.iter().skip(if byte_order_mark { 3 } else { 0 });
            match text.copied().find(|byte| !byte.is_ascii_whitespace()) {
                Some(b'{' | b'[') | None => Format::Jsonl,
                Some(_) => Format::Csv,
            }
        });
        if byte_order_mark {
            reader.consume(3);
        }
        let source = match format {
            Format::Jsonl => Source::Jsonl { reader, line: 0 },
            Format::Csv => {
                let budget = Rc::new(Cell::new(RECORD_BYTES_MAX));
                let budgeted = Budgeted {
                    inner: reader,
                    left: Rc::clone(&budget),
                };
                let mut reader = csv::Reader::from_reader(budgeted);
                let header = reader
                    .headers()
                    .map_err(|error| RecordError::Bad {
                        path: path.display().to_string(),
                        line: 1,
                        reason: error.to_string(),
                    })?
                    .clone();
                Source::Csv {
                    reader,
                    budget,
                    header,
                }
            }
        };
        Ok(Self {
            source,
            path: path.to_owned(),
            position,
            bytes_total,
        })
    }

    /// Bytes of the file that were read, as it lies on disk.
    pub fn position(&self) -> u64 {
        self.position.get()
    }

    /// The file's length on disk; a pipe has none.
    pub fn bytes_total(&self) -> Option<u64> {
        self.bytes_total
    }

    /// What is wrong with the record at `line`, as an error.
    pub fn bad(&self, line: u64, reason: impl Into<String>) -> RecordError {
        RecordError::Bad {
            path: self.path.display().to_string(),
            line,
            reason: reason.into(),
        }
    }

    fn unreadable(&self, error: io::Error) -> RecordError {
        RecordError::Unreadable {
            path: self.path.display().to_string(),
            error,
        }
    }

    fn next_outcome(&mut self) -> Option<Result<Record, RecordError>> {
        match &mut self.source {
            Source::Jsonl { reader, line } => loop {
                let mut text = Vec::new();
                *line += 1;
                let at = *line;
                if let Err(error) = reader
                    .by_ref()
                    .take(RECORD_BYTES_MAX + 1)
                    .read_until(b'\n', &mut text)
                {
                    self.source = Source::Ended;
                    return Some(Err(self.unreadable(error)));
                }
                if text.is_empty() {
                    return None;
                }
                if text.len() as u64 > RECORD_BYTES_MAX {
                    self.source = Source::Ended;
                    let error = io::Error::other(format!(
                        "line {at} is longer than {RECORD_BYTES_MAX} bytes"
                    ));
                    return Some(Err(self.unreadable(error)));
                }
                let text = text.trim_ascii();
                if !text.is_empty() {
                    return Some(
                        Record::from_json(at, text).map_err(|reason| self.bad(at, reason)),
                    );
                }
            },
            Source::Csv {
                reader,
                budget,
                header,
            } => {
                budget.set(RECORD_BYTES_MAX);
                let mut row = csv::StringRecord::new();
                let line = reader.position().line();
                match reader.read_record(&mut row) {
                    Ok(false) => None,
                    Ok(true) => {
                        let line = row.position().map_or(line, csv::Position::line);
                        Some(Ok(Record::from_csv(line, header, &row)))
                    }
                    Err(error) => match error.into_kind() {
                        csv::ErrorKind::Io(error) => {
                            self.source = Source::Ended;
                            Some(Err(self.unreadable(error)))
                        }
                        csv::ErrorKind::UnequalLengths {
                            expected_len,
                            len,
                            pos,
                        } => {
                            let line = pos.map_or(line, |position| position.line());
                            let reason =
                                format!("{len} fields, but the header names {expected_len}");
                            Some(Err(self.bad(line, reason)))
                        }
                        csv::ErrorKind::Utf8 { pos, err } => {
                            let line = pos.map_or(line, |position| position.line());
                            Some(Err(self.bad(line, err.to_string())))
                        }
                        kind => Some(Err(self.bad(line, format!("not CSV: {kind:?}")))),
                    },
                }
            }
            Source::Ended => None,
        }
    }
}

impl Iterator for Records {
    type Item = Result<Record, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_outcome()
    }
}

fn format_of_name(path: &Path) -> Option<Format> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let extension = name
        .strip_suffix(".gz")
        .unwrap_or(&name)
        .rsplit_once('.')?
        .1;
    match extension {
        "csv" => Some(Format::Csv),
        "jsonl" | "ndjson" | "json" => Some(Format::Jsonl),
        _ => None,
    }
}

/// Counts what is read.
struct Metered {
    inner: Box<dyn Read>,
    position: Rc<Cell<u64>>,
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.position.set(self.position.get() + count as u64);
        Ok(count)
    }
}

/// Fails when one record takes more than its budget: an unclosed quote would swallow the file.
struct Budgeted {
    inner: Box<dyn BufRead>,
    left: Rc<Cell<u64>>,
}

impl Read for Budgeted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        match self.left.get().checked_sub(count as u64) {
            Some(left) => self.left.set(left),
            None => {
                return Err(io::Error::other(format!(
                    "a record is longer than {RECORD_BYTES_MAX} bytes; is a quote unclosed?"
                )));
            }
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A file in the system's temporary directory, removed when dropped.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str, content: &[u8]) -> Self {
            let path = std::env::temp_dir().join(format!("waypost-{}-{name}", std::process::id()));
            std::fs::write(&path, content).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    /// Each record as `line:json`, each error by its text without the directory.
    fn read(file: &Scratch, format: Option<Format>) -> Vec<String> {
        Records::open(&file.0, format)
            .unwrap()
            .map(|outcome| match outcome {
                Ok(record) => {
                    let line = record.line;
                    format!("{line}:{}", String::from_utf8(record.into_json()).unwrap())
                }
                Err(error) => {
                    let process = format!("-{}-", std::process::id());
                    let text = error.to_string();
                    text.split_once(&process).unwrap().1.to_owned()
                }
            })
            .collect()
    }

    #[test]
    fn json_lines_keep_their_bytes_and_their_line_numbers() {
        let file = Scratch::new(
            "a.jsonl",
            b"{\"a\": 1}\n\n  {\"b\":null} \r\n{\"c\":\"\xc3\xbc\"}",
        );
        assert_eq!(
            read(&file, None),
            [r#"1:{"a": 1}"#, r#"3:{"b":null}"#, r#"4:{"c":"ü"}"#]
        );
    }

    #[test]
    fn a_bad_line_is_named_and_the_next_is_read() {
        let file = Scratch::new("bad.jsonl", b"{\"a\":1}\n{\"a\":\n[1]\n{\"a\":2}\n");
        let outcome = read(&file, None);
        assert_eq!(outcome.len(), 4);
        assert!(
            outcome[1].starts_with("bad.jsonl:2: not JSON"),
            "{}",
            outcome[1]
        );
        assert!(
            outcome[2].starts_with("bad.jsonl:3: not a JSON object"),
            "{}",
            outcome[2]
        );
        assert_eq!(outcome[3], r#"4:{"a":2}"#);
    }

    #[test]
    fn csv_rows_become_objects_of_strings() {
        let file = Scratch::new(
            "a.csv",
            b"\xef\xbb\xbfx,y\n1,\"two\nlines\"\n,\"a \"\"b\"\"\"\n1\n3,4\n",
        );
        assert_eq!(
            read(&file, None),
            [
                r#"2:{"x":"1","y":"two\nlines"}"#,
                r#"4:{"x":"","y":"a \"b\""}"#,
                "a.csv:5: 1 fields, but the header names 2",
                r#"6:{"x":"3","y":"4"}"#
            ]
        );
    }

    #[test]
    fn gzip_is_read_as_is_even_in_several_members() {
        let mut packed = Vec::new();
        for part in ["{\"a\":1}\n", "{\"a\":2}\n"] {
            let mut encoder =
                flate2::write::GzEncoder::new(&mut packed, flate2::Compression::fast());
            encoder.write_all(part.as_bytes()).unwrap();
            encoder.finish().unwrap();
        }
        let file = Scratch::new("a.jsonl.gz", &packed);
        assert_eq!(read(&file, None), [r#"1:{"a":1}"#, r#"2:{"a":2}"#]);
        packed.truncate(packed.len() - 9);
        let file = Scratch::new("cut.jsonl.gz", &packed);
        let outcome = read(&file, None);
        assert!(
            outcome.last().unwrap().starts_with("cut.jsonl.gz: "),
            "{outcome:?}"
        );
    }

    #[test]
    fn an_unknown_name_is_judged_by_its_first_byte() {
        assert_eq!(
            read(&Scratch::new("plain", b"{\"a\":1}"), None),
            [r#"1:{"a":1}"#]
        );
        assert_eq!(
            read(&Scratch::new("other", b"a\n1\n"), None),
            [r#"2:{"a":"1"}"#]
        );
        assert_eq!(
            read(&Scratch::new("x.jsonl", b"a\n1\n"), Some(Format::Csv)),
            [r#"2:{"a":"1"}"#]
        );
        assert!(read(&Scratch::new("none.jsonl", b""), None).is_empty());
    }

    #[test]
    fn one_record_cannot_take_all_memory() {
        for (name, beginning) in [("long.jsonl", &b"{\"a\":\""[..]), ("long.csv", b"a\n\"")] {
            let mut content = beginning.to_vec();
            content.resize(usize::try_from(RECORD_BYTES_MAX).unwrap() + 100_000, b'x');
            let outcome = read(&Scratch::new(name, &content), None);
            assert_eq!(outcome.len(), 1);
            assert!(
                outcome[0].contains("longer than 16777216 bytes"),
                "{}",
                outcome[0]
            );
        }
    }
}

//! The messages that are packed: lines of `.jsonl`, or whole files; gzip'd or not.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use serde_json::Value;
use waypost_compress::dictionary::Publisher;

use crate::Failure;

/// The longest message: what a packet of MQTT may hold.
const MESSAGE_BYTES_MAX: u64 = 256 << 20;
/// All messages together: they are in memory.
const BYTES_MAX: u64 = 2 << 30;

/// One message, and who sent it.
pub(in crate::commands) struct Message {
    pub(in crate::commands) bytes: Vec<u8>,
    pub(in crate::commands) publisher: Publisher,
}

pub(in crate::commands) type Messages = Vec<Message>;

/// Which fields of a line are what.
pub(in crate::commands) struct Fields<'a> {
    /// The message; the line as it is if none.
    pub(in crate::commands) message: Option<&'a str>,
    /// Its publisher; each message another's if none.
    pub(in crate::commands) publisher: Option<&'a str>,
}

/// Reads all files, in the order they are given.
pub(in crate::commands) fn read(
    files: &[PathBuf],
    fields: &Fields<'_>,
) -> Result<Messages, Failure> {
    let mut messages = Messages::new();
    let mut bytes = 0;
    for path in files {
        let name = path.display().to_string();
        let unreadable = |error: io::Error| Failure::usage(format!("{name}: {error}"));
        let mut packed = BufReader::with_capacity(1 << 16, File::open(path).map_err(unreadable)?);
        let start = packed.fill_buf().map_err(unreadable)?;
        let is_packed =
            start.starts_with(&[0x1f, 0x8b]) && path.extension().is_some_and(|it| it == "gz");
        let mut reader: Box<dyn BufRead> = if is_packed {
            Box::new(BufReader::new(MultiGzDecoder::new(packed)))
        } else {
            Box::new(packed)
        };
        let is_lines = is_lines(path);
        for number in 1_u64.. {
            let mut message = Vec::new();
            let mut one = (&mut *reader).take(MESSAGE_BYTES_MAX + 1);
            let count = if is_lines {
                one.read_until(b'\n', &mut message)
            } else {
                one.read_to_end(&mut message)
            };
            let count = count.map_err(unreadable)?;
            // An empty file is a message too; the end of lines, or what follows a whole file, is none.
            if count == 0 && (is_lines || number > 1) {
                break;
            }
            let wrong = |what: String| {
                let line = if is_lines {
                    format!(":{number}")
                } else {
                    String::new()
                };
                Failure::usage(format!("{name}{line}: {what}"))
            };
            if message.len() as u64 > MESSAGE_BYTES_MAX {
                return Err(wrong(format!("longer than {MESSAGE_BYTES_MAX} bytes")));
            }
            bytes += message.len() as u64;
            if bytes > BYTES_MAX {
                let too_much = wrong(format!("more than {BYTES_MAX} bytes in all"));
                return Err(too_much.hint("a part of them says as much: split -n l/10 FILE part-"));
            }
            if is_lines {
                message.pop_if(|byte| *byte == b'\n');
                message.pop_if(|byte| *byte == b'\r');
                if message.is_empty() {
                    continue;
                }
            }
            messages.push(taken(message, messages.len(), fields).map_err(wrong)?);
        }
    }
    if messages.is_empty() {
        return Err(Failure::usage("there is no message in these files"));
    }
    Ok(messages)
}

/// Whether a file has one message a line, by its name.
fn is_lines(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    Path::new(name)
        .extension()
        .is_some_and(|it| it == "jsonl" || it == "ndjson")
}

/// The message of a line; `place` is how many were before it.
fn taken(line: Vec<u8>, place: usize, fields: &Fields<'_>) -> Result<Message, String> {
    if fields.message.is_none() && fields.publisher.is_none() {
        return Ok(Message {
            bytes: line,
            publisher: Publisher::named(&place.to_le_bytes()),
        });
    }
    let line_fields: Value =
        serde_json::from_slice(&line).map_err(|error| format!("not JSON: {error}"))?;
    if !line_fields.is_object() {
        return Err("no JSON object, so there are no fields in it".to_owned());
    }
    let field = |flag: &str, name: &str| {
        line_fields.get(name).ok_or_else(|| {
            let names = line_fields
                .as_object()
                .into_iter()
                .flat_map(serde_json::Map::keys);
            let names: Vec<_> = names.map(String::as_str).take(20).collect();
            format!("{flag}: no field {name:?}; there are: {}", names.join(", "))
        })
    };
    let publisher = match fields.publisher {
        Some(name) => field("--publisher-field", name)?.to_string().into_bytes(),
        None => place.to_le_bytes().to_vec(),
    };
    let bytes = match fields.message {
        Some(name) => match field("--field", name)? {
            Value::String(text) => text.clone().into_bytes(),
            other => other.to_string().into_bytes(),
        },
        None => line,
    };
    Ok(Message {
        bytes,
        publisher: Publisher::named(&publisher),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const NONE: Fields<'_> = Fields {
        message: None,
        publisher: None,
    };

    fn bytes(messages: &Messages) -> Vec<&[u8]> {
        messages.iter().map(|it| it.bytes.as_slice()).collect()
    }

    #[test]
    fn lines_and_files_are_messages_packed_or_not() {
        let directory = tempfile::tempdir().unwrap();
        let lines = b"{\"text\":\"a\\u00e4\",\"n\":1}\r\n\n{\"text\":\"b\",\"n\":[2]}";
        let plain = directory.path().join("x.jsonl");
        std::fs::write(&plain, lines).unwrap();
        let packed = directory.path().join("x.jsonl.gz");
        let file = File::create(&packed).unwrap();
        let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        encoder.write_all(lines).unwrap();
        encoder.finish().unwrap();
        let whole = directory.path().join("x.txt");
        std::fs::write(&whole, b"one\ntwo\n").unwrap();
        let empty = directory.path().join("empty.bin");
        std::fs::write(&empty, b"").unwrap();
        let files = [plain.clone(), packed, whole, empty];
        let read_all = read(&files, &NONE).unwrap();
        let (first, second) = (&lines[..24], &lines[27..]);
        assert_eq!(
            bytes(&read_all),
            [first, second, first, second, b"one\ntwo\n", b""]
        );
        let of = |message, publisher| Fields {
            message: Some(message),
            publisher,
        };
        let texts = read(&files[..2], &of("text", None)).unwrap();
        assert_eq!(bytes(&texts)[..2], ["aä".as_bytes(), b"b"]);
        let numbers = read(&files[..1], &of("n", Some("text"))).unwrap();
        assert_eq!(bytes(&numbers), [&b"1"[..], b"[2]"]);
        assert!(numbers[0].publisher == Publisher::named("\"aä\"".as_bytes()));
        assert!(texts[0].publisher != texts[1].publisher);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("x.jsonl");
        std::fs::write(&file, "{\"a\":1}\n{\"b\":2,\"c\":3}\nno\n").unwrap();
        let check = |message, part: &str| {
            let fields = Fields {
                message: Some(message),
                publisher: None,
            };
            let error = read(std::slice::from_ref(&file), &fields)
                .map(|_| ())
                .unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        };
        check("a", "x.jsonl:2: --field: no field \"a\"; there are: b, c");
        std::fs::write(&file, "{\"a\":1}\nno\n").unwrap();
        check("a", "x.jsonl:2: not JSON");
        std::fs::write(&file, "{\"a\":1}\n[1]\n").unwrap();
        check("a", "x.jsonl:2: no JSON object");
        std::fs::write(&file, "\n\n").unwrap();
        check("a", "no message");
    }
}

//! What a server said to the operating system, in order, as `strace` saw it.
//!
//! A traced thread stops at each call's entry and exit until `strace` has written the line, so whatever one thread does
//! because another's call has returned stands below that call's return.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::{ServerOptions, wait_for};

/// Calls that read or write a socket or a file, or wait for a disk.
const CALLS: &str = "trace=read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg,pwrite64,pwritev,pwritev2,fdatasync,fsync,\
                     sync_file_range,io_uring_enter";
/// Longer than any buffer that a test makes the server write.
const BYTES_MAX: &str = "67108864";
const LIMIT: Duration = Duration::from_mins(1);

/// One call that has returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Such as `pwrite64`.
    pub name: String,
    /// What its first argument stands for: a path, or `TCP:[127.0.0.1:1883->127.0.0.1:50000]`.
    pub place: String,
    /// What it read or wrote, as far as it came.
    pub bytes: Vec<u8>,
    /// The line of its entry.
    pub entered: usize,
    /// The line of its return; the same, when nothing happened in between.
    pub returned: usize,
    /// What it returned.
    pub result: i64,
}

impl Call {
    /// Whether it wrote.
    pub fn is_write(&self) -> bool {
        ["write", "pwrite", "send"]
            .iter()
            .any(|prefix| self.name.starts_with(prefix))
            && self.result > 0
    }

    /// Whether it read.
    pub fn is_read(&self) -> bool {
        ["read", "recv"]
            .iter()
            .any(|prefix| self.name.starts_with(prefix))
            && self.result > 0
    }

    /// Whether it waited until a file's content was on the disk, and it was.
    pub fn is_sync(&self) -> bool {
        ["fdatasync", "fsync"].contains(&self.name.as_str()) && self.result == 0
    }

    /// The client's port, if this is a TCP connection.
    pub fn peer_port(&self) -> Option<u16> {
        let (_, peer) = self.place.strip_prefix("TCP:[")?.split_once("->")?;
        peer.trim_end_matches(']').rsplit(':').next()?.parse().ok()
    }
}

/// A trace being written.
pub struct Trace {
    directory: TempDir,
}

impl Trace {
    /// Makes the server that `options` describe start under `strace`; none, said on stderr, where tracing is not allowed.
    pub fn begin(options: ServerOptions) -> Option<(Self, ServerOptions)> {
        let trial = Command::new("strace")
            .args(["-o", "/dev/null", "true"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !trial.as_ref().is_ok_and(std::process::ExitStatus::success) {
            let required =
                std::env::var_os("TEST_CLIENTS").is_some_and(|value| value == "required");
            assert!(
                !required || trial.is_ok(),
                "strace is not installed: `cargo xtask setup` installs it"
            );
            eprintln!("skipped: no strace, or it may not trace here");
            return None;
        }
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory
            .path()
            .join("trace")
            .to_string_lossy()
            .into_owned();
        let program = [
            "strace", "-D", "-f", "-q", "-xx", "-yy", "-s", BYTES_MAX, "-e", CALLS, "-o", &file,
        ];
        Some((Self { directory }, options.under(program)))
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("trace")
    }

    /// All calls, once the server has ended, in the order of their returns.
    pub fn calls(&self) -> Vec<Call> {
        let text = wait_for("the end of the trace", LIMIT, || {
            let text = std::fs::read_to_string(self.file()).ok()?;
            let last = text.lines().next_back()?;
            (last.contains("+++ exited") || last.contains("+++ killed")).then_some(text)
        });
        let calls = read(&text);
        let ring = calls.iter().find(|call| call.name == "io_uring_enter");
        assert!(ring.is_none(), "io_uring hides what is written from strace");
        calls
    }
}

/// Reads what `strace -f -xx -yy` has written.
pub fn read(text: &str) -> Vec<Call> {
    let mut calls = Vec::new();
    // A call that another thread's line has interrupted: by thread, its line and what stands before the interruption.
    let mut unfinished: HashMap<&str, (usize, &str)> = HashMap::new();
    for (line, text) in text.lines().enumerate() {
        let Some((thread, rest)) = text.split_once(' ') else {
            continue;
        };
        let rest = rest.trim_start();
        if let Some(head) = rest.strip_suffix("<unfinished ...>") {
            unfinished.insert(thread, (line, head.trim_end()));
        } else if rest.starts_with("<... ") {
            if let (Some((entered, head)), Some((_, tail))) =
                (unfinished.remove(thread), rest.split_once("resumed>"))
            {
                calls.extend(read_call(&format!("{head}{tail}"), entered, line));
            }
        } else {
            calls.extend(read_call(rest, line, line));
        }
    }
    calls
}

fn read_call(text: &str, entered: usize, returned: usize) -> Option<Call> {
    let (name, rest) = text.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(" = ")?;
    let result = result.split_whitespace().next()?.parse().ok()?;
    let place = arguments
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'));
    // `->` is part of a socket's name.
    let place = match place {
        Some((start, rest)) if start.ends_with('-') => {
            let end = rest.split_once('>').map_or("", |(end, _)| end);
            format!("{start}>{end}")
        }
        Some((place, _)) => String::from_utf8_lossy(&unescape(place)).into_owned(),
        None => String::new(),
    };
    let mut bytes: Vec<u8> = arguments
        .split('"')
        .skip(1)
        .step_by(2)
        .flat_map(unescape)
        .collect();
    bytes.truncate(usize::try_from(result).unwrap_or_default());
    Some(Call {
        name: name.to_owned(),
        place,
        bytes,
        entered,
        returned,
        result,
    })
}

/// Bytes written as `\x2f\x74`; other text stands for itself.
fn unescape(text: &str) -> Vec<u8> {
    let Some(first) = text.strip_prefix("\\x") else {
        return text.as_bytes().to_vec();
    };
    first
        .split("\\x")
        .filter_map(|byte| u8::from_str_radix(byte, 16).ok())
        .collect()
}

/// Whether a path is inside a directory.
pub fn is_inside(place: &str, directory: &Path) -> bool {
    Path::new(place).starts_with(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = r#"10  recvfrom(19<TCP:[127.0.0.1:1883->127.0.0.1:50]>, "\x32\x12", 65536, 0, NULL, NULL) = 2
11  pwrite64(7<\x2f\x61>, "\x01\x02\x03", 3, 0 <unfinished ...>
10  sendto(19<TCP:[127.0.0.1:1883->127.0.0.1:50]>, "\x40\x02\x00\x01", 4, MSG_NOSIGNAL, NULL, 0) = 2
11  <... pwrite64 resumed>) = 3
11  fdatasync(7<\x2f\x61>) = -1 EIO (Input/output error)
12  writev(5<\x2f\x62>, [{iov_base="\x01", iov_len=1}, {iov_base="\x02", iov_len=1}], 2) = 2
11  +++ exited with 0 +++
"#;

    #[test]
    fn reads_calls_that_others_interrupt() {
        let calls = read(TRACE);
        let seen: Vec<_> = calls
            .iter()
            .map(|call| {
                (
                    call.name.as_str(),
                    call.place.as_str(),
                    call.bytes.as_slice(),
                    call.entered,
                    call.returned,
                )
            })
            .collect();
        let socket = "TCP:[127.0.0.1:1883->127.0.0.1:50]";
        assert_eq!(
            seen,
            [
                ("recvfrom", socket, &[0x32, 0x12][..], 0, 0),
                ("sendto", socket, &[0x40, 0x02], 2, 2),
                ("pwrite64", "/a", &[1, 2, 3], 1, 3),
                ("fdatasync", "/a", &[], 4, 4),
                ("writev", "/b", &[1, 2], 5, 5),
            ]
        );
        assert_eq!(calls[0].peer_port(), Some(50));
        assert!(
            calls[0].is_read() && calls[1].is_write() && calls[2].is_write() && !calls[3].is_sync()
        );
    }
}

//! `examples/chat`: a room with scroll-back.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver};

use waypost_tests::{LIMIT, Program, Server, ServerOptions, required_program, waypost};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/chat");
/// Real rooms, where there are any.
const ROOMS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../shared/data/chat/rooms.jsonl"
);

fn server() -> Server {
    let configuration = std::fs::read_to_string(Path::new(EXAMPLE).join("waypost.toml")).unwrap();
    ServerOptions::new().configuration(&configuration).start()
}

fn replay(server: &Server, file: &Path) {
    let status = waypost()
        .arg("replay")
        .arg(file)
        .args(["--topic", "chat/{room}", "-q", "1"])
        .args(["-p", &server.mqtt().port().to_string()])
        .stdout(Stdio::null())
        .status();
    assert!(status.unwrap().success(), "replay of {}", file.display());
}

/// What is to be seen of each record.
fn spoken(file: &Path, room: &str) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap();
    let records = text.lines().map(|line| serde_json::from_str(line).unwrap());
    records
        .filter(|record: &serde_json::Value| record["room"] == room)
        .map(|record| {
            let field = |name: &str| record[name].as_str().unwrap().to_owned();
            format!("{}: {}", field("user"), field("text"))
        })
        .collect()
}

/// Somebody in a room.
struct Guest {
    child: Child,
    keyboard: ChildStdin,
    screen: Receiver<String>,
}

impl Guest {
    fn enter(server: &Server, room: &str, name: &str, lines: usize) -> Option<Self> {
        let mut command = required_program(Program::Python)?;
        let mut child = command
            .arg(Path::new(EXAMPLE).join("chat.py"))
            .args([room, "--name", name, "--lines", &lines.to_string()])
            .args(["--port", &server.mqtt().port().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let keyboard = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, screen) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Some(Self {
            child,
            keyboard,
            screen,
        })
    }

    fn types(&mut self, line: &str) {
        writeln!(self.keyboard, "{line}").unwrap();
    }

    #[track_caller]
    fn sees<S: AsRef<str>>(&self, expected: &[S]) {
        for line in expected {
            let seen = self.screen.recv_timeout(LIMIT).expect("another line");
            assert_eq!(seen, line.as_ref());
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Goal: who comes late sees the last lines, then what is said, each once, and goes back as far as there is anything.
#[test]
fn a_guest_reads_back_and_goes_on_live() {
    let file = Path::new(EXAMPLE).join("room.jsonl");
    let said = spoken(&file, "kitchen");
    let server = server();
    replay(&server, &file);
    let Some(mut zoe) = Guest::enter(&server, "kitchen", "zoe", 5) else {
        return;
    };
    let shown = said.len() - 5;
    zoe.sees(&said[shown..]);
    let Some(mut ann) = Guest::enter(&server, "kitchen", "ann", 1) else {
        return;
    };
    ann.sees(&said[said.len() - 1..]);
    ann.types("is anybody here?");
    zoe.sees(&["ann: is anybody here?"]);
    zoe.types("I am");
    ann.sees(&["ann: is anybody here?", "zoe: I am"]);
    zoe.sees(&["zoe: I am"]);
    zoe.types("/older");
    zoe.sees(&["-- before that"]);
    zoe.sees(&said[..shown]);
    zoe.sees(&["-- until here"]);
    zoe.types("/older");
    zoe.sees(&["-- that was all"]);
    zoe.types("/quit");
    assert!(zoe.child.wait().unwrap().success());
}

/// The same with thousands of real lines.
#[test]
fn a_long_room_is_read_back_in_order() {
    let file = PathBuf::from(ROOMS);
    if !file.exists() {
        eprintln!("skipped: no ../shared/data");
        return;
    }
    let said = spoken(&file, "mediawiki");
    let server = server();
    replay(&server, &file);
    let Some(mut guest) = Guest::enter(&server, "mediawiki", "guest", 50) else {
        return;
    };
    let mut end = said.len();
    let mut lines = 50;
    guest.sees(&said[end - lines..]);
    for _ in 0..3 {
        end -= lines;
        lines = 50;
        guest.types("/older");
        guest.sees(&["-- before that"]);
        guest.sees(&said[end - lines..end]);
        guest.sees(&["-- until here"]);
    }
}

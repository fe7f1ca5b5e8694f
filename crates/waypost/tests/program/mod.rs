//! The program under test: `waypost serve` and subscribers as processes.

// Each test binary uses its own part of it.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_waypost");

/// `waypost serve` on free ports, ended when dropped.
pub struct Server {
    pub process: Child,
    pub url: String,
    /// Where it serves HTTP.
    pub http: String,
    pub directory: tempfile::TempDir,
}

impl Server {
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut process = Command::new(PROGRAM)
            .args([
                "serve",
                "--mqtt",
                "127.0.0.1:0",
                "--http",
                "127.0.0.1:0",
                "--shards",
                "2",
            ])
            .arg("--data-dir")
            .arg(directory.path().join("data"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let mut lines = output.lines().map_while(Result::ok);
        let mut printed = |door: &str| {
            let mut found = lines.by_ref().filter_map(|line| {
                Some(
                    line.strip_prefix(door)?
                        .strip_prefix(' ')?
                        .trim()
                        .to_owned(),
                )
            });
            found.next().expect("the server says where it listens")
        };
        let (address, http) = (printed("mqtt"), printed("http"));
        Self {
            process,
            url: format!("mqtt://{address}"),
            http,
            directory,
        }
    }

    /// Where it serves MQTT over TCP.
    pub fn place(&self) -> &str {
        self.url.trim_start_matches("mqtt://")
    }

    pub fn command(&self, command: &str, arguments: &[&str]) -> Command {
        let mut process = Command::new(PROGRAM);
        process
            .arg(command)
            .args(["--url", &self.url])
            .args(arguments);
        process
    }

    pub fn run(&self, command: &str, arguments: &[&str]) -> Output {
        self.command(command, arguments).output().unwrap()
    }

    /// A subscriber; when this returns the server knows it.
    pub fn subscribe(&self, arguments: &[&str]) -> Subscriber {
        let mut process = self
            .command("sub", arguments)
            .args(["--json", "--debug", "-W", "60"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = process.stdout.take().unwrap();
        // Read from the beginning: a full pipe would make the subscriber a slow one.
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).map(|_| text)
        });
        let mut stderr = BufReader::new(process.stderr.take().unwrap()).lines();
        let subscribed = stderr.any(|line| line.unwrap().starts_with("subscribed to"));
        assert!(subscribed, "SUBACK came");
        Subscriber { process, reader }
    }

    pub fn file(&self, name: &str, content: &str) -> String {
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub struct Subscriber {
    process: Child,
    reader: std::thread::JoinHandle<std::io::Result<String>>,
}

impl Subscriber {
    /// Its messages, once it has as many as it wanted.
    pub fn messages(mut self) -> Vec<Value> {
        let text = self.reader.join().unwrap().unwrap();
        assert_eq!(self.process.wait().unwrap().code(), Some(0));
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

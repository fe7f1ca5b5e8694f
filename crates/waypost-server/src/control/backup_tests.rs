//! Backups, as the administrator asks for them.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use waypost_store::backup::{self, Original};
use waypost_store::disk::{Disk, DiskFile, RealDisk};

use super::BackUp;
use super::tests::{LIMIT, Running};

const PATH: &str = "/api/v1/store/backup";

/// A store of one file, copied when told to.
fn store(directory: &Path, begin: Receiver<()>) -> BackUp {
    let store = RealDisk::open(directory).unwrap();
    let file = store.create("00000001.log").unwrap();
    file.write_at(0, &[7; 100]).unwrap();
    let begin = Mutex::new(begin);
    Arc::new(move |to, go_on| {
        begin.lock().unwrap().recv().unwrap();
        let original = Original {
            name: "00000001.log".to_owned(),
            file: Arc::new(store.open("00000001.log").unwrap()),
            length: 100,
        };
        backup::back_up(&[original], 1_790_000_000_000, to, go_on)
    })
}

struct World {
    running: Running,
    begin: SyncSender<()>,
    directory: tempfile::TempDir,
    _store: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let store_directory = tempfile::tempdir().unwrap();
        let (begin, told) = sync_channel(10);
        Self {
            running: Running::backed_up_by(store(store_directory.path(), told)),
            begin,
            directory: tempfile::tempdir().unwrap(),
            _store: store_directory,
        }
    }

    fn post(&self, directory: &str) -> (u16, Value) {
        let body = json!({ "directory": directory }).to_string();
        self.ask("POST", &body)
    }

    fn ask(&self, method: &str, body: &str) -> (u16, Value) {
        let answer = self.running.ask_on_socket(method, PATH, body);
        (answer.status, serde_json::from_str(&answer.body).unwrap())
    }

    fn place(&self, name: &str) -> String {
        let path = self.directory.path().join(name);
        path.to_str().unwrap().to_owned()
    }

    fn ended(&self) -> Value {
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            let (status, answer) = self.ask("GET", "");
            assert_eq!(status, 200);
            if answer["state"] != "running" {
                return answer;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the backup goes on for ever");
    }
}

#[test]
fn a_backup_is_begun_watched_and_complete() {
    let world = World::new();
    assert_eq!(world.ask("GET", "").1["state"], "none");
    let place = world.place("new/backup");
    let (status, answer) = world.post(&place);
    assert_eq!((status, &answer["state"]), (202, &json!("running")));
    let (status, answer) = world.post(&world.place("other"));
    assert_eq!(status, 409);
    let error = answer["error"].as_str().unwrap();
    assert!(
        error.contains("goes on already") && error.contains(&place),
        "{error}"
    );
    world.begin.send(()).unwrap();
    let answer = world.ended();
    assert_eq!(answer["state"], "done", "{answer}");
    assert_eq!(
        (&answer["bytes"], &answer["bytes_total"], &answer["files"]),
        (&json!(100), &json!(100), &json!(1))
    );
    assert_eq!(answer["taken_wall_ms"], 1_790_000_000_000_u64);
    let disk = RealDisk::open(&place).unwrap();
    assert_eq!(backup::contents(&disk).unwrap().bytes(), 100);
    // The place is taken now: the next one fails, and says so.
    world.begin.send(()).unwrap();
    assert_eq!(world.post(&place).0, 202);
    let answer = world.ended();
    assert_eq!(answer["state"], "failed");
    assert!(
        answer["error"].as_str().unwrap().contains("files already"),
        "{answer}"
    );
}

#[test]
fn a_backup_that_is_stopped_leaves_nothing() {
    let world = World::new();
    assert_eq!(world.post(&world.place("b")).0, 202);
    assert_eq!(world.ask("DELETE", "").0, 200);
    world.begin.send(()).unwrap();
    let answer = world.ended();
    assert!(
        answer["error"].as_str().unwrap().contains("stopped"),
        "{answer}"
    );
    let disk = RealDisk::open(world.place("b")).unwrap();
    assert!(disk.list().unwrap().is_empty());
}

#[test]
fn a_request_that_cannot_be_met_says_why() {
    let world = World::new();
    std::fs::write(world.place("file"), "").unwrap();
    for (body, why) in [
        (String::new(), "say where"),
        ("{}".to_owned(), "say where"),
        (json!({"directory": "backup"}).to_string(), "absolute"),
        (
            json!({"directory": world.place("file")}).to_string(),
            "cannot open",
        ),
    ] {
        let (status, answer) = world.ask("POST", &body);
        assert_eq!(status, 422, "{body}: {answer}");
        assert!(answer["error"].as_str().unwrap().contains(why), "{answer}");
    }
    let without = Running::start();
    let answer = without.ask_on_socket("POST", PATH, r#"{"directory": "/tmp/b"}"#);
    assert_eq!(answer.status, 404);
}

#[test]
fn the_network_gets_no_backup() {
    let world = World::new();
    for method in ["GET", "POST", "DELETE"] {
        let answer = world.running.ask(&format!(
            "{method} {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ));
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        assert!(answer.contains("administrator's socket"), "{answer}");
    }
}

//! Those who take part: a server, people with keys, and three programs that read.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};

use serde_json::json;
use waypost_tests::{LIMIT, Program, Run, Server, ServerOptions, required_program, waypost};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/sealing");

/// A server that lets the page in, and remembers everything.
pub fn server() -> Server {
    let configuration = "[http]\nallowed_origins = [\"http://page.localhost\"]\n\
                         [[stream]]\nname = \"all\"\nfilters = [\"#\"]\n";
    ServerOptions::new().configuration(configuration).start()
}

/// Ann, who writes, bob, who reads, and a room that both share, each with files that the programs take.
pub struct People {
    folder: tempfile::TempDir,
}

impl People {
    /// Ann's key directory knows bob, and bob's knows ann.
    pub fn meet() -> Self {
        let people = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        for name in ["ann", "bob"] {
            people.keys(name, &["new", name]);
            people.keys(
                name,
                &["export", name, "-o", &people.file(&format!("{name}.json"))],
            );
            let private = people.file(&format!("{name}.private.json"));
            people.keys(name, &["export", name, "--private", "-o", &private]);
        }
        people.keys("ann", &["trust", "bob", &people.file("bob.json")]);
        people.keys("bob", &["trust", "ann", &people.file("ann.json")]);
        people.keys("ann", &["new", "room", "--kind", "symmetric"]);
        let room = people.file("room.json");
        people.keys("ann", &["export", "room", "--private", "-o", &room]);
        people.keys("bob", &["import", "room", &room]);
        people
    }

    pub fn file(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `waypost keys` of somebody.
    #[track_caller]
    pub fn keys(&self, person: &str, arguments: &[&str]) {
        let mut command = self.waypost(person);
        command.arg("keys").args(arguments);
        Run::to_end(command, [""; 0]).expect_success();
    }

    fn waypost(&self, person: &str) -> Command {
        let mut command = waypost();
        command.env("WAYPOST_KEYS", self.path(&format!("{person}.keys")));
        command.stdin(Stdio::null());
        command
    }

    /// `waypost pub` of somebody.
    #[track_caller]
    pub fn publish(&self, person: &str, server: &Server, arguments: &[&str]) {
        let mut command = self.waypost(person);
        command
            .args(["pub", "-q", "1", "-p", &server.mqtt().port().to_string()])
            .args(arguments);
        Run::to_end(command, [""; 0]).expect_success();
    }

    /// The same, of a text that is sealed for one other, and signed or not.
    #[track_caller]
    pub fn write(
        &self,
        person: &str,
        server: &Server,
        topic: &str,
        text: &str,
        recipient: &str,
        signer: Option<&str>,
    ) {
        let mut arguments = vec!["-t", topic, "-m", text, "--seal-for", recipient];
        arguments.extend(signer.map(|signer| ["--sign-as", signer]).iter().flatten());
        self.publish(person, server, &arguments);
    }

    /// `sealing.py pub`.
    #[track_caller]
    pub fn publish_in_python(server: &Server, arguments: &[String]) {
        let mut command = required_program(Program::Python).unwrap();
        command
            .arg(Path::new(EXAMPLE).join("sealing.py"))
            .args(["--port", &server.mqtt().port().to_string(), "pub"])
            .args(arguments);
        Run::to_end(command, [""; 0]).expect_success();
    }

    /// `waypost sub --open` of somebody: reads `filter`.
    pub fn sub(&self, person: &str, server: &Server, filter: &str) -> Reader {
        let mut command = self.waypost(person);
        command
            .args(["sub", "--open", "-d", "-q", "1", "-t", filter])
            .args(["-F", "%t: %p (%s)"])
            .args(["-p", &server.mqtt().port().to_string()]);
        let reader = Reader::start("sub", command);
        reader.waits_for("subscribed to");
        reader
    }

    /// A reader made of pycose, with somebody's private keys; it trusts ann, and whoever else.
    pub fn pycose(&self, keys: &[&str], trusted: &[&str], server: &Server, filter: &str) -> Reader {
        let mut command = required_program(Program::Python).unwrap();
        command.args(["python/sealed_reader.py", filter]);
        command.args(["--port", &server.mqtt().port().to_string()]);
        for key in keys {
            command.args(["--key", &self.file(key)]);
        }
        for key in trusted {
            command.args(["--trust", &self.file(key)]);
        }
        let reader = Reader::start("pycose", command);
        reader.waits_for("reading");
        reader
    }

    /// `sealing.py sub` with somebody's private keys; it trusts ann, if that is asked for.
    pub fn python(&self, keys: &[&str], trusted: &[&str], server: &Server, filter: &str) -> Reader {
        let mut command = required_program(Program::Python).unwrap();
        command.arg(Path::new(EXAMPLE).join("sealing.py")).args([
            "--port",
            &server.mqtt().port().to_string(),
            "sub",
            filter,
        ]);
        for key in keys {
            command.args(["--key", &self.file(key)]);
        }
        for key in trusted {
            command.args(["--trust", &self.file(key)]);
        }
        let reader = Reader::start("python", command);
        reader.waits_for("reading");
        reader
    }

    /// The page, with keys of these names from these files.
    pub fn page(&self, keys: &[(&str, &str)], server: &Server, filter: &str) -> Reader {
        let mut command = required_program(Program::Node).unwrap();
        let url = format!("ws://{}/mqtt", server.http());
        command.args(["node/sealing.mjs", &url, filter]);
        let mut page = Reader::start("page", command);
        page.waits_for("status: Connected");
        for (name, file) in keys {
            let jwk = std::fs::read_to_string(self.path(file)).unwrap();
            page.types(&json!({"form": "keys", "name": name, "jwk": jwk}));
            page.waits_for(&format!("key: {name}"));
        }
        page
    }
}

/// Whether all programs are there.
pub fn all_installed() -> bool {
    [Program::Python, Program::Node, Program::Chromium]
        .into_iter()
        .all(|program| required_program(program).is_some())
}

/// A program that prints what it reads, ended when dropped.
pub struct Reader {
    name: &'static str,
    child: Child,
    keyboard: Option<ChildStdin>,
    lines: Receiver<String>,
    /// Lines that nobody waited for yet: what is said on two streams comes in any order.
    unread: RefCell<Vec<String>>,
}

impl Reader {
    fn start(name: &'static str, mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        collect(child.stdout.take().unwrap(), sender.clone());
        collect(child.stderr.take().unwrap(), sender);
        Self {
            name,
            keyboard: child.stdin.take(),
            child,
            lines,
            unread: RefCell::default(),
        }
    }

    /// Fills in a form of the page and sends it.
    pub fn types(&mut self, form: &serde_json::Value) {
        let keyboard = self.keyboard.as_mut().unwrap();
        writeln!(keyboard, "{form}").unwrap();
    }

    /// The next line about this topic that it prints, or says on standard error.
    #[track_caller]
    pub fn says(&self, topic: &str) -> String {
        self.waits_for(&format!("{topic}: "))
    }

    /// The same, which must be `expect`, however each program words it.
    #[track_caller]
    pub fn opens(&self, topic: &str, text: &str, signer: Option<&str>) {
        let said = self.says(topic);
        let sender = match (self.name, signer) {
            ("sub", signer) => signer.unwrap_or_default().to_owned(),
            (_, Some(signer)) => format!("signed by {signer}"),
            (_, None) => "sender unknown".to_owned(),
        };
        assert_eq!(said, format!("{topic}: {text} ({sender})"), "{}", self.name);
    }

    /// It says why it does not open the next message on this topic: one of these.
    #[track_caller]
    pub fn refuses(&self, topic: &str, why: &[&str]) {
        let said = self.says(topic);
        assert!(said.contains("not opened: "), "{}: {said}", self.name);
        assert!(
            why.iter().any(|why| said.contains(why)),
            "{}: {said}, expected {why:?}",
            self.name
        );
    }

    #[track_caller]
    fn waits_for(&self, begin: &str) -> String {
        let mut unread = self.unread.borrow_mut();
        if let Some(index) = unread.iter().position(|line| line.starts_with(begin)) {
            return unread.remove(index);
        }
        loop {
            match self.lines.recv_timeout(LIMIT) {
                Ok(line) if line.starts_with(begin) => return line,
                Ok(line) => unread.push(line),
                Err(error) => panic!("{}: {begin}: {error}, but {unread:?}", self.name),
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // The page's driver closes its browser when there is nothing more to type.
        drop(self.keyboard.take());
        if self.name == "page" {
            waypost_tests::wait_for("the browser's end", LIMIT, || {
                self.child.try_wait().unwrap_or(None)
            });
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn collect(stream: impl Read + Send + 'static, into: Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if into.send(line).is_err() {
                return;
            }
        }
    });
}

//! The examples of the documents do what the documents say.
//!
//! What is marked is run, from the top to the bottom of a page, in one empty directory with `bash`; marks are comments that
//! a reader of the page does not see. `<!-- run -->` above a block of `console` runs its commands one after the other: what
//! each prints must be what stands below it (a line `…` stands for any lines), and one with nothing below it must succeed.
//! `<!-- run beside -->` runs `waypost serve`, or `waypost sub` of that server, while the others do, as in a terminal of its
//! own: what it prints must have begun as the page says when the page ends. A page has one server at a time. A block whose first line is `# NAME.toml` is that file.
//!
//! The ports of the pages are replaced by free ones, and `/srv/mqtt` by the directory, so that pages do not meet.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use tempfile::TempDir;
use waypost_tests::{LIMIT, Program, required_program, wait_for, waypost};

const DOCUMENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");

/// The ports that pages speak of. The first is where clients look when nothing is said.
const PORTS: [u16; 5] = [1883, 8883, 8884, 8083, 8080];

/// The directory that pages are read in.
const DIRECTORY: &str = "/srv/mqtt";

/// One thing a page does.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    File {
        name: String,
        text: String,
    },
    Run {
        command: String,
        expect: Vec<String>,
    },
    Beside {
        command: String,
        expect: Vec<String>,
    },
}

/// The marked parts of a page, in order.
fn steps(page: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut mark = "";
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(comment) = line.strip_prefix("<!-- ") {
            mark = comment.trim_end_matches(" -->");
            continue;
        }
        if !line.starts_with("```") {
            continue;
        }
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        let name = block.first().and_then(|line| line.strip_prefix("# "));
        match (mark, name) {
            ("run", _) => steps
                .extend(commands(&block).map(|(command, expect)| Step::Run { command, expect })),
            ("run beside", _) => {
                steps.extend(
                    commands(&block).map(|(command, expect)| Step::Beside { command, expect }),
                );
            }
            (_, Some(name)) if name.ends_with("toml") => steps.push(Step::File {
                name: name.to_owned(),
                text: block.join("\n") + "\n",
            }),
            _ => {}
        }
        mark = "";
    }
    steps
}

/// `$ command` and what stands below it; a command goes on after `\` and to the end of its here-document.
fn commands(block: &[&str]) -> impl Iterator<Item = (String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    let mut end_of_document = None;
    let mut goes_on = false;
    for line in block {
        if let Some(start) = line.strip_prefix("$ ") {
            found.push((start.to_owned(), Vec::new()));
            end_of_document = start
                .split_once("<<'")
                .and_then(|(_, rest)| rest.split_once('\''))
                .map(|(end, _)| end);
        } else if let Some((command, expect)) = found.last_mut() {
            if goes_on || end_of_document.is_some() {
                command.push('\n');
                command.push_str(line);
                end_of_document = end_of_document.filter(|end| line != end);
            } else {
                expect.push((*line).to_owned());
            }
        }
        goes_on = line.ends_with('\\');
    }
    found.into_iter()
}

/// Whether the lines are what is expected, from the first to the last; `…` stands for any.
fn is_as_expected(lines: &[&str], expect: &[String]) -> bool {
    match (expect.split_first(), lines.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "…" => {
            (0..=lines.len()).any(|skipped| is_as_expected(&lines[skipped..], rest))
        }
        (Some((first, expect)), Some((line, lines))) => {
            first == line && is_as_expected(lines, expect)
        }
        _ => false,
    }
}

/// A page while it is run.
struct Page {
    name: String,
    directory: TempDir,
    ports: Vec<(u16, u16)>,
    beside: Vec<Beside>,
}

struct Beside {
    command: String,
    child: Child,
    printed: Arc<Mutex<String>>,
    expect: Vec<String>,
}

impl Drop for Beside {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Page {
    fn new(name: &str) -> Self {
        // All at once, so that they differ.
        let free: Vec<TcpListener> = PORTS
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .into();
        let free = free
            .iter()
            .map(|socket| socket.local_addr().unwrap().port());
        Self {
            name: name.to_owned(),
            directory: tempfile::tempdir().unwrap(),
            ports: PORTS.into_iter().zip(free).collect(),
            beside: Vec::new(),
        }
    }

    /// With the ports and the directory of this run.
    fn here(&self, text: &str) -> String {
        let directory = self.directory.path().to_string_lossy();
        let mut text = text
            .replace("mqtts://localhost ", "mqtts://localhost:8883 ")
            .replace(DIRECTORY, &directory);
        for (from, to) in &self.ports {
            text = text.replace(&from.to_string(), &to.to_string());
        }
        text
    }

    /// A shell for that command; `is_beside`: it becomes the command, so that its end is the command's.
    fn bash(&self, command: &str, is_beside: bool) -> Command {
        let program = waypost();
        let directory = Path::new(program.get_program()).parent().unwrap();
        let path = format!(
            "{}:{}",
            directory.display(),
            std::env::var("PATH").unwrap_or_default()
        );
        let [mqtt, .., http] = self.ports[..] else {
            panic!("ports");
        };
        // Where a page says no port, the program's own is meant.
        let prelude = format!(
            "waypost() {{ case \"$1 $* \" in\n\
             *--url*|*' -p '*|*--port*) ;;\n\
             pub*|sub*|replay*|bench*) set -- \"$@\" -p {};;\n\
             esac; {} waypost \"$@\"; }}\n",
            mqtt.1,
            if is_beside { "exec" } else { "command" }
        );
        let command = self.here(command);
        let mut bash = Command::new("bash");
        bash.arg("-c").arg(format!("{prelude}{command}"));
        if command.starts_with("waypost serve") {
            bash.env("WAYPOST_LISTEN__HTTP", format!("127.0.0.1:{}", http.1));
            bash.env("WAYPOST_LISTEN__MQTT", format!("127.0.0.1:{}", mqtt.1));
        }
        bash.env("PATH", path)
            .current_dir(self.directory.path())
            .stdin(Stdio::null());
        bash
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::File { name, text } => {
                fs::write(self.directory.path().join(name), self.here(&text)).unwrap();
            }
            Step::Run { command, expect } => self.run(&command, &expect),
            Step::Beside { command, expect } => self.start(command, &expect),
        }
    }

    fn run(&self, command: &str, expect: &[String]) {
        let done = self
            // A here-document ends at its own line.
            .bash(&format!("{{ {command}\n}} 2>&1"), false)
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&done.stdout).into_owned();
        if expect.is_empty() {
            assert!(
                done.status.success(),
                "{}: $ {command}\n{printed}",
                self.name
            );
            return;
        }
        let lines: Vec<&str> = printed.lines().collect();
        let expect: Vec<String> = expect.iter().map(|line| self.here(line)).collect();
        assert!(
            is_as_expected(&lines, &expect),
            "{}: $ {command}\n{printed}\n--- but the page says ---\n{}",
            self.name,
            expect.join("\n")
        );
    }

    fn start(&mut self, command: String, expect: &[String]) {
        let mut child = self
            .bash(&command, true)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let printed: Arc<Mutex<String>> = Arc::default();
        let mut stdout = child.stdout.take().unwrap();
        let into = Arc::clone(&printed);
        thread::spawn(move || {
            let mut buffer = [0; 4_096];
            while let Ok(length @ 1..) = stdout.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]);
                into.lock().unwrap().push_str(&text);
            }
        });
        let expect = expect.iter().map(|line| self.here(line)).collect();
        let beside = Beside {
            command,
            child,
            printed,
            expect,
        };
        if beside.command.starts_with("waypost serve") {
            wait_for("the server to be ready", LIMIT, || {
                beside.has_printed("\nsocket").then_some(())
            });
            self.beside.clear();
            self.beside.push(beside);
            return;
        }
        self.beside.push(beside);
        let subscriptions = self.beside.len() - 1;
        wait_for("the subscription", LIMIT, || {
            (self.subscriptions() >= subscriptions).then_some(())
        });
    }

    /// How many the page's server has.
    fn subscriptions(&self) -> usize {
        let http = self.ports[PORTS.len() - 1].1;
        let mut stream = TcpStream::connect(("127.0.0.1", http)).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        write!(
            stream,
            "GET /metrics HTTP/1.1\r\nHost: localhost:{http}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let lines = answer
            .lines()
            .filter(|line| line.starts_with("waypost_subscriptions{"));
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok())
            .sum()
    }

    /// What goes on beside has printed what the page says.
    fn end(self) {
        for beside in &self.beside {
            let Beside {
                command, expect, ..
            } = beside;
            let what = format!("{}: $ {command} to print {} lines", self.name, expect.len());
            let printed = wait_for(&what, LIMIT, || {
                let printed = beside.printed.lock().unwrap().clone();
                (printed.lines().count() >= expect.len()).then_some(printed)
            });
            let lines: Vec<&str> = printed.lines().take(expect.len()).collect();
            // How many shards there are is the machine's to say.
            let skipped = usize::from(command.starts_with("waypost serve"));
            assert!(
                is_as_expected(&lines[skipped..], &expect[skipped..]),
                "{}: $ {command}\n{printed}--- but the page says ---\n{}",
                self.name,
                expect.join("\n")
            );
        }
    }
}

impl Beside {
    fn has_printed(&self, text: &str) -> bool {
        self.printed.lock().unwrap().contains(text)
    }
}

#[test]
fn every_page_does_what_it_says() {
    let mut names: Vec<_> = fs::read_dir(DOCUMENTS)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with("md"))
        .collect();
    names.sort();
    let mut count = 0;
    for name in names {
        let text = fs::read_to_string(Path::new(DOCUMENTS).join(&name)).unwrap();
        let needs =
            |word: &str, program| !text.contains(word) || required_program(program).is_some();
        if !needs("\n$ mosquitto_pub", Program::MosquittoPub)
            || !needs("\n$ openssl", Program::OpenSsl)
        {
            continue;
        }
        let mut page = Page::new(&name);
        for step in steps(&text) {
            count += usize::from(!matches!(step, Step::File { .. }));
            page.step(step);
        }
        page.end();
    }
    assert!(count >= 5, "{count} examples were run");
}

#[test]
fn a_page_is_read_by_its_marks() {
    let page = "# A page\n```console\n$ not marked\n```\n<!-- run -->\n```console\n$ echo a \\\n  b\na b\n$ cat <<'END'\n$HOME\nEND\n…\n```\n\
                ```toml\n# x.toml\n[log]\n```\n```toml\n[server]\n```\n<!-- run beside -->\n```console\n$ waypost serve\n```\n";
    assert_eq!(
        steps(page),
        [
            Step::Run {
                command: "echo a \\\n  b".to_owned(),
                expect: vec!["a b".to_owned()]
            },
            Step::Run {
                command: "cat <<'END'\n$HOME\nEND".to_owned(),
                expect: vec!["…".to_owned()]
            },
            Step::File {
                name: "x.toml".to_owned(),
                text: "# x.toml\n[log]\n".to_owned()
            },
            Step::Beside {
                command: "waypost serve".to_owned(),
                expect: Vec::new()
            },
        ]
    );
    let expect = |lines: &[&str]| {
        lines
            .iter()
            .map(|line| (*line).to_owned())
            .collect::<Vec<_>>()
    };
    assert!(is_as_expected(&["a", "b", "c"], &expect(&["a", "…", "c"])));
    assert!(is_as_expected(&["a"], &expect(&["a", "…"])));
    assert!(!is_as_expected(&["a", "b"], &expect(&["a"])));
    assert!(!is_as_expected(&["a"], &expect(&["b"])));
}

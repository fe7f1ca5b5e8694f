//! Client programs that nobody here wrote: `mosquitto_pub`, Python with paho, Node with MQTT.js.

use std::{
    ffi::OsStr,
    path::Path,
    process::{Child, Command, Stdio},
    thread::JoinHandle,
    time::Duration,
};

use crate::wait_for;

/// The directory of the client scripts.
const CLIENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients");
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// How long one client script may take.
const SCRIPT_LIMIT: Duration = Duration::from_mins(2);

/// A client program of somebody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Debian's `mosquitto_pub`.
    MosquittoPub,
    /// Debian's `mosquitto_sub`.
    MosquittoSub,
    /// Python of the repository's `.venv`, which has paho-mqtt.
    Python,
    /// Node, with MQTT.js and puppeteer-core in `tests/clients/node/node_modules`.
    Node,
    /// A browser for Node to drive.
    Chromium,
    /// `openssl`, for `s_client`.
    OpenSsl,
}

impl Program {
    fn path(self) -> String {
        match self {
            Self::MosquittoPub => "mosquitto_pub".to_owned(),
            Self::MosquittoSub => "mosquitto_sub".to_owned(),
            Self::Python => format!("{ROOT}/.venv/bin/python"),
            Self::Node => "node".to_owned(),
            Self::Chromium => "chromium".to_owned(),
            Self::OpenSsl => "openssl".to_owned(),
        }
    }

    fn is_installed(self) -> bool {
        let libraries = match self {
            Self::Node => Path::new(CLIENTS).join("node/node_modules/mqtt").is_dir(),
            Self::Chromium => Path::new(CLIENTS)
                .join("node/node_modules/puppeteer-core")
                .is_dir(),
            Self::MosquittoPub | Self::MosquittoSub | Self::Python | Self::OpenSsl => true,
        };
        libraries
            && Command::new(self.path())
                .arg("--help")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok()
    }
}

/// The command for `program`, or none, said on stderr, where it is not installed.
///
/// `cargo xtask test` installs them all and sets `TEST_CLIENTS=required`, which makes a missing one a failure.
pub fn required_program(program: Program) -> Option<Command> {
    if program.is_installed() {
        let mut command = Command::new(program.path());
        command.current_dir(CLIENTS).stdin(Stdio::null());
        return Some(command);
    }
    let required = std::env::var_os("TEST_CLIENTS").is_some_and(|value| value == "required");
    assert!(
        !required,
        "{program:?} is not installed: `cargo xtask setup` installs it"
    );
    eprintln!("skipped: {program:?} is not installed; `cargo xtask setup` installs it");
    None
}

/// A client program under way, killed when dropped.
pub struct Running {
    child: Child,
    name: String,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
}

impl Running {
    /// Starts `command` and collects its output.
    pub fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the client program starts");
        let stdout = child.stdout.take().map(read_all);
        let stderr = child.stderr.take().map(read_all);
        Self {
            child,
            name: format!("{command:?}"),
            stdout,
            stderr,
        }
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn finish(mut self) -> Run {
        let status = wait_for(&format!("the end of {}", self.name), SCRIPT_LIMIT, || {
            self.child.try_wait().expect("the child can be waited for")
        });
        let text = |reader: Option<JoinHandle<String>>| {
            reader.map_or_else(String::new, |reader| reader.join().unwrap())
        };
        Run {
            success: status.success(),
            stdout: text(self.stdout.take()),
            stderr: text(self.stderr.take()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// One finished run of a client program.
#[derive(Debug)]
pub struct Run {
    /// Whether it exited with 0.
    pub success: bool,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Run {
    /// Runs `command` with `arguments` to its end, within a limit.
    pub fn to_end<A: AsRef<OsStr>>(
        mut command: Command,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        command.args(arguments);
        Running::start(command).finish()
    }

    /// The standard output of a run that must have succeeded.
    #[track_caller]
    pub fn expect_success(self) -> String {
        assert!(
            self.success,
            "the client failed\nstdout: {}\nstderr: {}",
            self.stdout, self.stderr
        );
        self.stdout
    }
}

fn read_all(mut stream: impl std::io::Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        drop(stream.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

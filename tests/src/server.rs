//! A `waypost serve` process of the test's own.

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, OnceLock},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{LIMIT, wait_for};

/// Shards of a server whose test does not say how many: `TEST_SHARDS`, or else 1.
fn default_shards() -> u16 {
    std::env::var("TEST_SHARDS").map_or(1, |shards| {
        shards.parse().expect("TEST_SHARDS is a number of shards")
    })
}

/// What a test wants to be different from `waypost serve --mqtt 127.0.0.1:0 --http 127.0.0.1:0 --shards 1`.
#[derive(Clone, Default)]
pub struct ServerOptions {
    under: Vec<String>,
    data_dir: Option<PathBuf>,
    mqtt_port: u16,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    configuration: Option<String>,
    shards: Option<u16>,
}

impl ServerOptions {
    /// One shard, free ports, a fresh data directory, default limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds arguments after those of the default command line.
    #[must_use]
    pub fn arguments<const N: usize>(mut self, arguments: [&str; N]) -> Self {
        self.arguments.extend(arguments.map(str::to_owned));
        self
    }

    /// Sets an environment variable, for example `WAYPOST_LIMITS__INFLIGHT_MAX`.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Writes `toml` to a file and passes it as `--config`.
    #[must_use]
    pub fn configuration(mut self, toml: &str) -> Self {
        self.configuration = Some(toml.to_owned());
        self
    }

    /// Runs that many shards instead of one.
    #[must_use]
    pub fn shards(mut self, shards: u16) -> Self {
        self.shards = Some(shards);
        self
    }

    /// Keeps its data there, where the next server of the same options finds them again.
    #[must_use]
    pub fn data_dir(mut self, data_dir: &Path) -> Self {
        self.data_dir = Some(data_dir.to_owned());
        self
    }

    /// Listens for MQTT on that port instead of a free one, so that clients find the next server there too.
    #[must_use]
    pub fn mqtt_port(mut self, port: u16) -> Self {
        self.mqtt_port = port;
        self
    }

    /// Starts the server as the last arguments of another program, such as `strace`.
    #[must_use]
    pub fn under<const N: usize>(mut self, program: [&str; N]) -> Self {
        self.under = program.map(str::to_owned).into();
        self
    }

    /// Starts the server and waits until it has printed its addresses.
    pub fn start(self) -> Server {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let data_dir = self
            .data_dir
            .unwrap_or_else(|| directory.path().join("data"));
        let mut command = waypost();
        if let Some((program, arguments)) = self.under.split_first() {
            let mut outer = Command::new(program);
            outer.args(arguments).arg(command.get_program());
            for (name, _) in command.get_envs() {
                outer.env_remove(name);
            }
            command = outer;
        }
        command
            .args(["serve", "--mqtt"])
            .arg(format!("127.0.0.1:{}", self.mqtt_port))
            .args(["--http", "127.0.0.1:0", "--shards"])
            .arg(self.shards.unwrap_or_else(default_shards).to_string())
            .arg("--data-dir")
            .arg(&data_dir);
        if let Some(toml) = self.configuration {
            let file = directory.path().join("waypost.toml");
            std::fs::write(&file, toml).expect("the configuration file is written");
            command.arg("--config").arg(file);
        }
        command
            .args(self.arguments)
            .envs(self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Server::spawn(command, directory, data_dir)
    }
}

/// A running server; killed when dropped, its output shown when the test failed.
pub struct Server {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    mqtt: SocketAddr,
    http: SocketAddr,
    data_dir: PathBuf,
    /// Where its configuration is, and its data where the test has not said where.
    _directory: TempDir,
}

impl Server {
    /// Starts a server with one shard, free ports and default settings.
    pub fn start() -> Self {
        ServerOptions::new().start()
    }

    fn spawn(mut command: Command, directory: TempDir, data_dir: PathBuf) -> Self {
        let mut child = command.spawn().expect("waypost starts");
        let log = Arc::default();
        collect_lines(child.stdout.take().expect("a piped stdout"), &log);
        collect_lines(child.stderr.take().expect("a piped stderr"), &log);
        let (mqtt, http) = wait_for("the addresses that `waypost serve` prints", LIMIT, || {
            let log = log.lock().unwrap();
            if let (Some(mqtt), Some(http)) =
                (printed_address(&log, "mqtt"), printed_address(&log, "http"))
            {
                return Some((mqtt, http));
            }
            let exited = child.try_wait().expect("the child can be waited for");
            assert!(
                exited.is_none(),
                "waypost serve ended at once: {exited:?}\n{}",
                log.join("\n")
            );
            None
        });
        Self {
            child,
            log,
            mqtt,
            http,
            data_dir,
            _directory: directory,
        }
    }

    /// Where it listens for MQTT over TCP.
    pub fn mqtt(&self) -> SocketAddr {
        self.mqtt
    }

    /// Where it listens for HTTP.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// What it printed of its door `mqtts`, `ws`, `wss` or `unix`: an address, or a path.
    pub fn door(&self, name: &str) -> String {
        wait_for(&format!("the address of {name}"), LIMIT, || {
            printed(&self.log.lock().unwrap(), name)
        })
    }

    /// Its data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far to stdout and stderr.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Sends SIGTERM and waits until the process has ended.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a process id");
        kill_process(pid, signal).expect("the signal is sent");
    }

    /// Waits until the process has ended.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the server to end", LIMIT, || {
            self.child.try_wait().expect("the child can be waited for")
        })
    }

    /// `GET path` over HTTP/1.1; the status and the body.
    pub fn get(&self, path: &str) -> (u16, String) {
        use std::io::Write;
        let mut stream =
            std::net::TcpStream::connect(self.http).expect("the HTTP listener accepts");
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.http
        )
        .unwrap();
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .expect("an HTTP answer in UTF-8");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .expect("a status code");
        (status, body.to_owned())
    }

    /// The value of a metric now, all shards together.
    pub fn metric(&self, name: &str) -> f64 {
        let (status, page) = self.get("/metrics");
        assert_eq!(status, 200, "{page}");
        let values = page.lines().filter_map(|line| {
            let rest = line
                .strip_prefix(name)
                .filter(|rest| rest.starts_with(['{', ' ']))?;
            rest.rsplit(' ').next()?.parse::<f64>().ok()
        });
        values.sum()
    }

    /// Waits until a metric, all shards together, has reached `at_least`.
    #[track_caller]
    pub fn wait_for_metric(&self, name: &str, at_least: f64) {
        wait_for(&format!("{name} to reach {at_least}"), LIMIT, || {
            (self.metric(name) >= at_least).then_some(())
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if thread::panicking() {
            eprintln!("--- waypost serve said ---\n{}\n---", self.log());
        }
    }
}

/// What stands on a line such as `mqtt  127.0.0.1:1883`.
fn printed(log: &[String], door: &str) -> Option<String> {
    log.iter().find_map(|line| {
        let (name, place) = line.split_once(' ')?;
        (name == door).then(|| place.trim().to_owned())
    })
}

fn printed_address(log: &[String], door: &str) -> Option<SocketAddr> {
    printed(log, door)?.parse().ok()
}

fn collect_lines(stream: impl Read + Send + 'static, log: &Arc<Mutex<Vec<String>>>) {
    let log = Arc::clone(log);
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            log.lock().unwrap().push(line);
        }
    });
}

/// The `waypost` program, without the settings of whoever runs the tests (nor the tests' own
/// `WAYPOST_…` variables, which the server would call unknown).
pub fn waypost() -> Command {
    let mut command = Command::new(waypost_binary());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("WAYPOST_") {
            command.env_remove(name);
        }
    }
    command
}

/// The `waypost` program: `$TEST_WAYPOST`, or the one beside this test, built first if need be.
fn waypost_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("TEST_WAYPOST") {
            return PathBuf::from(path);
        }
        // target/<profile>/deps/<this test>
        let test = std::env::current_exe().expect("the test knows its own path");
        let profile = test
            .parent()
            .and_then(Path::parent)
            .expect("target/<profile>/deps");
        let mut build = Command::new(env!("CARGO"));
        build
            .args([
                "build",
                "--quiet",
                "--locked",
                "--package",
                "waypost",
                "--target-dir",
            ])
            .arg(profile.parent().expect("target/<profile>"))
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        if profile.ends_with("release") {
            build.arg("--release");
        }
        assert!(
            build.status().expect("cargo runs").success(),
            "waypost does not build"
        );
        profile.join("waypost")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_printed_address_of_a_door() {
        let log = ["waypost 0.1.0", "mqtt  127.0.0.1:4001", "http  [::1]:8080"].map(str::to_owned);
        assert_eq!(
            printed_address(&log, "mqtt"),
            Some("127.0.0.1:4001".parse().unwrap())
        );
        assert_eq!(printed(&log, "http").as_deref(), Some("[::1]:8080"));
        assert_eq!(printed(&log, "mqtts"), None);
    }
}

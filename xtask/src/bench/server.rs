//! A server to be measured: ours, or a peer's.

use std::{
    io::{BufRead, BufReader},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{failure::Failure, process};

const START_LIMIT: Duration = Duration::from_secs(10);

/// A running server, killed when dropped.
pub struct Server {
    child: Child,
    pub port: u16,
    directory: PathBuf,
}

impl Server {
    /// `waypost serve` with one shard and a data directory of its own.
    pub fn waypost(program: &Path) -> Result<Self, Failure> {
        let directory = scratch_directory("waypost")?;
        let mut command = Command::new(program);
        command
            .args([
                "serve",
                "--mqtt",
                "127.0.0.1:0",
                "--http",
                "127.0.0.1:0",
                "--shards",
                "1",
                "--data-dir",
            ])
            .arg(directory.join("data"))
            .stdout(Stdio::piped());
        let mut server = Self::spawn(&mut command, 0, directory)?;
        let stdout = server.child.stdout.take().map(BufReader::new);
        let mut lines = stdout
            .into_iter()
            .flat_map(BufRead::lines)
            .map_while(Result::ok);
        let address = lines.find_map(|line| Some(line.strip_prefix("mqtt")?.trim().to_owned()));
        let port = address.and_then(|address| address.rsplit(':').next()?.parse().ok());
        server.port = port.ok_or_else(|| Failure::new("waypost serve printed no address"))?;
        // What it says later must not fill the pipe.
        thread::spawn(move || lines.for_each(drop));
        Ok(server)
    }

    /// Debian's `mosquitto`, if it is installed.
    pub fn mosquitto() -> Result<Option<Self>, Failure> {
        let program = ["mosquitto", "/usr/sbin/mosquitto"]
            .into_iter()
            .find(|program| process::exists(program));
        let Some(program) = program else {
            return Ok(None);
        };
        let directory = scratch_directory("mosquitto")?;
        let failed = |error: std::io::Error| Failure::new(format!("mosquitto: {error}"));
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|socket| socket.local_addr())
            .map_err(failed)?
            .port();
        let file = directory.join("mosquitto.conf");
        let configuration = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nlog_type none\n"
        );
        std::fs::write(&file, configuration).map_err(failed)?;
        let mut command = Command::new(program);
        command
            .arg("-c")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let server = Self::spawn(&mut command, port, directory)?;
        let deadline = Instant::now() + START_LIMIT;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if Instant::now() > deadline {
                return Err(Failure::new("mosquitto does not accept connections"));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(Some(server))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn spawn(command: &mut Command, port: u16, directory: PathBuf) -> Result<Self, Failure> {
        let shown = process::shown(command);
        let child = command.stdin(Stdio::null()).spawn();
        let child =
            child.map_err(|error| Failure::new(format!("{shown}: cannot be started: {error}")))?;
        Ok(Self {
            child,
            port,
            directory,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing left to do.
        drop(self.child.kill());
        drop(self.child.wait());
        drop(std::fs::remove_dir_all(&self.directory));
    }
}

fn scratch_directory(name: &str) -> Result<PathBuf, Failure> {
    let directory = std::env::temp_dir().join(format!("xtask-bench-{name}-{}", std::process::id()));
    let created = std::fs::create_dir_all(&directory);
    created
        .map(|()| directory.clone())
        .map_err(|error| Failure::new(format!("{}: {error}", directory.display())))
}

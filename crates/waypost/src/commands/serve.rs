//! `waypost serve`: runs the server until a signal ends it.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use waypost_server::config::{Config, Flag, SETTINGS, Sources};
use waypost_server::control::{self, Context, Control, Doors, Phase, PhaseCell, Reloading};
use waypost_server::{ClockTrust, DoorAddress, Handle, Server};

use crate::Failure;

const EXAMPLES: &str = "\
Examples:
  waypost serve                                   127.0.0.1:1883, data in ./waypost-data
  waypost serve --mqtt 127.0.0.1:0 --http 127.0.0.1:0
                                                  any free ports, printed at the start
  waypost config default > waypost.toml           every setting, with its default
  waypost serve --config waypost.toml             settings from a file,
  WAYPOST_SERVER__SHARDS=2 waypost serve          from the environment,
  waypost serve --set limits.inflight_max=64      or from a flag: the last of the three wins

Signals:
  SIGTERM, SIGINT   tell clients to go, write what is left for them, exit with 0; again: exit at once
  SIGHUP            read the settings again, apply what can change, say what cannot

Exit codes:
  0 ended by a signal, 1 could not start or go on, 2 a mistake in flags or settings";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Read settings from this TOML file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Keep data here [default: ./waypost-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Listen for MQTT here; several times or separated by commas for several addresses [default:
    /// 127.0.0.1:1883]
    #[arg(long, value_name = "ADDR")]
    mqtt: Vec<String>,
    /// Listen for MQTT over TLS here, with --cert and --key; several times for several addresses
    #[arg(long, value_name = "ADDR")]
    mqtts: Vec<String>,
    /// Listen for MQTT over WebSocket here, besides /mqtt of the HTTP address
    #[arg(long, value_name = "ADDR")]
    ws: Vec<String>,
    /// Listen for MQTT over WebSocket over TLS here, with --cert and --key
    #[arg(long, value_name = "ADDR")]
    wss: Vec<String>,
    /// Listen for MQTT on a Unix socket at this path
    #[arg(long, value_name = "PATH")]
    unix: Option<String>,
    /// The server's certificate and the chain behind it (PEM), for every TLS door
    #[arg(long, value_name = "FILE")]
    cert: Option<String>,
    /// The private key of that certificate (PEM)
    #[arg(long, value_name = "FILE")]
    key: Option<String>,
    /// Listen for HTTP (API, health, metrics) here [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// Serve clients with this many threads [default: one per core]
    #[arg(long, value_name = "N")]
    shards: Option<String>,
    /// Say what is at least this serious: error, warn, info, debug, trace [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Any other setting, as `waypost config default` names it: section.key=value
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// The clock is right although it is more than a day ahead of what was kept last: count that time, for sessions
    /// and messages that expire
    #[arg(long)]
    accept_clock: bool,
    /// Print the bound addresses as one line of JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Args) -> Result<(), Failure> {
    let sources = arguments.sources()?;
    let config = load(&sources)?;
    control::start_log(config.log.level);
    raise_file_limit();
    // Before anything is open, so that no signal ends the process halfway.
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|error| Failure::new(format!("cannot wait for signals: {error}")))?;

    let doors = Doors::open(&config).map_err(|error| Failure::new(error.to_string()))?;
    let trust = if arguments.accept_clock {
        ClockTrust::Accepted
    } else {
        ClockTrust::Checked
    };
    let server =
        waypost_server::start(&config, trust).map_err(|error| Failure::new(error.to_string()))?;
    let announcement = Announcement::new(&server, &doors);
    let phase = Arc::new(PhaseCell::default());
    let (system, shards) = (server.handle(), server.handle());
    let (upgraded, reloaded) = (server.handle(), server.handle());
    let control = doors
        .serve(Context {
            config,
            stats: Arc::clone(server.stats()),
            phase: Arc::clone(&phase),
            doors: server.addresses().to_vec(),
            publish_system: Box::new(move |messages| system.publish_system(messages)),
            find_client: Box::new(move |client_id| shards.find_client(client_id)),
            back_up: Some(server.back_up()),
            streams: Some(server.handle().streams()),
            admit_websocket: Box::new(move |connection| upgraded.admit_websocket(connection)),
            reloading: Reloading {
                load: Box::new(move || Config::load(&sources).map_err(|error| error.to_string())),
                apply: Box::new(move |config| reloaded.reload(config)),
            },
        })
        .map_err(|error| Failure::new(format!("cannot start the control side: {error}")))?;
    phase.set(Phase::Serving);
    announcement.print(arguments.json);

    let running = Running {
        handle: server.handle(),
        control,
        phase,
    };
    let result = running.until_the_end(server, signals);
    log::info!("ended");
    result.map_err(|error| Failure::new(format!("the server failed: {error}")))
}

impl Args {
    /// The three sources of settings.
    fn sources(&self) -> Result<Sources, Failure> {
        let one = |name: &str, value: &Option<String>| {
            let setting = SETTINGS.iter().find(|setting| setting.flag == Some(name))?;
            Some(Flag {
                name: name.to_owned(),
                key: setting.name(),
                value: value.clone()?,
            })
        };
        let joined = |values: &[String]| (!values.is_empty()).then(|| values.join(","));
        let mut flags: Vec<Flag> = [
            one("--data-dir", &self.data_dir),
            one("--mqtt", &joined(&self.mqtt)),
            one("--mqtts", &joined(&self.mqtts)),
            one("--ws", &joined(&self.ws)),
            one("--wss", &joined(&self.wss)),
            one("--unix", &self.unix),
            one("--cert", &self.cert),
            one("--key", &self.key),
            one("--http", &self.http),
            one("--shards", &self.shards),
            one("--log-level", &self.log_level),
        ]
        .into_iter()
        .flatten()
        .collect();
        for setting in &self.settings {
            let (key, value) = setting.split_once('=').ok_or_else(|| {
                Failure::usage(format!("--set {setting}: the value is missing"))
                    .hint("--set section.key=value, for example --set limits.inflight_max=64")
            })?;
            flags.push(Flag {
                name: "--set".to_owned(),
                key: key.to_owned(),
                value: value.to_owned(),
            });
        }
        Ok(Sources {
            file: self.config.clone(),
            environment: std::env::vars_os().collect(),
            flags,
        })
    }
}

fn load(sources: &Sources) -> Result<Config, Failure> {
    Config::load(sources).map_err(|error| {
        Failure::usage(error.to_string()).hint("`waypost config default` prints every setting")
    })
}

/// A server that runs, and what a signal can do to it.
struct Running {
    handle: Handle,
    control: Control,
    phase: Arc<PhaseCell>,
}

impl Running {
    /// Handles signals until every thread of the server has ended.
    fn until_the_end(self, server: Server, mut signals: Signals) -> io::Result<()> {
        let no_more_signals = signals.handle();
        let waiting = thread::Builder::new()
            .name("waypost-join".to_owned())
            .spawn(move || {
                let ended = server.join();
                no_more_signals.close();
                ended
            })?;
        for signal in signals.forever() {
            match signal {
                SIGHUP => {
                    // What became of it is in the log, which is where whoever sends a signal looks.
                    let _ = self.control.reload();
                }
                _ if self.phase.get() == Phase::Draining => {
                    log::warn!("second signal: exiting at once");
                    // What a shell makes of a process that a signal ended.
                    std::process::exit(128 + signal);
                }
                _ => {
                    log::info!("draining: clients are told to go; a second signal exits at once");
                    self.phase.set(Phase::Draining);
                    self.handle.drain();
                }
            }
        }
        let ended = waiting
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the waiting thread panicked")));
        // Last of all, so that health checks say "draining" to the end.
        self.control.stop();
        ended
    }
}

/// What is printed at the start.
struct Announcement {
    doors: Vec<DoorAddress>,
    http: String,
    socket: PathBuf,
    shards: usize,
}

impl Announcement {
    fn new(server: &Server, doors: &Doors) -> Self {
        Self {
            doors: server.addresses().to_vec(),
            http: doors.http_address().to_string(),
            socket: doors.socket_path().to_owned(),
            shards: server.stats().shards.len(),
        }
    }

    /// Standard output may be closed; the server runs all the same.
    fn print(&self, as_json: bool) {
        let text = if as_json { self.json() } else { self.text() };
        let mut stdout = io::stdout().lock();
        let _ = stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush());
    }

    fn text(&self) -> String {
        let plural = if self.shards == 1 { "" } else { "s" };
        let mut text = format!(
            "waypost {} ready, {} shard{plural}\n",
            waypost_server::VERSION,
            self.shards
        );
        let doors = self
            .doors
            .iter()
            .map(|door| (door.protocol.as_str(), door.place.to_string()));
        let rest = [
            ("http", self.http.clone()),
            ("socket", display(&self.socket)),
        ];
        for (door, address) in doors.chain(rest) {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{door:<7} {address}");
        }
        text
    }

    fn json(&self) -> String {
        let mut line = DoorAddress::by_protocol(&self.doors);
        line.insert("version".to_owned(), waypost_server::VERSION.into());
        line.insert("shards".to_owned(), self.shards.into());
        line.insert("http".to_owned(), self.http.clone().into());
        line.insert("socket".to_owned(), display(&self.socket).into());
        format!("{}\n", serde_json::Value::from(line))
    }
}

fn display(path: &Path) -> String {
    path.display().to_string()
}

/// Every connection needs a file descriptor: as many as the system lets this process have.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        log::warn!(
            "the limit of open files stays at {:?}: {error}",
            limit.current
        );
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches};

    use super::*;
    use waypost_server::Bound;
    use waypost_server::config::Protocol;

    fn parse(line: &str) -> Args {
        let command = Args::augment_args(Command::new("serve"));
        let words = std::iter::once("serve").chain(line.split_whitespace());
        Args::from_arg_matches(&command.get_matches_from(words)).unwrap()
    }

    fn config(line: &str) -> Result<Config, String> {
        let mut sources = parse(line)
            .sources()
            .map_err(|failure| failure.to_string())?;
        sources.environment.clear();
        load(&sources).map_err(|failure| failure.to_string())
    }

    #[test]
    fn every_flag_of_the_settings_exists_and_sets() {
        let command = Args::augment_args(Command::new("serve"));
        for setting in SETTINGS {
            let Some(flag) = setting.flag else { continue };
            let known = command.get_arguments().any(|argument| {
                argument
                    .get_long()
                    .is_some_and(|long| format!("--{long}") == flag)
            });
            assert!(known, "{flag}");
            let value = match flag {
                "--shards" => "3",
                "--log-level" => "warn",
                "--data-dir" | "--unix" | "--cert" | "--key" => "/other",
                _ => "127.0.0.1:9",
            };
            // A certificate and its key work only together, and TLS only with both.
            let with = match flag {
                "--cert" => "--key /k",
                "--key" => "--cert /c",
                "--mqtts" | "--wss" => "--cert /c --key /k",
                _ => "",
            };
            let changed = config(&format!("{flag} {value} {with}")).unwrap();
            assert_eq!(
                setting.show(&changed).trim_matches(['[', ']', '"']),
                value,
                "{flag}"
            );
        }
    }

    #[test]
    fn addresses_add_up_and_set_is_for_every_setting() {
        let config =
            config("--mqtt 127.0.0.1:1 --mqtt 127.0.0.1:2,127.0.0.1:3 --set limits.inflight_max=7")
                .unwrap();
        assert_eq!(config.listen.mqtt.len(), 3);
        assert_eq!(config.limits.inflight_max, 7);
    }

    #[test]
    fn mistakes_in_flags_are_told() {
        assert_eq!(
            config("--set shards").unwrap_err(),
            "--set shards: the value is missing"
        );
        assert_eq!(
            config("--set server.shard=2").unwrap_err(),
            "flag --set: unknown key server.shard; did you mean server.shards?"
        );
        let told = config("--mqtt 0.0.0.0:1883").unwrap_err();
        assert!(
            told.contains("listen on loopback: --mqtt 127.0.0.1:1883"),
            "{told}"
        );
        config("--mqtt 0.0.0.0:1883 --set auth.allow_anonymous_from_anywhere=true").unwrap();
    }

    #[test]
    fn the_announcement_is_for_people_or_for_scripts() {
        let announcement = Announcement {
            doors: [
                (
                    Protocol::Mqtt,
                    Bound::Tcp("127.0.0.1:4001".parse().unwrap()),
                ),
                (Protocol::Wss, Bound::Tcp("[::1]:4002".parse().unwrap())),
                (Protocol::Unix, Bound::Unix("/run/mqtt.sock".into())),
            ]
            .map(|(protocol, place)| DoorAddress { protocol, place })
            .to_vec(),
            http: "127.0.0.1:4003".to_owned(),
            socket: PathBuf::from("/data/waypost.sock"),
            shards: 2,
        };
        let version = waypost_server::VERSION;
        assert_eq!(
            announcement.text(),
            format!(
                "waypost {version} ready, 2 shards\nmqtt    127.0.0.1:4001\nwss     [::1]:4002\n\
                 unix    /run/mqtt.sock\nhttp    127.0.0.1:4003\nsocket  /data/waypost.sock\n"
            )
        );
        let line = announcement.json();
        assert_eq!(line.matches('\n').count(), 1);
        let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(parsed["wss"][0], "[::1]:4002");
        assert_eq!(parsed["http"], "127.0.0.1:4003");
    }
}

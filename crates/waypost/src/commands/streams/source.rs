//! Where streams are: in a server that runs, which is asked through its socket, or in the files of one that does not.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use waypost_server::config::Config;
use waypost_server::history::{
    Access, AccessError, Around, Imports, OfStore, Offsets, Record, describe, page_asked,
};
use waypost_store::Store;
use waypost_store::disk::RealDisk;
use waypost_store::streams::Purge;

use crate::Failure;
use crate::commands::administration::{Answer, Running, running};
use crate::commands::store::{Opened, make_store};

/// A server that is asked to write some megabytes, or to look through many, takes its time.
const ANSWER_WITHIN: Duration = Duration::from_mins(2);
/// A page of the longest messages, as base64.
const PAGE_BYTES_MAX: u64 = 64 << 20;

const PATH: &str = "/api/v1/streams";

/// The streams of a data directory.
pub enum Source {
    /// A server uses it.
    Running(Running),
    /// Nobody does, as long as this lives.
    Stopped(Box<Stopped>),
}

/// Files that no server uses.
pub struct Stopped {
    access: OfStore<RealDisk>,
    config: Config,
    _opened: Opened,
}

/// Some records.
pub struct Page {
    /// A line of JSON for each.
    pub lines: Vec<u8>,
    /// The parameters that ask for what stands behind them.
    pub next: String,
    /// Nothing does.
    pub is_end: bool,
}

impl Source {
    /// Of a data directory that has a store.
    pub fn open(config: &Config) -> Result<Self, Failure> {
        if let Some(running) = running(&config.server.data_dir)? {
            return Ok(Self::Running(running));
        }
        let opened = Opened::new(config)?;
        Ok(Self::Stopped(Box::new(Stopped::open(opened, config)?)))
    }

    /// The same; without a store, it is made.
    pub fn open_or_make(config: &Config) -> Result<Self, Failure> {
        if running(&config.server.data_dir)?.is_none() {
            make_store(config)?;
        }
        Self::open(config)
    }

    /// All streams, as the API tells them.
    pub fn list(&self) -> Result<Vec<Value>, Failure> {
        match self {
            Self::Running(running) => {
                let answer = told(running, "GET", PATH, b"")?;
                let mut all = answer.json();
                let streams = all.get_mut("streams").map(Value::take);
                Ok(match streams {
                    Some(Value::Array(streams)) => streams,
                    _ => Vec::new(),
                })
            }
            Self::Stopped(stopped) => {
                let all = stopped.access.list();
                let configured = &stopped.config.streams;
                let told = all.iter().map(|info| {
                    let configured = configured.iter().find(|stream| stream.name == info.name);
                    describe(info, configured)
                });
                Ok(told.collect())
            }
        }
    }

    /// One of them; what is there instead is told.
    pub fn find(&self, name: &str) -> Result<Value, Failure> {
        let all = self.list()?;
        let is_it = |stream: &&Value| stream.get("name").and_then(Value::as_str) == Some(name);
        if let Some(found) = all.iter().find(is_it) {
            return Ok(found.clone());
        }
        let names: Vec<_> = all
            .iter()
            .filter_map(|stream| stream.get("name")?.as_str())
            .collect();
        let failure = Failure::new(format!("there is no stream {name}"));
        Err(match (names.as_slice(), self) {
            ([], Self::Stopped(_)) => failure.hint(format!(
                "name the settings that have it: --config FILE, with\n        \
                 [[stream]]\n        name = \"{name}\"\n        filters = [\"{name}/#\"]"
            )),
            ([], Self::Running(_)) => failure.hint(format!(
                "put it into the server's configuration, then send it SIGHUP:\n        \
                 [[stream]]\n        name = \"{name}\"\n        filters = [\"{name}/#\"]"
            )),
            (names, _) => failure.hint(format!("there are: {}", names.join(", "))),
        })
    }

    /// Some records, as the parameters say.
    pub fn page(&self, name: &str, query: &str) -> Result<Page, Failure> {
        match self {
            Self::Running(running) => {
                let path = format!("{PATH}/{name}/records?{query}");
                let answer = told(running, "GET", &path, b"")?;
                Ok(Page {
                    next: answer.header("waypost-next").unwrap_or_default().to_owned(),
                    is_end: answer.header("waypost-end") == Some("true"),
                    lines: answer.into_body(),
                })
            }
            Self::Stopped(stopped) => {
                let ask = page_asked(query, now_ms()).map_err(Failure::usage)?;
                let page = stopped.access.page(name, &ask).map_err(Failure::from)?;
                Ok(Page {
                    lines: page.lines(),
                    next: page.next(ask.start),
                    is_end: page.is_end,
                })
            }
        }
    }

    /// Puts records in, durably, all of them or none.
    pub fn import(
        &self,
        name: &str,
        records: &[Record],
        offsets: Offsets,
    ) -> Result<Imports, Failure> {
        match self {
            Self::Running(running) => {
                let mut lines = Vec::new();
                for record in records {
                    record.encode_line(&mut lines);
                }
                let offsets = match offsets {
                    Offsets::Keep => "keep",
                    Offsets::New => "new",
                };
                let path = format!("{PATH}/{name}/records?offsets={offsets}");
                let answer = told(running, "POST", &path, &lines)?.json();
                let number = |name: &str| answer.get(name).and_then(Value::as_u64).unwrap_or(0);
                Ok(Imports {
                    imported: number("imported"),
                    skipped: number("skipped"),
                    next: number("next"),
                })
            }
            Self::Stopped(stopped) => stopped
                .access
                .import(name, records, offsets)
                .map_err(Failure::from),
        }
    }

    /// Takes records away for good.
    pub fn purge(&self, name: &str, what: Purge) -> Result<(), Failure> {
        match self {
            Self::Running(running) => {
                let body = match what {
                    Purge::All => json!({"all": true}),
                    Purge::Before(offset) => json!({"before": offset}),
                    Purge::BeforeTime(time_ms) => json!({"before_ms": time_ms}),
                };
                let path = format!("{PATH}/{name}/purge");
                told(running, "POST", &path, body.to_string().as_bytes()).map(drop)
            }
            Self::Stopped(stopped) => stopped.access.purge(name, what).map_err(Failure::from),
        }
    }

    /// Takes a stream away that is not configured.
    pub fn forget(&self, name: &str) -> Result<(), Failure> {
        match self {
            Self::Running(running) => {
                told(running, "DELETE", &format!("{PATH}/{name}"), b"").map(drop)
            }
            Self::Stopped(stopped) => stopped.access.forget(name).map_err(Failure::from),
        }
    }
}

impl Stopped {
    fn open(opened: Opened, config: &Config) -> Result<Self, Failure> {
        let cannot = |error: &dyn std::fmt::Display| {
            Failure::new(format!("cannot open {}: {error}", opened.path.display()))
        };
        let disk = Arc::clone(&opened.disk);
        let (store, _, recovered) = Store::open(disk, opened.options.clone(), now_ms())
            .map_err(|error| {
                cannot(&error).hint(
                    "if it is encrypted, name the settings that the server has its key from: --config FILE",
                )
            })?;
        // A clock that went back must not make records older than they are.
        let behind_ms = recovered.last_wall_ms.unwrap_or(0).saturating_sub(now_ms());
        let access = OfStore::new(
            Arc::new(store),
            Box::new(move || now_ms() + behind_ms),
            Around::nothing(),
        );
        Ok(Self {
            access,
            config: config.clone(),
            _opened: opened,
        })
    }
}

impl From<AccessError> for Failure {
    fn from(error: AccessError) -> Self {
        Self::new(error.to_string())
    }
}

/// Asks; what is not done fails.
fn told(running: &Running, method: &str, path: &str, body: &[u8]) -> Result<Answer, Failure> {
    let answer = running
        .exchange(method, path, body, ANSWER_WITHIN, PAGE_BYTES_MAX)
        .map_err(|error| {
            let socket = running.socket.display();
            Failure::new(format!("the server does not answer on {socket}: {error}"))
        })?;
    match answer.status {
        200 => Ok(answer),
        _ => Err(Failure::new(format!("the server: {}", answer.error()))),
    }
}

/// What time it is, in milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

//! The control side from outside: hand-written requests over its real doors.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use super::*;
use crate::Bound;
use crate::config::Protocol;
use crate::metrics::{Gauges, ShellCounters};

/// Nothing here takes longer unless it is broken.
pub(super) const LIMIT: Duration = Duration::from_mins(1);

pub(super) struct Running {
    pub(super) control: Option<Control>,
    http: SocketAddr,
    socket: PathBuf,
    pub(super) stats: Arc<Stats>,
    phase: Arc<PhaseCell>,
    system: mpsc::Receiver<Vec<(String, Vec<u8>)>>,
    pub(super) config: Config,
    /// What is read at the next reload.
    pub(super) next: Arc<Mutex<Result<Config, String>>>,
    _directory: tempfile::TempDir,
}

impl Running {
    pub(super) fn start() -> Self {
        Self::with(|_| {})
    }

    pub(super) fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::admitting(Box::new(|_| {}), change)
    }

    /// One that gives upgraded connections to `admit_websocket`.
    pub(super) fn admitting(
        admit_websocket: AdmitWebSocket,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        Self::over(admit_websocket, None, change)
    }

    /// One whose store is copied by `back_up`.
    pub(super) fn backed_up_by(back_up: BackUp) -> Self {
        Self::over(Box::new(|_| {}), Some(back_up), |_| {})
    }

    fn over(
        admit_websocket: AdmitWebSocket,
        back_up: Option<BackUp>,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.listen.http = "127.0.0.1:0".parse().unwrap();
        config.server.data_dir = directory.path().join("data");
        change(&mut config);
        let doors = Doors::open(&config).unwrap();
        let (http, socket) = (doors.http_address(), doors.socket_path().to_owned());
        let stats = Arc::new(Stats::new(2));
        let phase = Arc::new(PhaseCell::default());
        let (publish, system) = mpsc::channel();
        let next = Arc::new(Mutex::new(Ok(config.clone())));
        let control = doors
            .serve(Context {
                config: config.clone(),
                stats: Arc::clone(&stats),
                phase: Arc::clone(&phase),
                doors: vec![DoorAddress {
                    protocol: Protocol::Mqtt,
                    place: Bound::Tcp("127.0.0.1:1883".parse().unwrap()),
                }],
                publish_system: Box::new(move |messages| {
                    let _ = publish.send(messages);
                }),
                find_client: Box::new(|_| tokio::sync::mpsc::channel(1).1),
                back_up,
                streams: None,
                admit_websocket,
                reloading: Reloading {
                    load: Box::new({
                        let next = Arc::clone(&next);
                        move || next.lock().unwrap().clone()
                    }),
                    apply: Box::new(|new| {
                        let broken = new.tls.cert.as_ref();
                        broken
                            .map(|path| format!("{} is damaged", path.display()))
                            .into_iter()
                            .collect()
                    }),
                },
            })
            .unwrap();
        Self {
            control: Some(control),
            http,
            socket,
            stats,
            phase,
            system,
            config,
            next,
            _directory: directory,
        }
    }

    pub(super) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.http).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    }

    /// The whole answer to that whole request.
    pub(super) fn ask(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        read_all(&mut stream)
    }

    fn get(&self, path: &str) -> Answer {
        self.get_with(path, "Host: localhost\r\n")
    }

    fn get_with(&self, path: &str, headers: &str) -> Answer {
        Answer::parse(&self.ask(&format!(
            "GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n"
        )))
    }

    fn get_on_socket(&self, path: &str) -> Answer {
        self.ask_on_socket("GET", path, "")
    }

    pub(super) fn ask_on_socket(&self, method: &str, path: &str, body: &str) -> Answer {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        Answer::parse(&read_all(&mut stream))
    }
}

pub(super) fn read_all(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    head: String,
    pub(super) body: String,
}

impl Answer {
    fn parse(text: &str) -> Self {
        let (head, body) = text
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("{text:?}"));
        Self {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_lowercase(),
            body: body.to_owned(),
        }
    }
}

#[test]
fn readiness_follows_the_server() {
    let running = Running::start();
    let readiness = |running: &Running| {
        let answer = running.get("/health/ready");
        (answer.status, answer.body)
    };
    assert_eq!(readiness(&running), (503, "starting\n".to_owned()));
    running.phase.set(Phase::Serving);
    assert_eq!(readiness(&running), (200, "ready\n".to_owned()));
    let server = &running.stats.server;
    server.store_full.store(1, Ordering::Relaxed);
    assert_eq!(readiness(&running), (503, "the disk is full\n".to_owned()));
    let page = running.get("/metrics").body;
    assert!(page.contains("\nwaypost_ready 0\n"), "{page}");
    server.store_full.store(0, Ordering::Relaxed);
    server.store_failed.store(1, Ordering::Relaxed);
    assert_eq!(readiness(&running), (503, "the disk fails\n".to_owned()));
    server.store_failed.store(0, Ordering::Relaxed);
    assert_eq!(readiness(&running), (200, "ready\n".to_owned()));
    running.phase.set(Phase::Draining);
    assert_eq!(readiness(&running), (503, "draining\n".to_owned()));
    assert_eq!(
        running.get("/health/live").status,
        200,
        "alive all the time"
    );
}

#[test]
fn metrics_are_what_the_shards_published() {
    let running = Running::start();
    let gauges = Gauges {
        clients: 4,
        ..Gauges::default()
    };
    running.stats.shards[1].publish(
        &waypost_core::Counters::default(),
        &ShellCounters::default(),
        &gauges,
    );
    running
        .stats
        .store_sync_duration
        .count(Duration::from_millis(2));
    let answer = running.get("/metrics");
    assert_eq!(answer.status, 200);
    for line in [
        "# TYPE waypost_store_sync_duration_seconds histogram\n",
        "waypost_store_sync_duration_seconds_bucket{le=\"0.001\"} 0\n",
        "waypost_store_sync_duration_seconds_bucket{le=\"0.0025\"} 1\n",
    ] {
        assert!(answer.body.contains(line), "{line}");
    }
    assert!(
        answer
            .head
            .contains("content-type: text/plain; version=0.0.4"),
        "{}",
        answer.head
    );
    assert!(
        answer.body.contains("\nwaypost_clients{shard=\"1\"} 4\n"),
        "{}",
        answer.body
    );
    assert!(
        answer.body.contains("\nwaypost_ready 0\n"),
        "{}",
        answer.body
    );
    let info = format!("\nwaypost_info{{version=\"{}\"}} 1\n", crate::VERSION);
    assert!(answer.body.contains(&info), "{}", answer.body);
    let uptime = "\nwaypost_uptime_seconds 0.";
    assert!(answer.body.contains(uptime), "{}", answer.body);
}

#[test]
fn the_server_describes_itself() {
    let running = Running::with(|config| config.limits.inflight_max = 77);
    running.phase.set(Phase::Serving);
    let gauges = Gauges {
        sessions: 2,
        ..Gauges::default()
    };
    for shard in &running.stats.shards {
        shard.publish(
            &waypost_core::Counters::default(),
            &ShellCounters::default(),
            &gauges,
        );
    }
    for answer in [
        running.get("/api/v1/server"),
        running.get_on_socket("/api/v1/server"),
    ] {
        assert_eq!(answer.status, 200);
        assert!(
            answer.head.contains("content-type: application/json"),
            "{}",
            answer.head
        );
        let server: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(server["version"], crate::VERSION);
        assert_eq!(server["phase"], "serving");
        assert_eq!(server["shards"], 2);
        assert_eq!(server["addresses"]["mqtt"][0], "127.0.0.1:1883");
        assert_eq!(server["addresses"]["http"], running.http.to_string());
        assert_eq!(
            server["addresses"]["socket"],
            running.socket.to_str().unwrap()
        );
        assert_eq!(server["counts"]["sessions"], 4);
        assert_eq!(server["limits"]["inflight_max"], 77);
        assert_eq!(server["limits"]["connect_timeout_ms"], 10_000);
        assert!(server["uptime_s"].is_u64());
    }
}

#[test]
fn the_first_page_says_what_is_here() {
    let running = Running::start();
    let answer = running.get("/");
    assert_eq!(answer.status, 200);
    for path in [
        "/api/v1/server",
        "/metrics",
        "/health/ready",
        "/health/live",
    ] {
        assert!(answer.body.contains(&format!("href=\"{path}\"")), "{path}");
        assert_ne!(running.get(path).status, 404, "{path}");
    }
    assert!(
        answer.head.contains("frame-ancestors 'none'"),
        "{}",
        answer.head
    );
    assert_eq!(running.get("/nothing").status, 404);
    let posted =
        running.ask("POST /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(Answer::parse(&posted).status, 405);
}

/// Goal: a web page elsewhere cannot use a local server, neither by a name of its own nor by a
/// cross-site request. The table of cases is in `guard`; here it is the real server.
#[test]
fn hosts_and_origins_are_checked_where_it_matters() {
    let running = Running::with(|config| {
        config.http.allowed_hosts = vec!["broker.example.org".to_owned()];
        config.http.allowed_origins = vec!["https://dash.example.org".to_owned()];
    });
    let own = format!("Host: {0}\r\nOrigin: http://{0}\r\n", running.http);
    for (headers, expect) in [
        ("Host: localhost\r\n", 200),
        ("Host: broker.example.org\r\n", 200),
        (own.as_str(), 200),
        (
            "Host: localhost\r\nOrigin: https://dash.example.org\r\n",
            200,
        ),
        ("Host: evil.example\r\n", 403),
        ("Host: localhost\r\nOrigin: https://evil.example\r\n", 403),
        ("Host: localhost\r\nOrigin: null\r\n", 403),
    ] {
        assert_eq!(
            running.get_with("/api/v1/server", headers).status,
            expect,
            "{headers}"
        );
        let elsewhere = running.get_with("/metrics", headers);
        assert_eq!(elsewhere.status, 200, "{headers}");
    }
    let answer = running.get_with("/api/v1/server", "Host: evil.example\r\n");
    assert!(
        answer.body.contains("http.allowed_hosts"),
        "{}",
        answer.body
    );
    let answer = running.get_with(
        "/mqtt",
        "Host: localhost\r\nOrigin: http://evil.example\r\n",
    );
    assert_eq!(answer.status, 403);
    assert!(
        answer.body.contains("http.allowed_origins"),
        "{}",
        answer.body
    );
    let dash = "Host: localhost\r\nOrigin: https://dash.example.org\r\n";
    let answer = running.get_with("/api/v1/server", dash);
    assert!(
        answer
            .head
            .contains("access-control-allow-origin: https://dash.example.org"),
        "{}",
        answer.head
    );
    let refused = running
        .stats
        .server
        .http_requests_refused
        .load(Ordering::Relaxed);
    assert_eq!(refused, 5);
}

#[test]
fn a_reload_changes_what_can_be_changed() {
    let running = Running::start();
    let control = running.control.as_ref().unwrap();
    let ask = || {
        running
            .get_with("/api/v1/server", "Host: new.example.org\r\n")
            .status
    };
    assert_eq!(ask(), 403);
    let mut new = running.config.clone();
    new.http.allowed_hosts = vec!["new.example.org".to_owned()];
    new.server.shards = 7;
    *running.next.lock().unwrap() = Ok(new);
    let reloaded = control.reload().unwrap();
    assert_eq!(reloaded.at_start, ["server.shards"]);
    assert_eq!(ask(), 200);
    *running.next.lock().unwrap() = Err("line 3: nonsense".to_owned());
    assert_eq!(control.reload().unwrap_err(), "line 3: nonsense");
    assert_eq!(ask(), 200);
    *running.next.lock().unwrap() = Ok(running.config.clone());
    control.reload().unwrap();
    assert_eq!(ask(), 403);
    assert_eq!(running.stats.server.reloads.load(Ordering::Relaxed), 2);
    assert_eq!(
        running.stats.server.reloads_failed.load(Ordering::Relaxed),
        1
    );
}

#[test]
fn a_reload_can_be_asked_for() {
    let running = Running::start();
    let post = || {
        Answer::parse(&running.ask(
            "POST /api/v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        ))
    };
    let answer = post();
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(
        answer.body.contains("\"reloaded\": true"),
        "{}",
        answer.body
    );
    let mut broken = running.config.clone();
    broken.tls.cert = Some("server.pem".into());
    *running.next.lock().unwrap() = Ok(broken);
    let answer = post();
    assert_eq!(answer.status, 422);
    assert!(
        answer.body.contains("server.pem is damaged"),
        "{}",
        answer.body
    );
    *running.next.lock().unwrap() = Err("line 3: nonsense".to_owned());
    let answer = post();
    assert_eq!(answer.status, 422);
    assert!(answer.body.contains("line 3: nonsense"), "{}", answer.body);
    assert_eq!(running.get("/api/v1/reload").status, 405);
    let evil = "POST /api/v1/reload HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\
                Content-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(Answer::parse(&running.ask(evil)).status, 403);
}

#[test]
fn heads_and_bodies_are_bounded() {
    let running = Running::start();
    let head = |filler: &str| {
        Answer::parse(&running.ask(&format!(
            "GET /health/live HTTP/1.1\r\nHost: localhost\r\n{filler}Connection: close\r\n\r\n"
        )))
        .status
    };
    assert_eq!(head(&"A: b\r\n".repeat(62)), 200);
    assert_eq!(head(&"A: b\r\n".repeat(63)), 431);
    assert_eq!(head(&format!("A: {}\r\n", "b".repeat(8 << 10))), 200);
    assert_eq!(head(&format!("A: {}\r\n", "b".repeat(32 << 10))), 431);
    assert_eq!(head("Content-Length: 65537\r\n"), 413);
}

/// Goal: who connects and says nothing, or stays after its answer, gives its place back.
#[test]
fn slow_and_idle_connections_are_closed() {
    let running = Running::with(|config| config.http.request_timeout = Duration::from_millis(300));
    let mut silent = running.connect();
    let mut slow = running.connect();
    slow.write_all(b"GET / HTTP/1.1\r\nHos").unwrap();
    let mut idle = running.connect();
    idle.write_all(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    assert_eq!(read_all(&mut silent), "");
    read_all(&mut slow);
    assert!(read_all(&mut idle).starts_with("HTTP/1.1 200"));
    let counts = &running.stats.server;
    wait_for(|| counts.http_timeouts.load(Ordering::Relaxed) == 3);
    assert_eq!(counts.http_connections.load(Ordering::Relaxed), 3);
    assert_eq!(counts.http_requests.load(Ordering::Relaxed), 1);
}

/// The connection's end is seen by its peer a moment before it is counted.
fn wait_for(condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < LIMIT, "it never came true");
        std::thread::yield_now();
    }
}

/// Goal: at the bound a connection waits for a place and then gets one; the socket has its own.
#[test]
fn connections_are_bounded() {
    let running = Running::with(|config| config.http.connections_max = 2);
    let (first, _second) = (running.connect(), running.connect());
    let mut third = running.connect();
    third
        .write_all(b"GET /health/live HTTP/1.0\r\n\r\n")
        .unwrap();
    third
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    assert!(third.read(&mut [0]).is_err(), "it waits");
    assert_eq!(running.get_on_socket("/health/live").status, 200);
    drop(first);
    third.set_read_timeout(Some(LIMIT)).unwrap();
    assert!(read_all(&mut third).starts_with("HTTP/1.0 200"));
}

#[test]
fn system_topics_are_published_while_clients_are_served() {
    let running = Running::with(|config| config.server.sys_interval = Duration::from_millis(20));
    assert!(
        running
            .system
            .recv_timeout(Duration::from_millis(200))
            .is_err(),
        "not yet serving"
    );
    running.phase.set(Phase::Serving);
    let messages = running.system.recv_timeout(LIMIT).unwrap();
    assert!(
        messages
            .iter()
            .any(|(topic, _)| topic == "$SYS/broker/clients/connected")
    );
}

#[test]
fn no_interval_means_no_system_topics() {
    let running = Running::with(|config| config.server.sys_interval = Duration::ZERO);
    running.phase.set(Phase::Serving);
    assert!(
        running
            .system
            .recv_timeout(Duration::from_millis(100))
            .is_err()
    );
}

#[test]
fn the_end_leaves_nothing_behind() {
    let mut running = Running::start();
    assert!(running.socket.exists());
    let second = Doors::open(&running.config).map(|_| ()).unwrap_err();
    assert!(
        second.to_string().contains("is in use by another server"),
        "{second}"
    );
    running.control.take().unwrap().stop();
    assert!(!running.socket.exists());
    assert!(TcpStream::connect(running.http).is_err());
    Doors::open(&running.config).unwrap();
}

#[test]
fn a_taken_address_is_told_with_a_way_out() {
    let running = Running::start();
    let mut config = running.config.clone();
    config.server.data_dir = running.config.server.data_dir.with_file_name("other");
    config.listen.http = running.http;
    let error = Doors::open(&config).map(|_| ()).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("cannot listen for HTTP on {}", running.http)),
        "{error}"
    );
    assert!(
        error.ends_with("choose another: --http 127.0.0.1:0"),
        "{error}"
    );
}

/// Goal: shards come first. Method: the kernel's own word on the thread's nice value.
#[test]
fn the_control_thread_is_nice() {
    let running = Running::start();
    assert_eq!(running.get("/health/live").status, 200);
    let mut found = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let Ok(stat) = std::fs::read_to_string(task.path().join("stat")) else {
            continue;
        };
        // After the name in parentheses: state is field 3 and nice is field 19 of proc(5).
        let (name, fields) = stat.rsplit_once(") ").unwrap();
        let nice: i32 = fields.split(' ').nth(16).unwrap().parse().unwrap();
        if name.ends_with("(waypost-control") && nice == NICENESS {
            found += 1;
        }
    }
    assert!(found > 0);
}

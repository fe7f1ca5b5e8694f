//! What a TLS handshake costs a server, in CPU of all its threads, beside what it costs the peers that are installed.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::ClientConfig;
use serde_json::{Value, json};
use waypost_tests::{Certificates, LIMIT, wait_for};

use crate::crowd::{client, wrap};
use crate::{median, run_on};

/// One server to be measured.
struct Measured {
    name: &'static str,
    address: SocketAddr,
    pid: u32,
    cpu_us: Vec<f64>,
}

/// A peer's process, ended when dropped.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Microseconds of CPU per handshake, medians of interleaved rounds.
pub fn compare(certificates: &Certificates, count: u32, rounds: u32) -> Value {
    run_on(0);
    let server = crate::server(certificates);
    let (mosquitto, flashmq) = (mosquitto(certificates), flashmq(certificates));
    run_on(1);
    let peers = [("mosquitto", &mosquitto), ("flashmq", &flashmq)];
    let mut all = vec![Measured {
        name: "waypost",
        address: server.door("mqtts").parse().unwrap(),
        pid: server.pid(),
        cpu_us: Vec::new(),
    }];
    all.extend(peers.into_iter().filter_map(|(name, peer)| {
        let (peer, address) = peer.as_ref()?;
        Some(Measured {
            name,
            address: *address,
            pid: peer.0.id(),
            cpu_us: Vec::new(),
        })
    }));
    let config = client(certificates);
    for _ in 0..=rounds {
        for measured in &mut all {
            let cpu = cpu_per_handshake_us(measured.address, measured.pid, &config, count);
            measured.cpu_us.push(cpu);
        }
    }
    let mut figures = serde_json::Map::new();
    let (mut own, mut best) = (f64::NAN, f64::INFINITY);
    for measured in all {
        // The first round warms up.
        let cpu = median(measured.cpu_us.into_iter().skip(1).collect());
        if measured.name == "waypost" {
            own = cpu;
        } else {
            best = best.min(cpu);
        }
        figures.insert(format!("{}_cpu_us", measured.name), cpu.into());
    }
    let ratio = best.is_finite().then(|| own / best);
    figures.insert("ratio_to_best_peer".to_owned(), json!(ratio));
    figures.into()
}

fn cpu_per_handshake_us(
    address: SocketAddr,
    pid: u32,
    config: &Arc<ClientConfig>,
    count: u32,
) -> f64 {
    let before = cpu_ns(pid);
    for _ in 0..count {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        let mut stream = wrap(socket, config);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).unwrap();
        }
        stream.conn.send_close_notify();
        drop(stream.flush());
    }
    // What it does when clients leave belongs to it.
    thread::sleep(Duration::from_millis(300));
    Duration::from_nanos(cpu_ns(pid) - before).as_secs_f64() * 1e6 / f64::from(count)
}

/// CPU time of all threads there are; the first number of each schedstat, in nanoseconds.
fn cpu_ns(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let stats =
        tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("schedstat")).ok());
    stats
        .filter_map(|stat| stat.split(' ').next()?.parse::<u64>().ok())
        .sum()
}

/// A port below those that the storms' own connections have used, some of which are not free for a minute.
fn free_port() -> u16 {
    let is_free = |port: &u16| TcpListener::bind(("0.0.0.0", *port)).is_ok();
    (21_000..32_000).find(is_free).expect("a free port")
}

fn mosquitto(certificates: &Certificates) -> Option<(Peer, SocketAddr)> {
    let port = free_port();
    let text = format!(
        "user root\nlistener {port} 127.0.0.1\nallow_anonymous true\nlog_type error\ncertfile {}\nkeyfile {}\n",
        certificates.file("server.pem"),
        certificates.file("server.key")
    );
    let program = ["mosquitto", "/usr/sbin/mosquitto"]
        .into_iter()
        .find(|program| is_there(program))?;
    start(program, "-c", certificates, &text, port)
}

fn flashmq(certificates: &Certificates) -> Option<(Peer, SocketAddr)> {
    let port = free_port();
    let storage = certificates.path("flashmq");
    fs::create_dir_all(&storage).unwrap();
    let text = format!(
        "listen {{\n  protocol mqtt\n  port {port}\n  fullchain {}\n  privkey {}\n}}\nallow_anonymous true\n\
         thread_count 1\nlog_level warning\nstorage_dir {}\n",
        certificates.file("server.pem"),
        certificates.file("server.key"),
        storage.display()
    );
    let program = Some("flashmq").filter(|program| is_there(program))?;
    start(program, "--config-file", certificates, &text, port)
}

fn is_there(program: &str) -> bool {
    let mut command = Command::new(program);
    let run = command
        .arg("--help")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if run.is_err() {
        eprintln!("skipped: {program} is not installed");
    }
    run.is_ok()
}

fn start(
    program: &str,
    option: &str,
    certificates: &Certificates,
    text: &str,
    port: u16,
) -> Option<(Peer, SocketAddr)> {
    let file = certificates.path(&format!("peer-{port}.conf"));
    fs::write(&file, text).unwrap();
    let mut command = Command::new(program);
    command.arg(option).arg(&file);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let peer = Peer(command.spawn().ok()?);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    wait_for("the peer to listen", LIMIT, || {
        TcpStream::connect(address).ok()
    });
    Some((peer, address))
}

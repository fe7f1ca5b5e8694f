//! `durable`: 50 pairs whose sessions outlive their connections, at `QoS` 1, with and without syncs, and beside peers.
//!
//! The server has one core, the load the other. Every message carries its number; one that is lost, doubled or out of
//! order ends the run.

use std::fs::File;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use waypost_tests::bench::{cpu_ns, is_in_memory, median, option, run_on};
use waypost_tests::{LIMIT, Server, ServerOptions, wait_for};

use super::crowd::{Client, Crowd, Got};
use super::directory;

const PAIRS: usize = 50;
const IN_FLIGHT: [usize; 3] = [50, 200, 2_000];
const PAYLOAD: usize = 64;
const WARM_UP: Duration = Duration::from_millis(500);

/// What is synced to see how long that takes.
const SYNC_BYTES: usize = 64 << 10;
const SYNCS: usize = 100;

/// What one run came to.
struct Figures {
    per_s: f64,
    cpu_us: f64,
}

pub fn run() -> Value {
    let rounds: u32 = option("--rounds", 3);
    let seconds = Duration::from_secs(option("--seconds", 5));
    let directory = directory();
    assert!(
        !is_in_memory(directory.path()),
        "{} is in memory, where a sync costs nothing: name a directory on a disk with --dir",
        directory.path().display()
    );
    let mut syncs = sync_seconds(directory.path());
    let mut rows = Map::new();
    let mut is_met = true;
    let mut ours_cpu = f64::NAN;
    for in_flight in IN_FLIGHT {
        let (mut with, mut off, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..rounds {
            for durability in ["sync", "memory"] {
                let data_dir = directory
                    .path()
                    .join(format!("{durability}-{in_flight}-{round}"));
                let server = server(&data_dir, durability);
                let figures = measure(server.mqtt(), server.pid(), in_flight, seconds);
                if durability == "sync" {
                    with.push(figures.per_s);
                    cpu.push(figures.cpu_us);
                } else {
                    off.push(figures.per_s);
                }
                drop(server);
                std::fs::remove_dir_all(&data_dir).unwrap();
            }
            syncs.extend(sync_seconds(directory.path()));
        }
        let (with, off, cpu) = (median(with), median(off), median(cpu));
        let one_sync = median(syncs.clone());
        let by_disk = 0.7 * in_flight as f64 / (2.0 * one_sync);
        let goal = by_disk.min(off / 1.5);
        is_met &= with >= goal;
        ours_cpu = cpu;
        rows.insert(
            in_flight.to_string(),
            json!({
                "sync_per_s": with,
                "memory_per_s": off,
                "goal_per_s": goal,
                "sync_cpu_us_per_delivery": cpu,
                "is_met": with >= goal,
            }),
        );
    }
    let mut peers = Map::new();
    for (name, start) in [("mosquitto", mosquitto as Start), ("nats-server", nats)] {
        if let Some(peer) = start(&directory.path().join(name)) {
            let cpu = (0..rounds).map(|_| {
                let pid = peer.child.id();
                measure(peer.address(), pid, IN_FLIGHT[2], seconds).cpu_us
            });
            let cpu = median(cpu.collect());
            is_met &= ours_cpu <= cpu;
            peers.insert(format!("{name}_cpu_us_per_delivery"), json!(cpu));
        }
    }
    json!({
        "pairs": PAIRS,
        "rounds": rounds,
        "seconds": seconds.as_secs(),
        "sync_64_kib_ms": median(syncs) * 1e3,
        "in_flight": rows,
        "peers_at_2000_in_flight": peers,
        "is_met": is_met,
    })
}

/// With everything at that durability.
fn server(data_dir: &Path, durability: &str) -> Server {
    run_on(0);
    let server = ServerOptions::new()
        .data_dir(data_dir)
        .shards(1)
        .configuration(&format!(
            "[[topic]]\nfilter = \"#\"\ndurability = \"{durability}\"\n"
        ))
        .start();
    run_on(1);
    server
}

/// Fifty pairs for so long.
fn measure(server: SocketAddr, pid: u32, in_flight: usize, seconds: Duration) -> Figures {
    run_on(1);
    let topics: Vec<String> = (0..PAIRS).map(|pair| format!("durable/{pair}")).collect();
    let publishers = (0..PAIRS).map(|pair| Client::connect(server, &format!("from-{pair}"), false));
    let mut clients: Vec<_> = publishers.collect();
    for (pair, topic) in topics.iter().enumerate() {
        let mut subscriber = Client::connect(server, &format!("to-{pair}"), false);
        subscriber.subscribe(topic);
        clients.push(subscriber);
    }
    let mut crowd = Crowd::new(clients);
    let mut sent = [0_u64; PAIRS];
    let mut expected = [0_u64; PAIRS];
    let begun = Instant::now();
    let (mut from, mut to) = (None, None);
    loop {
        let passed = begun.elapsed();
        let received = crowd.received();
        if from.is_none() && passed >= WARM_UP {
            from = Some((Instant::now(), received, cpu_ns(pid)));
        }
        let is_over = passed >= WARM_UP + seconds;
        if is_over && to.is_none() {
            to = Some((Instant::now(), received, cpu_ns(pid)));
        }
        if is_over && crowd.in_flight() == 0 && received == sent.iter().sum::<u64>() {
            break;
        }
        assert!(
            passed < WARM_UP + seconds + LIMIT,
            "{received} of {} messages came",
            sent.iter().sum::<u64>()
        );
        for (pair, publisher) in crowd.clients[..PAIRS].iter_mut().enumerate() {
            while !is_over && publisher.in_flight < in_flight / PAIRS {
                let mut payload = [b'x'; PAYLOAD];
                payload[..8].copy_from_slice(&sent[pair].to_be_bytes());
                sent[pair] += 1;
                publisher.publish(&topics[pair], &payload);
            }
        }
        crowd.turn(|index, _, got| {
            if let Got::Message(publish) = got {
                let number = publish.payload.first_chunk::<8>();
                let number = u64::from_be_bytes(*number.expect("a number"));
                let expected = &mut expected[index - PAIRS];
                assert_eq!(number, *expected, "lost, doubled or out of order");
                *expected += 1;
            }
        });
    }
    crowd.disconnect();
    let ((begun, first, cpu_begun), (ended, last, cpu_ended)) = (from.unwrap(), to.unwrap());
    let delivered = (last - first) as f64;
    Figures {
        per_s: delivered / (ended - begun).as_secs_f64(),
        cpu_us: (cpu_ended - cpu_begun) as f64 / 1e3 / delivered,
    }
}

/// How long syncs of 64 KiB take there.
fn sync_seconds(directory: &Path) -> Vec<f64> {
    let path = directory.join("syncs");
    let mut file = File::create(&path).unwrap();
    let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(SYNC_BYTES).collect();
    let seconds = (0..SYNCS).map(|_| {
        let begun = Instant::now();
        file.write_all(&bytes).unwrap();
        file.sync_data().unwrap();
        begun.elapsed().as_secs_f64()
    });
    let seconds = seconds.collect();
    std::fs::remove_file(path).unwrap();
    seconds
}

/// Another server, killed when dropped.
struct Peer {
    child: Child,
    port: u16,
}

type Start = fn(&Path) -> Option<Peer>;

impl Peer {
    /// None: it is not installed.
    fn start(mut command: Command, port: u16) -> Option<Self> {
        run_on(0);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        run_on(1);
        let peer = Self {
            child: child.ok()?,
            port,
        };
        wait_for("a peer to accept", LIMIT, || {
            TcpStream::connect(peer.address()).ok()
        });
        Some(peer)
    }

    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn free_port() -> u16 {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.local_addr().unwrap().port()
}

/// With its persistence, which syncs nothing.
fn mosquitto(directory: &Path) -> Option<Peer> {
    std::fs::create_dir_all(directory).unwrap();
    let (port, file) = (free_port(), directory.join("mosquitto.conf"));
    let configuration = format!(
        "user root\nlistener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 0\n\
         log_type error\nset_tcp_nodelay true\npersistence true\npersistence_location {}/\nautosave_interval 1\n",
        directory.display()
    );
    std::fs::write(&file, configuration).unwrap();
    let mut command = Command::new("mosquitto");
    command.arg("-c").arg(file);
    Peer::start(command, port)
}

/// With `JetStream` as it is by default, which syncs every two minutes.
fn nats(directory: &Path) -> Option<Peer> {
    std::fs::create_dir_all(directory).unwrap();
    let (port, own, file) = (free_port(), free_port(), directory.join("nats.conf"));
    let configuration = format!(
        "server_name: a\nlisten: 127.0.0.1:{own}\njetstream {{\n  store_dir: {}\n}}\nmqtt {{\n  listen: \"127.0.0.1:{port}\"\n}}\n",
        directory.display()
    );
    std::fs::write(&file, configuration).unwrap();
    let mut command = Command::new("nats-server");
    command.arg("-c").arg(file).env("GOMAXPROCS", "1");
    Peer::start(command, port)
}

//! Live traffic: one publisher, one subscriber, a message a millisecond, each with the time it was sent.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::{RawClient, Server};
use waypost_mqtt::{ProtocolVersion, QoS};

const INTERVAL: Duration = Duration::from_millis(1);
const TOPIC: &str = "probe/live";
/// PUBLISH at `QoS` 0 of the topic and eight bytes.
const PACKET: usize = 22;
/// Where at `QoS` 1 the packet identifier stands, which makes it longer.
const PACKET_ID: std::ops::Range<usize> = 14..16;

/// Running traffic and its latencies since [`Probe::begin`].
pub struct Probe {
    latencies_ns: Arc<Mutex<Vec<u64>>>,
    stop: Arc<AtomicBool>,
    publisher: Option<JoinHandle<()>>,
}

impl Probe {
    /// At `QoS` 1 everything is acknowledged; else it is `QoS` 0.
    pub fn start(server: &Server, is_acknowledged: bool) -> Self {
        let qos = if is_acknowledged {
            QoS::AtLeastOnce
        } else {
            QoS::AtMostOnce
        };
        let epoch = Instant::now();
        let now = move || u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let latencies_ns: Arc<Mutex<Vec<u64>>> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let mut subscriber = RawClient::connect(server, ProtocolVersion::V311, "probe-subscriber");
        subscriber.subscribe(TOPIC, qos);
        let mut socket = subscriber.into_stream();
        {
            let latencies = Arc::clone(&latencies_ns);
            thread::spawn(move || {
                let mut packet = vec![0; packet_len(is_acknowledged)];
                while socket.read_exact(&mut packet).is_ok() {
                    let sent = packet
                        .last_chunk::<8>()
                        .map_or(0, |time| u64::from_be_bytes(*time));
                    latencies.lock().unwrap().push(now() - sent);
                    let acknowledgement = [&[0x40, 2][..], &packet[PACKET_ID]].concat();
                    if is_acknowledged && socket.write_all(&acknowledgement).is_err() {
                        break;
                    }
                }
            });
        }
        let publisher = RawClient::connect(server, ProtocolVersion::V311, "probe-publisher");
        let socket = publisher.into_stream();
        let mut acknowledgements = socket.try_clone().unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while matches!(acknowledgements.read(&mut buffer), Ok(count) if count > 0) {}
        });
        let stopped = Arc::clone(&stop);
        let publisher = thread::spawn(move || publish(socket, is_acknowledged, &stopped, now));
        Self {
            latencies_ns,
            stop,
            publisher: Some(publisher),
        }
    }

    /// A phase begins.
    pub fn begin(&self) {
        self.latencies_ns.lock().unwrap().clear();
    }

    /// Of the phase that ends now.
    pub fn p99_ms(&self) -> f64 {
        let mut latencies = std::mem::take(&mut *self.latencies_ns.lock().unwrap());
        assert!(
            latencies.len() >= 100,
            "only {} messages came in this phase",
            latencies.len()
        );
        latencies.sort_unstable();
        Duration::from_nanos(latencies[latencies.len() * 99 / 100]).as_secs_f64() * 1e3
    }
}

fn packet_len(is_acknowledged: bool) -> usize {
    PACKET + usize::from(is_acknowledged) * PACKET_ID.len()
}

fn publish(mut socket: TcpStream, is_acknowledged: bool, stop: &AtomicBool, now: impl Fn() -> u64) {
    let first_byte = 0x30 | u8::from(is_acknowledged) << 1;
    let remaining = packet_len(is_acknowledged) - 2;
    let head = [
        first_byte,
        u8::try_from(remaining).expect("a short packet"),
        0,
        u8::try_from(TOPIC.len()).expect("a short topic"),
    ];
    let mut due = Instant::now();
    let mut packet_id = 0_u16;
    while !stop.load(Ordering::Relaxed) {
        packet_id = packet_id % u16::MAX + 1;
        let id = packet_id.to_be_bytes();
        let id = if is_acknowledged { &id[..] } else { &[] };
        let packet = [&head[..], TOPIC.as_bytes(), id, &now().to_be_bytes()].concat();
        socket.write_all(&packet).expect("the server reads");
        due += INTERVAL;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.publisher.take().map(JoinHandle::join));
    }
}

//! `$SYS/broker/…`: the numbers as MQTT messages, named as Mosquitto's.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::partitions::hit_ratio;
use super::{ServerStats, Snapshot};

/// Every topic below `$SYS/broker/`, and what it says; `+` stands for `1min`, `5min` and `15min`.
pub(super) const SYSTEM_TOPICS: &[(&str, &str)] = &[
    ("version", "The server and its version."),
    ("uptime", "Seconds since the start, as `123 seconds`."),
    ("clients/connected", "MQTT clients connected."),
    ("clients/disconnected", "Sessions whose client is away."),
    ("clients/total", "Sessions, connected or not."),
    (
        "clients/maximum",
        "The most clients connected at the times this was published.",
    ),
    ("clients/expired", "Sessions whose expiry interval ran out."),
    ("bytes/received", "Bytes read from MQTT connections."),
    ("bytes/sent", "Bytes written to MQTT connections."),
    ("messages/received", "MQTT packets received, of any type."),
    ("messages/sent", "MQTT packets sent, of any type."),
    ("publish/messages/received", "PUBLISH packets received."),
    ("publish/messages/sent", "PUBLISH packets sent."),
    (
        "publish/messages/dropped",
        "Messages dropped: queue or outbox full, too large or expired.",
    ),
    (
        "publish/bytes/received",
        "Payload bytes of PUBLISH packets received.",
    ),
    (
        "publish/bytes/sent",
        "Payload bytes of PUBLISH packets sent.",
    ),
    ("retained messages/count", "Retained messages."),
    (
        "store/messages/count",
        "Messages kept on disk: owed to somebody who is not connected or has not acknowledged them, or retained.",
    ),
    ("store/messages/bytes", "Bytes of their contents."),
    (
        "store/cache/hits",
        "Messages wanted back that were in the message cache.",
    ),
    (
        "store/cache/misses",
        "Messages wanted back that had to be read from the log.",
    ),
    (
        "store/cache/bytes",
        "Bytes of messages in the message cache.",
    ),
    (
        "store/cache/hit_ratio",
        "The part of the messages wanted back that were in the message cache, 0 to 1.",
    ),
    ("subscriptions/count", "Subscriptions of all sessions."),
    (
        "load/messages/received/+",
        "MQTT packets received per minute.",
    ),
    ("load/messages/sent/+", "MQTT packets sent per minute."),
    (
        "load/publish/received/+",
        "PUBLISH packets received per minute.",
    ),
    ("load/publish/sent/+", "PUBLISH packets sent per minute."),
    ("load/publish/dropped/+", "Messages dropped per minute."),
    ("load/bytes/received/+", "Bytes received per minute."),
    ("load/bytes/sent/+", "Bytes sent per minute."),
    ("load/connections/+", "CONNECT packets accepted per minute."),
    ("load/sockets/+", "Connections opened per minute."),
];

/// What the store says there by itself, as soon as it changes.
pub(super) const SYSTEM_ALARMS: &[(&str, &str)] = &[
    (
        "store/alarm",
        "Why nothing that has to outlive the server is acknowledged; `none` while all is well. Told at once.",
    ),
    (
        "store/clock",
        "What is wrong with the clock since the last start; `none` if nothing.",
    ),
];

/// Windows of the averages: the topic's last level, and its length in seconds.
const WINDOWS: [(&str, f64); 3] = [("1min", 60.0), ("5min", 300.0), ("15min", 900.0)];

/// Reads one number from the totals.
type Read = fn(&Snapshot) -> u64;

/// Plain values, read from the totals.
const VALUES: &[(&str, Read)] = &[
    ("clients/connected", |now| now.gauges.clients),
    ("clients/disconnected", |now| {
        now.gauges.sessions.saturating_sub(now.gauges.clients)
    }),
    ("clients/total", |now| now.gauges.sessions),
    ("clients/expired", |now| now.core.sessions_expired),
    ("bytes/received", |now| now.shell.bytes_received),
    ("bytes/sent", |now| now.shell.bytes_sent),
    ("messages/received", |now| now.shell.packets_received),
    ("messages/sent", |now| now.shell.packets_sent),
    ("publish/messages/received", |now| {
        now.core.publishes_received
    }),
    ("publish/messages/sent", |now| now.core.deliveries),
    ("publish/messages/dropped", dropped),
    ("publish/bytes/received", |now| {
        now.shell.publish_bytes_received
    }),
    ("publish/bytes/sent", |now| now.shell.publish_bytes_sent),
    ("retained messages/count", |now| {
        now.gauges.retained_messages
    }),
    ("subscriptions/count", |now| now.gauges.subscriptions),
];

/// Reads one number of the server as a whole.
type ReadServer = fn(&ServerStats) -> u64;

/// Plain values of the server as a whole.
const SERVER_VALUES: &[(&str, ReadServer)] = &[
    ("store/messages/count", |server| {
        server.store_messages.load(Ordering::Relaxed)
    }),
    ("store/messages/bytes", |server| {
        server.store_message_bytes.load(Ordering::Relaxed)
    }),
    ("store/cache/hits", |server| {
        server.store_cache_hits.load(Ordering::Relaxed)
    }),
    ("store/cache/misses", |server| {
        server.store_cache_misses.load(Ordering::Relaxed)
    }),
    ("store/cache/bytes", |server| {
        server.store_cache_bytes.load(Ordering::Relaxed)
    }),
];

/// Averages of what these counters gain.
const LOADS: &[(&str, Read)] = &[
    ("load/messages/received", |now| now.shell.packets_received),
    ("load/messages/sent", |now| now.shell.packets_sent),
    ("load/publish/received", |now| now.core.publishes_received),
    ("load/publish/sent", |now| now.core.deliveries),
    ("load/publish/dropped", dropped),
    ("load/bytes/received", |now| now.shell.bytes_received),
    ("load/bytes/sent", |now| now.shell.bytes_sent),
    ("load/connections", |now| now.core.connects_accepted),
    ("load/sockets", |now| now.core.connections_opened),
];

fn dropped(now: &Snapshot) -> u64 {
    now.core.dropped_too_large
        + now.core.dropped_queue_full
        + now.core.dropped_expired
        + now.shell.dropped_qos0_outbox
}

/// Turns totals into `$SYS` messages; keeps the averages, and what was said last.
#[derive(Debug, Default)]
pub struct SystemTopics {
    last: Option<(Duration, Snapshot)>,
    connected_max: u64,
    loads: Vec<[f64; WINDOWS.len()]>,
    said: HashMap<String, String>,
}

impl SystemTopics {
    /// The messages to publish retained now, topic and payload: those that differ from last time.
    pub fn report(
        &mut self,
        uptime: Duration,
        now: &Snapshot,
        server: &ServerStats,
    ) -> Vec<(String, Vec<u8>)> {
        let mut changed = Vec::new();
        let mut say = |topic: &str, payload: String| {
            if self.said.get(topic) != Some(&payload) {
                changed.push((format!("$SYS/broker/{topic}"), payload.clone().into_bytes()));
                self.said.insert(topic.to_owned(), payload);
            }
        };
        say("version", format!("waypost version {}", crate::VERSION));
        say("uptime", format!("{} seconds", uptime.as_secs()));
        self.connected_max = self.connected_max.max(now.gauges.clients);
        say("clients/maximum", self.connected_max.to_string());
        for (topic, read) in VALUES {
            say(topic, read(now).to_string());
        }
        for (topic, read) in SERVER_VALUES {
            say(topic, read(server).to_string());
        }
        let [hits, misses] = [&server.store_cache_hits, &server.store_cache_misses]
            .map(|counter| counter.load(Ordering::Relaxed));
        say(
            "store/cache/hit_ratio",
            format!("{:.4}", hit_ratio(hits, misses)),
        );

        let (last_uptime, last) = self.last.unwrap_or_default();
        self.last = Some((uptime, *now));
        let elapsed_s = uptime.saturating_sub(last_uptime).as_secs_f64();
        if elapsed_s > 0.0 {
            self.loads.resize(LOADS.len(), [0.0; WINDOWS.len()]);
            for ((topic, read), loads) in LOADS.iter().zip(&mut self.loads) {
                let per_minute = as_f64(read(now).saturating_sub(read(&last))) * 60.0 / elapsed_s;
                for ((window, window_s), load) in WINDOWS.iter().zip(loads) {
                    // Mosquitto's average: an exponential decay over the window.
                    *load = per_minute + (-elapsed_s / window_s).exp() * (*load - per_minute);
                    say(&format!("{topic}/{window}"), format!("{load:.2}"));
                }
            }
        }
        changed
    }
}

/// Precise to one in 2^53, far below the two digits that are printed.
#[allow(clippy::cast_precision_loss)]
fn as_f64(count: u64) -> f64 {
    count as f64
}

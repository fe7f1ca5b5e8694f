//! The table as Prometheus reads it, and as people do.

use std::fmt::Write;
use std::time::Duration;

use super::streams::STREAM_METRICS;
use super::system::{SYSTEM_ALARMS, SYSTEM_TOPICS};
use super::table::{Kind, METRICS, Scope};
use super::{Snapshot, Stats, partitions};

/// What the page says besides the table.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    /// The server's version.
    pub version: &'static str,
    /// Since the start.
    pub uptime: Duration,
    /// Whether clients are served.
    pub ready: bool,
}

/// The metrics about the process: name, kind, help.
const PROCESS: [(&str, Kind, &str); 3] = [
    (
        "waypost_info",
        Kind::Gauge,
        "Always 1; its label is the version.",
    ),
    (
        "waypost_uptime_seconds",
        Kind::Gauge,
        "Seconds since the start.",
    ),
    (
        "waypost_ready",
        Kind::Gauge,
        "1 while clients are served, 0 while starting, draining, or while the disk refuses what has to outlive the server.",
    ),
];

/// The one histogram: name, help.
const SYNC_DURATION: (&str, &str) = (
    "waypost_store_sync_duration_seconds",
    "How long the log's syncs took, failed ones included.",
);

/// The page at `/metrics`, in Prometheus's text format 0.0.4.
pub fn render(stats: &Stats, process: &Process) -> String {
    let mut out = String::with_capacity(16 << 10);
    let shards: Vec<Snapshot> = stats.shards.iter().map(|shard| shard.read()).collect();
    // Writing to a String cannot fail, here and below.
    for (name, kind, help) in PROCESS {
        head(&mut out, name, kind.as_str(), help);
        let _ = match name {
            "waypost_info" => writeln!(out, "{name}{{version=\"{}\"}} 1", process.version),
            "waypost_uptime_seconds" => {
                writeln!(out, "{name} {:.3}", process.uptime.as_secs_f64())
            }
            _ => writeln!(out, "{name} {}", u8::from(process.ready)),
        };
    }
    for metric in METRICS {
        head(&mut out, metric.name, metric.kind.as_str(), metric.help);
        match metric.scope {
            Scope::Shard(read) => {
                for (index, snapshot) in shards.iter().enumerate() {
                    let _ = writeln!(
                        out,
                        "{}{{shard=\"{index}\"}} {}",
                        metric.name,
                        read(snapshot)
                    );
                }
            }
            Scope::Server(read) => {
                let _ = writeln!(out, "{} {}", metric.name, read(&stats.server));
            }
        }
    }
    stats.streams.render(&mut out);
    let (name, help) = SYNC_DURATION;
    head(&mut out, name, HISTOGRAM, help);
    stats.store_sync_duration.render(name, &mut out);
    partitions::render(&stats.cache_partitions(), &mut out);
    out
}

/// The word Prometheus uses for one.
const HISTOGRAM: &str = "histogram";

pub(super) fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

/// `docs/metrics.md`.
pub fn markdown() -> String {
    let mut out = String::from(
        "# Metrics\n\n\
         Generated from the table in `crates/waypost-server/src/metrics/table.rs`: `RENEW_DOCS=1 \
         cargo test -p waypost-server` writes it anew, and a test fails when it is not current.\n\n\
         `GET /metrics` on the HTTP address answers in Prometheus's text format. Counters count \
         since the start. Those marked *per shard* carry the label `shard`; sum over it for the \
         whole server. Those marked *per stream* carry the label `stream`, its name.\n\n\
         | name | kind | per | what it says |\n|---|---|---|---|\n",
    );
    let process = PROCESS.map(|(name, kind, help)| (name, kind.as_str(), "", help));
    let table = METRICS.iter().map(|metric| {
        let per_shard = match metric.scope {
            Scope::Shard(_) => "per shard",
            Scope::Server(_) => "",
        };
        (metric.name, metric.kind.as_str(), per_shard, metric.help)
    });
    let streams = STREAM_METRICS
        .iter()
        .map(|(name, kind, help, _)| (*name, kind.as_str(), "per stream", *help));
    let (name, help) = SYNC_DURATION;
    let histogram = [(name, HISTOGRAM, "", help)];
    let partitions = partitions::PARTITION_METRICS
        .map(|(name, kind, help, _)| (name, kind, "per partition", help));
    let rows = process.into_iter().chain(table).chain(streams);
    for (name, kind, per_shard, help) in rows.chain(histogram).chain(partitions) {
        let _ = writeln!(out, "| `{name}` | {kind} | {per_shard} | {help} |");
    }
    out.push_str(
        "\n## $SYS\n\n\
         The same numbers as retained messages, under the names Mosquitto gave them, so that its \
         tools work. Published every `server.sys_interval`, those that changed. The three of a \
         `load/…/+` are moving averages per minute over 1, 5 and 15 minutes.\n\n\
         | topic | what it says |\n|---|---|\n",
    );
    for (topic, help) in SYSTEM_TOPICS.iter().chain(SYSTEM_ALARMS) {
        let _ = writeln!(out, "| `$SYS/broker/{topic}` | {help} |");
    }
    out
}

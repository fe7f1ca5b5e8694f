//! `waypost bench`: how fast a server delivers, how soon, and whether all of it.

mod histogram;
mod load;
mod sequence;

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::time::Duration;

use serde_json::json;
use waypost_mqtt::QoS;

use self::load::{Faults, Load, PAYLOAD_BYTES_MIN, Phase, Shape, Tempo};
use super::connection::{ServerArgs, parse_qos};
use super::replay::connections_max;
use crate::Failure;
use waypost_client::door::endpoint::Scheme;

const EXAMPLES: &str = "\
Examples:
  waypost bench                                   rooms of ten, the canonical workload
  waypost bench fanout --seconds 10 --json        one sender, a thousand receivers
  waypost bench qos1 --server-pid $(pgrep -xn waypost)
  waypost bench pair --url wss://localhost:8443 --cafile ca.pem

Two phases: as fast as messages are delivered (delivered/s, server CPU), then at a steady rate
(latency, from the moment a message was due). Every message is numbered: missing, doubled and
reordered ones are counted, and any of them is exit code 1. The load runs on one thread of this
machine; when that thread is the limit, the report says so.";

/// Deliveries a second in the latency phase, at most: far from any limit.
const LATENCY_DELIVERIES_PER_S: f64 = 20_000.0;
const LATENCY_MESSAGES_PER_S: f64 = 1_000.0;
/// Above this share of a core the load generator is the limit.
const CLIENT_LIMIT: f64 = 0.9;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Scenario {
    /// 100 rooms of 10 clients, each hearing all its room says
    Room,
    /// One sender, one receiver
    Pair,
    /// Ten pairs
    Pairs,
    /// One sender, 1,000 receivers
    Fanout,
    /// 1,000 senders, one receiver
    Fanin,
    #[value(help = "50 pairs at QoS 1")]
    Qos1,
    #[value(help = "50 pairs at QoS 2")]
    Qos2,
}

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The workload
    #[arg(default_value = "room")]
    scenario: Scenario,
    /// Length of each of the two phases
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    seconds: f64,
    /// Bytes of each payload, at least 20
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    payload_bytes: usize,
    /// Another QoS than the scenario's
    #[arg(short, long, value_name = "QOS", value_parser = parse_qos)]
    qos: Option<QoS>,
    /// Messages a second in the latency phase
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Measure the CPU time of the server with this process id, on this machine
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    /// Print the figures as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// The figures of a run.
struct Report {
    scenario: String,
    /// Through which door, by the scheme of its URL.
    door: Scheme,
    shape: Shape,
    delivered_per_s: f64,
    latency: Phase,
    rate: f64,
    server_cpu_us_per_delivery: Option<f64>,
    client_cpu_cores: Option<f64>,
    faults: Faults,
}

pub fn run(arguments: &Args) -> Result<(), Failure> {
    let duration = Duration::try_from_secs_f64(arguments.seconds)
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| Failure::usage("--seconds takes a number above 0"))?;
    let shape = arguments.shape()?;
    let rate = arguments.rate(&shape)?;
    connections_max(None)?;
    let server = arguments.server.server()?;
    let options = arguments.server.options(&server, String::new());
    if let Some(pid) = arguments.server_pid {
        cpu_ns(&pid.to_string()).ok_or_else(|| {
            Failure::usage(format!(
                "--server-pid: no process {pid} to measure on this machine"
            ))
        })?;
    }
    let door = server.endpoint.scheme;
    let mut load = Load::connect(server, &options, shape)?;
    let server_cpu = || {
        arguments
            .server_pid
            .and_then(|pid| cpu_ns(&pid.to_string()))
    };
    let (server_before, client_before) = (server_cpu(), cpu_ns("self"));
    let full = load.run(Tempo::Full, duration)?;
    let (server_after, client_after) = (server_cpu(), cpu_ns("self"));
    let latency = load.run(Tempo::Rate(rate), duration)?;
    let faults = load.faults();
    load.disconnect()?;
    let seconds = full.elapsed.as_secs_f64().max(1e-9);
    let scenario = clap::ValueEnum::to_possible_value(&arguments.scenario);
    let report = Report {
        scenario: scenario
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default(),
        door,
        shape,
        delivered_per_s: float(full.delivered) / seconds,
        latency,
        rate,
        server_cpu_us_per_delivery: spent(server_before, server_after)
            .map(|ns| ns / 1e3 / float(full.delivered).max(1.0)),
        client_cpu_cores: spent(client_before, client_after).map(|ns| ns / 1e9 / seconds),
        faults,
    };
    let text = if arguments.json {
        report.to_json()
    } else {
        report.to_text()
    };
    writeln!(io::stdout(), "{text}")?;
    if faults.missing + faults.duplicates + faults.reordered > 0 {
        return Err(Failure::new("messages were missing, doubled or reordered"));
    }
    Ok(())
}

impl Args {
    fn shape(&self) -> Result<Shape, Failure> {
        if self.payload_bytes < PAYLOAD_BYTES_MIN {
            return Err(Failure::usage(format!(
                "--payload-bytes takes {PAYLOAD_BYTES_MIN} or more: each payload carries its number"
            )));
        }
        let (groups, publishers, subscribers, qos) = match self.scenario {
            Scenario::Room => (100, 10, 10, QoS::AtMostOnce),
            Scenario::Pair => (1, 1, 1, QoS::AtMostOnce),
            Scenario::Pairs => (10, 1, 1, QoS::AtMostOnce),
            Scenario::Fanout => (1, 1, 1_000, QoS::AtMostOnce),
            Scenario::Fanin => (1, 1_000, 1, QoS::AtMostOnce),
            Scenario::Qos1 => (50, 1, 1, QoS::AtLeastOnce),
            Scenario::Qos2 => (50, 1, 1, QoS::ExactlyOnce),
        };
        Ok(Shape {
            groups,
            publishers,
            subscribers,
            shared: self.scenario == Scenario::Room,
            qos: self.qos.unwrap_or(qos),
            payload_bytes: self.payload_bytes,
        })
    }

    fn rate(&self, shape: &Shape) -> Result<f64, Failure> {
        match self.rate {
            None => {
                let most = LATENCY_DELIVERIES_PER_S / float(shape.subscribers as u64);
                Ok(LATENCY_MESSAGES_PER_S.min(most))
            }
            Some(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
            Some(_) => Err(Failure::usage("--rate takes a number above 0")),
        }
    }
}

impl Report {
    fn latency_ms(&self, percent: u64) -> Option<f64> {
        self.latency
            .latency
            .percentile(percent)
            .map(|ns| float(ns) / 1e6)
    }

    fn client_is_limit(&self) -> bool {
        self.client_cpu_cores
            .is_some_and(|cores| cores > CLIENT_LIMIT)
    }

    fn to_json(&self) -> String {
        json!({
            "scenario": self.scenario,
            "door": self.door.name(),
            "groups": self.shape.groups,
            "publishers_per_group": self.shape.publishers,
            "subscribers_per_group": self.shape.subscribers,
            "qos": u8::from(self.shape.qos),
            "payload_bytes": self.shape.payload_bytes,
            "delivered_per_s": self.delivered_per_s,
            "latency_messages_per_s": self.rate,
            "latency_deliveries": self.latency.delivered,
            "latency_p50_ms": self.latency_ms(50),
            "latency_p99_ms": self.latency_ms(99),
            "server_cpu_us_per_delivery": self.server_cpu_us_per_delivery,
            "client_cpu_cores": self.client_cpu_cores,
            "client_is_limit": self.client_is_limit(),
            "missing": self.faults.missing,
            "duplicates": self.faults.duplicates,
            "reordered": self.faults.reordered,
        })
        .to_string()
    }

    fn to_text(&self) -> String {
        let Shape {
            groups,
            publishers,
            subscribers,
            qos,
            payload_bytes,
            ..
        } = self.shape;
        let mut text = format!(
            "{}: {groups} x {publishers} to {subscribers}, QoS {}, {payload_bytes} bytes, over {}\n\
             delivered    {:.0}/s{}\n\
             latency      p50 {:.3} ms, p99 {:.3} ms at {:.0} messages/s\n",
            self.scenario,
            u8::from(qos),
            self.door,
            self.delivered_per_s,
            if self.client_is_limit() {
                " (this load generator was the limit)"
            } else {
                ""
            },
            self.latency_ms(50).unwrap_or(f64::NAN),
            self.latency_ms(99).unwrap_or(f64::NAN),
            self.rate,
        );
        if let Some(us) = self.server_cpu_us_per_delivery {
            let _ = writeln!(text, "server CPU   {us:.3} us per delivery");
        }
        let Faults {
            missing,
            duplicates,
            reordered,
        } = self.faults;
        let _ = write!(
            text,
            "faults       {missing} missing, {duplicates} doubled, {reordered} reordered"
        );
        text
    }
}

/// The CPU time of a process's threads, in nanoseconds; none where there is no such file.
fn cpu_ns(process: &str) -> Option<u64> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).ok()?;
    let times = threads.flatten().filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Some(times.sum())
}

fn spent(before: Option<u64>, after: Option<u64>) -> Option<f64> {
    Some(float(after?.saturating_sub(before?)))
}

#[allow(clippy::cast_precision_loss)] // counts and times far below 2^53
fn float(count: u64) -> f64 {
    count as f64
}

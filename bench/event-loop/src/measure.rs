//! Every loop under the neutral load, in interleaved rounds: server on CPU 0, load on CPU 1, server
//! CPU time from schedstat as the load reports it, medians (and extremes) of the rounds as a table.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const LOOPS: [&str; 4] = ["mio", "mio-runs", "uring", "tokio"];
const FLOORS: [&str; 2] = ["relay-epoll", "relay-uring"];
const READY_WITHIN: Duration = Duration::from_secs(10);

struct Scenario {
    name: &'static str,
    publishers: usize,
    subscribers: usize,
    record_bytes: usize,
    room: usize,
    load: &'static str,
}

const SCENARIOS: [Scenario; 8] = [
    Scenario {
        name: "pair1",
        publishers: 1,
        subscribers: 1,
        record_bytes: 64,
        room: 0,
        load: "--mode pair --count 4000000 --window 1000",
    },
    Scenario {
        name: "pair10",
        publishers: 10,
        subscribers: 10,
        record_bytes: 64,
        room: 0,
        load: "--mode pair --pubs 10 --subs 10 --count 4000000 --window 2000",
    },
    Scenario {
        name: "fanout",
        publishers: 1,
        subscribers: 1000,
        record_bytes: 64,
        room: 0,
        load: "--mode fanout --pubs 1 --subs 1000 --count 2000 --window 20",
    },
    Scenario {
        name: "fanin",
        publishers: 1000,
        subscribers: 1,
        record_bytes: 64,
        room: 0,
        load: "--mode fanin --pubs 1000 --subs 1 --count 300000 --window 2000",
    },
    Scenario {
        name: "room",
        publishers: 0,
        subscribers: 0,
        record_bytes: 64,
        room: 10,
        load: "--mode room --subs 10000 --room 10 --rate 3000 --count 9000",
    },
    Scenario {
        name: "large",
        publishers: 1,
        subscribers: 1,
        record_bytes: 1 << 20,
        room: 0,
        load: "--mode pair --count 1000 --window 8",
    },
    Scenario {
        name: "pingpong",
        publishers: 1,
        subscribers: 1,
        record_bytes: 64,
        room: 0,
        load: "--mode pair --count 60000 --window 1",
    },
    Scenario {
        name: "idle",
        publishers: 1,
        subscribers: 10_000,
        record_bytes: 64,
        room: 0,
        load: "--mode idle --subs 10000 --hold 2",
    },
];

/// What is told of a run: the load's own field, the table's heading.
const FIGURES: [(&str, &str); 6] = [
    ("server_cpu_us_per_delivery", "µs of CPU per delivery"),
    ("p50_us", "p50, µs"),
    ("p99_us", "p99, µs"),
    ("bytes_per_conn", "bytes (RSS) per idle connection"),
    ("connect_cpu_us", "µs of CPU per connection accepted"),
    ("idle_cpu_s", "s of CPU in 2 s of idling"),
];

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn start(name: &str, relay: Option<&str>, scenario: &Scenario) -> io::Result<(Server, u16)> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port();
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]);
    let event_loop = match (name.strip_prefix("relay-"), relay) {
        (Some(event_loop), Some(relay)) => {
            command.arg(relay);
            event_loop
        }
        _ => {
            command.arg(std::env::current_exe()?).arg("serve");
            name
        }
    };
    for number in [
        usize::from(port),
        scenario.publishers,
        scenario.subscribers,
        scenario.record_bytes,
    ] {
        command.arg(number.to_string());
    }
    command.arg(event_loop).arg(scenario.room.to_string());
    let server = Server(command.stdout(Stdio::null()).spawn()?);
    // A probe would become connection 0, so the listening socket is looked for in the kernel's table.
    let listening = format!("0100007F:{port:04X} 00000000:0000 0A");
    let deadline = Instant::now() + READY_WITHIN;
    while !std::fs::read_to_string("/proc/net/tcp")?.contains(&listening) {
        if Instant::now() > deadline {
            return Err(io::Error::other(format!("{name} did not listen")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok((server, port))
}

fn load(program: &str, server: &Server, port: u16, scenario: &Scenario) -> io::Result<String> {
    let output = Command::new("timeout")
        .args([
            "60",
            "taskset",
            "-c",
            "1",
            program,
            "--proto",
            "relay",
            "--server-pid",
        ])
        .arg(server.0.id().to_string())
        .args([
            "--port",
            &port.to_string(),
            "--payload",
            &scenario.record_bytes.to_string(),
        ])
        .args(scenario.load.split(' '))
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .last()
        .map(str::to_owned)
        .ok_or_else(|| io::Error::other(String::from_utf8_lossy(&output.stderr)))
}

fn field(line: &str, name: &str) -> Option<f64> {
    let (_, after) = line.split_once(&format!("\"{name}\":"))?;
    after.split([',', '}']).next()?.parse().ok()
}

fn cell(values: &[f64]) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
    let median = f64::midpoint(low, high);
    format!("{median:.3} ({}–{})", sorted[0], sorted[sorted.len() - 1])
}

/// See the module.
pub fn run(arguments: &[String]) -> io::Result<()> {
    let option = |name: &str| {
        arguments
            .iter()
            .position(|argument| argument == name)
            .and_then(|index| arguments.get(index + 1))
            .cloned()
    };
    let chosen = |list: Option<String>, name: &str| {
        list.is_none_or(|list| list.split(',').any(|one| one == name))
    };
    let program = arguments
        .first()
        .ok_or_else(|| io::Error::other("where is the load generator?"))?;
    let relay = arguments
        .get(1)
        .filter(|argument| !argument.starts_with("--"))
        .map(String::as_str);
    let rounds: usize = option("--rounds")
        .map_or(Ok(3), |text| text.parse())
        .map_err(io::Error::other)?;
    let names: Vec<&str> = LOOPS
        .into_iter()
        .chain(FLOORS.into_iter().filter(|_| relay.is_some()))
        .filter(|name| chosen(option("--only"), name))
        .collect();

    let mut results: BTreeMap<(&str, &str, &str), Vec<f64>> = BTreeMap::new();
    for round in 1..=rounds {
        for scenario in SCENARIOS
            .iter()
            .filter(|scenario| chosen(option("--scenarios"), scenario.name))
        {
            // Nobody always goes first.
            for name in names.iter().cycle().skip(round).take(names.len()).copied() {
                let (server, port) = start(name, relay, scenario)?;
                let line = load(program, &server, port, scenario)?;
                eprintln!("{round} {name} {} {line}", scenario.name);
                for fault in ["missing", "gap", "dup_or_reordered"] {
                    if field(&line, fault).is_some_and(|count| count != 0.0) {
                        return Err(io::Error::other(format!(
                            "{name} {}: {fault}: {line}",
                            scenario.name
                        )));
                    }
                }
                for (figure, _) in FIGURES {
                    if let Some(value) = field(&line, figure) {
                        results
                            .entry((scenario.name, figure, name))
                            .or_default()
                            .push(value);
                    }
                }
            }
        }
    }
    for (figure, heading) in FIGURES {
        println!(
            "\n| {heading} | {} |\n|---{}|",
            names.join(" | "),
            "|---".repeat(names.len())
        );
        for scenario in &SCENARIOS {
            let cells: Vec<String> = names
                .iter()
                .filter_map(|name| results.get(&(scenario.name, figure, *name)))
                .map(|values| cell(values))
                .collect();
            if !cells.is_empty() {
                println!("| {} | {} |", scenario.name, cells.join(" | "));
            }
        }
    }
    Ok(())
}

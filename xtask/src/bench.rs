//! `cargo xtask bench`: runs the benchmarks and appends one JSON line to `docs/evidence/bench.jsonl`.
//!
//! Micro benchmarks are the crates' `benches/`, which print lines `name value unit`. Macro benchmarks are the scenarios
//! of `waypost bench` against a server of its own and, where Debian's `mosquitto` is installed, against that in the same
//! run: figures of different runs and machines do not compare, ratios inside one line do.

mod sealing;
mod server;
mod storage;
mod storm;

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Map, Value, json};

use crate::{arguments::Arguments, failure::Failure, process, repository::Repository};
use server::Server;

const EVIDENCE: &str = "docs/evidence/bench.jsonl";

/// What `waypost bench` offers, in its words.
const SCENARIOS: &[&str] = &["pair", "pairs", "fanout", "fanin", "room", "qos1", "qos2"];

/// The figure that is compared.
const CPU: &str = "server_cpu_us_per_delivery";

pub fn run(root: &Path, mut arguments: Arguments) -> Result<(), Failure> {
    if arguments.positional_is("storm") {
        return storm::run(root, arguments);
    }
    if arguments.positional_is("sealing") {
        return sealing::run(root, arguments);
    }
    if let Some(scenario) = storage::scenario(&mut arguments) {
        return storage::run(root, scenario, arguments);
    }
    let print_only = arguments.flag("--print");
    let seconds = arguments.option::<u64>("--seconds")?.unwrap_or(3);
    let skip_micro = arguments.flag("--macro-only");
    arguments.finish()?;
    let micro = if skip_micro { Map::new() } else { micro(root)? };
    let line = json!({
        "task": "bench",
        "commit": commit(root),
        "machine": machine(),
        "macro": scenarios(root, seconds)?,
        "micro": micro,
    });
    println!("{line}");
    if print_only {
        return Ok(());
    }
    keep(root, EVIDENCE, &line)
}

/// Appends a line of figures to a file of evidence.
pub fn keep(root: &Path, evidence: &str, line: &Value) -> Result<(), Failure> {
    let path = root.join(evidence);
    let append = || {
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)?;
        writeln!(file, "{line}")
    };
    append().map_err(|error: std::io::Error| Failure::new(format!("{evidence}: {error}")))
}

/// Every scenario on every server, interleaved, and what the first costs beside the second.
fn scenarios(root: &Path, seconds: u64) -> Result<Map<String, Value>, Failure> {
    process::run(
        root,
        env!("CARGO"),
        &["build", "--release", "--locked", "--package", "waypost"],
    )?;
    let waypost = process::target_directory(root)?.join("release/waypost");
    let mut figures = Map::new();
    for scenario in SCENARIOS {
        let ours = measure(&waypost, &Server::waypost(&waypost)?, scenario, seconds)?;
        let peer = match Server::mosquitto()? {
            Some(server) => Some(measure(&waypost, &server, scenario, seconds)?),
            None => None,
        };
        figures.insert((*scenario).to_owned(), row(&ours, peer.as_ref()));
    }
    Ok(figures)
}

fn row(ours: &Value, peer: Option<&Value>) -> Value {
    let figure = |name: &str| ours.get(name).cloned().unwrap_or_default();
    let cpu = |run: &Value| {
        run.get(CPU)
            .and_then(Value::as_f64)
            .filter(|cpu| *cpu > 0.0)
    };
    let ratio = peer.and_then(|peer| Some(cpu(ours)? / cpu(peer)?));
    json!({
        "cpu_us_per_delivery": figure(CPU),
        "mosquitto_cpu_us_per_delivery": peer.and_then(cpu),
        "ratio": ratio,
        "latency_p99_ms": figure("latency_p99_ms"),
        "delivered_per_s": figure("delivered_per_s"),
        "missing": figure("missing"),
        "duplicates": figure("duplicates"),
        "reordered": figure("reordered"),
    })
}

/// One run of `waypost bench`. It fails when messages were lost, which the line then says: a failed run with figures
/// counts.
fn measure(
    waypost: &PathBuf,
    server: &Server,
    scenario: &str,
    seconds: u64,
) -> Result<Value, Failure> {
    let mut command = Command::new(waypost);
    command
        .args([
            "bench",
            scenario,
            "--json",
            "--seconds",
            &seconds.to_string(),
        ])
        .args([
            "--port",
            &server.port.to_string(),
            "--server-pid",
            &server.pid().to_string(),
        ]);
    Ok(process::json(&mut command)?.0)
}

/// Runs every crate's benches.
fn micro(root: &Path) -> Result<Map<String, Value>, Failure> {
    let mut figures = Map::new();
    for (package, bench) in benches(&Repository::read(root)?) {
        let mut command = Command::new(env!("CARGO"));
        command
            .args([
                "bench",
                "--quiet",
                "--locked",
                "--package",
                &package,
                "--bench",
                &bench,
            ])
            .current_dir(root);
        let output = process::captured(&mut command)?;
        if !output.status.success() {
            let shown = process::shown(&command);
            return Err(Failure::new(format!("{shown}: {}", output.status)));
        }
        figures.insert(
            format!("{package} {bench}"),
            read_figures(&String::from_utf8_lossy(&output.stdout)),
        );
    }
    Ok(figures)
}

/// The benches of all crates, as `(package, bench)`.
fn benches(repository: &Repository) -> Vec<(String, String)> {
    let files = repository.rust_files("crates/").filter_map(|file| {
        let (package, bench) = file.path.strip_prefix("crates/")?.split_once("/benches/")?;
        let bench = bench
            .strip_suffix(".rs")
            .filter(|name| !name.contains('/'))?;
        Some((package.to_owned(), bench.to_owned()))
    });
    files.collect()
}

/// Indented lines `name value unit`; a line that is not indented heads those that follow it.
fn read_figures(text: &str) -> Value {
    let mut figures = Map::new();
    let mut heading = "";
    for line in text.lines() {
        if !line.starts_with(' ') {
            heading = line.trim();
        } else if let Some((name, value, unit)) = figure(line.trim()) {
            figures.insert(format!("{heading}: {name}, {unit}"), json!(value));
        }
    }
    Value::Object(figures)
}

fn figure(line: &str) -> Option<(&str, f64, &str)> {
    let (rest, unit) = line.rsplit_once(char::is_whitespace)?;
    let (name, value) = rest.trim_end().rsplit_once(char::is_whitespace)?;
    Some((name.trim_end(), value.parse().ok()?, unit))
}

/// The commit, with `-dirty` when the work tree differs from it.
pub fn commit(root: &Path) -> String {
    process::output(
        root,
        "git",
        &["describe", "--always", "--dirty", "--abbrev=12"],
    )
    .unwrap_or_else(|| "unknown".to_owned())
}

/// The kind of machine: processor and cores.
pub fn machine() -> String {
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor
        .lines()
        .find_map(|line| Some(line.strip_prefix("model name")?.split_once(": ")?.1));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{}, {cores} cores", model.unwrap_or(std::env::consts::ARCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_figures_that_benches_print() {
        let text = "match, 100000 filters\n  first look-up      232.5 ns\n  memory   121 MB\n\nrunning 0 tests\n";
        let expect = json!({
            "match, 100000 filters: first look-up, ns": 232.5,
            "match, 100000 filters: memory, MB": 121.0,
        });
        assert_eq!(read_figures(text), expect);
    }

    #[test]
    fn finds_the_benches_of_all_crates() {
        let repository = Repository::of(&[
            ("crates/waypost-core/benches/index.rs", ""),
            ("crates/waypost-core/benches/load/mod.rs", ""),
            ("crates/waypost-mqtt/src/benches.rs", ""),
        ]);
        assert_eq!(
            benches(&repository),
            [("waypost-core".to_owned(), "index".to_owned())]
        );
    }

    #[test]
    fn a_row_has_the_ratio_to_the_peer() {
        let (ours, peer) = (json!({ CPU: 0.5, "missing": 0 }), json!({ CPU: 2.0 }));
        assert_eq!(row(&ours, Some(&peer)).get("ratio"), Some(&json!(0.25)));
        assert_eq!(row(&ours, None).get("ratio"), Some(&Value::Null));
    }
}

//! Kills a server at random moments under load, starts it again on the same data, and holds what clients of four
//! libraries then get against a model of what was acknowledged.
//!
//! `cargo xtask crash` builds and runs it; it prints one line of JSON. A *life* is one data directory with one set of
//! clients; it lasts for many rounds, or until one fails. The seed says when and how in each round; what the processes
//! make of it depends on the machine, so a seed repeats a plan, not a schedule.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod mosquitto;
mod paho;
mod plan;
mod report;
mod rumq;
mod scene;
mod stream;
mod variant;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, TcpListener},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, atomic::AtomicU64},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use tempfile::TempDir;
use waypost_tests::{Server, ServerOptions, power_cut::PowerCut};

use plan::Plan;
use scene::Scene;
use variant::Variant;

/// Rounds of one life.
const LIFE_ROUNDS: u64 = 100;
/// The same at most when each life is of another kind; fewer, so that a short run has them all.
const LIFE_ROUNDS_MIXED: u64 = 20;
/// Lives that may fail before a run gives up.
const FAILURES_MAX: usize = 10;
/// Findings of one round that are printed and kept.
const FINDINGS_MAX: usize = 6;

struct Options {
    rounds: u64,
    from: u64,
    seconds: u64,
    seed: u64,
    shards: u16,
    configuration: Option<String>,
    directory: PathBuf,
    /// Cuts the power too: what was not synced is lost with the process.
    is_power_cut: bool,
    /// Each life has its shards, configuration and disk from [`variant`].
    is_mixed: bool,
    /// Kills nobody: what is wrong then is wrong with the server as it runs, or with the model.
    is_calm: bool,
}

fn option(name: &str) -> Option<String> {
    std::env::args().skip_while(|word| word != name).nth(1)
}

impl Options {
    fn read() -> Self {
        let number = |name: &str, default: u64| {
            option(name).map_or(default, |word| word.parse().expect("a number"))
        };
        Self {
            rounds: number("--rounds", 5),
            from: number("--from", 0),
            seconds: number("--seconds", u64::MAX),
            seed: number("--seed", 1),
            shards: u16::try_from(number("--shards", 2)).expect("a number of shards"),
            configuration: option("--config")
                .map(|file| std::fs::read_to_string(file).expect("a configuration")),
            directory: option("--dir").map_or_else(std::env::temp_dir, PathBuf::from),
            is_power_cut: option("--disk").is_some_and(|disk| match disk.as_str() {
                "power-cut" => true,
                "real" => false,
                other => panic!("--disk {other}: real and power-cut are known"),
            }),
            is_mixed: std::env::args().any(|word| word == "--mix"),
            is_calm: std::env::args().any(|word| word == "--calm"),
        }
    }

    /// Of what kind the life with that number is.
    fn variant(&self, life: usize) -> Variant {
        if self.is_mixed {
            return Variant::of(life);
        }
        Variant {
            name: "given",
            shards: self.shards,
            configuration: self.configuration.clone(),
            is_power_cut: self.is_power_cut,
        }
    }
}

/// One data directory, the server on it and its clients.
struct Life {
    options: ServerOptions,
    server: Option<Server>,
    scene: Scene,
    power: Option<PowerCut>,
    _directory: TempDir,
}

impl Life {
    /// None where the disk that is wanted cannot be had.
    fn begin(options: &Options, variant: &Variant, seed: u64) -> Option<Self> {
        let directory = tempfile::tempdir_in(&options.directory).expect("a temporary directory");
        let power = if variant.is_power_cut {
            Some(PowerCut::mount(seed)?)
        } else {
            None
        };
        let data_dir = power
            .as_ref()
            .map_or(directory.path(), PowerCut::path)
            .join("data");
        std::fs::create_dir(&data_dir).expect("a data directory");
        // Its own name is the operator's to keep.
        let above = data_dir
            .parent()
            .and_then(|above| std::fs::File::open(above).ok());
        above
            .expect("a directory above it")
            .sync_all()
            .expect("it can be synced");
        let port =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
        let port = port.expect("a free port").port();
        let mut server = ServerOptions::new()
            .shards(variant.shards)
            .mqtt_port(port)
            .data_dir(&data_dir);
        let toml = variant.configuration.as_deref().unwrap_or_default();
        let toml = format!(
            "{}\n{}",
            variant::with_key(toml, directory.path()),
            stream::CONFIGURATION
        );
        server = server.configuration(&toml);
        let running = server.clone().start();
        let mut scene = Scene::new(port, Arc::new(AtomicU64::new(0)));
        scene.gather();
        Some(Self {
            options: server,
            server: Some(running),
            scene,
            power,
            _directory: directory,
        })
    }

    /// Kills the server where it stands and starts the next on what it left.
    fn kill(&mut self) -> Result<(), String> {
        // Dropping it is SIGKILL and waiting for its end.
        self.server = None;
        if let Some(power) = &self.power {
            power.cut();
        }
        self.scene.next_era();
        let options = self.options.clone();
        let started = catch_unwind(AssertUnwindSafe(|| options.start()));
        self.server = Some(started.map_err(|_| "the server does not start again".to_owned())?);
        Ok(())
    }

    /// One round; what went wrong in it.
    fn round(&mut self, plan: &Plan, is_calm: bool) -> Vec<String> {
        self.scene.publish(plan.round);
        let start = Instant::now();
        let mut steps = plan.steps.iter().peekable();
        while start.elapsed() < plan.load {
            while let Some(step) = steps.next_if(|step| step.at <= start.elapsed()) {
                match step.what {
                    plan::What::Leave { which, is_polite } => self.scene.leave(which, is_polite),
                    plan::What::Sleep => self.scene.sleep(),
                    plan::What::ChangeFilters => self.scene.change_filters(plan.round),
                }
            }
            self.scene.publish_line();
            self.scene.hear();
            thread::sleep(plan::LINE_EVERY.min(plan.load.saturating_sub(start.elapsed())));
        }
        self.scene.end_mpubs();
        let kills = [Some(Duration::ZERO), plan.kill_again_after];
        let kills = if is_calm { &[][..] } else { &kills[..] };
        if !is_calm {
            self.server = None;
        }
        self.scene.remember_kept();
        for after in kills.iter().flatten().copied() {
            thread::sleep(after);
            if let Err(failure) = self.kill() {
                return vec![failure];
            }
        }
        self.scene.look(plan.round);
        self.scene.return_all(plan.wakes_sleeper);
        self.scene.pause();
        self.scene.judge(self.server.as_ref(), plan.round)
    }
}

fn main() -> ExitCode {
    let options = Options::read();
    let start = Instant::now();
    let (mut kills, mut lives) = (0, 0_usize);
    let (mut acked, mut received, mut repeated) = (0, 0, 0);
    let mut failed = Vec::new();
    let mut findings = Vec::new();
    let mut variants = BTreeMap::new();
    let mut next = options.from;
    let goes_on = |next: u64, failed: &Vec<u64>| {
        next < options.from + options.rounds
            && start.elapsed() < Duration::from_secs(options.seconds)
            && failed.len() < FAILURES_MAX
    };
    while goes_on(next, &failed) {
        let variant = options.variant(lives);
        let Some(mut life) = Life::begin(&options, &variant, options.seed ^ next) else {
            if options.is_mixed {
                lives += 1;
                continue;
            }
            findings.push("the disk cannot be had here".to_owned());
            failed.push(next);
            break;
        };
        lives += 1;
        let life_rounds = if options.is_mixed {
            (options.rounds / variant::KINDS).clamp(1, LIFE_ROUNDS_MIXED)
        } else {
            LIFE_ROUNDS
        };
        let end = next + life_rounds;
        let began = next;
        let mut is_good = true;
        while is_good && next < end && goes_on(next, &failed) {
            let plan = Plan::new(options.seed, next);
            let wrong = life.round(&plan, options.is_calm);
            if !options.is_calm {
                kills += 1 + u64::from(plan.kill_again_after.is_some());
            }
            is_good = wrong.is_empty();
            if !is_good {
                failed.push(next);
                eprintln!(
                    "round {next} failed ({}); again: --seed {} --from {next} --rounds 1",
                    variant.name, options.seed
                );
                if let Some(server) = &life.server {
                    eprintln!("--- the server said ---\n{}\n---", server.log());
                }
            }
            for what in wrong.into_iter().take(FINDINGS_MAX) {
                eprintln!("round {next}: {what}");
                findings.push(format!("round {next} ({}): {what}", variant.name));
            }
            next += 1;
            if next.is_multiple_of(10) {
                eprintln!(
                    "{next} rounds, {} failed, {:.0} s",
                    failed.len(),
                    start.elapsed().as_secs_f64()
                );
            }
        }
        *variants.entry(variant.name).or_insert(0) += next - began;
        let counts = life.scene.counts();
        acked += counts.acked;
        received += counts.received;
        repeated += counts.repeated;
    }
    let line = json!({
        "seed": options.seed,
        "from": options.from,
        "rounds": next - options.from,
        "next": next,
        "seconds": start.elapsed().as_secs(),
        "shards": options.shards,
        "disk": if options.is_power_cut { "power-cut" } else { "real" },
        "configuration": options.configuration,
        "rounds_by_variant": variants,
        "lives": lives,
        "kills": kills,
        "acknowledged": acked,
        "received": received,
        "repeated_at_qos_1": repeated,
        "failures": failed.len(),
        "failed_rounds": failed,
        "findings": findings,
    });
    println!("{line}");
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

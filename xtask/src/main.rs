//! Everything a developer runs, as `cargo xtask TASK`; `cargo xtask help` teaches.
//!
//! Each task is one module. What is deliberately not here: anything the server needs to build or run.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

mod arguments;
mod bench;
mod conformance;
mod crash;
mod failure;
mod fuzz;
mod lint;
mod measured;
mod process;
mod repository;
mod rust_source;
mod sanitize;
mod setup;
mod simulate;
mod test;

use std::process::ExitCode;

use arguments::Arguments;
use failure::Failure;
use repository::Repository;

const HELP: &str = "\
cargo xtask TASK: everything a developer runs

  test                         all that CI runs: setup, fmt, lint, clippy, tests, clients, fuzz; 15 to 30 minutes cold
  setup                        installs what the tests with real clients need (apt, pip into .venv, npm)
  lint                         checks the house: crate arrows, I/O, file length, fuzz targets, settings, metrics, left-overs
  fuzz [TARGET]                mutates the corpus against every fuzz target, or one; --seconds N (60 in all), --seed S
  conformance                  writes docs/conformance.md from the statement lists and the tests; --check only compares
  simulate                     the core's deterministic simulation, each suite (promises, groups) or --suite NAME, at least
                               --seeds N (300) and --minutes M (3), --from SEED
  sanitize                     the tests of what calls C through `unsafe`, under AddressSanitizer, the C code included
  crash                        kills a server under load at random moments, starts it again and checks what clients then
                               get; --rounds N (5; from 100 on a line is kept), --seconds S, --seed K, --from ROUND,
                               --shards N, --config FILE, --dir DIRECTORY, --disk real|power-cut,
                               --mix (lives of all kinds of stores and disks in turn), --debug (no release build),
                               --calm (kills nobody), --json (keeps nothing)
  bench                        runs the benchmarks and appends a JSON line to docs/evidence/bench.jsonl;
                               --seconds N per phase (3), --macro-only, --print (appends nothing)
  bench storm                  what storms of connections do to live traffic, and what a TLS handshake costs;
                               --rounds N (5), --seconds N per quiet phase (2), --clients N, --tls-clients N, --print
  bench sealing                what sealing and opening a message costs, beside AES-256-GCM in place; --print;
                               exit code 1 if a goal is missed
  bench store-start            how soon a server with a long log and many sessions is ready, and what it reads;
                               --log-gb N (10), --sessions N (1,000,000), --debtors N, --payload BYTES, --tail-mb N,
                               --shards N (2). This and those below: --dir DIRECTORY on the disk that counts,
                               --json (appends nothing), exit code 1 if a goal is missed
  bench store-owed             memory and disk of messages owed to offline sessions, to all of them and to each alone;
                               --sessions N (1,000), --messages N (1,000,000), --seconds-max N (300)
  bench store-drain            what live traffic feels when offline sessions come back at once; --sessions N (1,000),
                               --messages N for each (2,000), --rounds N (5), --seconds N per quiet phase (10)
  bench store-segments         how much disk a session holds that is away while segments pass; --segments N (10),
                               --one-in N messages for it (20)
  bench durable                QoS 1 between sessions that outlive their connections, with syncs and without, and beside
                               mosquitto and nats-server with theirs; --rounds N (3), --seconds N (5)
  bench history                what live traffic feels while a stream's past is read; --readers N (100), --bytes N of the
                               stream (10,000,000,000), --payload BYTES (1,024), --rounds N (6), --seconds N per phase (10)
  bench history-warm           how fast one subscriber gets what is in memory; --bytes N (1,000,000,000),
                               --payload BYTES (4,096), --rounds N (5)
  bench stream-seek            how soon the first message comes by offset and by time; --records N (100,000,000),
                               --payload BYTES (16), --seeks N (100)
  help                         this text

One test only:                 cargo test -p waypost-tests --test conformance_5 will
One fuzz target, two minutes:  cargo xtask fuzz mqtt_packet --seconds 120
A failed simulation again:     cargo xtask simulate --suite groups --seeds 1 --minutes 0 --from 4711
";

fn main() -> ExitCode {
    let mut arguments = Arguments::new(std::env::args().skip(1));
    let task = arguments.positional().unwrap_or_else(|| "help".to_owned());
    match run(&task, arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask {task}: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: &str, arguments: Arguments) -> Result<(), Failure> {
    let root = repository::root()?;
    match task {
        "test" => arguments.finish().and_then(|()| test::run(&root)),
        "setup" => arguments.finish().and_then(|()| setup::run(&root)),
        "lint" => arguments
            .finish()
            .and_then(|()| lint::run(&Repository::read(&root)?)),
        "fuzz" => fuzz::run(&root, arguments),
        "conformance" => conformance::run(&root, arguments),
        "simulate" => simulate::run(&root, arguments),
        "sanitize" => sanitize::run(&root, arguments),
        "crash" => crash::run(&root, arguments),
        "bench" => bench::run(&root, arguments),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        _ => Err(Failure::new(format!(
            "no such task; `cargo xtask help` lists them\n\n{HELP}"
        ))),
    }
}

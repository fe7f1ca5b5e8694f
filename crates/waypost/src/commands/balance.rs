//! `waypost balance simulate`: the strategies side by side, in scenarios or on recorded arrivals.

mod page;

use std::io;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use serde_json::{Map, Value, json};
use waypost_balance::simulate::{
    Estimate, Options, Recorded, Row, Scenario, find_scenario, scenarios, simulate,
    simulate_recorded, tempo,
};
use waypost_balance::{Strategy, find, registry};

use super::output::{Align, Cell, table};
use super::replay::pace::parse_time;
use super::replay::records::{Record, RecordError, Records};
use super::simulate::{Asked, progress};
use crate::Failure;
use crate::failure::colour;

const EXAMPLES: &str = "\
Examples:
  waypost balance simulate                        every strategy in every scenario
  waypost balance simulate --scenario slow-member
  waypost balance simulate --scenario mm8 --strategy random,power-of-two,least-connections --load 0.95
  waypost balance simulate --arrivals orders.jsonl.gz --time-field ts --key-field customer
  waypost balance simulate --arrivals chat.jsonl --time-field ts --speed 1 --service-ms 250 --members 3
  waypost balance simulate --json | jq '.[] | select(.strategy == \"ordered\")'

Scenarios:
  mm8          eight members alike, load 0.8
  weights      three members, weights and speeds 1:2:4
  slow-member  eight members, one ten times slower
  pareto       work by Pareto 1.5: a few messages take very long
  churn        every 5 s one of eight members leaves for 5 s
  zipf         keys by Zipf 1.1: one has 15 % of the messages

What the columns say:
  wait         from a message's arrival until a member begins with it: half of the messages waited no
               longer than p50, 99 of 100 no longer than p99
  imbalance    the part of the messages that would have to go to another member for everybody to have
               what its weight says; 0 is even, and not always what is best
  order kept   the part of the messages that were done before any later one of their key
  ±            the 95 % confidence interval; * marks what lies within that of the best

Members work on one message at a time; --credit messages may be in flight to one: 64 is the server's
limits.group_credit_max, a client's Receive Maximum may say less. With credit 1 messages wait in the
group and strategies differ little; the more credit, the more the choice matters.

Exit codes: 0 done; 2 a wrong argument, file or record.";

/// Recorded messages that are taken; all of them are in memory.
const RECORDS_MAX: usize = 1_000_000;
const MEMBERS_MAX: u32 = 1_000;
const MESSAGES_MIN: u32 = 100;
const MESSAGES_MAX: u32 = 10_000_000;
const RUNS_MAX: u32 = 1_000;
const LOAD_MAX: f64 = 10.0;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Play groups with every strategy: waits, imbalance, order
    Simulate(SimulateArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
struct SimulateArgs {
    /// The situation, or `all`
    #[arg(
        long,
        value_name = "NAME",
        default_value = "all",
        conflicts_with = "arrivals"
    )]
    scenario: String,
    /// Recorded arrivals instead: JSON lines or CSV, gzip'd or not; `-`: standard input
    #[arg(long, value_name = "FILE", requires = "time_field")]
    arrivals: Option<PathBuf>,
    /// The field with a record's time: RFC 3339, zone and seconds optional, or a number since 1970
    #[arg(long, value_name = "FIELD", requires = "arrivals")]
    time_field: Option<String>,
    /// The field whose order matters, such as a customer [default: no two records belong together]
    #[arg(long, value_name = "FIELD", requires = "arrivals")]
    key_field: Option<String>,
    /// Members, 1 to 1,000 [default: the scenario's; 8 for recorded arrivals]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MEMBERS_MAX)))]
    members: Option<u32>,
    /// Work that arrives ÷ work the members can do [default: the scenario's; 0.7 for recorded arrivals]
    #[arg(long, value_name = "X", value_parser = parse_load)]
    load: Option<f64>,
    /// Mean time a member works on a message
    #[arg(long, value_name = "MS", default_value_t = 10.0, value_parser = parse_positive)]
    service_ms: f64,
    /// Play the recording X times as fast as it was recorded [default: as fast as makes the load]
    #[arg(
        long,
        value_name = "X",
        requires = "arrivals",
        conflicts_with = "load",
        value_parser = parse_positive
    )]
    speed: Option<f64>,
    /// Messages in flight to a member, at most
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..))]
    credit: u64,
    /// Messages of a run, 100 to 10,000,000
    #[arg(long, value_name = "N", default_value_t = 50_000, conflicts_with = "arrivals",
        value_parser = clap::value_parser!(u32).range(i64::from(MESSAGES_MIN)..=i64::from(MESSAGES_MAX)))]
    messages: u32,
    /// Runs of each strategy, 2 to 1,000: more make the intervals narrower
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=i64::from(RUNS_MAX)))]
    runs: u32,
    /// Everything random comes from it: the same seed gives the same figures
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    asked: Asked,
}

fn parse_positive(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if number.is_finite() && number > 0.0 {
        Ok(number)
    } else {
        Err("must be above 0".to_owned())
    }
}

fn parse_load(text: &str) -> Result<f64, String> {
    parse_positive(text).and_then(|load| {
        (load <= LOAD_MAX)
            .then_some(load)
            .ok_or_else(|| format!("must be at most {LOAD_MAX}; 1 is all that the members can do"))
    })
}

/// One table's rows and what stands above them.
struct Part {
    title: String,
    rows: Vec<Row>,
}

pub fn run(arguments: &Args) -> Result<(), Failure> {
    let Action::Simulate(arguments) = &arguments.action;
    let all = || registry().iter().collect();
    let strategies = arguments.asked.strategies(all, find)?;
    let parts = match &arguments.arrivals {
        Some(file) => vec![arguments.play_recorded(file, &strategies)?],
        None => arguments.play_scenarios(&strategies)?,
    };
    let rows = parts.iter().flat_map(|part| &part.rows);
    let rows: Value = rows.map(as_json).collect();
    let is_coloured = colour(&io::stdout());
    let tables: Vec<_> = parts.iter().map(|part| part.to_text(is_coloured)).collect();
    let page = page::page(&parts);
    arguments.asked.answer(&rows, &tables.join("\n"), &page)
}

impl SimulateArgs {
    fn scenarios(&self) -> Result<Vec<&'static Scenario>, Failure> {
        if self.scenario == "all" {
            return Ok(scenarios().iter().collect());
        }
        let scenario =
            find_scenario(&self.scenario).map_err(|error| Failure::usage(error.to_string()))?;
        if self.members.is_some() && !scenario.takes_members() {
            let name = scenario.name;
            return Err(Failure::usage(format!(
                "--members: the members of {name} are given"
            )));
        }
        Ok(vec![scenario])
    }

    fn options(&self) -> Options {
        Options {
            seed: self.seed,
            runs: self.runs,
            messages: self.messages,
            credit: self.credit,
            members: self.members,
            load: self.load,
            service_ms: self.service_ms,
            speed: self.speed,
        }
    }

    fn play_scenarios(&self, strategies: &[&'static Strategy]) -> Result<Vec<Part>, Failure> {
        let options = self.options();
        let chosen = self.scenarios()?;
        let progress = self.progress(strategies.len() * chosen.len());
        let parts = chosen
            .into_iter()
            .map(|scenario| {
                progress.set_message(scenario.name);
                let rows = simulate(scenario, strategies, &options, &mut || progress.inc(1));
                Part {
                    title: format!("{}: {}", scenario.name, scenario.summary),
                    rows,
                }
            })
            .collect();
        progress.finish_and_clear();
        Ok(parts)
    }

    fn play_recorded(
        &self,
        file: &Path,
        strategies: &[&'static Strategy],
    ) -> Result<Part, Failure> {
        let recorded = self.read(file)?;
        let progress = self.progress(strategies.len());
        progress.set_message("recorded arrivals");
        let options = self.options();
        let (speed, load) = tempo(&recorded, &options);
        let rows = simulate_recorded("arrivals", &recorded, strategies, &options, &mut || {
            progress.inc(1);
        });
        progress.finish_and_clear();
        Ok(Part {
            title: format!(
                "{}: {} messages of {} keys in {}, played {speed:.3} times as fast: load {load:.2}",
                file.display(),
                recorded.messages(),
                recorded.keys(),
                span(recorded.span_ms())
            ),
            rows,
        })
    }

    fn read(&self, file: &Path) -> Result<Recorded, Failure> {
        let broken = |error: RecordError| Failure::usage(error.to_string());
        let mut records = Records::open(file, None).map_err(broken)?;
        let mut read = Vec::new();
        while let Some(record) = records.next() {
            if read.len() == RECORDS_MAX {
                eprintln!(
                    "{}: only the first {RECORDS_MAX} records are played",
                    file.display()
                );
                break;
            }
            let record = record.map_err(broken)?;
            let line = record.line;
            let one = self
                .time_and_key(&record)
                .map_err(|reason| broken(records.bad(line, reason)))?;
            read.push(one);
        }
        Recorded::new(read).map_err(|error| Failure::usage(format!("{}: {error}", file.display())))
    }

    #[allow(
        clippy::cast_precision_loss,
        reason = "milliseconds since 1970, in 53 bits"
    )]
    fn time_and_key(&self, record: &Record) -> Result<(f64, String), String> {
        let field = |name: &str| record.field(name).map_err(|error| error.to_string());
        let name = self.time_field.as_deref().unwrap_or_default();
        let time = field(name).map_err(|error| format!("--time-field: {error}"))?;
        let time = parse_time(time)
            .ok_or_else(|| format!("--time-field: not a time in `{name}`: {time}"))?;
        let key = match &self.key_field {
            // No two records belong together: each line is a key of its own.
            None => record.line.to_string(),
            Some(name) => match field(name).map_err(|error| format!("--key-field: {error}"))? {
                Value::String(key) => key.clone(),
                other => other.to_string(),
            },
        };
        Ok((time.as_nanosecond() as f64 / 1e6, key))
    }

    fn progress(&self, plays: usize) -> ProgressBar {
        progress(self.runs as usize * plays)
    }
}

fn span(ms: f64) -> String {
    let units = [
        (86_400_000.0, "days"),
        (3_600_000.0, "h"),
        (60_000.0, "min"),
        (1_000.0, "s"),
    ];
    let (unit_ms, unit) = units
        .into_iter()
        .find(|(unit_ms, _)| ms >= 2.0 * unit_ms)
        .unwrap_or((1.0, "ms"));
    format!("{:.1} {unit}", ms / unit_ms)
}

fn as_json(row: &Row) -> Value {
    let mut object = Map::new();
    object.insert("strategy".into(), json!(row.strategy));
    object.insert("scenario".into(), json!(row.scenario));
    object.insert("runs".into(), json!(row.runs));
    object.insert("messages".into(), json!(row.messages));
    let mut figure = |name: &str, interval: &str, estimate: Estimate| {
        object.insert(name.into(), rounded(estimate.mean));
        object.insert(interval.into(), rounded(estimate.ci95));
    };
    figure("wait_mean_ms", "wait_mean_ci95_ms", row.wait_mean_ms);
    figure("wait_p50_ms", "wait_p50_ci95_ms", row.wait_p50_ms);
    figure("wait_p99_ms", "wait_p99_ci95_ms", row.wait_p99_ms);
    figure("imbalance", "imbalance_ci95", row.imbalance);
    figure("order_kept", "order_kept_ci95", row.order_kept);
    figure(
        "throughput_per_s",
        "throughput_ci95_per_s",
        row.throughput_per_s,
    );
    Value::Object(object)
}

/// Six places: more would be noise.
fn rounded(number: f64) -> Value {
    json!((number * 1e6).round() / 1e6)
}

/// A column of figures: how to read it from a row, how to write it, and whether less is better.
struct Column {
    title: &'static str,
    figure: fn(&Row) -> Estimate,
    /// The unit's part of one: 100 for per cent.
    scale: f64,
    places: usize,
    is_less_better: bool,
}

const COLUMNS: [Column; 5] = [
    Column {
        title: "wait p50 ms",
        figure: |row| row.wait_p50_ms,
        scale: 1.0,
        places: 1,
        is_less_better: true,
    },
    Column {
        title: "wait p99 ms",
        figure: |row| row.wait_p99_ms,
        scale: 1.0,
        places: 1,
        is_less_better: true,
    },
    Column {
        title: "imbalance %",
        figure: |row| row.imbalance,
        scale: 100.0,
        places: 1,
        is_less_better: true,
    },
    Column {
        title: "order kept %",
        figure: |row| row.order_kept,
        scale: 100.0,
        places: 2,
        is_less_better: false,
    },
    Column {
        title: "messages/s",
        figure: |row| row.throughput_per_s,
        scale: 1.0,
        places: 1,
        is_less_better: false,
    },
];

impl Part {
    fn soonest_first(&self) -> Vec<&Row> {
        let mut rows: Vec<_> = self.rows.iter().collect();
        rows.sort_by(|a, b| a.wait_p99_ms.mean.total_cmp(&b.wait_p99_ms.mean));
        rows
    }

    fn to_text(&self, is_coloured: bool) -> String {
        let rows = self.soonest_first();
        let mut cells: Vec<_> = rows
            .iter()
            .map(|row| vec![Cell::new(row.strategy)])
            .collect();
        let mut head = vec![("strategy", Align::Left)];
        for column in &COLUMNS {
            head.push((column.title, Align::Right));
            let best = column.best(&rows);
            for ((cells, row), is_best) in cells.iter_mut().zip(&rows).zip(best) {
                cells.push(Cell::best(column.text((column.figure)(row)), is_best));
            }
        }
        let runs = rows.first().map_or_else(String::new, |row| {
            format!("{} runs of {} messages", row.runs, row.messages)
        });
        format!(
            "{}\n{runs}\n{}",
            self.title,
            table(&head, &cells, is_coloured)
        )
    }
}

impl Column {
    fn text(&self, estimate: Estimate) -> String {
        let places = self.places;
        let (mean, ci95) = (estimate.mean * self.scale, estimate.ci95 * self.scale);
        format!("{mean:.places$} ±{ci95:.places$}")
    }

    /// Which rows can hardly be told from the best: they lie within its interval. None where that is all of them.
    fn best(&self, rows: &[&Row]) -> Vec<bool> {
        let sign = if self.is_less_better { 1.0 } else { -1.0 };
        let figures: Vec<_> = rows.iter().map(|row| (self.figure)(row)).collect();
        let best = figures
            .iter()
            .min_by(|a, b| (sign * a.mean).total_cmp(&(sign * b.mean)));
        let limit = best.map_or(0.0, |best| sign * best.mean + best.ci95);
        let marks: Vec<_> = figures
            .iter()
            .map(|figure| sign * figure.mean <= limit)
            .collect();
        let is_all = marks.iter().all(|mark| *mark);
        marks.into_iter().map(|mark| mark && !is_all).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(strategy: &'static str, mean: f64, ci95: f64) -> Row {
        let estimate = Estimate { mean, ci95 };
        Row {
            strategy,
            scenario: "s",
            runs: 2,
            messages: 100,
            wait_mean_ms: estimate,
            wait_p50_ms: estimate,
            wait_p99_ms: estimate,
            imbalance: Estimate::default(),
            order_kept: estimate,
            throughput_per_s: estimate,
        }
    }

    #[test]
    fn what_lies_within_the_interval_of_the_best_is_marked() {
        let rows = [
            row("a", 10.0, 0.5),
            row("b", 10.4, 0.1),
            row("c", 12.0, 0.1),
        ];
        let rows: Vec<_> = rows.iter().collect();
        assert_eq!(
            COLUMNS[0].best(&rows),
            [true, true, false],
            "less is better"
        );
        assert_eq!(
            COLUMNS[3].best(&rows),
            [false, false, true],
            "more is better, and 10.4 does not come near 12 ± 0.1"
        );
        assert_eq!(COLUMNS[2].best(&rows), [false; 3], "all the same: no mark");
    }

    #[test]
    fn spans_have_a_unit_that_fits() {
        for (ms, expect) in [
            (12.0, "12.0 ms"),
            (90_000.0, "90.0 s"),
            (7_200_000.0, "2.0 h"),
            (32e9, "370.4 days"),
        ] {
            assert_eq!(span(ms), expect);
        }
    }
}

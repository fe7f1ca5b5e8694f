//! The scenarios, one row each, and the model that a row and the options make.

use super::Options;
use super::arrivals::{Arrivals, Keys, Recorded, Work, poisson};

/// A situation that strategies are compared in.
#[derive(Debug)]
pub struct Scenario {
    /// What it is called.
    pub name: &'static str,
    /// What it is, in one line.
    pub summary: &'static str,
    pub(super) stations: Stations,
    pub(super) load: f64,
    pub(super) work: Work,
    pub(super) keys: Keys,
    pub(super) churn: Option<Churn>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Stations {
    Alike(u32),
    /// As many, the last of them so much slower.
    OneSlower(u32, f64),
    /// Weights that the speeds follow.
    Weighted(&'static [u32]),
}

/// One member after the other leaves and comes back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Churn {
    pub every_ns: u64,
    pub away_ns: u64,
}

const KEYS: u32 = 10_000;
pub(super) const CHURN: Churn = Churn {
    every_ns: 5_000_000_000,
    away_ns: 5_000_000_000,
};

/// Who gets recorded messages, unless told otherwise.
const RECORDED_MEMBERS: u32 = 8;
const RECORDED_LOAD: f64 = 0.7;

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "mm8",
        summary: "M/M/8: eight members alike, load 0.8",
        stations: Stations::Alike(8),
        load: 0.8,
        work: Work::Exponential,
        keys: Keys::Uniform(KEYS),
        churn: None,
    },
    Scenario {
        name: "weights",
        summary: "three members, weights and speeds 1:2:4, load 0.8",
        stations: Stations::Weighted(&[1, 2, 4]),
        load: 0.8,
        work: Work::Exponential,
        keys: Keys::Uniform(KEYS),
        churn: None,
    },
    Scenario {
        name: "slow-member",
        summary: "eight members, one ten times slower and nobody told so, load 0.7",
        stations: Stations::OneSlower(8, 10.0),
        load: 0.7,
        work: Work::Exponential,
        keys: Keys::Uniform(KEYS),
        churn: None,
    },
    Scenario {
        name: "pareto",
        summary: "eight members, work by Pareto 1.5 (a few messages take very long), load 0.7",
        stations: Stations::Alike(8),
        load: 0.7,
        work: Work::Pareto(1.5),
        keys: Keys::Uniform(KEYS),
        churn: None,
    },
    Scenario {
        name: "churn",
        summary: "eight members, every 5 s one leaves for 5 s, load 0.7",
        stations: Stations::Alike(8),
        load: 0.7,
        work: Work::Exponential,
        keys: Keys::Uniform(KEYS),
        churn: Some(CHURN),
    },
    Scenario {
        name: "zipf",
        summary: "eight members, 10,000 keys by Zipf 1.1 (one has 15 % of the messages), load 0.4",
        stations: Stations::Alike(8),
        load: 0.4,
        work: Work::Exponential,
        keys: Keys::Zipf(KEYS, 1.1),
        churn: None,
    },
];

/// Every scenario there is.
pub fn scenarios() -> &'static [Scenario] {
    SCENARIOS
}

/// A name that no scenario has.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("there is no scenario {0:?}; there are: {names}", names = every_name())]
pub struct UnknownScenario(
    /// The name that was asked for.
    pub String,
);

fn every_name() -> String {
    let names: Vec<_> = scenarios().iter().map(|scenario| scenario.name).collect();
    names.join(", ")
}

/// Finds a scenario; case, `_` and `-` do not matter.
pub fn find_scenario(name: &str) -> Result<&'static Scenario, UnknownScenario> {
    let wanted = waypost_names::plain(name);
    scenarios()
        .iter()
        .find(|scenario| waypost_names::plain(scenario.name) == wanted)
        .ok_or_else(|| UnknownScenario(name.to_owned()))
}

impl Scenario {
    /// Whether [`Options::members`] means something here.
    pub fn takes_members(&self) -> bool {
        !matches!(self.stations, Stations::Weighted(_))
    }
}

/// What a run is played on.
#[derive(Clone, Debug)]
pub(super) struct Model {
    /// Weight and speed of each member.
    pub stations: Vec<(u32, f64)>,
    pub load: f64,
    pub work: Work,
    pub keys: Keys,
    pub churn: Option<Churn>,
    /// Mean time that a member of speed 1 works on a message.
    pub service_ns: f64,
    /// How much faster than recorded a recording is played.
    pub speed: f64,
}

impl Model {
    pub fn new(scenario: &Scenario, options: &Options) -> Self {
        let stations = match scenario.stations {
            Stations::Alike(count) => alike(options.members.unwrap_or(count)),
            Stations::OneSlower(count, times) => {
                let mut stations = alike(options.members.unwrap_or(count));
                if let Some((_, speed)) = stations.last_mut() {
                    *speed /= times;
                }
                stations
            }
            Stations::Weighted(weights) => weights
                .iter()
                .map(|weight| (*weight, f64::from(*weight)))
                .collect(),
        };
        Self {
            stations,
            load: options.load.unwrap_or(scenario.load),
            work: scenario.work,
            keys: scenario.keys.clone(),
            churn: scenario.churn,
            service_ns: options.service_ms * 1e6,
            speed: 1.0,
        }
    }

    /// Members alike, and the recording as fast as makes the load, unless told how fast.
    #[allow(clippy::cast_precision_loss, reason = "a rate, not a count")]
    pub fn of_recording(recorded: &Recorded, options: &Options) -> Self {
        let stations = alike(options.members.unwrap_or(RECORDED_MEMBERS));
        let service_ns = options.service_ms * 1e6;
        let gap_ns = recorded.span_ms() * 1e6 / recorded.messages() as f64;
        // The load if it were played as recorded.
        let load = service_ns / (gap_ns * stations.len() as f64);
        let speed = options
            .speed
            .unwrap_or_else(|| options.load.unwrap_or(RECORDED_LOAD) / load);
        Self {
            stations,
            load: load * speed,
            work: Work::Exponential,
            keys: Keys::Uniform(0),
            churn: None,
            service_ns,
            speed,
        }
    }

    pub fn arrivals(&self, messages: u32, seed: u64) -> Arrivals {
        poisson(self, messages, seed)
    }

    /// Mean time between messages.
    pub fn gap_ns(&self) -> f64 {
        let speeds: f64 = self.stations.iter().map(|(_, speed)| speed).sum();
        self.service_ns / (self.load * speeds)
    }
}

fn alike(count: u32) -> Vec<(u32, f64)> {
    vec![(1, 1.0); count.max(1) as usize]
}

//! What a strategy does to the waiting time, the balance and the order of messages: a group of members played as discrete
//! events, strategy by strategy, on the same arrivals and the same work.
//!
//! **The model.** Messages arrive at a group. A member works on one message at a time and acknowledges it when done; up to
//! its credit of messages may be in flight to it, the others wait there. While nobody has credit, messages wait in the
//! group's queue; those that a strategy of affinity binds to a member wait for that member. So credit 1 is one queue
//! for all (M/M/c, where every strategy without affinity waits alike), unlimited credit a queue each (with `random`, M/M/1),
//! and what lies between is a broker's group: the larger the credit, the earlier a message is bound, and the more the choice
//! matters.
//!
//! Each figure is the mean of several runs, with the 95 % confidence interval that their scatter gives. All strategies of a
//! scenario see the same runs. `theory.rs` holds it against queueing theory.
//!
//! Deliberately not here: files and clocks (the caller reads recordings), networks (acknowledgements take no time).

mod arrivals;
mod figures;
mod group;
mod scenario;
#[cfg(test)]
mod theory;

pub use arrivals::{Recorded, RecordedError};
pub use figures::{Estimate, Row};
pub use scenario::{Scenario, UnknownScenario, find_scenario, scenarios};

use crate::Strategy;
use crate::hash::mix;
use figures::Run;
use group::play;
use scenario::Model;

/// How much is simulated, and on what.
#[derive(Clone, Debug)]
pub struct Options {
    /// Everything random comes from it.
    pub seed: u64,
    /// Runs of each strategy, at least 2; more make the intervals narrower.
    pub runs: u32,
    /// Messages of a run; of the first tenth the waits are left out (a recording is played whole).
    pub messages: u32,
    /// How many messages may be in flight to a member.
    pub credit: u64,
    /// Members instead of the scenario's; only where they are all alike.
    pub members: Option<u32>,
    /// Work that arrives ÷ work the members can do, instead of the scenario's.
    pub load: Option<f64>,
    /// Mean time a member of speed 1 works on a message.
    pub service_ms: f64,
    /// How much faster than recorded a recording is played, instead of what makes the load.
    pub speed: Option<f64>,
}

/// Mean time a member of speed 1 works on a message, unless told otherwise.
const SERVICE_MS: f64 = 10.0;

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            runs: 10,
            messages: 50_000,
            credit: 64,
            members: None,
            load: None,
            service_ms: SERVICE_MS,
            speed: None,
        }
    }
}

/// Plays a scenario with each of the strategies. `on_run` is told after each run of each.
pub fn simulate(
    scenario: &Scenario,
    strategies: &[&'static Strategy],
    options: &Options,
    on_run: &mut dyn FnMut(),
) -> Vec<Row> {
    let model = Model::new(scenario, options);
    rows(scenario.name, strategies, options, on_run, |run_seed| {
        (model.clone(), model.arrivals(options.messages, run_seed))
    })
}

/// How much faster than recorded a recording is played, and the load that this makes.
pub fn tempo(recorded: &Recorded, options: &Options) -> (f64, f64) {
    let model = Model::of_recording(recorded, options);
    (model.speed, model.load)
}

/// Plays recorded arrivals, on members that are all alike, with each of the strategies.
pub fn simulate_recorded(
    name: &'static str,
    recorded: &Recorded,
    strategies: &[&'static Strategy],
    options: &Options,
    on_run: &mut dyn FnMut(),
) -> Vec<Row> {
    let model = Model::of_recording(recorded, options);
    rows(name, strategies, options, on_run, |run_seed| {
        (model.clone(), recorded.arrivals(&model, run_seed))
    })
}

fn rows(
    name: &'static str,
    strategies: &[&'static Strategy],
    options: &Options,
    on_run: &mut dyn FnMut(),
    world: impl Fn(u64) -> (Model, arrivals::Arrivals),
) -> Vec<Row> {
    let mut runs: Vec<Vec<Run>> = strategies.iter().map(|_| Vec::new()).collect();
    for number in 0..options.runs.max(2) {
        let run_seed = mix(options.seed ^ mix(u64::from(number)));
        let (model, arrivals) = world(run_seed);
        for (strategy, runs) in strategies.iter().zip(&mut runs) {
            let played = play(&model, &arrivals, strategy, options.credit, run_seed);
            runs.push(Run::of(&model, played));
            on_run();
        }
    }
    strategies
        .iter()
        .zip(runs)
        .map(|(strategy, runs)| Row::of(strategy.name, name, &runs))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::arrivals::{Keys, Work};
    use super::scenario::{CHURN, Stations};
    use super::*;
    use crate::{find, registry};

    fn quick() -> Options {
        Options {
            runs: 2,
            messages: 3_000,
            ..Options::default()
        }
    }

    fn row(scenario: &str, strategy: &str, options: &Options) -> Row {
        let scenario = find_scenario(scenario).unwrap();
        simulate(scenario, &[find(strategy).unwrap()], options, &mut || {}).remove(0)
    }

    #[test]
    fn every_strategy_plays_every_scenario_and_a_seed_is_a_replay() {
        let strategies: Vec<_> = registry().iter().collect();
        for scenario in scenarios() {
            let mut runs = 0;
            let rows = simulate(scenario, &strategies, &quick(), &mut || runs += 1);
            assert_eq!(runs, 2 * registry().len());
            for row in &rows {
                assert_eq!(row.messages, 3_000, "{row:?}");
                assert!(row.throughput_per_s.mean > 0.0, "{row:?}");
                assert!((0.0..=1.0).contains(&row.imbalance.mean), "{row:?}");
                assert!((0.0..=1.0).contains(&row.order_kept.mean), "{row:?}");
                assert!(row.wait_p50_ms.mean <= row.wait_p99_ms.mean, "{row:?}");
            }
            let again = simulate(scenario, &strategies, &quick(), &mut || {});
            assert_eq!(rows, again, "{}", scenario.name);
        }
    }

    #[test]
    fn ordered_keeps_the_order_of_every_key_whoever_comes_or_goes() {
        let busy = Options {
            messages: 20_000,
            credit: u64::MAX,
            ..quick()
        };
        // Few keys, much waiting: whatever moves too early is overtaken.
        let churn = Scenario {
            name: "churn",
            summary: "",
            stations: Stations::Alike(8),
            load: 0.8,
            work: Work::Exponential,
            keys: Keys::Uniform(50),
            churn: Some(CHURN),
        };
        let order_kept = |scenario, strategy| {
            let strategies = [find(strategy).unwrap()];
            let rows = simulate(scenario, &strategies, &busy, &mut || {});
            rows[0].order_kept.mean
        };
        for scenario in [&churn, find_scenario("zipf").unwrap()] {
            assert!(order_kept(scenario, "ordered") >= 1.0);
            assert!(order_kept(scenario, "random") < 0.99);
        }
        assert!(
            order_kept(&churn, "hash-topic") < 1.0,
            "hashing alone moves a key at once"
        );
    }

    #[test]
    fn weights_and_slow_members_show() {
        let options = quick();
        assert!(
            row("weights", "weighted-round-robin", &options)
                .imbalance
                .mean
                < 0.01
        );
        let wait = |strategy| row("slow-member", strategy, &options).wait_p99_ms.mean;
        let (blind, seeing) = (wait("round-robin"), wait("least-connections"));
        assert!(seeing < blind / 2.0, "{seeing} beside {blind} ms");
    }
}

//! The simulation against queueing theory, where that has an answer.
//!
//! Method: means of ten runs with fixed seeds; the answer must lie within their 99 % confidence interval, and that interval
//! must be narrow enough to mean something.

use super::arrivals::{Keys, Work};
use super::scenario::{Scenario, Stations};
use super::{Options, Row, SERVICE_MS, simulate};
use crate::find;

/// Student's t for nine degrees of freedom: 99 % beside 95 %.
const CI99_BY_CI95: f64 = 3.250 / 2.262;

fn mean_wait(strategy: &str, stations: Stations, load: f64, credit: u64, messages: u32) -> Row {
    let scenario = Scenario {
        name: "theory",
        summary: "",
        stations,
        load,
        work: Work::Exponential,
        keys: Keys::Uniform(1_000),
        churn: None,
    };
    let options = Options {
        messages,
        credit,
        ..Options::default()
    };
    simulate(&scenario, &[find(strategy).unwrap()], &options, &mut || {}).remove(0)
}

/// `expect` in service times.
fn check(what: &str, row: &Row, expect: f64) {
    let mean = row.wait_mean_ms.mean / SERVICE_MS;
    let ci99 = row.wait_mean_ms.ci95 / SERVICE_MS * CI99_BY_CI95;
    assert!(
        (mean - expect).abs() <= ci99,
        "{what}, {}: {mean} ± {ci99} beside {expect}",
        row.strategy
    );
    assert!(
        ci99 <= 0.05 * (expect + 1.0),
        "{what}, {}: ± {ci99} says too little",
        row.strategy
    );
}

/// Mean wait of M/M/c in service times: Erlang's C ÷ (c − offered load).
fn erlang_c_wait(servers: u32, load: f64) -> f64 {
    let offered = f64::from(servers) * load;
    // Erlang's B by its recursion, then C.
    let blocked = (1..=servers).fold(1.0, |blocked, n| {
        offered * blocked / (f64::from(n) + offered * blocked)
    });
    let waits = blocked / (1.0 - load * (1.0 - blocked));
    waits / (f64::from(servers) - offered)
}

#[test]
fn erlang_c_is_the_tabulated_one() {
    // M/M/1: load ÷ (1 − load). M/M/2 at 0.8: 0.64 ÷ 0.36. M/M/8 at 0.8: C from its sum, by
    // Python.
    assert!((erlang_c_wait(1, 0.8) - 4.0).abs() < 1e-12);
    assert!((erlang_c_wait(2, 0.8) - 16.0 / 9.0).abs() < 1e-12);
    assert!((erlang_c_wait(8, 0.8) * 1.6 - 0.457_645).abs() < 1e-6);
}

/// With a credit of one nothing is bound before somebody is free: one queue for all, whatever chooses among the idle.
#[test]
fn credit_of_one_is_m_m_c() {
    for (strategy, servers, load) in [
        ("round-robin", 8, 0.8),
        ("weighted-round-robin", 3, 0.8),
        ("least-connections", 8, 0.7),
        ("random", 8, 0.8),
        ("power-of-two", 2, 0.7),
        ("least-latency", 4, 0.8),
        ("ip-hash", 8, 0.8),
    ] {
        let row = mean_wait(strategy, Stations::Alike(servers), load, 1, 30_000);
        check("M/M/c", &row, erlang_c_wait(servers, load));
    }
}

/// With no bound on what is in flight a random choice makes of one Poisson stream as many: M/M/1 each. With speeds as
/// weights each is as loaded, and waits in its own service times.
#[test]
fn a_random_split_is_m_m_1_each() {
    for load in [0.5, 0.8] {
        let row = mean_wait("random", Stations::Alike(8), load, u64::MAX, 60_000);
        check("M/M/1", &row, load / (1.0 - load));
    }
    let row = mean_wait(
        "random",
        Stations::Weighted(&[1, 2, 4]),
        0.7,
        u64::MAX,
        60_000,
    );
    // Share × wait: w ÷ 7 × 1 ÷ w × load ÷ (1 − load), summed over three members.
    check("M/M/1 by weight", &row, 3.0 / 7.0 * 0.7 / 0.3);
}

/// Turns give each member every eighth message: E₈/M/1, whose wait is σ ÷ (1 − σ) with σ the root of
/// σ = A*(μ (1 − σ)), A* the transform of eight exponential gaps (Kleinrock, Queueing Systems I, section 6.4).
#[test]
fn turns_are_e_8_m_1_each() {
    let load = 0.8;
    let rate = 8.0 * load;
    let sigma = (0..10_000).fold(0.5, |sigma: f64, _| (rate / (rate + 1.0 - sigma)).powi(8));
    for strategy in ["round-robin", "weighted-round-robin"] {
        let row = mean_wait(strategy, Stations::Alike(8), load, u64::MAX, 60_000);
        check("E8/M/1", &row, sigma / (1.0 - sigma));
    }
}

/// Joining the shorter of two queues: the stationary distribution of the chain (shorter, longer), cut off where it is
/// empty for all purposes and solved by sweeps.
fn shorter_of_two_wait(load: f64) -> f64 {
    const MAX: usize = 60;
    let arrive = 2.0 * load;
    let mut likely = vec![vec![0.0_f64; MAX + 1]; MAX + 1];
    likely[0][0] = 1.0;
    // Jumps of the uniformized chain: at most one arrival and two departures.
    let scale = arrive + 2.0;
    for _ in 0..3_000 {
        let mut next = vec![vec![0.0; MAX + 1]; MAX + 1];
        let mut add = |a: usize, b: usize, part: f64| next[a.min(b)][a.max(b)] += part;
        for (short, row) in likely.iter().enumerate() {
            for (long, here) in row.iter().enumerate() {
                let here = here / scale;
                if here < 1e-18 {
                    continue;
                }
                add((short + 1).min(MAX), long, here * arrive);
                add(short.saturating_sub(1), long, here);
                add(short, long.saturating_sub(1), here);
            }
        }
        likely = next;
    }
    // A message joins the shorter queue and waits for all that is in it (Poisson arrivals see the average).
    let rows = likely.iter().enumerate();
    #[allow(clippy::cast_precision_loss)]
    rows.map(|(short, row)| short as f64 * row.iter().sum::<f64>())
        .sum()
}

#[test]
fn least_connections_is_joining_the_shortest_queue() {
    for load in [0.5, 0.8] {
        let expect = shorter_of_two_wait(load);
        // Never better than one queue for both, never worse than a queue each.
        assert!(expect > erlang_c_wait(2, load) && expect < load / (1.0 - load));
        let row = mean_wait(
            "least-connections",
            Stations::Alike(2),
            load,
            u64::MAX,
            60_000,
        );
        check("JSQ of two", &row, expect);
    }
}

/// Of many members the shortest queue is nearly always an empty one: waits vanish, as for M/M/c.
#[test]
fn among_many_the_shortest_queue_is_empty() {
    let row = mean_wait(
        "least-connections",
        Stations::Alike(100),
        0.8,
        u64::MAX,
        20_000,
    );
    assert!(row.wait_mean_ms.mean < 0.01 * SERVICE_MS, "{row:?}");
}

/// The time in the system of the supermarket model with two choices, for infinitely many servers: Σ load^(2ⁱ − 2)
/// (Mitzenmacher 2001, corollary to theorem 3; Vvedenskaya, Dobrushin, Karpelevich 1996). He tabulates 1.2657 at 0.5, 1.6145 at
/// 0.7, 2.6141 at 0.9.
fn supermarket_wait(load: f64) -> f64 {
    (1..10).map(|i| load.powi(2_i32.pow(i) - 2)).sum::<f64>() - 1.0
}

#[test]
fn power_of_two_is_the_supermarket_model() {
    assert!((supermarket_wait(0.5) - 0.265_7).abs() < 1e-4);
    assert!((supermarket_wait(0.7) - 0.614_5).abs() < 1e-4);
    assert!((supermarket_wait(0.9) - 1.614_1).abs() < 1e-4);
    for (load, messages) in [(0.5, 40_000), (0.7, 60_000)] {
        let row = mean_wait(
            "power-of-two",
            Stations::Alike(400),
            load,
            u64::MAX,
            messages,
        );
        check("supermarket", &row, supermarket_wait(load));
    }
}

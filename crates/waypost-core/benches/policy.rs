//! What a look-up of policies costs, in nanoseconds of this thread: `cargo bench -p waypost-core --bench policy`

#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    missing_docs,
    reason = "a benchmark"
)]

use std::hint::black_box;
use std::time::Instant;

use waypost_core::{Policies, TopicPolicy};
use waypost_mqtt::Topic;

/// Look-ups per round; the best of the rounds is shown, the others met the neighbours.
const LOOK_UPS: usize = 200_000;
const ROUNDS: usize = 7;

fn main() {
    let literal = |number: usize| format!("site{number}/line/machine/state");
    let wildcard = |number: usize| format!("site{number}/+/machine/#");
    for (name, count, filter) in [
        ("no policies", 0, &literal as &dyn Fn(usize) -> String),
        ("10 with wildcards", 10, &wildcard),
        ("10,000 with wildcards", 10_000, &wildcard),
        ("10,000 literal", 10_000, &literal),
    ] {
        let policy = |number| TopicPolicy {
            filter: filter(number),
            balance: Some(waypost_balance::default_strategy()),
            ..TopicPolicy::default()
        };
        let mut all: Vec<TopicPolicy> = (0..count).map(policy).collect();
        if count > 0 {
            all.push(TopicPolicy {
                filter: "#".to_owned(),
                max_deliveries: Some(5),
                ..TopicPolicy::default()
            });
        }
        let policies = Policies::new(all).unwrap();
        let topics: Vec<String> = (0..1_000).map(|n| literal(n * 7 % count.max(1))).collect();
        let topics: Vec<Topic<'_>> = topics
            .iter()
            .map(|topic| Topic::parse(topic).unwrap())
            .collect();
        let round = || {
            let start = Instant::now();
            for topic in topics.iter().cycle().take(LOOK_UPS) {
                black_box(policies.for_topic(black_box(*topic)));
            }
            start.elapsed().as_nanos() as f64 / LOOK_UPS as f64
        };
        let best = (0..ROUNDS).map(|_| round()).fold(f64::MAX, f64::min);
        println!("{name}: {best:.0} ns a look-up by topic, four levels");
    }
}

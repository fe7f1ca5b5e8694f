//! What a verdict on a PUBLISH costs, in ns: `cargo bench -p waypost-auth --bench permit`. One line of JSON per case.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use waypost_auth::{Permissions, Rules};
use waypost_core::{Action, Permit, Verdict, Who};

const ROUNDS: usize = 7;
const CHECKS: u32 = 1_000_000;

/// Median over the rounds of what one call takes.
fn measure(name: &str, mut check: impl FnMut(u32)) {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            for number in 0..CHECKS {
                check(number);
            }
            start.elapsed().as_secs_f64() * 1e9 / f64::from(CHECKS)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    let ns = rounds.get(ROUNDS / 2).copied().unwrap_or_default();
    println!("{{\"case\":\"{name}\",\"ns_per_check\":{ns:.1}}}");
}

fn permissions(rules: &Rules) -> Permissions {
    Permissions::new(Arc::new(rules.clone()), 7, 10_000, Box::new(|| ()))
}

fn main() {
    use std::fmt::Write;
    let mut users = String::new();
    for number in 0..1_000 {
        let _ = write!(
            users,
            "[[user]]\nname = \"user-{number}\"\ncertificate = \"cn=user-{number}\"\n\
             allow = [\"chat/#\", \"inbox/%u/#\", \"sensors/+/%u\"]\n"
        );
    }
    let by_user: Rules = users.parse().unwrap_or_default();
    users.push_str("[[permission]]\naddress = \"10.0.0.0/8\"\npublish = \"devices/%c/#\"\n");
    let by_all: Rules = users.parse().unwrap_or_default();
    let topics: Vec<String> = (0..1_000)
        .map(|number| format!("sensors/building-{number}/user-500"))
        .collect();
    let who = Who {
        client_id: "waypost-client-000000001",
        user: Some("user-500"),
        address: "10.1.2.3:4567".parse().ok(),
        ticket: None,
    };
    let ask = |name: &str, rules: &Rules, topics: &[String]| {
        let mut permissions = permissions(rules);
        let count = u32::try_from(topics.len()).unwrap_or(1);
        measure(name, |number| {
            let topic = topics
                .get((number % count) as usize)
                .map_or("", String::as_str);
            let verdict = permissions.check(black_box(&who), Action::Publish, black_box(topic));
            assert_eq!(verdict, Verdict::Allow);
        });
    };
    ask(
        "cached, one topic",
        &by_user,
        topics.get(..1).unwrap_or_default(),
    );
    ask("cached, 1000 topics", &by_user, &topics);
    ask(
        "cached, one topic, by client id and address too",
        &by_all,
        topics.get(..1).unwrap_or_default(),
    );
    ask(
        "cached, 1000 topics, by client id and address too",
        &by_all,
        &topics,
    );
    let many: Vec<String> = (0..100_000)
        .map(|number| format!("sensors/building-{number}/user-500"))
        .collect();
    ask("never cached, 100000 topics", &by_user, &many);
    measure("judged without a cache", |number| {
        let topic = topics
            .get((number % 1_000) as usize)
            .map_or("", String::as_str);
        assert!(by_user.allow(black_box(&who), Action::Publish, black_box(topic)));
    });
    let open = Rules::open();
    ask("no users at all", &open, &topics);
}

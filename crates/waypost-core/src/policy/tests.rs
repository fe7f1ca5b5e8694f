//! Policies against their definition, written a second time and slowly.

use std::cmp::Ordering;

use proptest::collection::vec;
use proptest::prelude::{
    Just, ProptestConfig, Strategy, any, prop_assert_eq, prop_assert_ne, proptest,
};
use proptest::sample::select;
use waypost_balance::registry;

use super::*;

fn said(filter: &str, balance: Option<usize>, max_deliveries: Option<u32>) -> TopicPolicy {
    TopicPolicy {
        filter: filter.to_owned(),
        balance: balance.map(|index| &registry()[index]),
        max_deliveries,
        ..TopicPolicy::default()
    }
}

/// `(balance's place in the registry, max_deliveries)` for a filter.
fn check(policies: &[TopicPolicy], expect: &[(&str, Option<usize>, u32)]) {
    let policies = Policies::new(policies.to_vec()).unwrap();
    for (filter, balance, max_deliveries) in expect {
        let found = policies.for_filter(Filter::parse(filter).unwrap());
        let balance = balance.map_or(Policy::default().balance, |index| &registry()[index]);
        let expect = Policy {
            balance,
            max_deliveries: *max_deliveries,
            ..Policy::default()
        };
        assert_eq!(found, expect, "{filter}");
    }
}

#[test]
fn without_policies_the_defaults_hold() {
    check(&[], &[("a", None, 0), ("#", None, 0), ("$SYS/#", None, 0)]);
    let none = Policies::default();
    let topic = Topic::parse("a/b").unwrap();
    assert_eq!(none.for_topic(topic), Policy::default());
    assert_eq!(
        none.explain(Filter::parse("a").unwrap()),
        (Policy::default(), Sources::default())
    );
}

#[test]
fn the_most_specific_says_and_the_next_where_it_is_silent() {
    let policies = [
        said("#", Some(0), Some(9)),
        said("orders/#", None, Some(5)),
        said("orders/+/urgent", Some(1), None),
        said("orders/eu/+", Some(2), None),
        said("orders/eu/urgent", None, Some(1)),
        said("orders", Some(4), None),
    ];
    check(
        &policies,
        &[
            ("mail", Some(0), 9),
            ("orders", Some(4), 5),
            ("orders/#", Some(0), 5),
            ("orders/us/late", Some(0), 5),
            ("orders/us/urgent", Some(1), 5),
            ("orders/+/urgent", Some(1), 5),
            ("orders/eu/late", Some(2), 5),
            // The left counts first: eu/+ is more specific than +/urgent.
            ("orders/eu/urgent", Some(2), 1),
            ("orders/eu/+", Some(2), 5),
            ("orders/eu/#", Some(0), 5),
            ("#", Some(0), 9),
            ("+", Some(0), 9),
        ],
    );
}

#[test]
fn wildcards_do_not_speak_of_what_begins_with_a_dollar() {
    let policies = [
        said("#", Some(0), None),
        said("+/x", Some(1), None),
        said("$SYS/#", None, Some(3)),
        said("a/#", None, Some(4)),
    ];
    check(
        &policies,
        &[
            ("$SYS/x", None, 3),
            ("$SYS/#", None, 3),
            ("$other/x", None, 0),
            ("a/$x", Some(0), 4),
            ("+/x", Some(1), 0),
        ],
    );
}

#[test]
fn a_filter_is_covered_only_by_what_covers_all_of_it() {
    let policies = [
        said("+", None, Some(1)),
        said("a/+", None, Some(2)),
        said("+/#", Some(1), None),
        said("#", Some(2), None),
    ];
    check(
        &policies,
        &[
            ("a", Some(1), 1),
            ("+", Some(1), 1),
            ("a/+", Some(1), 2),
            ("a/#", Some(1), 0),
            ("+/+", Some(1), 0),
            // Every topic has a first level.
            ("#", Some(1), 0),
            ("/", Some(1), 0),
        ],
    );
}

#[test]
fn only_what_disagrees_is_a_conflict() {
    let twice = |one, other| Policies::new(vec![one, said("b", None, None), other]);
    assert!(twice(said("a/+", Some(0), None), said("a/+", Some(0), Some(1))).is_ok());
    assert!(twice(said("a/+", Some(0), None), said("+/a", Some(1), None)).is_ok());
    let conflict = |key| PolicyError::Conflict {
        policies: (0, 2),
        key,
    };
    assert_eq!(
        twice(said("a/#", Some(0), Some(1)), said("a/#", Some(1), Some(2))).unwrap_err(),
        [conflict("balance"), conflict("max_deliveries")]
    );
    let explained = twice(said("a", Some(0), None), said("a", None, Some(7))).unwrap();
    let (_, sources) = explained.explain(Filter::parse("a").unwrap());
    assert_eq!(
        sources,
        Sources {
            balance: Some(0),
            max_deliveries: Some(2),
            ..Sources::default()
        }
    );
}

#[test]
fn levels_are_bounded() {
    let deep = |levels: usize| said(&vec!["a"; levels].join("/"), None, None);
    assert!(Policies::new(vec![deep(LEVELS_MAX)]).is_ok());
    for levels in [LEVELS_MAX + 1, 2 * LEVELS_MAX] {
        assert_eq!(
            Policies::new(vec![deep(1), deep(levels)]).unwrap_err(),
            [PolicyError::TooManyLevels { policy: 1 }]
        );
    }
    // A topic may have as many as it likes.
    let policies = Policies::new(vec![said("+/#", Some(1), None)]).unwrap();
    let long = vec!["a"; 30_000].join("/");
    assert_eq!(
        policies.for_topic(Topic::parse(&long).unwrap()).balance,
        &registry()[1]
    );
}

#[test]
fn an_empty_dead_letter_takes_back_a_less_specific_one() {
    let policy = |filter: &str, dead_letter: &str| TopicPolicy {
        dead_letter: Some(dead_letter.into()),
        ..said(filter, None, None)
    };
    let policies = Policies::new(vec![
        policy("orders/#", "dead"),
        policy("orders/test/#", ""),
        said("orders/eu/#", None, Some(3)),
    ]);
    let policies = policies.unwrap();
    for (topic, expect) in [
        ("orders/7", Some("dead")),
        ("orders/eu/7", Some("dead")),
        ("orders/test/7", None),
        ("mail", None),
    ] {
        assert_eq!(policies.dead_letter_of(topic).as_deref(), expect, "{topic}");
    }
    let twins = Policies::new(vec![policy("a", "x"), policy("a", "y")]);
    assert_eq!(
        twins.unwrap_err(),
        [PolicyError::Conflict {
            policies: (0, 1),
            key: "dead_letter"
        }]
    );
}

/// As the design says it: level by level from the left, literal > `+` > `#`; what has ended is as specific as a literal.
fn compare(one: &str, other: &str) -> Ordering {
    let rank = |level: Option<&str>| match level {
        Some("#") => 0,
        Some("+") => 1,
        Some(_) | None => 2,
    };
    let (mut one, mut other) = (one.split('/'), other.split('/'));
    loop {
        let (a, b) = (one.next(), other.next());
        if a.is_none() && b.is_none() {
            return Ordering::Equal;
        }
        let order = rank(a).cmp(&rank(b));
        if order != Ordering::Equal {
            return order;
        }
    }
}

const NAMES: [&str; 3] = ["a", "b", "$s"];
const DEPTH: usize = 4;

/// Every topic there is in a small world.
fn topics() -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut row: Vec<String> = NAMES.map(str::to_owned).to_vec();
    for _ in 0..DEPTH {
        let next = row
            .iter()
            .flat_map(|topic| NAMES.map(|name| format!("{topic}/{name}")));
        let next = next.collect();
        all.append(&mut row);
        row = next;
    }
    all
}

fn matches(filter: &str, topic: &str) -> bool {
    Filter::parse(filter)
        .unwrap()
        .matches(Topic::parse(topic).unwrap())
}

/// Whether every topic of the small world that is for `filter` is for `policy` too.
fn covers(policy: &str, filter: &str, topics: &[String]) -> bool {
    topics
        .iter()
        .all(|topic| !matches(filter, topic) || matches(policy, topic))
}

fn a_filter() -> impl Strategy<Value = String> {
    // One level fewer than the topics, so that # always has something below it.
    vec(select(vec!["a", "b", "$s", "+", "+"]), 1..DEPTH)
        .prop_flat_map(|levels| (Just(levels), any::<bool>()))
        .prop_map(|(mut levels, is_open)| {
            if is_open {
                *levels.last_mut().unwrap() = "#";
            }
            levels.join("/")
        })
}

fn a_policy() -> impl Strategy<Value = TopicPolicy> {
    let strategies = proptest::option::of(0..registry().len().min(4));
    (a_filter(), strategies, proptest::option::of(1..4_u32))
        .prop_map(|(filter, balance, deliveries)| said(&filter, balance, deliveries))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Goal: look-ups do what the definition says, for filters and for topics.
    #[test]
    fn look_ups_agree_with_the_definition(
        mut policies in vec(a_policy(), 0..24),
        filters in vec(a_filter(), 1..8),
    ) {
        let topics = topics();
        // Of those that tie, only the first stays: conflicts have their own test.
        let mut seen = std::collections::BTreeSet::new();
        policies.retain(|policy| seen.insert(policy.filter.clone()));
        let built = Policies::new(policies.clone()).unwrap();
        let some_topics = topics.iter().step_by(7).cloned();
        for wanted in filters.into_iter().chain(some_topics) {
            let mut covering: Vec<usize> = (0..policies.len())
                .filter(|number| covers(&policies[*number].filter, &wanted, &topics))
                .collect();
            covering.sort_by(|a, b| compare(&policies[*b].filter, &policies[*a].filter));
            let filter = Filter::parse(&wanted).unwrap();
            prop_assert_eq!(&built.covering(filter), &covering, "{}", wanted);
            let first = |key: fn(&TopicPolicy) -> bool| {
                covering.iter().copied().find(|number| key(&policies[*number]))
            };
            let sources = Sources {
                balance: first(|policy| policy.balance.is_some()),
                max_deliveries: first(|policy| policy.max_deliveries.is_some()),
                ..Sources::default()
            };
            let (policy, found) = built.explain(filter);
            prop_assert_eq!(found, sources, "{}", wanted);
            prop_assert_eq!(
                policy.max_deliveries,
                sources.max_deliveries.map_or(0, |number| policies[number].max_deliveries.unwrap())
            );
            prop_assert_eq!(&built.for_filter(filter), &policy);
            if let Ok(topic) = Topic::parse(&wanted) {
                prop_assert_eq!(built.for_topic(topic), policy);
            }
        }
    }

    /// Goal: the policies that cover one topic are in one order, and only identical filters tie.
    #[test]
    fn specificity_is_a_total_order_on_what_covers_one_topic(
        filters in vec(a_filter(), 3..12),
        topic in select(topics()),
    ) {
        let covering: Vec<&String> = filters.iter().filter(|filter| matches(filter, &topic)).collect();
        for a in &covering {
            for b in &covering {
                prop_assert_eq!(compare(a, b), compare(b, a).reverse());
                prop_assert_eq!(compare(a, b) == Ordering::Equal, a == b, "{} {}", a, b);
                for c in &covering {
                    if compare(a, b) != Ordering::Less && compare(b, c) != Ordering::Less {
                        prop_assert_ne!(compare(a, c), Ordering::Less, "{} {} {}", a, b, c);
                    }
                }
            }
        }
    }

    /// Goal: a conflict is found exactly where a policy says something else than the first with its filter.
    #[test]
    fn every_conflict_is_found(policies in vec(a_policy(), 0..40)) {
        let mut expect = Vec::new();
        for (later, policy) in policies.iter().enumerate() {
            let twins = || (0..later).filter(|twin| policies[*twin].filter == policy.filter);
            let conflict = |earlier, key| PolicyError::Conflict { policies: (earlier, later), key };
            let first = twins().find(|twin| policies[*twin].balance.is_some());
            if let (Some(first), Some(said)) = (first, policy.balance)
                && policies[first].balance != Some(said)
            {
                expect.push(conflict(first, "balance"));
            }
            let first = twins().find(|twin| policies[*twin].max_deliveries.is_some());
            if let (Some(first), Some(said)) = (first, policy.max_deliveries)
                && policies[first].max_deliveries != Some(said)
            {
                expect.push(conflict(first, "max_deliveries"));
            }
        }
        let found = Policies::new(policies).err().unwrap_or_default();
        prop_assert_eq!(found, expect);
    }
}

//! The three structures together, against the plainest model: a map of filters and `Filter::matches`.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use waypost_mqtt::{Filter, QoS, RetainHandling, SubscriptionOptions, Topic};

use super::*;

/// Few words, so that topics and filters meet often.
fn level() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "a", "b", "a-", "$x", "æ"])
}

fn topic() -> impl Strategy<Value = String> {
    vec(level(), 1..6)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("not empty", |topic| !topic.is_empty())
}

fn filter() -> impl Strategy<Value = String> {
    let levels = vec(prop_oneof![2 => level(), 1 => Just("+")], 0..6);
    (levels, any::<bool>())
        .prop_map(|(mut levels, multi)| {
            if multi {
                levels.push("#");
            }
            levels.join("/")
        })
        .prop_filter("not empty", |filter| !filter.is_empty())
}

fn subscription() -> impl Strategy<Value = Subscription> {
    (0..3u8, any::<bool>(), any::<bool>(), 0..4u32).prop_map(
        |(qos, no_local, retain_as_published, identifier)| {
            let qos = QoS::try_from(qos).unwrap();
            let retain_handling = RetainHandling::SendAtSubscribe;
            Subscription {
                options: SubscriptionOptions {
                    qos,
                    no_local,
                    retain_as_published,
                    retain_handling,
                },
                identifier,
            }
        },
    )
}

#[derive(Clone, Debug)]
enum Step {
    Subscribe(String, u32, Subscription),
    Unsubscribe(prop::sample::Index),
    Match(String),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (filter(), 0..4u32, subscription()).prop_map(|(filter, subscriber, subscription)| {
            Step::Subscribe(filter, subscriber, subscription)
        }),
        any::<prop::sample::Index>().prop_map(Step::Unsubscribe),
        topic().prop_map(Step::Match),
    ]
}

#[derive(Default)]
struct Model(BTreeMap<(String, u32), (FilterId, Subscription)>);

impl Model {
    fn matches(&self, topic: &str) -> Vec<Matched> {
        let topic = Topic::parse(topic).unwrap();
        let mut matched: Vec<_> = self
            .0
            .iter()
            .filter(|((filter, _), _)| Filter::parse(filter).unwrap().matches(topic))
            .map(|((_, subscriber), (_, subscription))| Matched {
                subscriber: SubscriberId(*subscriber),
                subscription: *subscription,
            })
            .collect();
        matched.sort_by_key(key);
        matched
    }
}

fn key(matched: &Matched) -> (SubscriberId, u32, u8, bool, bool) {
    let Subscription {
        options,
        identifier,
    } = matched.subscription;
    (
        matched.subscriber,
        identifier,
        options.qos.into(),
        options.no_local,
        options.retain_as_published,
    )
}

/// What one subscriber gets: QoS, Retain As Published and identifiers, for others and for the publisher itself.
fn expect(matched: &[&Matched]) -> Option<(QoS, bool, Vec<u32>)> {
    let qos = matched
        .iter()
        .map(|matched| matched.subscription.options.qos)
        .max()?;
    let retain = matched
        .iter()
        .any(|matched| matched.subscription.options.retain_as_published);
    let mut identifiers: Vec<_> = matched
        .iter()
        .map(|m| m.subscription.identifier)
        .filter(|id| *id != 0)
        .collect();
    identifiers.sort_unstable();
    Some((qos, retain, identifiers))
}

fn actual(cached: &CachedMatch, merged: Merged) -> (QoS, bool, Vec<u32>) {
    let mut identifiers = cached.identifiers_of(merged).to_vec();
    identifiers.sort_unstable();
    (
        merged.flags.qos(),
        merged.flags.retain_as_published(),
        identifiers,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Goal: index and cache agree with the model through any churn, and nothing is left at the end.
    /// Method: random steps; a cache of four entries, so that eviction, staleness and hits all happen.
    #[test]
    fn index_and_cache_agree_with_the_model(steps in vec(step(), 1..150)) {
        let mut index = SubscriptionIndex::new(1);
        let mut cache = MatchCache::new(2, 4, 2_000);
        let mut model = Model::default();
        let empty = index.bytes();
        for step in steps {
            match step {
                Step::Subscribe(text, subscriber, subscription) => {
                    let filter = Filter::parse(&text).unwrap();
                    let (id, replaced) = index.insert(filter, SubscriberId(subscriber), subscription);
                    let before = model.0.insert((text.clone(), subscriber), (id, subscription));
                    prop_assert_eq!(replaced, before.map(|before| before.1));
                    prop_assert_eq!(index.find(filter), Some(id));
                    prop_assert_eq!(index.get(id, SubscriberId(subscriber)), Some(subscription));
                    prop_assert_eq!(index.filter_string(id), text);
                }
                Step::Unsubscribe(which) => {
                    let Some(key) = model.0.keys().nth(which.index(model.0.len().max(1))).cloned() else { continue };
                    let (id, subscription) = model.0.remove(&key).unwrap();
                    prop_assert_eq!(index.remove(id, SubscriberId(key.1)), Some(subscription));
                    prop_assert_eq!(index.get(id, SubscriberId(key.1)), None);
                }
                Step::Match(topic) => {
                    let expected = model.matches(&topic);
                    let mut matched = Vec::new();
                    index.matches(&topic, &mut matched);
                    prop_assert!(matched.is_sorted_by_key(|matched| matched.subscriber));
                    matched.sort_by_key(key);
                    prop_assert_eq!(&matched, &expected);

                    let cached = cache.lookup(&topic, &index);
                    let subscribers: Vec<_> = expected.chunk_by(|a, b| a.subscriber == b.subscriber).collect();
                    prop_assert_eq!(cached.merged().len(), subscribers.len());
                    for (merged, of_one) in cached.merged().iter().zip(subscribers) {
                        prop_assert_eq!(merged.subscriber, of_one[0].subscriber);
                        let all: Vec<_> = of_one.iter().collect();
                        prop_assert_eq!(Some(actual(cached, *merged)), expect(&all));
                        let local: Vec<_> =
                            of_one.iter().filter(|matched| !matched.subscription.options.no_local).collect();
                        let own = cached.for_publisher(*merged);
                        prop_assert_eq!(own.map(|own| actual(cached, own)), expect(&local));
                    }
                    prop_assert!(cache.len() <= 4 && cache.bytes() <= 2_000);
                }
            }
            prop_assert_eq!(index.len(), model.0.len());
        }
        for ((_, subscriber), (id, _)) in model.0 {
            index.remove(id, SubscriberId(subscriber));
        }
        prop_assert_eq!((index.len(), index.nodes(), index.levels(), index.edges()), (0, 0, 0, 0));
        prop_assert_eq!(index.bytes(), empty);
    }

    /// Goal: an enumeration finds exactly what the filter matches, in any step size.
    #[test]
    fn topic_tree_agrees_with_the_model(topics in vec(topic(), 0..60), filter in filter(), steps in 1..5usize) {
        let mut tree = TopicTree::new(3);
        let mut model = BTreeMap::new();
        for (number, topic) in topics.iter().enumerate() {
            prop_assert_eq!(tree.insert(topic, number), model.insert(topic.clone(), number));
        }
        let filter = Filter::parse(&filter).unwrap();
        let expected: BTreeMap<_, _> = model
            .iter()
            .filter(|(topic, _)| filter.matches(Topic::parse(topic).unwrap()))
            .map(|(topic, number)| (topic.clone(), *number))
            .collect();
        let (mut found, mut cursor) = (BTreeMap::new(), Cursor::default());
        while !tree.matching_step(filter, &mut cursor, steps, &mut |topic, number| {
            assert_eq!(found.insert(topic.to_owned(), *number), None, "{topic} comes twice");
        }) {}
        prop_assert_eq!(found, expected);
        for (topic, number) in model {
            prop_assert_eq!(tree.get(&topic), Some(&number));
            prop_assert_eq!(tree.remove(&topic), Some(number));
        }
        prop_assert!(tree.is_empty());
    }
}

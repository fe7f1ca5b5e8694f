//! `[[topic]]`: policies by filter, and which of them gave a value.

use std::sync::Arc;

use waypost_balance::Strategy;
use waypost_core::{Durability, Policies, Policy, PolicyError, TopicPolicy};
use waypost_mqtt::Filter;

use super::array::{Key, Row};
use super::error::{Origin, Problem};
use super::field::{Field, Number, Word, number};
use super::literal;

/// `[[topic]]`: what holds for the topics of some filters.
#[derive(Clone, Debug, Default)]
pub struct Topics {
    rows: Vec<Row<Draft>>,
    policies: Arc<Policies>,
}

/// One key of a policy, where it is found for one topic or filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// The key.
    pub key: &'static str,
    /// Its value, as TOML.
    pub value: String,
    /// Where it is said.
    pub origin: Origin,
    /// The filter of the policy that says it; `None`: it is the default.
    pub filter: Option<String>,
}

impl Topics {
    /// For the shards.
    pub fn policies(&self) -> &Arc<Policies> {
        &self.policies
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// What holds for a group with this filter (or for this topic), key by key, and who says so.
    pub fn explain(&self, filter: Filter<'_>) -> Vec<Explained> {
        let (policy, sources) = self.policies.explain(filter);
        let resolved = Draft::from(policy);
        let explained = |name: &str, source: Option<usize>| {
            let key = TOPIC_KEYS.iter().find(|key| key.name == name)?;
            let row = source.and_then(|number| self.rows.get(number));
            Some(Explained {
                key: key.name,
                value: key.field.show(&resolved),
                origin: row
                    .and_then(|row| row.given(name))
                    .map_or(Origin::Default, Clone::clone),
                filter: row.map(|row| row.value.filter.clone()),
            })
        };
        [
            explained("balance", sources.balance),
            explained("max_deliveries", sources.max_deliveries),
            explained("durability", sources.durability),
            explained("dead_letter", sources.dead_letter),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// The rows as policies, and what is wrong with them together.
    pub(super) fn new(rows: Vec<Row<Draft>>, problems: &mut Vec<Problem>) -> Self {
        let mut rows = rows;
        rows.retain(|row| row.check(problems));
        match Policies::new(rows.iter().map(Row::policy).collect()) {
            Ok(policies) => Self {
                policies: Arc::new(policies),
                rows,
            },
            Err(errors) => {
                problems.extend(errors.iter().filter_map(|error| problem(error, &rows)));
                Self::default()
            }
        }
    }
}

/// Equal when they say the same, wherever it is written.
impl PartialEq for Topics {
    fn eq(&self, other: &Self) -> bool {
        let policies = |topics: &Self| topics.rows.iter().map(Row::policy).collect::<Vec<_>>();
        policies(self) == policies(other)
    }
}

/// More policies than this are no configuration but data.
pub(super) const TOPICS_MAX: usize = 10_000;

/// A `[[topic]]` as it is written; which keys it has is known to its row.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    filter: String,
    balance: &'static Strategy,
    max_deliveries: u32,
    durability: Durability,
    dead_letter: Option<Arc<str>>,
}

impl Default for Draft {
    fn default() -> Self {
        Policy::default().into()
    }
}

impl From<Policy> for Draft {
    fn from(policy: Policy) -> Self {
        Self {
            filter: String::new(),
            balance: policy.balance,
            max_deliveries: policy.max_deliveries,
            durability: policy.durability,
            dead_letter: policy.dead_letter,
        }
    }
}

impl Row<Draft> {
    fn policy(&self) -> TopicPolicy {
        let value = &self.value;
        TopicPolicy {
            filter: value.filter.clone(),
            balance: self.given("balance").map(|_| value.balance),
            max_deliveries: self.given("max_deliveries").map(|_| value.max_deliveries),
            durability: self.given("durability").map(|_| value.durability),
            dead_letter: self
                .given("dead_letter")
                .map(|_| value.dead_letter.clone().unwrap_or_default()),
        }
    }

    /// Whether it can be used by itself.
    fn check(&self, problems: &mut Vec<Problem>) -> bool {
        if self.given("filter").is_none() {
            problems.push(Problem::Missing {
                origin: self.origin.clone(),
                key: "[[topic]]".to_owned(),
                missing: "the filter of its topics",
                fix: "filter = \"orders/#\"".to_owned(),
            });
            return false;
        }
        if self.keys.len() == 1 {
            problems.push(Problem::Idle {
                origin: self.origin.clone(),
                key: "[[topic]]".to_owned(),
                reason: format!(
                    "it says nothing about {}; add {}",
                    literal::quoted(&self.value.filter),
                    examples().join(" or ")
                ),
            });
        }
        true
    }
}

/// A line for every key that says something about topics.
fn examples() -> Vec<String> {
    let keys = TOPIC_KEYS.iter().filter(|key| key.name != "filter");
    keys.map(|key| format!("{} = {}", key.name, key.example))
        .collect()
}

fn problem(error: &PolicyError, rows: &[Row<Draft>]) -> Option<Problem> {
    match *error {
        PolicyError::Conflict {
            policies: (first, second),
            key,
        } => {
            let (first, second) = (rows.get(first)?, rows.get(second)?);
            Some(Problem::Conflict {
                origin: second.given(key)?.clone(),
                key: format!("topic.{key}"),
                other: first.given(key)?.clone(),
                filter: second.value.filter.clone(),
            })
        }
        // No such filter is taken in the first place.
        PolicyError::TooManyLevels { .. } => None,
    }
}

/// What docs/configuration.md says below the keys of `[[topic]]`.
pub(super) const PAGE: &str = r#"
Filters are compared level by level from the left: a literal is more specific than `+`, and `+` than `#`. Each key comes
from the most specific policy that says it; what none says has its default. Only identical filters tie; two policies with
one filter may share the keys between them, and contradicting each other is a mistake that names both lines. As in MQTT,
filters that begin with `+` or `#` say nothing about topics that begin with `$`.

What concerns a group is looked up for the group's filter, not for each message: a policy holds for `$share/workers/orders/+`
if its own filter covers all that `orders/+` does.

```toml
# policies.toml
[[topic]]
filter = "orders/#"
balance = "least-connections"
max_deliveries = 5

[[topic]]
filter = "orders/eu/+"
balance = "ordered"            # one order after the other; max_deliveries comes from above
```

`waypost config explain` says which line gave which value:

<!-- run -->
```console
$ waypost config explain --config policies.toml '$share/workers/orders/eu/+'
$share/workers/orders/eu/+: what holds for orders/eu/+
balance         "ordered"  policies.toml:9, filter "orders/eu/+"
max_deliveries  5          policies.toml:5, filter "orders/#"
durability      "sync"     default
dead_letter     ""         default
```

Where nobody says anything, a group goes by least-connections: among the strategies that need to be told nothing its 99th
percentile of waiting is the shortest or next to the shortest in every scenario of `waypost balance simulate`
([strategies.md](strategies.md)), it honours weights, and a member that slows down gets less.

On SIGHUP a changed policy holds at once, also for groups that are at work: they go on with the new strategy and lose
nothing.
"#;

/// The keys of `[[topic]]`.
pub(super) const TOPIC_KEYS: &[Key<Draft>] = &[
    Key {
        name: "filter",
        doc: "The topics it is for. Has to be said.",
        example: r#""orders/#""#,
        field: Field::Filter(|draft| &mut draft.filter),
    },
    Key {
        name: "balance",
        doc: "How the messages of a group ($share, $queue) are shared out to its members. Default: \
              least-connections.",
        example: r#""least-connections""#,
        field: Field::Word(Word {
            words: || {
                waypost_balance::registry()
                    .iter()
                    .map(|strategy| strategy.name)
                    .collect()
            },
            read: |draft| draft.balance.name,
            write: |draft, name| {
                let found = waypost_balance::find(name);
                found.map(|strategy| draft.balance = strategy).is_ok()
            },
        }),
    },
    Key {
        name: "max_deliveries",
        doc: "How often a group tries to deliver one message before it goes to dead_letter, or is dropped, \
              counted and told on $events/group/dropped. 0, the default: as often as it takes, so that nothing is \
              lost because members come and go; set it where a message may be the reason why \
              members go.",
        example: "5",
        field: Field::Count(number!(0, 1_000_000, max_deliveries)),
    },
    Key {
        name: "durability",
        doc: "What an acknowledgement (PUBACK, PUBREC) means for sessions and groups that are owed the \
              message later, and for what is retained: sync, the default: it is on disk; os: it is with \
              the operating system, and a crash of the machine may lose it; memory: it is in memory, \
              and any crash loses it.",
        example: r#""sync""#,
        field: Field::Word(Word {
            words: || Durability::ALL.map(Durability::name).to_vec(),
            read: |draft| draft.durability.name(),
            write: |draft, name| {
                let found = Durability::ALL.iter().find(|one| one.name() == name);
                found.map(|one| draft.durability = *one).is_some()
            },
        }),
    },
    Key {
        name: "dead_letter",
        doc: "Where a message goes that cannot be delivered: it expired, a member of its group refused it, \
              the group tried it max_deliveries times, or a queue was full. It is published there anew \
              with why, see [dead-letter.md](dead-letter.md). Default: nowhere, it is dropped and \
              counted.",
        example: r#""orders/dead""#,
        field: Field::OptionalTopic(|draft| &mut draft.dead_letter),
    },
];

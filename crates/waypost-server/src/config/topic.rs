//! `[[topic]]`: policies by filter, and which of them gave a value.

use std::collections::HashMap;
use std::sync::Arc;

use waypost_balance::Strategy;
use waypost_compress::Stages;
use waypost_core::{Durability, Policies, Policy, PolicyError, Seal, TopicPolicy};
use waypost_mqtt::{Filter, Topic};
use waypost_store::{Partition, cache};

use super::array::{Key, Row};
use super::error::{Origin, Problem};
use super::field::{Field, Number, Word, number};
use super::literal;
use super::store::{at_rest, at_rest_names};
use crate::transcode::{Codings, Said};

/// `[[topic]]`: what holds for the topics of some filters.
#[derive(Clone, Debug, Default)]
pub struct Topics {
    rows: Vec<Row<Draft>>,
    policies: Arc<Policies>,
    codings: Arc<Codings>,
    /// Some row says something about the store's message cache.
    has_partitions: bool,
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

    /// What of them says how payloads are packed between clients, for the shards.
    pub(crate) fn codings(&self) -> &Arc<Codings> {
        &self.codings
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
        let mut resolved = Draft::from(policy);
        let covering = self.policies.covering(filter);
        let said = |key| {
            covering
                .iter()
                .copied()
                .find(|number| self.says(*number, key))
        };
        let own = OWN_KEYS.map(|own| (own, said(own.key)));
        for (own, number) in &own {
            if let Some(row) = number.and_then(|number| self.rows.get(number)) {
                (own.copy)(&row.value, &mut resolved);
            }
        }
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
        let of_core = [
            explained("balance", sources.balance),
            explained("max_deliveries", sources.max_deliveries),
            explained("durability", sources.durability),
            explained("dead_letter", sources.dead_letter),
            explained("seal", sources.seal),
        ];
        // Who says nothing of these is with what others say, or with nobody.
        let own = own.iter().filter(|(_, number)| number.is_some());
        let own = own.map(|(own, number)| explained(own.key, *number));
        of_core.into_iter().chain(own).flatten().collect()
    }

    /// The partition of the store's message cache that messages with this topic are in; `None`: the node's own.
    pub fn partition(&self, topic: &str, store: &super::StoreConfig) -> Option<Partition> {
        if !self.has_partitions {
            return None;
        }
        let topic = Topic::parse(topic).ok()?;
        let covering = self.policies.covering(Filter::parse(topic.as_str()).ok()?);
        let said = |key| {
            let number = covering.iter().find(|number| self.says(**number, key))?;
            self.rows.get(*number).map(|row| &row.value)
        };
        let strategy = said("cache").map_or(store.cache, |draft| draft.cache);
        let sized = said("cache_bytes");
        if sized.is_none() && strategy == store.cache {
            return None;
        }
        Some(Partition {
            name: match sized {
                Some(draft) => draft.filter.as_str().into(),
                None => strategy.into(),
            },
            strategy: cache::find(strategy).ok()?,
            bytes: sized.map_or(store.cache_bytes, |draft| draft.cache_bytes),
        })
    }

    /// The one strategy by which all policies that cover a stream's filters pack; `None`: they say nothing, not the same,
    /// or several strategies one after the other, which files do not have.
    pub fn compress_of(&self, filters: &[String]) -> Option<&'static waypost_compress::Strategy> {
        let said = |filter: &String| {
            let covering = self.policies.covering(Filter::parse(filter).ok()?);
            let number = covering
                .iter()
                .find(|number| self.says(**number, "compress"))?;
            let stages = self.rows.get(*number)?.value.compress.as_ref()?;
            match stages.strategies() {
                [strategy] => Some(*strategy),
                _ => None,
            }
        };
        let mut all = filters.iter().map(said);
        let first = all.next()??;
        all.all(|other| other == Some(first)).then_some(first)
    }

    /// How the files of a stream with these filters are encrypted: as the first policy says that some of its messages may
    /// be of; `None`: none does.
    pub fn encrypt_of(&self, filters: &[String]) -> Option<&'static str> {
        let meets = |policy: &str| {
            let policy = Filter::parse(policy).ok()?;
            let mut filters = filters.iter().filter_map(|text| Filter::parse(text).ok());
            Some(filters.any(|filter| filter.meets(policy)))
        };
        self.rows
            .iter()
            .filter(|row| meets(&row.value.filter) == Some(true))
            .find_map(|row| row.value.encrypt)
    }

    /// Where the first policy asks for encryption, if one does.
    pub(super) fn first_encrypt(&self) -> Option<&Origin> {
        self.rows.iter().find_map(|row| row.given("encrypt"))
    }

    /// What of it acts from the next start on.
    pub(super) fn acts_at_start(&self) -> Vec<(String, Option<&'static str>, Option<u64>)> {
        let rows = self.rows.iter().map(|row| {
            let value = &row.value;
            let strategy = row.given("cache").map(|_| value.cache);
            let bytes = row.given("cache_bytes").map(|_| value.cache_bytes);
            (value.filter.clone(), strategy, bytes)
        });
        rows.filter(|(_, strategy, bytes)| strategy.is_some() || bytes.is_some())
            .collect()
    }

    /// What the policies say, written out, of the keys that the core does not know.
    fn own_words(&self) -> Vec<[Option<String>; OWN_KEYS.len()]> {
        let rows = self.rows.iter();
        rows.map(|row| OWN_KEYS.map(|own| row.given(own.key).map(|_| (own.value)(&row.value))))
            .collect()
    }

    fn says(&self, number: usize, key: &str) -> bool {
        let row = self.rows.get(number);
        row.is_some_and(|row| row.given(key).is_some())
    }

    /// The rows as policies, and what is wrong with them together.
    pub(super) fn new(rows: Vec<Row<Draft>>, problems: &mut Vec<Problem>) -> Self {
        let mut rows = rows;
        rows.retain(|row| row.check(problems));
        for own in OWN_KEYS {
            check_agreement(&rows, own, problems);
        }
        let has_partitions = rows
            .iter()
            .any(|row| row.given("cache").is_some() || row.given("cache_bytes").is_some());
        match Policies::new(rows.iter().map(Row::policy).collect()) {
            Ok(policies) => {
                let policies = Arc::new(policies);
                let said = rows.iter().map(Row::coding).collect();
                Self {
                    codings: Arc::new(Codings::new(Arc::clone(&policies), said)),
                    policies,
                    rows,
                    has_partitions,
                }
            }
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
        policies(self) == policies(other) && self.own_words() == other.own_words()
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
    seal: Seal,
    cache: &'static str,
    cache_bytes: u64,
    transcode: bool,
    compress: Option<Stages>,
    encrypt: Option<&'static str>,
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
            seal: policy.seal,
            cache: cache::default_strategy().name,
            cache_bytes: 0,
            transcode: false,
            compress: None,
            encrypt: None,
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
            seal: self.given("seal").map(|_| value.seal),
        }
    }

    fn coding(&self) -> Said {
        Said {
            filter: self.value.filter.as_str().into(),
            transcode: self.given("transcode").map(|_| self.value.transcode),
            compress: self.value.compress.clone(),
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

/// A key that the core knows nothing of.
#[derive(Clone, Copy)]
struct OwnKey {
    key: &'static str,
    /// Its value, as text.
    value: fn(&Draft) -> String,
    /// Takes it over from the policy that says it.
    copy: fn(&Draft, &mut Draft),
}

/// Where the store's message cache keeps a message, and how payloads are packed and files of streams encrypted.
const OWN_KEYS: [OwnKey; 5] = [
    OwnKey {
        key: "cache",
        value: |draft| draft.cache.to_owned(),
        copy: |from, to| to.cache = from.cache,
    },
    OwnKey {
        key: "cache_bytes",
        value: |draft| draft.cache_bytes.to_string(),
        copy: |from, to| to.cache_bytes = from.cache_bytes,
    },
    OwnKey {
        key: "compress",
        value: |draft| {
            draft
                .compress
                .as_ref()
                .map_or_else(String::new, Stages::to_string)
        },
        copy: |from, to| to.compress.clone_from(&from.compress),
    },
    OwnKey {
        key: "encrypt",
        value: |draft| draft.encrypt.unwrap_or_default().to_owned(),
        copy: |from, to| to.encrypt = from.encrypt,
    },
    OwnKey {
        key: "transcode",
        value: |draft| draft.transcode.to_string(),
        copy: |from, to| to.transcode = from.transcode,
    },
];

/// Policies with one filter must not say different things.
fn check_agreement(rows: &[Row<Draft>], own: OwnKey, problems: &mut Vec<Problem>) {
    let OwnKey { key, value, .. } = own;
    let mut first = HashMap::new();
    for row in rows {
        let Some(origin) = row.given(key) else {
            continue;
        };
        let (other, said) = *first
            .entry(&row.value.filter)
            .or_insert((origin, &row.value));
        if value(said) != value(&row.value) {
            problems.push(Problem::Conflict {
                origin: origin.clone(),
                key: format!("topic.{key}"),
                other: other.clone(),
                filter: row.value.filter.clone(),
            });
        }
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
seal            "allowed"  default
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
    Key {
        name: "seal",
        doc: "Whether messages are sealed end to end (COSE; in MQTT 5 with Content Type application/cose): required: \
              all others are refused; refused: they are refused; allowed, the default: as they come. Looked at by their \
              structure alone, at PUBLISH and for wills, see [seal-policy.md](seal-policy.md).",
        example: r#""required""#,
        field: Field::Word(Word {
            words: || Seal::ALL.map(Seal::name).to_vec(),
            read: |draft| draft.seal.name(),
            write: |draft, name| {
                let found = Seal::ALL.iter().find(|one| one.name() == name);
                found.map(|one| draft.seal = *one).is_some()
            },
        }),
    },
    Key {
        name: "transcode",
        doc: "Whether a subscriber that did not accept a message's content-encoding (User Property accept-encoding of \
              its CONNECT) gets it unpacked, and one that accepts what compress says gets it packed, see \
              [transcode.md](transcode.md). Default: false, payloads and properties pass untouched.",
        example: "true",
        field: Field::Fact(|draft| &mut draft.transcode),
    },
    Key {
        name: "compress",
        doc: "How these messages are packed: a strategy of `waypost strategies compress`, or up to three with + between \
              them; identity: not at all. It acts with transcode = true, for subscribers that accept it, and in the \
              files of a stream that says nothing itself and whose filters it covers, if it is one strategy.",
        example: r#""zstd""#,
        field: Field::Stages(|draft| &mut draft.compress),
    },
    Key {
        name: "encrypt",
        doc: "How the files of streams that may have such messages are encrypted, with the key of store.key_file, key_env or \
              key_command: a strategy of `waypost strategies encrypt` for data at rest. Where several policies meet a \
              stream, the first in the file. Default: as store.encrypt says, which is also for the log that each \
              message goes through first, see [storage.md](storage.md).",
        example: r#""aes-gcm""#,
        field: Field::Word(Word {
            words: at_rest_names,
            read: |draft| draft.encrypt.unwrap_or_default(),
            write: |draft, name| {
                draft.encrypt = at_rest(name);
                draft.encrypt.is_some()
            },
        }),
    },
    Key {
        name: "cache",
        doc: "What stays in memory of these messages when they are read back from disk, see \
              [cache.md](cache.md). Default: what store.cache says, in memory shared with all others that say \
              nothing else. Another strategy has memory of its own. Acts from the next start on.",
        example: r#""s3-fifo""#,
        field: Field::Word(Word {
            words: || waypost_names::names(cache::registry()),
            read: |draft| draft.cache,
            write: |draft, name| {
                let found = cache::find(name);
                found.map(|strategy| draft.cache = strategy.name).is_ok()
            },
        }),
    },
    Key {
        name: "cache_bytes",
        doc: "Memory of its own for the messages that get it from this policy. Default: for a cache other than \
              store.cache as much as store.cache_bytes, shared by all that say the same. There may be 64 such \
              parts; what would be in one more is kept with the others and counted. Acts from the next start \
              on.",
        example: r#""64MiB""#,
        field: Field::Bytes(number!(0, 1 << 40, cache_bytes)),
    },
];

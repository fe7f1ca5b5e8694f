//! `[[stream]]`: named records of the messages on some filters.

use waypost_core::POLICY_LEVELS_MAX;
use waypost_mqtt::{Filter, Topic};

use super::array::{Key, Row};
use super::error::Problem;
use super::field::{Field, Word};
use super::literal;

/// `[[stream]]`: one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamConfig {
    /// What it is called.
    pub name: String,
    /// The messages whose topics one of these matches are in it.
    pub filters: Vec<String>,
    /// How much of it is kept.
    pub retention: Retention,
    /// Whether only the last message of each key is kept.
    pub compact: bool,
    /// How its blocks are packed; `None`: as `store.compress` says.
    pub compress: Option<&'static str>,
}

impl StreamConfig {
    /// Whether a message on this topic enters it.
    pub fn takes(&self, topic: &str) -> bool {
        let Ok(topic) = Topic::parse(topic) else {
            return false;
        };
        let mut filters = self.filters.iter();
        filters.any(|filter| Filter::parse(filter).is_ok_and(|filter| filter.matches(topic)))
    }
}

/// How much of a stream is kept: what goes beyond any of these is gone. Where nothing is said, all is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// No record that is older.
    pub age_ms: Option<u64>,
    /// Not more than so many bytes of records.
    pub bytes: Option<u64>,
    /// Not more than so many records.
    pub messages: Option<u64>,
}

impl Retention {
    /// `7d`, `10GiB`, `1000000 messages`, each at most once, none of them zero.
    pub(super) fn read(items: &[&str]) -> Option<Self> {
        let mut retention = Self::default();
        for item in items {
            let item = item.trim();
            let (place, value) = if let Some(count) = messages(item) {
                (&mut retention.messages, count)
            } else if let Some(bytes) = literal::bytes(item) {
                (&mut retention.bytes, bytes)
            } else {
                (&mut retention.age_ms, literal::milliseconds(item)?)
            };
            if value == 0 || place.replace(value).is_some() {
                return None;
            }
        }
        Some(retention)
    }

    /// As it is written.
    pub fn show(&self) -> Vec<String> {
        let messages = |count: u64| match count {
            1 => "1 message".to_owned(),
            _ => format!("{count} messages"),
        };
        let said = [
            self.age_ms.map(literal::show_milliseconds),
            self.bytes.map(literal::show_bytes),
            self.messages.map(messages),
        ];
        said.into_iter().flatten().collect()
    }
}

/// `1000000 messages`.
fn messages(text: &str) -> Option<u64> {
    let (number, unit) = text.split_once(' ')?;
    let is_unit = ["messages", "message"].contains(&unit.trim_start());
    is_unit.then(|| number.replace('_', "").parse().ok())?
}

/// Each has a block in memory that is being filled, files of its own and rows in the metrics.
pub(super) const STREAMS_MAX: usize = 256;

/// More than this say what one filter says better; each is compared with the topics of messages.
pub(super) const FILTERS_MAX: usize = 256;

/// A name is part of files' headers, of paths of the API and of topics.
pub(super) const NAME_BYTES_MAX: usize = 64;

/// A name a stream may have.
pub(super) fn name(text: &str) -> Option<String> {
    let is_right = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    let fits = (1..=NAME_BYTES_MAX).contains(&text.len());
    (fits && text.bytes().all(is_right)).then(|| text.to_owned())
}

/// The filters a stream may have: of topics that clients publish on, as they arrive.
pub(super) fn filters(items: &[&str]) -> Option<Vec<String>> {
    const NOT_TOPICS: [&str; 4] = ["$share", "$queue", "$from", "$delayed"];
    let read = |text: &str| {
        let filter = Filter::parse(text).ok()?;
        let first = filter.levels().next()?;
        let fits = filter.levels().count() <= POLICY_LEVELS_MAX;
        (fits && !NOT_TOPICS.contains(&first)).then(|| text.to_owned())
    };
    if items.is_empty() || items.len() > FILTERS_MAX {
        return None;
    }
    items.iter().copied().map(read).collect()
}

/// The rows as streams, and what is wrong with them.
pub(super) fn complete(
    rows: &[Row<StreamConfig>],
    problems: &mut Vec<Problem>,
) -> Vec<StreamConfig> {
    let mut streams = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let missing = |missing, fix: &str| Problem::Missing {
            origin: row.origin.clone(),
            key: "[[stream]]".to_owned(),
            missing,
            fix: fix.to_owned(),
        };
        let Some(origin) = row.given("name") else {
            problems.push(missing("a name", "name = \"orders\""));
            continue;
        };
        if row.given("filters").is_none() {
            let fix = "filters = [\"orders/#\"]";
            problems.push(missing("the filters of its messages", fix));
            continue;
        }
        let earlier = rows.iter().take(index);
        let mut same = earlier.filter(|other| other.value.name == row.value.name);
        if let Some(other) = same.find_map(|other| other.given("name")) {
            problems.push(Problem::SameName {
                origin: origin.clone(),
                key: "stream.name".to_owned(),
                name: row.value.name.clone(),
                other: other.clone(),
            });
            continue;
        }
        streams.push(row.value.clone());
    }
    streams
}

/// What docs/configuration.md says below the keys of `[[stream]]`.
pub(super) const PAGE: &str = r#"
A message enters every stream that has a filter for its topic; it is stored once, and in the files of each. Clients read
a stream with `$from/…`, `waypost streams` shows it.

```toml
# streams.toml
[[stream]]
name = "orders"
filters = ["orders/#", "invoices/+/paid"]
retention = ["30d", "10GiB"]   # whichever comes first

[[stream]]
name = "prices"
filters = ["prices/#"]
compact = true                 # the last price of each topic
```

`waypost config explain` says which streams a topic enters:

<!-- run -->
```console
$ waypost config explain --config streams.toml orders/eu/17 | grep streams
streams         orders
```

On SIGHUP new streams begin, changed ones go on as they say now, and a stream that is not named any more takes no more
messages: what is in it stays and can be read with `waypost streams`, until it is purged.
"#;

/// The keys of `[[stream]]`.
pub(super) const STREAM_KEYS: &[Key<StreamConfig>] = &[
    Key {
        name: "name",
        doc: "What it is called: by clients (stream=NAME), by `waypost streams`, in metrics. Has to be said.",
        example: r#""orders""#,
        field: Field::StreamName(|stream| &mut stream.name),
    },
    Key {
        name: "filters",
        doc: "Messages whose topics one of them matches enter the stream. Has to be said.",
        example: r#"["orders/#"]"#,
        field: Field::Filters(|stream| &mut stream.filters),
    },
    Key {
        name: "retention",
        doc: "How much is kept: an age, a size, a number of messages, or a list of these; what goes beyond any \
              of them is gone. Default: everything is kept.",
        example: r#"["7d", "10GiB", "1000000 messages"]"#,
        field: Field::Retention(|stream| &mut stream.retention),
    },
    Key {
        name: "compact",
        doc: "Whether only the last message of each key (User Property waypost-key, else the topic) is kept, in \
              the background; an empty payload takes the key away, and is itself kept for a day.",
        example: "true",
        field: Field::Fact(|stream| &mut stream.compact),
    },
    Key {
        name: "compress",
        doc: "The strategy of the compress family by which its files are packed; zstd-dict is zstd \
              there, files have no dictionaries. Default: that of \
              the policies ([[topic]]) that cover all its filters, where these say one and the same, else that of \
              store.compress.",
        example: r#""zstd""#,
        field: Field::Word(Word {
            words: || waypost_names::names(waypost_compress::registry()),
            read: |stream| stream.compress.unwrap_or_default(),
            write: |stream, name| {
                let found = waypost_compress::find(name);
                found
                    .map(|strategy| stream.compress = Some(strategy.name))
                    .is_ok()
            },
        }),
    },
];

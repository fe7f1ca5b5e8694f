//! The streams of the configuration: which of them a message enters, and which one serves a filter.
//!
//! A stream is a name with filters; its number comes from the store. Given in [`crate::BrokerConfig`] and replaced by
//! `Broker::handle_streams`. Messages of the server (`$SYS`, `$events`) enter no stream. Not here: records, retention,
//! who reads.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use thiserror::Error;
use waypost_mqtt::{Filter, Topic};

use crate::filter_tree::FilterTree;
use crate::policy::LEVELS_MAX;
use crate::stream::StreamId;

/// One stream of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Its number, from the store.
    pub id: StreamId,
    /// Its name ([`is_stream_name`]).
    pub name: Arc<str>,
    /// What enters it: valid Topic Filters.
    pub filters: Vec<String>,
}

/// The longest name of a stream, in bytes.
pub const STREAM_NAME_BYTES_MAX: usize = 64;

/// Whether a stream can have this name: letters, digits, `-`, `_` and `.`, so that it can stand in a Topic Filter and in
/// a file name.
pub fn is_stream_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=STREAM_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_plain)
}

/// Why a list of streams cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum StreamsError {
    /// It has no filter.
    #[error("a stream needs at least one filter")]
    NoFilter {
        /// Its place in the list.
        stream: usize,
    },
    /// A filter with more than [`LEVELS_MAX`] levels.
    #[error("the filter has more than {LEVELS_MAX} levels")]
    TooManyLevels {
        /// Its place in the list.
        stream: usize,
    },
    /// Two streams with one name.
    #[error("two streams have this name")]
    Twice {
        /// The place of the second.
        stream: usize,
    },
}

/// Every stream of the configuration, for look-ups by topic and by filter.
#[derive(Clone, Debug, Default)]
pub struct Streams {
    all: Vec<Stream>,
    filters: FilterTree,
    /// By place: the places of the streams that are smaller, because this one covers all their filters and they do not
    /// cover all of its.
    smaller: Vec<BTreeSet<usize>>,
}

impl Streams {
    /// Takes the streams in the order of the configuration. All that is wrong with them is told.
    pub fn new(streams: Vec<Stream>) -> Result<Self, Vec<StreamsError>> {
        let mut filters = FilterTree::default();
        let mut errors = Vec::new();
        for (stream, Stream { filters: all, .. }) in streams.iter().enumerate() {
            if all.is_empty() {
                errors.push(StreamsError::NoFilter { stream });
            }
            let before = streams.get(..stream).unwrap_or_default();
            let name = streams.get(stream).map(|stream| &stream.name);
            if before.iter().any(|other| Some(&other.name) == name) {
                errors.push(StreamsError::Twice { stream });
            }
            for filter in all {
                let filter = Filter::from_validated(filter);
                if filter.levels().count() > LEVELS_MAX {
                    errors.push(StreamsError::TooManyLevels { stream });
                } else {
                    filters.place(filter).push(stream);
                }
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut made = Self {
            all: streams,
            filters,
            smaller: Vec::new(),
        };
        made.smaller = made.compare();
        Ok(made)
    }

    /// Per stream, the smaller ones.
    fn compare(&self) -> Vec<BTreeSet<usize>> {
        let larger: Vec<BTreeSet<usize>> = self.all.iter().map(|it| self.larger(it)).collect();
        let has = |of: usize, other: usize| larger.get(of).is_some_and(|all| all.contains(&other));
        let places = || 0..self.all.len();
        let smaller_than =
            |this| places().filter(move |other| has(*other, this) && !has(this, *other));
        places().map(|this| smaller_than(this).collect()).collect()
    }

    /// The streams that cover all filters of one, itself among them.
    fn larger(&self, stream: &Stream) -> BTreeSet<usize> {
        let filters = stream.filters.iter();
        let sets = filters.map(|filter| self.covering(Filter::from_validated(filter)));
        sets.reduce(|all, these| &all & &these).unwrap_or_default()
    }

    /// The streams with a filter that covers all of this one.
    fn covering(&self, filter: Filter<'_>) -> BTreeSet<usize> {
        let mut covering = BTreeSet::new();
        let _ = self.filters.covering(filter.levels(), &mut |stream| {
            covering.insert(stream);
            ControlFlow::Continue(())
        });
        covering
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// All of them, in the order of the configuration.
    pub fn all(&self) -> &[Stream] {
        &self.all
    }

    /// The streams that a message on this topic enters, in ascending order; `found` is emptied first.
    pub fn matching(&self, topic: Topic<'_>, found: &mut Vec<StreamId>) {
        found.clear();
        let _ = self.filters.covering(topic.levels(), &mut |stream| {
            found.extend(self.all.get(stream).map(|stream| stream.id));
            ControlFlow::Continue(())
        });
        found.sort_unstable();
        found.dedup();
    }

    /// The smallest stream with a filter that covers all of this one: one whose filters are all covered by another's is
    /// smaller; then one with fewer filters; then the first.
    pub fn serving(&self, filter: Filter<'_>) -> Option<&Stream> {
        let covering = self.covering(filter);
        let is_smallest = |this: &&usize| {
            let smaller = self.smaller.get(**this);
            smaller.is_none_or(|smaller| smaller.is_disjoint(&covering))
        };
        let smallest = covering.iter().filter(is_smallest);
        let streams = smallest.filter_map(|this| self.all.get(*this));
        streams.min_by_key(|stream| stream.filters.len())
    }

    /// The stream with this name.
    pub fn named(&self, name: &str) -> Option<&Stream> {
        self.all.iter().find(|stream| *stream.name == *name)
    }

    /// Whether a stream has a filter that covers all of this one.
    pub fn covers(&self, stream: StreamId, filter: Filter<'_>) -> bool {
        let covering = self.covering(filter);
        let mut streams = covering.iter().filter_map(|this| self.all.get(*this));
        streams.any(|covering| covering.id == stream)
    }

    /// The stream with this number.
    pub fn get(&self, id: StreamId) -> Option<&Stream> {
        self.all.iter().find(|stream| stream.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams(all: &[(&str, &[&str])]) -> Streams {
        let stream = |(at, (name, filters)): (usize, &(&str, &[&str]))| Stream {
            // Numbers do not follow the order of the configuration.
            id: StreamId(u32::try_from(100 - at).unwrap()),
            name: (*name).into(),
            filters: filters.iter().map(ToString::to_string).collect(),
        };
        Streams::new(all.iter().enumerate().map(stream).collect()).unwrap()
    }

    #[test]
    fn a_message_enters_each_stream_once_in_the_order_of_their_numbers() {
        let streams = streams(&[
            ("all", &["#"]),
            ("twice", &["a/+", "a/#", "a/b"]),
            ("other", &["b/#"]),
            ("dollar", &["$x/#"]),
        ]);
        let mut found = vec![StreamId(7)];
        for (topic, expect) in [
            ("a/b", &[99, 100][..]),
            ("a", &[99, 100]),
            ("b/c", &[98, 100]),
            ("c", &[100]),
            ("$x/y", &[97]),
            ("$y", &[]),
        ] {
            streams.matching(Topic::parse(topic).unwrap(), &mut found);
            assert!(
                found.iter().map(|id| &id.0).eq(expect),
                "{topic}: {found:?}"
            );
        }
        assert!(Streams::default().is_empty());
    }

    #[test]
    fn the_smallest_stream_serves_a_filter() {
        let streams = streams(&[
            ("all", &["#"]),
            ("two", &["a/#", "b/#"]),
            ("a", &["a/#"]),
            ("also-a", &["a/#"]),
            ("three", &["c/#", "d/#", "e/#"]),
            ("c-and-x", &["c/#", "x/#"]),
        ]);
        for (filter, expect) in [
            ("a/b", "a"),
            ("a/+/c", "a"),
            ("a", "a"),
            ("b/#", "two"),
            ("c/1", "c-and-x"),
            ("e/1", "three"),
            ("+/b", "all"),
            ("#", "all"),
        ] {
            let serving = streams.serving(Filter::parse(filter).unwrap());
            assert_eq!(
                serving.map(|stream| &*stream.name),
                Some(expect),
                "{filter}"
            );
        }
        let dollar = Filter::parse("$SYS/#").unwrap();
        assert_eq!(streams.serving(dollar), None);
        assert_eq!(
            streams.named("two").map(|stream| stream.id),
            Some(StreamId(99))
        );
        assert!(streams.covers(StreamId(99), Filter::parse("b/x").unwrap()));
        assert!(!streams.covers(StreamId(98), Filter::parse("b/x").unwrap()));
    }

    #[test]
    fn what_cannot_be_used_is_told() {
        let stream = |name: &str, filters: &[String]| Stream {
            id: StreamId(1),
            name: name.into(),
            filters: filters.to_vec(),
        };
        let deep = |levels| vec!["a"; levels].join("/");
        let all = vec![
            stream("a", &[]),
            stream("b", &[deep(LEVELS_MAX), deep(LEVELS_MAX + 1)]),
            stream("b", &[deep(2 * LEVELS_MAX)]),
        ];
        let errors = Streams::new(all).unwrap_err();
        assert_eq!(
            errors,
            [
                StreamsError::NoFilter { stream: 0 },
                StreamsError::TooManyLevels { stream: 1 },
                StreamsError::Twice { stream: 2 },
                StreamsError::TooManyLevels { stream: 2 },
            ]
        );
    }

    #[test]
    fn names_can_stand_in_filters_and_files() {
        let longest = "n".repeat(STREAM_NAME_BYTES_MAX);
        for (name, expect) in [
            ("orders", true),
            ("Chat-1_a.b", true),
            (&*longest, true),
            (&*format!("{longest}n"), false),
            ("", false),
            ("a/b", false),
            ("a;b", false),
            ("+", false),
            ("\u{e9}", false),
        ] {
            assert_eq!(is_stream_name(name), expect, "{name}");
        }
    }
}

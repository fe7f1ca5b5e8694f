//! The filters of permissions: which filters they cover, and how `%c` and `%u` become names.

use waypost_mqtt::{Filter, TopicError};

/// Whom a permission is asked for, in what its filters see of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names<'a> {
    pub client_id: &'a str,
    pub user: Option<&'a str>,
}

/// A Topic Filter in which `%c` stands for the client id and `%u` for the user name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    levels: Box<[Level]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Level {
    Literal(Box<str>),
    /// A name with literal text around it.
    Template {
        before: Box<str>,
        name: Name,
        after: Box<str>,
    },
    /// `+`
    One,
    /// `#`
    Rest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    ClientId,
    User,
}

/// Why a filter cannot be in a permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PatternError {
    #[error("{0}")]
    Filter(TopicError),
    /// `%c%u` of "a" and "bc" would be that of "ab" and "c".
    #[error(
        "has two of %c and %u in one level: put a / between them, so that one name cannot pass for two"
    )]
    TwoNames,
    #[error("is a shared subscription: permissions are about the filter inside, so leave out {0}")]
    Shared(&'static str),
}

impl Pattern {
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let filter = Filter::parse(text).map_err(PatternError::Filter)?;
        if text.starts_with("$share/") {
            return Err(PatternError::Shared("$share/GROUP/"));
        }
        if text.starts_with("$queue/") {
            return Err(PatternError::Shared("$queue/"));
        }
        let levels = filter
            .as_str()
            .split('/')
            .map(Level::parse)
            .collect::<Result<_, _>>()?;
        Ok(Self { levels })
    }

    /// Whether it asks for the client id.
    pub fn names_client_id(&self) -> bool {
        self.levels.iter().any(|level| {
            matches!(
                level,
                Level::Template {
                    name: Name::ClientId,
                    ..
                }
            )
        })
    }

    /// Whether every topic that `filter` matches is one that this pattern matches. A Topic Name is a filter that
    /// matches itself.
    pub fn covers(&self, names: &Names<'_>, filter: &str) -> bool {
        // 5 [MQTT-4.7.2-1]: a wildcard in the first level matches no topic that begins with $.
        let is_dollar = filter.starts_with('$');
        let mut wanted = filter.split('/');
        for (at, level) in self.levels.iter().enumerate() {
            let wildcards_reach = at > 0 || !is_dollar;
            if *level == Level::Rest {
                // 5 §4.7.1.2: the level above is covered too.
                return wildcards_reach;
            }
            let Some(wanted) = wanted.next() else {
                return false;
            };
            if wanted == "#" {
                // Only here does something else than # reach as far: every topic has a first level.
                return at == 0 && matches!(*self.levels, [Level::One, Level::Rest]);
            }
            let covered = match level {
                Level::One => wildcards_reach,
                Level::Literal(literal) => **literal == *wanted,
                Level::Template {
                    before,
                    name,
                    after,
                } => name.of(names).is_some_and(|name| {
                    wanted
                        .strip_prefix(&**before)
                        .and_then(|rest| rest.strip_suffix(&**after))
                        == Some(name)
                }),
                Level::Rest => false,
            };
            if !covered {
                return false;
            }
        }
        wanted.next().is_none()
    }
}

impl Level {
    fn parse(text: &str) -> Result<Self, PatternError> {
        match text {
            "+" => return Ok(Self::One),
            "#" => return Ok(Self::Rest),
            _ => {}
        }
        let first = |text: &str| {
            let at = [("%c", Name::ClientId), ("%u", Name::User)]
                .into_iter()
                .filter_map(|(template, name)| Some((text.find(template)?, name)));
            at.min_by_key(|(at, _)| *at)
        };
        let Some((at, name)) = first(text) else {
            return Ok(Self::Literal(text.into()));
        };
        let (before, rest) = text.split_at(at);
        let after = rest.get(2..).unwrap_or_default();
        if first(after).is_some() {
            return Err(PatternError::TwoNames);
        }
        Ok(Self::Template {
            before: before.into(),
            name,
            after: after.into(),
        })
    }
}

impl Name {
    /// The name, if it is one that cannot reach beyond its own level or into the server's topics.
    fn of<'a>(self, names: &Names<'a>) -> Option<&'a str> {
        let name = match self {
            Self::ClientId => names.client_id,
            Self::User => names.user?,
        };
        let is_plain = !name.is_empty()
            && !name.starts_with('$')
            && !name
                .bytes()
                .any(|byte| matches!(byte, b'/' | b'+' | b'#' | 0));
        is_plain.then_some(name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    const ALICE: Names<'_> = Names {
        client_id: "phone",
        user: Some("alice"),
    };

    fn covers(pattern: &str, names: &Names<'_>, filter: &str) -> bool {
        Pattern::parse(pattern).unwrap().covers(names, filter)
    }

    #[test]
    fn a_filter_is_covered_or_not() {
        for (pattern, filter, expect) in [
            ("a/b", "a/b", true),
            ("a/b", "a", false),
            ("a/b", "a/b/c", false),
            ("a/b", "a/+", false),
            ("a/b", "a/#", false),
            ("a/b", "A/b", false),
            ("a/", "a/", true),
            ("a/", "a", false),
            ("a/+", "a/b", true),
            ("a/+", "a/", true),
            ("a/+", "a/+", true),
            ("a/+", "a/#", false),
            ("a/+", "a", false),
            ("a/+", "a/b/c", false),
            ("a/#", "a", true),
            ("a/#", "a/#", true),
            ("a/#", "a/+", true),
            ("a/#", "a/+/#", true),
            ("a/#", "a/b/c", true),
            ("a/#", "+/#", false),
            ("a/#", "#", false),
            ("a/#", "b", false),
            ("a/+/#", "a/#", false),
            ("a/+/#", "a/b/#", true),
            ("#", "#", true),
            ("#", "+/+", true),
            ("#", "/", true),
            ("+/#", "#", true),
            ("+/+/#", "#", false),
            ("+", "#", false),
            ("#", "$SYS/uptime", false),
            ("#", "$SYS/#", false),
            ("+/#", "$SYS/#", false),
            ("+/uptime", "$SYS/uptime", false),
            ("+", "$SYS", false),
            ("$SYS/#", "$SYS/#", true),
            ("$SYS/#", "$SYS/broker/+", true),
            ("$SYS/+", "$SYS/#", false),
            ("$SYS/#", "#", false),
            ("$events/client/+", "$events/client/denied", true),
            ("a/#", "a/$SYS", true),
        ] {
            assert_eq!(
                covers(pattern, &ALICE, filter),
                expect,
                "{pattern} over {filter}"
            );
        }
    }

    #[test]
    fn templates_stand_for_names() {
        for (pattern, filter, expect) in [
            ("inbox/%u", "inbox/alice", true),
            ("inbox/%u", "inbox/bob", false),
            ("inbox/%u", "inbox/%u", false),
            ("inbox/%u", "inbox/+", false),
            ("inbox/%u/#", "inbox/alice/#", true),
            ("inbox/%u/#", "inbox/alice", true),
            ("%u/%c/#", "alice/phone/a", true),
            ("%u/%c/#", "phone/alice/a", false),
            ("d/x-%c-y", "d/x-phone-y", true),
            ("d/x-%c-y", "d/x-phone", false),
            ("d/x-%c-x", "d/x-x", false),
            ("100%", "100%", true),
        ] {
            assert_eq!(
                covers(pattern, &ALICE, filter),
                expect,
                "{pattern} over {filter}"
            );
        }
    }

    #[test]
    fn names_cannot_widen_a_template() {
        for name in [
            "", "+", "#", "a/b", "a/+", "/", "a+", "a#", "a\0", "$SYS", "$share",
        ] {
            let names = Names {
                client_id: name,
                user: Some(name),
            };
            for template in ["%c", "%u"] {
                for filter in [name, "a", "a/b", "+", "#", "+/#", "$SYS/#", "$SYS"] {
                    for pattern in [template.to_owned(), format!("{template}/#")] {
                        assert!(
                            !covers(&pattern, &names, filter),
                            "{pattern} over {filter} as {name}"
                        );
                    }
                    let (pattern, filter) = (format!("a/{template}/#"), format!("a/{filter}"));
                    assert!(
                        !covers(&pattern, &names, &filter),
                        "{pattern} over {filter} as {name}"
                    );
                }
            }
        }
        let anonymous = Names {
            client_id: "phone",
            user: None,
        };
        assert!(!covers("inbox/%u/#", &anonymous, "inbox//a"));
        assert!(!covers("inbox/%u/#", &anonymous, "inbox/%u/a"));
    }

    #[test]
    fn what_cannot_be_a_pattern_is_told() {
        for (pattern, expect) in [
            ("", "is empty"),
            ("a/#/b", "has a # that is not alone in its last level"),
            ("a/b+", "has a + that does not fill its level"),
            (
                "%c%u",
                "has two of %c and %u in one level: put a / between them, so that one name cannot pass for two",
            ),
            (
                "a/%u-%u",
                "has two of %c and %u in one level: put a / between them, so that one name cannot pass for two",
            ),
            (
                "$share/g/a/#",
                "is a shared subscription: permissions are about the filter inside, so leave out $share/GROUP/",
            ),
            (
                "$queue/a",
                "is a shared subscription: permissions are about the filter inside, so leave out $queue/",
            ),
        ] {
            assert_eq!(
                Pattern::parse(pattern).unwrap_err().to_string(),
                expect,
                "{pattern}"
            );
        }
    }

    /// What the standard says of one topic and one filter (5 §4.7), letter by letter.
    fn matches(filter: &[&str], topic: &[&str], at: usize) -> bool {
        if at == 0 && topic[0].starts_with('$') && ["+", "#"].contains(&filter[0]) {
            return false;
        }
        match (filter.get(at), topic.get(at)) {
            (Some(&"#"), _) | (None, None) => true,
            (Some(&level), Some(&name)) => {
                (level == "+" || level == name) && matches(filter, topic, at + 1)
            }
            _ => false,
        }
    }

    /// Every topic of up to that many levels over the names that can tell filters apart: each literal there is, and one
    /// that no filter names. The empty topic is none, but counting it keeps a corner out: that `/+/#` reaches as far as `/#`.
    fn topics(levels_max: usize) -> Vec<Vec<&'static str>> {
        let mut all: Vec<Vec<&str>> = Vec::new();
        let mut longest = vec![Vec::new()];
        for at in 0..levels_max {
            longest = longest
                .iter()
                .flat_map(|topic: &Vec<&str>| {
                    let names: &[&str] = if at == 0 {
                        &["", "a", "b", "z", "$x", "$z"]
                    } else {
                        &["", "a", "b", "z", "$x"]
                    };
                    names
                        .iter()
                        .map(move |name| [&topic[..], &[*name]].concat())
                })
                .collect();
            all.extend(longest.iter().cloned());
        }
        all
    }

    fn filters() -> impl Strategy<Value = Vec<&'static str>> {
        let level = || select(vec!["", "a", "b", "+", "+", "$x"]);
        (proptest::collection::vec(level(), 0..4), any::<bool>())
            .prop_map(|(mut levels, rest)| {
                if rest {
                    levels.push("#");
                }
                levels
            })
            .prop_filter("a filter has a character", |levels| {
                levels.len() > 1 || levels.first().is_some_and(|level| !level.is_empty())
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3_000))]

        /// Goal: one filter covers another exactly if it matches every topic that the other matches. Method: all topics
        /// of up to one level more than either has.
        #[test]
        fn covering_is_what_it_says(pattern in filters(), filter in filters()) {
            let said = covers(&pattern.join("/"), &ALICE, &filter.join("/"));
            let found = topics(5)
                .iter()
                .all(|topic| !matches(&filter, topic, 0) || matches(&pattern, topic, 0));
            prop_assert_eq!(said, found, "{} over {}", pattern.join("/"), filter.join("/"));
        }
    }
}

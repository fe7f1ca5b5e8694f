//! Strategies by name: case, `_` and `-` do not matter; a name that none has is answered with the nearest.

use crate::{Strategy, registry};

/// A name that no strategy has.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "there is no cache strategy {name:?}; did you mean {nearest}? There are: {}",
    every_name()
)]
pub struct UnknownStrategy {
    /// The name that was asked for.
    pub name: String,
    /// The strategy that was probably meant.
    pub nearest: &'static str,
}

/// Finds a strategy by name or alias; case, `_` and `-` do not matter.
pub fn find(name: &str) -> Result<&'static Strategy, UnknownStrategy> {
    let wanted = plain(name);
    let known = || {
        registry().iter().flat_map(|strategy| {
            std::iter::once(&strategy.name)
                .chain(strategy.aliases)
                .map(move |name| (plain(name), strategy))
        })
    };
    if let Some((_, strategy)) = known().find(|(known, _)| *known == wanted) {
        return Ok(strategy);
    }
    Err(UnknownStrategy {
        name: name.into(),
        nearest: known()
            .min_by_key(|(known, _)| strsim::levenshtein(&wanted, known))
            .map_or("", |(_, strategy)| strategy.name),
    })
}

/// At most this many letters of a name are compared: the comparison is quadratic, and no name of ours is longer.
const COMPARED_MAX: usize = 64;

fn plain(name: &str) -> String {
    name.chars()
        .filter(|character| !matches!(character, '_' | '-'))
        .flat_map(char::to_lowercase)
        .take(COMPARED_MAX)
        .collect()
}

fn every_name() -> String {
    let names: Vec<_> = registry().iter().map(|strategy| strategy.name).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases_are_found_however_they_are_written() {
        for (asked, expect) in [("lru", "lru"), ("Least_Recently-Used", "lru")] {
            assert_eq!(find(asked).unwrap().name, expect, "{asked}");
        }
    }

    #[test]
    fn no_name_stands_for_two() {
        let mut seen = std::collections::HashSet::new();
        for strategy in registry() {
            for name in std::iter::once(&strategy.name).chain(strategy.aliases) {
                assert!(seen.insert(plain(name)), "{name} stands twice");
            }
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest_and_with_all() {
        let error = find("lur").unwrap_err();
        assert_eq!(error.nearest, "lru");
        let text = error.to_string();
        assert!(text.contains("did you mean lru?"), "{text}");
        for strategy in registry() {
            assert!(text.contains(strategy.name), "{text}");
        }
        assert!(find(&"x".repeat(100_000)).is_err());
    }
}

//! Strategies by name: case, `_` and `-` do not matter; a name that none has is answered with the nearest.

use crate::{Strategy, registry};

/// A name that no strategy has.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "there is no balance strategy {name:?}; did you mean {nearest}? There are: {}",
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
            .min_by_key(|(known, _)| distance(&wanted, known))
            .map_or("", |(_, strategy)| strategy.name),
    })
}

/// At most this much of a name is compared: the table is quadratic, and no name of ours is longer.
const COMPARED_MAX: usize = 64;

pub(crate) fn plain(name: &str) -> Vec<char> {
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

/// Levenshtein's: letters to insert, delete or replace.
fn distance(from: &[char], to: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, b) in row.iter_mut().skip(1).zip(to) {
            left = (diagonal + usize::from(a != b))
                .min(*cell + 1)
                .min(left + 1);
            diagonal = std::mem::replace(cell, left);
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases_are_found_however_they_are_written() {
        for (asked, expect) in [
            ("round-robin", "round-robin"),
            ("Round_Robin", "round-robin"),
            ("ROUNDROBIN", "round-robin"),
            ("rr", "round-robin"),
            ("swrr", "weighted-round-robin"),
            ("LeastConn", "least-connections"),
            ("power-of-two-choices", "power-of-two"),
        ] {
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
        for (asked, expect) in [
            ("round-robbin", "round-robin"),
            ("least-conections", "least-connections"),
            ("randon", "random"),
        ] {
            let error = find(asked).unwrap_err();
            assert_eq!(error.nearest, expect);
            let text = error.to_string();
            assert!(text.contains(&format!("did you mean {expect}?")), "{text}");
            for strategy in registry() {
                assert!(text.contains(strategy.name), "{text}");
            }
        }
        assert!(find(&"x".repeat(100_000)).is_err());
    }

    #[test]
    fn distance_counts_letters() {
        for (from, to, expect) in [
            ("", "", 0),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("sitting", "kitten", 3),
            ("random", "randon", 1),
        ] {
            assert_eq!(distance(&plain(from), &plain(to)), expect, "{from} {to}");
        }
    }
}

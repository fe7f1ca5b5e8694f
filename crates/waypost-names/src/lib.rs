//! Finding a strategy by name, the same way in every family: case, `_` and `-` do not matter, an alias is as good as the
//! name, and a name that none has is answered with the nearest and with all there are.
//!
//! Deliberately not here: what a strategy is. Each family has its own trait and its own row.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

/// What goes by a name and some aliases.
pub trait Named {
    /// Its name in configuration.
    fn name(&self) -> &'static str;

    /// Other names it goes by.
    fn aliases(&self) -> &'static [&'static str];
}

/// Makes a family's row, a `struct` with `name` and `aliases`, [`Named`]; two rows are equal if their names are, and a name is
/// what is printed of one.
#[macro_export]
macro_rules! named {
    ($row:ty) => {
        impl $crate::Named for $row {
            fn name(&self) -> &'static str {
                self.name
            }

            fn aliases(&self) -> &'static [&'static str] {
                self.aliases
            }
        }

        impl std::fmt::Debug for $row {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(self.name)
            }
        }

        impl PartialEq for $row {
            fn eq(&self, other: &Self) -> bool {
                self.name == other.name
            }
        }

        impl Eq for $row {}
    };
}

/// A name that no strategy of the family has.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "there is no {family} strategy {name:?}; did you mean {nearest}? There are: {}",
    names.join(", ")
)]
pub struct UnknownStrategy {
    /// The family that was asked.
    pub family: &'static str,
    /// The name that was asked for.
    pub name: String,
    /// The strategy that was probably meant.
    pub nearest: &'static str,
    /// The names there are.
    pub names: Vec<&'static str>,
}

/// Finds a strategy in its family's registry, by name or alias.
pub fn find<'a, S: Named>(
    family: &'static str,
    registry: &'a [S],
    name: &str,
) -> Result<&'a S, UnknownStrategy> {
    let wanted = plain(name);
    if let Some((_, strategy)) = every_name(registry).find(|(known, _)| plain(known) == wanted) {
        return Ok(strategy);
    }
    Err(UnknownStrategy {
        family,
        name: name.into(),
        nearest: every_name(registry)
            .min_by_key(|(known, _)| strsim::levenshtein(&wanted, &plain(known)))
            .map_or("", |(_, strategy)| strategy.name()),
        names: names(registry),
    })
}

/// Every name in a registry, aliases left out.
pub fn names<S: Named>(registry: &[S]) -> Vec<&'static str> {
    registry.iter().map(Named::name).collect()
}

/// At most this many letters of a name are compared: the comparison is quadratic, and no name of ours is longer.
const COMPARED_MAX: usize = 64;

/// A name as it is compared: small letters, without `_` and `-`.
pub fn plain(name: &str) -> String {
    name.chars()
        .filter(|character| !matches!(character, '_' | '-'))
        .flat_map(char::to_lowercase)
        .take(COMPARED_MAX)
        .collect()
}

/// The first name or alias that stands for two of a registry. A family's tests want `None`.
pub fn doubled<S: Named>(registry: &[S]) -> Option<&'static str> {
    let mut seen = std::collections::HashSet::new();
    every_name(registry)
        .map(|(name, _)| name)
        .find(|name| !seen.insert(plain(name)))
}

fn every_name<S: Named>(registry: &[S]) -> impl Iterator<Item = (&'static str, &S)> {
    registry.iter().flat_map(|strategy| {
        std::iter::once(strategy.name())
            .chain(strategy.aliases().iter().copied())
            .map(move |name| (name, strategy))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Row {
        name: &'static str,
        aliases: &'static [&'static str],
    }

    named!(Row);

    const fn row(name: &'static str, aliases: &'static [&'static str]) -> Row {
        Row { name, aliases }
    }

    const ROWS: &[Row] = &[
        row("round-robin", &["rr"]),
        row("least-connections", &["leastconn"]),
        row("random", &[]),
    ];

    #[test]
    fn names_and_aliases_are_found_however_they_are_written() {
        for (asked, expect) in [
            ("round-robin", "round-robin"),
            ("Round_Robin", "round-robin"),
            ("ROUNDROBIN", "round-robin"),
            ("rr", "round-robin"),
            ("LeastConn", "least-connections"),
        ] {
            assert_eq!(find("test", ROWS, asked).unwrap().name, expect, "{asked}");
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest_and_with_all() {
        for (asked, expect) in [
            ("round-robbin", "round-robin"),
            ("least-conections", "least-connections"),
            ("randon", "random"),
        ] {
            let error = find("test", ROWS, asked).unwrap_err();
            assert_eq!(error.nearest, expect);
            assert_eq!(
                error.to_string(),
                format!(
                    "there is no test strategy {asked:?}; did you mean {expect}? There are: round-robin, least-connections, random"
                )
            );
        }
        assert!(find("test", ROWS, &"x".repeat(100_000)).is_err());
        assert!(find::<Row>("test", &[], "anything").is_err());
    }

    #[test]
    fn a_name_that_stands_for_two_is_seen() {
        assert_eq!(doubled(ROWS), None);
        assert_eq!(doubled(&[row("a-b", &[]), row("c", &["A_B"])]), Some("A_B"));
    }
}

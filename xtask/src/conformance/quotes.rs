//! Which test quotes which statement.

use super::{Statement, Statements, Version};
use crate::{
    lint::Finding,
    repository::{File, Repository},
    rust_source,
};

/// A statement's id in a test.
#[derive(Debug, PartialEq, Eq)]
pub struct Quote {
    pub version: Version,
    pub id: String,
    pub file: String,
    pub function: String,
}

impl Quote {
    pub fn is_of(&self, statement: &Statement) -> bool {
        self.version == statement.version && self.id == statement.id
    }
}

/// All quotes in the repository's tests, and what is wrong with some.
pub fn collect(repository: &Repository, statements: &Statements) -> (Vec<Quote>, Vec<Finding>) {
    let mut quotes: Vec<Quote> = Vec::new();
    let mut findings = Vec::new();
    for file in repository
        .rust_files("")
        .filter(|file| !file.path.starts_with("xtask/"))
    {
        let default = version_of_file(file);
        for function in rust_source::test_functions(&file.text) {
            let text = file.text.get(function.range.clone()).unwrap_or_default();
            for (offset, named, id) in ids(text) {
                let line = file.line_of(function.range.start + offset);
                let versions = match named {
                    _ if id.starts_with("[W5-") => &[Version::V5],
                    [] => default,
                    named => named,
                };
                if versions.is_empty() {
                    let fix = "write `3.1.1`, `5` or `3.1.1 and 5` before it, or `//! Statements of MQTT 5` at the top of the file";
                    findings.push(Finding::new(
                        &file.path,
                        line,
                        format!("{id} is quoted without its version"),
                        fix,
                    ));
                }
                for &version in versions {
                    if statements.find(version, id).is_none() {
                        findings.push(Finding::new(
                            &file.path,
                            line,
                            format!("{version} {id} is in no list"),
                            "compare it with tests/conformance",
                        ));
                        continue;
                    }
                    let quote = Quote {
                        version,
                        id: id.to_owned(),
                        file: file.path.clone(),
                        function: function.name.to_owned(),
                    };
                    if !quotes.contains(&quote) {
                        quotes.push(quote);
                    }
                }
            }
        }
    }
    (quotes, findings)
}

/// The version that the module documentation speaks of, if any.
fn version_of_file(file: &File) -> &'static [Version] {
    let mut heading = file
        .text
        .lines()
        .take_while(|line| line.starts_with("//!") || line.is_empty());
    let subject = heading.find_map(|line| {
        let text = line.strip_prefix("//!")?.trim();
        text.strip_prefix("Statements of MQTT ")
    });
    match subject {
        Some(subject) if subject.starts_with("3.1.1") => &[Version::V311],
        Some(subject) if subject.starts_with('5') => &[Version::V5],
        _ => &[],
    }
}

/// The ids of a text with their offsets, each with the versions that stand before it; they hold for the ids that follow
/// on the same line.
fn ids(text: &str) -> Vec<(usize, &'static [Version], &str)> {
    let mut found = Vec::new();
    let mut line_start = 0;
    for line in text.split_inclusive('\n') {
        let mut versions: &'static [Version] = &[];
        let mut searched = 0;
        while let Some((at, id)) = next_id(line, searched) {
            let before = line.get(searched..at).unwrap_or_default().trim_end();
            let named = versions_at_end(before);
            if !named.is_empty() {
                versions = named;
            }
            found.push((line_start + at, versions, id));
            searched = at + id.len();
        }
        line_start += line.len();
    }
    found
}

fn next_id(line: &str, from: usize) -> Option<(usize, &str)> {
    let rest = line.get(from..)?;
    let at = ["[MQTT-", "[W5-"]
        .iter()
        .filter_map(|mark| rest.find(mark))
        .min()?
        + from;
    let length = line.get(at..)?.find(']')? + 1;
    let id = line.get(at..at + length)?;
    // `[MQTT-…]` in prose is no id.
    if id.is_ascii() {
        Some((at, id))
    } else {
        next_id(line, at + length)
    }
}

fn versions_at_end(before: &str) -> &'static [Version] {
    let ends_with = |words: &str| {
        before.strip_suffix(words).is_some_and(|rest| {
            !rest.ends_with(|c: char| c.is_alphanumeric() || c == '.' || c == '-')
        })
    };
    if ends_with("3.1.1 and 5") {
        &[Version::V311, Version::V5]
    } else if ends_with("3.1.1") {
        &[Version::V311]
    } else if ends_with("5") {
        &[Version::V5]
    } else {
        &[]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_holds_for_the_rest_of_its_line() {
        let text = "/// 3.1.1 [MQTT-1-1], [MQTT-1-2]; 5 [MQTT-2-1]\n/// [W5-3-a] see [MQTT-…]\n// 3.1.1 and 5 [MQTT-3-1]";
        let found: Vec<_> = ids(text)
            .into_iter()
            .map(|(_, versions, id)| (versions, id))
            .collect();
        let (v311, v5): (&[_], &[_]) = (&[Version::V311], &[Version::V5]);
        assert_eq!(
            found,
            [
                (v311, "[MQTT-1-1]"),
                (v311, "[MQTT-1-2]"),
                (v5, "[MQTT-2-1]"),
                (&[], "[W5-3-a]"),
                (&[Version::V311, Version::V5], "[MQTT-3-1]"),
            ]
        );
    }

    #[test]
    fn a_number_that_ends_in_five_is_no_version() {
        assert_eq!(versions_at_end("section 1.5"), []);
        assert_eq!(versions_at_end("MQTT 5"), [Version::V5]);
        assert_eq!(versions_at_end("(\"5"), [Version::V5]);
    }
}

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
                let own = id.starts_with("[W5-").then_some(Version::V5);
                let Some(version) = own.or(named).or(default) else {
                    let fix = "write `3.1.1` or `5` before it, or `//! Statements of MQTT 5` at the top of the file";
                    findings.push(Finding::new(
                        &file.path,
                        line,
                        format!("{id} is quoted without its version"),
                        fix,
                    ));
                    continue;
                };
                if statements.find(version, id).is_none() {
                    let fix = "compare it with tests/conformance";
                    findings.push(Finding::new(
                        &file.path,
                        line,
                        format!("{version} {id} is in no list"),
                        fix,
                    ));
                    continue;
                }
                let (file, function) = (file.path.clone(), function.name.to_owned());
                let quote = Quote {
                    version,
                    id: id.to_owned(),
                    file,
                    function,
                };
                if !quotes.contains(&quote) {
                    quotes.push(quote);
                }
            }
        }
    }
    (quotes, findings)
}

/// The version that the module documentation speaks of.
fn version_of_file(file: &File) -> Option<Version> {
    let mut heading = file
        .text
        .lines()
        .take_while(|line| line.starts_with("//!") || line.is_empty());
    heading.find_map(|line| {
        let subject = line
            .strip_prefix("//!")?
            .trim()
            .strip_prefix("Statements of MQTT ")?;
        if subject.starts_with("3.1.1") {
            Some(Version::V311)
        } else {
            subject.starts_with('5').then_some(Version::V5)
        }
    })
}

/// The ids of a text with their offsets, each with the version that stands before it; a version holds for the ids that
/// follow on the same line.
fn ids(text: &str) -> Vec<(usize, Option<Version>, &str)> {
    let mut found = Vec::new();
    let mut line_start = 0;
    for line in text.split_inclusive('\n') {
        let mut version = None;
        let mut searched = 0;
        while let Some((at, id)) = next_id(line, searched) {
            let before = line.get(searched..at).unwrap_or_default().trim_end();
            version = version_at_end(before).or(version);
            found.push((line_start + at, version, id));
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

fn version_at_end(before: &str) -> Option<Version> {
    let is_word = |version: &str| {
        before.strip_suffix(version).is_some_and(|rest| {
            !rest.ends_with(|c: char| c.is_alphanumeric() || c == '.' || c == '-')
        })
    };
    if is_word("3.1.1") {
        Some(Version::V311)
    } else {
        is_word("5").then_some(Version::V5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_holds_for_the_rest_of_its_line() {
        let text = "/// 3.1.1 [MQTT-1-1], [MQTT-1-2]; 5 [MQTT-2-1]\n/// [W5-3-a] see [MQTT-…]\n";
        let found: Vec<_> = ids(text)
            .into_iter()
            .map(|(_, version, id)| (version, id))
            .collect();
        assert_eq!(
            found,
            [
                (Some(Version::V311), "[MQTT-1-1]"),
                (Some(Version::V311), "[MQTT-1-2]"),
                (Some(Version::V5), "[MQTT-2-1]"),
                (None, "[W5-3-a]"),
            ]
        );
    }

    #[test]
    fn a_number_that_ends_in_five_is_no_version() {
        assert_eq!(version_at_end("section 1.5"), None);
        assert_eq!(version_at_end("MQTT 5"), Some(Version::V5));
        assert_eq!(version_at_end("(\"5"), Some(Version::V5));
    }
}

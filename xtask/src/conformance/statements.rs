//! The statement lists, who must obey, and the reasons for having no test.

use std::fmt;

use toml::{Table, Value};

use crate::{failure::Failure, repository::Repository};

pub const FOLDER: &str = "tests/conformance";
pub const REASONS: &str = "tests/conformance/reasons.toml";
const VISIBLE: &str = "tests/conformance/visible.tsv";
const DEVIATIONS: &str = "tests/conformance/deviations.md";

/// More reasons than this are excuses.
const REASONS_MAX: usize = 10;

const SUMMARY_CHARS_MAX: usize = 160;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V311,
    V5,
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::V311 => "3.1.1",
            Self::V5 => "5",
        })
    }
}

/// The lists: file, version, and the title of its part of the page.
pub const LISTS: &[(&str, Version, &str)] = &[
    ("tests/conformance/mqtt311.tsv", Version::V311, "MQTT 3.1.1"),
    ("tests/conformance/mqtt5.tsv", Version::V5, "MQTT 5"),
    (
        "tests/conformance/mqtt5-unnumbered.tsv",
        Version::V5,
        "MQTT 5: errors without a number",
    ),
];

/// One row of a list.
#[derive(Debug)]
pub struct Statement {
    pub version: Version,
    /// With its brackets.
    pub id: String,
    pub binds: String,
    pub summary: String,
    pub file: String,
    pub line: usize,
    /// A client's obligation whose breach a server can see.
    visible: bool,
}

impl Statement {
    /// Version and id, as a test quotes them.
    pub fn full_id(&self) -> String {
        format!("{} {}", self.version, self.id)
    }
}

/// Why some statements have no test.
#[derive(Debug)]
pub struct Reason {
    pub text: String,
    pub statements: Vec<(Version, String)>,
}

/// All lists together.
#[derive(Debug)]
pub struct Statements {
    pub all: Vec<Statement>,
    pub reasons: Vec<Reason>,
    /// Where the server does something else, in Markdown.
    pub deviations: String,
}

impl Statements {
    pub fn read(repository: &Repository) -> Result<Self, Failure> {
        let visible: Vec<(String, String)> = rows(repository.text(VISIBLE)?, VISIBLE)?
            .into_iter()
            .map(|(_, [version, id])| (version, id))
            .collect();
        let mut all: Vec<Statement> = Vec::new();
        for (file, version, _) in LISTS {
            for (line, [id, binds, summary]) in rows(repository.text(file)?, file)? {
                let is_known = all
                    .iter()
                    .any(|known| known.version == *version && known.id == id);
                let fault = match () {
                    () if !["client", "server", "both"].contains(&binds.as_str()) => {
                        "binds is client, server or both"
                    }
                    () if summary.chars().count() > SUMMARY_CHARS_MAX => {
                        "the summary has more than 160 characters"
                    }
                    () if !(id.starts_with('[') && id.ends_with(']')) => {
                        "the id stands in brackets"
                    }
                    () if is_known => "the id is there twice",
                    () => "",
                };
                if !fault.is_empty() {
                    return Err(Failure::new(format!("{file}:{line}: {fault}")));
                }
                let visible = visible.contains(&(version.to_string(), id.clone()));
                all.push(Statement {
                    version: *version,
                    id,
                    binds,
                    summary,
                    file: (*file).to_owned(),
                    line,
                    visible,
                });
            }
        }
        let reasons = read_reasons(repository.text(REASONS)?)?;
        let deviations = repository.text(DEVIATIONS)?.to_owned();
        let statements = Self {
            all,
            reasons,
            deviations,
        };
        for (version, id) in statements
            .reasons
            .iter()
            .flat_map(|reason| &reason.statements)
        {
            if statements.find(*version, id).is_none() {
                return Err(Failure::new(format!(
                    "{REASONS}: {version} {id} is in no list"
                )));
            }
        }
        Ok(statements)
    }

    pub fn find(&self, version: Version, id: &str) -> Option<&Statement> {
        self.all
            .iter()
            .find(|statement| statement.version == version && statement.id == id)
    }

    /// What a server must do or refuse.
    pub fn binding_a_server(&self) -> impl Iterator<Item = &Statement> {
        self.all
            .iter()
            .filter(|statement| statement.binds != "client" || statement.visible)
    }

    /// The reason's number, from 1.
    pub fn reason_for(&self, statement: &Statement) -> Option<usize> {
        let wanted = (statement.version, statement.id.clone());
        self.reasons
            .iter()
            .position(|reason| reason.statements.contains(&wanted))
            .map(|index| index + 1)
    }
}

/// The rows of a tab-separated file below its heading, with their lines.
fn rows<const N: usize>(text: &str, file: &str) -> Result<Vec<(usize, [String; N])>, Failure> {
    let lines = text.lines().enumerate().skip(1);
    lines
        .map(|(index, line)| {
            let fields: Vec<String> = line.split('\t').map(str::to_owned).collect();
            let row = fields.try_into();
            row.map(|row| (index + 1, row))
                .map_err(|_| Failure::new(format!("{file}:{}: {N} fields expected", index + 1)))
        })
        .collect()
}

fn read_reasons(text: &str) -> Result<Vec<Reason>, Failure> {
    let wrong = |what: String| Failure::new(format!("{REASONS}: {what}"));
    let table: Table = text.parse().map_err(|error| wrong(format!("{error}")))?;
    let entries = table
        .get("reason")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    if entries.len() > REASONS_MAX {
        return Err(wrong(format!(
            "{} reasons, {REASONS_MAX} at most",
            entries.len()
        )));
    }
    entries
        .iter()
        .map(|entry| {
            let text = entry
                .get("text")
                .and_then(Value::as_str)
                .ok_or_else(|| wrong("a reason has no text".to_owned()))?;
            let ids = |version: Version| {
                let list = entry
                    .get(version.to_string())
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten();
                list.filter_map(Value::as_str)
                    .map(move |id| (version, id.to_owned()))
            };
            let statements = ids(Version::V311).chain(ids(Version::V5)).collect();
            Ok(Reason {
                text: text.to_owned(),
                statements,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_all_their_fields() {
        assert_eq!(
            rows::<2>("a\tb\n1\t2\n", "x").unwrap(),
            [(2, ["1".to_owned(), "2".to_owned()])]
        );
        assert!(
            rows::<2>("a\tb\n1\n", "x")
                .unwrap_err()
                .to_string()
                .contains("x:2")
        );
    }

    #[test]
    fn eleven_reasons_are_too_many() {
        assert_eq!(
            read_reasons(&"[[reason]]\ntext = \"a\"\n".repeat(10))
                .unwrap()
                .len(),
            10
        );
        assert!(read_reasons(&"[[reason]]\ntext = \"a\"\n".repeat(11)).is_err());
    }
}

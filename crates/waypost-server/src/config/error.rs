//! What can be wrong with a configuration, said so that the next attempt succeeds.

use std::fmt;
use std::path::PathBuf;

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A line of the configuration file; lines count from 1.
    File {
        /// The file, as it was named.
        path: PathBuf,
        /// The line the key is on.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A flag of the command line.
    Flag(String),
    /// Nobody gave it: the default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The file could not be read.
    #[error("{}: cannot read the configuration file: {source}", path.display())]
    Unreadable {
        /// The file, as it was named.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{origin}: not valid TOML: {message}")]
    Syntax {
        /// The line.
        origin: Origin,
        /// What the TOML parser said.
        message: String,
    },
    /// A section nobody reads.
    #[error("{origin}: unknown section {name}; did you mean {nearest}?")]
    UnknownSection {
        /// Where it is.
        origin: Origin,
        /// The name as given, in its brackets.
        name: String,
        /// The nearest section.
        nearest: String,
    },
    /// A key nobody reads.
    #[error("{origin}: unknown key {name}; did you mean {nearest}?")]
    UnknownKey {
        /// Where it is.
        origin: Origin,
        /// The name as given.
        name: String,
        /// The nearest key.
        nearest: String,
    },
    /// An environment variable that looks like ours and is not.
    #[error("unknown environment variable {name}; did you mean {nearest}?")]
    UnknownVariable {
        /// The variable.
        name: String,
        /// The nearest one that is read.
        nearest: String,
    },
    /// A plain value or a list where a section belongs.
    #[error("{origin}: {name} is a section: write its keys under a line [{name}]")]
    NotASection {
        /// Where it is.
        origin: Origin,
        /// The section.
        name: String,
    },
    /// A value of the wrong type, unit or range.
    #[error("{origin}: {key} = {found}: expected {expected}, for example {example}")]
    Value {
        /// Where it is.
        origin: Origin,
        /// `section.key`.
        key: String,
        /// The value as given.
        found: String,
        /// What would be right, in words.
        expected: String,
        /// A line that would be right there.
        example: String,
    },
    /// A plain value or a single table where an array of tables belongs.
    #[error("{origin}: there may be several of {name}: write its keys under a line [[{name}]]")]
    NotAnArray {
        /// Where it is.
        origin: Origin,
        /// The array.
        name: String,
    },
    /// More tables of one kind than anybody needs.
    #[error("{origin}: more than {rows_max} of [[{name}]]; leave some out")]
    TooMany {
        /// Where the first one too many is.
        origin: Origin,
        /// The array.
        name: String,
        /// How many there may be.
        rows_max: usize,
    },
    /// A door that strangers could come in by while nothing asks who they are.
    #[error(
        "{origin}: {key} = \"{address}\" can be reached from other machines{through}, and {nobody_asks}, \
         so anyone could connect; {fix}"
    )]
    BeyondLoopback {
        /// Where it is.
        origin: Origin,
        /// `section.key`.
        key: String,
        /// The address.
        address: std::net::SocketAddr,
        /// How they would reach it, where the address alone does not say.
        through: &'static str,
        /// Why nobody is asked.
        nobody_asks: &'static str,
        /// What to do, with lines that would be right.
        fix: String,
    },
    /// Two doors in one place.
    #[error(
        "{origin}: {key} = \"{place}\" is where {other} is already; each door needs a place of its own"
    )]
    SamePlace {
        /// Where the second one is.
        origin: Origin,
        /// `section.key`.
        key: String,
        /// The address or path.
        place: String,
        /// `section.key` of the first one.
        other: String,
    },
    /// Something that does not work without something else.
    #[error("{origin}: {key} needs {missing}: add {fix}")]
    Missing {
        /// Where the needy one is.
        origin: Origin,
        /// `section.key`.
        key: String,
        /// What it needs, in words.
        missing: &'static str,
        /// A line that would be right.
        fix: String,
    },
    /// Two policies for the same filter that say different things.
    #[error(
        "{origin}: {key} differs from {other}, for the same filter \"{filter}\"; keep one of them"
    )]
    Conflict {
        /// Where the second one is.
        origin: Origin,
        /// `section.key`.
        key: String,
        /// Where the first one is.
        other: Origin,
        /// The filter of both.
        filter: String,
    },
    /// Two things of one name.
    #[error("{origin}: {key} = \"{name}\" is taken by {other}; each needs a name of its own")]
    SameName {
        /// Where the second one is.
        origin: Origin,
        /// The key.
        key: String,
        /// The name of both.
        name: String,
        /// Where the first one is.
        other: Origin,
    },
    /// A key that would do nothing where it is.
    #[error("{origin}: {key} would do nothing: {reason}")]
    Idle {
        /// Where it is.
        origin: Origin,
        /// `section.key`.
        key: String,
        /// Why, and what to do.
        reason: String,
    },
}

impl Problem {
    /// Where it is.
    pub fn origin(&self) -> Origin {
        match self {
            Self::Unreadable { path, .. } => Origin::File {
                path: path.clone(),
                line: 1,
            },
            Self::UnknownVariable { name, .. } => Origin::Environment(name.clone()),
            Self::Syntax { origin, .. }
            | Self::UnknownSection { origin, .. }
            | Self::UnknownKey { origin, .. }
            | Self::NotASection { origin, .. }
            | Self::NotAnArray { origin, .. }
            | Self::TooMany { origin, .. }
            | Self::Value { origin, .. }
            | Self::BeyondLoopback { origin, .. }
            | Self::SamePlace { origin, .. }
            | Self::Missing { origin, .. }
            | Self::Conflict { origin, .. }
            | Self::SameName { origin, .. }
            | Self::Idle { origin, .. } => origin.clone(),
        }
    }
}

/// A configuration that cannot be used: all that is wrong with it, at least one thing.
#[derive(Debug)]
pub struct LoadError {
    /// In the order they were met.
    pub problems: Vec<Problem>,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for LoadError {}

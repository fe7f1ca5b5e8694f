//! The configuration file as it is written: lines, excerpts, values in order.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::Origin;
use super::literal::Literal;

/// The entries as they stand in the file: mistakes are told from the top.
pub(super) fn in_order<'a, 'i>(
    table: &'a DeTable<'i>,
) -> Vec<(&'a Name<'i>, &'a Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}

pub(super) fn literal<'a>(value: &'a DeValue<'_>) -> Literal<'a> {
    match value {
        DeValue::String(text) => Literal::String(text),
        DeValue::Boolean(value) => Literal::Fact(*value),
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
            .map_or(Literal::Other, Literal::Integer),
        DeValue::Array(items) => items
            .iter()
            .map(|item| match item.get_ref() {
                DeValue::String(text) => Some(text.as_ref()),
                _ => None,
            })
            .collect::<Option<Vec<&str>>>()
            .map_or(Literal::Other, Literal::List),
        _ => Literal::Other,
    }
}

pub(super) type Name<'i> = Spanned<std::borrow::Cow<'i, str>>;

pub(super) struct File<'a> {
    path: &'a Path,
    text: &'a str,
    /// Where each line but the first begins.
    lines: Vec<usize>,
}

impl<'a> File<'a> {
    pub(super) fn new(path: &'a Path, text: &'a str) -> Self {
        let lines = text.match_indices('\n').map(|(at, _)| at + 1).collect();
        Self { path, text, lines }
    }

    pub(super) fn origin(&self, span: &Range<usize>) -> Origin {
        Origin::File {
            path: self.path.to_owned(),
            line: self.lines.partition_point(|line| *line <= span.start) + 1,
        }
    }

    /// The value as written, its first line, and not more of it than a message has room for.
    pub(super) fn excerpt(&self, span: &Range<usize>) -> String {
        const CHARS_MAX: usize = 60;
        let whole = self.text.get(span.clone()).unwrap_or_default();
        let line = whole.lines().next().unwrap_or_default();
        let shown: String = line.chars().take(CHARS_MAX).collect();
        if shown.len() < whole.len() {
            format!("{shown}…")
        } else {
            shown
        }
    }
}

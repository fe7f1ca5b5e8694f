//! Arrays of tables: `[[name]]`, as often as there are things of that kind. Only the file has them.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Origin, Problem};
use super::field::Field;
use super::file::{File, Name, in_order, literal};
use super::nearest::nearest;

/// The names of all kinds.
pub(super) const NAMES: [&str; 3] = ["listener", "stream", "topic"];

/// One key of such a table.
pub(super) struct Key<C> {
    pub(super) name: &'static str,
    /// What it does, in a sentence or two.
    pub(super) doc: &'static str,
    /// A value that would be right, as TOML.
    pub(super) example: &'static str,
    pub(super) field: Field<C>,
}

/// One of the tables as it was read.
#[derive(Clone, Debug)]
pub(super) struct Row<C> {
    pub(super) value: C,
    /// The line of its header.
    pub(super) origin: Origin,
    /// The keys it has, and their lines.
    pub(super) keys: Vec<(&'static str, Origin)>,
}

impl<C> Row<C> {
    /// Where that key is given, if it is.
    pub(super) fn given(&self, key: &str) -> Option<&Origin> {
        let found = self.keys.iter().find(|(name, _)| *name == key);
        found.map(|(_, origin)| origin)
    }
}

/// Reads every table of one kind; what is wrong with them goes to `problems`.
pub(super) fn read<C: Clone + Default>(
    name: &Name<'_>,
    value: &Spanned<DeValue<'_>>,
    (keys, rows_max): (&[Key<C>], usize),
    file: &File<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<Row<C>> {
    let array = name.get_ref().as_ref();
    let DeValue::Array(items) = value.get_ref() else {
        problems.push(Problem::NotAnArray {
            origin: file.origin(&name.span()),
            name: array.to_owned(),
        });
        return Vec::new();
    };
    let mut rows = Vec::new();
    for item in items {
        let origin = file.origin(&item.span());
        let DeValue::Table(table) = item.get_ref() else {
            let name = array.to_owned();
            problems.push(Problem::NotAnArray { origin, name });
            continue;
        };
        if rows.len() == rows_max {
            let name = array.to_owned();
            problems.push(Problem::TooMany {
                origin,
                name,
                rows_max,
            });
            break;
        }
        rows.push(read_row(array, table, keys, origin, file, problems));
    }
    rows
}

fn read_row<C: Clone + Default>(
    array: &str,
    table: &DeTable<'_>,
    keys: &[Key<C>],
    origin: Origin,
    file: &File<'_>,
    problems: &mut Vec<Problem>,
) -> Row<C> {
    let mut row = Row {
        value: C::default(),
        origin,
        keys: Vec::new(),
    };
    for (name, value) in in_order(table) {
        let origin = file.origin(&name.span());
        let Some(key) = keys.iter().find(|key| key.name == name.get_ref().as_ref()) else {
            let names = keys.iter().map(|key| key.name);
            let nearest = nearest(name.get_ref(), names).unwrap_or_default();
            problems.push(Problem::UnknownKey {
                origin,
                name: format!("{array}.{}", name.get_ref()),
                nearest: format!("{array}.{nearest}"),
            });
            continue;
        };
        let literal = literal(value.get_ref());
        if key.field.write(&mut row.value, &literal) {
            row.keys.push((key.name, origin));
        } else {
            let nearest = key.field.nearest(&literal);
            let example = nearest.unwrap_or_else(|| key.example.to_owned());
            problems.push(Problem::Value {
                origin,
                key: format!("{array}.{}", key.name),
                found: file.excerpt(&value.span()),
                expected: key.field.expected(),
                example: format!("{} = {example}", key.name),
            });
        }
    }
    row
}

/// What the documentation says about one kind of table.
pub(super) struct Array {
    pub(super) name: &'static str,
    pub(super) doc: &'static str,
    pub(super) keys: Vec<KeyPage>,
    /// What a page of documentation says below the keys.
    pub(super) more: &'static str,
}

/// One key, for the documentation.
pub(super) struct KeyPage {
    pub(super) name: &'static str,
    pub(super) doc: &'static str,
    pub(super) expected: String,
    pub(super) example: &'static str,
}

impl<C: Clone> Key<C> {
    pub(super) fn page(&self) -> KeyPage {
        KeyPage {
            name: self.name,
            doc: self.doc,
            expected: self.field.expected(),
            example: self.example,
        }
    }
}

/// Every kind there is, in the order they are printed.
pub(super) fn arrays() -> [Array; 3] {
    [
        Array {
            name: "listener",
            doc: "A door with settings of its own. What it leaves out comes from [tls] and [http].",
            keys: super::door::LISTENER_KEYS.iter().map(Key::page).collect(),
            more: super::door::PAGE,
        },
        Array {
            name: "stream",
            doc: "A named record of the messages on some filters, which clients read from any place on.",
            keys: super::stream::STREAM_KEYS.iter().map(Key::page).collect(),
            more: super::stream::PAGE,
        },
        Array {
            name: "topic",
            doc: "A policy: what holds for the topics of one filter. The most specific filter wins, \
                  key by key.",
            keys: super::topic::TOPIC_KEYS.iter().map(Key::page).collect(),
            more: super::topic::PAGE,
        },
    ]
}

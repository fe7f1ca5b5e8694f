//! Traces: one request a line, a key and perhaps a size in bytes.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashSet;

use crate::Key;

/// The largest size of one request, in bytes: 256 TiB.
const SIZE_MAX: u64 = 1 << 48;

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is wanted.
    pub key: Key,
    /// How many bytes that has; 1 where the trace does not say.
    pub size: u64,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineError {
    /// Lines before had a size, this has none.
    NoSize,
    /// Lines before had no size, this has a second column.
    Size,
    /// The second column is no number of bytes, or too large a one.
    BadSize(String),
    /// There is a third column.
    Columns,
}

impl std::fmt::Display for LineError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoSize => formatter.write_str("no size, where the lines before have one"),
            Self::Size => {
                formatter.write_str("a second column, where the lines before have only a key")
            }
            Self::BadSize(text) => write!(
                formatter,
                "{text:?} is not a size in bytes (0 to {SIZE_MAX})"
            ),
            Self::Columns => formatter.write_str("more than a key and a size"),
        }
    }
}

impl std::error::Error for LineError {}

/// Requests in the order they came.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    requests: Vec<Request>,
    has_sizes: bool,
}

impl Trace {
    /// A trace of such lines.
    pub fn of_lines<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Self, LineError> {
        let mut trace = Self::default();
        lines.into_iter().try_for_each(|line| trace.push(line))?;
        Ok(trace)
    }

    /// Takes one more line: a key, then perhaps its size, separated by spaces or a tab. An empty line is none. A key that is
    /// a number of 64 bits stands for itself, any other text for a hash of it.
    pub fn push(&mut self, line: &str) -> Result<(), LineError> {
        let mut columns = line.split_ascii_whitespace();
        let Some(key) = columns.next() else {
            return Ok(());
        };
        let size = columns.next();
        if columns.next().is_some() {
            return Err(LineError::Columns);
        }
        if self.requests.is_empty() {
            self.has_sizes = size.is_some();
        }
        let size = match (self.has_sizes, size) {
            (false, None) => 1,
            (false, Some(_)) => return Err(LineError::Size),
            (true, None) => return Err(LineError::NoSize),
            (true, Some(text)) => {
                let size: Option<u64> = text.parse().ok();
                size.filter(|size| *size <= SIZE_MAX)
                    .ok_or_else(|| LineError::BadSize(text.to_owned()))?
            }
        };
        let key = key_of(key);
        self.requests.push(Request { key, size });
        Ok(())
    }

    /// The requests.
    pub fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// Whether the lines said how many bytes were wanted.
    pub fn has_sizes(&self) -> bool {
        self.has_sizes
    }

    /// How many different keys there are.
    pub fn distinct(&self) -> usize {
        let keys: HashSet<Key, FixedState> =
            self.requests.iter().map(|request| request.key).collect();
        keys.len()
    }
}

fn key_of(text: &str) -> Key {
    let signed = text.parse().map(i64::cast_unsigned);
    Key(signed
        .or_else(|_| text.parse())
        .unwrap_or_else(|_| FixedState::default().hash_one(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_numbers_or_any_text() {
        let lines = ["7", "-7", "18446744073709551615", "", "rooms/1", "rooms/2"];
        let trace = Trace::of_lines(lines).unwrap();
        let keys: Vec<_> = trace.requests().iter().map(|it| it.key.0).collect();
        assert_eq!(keys[..3], [7, (-7_i64).cast_unsigned(), u64::MAX]);
        assert_eq!((keys.len(), trace.distinct()), (5, 5));
        assert!(!trace.has_sizes());
    }

    #[test]
    fn all_lines_have_a_size_or_none_has() {
        let check = |lines: &[&str], expect| {
            let trace = Trace::of_lines(lines.iter().copied());
            assert_eq!(trace.map(|trace| trace.requests().len()), expect);
        };
        check(&["a 1", "b\t2"], Ok(2));
        check(&["a 1", "b"], Err(LineError::NoSize));
        check(&["a", "b 1"], Err(LineError::Size));
        check(&["a 1 2"], Err(LineError::Columns));
        check(&["a x"], Err(LineError::BadSize("x".into())));
        check(&["a -1"], Err(LineError::BadSize("-1".into())));
        let at_most = SIZE_MAX.to_string();
        check(&[&format!("a {at_most}")], Ok(1));
        let more = (SIZE_MAX + 1).to_string();
        check(&[&format!("a {more}")], Err(LineError::BadSize(more)));
    }
}

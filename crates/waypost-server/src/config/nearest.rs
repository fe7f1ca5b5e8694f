//! The valid name that a mistyped one was probably meant to be.

/// The candidate with the smallest edit distance to `name`; the first of equals.
pub(super) fn nearest<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    candidates.min_by_key(|candidate| distance(name, candidate))
}

/// Edits (insert, delete, replace, swap neighbours) that turn `from` into `to`; case and the choice
/// between `-` and `_` do not count.
/// A name cut short is one edit away.
pub(super) fn distance(from: &str, to: &str) -> usize {
    let from = fold(from);
    let to = fold(to);
    if from.len() >= CUT_SHORT_MIN && to.len() > from.len() && to.starts_with(&from) {
        return 1;
    }
    // Three rows of the Damerau-Levenshtein table: the one being filled and the two above it.
    let mut above_that: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX / 2);
            let mut best = (at(&above, j) + usize::from(a != b))
                .min(at(&above, j + 1) + 1)
                .min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && from.get(i - 1) == Some(b) && to.get(j - 1) == Some(a);
            if swapped {
                best = best.min(at(&above_that, j - 1) + 1);
            }
            row.push(best);
        }
        above_that = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or(0)
}

/// Fewer characters than this say nothing about how the name goes on.
const CUT_SHORT_MIN: usize = 3;

/// At most this much of a name is compared: the table is quadratic, and no valid name is longer.
const COMPARED_MAX: usize = 64;

fn fold(name: &str) -> Vec<char> {
    name.chars()
        .take(COMPARED_MAX)
        .map(|c| {
            if c == '-' {
                '_'
            } else {
                c.to_ascii_lowercase()
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (from, to, expect) in [
            ("", "", 0),
            ("", "abc", 3),
            ("shards", "shards", 0),
            ("Data-Dir", "data_dir", 0),
            ("shard", "shards", 1),
            ("shrads", "shards", 1),
            ("kitten", "sitting", 3),
            ("sitting", "kitten", 3),
            ("drain", "drain_timeout", 1),
            ("dr", "drain", 3),
        ] {
            assert_eq!(distance(from, to), expect, "{from} → {to}");
        }
    }

    #[test]
    fn the_nearest_name_is_found() {
        let names = ["packet_bytes_max", "outbox_bytes_max", "inflight_max"];
        assert_eq!(
            nearest("packet_byte_max", names.into_iter()),
            Some("packet_bytes_max")
        );
        assert_eq!(
            nearest("outbox-max-bytes", names.into_iter()),
            Some("outbox_bytes_max")
        );
        assert_eq!(nearest("x", std::iter::empty()), None);
    }
}

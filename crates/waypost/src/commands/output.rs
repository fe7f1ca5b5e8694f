//! What commands print for people: text on standard output, and aligned tables.

use std::io::{self, Write};

use crate::Failure;

/// Prints to standard output; a reader that has seen enough (`| head`) is no failure.
pub fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| Failure::new(format!("cannot print: {error}"))),
    }
}

/// Where a column's cells stand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A cell of a table.
#[derive(Clone)]
pub struct Cell {
    text: String,
    is_best: bool,
}

impl Cell {
    /// A cell like any other.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            is_best: false,
        }
    }

    /// A cell that is to be marked, or not.
    pub fn best(text: impl Into<String>, is_best: bool) -> Self {
        Self {
            text: text.into(),
            is_best,
        }
    }
}

/// Columns aligned, two spaces between; the best cells carry a `*` and, on a terminal, a colour.
pub fn table(head: &[(&str, Align)], rows: &[Vec<Cell>], is_coloured: bool) -> String {
    let is_marked = rows.iter().flatten().any(|cell| cell.is_best);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells
            .map(|cell| cell.text.chars().count())
            .chain(head.get(column).map(|(title, _)| title.chars().count()))
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<_> = (0..head.len()).map(width).collect();
    let titles: Vec<_> = head.iter().map(|(title, _)| Cell::new(*title)).collect();
    let mut text = String::new();
    for (number, row) in std::iter::once(&titles).chain(rows).enumerate() {
        let mut line = String::new();
        for ((cell, (_, align)), width) in row.iter().zip(head).zip(&widths) {
            let padding = " ".repeat(width.saturating_sub(cell.text.chars().count()));
            let (before, after) = match (is_coloured, number, cell.is_best) {
                (true, 0, _) => ("\x1b[1m", "\x1b[0m"),
                (true, _, true) => ("\x1b[1;32m", "\x1b[0m"),
                _ => ("", ""),
            };
            let (left, right) = match align {
                Align::Left => ("", padding.as_str()),
                Align::Right => (padding.as_str(), ""),
            };
            // The mark has a column of its own beside the numbers, so that these stay aligned.
            let mark = match (is_marked && *align == Align::Right, cell.is_best) {
                (true, true) => "*",
                (true, false) => " ",
                (false, _) => "",
            };
            line.extend([left, before, &cell.text, after, mark, right, "  "]);
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_the_best_marked() {
        let head = [("name", Align::Left), ("ms", Align::Right)];
        let rows = [
            vec![Cell::new("a"), Cell::best("1.5", true)],
            vec![Cell::new("lönger"), Cell::new("12.5")],
        ];
        assert_eq!(
            table(&head, &rows, false),
            "name      ms\na        1.5*\nlönger  12.5\n"
        );
        assert_eq!(
            table(&head, &rows[..1], true),
            "\x1b[1mname\x1b[0m   \x1b[1mms\x1b[0m\na     \x1b[1;32m1.5\x1b[0m*\n"
        );
    }
}

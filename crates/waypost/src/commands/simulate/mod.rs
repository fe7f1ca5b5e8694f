//! What the `simulate` commands of all families share: what they are asked for, and how they answer.
//!
//! Such a command measures every strategy and says the same rows three times: as JSON, as text for a terminal and as a [`Page`];
//! [`Asked::answer`] gives out what was asked for. Pages look as `page.rs` says, their plots are in `plot/`. Deliberately not
//! here: what is measured.

pub mod page;
pub mod plot;

use std::fmt::Display;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use self::page::Page;
use super::output::print;
use crate::Failure;

// The arguments of every `simulate`. No doc comment: clap would show it in place of the command's own.
#[derive(Debug, clap::Args)]
pub struct Asked {
    /// The strategies, separated by commas, or `all`
    #[arg(
        long,
        value_name = "NAME",
        default_value = "all",
        value_delimiter = ','
    )]
    strategy: Vec<String>,
    /// Print one JSON array of rows
    #[arg(long)]
    json: bool,
    /// Write a page with plots and figures too
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the plots alone too
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

impl Asked {
    /// The strategies that are named, each once.
    pub fn strategies<T: PartialEq, E: Display>(
        &self,
        all: impl Fn() -> Vec<T>,
        find: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Vec<T>, Failure> {
        let mut strategies = Vec::new();
        for name in &self.strategy {
            let named = if name == "all" {
                all()
            } else {
                vec![find(name).map_err(|error| Failure::usage(error.to_string()))?]
            };
            for strategy in named {
                if !strategies.contains(&strategy) {
                    strategies.push(strategy);
                }
            }
        }
        Ok(strategies)
    }

    /// Prints the rows or the text, and writes the files that are asked for.
    pub fn answer(&self, rows: &Value, text: &str, page: &Page) -> Result<(), Failure> {
        let write = |file: &Path, text: String| {
            std::fs::write(file, text)
                .map_err(|error| Failure::new(format!("{}: {error}", file.display())))
        };
        if self.json {
            print(&format!("{rows:#}\n"))?;
        } else {
            print(text)?;
        }
        // Last: what was measured is not lost with a file that cannot be written.
        if let Some(file) = &self.html {
            write(file, page.to_html())?;
        }
        if let Some(file) = &self.svg {
            write(file, page.to_svg())?;
        }
        Ok(())
    }
}

/// A bar of so many steps, with what is at work as its message.
pub fn progress(steps: usize) -> ProgressBar {
    let bar = ProgressBar::new(steps as u64);
    match ProgressStyle::with_template("{wide_bar} {pos}/{len} {eta} {msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strategies_are_taken_once_and_all_are_all() {
        let check = |names: &[&str], expect: &[u8]| {
            let asked = Asked {
                strategy: names.iter().map(ToString::to_string).collect(),
                json: false,
                html: None,
                svg: None,
            };
            let found = asked.strategies(|| vec![1, 2, 3], str::parse::<u8>);
            assert_eq!(found.unwrap_or_default(), expect, "{names:?}");
        };
        check(&["2", "1", "2"], &[2, 1]);
        check(&["all"], &[1, 2, 3]);
        check(&["3", "all", "4"], &[3, 1, 2, 4]);
        check(&["all", "zstd"], &[]);
    }
}

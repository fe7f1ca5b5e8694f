//! `waypost strategies [FAMILY]`: the strategies there are.

use std::io;

use serde_json::{Value, json};

use super::output::{Align, Cell, print, table};
use crate::Failure;
use crate::failure::colour;

const EXAMPLES: &str = "\
Examples:
  waypost strategies                              all of them
  waypost strategies balance                      who in a group gets a message
  waypost strategies compress                     how blocks of the log are packed
  waypost strategies balance --json | jq -r '.[].name'

A name stands in the configuration, and in --strategy of the simulator:

  [[topic]]
  filter = \"orders/#\"
  balance = \"least-connections\"

Case, _ and - do not matter; a strategy's other names do as well. How they compare:
`waypost balance simulate`.";

/// A question that several strategies answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Family {
    /// Which member of a group gets a message, and which shard a new connection
    Balance,
    /// What stays in memory
    Cache,
    /// How bytes are packed: on disk
    Compress,
    /// How bytes are sealed: on disk
    Encrypt,
}

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Only this family
    family: Option<Family>,
    /// Print one JSON array of {family, name, aliases, summary, source}
    #[arg(long)]
    json: bool,
}

/// A strategy of any family.
struct Row {
    family: &'static str,
    name: &'static str,
    aliases: &'static [&'static str],
    summary: &'static str,
    source: &'static str,
}

/// The rows of a family: every registry has the same columns.
macro_rules! rows {
    ($family:literal, $registry:expr) => {
        $registry
            .iter()
            .map(|strategy| Row {
                family: $family,
                name: strategy.name,
                aliases: strategy.aliases,
                summary: strategy.summary,
                source: strategy.source,
            })
            .collect()
    };
}

impl Family {
    const ALL: [Self; 4] = [Self::Balance, Self::Cache, Self::Compress, Self::Encrypt];

    fn rows(self) -> Vec<Row> {
        match self {
            Self::Balance => rows!("balance", waypost_balance::registry()),
            Self::Cache => rows!("cache", waypost_cache::registry()),
            Self::Compress => rows!("compress", waypost_compress::registry()),
            Self::Encrypt => rows!("encrypt", waypost_encrypt::registry()),
        }
    }
}

pub fn run(arguments: &Args) -> Result<(), Failure> {
    let families = arguments
        .family
        .map_or_else(|| Family::ALL.to_vec(), |family| vec![family]);
    let rows: Vec<_> = families.into_iter().flat_map(Family::rows).collect();
    if arguments.json {
        return print(&format!("{:#}\n", as_json(&rows)));
    }
    let head = [
        ("family", Align::Left),
        ("name", Align::Left),
        ("what it does", Align::Left),
        ("also called", Align::Left),
    ];
    let cells: Vec<_> = rows
        .iter()
        .map(|row| {
            let aliases = row.aliases.join(", ");
            [row.family, row.name, row.summary, &aliases]
                .map(Cell::new)
                .to_vec()
        })
        .collect();
    print(&table(&head, &cells, colour(&io::stdout())))
}

fn as_json(rows: &[Row]) -> Value {
    rows.iter()
        .map(|row| {
            json!({
                "family": row.family,
                "name": row.name,
                "aliases": row.aliases,
                "summary": row.summary,
                "source": row.source,
            })
        })
        .collect()
}

/// The page that lists them all: generated here, because only the program knows every family.
#[cfg(test)]
mod page {
    use std::fmt::Write as _;

    use super::*;

    const HEAD: &str = "\
# Strategies

Generated from the registry of each family; `RENEW_DOCS=1 cargo test -p waypost strategies` writes it anew.
`waypost strategies` prints the same, `waypost strategies --json` for programs.

A strategy is chosen by name, per topic filter or for the server; case, `_` and `-` do not matter, and its other
names do as well. A name that does not exist is an error that says which was probably meant.
";

    const BALANCE: &str = "
## balance

Which member of a group (`$share/<group>/<filter>`, `$queue/<filter>`) gets a message, and which shard a new
connection. How to choose, with figures: [balance.md](balance.md). The default of a group is `round-robin`.

```toml
[[topic]]
filter = \"orders/#\"
balance = \"least-connections\"
```

| name | what it does | also called | where from |
| --- | --- | --- | --- |
";

    const CACHE: &str = "
## cache

What stays in memory of the messages read back from the disk. The capacity is in bytes.

| name | what it does | also called | where from |
| --- | --- | --- | --- |
";

    const COMPRESS: &str = "
## compress

How blocks of the log are packed before they are written. What is written stays readable when another strategy is
chosen later: each block says which packed it.
How to choose, with figures, and how each is framed: [compression.md](compression.md).

| name | what it does | also called | where from |
| --- | --- | --- | --- |
";

    const ENCRYPT: &str = "
## encrypt

How blocks of the log are sealed, with a key that the server is told and the disk never sees.

| name | what it does | also called | where from |
| --- | --- | --- | --- |
";

    #[test]
    fn the_page_is_current() {
        let mut page = HEAD.to_owned();
        for family in Family::ALL {
            page += match family {
                Family::Balance => BALANCE,
                Family::Cache => CACHE,
                Family::Compress => COMPRESS,
                Family::Encrypt => ENCRYPT,
            };
            for row in family.rows() {
                let aliases: Vec<_> = row.aliases.iter().map(|name| format!("`{name}`")).collect();
                writeln!(
                    page,
                    "| `{}` | {} | {} | {} |",
                    row.name,
                    row.summary,
                    aliases.join(", "),
                    row.source
                )
                .unwrap();
            }
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/strategies.md");
        if std::env::var_os("RENEW_DOCS").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        assert!(
            std::fs::read_to_string(path).unwrap_or_default() == page,
            "docs/strategies.md is not current: RENEW_DOCS=1 cargo test -p waypost strategies"
        );
    }
}

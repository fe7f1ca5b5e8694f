//! `waypost config default|check`: the server's settings, shown and checked.

use std::io::{self, Write};
use std::path::PathBuf;

use waypost_server::config::{Config, Setting, Sources, default_toml};

use crate::Failure;

const EXAMPLES: &str = "\
Examples:
  waypost config default > waypost.toml           every setting, its default, what it does
  waypost config check waypost.toml               what is wrong with a file, line by line
  waypost config check                            what is wrong with the environment (WAYPOST_…)

Exit codes:
  0 no mistakes, 2 mistakes";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Print a complete settings file: every key with its default, unit and meaning
    Default,
    /// Check a settings file, together with the environment, without starting a server
    Check {
        /// The file; without one, only the environment is checked
        file: Option<PathBuf>,
    },
}

pub fn run(arguments: &Args) -> Result<(), Failure> {
    let text = match &arguments.action {
        Action::Default => default_toml(),
        Action::Check { file } => check(&Sources {
            file: file.clone(),
            environment: std::env::vars_os().collect(),
            flags: Vec::new(),
        })?,
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        // `waypost config default | head` has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| Failure::new(format!("cannot print: {error}"))),
    }
}

/// One line for people: no mistakes, and what differs from the defaults.
fn check(sources: &Sources) -> Result<String, Failure> {
    let config = Config::load(sources).map_err(|error| Failure::usage(error.to_string()))?;
    let name = sources.file.as_ref().map_or_else(
        || "the environment".to_owned(),
        |file| file.display().to_string(),
    );
    let defaults = Config::default();
    let changed: Vec<String> = config.changes(&defaults).map(Setting::name).collect();
    Ok(if changed.is_empty() {
        format!("{name}: no mistakes; every setting has its default\n")
    } else {
        format!(
            "{name}: no mistakes; not the default: {}\n",
            changed.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_file(toml: &str) -> Result<String, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(toml.as_bytes()).unwrap();
        let sources = Sources {
            file: Some(file.path().to_owned()),
            ..Sources::default()
        };
        let name = file.path().display().to_string();
        check(&sources)
            .map(|text| text.replace(&name, "x.toml"))
            .map_err(|failure| failure.to_string().replace(&name, "x.toml"))
    }

    #[test]
    fn a_good_file_is_told_with_what_it_changes() {
        assert_eq!(
            check_file(&default_toml()).unwrap(),
            "x.toml: no mistakes; every setting has its default\n"
        );
        assert_eq!(
            check_file("[server]\nshards = 3\n[log]\nlevel = \"warn\"\n").unwrap(),
            "x.toml: no mistakes; not the default: server.shards, log.level\n"
        );
    }

    #[test]
    fn a_bad_file_is_told_line_by_line() {
        assert_eq!(
            check_file("[server]\nshard = 3\n[lag]\n").unwrap_err(),
            "x.toml:2: unknown key server.shard; did you mean server.shards?\n\
             x.toml:3: unknown section [lag]; did you mean [log]?"
        );
    }
}

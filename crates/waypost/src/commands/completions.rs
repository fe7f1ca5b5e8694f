//! `waypost completions SHELL`: a completion script on standard output.

use std::fmt::Write as _;
use std::io::{self, Write};

use crate::Failure;

const EXAMPLES: &str = "\
Examples:
  waypost completions bash > ~/.local/share/bash-completion/completions/waypost
  waypost completions zsh  > ~/.zfunc/_waypost
  waypost completions fish > ~/.config/fish/completions/waypost.fish";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The shell that will read the script
    shell: clap_complete::Shell,
}

pub fn run(arguments: &Args, command: &mut clap::Command) -> Result<(), Failure> {
    // Generated in memory first: clap_complete panics when its writer fails.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, command, "waypost", &mut script);
    if arguments.shell == clap_complete::Shell::Fish {
        script.extend(fish_positionals(command).into_bytes());
    }
    match io::stdout().write_all(&script) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("cannot write the script: {error}")))
        }
        _ => Ok(()),
    }
}

/// What fish offers for arguments without a flag: `clap_complete` leaves them out there, and fish
/// would offer files.
fn fish_positionals(command: &clap::Command) -> String {
    let mut lines = String::new();
    for subcommand in command.get_subcommands() {
        for argument in subcommand.get_positionals() {
            let values = argument.get_possible_values();
            let rows: Vec<_> = values
                .iter()
                .filter(|value| !value.is_hide_set())
                .map(|value| {
                    let help = value.get_help().map(ToString::to_string);
                    let help = help.unwrap_or_default().replace(['\'', '"', '\\', '$'], "");
                    format!("{}\\t'{help}'", value.get_name())
                })
                .collect();
            if !rows.is_empty() {
                let _ = writeln!(
                    lines,
                    "complete -c waypost -n \"__fish_waypost_using_subcommand {}\" -f -a \"{}\"",
                    subcommand.get_name(),
                    rows.join("\n")
                );
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn fish_offers_what_an_argument_may_be() {
        let lines = fish_positionals(&crate::Cli::command());
        for part in [
            "subcommand completions\" -f -a \"bash",
            "\npair\\t'One sender, one",
        ] {
            assert!(lines.contains(part), "{part}: {lines}");
        }
    }
}

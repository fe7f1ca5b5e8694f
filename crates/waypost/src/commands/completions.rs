//! `waypost completions SHELL`: a completion script on standard output.

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
    match io::stdout().write_all(&script) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("cannot write the script: {error}")))
        }
        _ => Ok(()),
    }
}

//! `waypost config default|check`: the server's configuration, shown and checked.

use crate::Failure;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Print every key with its default and unit
    Default,
}

pub fn run(arguments: &Args) -> Result<(), Failure> {
    match arguments.action {
        Action::Default => Err(Failure::new(
            "`waypost config` is not built in this revision",
        )),
    }
}

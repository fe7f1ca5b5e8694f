//! The program: one file per command under `commands/`, the MQTT client they share under `client/`.
//!
//! What is deliberately not here: anything a server does. `waypost serve` hands over to
//! `waypost-server`.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

mod client;
mod commands;
mod failure;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::failure::Failure;

/// What `waypost --help` ends with.
const EXAMPLES: &str = "\
Examples:
  waypost serve                                   a server on 127.0.0.1:1883
  waypost sub -t 'chat/#' -v                      print what arrives, topic first
  waypost pub -t chat/lobby -m 'hello'            send one message

`waypost COMMAND --help` shows the examples of that command.";

/// A messaging server: senders publish, the router decides, receivers get it.
#[derive(Debug, Parser)]
#[command(name = "waypost", version, after_help = EXAMPLES, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    Serve(commands::serve::Args),
    /// Publish a message, or each line of standard input
    Pub(commands::publish::Args),
    /// Print the messages of some topics as they arrive
    Sub(commands::subscribe::Args),
    /// Publish recorded messages again, each as its user
    Replay(commands::replay::Args),
    /// Measure a server: deliveries a second, latency, faults
    Bench(commands::bench::Args),
    /// Show or check the server's configuration
    Config(commands::config::Args),
    /// Manage who may log in and what they may do
    Users(commands::users::Args),
    /// Check, repair, measure, back up or restore what a server keeps on disk
    Store(commands::store::Args),
    /// List, read, export, import or purge streams: the record of what was published
    Streams(commands::streams::Args),
    /// Make, list, give away and take keys for sealing messages end to end
    Keys(commands::keys::Args),
    /// List the strategies there are, by family
    Strategies(commands::strategies::Args),
    /// Compare cache strategies: what stays in memory
    Cache(commands::cache::Args),
    /// Compare compress strategies: how messages are packed
    Compress(commands::compress::Args),
    /// Compare encrypt strategies: how messages are sealed end to end
    Encrypt(commands::encrypt::Args),
    /// Compare balance strategies: who in a group gets a message
    Balance(commands::balance::Args),
    /// Print a completion script for a shell
    Completions(commands::completions::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve(arguments) => commands::serve::run(&arguments),
        Command::Pub(arguments) => commands::publish::run(&arguments),
        Command::Sub(arguments) => commands::subscribe::run(&arguments),
        Command::Replay(arguments) => commands::replay::run(&arguments),
        Command::Bench(arguments) => commands::bench::run(&arguments),
        Command::Config(arguments) => commands::config::run(&arguments),
        Command::Users(arguments) => commands::users::run(&arguments),
        Command::Store(arguments) => commands::store::run(&arguments),
        Command::Streams(arguments) => commands::streams::run(&arguments),
        Command::Keys(arguments) => commands::keys::run(&arguments),
        Command::Strategies(arguments) => commands::strategies::run(&arguments),
        Command::Cache(arguments) => commands::cache::run(&arguments),
        Command::Compress(arguments) => commands::compress::run(&arguments),
        Command::Encrypt(arguments) => commands::encrypt::run(&arguments),
        Command::Balance(arguments) => commands::balance::run(&arguments),
        Command::Completions(arguments) => {
            commands::completions::run(&arguments, &mut Cli::command())
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}

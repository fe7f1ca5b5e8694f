//! `waypost streams list|info|read|export|import|purge`: what the messages of a server were, looked at and looked after.

mod export;
mod generate;
mod import;
mod info;
mod lines;
mod list;
mod purge;
mod read;
mod source;

use super::administration::Place;
use crate::Failure;

const EXAMPLES: &str = "\
A stream is a named, durable, ordered record of the messages on some filters. It begins with a few
lines of the server's configuration:

  [[stream]]
  name = \"orders\"
  filters = [\"orders/#\"]
  retention = \"30d\"

Examples:
  waypost streams list                            what there is, and how much of it
  waypost streams read orders --from last=10      its last ten messages
  waypost streams read orders --from since=1h --filter 'orders/eu/#' --json
  waypost streams export orders orders.jsonl.gz   all of it, one JSON object a line
  waypost streams import orders orders.jsonl.gz   and back, here or elsewhere
  waypost streams purge orders --before 90d       what is older goes for good

A running server is asked through the socket in its data directory; where none runs, its files are
read. Clients read with `waypost sub --from last=10 -t 'orders/#'`, and go on with what is published.
docs/streams.md tells the whole.

Exit codes:
  0 done, 1 not done, 2 a mistake in flags or settings";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List the streams, and how much is in each
    List(list::Args),
    /// Say all there is to say of one stream
    Info(info::Args),
    /// Print the messages of a stream
    Read(read::Args),
    /// Write all of a stream to a file, one JSON object a line
    Export(export::Args),
    /// Put messages into a stream: an export, lines made by hand, or generated ones
    Import(import::Args),
    /// Take messages out of a stream for good
    Purge(purge::Args),
}

pub fn run(arguments: &Args) -> Result<(), Failure> {
    let config = arguments.place.settings()?;
    match &arguments.action {
        Action::List(arguments) => list::run(arguments, &config),
        Action::Info(arguments) => info::run(arguments, &config),
        Action::Read(arguments) => read::run(arguments, &config),
        Action::Export(arguments) => export::run(arguments, &config),
        Action::Import(arguments) => import::run(arguments, &config),
        Action::Purge(arguments) => purge::run(arguments, &config),
    }
}

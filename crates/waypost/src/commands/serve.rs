//! `waypost serve`: runs the server until a signal ends it.

use crate::Failure;

const EXAMPLES: &str = "\
Examples:
  waypost serve                                   127.0.0.1:1883, data in ./waypost-data
  waypost serve --mqtt 127.0.0.1:0                any free port, printed at the start";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Listen for MQTT here (port 0: any free port)
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:1883")]
    mqtt: std::net::SocketAddr,
}

pub fn run(arguments: &Args) -> Result<(), Failure> {
    Err(Failure::new(format!(
        "`waypost serve` is not built in this revision (asked for {})",
        arguments.mqtt
    )))
}

//! Telling a running server that its users have changed.

use waypost_server::config::Config;

use crate::Failure;
use crate::commands::administration::running;

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// The server reads its files again, and acts on them.
    Acts,
    /// No server runs on that data directory.
    NobodyThere,
    /// The server goes on as before, for a reason.
    Refused(String),
}

/// Asks the server on that data directory to read its files again.
pub fn tell(config: &Config) -> Result<Told, Failure> {
    let Some(running) = running(&config.server.data_dir)? else {
        return Ok(Told::NobodyThere);
    };
    let answer = running.ask("POST", "/api/v1/reload", "").map_err(|error| {
        Failure::new(format!(
            "the users are changed, but the running server cannot be told through {}: {error}",
            running.socket.display()
        ))
        .hint("send it SIGHUP")
    })?;
    Ok(match answer.status {
        200 => Told::Acts,
        _ => Told::Refused(answer.error()),
    })
}

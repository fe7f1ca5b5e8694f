//! Telling a running server that its users have changed.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;
use waypost_server::config::Config;
use waypost_server::control::DataDirectory;

use crate::Failure;

/// A server that takes longer has other worries.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: u64 = 1 << 20;

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
    let Ok(directory) = config.server.data_dir.canonicalize() else {
        return Ok(Told::NobodyThere);
    };
    let path =
        DataDirectory::socket_path(&directory).map_err(|error| Failure::new(error.to_string()))?;
    let answer = match UnixStream::connect(&path) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(Told::NobodyThere);
        }
        connected => connected.and_then(ask).map_err(|error| {
            Failure::new(format!(
                "the users are changed, but the running server cannot be told through {}: {error}",
                path.display()
            ))
            .hint("send it SIGHUP")
        })?,
    };
    Ok(read(&answer))
}

fn ask(mut stream: UnixStream) -> io::Result<String> {
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
    stream.write_all(
        b"POST /api/v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    )?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn read(answer: &str) -> Told {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    if head.split(' ').nth(1) == Some("200") {
        return Told::Acts;
    }
    let body = body.trim();
    let json: Option<Value> = serde_json::from_str(body).ok();
    let why = json
        .as_ref()
        .and_then(|json| json.get("error")?.as_str())
        .unwrap_or(body);
    Told::Refused(if why.is_empty() {
        "it did not say why".to_owned()
    } else {
        why.to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_understood() {
        for (answer, expect) in [
            ("HTTP/1.1 200 OK\r\n\r\n{\"reloaded\":true}", Told::Acts),
            (
                "HTTP/1.1 422 Unprocessable Entity\r\n\r\n{\"error\":\"line 3\"}\n",
                Told::Refused("line 3".to_owned()),
            ),
            (
                "HTTP/1.1 403 Forbidden\r\n\r\nnot yours\n",
                Told::Refused("not yours".to_owned()),
            ),
            ("", Told::Refused("it did not say why".to_owned())),
        ] {
            assert_eq!(read(answer), expect, "{answer}");
        }
    }

    #[test]
    fn a_directory_without_a_server_has_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.server.data_dir = directory.path().join("none");
        assert_eq!(tell(&config).unwrap(), Told::NobodyThere);
        config.server.data_dir = directory.path().to_owned();
        assert_eq!(tell(&config).unwrap(), Told::NobodyThere);
    }
}

//! What commands share that look after a server: where its files are, and asking it through the administrator's socket.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use waypost_server::config::{Config, Flag, Sources};
use waypost_server::control::DataDirectory;

use crate::Failure;

/// A server that takes longer has other worries.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Where a server's files are.
#[derive(Debug, clap::Args)]
pub struct Place {
    /// Read the server's settings from this TOML file
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// The server's data directory [default: ./waypost-data]
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<String>,
}

impl Place {
    /// The server's settings; whether its doors may be open is not for these commands to say.
    pub fn settings(&self) -> Result<Config, Failure> {
        let data_dir = self.data_dir.clone().map(|value| Flag {
            name: "--data-dir".to_owned(),
            key: "server.data_dir".to_owned(),
            value,
        });
        let sources = Sources {
            file: self.config.clone(),
            environment: std::env::vars_os().collect(),
            flags: data_dir.into_iter().collect(),
        };
        Config::read(&sources).map_err(|error| Failure::usage(error.to_string()))
    }
}

/// A server that was there.
pub struct Running {
    /// Its socket.
    pub socket: PathBuf,
}

/// What it answered.
#[derive(Debug, Default, PartialEq)]
pub struct Answer {
    /// HTTP's; 0 if it was none.
    pub status: u16,
    body: String,
}

/// The server on that data directory, if one runs there.
pub fn running(data_dir: &Path) -> Result<Option<Running>, Failure> {
    let Ok(directory) = data_dir.canonicalize() else {
        return Ok(None);
    };
    let socket =
        DataDirectory::socket_path(&directory).map_err(|error| Failure::new(error.to_string()))?;
    match UnixStream::connect(&socket) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            Ok(None)
        }
        // Whatever else is wrong shows when it is asked.
        _ => Ok(Some(Running { socket })),
    }
}

impl Running {
    /// Asks and waits for the answer.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> io::Result<Answer> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.set_write_timeout(Some(ANSWER_WITHIN))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        Ok(Answer::read(&String::from_utf8_lossy(&answer)))
    }
}

impl Answer {
    fn read(answer: &str) -> Self {
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        Self {
            status: status.unwrap_or(0),
            body: body.trim().to_owned(),
        }
    }

    /// Its object.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// What it says is wrong.
    pub fn error(&self) -> String {
        let json = self.json();
        let why = json.get("error").and_then(Value::as_str);
        match why.unwrap_or(&self.body) {
            "" => "it did not say why".to_owned(),
            why => why.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_understood() {
        for (answer, status, error) in [
            (
                "HTTP/1.1 422 Unprocessable Entity\r\n\r\n{\"error\":\"line 3\"}\n",
                422,
                "line 3",
            ),
            (
                "HTTP/1.1 403 Forbidden\r\n\r\nnot yours\n",
                403,
                "not yours",
            ),
            ("", 0, "it did not say why"),
        ] {
            let read = Answer::read(answer);
            assert_eq!((read.status, read.error().as_str()), (status, error));
        }
        let answer = Answer::read("HTTP/1.1 200 OK\r\n\r\n{\"reloaded\":true}");
        assert_eq!(answer.json()["reloaded"], true);
    }

    #[test]
    fn a_directory_without_a_server_has_nobody() {
        let directory = tempfile::tempdir().unwrap();
        assert!(running(&directory.path().join("none")).unwrap().is_none());
        assert!(running(directory.path()).unwrap().is_none());
    }
}

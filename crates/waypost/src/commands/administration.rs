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
    head: String,
    body: Vec<u8>,
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
        self.exchange(
            method,
            path,
            body.as_bytes(),
            ANSWER_WITHIN,
            ANSWER_BYTES_MAX,
        )
    }

    /// The same, of more bytes and with more patience.
    pub fn exchange(
        &self,
        method: &str,
        path: &str,
        body: &[u8],
        within: Duration,
        bytes_max: u64,
    ) -> io::Result<Answer> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(within))?;
        stream.set_write_timeout(Some(within))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            body.len()
        )?;
        stream.write_all(body)?;
        let mut answer = Vec::new();
        stream.take(bytes_max).read_to_end(&mut answer)?;
        Ok(Answer::read(&answer))
    }
}

impl Answer {
    fn read(answer: &[u8]) -> Self {
        const END_OF_HEAD: &[u8] = b"\r\n\r\n";
        let end = answer
            .windows(END_OF_HEAD.len())
            .position(|bytes| bytes == END_OF_HEAD)
            .unwrap_or(answer.len());
        let (head, rest) = answer.split_at_checked(end).unwrap_or((answer, b""));
        let head = String::from_utf8_lossy(head).into_owned();
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        Self {
            status: status.unwrap_or(0),
            body: rest.get(END_OF_HEAD.len()..).unwrap_or_default().to_vec(),
            head,
        }
    }

    /// The value of a header, whose name is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().filter_map(|line| line.split_once(':'));
        let found = headers.find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim())
    }

    /// Its bytes.
    pub fn into_body(self) -> Vec<u8> {
        self.body
    }

    /// Its object.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// What it says is wrong.
    pub fn error(&self) -> String {
        let json = self.json();
        let why = json.get("error").and_then(Value::as_str);
        let body = String::from_utf8_lossy(&self.body);
        match why.unwrap_or(body.trim()) {
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
            let read = Answer::read(answer.as_bytes());
            assert_eq!((read.status, read.error().as_str()), (status, error));
        }
        let answer =
            Answer::read(b"HTTP/1.1 200 OK\r\nWaypost-End: true\r\n\r\n{\"reloaded\":true}");
        assert_eq!(answer.header("waypost-end"), Some("true"));
        assert_eq!(answer.json()["reloaded"], true);
    }

    #[test]
    fn a_directory_without_a_server_has_nobody() {
        let directory = tempfile::tempdir().unwrap();
        assert!(running(&directory.path().join("none")).unwrap().is_none());
        assert!(running(directory.path()).unwrap().is_none());
    }
}

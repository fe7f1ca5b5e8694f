//! Where a new password comes from: a terminal that does not show it, standard input or a file. Never the command line,
//! which every user of the machine can read.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use waypost_auth::{PasswordHash, SALT_BYTES};

use crate::Failure;

/// CONNECT cannot carry a longer one.
const PASSWORD_BYTES_MAX: u64 = 65_535;

#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub struct Source {
    /// Read the password from standard input, up to the first line end
    #[arg(long)]
    password_stdin: bool,
    /// Read the password from the first line of this file
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl Source {
    /// Whether a flag says where it comes from.
    pub fn is_given(&self) -> bool {
        self.password_stdin || self.password_file.is_some()
    }

    /// The hash of the password of that user, read from wherever it comes.
    pub fn hash(&self, user: &str) -> Result<PasswordHash, Failure> {
        let password = if let Some(path) = &self.password_file {
            let file = File::open(path).map_err(|error| unreadable(path, &error))?;
            first_line(file).map_err(|error| unreadable(path, &error))?
        } else if self.password_stdin {
            first_line(io::stdin().lock())
                .map_err(|error| Failure::new(format!("cannot read standard input: {error}")))?
        } else {
            ask_twice(user)?
        };
        if password.is_empty() {
            return Err(Failure::usage("the password is empty"));
        }
        if password.len() as u64 > PASSWORD_BYTES_MAX {
            return Err(Failure::usage(format!(
                "the password has more than {PASSWORD_BYTES_MAX} bytes"
            )));
        }
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt)
            .map_err(|error| Failure::new(format!("no random numbers: {error}")))?;
        PasswordHash::new(&password, salt)
            .ok_or_else(|| Failure::new("the password cannot be hashed: not enough memory"))
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("cannot read {}: {error}", path.display()))
}

/// Up to the first line end, which is no part of it; bytes, as CONNECT has them.
fn first_line(source: impl Read) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut source = BufReader::new(source.take(PASSWORD_BYTES_MAX + 3));
    source.read_until(b'\n', &mut line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    Ok(line)
}

/// On the terminal of this process, whatever its input and output are.
fn ask_twice(user: &str) -> Result<Vec<u8>, Failure> {
    let mut terminal = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/tty")
        .map_err(|_| {
            Failure::usage("there is no terminal to ask for a password on").hint(
                "--password-stdin reads it from standard input, --password-file FILE from a file",
            )
        })?;
    let cannot = |error: io::Error| Failure::new(format!("cannot ask for a password: {error}"));
    let password = ask(&mut terminal, &format!("password of {user}: ")).map_err(cannot)?;
    if password.is_empty() {
        return Ok(password);
    }
    let again = ask(&mut terminal, "once more: ").map_err(cannot)?;
    if password == again {
        Ok(password)
    } else {
        Err(Failure::usage("these were two different passwords"))
    }
}

fn ask(terminal: &mut File, question: &str) -> io::Result<Vec<u8>> {
    let silence = Silence::begin(terminal)?;
    terminal.write_all(question.as_bytes())?;
    let line = first_line(&*terminal);
    drop(silence);
    terminal.write_all(b"\n")?;
    line
}

/// A terminal that does not show what is typed, until this is dropped.
struct Silence {
    terminal: File,
    before: Termios,
}

impl Silence {
    fn begin(terminal: &File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(terminal, OptionalActions::Flush, &silent)?;
        Ok(Self {
            terminal: terminal.try_clone()?,
            before,
        })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // When it fails there is no terminal any more.
        let _ = tcsetattr(&self.terminal, OptionalActions::Flush, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_first_line() {
        for (input, expect) in [
            ("secret", "secret"),
            ("secret\n", "secret"),
            ("secret\r\nmore\n", "secret"),
            (" se cret \n", " se cret "),
            ("\n", ""),
            ("", ""),
        ] {
            assert_eq!(
                first_line(input.as_bytes()).unwrap(),
                expect.as_bytes(),
                "{input:?}"
            );
        }
    }

    #[test]
    fn empty_and_endless_passwords_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        for (text, expect) in [
            (String::new(), "the password is empty"),
            ("x".repeat(70_000), "the password has more than 65535 bytes"),
        ] {
            std::fs::write(&path, text).unwrap();
            let source = Source {
                password_stdin: false,
                password_file: Some(path.clone()),
            };
            assert_eq!(source.hash("alice").unwrap_err().to_string(), expect);
        }
    }
}

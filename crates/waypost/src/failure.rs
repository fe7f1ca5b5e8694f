//! How a command fails: what went wrong, what would fix it, and the exit code a script sees.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

/// A command's failure, as its user reads it.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// Anything without an exit code of its own.
    pub const GENERAL: u8 = 1;
    /// The command line or an input file asks for what cannot be; the code clap uses too.
    pub const USAGE: u8 = 2;

    /// A failure with the exit code [`Self::GENERAL`].
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            code: Self::GENERAL,
            message: message.into(),
            hint: None,
        }
    }

    /// A failure of what the user wrote: exit code [`Self::USAGE`].
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(message).code(Self::USAGE)
    }

    /// Another exit code.
    #[must_use]
    pub fn code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// The line that would fix it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Writes the failure to standard error and gives the exit code.
    pub fn report(&self) -> ExitCode {
        let mut stderr = io::stderr().lock();
        let (red, reset) = if colour(&stderr) {
            ("\x1b[1;31m", "\x1b[0m")
        } else {
            ("", "")
        };
        // Standard error is the last resort: when it is closed there is nobody left to tell.
        let _ = writeln!(stderr, "{red}error:{reset} {}", self.message);
        if let Some(hint) = &self.hint {
            let _ = writeln!(stderr, "  hint: {hint}");
        }
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(error.to_string())
    }
}

/// Becomes true at the first SIGINT or SIGTERM; the second ends the process at once.
pub fn interrupted() -> io::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&flag))?;
        signal_hook::flag::register(signal, Arc::clone(&flag))?;
    }
    Ok(flag)
}

/// Done at the first SIGINT or SIGTERM; the second ends the process at once.
pub struct Interruption(UnixStream);

impl Interruption {
    /// Watches the signals; needs a runtime.
    pub fn watch() -> io::Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        let (read, write) = std::os::unix::net::UnixStream::pair()?;
        for signal in [SIGINT, SIGTERM] {
            let flag = Arc::clone(&flag);
            signal_hook::flag::register_conditional_shutdown(
                signal,
                128 + signal,
                Arc::clone(&flag),
            )?;
            signal_hook::flag::register(signal, flag)?;
            signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
        }
        read.set_nonblocking(true)?;
        UnixStream::from_std(read).map(Self)
    }

    /// Waits for it; once it came it has come for good.
    pub async fn wait(&self) {
        let _ = self.0.readable().await;
    }
}

/// A runtime on this thread.
pub fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

/// Whether to colour what goes to `stream`: only on a terminal, and never against `NO_COLOR`.
pub fn colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

//! The server's threads, and hearing of it when one ends.
//!
//! A server that lost a thread is half dead: its clients hang while others are served. So the first
//! thread that fails, by an error or a panic, is told at once, whatever the others do.

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// Running threads that each end with a result.
pub(crate) struct Threads {
    running: usize,
    ends: Receiver<io::Result<()>>,
    end: Sender<io::Result<()>>,
}

impl Threads {
    pub(crate) fn new() -> Self {
        let (end, ends) = channel();
        Self {
            running: 0,
            ends,
            end,
        }
    }

    /// Starts a thread.
    pub(crate) fn spawn(
        &mut self,
        name: String,
        run: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let end = self.end.clone();
        thread::Builder::new().name(name.clone()).spawn(move || {
            // Whatever the thread owned is dropped, never looked at again.
            let ended = panic::catch_unwind(AssertUnwindSafe(run))
                .unwrap_or_else(|_| Err(io::Error::other("it panicked")));
            // Nobody listens when another thread has failed before.
            let _ = end.send(ended.map_err(|error| {
                io::Error::new(error.kind(), format!("the thread {name} failed: {error}"))
            }));
        })?;
        self.running += 1;
        Ok(())
    }

    /// Waits until every thread has ended, or one has failed.
    pub(crate) fn join(self) -> io::Result<()> {
        // One end per thread; the channel stays open as long as `self.end` lives.
        self.ends.iter().take(self.running).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: no thread fails unnoticed. Method: the first of two threads never ends by itself.
    fn first_runs_second(run: impl FnOnce() -> io::Result<()> + Send + 'static) -> String {
        let (stop, stopped) = channel::<()>();
        let mut threads = Threads::new();
        threads
            .spawn("shard-0".to_owned(), move || {
                let _ = stopped.recv();
                Ok(())
            })
            .unwrap();
        threads.spawn("shard-1".to_owned(), run).unwrap();
        let error = threads.join().unwrap_err();
        drop(stop);
        error.to_string()
    }

    #[test]
    fn an_error_is_told_while_other_threads_run() {
        assert_eq!(
            first_runs_second(|| Err(io::Error::other("no poller"))),
            "the thread shard-1 failed: no poller"
        );
    }

    #[test]
    fn a_panic_is_told_while_other_threads_run() {
        assert_eq!(
            first_runs_second(|| panic!("broken")),
            "the thread shard-1 failed: it panicked"
        );
    }

    #[test]
    fn all_ends_are_awaited() {
        let (told, heard) = channel();
        let mut threads = Threads::new();
        for number in 0..3 {
            let told = told.clone();
            threads
                .spawn(format!("shard-{number}"), move || {
                    let _ = told.send(number);
                    Ok(())
                })
                .unwrap();
        }
        threads.join().unwrap();
        drop(told);
        assert_eq!(heard.iter().count(), 3);
    }
}

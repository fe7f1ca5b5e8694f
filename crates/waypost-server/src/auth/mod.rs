//! Who may come in and what they may do: the users file, its rules on every shard, and the checking of passwords.
//!
//! Deliberately not here: the decisions themselves (`waypost-auth`), and the questions (`waypost-core`).

mod judges;
mod log_ins;
mod users_file;

pub use users_file::{UsersFile, UsersFileError};

use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use waypost_auth::Rules;
use waypost_core::{Authenticate, Permit, ShardId};

use crate::config::Config;
use crate::dictionaries::Shelf;
use crate::mailbox::Mailbox;
use crate::metrics::Stats;
use crate::threads::Threads;
use judges::Judges;
use log_ins::{Desk, DeskPort, Message};

/// How long the desk may take to pass new rules on.
const PASSED_ON_WITHIN: Duration = Duration::from_secs(10);

/// The users of a server that starts: what its shards and its desk are made from.
pub(crate) struct Users {
    rules: Arc<Rules>,
    judges: Judges,
    messages: Receiver<Message>,
}

impl Users {
    /// Reads the users file.
    pub(crate) fn read(
        config: &Config,
        seed: u64,
        stats: &Arc<Stats>,
        shelf: &Arc<Shelf>,
    ) -> Result<Self, UsersFileError> {
        let rules = Arc::new(read(config)?);
        let (desk, messages) = log_ins::open(config);
        let judges = Judges {
            desk,
            seed,
            verdicts_max: config.shell.verdicts_max,
            stats: Arc::clone(stats),
            shelf: Arc::clone(shelf),
        };
        Ok(Self {
            rules,
            judges,
            messages,
        })
    }

    /// What that shard asks at first.
    pub(crate) fn judges(
        &self,
        shard: ShardId,
    ) -> (Box<dyn Permit + Send>, Box<dyn Authenticate + Send>) {
        self.judges.of(shard, &self.rules, &self.rules)
    }

    /// Starts the threads that check passwords.
    pub(crate) fn start(
        self,
        config: &Config,
        mailboxes: &Arc<[Arc<Mailbox>]>,
        threads: &mut Threads,
    ) -> io::Result<Arc<UsersHandle>> {
        let handle = UsersHandle {
            rules: Mutex::new(Arc::clone(&self.rules)),
            desk: self.judges.desk.clone(),
            stats: Arc::clone(&self.judges.stats),
        };
        let stats = Arc::clone(&handle.stats);
        let desk = (handle.desk.clone(), self.messages);
        let mailboxes = Arc::clone(mailboxes);
        Desk::start(
            config,
            desk,
            self.rules,
            self.judges,
            mailboxes,
            stats,
            threads,
        )?;
        Ok(Arc::new(handle))
    }
}

/// What other threads may ask about users while the server runs.
pub(crate) struct UsersHandle {
    rules: Mutex<Arc<Rules>>,
    desk: DeskPort,
    stats: Arc<Stats>,
}

impl UsersHandle {
    /// Reads the users file again. When this returns without a problem, whatever reaches a shard from now on is judged by
    /// it; otherwise everything stays as it was.
    pub(crate) fn reload(&self, config: &Config) -> Option<String> {
        let problem = self.read_again(config).err()?;
        let failed = &self.stats.server.users_reloads_failed;
        failed.fetch_add(1, Ordering::Relaxed);
        Some(format!("the users stay as they were: {problem}"))
    }

    fn read_again(&self, config: &Config) -> Result<(), String> {
        let rules = Arc::new(read(config).map_err(|error| error.to_string())?);
        let mut current = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let file = UsersFile::of(config);
        if !current.is_open() && rules.is_open() && !file.exists() {
            // It was there: whoever meant to let everybody in would have left it empty.
            return Err(format!("{} is gone", file.path().display()));
        }
        let (done, passed_on) = channel();
        let message = Message::Rules(Arc::clone(&current), Arc::clone(&rules), done);
        if !self.desk.tell(message) || passed_on.recv_timeout(PASSED_ON_WITHIN).is_err() {
            return Err("the server is ending".to_owned());
        }
        *current = rules;
        Ok(())
    }

    /// No more passwords are checked.
    pub(crate) fn stop(&self) {
        self.desk.tell(Message::End);
    }
}

/// Whether whoever comes in from elsewhere is asked who they are. With a users file that cannot be read, nobody comes in.
pub(crate) fn asks_everybody(config: &Config) -> bool {
    UsersFile::of(config).read().map_or(true, |rules| {
        !rules
            .with_anonymous(config.auth.anonymous)
            .lets_anonymous_in()
    })
}

fn read(config: &Config) -> Result<Rules, UsersFileError> {
    let file = UsersFile::of(config);
    let rules = file.read()?.with_anonymous(config.auth.anonymous);
    if let Some(mode) = file.open_to_others() {
        let path = file.path().display();
        log::warn!("{path} can be used by others (mode {mode:o}): chmod 600 '{path}'");
    }
    if !rules.is_open() {
        log::info!(
            "{} users, {} permissions from {}",
            rules.user_count(),
            rules.permission_count(),
            file.path().display()
        );
    }
    Ok(rules)
}

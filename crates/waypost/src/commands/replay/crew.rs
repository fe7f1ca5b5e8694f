//! The users of a replay: one client each, at most so many at once.
//!
//! A connection that is lost is made again, and what its user had under way is sent again there.
//! Beyond the bound the least recently used are closed, after their acknowledgements; a user who
//! comes back while the old connection is still closing waits for it, so that nobody's messages
//! overtake one another.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use waypost_client::protocol::options::Options;
use waypost_client::{Client, Closed, Completions, Notice, Publish, PublishError, Published};

use super::tally::Tally;
use crate::Failure;
use crate::commands::connection::Server;
use crate::commands::reconnect;

/// Connections being made at once: a server's backlog is often 128.
const OPENING_MAX: usize = 100;
/// Messages of one user that are not finished: all of a replay's may be one user's.
const UNFINISHED_MAX: usize = 8_000;
const UNFINISHED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The connections of a replay.
pub struct Crew {
    server: Server,
    template: Options,
    connections_max: usize,
    members: HashMap<Arc<str>, Member>,
    /// The members that are not closing, least recently used first.
    by_use: BTreeMap<u64, Arc<str>>,
    uses: u64,
    opening: usize,
    tally: Tally,
    completions: Completions,
    sender: mpsc::UnboundedSender<(Arc<str>, Notice)>,
    /// A few for each connection, all of which are taken before anything is waited for.
    notices: mpsc::UnboundedReceiver<(Arc<str>, Notice)>,
    was_connected: bool,
    /// The server cannot be used at all.
    fatal: Option<Failure>,
}

struct Member {
    client: Client,
    last_use: u64,
    is_connected: bool,
    is_closing: bool,
}

impl Crew {
    /// A crew without members; they connect as `template` says, each with its own client id.
    pub fn new(server: Server, template: Options, connections_max: usize, tally: Tally) -> Self {
        let (sender, notices) = mpsc::unbounded_channel();
        Self {
            server,
            template,
            connections_max: connections_max.max(1),
            members: HashMap::new(),
            by_use: BTreeMap::new(),
            uses: 0,
            opening: 0,
            tally,
            completions: Completions::new(),
            sender,
            notices,
            was_connected: false,
            fatal: None,
        }
    }

    /// Whether `name` can publish now: connected or being connected, if there is room; no: poll and
    /// ask again.
    pub fn admit(&mut self, name: &str) -> Result<bool, Failure> {
        if let Some((name, member)) = self.members.get_key_value(name) {
            if member.is_closing {
                return Ok(false);
            }
            self.uses += 1;
            let (last_use, name) = (member.last_use, Arc::clone(name));
            if let Some(member) = self.members.get_mut(&name) {
                member.last_use = self.uses;
            }
            self.by_use.remove(&last_use);
            self.by_use.insert(self.uses, name);
            return Ok(true);
        }
        if self.members.len() >= self.connections_max {
            self.make_room();
            return Ok(false);
        }
        if self.opening >= OPENING_MAX {
            return Ok(false);
        }
        self.open(name)?;
        Ok(true)
    }

    fn open(&mut self, name: &str) -> Result<(), Failure> {
        let name: Arc<str> = name.into();
        let options = Options {
            client_id: name.to_string(),
            ..self.template.clone()
        };
        let (sender, told) = (self.sender.clone(), Arc::clone(&name));
        // Nobody listens once the replay has ended.
        let observe = move |notice: &Notice| drop(sender.send((told.clone(), notice.clone())));
        let client = self
            .server
            .client(options)
            .reconnect(reconnect::publisher())
            .unfinished_max(UNFINISHED_MAX, UNFINISHED_BYTES_MAX)
            .observe(observe)
            .start()
            .map_err(|error| self.server.refusal(&error))?;
        self.uses += 1;
        self.by_use.insert(self.uses, Arc::clone(&name));
        let member = Member {
            client,
            last_use: self.uses,
            is_connected: false,
            is_closing: false,
        };
        self.members.insert(name, member);
        self.opening += 1;
        self.tally.connections_opened += 1;
        self.tally.connections_peak = self.tally.connections_peak.max(self.members.len());
        Ok(())
    }

    /// Publishes as a user that was admitted.
    pub fn publish(&mut self, name: &str, message: Publish, payload_bytes: usize) {
        let Some(member) = self.members.get(name) else {
            return;
        };
        let key = self.tally.begin(payload_bytes);
        let handed = member
            .client
            .try_publish_into(message, &self.completions, key);
        if !matches!(handed, Ok(None)) {
            // It ended just now; what is bounded here is bounded by the tally before.
            self.tally.lose(key);
        }
    }

    /// Lets the network work for at most `timeout`.
    pub async fn poll(&mut self, timeout: Duration) -> Result<(), Failure> {
        tokio::select! {
            biased;
            (key, outcome) = self.completions.next() => self.note(key, &outcome),
            notice = self.notices.recv() => if let Some((name, notice)) = notice {
                self.on_notice(&name, &notice);
            },
            () = tokio::time::sleep(timeout) => {}
        }
        while let Some((key, outcome)) = self.completions.try_next() {
            self.note(key, &outcome);
        }
        while let Ok((name, notice)) = self.notices.try_recv() {
            self.on_notice(&name, &notice);
        }
        self.fatal.take().map_or(Ok(()), Err)
    }

    /// Disconnects everybody; true once nobody is left.
    pub fn disband(&mut self) -> bool {
        for name in std::mem::take(&mut self.by_use).into_values() {
            self.close(&name);
        }
        self.members.is_empty()
    }

    /// The figures so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The figures so far, to be added to.
    pub fn tally_mut(&mut self) -> &mut Tally {
        &mut self.tally
    }

    /// Connections at this moment.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Closes the least recently used that have nothing unfinished, an eighth at a time: one by
    /// one each new user would wait for a whole round trip.
    fn make_room(&mut self) {
        let closing = self.members.len() - self.by_use.len();
        let wanted = (self.connections_max / 8).max(1).saturating_sub(closing);
        let oldest: Vec<_> = self.by_use.values().take(wanted).cloned().collect();
        for name in oldest {
            let member = self.members.get(&name);
            if member.is_some_and(|member| member.client.unfinished() == 0) {
                self.close(&name);
            }
        }
    }

    fn close(&mut self, name: &str) {
        if let Some(member) = self.members.get_mut(name) {
            member.is_closing = true;
            member.client.close();
            self.by_use.remove(&member.last_use);
        }
    }

    fn note(&mut self, key: u64, outcome: &Result<Published, PublishError>) {
        match outcome {
            Ok(published) => self.tally.finish(key, published.reason),
            Err(PublishError::Refused { reason, .. }) => self.tally.finish(key, *reason),
            Err(_) => self.tally.lose(key),
        }
    }

    fn on_notice(&mut self, name: &str, notice: &Notice) {
        match notice {
            Notice::Connected { .. } => {
                self.was_connected = true;
                if let Some(member) = self.members.get_mut(name)
                    && !std::mem::replace(&mut member.is_connected, true)
                {
                    self.opening -= 1;
                }
            }
            Notice::Resent => self.tally.resent += 1,
            Notice::Lost { why, again_in } => self.on_lost(name, why, again_in.is_some()),
            _ => {}
        }
    }

    fn on_lost(&mut self, name: &str, why: &Closed, is_made_again: bool) {
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        let was_connected = std::mem::take(&mut member.is_connected);
        if !matches!(why, Closed::Finished) {
            self.tally.disconnect(name, why, was_connected);
        }
        // The first that is refused, while nobody was ever connected, says what all would hear.
        let is_hopeless = !self.was_connected && !matches!(why, Closed::Finished);
        // Whoever gives up although it may pass has lost patience with the server.
        let is_given_up = !is_made_again && why.is_passing() && !was_connected;
        if is_hopeless || is_given_up {
            self.fatal.get_or_insert_with(|| self.server.failure(why));
        }
        if is_made_again {
            self.tally.connections_opened += 1;
            self.opening += usize::from(was_connected);
        } else {
            self.opening -= usize::from(!was_connected);
            if let Some(member) = self.members.remove(name) {
                self.by_use.remove(&member.last_use);
            }
        }
    }
}

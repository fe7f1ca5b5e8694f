//! The users of a replay: one connection each, at most so many at once.
//!
//! A connection that is lost is made again, and what its user had under way is sent again there.
//! Beyond the bound the least recently used are closed, after their acknowledgements; a user who
//! comes back while the old connection is still closing waits for it, so that nobody's messages
//! overtake one another.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::{Duration, Instant};

use waypost_mqtt::ReasonCode;

use super::tally::Tally;
use crate::Failure;
use crate::client::swarm::{Key, Swarm};
use crate::commands::connection::Server;
use crate::commands::reconnect::{Backoff, FRUITLESS_MAX, PATIENCE};
use waypost_client::protocol::event::{Closed, Event};
use waypost_client::protocol::options::{Options, Outgoing};
use waypost_client::protocol::remains::Remains;

/// Connections being made at once: a server's backlog is often 128.
const OPENING_MAX: usize = 100;

/// The connections of a replay.
pub struct Crew {
    swarm: Swarm,
    template: Options,
    connections_max: usize,
    roster: Roster,
}

/// Who is connected, and what became of their messages.
struct Roster {
    server: Server,
    keys: HashMap<String, Key>,
    members: HashMap<Key, Member>,
    /// The members that are not closing, least recently used first.
    by_use: BTreeMap<u64, Key>,
    uses: u64,
    opening: usize,
    tally: Tally,
    /// Users whose connection was lost with something under way, the first lost first.
    returning: VecDeque<Returning>,
    /// Since when no connection was made, after one was lost.
    down_since: Option<Instant>,
    /// When to try again.
    retry_at: Instant,
    backoff: Backoff,
    was_connected: bool,
    /// The server cannot be used at all.
    fatal: Option<Failure>,
}

struct Returning {
    name: String,
    remains: Remains,
    fruitless: u32,
}

struct Member {
    name: String,
    /// Connections lost since a message of this user was last finished.
    fruitless: u32,
    last_use: u64,
    connected: bool,
    closing: bool,
}

impl Crew {
    /// A crew without members; they connect as `template` says, each with its own client id.
    pub fn new(
        server: Server,
        template: Options,
        connections_max: usize,
        tally: Tally,
    ) -> Result<Self, Failure> {
        Ok(Self {
            swarm: Swarm::new(server.door.clone())?,
            template,
            connections_max: connections_max.max(1),
            roster: Roster {
                server,
                keys: HashMap::new(),
                members: HashMap::new(),
                by_use: BTreeMap::new(),
                uses: 0,
                opening: 0,
                tally,
                returning: VecDeque::new(),
                down_since: None,
                retry_at: Instant::now(),
                backoff: Backoff::new(),
                was_connected: false,
                fatal: None,
            },
        })
    }

    /// The connection of `name`, made if there is room; none: poll and ask again.
    pub fn member(&mut self, name: &str) -> Result<Option<Key>, Failure> {
        if let Some(&key) = self.roster.keys.get(name) {
            return Ok(self.roster.touch(key).then_some(key));
        }
        // Whoever is new waits for those who come back: their messages are older.
        if !self.roster.returning.is_empty() {
            return Ok(None);
        }
        if self.roster.members.len() >= self.connections_max {
            self.make_room();
            return Ok(None);
        }
        if self.roster.opening >= OPENING_MAX {
            return Ok(None);
        }
        self.open(name, None, 0).map(Some)
    }

    fn open(
        &mut self,
        name: &str,
        remains: Option<Remains>,
        fruitless: u32,
    ) -> Result<Key, Failure> {
        let options = Rc::new(Options {
            client_id: name.to_owned(),
            ..self.template.clone()
        });
        let opened = match remains {
            Some(remains) => self.swarm.resume(&options, remains),
            None => self.swarm.open(&options),
        };
        let key = opened.map_err(|error| {
            Failure::new(format!(
                "cannot open connection {}: {error}",
                self.roster.members.len()
            ))
            .hint("allow fewer with --connections-max")
        })?;
        self.roster.add(name, key, fruitless);
        Ok(key)
    }

    /// Publishes as the user of `key`.
    pub fn publish(&mut self, key: Key, message: &Outgoing<'_>) {
        let Self { swarm, roster, .. } = self;
        let tag = roster.tally.begin(message.payload.len());
        swarm.publish(key, message, tag, &mut |key, event| {
            roster.on_event(key, &event)
        });
    }

    /// Lets the network work for at most `timeout`.
    pub fn poll(&mut self, timeout: Duration) -> Result<(), Failure> {
        let timeout = self.bring_back(timeout)?;
        let Self { swarm, roster, .. } = self;
        swarm.poll(timeout, &mut |key, event| roster.on_event(key, &event))?;
        roster.fatal.take().map_or(Ok(()), Err)
    }

    /// Connects again who lost a connection, if it is time; gives how long to wait at most.
    fn bring_back(&mut self, timeout: Duration) -> Result<Duration, Failure> {
        let wait = self
            .roster
            .retry_at
            .saturating_duration_since(Instant::now());
        while wait.is_zero() && self.roster.opening < OPENING_MAX {
            let Some(user) = self.roster.returning.pop_front() else {
                break;
            };
            self.open(&user.name, Some(user.remains), user.fruitless)?;
        }
        Ok(if self.roster.returning.is_empty() {
            timeout
        } else {
            timeout.min(wait)
        })
    }

    /// Disconnects everybody; true once nobody is left.
    pub fn disband(&mut self) -> bool {
        for key in std::mem::take(&mut self.roster.by_use).into_values() {
            self.roster.set_closing(key);
            self.swarm.close(key, ReasonCode::Success);
        }
        self.roster.members.is_empty()
    }

    /// The figures so far.
    pub fn tally(&self) -> &Tally {
        &self.roster.tally
    }

    /// The figures so far, to be added to.
    pub fn tally_mut(&mut self) -> &mut Tally {
        &mut self.roster.tally
    }

    /// Connections at this moment.
    pub fn len(&self) -> usize {
        self.roster.members.len()
    }

    /// Closes the least recently used that have nothing unfinished, an eighth at a time: one by
    /// one each new user would wait for a whole round trip.
    fn make_room(&mut self) {
        let closing = self.roster.members.len() - self.roster.by_use.len();
        let wanted = (self.connections_max / 8).max(1).saturating_sub(closing);
        let idle: Vec<_> = self
            .roster
            .by_use
            .values()
            .copied()
            .take(wanted)
            .filter(|&key| {
                self.swarm
                    .session(key)
                    .is_some_and(|session| session.unfinished() == 0)
            })
            .collect();
        for key in idle {
            self.roster.set_closing(key);
            self.swarm.close(key, ReasonCode::Success);
        }
    }
}

impl Roster {
    fn add(&mut self, name: &str, key: Key, fruitless: u32) {
        self.uses += 1;
        self.keys.insert(name.to_owned(), key);
        self.by_use.insert(self.uses, key);
        let member = Member {
            name: name.to_owned(),
            fruitless,
            last_use: self.uses,
            connected: false,
            closing: false,
        };
        self.members.insert(key, member);
        self.opening += 1;
        self.tally.connections_opened += 1;
        self.tally.connections_peak = self.tally.connections_peak.max(self.members.len());
    }

    /// Marks a use; false when the member is leaving.
    fn touch(&mut self, key: Key) -> bool {
        match self.members.get_mut(&key) {
            Some(member) if !member.closing => {
                self.uses += 1;
                self.by_use.remove(&member.last_use);
                self.by_use.insert(self.uses, key);
                member.last_use = self.uses;
                true
            }
            _ => false,
        }
    }

    fn set_closing(&mut self, key: Key) {
        if let Some(member) = self.members.get_mut(&key) {
            member.closing = true;
            self.by_use.remove(&member.last_use);
        }
    }

    fn on_event(&mut self, key: Key, event: &Event<'_>) -> ControlFlow<()> {
        match event {
            Event::Connected(_) => {
                self.opening -= 1;
                self.was_connected = true;
                self.down_since = None;
                self.backoff = Backoff::new();
                if let Some(member) = self.members.get_mut(&key) {
                    member.connected = true;
                }
            }
            Event::Done { tag, reason, .. } => {
                self.tally.finish(*tag, *reason);
                if let Some(member) = self.members.get_mut(&key) {
                    member.fruitless = 0;
                }
            }
            Event::Resent => self.tally.resent += 1,
            Event::Lost { tag } => self.tally.lose(*tag),
            Event::Closed { why, remains } => self.on_closed(key, why, remains.take()),
            Event::Message(_) | Event::Subscribed { .. } | Event::Unsubscribed { .. } => {}
        }
        ControlFlow::Continue(())
    }

    fn on_closed(&mut self, key: Key, why: &Closed, remains: Remains) {
        let Some(member) = self.members.remove(&key) else {
            return;
        };
        self.keys.remove(&member.name);
        self.by_use.remove(&member.last_use);
        if !member.connected {
            self.opening -= 1;
        }
        if matches!(why, Closed::Finished) {
            return;
        }
        self.tally.disconnect(&member.name, why, member.connected);
        let now = Instant::now();
        let fruitless = member.fruitless + u32::from(member.connected);
        if self.was_connected && why.is_passing() && fruitless < FRUITLESS_MAX {
            let down_since = *self.down_since.get_or_insert(now);
            if now >= self.retry_at {
                self.retry_at = self.backoff.next(now);
            }
            if now - down_since >= PATIENCE {
                self.fatal = Some(self.server.failure(why));
            }
            if remains.tags().next().is_some() {
                self.returning.push_back(Returning {
                    name: member.name,
                    remains,
                    fruitless,
                });
            }
            return;
        }
        for tag in remains.tags() {
            self.tally.lose(tag);
        }
        // Nobody can connect, or the first that is refused says what all would hear.
        let refused = !member.connected && self.tally.connections_opened == 1;
        if matches!(why, Closed::Unreachable(_)) || refused {
            self.fatal = Some(self.server.failure(why));
        }
    }
}

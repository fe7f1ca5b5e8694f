//! A change of the rules: who may stay, and with which subscriptions.
//!
//! New verdicts count at once. Sessions are gone through a bounded number per step, so that a server with very many
//! does not stop for it.

use waypost_mqtt::{Filter, ReasonCode};

use crate::broker::Broker;
use crate::connection::Phase;
use crate::effects::{ConnectionId, Effects, Now};
use crate::events::Event;
use crate::group::group_of;
use crate::history::inner_of;
use crate::permit::{Action, Authenticate, Permit, Standing, Verdict, Who};
use crate::waiting::For;

/// Sessions and subscriptions looked at in one step.
const RECHECKS_PER_STEP: usize = 2_000;

impl Broker {
    /// The rules have changed: these are the judges from now on. Whoever may not stay is disconnected (0x87), and
    /// subscriptions that are no longer allowed end.
    pub fn handle_rules_changed(
        &mut self,
        permit: Box<dyn Permit + Send>,
        authenticate: Box<dyn Authenticate + Send>,
        now: Now,
        out: &mut impl Effects,
    ) {
        // Standing is told from one change to the next: the one before is finished first.
        while self.recheck.is_some() {
            self.recheck_sessions(now, out);
        }
        self.permit = permit;
        self.authenticate = authenticate;
        for id in self.connections.ids() {
            self.recheck_admitted(id, now, out);
            let connection = self.connections.get_mut(id);
            if let Some(waiting) = connection.and_then(|connection| connection.waiting.as_mut())
                && waiting.for_what == For::Stream
            {
                // Whether it may have these subscriptions is asked anew.
                waiting.verdicts.clear();
            }
        }
        self.recheck = Some(0);
        self.recheck_sessions(now, out);
    }

    /// Whether everybody may do everything.
    pub fn is_open(&self) -> bool {
        self.permit.is_open()
    }

    /// Whether the client on a connection may subscribe to a filter, now.
    pub fn may_subscribe(&mut self, id: ConnectionId, filter: &str) -> bool {
        let Some(connection) = self.connections.get(id) else {
            return false;
        };
        let Some(session) = self.sessions.get(connection.session) else {
            return false;
        };
        let who = Who {
            client_id: &session.client_id,
            user: session.user.as_deref(),
            address: connection.peer,
            ticket: None,
        };
        self.permit.check(&who, Action::Subscribe, filter) == Verdict::Allow
    }

    /// One that was let in and waits for its session.
    fn recheck_admitted(&mut self, id: ConnectionId, now: Now, out: &mut impl Effects) {
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let waiting = connection.waiting.as_ref();
        let Some(waiting) = waiting.filter(|_| connection.phase == Phase::Connecting) else {
            return;
        };
        if matches!(waiting.for_what, For::Session | For::Store | For::Permit)
            && self.authenticate.standing(waiting.user.as_deref()) != Standing::Stays
        {
            self.counters.rules_disconnects += 1;
            self.refuse(id, ReasonCode::NotAuthorized, now, out);
        }
    }

    /// Goes on with the sessions.
    pub(crate) fn recheck_sessions(&mut self, now: Now, out: &mut impl Effects) {
        let mut left = RECHECKS_PER_STEP;
        while let Some(slot) = self.recheck.filter(|_| left > 0) {
            self.recheck = (slot as usize + 1 < self.sessions.slots()).then_some(slot + 1);
            left = left.saturating_sub(1 + self.recheck_session(slot, now, out));
        }
    }

    /// Looks at one session; how many subscriptions it has.
    pub(crate) fn recheck_session(&mut self, slot: u32, now: Now, out: &mut impl Effects) -> usize {
        // One that changes shards is looked at when it has arrived.
        let session = self.sessions.get(slot);
        let Some(session) = session.filter(|session| session.moving.is_none()) else {
            return 0;
        };
        let count = session.subscription_count();
        let connection = session.connection;
        let standing = self.authenticate.standing(session.user.as_deref());
        if standing == Standing::Stays {
            self.recheck_subscriptions(slot, now, out);
            return count;
        }
        if let Some(id) = connection {
            self.counters.rules_disconnects += 1;
            self.disconnect(id, ReasonCode::NotAuthorized, now, out);
        }
        if standing == Standing::Gone && self.sessions.get(slot).is_some() {
            self.end_session(slot, now, out);
        }
        count
    }

    /// Ends the subscriptions of a session that are no longer allowed.
    pub(crate) fn recheck_subscriptions(&mut self, slot: u32, now: Now, out: &mut impl Effects) {
        if self.permit.is_open() {
            return;
        }
        let Some(session) = self.sessions.get(slot) else {
            return;
        };
        let connection = session.connection.and_then(|id| self.connections.get(id));
        let peer = connection
            .and_then(|connection| connection.peer)
            .or(session.address.as_deref().copied());
        let who = Who {
            client_id: &session.client_id,
            user: session.user.as_deref(),
            address: peer,
            ticket: None,
        };
        let groups = session.memberships.iter();
        let groups = groups.flat_map(|memberships| memberships.by_filter.keys());
        let readers = session.delivery.iter();
        let readers = readers.flat_map(|delivery| delivery.readers.iter());
        let lost: Vec<String> = session
            .subscriptions
            .iter()
            .map(|filter| self.index.filter_string(*filter))
            .chain(groups.map(ToString::to_string))
            .chain(readers.map(|reader| reader.filter.to_string()))
            .filter(|filter| {
                let inner = Filter::parse(filter).ok().and_then(group_of);
                let inner = inner.and_then(Result::ok).map(|(_, inner)| inner.as_str());
                let asked = inner.unwrap_or_else(|| inner_of(filter));
                self.permit.check(&who, Action::Subscribe, asked) != Verdict::Allow
            })
            .collect();
        for filter in lost {
            self.counters.subscriptions_revoked += 1;
            let event = Event::Denied("not permitted any more");
            self.announce(event, slot, peer, ReasonCode::NotAuthorized, now, out);
            if let Ok(filter) = Filter::parse(&filter) {
                self.unsubscribe_one(slot, filter, now, out);
            }
        }
    }
}

//! The two questions the core asks of those who know the users: who is this, and may they do that.
//!
//! Not here: users, passwords, tokens and rules.

use core::net::SocketAddr;

use waypost_mqtt::ReasonCode;

use crate::effects::ConnectionId;

/// Who wants something.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// The session's client id.
    pub client_id: &'a str,
    /// The user who made the session; `None` = anonymous.
    pub user: Option<&'a str>,
    /// Where its connection comes from, or came from last; `None` where the transport has no addresses.
    pub address: Option<SocketAddr>,
    /// Whom `Broker::handle_verdict` is to be told about after [`Verdict::Pending`]; `None` where nobody can wait.
    pub ticket: Option<Ticket>,
}

/// A connection that waits for an answer. Slots are used again, tickets are not: an answer that comes too late
/// reaches nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// Where it is.
    pub connection: ConnectionId,
    /// Which of the connections that have been there.
    pub opened: u32,
}

/// What somebody wants to do with a topic or a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Publish a message now.
    Publish,
    /// Publish a retained message now.
    PublishRetained,
    /// Subscribe to a filter.
    Subscribe,
    /// Leave a will at CONNECT.
    Will,
    /// Publish that will, later, when the connection is gone.
    WillFires,
}

/// A permit's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Allow,
    /// It may not.
    Deny,
    /// Not known yet: the connection is parked until `Broker::handle_verdict`. A question without a ticket has nobody
    /// who could wait: for it, this is `Deny`.
    Pending,
}

/// Decides who may do what. Asked at PUBLISH, SUBSCRIBE, twice for a will, and for each subscription when the rules have
/// changed.
pub trait Permit {
    /// May `who` do `action` with `topic` (a Topic Filter for [`Action::Subscribe`])?
    fn check(&mut self, who: &Who<'_>, action: Action, topic: &str) -> Verdict;

    /// Whether it allows everything, so that nobody need ask.
    fn is_open(&self) -> bool {
        false
    }
}

/// What a client showed of itself, in CONNECT or in AUTH.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'a> {
    /// The client id it asked for; empty if it wants one assigned.
    pub client_id: &'a str,
    /// User Name.
    pub user_name: Option<&'a str>,
    /// Password.
    pub password: Option<&'a [u8]>,
    /// Authentication Method (MQTT 5).
    pub method: Option<&'a str>,
    /// Authentication Data (MQTT 5).
    pub data: Option<&'a [u8]>,
    /// Where the connection comes from.
    pub address: Option<SocketAddr>,
    /// The names of its verified certificate ([`crate::Peer::certificate`]).
    pub certificate: &'a [String],
    /// Whom `Broker::handle_verdict` is to be told about after [`Authentication::Pending`].
    pub ticket: Ticket,
}

/// The outcome of one step of an authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// It is `user` (`None` = anonymous), with the Authentication Data that CONNACK or AUTH carries.
    Accept {
        /// Whose sessions these are.
        user: Option<Box<str>>,
        /// Authentication Data for the client, if the method ends with some.
        data: Option<Box<[u8]>>,
    },
    /// AUTH 0x18 with this Authentication Data; the client goes on.
    Continue(Box<[u8]>),
    /// Refused, with a reason from CONNACK's list.
    Reject(ReasonCode),
    /// Not known yet: the connection is parked until `Broker::handle_verdict`.
    Pending,
}

/// What a change of the rules means for somebody who is in already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing, but for what it may do.
    Stays,
    /// It has to show anew who it is; its session waits for it.
    LogsInAgain,
    /// There is no such user any more, and so no session of theirs.
    Gone,
}

/// Finds out who a client is.
pub trait Authenticate {
    /// Whether this Authentication Method is known. A CONNECT with another gets 0x8C.
    fn supports(&self, method: &str) -> bool;

    /// A CONNECT, or an AUTH that goes on with it (`step` counts from 0), or a re-authentication.
    fn authenticate(&mut self, credentials: &Credentials<'_>, step: u32) -> Authentication;

    /// Nobody waits for the answer to [`Authentication::Pending`] any more.
    fn forget(&mut self, ticket: Ticket) {
        let _ = ticket;
    }

    /// What the last change of the rules means for a user who came in before it (`None` = anonymous).
    fn standing(&self, user: Option<&str>) -> Standing {
        let _ = user;
        Standing::Stays
    }
}

/// What `Broker::handle_verdict` is told about a parked connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To a [`Verdict::Pending`]; `Pending` again is taken for `Deny`.
    Permit(Verdict),
    /// To an [`Authentication::Pending`]; `Pending` again is taken for a refusal with 0x88.
    Authenticate(Authentication),
}

/// Everybody is who they say, and may do everything. For listeners nobody else can reach.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowAll;

impl Permit for AllowAll {
    fn check(&mut self, _: &Who<'_>, _: Action, _: &str) -> Verdict {
        Verdict::Allow
    }

    fn is_open(&self) -> bool {
        true
    }
}

impl Authenticate for AllowAll {
    fn supports(&self, _: &str) -> bool {
        false
    }

    fn authenticate(&mut self, credentials: &Credentials<'_>, _: u32) -> Authentication {
        Authentication::Accept {
            user: credentials.user_name.map(Box::from),
            data: None,
        }
    }
}

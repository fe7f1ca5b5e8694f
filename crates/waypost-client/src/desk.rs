//! What a client is waiting for, beside its connection: acknowledgements, answers, messages.
//!
//! No I/O: events of the session come in, what is to be done after them is left in [`After`].

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;
use tokio::sync::oneshot;
use waypost_mqtt::{ConnAck, PacketId, ProtocolVersion, Publish, ReasonCode, ReasonCodes};

use crate::backoff::Retries;
use crate::completions::Completions;
use crate::error::{PublishError, SubscribeError};
use crate::protocol::event::{Closed, Event};
use crate::routes::{RouteId, Routes};

/// A message the server has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// What the server said: [`ReasonCode::Success`], or that nobody was there to receive it. At
    /// QoS 0, and in MQTT 3.1.1, always success.
    pub reason: ReasonCode,
}

/// What a server says to a subscription, for each filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// The granted QoS, or why not (0x80 and above).
    pub reasons: Vec<ReasonCode>,
    /// What it says in words.
    pub text: Option<String>,
}

/// What happens to a client's connection, for a program that wants to know.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Notice {
    /// The server accepted the connection.
    Connected {
        /// It had the session already.
        session_present: bool,
    },
    /// The connection was lost, or could not be made.
    Lost {
        /// Why.
        why: Arc<Closed>,
        /// When the next attempt comes; nothing: never.
        again_in: Option<Duration>,
    },
    /// A message was sent again that an earlier connection left without answer.
    Resent,
    /// The server answered a subscription, for the first time or after its session was lost.
    Subscribed {
        /// What was asked for.
        filters: Vec<String>,
        /// The answer.
        granted: Granted,
    },
}

/// Where a client's connection stands.
#[derive(Debug, Clone)]
pub enum Status {
    /// It is being made, or made again.
    Connecting,
    /// The server has accepted it.
    Connected {
        /// It had the session already.
        session_present: bool,
    },
    /// It is over for good.
    Ended(Arc<Closed>),
}

/// Who hears what became of a message.
#[derive(Debug)]
pub(crate) enum Done {
    One(oneshot::Sender<Result<Published, PublishError>>),
    Into(Completions, u64),
    /// Beside whoever waits, a record on disk stands for it.
    Recorded(Box<Done>, Completions, u64),
}

impl Done {
    pub(crate) fn tell(self, outcome: Result<Published, PublishError>) {
        match self {
            // Nobody waits any more.
            Self::One(waiting) => drop(waiting.send(outcome)),
            Self::Into(completions, key) => completions.push(key, outcome),
            Self::Recorded(done, completions, number) => {
                // What is still to be done with the record is the same for every end but the client's.
                let record = match &outcome {
                    Err(PublishError::Ended(why)) => Err(PublishError::Ended(Arc::clone(why))),
                    _ => Ok(Published {
                        reason: ReasonCode::Success,
                    }),
                };
                completions.push(number, record);
                done.tell(outcome);
            }
        }
    }
}

/// What is to be done once the state is let go of.
#[derive(Debug, Default)]
pub(crate) struct After {
    /// There is something to write, or room to read.
    pub(crate) driver: bool,
    /// There is room for messages.
    pub(crate) room: bool,
    pub(crate) status: Option<Status>,
    pub(crate) notices: Vec<Notice>,
}

/// What SUBSCRIBE and UNSUBSCRIBE wait for.
#[derive(Debug)]
pub(crate) enum Request {
    Subscribe(RouteId),
    Unsubscribe(Unsubscribing),
}

/// Filters to be taken off the session, and who wants to know.
#[derive(Debug)]
pub(crate) struct Unsubscribing {
    pub(crate) filters: Vec<String>,
    pub(crate) answer: Option<oneshot::Sender<Vec<ReasonCode>>>,
}

#[derive(Debug)]
struct Unfinished {
    done: Done,
    bytes: usize,
    is_recorded: bool,
}

/// What a client is waiting for.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own about the connection"
)]
pub(crate) struct Desk {
    pub(crate) version: ProtocolVersion,
    pub(crate) routes: Routes,
    pub(crate) retries: Retries,
    pub(crate) after: After,
    /// Counts connections.
    pub(crate) connection: u64,
    /// The server accepted this connection.
    pub(crate) is_connected: bool,
    /// The server accepted one before.
    pub(crate) was_connected: bool,
    /// Somebody wants [`Notice`]s.
    pub(crate) is_observed: bool,
    /// Subscriptions are to be made again: all of them, or those without an answer.
    pub(crate) resubscribe: Option<bool>,
    /// The server takes subscription identifiers.
    pub(crate) has_identifiers: bool,
    pub(crate) requests: Vec<(PacketId, Request)>,
    /// Who waits for the first answer to a subscription.
    pub(crate) subscribing: Vec<(RouteId, oneshot::Sender<Result<Granted, SubscribeError>>)>,
    /// Who waits for messages of other subscriptions, such as a dictionary.
    pub(crate) awaiting: usize,
    /// By tag. The tags are our own: nobody can choose them to collide.
    unfinished: HashMap<u64, Unfinished, FixedState>,
    unfinished_bytes: usize,
    next_tag: u64,
}

impl Desk {
    pub(crate) fn new(version: ProtocolVersion, retries: Retries) -> Self {
        Self {
            version,
            routes: Routes::default(),
            retries,
            after: After::default(),
            connection: 0,
            is_connected: false,
            was_connected: false,
            is_observed: false,
            resubscribe: None,
            has_identifiers: false,
            requests: Vec::new(),
            subscribing: Vec::new(),
            awaiting: 0,
            unfinished: HashMap::default(),
            unfinished_bytes: 0,
            next_tag: 0,
        }
    }

    /// A message of so many bytes is on its way; gives its tag.
    pub(crate) fn begin(&mut self, bytes: usize, done: Done) -> u64 {
        self.next_tag += 1;
        self.unfinished_bytes += bytes;
        let unfinished = Unfinished {
            done,
            bytes,
            is_recorded: false,
        };
        self.unfinished.insert(self.next_tag, unfinished);
        self.next_tag
    }

    /// Whether a record on disk stands for a message.
    pub(crate) fn is_recorded(&self, tag: u64) -> bool {
        let unfinished = self.unfinished.get(&tag);
        unfinished.is_none_or(|unfinished| unfinished.is_recorded)
    }

    /// From now on a record on disk stands for it; false: it is finished already.
    pub(crate) fn record(&mut self, tag: u64, completions: Completions, number: u64) -> bool {
        let Some(mut unfinished) = self.unfinished.remove(&tag) else {
            return false;
        };
        let done = Box::new(unfinished.done);
        unfinished.done = Done::Recorded(done, completions, number);
        unfinished.is_recorded = true;
        self.unfinished.insert(tag, unfinished);
        true
    }

    /// Messages on their way, and their bytes.
    pub(crate) fn unfinished(&self) -> (usize, usize) {
        (self.unfinished.len(), self.unfinished_bytes)
    }

    /// Whether the program may be waiting for something that comes behind messages.
    fn awaits_answer(&self) -> bool {
        !self.unfinished.is_empty() || !self.requests.is_empty() || self.awaiting > 0
    }

    /// Whether nothing should be read from the server.
    pub(crate) fn is_full(&self) -> bool {
        self.routes.is_full(self.awaits_answer())
    }

    pub(crate) fn finish(&mut self, tag: u64, outcome: Result<Published, PublishError>) {
        if let Some(unfinished) = self.unfinished.remove(&tag) {
            self.unfinished_bytes -= unfinished.bytes;
            self.after.room = true;
            unfinished.done.tell(outcome);
        }
    }

    /// What the session says; `Break`: it should not read on.
    pub(crate) fn on_event(&mut self, event: &Event<'_>) -> ControlFlow<()> {
        match event {
            Event::Connected(answer) => self.on_connected(answer),
            Event::Message(publish) => return self.on_message(publish),
            Event::Done { tag, reason, why } => {
                self.retries.on_finished();
                let reason = *reason;
                let outcome = if reason.is_error() {
                    let text = why.map(str::to_owned);
                    Err(PublishError::Refused { reason, text })
                } else {
                    Ok(Published { reason })
                };
                self.finish(*tag, outcome);
            }
            Event::Resent => self.notice(|| Notice::Resent),
            Event::Lost { tag } => self.finish(*tag, Err(PublishError::Unsure)),
            Event::Subscribed {
                packet_id,
                reasons,
                why,
            } => self.on_subscribed(*packet_id, *reasons, *why),
            Event::Unsubscribed { packet_id, reasons } => {
                if let Some(Request::Unsubscribe(request)) = self.take_request(*packet_id)
                    && let Some(answer) = request.answer
                {
                    let _ = answer.send(reasons.iter().collect());
                }
            }
            Event::Closed { .. } => {}
        }
        ControlFlow::Continue(())
    }

    fn on_connected(&mut self, answer: &ConnAck<'_>) {
        let session_present = answer.session_present;
        self.is_connected = true;
        self.was_connected = true;
        self.retries.on_connected();
        self.has_identifiers = self.version == ProtocolVersion::V5
            && answer.properties.subscription_identifier_available() != Some(false);
        if session_present {
            self.routes.forget_unacknowledged(self.connection);
        }
        self.resubscribe = Some(!session_present);
        self.after.status = Some(Status::Connected { session_present });
        self.notice(|| Notice::Connected { session_present });
    }

    fn on_message(&mut self, publish: &Publish<'_>) -> ControlFlow<()> {
        self.routes.deliver(publish, self.connection);
        if self.is_full() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn on_subscribed(&mut self, packet_id: PacketId, reasons: ReasonCodes<'_>, why: Option<&str>) {
        let Some(Request::Subscribe(id)) = self.take_request(packet_id) else {
            return;
        };
        let granted = Granted {
            reasons: reasons.iter().collect(),
            text: why.map(str::to_owned),
        };
        let mut filters = Vec::new();
        let mut queue = None;
        if let Some(route) = self.routes.route(id) {
            route.is_confirmed = true;
            filters.clone_from(&route.filters);
            queue = Some(route.queue);
        }
        let refused = granted.reasons.iter().all(|reason| reason.is_error());
        if refused {
            self.routes.remove(id);
            if let Some(queue) = queue.filter(|queue| self.routes.inbox() != Some(*queue))
                && let Some(queue) = self.routes.queue(queue)
            {
                queue.end();
            }
        }
        let told = granted.clone();
        self.notice(|| Notice::Subscribed {
            filters,
            granted: told,
        });
        let waiting = self.subscribing.iter().position(|(route, _)| *route == id);
        if let Some(at) = waiting {
            let (_, answer) = self.subscribing.swap_remove(at);
            let outcome = match granted.reasons.last() {
                Some(&reason) if refused => Err(SubscribeError::Refused {
                    reason,
                    text: granted.text,
                }),
                _ => Ok(granted),
            };
            let _ = answer.send(outcome);
        }
    }

    fn take_request(&mut self, packet_id: PacketId) -> Option<Request> {
        let at = self.requests.iter().position(|(id, _)| *id == packet_id)?;
        Some(self.requests.swap_remove(at).1)
    }

    pub(crate) fn notice(&mut self, notice: impl FnOnce() -> Notice) {
        if self.is_observed {
            self.after.notices.push(notice());
        }
    }

    /// Nothing more happens: whoever waits is told why.
    pub(crate) fn end(&mut self, why: &Arc<Closed>) {
        let mut tags: Vec<_> = self.unfinished.keys().copied().collect();
        tags.sort_unstable();
        for tag in tags {
            self.finish(tag, Err(PublishError::Ended(Arc::clone(why))));
        }
        for (_, answer) in self.subscribing.drain(..) {
            let _ = answer.send(Err(SubscribeError::Ended(Arc::clone(why))));
        }
        self.requests.clear();
        self.routes.end_all();
        self.after.room = true;
        self.after.status = Some(Status::Ended(Arc::clone(why)));
    }
}

//! A client's state: the session, or what it left, and the desk beside it. No I/O, time passed in.

use std::sync::Arc;
use std::time::{Duration, Instant};

use waypost_mqtt::{Filter, Property, PropertyBuffer, QoS, ReasonCode, SubscriptionRequest};

use crate::desk::{Desk, Done, Notice, Request, Status, Unsubscribing};
use crate::message::Message;
use crate::protocol::event::Closed;
use crate::protocol::options::Options;
use crate::protocol::remains::{Remains, Waiting};
use crate::protocol::session::Session;
use crate::routes::{QueueId, Queued, Route, RouteId};
use crate::spec::History;
use crate::subscription::Subscribe;

/// How long before the end of the keep alive interval a ping goes out.
const KEEP_ALIVE_MARGIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) enum Link {
    Up(Box<Session>),
    Down(Box<Remains>),
    Ended(Arc<Closed>),
}

/// Bounds of what is published and not finished.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UnfinishedMax {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

/// Whether a message may be handed over.
#[derive(Debug)]
pub(crate) enum Admission {
    Room,
    Full,
    Ended(Arc<Closed>),
}

/// What a subscription has next.
#[derive(Debug)]
pub(crate) enum Next {
    Message(Box<Message>),
    Nothing,
    Ended,
}

#[derive(Debug)]
pub(crate) struct Core {
    options: Options,
    unfinished_max: UnfinishedMax,
    /// The first connection is made again too.
    is_lazy: bool,
    /// DISCONNECT was asked for.
    is_closing: bool,
    link: Link,
    pub(crate) desk: Desk,
    unsubscribing: Vec<Unsubscribing>,
}

impl Core {
    pub(crate) fn new(
        options: Options,
        unfinished_max: UnfinishedMax,
        is_lazy: bool,
        desk: Desk,
    ) -> Self {
        Self {
            options,
            unfinished_max,
            is_lazy,
            is_closing: false,
            link: Link::Down(Box::default()),
            desk,
            unsubscribing: Vec::new(),
        }
    }

    /// A socket is connected: CONNECT goes out.
    pub(crate) fn begin(&mut self, now: Instant) {
        let Link::Down(remains) = &mut self.link else {
            return;
        };
        let remains = std::mem::take(&mut **remains);
        self.desk.connection += 1;
        let Self { link, desk, .. } = self;
        let session = if desk.was_connected {
            Session::new(&self.options, Some(remains), now)
        } else {
            let mut session = Session::new(&self.options, None, now);
            for message in remains.into_waiting() {
                session.publish_owned(message, &mut |event| desk.on_event(&event));
            }
            session
        };
        *link = Link::Up(Box::new(session));
    }

    pub(crate) fn session(&mut self) -> Option<&mut Session> {
        match &mut self.link {
            Link::Up(session) => Some(session),
            _ => None,
        }
    }

    /// Takes what came; gives how many bytes were whole packets. When a queue is full it stops, and
    /// goes on with the rest when called again.
    pub(crate) fn handle_bytes(&mut self, bytes: &[u8], now: Instant) -> Result<usize, Closed> {
        let Self { link, desk, .. } = self;
        let Link::Up(session) = link else {
            return Ok(bytes.len());
        };
        if !desk.is_full() {
            session.read_on();
        }
        let taken = session.handle_bytes(bytes, now, &mut |event| desk.on_event(&event));
        self.settle();
        taken
    }

    /// Whether nothing should be read from the server.
    pub(crate) fn is_full(&self) -> bool {
        self.desk.is_full()
    }

    pub(crate) fn on_written(&mut self, count: usize, now: Instant) {
        let Self { link, desk, .. } = self;
        if let Link::Up(session) = link {
            session.on_written(count, now, &mut |event| desk.on_event(&event));
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), Closed> {
        let is_full = self.is_full();
        match self.session() {
            Some(session) => {
                if is_full {
                    session.excuse_silence(now);
                }
                session.handle_timeout(now, KEEP_ALIVE_MARGIN)
            }
            None => Ok(()),
        }
    }

    pub(crate) fn next_timeout(&mut self) -> Option<Instant> {
        self.session()?.next_timeout(KEEP_ALIVE_MARGIN)
    }

    /// The connection is gone, or was not made; gives when to make the next.
    pub(crate) fn on_closed(&mut self, why: Closed, now: Instant) -> Option<Duration> {
        let Self { link, desk, .. } = self;
        if let Link::Up(session) = link {
            let remains = session.handle_closed(&mut |event| desk.on_event(&event));
            *link = Link::Down(Box::new(remains));
        }
        let was_connected = std::mem::take(&mut desk.is_connected);
        // Who waits for room asks the offline store now.
        desk.after.room = true;
        for (_, request) in desk.requests.drain(..) {
            if let Request::Unsubscribe(request) = request {
                self.unsubscribing.push(request);
            }
        }
        let again_in = if self.is_closing || !(desk.was_connected || self.is_lazy) {
            None
        } else {
            desk.retries.on_closed(&why, was_connected, now)
        };
        let why = Arc::new(why);
        let told = Arc::clone(&why);
        desk.notice(|| Notice::Lost {
            why: told,
            again_in,
        });
        if again_in.is_none() {
            self.end(&why);
        } else {
            self.desk.after.status = Some(Status::Connecting);
        }
        again_in
    }

    fn end(&mut self, why: &Arc<Closed>) {
        self.link = Link::Ended(Arc::clone(why));
        self.unsubscribing.clear();
        self.desk.end(why);
    }

    /// Whether a message of so many bytes may be handed over. One that is larger than all that may
    /// be unfinished goes alone.
    pub(crate) fn admit(&self, bytes: usize) -> Admission {
        if let Link::Ended(why) = &self.link {
            return Admission::Ended(Arc::clone(why));
        }
        if self.is_closing {
            return Admission::Ended(Arc::new(Closed::Finished));
        }
        let (messages, unfinished_bytes) = self.desk.unfinished();
        let fits = messages < self.unfinished_max.messages
            && (messages == 0 || unfinished_bytes + bytes <= self.unfinished_max.bytes);
        if fits {
            Admission::Room
        } else {
            Admission::Full
        }
    }

    /// Publishes, now or when there is a connection; the message must have been admitted.
    pub(crate) fn publish(&mut self, mut message: Waiting, done: Done) {
        let bytes = message.topic.len() + message.payload.len();
        message.tag = self.desk.begin(bytes, done);
        let Self { link, desk, .. } = self;
        match link {
            Link::Up(session) => {
                session.publish_owned(message, &mut |event| desk.on_event(&event));
            }
            Link::Down(remains) => remains.publish(message),
            Link::Ended(why) => {
                let why = Arc::clone(why);
                desk.finish(message.tag, Err(crate::PublishError::Ended(why)));
            }
        }
        self.desk.after.driver = true;
    }

    /// Subscribes, now or when there is a connection.
    pub(crate) fn subscribe(&mut self, route: Route) {
        let id = route.id;
        self.desk.routes.add(route);
        if self.desk.is_connected {
            self.send_subscribe(id);
            self.desk.after.driver = true;
        }
    }

    /// Takes filters off the session, now or when there is a connection.
    pub(crate) fn unsubscribe(&mut self, request: Unsubscribing) {
        if matches!(self.link, Link::Ended(_)) || request.filters.is_empty() {
            return;
        }
        self.unsubscribing.push(request);
        if self.desk.is_connected {
            self.send_unsubscribe();
            self.desk.after.driver = true;
        }
    }

    fn settle(&mut self) {
        if let Some(all) = self.desk.resubscribe.take() {
            self.send_unsubscribe();
            let routes = self.desk.routes.all_mut();
            let mut ids = Vec::new();
            for route in routes {
                route.is_confirmed &= !all;
                if !route.is_confirmed {
                    ids.push(route.id);
                }
            }
            for id in ids {
                self.send_subscribe(id);
            }
        }
    }

    fn send_subscribe(&mut self, id: RouteId) {
        let Self { link, desk, .. } = self;
        let has_identifiers = desk.has_identifiers;
        let (Link::Up(session), Some(route)) = (link, desk.routes.route(id)) else {
            return;
        };
        let filters = route.wire_filters();
        let requests: Vec<_> = filters
            .iter()
            .map(|filter| SubscriptionRequest {
                filter: Filter::from_validated(filter),
                options: route.options,
            })
            .collect();
        let mut properties = route.properties.clone();
        if route.is_identified && has_identifiers {
            properties.push(Property::SubscriptionIdentifier(id.0));
        }
        let packet_id = session.subscribe(&requests, properties.as_properties());
        desk.requests.push((packet_id, Request::Subscribe(id)));
    }

    fn send_unsubscribe(&mut self) {
        let Link::Up(session) = &mut self.link else {
            return;
        };
        for request in self.unsubscribing.drain(..) {
            let filters: Vec<_> = request
                .filters
                .iter()
                .map(|filter| Filter::from_validated(filter))
                .collect();
            let packet_id = session.unsubscribe(&filters);
            let request = Request::Unsubscribe(request);
            self.desk.requests.push((packet_id, request));
        }
    }

    /// Takes the next message of a queue, and acknowledges it.
    pub(crate) fn take(&mut self, id: QueueId) -> Next {
        let Some(queue) = self.desk.routes.queue(id) else {
            return Next::Ended;
        };
        let Some((queued, was_full)) = queue.pop() else {
            return if queue.is_ended {
                Next::Ended
            } else {
                Next::Nothing
            };
        };
        self.desk.after.driver |= was_full;
        let Queued { message, ticket } = queued;
        if let Some(ticket) = ticket
            && ticket.take()
        {
            let is_current = ticket.connection == self.desk.connection;
            match &mut self.link {
                Link::Up(session) if is_current => {
                    session.acknowledge(ticket.qos, ticket.packet_id);
                    self.desk.after.driver = true;
                }
                // It must not come again by the session's next connection.
                Link::Down(remains) if is_current => {
                    remains.acknowledge(ticket.qos, ticket.packet_id);
                }
                _ => {}
            }
        }
        Next::Message(Box::new(message))
    }

    /// Says DISCONNECT, after what was sent before.
    pub(crate) fn disconnect(&mut self, now: Instant) {
        self.is_closing = true;
        match &mut self.link {
            Link::Up(session) => session.disconnect(ReasonCode::Success, now),
            Link::Down(_) => self.end(&Arc::new(Closed::Finished)),
            Link::Ended(_) => {}
        }
        self.desk.after.driver = true;
    }

    /// What a lost connection left, and the desk beside it.
    pub(crate) fn remains(&mut self) -> Option<(&Remains, &mut Desk)> {
        match &mut self.link {
            Link::Down(remains) => Some((remains, &mut self.desk)),
            _ => None,
        }
    }

    pub(crate) fn is_ended(&self) -> bool {
        matches!(self.link, Link::Ended(_))
    }

    /// Why the client ended, if it has.
    pub(crate) fn ended(&self) -> Option<&Arc<Closed>> {
        match &self.link {
            Link::Ended(why) => Some(why),
            _ => None,
        }
    }

    /// Whether the server keeps the session beyond this program.
    pub(crate) fn outlives(&self) -> bool {
        use waypost_mqtt::ProtocolVersion;
        if self.options.version == ProtocolVersion::V5 {
            let given = self.options.properties.as_properties();
            given
                .session_expiry_interval()
                .is_some_and(|seconds| seconds > 0)
        } else {
            !self.options.clean_start
        }
    }

    /// Who gets what a subscription brings.
    pub(crate) fn route(&mut self, subscribe: Subscribe, queue: QueueId) -> Route {
        Route {
            id: self.desk.routes.next_route(),
            filters: subscribe.filters,
            options: subscribe.options,
            properties: subscribe.properties,
            history: subscribe.from.map(History::new),
            is_identified: false,
            is_confirmed: false,
            queue,
        }
    }
}

/// A message that is to be published, before it has a tag.
pub(crate) fn waiting(
    topic: String,
    payload: Vec<u8>,
    qos: QoS,
    retain: bool,
    properties: PropertyBuffer,
) -> Waiting {
    Waiting {
        tag: 0,
        topic,
        payload,
        qos,
        retain,
        properties,
    }
}

#[cfg(test)]
mod tests;

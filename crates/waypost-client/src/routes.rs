//! Which subscription gets a message, and the bounded queues between the connection and whoever
//! takes messages.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use waypost_mqtt::{Filter, PacketId, PropertyBuffer, Publish, QoS, SubscriptionOptions, Topic};

use crate::message::Message;
use crate::spec::History;

/// Messages that no subscription asks for, kept for one that will (a session's from before), at
/// most; beyond, the oldest are dropped and counted.
const UNCLAIMED_MAX: usize = 1_000;
/// Subscription identifiers on one message, at most: beyond, its filters decide.
const IDENTIFIERS_MAX: usize = 64;

/// A queue's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct QueueId(u32);

/// A route's key; the subscription identifier where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RouteId(pub(crate) u32);

/// What to do about a connection's message when a queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// Nothing more is read from the server, so that its flow control acts; other subscriptions of
    /// the client wait too. While the program itself waits for an answer of the server, reading
    /// goes on up to twice the capacity, and beyond that the oldest messages of QoS 0 are dropped
    /// and counted: otherwise it would wait for itself.
    #[default]
    Wait,
    /// The oldest message of QoS 0 is dropped and counted; those of QoS 1 and 2 are bounded by the
    /// Receive Maximum and wait.
    DropOldest,
}

/// What acknowledges a message when it is first taken.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) connection: u64,
    pub(crate) packet_id: PacketId,
    pub(crate) qos: QoS,
    is_used: AtomicBool,
}

impl Ticket {
    /// True once, for whoever comes first.
    pub(crate) fn take(&self) -> bool {
        !self.is_used.swap(true, Ordering::Relaxed)
    }

    fn is_open(&self) -> bool {
        !self.is_used.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Queued {
    pub(crate) message: Message,
    pub(crate) ticket: Option<Arc<Ticket>>,
}

/// Messages on their way to whoever takes them.
#[derive(Debug)]
pub(crate) struct Queue {
    id: QueueId,
    messages: VecDeque<Queued>,
    /// What `messages` hold of topics, payloads and properties.
    bytes: usize,
    capacity: Capacity,
    when_full: WhenFull,
    pub(crate) waker: Option<Waker>,
    pub(crate) dropped: u64,
    /// Nobody takes from it any more.
    is_abandoned: bool,
    /// Nothing more comes.
    pub(crate) is_ended: bool,
}

/// What may wait in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capacity {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

/// A subscription, as it is repeated when a session is lost.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) id: RouteId,
    /// As the program named them, in order.
    pub(crate) filters: Vec<String>,
    pub(crate) options: SubscriptionOptions,
    pub(crate) properties: PropertyBuffer,
    pub(crate) history: Option<History>,
    /// It carries its id as subscription identifier.
    pub(crate) is_identified: bool,
    /// The server has answered.
    pub(crate) is_confirmed: bool,
    pub(crate) queue: QueueId,
}

/// All subscriptions and queues of a client.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    all: Vec<Route>,
    queues: Vec<Queue>,
    inbox: Option<QueueId>,
    unclaimed: VecDeque<Queued>,
    unclaimed_dropped: u64,
    next_id: u32,
}

impl Queue {
    fn is_full(&self) -> bool {
        self.when_full == WhenFull::Wait && self.has(1)
    }

    /// Whether so many times the capacity wait, in messages or bytes.
    fn has(&self, times: usize) -> bool {
        self.messages.len() >= self.capacity.messages.saturating_mul(times)
            || self.bytes >= self.capacity.bytes.saturating_mul(times)
    }

    fn push(&mut self, queued: Queued) {
        let times = match self.when_full {
            WhenFull::Wait => 2,
            WhenFull::DropOldest => 1,
        };
        while self.has(times) {
            let oldest = self
                .messages
                .iter()
                .position(|queued| queued.ticket.is_none());
            if let Some(gone) = oldest.and_then(|at| self.messages.remove(at)) {
                self.bytes -= gone.message.bytes();
                self.dropped += 1;
            } else if queued.ticket.is_none() {
                self.dropped += 1;
                return;
            } else {
                break;
            }
        }
        self.bytes += queued.message.bytes();
        self.messages.push_back(queued);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Nothing more comes: whoever waits is told.
    pub(crate) fn end(&mut self) {
        self.is_ended = true;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The next message, and whether there was no room before.
    pub(crate) fn pop(&mut self) -> Option<(Queued, bool)> {
        let was_full = self.is_full();
        let queued = self.messages.pop_front()?;
        self.bytes -= queued.message.bytes();
        Some((queued, was_full))
    }
}

impl Route {
    /// What to send in SUBSCRIBE.
    pub(crate) fn wire_filters(&self) -> Vec<String> {
        match &self.history {
            None => self.filters.clone(),
            Some(history) => history.filters(&self.filters),
        }
    }

    fn matches(&self, topic: Topic<'_>) -> bool {
        let mut filters = self.filters.iter();
        filters.any(|filter| effective(filter).is_some_and(|filter| filter.matches(topic)))
    }
}

/// The filter that decides which messages come: without what a server reads before it.
fn effective(filter: &str) -> Option<Filter<'_>> {
    let mut rest = filter;
    while let Some((first, after)) = rest.split_once('/') {
        rest = match first {
            "$queue" => after,
            "$share" | "$from" => after.split_once('/')?.1,
            _ => break,
        };
    }
    Filter::parse(rest).ok()
}

impl Routes {
    /// A queue for messages.
    pub(crate) fn add_queue(&mut self, capacity: Capacity, when_full: WhenFull) -> QueueId {
        let id = QueueId(self.next());
        self.queues.push(Queue {
            id,
            messages: VecDeque::new(),
            bytes: 0,
            capacity: Capacity {
                messages: capacity.messages.max(1),
                bytes: capacity.bytes.max(1),
            },
            when_full,
            waker: None,
            dropped: 0,
            is_abandoned: false,
            is_ended: false,
        });
        id
    }

    /// From now on messages that no other subscription asks for go there.
    pub(crate) fn set_inbox(&mut self, inbox: QueueId) {
        self.inbox = Some(inbox);
    }

    /// The inbox.
    pub(crate) fn inbox(&self) -> Option<QueueId> {
        self.inbox
    }

    /// A new subscription's key, which is its identifier too.
    pub(crate) fn next_route(&mut self) -> RouteId {
        RouteId(self.next())
    }

    /// Subscription identifiers go from 1 to 268,435,455.
    fn next(&mut self) -> u32 {
        self.next_id = self.next_id % 268_435_455 + 1;
        self.next_id
    }

    /// A subscription; what came for it before it was made is its first.
    pub(crate) fn add(&mut self, route: Route) {
        let (claimed, rest): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.unclaimed)
            .into_iter()
            .partition(|queued| route.matches(Topic::from_validated(queued.message.topic())));
        self.unclaimed = rest;
        if let Some(queue) = self.queue(route.queue) {
            for queued in claimed {
                queue.push(queued);
            }
        }
        self.all.push(route);
    }

    pub(crate) fn route(&mut self, id: RouteId) -> Option<&mut Route> {
        self.all.iter_mut().find(|route| route.id == id)
    }

    pub(crate) fn all_mut(&mut self) -> &mut [Route] {
        &mut self.all
    }

    /// Takes a subscription away; gives the filters that no other one has.
    pub(crate) fn remove(&mut self, id: RouteId) -> Vec<String> {
        let Some(at) = self.all.iter().position(|route| route.id == id) else {
            return Vec::new();
        };
        let gone = self.all.remove(at);
        let others = &self.all;
        let is_shared = |filter: &String| others.iter().any(|route| route.filters.contains(filter));
        gone.filters
            .into_iter()
            .filter(|filter| !is_shared(filter))
            .collect()
    }

    pub(crate) fn queue(&mut self, id: QueueId) -> Option<&mut Queue> {
        self.queues.iter_mut().find(|queue| queue.id == id)
    }

    /// Nobody takes from this queue any more: what is in it stays unacknowledged, and so stays with
    /// the server, if that keeps the session.
    pub(crate) fn abandon(&mut self, id: QueueId) {
        let is_used = self.all.iter().any(|route| route.queue == id);
        if is_used {
            if let Some(queue) = self.queue(id) {
                queue.is_abandoned = true;
                queue.messages.clear();
                queue.bytes = 0;
            }
        } else {
            self.queues.retain(|queue| queue.id != id);
        }
        if self.inbox == Some(id) {
            self.inbox = None;
        }
    }

    /// Whether nothing more should be read from the server.
    pub(crate) fn is_full(&self, awaits_answer: bool) -> bool {
        !awaits_answer && self.queues.iter().any(Queue::is_full)
    }

    /// Messages dropped because nobody took them.
    pub(crate) fn dropped(&self) -> u64 {
        let dropped = self.queues.iter().map(|queue| queue.dropped);
        dropped.sum::<u64>() + self.unclaimed_dropped
    }

    /// Nothing more comes for anybody.
    pub(crate) fn end_all(&mut self) {
        for queue in &mut self.queues {
            queue.end();
        }
    }

    /// What is not taken comes again: the server goes on with the session.
    pub(crate) fn forget_unacknowledged(&mut self, connection: u64) {
        let is_stale = |queued: &Queued| {
            let ticket = queued.ticket.as_ref();
            ticket.is_some_and(|ticket| ticket.connection < connection && ticket.is_open())
        };
        for queue in &mut self.queues {
            queue.messages.retain(|queued| !is_stale(queued));
            let waiting = queue.messages.iter();
            queue.bytes = waiting.map(|queued| queued.message.bytes()).sum();
        }
        self.unclaimed.retain(|queued| !is_stale(queued));
    }

    /// A message came by the connection of this number.
    pub(crate) fn deliver(&mut self, publish: &Publish<'_>, connection: u64) {
        let ticket = publish.packet_id.map(|packet_id| {
            Arc::new(Ticket {
                connection,
                packet_id,
                qos: publish.qos,
                is_used: AtomicBool::new(false),
            })
        });
        let message = Message::new(publish);
        let queued = Queued { message, ticket };
        let mut receivers = self.queues_of(publish);
        if let Some(inbox) = self.inbox.filter(|_| receivers.is_empty()) {
            receivers.push(inbox);
        }
        let Some(last) = receivers.pop() else {
            return self.keep_unclaimed(queued);
        };
        for id in receivers {
            self.push(id, queued.clone());
        }
        self.push(last, queued);
    }

    fn push(&mut self, id: QueueId, queued: Queued) {
        if let Some(queue) = self.queue(id)
            && !queue.is_abandoned
        {
            queue.push(queued);
        }
    }

    fn keep_unclaimed(&mut self, queued: Queued) {
        if self.unclaimed.len() >= UNCLAIMED_MAX {
            self.unclaimed.pop_front();
            self.unclaimed_dropped += 1;
        }
        self.unclaimed.push_back(queued);
    }

    /// The queues of all subscriptions that a message is for, each once. Who is meant is said by the
    /// subscription identifiers, or else by the filters.
    fn queues_of(&mut self, publish: &Publish<'_>) -> Vec<QueueId> {
        let mut queues = Vec::new();
        let identifiers = publish.properties.subscription_identifiers();
        for identifier in identifiers.take(IDENTIFIERS_MAX) {
            let found = self
                .all
                .iter_mut()
                .find(|route| route.is_identified && route.id.0 == identifier);
            note(found, publish, &mut queues);
        }
        if queues.is_empty() {
            let topic = Topic::from_validated(publish.topic);
            for route in &mut self.all {
                if route.matches(topic) {
                    note(Some(route), publish, &mut queues);
                }
            }
        }
        queues
    }
}

fn note(route: Option<&mut Route>, publish: &Publish<'_>, queues: &mut Vec<QueueId>) {
    let Some(route) = route else { return };
    if let Some(history) = &mut route.history {
        history.note(publish);
    }
    if !queues.contains(&route.queue) {
        queues.push(route.queue);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: usize = 4;

    fn capacity(messages: usize, bytes: usize) -> Capacity {
        Capacity { messages, bytes }
    }

    fn subscribe(routes: &mut Routes, filter: &str, queue: QueueId) -> RouteId {
        let id = routes.next_route();
        routes.add(Route {
            id,
            filters: vec![filter.to_owned()],
            options: SubscriptionOptions::default(),
            properties: PropertyBuffer::new(),
            history: None,
            is_identified: true,
            is_confirmed: true,
            queue,
        });
        id
    }

    /// A message whose payload is its number; a packet id makes it one of QoS 1.
    fn deliver(routes: &mut Routes, topic: &str, number: usize, packet_id: u16, connection: u64) {
        let (properties, payload) = (PropertyBuffer::new(), number.to_string());
        let packet_id = PacketId::new(packet_id);
        let publish = Publish {
            dup: false,
            qos: packet_id.map_or(QoS::AtMostOnce, |_| QoS::AtLeastOnce),
            retain: false,
            topic,
            packet_id,
            properties: properties.as_properties(),
            payload: payload.as_bytes(),
        };
        routes.deliver(&publish, connection);
    }

    /// All that waits in a queue, in order.
    fn taken(routes: &mut Routes, id: QueueId) -> Vec<usize> {
        let queue = routes.queue(id).unwrap();
        let all = std::iter::from_fn(|| queue.pop());
        all.map(|(queued, _)| queued.message.text().unwrap().parse().unwrap())
            .collect()
    }

    /// Goal: at the capacity reading stops; while the program waits for an answer it goes on up to twice that, and beyond, the
    /// oldest of QoS 0 go. Method: N - 1, N, N + 1, 2N, 2N + 1 and 4N messages that nobody takes.
    #[test]
    fn a_full_queue_stops_the_reading_and_holds_twice_its_capacity() {
        for (count, is_full, dropped) in [
            (CAPACITY - 1, false, 0),
            (CAPACITY, true, 0),
            (CAPACITY + 1, true, 0),
            (2 * CAPACITY, true, 0),
            (2 * CAPACITY + 1, true, 1),
            (4 * CAPACITY, true, 2 * CAPACITY),
        ] {
            let mut routes = Routes::default();
            let queue = routes.add_queue(capacity(CAPACITY, usize::MAX), WhenFull::Wait);
            subscribe(&mut routes, "a", queue);
            for number in 0..count {
                deliver(&mut routes, "a", number, 0, 1);
            }
            assert_eq!(routes.is_full(false), is_full, "{count}");
            assert!(!routes.is_full(true), "the answer comes behind them");
            assert_eq!(routes.dropped(), dropped as u64, "{count}");
            let expect: Vec<_> = (dropped..count).collect();
            assert_eq!(taken(&mut routes, queue), expect, "{count}");
            assert!(!routes.is_full(false));
        }
    }

    /// The same for bytes, of topic and payload: two bytes each here.
    #[test]
    fn bytes_are_bounded_as_messages_are() {
        for (count, is_full, dropped) in [(3, false, 0), (4, true, 0), (8, true, 0), (10, true, 2)]
        {
            let mut routes = Routes::default();
            let queue = routes.add_queue(capacity(usize::MAX, 8), WhenFull::Wait);
            subscribe(&mut routes, "a", queue);
            for number in 0..count {
                deliver(&mut routes, "a", number % 10, 0, 1);
            }
            assert_eq!(routes.is_full(false), is_full, "{count}");
            assert_eq!(routes.dropped(), dropped, "{count}");
        }
    }

    /// Goal: the newest stay, what is to be acknowledged is never dropped, and reading never stops.
    #[test]
    fn dropping_the_oldest_spares_what_is_acknowledged() {
        for (count, expect) in [
            (CAPACITY, vec![0, 1, 2, 3]),
            (CAPACITY + 1, vec![0, 2, 3, 4]),
            (2 * CAPACITY, vec![0, 5, 6, 7]),
        ] {
            let mut routes = Routes::default();
            let all = capacity(CAPACITY, usize::MAX);
            let queue = routes.add_queue(all, WhenFull::DropOldest);
            subscribe(&mut routes, "a", queue);
            for number in 0..count {
                deliver(&mut routes, "a", number, u16::from(number == 0), 1);
            }
            assert!(!routes.is_full(false));
            assert_eq!(routes.dropped(), (count - CAPACITY) as u64);
            assert_eq!(taken(&mut routes, queue), expect, "{count}");
        }
    }

    /// Goal: one subscription's flood takes nothing from another that drops, and each gets its own in order.
    #[test]
    fn a_flood_for_one_costs_the_other_nothing() {
        let mut routes = Routes::default();
        let all = capacity(CAPACITY, usize::MAX);
        let (flooded, quiet) = (
            routes.add_queue(all, WhenFull::DropOldest),
            routes.add_queue(all, WhenFull::DropOldest),
        );
        subscribe(&mut routes, "flood", flooded);
        subscribe(&mut routes, "quiet", quiet);
        for number in 0..100 * CAPACITY {
            deliver(&mut routes, "flood", number, 0, 1);
            if number % 100 == 0 {
                deliver(&mut routes, "quiet", number / 100, 0, 1);
            }
        }
        assert_eq!(taken(&mut routes, quiet), [0, 1, 2, 3]);
        let newest: Vec<_> = (99 * CAPACITY..100 * CAPACITY).collect();
        assert_eq!(taken(&mut routes, flooded), newest);
        assert_eq!(routes.dropped(), 99 * CAPACITY as u64);
    }

    /// At the bound, one beyond, and twice: the oldest go and are counted; who subscribes then gets the rest in order.
    #[test]
    fn unclaimed_messages_wait_up_to_their_bound() {
        for count in [UNCLAIMED_MAX, UNCLAIMED_MAX + 1, 2 * UNCLAIMED_MAX] {
            let mut routes = Routes::default();
            for number in 0..count {
                deliver(&mut routes, "a", number, 0, 1);
            }
            let dropped = count - UNCLAIMED_MAX;
            assert_eq!(routes.dropped(), dropped as u64);
            let queue = routes.add_queue(capacity(count, usize::MAX), WhenFull::Wait);
            subscribe(&mut routes, "a", queue);
            let expect: Vec<_> = (dropped..count).collect();
            assert_eq!(taken(&mut routes, queue), expect);
        }
    }

    /// Goal: when the session goes on, what was not taken and comes again is there once. Method: of QoS 0 and 1 before and after a
    /// new connection; one that another subscription took is acknowledged already and stays.
    #[test]
    fn what_comes_again_is_forgotten_first() {
        let mut routes = Routes::default();
        let all = capacity(CAPACITY, usize::MAX);
        let (one, other) = (
            routes.add_queue(all, WhenFull::Wait),
            routes.add_queue(all, WhenFull::Wait),
        );
        subscribe(&mut routes, "a", one);
        subscribe(&mut routes, "a", other);
        deliver(&mut routes, "a", 0, 1, 1);
        let (queued, _) = routes.queue(one).unwrap().pop().unwrap();
        assert!(queued.ticket.unwrap().take());
        deliver(&mut routes, "a", 1, 2, 1);
        deliver(&mut routes, "a", 2, 0, 1);
        routes.forget_unacknowledged(2);
        deliver(&mut routes, "a", 1, 2, 2);
        assert_eq!(taken(&mut routes, one), [2, 1]);
        assert_eq!(taken(&mut routes, other), [0, 2, 1]);
    }
}

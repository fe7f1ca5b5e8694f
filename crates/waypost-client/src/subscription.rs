//! Subscriptions: what to ask for, and the stream of what comes.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use waypost_mqtt::{
    Filter, Property, PropertyBuffer, QoS, ReasonCode, RetainHandling, SubscriptionOptions,
};

use crate::client::Client;
use crate::content::{ContentError, Expectations, MessageError, Read};
use crate::core::Next;
use crate::desk::{Granted, Unsubscribing};
use crate::error::SubscribeError;
use crate::message::Message;
use crate::routes::{Capacity, QueueId, RouteId, WhenFull};
use crate::shared::Handle;
use crate::spec::Spec;

/// Messages between the connection and whoever takes them, unless asked otherwise.
pub(crate) const CAPACITY_DEFAULT: Capacity = Capacity {
    messages: 1_000,
    bytes: 16 * 1024 * 1024,
};

/// What to subscribe to, and how.
///
/// ```
/// use waypost_client::{QoS, Spec, Subscribe, WhenFull};
///
/// let chat = Subscribe::to("chat/#").qos(QoS::AtLeastOnce).from(Spec::last(50));
/// let prices = Subscribe::to("prices/+").capacity(100).when_full(WhenFull::DropOldest);
/// let several = Subscribe::to("orders/+").and("returns/+");
/// # let _ = (chat, prices, several);
/// ```
#[derive(Debug, Clone)]
pub struct Subscribe {
    pub(crate) filters: Vec<String>,
    pub(crate) options: SubscriptionOptions,
    pub(crate) properties: PropertyBuffer,
    pub(crate) from: Option<Spec>,
    pub(crate) capacity: Capacity,
    pub(crate) when_full: WhenFull,
    pub(crate) reads_dead_letters: bool,
    pub(crate) is_sealed_only: bool,
}

impl Subscribe {
    /// The messages of a filter, at QoS 0 at most.
    pub fn to(filter: impl Into<String>) -> Self {
        Self {
            filters: vec![filter.into()],
            options: SubscriptionOptions::default(),
            properties: PropertyBuffer::new(),
            from: None,
            capacity: CAPACITY_DEFAULT,
            when_full: WhenFull::default(),
            reads_dead_letters: false,
            is_sealed_only: false,
        }
    }

    /// Those of another filter too.
    #[must_use]
    pub fn and(mut self, filter: impl Into<String>) -> Self {
        self.filters.push(filter.into());
        self
    }

    /// The highest QoS to receive with.
    #[must_use]
    pub fn qos(mut self, qos: QoS) -> Self {
        self.options.qos = qos;
        self
    }

    /// Begins with what a stream has; then what is published follows. When a connection is made
    /// again and the server has lost the session, a subscription to one filter goes on behind the
    /// last message that came (MQTT 5); one to several begins anew.
    #[must_use]
    pub fn from(mut self, spec: Spec) -> Self {
        self.from = Some(spec);
        self
    }

    /// Which retained messages come first (MQTT 5).
    #[must_use]
    pub fn retain_handling(mut self, handling: RetainHandling) -> Self {
        self.options.retain_handling = handling;
        self
    }

    /// Without what this client publishes itself (MQTT 5).
    #[must_use]
    pub fn no_local(mut self) -> Self {
        self.options.no_local = true;
        self
    }

    /// It reads dead letters: a sealed message may be for the topic that the server says it died on.
    #[must_use]
    pub fn dead_letters(mut self) -> Self {
        self.reads_dead_letters = true;
        self
    }

    /// Messages that are not sealed are errors, whatever is written beside them.
    #[must_use]
    pub fn sealed_only(mut self) -> Self {
        self.is_sealed_only = true;
        self
    }

    /// A property of SUBSCRIBE (MQTT 5).
    #[must_use]
    pub fn property(mut self, property: Property<'_>) -> Self {
        self.properties.push(property);
        self
    }

    /// Messages between the connection and whoever takes them, 1 at least; a thousand unless asked
    /// otherwise.
    #[must_use]
    pub fn capacity(mut self, messages: usize) -> Self {
        self.capacity.messages = messages;
        self
    }

    /// Their bytes; 16 MiB unless asked otherwise. One message more than that is always taken.
    #[must_use]
    pub fn capacity_bytes(mut self, bytes: usize) -> Self {
        self.capacity.bytes = bytes;
        self
    }

    /// What to do when that much waits.
    #[must_use]
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    pub(crate) fn check(&self) -> Result<(), SubscribeError> {
        if self.filters.is_empty() {
            return Err(SubscribeError::NoFilter);
        }
        if let Some(spec) = &self.from {
            Spec::parse(&spec.to_string())?;
        }
        check_filters(&self.filters)
    }
}

impl From<&str> for Subscribe {
    fn from(filter: &str) -> Self {
        Self::to(filter)
    }
}

impl From<String> for Subscribe {
    fn from(filter: String) -> Self {
        Self::to(filter)
    }
}

pub(crate) fn check_filters(filters: &[String]) -> Result<(), SubscribeError> {
    for filter in filters {
        Filter::parse(filter).map_err(|error| SubscribeError::Filter {
            filter: filter.clone(),
            error,
        })?;
    }
    Ok(())
}

/// The messages of a subscription, as a stream.
///
/// A sealed message that was opened before is an error, [`ContentError::Repeated`]: it was sent again
/// (such as a retained one, when the server has lost the session), or somebody plays it back. The ids
/// of the last 4,096 messages of each of 1,024 senders are remembered; beyond, the oldest go.
///
/// A message of QoS 1 or 2 is acknowledged when it is taken: what the program has not taken stays
/// with the server and comes again. Between the connection and whoever takes them wait at most
/// [`Subscribe::capacity`] messages and [`Subscribe::capacity_bytes`]; [`WhenFull`] says what happens then.
///
/// When it is dropped the server is told, unless the session is to outlive the program
/// ([`Builder::session_expiry`](crate::Builder::session_expiry)): then it stays subscribed, and
/// [`Self::unsubscribe`] ends that. What comes until the program ends is not acknowledged.
pub struct Subscription {
    handle: Arc<Handle>,
    queue: QueueId,
    route: Option<RouteId>,
    granted: Granted,
    /// A message that waits for the dictionary it is packed with.
    fetching: Option<(Box<Message>, Fetch)>,
    wanted: Expectations,
}

type Fetch = Pin<Box<dyn Future<Output = Result<(), ContentError>> + Send>>;

impl Subscription {
    pub(crate) fn new(
        handle: Arc<Handle>,
        queue: QueueId,
        route: Option<RouteId>,
        granted: Granted,
    ) -> Self {
        Self {
            wanted: handle.reading.expectations(),
            handle,
            queue,
            route,
            granted,
            fetching: None,
        }
    }

    /// The next message, read: unpacked where it was packed. One that cannot be read is an error
    /// that carries it, and others follow. Nothing: the client has ended, or the server has taken the
    /// subscription away. If the future is dropped, nothing is lost.
    pub async fn next(&mut self) -> Option<Result<Message, MessageError>> {
        poll_fn(|cx| self.poll_message(cx)).await
    }

    /// The next message, if one is there that can be read without asking the server for a
    /// dictionary.
    pub fn try_next(&mut self) -> Option<Result<Message, MessageError>> {
        if self.fetching.is_some() {
            return None;
        }
        match self.handle.shared.with(|core| core.take(self.queue)) {
            Next::Message(message) => self.read(*message),
            Next::Nothing | Next::Ended => None,
        }
    }

    /// The next message as it came.
    pub(crate) async fn next_raw(&mut self) -> Option<Message> {
        poll_fn(|cx| self.poll_raw(cx)).await
    }

    pub(crate) fn set_granted(&mut self, granted: Granted) {
        self.granted = granted;
    }

    pub(crate) fn expect(&mut self, is_sealed_only: bool, reads_dead_letters: bool) {
        self.wanted.is_sealed_only |= is_sealed_only;
        self.wanted.reads_dead_letters |= reads_dead_letters;
    }

    /// What the server said to each filter.
    pub fn granted(&self) -> &Granted {
        &self.granted
    }

    /// Ends the subscription, with the server too; gives what that said.
    pub async fn unsubscribe(mut self) -> Vec<ReasonCode> {
        let Some(route) = self.route.take() else {
            return Vec::new();
        };
        let answer = self.handle.shared.with(|core| {
            let filters = core.desk.routes.remove(route);
            let (sender, answer) = tokio::sync::oneshot::channel();
            core.unsubscribe(Unsubscribing {
                filters,
                answer: Some(sender),
            });
            answer
        });
        answer.await.unwrap_or_default()
    }

    fn poll_raw(&mut self, cx: &Context<'_>) -> Poll<Option<Message>> {
        self.handle.shared.with(|core| match core.take(self.queue) {
            Next::Message(message) => Poll::Ready(Some(*message)),
            Next::Ended => Poll::Ready(None),
            Next::Nothing => {
                if let Some(queue) = core.desk.routes.queue(self.queue) {
                    queue.waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        })
    }

    fn poll_message(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Message, MessageError>>> {
        loop {
            let message = match &mut self.fetching {
                None => match ready!(self.poll_raw(cx)) {
                    Some(message) => message,
                    None => return Poll::Ready(None),
                },
                Some((_, fetch)) => {
                    let outcome = ready!(fetch.as_mut().poll(cx));
                    let Some((message, _)) = self.fetching.take() else {
                        continue;
                    };
                    if let Err(why) = outcome {
                        return Poll::Ready(Some(Err(MessageError { message, why })));
                    }
                    *message
                }
            };
            if let Some(read) = self.read(message) {
                return Poll::Ready(Some(read));
            }
        }
    }

    /// Reads a message; nothing: a dictionary is needed first and asked for.
    fn read(&mut self, message: Message) -> Option<Result<Message, MessageError>> {
        match self.handle.reading.read(message, &mut self.wanted) {
            Read::Message(message) => Some(Ok(message)),
            Read::Error(error) => Some(Err(error)),
            Read::Dictionary(message, id) => {
                let client = Client::new(Arc::clone(&self.handle));
                let dictionaries = Arc::clone(&self.handle.reading.dictionaries);
                let fetch = async move { dictionaries.fetch(client, id).await };
                self.fetching = Some((Box::new(message), Box::pin(fetch)));
                None
            }
        }
    }
}

impl Stream for Subscription {
    type Item = Result<Message, MessageError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_message(cx)
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("granted", &self.granted)
            .finish_non_exhaustive()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.handle.shared.with(|core| {
            if let Some(route) = self.route
                && !core.outlives()
            {
                let filters = core.desk.routes.remove(route);
                let answer = None;
                core.unsubscribe(Unsubscribing { filters, answer });
            }
            core.desk.routes.abandon(self.queue);
            core.desk.after.driver = true;
        });
    }
}

//! The client: a handle that is cheap to clone.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::sync::oneshot;
use waypost_mqtt::ReasonCode;

use crate::builder::Builder;
use crate::completions::Completions;
use crate::core::{Admission, waiting};
use crate::desk::{Done, Published, Status, Unsubscribing};
use crate::error::{ConnectError, PublishError, SubscribeError};
use crate::outbox::Offer;
use crate::protocol::event::Closed;
use crate::protocol::remains::Waiting;
use crate::publish::Publish;
use crate::shared::Handle;
use crate::subscription::{Subscribe, Subscription, check_filters};

/// A client of a server: a handle that is cheap to clone. When the last clone and the last
/// subscription are dropped it disconnects.
#[derive(Debug, Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

/// What becomes of a message: a future.
#[derive(Debug)]
#[must_use = "what the server said is in it; to go on without, drop it"]
pub struct Delivery {
    outcome: oneshot::Receiver<Result<Published, PublishError>>,
}

impl Client {
    /// How to connect to a server: `mqtt://`, `mqtts://`, `ws://`, `wss://` with
    /// `[USER[:PASSWORD]@]HOST[:PORT]`, or `unix:///PATH`.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder::new(url)
    }

    pub(crate) fn new(handle: Arc<Handle>) -> Self {
        Self { handle }
    }

    /// Publishes a message; done when the server has acknowledged it (at QoS 0: when it is
    /// written), with the server's reason. Waits while too much is unfinished
    /// ([`Builder::unfinished_max`]) or there is no connection. If the future is dropped the
    /// message may be published all the same.
    pub async fn publish(&self, message: Publish) -> Result<Published, PublishError> {
        self.send(message).await?.await
    }

    /// Hands a message over; what becomes of it is a future of its own, so that many can be on
    /// their way at once. They go in the order they are handed over.
    pub async fn send(&self, message: Publish) -> Result<Delivery, PublishError> {
        let (sender, outcome) = oneshot::channel();
        self.hand_over(message, Done::One(sender)).await?;
        Ok(Delivery { outcome })
    }

    /// As [`Self::send`]; what becomes of the message arrives in `completions` under `key`.
    pub async fn publish_into(
        &self,
        message: Publish,
        completions: &Completions,
        key: u64,
    ) -> Result<(), PublishError> {
        let done = Done::Into(completions.clone(), key);
        self.hand_over(message, done).await
    }

    /// As [`Self::publish_into`], without waiting for room: gives the message back when there is
    /// none. An offline store keeps nothing of it.
    pub fn try_publish_into(
        &self,
        message: Publish,
        completions: &Completions,
        key: u64,
    ) -> Result<Option<Publish>, PublishError> {
        message.check_topic()?;
        let message = message.prepared()?;
        let bytes = message.topic.len() + message.payload.len();
        self.handle.shared.with(|core| match core.admit(bytes) {
            Admission::Ended(why) => Err(PublishError::Ended(why)),
            Admission::Full => Ok(Some(message)),
            Admission::Room => {
                core.publish(on_its_way(message), Done::Into(completions.clone(), key));
                Ok(None)
            }
        })
    }

    async fn hand_over(&self, message: Publish, done: Done) -> Result<(), PublishError> {
        message.check_topic()?;
        let message = message.prepared()?;
        let bytes = message.topic.len() + message.payload.len();
        let mut parcel = Some((on_its_way(message), done));
        let shared = &self.handle.shared;
        loop {
            if let Some(outbox) = &self.handle.outbox
                && let Some((message, done)) = parcel.take()
            {
                match outbox.offer(message, done).await? {
                    Offer::Stored => return Ok(()),
                    Offer::Direct(message, done) => parcel = Some((*message, done)),
                }
            }
            let room = shared.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            let is_done = shared.with(|core| match core.admit(bytes) {
                Admission::Ended(why) => Err(PublishError::Ended(why)),
                Admission::Full => Ok(false),
                Admission::Room => {
                    if let Some((message, done)) = parcel.take() {
                        core.publish(message, done);
                    }
                    Ok(true)
                }
            })?;
            if is_done {
                return Ok(());
            }
            room.await;
        }
    }

    /// Subscribes; done when the server has answered. A subscription is made again when the server
    /// has lost the session.
    pub async fn subscribe(
        &self,
        subscribe: impl Into<Subscribe>,
    ) -> Result<Subscription, SubscribeError> {
        let subscribe = subscribe.into();
        subscribe.check()?;
        let (sender, answer) = oneshot::channel();
        let (is_sealed_only, reads_dead_letters) =
            (subscribe.is_sealed_only, subscribe.reads_dead_letters);
        let added = self.handle.shared.with(|core| {
            if let Some(why) = core.ended() {
                return Err(SubscribeError::Ended(Arc::clone(why)));
            }
            let routes = &mut core.desk.routes;
            let queue = routes.add_queue(subscribe.capacity, subscribe.when_full);
            let mut route = core.route(subscribe, queue);
            route.is_identified = true;
            let id = route.id;
            core.desk.subscribing.push((id, sender));
            core.subscribe(route);
            Ok((queue, id))
        });
        let (queue, id) = added?;
        let granted = crate::desk::Granted {
            reasons: Vec::new(),
            text: None,
        };
        // Dropped where the server refuses, or this future is dropped: the subscription goes with it.
        let mut subscription =
            Subscription::new(Arc::clone(&self.handle), queue, Some(id), granted);
        subscription.expect(is_sealed_only, reads_dead_letters);
        match answer.await {
            Ok(Ok(granted)) => {
                subscription.set_granted(granted);
                Ok(subscription)
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(SubscribeError::Ended(Arc::new(Closed::Finished))),
        }
    }

    /// Subscribes for the inbox ([`Builder::inbox`]): what comes is taken there, and the server's
    /// answer is told to [`Builder::observe`].
    pub fn subscribe_inbox(&self, subscribe: impl Into<Subscribe>) -> Result<(), SubscribeError> {
        self.to_inbox(subscribe.into(), false)
    }

    /// Takes a session's subscription from before for its own: it is not made again now, only when
    /// the server has lost the session, and then goes on where it was.
    pub fn adopt_inbox(&self, subscribe: impl Into<Subscribe>) -> Result<(), SubscribeError> {
        self.to_inbox(subscribe.into(), true)
    }

    fn to_inbox(&self, subscribe: Subscribe, is_there: bool) -> Result<(), SubscribeError> {
        subscribe.check()?;
        let reading = &self.handle.reading;
        if subscribe.is_sealed_only && !reading.is_sealed_only
            || subscribe.reads_dead_letters && !reading.reads_dead_letters
        {
            return Err(SubscribeError::Inbox);
        }
        self.handle.shared.with(|core| {
            if let Some(why) = core.ended() {
                return Err(SubscribeError::Ended(Arc::clone(why)));
            }
            let Some(inbox) = core.desk.routes.inbox() else {
                return Ok(());
            };
            let mut route = core.route(subscribe, inbox);
            if is_there {
                route.is_confirmed = true;
                core.desk.routes.add(route);
            } else {
                core.subscribe(route);
            }
            Ok(())
        })
    }

    /// Takes filters off the session, of this program's subscriptions or one's from before; gives
    /// what the server said to each (MQTT 5).
    pub async fn unsubscribe(
        &self,
        filters: Vec<String>,
    ) -> Result<Vec<ReasonCode>, SubscribeError> {
        check_filters(&filters)?;
        let (sender, answer) = oneshot::channel();
        let answer = self.handle.shared.with(|core| {
            if let Some(why) = core.ended() {
                return Err(SubscribeError::Ended(Arc::clone(why)));
            }
            core.unsubscribe(Unsubscribing {
                filters,
                answer: Some(sender),
            });
            Ok(answer)
        })?;
        answer
            .await
            .map_err(|_| SubscribeError::Ended(self.end_reason()))
    }

    /// Waits until everything published is finished, or the client has ended.
    pub async fn flush(&self) {
        let shared = &self.handle.shared;
        loop {
            let room = shared.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            if shared.with(|core| core.desk.unfinished().0 == 0) {
                return;
            }
            room.await;
        }
    }

    /// Says DISCONNECT after what was sent before, and waits until the connection is closed. What is
    /// not finished then is given up; [`Self::flush`] first waits for it.
    pub async fn disconnect(&self) {
        self.close();
        self.ended().await;
    }

    /// As [`Self::disconnect`], without waiting.
    pub fn close(&self) {
        let shared = &self.handle.shared;
        shared.with(|core| core.disconnect(Instant::now()));
    }

    /// Waits until the client has ended for good, and has let go of its offline store; gives why.
    pub async fn ended(&self) -> Arc<Closed> {
        let mut status = self.handle.shared.status();
        let ended = status.wait_for(|status| matches!(status, Status::Ended(_)));
        let why = match ended.await.as_deref() {
            Ok(Status::Ended(why)) => Arc::clone(why),
            _ => self.end_reason(),
        };
        if let Some(outbox) = &self.handle.outbox {
            outbox.closed().await;
        }
        why
    }

    /// Where the connection stands.
    pub fn status(&self) -> Status {
        self.handle.shared.status().borrow().clone()
    }

    /// Messages published and not finished.
    pub fn unfinished(&self) -> usize {
        self.handle.shared.with(|core| core.desk.unfinished().0)
    }

    /// Messages that came and were dropped, because nobody took them in time.
    pub fn dropped(&self) -> u64 {
        self.handle.shared.with(|core| core.desk.routes.dropped())
    }

    /// The program waits for a message of another subscription: reading must go on.
    pub(crate) fn awaits(&self, change: isize) {
        self.handle.shared.with(|core| {
            let desk = &mut core.desk;
            desk.awaiting = desk.awaiting.saturating_add_signed(change);
            desk.after.driver = true;
        });
    }

    /// Waits for the first connection; gives whether the server had the session.
    pub(crate) async fn connected(&self) -> Result<bool, ConnectError> {
        let mut status = self.handle.shared.status();
        let known = status.wait_for(|status| !matches!(status, Status::Connecting));
        match known.await.as_deref() {
            Ok(Status::Connected { session_present }) => Ok(*session_present),
            _ => Err(ConnectError::Closed(self.end_reason())),
        }
    }

    fn end_reason(&self) -> Arc<Closed> {
        let ended = self.handle.shared.with(|core| core.ended().cloned());
        ended.unwrap_or_else(|| Arc::new(Closed::Finished))
    }
}

impl Future for Delivery {
    type Output = Result<Published, PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(Pin::new(&mut self.outcome).poll(cx));
        // The client's state is gone with its runtime.
        Poll::Ready(outcome.unwrap_or_else(|_| Err(PublishError::Unsure)))
    }
}

fn on_its_way(message: Publish) -> Waiting {
    waiting(
        message.topic,
        message.payload,
        message.qos,
        message.retain,
        message.properties,
    )
}

//! Waypost's Rust SDK: MQTT 5 and 3.1.1 over every door a server has, on tokio.
//!
//! [`Client::builder`] connects, [`Client::publish`] publishes and resolves at the server's
//! acknowledgement, [`Client::subscribe`] gives a stream of messages. A lost connection is made again;
//! what was not acknowledged is sent again in its order, and nothing of QoS 2 twice, as long as the
//! server keeps the session.
//!
//! ```no_run
//! use waypost_client::{Client, Publish, QoS, Subscribe};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder("mqtt://127.0.0.1:1883").connect().await?;
//! let mut chat = client.subscribe(Subscribe::to("chat/#").qos(QoS::AtLeastOnce)).await?;
//! client.publish(Publish::new("chat/lobby", "hello").qos(QoS::AtLeastOnce)).await?;
//! if let Some(message) = chat.next().await.transpose()? {
//!     println!("{}: {:?}", message.topic(), message.text());
//! }
//! client.disconnect().await;
//! # Ok(())
//! # }
//! ```
//!
//! Everything that waits is bounded: what is published and not finished
//! ([`Builder::unfinished_max`]), what came and was not taken ([`Subscribe::capacity`]).
//!
//! [`Builder::offline`] keeps what is published without a connection, [`Publish::seal_for`] and
//! [`Builder::keys`] seal and open end to end, [`Publish::compress`] packs.
//!
//! Inside, `core` is the state of one client and `desk`, `routes` its parts, without I/O;
//! [`protocol`] is one connection's MQTT, [`door`] what lies below it, `driver` the task that moves
//! bytes. Deliberately not here: anything a server does, and the command line (`waypost`).

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

mod backoff;
mod builder;
mod client;
mod completions;
mod content;
mod core;
mod desk;
mod dictionaries;
pub mod door;
mod driver;
mod error;
pub mod keys;
mod message;
mod offline;
mod outbox;
pub mod protocol;
mod publish;
mod routes;
mod sealing;
mod shared;
mod socket;
mod spec;
mod subscription;

pub use backoff::Backoff;
pub use builder::{Builder, Connected};
pub use client::{Client, Delivery};
pub use completions::{Completions, Finished};
pub use content::{ContentError, MessageError, PackError};
pub use desk::{Granted, Notice, Published, Status};
pub use error::{ConnectError, PublishError, SubscribeError};
pub use message::Message;
pub use offline::{FileStore, OfflineError, OfflineStore};
pub use protocol::event::Closed;
pub use publish::Publish;
pub use routes::WhenFull;
pub use sealing::{SealError, Sealed};
pub use spec::{Place, Spec, SpecError};
pub use subscription::{Subscribe, Subscription};
pub use waypost_mqtt::{Property, ProtocolVersion, QoS, ReasonCode, RetainHandling};

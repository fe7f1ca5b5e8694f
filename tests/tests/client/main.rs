//! The Rust SDK with the built server: every door, servers that are killed, slow readers, history, errors.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod contents;
mod documents;
mod doors;
mod errors;
mod flow;
mod offline;
mod resumption;
mod sessions;

use std::future::Future;
use std::time::Duration;

use waypost_client::{Builder, Client, Message, Subscription};
use waypost_tests::{LIMIT, Server};

/// Runs a test on a runtime of its own, within the limit.
#[track_caller]
fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let outcome = runtime.block_on(async { tokio::time::timeout(LIMIT, test).await });
    outcome.expect("done within the limit")
}

/// How to connect to this server by TCP.
fn builder(server: &Server) -> Builder {
    Client::builder(format!("mqtt://{}", server.mqtt()))
}

/// The next message's payload as text.
async fn text(subscription: &mut Subscription) -> String {
    let message = message(subscription).await;
    message.text().expect("UTF-8").to_owned()
}

/// The next message, which can be read.
async fn message(subscription: &mut Subscription) -> Message {
    let message = subscription.next().await.expect("a message");
    message.expect("one that can be read")
}

/// Waits for a condition that no event tells of.
async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + LIMIT;
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "waited for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

//! Servers that die: nothing acknowledged or waiting is lost, and nothing of QoS 2 comes twice.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use waypost_client::{
    Backoff, Client, Completions, Notice, Publish, QoS, Spec, Subscribe, Subscription,
};
use waypost_tests::{Server, ServerOptions};

use crate::{builder, run, text};

const CHAT: &str = "[[stream]]\nname = \"chat\"\nfilters = [\"chat/#\"]\n";
const MESSAGES: u64 = 400;
/// So many are acknowledged before the server is killed.
const BEFORE_KILL: usize = 60;

fn quick() -> Backoff {
    Backoff::new().delays(Duration::from_millis(20), Duration::from_millis(200))
}

fn start(directory: &Path, port: u16) -> Server {
    ServerOptions::new()
        .data_dir(directory)
        .mqtt_port(port)
        .configuration(CHAT)
        .start()
}

fn kill(server: &mut Server) {
    server.signal(Signal::KILL);
    server.wait();
}

async fn publish_through_a_kill(qos: QoS) -> (Vec<u64>, u64) {
    let directory = tempfile::tempdir().unwrap();
    let mut server = start(directory.path(), 0);
    let port = server.mqtt().port();
    let receiver = builder(&server)
        .client_id("receiver")
        .reconnect(quick())
        .connect()
        .await
        .unwrap();
    let subscribe = Subscribe::to("numbers").qos(QoS::ExactlyOnce);
    let mut numbers = receiver.subscribe(subscribe).await.unwrap();
    let (resent, count) = tokio::sync::watch::channel(0_u64);
    let observe = move |notice: &Notice| {
        if matches!(notice, Notice::Resent) {
            resent.send_modify(|count| *count += 1);
        }
    };
    let sender = builder(&server)
        .client_id("sender")
        .reconnect(quick())
        .observe(observe);
    let sender = sender.connect().await.unwrap();
    let completions = Completions::new();
    let mut finished = 0;
    for number in 0..MESSAGES {
        let message = Publish::new("numbers", number.to_string()).qos(qos);
        sender
            .publish_into(message, &completions, number)
            .await
            .unwrap();
        while let Some((_, outcome)) = completions.try_next() {
            outcome.unwrap();
            finished += 1;
        }
        if number == MESSAGES / 2 {
            while finished < BEFORE_KILL {
                completions.next().await.1.unwrap();
                finished += 1;
            }
            kill(&mut server);
            server = start(directory.path(), port);
        }
    }
    sender.flush().await;
    let mut came = Vec::new();
    while came.iter().max() != Some(&(MESSAGES - 1)) {
        came.push(text(&mut numbers).await.parse().unwrap());
    }
    let resent = *count.borrow();
    (came, resent)
}

#[test]
fn nothing_of_qos_1_is_lost_with_a_server_that_is_killed() {
    run(async {
        let (received, _) = publish_through_a_kill(QoS::AtLeastOnce).await;
        let mut counts = BTreeMap::<u64, u32>::new();
        for number in received {
            *counts.entry(number).or_default() += 1;
        }
        assert!(counts.keys().copied().eq(0..MESSAGES), "{counts:?}");
    });
}

#[test]
fn everything_of_qos_2_comes_once_and_in_order_from_a_server_that_is_killed() {
    run(async {
        let (received, resent) = publish_through_a_kill(QoS::ExactlyOnce).await;
        assert!(received.iter().copied().eq(0..MESSAGES), "{received:?}");
        println!("{resent} sent again");
    });
}

/// A client may begin before its server, and what it publishes meanwhile waits.
#[test]
fn a_client_that_starts_first_waits_for_its_server() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = start(directory.path(), 0);
    let port = server.mqtt().port();
    kill(&mut server);
    run(async {
        let url = format!("mqtt://127.0.0.1:{port}");
        let refused = Client::builder(&url).reconnect(quick()).connect().await;
        assert!(
            refused.is_err(),
            "connect says at once that nobody is there"
        );
        let client = Client::builder(&url).reconnect(quick()).start().unwrap();
        let sent = client
            .send(Publish::new("chat/a", "early").qos(QoS::AtLeastOnce))
            .await
            .unwrap();
        let server = start(directory.path(), port);
        sent.await.unwrap();
        let reader = builder(&server).connect().await.unwrap();
        let mut chat = reader
            .subscribe(Subscribe::to("chat/#").from(Spec::last(1)))
            .await
            .unwrap();
        assert_eq!(text(&mut chat).await, "early");
    });
}

/// Goal: a reader of a stream whose session was lost goes on where it was. Method: the server is killed after a few messages were
/// read; more are published to the next one.
#[test]
fn a_reader_goes_on_in_the_stream_behind_what_it_took() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = start(directory.path(), 0);
    let port = server.mqtt().port();
    run(async {
        let say = async |server: &Server, from: u64, to: u64| {
            let client = builder(server).connect().await.unwrap();
            for number in from..=to {
                let line = Publish::new("chat/a", number.to_string()).qos(QoS::AtLeastOnce);
                client.publish(line).await.unwrap();
            }
        };
        say(&server, 1, 5).await;
        // Its session ends with its connection.
        let reader = builder(&server)
            .reconnect(quick())
            .session_expiry(Duration::ZERO);
        let reader = reader.connect().await.unwrap();
        let subscribe = Subscribe::to("chat/#")
            .qos(QoS::AtLeastOnce)
            .from(Spec::last(3));
        let mut chat: Subscription = reader.subscribe(subscribe).await.unwrap();
        for number in 3..=5 {
            assert_eq!(text(&mut chat).await, number.to_string());
        }
        kill(&mut server);
        server = start(directory.path(), port);
        say(&server, 6, 8).await;
        for number in 6..=8 {
            assert_eq!(text(&mut chat).await, number.to_string());
        }
    });
}

//! What is published without a connection survives the program.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use waypost_client::{
    Backoff, Builder, Client, FileStore, OfflineError, Publish, PublishError, QoS, Subscribe,
};
use waypost_tests::{Server, ServerOptions};

use crate::{builder, run, text};

/// In the environment of a program that publishes without a server: where it keeps what.
const STORE: &str = "WAYPOST_TEST_OFFLINE_STORE";
const BYTES_MAX: u64 = 1_000_000;

fn quick() -> Backoff {
    Backoff::new().delays(Duration::from_millis(20), Duration::from_millis(200))
}

fn store(path: &Path) -> FileStore {
    FileStore::open(path, BYTES_MAX).unwrap()
}

fn number(number: u64) -> Publish {
    Publish::new("numbers", number.to_string()).qos(QoS::AtLeastOnce)
}

fn start(directory: &Path, port: u16) -> Server {
    ServerOptions::new()
        .data_dir(&directory.join("data"))
        .mqtt_port(port)
        .start()
}

fn kill(server: &mut Server) {
    server.signal(Signal::KILL);
    server.wait();
}

/// A port where nobody is, and where a server will be.
fn free_port(directory: &Path) -> u16 {
    let mut server = start(directory, 0);
    let port = server.mqtt().port();
    kill(&mut server);
    port
}

fn at(port: u16) -> Builder {
    Client::builder(format!("mqtt://127.0.0.1:{port}")).reconnect(quick())
}

/// The program that is killed: it says what it has handed over. Nothing to do unless the test below starts it.
#[test]
fn publishes_without_a_server_until_it_is_killed() {
    let Some(path) = std::env::var_os(STORE) else {
        return;
    };
    run(async {
        let client = at(1).offline(store(path.as_ref())).start().unwrap();
        for next in 0.. {
            drop(client.send(number(next)).await.unwrap());
            println!("kept {next}");
        }
    });
}

/// Goal: what a program was told is kept arrives, whatever became of the program, in order. Method: a program publishes without a
/// server and is killed while it does; the next one opens its store beside a server.
#[test]
fn what_was_kept_survives_a_program_that_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("outbox");
    let mut program = Command::new(std::env::current_exe().unwrap())
        .args([
            "offline::publishes_without_a_server_until_it_is_killed",
            "--exact",
            "--nocapture",
        ])
        .env(STORE, &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(program.stdout.take().unwrap()).lines();
    let mut kept = 0;
    for line in lines.map_while(Result::ok) {
        if let Some(number) = line.strip_prefix("kept ") {
            kept = number.parse::<u64>().unwrap() + 1;
        }
        if kept == 50 {
            program.kill().unwrap();
        }
    }
    program.wait().unwrap();
    let server = Server::start();
    run(async {
        let reader = builder(&server).connect().await.unwrap();
        let subscribe = Subscribe::to("numbers").qos(QoS::AtLeastOnce);
        let mut numbers = reader.subscribe(subscribe).await.unwrap();
        let client = builder(&server)
            .offline(store(&path))
            .connect()
            .await
            .unwrap();
        client
            .publish(Publish::new("numbers", "new").qos(QoS::AtLeastOnce))
            .await
            .unwrap();
        let mut next = 0;
        loop {
            let number = text(&mut numbers).await;
            if number == "new" {
                break;
            }
            assert_eq!(number, next.to_string());
            next += 1;
        }
        assert!(next >= kept, "{next} arrived of at least {kept}");
    });
}

/// Goal: what was on its way when a server died, and what was published while it was away, is on disk. Method: the server is killed,
/// messages follow, the client is dropped; the next client sends all that was not acknowledged.
#[test]
fn what_a_lost_connection_left_is_kept_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("outbox");
    let mut server = start(directory.path(), 0);
    let port = server.mqtt().port();
    run(async {
        let client = at(port).offline(store(&path)).connect().await.unwrap();
        client.publish(number(0)).await.unwrap();
        kill(&mut server);
        // The first may be written to a socket nobody reads any more.
        let mut sent = Vec::new();
        for next in 1..=20 {
            sent.push(client.send(number(next)).await.unwrap());
            tokio::task::yield_now().await;
        }
        let lost = async {
            while !matches!(client.status(), waypost_client::Status::Connecting) {
                tokio::task::yield_now().await;
            }
        };
        lost.await;
        sent.push(client.send(number(21)).await.unwrap());
        client.disconnect().await;
        for sent in sent {
            assert!(matches!(sent.await, Err(PublishError::Ended(_))));
        }
        drop(client);
        server = start(directory.path(), port);
        let reader = builder(&server).connect().await.unwrap();
        let subscribe = Subscribe::to("numbers").qos(QoS::AtLeastOnce);
        let mut numbers = reader.subscribe(subscribe).await.unwrap();
        let opened = loop {
            // The client before lets go of the store when its task has ended.
            match FileStore::open(&path, BYTES_MAX) {
                Err(OfflineError::InUse(_)) => tokio::task::yield_now().await,
                opened => break opened.unwrap(),
            }
        };
        let _client = at(port).offline(opened).connect().await.unwrap();
        for next in 1..=21 {
            assert_eq!(text(&mut numbers).await, next.to_string());
        }
    });
}

#[test]
fn a_store_that_is_full_refuses_the_newest_and_empties_when_it_can() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("outbox");
    let port = free_port(directory.path());
    run(async {
        let small = FileStore::open(&path, 1_000).unwrap();
        let client = at(port).offline(small).start().unwrap();
        let mut sent = Vec::new();
        let full = loop {
            match client.send(number(sent.len() as u64)).await {
                Ok(delivery) => sent.push(delivery),
                Err(error) => break error,
            }
        };
        assert!(
            full.to_string()
                .contains("1000 bytes wait for a connection already"),
            "{full}"
        );
        assert!((20..60).contains(&sent.len()), "{}", sent.len());
        let _server = start(directory.path(), port);
        for delivery in sent {
            delivery.await.unwrap();
        }
        client.publish(number(0)).await.unwrap();
    });
}

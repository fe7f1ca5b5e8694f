//! What is published without a connection survives the program.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::Signal;
use waypost_client::{
    Backoff, Builder, Client, FileStore, OfflineError, OfflineStore, Publish, PublishError, QoS,
    Status, Subscribe,
};
use waypost_tests::{Server, ServerOptions};

use crate::{builder, run, text};

/// In the environment of a program that publishes until it is killed: where it keeps what, and the port of its server.
const STORE: &str = "WAYPOST_TEST_OFFLINE_STORE";
const PORT: &str = "WAYPOST_TEST_OFFLINE_PORT";
/// Tasks of that program that publish at the same time, each in an order of its own.
const TASKS: usize = 4;
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

fn of_task(task: usize, next: u64) -> Publish {
    Publish::new(format!("numbers/{task}"), next.to_string()).qos(QoS::AtLeastOnce)
}

/// The program that is killed: it says what is on disk when it says so. Nothing to do unless a test below starts it.
#[test]
fn publishes_until_it_is_killed() {
    let (Some(path), Ok(port)) = (std::env::var_os(STORE), std::env::var(PORT)) else {
        return;
    };
    // Within the limit, so that one that is stuck ends.
    run(async {
        // Full, mostly, when the connection is lost: who waits for room then is to go on.
        let builder = at(port.parse().unwrap()).unfinished_max(50, 100_000);
        let client = builder.offline(store(path.as_ref())).start().unwrap();
        let task = async |task| {
            for next in 0.. {
                // With a connection it is only on its way.
                let is_kept = matches!(client.status(), Status::Connecting);
                drop(client.send(of_task(task, next)).await.unwrap());
                let verb = if is_kept { "kept" } else { "sent" };
                println!("{verb} {task} {next}");
            }
        };
        tokio::join!(task(0), task(1), task(2), task(3));
    });
}

/// Starts that program.
fn publisher(path: &Path, port: u16) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "offline::publishes_until_it_is_killed",
            "--exact",
            "--nocapture",
        ])
        .env(STORE, path)
        .env(PORT, port.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Reads what the program says, which `told` may end; gives how many messages each task was told are kept.
fn listen(program: &mut Child, mut told: impl FnMut(&mut Child, bool)) -> [u64; TASKS] {
    let mut kept = [0; TASKS];
    let lines = BufReader::new(program.stdout.take().unwrap()).lines();
    for line in lines.map_while(Result::ok) {
        let words: Vec<_> = line.split(' ').collect();
        let &[verb @ ("kept" | "sent"), task, next] = words.as_slice() else {
            continue;
        };
        if verb == "kept" {
            kept[task.parse::<usize>().unwrap()] = next.parse::<u64>().unwrap() + 1;
        }
        told(program, verb == "kept");
    }
    program.wait().unwrap();
    kept
}

/// Opens the store and sends what is in it; all that was kept of each task must come, in order. What came before the kill may come
/// again, from where the program had heard of it.
async fn all_arrive(port: u16, path: &Path, server: &Server, kept: [u64; TASKS], is_new: bool) {
    let reader = builder(server).connect().await.unwrap();
    let subscribe = Subscribe::to("numbers/#").qos(QoS::AtLeastOnce);
    let mut numbers = reader.subscribe(subscribe).await.unwrap();
    let client = at(port).offline(store(path)).connect().await.unwrap();
    client
        .publish(Publish::new("numbers/end", "").qos(QoS::AtLeastOnce))
        .await
        .unwrap();
    let mut next: [Option<u64>; TASKS] = [is_new.then_some(0); TASKS];
    loop {
        let message = crate::message(&mut numbers).await;
        let Ok(task) = message.topic().rsplit('/').next().unwrap().parse::<usize>() else {
            break;
        };
        let number: u64 = message.text().unwrap().parse().unwrap();
        assert_eq!(number, next[task].unwrap_or(number), "of task {task}");
        next[task] = Some(number + 1);
    }
    for (task, kept) in kept.into_iter().enumerate() {
        assert!(
            next[task].unwrap_or(0) >= kept,
            "{next:?} arrived of at least {kept:?}"
        );
    }
    client.disconnect().await;
}

/// Goal: what a program was told is kept arrives, whatever became of the program, in order. Method: four tasks of a program publish
/// without a server and it is killed while they do; the next one opens its store beside a server.
#[test]
fn what_was_kept_survives_a_program_that_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("outbox");
    let mut program = publisher(&path, 1);
    let mut lines = 0;
    let kept = listen(&mut program, |program, _| {
        lines += 1;
        if lines == 200 {
            program.kill().unwrap();
        }
    });
    let server = Server::start();
    run(all_arrive(server.mqtt().port(), &path, &server, kept, true));
}

/// Goal: likewise, of a program that was connected first. Method: its server is killed under it, and it some time later.
#[test]
fn what_a_lost_connection_left_survives_a_program_that_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("outbox");
    let mut server = start(directory.path(), 0);
    let port = server.mqtt().port();
    let mut program = publisher(&path, port);
    let (mut sent, mut lines) = (0, 0);
    let kept = listen(&mut program, |program, is_kept| {
        sent += u32::from(!is_kept);
        lines += u32::from(is_kept);
        if sent == 100 && !is_kept {
            server.signal(Signal::KILL);
        }
        if lines == 100 {
            program.kill().unwrap();
        }
    });
    server.wait();
    assert!(kept.iter().any(|kept| *kept > 0), "{kept:?}");
    let server = start(directory.path(), port);
    run(all_arrive(port, &path, &server, kept, false));
}

/// A disk that takes its time: each message waits until the test lets it pass.
struct SlowStore {
    inner: FileStore,
    began: mpsc::Sender<std::thread::ThreadId>,
    passes: mpsc::Receiver<()>,
}

impl OfflineStore for SlowStore {
    fn append(&mut self, record: &[u8]) -> Result<u64, OfflineError> {
        self.began.send(std::thread::current().id()).unwrap();
        self.passes.recv().unwrap();
        self.inner.append(record)
    }

    fn read(&mut self, number: u64) -> Result<Option<Vec<u8>>, OfflineError> {
        self.inner.read(number)
    }

    fn remove(&mut self, up_to: u64) -> Result<(), OfflineError> {
        self.inner.remove(up_to)
    }

    fn first(&self) -> u64 {
        self.inner.first()
    }

    fn end(&self) -> u64 {
        self.inner.end()
    }
}

/// Goal: a slow disk holds up who is to be told that a message is on it, and nobody else. Method: on a runtime of one thread, a
/// message waits for a disk while another client publishes and receives; what is sent behind it, and given up, is kept in order.
#[test]
fn a_slow_disk_holds_up_nobody_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("outbox");
    let server = Server::start();
    run(async {
        let (began, begins) = mpsc::channel();
        let (pass, passes) = mpsc::channel();
        let slow = SlowStore {
            inner: store(&path),
            began,
            passes,
        };
        let client = at(1).offline(slow).start().unwrap();
        let other = builder(&server).connect().await.unwrap();
        let mut echo = other.subscribe("echo").await.unwrap();
        let mut first = Box::pin(client.send(number(0)));
        let mut second = Box::pin(client.send(number(1)));
        let mut thread = None;
        while thread.is_none() {
            tokio::select! {
                biased;
                _ = &mut first => panic!("told before it is on disk"),
                _ = &mut second => panic!("told before it is on disk"),
                () = tokio::time::sleep(Duration::from_millis(1)) => thread = begins.try_recv().ok(),
            }
        }
        assert_ne!(thread, Some(std::thread::current().id()));
        for round in 0..10 {
            other
                .publish(Publish::new("echo", round.to_string()))
                .await
                .unwrap();
            assert_eq!(text(&mut echo).await, round.to_string());
        }
        // Begun: it is kept whether or not somebody waits. Not begun: it is not.
        drop(first);
        drop(second);
        for _ in 0..2 {
            pass.send(()).unwrap();
        }
        drop(client.send(number(2)).await.unwrap());
        client.disconnect().await;
        let mut kept = store(&path);
        assert_eq!((kept.first(), kept.end()), (0, 2));
        assert!(kept.read(0).unwrap().unwrap().ends_with(b"0"));
        assert!(kept.read(1).unwrap().unwrap().ends_with(b"2"));
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
        // It has let go of the store then.
        client.disconnect().await;
        for sent in sent {
            assert!(matches!(sent.await, Err(PublishError::Ended(_))));
        }
        server = start(directory.path(), port);
        let reader = builder(&server).connect().await.unwrap();
        let subscribe = Subscribe::to("numbers").qos(QoS::AtLeastOnce);
        let mut numbers = reader.subscribe(subscribe).await.unwrap();
        let _client = at(port).offline(store(&path)).connect().await.unwrap();
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

//! Groups with the built program and real processes: members of many kinds, on one, two and four shards, that hang, are
//! killed, and come back.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::{
    collections::BTreeMap,
    fs::File,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use waypost_mqtt::{
    Ack, Connect, Packet, PacketId, Property, PropertyBuffer,
    ProtocolVersion::{V5, V311},
    Publish, QoS, ReasonCode,
};
use waypost_tests::{
    LIMIT, Program, RawClient, Received, Server, ServerOptions, connect_packet, empty_publish,
    required_program, wait_for, waypost,
};

const SHARDS: [u16; 3] = [1, 2, 4];

fn server(shards: u16) -> Server {
    ServerOptions::new().shards(shards).start()
}

/// A session that outlives its connection.
#[track_caller]
fn lasting(server: &Server, client_id: &str, clean_start: bool) -> (RawClient, bool) {
    let mut properties = PropertyBuffer::new();
    properties.push(Property::SessionExpiryInterval(600));
    let connect = Connect {
        clean_start,
        properties: properties.as_properties(),
        ..connect_packet(V5, client_id)
    };
    let (client, answer) = RawClient::connect_with(server, &connect);
    let is_present = answer.conn_ack().session_present;
    (client, is_present)
}

fn payload(message: &Received) -> usize {
    std::str::from_utf8(message.publish().payload)
        .unwrap()
        .parse()
        .unwrap()
}

fn answer(client: &mut RawClient, message: &Received, reason: ReasonCode) {
    let ack = Ack::new(message.publish().packet_id.unwrap(), reason);
    client.send(&Packet::PubAck(ack));
}

/// Publishes the numbers `0..count`, a payload each, at `QoS` 1.
fn publish_numbers(server: &Server, topic: &str, count: usize) {
    let mut publisher = RawClient::connect(server, V5, "publisher");
    for number in 0..count {
        publisher.publish(topic, QoS::AtLeastOnce, number.to_string().as_bytes());
    }
}

/// A member that is a process of its own; what it prints goes to a file. Killed when dropped.
struct Worker {
    child: Child,
    output: PathBuf,
}

impl Worker {
    fn start(mut command: Command, output: PathBuf) -> Self {
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&output).unwrap())
            .spawn()
            .expect("the member starts");
        Self { child, output }
    }

    fn numbers(&self) -> Vec<usize> {
        let text = std::fs::read_to_string(&self.output).unwrap();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().filter_map(|line| line.parse().ok()).collect()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn waypost_sub(server: &Server, filter: &str) -> Command {
    let mut command = waypost();
    command
        .args(["sub", "--host", "127.0.0.1", "-p"])
        .arg(server.mqtt().port().to_string())
        .args(["-q", "1", "-t", filter]);
    command
}

/// Every kind of member beside the others: each message to one of them, at every QoS and version.
#[test]
fn members_of_every_kind_share_the_messages() {
    const COUNT: usize = 400;
    for shards in SHARDS {
        let server = server(shards);
        let folder = tempfile::tempdir().unwrap();
        let mut workers = vec![Worker::start(
            waypost_sub(&server, "$share/crew/task/#"),
            folder.path().join("waypost"),
        )];
        if let Some(mut command) = required_program(Program::MosquittoSub) {
            let port = server.mqtt().port().to_string();
            command.args(["-h", "127.0.0.1", "-p", &port, "-q", "1"]);
            command.args(["-t", "$share/crew/task/#"]);
            workers.push(Worker::start(command, folder.path().join("mosquitto")));
        }
        if let Some(mut command) = required_program(Program::Python) {
            let port = server.mqtt().port().to_string();
            command.args(["python/group_member.py", &port, "$share/crew/task/#"]);
            workers.push(Worker::start(command, folder.path().join("paho")));
        }
        let mut clients: Vec<_> = [V5, V5, V311]
            .into_iter()
            .enumerate()
            .map(|(number, version)| {
                let mut client = RawClient::connect(&server, version, &format!("raw{number}"));
                client.subscribe("$share/crew/task/#", QoS::AtLeastOnce);
                client
            })
            .collect();
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        let members = (workers.len() + clients.len()) as f64;
        server.wait_for_metric("waypost_subscriptions", members);

        publish_numbers(&server, "task/x", COUNT);
        let mut numbers = Vec::new();
        wait_for("every message at some member", LIMIT, || {
            for client in &mut clients {
                for message in client.drain() {
                    answer(client, &message, ReasonCode::Success);
                    numbers.push(payload(&message));
                }
            }
            let others: usize = workers.iter().map(|worker| worker.numbers().len()).sum();
            (numbers.len() + others >= COUNT).then_some(())
        });
        for worker in &workers {
            let own = worker.numbers();
            assert!(!own.is_empty(), "{} got nothing", worker.output.display());
            numbers.extend(own);
        }
        numbers.sort_unstable();
        assert_eq!(
            numbers,
            (0..COUNT).collect::<Vec<_>>(),
            "each message once, {shards} shards"
        );
    }
}

/// A process that is stopped and then killed holds messages it never acknowledged: the others get them all.
#[test]
fn what_a_killed_worker_held_reaches_the_others() {
    const COUNT: usize = 300;
    for shards in SHARDS {
        let server = server(shards);
        let folder = tempfile::tempdir().unwrap();
        let filter = "$share/crew/task";
        let doomed = Worker::start(waypost_sub(&server, filter), folder.path().join("doomed"));
        server.wait_for_metric("waypost_subscriptions", 1.0);
        let mut others: Vec<_> = (0..3)
            .map(|number| {
                let mut client = RawClient::connect(&server, V5, &format!("other{number}"));
                client.subscribe(filter, QoS::AtLeastOnce);
                client
            })
            .collect();
        doomed.signal(Signal::STOP);
        publish_numbers(&server, "task", COUNT);
        let mut numbers = Vec::new();
        let take = |others: &mut Vec<RawClient>, numbers: &mut Vec<usize>| {
            for client in others {
                for message in client.drain() {
                    // 5 [MQTT-3.3.1-3]: to this client it is no repetition.
                    assert!(!message.publish().dup);
                    answer(client, &message, ReasonCode::Success);
                    numbers.push(payload(&message));
                }
            }
        };
        // What the stopped one does not hold comes at once; it holds at least one.
        wait_for("the share of the others", LIMIT, || {
            take(&mut others, &mut numbers);
            (numbers.len() >= COUNT / 2).then_some(())
        });
        assert!(numbers.len() < COUNT, "the stopped member holds nothing");
        doomed.signal(Signal::KILL);
        wait_for("what the killed one held", LIMIT, || {
            take(&mut others, &mut numbers);
            (numbers.len() >= COUNT).then_some(())
        });
        assert!(doomed.numbers().is_empty());
        server.wait_for_metric("waypost_group_redeliveries_total", 1.0);
        numbers.sort_unstable();
        assert_eq!(numbers, (0..COUNT).collect::<Vec<_>>(), "{shards} shards");
    }
}

/// Nobody is there, but a session is: messages wait for it, in order, and come when its client does.
#[test]
fn messages_wait_while_every_member_is_away() {
    for shards in SHARDS {
        let server = server(shards);
        let (mut first, _) = lasting(&server, "first", true);
        first.subscribe("$share/crew/task", QoS::AtLeastOnce);
        first.cut();
        server.wait_for_metric("waypost_sessions_detached_total", 1.0);
        publish_numbers(&server, "task", 50);
        server.wait_for_metric("waypost_group_messages_waiting", 50.0);
        let (mut first, is_present) = lasting(&server, "first", false);
        assert!(is_present);
        let numbers: Vec<_> = (0..50).map(|_| payload(&first.receive_message())).collect();
        assert_eq!(numbers, (0..50).collect::<Vec<_>>(), "{shards} shards");
        first.expect_nothing();
        wait_for("nothing to wait", LIMIT, || {
            (server.metric("waypost_group_messages_waiting") < 1.0).then_some(())
        });
    }
}

/// What a member refuses is nobody's, and is told and counted.
#[test]
fn a_refused_message_is_dropped_counted_and_told() {
    for shards in SHARDS {
        let server = server(shards);
        let mut watcher = RawClient::connect(&server, V5, "watcher");
        watcher.subscribe("$events/group/dropped", QoS::AtLeastOnce);
        let mut members = ["a", "b"].map(|name| {
            let mut client = RawClient::connect(&server, V5, name);
            client.subscribe("$share/crew/task", QoS::AtLeastOnce);
            client
        });
        publish_numbers(&server, "task", 2);
        for member in &mut members {
            let message = member.receive();
            answer(member, &message, ReasonCode::ImplementationSpecificError);
            let event = watcher.receive_message();
            let json = std::str::from_utf8(event.publish().payload).unwrap();
            for expected in [
                r#""group":"crew""#,
                r#""filter":"task""#,
                r#""topic":"task""#,
                r#""reason":"refused""#,
                r#""deliveries":1"#,
            ] {
                assert!(json.contains(expected), "{json}");
            }
        }
        for member in &mut members {
            member.expect_nothing();
        }
    }
}

/// `waypost-weight` decides how much of the work a member gets, under a strategy that the configuration names.
#[test]
fn weights_and_strategies_come_from_outside() {
    let server = ServerOptions::new()
        .configuration("[[topic]]\nfilter = \"task/#\"\nbalance = \"weighted-round-robin\"\n")
        .start();
    let mut members = [1, 3].map(|weight: u32| {
        let mut client = RawClient::connect(&server, V5, &format!("weight{weight}"));
        let mut properties = PropertyBuffer::new();
        let text = weight.to_string();
        properties.push(Property::UserProperty("waypost-weight", &text));
        client.subscribe_with(
            "$share/crew/task/+",
            waypost_mqtt::SubscriptionOptions {
                qos: QoS::AtMostOnce,
                ..Default::default()
            },
            properties.as_properties(),
        );
        client
    });
    publish_numbers(&server, "task/x", 40);
    let counts = members.each_mut().map(|member| member.drain().len());
    assert_eq!(counts, [10, 30]);
}

/// With `ordered` the messages of one key go to one member, in order, until it has acknowledged them or left.
#[test]
fn order_per_key_by_configuration() {
    let server = ServerOptions::new()
        .shards(2)
        .configuration("[[topic]]\nfilter = \"task/#\"\nbalance = \"ordered\"\n")
        .start();
    let mut members: Vec<_> = (0..3)
        .map(|number| {
            let mut client = RawClient::connect(&server, V5, &format!("member{number}"));
            client.subscribe("$share/crew/task/#", QoS::AtLeastOnce);
            client
        })
        .collect();
    let mut publisher = RawClient::connect(&server, V5, "publisher");
    for number in 0..60_usize {
        let key = format!("key{}", number % 6);
        let mut properties = PropertyBuffer::new();
        properties.push(Property::UserProperty("waypost-key", &key));
        publisher.publish_with(&Publish {
            topic: "task/x",
            qos: QoS::AtLeastOnce,
            payload: number.to_string().as_bytes(),
            properties: properties.as_properties(),
            ..empty_publish()
        });
    }
    let mut by_key: BTreeMap<usize, Vec<(usize, usize)>> = BTreeMap::new();
    let mut count = 0;
    wait_for("all messages", LIMIT, || {
        for (at, member) in members.iter_mut().enumerate() {
            for message in member.drain() {
                answer(member, &message, ReasonCode::Success);
                let number = payload(&message);
                by_key.entry(number % 6).or_default().push((at, number));
                count += 1;
            }
        }
        (count >= 60).then_some(())
    });
    for (key, got) in by_key {
        assert_eq!(got.len(), 10, "key {key}: {got:?}");
        assert!(
            got.iter().all(|(at, _)| *at == got[0].0),
            "key {key}: {got:?}"
        );
        assert!(
            got.is_sorted_by_key(|(_, number)| *number),
            "key {key}: {got:?}"
        );
    }
}

/// A member's Receive Maximum is its credit: who hangs holds no more than that, and the rest goes on.
#[test]
fn a_hanging_member_holds_no_more_than_its_window() {
    for shards in SHARDS {
        let server = server(shards);
        let mut properties = PropertyBuffer::new();
        properties.push(Property::ReceiveMaximum(7));
        let connect = Connect {
            properties: properties.as_properties(),
            ..connect_packet(V5, "hanging")
        };
        let (mut hanging, _) = RawClient::connect_with(&server, &connect);
        hanging.subscribe("$share/crew/task", QoS::AtLeastOnce);
        let mut busy = RawClient::connect(&server, V5, "busy");
        busy.subscribe("$share/crew/task", QoS::AtLeastOnce);
        publish_numbers(&server, "task", 100);
        let mut numbers = Vec::new();
        wait_for("all but seven", LIMIT, || {
            for message in busy.drain() {
                answer(&mut busy, &message, ReasonCode::Success);
                numbers.push(payload(&message));
            }
            (numbers.len() >= 93).then_some(())
        });
        let held = hanging.drain();
        assert_eq!((numbers.len(), held.len()), (93, 7), "{shards} shards");
        for message in &held {
            assert!(message.publish().packet_id > PacketId::new(0));
            numbers.push(payload(message));
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (0..100).collect::<Vec<_>>());
    }
}

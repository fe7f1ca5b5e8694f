//! Clients that read what was and go on with what is.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::Signal;
use waypost_mqtt::{
    Ack, Connect, Filter, Packet, PacketId, Properties, Property, PropertyBuffer,
    ProtocolVersion::{self, V5, V311},
    Publish, QoS, ReasonCode, Subscribe, SubscriptionOptions, SubscriptionRequest,
};
use waypost_tests::{
    LIMIT, Program, RawClient, Received, Run, Running, Server, ServerOptions, connect_packet,
    required_program, wait_for, waypost,
};

use super::{done, publish};

const ORDERS: &str = "[[stream]]\nname = \"orders\"\nfilters = [\"orders/#\"]\n";

fn start(shards: u16) -> Server {
    ServerOptions::new()
        .configuration(ORDERS)
        .shards(shards)
        .start()
}

/// Thirty messages on two topics, and some that are in no stream.
fn filled(shards: u16) -> Server {
    let server = start(shards);
    publish(&server, "orders/1", 0..20);
    publish(&server, "else", 0..5);
    publish(&server, "orders/2", 20..30);
    server
}

fn property<'a>(publish: &Publish<'a>, wanted: &str) -> Option<&'a str> {
    let properties = publish.properties;
    let mut all = properties.user_properties();
    all.find_map(|(name, value)| (name == wanted).then_some(value))
}

/// Asks for one filter; the reason it is answered with, and why.
fn subscribe(
    client: &mut RawClient,
    filter: &str,
    from: Option<&str>,
    qos: QoS,
) -> (ReasonCode, String) {
    let mut properties = PropertyBuffer::new();
    if let Some(spec) = from {
        properties.push(Property::UserProperty("waypost-from", spec));
    }
    let requests = [SubscriptionRequest {
        filter: Filter::parse(filter).unwrap(),
        options: SubscriptionOptions {
            qos,
            ..SubscriptionOptions::default()
        },
    }];
    let packet_id = client.next_packet_id();
    let subscribe = Subscribe::new(packet_id, properties.as_properties(), &requests);
    client.send(&Packet::Subscribe(subscribe));
    let answer = client.receive();
    let answer = answer.sub_ack();
    let reason = answer.reasons.iter().next().unwrap();
    let why = answer.properties.reason_string().unwrap_or_default();
    (reason, why.to_owned())
}

/// Takes so many messages; their payloads as numbers.
fn take(client: &mut RawClient, count: usize) -> Vec<u32> {
    let number = |received: Received| {
        let payload = received.publish().payload.to_vec();
        String::from_utf8(payload).unwrap().parse().unwrap()
    };
    (0..count)
        .map(|_| number(client.receive_message()))
        .collect()
}

fn numbers(of: impl IntoIterator<Item = u32>) -> Vec<u32> {
    of.into_iter().collect()
}

/// Specs, the filter, and what of [`filled`] they mean.
fn specs() -> Vec<(&'static str, &'static str, Vec<u32>)> {
    vec![
        ("last=3", "orders/#", numbers(27..30)),
        ("last=3", "orders/1", numbers(17..20)),
        ("each=1", "orders/#", numbers([19, 29])),
        ("each=2", "orders/+", numbers([18, 19, 28, 29])),
        ("since=1h", "orders/2", numbers(20..30)),
        ("time=2020-01-01T00:00:00Z", "orders/#", numbers(0..30)),
        ("time=1577836800000", "orders/2", numbers(20..30)),
        ("offset=25", "orders/#", numbers(25..30)),
        ("offset=0;stream=orders", "orders/1", numbers(0..20)),
    ]
}

/// Goal: a program of version 3.1.1 that knows nothing of streams reads one, and goes on.
#[test]
fn mosquitto_sub_reads_what_was_and_what_comes() {
    if required_program(Program::MosquittoSub).is_none() {
        return;
    }
    for shards in [1, 2] {
        for (spec, filter, expect) in specs() {
            let server = filled(shards);
            let mut command = required_program(Program::MosquittoSub).unwrap();
            let (address, count) = (server.mqtt(), expect.len() + 2);
            command
                .args(["-V", "mqttv311", "-q", "1", "-W", "60"])
                .args(["-h", &address.ip().to_string()])
                .args(["-p", &address.port().to_string()])
                .args(["-t", &format!("$from/{spec}/{filter}")])
                .args(["-C", &count.to_string()]);
            let reader = Running::start(command);
            server.wait_for_metric("waypost_history_readers", 1.0);
            let topic = filter.replace(['#', '+'], "1");
            publish(&server, &topic, 100..102);
            let printed = reader.finish().expect_success();
            let printed: Vec<u32> = printed.lines().map(|line| line.parse().unwrap()).collect();
            assert_eq!(
                printed,
                [expect, vec![100, 101]].concat(),
                "{spec} {filter}"
            );
        }
    }
}

/// Goal: paho with MQTT 5 reads, by the filter and by the User Property, and is told where each message stands.
#[test]
fn paho_reads_what_was_and_what_comes() {
    for (filter, spec) in [
        ("$from/last=2/orders/#", None),
        ("orders/#", Some("offset=28")),
    ] {
        let Some(mut command) = required_program(Program::Python) else {
            return;
        };
        let server = filled(2);
        let port = server.mqtt().port().to_string();
        command
            .args(["python/history_reader.py", &port, filter, "4"])
            .args(spec);
        let reader = Running::start(command);
        server.wait_for_metric("waypost_history_readers", 1.0);
        publish(&server, "orders/3", 30..32);
        assert_eq!(
            reader.finish().expect_success(),
            "subscribed\norders 28 orders/2 28\norders 29 orders/2 29\norders 30 orders/3 30\norders 31 orders/3 31\n"
        );
    }
}

/// Goal: history and live are one sequence. Method: readers begin in the middle of what a publisher says, at every `QoS`, of
/// both versions; each gets every number from where it began, once and in order.
#[test]
fn there_is_no_gap_and_no_double_between_what_was_and_what_comes() {
    const END: u32 = 1_500;
    for shards in [1, 2] {
        let server = start(shards);
        thread::scope(|scope| {
            scope.spawn(|| publish(&server, "orders/1", 0..END));
            for reader in 0..6_u32 {
                let server = &server;
                scope.spawn(move || {
                    let (version, qos) = (
                        [V311, V5][reader as usize % 2],
                        [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][reader as usize / 2],
                    );
                    let first = 100 * reader;
                    server.wait_for_metric("waypost_stream_next_offset", f64::from(first));
                    let name = format!("reader-{reader}");
                    let mut client = RawClient::connect(server, version, &name);
                    let begin = first / 2;
                    let filter = format!("$from/offset={begin}/orders/#");
                    let granted = subscribe(&mut client, &filter, None, qos).0;
                    assert_eq!(granted.as_u8(), qos as u8);
                    let came = read_numbers(&mut client, (END - begin) as usize);
                    assert_eq!(came, numbers(begin..END), "{version:?} {qos:?}");
                    client.expect_nothing();
                });
            }
        });
        assert!(server.metric("waypost_stream_read_records_total") >= f64::from(END));
        assert!(server.metric("waypost_stream_read_bytes_total") > f64::from(END));
    }
}

/// Takes messages as they come, whatever the order of acknowledgements, until there are so many.
fn read_numbers(client: &mut RawClient, count: usize) -> Vec<u32> {
    let mut came = Vec::new();
    let mut unfinished = BTreeSet::new();
    while came.len() < count || !unfinished.is_empty() {
        let received = client.receive();
        let ack = |packet_id: PacketId| Ack::new(packet_id, ReasonCode::Success);
        match received.packet() {
            Packet::Publish(publish) => {
                let number = std::str::from_utf8(publish.payload).unwrap();
                came.push(number.parse().unwrap());
                match (publish.qos, publish.packet_id) {
                    (QoS::AtLeastOnce, Some(id)) => client.send(&Packet::PubAck(ack(id))),
                    (QoS::ExactlyOnce, Some(id)) => {
                        unfinished.insert(id);
                        client.send(&Packet::PubRec(ack(id)));
                    }
                    _ => {}
                }
            }
            Packet::PubRel(released) => {
                unfinished.remove(&released.packet_id);
                client.send(&Packet::PubComp(ack(released.packet_id)));
            }
            other => panic!("{other:?}"),
        }
    }
    came
}

#[test]
fn a_message_says_where_it_stands() {
    let server = filled(1);
    let mut client = RawClient::connect(&server, V5, "reader");
    let (reason, _) = subscribe(&mut client, "orders/#", Some("last=1"), QoS::AtLeastOnce);
    assert_eq!(reason, ReasonCode::GrantedQoS1);
    let received = client.receive_message();
    let publish = received.publish();
    assert_eq!((publish.topic, publish.payload), ("orders/2", &b"29"[..]));
    assert!(!publish.retain);
    assert_eq!(property(&publish, "waypost-stream"), Some("orders"));
    assert_eq!(property(&publish, "waypost-offset"), Some("29"));
    let time: u64 = property(&publish, "waypost-time").unwrap().parse().unwrap();
    assert!(time > 1_700_000_000_000);
    client.unsubscribe("orders/#");
    super::publish(&server, "orders/1", [30]);
    client.expect_nothing();
    // Only the server says so.
    let mut forged = PropertyBuffer::new();
    forged.push(Property::UserProperty("waypost-offset", "7"));
    let packet_id = client.next_packet_id();
    client.send(&Packet::Publish(Publish {
        topic: "orders/1",
        qos: QoS::AtLeastOnce,
        packet_id: Some(packet_id),
        properties: forged.as_properties(),
        ..waypost_tests::empty_publish()
    }));
    let answer = client.receive();
    assert_eq!(
        answer.pub_ack().reason,
        ReasonCode::ImplementationSpecificError
    );
}

#[test]
fn what_cannot_be_read_is_refused_with_a_reason() {
    let server = filled(2);
    let mut client = RawClient::connect(&server, V5, "reader");
    for (filter, from, reason, part) in [
        (
            "$from/last=5/else",
            None,
            ReasonCode::ImplementationSpecificError,
            "stream",
        ),
        (
            "else",
            Some("last=5"),
            ReasonCode::ImplementationSpecificError,
            "stream",
        ),
        (
            "$from/last=5;stream=no/orders/#",
            None,
            ReasonCode::ImplementationSpecificError,
            "no",
        ),
        (
            "$from/last=/orders/#",
            None,
            ReasonCode::TopicFilterInvalid,
            "last=10",
        ),
        (
            "$from/first=5/orders/#",
            None,
            ReasonCode::TopicFilterInvalid,
            "offset=N",
        ),
        (
            "orders/#",
            Some("yesterday"),
            ReasonCode::ImplementationSpecificError,
            "since=10m",
        ),
        (
            "$from/orders/#",
            None,
            ReasonCode::TopicFilterInvalid,
            "last=N",
        ),
    ] {
        let (found, why) = subscribe(&mut client, filter, from, QoS::AtLeastOnce);
        assert_eq!(found, reason, "{filter} {from:?}: {why}");
        assert!(why.contains(part), "no {part:?}: {filter} {from:?}: {why}");
    }
    let mut old = RawClient::connect(&server, V311, "old");
    for filter in ["$from/last=5/else", "$from/last=/orders/#"] {
        let (found, _) = subscribe(&mut old, filter, None, QoS::AtLeastOnce);
        assert_eq!(found.as_u8(), 0x80, "{filter}");
    }
}

/// Goal: who may not hear it now may not read what it was.
#[test]
fn permissions_are_those_of_the_filter() {
    const SECRET: &str = "$argon2id$v=19$m=8,t=1,p=1$BwcHBwcHBwcHBwcHBwcHBw$4R1PEQPItpvkTH5juMUak3oEb8rtWEdaRzGIjigkYIU";
    let user = |name: &str, rules: &str| {
        format!("[[user]]\nname = {name:?}\npassword = \"{SECRET}\"\n{rules}\n")
    };
    let directory = tempfile::tempdir().unwrap();
    let users = directory.path().join("users.toml");
    let all =
        user("till", "publish = [\"orders/#\"]") + &user("eu", "subscribe = [\"orders/eu/#\"]");
    fs::write(&users, all).unwrap();
    let server = ServerOptions::new()
        .configuration(ORDERS)
        .environment("WAYPOST_AUTH__USERS_FILE", users.to_str().unwrap())
        .start();
    let log_in = |name: &'static str| {
        let connect = Connect {
            user_name: Some(name),
            password: Some(b"secret"),
            ..connect_packet(V5, name)
        };
        RawClient::connect_with(&server, &connect).0
    };
    let mut till = log_in("till");
    for (topic, number) in [
        ("orders/eu/1", "1"),
        ("orders/us/1", "2"),
        ("orders/eu/2", "3"),
    ] {
        till.publish(topic, QoS::AtLeastOnce, number.as_bytes());
    }
    let mut eu = log_in("eu");
    for (filter, from) in [
        ("$from/offset=0/orders/#", None),
        ("orders/+/1", Some("last=5")),
        ("$from/each=1/orders/us/1", None),
    ] {
        let (reason, _) = subscribe(&mut eu, filter, from, QoS::AtLeastOnce);
        assert_eq!(reason, ReasonCode::NotAuthorized, "{filter}");
    }
    let (reason, why) = subscribe(
        &mut eu,
        "$from/offset=0/orders/eu/#",
        None,
        QoS::AtLeastOnce,
    );
    assert_eq!(reason, ReasonCode::GrantedQoS1, "{why}");
    assert_eq!(take(&mut eu, 2), [1, 3]);
    eu.expect_nothing();
}

/// A session that outlives its connection.
fn lasting(server: &Server, version: ProtocolVersion, client_id: &str) -> (RawClient, bool) {
    let mut properties = PropertyBuffer::new();
    if version == V5 {
        properties.push(Property::SessionExpiryInterval(600));
    }
    let connect = Connect {
        clean_start: false,
        properties: if version == V5 {
            properties.as_properties()
        } else {
            Properties::EMPTY
        },
        ..connect_packet(version, client_id)
    };
    let (client, answer) = RawClient::connect_with(server, &connect);
    let session_present = answer.conn_ack().session_present;
    (client, session_present)
}

/// Goal: a session that outlives its connection reads on where it was, whatever was killed when. Method: it reads a part,
/// without acknowledging the last of it; the server is killed while a publisher goes on; at `QoS` 2 nothing comes twice.
#[test]
fn a_durable_session_reads_on_after_a_kill() {
    const END: u32 = 1_200;
    for (shards, version, qos) in [(1, V5, QoS::ExactlyOnce), (2, V311, QoS::AtLeastOnce)] {
        let directory = tempfile::tempdir().unwrap();
        let options = || {
            ServerOptions::new()
                .configuration(ORDERS)
                .shards(shards)
                .data_dir(directory.path())
        };
        let mut server = options().start();
        publish(&server, "orders/1", 0..400);
        let (mut client, _) = lasting(&server, version, "durable");
        let (reason, why) = subscribe(&mut client, "$from/offset=10/orders/#", None, qos);
        assert_eq!(reason.as_u8(), qos as u8, "{why}");
        let mut came: Vec<u32> = Vec::new();
        let mut held = BTreeSet::new();
        let mut next = 400;
        for round in 0..4_u32 {
            let target = (round as usize + 1) * 120;
            while came.len() < target {
                receive_durable(&mut client, &mut came, &mut held);
            }
            if round == 3 {
                break;
            }
            publish(&server, "orders/1", next..next + 200);
            next += 200;
            if round == 1 {
                // Cut off, and away for a while: what is published meanwhile waits in the stream.
                client.cut();
            } else {
                server.signal(Signal::KILL);
                server.wait();
                server = options().start();
            }
            let (again, is_known) = lasting(&server, version, "durable");
            assert!(is_known, "round {round}");
            client = again;
        }
        publish(&server, "orders/1", next..END);
        while came.iter().max() != Some(&(END - 1)) || !held.is_empty() {
            receive_durable(&mut client, &mut came, &mut held);
        }
        if qos == QoS::AtLeastOnce {
            // Again is allowed, but not out of order the first time.
            let mut seen = BTreeSet::new();
            came.retain(|number| seen.insert(*number));
        }
        assert_eq!(came, numbers(10..END), "{version:?} {qos:?}");
        client.expect_nothing();
    }
}

/// Takes one packet as a session does whose state outlives its connection.
fn receive_durable(client: &mut RawClient, came: &mut Vec<u32>, held: &mut BTreeSet<PacketId>) {
    let received = client.receive();
    let ack = |packet_id: PacketId| Ack::new(packet_id, ReasonCode::Success);
    match received.packet() {
        Packet::Publish(publish) => {
            let number = std::str::from_utf8(publish.payload).unwrap();
            let number: u32 = number.parse().unwrap();
            let packet_id = publish.packet_id.unwrap();
            if publish.qos == QoS::AtLeastOnce {
                came.push(number);
                client.send(&Packet::PubAck(ack(packet_id)));
            } else {
                if held.insert(packet_id) {
                    came.push(number);
                } else {
                    assert!(publish.dup, "{number} came again as if it were new");
                }
                client.send(&Packet::PubRec(ack(packet_id)));
            }
        }
        Packet::PubRel(released) => {
            held.remove(&released.packet_id);
            client.send(&Packet::PubComp(ack(released.packet_id)));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn waypost_sub_begins_with_what_was() {
    let server = filled(2);
    let address = server.mqtt();
    let sub = |words: &[&str]| {
        let mut command = waypost();
        command
            .arg("sub")
            .args(["--host", &address.ip().to_string()])
            .args(["-p", &address.port().to_string()])
            .args(words);
        command
    };
    let reader = Running::start(sub(&[
        "--from",
        "last=2",
        "-t",
        "orders/#",
        "-C",
        "3",
        "-F",
        "%S %O %t %p",
    ]));
    server.wait_for_metric("waypost_history_readers", 1.0);
    publish(&server, "orders/1", [30]);
    assert_eq!(
        reader.finish().expect_success(),
        "orders 28 orders/2 28\norders 29 orders/2 29\norders 30 orders/1 30\n"
    );
    let refused = Run::to_end::<&str>(sub(&["--from", "last=2", "-t", "else", "-W", "60"]), []);
    assert!(!refused.success);
    assert!(refused.stderr.contains("stream"), "{}", refused.stderr);
}

/// Goal: retention while somebody reads: nothing comes twice or out of order, and who is overtaken goes on with what is left.
#[test]
fn who_is_overtaken_by_retention_goes_on_with_what_is_left() {
    let server = ServerOptions::new()
        .configuration(
            "[[stream]]\nname = \"few\"\nfilters = [\"few\"]\nretention = \"50 messages\"\n",
        )
        .start();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            publish(&server, "few", 0..1_000);
            is_over.store(true, Ordering::Relaxed);
        });
        let mut client = RawClient::connect(&server, V5, "slow");
        server.wait_for_metric("waypost_stream_next_offset", 100.0);
        let (reason, _) = subscribe(&mut client, "$from/offset=0/few", None, QoS::AtLeastOnce);
        assert_eq!(reason, ReasonCode::GrantedQoS1);
        let mut came = Vec::new();
        while came.last() != Some(&999) {
            came.extend(take(&mut client, 1));
        }
        assert!(came.windows(2).all(|two| two[0] < two[1]), "{came:?}");
        assert!(came[0] >= 50, "what is over is gone: {}", came[0]);
    });
    assert!(is_over.load(Ordering::Relaxed));
}

/// Goal: with compact = true the last value of each key stays, at its offset. Method: values of some keys, a start (which
/// ends the file they are in), and the wait for compaction.
#[test]
fn the_last_value_of_each_key_stays() {
    let directory = tempfile::tempdir().unwrap();
    let options = || {
        ServerOptions::new()
            .configuration(
                "[[stream]]\nname = \"prices\"\nfilters = [\"prices/#\"]\ncompact = true\n",
            )
            .data_dir(directory.path())
    };
    let mut server = options().start();
    let mut client = RawClient::connect(&server, V5, "market");
    for number in 0..300_u32 {
        let topic = format!("prices/{}", number % 3);
        client.publish(&topic, QoS::AtLeastOnce, number.to_string().as_bytes());
    }
    // Under a key of its own, on a topic that others use.
    for number in 300..310_u32 {
        let mut properties = PropertyBuffer::new();
        properties.push(Property::UserProperty("waypost-key", "special"));
        client.publish_with(&Publish {
            topic: "prices/0",
            qos: QoS::AtLeastOnce,
            payload: number.to_string().as_bytes(),
            properties: properties.as_properties(),
            ..waypost_tests::empty_publish()
        });
    }
    client.publish("prices/2", QoS::AtLeastOnce, b"");
    let words = ["read", "prices", "--from", "each=1", "--json"];
    let last = super::payloads(&super::lines(directory.path(), &words));
    let payload = |offset: u64, text: &str| (offset, text.to_owned());
    assert_eq!(
        last,
        [payload(298, "298"), payload(309, "309"), payload(310, "")],
        "the last of each topic, compacted or not"
    );
    client.disconnect();
    server.signal(Signal::TERM);
    server.wait();
    let server = options().start();
    // What is behind the restart is in a file that is being written: it stays as it is.
    publish(&server, "prices/9", [9]);
    let left = wait_for("compaction", LIMIT, || {
        let all = super::lines(directory.path(), &["read", "prices", "--json"]);
        (all.len() < 10).then_some(all)
    });
    assert_eq!(
        super::payloads(&left),
        [
            payload(297, "297"),
            payload(298, "298"),
            payload(309, "309"),
            payload(310, ""),
            payload(311, "9"),
        ],
        "an empty payload takes its key away, and stays for a day itself"
    );
    server.wait_for_metric("waypost_stream_compacted_records", 300.0);
    let mut client = RawClient::connect(&server, V5, "display");
    let (reason, _) = subscribe(&mut client, "$from/each=1/prices/+", None, QoS::AtMostOnce);
    assert_eq!(reason.as_u8(), 0);
    let topics: Vec<_> = (0..4)
        .map(|_| client.receive_message().publish().topic.to_owned())
        .collect();
    assert_eq!(topics, ["prices/1", "prices/0", "prices/2", "prices/9"]);
    let told = done(directory.path(), &["info", "prices"]);
    assert!(told.contains("the last message of each key"), "{told}");
}

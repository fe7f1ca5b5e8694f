//! `[[topic]]` policies as an operator meets them: chosen by a word, explained, changed by SIGHUP while groups are at work.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::{fs, path::PathBuf, process::Output};

use rustix::process::Signal;
use waypost_mqtt::{
    Ack, Packet,
    ProtocolVersion::{V5, V311},
    QoS, ReasonCode,
};
use waypost_tests::{LIMIT, RawClient, Server, ServerOptions, wait_for, waypost};

/// Two strategies that no group could mistake for each other: one takes turns, one sends a topic to one member.
const POLICIES: &str = r##"
[[topic]]
filter = "#"
max_deliveries = 2

[[topic]]
filter = "turns/#"
balance = "round-robin"

[[topic]]
filter = "topics/#"
balance = "hash-topic"
"##;

fn config(arguments: &[&str]) -> Output {
    let arguments = ["config"].iter().chain(arguments);
    waypost().args(arguments).output().unwrap()
}

/// The configuration file of [`ServerOptions::configuration`].
fn file(server: &Server) -> PathBuf {
    server.data_dir().with_file_name("waypost.toml")
}

fn reload(server: &Server, toml: &str) {
    fs::write(file(server), toml).unwrap();
    server.signal(Signal::HUP);
}

/// Members of one group.
fn members(server: &Server, filter: &str, count: usize) -> Vec<RawClient> {
    let member = |number| {
        let mut client = RawClient::connect(server, V5, &format!("member-{number}"));
        client.subscribe(filter, QoS::AtLeastOnce);
        client
    };
    (0..count).map(member).collect()
}

/// Who gets each of some messages on one topic, one after the other.
fn receivers(
    publisher: &mut RawClient,
    members: &mut [RawClient],
    topic: &str,
    count: usize,
) -> Vec<usize> {
    let receive = |_| {
        publisher.publish(topic, QoS::AtLeastOnce, b"work");
        let receiver = wait_for("a member to get it", LIMIT, || {
            members.iter_mut().position(|member| {
                let messages = member.drain();
                for message in &messages {
                    let id = message.publish().packet_id.unwrap();
                    member.send(&Packet::PubAck(Ack::new(id, ReasonCode::Success)));
                }
                !messages.is_empty()
            })
        });
        for (number, member) in members.iter_mut().enumerate() {
            assert!(
                member.drain().is_empty(),
                "{receiver} has it, and so has {number}"
            );
        }
        receiver
    };
    (0..count).map(receive).collect()
}

fn differ(receivers: &[usize]) -> bool {
    receivers.iter().any(|receiver| *receiver != receivers[0])
}

#[test]
fn one_word_says_how_work_is_shared_out() {
    let server = ServerOptions::new().configuration(POLICIES).start();
    let mut publisher = RawClient::connect(&server, V311, "publisher");
    let mut turns = members(&server, "$share/workers/turns/+", 3);
    let got = receivers(&mut publisher, &mut turns, "turns/a", 6);
    assert_eq!(got[..3], got[3..], "in turn");
    assert!(differ(&got[..2]) && differ(&got[1..3]));
    drop(turns);
    let mut topics = members(&server, "$share/workers/topics/+", 3);
    assert!(!differ(&receivers(
        &mut publisher,
        &mut topics,
        "topics/a",
        6
    )));
}

#[test]
fn the_word_can_change_while_the_group_is_at_work() {
    let server = ServerOptions::new().configuration(POLICIES).start();
    let mut publisher = RawClient::connect(&server, V5, "publisher");
    let mut workers = members(&server, "$share/workers/topics/+", 3);
    assert!(!differ(&receivers(
        &mut publisher,
        &mut workers,
        "topics/a",
        4
    )));

    // A mistake changes nothing, and is told with its line.
    reload(&server, &POLICIES.replace("hash-topic", "hash-topik"));
    wait_for("the mistake to be told", LIMIT, || {
        let told = "topic.balance = \"hash-topik\"";
        server.log().contains(told).then_some(())
    });
    assert!(
        server.log().contains("waypost.toml:12: "),
        "{}",
        server.log()
    );
    assert!(!differ(&receivers(
        &mut publisher,
        &mut workers,
        "topics/a",
        4
    )));

    reload(&server, &POLICIES.replace("hash-topic", "round-robin"));
    wait_for("the group to take turns", LIMIT, || {
        let got = receivers(&mut publisher, &mut workers, "topics/a", 3);
        differ(&got).then_some(())
    });
    server.wait_for_metric("waypost_reloads_total", 1.0);
    server.wait_for_metric("waypost_reloads_failed_total", 1.0);
}

#[test]
fn a_message_that_nobody_finishes_is_given_up_after_max_deliveries() {
    let server = ServerOptions::new().configuration(POLICIES).start();
    let mut watcher = RawClient::connect(&server, V5, "watcher");
    watcher.subscribe("$events/group/dropped", QoS::AtMostOnce);
    let mut members = members(&server, "$share/workers/turns/+", 3);
    RawClient::connect(&server, V5, "publisher").publish("turns/poison", QoS::AtLeastOnce, b"x");
    for delivery in 0..2 {
        let holder = wait_for("a member to get it", LIMIT, || {
            members
                .iter_mut()
                .position(|member| !member.drain().is_empty())
        });
        // It has not acknowledged: its session ends, and the message goes on to another.
        members.remove(holder).cut();
        if delivery == 0 {
            watcher.expect_nothing();
        }
    }
    let event = watcher.receive_message();
    let event = String::from_utf8(event.publish().payload.to_vec()).unwrap();
    for said in [
        "\"group\":\"workers\"",
        "\"filter\":\"turns/+\"",
        "\"topic\":\"turns/poison\"",
        "\"reason\":\"max-deliveries\"",
        "\"deliveries\":2",
    ] {
        assert!(event.contains(said), "{said}: {event}");
    }
    assert_eq!(members.len(), 1);
    members[0].expect_nothing();
}

#[test]
fn each_value_is_explained_by_its_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policies.toml");
    let name = path.to_str().unwrap();
    fs::write(&path, POLICIES).unwrap();
    for (asked, balance, max_deliveries) in [
        ("turns/a", "\"round-robin\", 8", "2, 4"),
        ("$share/workers/topics/#", "\"hash-topic\", 12", "2, 4"),
    ] {
        let told = config(&["explain", "--config", name, asked, "--json"]);
        assert!(told.status.success(), "{told:?}");
        let told = String::from_utf8(told.stdout).unwrap();
        for (key, expect) in [("balance", balance), ("max_deliveries", max_deliveries)] {
            let (value, line) = expect.split_once(", ").unwrap();
            let part = format!(
                "{{\"key\":\"{key}\",\"value\":{value},\"file\":\"{name}\",\"line\":{line},"
            );
            assert!(told.contains(&part), "{part}\n{told}");
        }
    }
    let told = config(&["explain", "--config", name, "$SYS/a"]);
    let told = String::from_utf8(told.stdout).unwrap();
    let keys = told.lines().count();
    assert!(keys >= 4, "{told}");
    assert_eq!(told.matches("  default\n").count(), keys, "{told}");
}

#[test]
fn check_says_by_its_exit_code_whether_there_are_mistakes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policies.toml");
    let name = path.to_str().unwrap();
    fs::write(&path, POLICIES).unwrap();
    let good = config(&["check", name]);
    assert_eq!(good.status.code(), Some(0), "{good:?}");
    let both = format!("{POLICIES}\n[[topic]]\nfilter = \"turns/#\"\nbalance = \"random\"\n");
    fs::write(&path, both).unwrap();
    let expect =
        format!("{name}:16: topic.balance differs from {name}:8, for the same filter \"turns/#\"");
    let bad = config(&["check", name]);
    assert_eq!(bad.status.code(), Some(2), "{bad:?}");
    assert!(String::from_utf8(bad.stderr).unwrap().contains(&expect));
    let bad = config(&["check", name, "--json"]);
    assert_eq!(bad.status.code(), Some(2), "{bad:?}");
    let told = String::from_utf8(bad.stdout).unwrap();
    assert!(
        told.contains("\"ok\":false") && told.contains("\"line\":16"),
        "{told}"
    );
}

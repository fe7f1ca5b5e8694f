//! What users may do: publish, subscribe, retain, leave wills.

use waypost_mqtt::{Connect, Packet, Properties, Publish, QoS, ReasonCode, Will};

use crate::{BOTH, House, V5, V311, ask, credentials, publish, root, topics, user};

const DENIED: u8 = 0x87;
const DENIED_311: u8 = 0x80;

#[test]
fn a_subscription_needs_one_rule_that_covers_it() {
    let rules = r#"subscribe = ["a/b", "own/%u/#", "n/+", "d/#", "$SYS/broker/#"]"#;
    let house = House::new(&user("alice", rules));
    for version in BOTH {
        let mut alice = house.log_in(version, "alice");
        let denied = if version == V5 { DENIED } else { DENIED_311 };
        for (filter, allowed) in [
            ("a/b", true),
            ("a/+", false),
            ("a/#", false),
            ("+/b", false),
            ("#", false),
            ("+", false),
            ("own/alice", true),
            ("own/alice/#", true),
            ("own/+/x", false),
            ("own/#", false),
            ("own/bob/x", false),
            ("own/%u/x", false),
            ("n/x", true),
            ("n/+", true),
            ("n/#", false),
            ("n", false),
            ("d/#", true),
            ("d", true),
            ("d/+/x/#", true),
            // $-topics need a rule that names them.
            ("$SYS/broker/uptime", true),
            ("$SYS/#", false),
            ("$events/#", false),
            ("$events/client/connected", false),
            ("+/broker/uptime", false),
        ] {
            let expect = if allowed { 1 } else { denied };
            assert_eq!(ask(&mut alice, filter), expect, "{version:?} {filter}");
        }
    }
}

#[test]
fn everything_does_not_mean_the_servers_topics() {
    let users = user("alice", r##"allow = "#""##) + &root();
    let house = House::new(&users);
    for version in BOTH {
        let mut alice = house.log_in(version, "alice");
        let denied = if version == V5 { DENIED } else { DENIED_311 };
        for filter in ["$SYS/#", "$SYS/broker/uptime", "$events/#", "$other/x"] {
            assert_eq!(ask(&mut alice, filter), denied, "{filter}");
        }
        assert_eq!(ask(&mut alice, "#"), 1);
    }
    let mut root = house.log_in(V5, "root");
    for filter in ["$SYS/#", "$events/client/+"] {
        assert_eq!(ask(&mut root, filter), 1);
    }
    // To publish there is for nobody.
    let mut root = house.log_in_as(V5, "root", "another");
    assert_eq!(
        publish(&mut root, "$SYS/x", QoS::AtLeastOnce, false),
        ReasonCode::NotAuthorized
    );
}

#[test]
fn a_shared_subscription_is_judged_by_its_filter() {
    let house = House::new(&user("alice", r#"subscribe = ["jobs/#"]"#));
    for version in BOTH {
        let mut alice = house.log_in(version, "alice");
        let denied = if version == V5 { DENIED } else { DENIED_311 };
        for filter in [
            "$share/g/secret",
            "$share/g/#",
            "$share/jobs/#",
            "$queue/secret",
            "$queue/#",
        ] {
            assert_eq!(ask(&mut alice, filter), denied, "{version:?} {filter}");
        }
        for filter in ["$share/secret/jobs/x", "$share/g/jobs/#", "$queue/jobs/+"] {
            assert_eq!(ask(&mut alice, filter), 1, "{version:?} {filter}");
        }
    }
}

#[test]
fn what_may_not_be_published_goes_nowhere() {
    let users = user("alice", r#"publish = ["up/%c/#", "own/%u"]"#) + &root();
    let house = House::new(&users);
    let mut watcher = house.watcher("#");
    for version in BOTH {
        let mut alice = house.log_in_as(version, "alice", "c1");
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            for (topic, allowed) in [
                ("up/c1/x", true),
                ("up/c1", true),
                ("own/alice", true),
                ("up/c2/x", false),
                ("own/alice/x", false),
                ("own/bob", false),
                ("UP/c1/x", false),
                ("/up/c1/x", false),
            ] {
                let reason = publish(&mut alice, topic, qos, false);
                // 3.1.1 [MQTT-3.3.5-2]: acknowledged as ever.
                let is_told = version == V5 && qos != QoS::AtMostOnce;
                let expect = if allowed || !is_told {
                    ReasonCode::Success
                } else {
                    ReasonCode::NotAuthorized
                };
                assert_eq!(reason, expect, "{version:?} {qos:?} {topic}");
                let expect: &[&str] = if allowed { &[topic] } else { &[] };
                assert_eq!(topics(&mut watcher), expect, "{version:?} {qos:?} {topic}");
            }
        }
    }
    assert_eq!(house.count("waypost_publishes_denied_total"), 30);
}

#[test]
fn nothing_is_retained_or_removed_without_permission() {
    let users = user("alice", r#"publish = "a/#""#) + &root();
    let house = House::new(&users);
    let mut root = house.log_in(V5, "root");
    publish(&mut root, "b/kept", QoS::AtLeastOnce, true);
    for version in BOTH {
        let mut alice = house.log_in(version, "alice");
        publish(&mut alice, "b/new", QoS::AtLeastOnce, true);
        publish(&mut alice, "a/new", QoS::AtLeastOnce, true);
        // An empty payload removes what is retained, for those who may.
        let removal = Publish {
            qos: QoS::AtLeastOnce,
            retain: true,
            topic: "b/kept",
            packet_id: Some(alice.next_packet_id()),
            ..waypost_tests::empty_publish()
        };
        alice.send(&Packet::Publish(removal));
        alice.receive().pub_ack();
    }
    root.subscribe("+/#", QoS::AtLeastOnce);
    let mut found = topics(&mut root);
    found.sort();
    assert_eq!(found, ["a/new", "b/kept"]);
}

fn will<'a>(connect: Connect<'a>, topic: &'a str) -> Connect<'a> {
    Connect {
        will: Some(Will {
            topic: waypost_mqtt::Topic::parse(topic).unwrap(),
            payload: b"gone",
            qos: QoS::AtLeastOnce,
            retain: false,
            properties: Properties::EMPTY,
        }),
        ..connect
    }
}

#[test]
fn a_will_is_judged_at_connect_and_when_it_fires() {
    let users = |rules: &str| user("alice", rules) + &root();
    let house = House::new(&users(r#"publish = ["a/#", "b/#"]"#));
    let mut watcher = house.watcher("#");
    for (version, refused) in [(V311, 5), (V5, DENIED)] {
        let connect = credentials(version, "alice", Some("alice"), Some("secret"));
        assert_eq!(house.answer_to(&will(connect, "c/x")), refused);
        for topic in ["a/x", "b/x"] {
            let connect = will(
                credentials(version, topic, Some("alice"), Some("secret")),
                topic,
            );
            let (client, _) = waypost_tests::RawClient::connect_with(&house.server, &connect);
            if topic == "b/x" {
                assert_eq!(house.change(&users(r#"publish = "a/#""#)).0, 200);
            }
            drop(client);
            if topic == "a/x" {
                assert_eq!(watcher.receive().publish().topic, "a/x");
            } else {
                house.server.wait_for_metric(
                    "waypost_wills_denied_total",
                    if version == V5 { 2.0 } else { 1.0 },
                );
            }
        }
        assert_eq!(house.change(&users(r#"publish = ["a/#", "b/#"]"#)).0, 200);
    }
    watcher.expect_nothing();
}

/// Goal: no name a client can choose reaches beyond what it was given. Method: client ids and user names that mean
/// something in a filter.
#[test]
fn names_cannot_widen_a_template() {
    let names = ["+", "#", "a/b", "a/#", "+/+", "/", "$SYS"];
    let mut users = root();
    for name in names {
        users += &user(name, "allow = [\"u/%u/#\", \"%u/#\"]");
    }
    users += &user("alice", "");
    users += "[[permission]]\nuser = \"*\"\nallow = [\"c/%c/#\", \"%c/#\"]\n";
    let house = House::new(&users);
    let mut watcher = house.watcher("+/#");
    for version in BOTH {
        let denied = if version == V5 { DENIED } else { DENIED_311 };
        for name in names {
            for (user, client_id) in [("alice", name), (name, "c"), (name, name)] {
                let mut client = house.log_in_as(version, user, client_id);
                for filter in [
                    "#", "+/#", "u/#", "u/+/#", "c/#", "c/+/#", "u/a/b/x", "c/a/b/x", "a/b/x",
                    "$SYS/#",
                ] {
                    if client_id == "c" && filter.starts_with("c/") {
                        continue;
                    }
                    assert_eq!(
                        ask(&mut client, filter),
                        denied,
                        "{user} as {client_id}: {filter}"
                    );
                }
                for topic in ["u/a/b/x", "a/b/x", "u//x", "/x"] {
                    publish(&mut client, topic, QoS::AtLeastOnce, false);
                }
            }
        }
        // The same rules for a name that is nothing but a name.
        let mut client = house.log_in_as(version, "alice", "phone");
        assert_eq!(ask(&mut client, "c/phone/#"), 1);
        assert_eq!(ask(&mut client, "phone/#"), 1);
    }
    watcher.expect_nothing();
}

#[test]
fn permissions_by_client_id_and_address() {
    let users = user("alice", "")
        + "[[permission]]\nclient_id = \"gate-*\"\nsubscribe = \"gates\"\n\
           [[permission]]\naddress = \"127.0.0.0/8\"\nsubscribe = \"near\"\n\
           [[permission]]\naddress = \"10.0.0.0/8\"\nsubscribe = \"far\"\n";
    let house = House::new(&users);
    let mut gate = house.log_in_as(V5, "alice", "gate-7");
    let mut other = house.log_in_as(V5, "alice", "other");
    assert_eq!(
        (ask(&mut gate, "gates"), ask(&mut other, "gates")),
        (1, DENIED)
    );
    assert_eq!((ask(&mut gate, "near"), ask(&mut gate, "far")), (1, DENIED));
}

#[test]
fn denials_are_told() {
    let house = House::new(&(user("alice", "") + &root()));
    let mut watcher = house.watcher("$events/client/denied");
    let mut alice = house.log_in(V5, "alice");
    publish(&mut alice, "a", QoS::AtLeastOnce, false);
    ask(&mut alice, "a");
    house.answer_to(&credentials(V5, "x", None, None));
    for (client_id, username) in [
        ("alice", "\"alice\""),
        ("alice", "\"alice\""),
        ("x", "null"),
    ] {
        let event = watcher.receive();
        let text = std::str::from_utf8(event.publish().payload).unwrap();
        for part in [
            format!("\"client_id\":\"{client_id}\",\"username\":{username},"),
            "\"reason_code\":135,".to_owned(),
            "\"address\":\"127.".to_owned(),
        ] {
            assert!(text.contains(&part), "{text}");
        }
        let packet_id = event.publish().packet_id.unwrap();
        watcher.send(&waypost_mqtt::Packet::PubAck(waypost_mqtt::Ack::new(
            packet_id,
            ReasonCode::Success,
        )));
    }
}

/// Goal: a bounded number of verdicts is remembered, and none is wrong for it. Method: room for two.
#[test]
fn verdicts_beyond_the_bound_are_judged_anew() {
    let options = waypost_tests::ServerOptions::new().arguments(["--set", "limits.verdicts_max=2"]);
    let house = House::with(&(user("alice", r#"publish = "a/+""#)), options);
    let mut alice = house.log_in(V5, "alice");
    for round in 0..3 {
        for number in 0..4 {
            for (topic, expect) in [
                (format!("a/{number}"), ReasonCode::NoMatchingSubscribers),
                (format!("b/{number}"), ReasonCode::NotAuthorized),
            ] {
                assert_eq!(
                    publish(&mut alice, &topic, QoS::AtLeastOnce, false),
                    expect,
                    "{round} {topic}"
                );
            }
        }
    }
    house
        .server
        .wait_for_metric("waypost_verdicts_forgotten_total", 1.0);
}

//! Subscriptions: overlapping, replaced, refused, ended; who is told, and who may.

use std::sync::{Arc, Mutex};

use waypost_mqtt::{Auth, Packet, Property, PropertyBuffer, ReasonCode, SubscriptionOptions};

use super::world::{World, options, v3, v5};
use crate::{
    Action, AllowAll, Answer, Authenticate, Authentication, Credentials, Limits, Permit, Verdict,
    Who,
};

#[test]
fn overlapping_subscriptions_are_one_copy_with_all_identifiers() {
    // 5 [MQTT-3.3.4-2] to [MQTT-3.3.4-4], 3.1.1 [MQTT-3.3.5-1]
    let mut world = World::new();
    let p = world.connect(&v5("p"));
    let s = world.connect(&v5("s").persistent(100));
    let old = world.connect(&v3("old"));
    world.subscribe_with(s, &[("a/#", options(0))], 7);
    world.subscribe_with(s, &[("a/+", options(2))], 3);
    world.subscribe_with(s, &[("a/b", options(1))], 0);
    for (filter, qos) in [("a/#", 0), ("a/+", 1)] {
        world.subscribe(old, filter, qos);
    }
    world.publish(p, "a/b", "x", 2);
    world.ack(p, "PUBREL", 10);
    let lines = world.take(s);
    assert_eq!(lines.len(), 1);
    assert!(
        lines[0].starts_with("PUBLISH q2 #1 a/b=x")
            && lines[0].contains("Identifier(7)")
            && lines[0].contains("Identifier(3)")
    );
    assert_eq!(world.take(old), ["PUBLISH q1 #1 a/b=x"]);
    // Kept with what is sent again.
    world.cut(s);
    world.publish(p, "a/c", "y", 1);
    let s = world.connect(&v5("s").persistent(100));
    let lines = world.take(s);
    assert!(
        lines[0].starts_with("PUBLISH q2 #1 dup a/b=x")
            && lines[0].matches("Identifier").count() == 2,
        "{lines:?}"
    );
    assert!(
        lines[1].starts_with("PUBLISH q1 #2 a/c=y") && lines[1].matches("Identifier").count() == 2,
        "{lines:?}"
    );
}

#[test]
fn no_local_is_the_publishers_own_and_can_be_replaced() {
    // 5 [MQTT-3.8.3-3], [MQTT-3.8.4-3]
    let mut world = World::new();
    let c = world.connect(&v5("c"));
    let d = world.connect(&v5("d"));
    let no_local = SubscriptionOptions {
        no_local: true,
        ..options(1)
    };
    world.subscribe_with(c, &[("t", no_local)], 0);
    world.subscribe_with(d, &[("t", no_local)], 0);
    world.publish(c, "t", "x", 0);
    assert_eq!(world.take(c), [""; 0]);
    assert_eq!(world.take(d), ["PUBLISH q0 t=x"]);
    world.subscribe(c, "t", 0);
    world.publish(c, "t", "y", 1);
    assert_eq!(world.take(c), ["PUBLISH q0 t=y", "PUBACK #10"]);
    assert_eq!(world.broker(0).subscriptions(), 2);
}

#[test]
fn unsubscribe_takes_exactly_that_filter() {
    // 5 [MQTT-3.10.4-1] to [MQTT-3.10.4-5], 3.1.1 [MQTT-3.10.4-1] to [MQTT-3.10.4-5]
    let mut world = World::new();
    let p = world.connect(&v3("p"));
    for (client, none, gone) in [
        (v5("s5"), "UNSUBACK #2 11", "UNSUBACK #2 00"),
        (v3("s3"), "UNSUBACK #2", "UNSUBACK #2"),
    ] {
        let s = world.connect(&client);
        world.subscribe(s, "a/+", 1);
        for filter in ["a/b", "a/#", "a/+/"] {
            assert_eq!(world.unsubscribe(s, filter), none);
        }
        world.publish(p, "a/b", "x", 1);
        assert_eq!(world.take(s), ["PUBLISH q1 #1 a/b=x"]);
        assert_eq!(world.unsubscribe(s, "a/+"), gone);
        world.publish(p, "a/b", "y", 1);
        assert_eq!(world.take(s), [""; 0]);
        // What was begun is finished.
        world.ack(s, "PUBACK", 1);
        world.cut(s);
    }
}

#[test]
fn shared_filters_are_checked() {
    // 5 [MQTT-4.8.2-1], [MQTT-4.8.2-2]: the decoder finds `$share` without a group or a filter malformed; 3.1.1 knows none.
    let mut world = World::new();
    let s = world.connect(&v5("s"));
    let old = world.connect(&v3("old"));
    for (filter, reason) in [
        ("$share/g/t", Some("01")),
        ("$queue/t", Some("01")),
        ("$shared/t", Some("01")),
        ("$queue", Some("01")),
        ("$queue/", Some("8F")),
        ("$share/g", None),
        ("$share/g/", None),
        ("$share//t", None),
        ("$share/+/t", None),
    ] {
        if let Some(reason) = reason {
            let ack = world.subscribe(s, filter, 1);
            assert_eq!(ack, format!("SUBACK #1 {reason}"), "{filter}");
        }
        let old_reason = if reason == Some("01") { "01" } else { "80" };
        let ack = world.subscribe(old, filter, 1);
        assert_eq!(ack, format!("SUBACK #1 {old_reason}"), "{filter}");
    }
    // 5 [MQTT-3.8.3-4]
    let no_local = SubscriptionOptions {
        no_local: true,
        ..options(1)
    };
    world.subscribe_with(s, &[("$share/g/t", no_local)], 0);
    assert!(world.is_closed(s));
}

#[test]
fn subscriptions_and_levels_are_bounded() {
    for (count, refused) in [(3_u64, 0), (4, 1), (6, 3)] {
        let mut world = World::with_limits(|limits| limits.subscriptions_per_session_max = 3);
        let s = world.connect(&v5("s"));
        let acks: Vec<_> = (0..count)
            .map(|n| world.subscribe(s, &format!("t/{n}"), 1))
            .collect();
        assert_eq!(
            acks.iter().filter(|ack| *ack == "SUBACK #1 97").count(),
            refused
        );
        assert_eq!(
            world.broker(0).counters().subscriptions_exceeded,
            refused as u64
        );
        assert_eq!(
            world.subscribe(s, "t/1", 2),
            "SUBACK #1 02",
            "one that is there may be replaced"
        );
    }
    for (levels, ok) in [(3, true), (4, false), (6, false)] {
        let mut world = World::with_limits(|limits| limits.topic_levels_max = 3);
        let c = world.connect(&v5("c"));
        let topic = vec!["l"; levels].join("/");
        assert_eq!(
            world.subscribe(c, &topic, 0),
            if ok { "SUBACK #1 00" } else { "SUBACK #1 8F" }
        );
        world.publish(c, &topic, "x", 1);
        let lines = world.take(c);
        assert!(
            lines
                .last()
                .unwrap()
                .starts_with(if ok { "PUBACK #10" } else { "PUBACK #10 90" }),
            "{lines:?}"
        );
        assert_eq!(
            world.broker(0).counters().topic_levels_exceeded,
            if ok { 0 } else { 2 }
        );
    }
}

#[test]
fn the_servers_topics_are_the_servers() {
    let mut world = World::new();
    let s = world.connect(&v5("s"));
    for filter in ["$SYS/#", "#"] {
        world.subscribe(s, filter, 1);
    }
    let p = world.connect(&v5("p"));
    let old = world.connect(&v3("old"));
    for topic in [
        "$SYS/broker/uptime",
        "$events/client/connected",
        "$dictionary/x",
    ] {
        world.publish(p, topic, "x", 1);
        assert!(world.take(p)[0].starts_with("PUBACK #10 87"));
        // 3.1.1 [MQTT-3.3.5-2]: acknowledged normally.
        world.publish(old, topic, "x", 2);
        world.ack(old, "PUBREL", 10);
        assert_eq!(world.take(old), ["PUBREC #10", "PUBCOMP #10"]);
    }
    assert_eq!(world.take(s), [""; 0]);
    assert_eq!(world.broker(0).counters().publishes_denied, 6);
    world.publish_system("$SYS/broker/uptime", "1 second", true);
    assert_eq!(world.take(s), ["PUBLISH q0 $SYS/broker/uptime=1 second"]);
    world.subscribe(p, "$SYS/#", 1);
    assert_eq!(
        world.take(p),
        ["PUBLISH q0 retain $SYS/broker/uptime=1 second"]
    );
}

#[test]
fn events_tell_what_happens_to_clients() {
    let mut world = World::new();
    let watcher = world.connect(&v5("watcher"));
    world.subscribe(watcher, "$events/#", 1);
    world.take(watcher);
    let c = world.connect(&v5("c\"1").user("alice"));
    world.subscribe(c, "t", 1);
    world.subscribe(c, "$share/g/t", 1);
    world.unsubscribe(c, "t");
    world.publish(c, "$SYS/x", "x", 0);
    world.try_connect(&v5("c\"1").user("bob"));
    world.disconnect(c, ReasonCode::Success);
    let lines = world.take(watcher);
    let event = |topic: &str, code: u8, reason: &str, rest: &str| {
        format!(
            "$events/client/{topic}={{\"time_ms\":1700000000000,\"client_id\":\"c\\\"1\",\"username\":\"alice\",\
             \"address\":\"127.0.0.1:50000\",\"reason_code\":{code},\"reason\":\"{reason}\"{rest}}}"
        )
    };
    let expected = [
        event("connected", 0, "Success", ""),
        event("subscribed", 1, "Granted QoS 1", ",\"filter\":\"t\""),
        event(
            "subscribed",
            1,
            "Granted QoS 1",
            ",\"filter\":\"$share/g/t\"",
        ),
        event("unsubscribed", 0, "Success", ",\"filter\":\"t\""),
        event("denied", 0x87, "the topic is the server's", ""),
        event("denied", 0x87, "Not authorized", "").replace("alice", "bob"),
        event("disconnected", 0, "Success", ""),
    ];
    let bodies: Vec<_> = lines
        .iter()
        .map(|line| line.splitn(4, ' ').nth(3).unwrap())
        .collect();
    assert_eq!(bodies, expected);
}

/// Lets through what it is told to, and answers `Pending` for topics that begin with `slow`.
#[derive(Clone)]
struct Picky(Arc<Mutex<Vec<String>>>);

impl Permit for Picky {
    fn check(&mut self, who: &Who<'_>, action: Action, topic: &str) -> Verdict {
        self.0
            .lock()
            .unwrap()
            .push(format!("{} {action:?} {topic}", who.client_id));
        match topic {
            _ if topic.starts_with("slow") => Verdict::Pending,
            _ if topic.starts_with("no") => Verdict::Deny,
            _ if topic == "once" && action == Action::WillFires => Verdict::Deny,
            _ => Verdict::Allow,
        }
    }
}

fn picky() -> (World, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let permit = Picky(Arc::clone(&asked));
    let world = World::with_permit(1, Limits::default(), 1, move |_| {
        (Box::new(permit.clone()), Box::new(AllowAll))
    });
    (world, asked)
}

#[test]
fn the_permit_is_asked_everywhere() {
    let (mut world, asked) = picky();
    let c = world.connect(&v5("c").will("once", "w", 0, false));
    let old = world.connect(&v3("old"));
    assert_eq!(
        world.subscribe_with(c, &[("t", options(0)), ("no/x", options(1))], 0),
        "SUBACK #1 00 87"
    );
    assert_eq!(world.subscribe(old, "no/x", 1), "SUBACK #1 80");
    world.publish(c, "no/x", "x", 2);
    assert!(world.take(c)[0].starts_with("PUBREC #10 87"));
    world.retain(old, "no/x", "x", 1);
    assert_eq!(world.take(old), ["PUBACK #10"]);
    assert_eq!(world.broker(0).retained(), 0);
    world.cut(c);
    assert_eq!(world.broker(0).counters().wills_denied, 1);
    let (refused, connack) = world.try_connect(&v5("d").will("no/will", "w", 0, false));
    assert_eq!(connack, "CONNACK 87");
    assert!(world.is_closed(refused));
    assert_eq!(
        *asked.lock().unwrap(),
        [
            "c Will once",
            "c Subscribe t",
            "c Subscribe no/x",
            "old Subscribe no/x",
            "c Publish no/x",
            "old PublishRetained no/x",
            "c WillFires once",
            "d Will no/will",
        ]
    );
}

#[test]
fn a_pending_verdict_parks_the_connection() {
    let (mut world, asked) = picky();
    let s = world.connect(&v5("s"));
    world.subscribe(s, "#", 1);
    let allow = || Answer::Permit(Verdict::Allow);
    // A will.
    let c = world.open();
    world.send_connect(c, &v5("c").will("slow/will", "w", 0, false));
    assert!(world.is_parked(c));
    assert_eq!(world.take(c), [""; 0]);
    world.answer(c, allow());
    assert_eq!(world.take(c), ["CONNACK 00"]);
    // A message, and what comes behind it.
    world.publish(c, "slow/t", "first", 1);
    world.publish(c, "t", "second", 1);
    assert_eq!(world.take(s), [""; 0]);
    world.answer(c, allow());
    assert_eq!(
        world.take(s),
        ["PUBLISH q1 #1 slow/t=first", "PUBLISH q1 #2 t=second"]
    );
    assert_eq!(world.take(c), ["PUBACK #10", "PUBACK #10"]);
    world.publish(c, "slow/t", "denied", 1);
    world.answer(c, Answer::Permit(Verdict::Deny));
    assert!(world.take(c)[0].starts_with("PUBACK #10 87"));
    // A SUBSCRIBE with several: asked once each, answered together.
    asked.lock().unwrap().clear();
    let filters = [
        ("slow/1", options(0)),
        ("fast", options(1)),
        ("slow/2", options(2)),
        ("no", options(0)),
    ];
    assert!(
        world
            .subscribe_with(c, &filters, 0)
            .starts_with("no SUBACK")
    );
    world.answer(c, allow());
    assert!(world.is_parked(c));
    world.answer(c, Answer::Permit(Verdict::Deny));
    assert_eq!(world.take(c), ["SUBACK #1 00 01 87 87"]);
    let asked = asked.lock().unwrap().clone();
    assert_eq!(
        asked,
        [
            "c Subscribe slow/1",
            "c Subscribe fast",
            "c Subscribe slow/2",
            "c Subscribe no"
        ]
    );
    // Gone while it waits; a late answer harms nobody.
    world.publish(c, "slow/t", "lost", 1);
    world.cut(c);
    assert_eq!(world.take(s), [""; 0]);
}

/// Knows the method `count`: a client that counts to three is `counter`.
struct Counting;

impl Authenticate for Counting {
    fn supports(&self, method: &str) -> bool {
        method == "count"
    }

    fn authenticate(&mut self, credentials: &Credentials<'_>, step: u32) -> Authentication {
        let Some(_) = credentials.method else {
            return match credentials.password {
                None => Authentication::Accept {
                    user: credentials.user_name.map(Box::from),
                    data: None,
                },
                Some(_) => Authentication::Reject(ReasonCode::BadUserNameOrPassword),
            };
        };
        match (credentials.data, step) {
            (Some(b"wait"), _) => Authentication::Pending,
            (Some(b"1"), 0) | (Some(b"2"), 1) => {
                Authentication::Continue(b"go on".as_slice().into())
            }
            (Some(b"3"), 2) => Authentication::Accept {
                user: Some("counter".into()),
                data: Some(b"well done".as_slice().into()),
            },
            _ => Authentication::Reject(ReasonCode::NotAuthorized),
        }
    }
}

fn counting() -> World {
    World::with_permit(1, Limits::default(), 1, |_| {
        (Box::new(AllowAll), Box::new(Counting))
    })
}

fn auth(world: &mut World, client: usize, reason: ReasonCode, method: &str, data: &str) {
    let mut buffer = PropertyBuffer::new();
    buffer.push(Property::AuthenticationMethod(method));
    buffer.push(Property::AuthenticationData(data.as_bytes()));
    world.send(
        client,
        &Packet::Auth(Auth {
            reason,
            properties: buffer.as_properties(),
        }),
    );
}

fn by_counting() -> super::world::Options {
    v5("c")
        .with(Property::AuthenticationMethod("count"))
        .with(Property::AuthenticationData(b"1"))
}

#[test]
fn enhanced_authentication_goes_back_and_forth() {
    // 5 [MQTT-4.12.0-2], [MQTT-4.12.0-5], [MQTT-3.2.0-1]
    let mut world = counting();
    let c = world.open();
    world.send_connect(c, &by_counting());
    let go_on =
        "AUTH 18 AuthenticationMethod(\"count\") AuthenticationData([103, 111, 32, 111, 110])";
    assert_eq!(world.take(c), [go_on]);
    auth(
        &mut world,
        c,
        ReasonCode::ContinueAuthentication,
        "count",
        "2",
    );
    assert_eq!(world.take(c), [go_on]);
    auth(
        &mut world,
        c,
        ReasonCode::ContinueAuthentication,
        "count",
        "3",
    );
    let connack = world.take(c);
    assert!(
        connack[0].starts_with("CONNACK 00 AuthenticationMethod(\"count\") AuthenticationData(["),
        "{connack:?}"
    );
    // Again, on the same connection; messages go on meanwhile.
    auth(&mut world, c, ReasonCode::ReAuthenticate, "count", "1");
    world.publish(c, "t", "x", 1);
    auth(
        &mut world,
        c,
        ReasonCode::ContinueAuthentication,
        "count",
        "2",
    );
    auth(
        &mut world,
        c,
        ReasonCode::ContinueAuthentication,
        "count",
        "3",
    );
    let lines = world.take(c);
    assert_eq!(lines[..3], [go_on, "PUBACK #10 10", go_on]);
    assert!(lines[3].starts_with("AUTH 00 AuthenticationMethod(\"count\")"));
    // 5 [MQTT-4.12.1-2]
    auth(&mut world, c, ReasonCode::ReAuthenticate, "count", "7");
    assert_eq!(world.take(c), ["DISCONNECT 87", "closed"]);
}

#[test]
fn authentication_that_goes_wrong_closes() {
    let mut world = counting();
    // 5 [MQTT-4.12.0-1]
    let (c, connack) = world.try_connect(&v5("c").with(Property::AuthenticationMethod("other")));
    assert_eq!(connack, "CONNACK 8C");
    assert!(world.is_closed(c));
    for (reason, method, data, expected) in [
        (
            ReasonCode::ContinueAuthentication,
            // 5 [MQTT-4.12.0-4]
            "count",
            "5",
            "CONNACK 87",
        ),
        (
            ReasonCode::ContinueAuthentication,
            "other",
            "2",
            "CONNACK 82",
        ),
        // 5 [MQTT-4.12.0-3]
        (ReasonCode::ReAuthenticate, "count", "2", "CONNACK 82"),
    ] {
        let (c, _) = world.try_connect(&by_counting());
        auth(&mut world, c, reason, method, data);
        assert_eq!(world.take(c), [expected, "closed"]);
    }
    // 5 [MQTT-3.15.2-2], [MQTT-3.15.2-3]: an AUTH fits where there is room for what it must say.
    let terse = by_counting().with(Property::MaximumPacketSize(24));
    let (_, first) = world.try_connect(&terse);
    assert!(first.starts_with("AUTH 18"), "{first}");
    // 5 [MQTT-3.1.2-30]: nothing but AUTH.
    let (c, _) = world.try_connect(&by_counting());
    world.send(c, &Packet::PingReq);
    assert_eq!(world.take(c), ["closed"]);
    // 5 [MQTT-4.12.0-7], [MQTT-4.12.1-1]
    let c = world.connect(&v5("plain"));
    auth(&mut world, c, ReasonCode::ReAuthenticate, "count", "1");
    assert_eq!(world.take(c), ["DISCONNECT 82", "closed"]);
    assert_eq!(world.broker(0).sessions(), 0);
}

#[test]
fn an_authentication_may_take_its_time() {
    let mut world = counting();
    let slow = || {
        v5("c")
            .with(Property::AuthenticationMethod("count"))
            .with(Property::AuthenticationData(b"wait"))
    };
    let c = world.open();
    world.send_connect(c, &slow());
    assert!(world.is_parked(c));
    world.answer(
        c,
        Answer::Authenticate(Authentication::Accept {
            user: None,
            data: None,
        }),
    );
    assert_eq!(
        world.take(c),
        ["CONNACK 00 AuthenticationMethod(\"count\")"]
    );
    auth(&mut world, c, ReasonCode::ReAuthenticate, "count", "wait");
    assert!(world.is_parked(c));
    world.answer(
        c,
        Answer::Authenticate(Authentication::Accept {
            user: None,
            data: None,
        }),
    );
    assert_eq!(world.take(c), ["AUTH 00 AuthenticationMethod(\"count\")"]);
    let c = world.open();
    world.send_connect(c, &slow());
    world.answer(
        c,
        Answer::Authenticate(Authentication::Reject(ReasonCode::Banned)),
    );
    assert_eq!(world.take(c), ["CONNACK 8A", "closed"]);
    let c = world.open();
    world.send_connect(c, &slow());
    world.advance(10_000);
    assert_eq!(world.take(c), ["closed"]);
}

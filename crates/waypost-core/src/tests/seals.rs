//! `[[topic]] seal`: what is refused, how, and that nothing of it is kept. A payload is sealed here if it begins with
//! `sealed`.

use std::sync::Arc;

use waypost_mqtt::{Property, PropertyBuffer, ReasonCode};

use super::world::{World, v3, v5};
use crate::{Policies, Seal, TopicPolicy};

fn world(said: &[(&str, Seal)]) -> World {
    let mut world = World::new();
    adopt(&mut world, said);
    world
}

fn adopt(world: &mut World, said: &[(&str, Seal)]) {
    let policy = |(filter, seal): &(&str, Seal)| TopicPolicy {
        filter: (*filter).into(),
        seal: Some(*seal),
        ..TopicPolicy::default()
    };
    let policies = Policies::new(said.iter().map(policy).collect()).unwrap();
    world.adopt(&Arc::new(policies));
}

fn cose() -> PropertyBuffer {
    let mut properties = PropertyBuffer::new();
    properties.push(Property::ContentType("application/cose"));
    properties
}

/// Goal: who is refused, by which policy, with which words. Method: every kind of message at every `QoS` against a reader
/// of all topics.
#[test]
fn only_what_the_policy_takes_gets_through() {
    let mut world = world(&[
        ("chat/#", Seal::Required),
        ("chat/lobby", Seal::Allowed),
        ("log/+", Seal::Refused),
    ]);
    let reader = world.connect(&v5("reader"));
    world.subscribe(reader, "#", 0);
    let publisher = world.connect(&v5("p"));
    let (none, cose) = (PropertyBuffer::new(), cose());
    let mut other = PropertyBuffer::new();
    other.push(Property::ContentType("text/plain"));
    for (topic, payload, properties, passes) in [
        ("chat/a", "plain", &none, false),
        ("chat/a", "plain", &cose, false),
        ("chat/a", "sealed", &none, false),
        ("chat/a", "sealed", &other, false),
        ("chat/a", "sealed", &cose, true),
        ("chat", "", &none, false),
        ("chat/lobby", "plain", &none, true),
        ("chat/lobby", "sealed", &cose, true),
        ("log/a", "plain", &none, true),
        ("log/a", "sealed", &none, true),
        ("log/a", "sealed", &cose, false),
        ("log/a/b", "sealed", &cose, true),
        ("elsewhere", "plain", &none, true),
    ] {
        for qos in 0..3 {
            world.publish_with(publisher, topic, payload, qos, 7, false, properties);
            let answers = world.take(publisher);
            let said = format!("{topic} {payload} q{qos}: {answers:?}");
            assert_eq!(!world.take(reader).is_empty(), passes, "{said}");
            if qos == 0 {
                assert_eq!(answers, [""; 0], "{said}");
                continue;
            }
            assert_eq!(!answers[0].contains(" 83 "), passes, "{said}");
            let filter = if topic.starts_with("chat") {
                "chat/#"
            } else {
                "log/+"
            };
            assert!(
                passes
                    || answers[0]
                        .contains(&format!("ReasonString(\"the policy of {filter} takes ")),
                "{said}"
            );
            if qos == 2 && passes {
                world.ack(publisher, "PUBREL", 7);
                world.take(publisher);
            }
        }
    }
    let counters = world.broker(0).counters();
    assert_eq!(counters.publishes_unsealed_refused, 5 * 3);
    assert_eq!(counters.publishes_sealed_refused, 3);
}

#[test]
fn version_3_seals_by_the_payload_alone_and_is_answered_as_ever() {
    let mut world = world(&[("chat/#", Seal::Required), ("log/+", Seal::Refused)]);
    let reader = world.connect(&v3("reader"));
    world.subscribe(reader, "#", 0);
    let publisher = world.connect(&v3("p"));
    for (topic, payload, passes) in [
        ("chat/a", "plain", false),
        ("chat/a", "sealed", true),
        ("log/a", "sealed", false),
        ("log/a", "plain", true),
    ] {
        world.publish(publisher, topic, payload, 1);
        // 3.1.1 [MQTT-3.3.5-2]
        assert!(world.take(publisher)[0].starts_with("PUBACK"));
        assert_eq!(!world.take(reader).is_empty(), passes, "{topic} {payload}");
    }
}

#[test]
fn those_who_watch_are_told() {
    let mut world = world(&[("chat/#", Seal::Required)]);
    let watcher = world.connect(&v5("watcher"));
    world.subscribe(watcher, "$events/client/denied", 0);
    let publisher = world.connect(&v3("p"));
    world.publish(publisher, "chat/a", "plain", 0);
    let told = world.take(watcher);
    assert_eq!(told.len(), 1);
    assert!(
        told[0].contains("\"client_id\":\"p\"")
            && told[0].contains("\"reason_code\":131,")
            && told[0].contains("the policy of chat/# takes only sealed messages"),
        "{told:?}"
    );
}

#[test]
fn nothing_of_what_is_refused_is_retained_or_delayed() {
    let mut world = world(&[("chat/#", Seal::Required)]);
    let publisher = world.connect(&v5("p"));
    world.publish_with(
        publisher,
        "chat/a",
        "plain",
        1,
        1,
        true,
        &PropertyBuffer::new(),
    );
    world.publish_with(
        publisher,
        "$delayed/5/chat/a",
        "plain",
        1,
        2,
        false,
        &PropertyBuffer::new(),
    );
    let answers = world.take(publisher);
    assert!(
        answers.iter().all(|answer| answer.contains(" 83 ")) && answers.len() == 2,
        "{answers:?}"
    );
    assert_eq!(
        (world.broker(0).retained(), world.broker(0).delayed()),
        (0, 0)
    );
    world.publish_with(publisher, "chat/a", "sealed", 1, 1, true, &cose());
    world.publish_with(
        publisher,
        "$delayed/5/chat/a",
        "sealed",
        1,
        2,
        false,
        &cose(),
    );
    world.take(publisher);
    assert_eq!(
        (world.broker(0).retained(), world.broker(0).delayed()),
        (1, 1)
    );
}

/// Goal: a will is refused with its CONNECT. Method: both versions, sealed and not.
#[test]
fn a_will_is_refused_at_connect() {
    let mut world = world(&[("will/#", Seal::Required)]);
    let watcher = world.connect(&v5("watcher"));
    world.subscribe(watcher, "$events/client/denied", 0);
    let (client, answer) = world.try_connect(&v5("c").will("will/t", "plain", 0, false));
    assert!(
        answer.starts_with("CONNACK 83") && answer.contains("the policy of will/# takes only"),
        "{answer}"
    );
    assert!(world.is_closed(client));
    assert!(world.take(watcher)[0].contains("the policy of will/#"));
    let (client, _) = world.try_connect(&v3("c").will("will/t", "plain", 0, false));
    assert!(world.is_closed(client));
    assert_eq!(world.broker(0).sessions(), 1);
    let sealed = v5("c").will("will/t", "sealed", 0, false);
    let (without, _) = world.try_connect(&sealed);
    assert!(world.is_closed(without), "without its Content Type");
    world.connect(
        &v5("c5")
            .will("will/t", "sealed", 0, false)
            .will_with(Property::ContentType("application/cose")),
    );
    world.connect(&v3("c3").will("will/t", "sealed", 0, false));
    assert_eq!(world.broker(0).sessions(), 3);
}

/// Goal: a policy holds for what was accepted before it came. Method: it comes between a will and its end, a delayed
/// message and its time.
#[test]
fn what_waits_is_looked_at_again() {
    for version in [v3, v5] {
        let mut world = World::new();
        let reader = world.connect(&v5("reader"));
        world.subscribe(reader, "t/#", 0);
        let plain = world.connect(&version("plain").will("t/will", "plain", 0, false));
        let sealed = world.connect(&version("sealed").will("t/will", "sealed", 0, false));
        world.publish(plain, "$delayed/5/t/late", "plain", 0);
        world.publish(sealed, "$delayed/5/t/late", "sealed", 0);
        adopt(&mut world, &[("t/#", Seal::Required)]);
        world.advance(6_000);
        world.cut(plain);
        world.cut(sealed);
        let got = world.take(reader);
        assert_eq!(
            got,
            ["PUBLISH q0 t/late=sealed", "PUBLISH q0 t/will=sealed"]
        );
        assert_eq!(world.broker(0).counters().publishes_unsealed_refused, 2);
    }
}

#[test]
fn a_reason_outlives_its_policy_only_in_silence() {
    let policy = TopicPolicy {
        filter: "a/#".into(),
        seal: Some(Seal::Required),
        ..TopicPolicy::default()
    };
    let policies = Policies::new(vec![policy]).unwrap();
    let why = crate::seal::Why::Policy(Seal::Required, 0);
    assert!(
        why.text(&policies)
            .starts_with("the policy of a/# takes only")
    );
    assert_eq!(why.text(&Policies::default()), "");
    assert_eq!(
        crate::seal::Why::Policy(Seal::Refused, 0).text(&policies),
        ""
    );
    assert_eq!(ReasonCode::ImplementationSpecificError.as_u8(), 0x83);
}

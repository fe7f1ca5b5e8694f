//! Wills: published, delayed, cancelled.

use waypost_mqtt::{Property, PropertyBuffer, ReasonCode};

use super::world::{Client, Options, World, v3, v5};

fn watched() -> (World, Client) {
    let mut world = World::new();
    let watcher = world.connect(&v5("watcher"));
    world.subscribe(watcher, "will/#", 0);
    (world, watcher)
}

fn with_delay(options: Options, delay_s: u32) -> Options {
    options
        .will("will/t", "gone", 0, false)
        .will_with(Property::WillDelayInterval(delay_s))
}

#[test]
fn a_will_is_published_unless_the_client_takes_it_back() {
    // 5 [MQTT-3.1.2-8], [MQTT-3.14.4-3], 3.1.1 [MQTT-3.1.2-8], [MQTT-3.14.4-3]
    let (mut world, watcher) = watched();
    for options in [|| v3("c"), || v5("c"), || v5("c").persistent(60)] {
        let client = world.connect(&options().will("will/t", "gone", 1, false));
        world.cut(client);
        assert_eq!(world.take(watcher), ["PUBLISH q0 will/t=gone"]);
        let client = world.connect(&options().will("will/t", "gone", 1, false));
        world.disconnect(client, ReasonCode::Success);
        assert_eq!(world.take(watcher), [""; 0]);
    }
    let client = world.connect(&v5("c").will("will/t", "gone", 1, false));
    world.disconnect(client, ReasonCode::DisconnectWithWillMessage);
    assert_eq!(world.take(watcher), ["PUBLISH q0 will/t=gone"]);
    let client = world.connect(&v5("c").keep_alive(1).will("will/t", "late", 1, false));
    world.advance(2_000);
    assert!(world.is_closed(client));
    assert_eq!(world.take(watcher), ["PUBLISH q0 will/t=late"]);
}

#[test]
fn a_will_may_be_retained_and_keeps_its_properties() {
    // 5 [MQTT-3.1.2-15], [MQTT-3.1.3-10], 3.1.1 [MQTT-3.1.2-17]
    let (mut world, watcher) = watched();
    let options = v5("c")
        .will("will/t", "gone", 0, true)
        .will_with(Property::UserProperty("b", "1"))
        .will_with(Property::ContentType("text"))
        .will_with(Property::WillDelayInterval(0))
        .will_with(Property::MessageExpiryInterval(9))
        .will_with(Property::UserProperty("a", "2"));
    let client = world.connect(&options);
    world.cut(client);
    let live = world.take(watcher);
    world.subscribe(watcher, "will/#", 0);
    let kept = world.take(watcher);
    assert!(
        kept[0].starts_with("PUBLISH q0 retain will/t=gone"),
        "{kept:?}"
    );
    assert_eq!(kept[0].replace(" retain", ""), live[0]);
    let at = |text| {
        live[0]
            .find(text)
            .unwrap_or_else(|| panic!("{text} in {live:?}"))
    };
    assert!(at("(\"b\", \"1\")").max(at("(\"b\", \"1\")")) > 0);
    assert!(
        live[0].contains("MessageExpiryInterval(9)") && !live[0].contains("WillDelay"),
        "{live:?}"
    );
}

#[test]
fn a_delayed_will_waits_for_the_client_or_the_end_of_its_session() {
    let (mut world, watcher) = watched();
    // 5 [MQTT-3.1.3-9]: back before the delay has passed.
    let client = world.connect(&with_delay(v5("c").persistent(100), 10));
    world.cut(client);
    world.advance(9_999);
    let client = world.connect(&with_delay(v5("c").persistent(100), 10));
    world.advance(60_000);
    assert_eq!(world.take(watcher), [""; 0]);
    // It passes.
    world.cut(client);
    world.advance(10_000);
    assert_eq!(world.take(watcher), ["PUBLISH q0 will/t=gone"]);
    world.advance(100_000);
    // The session ends before.
    let client = world.connect(&with_delay(v5("c").persistent(5), 10));
    world.cut(client);
    world.advance(4_999);
    assert_eq!(world.take(watcher), [""; 0]);
    world.advance(1);
    assert_eq!(world.take(watcher), ["PUBLISH q0 will/t=gone"]);
    // It ends at once.
    let client = world.connect(&with_delay(v5("c"), 10));
    world.cut(client);
    assert_eq!(world.take(watcher), ["PUBLISH q0 will/t=gone"]);
}

#[test]
fn takeover_publishes_the_will_when_connection_or_session_ends_with_it() {
    // 5 §3.1.4, the non-normative comment on takeover
    for (name, first, second, expected) in [
        (
            "no delay",
            with_delay(v5("c").persistent(60), 0),
            v5("c").clean(false),
            1,
        ),
        (
            "delay, kept",
            with_delay(v5("c").persistent(60), 9),
            v5("c").clean(false),
            0,
        ),
        (
            "delay, clean start",
            with_delay(v5("c").persistent(60), 9),
            v5("c"),
            1,
        ),
        (
            "delay, no expiry",
            with_delay(v5("c"), 9),
            v5("c").clean(false),
            1,
        ),
        (
            "3.1.1",
            v3("c").persistent(0).will("will/t", "gone", 0, false),
            v3("c").persistent(0),
            1,
        ),
    ] {
        let (mut world, watcher) = watched();
        world.connect(&first);
        world.connect(&second);
        world.advance(100_000);
        assert_eq!(world.take(watcher).len(), expected, "{name}");
    }
}

#[test]
fn a_will_may_not_be_what_a_publish_may_not_be() {
    let mut world = World::new();
    let cases = [
        (v5("c").will("$SYS/x", "", 0, false), "CONNACK 87"),
        (v3("c").will("$events/x", "", 0, false), "CONNACK 87"),
        (
            v5("c")
                .will("t", "", 0, false)
                .will_with(Property::UserProperty("waypost-dead-x", "")),
            "CONNACK 83",
        ),
        (
            v5("c")
                .will("t", "", 0, false)
                .will_with(Property::UserProperty("waypost-key", "")),
            "CONNACK 00",
        ),
    ];
    for (options, expected) in cases {
        let (client, connack) = world.try_connect(&options);
        assert_eq!(connack, expected);
        assert_eq!(world.is_closed(client), expected != "CONNACK 00");
    }
}

#[test]
fn a_new_connection_has_its_own_will_or_none() {
    let (mut world, watcher) = watched();
    let client = world.connect(&with_delay(v5("c").persistent(100), 10));
    world.cut(client);
    let client = world.connect(&v5("c").persistent(100));
    world.cut(client);
    world.advance(200_000);
    assert_eq!(world.take(watcher), [""; 0]);
    let mut buffer = PropertyBuffer::new();
    buffer.push(Property::SessionExpiryInterval(0));
    let client = world.connect(&with_delay(v5("c").persistent(100), 10));
    world.disconnect_with(client, ReasonCode::DisconnectWithWillMessage, &buffer);
    assert_eq!(world.take(watcher), ["PUBLISH q0 will/t=gone"]);
}

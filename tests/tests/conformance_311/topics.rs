//! Statements of MQTT 3.1.1, section 4.7: Topic Names and Topic Filters.

use waypost_mqtt::{Packet, ProtocolVersion::V311, QoS};
use waypost_tests::{RawClient, subscribe_bytes};

use crate::wire::{
    check_closed, publish_bytes, server, subscribe_to_bytes, text, unsubscribe_from_bytes,
};

/// [MQTT-4.7.1-2], [MQTT-4.7.1-3], [MQTT-4.7.3-1]: filters with a misplaced wildcard, or of no character, close the connection.
#[test]
fn ill_formed_filters_close_the_connection() {
    let filters = [
        "", "#a", "a#", "a/#/b", "#/", "#/a", "##", "a/b#", "a/#b", "a/#+", "a+", "+a", "a/+b",
        "a/b+/c", "++", "+#", "a/+#",
    ];
    for filter in filters {
        check_closed([
            (
                format!("SUBSCRIBE {filter:?}"),
                subscribe_to_bytes(filter, 0),
            ),
            (
                format!("UNSUBSCRIBE {filter:?}"),
                unsubscribe_from_bytes(filter),
            ),
        ]);
    }
}

/// The topics that reach a subscriber of `filter`, of those published.
fn check_matches(filter: &str, matching: &[&str], others: &[&str]) {
    let server = server();
    let mut client = RawClient::connect(&server, V311, &crate::wire::unique("matches"));
    client.subscribe(filter, QoS::AtMostOnce);
    let mut publisher = RawClient::connect(&server, V311, &crate::wire::unique("matches-pub"));
    for topic in others {
        publisher.publish(topic, QoS::AtMostOnce, b"other");
    }
    client.expect_nothing();
    for topic in matching {
        publisher.publish(topic, QoS::AtMostOnce, b"matching");
        assert_eq!(client.receive().publish().topic, *topic, "{filter}");
    }
    client.expect_nothing();
}

/// [MQTT-4.7.1-2], [MQTT-3.3.2-3]: `#` is its parent and all below it.
#[test]
fn the_multi_level_wildcard() {
    check_matches(
        "multi/player/#",
        &[
            "multi/player",
            "multi/player/",
            "multi/player/ranking",
            "multi/player/score/wimbledon",
            "multi/player//",
        ],
        &[
            "multi",
            "multi/play",
            "multi/players",
            "/multi/player",
            "other/multi/player",
        ],
    );
}

/// [MQTT-4.7.1-3], [MQTT-3.3.2-3]: `+` is one whole level, empty or not, at any place and in several.
#[test]
fn the_single_level_wildcard() {
    check_matches(
        "single/+",
        &["single/a", "single/", "single/b c"],
        &["single", "single/a/b", "single/a/", "/single/a"],
    );
    check_matches(
        "single-2/+/x/+/#",
        &["single-2/a/x/b", "single-2//x/", "single-2/a/x/b/c/d"],
        &["single-2/a/x", "single-2/x/b", "single-2/a/y/b"],
    );
    check_matches(
        "+/single-3",
        &["a/single-3", "/single-3"],
        &["single-3", "a/b/single-3", "$a/single-3"],
    );
    check_matches(
        "/single-4",
        &["/single-4"],
        &["single-4", "//single-4", "/single-4/"],
    );
}

/// [MQTT-4.7.2-1]: filters that begin with a wildcard do not match topics that begin with `$`; others do.
#[test]
fn leading_wildcards_do_not_match_dollar() {
    let server = server();
    let mut wild = RawClient::connect(&server, V311, "dollar-wild");
    let subscribe = subscribe_bytes(V311, 1, &[("#", 0), ("+/dollar/#", 0), ("+/dollar", 0)]);
    let mut named = RawClient::connect(&server, V311, "dollar-named");
    named.subscribe("$dollars/+", QoS::AtMostOnce);
    let mut publisher = RawClient::connect(&server, V311, "dollar-pub");
    for _ in 0..2 {
        wild.send_raw(&subscribe);
        publisher.publish_retained("$dollars/dollar", QoS::AtLeastOnce, b"x");
        assert_eq!(named.receive().publish().topic, "$dollars/dollar");
        for packet in wild.drain() {
            if let Packet::Publish(publish) = packet.packet() {
                assert!(!publish.topic.starts_with('$'), "{publish:?}");
            }
        }
    }
    publisher.publish_retained("$dollars/dollar", QoS::AtLeastOnce, b"");
}

/// [MQTT-4.7.3-4]: names and filters are compared as they are: by case, by every space, without Unicode normalization, empty
/// levels counted; what is unusual is neither altered nor replaced.
#[test]
fn topics_are_compared_as_they_are() {
    check_matches(
        "exact/Caf\u{e9}/ x",
        &["exact/Caf\u{e9}/ x"],
        &[
            "exact/caf\u{e9}/ x",
            "exact/Cafe\u{301}/ x",
            "exact/CAF\u{c9}/ x",
            "exact/Caf\u{e9}/x",
            "exact/Caf\u{e9}/ x ",
            "exact//Caf\u{e9}/ x",
            "exact/Caf\u{e9}/ x/",
            "Exact/Caf\u{e9}/ x",
            "exact/./Caf\u{e9}/ x",
        ],
    );
    let unusual = [
        "raw/\u{FFFD}",
        "raw/\u{1}\u{7F}\u{9F}",
        "raw/\u{FFFE}\u{FDD0}",
        "raw/%41",
        "raw/\\",
        "raw/..",
        "raw/\u{200B}",
    ];
    check_matches("raw/+", &unusual, &[]);
    for topic in unusual {
        check_matches(topic, &[topic], &["raw/", "raw/A", "raw/x"]);
    }
}

/// [MQTT-4.7.3-3], [MQTT-4.7.3-1]: names and filters of one byte and of 65,535 are taken and delivered.
#[test]
fn topics_from_1_to_65_535_bytes() {
    let server = server();
    let longest = format!("length/{}", "x".repeat(65_535 - 7));
    for topic in ["l", "/", longest.as_str()] {
        let mut client = RawClient::connect(&server, V311, "length");
        client.send_raw(&subscribe_to_bytes(topic, 1));
        assert_eq!(client.receive().bytes(), [0x90, 3, 0, 1, 1]);
        client.send_raw(&publish_bytes(0x32, topic, Some(2)));
        let mut received = [client.receive(), client.receive()];
        received.sort_by_key(|packet| matches!(packet.packet(), Packet::Publish(_)));
        assert_eq!(received[0].bytes(), [0x40, 2, 0, 2]);
        let publish = received[1].bytes();
        assert!(
            publish
                .windows(topic.len() + 2)
                .any(|window| window == text(topic))
        );
    }
}

//! The users file changes while clients are connected.

use rustix::process::Signal;
use waypost_mqtt::{Packet, QoS, ReasonCode};
use waypost_tests::{LIMIT, RawClient, ServerOptions, wait_for};

use crate::{
    House, V5, V311, ask, credentials, publish, root, topics, user, user_with_other_password,
};

const DENIED: u8 = 0x87;

#[test]
fn new_permissions_act_on_who_is_connected() {
    for shards in [1, 2] {
        let users = |rules: &str| user("alice", rules) + &root();
        let options = ServerOptions::new().shards(shards);
        let house = House::with(&users(r#"allow = ["a/#", "b/#"]"#), options);
        let mut root = house.log_in(V5, "root");
        let mut old = house.log_in_as(V311, "alice", "old");
        let mut new = house.log_in_as(V5, "alice", "new");
        for alice in [&mut old, &mut new] {
            alice.subscribe("a/x", QoS::AtLeastOnce);
            alice.subscribe("b/x", QoS::AtLeastOnce);
            assert!(!publish(alice, "b/y", QoS::AtLeastOnce, false).is_error());
        }
        assert_eq!(house.change(&users(r#"allow = "a/#""#)).0, 200);
        for topic in ["a/x", "b/x"] {
            publish(&mut root, topic, QoS::AtLeastOnce, false);
        }
        assert_eq!(topics(&mut old), ["a/x"], "{shards} shards");
        assert_eq!(topics(&mut new), ["a/x"], "{shards} shards");
        assert_eq!(
            publish(&mut new, "b/y", QoS::AtLeastOnce, false),
            ReasonCode::NotAuthorized
        );
        assert_eq!(house.count("waypost_subscriptions_revoked_total"), 2);
        // And back: what was lost is not given back, but may be asked for.
        assert_eq!(house.change(&users(r#"allow = ["a/#", "b/#"]"#)).0, 200);
        publish(&mut root, "b/x", QoS::AtLeastOnce, false);
        assert_eq!(topics(&mut new), [""; 0]);
        assert_eq!(ask(&mut new, "b/x"), 1);
    }
}

#[test]
fn users_that_are_gone_or_have_another_password_are_disconnected() {
    for shards in [1, 2] {
        let all = user("gone", "") + &user("changed", "") + &user("stays", "");
        let house = House::with(&all, ServerOptions::new().shards(shards));
        let mut clients = Vec::new();
        for version in [V311, V5] {
            for name in ["gone", "changed", "stays"] {
                let client_id = format!("{name} {version:?}");
                clients.push((name, house.log_in_as(version, name, &client_id)));
            }
        }
        let less = user_with_other_password("changed", "") + &user("stays", "");
        assert_eq!(house.change(&less).0, 200);
        for (name, client) in &mut clients {
            if *name == "stays" {
                client.fence();
            } else {
                client.expect_refused(ReasonCode::NotAuthorized);
            }
        }
        assert_eq!(house.count("waypost_rules_disconnects_total"), 4);
        assert_eq!(
            house.answer_to(&credentials(V5, "c", Some("gone"), Some("secret"))),
            0x86
        );
        assert_eq!(
            house.answer_to(&credentials(V5, "c", Some("changed"), Some("other"))),
            0
        );
    }
}

/// Goal: the first user closes the house: whoever came in before is asked who they are. Method: one without a name, one
/// with a name nobody checked.
#[test]
fn the_first_user_ends_the_time_of_trust() {
    let house = House::new("");
    let mut nobody = RawClient::connect(&house.server, V5, "nobody");
    let connect = credentials(V5, "alice", Some("alice"), Some("whatever"));
    let (mut pretender, _) = RawClient::connect_with(&house.server, &connect);
    pretender.subscribe("secret/#", QoS::AtLeastOnce);
    assert_eq!(house.change(&user("alice", r##"allow = "#""##)).0, 200);
    nobody.expect_refused(ReasonCode::NotAuthorized);
    pretender.expect_refused(ReasonCode::NotAuthorized);
    assert_eq!(
        house.answer_to(&credentials(V5, "nobody", None, None)),
        DENIED
    );
    house.log_in(V5, "alice");
}

#[test]
fn a_file_that_is_not_right_changes_nothing() {
    let house = House::new(&user("alice", "allow = \"a\""));
    let mut alice = house.log_in(V5, "alice");
    for (text, expect) in [
        (
            "[[usr]]\n",
            "users.toml:1: unknown section [[usr]]; did you mean [[user]]?",
        ),
        ("[[user]\n", "users.toml:1: not valid TOML"),
    ] {
        let (status, body) = house.change(text);
        assert_eq!(status, 422);
        assert!(body.contains(expect), "{body}");
        alice.fence();
        assert_eq!(
            publish(&mut alice, "b", QoS::AtLeastOnce, false),
            ReasonCode::NotAuthorized
        );
        house.log_in(V5, "alice");
        alice = house.log_in(V5, "alice");
    }
    assert_eq!(house.count("waypost_users_reloads_failed_total"), 2);
    wait_for("the log", LIMIT, || {
        house
            .server
            .log()
            .contains("the users stay as they were")
            .then_some(())
    });
    // Nor does one that is gone.
    std::fs::remove_file(house.file()).unwrap();
    house.server.signal(Signal::HUP);
    house
        .server
        .wait_for_metric("waypost_users_reloads_failed_total", 3.0);
    alice.fence();
}

#[test]
fn sighup_reads_the_users_again() {
    let house = House::new(&user("alice", ""));
    let mut alice = house.log_in(V5, "alice");
    std::fs::write(house.file(), user("bob", "")).unwrap();
    house.server.signal(Signal::HUP);
    alice.expect_refused(ReasonCode::NotAuthorized);
    house.log_in(V5, "bob");
}

/// Goal: a password that was right when it was asked for, and is not when the answer comes, opens nothing. Method: a
/// check that takes long, and a change meanwhile.
#[test]
fn a_log_in_that_takes_longer_than_its_password_lives_is_refused() {
    let slow = |users: &str| users.replace("m=8,t=1,p=1", "m=262144,t=2,p=1");
    let house = House::new(&slow(&user("alice", "")));
    let mut client = RawClient::open(house.server.mqtt(), V5);
    client.send(&Packet::Connect(credentials(
        V5,
        "c",
        Some("alice"),
        Some("secret"),
    )));
    // Whatever the hash says: it is not that of a user any more.
    assert_eq!(
        house
            .change(&slow(&user_with_other_password("alice", "")))
            .0,
        200
    );
    assert_eq!(client.receive().conn_ack().reason.as_u8(), 0x86);
}

//! Several shards look like one.

use waypost_mqtt::{Property, PropertyBuffer, ReasonCode};

use super::world::{World, options, v3, v5};
use crate::{Limits, MailBatch};

fn two(seed: u64) -> World {
    World::seeded(2, Limits::default(), seed)
}

#[test]
fn a_batch_that_cannot_be_read_is_counted_and_harms_nothing() {
    let mut world = two(1);
    let p = world.connect(&v5("p").at(0));
    let s = world.connect(&v5("s").at(1));
    world.subscribe(s, "t", 1);
    world.post(0, 1, MailBatch::cut_short());
    while world.deliver_mail() {}
    assert_eq!(world.broker(1).counters().mail_malformed, 1);
    world.publish(p, "t", "x", 1);
    assert_eq!(world.take(s), ["PUBLISH q1 #1 t=x"]);
}

#[test]
fn a_publish_crosses_once_and_only_where_it_is_wanted() {
    let mut world = two(1);
    let p = world.connect(&v5("p").at(0));
    let a = world.connect(&v5("a").at(1));
    let b = world.connect(&v3("b").at(1));
    let c = world.connect(&v5("c").at(0));
    world.subscribe_with(a, &[("t/+", options(1))], 9);
    world.subscribe(b, "t/#", 2);
    world.subscribe(c, "t/1", 1);
    let mut properties = PropertyBuffer::new();
    properties
        .push(Property::UserProperty("k", "v"))
        .push(Property::MessageExpiryInterval(60));
    world.publish_with(p, "t/1", "x", 1, 5, false, &properties);
    let tail = "MessageExpiryInterval(60) UserProperty(\"k\", \"v\")";
    let shown = world.take(a);
    assert!(
        shown[0].starts_with("PUBLISH q1 #1 t/1=x")
            && shown[0].contains("SubscriptionIdentifier(9)"),
        "{shown:?}"
    );
    assert_eq!(world.take(b), ["PUBLISH q1 #1 t/1=x"]);
    assert_eq!(world.take(c).len(), 1, "{tail}");
    assert_eq!(world.broker(0).counters().publishes_forwarded, 1);
    world.publish(p, "u", "x", 0);
    assert_eq!(world.broker(0).counters().publishes_forwarded, 1);
    world.unsubscribe(a, "t/+");
    world.unsubscribe(b, "t/#");
    world.publish(p, "t/1", "x", 0);
    assert_eq!(world.broker(0).counters().publishes_forwarded, 1);
    assert_eq!(world.broker(0).shared_state()[0], 0);
    assert_eq!(world.broker(1).shared_state()[0], 1);
}

#[test]
fn suback_waits_for_every_shard() {
    let mut world = World::seeded(3, Limits::default(), 7);
    let s = world.connect(&v5("s").at(1));
    world.is_mail_held = true;
    assert!(world.subscribe(s, "t", 1).starts_with("no SUBACK"));
    let mut steps = 0;
    while world.deliver_mail() {
        steps += 1;
        let has_answer = !world.take_first(s, "SUBACK").starts_with("no SUBACK");
        assert_eq!(has_answer, steps == 4, "two questions, two answers");
    }
    assert_eq!(steps, 4, "nothing is retained: no owner is asked");
}

#[test]
fn a_client_id_is_one_session_on_all_shards() {
    for seed in 0..20 {
        let mut world = World::seeded(4, Limits::default(), seed);
        let ids = ["a", "b", "c", "d", "e"];
        for id in ids {
            let old = world.connect(&v5(id).at(1).persistent(100));
            world.subscribe(old, "t", 2);
            let (new, connack) = world.try_connect(&v5(id).at(2).persistent(100));
            assert_eq!(connack, "CONNACK 00 present", "{id}");
            assert_eq!(world.take(old), ["DISCONNECT 8E", "closed"]);
            let p = world.connect(&v5("p").at(3));
            world.publish(p, "t", "x", 2);
            assert_eq!(world.take(new), ["PUBLISH q2 #1 t=x"]);
            // In flight, queued and received: all of it moves.
            world.publish(new, "u", "mine", 2);
            world.ack(p, "PUBREL", 10);
            world.cut(new);
            world.publish(p, "t", "y", 1);
            let (back, connack) = world.try_connect(&v5(id).at(0).persistent(100));
            assert_eq!(connack, "CONNACK 00 present");
            assert_eq!(
                world.take(back),
                ["PUBLISH q2 #1 dup t=x", "PUBLISH q1 #2 t=y"]
            );
            world.publish(back, "u", "mine", 2);
            assert_eq!(world.take(back), ["PUBREC #10"]);
            assert!(world.broker(0).counters().publishes_repeated > 0);
            let (clean, connack) = world.try_connect(&v5(id).at(1));
            assert_eq!(connack, "CONNACK 00");
            world.cut(clean);
            world.cut(p);
        }
        for shard in 0..4 {
            let broker = world.broker(shard);
            assert_eq!(
                (
                    broker.sessions(),
                    broker.subscriptions(),
                    broker.shared_state()
                ),
                (0, 0, [0; 3]),
                "{shard}"
            );
            assert_eq!(broker.connections(), 0);
        }
    }
}

#[test]
fn another_user_gets_nothing_from_any_shard() {
    for seed in 0..8 {
        let mut world = two(seed);
        let alice = world.connect(&v5("x").at(0).persistent(100).user("alice"));
        for clean in [true, false] {
            let (_, connack) = world.try_connect(&v5("x").at(1).clean(clean).user("bob"));
            assert_eq!(connack, "CONNACK 87");
        }
        assert!(!world.is_closed(alice));
        let (_, connack) = world.try_connect(&v5("x").at(1).clean(false).user("alice"));
        assert_eq!(connack, "CONNACK 00 present");
    }
}

#[test]
fn claims_for_one_id_run_one_after_another() {
    for seed in 0..50 {
        let mut world = World::seeded(3, Limits::default(), seed);
        world.is_mail_held = true;
        let clients: Vec<_> = (0..6)
            .map(|n| {
                let client = world.open_at(n % 3);
                world.send_connect(
                    client,
                    &v5("x").at(n % 3).persistent(u32::from(seed % 2 == 0) * 100),
                );
                client
            })
            .collect();
        // One of them gives up while it waits.
        world.cut(clients[2]);
        world.is_mail_held = false;
        world.settle();
        let open: Vec<_> = clients
            .iter()
            .filter(|client| !world.is_closed(**client))
            .collect();
        assert_eq!(open.len(), 1, "seed {seed}");
        let sessions: usize = (0..3).map(|shard| world.broker(shard).sessions()).sum();
        assert_eq!(sessions, 1, "seed {seed}");
        let last = *open[0];
        assert!(!world.is_parked(last));
        world.disconnect(last, ReasonCode::Success);
        world.advance(200_000);
        for shard in 0..3 {
            let broker = world.broker(shard);
            assert_eq!(
                (broker.sessions(), broker.shared_state()),
                (0, [0; 3]),
                "seed {seed}"
            );
        }
    }
}

#[test]
fn wills_move_and_cancel_as_on_one_shard() {
    for seed in 0..8 {
        let mut world = two(seed);
        let watcher = world.connect(&v5("watcher").at(0));
        world.subscribe(watcher, "will", 1);
        let delayed = || {
            v5("x")
                .persistent(100)
                .will("will", "gone", 0, false)
                .will_with(Property::WillDelayInterval(10))
        };
        let client = world.connect(&delayed().at(0));
        world.cut(client);
        let client = world.connect(&delayed().at(1));
        world.advance(50_000);
        assert_eq!(world.take(watcher), [""; 0]);
        world.cut(client);
        world.advance(10_000);
        assert_eq!(world.take(watcher), ["PUBLISH q0 will=gone"]);
        world.connect(&delayed().at(1));
        world.connect(&v5("x").at(0));
        assert_eq!(
            world.take(watcher),
            ["PUBLISH q0 will=gone"],
            "clean start ends the session"
        );
    }
}

/// Goal: a client that disconnects and comes back at another shard at once is not taken for two. Method: its claim comes to
/// the old shard before that shard has read the DISCONNECT.
#[test]
fn a_disconnect_is_read_before_the_session_moves() {
    for seed in 0..8 {
        let mut world = World::seeded(3, Limits::default(), seed);
        let watcher = world.connect(&v5("watcher").at(2));
        world.subscribe(watcher, "will", 1);
        let client = |shard| {
            v5("x")
                .persistent(100)
                .will("will", "gone", 0, false)
                .at(shard)
        };
        let old = world.connect(&client(0));
        world.subscribe(old, "t", 1);
        world.publish(watcher, "t", "x", 1);
        assert_eq!(world.take(old), ["PUBLISH q1 #1 t=x"]);
        world.take(watcher);
        world.is_mail_held = true;
        let new = world.open_at(1);
        world.send_connect(new, &client(1));
        while world.deliver_mail() {}
        assert!(!world.is_closed(old));
        world.send_bytes(old, vec![0x40, 2, 0, 1]);
        world.send_bytes(old, vec![0xE0, 0]);
        world.is_mail_held = false;
        world.settle();
        assert_eq!(world.take(old), ["closed"], "no DISCONNECT 0x8E");
        assert_eq!(
            world.take(new),
            ["CONNACK 00 present"],
            "nothing is sent again"
        );
        assert_eq!(world.take(watcher), [""; 0]);
    }
}

#[test]
fn retained_messages_have_one_owner_and_reach_every_shard() {
    for seed in 0..8 {
        let mut world = World::seeded(3, Limits::default(), seed);
        let p = [0, 1, 2].map(|shard| world.connect(&v5(&format!("p{shard}")).at(shard)));
        for n in 0..30 {
            world.retain(p[n % 3], &format!("r/{n}"), "old", 0);
            world.retain(p[(n + 1) % 3], &format!("r/{n}"), &format!("new{n}"), 1);
        }
        let total: usize = (0..3).map(|shard| world.broker(shard).retained()).sum();
        assert_eq!(total, 30);
        for shard in 0..3 {
            let s = world.connect(&v5(&format!("s{shard}")).at(shard));
            world.subscribe_with(s, &[("r/+", options(0))], 3);
            let lines = world.take(s);
            assert_eq!(lines.len(), 30, "seed {seed}");
            assert!(lines.iter().all(|line| line.contains("retain")
                && line.contains("=new")
                && line.contains("Identifier(3)")));
            world.subscribe(s, "r/7", 0);
            assert_eq!(world.take(s), ["PUBLISH q0 retain r/7=new7"]);
            world.retain(p[2], "r/7", "live", 0);
            assert_eq!(
                world.take(s),
                ["PUBLISH q0 r/7=live SubscriptionIdentifier(3)"]
            );
            world.retain(p[0], "r/7", "new7", 0);
        }
        for n in 0..30 {
            world.retain(p[n % 3], &format!("r/{n}"), "", 0);
        }
        let total: usize = (0..3).map(|shard| world.broker(shard).retained()).sum();
        assert_eq!(total, 0);
    }
}

/// Goal: owners are asked for what they have, and no more once it is gone. Method: every way in which a retained
/// message stays, is replaced, refused and removed, between every pair of shards.
#[test]
fn what_is_retained_is_asked_for_until_it_is_gone() {
    let limits = Limits {
        retained_messages_max: 3,
        ..Limits::default()
    };
    let mut world = World::seeded(3, limits, 5);
    let clients = [0, 1, 2].map(|shard| world.connect(&v5(&format!("c{shard}")).at(shard)));
    let topics: Vec<_> = (0..20).map(|n| format!("a/{n}")).collect();
    let mut soon = PropertyBuffer::new();
    soon.push(Property::MessageExpiryInterval(1));
    for client in clients {
        for topic in &topics {
            world.retain(client, topic, "x", 0);
            world.retain(client, topic, "", 0);
            world.publish_with(client, topic, "y", 0, 0, true, &soon);
        }
    }
    let kept: usize = (0..3).map(|shard| world.broker(shard).retained()).sum();
    assert!((1..=9).contains(&kept), "{kept} retained, many refused");
    for client in clients {
        world.subscribe(client, "a/+", 0);
        assert_eq!(world.take(client).len(), kept);
        world.unsubscribe(client, "a/+");
    }
    assert!(world.broker(0).may_have_retained("a/+"));
    world.advance(2_000);
    for filter in topics.iter().map(String::as_str).chain(["a/+", "#"]) {
        assert!(!world.broker(0).may_have_retained(filter), "{filter}");
    }
}

/// Goal: a filter named in a publish is not taken for another that has its number now. Method: the first is
/// unsubscribed and the second subscribed while the publish is under way.
#[test]
fn filters_that_a_publish_names_are_trusted_only_while_nothing_changes() {
    let mut world = two(3);
    let p = world.connect(&v5("p").at(0));
    let [old, new] = ["old", "new"].map(|id| world.connect(&v5(id).at(1)));
    world.subscribe(old, "a/+", 0);
    world.publish(p, "a/1", "x", 0);
    assert_eq!(world.take(old), ["PUBLISH q0 a/1=x"]);
    world.is_mail_held = true;
    world.publish(p, "a/2", "y", 0);
    world.unsubscribe(old, "a/+");
    world.subscribe(new, "b/+", 0);
    world.is_mail_held = false;
    world.settle();
    assert_eq!(world.take(new), ["SUBACK #1 00"]);
    world.publish(p, "b/1", "z", 0);
    assert_eq!(world.take(new), ["PUBLISH q0 b/1=z"]);
    assert_eq!(world.broker(1).counters().publishes_from_shards, 3);
}

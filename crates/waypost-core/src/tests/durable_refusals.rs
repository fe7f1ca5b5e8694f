//! What the store refuses to take note of, and what ends meanwhile: nobody is told what is not so, and nothing of it is
//! left behind. The random clients of `durable_promises.rs` found each of these.

use waypost_mqtt::{PropertyBuffer, ReasonCode};

use super::world::{Client, Options, World, v5};
use crate::Limits;
use crate::journal::{Refusal, Table};

fn durable(client_id: &str) -> Options {
    v5(client_id).persistent(1_000)
}

fn publish(world: &mut World, client: Client, qos: u8, packet_id: u16, dup: bool) {
    world.publish_as(client, "t", &packet_id.to_string(), qos, packet_id, dup);
}

/// The store takes one transaction after the other, refusing these.
fn store(world: &mut World, refuses: &[bool]) {
    for is_refused in refuses {
        world.store.refuses = is_refused.then_some(Refusal::Full);
        assert!(world.store_step());
    }
    world.store.refuses = None;
}

fn settle(world: &mut World) {
    world.is_mail_held = false;
    world.is_store_held = false;
    world.settle();
}

/// Its shard has said that it is owed the message, and the publisher's shard writes that down after its end.
#[test]
fn a_session_that_ended_is_owed_nothing_by_who_asked_before() {
    for crashes in [false, true] {
        let mut world = World::with(2, Limits::default());
        let s = world.connect(&durable("s").at(1));
        world.subscribe(s, "t", 1);
        let p = world.connect(&v5("p"));
        world.is_mail_held = true;
        publish(&mut world, p, 1, 1, false);
        assert!(world.deliver_mail(), "the question");
        let mut buffer = PropertyBuffer::new();
        buffer.push(waypost_mqtt::Property::SessionExpiryInterval(0));
        world.disconnect_with(s, ReasonCode::Success, &buffer);
        if crashes {
            // The end is on disk, and then what it was owed.
            assert!(world.deliver_mail(), "the answer");
            world.settle();
            world.is_mail_held = false;
            world.crash_and_restore();
        }
        settle(&mut world);
        let left: usize = world.store.durable.queues.values().map(Vec::len).sum();
        assert_eq!(left, 0);
    }
}

/// 5 [MQTT-4.3.3-12]: PUBCOMP frees the identifier for the client; so it must be free here, whatever becomes of the note
/// that it was released.
#[test]
fn an_identifier_that_is_released_twice_is_free_only_once_that_is_kept() {
    let mut world = World::new();
    let p = world.connect(&durable("p"));
    let s = world.connect(&durable("s"));
    world.subscribe(s, "t", 1);
    publish(&mut world, p, 2, 7, false);
    assert_eq!(world.take(p), ["PUBREC #7"]);
    world.is_store_held = true;
    world.ack(p, "PUBREL", 7);
    let p = world.connect(&durable("p"));
    world.ack(p, "PUBREL", 7);
    assert_eq!(world.take(p), [""; 0]);
    store(&mut world, &[true, false]);
    assert_eq!(world.take(p), ["DISCONNECT 97", "closed"]);
    settle(&mut world);
    let (p, _) = world.try_connect(&durable("p"));
    world.ack(p, "PUBREL", 7);
    assert_eq!(world.take(p), ["PUBCOMP #7"]);
    assert!(
        !world
            .store
            .durable
            .rows
            .keys()
            .any(|row| row.0 == Table::RECEIVED)
    );
}

/// The answer to a repeat says what became of the first one, not of what came between.
#[test]
fn a_repeat_is_not_refused_with_what_it_waited_for() {
    let mut world = World::new();
    let s = world.connect(&durable("s"));
    world.subscribe(s, "t", 1);
    let p = world.connect(&durable("p"));
    world.is_store_held = true;
    publish(&mut world, p, 2, 7, false);
    let other = world.connect(&v5("other"));
    publish(&mut world, other, 1, 1, false);
    let again = world.open();
    world.send_connect(again, &durable("p"));
    publish(&mut world, again, 2, 7, true);
    store(&mut world, &[false]);
    world.take(again);
    while !world.store.is_idle() {
        store(&mut world, &[true]);
    }
    assert_eq!(world.take(again), ["PUBREC #7"]);
}

/// Of two SUBSCRIBEs with the same filter the first is refused.
#[test]
fn a_refused_subscribe_takes_nothing_from_a_later_one() {
    for refuses in [[true, false], [false, true], [true, true]] {
        let mut world = World::new();
        let s = world.connect(&durable("s"));
        let p = world.connect(&v5("p"));
        world.is_store_held = true;
        for _ in 0..2 {
            world.subscribe(s, "t", 1);
        }
        store(&mut world, &refuses);
        let told: Vec<_> = refuses
            .map(|is_refused| format!("SUBACK #1 {}", if is_refused { "97" } else { "01" }))
            .into();
        assert_eq!(world.take(s), told);
        settle(&mut world);
        publish(&mut world, p, 1, 1, false);
        let expect = usize::from(refuses != [true, true]);
        assert_eq!(world.take(s).len(), expect, "{refuses:?}");
    }
}

/// CONNACK of a session that begins promises that it is the one of its client, also after a crash.
#[test]
fn a_session_begins_once_that_is_on_disk() {
    for is_refused in [false, true] {
        let mut world = World::new();
        let s = world.connect(&durable("s"));
        world.subscribe(s, "t", 1);
        world.is_store_held = true;
        let mut buffer = PropertyBuffer::new();
        buffer.push(waypost_mqtt::Property::SessionExpiryInterval(0));
        world.disconnect_with(s, ReasonCode::Success, &buffer);
        let s = world.open();
        world.send_connect(s, &durable("s"));
        assert_eq!(world.take(s), [""; 0]);
        // The end of the first one is refused all the same.
        store(&mut world, &[true, is_refused]);
        if is_refused {
            assert_eq!(world.take(s), ["CONNACK 97", "closed"]);
            assert_eq!(world.broker(0).sessions(), 0);
        } else {
            assert_eq!(world.take(s), ["CONNACK 00"]);
            world.is_store_held = false;
            world.crash_and_restore();
            settle(&mut world);
            let (s, connack) = world.try_connect(&durable("s"));
            assert_eq!(connack, "CONNACK 00 present");
            let p = world.connect(&v5("p"));
            publish(&mut world, p, 1, 1, false);
            assert_eq!(world.take(s), [""; 0], "the subscription of the first");
            assert_eq!(world.store.durable.rows.len(), 1, "of the first one");
        }
    }
}

/// The store is told again of the end of a session when it works.
#[test]
fn an_end_that_was_refused_is_written_down_when_the_store_works() {
    let mut world = World::new();
    let s = world.connect(&durable("s"));
    world.subscribe(s, "t", 1);
    world.store.refuses = Some(Refusal::Failed);
    let mut buffer = PropertyBuffer::new();
    buffer.push(waypost_mqtt::Property::SessionExpiryInterval(0));
    world.disconnect_with(s, ReasonCode::Success, &buffer);
    assert_eq!(world.broker(0).sessions(), 0);
    world.store.refuses = None;
    world.connect(&durable("other"));
    world.crash_and_restore();
    settle(&mut world);
    let (_, connack) = world.try_connect(&durable("s"));
    assert_eq!(connack, "CONNACK 00");
}

/// An identifier of a session that ended is refused late: the next session of the client, in the same place, uses it.
#[test]
fn a_late_refusal_frees_no_identifier_of_the_next_session() {
    let mut world = World::new();
    let s = world.connect(&durable("s"));
    world.subscribe(s, "t", 1);
    let p = world.connect(&v5("p"));
    world.is_store_held = true;
    publish(&mut world, p, 2, 7, false);
    let p = world.connect(&v5("p"));
    publish(&mut world, p, 2, 7, false);
    store(&mut world, &[true, false]);
    assert_eq!(world.take(p), ["PUBREC #7"]);
    publish(&mut world, p, 2, 7, true);
    settle(&mut world);
    assert_eq!(world.take(p), ["PUBREC #7"]);
    assert_eq!(world.broker(0).counters().publishes_repeated, 1);
}

/// UNSUBACK with "no subscription existed" promises that there is none, also after a crash.
#[test]
fn an_unsubscribe_that_was_refused_can_be_said_again() {
    let mut world = World::new();
    let s = world.connect(&durable("s"));
    world.subscribe(s, "t", 1);
    world.store.refuses = Some(Refusal::Full);
    assert_eq!(world.unsubscribe(s, "t"), "UNSUBACK #2 80");
    world.store.refuses = None;
    assert_eq!(world.unsubscribe(s, "t"), "UNSUBACK #2 11");
    world.crash_and_restore();
    let (s, _) = world.try_connect(&durable("s"));
    let p = world.connect(&v5("p"));
    publish(&mut world, p, 1, 1, false);
    assert_eq!(world.take(s), [""; 0]);
}

//! Delayed messages and a store that refuses: nothing is lost, and nothing comes twice that may not.

use super::delayed::{LATE_MS, check_nothing_waits, counter, named, properties};
use super::durable_publish::policies;
use super::world::{Client, World, v3, v5};
use crate::Limits;
use crate::journal::Refusal;

fn refuse(world: &mut World) {
    world.store.refuses = Some(Refusal::Full);
}

fn allow(world: &mut World) {
    world.store.refuses = None;
    // It is tried again after a while.
    world.advance(2_000);
}

/// Its publisher is told, and it does not come.
#[test]
fn one_that_is_not_kept_does_not_come() {
    for shards in [1, 2] {
        for qos in 0..3 {
            let mut world = World::with(shards, Limits::default());
            let s = world.connect(&v5("s"));
            world.subscribe(s, "t", 0);
            let p = world.connect(&v5("p").at(usize::from(shards) - 1));
            let old = world.connect(&v3("old").at(usize::from(shards) - 1));
            refuse(&mut world);
            world.publish(p, "$delayed/5/t", "x", qos);
            world.publish(old, "$delayed/5/t", "x", qos);
            let expect = ["", "PUBACK #10 97", "PUBREC #10 97"][usize::from(qos)];
            assert_eq!(world.take(p).concat(), expect);
            assert_eq!(
                world.take(old).concat(),
                if qos > 0 { "closed" } else { "" }
            );
            allow(&mut world);
            if qos == 2 {
                // The identifier is free.
                world.publish(p, "t", "y", 2);
                assert_eq!(world.take(p), ["PUBREC #10"]);
                assert_eq!(world.take(s), ["PUBLISH q0 t=y"]);
            }
            world.advance(10_000);
            assert_eq!(world.take(s), [""; 0]);
            check_nothing_waits(&world);
            assert_eq!(counter(&world, |of| of.delayed_released), 0);
        }
    }
}

fn acknowledge(world: &mut World, client: Client, qos: u8) {
    if qos == 2 {
        world.ack(client, "PUBREC", 1);
        world.ack(client, "PUBCOMP", 1);
    } else {
        world.ack(client, "PUBACK", 1);
    }
    world.take(client);
}

/// Goal: at its time the store refuses; it comes all the same once that works, to each durable session at QoS 2 once, and
/// a second time to nobody who was to get it once. Method: subscribers of every kind on one and two shards, and a start
/// after the end.
#[test]
fn one_that_cannot_be_taken_note_of_is_published_again() {
    for shards in [1, 2] {
        for policy in [None, Some(crate::Durability::Memory)] {
            let mut world = World::with(shards, Limits::default());
            if let Some(durability) = policy {
                world.adopt(&policies("t", durability));
            }
            let last = usize::from(shards) - 1;
            let kinds = [
                ("q0", v5("q0").at(last), 0),
                ("q1", v5("q1").at(last), 1),
                ("q2", v5("q2").at(last), 2),
                ("d0", v5("d0").persistent(1_000).at(last), 0),
                ("d2", v5("d2").persistent(1_000).at(last), 2),
            ];
            let clients = kinds.each_ref().map(|(_, options, qos)| {
                let client = world.connect(options);
                world.subscribe(client, "t", *qos);
                client
            });
            let away = world.connect(&v5("away").persistent(1_000));
            world.subscribe(away, "t", 2);
            world.cut(away);
            let member = world.connect(&v5("member"));
            world.subscribe(member, "$share/g/t", 2);
            let p = world.connect(&v5("p"));
            world.publish(p, "$delayed/5/t", "x", 2);
            world.advance(4_000);
            refuse(&mut world);
            world.advance(4_000);
            allow(&mut world);
            for (client, (name, _, qos)) in clients.into_iter().zip(&kinds) {
                let came = world.take(client);
                assert_eq!(
                    came.len(),
                    1,
                    "{shards} shards, {policy:?}, {name}: {came:?}"
                );
                acknowledge(&mut world, client, *qos);
            }
            assert_eq!(world.take(member).len(), 1);
            let away = world.connect(&v5("away").persistent(1_000));
            assert_eq!(world.take(away).len(), 1, "{shards} shards, {policy:?}");
            acknowledge(&mut world, away, 2);
            check_nothing_waits(&world);
            assert_eq!(counter(&world, |of| of.delayed_released), 1);
            world.crash_and_restore();
            world.advance(10_000);
            for id in ["d2", "away"] {
                let client = world.connect(&v5(id).persistent(1_000));
                assert_eq!(world.take(client), [""; 0], "{id}");
            }
        }
    }
}

/// The publisher is told that it could not be cancelled, and it comes.
#[test]
fn one_that_cannot_be_cancelled_comes() {
    for shards in [1, 2] {
        let mut world = World::with(shards, Limits::default());
        let s = world.connect(&v5("s"));
        world.subscribe(s, "t", 0);
        let p = world.connect(&v5("p").at(usize::from(shards) - 1));
        named(&mut world, p, "t", "one", 5, "x");
        refuse(&mut world);
        assert_eq!(named(&mut world, p, "t", "", 0, "x"), ["PUBACK #10 97"]);
        let empty = properties(&[("waypost-delay", "1"), ("waypost-delay-id", "x")]);
        world.publish_with(p, "t", "", 2, 11, false, &empty);
        assert_eq!(world.take(p), ["PUBREC #11 97"]);
        allow(&mut world);
        assert_eq!(world.broker(0).delayed(), 1);
        world.advance(5_000);
        assert_eq!(world.take(s), ["PUBLISH q0 t=one"]);
        assert_eq!(counter(&world, |of| of.delayed_cancelled), 0);
        // It can be tried again, with the same identifier.
        named(&mut world, p, "t", "two", 5, "x");
        world.publish_with(p, "t", "", 2, 11, false, &empty);
        assert_eq!(world.take(p), ["PUBREC #11"]);
        check_nothing_waits(&world);
    }
}

/// What was to be replaced by a message that is not kept waits on.
#[test]
fn one_whose_successor_is_not_kept_comes() {
    for shards in [1, 2] {
        let mut world = World::with(shards, Limits::default());
        let s = world.connect(&v5("s"));
        world.subscribe(s, "t", 0);
        let p = world.connect(&v5("p").at(usize::from(shards) - 1));
        named(&mut world, p, "t", "one", 5, "x");
        refuse(&mut world);
        assert_eq!(named(&mut world, p, "t", "two", 3, "x"), ["PUBACK #10 97"]);
        allow(&mut world);
        world.advance(10_000);
        assert_eq!(world.take(s), ["PUBLISH q0 t=one"]);
        assert_eq!(counter(&world, |of| of.delayed_replaced), 0);
        // And is known by its name.
        named(&mut world, p, "t", "three", 5, "x");
        refuse(&mut world);
        named(&mut world, p, "t", "four", 3, "x");
        allow(&mut world);
        assert_eq!(named(&mut world, p, "t", "", 0, "x"), ["PUBACK #10"]);
        check_nothing_waits(&world);
    }
}

/// Goal: the disk never has what was replaced and not what replaced it. Method: the store takes the new one and refuses to
/// delete the old one; the machine stops before, or after the new one was published.
#[test]
fn what_was_replaced_does_not_come_back() {
    for waits in [false, true] {
        let mut world = World::new();
        let s = world.connect(&v5("s").persistent(1_000_000));
        world.subscribe(s, "t", 2);
        let p = world.connect(&v5("p"));
        let name = [("waypost-delay", "50"), ("waypost-delay-id", "x")];
        world.publish_with(p, "t", "one", 2, 10, false, &properties(&name));
        world.is_store_held = true;
        let name = [("waypost-delay", "5"), ("waypost-delay-id", "x")];
        world.publish_with(p, "t", "two", 2, 11, false, &properties(&name));
        world.advance(5_000 - 1_000);
        assert!(world.store_step(), "the new one");
        refuse(&mut world);
        while world.store_step() {}
        world.is_store_held = false;
        if waits {
            allow(&mut world);
            world.advance(5_000);
        } else {
            world.store.refuses = None;
        }
        world.crash_and_restore();
        let s = world.connect(&v5("s").persistent(1_000_000));
        world.advance(100_000 + LATE_MS);
        let came = world.take(s);
        assert_eq!(came.len(), 1, "{waits}: {came:?}");
        assert!(came[0].ends_with("t=two"), "{waits}: {came:?}");
        check_nothing_waits(&world);
    }
}

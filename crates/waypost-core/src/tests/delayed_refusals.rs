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
            let limits = Limits {
                delayed_messages_max: 2,
                ..Limits::default()
            };
            let mut world = World::with(shards, limits);
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
            // There is room again.
            for id in ["a", "b"] {
                assert_eq!(named(&mut world, p, "t", "x", 5, id), ["PUBACK #10"]);
            }
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
/// delete the old one, with the new one's time already there; the machine stops, or the store works again.
#[test]
fn what_was_replaced_does_not_come_back() {
    for stops in [false, true] {
        let mut world = World::new();
        let s = world.connect(&v5("s").persistent(1_000_000));
        world.subscribe(s, "t", 2);
        let p = world.connect(&v5("p"));
        let name = [("waypost-delay", "50"), ("waypost-delay-id", "x")];
        world.publish_with(p, "t", "one", 2, 10, false, &properties(&name));
        world.is_store_held = true;
        let name = [("waypost-delay", "0"), ("waypost-delay-id", "x")];
        world.publish_with(p, "t", "two", 2, 11, false, &properties(&name));
        world.advance(LATE_MS);
        assert!(world.store_step(), "the new one");
        assert!(world.store_step(), "it is read");
        refuse(&mut world);
        assert!(world.store_step(), "the old one is to be deleted");
        world.store.refuses = None;
        if stops {
            while world.store_step() {}
            world.is_store_held = false;
            world.crash_and_restore();
        } else {
            world.is_store_held = false;
            allow(&mut world);
        }
        let s = world.connect(&v5("s").persistent(1_000_000));
        let came = world.take(s);
        assert_eq!(came.len(), 1, "{stops}: {came:?}");
        assert!(came[0].ends_with("t=two"), "{stops}: {came:?}");
        world.ack(s, "PUBREC", 1);
        world.ack(s, "PUBCOMP", 1);
        world.take(s);
        world.advance(100_000);
        assert_eq!(world.take(s), [""; 0], "{stops}");
        check_nothing_waits(&world);
    }
}

/// Its time comes while nobody knows yet whether what is to take its place is kept: it waits for that.
#[test]
fn one_that_may_be_replaced_waits() {
    for shards in [1, 2] {
        for is_kept in [false, true] {
            let mut world = World::with(shards, Limits::default());
            let s = world.connect(&v5("s"));
            world.subscribe(s, "t", 0);
            let p = world.connect(&v5("p").at(usize::from(shards) - 1));
            named(&mut world, p, "t", "one", 5, "x");
            world.advance(4_500);
            world.is_store_held = true;
            assert_eq!(named(&mut world, p, "t", "two", 9, "x"), [""; 0]);
            world.advance(1_000);
            assert_eq!(world.take(s), [""; 0]);
            if !is_kept {
                refuse(&mut world);
            }
            world.store_step();
            world.store.refuses = None;
            world.is_store_held = false;
            world.settle();
            let (answer, came): (_, &[_]) = if is_kept {
                ("PUBACK #10", &[])
            } else {
                ("PUBACK #10 97", &["PUBLISH q0 t=one"])
            };
            assert_eq!(world.take(p), [answer], "{shards} shards");
            assert_eq!(world.take(s), came, "{shards} shards");
            world.advance(9_000);
            let came = if is_kept {
                &["PUBLISH q0 t=two"][..]
            } else {
                &[]
            };
            assert_eq!(world.take(s), came);
            check_nothing_waits(&world);
        }
    }
}

/// A cancel at QoS 2 that comes again after a crash cancels nothing that came under the name since.
#[test]
fn a_cancel_that_comes_again_is_not_another_one() {
    for shards in [1, 2] {
        for has_one in [false, true] {
            let mut world = World::with(shards, Limits::default());
            let s = world.connect(&v5("s").persistent(1_000));
            world.subscribe(s, "t", 1);
            let at = usize::from(shards) - 1;
            let p = world.connect(&v5("p").persistent(1_000).at(at));
            if has_one {
                named(&mut world, p, "t", "one", 50, "x");
            }
            let name = properties(&[("waypost-delay", "0"), ("waypost-delay-id", "x")]);
            world.publish_with(p, "t", "", 2, 7, false, &name);
            assert_eq!(
                world.take(p),
                [if has_one { "PUBREC #7" } else { "PUBREC #7 10" }]
            );
            assert_eq!(named(&mut world, p, "t", "two", 50, "x"), ["PUBACK #10"]);
            world.crash_and_restore();
            let s = world.connect(&v5("s").persistent(1_000));
            let p = world.connect(&v5("p").persistent(1_000).at(at));
            world.publish_with(p, "t", "", 2, 7, false, &name);
            assert_eq!(world.take(p), ["PUBREC #7"]);
            world.ack(p, "PUBREL", 7);
            assert_eq!(world.take(p), ["PUBCOMP #7"]);
            world.advance(60_000);
            assert_eq!(world.take(s), ["PUBLISH q1 #1 t=two"]);
            check_nothing_waits(&world);
        }
    }
}

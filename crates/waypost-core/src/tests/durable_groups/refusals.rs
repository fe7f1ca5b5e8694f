//! Groups that are kept, while the store refuses: a full disk, or one that fails.

use super::handshake::{Back, Scene, check, check_arrivals};
use super::{FILTER, durable, far, groups, on_shards, owed, publish, take_all};
use crate::journal::Refusal;
use crate::tests::world::{World, v5};

/// How long after a refusal everything was tried again, in milliseconds.
const RETRIED_MS: u64 = 2_000;

/// Goal: a publisher is told that a message is not kept; a group is then owed it neither now nor after a crash, nobody
/// is sent it at `QoS` 2, and what is published instead comes once.
#[test]
fn what_is_refused_to_its_publisher_is_owed_to_no_group() {
    for why in [Refusal::Full, Refusal::Failed] {
        for is_away in [false, true] {
            on_shards(3, |world| {
                let publisher = world.connect(&far(world, v5("p")));
                let options = durable("m");
                let member = super::member(world, &options, 2);
                if is_away {
                    world.cut(member);
                }
                world.store.refuses = Some(why);
                let none = waypost_mqtt::PropertyBuffer::new();
                world.publish_with(publisher, "t", "0", 2, 1, false, &none);
                let reason = if why == Refusal::Full { "97" } else { "80" };
                assert_eq!(world.take(publisher), [format!("PUBREC #1 {reason}")]);
                world.store.refuses = None;
                world.advance(RETRIED_MS);
                publish(world, publisher, 1..3, 2);
                let member = if is_away {
                    world.connect(&options)
                } else {
                    member
                };
                assert_eq!(take_all(world, member), [1, 2]);
                assert_eq!(owed(world), 0);
                world.crash_and_restore();
                let member = world.connect(&options);
                assert_eq!(take_all(world, member), [0; 0]);
            });
        }
    }
}

/// Goal: whatever the store refuses while a message goes from its publisher to a member, it comes once if its publisher
/// was told that it is kept, and never twice; so it is after a crash. Method: for every number of steps the store refuses
/// from there on, for a while.
#[test]
fn a_refusal_at_any_step_makes_a_message_come_neither_twice_nor_never() {
    for shards in [1, 2, 4] {
        for has_plain in [false, true] {
            let mut has_ended = false;
            for steps in 0.. {
                for refused in [1, 4, 12] {
                    let says = format!(
                        "{shards} shards, plain {has_plain}, {refused} refused after {steps}"
                    );
                    let mut scene = Scene::new(shards, has_plain, 5);
                    scene.publish();
                    for _ in 0..steps {
                        has_ended = !scene.step();
                    }
                    scene.world.store.refuses = Some(Refusal::Full);
                    for _ in 0..refused {
                        scene.step();
                    }
                    scene.world.store.refuses = None;
                    retry(&mut scene);
                    // What was settled and refused is written with whatever comes next; here nothing does.
                    check_arrivals(&scene, Back::Everybody, has_plain, &says);
                    scene.world.restart(shards.into(), 1_000);
                    scene.come_back(Back::Everybody);
                    scene.run();
                    check(&scene, Back::Everybody, has_plain, &says);
                }
                if has_ended {
                    break;
                }
            }
        }
    }
}

/// The store works again: everything is tried again, and who was disconnected comes back.
fn retry(scene: &mut Scene) {
    scene.run();
    scene.world.advance(RETRIED_MS);
    scene.run();
    let is_closed = |world: &World, at: usize| world.is_closed(at);
    let wires = scene.members.iter().filter_map(|member| member.wire);
    if wires.clone().any(|wire| is_closed(&scene.world, wire)) {
        scene.come_back(Back::Everybody);
    }
    scene.run();
    scene.world.advance(RETRIED_MS);
    scene.run();
}

/// Goal: the row of a group that was refused is written once the store works: what the group is owed is found by it after
/// a crash. Method: of what a SUBSCRIBE writes down, the row of the group is refused and nothing else.
#[test]
fn the_row_of_a_group_is_tried_again() {
    let mut world = World::seeded(1, crate::Limits::default(), 1);
    let publisher = world.connect(&v5("p"));
    let options = durable("m");
    let m = world.connect(&options);
    world.is_store_held = true;
    world.subscribe(m, FILTER, 1);
    world.store.refuses = Some(Refusal::Full);
    world.store_step();
    world.store.refuses = None;
    world.is_store_held = false;
    world.cut(m);
    publish(&mut world, publisher, 0..4, 1);
    assert_eq!(groups(&world).len(), 1);
    assert_eq!(owed(&world), 4);
    world.crash_and_restore();
    let m = world.connect(&options);
    assert_eq!(take_all(&mut world, m), [0, 1, 2, 3]);
    assert_eq!(owed(&world), 0);
}

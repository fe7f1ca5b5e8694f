//! The ways of an ordinary day: connect, subscribe, publish at every quality of service.

use super::world::{World, v3, v5};

#[test]
fn a_message_goes_from_one_to_another_at_each_qos() {
    for (publisher, subscriber) in [
        (v3("p"), v3("s")),
        (v5("p"), v3("s")),
        (v3("p"), v5("s")),
        (v5("p"), v5("s")),
    ] {
        let mut world = World::new();
        let p = world.connect(&publisher);
        let s = world.connect(&subscriber);
        assert_eq!(world.subscribe(s, "a/+", 2), "SUBACK #1 02");

        world.publish(p, "a/b", "zero", 0);
        assert_eq!(world.take(s), ["PUBLISH q0 a/b=zero"]);
        assert_eq!(world.take(p), [""; 0]);

        world.publish(p, "a/b", "one", 1);
        assert_eq!(world.take(s), ["PUBLISH q1 #1 a/b=one"]);
        assert_eq!(world.take(p), ["PUBACK #10"]);
        world.ack(s, "PUBACK", 1);

        world.publish(p, "a/b", "two", 2);
        assert_eq!(world.take(s), ["PUBLISH q2 #2 a/b=two"]);
        world.ack(s, "PUBREC", 2);
        assert_eq!(world.take(s), ["PUBREL #2"]);
        world.ack(s, "PUBCOMP", 2);
        assert_eq!(world.take(p), ["PUBREC #10"]);
        world.ack(p, "PUBREL", 10);
        assert_eq!(world.take(p), ["PUBCOMP #10"]);
        assert_eq!(world.take(s), [""; 0]);
        assert_eq!(world.broker(0).messages_owed(), 0);
    }
}

//! By topic: all messages of a topic go to one member (weighted rendezvous hashing of the Topic Name, see `rendezvous.rs`),
//! which keeps their order while no member comes or goes. With `ordered` they keep it then too.

use super::rendezvous;
use crate::hash;
use crate::{Balance, Choice, Member, Request, Strategy};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "hash-topic",
    aliases: &["topic-hash", "rendezvous-topic"],
    summary: "the messages of a topic go to one member",
    source: "weighted rendezvous hashing (Thaler and Ravishankar 1998, Resch 2015)",
    new: |_| Box::new(HashTopic),
};

struct HashTopic;

impl Balance for HashTopic {
    fn choose(&mut self, members: &[Member], request: &Request<'_>) -> Choice {
        rendezvous::choose(members, hash::text(request.topic))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{REQUEST, joined};
    use super::*;

    #[test]
    fn a_topic_stays_with_its_member_whoever_publishes() {
        let mut strategy = (STRATEGY.new)(0);
        let mut members = joined(&mut *strategy, &[1; 8]);
        let request = |topic, publisher| Request {
            topic,
            publisher,
            ..REQUEST
        };
        let Choice::Now(at) = strategy.choose(&members, &request("a/b", 1)) else {
            panic!("all are ready");
        };
        assert_eq!(
            strategy.choose(&members, &request("a/b", 2)),
            Choice::Now(at)
        );
        members[at].is_ready = false;
        assert_eq!(
            strategy.choose(&members, &request("a/b", 2)),
            Choice::Later(at)
        );
        let topics = ["a", "b", "c", "d", "e", "f"];
        let others = topics.map(|topic| strategy.choose(&members, &request(topic, 1)));
        assert!(others.iter().any(|choice| *choice != others[0]));
    }
}

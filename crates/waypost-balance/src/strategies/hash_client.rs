//! By publisher: all messages of a client id go to one member (weighted rendezvous hashing, see `rendezvous.rs`). It needs no
//! memory, and a member that comes takes its share of the publishers; with `sticky` they stay.

use super::rendezvous;
use crate::hash::mix;
use crate::{Balance, Choice, Member, Request, Strategy};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "hash-client",
    aliases: &["client-hash", "rendezvous-client"],
    summary: "the messages of a publisher go to one member",
    source: "weighted rendezvous hashing (Thaler and Ravishankar 1998, Resch 2015)",
    new: |_| Box::new(HashClient),
};

struct HashClient;

impl Balance for HashClient {
    fn choose(&mut self, members: &[Member], request: &Request<'_>) -> Choice {
        rendezvous::choose(members, mix(request.publisher))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{REQUEST, joined};
    use super::*;

    #[test]
    fn a_publisher_stays_with_its_member_whatever_the_topic() {
        let mut strategy = (STRATEGY.new)(0);
        let mut members = joined(&mut *strategy, &[1; 8]);
        let request = |publisher, topic| Request {
            topic,
            publisher,
            ..REQUEST
        };
        let Choice::Now(at) = strategy.choose(&members, &request(1, "a")) else {
            panic!("all are ready");
        };
        assert_eq!(strategy.choose(&members, &request(1, "b")), Choice::Now(at));
        members[at].is_ready = false;
        assert_eq!(
            strategy.choose(&members, &request(1, "b")),
            Choice::Later(at)
        );
        let others = [2, 3, 4, 5, 6, 7].map(|id| strategy.choose(&members, &request(id, "a")));
        assert!(others.iter().any(|choice| *choice != others[0]));
    }
}

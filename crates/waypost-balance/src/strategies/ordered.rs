//! Ordered: the messages of a key (`waypost-key`, else the topic) are handled in their order. While something of a key is
//! given and not acknowledged, all of it goes to the member that has it, or waits for that; a key moves only once its old
//! owner has acknowledged everything of it or has left, as in Pulsar's `Key_Shared` subscriptions. A key of which nothing
//! is under way goes to its owner by weighted rendezvous hashing among the members with credit: so keys keep to their members
//! as long as these keep up, and a member that is slow holds up only the keys that it has.
//!
//! Keys are told apart by 16 bits of their hash: two keys of one slot have one owner and move together. So what is in
//! flight fits a table of at most [`SLOTS`] rows by construction, nothing is ever forgotten for want of room, and the table
//! is only as large as what is in flight. Messages at `QoS` 0 are never acknowledged: their order holds while members stay and have credit.
//!
//! A choice costs one look-up while something of the key is in flight, else a pass over all members.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::rendezvous::{bound_to, owner};
use super::sticky::position;
use crate::hash;
use crate::{Balance, Choice, Member, MemberId, Request, Strategy};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "ordered",
    aliases: &["key-ordered", "key-shared", "ordered-by-key"],
    summary: "the messages of a waypost-key (else topic) in order, whoever comes or goes",
    source: "weighted rendezvous hashing; keys move as in Pulsar's Key_Shared",
    new: |seed| Box::new(Ordered::new(seed)),
};

/// How many keys can be told apart.
const SLOTS: usize = 65_536;

/// Keys with one hash modulo [`SLOTS`].
type Slot = u16;

const _: () = assert!(SLOTS == 1 << Slot::BITS);

struct Ordered {
    in_flight: HashMap<Slot, Held, FixedState>,
    /// Counts the times a slot was taken: the upper bits of a token.
    terms: u64,
}

/// A slot of which something is in flight.
#[derive(Clone, Copy, Debug)]
struct Held {
    owner: MemberId,
    /// Where the owner was last found in the slice.
    at: usize,
    messages: u64,
    /// When it was taken: what was in flight before does not count.
    term: u64,
}

impl Ordered {
    fn new(seed: u64) -> Self {
        Self {
            in_flight: HashMap::with_hasher(FixedState::with_seed(seed)),
            terms: 0,
        }
    }
}

fn slot(request: &Request<'_>) -> Slot {
    let [.., high, low] = hash::text(request.key.unwrap_or(request.topic)).to_be_bytes();
    Slot::from_be_bytes([high, low])
}

impl Balance for Ordered {
    fn choose(&mut self, members: &[Member], request: &Request<'_>) -> Choice {
        let slot = slot(request);
        if let Some(held) = self.in_flight.get_mut(&slot)
            && let Some(at) = position(members, held.owner, held.at)
        {
            held.at = at;
            return bound_to(members, at);
        }
        owner(members, hash::mix(slot.into()), |member| member.is_ready)
            .map_or(Choice::Nobody, Choice::Now)
    }

    fn on_left(&mut self, id: MemberId) {
        self.in_flight.retain(|_, held| held.owner != id);
    }

    fn on_sent(&mut self, id: MemberId, request: &Request<'_>) -> u64 {
        let slot = slot(request);
        let terms = &mut self.terms;
        let taken = || {
            *terms += 1;
            Held {
                owner: id,
                at: 0,
                messages: 0,
                term: *terms,
            }
        };
        let held = self.in_flight.entry(slot).or_insert_with(taken);
        if held.owner != id {
            // Somebody who is back with what it had before, or who alone could have this one: the rest stays where it is.
            return token(0, slot);
        }
        held.messages += 1;
        token(held.term, slot)
    }

    fn on_done(&mut self, id: MemberId, token: u64, _: Option<u64>, _: u64) {
        let [.., high, low] = token.to_be_bytes();
        let slot = Slot::from_be_bytes([high, low]);
        if let Some(held) = self.in_flight.get_mut(&slot)
            && held.owner == id
            && self::token(held.term, slot) == token
        {
            held.messages -= 1;
            if held.messages == 0 {
                self.in_flight.remove(&slot);
            }
        }
    }
}

fn token(term: u64, slot: Slot) -> u64 {
    (term << Slot::BITS) | u64::from(slot)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{REQUEST, joined, member};
    use super::*;

    fn of_key(key: &str) -> Request<'_> {
        Request {
            key: Some(key),
            ..REQUEST
        }
    }

    fn owner_of(strategy: &mut dyn Balance, members: &[Member], key: &str) -> MemberId {
        match strategy.choose(members, &of_key(key)) {
            Choice::Now(at) | Choice::Later(at) => members[at].id,
            Choice::Nobody => panic!("there are members"),
        }
    }

    /// A key that the newcomer would take.
    fn contested(members: &[Member], newcomer: Member) -> String {
        let later = [members, &[newcomer]].concat();
        let mut strategy = (STRATEGY.new)(0);
        (0..10_000)
            .map(|n| format!("key-{n}"))
            .find(|key| owner_of(&mut *strategy, &later, key) == newcomer.id)
            .unwrap()
    }

    #[test]
    fn a_key_moves_only_when_its_owner_has_acknowledged_all_of_it() {
        let mut strategy = (STRATEGY.new)(0);
        let mut members = joined(&mut *strategy, &[1, 1, 1]);
        let newcomer = member(3, 1);
        let key = contested(&members, newcomer);
        let old = owner_of(&mut *strategy, &members, &key);
        let first = strategy.on_sent(old, &of_key(&key));
        members.push(newcomer);
        strategy.on_joined(&newcomer);
        assert_eq!(owner_of(&mut *strategy, &members, &key), old);
        let second = strategy.on_sent(old, &of_key(&key));
        strategy.on_done(old, first, Some(1), 1);
        assert_eq!(owner_of(&mut *strategy, &members, &key), old);
        strategy.on_done(old, second, None, 1);
        assert_eq!(owner_of(&mut *strategy, &members, &key), newcomer.id);
    }

    #[test]
    fn a_key_moves_when_its_owner_leaves_and_late_acknowledgements_count_for_nothing() {
        let mut strategy = (STRATEGY.new)(0);
        let mut members = joined(&mut *strategy, &[1, 1, 1]);
        let newcomer = member(3, 1);
        let key = contested(&members, newcomer);
        let old = owner_of(&mut *strategy, &members, &key);
        let late = strategy.on_sent(old, &of_key(&key));
        strategy.on_left(old);
        // The same slot joins again, and takes the key again.
        let again = strategy.on_sent(old, &of_key(&key));
        strategy.on_done(old, late, Some(1), 1);
        members.push(newcomer);
        strategy.on_joined(&newcomer);
        assert_eq!(owner_of(&mut *strategy, &members, &key), old);
        strategy.on_done(old, again, Some(1), 1);
        assert_eq!(owner_of(&mut *strategy, &members, &key), newcomer.id);
        // A token for a second time, or one that was never given.
        strategy.on_done(old, again, Some(1), 1);
        strategy.on_done(old, u64::MAX, Some(1), 1);
    }

    #[test]
    fn an_owner_without_credit_is_waited_for_while_it_has_something_of_the_key() {
        let mut strategy = (STRATEGY.new)(0);
        let mut members = joined(&mut *strategy, &[1, 1, 1]);
        let Choice::Now(at) = strategy.choose(&members, &of_key("k")) else {
            panic!("all are ready");
        };
        let first = strategy.on_sent(members[at].id, &of_key("k"));
        members[at].is_ready = false;
        assert_eq!(strategy.choose(&members, &of_key("k")), Choice::Later(at));
        let second = strategy.on_sent(members[at].id, &of_key("k"));
        strategy.on_done(members[at].id, first, Some(1), 1);
        assert_eq!(
            strategy.choose(&members, &of_key("k")),
            Choice::Later(at),
            "what waits for it counts"
        );
        strategy.on_done(members[at].id, second, Some(1), 1);
        let Choice::Now(other) = strategy.choose(&members, &of_key("k")) else {
            panic!("nothing of the key is under way, and two are ready");
        };
        assert_ne!(other, at);
        for member in &mut members {
            member.is_ready = false;
        }
        assert_eq!(strategy.choose(&members, &of_key("k")), Choice::Nobody);
        assert_eq!(strategy.choose(&[], &of_key("k")), Choice::Nobody);
    }

    #[test]
    fn without_a_key_the_topic_is_the_key() {
        let mut strategy = (STRATEGY.new)(0);
        let members = joined(&mut *strategy, &[1; 9]);
        let topic = |topic| Request { topic, ..REQUEST };
        for name in ["a", "b", "c"] {
            assert_eq!(
                strategy.choose(&members, &topic(name)),
                strategy.choose(&members, &of_key(name))
            );
        }
    }

    /// Goal: the table is only as large as what is in flight, and never beyond its slots. Method: 2 × 65,536 keys.
    #[test]
    fn the_table_is_bounded_by_its_slots() {
        let mut strategy = Ordered::new(0);
        let keys: Vec<_> = (0..2 * SLOTS).map(|n| n.to_string()).collect();
        let tokens: Vec<_> = keys
            .iter()
            .map(|key| strategy.on_sent(MemberId(0), &of_key(key)))
            .collect();
        assert!(strategy.in_flight.len() > SLOTS * 8 / 10);
        assert!(strategy.in_flight.len() <= SLOTS);
        for token in tokens {
            strategy.on_done(MemberId(0), token, Some(1), 1);
        }
        assert!(strategy.in_flight.is_empty());
    }
}

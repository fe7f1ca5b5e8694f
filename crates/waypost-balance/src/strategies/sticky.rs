//! Sticky: a publisher stays with one member until that leaves. When it is first heard it gets the ready member with the
//! fewest in flight ÷ weight, of equals the one with the fewest publishers ÷ weight: so publishers spread more evenly than by
//! hashing, and a member that joins takes only new ones, as many as it has time for.
//!
//! It remembers at most [`PUBLISHERS_MAX`] publishers. When that is full, one that was silent for long is forgotten (second
//! chance: the hand that goes round passes over whoever spoke since it came by last); heard again it is a new one.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::least_connections::load;
use super::rendezvous::bound_to;
use crate::roster::{Roster, Seat};
use crate::{Balance, Choice, Member, MemberId, Request, Strategy};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "sticky",
    aliases: &["sticky-publisher", "sticky-client"],
    summary: "a publisher stays with one member until it leaves",
    source: "as in EMQX's sticky, per publisher",
    new: |seed| Box::new(Sticky::new(seed)),
};

/// Publishers that one group remembers: below 1 MiB.
const PUBLISHERS_MAX: usize = 16_384;

struct Sticky {
    /// Where in `bonds` each publisher is.
    index: HashMap<u64, usize, FixedState>,
    bonds: Vec<Bond>,
    /// Where the hand that forgets publishers goes on.
    hand: usize,
    /// How many publishers each member has.
    publishers: Roster<u32>,
}

#[derive(Clone, Copy)]
struct Bond {
    publisher: u64,
    /// Its member; none while that has left and the publisher was not heard since.
    member: Option<MemberId>,
    /// Where the member was last found in the slice.
    at: usize,
    has_spoken: bool,
}

impl Sticky {
    fn new(seed: u64) -> Self {
        Self {
            index: HashMap::with_hasher(FixedState::with_seed(seed)),
            bonds: Vec::new(),
            hand: 0,
            publishers: Roster::default(),
        }
    }

    /// The member a publisher has, if it is still one.
    fn member_of(&mut self, members: &[Member], publisher: u64) -> Option<usize> {
        let bond = self.bonds.get_mut(*self.index.get(&publisher)?)?;
        bond.has_spoken = true;
        bond.at = position(members, bond.member?, bond.at)?;
        Some(bond.at)
    }

    fn bind(&mut self, publisher: u64, member: &Member, at: usize) {
        let bond = Bond {
            publisher,
            member: Some(member.id),
            at,
            has_spoken: true,
        };
        self.count(Some(member.id), 1);
        if let Some(place) = self.index.get(&publisher) {
            if let Some(known) = self.bonds.get_mut(*place) {
                *known = bond;
            }
        } else if self.bonds.len() < PUBLISHERS_MAX {
            self.index.insert(publisher, self.bonds.len());
            self.bonds.push(bond);
        } else {
            self.replace_a_silent_one(bond);
        }
    }

    fn replace_a_silent_one(&mut self, bond: Bond) {
        // Two rounds at most: the first takes every second chance away.
        for _ in 0..=2 * PUBLISHERS_MAX {
            let place = self.hand % PUBLISHERS_MAX;
            self.hand = place + 1;
            if let Some(known) = self.bonds.get_mut(place)
                && !std::mem::take(&mut known.has_spoken)
            {
                let forgotten = std::mem::replace(known, bond);
                self.index.remove(&forgotten.publisher);
                self.index.insert(bond.publisher, place);
                self.count(forgotten.member, -1);
                return;
            }
        }
    }

    fn count(&mut self, member: Option<MemberId>, change: i32) {
        if let Some(publishers) = member.and_then(|id| self.publishers.of(id)) {
            *publishers = publishers.saturating_add_signed(change);
        }
    }

    /// The ready member with the fewest in flight for its weight, of equals the one with the fewest publishers for its
    /// weight, then the one that joined first.
    fn emptiest(&mut self, members: &[Member]) -> Option<usize> {
        let seats = self.publishers.seats(members).iter().zip(members);
        let ready = seats.enumerate().filter(|(_, (_, member))| member.is_ready);
        let publishers =
            |seat: &Seat<u32>, other: &Member| u64::from(seat.state) * u64::from(other.weight);
        ready
            .min_by(|(_, (a_seat, a)), (_, (b_seat, b))| {
                let by_load = load(a).total_cmp(&load(b));
                by_load.then_with(|| publishers(a_seat, b).cmp(&publishers(b_seat, a)))
            })
            .map(|(at, _)| at)
    }
}

/// Where a member is in the slice, looking first where it was.
pub(super) fn position(members: &[Member], id: MemberId, was: usize) -> Option<usize> {
    if members.get(was).is_some_and(|member| member.id == id) {
        return Some(was);
    }
    members.iter().position(|member| member.id == id)
}

impl Balance for Sticky {
    fn choose(&mut self, members: &[Member], request: &Request<'_>) -> Choice {
        if let Some(at) = self.member_of(members, request.publisher) {
            return bound_to(members, at);
        }
        let Some(at) = self.emptiest(members) else {
            return Choice::Nobody;
        };
        if let Some(member) = members.get(at) {
            self.bind(request.publisher, member, at);
        }
        Choice::Now(at)
    }

    fn on_joined(&mut self, member: &Member) {
        self.publishers.joined(member.id);
    }

    fn on_left(&mut self, id: MemberId) {
        self.publishers.left(id);
        for bond in self.bonds.iter_mut().filter(|bond| bond.member == Some(id)) {
            bond.member = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{REQUEST, joined, member};
    use super::*;

    fn choose(strategy: &mut dyn Balance, members: &[Member], publisher: u64) -> Choice {
        let request = Request {
            publisher,
            ..REQUEST
        };
        strategy.choose(members, &request)
    }

    #[test]
    fn publishers_spread_by_weight_and_stay() {
        let mut strategy = (STRATEGY.new)(0);
        let mut members = joined(&mut *strategy, &[1, 2, 4]);
        let first: Vec<_> = (0..70)
            .map(|publisher| choose(&mut *strategy, &members, publisher))
            .collect();
        let share = |at| {
            first
                .iter()
                .filter(|choice| **choice == Choice::Now(at))
                .count()
        };
        assert_eq!([share(0), share(1), share(2)], [10, 20, 40]);
        // Who joins changes nothing for those who are known, and gets the new ones.
        members.push(member(9, 1));
        strategy.on_joined(&member(9, 1));
        for (publisher, before) in (0..).zip(&first) {
            assert_eq!(choose(&mut *strategy, &members, publisher), *before);
        }
        assert_eq!(choose(&mut *strategy, &members, 70), Choice::Now(3));
        // Load comes before the count of publishers.
        members[3].in_flight = 1;
        assert_eq!(choose(&mut *strategy, &members, 71), Choice::Now(0));
    }

    #[test]
    fn only_the_publishers_of_who_left_move() {
        let mut strategy = (STRATEGY.new)(0);
        let mut members = joined(&mut *strategy, &[1, 1, 1]);
        let of = |strategy: &mut dyn Balance, members: &[Member], publisher| match choose(
            strategy, members, publisher,
        ) {
            Choice::Now(at) => members[at].id.0,
            other => panic!("{other:?}"),
        };
        let before: Vec<_> = (0..9)
            .map(|publisher| of(&mut *strategy, &members, publisher))
            .collect();
        members.remove(0);
        strategy.on_left(MemberId(0));
        // Its slot is used again at once: the newcomer must not inherit.
        members.push(member(0, 1));
        strategy.on_joined(&member(0, 1));
        strategy.on_left(MemberId(0));
        members.pop();
        for (publisher, before) in (0..).zip(before) {
            let after = of(&mut *strategy, &members, publisher);
            assert!(before == 0 || before == after);
        }
    }

    #[test]
    fn a_busy_member_is_waited_for() {
        let mut strategy = (STRATEGY.new)(0);
        let mut members = joined(&mut *strategy, &[1, 1]);
        assert_eq!(choose(&mut *strategy, &members, 5), Choice::Now(0));
        members[0].is_ready = false;
        assert_eq!(choose(&mut *strategy, &members, 5), Choice::Later(0));
        assert_eq!(choose(&mut *strategy, &members, 6), Choice::Now(1));
        members[1].is_ready = false;
        assert_eq!(choose(&mut *strategy, &members, 7), Choice::Nobody);
    }

    /// The bound at N, N + 1 and 2N publishers: the table does not grow, whoever spoke lately is kept, and the counts of
    /// the members stay those of the table.
    #[test]
    fn the_table_stays_within_its_bound() {
        let mut strategy = Sticky::new(1);
        let mut members = joined(&mut strategy, &[1; 4]);
        let max = PUBLISHERS_MAX as u64;
        for publisher in 0..max {
            choose(&mut strategy, &members, publisher);
        }
        assert_eq!(strategy.bonds.len(), PUBLISHERS_MAX);
        // One more: all had spoken, so the hand takes every second chance and forgets publisher 0.
        choose(&mut strategy, &members, max);
        assert!(!strategy.index.contains_key(&0));
        let known = match choose(&mut strategy, &members, 1_000) {
            Choice::Now(at) => at,
            other => panic!("{other:?}"),
        };
        for publisher in max..2 * max - 1 {
            choose(&mut strategy, &members, publisher);
        }
        assert_eq!(strategy.bonds.len(), PUBLISHERS_MAX);
        assert_eq!(strategy.index.len(), PUBLISHERS_MAX);
        members[known].is_ready = false;
        assert_eq!(
            choose(&mut strategy, &members, 1_000),
            Choice::Later(known),
            "it spoke after the hand had passed, so it is remembered"
        );
        let counted: u32 = members
            .iter()
            .filter_map(|member| strategy.publishers.of(member.id).copied())
            .sum();
        assert_eq!(counted as usize, PUBLISHERS_MAX);
    }
}

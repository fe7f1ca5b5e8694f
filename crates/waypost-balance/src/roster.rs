//! What a strategy remembers of each member, in the order of the caller's slice.

use crate::{Member, MemberId};

/// A `T` for each member. The callbacks keep it in step with the slice; one that was left out shows in the length or at the
/// ends, and the next look puts it right.
#[derive(Debug, Default)]
pub(crate) struct Roster<T> {
    seats: Vec<Seat<T>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat<T> {
    pub id: MemberId,
    pub state: T,
}

impl<T: Copy + Default> Roster<T> {
    pub fn joined(&mut self, id: MemberId) {
        if self.position(id).is_none() {
            self.seats.push(Seat {
                id,
                state: T::default(),
            });
        }
    }

    /// Where it sat.
    pub fn left(&mut self, id: MemberId) -> Option<usize> {
        let at = self.position(id)?;
        self.seats.remove(at);
        Some(at)
    }

    /// What is remembered of one member.
    pub fn of(&mut self, id: MemberId) -> Option<&mut T> {
        let seat = self.seats.iter_mut().find(|seat| seat.id == id)?;
        Some(&mut seat.state)
    }

    /// The seats, one for each of `members`, in their order. Allocates only when the members changed.
    #[inline]
    pub fn seats(&mut self, members: &[Member]) -> &mut [Seat<T>] {
        let in_step = self.seats.len() == members.len()
            && self.seats.first().map(|seat| seat.id) == members.first().map(|member| member.id)
            && self.seats.last().map(|seat| seat.id) == members.last().map(|member| member.id);
        if !in_step {
            self.seat_anew(members);
        }
        &mut self.seats
    }

    #[cold]
    fn seat_anew(&mut self, members: &[Member]) {
        let before = std::mem::take(&mut self.seats);
        self.seats.extend(members.iter().map(|member| {
            let known = before.iter().find(|seat| seat.id == member.id);
            known.copied().unwrap_or(Seat {
                id: member.id,
                state: T::default(),
            })
        }));
    }

    fn position(&self, id: MemberId) -> Option<usize> {
        self.seats.iter().position(|seat| seat.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies::testing::member;

    #[test]
    fn seats_follow_the_slice_even_if_a_callback_was_left_out() {
        let mut roster = Roster::<u32>::default();
        let members = [member(5, 1), member(3, 1), member(9, 1)];
        for (seat, state) in roster.seats(&members).iter_mut().zip(1..) {
            seat.state = state;
        }
        let states = |roster: &mut Roster<u32>, members: &[Member]| -> Vec<u32> {
            let seats = roster.seats(members);
            seats.iter().map(|seat| seat.state).collect()
        };
        assert_eq!(states(&mut roster, &members), [1, 2, 3]);
        assert_eq!(roster.left(MemberId(3)), Some(1));
        assert_eq!(roster.left(MemberId(3)), None);
        assert_eq!(states(&mut roster, &[members[0], members[2]]), [1, 3]);
        roster.joined(MemberId(9));
        assert_eq!(states(&mut roster, &[members[2], members[0]]), [3, 1]);
        assert_eq!(states(&mut roster, &members), [1, 0, 3]);
    }
}

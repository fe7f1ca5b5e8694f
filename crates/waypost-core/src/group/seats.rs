//! Who is in a group: its members online, side by side as a strategy wants them, and those that are away.
//!
//! A member that unsubscribed with messages in flight stays among those away, *ended*, until it has finished them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use waypost_balance::{Choice, Member, MemberId};
use waypost_mqtt::QoS;

use super::membership::Room;
use super::message::Waiting;
use super::taking::Knew;
use super::{MemberKey, Seat};

/// A message sent to a member and not finished.
#[derive(Debug)]
pub(crate) struct Sent {
    pub number: u32,
    /// As it was sent.
    pub qos: QoS,
    /// What was known of the member.
    pub knew: Knew,
    pub since_ms: u64,
    /// The strategy's.
    pub token: u64,
    pub waiting: Waiting,
}

/// What the home shard knows of a member beyond what strategies see.
#[derive(Debug)]
pub(crate) struct Detail {
    pub key: MemberKey,
    pub seat: Seat,
    /// Its session's number for this subscription.
    pub membership: u32,
    pub client_id: Box<str>,
    pub qos: QoS,
    pub retain_as_published: bool,
    /// Subscription Identifier; 0 = none.
    pub identifier: u32,
    /// Messages it may have unacknowledged.
    pub credit: u32,
    /// Its shard takes only deliveries that were sent with what it knows itself.
    pub knew: Knew,
    pub room: Room,
    /// Its session outlives its connection.
    pub is_durable: bool,
    /// It unsubscribed, and finishes what was begun.
    pub is_ended: bool,
    /// Bytes sent at `QoS` 0 that were not seen to leave.
    pub bytes: u64,
    /// In the order of their numbers, but for what came from elsewhere.
    pub in_flight: VecDeque<Sent>,
    /// What only this member may have.
    pub kept: VecDeque<Waiting>,
}

impl Detail {
    /// It is owed messages though it is away, whatever becomes of the process.
    fn is_owed(&self) -> bool {
        self.is_durable && self.qos != QoS::AtMostOnce
    }

    /// Keeps a message for this member, in the group's order.
    pub fn keep(&mut self, waiting: Waiting) {
        let at = self.kept.partition_point(|kept| kept.order < waiting.order);
        self.kept.insert(at, waiting);
    }
}

#[derive(Default)]
pub(crate) struct Seats {
    members: Vec<Member>,
    /// Beside `members`.
    details: Vec<Detail>,
    away: BTreeMap<MemberId, (Member, Detail)>,
    /// Of those away, who has something in flight and has not ended.
    holding: BTreeSet<MemberId>,
    /// Where a member online is, by its id.
    places: Vec<u32>,
    free: Vec<MemberId>,
    /// Members by the `QoS` granted them.
    granted: [usize; 3],
    /// Members that are owed messages though they are away, whatever becomes of the process.
    durable: usize,
}

/// The place of a member that is not online.
const NOWHERE: u32 = u32::MAX;

impl Seats {
    /// The members online, as strategies see them, and what belongs to each.
    #[inline]
    pub fn online(&self) -> (&[Member], &[Detail]) {
        (&self.members, &self.details)
    }

    /// Members, online or not.
    pub fn count(&self) -> usize {
        self.granted.iter().sum()
    }

    /// The highest `QoS` granted to any of them.
    pub fn qos_max(&self) -> QoS {
        match self.granted {
            [_, 0, 0] => QoS::AtMostOnce,
            [_, _, 0] => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        }
    }

    /// Whether any of them is owed messages though it is away, whatever becomes of the process.
    pub fn has_durable(&self) -> bool {
        self.durable > 0
    }

    #[inline]
    pub fn online_at(&self, id: MemberId) -> Option<usize> {
        let at = *self.places.get(id.0 as usize)?;
        (at != NOWHERE).then_some(at as usize)
    }

    #[inline]
    pub fn id_at(&self, at: usize) -> Option<MemberId> {
        Some(self.members.get(at)?.id)
    }

    #[inline]
    pub fn detail_at(&self, at: usize) -> Option<&Detail> {
        self.details.get(at)
    }

    #[inline]
    pub fn detail_at_mut(&mut self, at: usize) -> Option<&mut Detail> {
        self.details.get_mut(at)
    }

    #[inline]
    pub fn is_ready(&self, at: usize) -> bool {
        self.members.get(at).is_some_and(|member| member.is_ready)
    }

    /// A member, wherever it is.
    pub fn detail(&self, id: MemberId) -> Option<&Detail> {
        match self.online_at(id) {
            Some(at) => self.details.get(at),
            None => self.away.get(&id).map(|(_, detail)| detail),
        }
    }

    pub fn detail_mut(&mut self, id: MemberId) -> Option<&mut Detail> {
        match self.online_at(id) {
            Some(at) => self.details.get_mut(at),
            None => self.away.get_mut(&id).map(|(_, detail)| detail),
        }
    }

    /// Nobody is in it, and nobody who left has anything to finish.
    pub fn is_vacant(&self) -> bool {
        self.members.is_empty() && self.away.is_empty()
    }

    pub fn client_id(&self, id: MemberId) -> Option<Box<str>> {
        Some(self.detail(id)?.client_id.clone())
    }

    #[inline]
    pub fn bytes(&self, at: usize) -> u64 {
        self.details.get(at).map_or(0, |detail| detail.bytes)
    }

    /// Says how many bytes are in a member's outbox. Returns who it is if there were none before.
    #[inline]
    pub fn set_bytes(&mut self, at: usize, bytes: u64) -> Option<MemberId> {
        let (member, detail) = (self.members.get_mut(at)?, self.details.get_mut(at)?);
        let was_idle = std::mem::replace(&mut detail.bytes, bytes) == 0;
        member.in_flight = detail.in_flight.len() as u64 + bytes;
        (was_idle && bytes > 0).then_some(member.id)
    }

    /// A member comes; it is away.
    pub fn add(&mut self, mut member: Member, detail: Detail) -> MemberId {
        let id = self.free.pop().unwrap_or_else(|| {
            self.places.push(NOWHERE);
            MemberId(u32::try_from(self.places.len() - 1).unwrap_or(NOWHERE))
        });
        member.id = id;
        self.grant(detail.qos, detail.is_owed(), 1);
        self.away.insert(id, (member, detail));
        id
    }

    fn grant(&mut self, qos: QoS, is_owed: bool, by: isize) {
        if let Some(count) = self.granted.get_mut(usize::from(u8::from(qos))) {
            *count = count.saturating_add_signed(by);
        }
        if is_owed {
            self.durable = self.durable.saturating_add_signed(by);
        }
    }

    /// A member's subscription changed. Returns what strategies see of it, if it is online.
    pub fn change(
        &mut self,
        id: MemberId,
        weight: u32,
        change: impl FnOnce(&mut Detail),
    ) -> Option<Member> {
        let detail = self.detail_mut(id)?;
        let before = (detail.qos, detail.is_owed());
        change(detail);
        let after = (detail.qos, detail.is_owed());
        self.grant(before.0, before.1, -1);
        self.grant(after.0, after.1, 1);
        if let Some((member, _)) = self.away.get_mut(&id) {
            member.weight = weight;
            return None;
        }
        let member = self.online_at(id).and_then(|at| self.members.get_mut(at))?;
        member.weight = weight;
        Some(*member)
    }

    /// A member's session outlives its connection from now on, or does so no more.
    pub fn set_durable(&mut self, id: MemberId, is_durable: bool) {
        let Some(detail) = self.detail_mut(id) else {
            return;
        };
        let before = detail.is_owed();
        detail.is_durable = is_durable;
        let (qos, after) = (detail.qos, detail.is_owed());
        if !detail.is_ended && before != after {
            self.grant(qos, before, -1);
            self.grant(qos, after, 1);
        }
    }

    /// A member is online: at the end of the line. Returns its place, unless it was there.
    pub fn come(&mut self, id: MemberId, credit: Option<u32>) -> Option<usize> {
        let (mut member, mut detail) = self.away.remove(&id)?;
        if detail.is_ended {
            self.away.insert(id, (member, detail));
            return None;
        }
        self.holding.remove(&id);
        detail.credit = credit.unwrap_or(detail.credit);
        detail.room = Room::default();
        detail.bytes = 0;
        member.shard = detail.seat.shard();
        let at = self.members.len();
        self.members.push(member);
        self.details.push(detail);
        self.set_place(id, u32::try_from(at).unwrap_or(NOWHERE));
        self.refresh(at);
        Some(at)
    }

    /// A member's session is somewhere else.
    pub fn seat(&mut self, id: MemberId, seat: Seat) -> Option<MemberKey> {
        let detail = self.detail_mut(id)?;
        detail.seat = seat;
        let key = detail.key;
        if let Some(member) = self.online_at(id).and_then(|at| self.members.get_mut(at)) {
            member.shard = seat.shard();
        }
        Some(key)
    }

    /// A member is away. Returns what was kept for it, if it was online.
    pub fn go(&mut self, id: MemberId) -> Option<VecDeque<Waiting>> {
        let at = self.online_at(id)?;
        let member = self.members.remove(at);
        let mut detail = self.details.remove(at);
        self.set_place(id, NOWHERE);
        for later in at..self.members.len() {
            if let Some(id) = self.id_at(later) {
                self.set_place(id, u32::try_from(later).unwrap_or(NOWHERE));
            }
        }
        let kept = std::mem::take(&mut detail.kept);
        if !detail.in_flight.is_empty() {
            self.holding.insert(id);
        }
        self.away.insert(id, (member, detail));
        Some(kept)
    }

    fn set_place(&mut self, id: MemberId, at: u32) {
        if let Some(place) = self.places.get_mut(id.0 as usize) {
            *place = at;
        }
    }

    /// A member that is away is in the group no more; it may have something to finish.
    pub fn end(&mut self, id: MemberId) {
        let Some((_, detail)) = self.away.get_mut(&id) else {
            return;
        };
        let was_ended = std::mem::replace(&mut detail.is_ended, true);
        let (qos, is_owed) = (detail.qos, detail.is_owed());
        let is_finished = detail.in_flight.is_empty();
        self.holding.remove(&id);
        if !was_ended {
            self.grant(qos, is_owed, -1);
        }
        if is_finished {
            self.away.remove(&id);
            self.free.push(id);
        }
    }

    /// Members that are away with something in flight, in the group still.
    pub fn absent(&self) -> Vec<MemberId> {
        self.holding.iter().copied().collect()
    }

    pub fn sent(&mut self, at: usize, sent: Sent) {
        if let Some(detail) = self.details.get_mut(at) {
            detail.in_flight.push_back(sent);
        }
        self.refresh(at);
    }

    /// A delivery is over. An ended member that has finished all is gone.
    pub fn finish(&mut self, id: MemberId, number: u32) -> Option<Sent> {
        let detail = self.detail_mut(id)?;
        let at = detail
            .in_flight
            .iter()
            .position(|sent| sent.number == number)?;
        let sent = detail.in_flight.remove(at)?;
        self.emptied(id);
        Some(sent)
    }

    /// Takes the deliveries out that `is_wanted` names.
    pub fn take_in_flight(&mut self, id: MemberId, is_wanted: impl Fn(&Sent) -> bool) -> Vec<Sent> {
        let Some(detail) = self.detail_mut(id) else {
            return Vec::new();
        };
        let mut taken = Vec::new();
        for sent in std::mem::take(&mut detail.in_flight) {
            if is_wanted(&sent) {
                taken.push(sent);
            } else {
                detail.in_flight.push_back(sent);
            }
        }
        self.emptied(id);
        taken
    }

    fn emptied(&mut self, id: MemberId) {
        if let Some(at) = self.online_at(id) {
            self.refresh(at);
        } else if let Some((_, detail)) = self.away.get(&id)
            && detail.in_flight.is_empty()
        {
            self.holding.remove(&id);
            if detail.is_ended {
                self.away.remove(&id);
                self.free.push(id);
            }
        }
    }

    /// A delivery of this knowledge came back.
    pub fn count_returned(&mut self, id: MemberId, knew: Knew) {
        if let Some(detail) = self.detail_mut(id)
            && detail.knew == knew
        {
            detail.knew.returned = knew.returned.wrapping_add(1);
        }
    }

    pub fn set_room(&mut self, id: MemberId, room: Room) {
        if let Some(at) = self.online_at(id) {
            if let Some(detail) = self.details.get_mut(at) {
                detail.room = room;
            }
            self.refresh(at);
        }
    }

    /// Somebody online other than these, ready if possible.
    pub fn choose_other_than(&self, these: &[MemberId]) -> Choice {
        let mut choice = Choice::Nobody;
        for (at, member) in self.members.iter().enumerate() {
            if these.contains(&member.id) {
                continue;
            }
            if member.is_ready {
                return Choice::Now(at);
            }
            if choice == Choice::Nobody {
                choice = Choice::Later(at);
            }
        }
        choice
    }

    fn refresh(&mut self, at: usize) {
        if let (Some(member), Some(detail)) = (self.members.get_mut(at), self.details.get(at)) {
            member.in_flight = detail.in_flight.len() as u64 + detail.bytes;
            let needs_window = detail.qos != QoS::AtMostOnce;
            let is_full = detail.room.is_slow || (detail.room.is_busy && needs_window);
            member.is_ready = !is_full && detail.in_flight.len() < detail.credit as usize;
        }
    }
}

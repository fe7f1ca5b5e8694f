//! One session per client id, on whatever shard its client comes in.
//!
//! `hash(client id) mod shards` is an id's *registrar*: it knows which shard has the session, and nothing more. A
//! shard with a CONNECT claims the id there and reads no more from that client until it is settled. The registrar
//! lets one claim for an id run at a time; a session elsewhere is asked to [`moving`](crate::moving). With one shard
//! nothing is asked.

use std::collections::{BTreeMap, VecDeque};

use waypost_mqtt::{Connect, Packet, ProtocolVersion, ReasonCode, Role, decode};

use crate::broker::Broker;
use crate::connect::Admission;
use crate::effects::{ConnectionId, Effects, Frame, Now, ShardId};
use crate::hash::shared_hash;
use crate::interest::post;
use crate::mail::{Claim, Mail, Settled};
use crate::waiting::{For, Waiting};

/// What this shard knows as a registrar, and the claims it made itself.
#[derive(Default)]
pub(crate) struct Registrar {
    entries: BTreeMap<Box<str>, Entry>,
    claims: BTreeMap<u64, Claimant>,
    claims_made: u64,
}

#[derive(Debug, Default)]
struct Entry {
    owner: Option<ShardId>,
    /// A claim runs; the others wait. Each of them holds a connection.
    is_busy: bool,
    waiting: VecDeque<Claim>,
}

/// Who waits for the end of a claim.
struct Claimant {
    client_id: Box<str>,
    /// `None`: gone meanwhile.
    connection: Option<ConnectionId>,
}

impl Registrar {
    /// Ids this shard is the registrar of.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The connection of a claim is gone.
    pub fn forget(&mut self, number: u64) {
        if let Some(claimant) = self.claims.get_mut(&number) {
            claimant.connection = None;
        }
    }
}

impl Broker {
    pub(crate) fn registrar_of(&self, client_id: &str) -> ShardId {
        ShardId(u16::try_from(shared_hash(client_id) % u64::from(self.shards)).unwrap_or(0))
    }

    /// Claims the client id of a CONNECT; the connection waits.
    pub(crate) fn claim(
        &mut self,
        id: ConnectionId,
        connect: &Connect<'_>,
        admission: Admission,
        frame: Frame<'_>,
        now: Now,
        out: &mut impl Effects,
    ) {
        let Admission {
            user,
            data,
            assigned,
            ..
        } = admission;
        let registrar = &mut self.registrar;
        registrar.claims_made += 1;
        let number = registrar.claims_made;
        let client_id: Box<str> = assigned.as_deref().unwrap_or(connect.client_id).into();
        registrar.claims.insert(
            number,
            Claimant {
                client_id: client_id.clone(),
                connection: Some(id),
            },
        );
        let claim = Claim {
            client_id,
            user: user.clone(),
            clean_start: connect.clean_start,
            shard: self.shard,
            number,
        };
        let mut waiting = Box::new(Waiting::new(For::Session, frame));
        waiting.user = user;
        waiting.data = data;
        waiting.assigned = assigned;
        waiting.claim = number;
        self.park(id, waiting, out);
        let registrar = self.registrar_of(&claim.client_id);
        if registrar == self.shard {
            self.handle_claim(claim, now, out);
        } else {
            post(registrar, Mail::Claim(claim), out);
        }
    }

    /// As registrar: a claim came.
    pub(crate) fn handle_claim(&mut self, claim: Claim, now: Now, out: &mut impl Effects) {
        let entry = self.registrar.entries.entry(claim.client_id.clone());
        // Of a session that was restored here there is no entry before the first claim.
        let entry = entry.or_insert_with(|| Entry {
            owner: self.sessions.find(&claim.client_id).map(|_| self.shard),
            ..Entry::default()
        });
        if entry.is_busy {
            entry.waiting.push_back(claim);
            return;
        }
        entry.is_busy = true;
        let owner = entry.owner;
        self.start_claim(claim, owner, now, out);
    }

    fn start_claim(
        &mut self,
        claim: Claim,
        owner: Option<ShardId>,
        now: Now,
        out: &mut impl Effects,
    ) {
        let (claimant, number) = (claim.shard, claim.number);
        match owner {
            Some(owner) if owner == self.shard && owner != claimant => {
                self.handle_yield(&claim, now, out);
            }
            Some(owner) if owner != claimant => post(owner, Mail::Yield(claim), out),
            _ if claimant == self.shard => self.handle_granted(number, now, out),
            _ => post(claimant, Mail::Granted { number }, out),
        }
    }

    /// As claimant: nobody else has the session, or it ended there.
    pub(crate) fn handle_granted(&mut self, number: u64, now: Now, out: &mut impl Effects) {
        let Some(Claimant {
            client_id,
            connection,
        }) = self.registrar.claims.remove(&number)
        else {
            return;
        };
        if let Some(id) = connection {
            self.resume_claimed(id, now, out);
        }
        let owner = if self.sessions.find(&client_id).is_some() {
            Settled::Here
        } else {
            Settled::Nobody
        };
        self.settle(client_id, owner, now, out);
    }

    /// As claimant: the session is another user's, or its end could not be written down.
    pub(crate) fn handle_refused(
        &mut self,
        number: u64,
        reason: ReasonCode,
        now: Now,
        out: &mut impl Effects,
    ) {
        let Some(Claimant {
            client_id,
            connection,
        }) = self.registrar.claims.remove(&number)
        else {
            return;
        };
        if let Some(id) = connection {
            out.read(id, true);
            let waiting = self
                .connections
                .get_mut(id)
                .and_then(|connection| connection.waiting.take());
            let user = waiting.and_then(|waiting| waiting.user);
            self.deny(id, &client_id, user.as_deref(), reason, now, out);
        }
        self.settle(client_id, Settled::AsBefore, now, out);
    }

    /// The connection whose claim came to its end goes on with its CONNECT.
    fn resume_claimed(&mut self, id: ConnectionId, now: Now, out: &mut impl Effects) {
        let waiting = self
            .connections
            .get_mut(id)
            .and_then(|connection| connection.waiting.take());
        let Some(Waiting {
            packet,
            user,
            data,
            assigned,
            ..
        }) = waiting.map(|waiting| *waiting)
        else {
            return;
        };
        out.read(id, true);
        if let Ok(Packet::Connect(connect)) = decode(&packet, ProtocolVersion::V5, Role::Client) {
            let admission = Admission {
                user,
                data,
                assigned,
                verdicts: Vec::new(),
            };
            let frame = Frame {
                bytes: &packet,
                shared: None,
            };
            self.attach(id, &connect, admission, frame, now, out);
        }
    }

    fn settle(&mut self, client_id: Box<str>, owner: Settled, now: Now, out: &mut impl Effects) {
        let registrar = self.registrar_of(&client_id);
        if registrar == self.shard {
            self.handle_settled(self.shard, &client_id, owner, now, out);
        } else {
            post(registrar, Mail::Settled { client_id, owner }, out);
        }
    }

    /// As registrar: a claim came to its end; the next one may run.
    pub(crate) fn handle_settled(
        &mut self,
        from: ShardId,
        client_id: &str,
        owner: Settled,
        now: Now,
        out: &mut impl Effects,
    ) {
        let Some(entry) = self.registrar.entries.get_mut(client_id) else {
            return;
        };
        match owner {
            Settled::Here => entry.owner = Some(from),
            Settled::Nobody => entry.owner = None,
            Settled::AsBefore => {}
        }
        entry.is_busy = false;
        if let Some(claim) = entry.waiting.pop_front() {
            entry.is_busy = true;
            let owner = entry.owner;
            self.start_claim(claim, owner, now, out);
        } else if entry.owner.is_none() {
            self.registrar.entries.remove(client_id);
        }
    }

    /// A session of this shard ended: its registrar forgets it.
    pub(crate) fn tell_ended(&mut self, client_id: Box<str>, out: &mut impl Effects) {
        if self.shards == 1 {
            return;
        }
        let registrar = self.registrar_of(&client_id);
        if registrar == self.shard {
            self.handle_ended(self.shard, &client_id);
        } else {
            post(registrar, Mail::Ended { client_id }, out);
        }
    }

    /// As registrar: the owner says that the session ended.
    pub(crate) fn handle_ended(&mut self, from: ShardId, client_id: &str) {
        let Some(entry) = self.registrar.entries.get_mut(client_id) else {
            return;
        };
        if entry.owner == Some(from) {
            entry.owner = None;
            if !entry.is_busy {
                self.registrar.entries.remove(client_id);
            }
        }
    }

    /// As claimant: the session has arrived whole, and the claim comes to its end.
    pub(crate) fn finish_claim(
        &mut self,
        number: u64,
        slot: u32,
        now: Now,
        out: &mut impl Effects,
    ) {
        let Some(Claimant {
            client_id,
            connection,
        }) = self.registrar.claims.remove(&number)
        else {
            return;
        };
        if let Some(id) = connection {
            self.resume_claimed(id, now, out);
        } else {
            // Its client is gone again: it is a session cut off now.
            self.members_away(slot, now, out);
            self.begin_absence(slot, now);
        }
        self.settle(client_id, Settled::Here, now, out);
        if connection.is_none() {
            // The rules may have changed while it was on its way.
            self.recheck_session(slot, now, out);
        }
    }
}

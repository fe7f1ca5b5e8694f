//! What must hold of groups, step by step and in the end.

use std::collections::BTreeSet;

use waypost_mqtt::ReasonCode;

use super::{Play, ROUNDS_MAX, Subject};
use crate::tests::group_promises::ledger::{GROUPS, Sent};
use crate::tests::world::World;

impl Play {
    fn is_held(&self, sent: &Sent) -> bool {
        let subject = &self.subjects[sent.subject];
        let has_session = subject.has_session && subject.session == sent.session;
        match sent.qos {
            2 => has_session,
            _ => subject.wire == Some(sent.wire),
        }
    }

    /// What every group owes and nobody has.
    pub fn waiting(&self) -> Vec<BTreeSet<(bool, usize)>> {
        (0..GROUPS.len())
            .map(|group| self.ledger.waiting(group, |sent| self.is_held(sent)))
            .collect()
    }

    /// After one step, with no mail under way.
    pub fn check_step(&mut self, before: &[BTreeSet<(bool, usize)>]) {
        let after = self.waiting();
        let is_member = |subject: &Subject, group: usize| {
            subject.has_session && subject.groups.contains_key(&group)
        };
        for (group, after) in after.iter().enumerate() {
            let has_members = self
                .subjects
                .iter()
                .any(|subject| is_member(subject, group));
            // An unsubscribed client that comes back may still be sent what was in flight to it.
            let lost = after.iter().find(|(_, number)| {
                let entry = &self.ledger.entries[&(group, *number)];
                !entry.sent.last().is_some_and(|last| {
                    let subject = &self.subjects[last.subject];
                    subject.has_session && subject.session == last.session
                })
            });
            if let Some(lost) = lost
                && !has_members
            {
                self.must(Err(format!(
                    "group {group} ended and lost {lost:?} without a word"
                )));
            }
            if self.has_affinity || !self.flavour.is_plain_clear {
                continue;
            }
            let idle = self
                .subjects
                .iter()
                .position(|subject| is_member(subject, group) && subject.is_idle());
            if let (Some(idle), Some(waits)) = (idle, after.first()) {
                self.must(Err(format!(
                    "group {group}: {waits:?} waits though {idle} is idle"
                )));
            }
            let first = before[group].intersection(after).next();
            for (_, number) in self.ledger.just_sent.iter().filter(|sent| sent.0 == group) {
                let entry = &self.ledger.entries[&(group, *number)];
                let rank = (entry.sent.len() == 1, *number);
                // What comes again to the client that had it was never anybody else's.
                if let Some(first) = first
                    && entry.is_owed
                    && entry.sent.last().is_some_and(|sent| !sent.dup)
                    && rank > *first
                {
                    self.must(Err(format!("group {group}: {rank:?} overtakes {first:?}")));
                }
            }
        }
        self.ledger.just_sent.clear();
    }

    /// Everybody comes back and takes everything: nothing is owed then.
    pub fn check_promises(&mut self) {
        self.note("everybody comes back".into());
        for at in 0..self.subjects.len() {
            let subject = &self.subjects[at];
            if subject.has_session && subject.wire.is_none() {
                self.connect_as(at, 0, false, subject.is_v5, true, 10_000);
            }
            if let Some(wire) = self.subjects[at].wire {
                self.world.stall(wire, false);
            }
        }
        for round in 0.. {
            self.must(if round > ROUNDS_MAX {
                Err("it does not come to rest".into())
            } else {
                Ok(())
            });
            self.read_all();
            if self.subjects.iter().all(|subject| subject.owed.is_empty()) {
                break;
            }
            for at in 0..self.subjects.len() {
                self.answer(at, 1, || false);
            }
        }
        self.must(self.ledger.check_all_ended());
        for (at, subject) in self.subjects.iter().enumerate() {
            let sorted = |list: &[(usize, u8)]| {
                let mut list = list.to_vec();
                list.sort_unstable();
                list
            };
            let expected = sorted(&subject.plain_expected);
            let received = sorted(&subject.plain_received);
            if subject.has_session && expected != received && !self.flavour.has_expiry {
                self.must(Err(format!(
                    "{at}'s plain subscription: {received:?}, not {expected:?}"
                )));
            }
        }
        let mut received = self.bystander_received.clone();
        received.sort_unstable();
        if received != (0..self.ledger.messages.len()).collect::<Vec<_>>() {
            self.must(Err(format!("the bystander got {received:?}")));
        }
        for publisher in 0..self.publishers.len() {
            for qos in 0..3 {
                let numbers: Vec<_> = self
                    .bystander_received
                    .iter()
                    .filter(|number| {
                        let message = &self.ledger.messages[**number];
                        (message.publisher, message.qos) == (publisher, qos)
                    })
                    .collect();
                if !numbers.is_sorted() {
                    self.must(Err(format!("the bystander got {numbers:?}")));
                }
            }
        }
        for shard in 0..self.world.shards() {
            let broker = self.world.broker(shard);
            let owed = broker.messages_owed() + broker.group_messages_waiting();
            if owed != 0 {
                self.must(Err(format!("shard {shard} still owes {owed} messages")));
            }
        }
    }

    /// Everybody leaves: what is owed is told, and nothing is left.
    pub fn check_nothing_left(&mut self) {
        self.note("everybody leaves".into());
        for at in 0..self.subjects.len() {
            self.connect_as(at, 0, true, true, false, 0);
            self.read_all();
            self.cut(at, true);
            self.read_all();
        }
        self.must(self.ledger.check_all_ended());
        self.check_counters();
        for wire in [self.watcher, self.bystander] {
            self.world.disconnect(wire, ReasonCode::Success);
        }
        for wire in self.publishers.clone() {
            self.world.disconnect(wire, ReasonCode::Success);
        }
        self.world.advance(1_000);
        let fresh = World::new().broker(0).index.nodes();
        for shard in 0..self.world.shards() {
            let broker = self.world.broker(shard);
            let left = [
                broker.sessions(),
                broker.connections(),
                broker.subscriptions(),
                broker.messages_owed(),
                broker.index.nodes() - fresh,
                broker.group_traces() + broker.groups() + broker.group_members(),
                usize::try_from(broker.counters().invariants_broken).unwrap(),
            ];
            let shared = broker.shared_state();
            if left != [0; 7] || shared != [0; 3] {
                self.must(Err(format!("shard {shard} keeps {left:?}, {shared:?}")));
            }
        }
        self.world.advance(20_000_000);
        for shard in 0..self.world.shards() {
            let timers = self.world.broker(shard).timers();
            if timers != 0 {
                self.must(Err(format!("shard {shard} keeps {timers} timers")));
            }
        }
    }

    /// What was dropped was told as often as it was counted.
    fn check_counters(&self) {
        for reason in [
            "refused",
            "max-deliveries",
            "queue-full",
            "expired",
            "session-ended",
        ] {
            let name = format!("group_dropped_{}", reason.replace('-', "_"));
            let counted: u64 = (0..self.world.shards())
                .flat_map(|shard| self.world.broker(shard).counters().rows())
                .filter_map(|(row, count)| (row == name).then_some(count))
                .sum();
            let told = self.ledger.told.get(reason).copied().unwrap_or(0);
            if counted != told {
                self.must(Err(format!("{reason}: {counted} counted, {told} told")));
            }
        }
    }
}

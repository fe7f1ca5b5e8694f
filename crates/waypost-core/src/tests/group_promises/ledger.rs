//! What every group owes for every message, seen from outside, and what became of it.
//!
//! A message at a group ends once: acknowledged, taken over, sent at `QoS` 0, refused, or dropped and told. Until then it
//! is with one client at most; at `QoS` 2 it never was with two. Not here: who is connected and what a test does.

use std::collections::{BTreeMap, BTreeSet};

use waypost_mqtt::{Filter, Topic};

use crate::tests::world::Client;

/// The groups of every play, as they are subscribed to, and their filters.
pub(super) const GROUPS: [(&str, &str); 6] = [
    ("$share/g/a/#", "a/#"),
    ("$share/h/a/#", "a/#"),
    ("$share/g/a/b/+", "a/b/+"),
    ("$queue/a/#", "a/#"),
    ("$share/late/+/b/#", "+/b/#"),
    ("$queue/x/#", "x/#"),
];

/// Where messages go: the number of the message is one more level, so that an event names exactly one.
pub(super) const PLACES: [&str; 3] = ["a", "a/b", "x/b"];

/// A published message.
pub(super) struct Published {
    pub topic: String,
    pub qos: u8,
    pub publisher: usize,
    pub key: Option<usize>,
}

/// One PUBLISH that a client saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub subject: usize,
    pub session: u32,
    pub wire: Client,
    pub qos: u8,
    pub packet_id: u16,
    pub dup: bool,
}

/// How a message ended at a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// PUBACK.
    Acknowledged,
    /// PUBREC: it is the client's.
    TakenOver,
    /// Sent at `QoS` 0.
    AtMostOnce,
    /// PUBACK or PUBREC of 0x80 or higher.
    Refused,
    /// Dropped, and told on `$events/group/dropped`.
    Told,
}

/// A message at a group.
#[derive(Default)]
pub(super) struct Entry {
    /// The group had a member when it was published: it may not vanish.
    pub is_owed: bool,
    pub sent: Vec<Sent>,
    pub end: Option<End>,
    /// A refusal was told.
    is_refusal_told: bool,
    /// The client that had it left the group, and finishes it. Its key may have moved on.
    is_left: bool,
}

pub(super) struct Ledger {
    pub messages: Vec<Published>,
    /// By group and message.
    pub entries: BTreeMap<(usize, usize), Entry>,
    by_topic: BTreeMap<String, usize>,
    /// `max_deliveries`, if it is the same throughout; 0 = for ever.
    pub deliveries_max: usize,
    /// Groups whose strategy keeps the order per key.
    pub is_ordered: bool,
    /// The last message that ended well, by group, publisher and key.
    last: BTreeMap<(usize, usize, usize), usize>,
    /// Groups and messages sent since this was emptied.
    pub just_sent: Vec<(usize, usize)>,
    /// Reasons that may be told.
    pub reasons: BTreeSet<&'static str>,
    pub told: BTreeMap<String, u64>,
}

pub(super) type Checked = Result<(), String>;

macro_rules! check {
    ($holds:expr, $($says:tt)*) => {
        if !$holds {
            return Err(format!($($says)*));
        }
    };
}

impl Ledger {
    pub fn new() -> Self {
        Self {
            messages: Vec::new(),
            entries: BTreeMap::new(),
            by_topic: BTreeMap::new(),
            deliveries_max: 0,
            is_ordered: false,
            last: BTreeMap::new(),
            just_sent: Vec::new(),
            reasons: BTreeSet::from(["refused", "session-ended"]),
            told: BTreeMap::new(),
        }
    }

    /// A message is about to be published; `is_owed` says of a group that it must not lose it.
    pub fn published(&mut self, message: Published, is_owed: impl Fn(usize) -> bool) {
        let number = self.messages.len();
        for (group, (_, filter)) in GROUPS.into_iter().enumerate() {
            if matches(filter, &message.topic) {
                let entry = Entry {
                    is_owed: message.qos > 0 && is_owed(group),
                    ..Entry::default()
                };
                self.entries.insert((group, number), entry);
            }
        }
        self.by_topic.insert(message.topic.clone(), number);
        self.messages.push(message);
    }

    /// A client got a PUBLISH; `is_open` says of a connection that the broker has not closed it.
    pub fn sent(
        &mut self,
        group: usize,
        number: usize,
        sent: Sent,
        is_open: impl Fn(Client) -> bool,
    ) -> Checked {
        let message = &self.messages[number];
        let Some(entry) = self.entries.get_mut(&(group, number)) else {
            return Err(format!("message {number} does not match group {group}"));
        };
        check!(
            entry.end.is_none(),
            "group {group} sends {number} to {sent:?} after its end: {:?}, {:?}",
            entry.end,
            entry.sent
        );
        let is_again = entry
            .sent
            .iter()
            .any(|before| (before.subject, before.session) == (sent.subject, sent.session));
        check!(
            is_again || !sent.dup,
            "DUP 1 to a client that never got {number} of group {group}: {sent:?}, {:?}",
            entry.sent
        );
        if let Some(last) = entry.sent.last() {
            let is_same = (last.subject, last.session) == (sent.subject, sent.session);
            check!(
                last.wire != sent.wire && !is_open(last.wire),
                "group {group} sends {number} to {sent:?}, and {last:?} may still acknowledge it"
            );
            check!(
                last.qos < 2 || is_same,
                "group {group} sends {number} at QoS 2 to two clients: {last:?}, {sent:?}"
            );
            check!(
                last.qos < 2 || sent.qos == 2 && sent.dup && sent.packet_id == last.packet_id,
                "group {group} begins {number} anew at QoS 2: {last:?}, {sent:?}"
            );
        }
        entry.sent.push(sent);
        // What comes again to the client that had it is MQTT's to repeat, not the group's.
        let deliveries = entry.sent.iter().filter(|sent| !sent.dup).count();
        check!(
            self.deliveries_max == 0 || deliveries <= self.deliveries_max,
            "group {group} delivers {number} {deliveries} times: {:?}",
            entry.sent
        );
        check!(
            sent.qos <= message.qos,
            "message {number} of QoS {} comes at {sent:?}",
            message.qos
        );
        self.just_sent.push((group, number));
        if sent.qos == 0 {
            entry.end = Some(End::AtMostOnce);
        }
        Ok(())
    }

    /// The broker handled a client's answer.
    pub fn ended(&mut self, group: usize, number: usize, end: End) -> Checked {
        let Some(entry) = self.entries.get_mut(&(group, number)) else {
            return Err(format!("message {number} does not match group {group}"));
        };
        check!(
            entry.end.is_none(),
            "message {number} of group {group} ends twice: {:?}, then {end:?}; {:?}",
            entry.end,
            entry.sent
        );
        entry.end = Some(end);
        let message = &self.messages[number];
        if self.is_ordered
            && end == End::Acknowledged
            && message.qos == 1
            && !entry.is_left
            && let Some(key) = message.key
        {
            let before = self.last.insert((group, message.publisher, key), number);
            check!(
                before < Some(number),
                "group {group}: key {key} has {number} after {before:?}"
            );
        }
        Ok(())
    }

    /// A client leaves a group, and finishes what it has.
    pub fn left(&mut self, group: usize, subject: usize) {
        for (_, entry) in self.entries.range_mut((group, 0)..(group + 1, 0)) {
            entry.is_left |= entry
                .sent
                .last()
                .is_some_and(|sent| sent.subject == subject);
        }
    }

    /// An event said that a message was dropped.
    pub fn told(&mut self, group: &str, filter: &str, topic: &str, reason: &str) -> Checked {
        *self.told.entry(reason.into()).or_default() += 1;
        let Some(&number) = self.by_topic.get(topic) else {
            return Err(format!("an event names {topic:?}, which nobody published"));
        };
        let name = if group.is_empty() {
            format!("$queue/{filter}")
        } else {
            format!("$share/{group}/{filter}")
        };
        let Some(group) = GROUPS.iter().position(|(known, _)| *known == name) else {
            return Err(format!("an event names group {name:?}"));
        };
        check!(
            self.reasons.contains(reason),
            "message {number} of group {group} is dropped for {reason:?}"
        );
        let Some(entry) = self.entries.get_mut(&(group, number)) else {
            return Err(format!("message {number} does not match group {group}"));
        };
        if reason == "refused" {
            check!(
                entry.end == Some(End::Refused) && !entry.is_refusal_told,
                "message {number} of group {group} was refused, says an event: {:?}",
                entry.end
            );
            entry.is_refusal_told = true;
            return Ok(());
        }
        check!(
            entry.end.is_none(),
            "message {number} of group {group} is dropped ({reason}) after its end: {:?}",
            entry.end
        );
        if reason == "max-deliveries" {
            check!(
                self.deliveries_max > 0,
                "given up without max_deliveries: {number} of group {group}"
            );
        }
        entry.end = Some(End::Told);
        Ok(())
    }

    /// What a group still owes: neither ended nor in the hands of a client that can answer, in the order in which it is
    /// to be sent: what was sent before comes first.
    pub fn waiting(
        &self,
        group: usize,
        is_held: impl Fn(&Sent) -> bool,
    ) -> BTreeSet<(bool, usize)> {
        self.entries
            .range((group, 0)..(group + 1, 0))
            .filter(|(_, entry)| {
                entry.is_owed
                    && entry.end.is_none()
                    && !entry.is_left
                    && !entry.sent.last().is_some_and(&is_held)
            })
            .map(|((_, number), entry)| (entry.sent.is_empty(), *number))
            .collect()
    }

    /// All has come to rest and everybody has taken everything.
    pub fn check_all_ended(&self) -> Checked {
        for ((group, number), entry) in &self.entries {
            check!(
                !entry.is_owed || entry.end.is_some(),
                "group {group} lost {number} (QoS {}): {:?}",
                self.messages[*number].qos,
                entry.sent
            );
            check!(
                entry.end != Some(End::Refused) || entry.is_refusal_told,
                "group {group}: the refusal of {number} was not told"
            );
        }
        Ok(())
    }
}

pub(super) fn matches(filter: &str, topic: &str) -> bool {
    Filter::parse(filter)
        .unwrap()
        .matches(Topic::parse(topic).unwrap())
}

//! Clients of groups, what the test knows of each, and what each does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use waypost_mqtt::{
    Filter, Packet, PacketId, Properties, Property, PropertyBuffer, ProtocolVersion, QoS,
    ReasonCode, Role, Subscribe, SubscriptionRequest, Unsubscribe, decode,
};

use super::ledger::{Checked, End, GROUPS, Ledger, PLACES, Published, Sent, matches};
use crate::Limits;
use crate::tests::promises::Dice;
use crate::tests::world::{Client, World, options, v3, v5};

/// What members subscribe to beside their groups, and the identifier of that.
const PLAIN: (&str, u32) = ("a/b/#", 100);
/// Keys of messages.
const KEYS: usize = 3;
/// Packets after which a client that takes everything has not come to an end.
const ROUNDS_MAX: usize = 2_000;
/// Lines of the script that a failure shows.
const SCRIPT_LINES: usize = 600;

/// What is done in one seed, so that what depends on it can be checked where it holds.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Flavour {
    pub shards: u16,
    /// Members do nothing that makes one look ready that is not: every step can be checked, not only the end.
    pub is_plain_clear: bool,
    /// Some subscribe at `QoS` 0.
    pub has_qos_0: bool,
    /// Some sessions end while they are away.
    pub has_short_sessions: bool,
    /// Some messages expire.
    pub has_expiry: bool,
    /// Mail is under way while things happen.
    pub is_storm: bool,
    /// The strategy changes now and then.
    pub has_changes: bool,
    /// The strategy at the beginning.
    pub strategy: &'static str,
}

/// An answer that a client has not sent yet, and the message at a group that it ends.
#[derive(Clone, Copy, Debug)]
struct Answer {
    kind: &'static str,
    packet_id: u16,
    about: Option<(usize, usize)>,
}

/// A client and what the test knows of its session.
#[derive(Default)]
pub(super) struct Subject {
    pub wire: Option<Client>,
    pub is_v5: bool,
    pub is_persistent: bool,
    expiry_s: u32,
    /// When the session ends if its client does not come back.
    ends_ms: Option<u64>,
    pub has_session: bool,
    /// Which of its sessions it has.
    session: u32,
    /// The only group of a client that sees no Subscription Identifiers.
    only: Option<usize>,
    pub groups: BTreeMap<usize, u8>,
    plain: Option<u8>,
    owed: VecDeque<Answer>,
    /// Packet Identifiers of the server that are not finished.
    unfinished: BTreeMap<u16, u8>,
    plain_expected: Vec<(usize, u8)>,
    plain_received: Vec<(usize, u8)>,
}

impl Subject {
    fn forget_session(&mut self) {
        self.has_session = false;
        self.groups.clear();
        self.plain = None;
        self.only = None;
        self.owed.clear();
        self.unfinished.clear();
        self.plain_expected.clear();
        self.plain_received.clear();
        self.ends_ms = None;
    }

    /// It could take a message at once.
    pub fn is_idle(&self) -> bool {
        self.wire.is_some() && self.owed.is_empty() && self.unfinished.is_empty()
    }

    fn version(&self) -> ProtocolVersion {
        if self.is_v5 {
            ProtocolVersion::V5
        } else {
            ProtocolVersion::V311
        }
    }
}

pub(super) struct Play {
    pub world: World,
    pub subjects: Vec<Subject>,
    pub ledger: Ledger,
    pub flavour: Flavour,
    /// A message may wait for one member while another is ready.
    pub has_affinity: bool,
    /// Whose every connection is or was, which of its sessions it belongs to, and its version.
    wires: BTreeMap<Client, (usize, u32, ProtocolVersion)>,
    publishers: Vec<Client>,
    watcher: Client,
    /// Subscribed to everything, always there.
    bystander: Client,
    bystander_received: Vec<usize>,
    pub seed: u64,
    script: VecDeque<String>,
    /// What every member got, in order, for comparison: who, group, message.
    pub history: Vec<(usize, usize, usize)>,
}

impl Play {
    pub fn new(flavour: Flavour, limits: Limits, subjects: usize, seed: u64) -> Self {
        let mut world = World::seeded(flavour.shards, limits, seed);
        let shard = |number: usize| number % usize::from(flavour.shards);
        let watcher = world.connect(&v5("watcher").at(shard(1)));
        world.subscribe(watcher, "$events/group/dropped", 1);
        let bystander = world.connect(&v5("bystander").at(shard(2)));
        world.subscribe(bystander, "#", 2);
        let publishers = (0..3)
            .map(|number| world.connect(&v5(&format!("publisher{number}")).at(shard(number))))
            .collect();
        Self {
            world,
            subjects: (0..subjects).map(|_| Subject::default()).collect(),
            ledger: Ledger::new(),
            flavour,
            has_affinity: false,
            wires: BTreeMap::new(),
            publishers,
            watcher,
            bystander,
            bystander_received: Vec::new(),
            seed,
            script: VecDeque::new(),
            history: Vec::new(),
        }
    }

    /// Fails the test with the seed and what was done last.
    #[track_caller]
    pub fn must(&self, checked: Checked) {
        if let Err(why) = checked {
            let script: Vec<_> = self.script.iter().map(String::as_str).collect();
            panic!(
                "{}\n\nseed {}, {:?}: {why}",
                script.join("\n"),
                self.seed,
                self.flavour
            );
        }
    }

    pub fn note(&mut self, line: String) {
        if self.script.len() == SCRIPT_LINES {
            self.script.pop_front();
        }
        self.script.push_back(line);
    }

    // -- what clients do --

    /// Connects anew, with the old connection still there or not.
    pub fn connect(&mut self, at: usize, shard: usize, dice: &mut Dice) {
        let subject = &self.subjects[at];
        let is_new = !(subject.has_session && subject.is_persistent) || dice.one_in(5);
        let is_v5 = if is_new {
            // Before MQTT 5 a session that outlives its connection cannot begin anew.
            !dice.one_in(4) || subject.has_session && subject.is_persistent
        } else {
            subject.is_v5
        };
        let is_persistent = if is_new { !dice.one_in(3) } else { true };
        let expiry_s = if self.flavour.has_short_sessions && dice.one_in(2) {
            3
        } else {
            10_000
        };
        self.connect_as(at, shard, is_new, is_v5, is_persistent, expiry_s);
    }

    pub fn connect_as(
        &mut self,
        at: usize,
        shard: usize,
        is_new: bool,
        is_v5: bool,
        is_persistent: bool,
        expiry_s: u32,
    ) {
        self.note(format!(
            "{at} connects at {shard}, new {is_new}, v5 {is_v5}, persistent {is_persistent} {expiry_s} s"
        ));
        self.read_all();
        self.leave_wire(at);
        let id = format!("client{at}");
        let options = if is_v5 { v5(&id) } else { v3(&id) };
        let options = if is_persistent {
            options.persistent(expiry_s)
        } else {
            options
        };
        // A session that is to outlive its connection can be begun anew, too (not before MQTT 5).
        let is_resumable = is_persistent && !(is_new && is_v5);
        let options = options.clean(!is_resumable).at(shard);
        let subject = &mut self.subjects[at];
        if !is_resumable || !subject.is_persistent {
            subject.forget_session();
        }
        subject.has_session = true;
        subject.is_v5 = is_v5;
        subject.is_persistent = is_persistent;
        subject.expiry_s = if is_v5 { expiry_s } else { u32::MAX };
        subject.ends_ms = None;
        let wire = self.world.open_at(shard);
        self.subjects[at].wire = Some(wire);
        let subject = &self.subjects[at];
        self.wires
            .insert(wire, (at, subject.session, subject.version()));
        self.world.send_connect(wire, &options);
    }

    /// The client forgets its connection; the broker may not know it yet.
    fn leave_wire(&mut self, at: usize) {
        let now_ms = self.world.now.monotonic_ms;
        let subject = &mut self.subjects[at];
        if subject.wire.take().is_some() {
            subject.ends_ms = Some(now_ms + 1_000 * u64::from(subject.expiry_s));
            if !subject.is_persistent {
                subject.forget_session();
            }
        }
        subject.owed.clear();
        // What was taken over and not released stays so; the rest comes again.
        subject.unfinished.clear();
    }

    pub fn cut(&mut self, at: usize, is_clean: bool) {
        if let Some(wire) = self.subjects[at].wire {
            self.note(format!("{at} goes, clean {is_clean}"));
            self.read_all();
            self.leave_wire(at);
            if is_clean && !self.world.is_parked(wire) {
                self.world.disconnect(wire, ReasonCode::Success);
            } else {
                self.world.cut(wire);
            }
        }
    }

    pub fn subscribe(&mut self, at: usize, group: usize, qos: u8, weight: u32) {
        let Some(wire) = self.subjects[at].wire else {
            return;
        };
        self.note(format!("{at} joins {group} at QoS {qos}, weight {weight}"));
        let mut properties = PropertyBuffer::new();
        if self.subjects[at].is_v5 {
            properties.push(Property::SubscriptionIdentifier(identifier(group)));
            properties.push(Property::UserProperty(
                "waypost-weight",
                &weight.to_string(),
            ));
        }
        self.send_subscribe(wire, GROUPS[group].0, qos, &properties);
        self.subjects[at].groups.insert(group, qos);
        self.subjects[at].only.get_or_insert(group);
    }

    fn send_subscribe(&mut self, wire: Client, filter: &str, qos: u8, properties: &PropertyBuffer) {
        let requests = [SubscriptionRequest {
            filter: Filter::parse(filter).unwrap(),
            options: options(qos),
        }];
        let packet_id = PacketId::new(1).unwrap();
        self.world.send(
            wire,
            &Packet::Subscribe(Subscribe::new(
                packet_id,
                properties.as_properties(),
                &requests,
            )),
        );
    }

    /// A client that cannot tell subscriptions apart stays with its first group; so does one whose window must not be
    /// filled by another group.
    pub fn may_join(&self, at: usize, group: usize) -> bool {
        let subject = &self.subjects[at];
        let may_have_several = subject.is_v5 && !self.flavour.is_plain_clear;
        subject.wire.is_some()
            && (may_have_several || subject.only.is_none_or(|only| only == group))
    }

    /// The broker reads what this client sends.
    pub fn is_served(&self, at: usize) -> bool {
        self.subjects[at]
            .wire
            .is_some_and(|wire| !self.world.is_parked(wire))
    }

    pub fn unsubscribe(&mut self, at: usize, group: usize) {
        let Some(wire) = self.subjects[at].wire else {
            return;
        };
        self.note(format!("{at} leaves {group}"));
        self.send_unsubscribe(wire, GROUPS[group].0);
        self.subjects[at].groups.remove(&group);
        self.ledger.left(group, at);
    }

    fn send_unsubscribe(&mut self, wire: Client, filter: &str) {
        let filters = [Filter::parse(filter).unwrap()];
        let packet_id = PacketId::new(2).unwrap();
        self.world.send(
            wire,
            &Packet::Unsubscribe(Unsubscribe::new(packet_id, Properties::EMPTY, &filters)),
        );
    }

    /// The plain subscription comes or goes.
    pub fn toggle_plain(&mut self, at: usize, qos: u8) {
        let Some(wire) = self.subjects[at].wire else {
            return;
        };
        if !self.subjects[at].is_v5 {
            return;
        }
        self.note(format!("{at} toggles its plain subscription, QoS {qos}"));
        if self.subjects[at].plain.take().is_some() {
            self.send_unsubscribe(wire, PLAIN.0);
        } else {
            let mut properties = PropertyBuffer::new();
            properties.push(Property::SubscriptionIdentifier(PLAIN.1));
            self.send_subscribe(wire, PLAIN.0, qos, &properties);
            self.subjects[at].plain = Some(qos);
        }
    }

    pub fn publish(&mut self, publisher: usize, place: usize, qos: u8, dice: &mut Dice) {
        let number = self.ledger.messages.len();
        let key = (!dice.one_in(4)).then(|| dice.below(KEYS));
        let expires = self.flavour.has_expiry && dice.one_in(4);
        let topic = format!("{}/{number}", PLACES[place]);
        self.note(format!(
            "{publisher} publishes {number} on {topic}, QoS {qos}, key {key:?}, expires {expires}"
        ));
        let mut properties = PropertyBuffer::new();
        if let Some(key) = key {
            properties.push(Property::UserProperty("waypost-key", &key.to_string()));
        }
        if expires {
            properties.push(Property::MessageExpiryInterval(2));
        }
        let (subjects, is_storm) = (&self.subjects, self.flavour.is_storm);
        let is_member = |subject: &Subject, group: usize| {
            subject.has_session && subject.groups.get(&group).is_some_and(|qos| *qos > 0)
        };
        let message = Published {
            topic: topic.clone(),
            qos,
            publisher,
            key,
        };
        self.ledger.published(message, |group| {
            // While mail is under way only the first groups have a member for certain.
            if is_storm {
                group < ANCHORS
            } else {
                subjects.iter().any(|subject| is_member(subject, group))
            }
        });
        for subject in &mut self.subjects {
            if let Some(granted) = subject.plain
                && subject.has_session
                && matches(PLAIN.0, &topic)
                && (qos.min(granted) > 0 || subject.wire.is_some())
            {
                subject.plain_expected.push((number, qos.min(granted)));
            }
        }
        let wire = self.publishers[publisher];
        let packet_id = 1 + u16::try_from(number % 60_000).unwrap();
        self.world.publish_with(
            wire,
            &topic,
            &number.to_string(),
            qos,
            packet_id,
            false,
            &properties,
        );
        if qos == 2 {
            self.world.ack(wire, "PUBREL", packet_id);
        }
    }

    /// Answers what came first, some of it with a refusal.
    pub fn answer(&mut self, at: usize, count: usize, refuses: impl Fn() -> bool) {
        for _ in 0..count {
            let Some(wire) = self.subjects[at].wire else {
                return;
            };
            if self.world.is_parked(wire) || self.world.is_closed(wire) {
                return;
            }
            let Some(answer) = self.subjects[at].owed.pop_front() else {
                return;
            };
            let Answer {
                kind,
                packet_id,
                about,
            } = answer;
            let is_refused = matches!(kind, "PUBACK" | "PUBREC")
                && about.is_some()
                && self.subjects[at].is_v5
                && refuses();
            self.note(format!(
                "{at} answers {kind} {packet_id} about {about:?}, refused {is_refused}"
            ));
            if let Some((group, number)) = about {
                let end = match kind {
                    _ if is_refused => Some(End::Refused),
                    "PUBACK" => Some(End::Acknowledged),
                    "PUBREC" => Some(End::TakenOver),
                    _ => None,
                };
                if let Some(end) = end {
                    let checked = self.ledger.ended(group, number, end);
                    self.must(checked);
                }
            }
            if is_refused || kind != "PUBREC" {
                self.subjects[at].unfinished.remove(&packet_id);
            } else {
                self.subjects[at].unfinished.insert(packet_id, 3);
            }
            let reason = if is_refused {
                ReasonCode::ImplementationSpecificError
            } else {
                ReasonCode::Success
            };
            self.world.ack_with(wire, kind, packet_id, reason);
            self.read_all();
        }
    }

    // -- what clients see --

    /// Everybody looks at what came, in the order in which it was sent.
    pub fn read_all(&mut self) {
        while let Some(wire) = self.world.arrivals.pop_front() {
            let Some(bytes) = self.world.take_one(wire) else {
                continue;
            };
            if wire == self.watcher {
                self.read_event(&bytes);
            } else if wire == self.bystander {
                self.read_bystander(&bytes);
            } else if let Some((at, session, version)) = self.wires.get(&wire).copied() {
                let packet = decode(&bytes, version, Role::Server).unwrap();
                self.read_packet(at, session, wire, version, &packet);
            }
        }
        for at in 0..self.subjects.len() {
            let is_closed = |wire: Client| self.world.is_closed(wire);
            if self.subjects[at].wire.is_some_and(is_closed) {
                // While mail is under way an older connection may come later, and win.
                self.must(if self.flavour.is_storm {
                    Ok(())
                } else {
                    Err(format!("the broker closed {at}"))
                });
                self.leave_wire(at);
            }
        }
    }

    fn read_packet(
        &mut self,
        at: usize,
        session: u32,
        wire: Client,
        version: ProtocolVersion,
        packet: &Packet<'_>,
    ) {
        let is_current = self.subjects[at].wire == Some(wire);
        match packet {
            Packet::Publish(publish) => {
                let packet_id = publish.packet_id.map_or(0, PacketId::value);
                let number: usize = std::str::from_utf8(publish.payload)
                    .unwrap()
                    .parse()
                    .unwrap();
                let mut identifiers = publish.properties.subscription_identifiers();
                let subject = &mut self.subjects[at];
                let found = identifiers.next();
                let checked = if identifiers.next().is_some() {
                    Err(format!("{at} gets two subscriptions in one: {publish:?}"))
                } else {
                    Ok(())
                };
                let group = match found {
                    Some(PLAIN_IDENTIFIER) => None,
                    Some(found) => Some(found as usize - 1),
                    None => subject.only,
                };
                let qos = u8::from(publish.qos);
                let is_known =
                    is_current && qos > 0 && subject.unfinished.insert(packet_id, qos).is_some();
                self.must(checked);
                self.must(if is_known {
                    Err(format!("{at}: {packet_id} is in use"))
                } else {
                    Ok(())
                });
                if is_current && qos > 0 {
                    let kind = if qos == 1 { "PUBACK" } else { "PUBREC" };
                    self.subjects[at].owed.push_back(Answer {
                        kind,
                        packet_id,
                        about: group.map(|group| (group, number)),
                    });
                }
                if let Some(group) = group {
                    let sent = Sent {
                        subject: at,
                        session,
                        wire,
                        qos,
                        packet_id,
                        dup: publish.dup,
                    };
                    self.note(format!("   {at} gets {number} of {group}: {sent:?}"));
                    let world = &self.world;
                    let checked = self
                        .ledger
                        .sent(group, number, sent, |wire| !world.is_closed(wire));
                    self.must(checked);
                    self.history.push((at, group, number));
                } else {
                    let received = &mut self.subjects[at].plain_received;
                    if !(publish.dup && received.contains(&(number, qos))) {
                        received.push((number, qos));
                    }
                }
            }
            Packet::PubRel(ack) if is_current => {
                let packet_id = ack.packet_id.value();
                self.subjects[at].unfinished.insert(packet_id, 3);
                self.subjects[at].owed.push_back(Answer {
                    kind: "PUBCOMP",
                    packet_id,
                    about: None,
                });
            }
            Packet::ConnAck(ack) => {
                if !ack.session_present {
                    self.subjects[at].session += 1;
                }
                let session = self.subjects[at].session;
                self.wires.insert(wire, (at, session, version));
            }
            Packet::SubAck(ack) => {
                let is_refused = ack.reasons.iter().any(ReasonCode::is_error);
                self.must(if is_refused {
                    Err(format!("{at}: {ack:?}"))
                } else {
                    Ok(())
                });
            }
            _ => {}
        }
    }

    fn read_bystander(&mut self, bytes: &[u8]) {
        let answer = match decode(bytes, ProtocolVersion::V5, Role::Server).unwrap() {
            Packet::Publish(publish) => {
                let number = std::str::from_utf8(publish.payload).unwrap();
                self.bystander_received.push(number.parse().unwrap());
                let kind = if publish.qos == QoS::AtLeastOnce {
                    "PUBACK"
                } else {
                    "PUBREC"
                };
                publish.packet_id.map(|id| (kind, id))
            }
            Packet::PubRel(ack) => Some(("PUBCOMP", ack.packet_id)),
            _ => None,
        };
        if let Some((kind, id)) = answer {
            self.world.ack(self.bystander, kind, id.value());
        }
    }

    fn read_event(&mut self, bytes: &[u8]) {
        if let Packet::Publish(publish) = decode(bytes, ProtocolVersion::V5, Role::Server).unwrap()
        {
            if let Some(id) = publish.packet_id {
                self.world.ack(self.watcher, "PUBACK", id.value());
            }
            let json = std::str::from_utf8(publish.payload).unwrap();
            self.note(format!("   told: {json}"));
            let checked = self.ledger.told(
                text(json, "group"),
                text(json, "filter"),
                text(json, "topic"),
                text(json, "reason"),
            );
            self.must(checked);
        }
    }

    // -- what must hold --

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

    /// Time passes; sessions end.
    pub fn advance(&mut self, ms: u64) {
        self.note(format!("{ms} ms pass"));
        self.world.advance(ms);
        let now_ms = self.world.now.monotonic_ms;
        for subject in &mut self.subjects {
            if subject.wire.is_none() && subject.ends_ms.is_some_and(|ends_ms| ends_ms <= now_ms) {
                subject.forget_session();
            }
        }
    }
}

const PLAIN_IDENTIFIER: u32 = PLAIN.1;

/// Groups that have a member throughout while mail is under way.
pub(super) const ANCHORS: usize = 3;

fn identifier(group: usize) -> u32 {
    u32::try_from(group).unwrap() + 1
}

/// A text in an event.
fn text<'a>(json: &'a str, name: &str) -> &'a str {
    let start = format!("\"{name}\":\"");
    json.split_once(&start)
        .and_then(|(_, rest)| rest.split_once('"'))
        .map_or("", |(text, _)| text)
}

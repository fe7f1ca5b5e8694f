//! Clients of groups, what the test knows of each, and what each does.

mod checks;
mod seen;

use std::collections::{BTreeMap, VecDeque};

use waypost_mqtt::{
    Filter, Packet, PacketId, Properties, Property, PropertyBuffer, ProtocolVersion, ReasonCode,
    Subscribe, SubscriptionRequest, Unsubscribe,
};

use super::ledger::{Checked, End, GROUPS, Ledger, PLACES, Published, matches};
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

/// Groups that have a member throughout while mail is under way.
pub(super) const ANCHORS: usize = 3;

fn identifier(group: usize) -> u32 {
    u32::try_from(group).unwrap() + 1
}

//! What is promised of groups, against a model: random members on one, two and four shards, under every strategy.
//!
//! Goal: a message goes to one member of each group, is acknowledged once, and none is lost but those that were refused,
//! given up or dropped by a stated bound, each of which is told; nothing waits while somebody is ready; nothing is left
//! when everybody has gone. Method: a script made from a seed; on failure the seed and the end of the script are in the
//! message, and running it again is a replay.

mod ledger;
mod play;

use std::collections::BTreeMap;
use std::sync::Arc;

use waypost_balance::{Strategy, registry};

use super::promises::{Dice, seeds};
use crate::{Limits, Policies, TopicPolicy};
use ledger::{GROUPS, PLACES};
use play::{ANCHORS, Flavour, Play};

/// Clients of a play.
const SUBJECTS: usize = 5;

const SHARDS: [u16; 3] = [1, 2, 4];

/// Strategies that may make a message wait for one member while another is ready.
const WITH_AFFINITY: [&str; 6] = [
    "hash-client",
    "hash-topic",
    "ip-hash",
    "ordered",
    "source-ip-hash",
    "sticky",
];

/// Strategies whose choice depends on nothing but what happened, the same on any number of shards.
const COMPARABLE: [&str; 6] = [
    "hash-topic",
    "least-connections",
    "ordered",
    "round-robin",
    "sticky",
    "weighted-round-robin",
];

/// One policy for all groups.
fn policies(balance: &'static Strategy, deliveries_max: usize) -> Arc<Policies> {
    let policy = TopicPolicy {
        filter: "#".into(),
        balance: Some(balance),
        max_deliveries: Some(u32::try_from(deliveries_max).unwrap()),
        ..TopicPolicy::default()
    };
    Arc::new(Policies::new(vec![policy]).unwrap())
}

fn strategy(dice: &mut Dice) -> &'static Strategy {
    &registry()[dice.below(registry().len())]
}

fn limits() -> Limits {
    Limits {
        inflight_max: 4,
        burst_messages_max: 5,
        outbox_bytes_max: 4_000,
        group_window_messages_max: 3,
        ..Limits::default()
    }
}

fn shards(seed: u64) -> u16 {
    SHARDS[usize::try_from(seed % 3).unwrap()]
}

fn qos(dice: &mut Dice, lowest: usize) -> u8 {
    u8::try_from(lowest + dice.below(3 - lowest)).unwrap()
}

/// One random thing happens.
fn step(play: &mut Play, dice: &mut Dice) {
    let at = dice.below(SUBJECTS);
    let group = dice.below(GROUPS.len());
    let lowest = usize::from(!play.flavour.has_qos_0);
    match dice.below(24) {
        0..2 => {
            if dice.one_in(2) {
                play.cut(at, false);
            }
            let shard = dice.below(usize::from(play.flavour.shards));
            play.connect(at, shard, dice);
        }
        2 => play.cut(at, dice.one_in(2)),
        3..7 if play.subjects[at].wire.is_none() => {
            let shard = dice.below(usize::from(play.flavour.shards));
            play.connect(at, shard, dice);
        }
        3..7 => {
            if play.may_join(at, group) {
                let weight = 1 + u32::try_from(dice.below(4)).unwrap();
                let qos = qos(dice, lowest);
                play.subscribe(at, group, qos, weight);
            }
        }
        7 => {
            if play.subjects[at].groups.contains_key(&group) {
                play.unsubscribe(at, group);
            }
        }
        8 => {
            if !play.flavour.is_plain_clear {
                let qos = qos(dice, 0);
                play.toggle_plain(at, qos);
            }
        }
        9..15 => {
            for _ in 0..=dice.below(4) {
                let (publisher, place) = (dice.below(3), dice.below(PLACES.len()));
                let qos = qos(dice, 0);
                play.publish(publisher, place, qos, dice);
            }
        }
        15 => {
            if let Some(wire) = play.subjects[at].wire
                && !play.flavour.is_plain_clear
            {
                play.world.stall(wire, dice.one_in(2));
            }
        }
        16 if play.flavour.has_changes => {
            let strategy = strategy(dice);
            play.note(format!("{} from now on", strategy.name));
            play.world.adopt(&policies(strategy, 0));
        }
        16 => {
            let ms = if play.flavour.has_short_sessions || play.flavour.has_expiry {
                100 + 300 * u64::try_from(dice.below(10)).unwrap()
            } else {
                100
            };
            play.advance(ms);
        }
        _ => {
            let count = dice.below(8);
            let refuses = dice.one_in(8);
            play.answer(at, count, || refuses);
        }
    }
}

/// The strategy of a play, from its beginning.
fn adopt(play: &mut Play, flavour: Flavour, deliveries_max: usize) {
    let strategy = waypost_balance::find(flavour.strategy).unwrap();
    play.world.adopt(&policies(strategy, deliveries_max));
    play.ledger.deliveries_max = deliveries_max;
    if deliveries_max > 0 {
        play.ledger.reasons.insert("max-deliveries");
    }
    play.ledger.is_ordered = flavour.strategy == "ordered" && !flavour.has_changes;
    play.has_affinity = flavour.has_changes || WITH_AFFINITY.contains(&flavour.strategy);
}

#[test]
fn a_message_goes_to_one_member_and_none_is_lost() {
    for seed in seeds(60) {
        let mut dice = Dice::new(seed);
        let flavour = Flavour {
            shards: shards(seed),
            is_plain_clear: dice.one_in(2),
            has_qos_0: dice.one_in(3),
            has_short_sessions: dice.one_in(3),
            has_expiry: dice.one_in(4),
            is_storm: false,
            has_changes: dice.one_in(4),
            strategy: strategy(&mut dice).name,
        };
        let deliveries_max = if !flavour.has_changes && dice.one_in(4) {
            1 + dice.below(4)
        } else {
            0
        };
        let queue_max = dice.one_in(4).then_some(8);
        let limits = Limits {
            group_credit_max: 2 + u16::try_from(dice.below(4)).unwrap(),
            group_queue_messages_max: queue_max.unwrap_or(1_000_000),
            ..limits()
        };
        let mut play = Play::new(flavour, limits, SUBJECTS, seed);
        adopt(&mut play, flavour, deliveries_max);
        if flavour.has_expiry {
            play.ledger.reasons.insert("expired");
        }
        if queue_max.is_some() {
            play.ledger.reasons.insert("queue-full");
        }
        for _ in 0..300 {
            let before = play.waiting();
            step(&mut play, &mut dice);
            play.read_all();
            play.check_step(&before);
        }
        play.check_promises();
        play.check_nothing_left();
    }
}

/// The same things happen on one, two and four shards, and every member gets the same from every group, in the same order.
#[test]
fn several_shards_share_out_as_one_does() {
    for seed in seeds(20) {
        let histories = SHARDS.map(|shards| {
            let mut dice = Dice::new(seed ^ 0xc0);
            let flavour = Flavour {
                shards,
                is_plain_clear: true,
                has_qos_0: false,
                has_short_sessions: false,
                has_expiry: false,
                is_storm: false,
                has_changes: false,
                strategy: COMPARABLE[dice.below(COMPARABLE.len())],
            };
            // When what is beyond the window is read depends on who was told of what first.
            let limits = Limits {
                group_window_messages_max: 1_000,
                ..limits()
            };
            let mut play = Play::new(flavour, limits, SUBJECTS, seed);
            adopt(&mut play, flavour, 0);
            for _ in 0..200 {
                comparable_step(&mut play, &mut dice);
                play.read_all();
            }
            play.check_promises();
            let mut by_member = BTreeMap::new();
            for (at, group, number) in play.history {
                let list: &mut Vec<_> = by_member.entry((at, group)).or_default();
                list.push(number);
            }
            by_member
        });
        for (shards, history) in SHARDS.into_iter().zip(&histories) {
            assert_eq!(&histories[0], history, "seed {seed}, {shards} shards");
        }
    }
}

/// One thing happens that does not depend on how shards take a session over from each other.
fn comparable_step(play: &mut Play, dice: &mut Dice) {
    let at = dice.below(SUBJECTS);
    let group = dice.below(GROUPS.len());
    let shard = dice.below(4) % usize::from(play.flavour.shards);
    let is_connected = play.subjects[at].wire.is_some();
    match dice.below(12) {
        0..3 if !is_connected => play.connect_as(at, shard, false, true, true, 10_000),
        0 => play.cut(at, dice.one_in(2)),
        1..3 => {
            // What it has yet to finish from before would fill its window, and another shard learns that later.
            if play.may_join(at, group) && play.subjects[at].is_idle() {
                let qos = qos(dice, 1);
                play.subscribe(at, group, qos, 1);
            }
        }
        3 if play.subjects[at].groups.contains_key(&group) => play.unsubscribe(at, group),
        3..8 => {
            let (publisher, place) = (dice.below(3), dice.below(PLACES.len()));
            let qos = qos(dice, 1);
            play.publish(publisher, place, qos, dice);
        }
        _ => {
            let count = dice.below(8);
            play.answer(at, count, || false);
        }
    }
}

/// Members hop from shard to shard, come anew, leave, refuse and hang while mail is under way.
#[test]
fn members_that_come_and_go_while_mail_is_under_way_lose_and_double_nothing() {
    for seed in seeds(90) {
        let mut dice = Dice::new(seed ^ 0xab);
        let flavour = Flavour {
            shards: shards(seed),
            is_plain_clear: false,
            has_qos_0: false,
            has_short_sessions: false,
            has_expiry: false,
            is_storm: true,
            has_changes: dice.one_in(4),
            strategy: strategy(&mut dice).name,
        };
        let mut play = Play::new(flavour, limits(), SUBJECTS, seed);
        adopt(&mut play, flavour, 0);
        for at in 0..SUBJECTS {
            let shard = at % usize::from(flavour.shards);
            play.connect_as(at, shard, true, true, true, 10_000);
            for group in 0..ANCHORS {
                // The first client stays a member.
                if at == 0 || dice.one_in(2) {
                    let qos = qos(&mut dice, 1);
                    play.subscribe(at, group, qos, 1);
                }
            }
        }
        play.read_all();
        play.world.is_mail_held = true;
        for _ in 0..250 {
            storm(&mut play, &mut dice);
            play.read_all();
        }
        play.world.is_mail_held = false;
        play.world.settle();
        play.read_all();
        play.check_promises();
        play.check_nothing_left();
    }
}

/// One random thing happens, or some mail arrives.
fn storm(play: &mut Play, dice: &mut Dice) {
    let at = dice.below(SUBJECTS);
    let group = dice.below(ANCHORS);
    match dice.below(12) {
        0..4 => {
            let (publisher, place) = (dice.below(3), dice.below(PLACES.len()));
            let qos = qos(dice, 1);
            play.publish(publisher, place, qos, dice);
        }
        4 => {
            if dice.one_in(2) {
                play.cut(at, false);
            }
            let shard = dice.below(usize::from(play.flavour.shards));
            let is_new = at > 0 && dice.one_in(4);
            play.connect_as(at, shard, is_new, true, true, 10_000);
        }
        5 if play.flavour.has_changes && dice.one_in(3) => {
            let strategy = strategy(dice);
            play.note(format!("{} from now on", strategy.name));
            play.world.adopt(&policies(strategy, 0));
        }
        5 => play.cut(at, dice.one_in(2)),
        6 if at > 0 && play.is_served(at) => {
            if dice.one_in(2) {
                play.unsubscribe(at, group);
            } else {
                let qos = qos(dice, 1);
                play.subscribe(at, group, qos, 1);
            }
        }
        6..8 => {
            let count = dice.below(6);
            let refuses = dice.one_in(8);
            play.answer(at, count, || refuses);
        }
        _ => {
            for _ in 0..dice.below(6) {
                play.world.deliver_mail();
            }
        }
    }
}

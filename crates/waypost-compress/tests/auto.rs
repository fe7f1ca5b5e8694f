//! What `auto` costs on real messages, next to the best single strategy.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{path::PathBuf, sync::Arc};

use serde_json::Value;
use waypost_compress::{
    Compress, Strategy,
    auto::{Auto, Prices, cpu},
    dictionary::{Dictionary, Privacy, Publisher, Trainer},
    find, registry, zstd_dict,
};

/// The sets of at least 5,000 messages, for which the goal is stated: the file, and the field that is the message.
const SETS: &[(&str, Option<&str>)] = &[
    ("orders/orders.jsonl", None),
    ("orders/order_lines.csv", None),
    ("chat/ubuntu.jsonl", None),
    ("chat/ubuntu.jsonl", Some("text")),
    ("chat/rooms.jsonl", None),
    ("chat/rooms.jsonl", Some("text")),
    ("chat/presence.jsonl", None),
];

/// What the messages cost by one strategy, in 10^-9 US dollars.
fn cost(at_work: &mut dyn Compress, priced_as: &Strategy, messages: &[Vec<u8>]) -> f64 {
    let mut packed = Vec::new();
    let each = messages.iter().map(|message| {
        packed.clear();
        at_work.compress(message, &mut packed).unwrap();
        Prices::default().nano_usd(packed.len() as u64, cpu(priced_as).ns(message.len()))
    });
    each.sum()
}

/// What they cost by `auto`, which gets a dictionary, if any, with the first of `second`.
fn cost_of_auto(
    set: &str,
    first: &[Vec<u8>],
    second: &[Vec<u8>],
    dictionary: Option<&Arc<Dictionary>>,
) -> f64 {
    let mut auto = Auto::new(Prices::default());
    let mut packed = Vec::new();
    for (at, message) in first.iter().chain(second).enumerate() {
        if at == first.len() && dictionary.is_some() {
            auto.set_dictionary(Arc::new(()), dictionary);
        }
        packed.clear();
        auto.pack(message, None, &mut packed).unwrap();
    }
    println!("{set}: {}", auto.explain());
    auto.cost_usd() * 1e9
}

fn check(set: &str, messages: &[Vec<u8>], dictionary: &Arc<Dictionary>) {
    let (first, second) = messages.split_at(messages.len() / 2);
    let without = cost_of_auto(set, first, second, None);
    let with = cost_of_auto(set, first, second, Some(dictionary));
    let mut best = (f64::INFINITY, "");
    for strategy in registry() {
        let time: f64 = messages.iter().map(|it| cpu(strategy).ns(it.len())).sum();
        let is_dearer = Prices::default().nano_usd(0, time) > without;
        if is_dearer || matches!(strategy.name, "auto" | "zstd-dict") {
            continue;
        }
        let cost = cost(&mut *(strategy.new)(), strategy, messages);
        if cost < best.0 {
            best = (cost, strategy.name);
        }
    }
    // Before there is a dictionary it packs as zstd does, and takes as long.
    let (zstd, zstd_dict) = (find("zstd").unwrap(), find("zstd-dict").unwrap());
    let mut with_dictionary = zstd_dict::with(Arc::new(()), Some(Arc::clone(dictionary)));
    let learning =
        cost(&mut *(zstd.new)(), zstd, first) + cost(&mut *with_dictionary, zstd_dict, second);
    let best_with = if learning < best.0 {
        (learning, zstd_dict.name)
    } else {
        best
    };
    for (what, auto, best) in [
        ("without a dictionary", without, best),
        ("with one from the middle on", with, best_with),
    ] {
        let (ratio, count) = (auto / best.0, messages.len());
        println!("{set}, {count} messages, {what}: {ratio:.4} of {}", best.1);
        assert!(ratio <= 1.03, "{set}, {what}: {ratio:.4} of {}", best.1);
    }
}

/// Goal: within three parts in a hundred of the best single strategy, learning included. Method: every message of every large
/// set, without a dictionary, and with the one that privacy allows of the first half from there on.
#[test]
fn auto_is_near_the_best_single_strategy_on_real_messages() {
    for (file, field) in SETS {
        let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
        let Ok(text) = std::fs::read_to_string(data.join(file)) else {
            eprintln!("skipped: no ../shared/data");
            return;
        };
        let mut trainer = Trainer::new(Privacy::Shared);
        let mut messages = Vec::new();
        let half = text.lines().count() / 2;
        for (at, line) in text.lines().enumerate() {
            let fields: Value = serde_json::from_str(line).unwrap_or_default();
            let message = field.and_then(|name| fields.get(name)?.as_str());
            let message = message.unwrap_or(line).as_bytes().to_vec();
            if at < half {
                let publisher = fields.get("user").or(fields.get("customer"));
                let publisher = publisher.map_or(at.to_string(), Value::to_string);
                trainer.add(Publisher::named(publisher.as_bytes()), &message);
            }
            messages.push(message);
        }
        assert!(messages.len() >= 5_000, "{file}");
        let dictionary = Arc::new(trainer.train(&|_| false).unwrap());
        let set = format!("{file} {}", field.unwrap_or_default());
        check(&set, &messages, &dictionary);
    }
}

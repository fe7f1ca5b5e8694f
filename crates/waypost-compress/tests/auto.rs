//! What `auto` costs on real messages, next to the best single strategy.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{path::PathBuf, sync::Arc};

use waypost_compress::{
    auto::{Auto, Prices, cpu},
    dictionary::{Dictionary, Privacy, Publisher, Trainer},
    registry, zstd_dict,
};

/// As many as a data set has at least for which the goal is stated; the first are what a dictionary is trained on.
const MESSAGES: usize = 5_000;

fn check(file: &str, messages: &[&[u8]], dictionary: Option<&Arc<Dictionary>>) {
    let prices = Prices::default();
    let mut auto = Auto::new(prices);
    auto.set_dictionary(Arc::new(()), dictionary);
    let mut packed = Vec::new();
    for message in messages {
        packed.clear();
        auto.pack(message, None, &mut packed).unwrap();
    }
    let mut best = (f64::INFINITY, "");
    for strategy in registry().iter().filter(|row| row.name != "auto") {
        let time = messages.iter().map(|it| cpu(strategy).ns(it.len())).sum();
        let cost_of_time = prices.nano_usd(0, time) * 1e-9;
        let is_without = strategy.name == "zstd-dict" && dictionary.is_none();
        if is_without || cost_of_time > auto.cost_usd() {
            continue;
        }
        let mut at_work = match strategy.name {
            "zstd-dict" => zstd_dict::with(Arc::new(()), dictionary.cloned()),
            _ => (strategy.new)(),
        };
        let mut bytes = 0;
        for message in messages {
            packed.clear();
            at_work.compress(message, &mut packed).unwrap();
            bytes += packed.len() as u64;
        }
        let cost = prices.nano_usd(bytes, time) * 1e-9;
        if cost < best.0 {
            best = (cost, strategy.name);
        }
    }
    let ratio = auto.cost_usd() / best.0;
    println!("{file}: {ratio:.4} of {}\n{}", best.1, auto.explain());
    assert!(ratio <= 1.03, "{file}: {ratio:.4} of {}", best.1);
}

#[test]
fn auto_is_near_the_best_single_strategy_on_real_messages() {
    for file in [
        "orders/orders.jsonl",
        "chat/ubuntu.jsonl",
        "chat/rooms.jsonl",
        "chat/presence.jsonl",
    ] {
        let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
        let Ok(text) = std::fs::read_to_string(data.join(file)) else {
            eprintln!("skipped: no ../shared/data");
            return;
        };
        let lines: Vec<_> = text.lines().map(str::as_bytes).collect();
        let (first, second) = lines.split_at(lines.len() - MESSAGES);
        // Not a rule of privacy is measured here, but the choice.
        let mut trainer = Trainer::new(Privacy::None);
        for line in first.iter().take(2 * MESSAGES) {
            trainer.add(Publisher::named(b"one"), line);
        }
        let dictionary = Arc::new(trainer.train(&|_| false).unwrap());
        check(file, second, None);
        check(file, second, Some(&dictionary));
    }
}

//! Dictionaries for tests.

use super::{Dictionary, Privacy, Publisher, Trainer};

pub(crate) fn publisher(number: usize) -> Publisher {
    Publisher::named(format!("publisher {number}").as_bytes())
}

/// Orders by thirty publishers, ten each.
pub(crate) fn orders() -> Trainer {
    let mut trainer = Trainer::new(Privacy::Shared);
    for number in 0..300 {
        let order = format!(
            "{{\"order\":\"{}\",\"event\":\"order.placed\",\"country\":\"{}\",\"total\":{}.{:02},\"currency\":\"GBP\"}}",
            70_000 + number * 7,
            ["United Kingdom", "Germany", "Norway"][number % 3],
            number * 31 % 977,
            number * 17 % 100,
        );
        trainer.add(publisher(number % 30), order.as_bytes());
    }
    trainer
}

pub(crate) fn of_orders() -> Dictionary {
    orders().train(&|_| false).unwrap()
}

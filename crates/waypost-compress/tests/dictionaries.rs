//! What dictionaries save on real messages: trained on the first half, measured on the second.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::{path::PathBuf, sync::Arc};

use waypost_compress::{
    Compress,
    dictionary::{Privacy, Publisher, Trainer},
    find, zstd_dict,
};

struct Case {
    file: &'static str,
    /// Who sent it.
    publisher: &'static str,
    /// What of it is the message; all of it if none.
    field: Option<&'static str>,
    /// Of `zstd`'s bytes at most so much is left, with privacy and without.
    goals: (f64, f64),
}

const CASES: &[Case] = &[
    Case {
        file: "orders/orders.jsonl",
        publisher: "customer",
        field: None,
        goals: (0.35, 0.35),
    },
    Case {
        file: "chat/ubuntu.jsonl",
        publisher: "user",
        field: None,
        goals: (0.65, 0.60),
    },
    Case {
        file: "chat/ubuntu.jsonl",
        publisher: "user",
        field: Some("text"),
        goals: (0.86, 0.80),
    },
];

fn read(case: &Case) -> Option<Vec<(Publisher, Vec<u8>)>> {
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let text = std::fs::read_to_string(data.join(case.file)).ok()?;
    let message = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        let publisher = Publisher::named(value[case.publisher].to_string().as_bytes());
        let bytes = match case.field {
            Some(field) => value[field].as_str().unwrap().as_bytes().to_vec(),
            None => line.as_bytes().to_vec(),
        };
        (publisher, bytes)
    };
    Some(text.lines().map(message).collect())
}

fn packed(strategy: &mut dyn Compress, messages: &[(Publisher, Vec<u8>)]) -> f64 {
    let mut all = Vec::new();
    for (_, message) in messages {
        strategy.compress(message, &mut all).unwrap();
    }
    f64::from(u32::try_from(all.len()).unwrap())
}

#[test]
fn dictionaries_reach_their_goals_on_real_messages() {
    for case in CASES {
        let Some(messages) = read(case) else {
            eprintln!("skipped: no ../shared/data");
            return;
        };
        let (first, second) = messages.split_at(messages.len() / 2);
        let plain = packed((find("zstd").unwrap().new)().as_mut(), second);
        for (privacy, goal) in [
            (Privacy::Shared, case.goals.0),
            (Privacy::None, case.goals.1),
        ] {
            let mut trainer = Trainer::new(privacy);
            for (publisher, message) in first {
                trainer.add(*publisher, message);
            }
            let dictionary = Arc::new(trainer.train(&|_| false).unwrap());
            let mut strategy = zstd_dict::with(Arc::new(()), Some(Arc::clone(&dictionary)));
            let ratio = packed(strategy.as_mut(), second) / plain;
            let case = format!("{} {:?} {privacy:?}", case.file, case.field);
            println!("{case}: {ratio:.4} of zstd's bytes, {dictionary:?}");
            assert!(ratio <= goal, "{case}: {ratio:.4}, goal {goal}");
        }
    }
}

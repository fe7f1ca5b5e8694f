//! What sealing and opening cost on one core: `cargo bench -p waypost-encrypt --bench sealing`.
//!
//! Figures of different runs do not compare; the ratio to AES-256-GCM of AWS-LC in place, in the same run, does.

use std::hint::black_box;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use waypost_encrypt::{
    Jwk, KeyKind, KeySet, PrivateKey, Recipient, Sealing, Suite, SymmetricKey, SystemRandom, open,
    seal,
};

const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_millis(100);
const TOPIC: &str = "orders/7/placed";

/// What one call takes in seconds: a round of many.
fn round(call: &mut dyn FnMut()) -> f64 {
    let begun = Instant::now();
    let mut calls = 0_u32;
    while begun.elapsed() < ROUND {
        for _ in 0..8 {
            call();
        }
        calls += 8;
    }
    begun.elapsed().as_secs_f64() / f64::from(calls)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// The median over the rounds of what one call takes, in seconds.
fn measure(call: &mut dyn FnMut()) -> f64 {
    median((0..ROUNDS).map(|_| round(call)).collect())
}

/// What one call takes, and how many times as long as another: rounds in turn, so that what else the machine does is in both.
fn compare(call: &mut dyn FnMut(), other: &mut dyn FnMut()) -> (f64, f64) {
    let rounds = (0..ROUNDS).map(|_| {
        let one = round(call);
        (one, one / round(other))
    });
    let (times, ratios) = rounds.unzip();
    (median(times), median(ratios))
}

fn main() {
    let Ok(shared) = SymmetricKey::new(&[7; 32]) else {
        return;
    };
    let Ok(pair) = PrivateKey::generate(KeyKind::X25519, &mut SystemRandom) else {
        return;
    };
    let public = pair.public().clone();
    let mut ring = KeySet::default();
    ring.insert(Jwk::Private(pair));
    if let Ok(shared) = SymmetricKey::new(&[7; 32]) {
        ring.insert(Jwk::Symmetric(shared));
    }
    for (size, text) in [("64 B", vec![1; 64]), ("64 KiB", vec![1; 64 << 10])] {
        println!("{size} to one known recipient");
        let mut in_place = in_place(&text);
        println!(
            "  aes-gcm in place, no envelope  {:.3} us",
            measure(&mut in_place) * 1e6
        );
        for name in ["aes-gcm", "aes-ccm", "chacha20-poly1305", "aes", "ecc"] {
            let Ok(suite) = Suite::parse(name) else {
                continue;
            };
            let recipient = if name == "ecc" {
                Recipient::Public(&public)
            } else {
                Recipient::Shared(&shared)
            };
            let sealing = Sealing {
                suite,
                topic: TOPIC,
                recipients: &[recipient],
                signer: None,
                content_encoding: None,
            };
            let mut into = Vec::new();
            let mut one = || {
                into.clear();
                let _ = black_box(seal(
                    black_box(&text),
                    &sealing,
                    &mut SystemRandom,
                    &mut into,
                ));
            };
            let (sealed, ratio) = compare(&mut one, &mut in_place);
            let mut one = || {
                let _ = black_box(open(black_box(&into), TOPIC, &ring));
            };
            let (opened, opened_ratio) = compare(&mut one, &mut in_place);
            println!("  {name} sealed  {:.0} messages/s", 1.0 / sealed);
            println!("  {name} opened  {:.0} messages/s", 1.0 / opened);
            println!("  {name} beside aes-gcm in place  {ratio:.2} ratio");
            println!("  {name} opened beside aes-gcm in place  {opened_ratio:.2} ratio");
        }
    }
}

/// AES-256-GCM of AWS-LC over a text in its place: what no sealing can be faster than, and no opening by much.
fn in_place(text: &[u8]) -> impl FnMut() {
    let key = UnboundKey::new(&AES_256_GCM, &[7; 32]).map(LessSafeKey::new);
    let mut buffer = text.to_vec();
    move || {
        let nonce = Nonce::assume_unique_for_key([9; 12]);
        let sealed = key
            .as_ref()
            .map(|key| key.seal_in_place_separate_tag(nonce, Aad::empty(), &mut buffer));
        let _ = black_box(sealed);
    }
}

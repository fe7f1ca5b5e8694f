//! `cargo xtask bench sealing`: the goals of sealing on one core, one JSON line a run to `docs/evidence/bench.jsonl`.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{EVIDENCE, commit, keep, machine, read_figures};
use crate::{arguments::Arguments, failure::Failure, process};

/// Messages of 64 bytes to one known recipient, a second, that each authenticated cipher is to seal with a shared key.
const SEALED_PER_S: f64 = 300_000.0;

/// How many times as long as AES-256-GCM in place sealing 64 KiB with it may take.
const RATIO: f64 = 1.8;

const AEADS: [&str; 3] = ["aes-gcm", "aes-ccm", "chacha20-poly1305"];

pub fn run(root: &Path, mut arguments: Arguments) -> Result<(), Failure> {
    let print_only = arguments.flag("--print");
    arguments.finish()?;
    let mut command = Command::new(env!("CARGO"));
    command
        .args([
            "bench",
            "--quiet",
            "--locked",
            "--package",
            "waypost-encrypt",
        ])
        .args(["--bench", "sealing"])
        .current_dir(root);
    let output = process::captured(&mut command)?;
    if !output.status.success() {
        let shown = process::shown(&command);
        return Err(Failure::new(format!("{shown}: {}", output.status)));
    }
    let figures = read_figures(&String::from_utf8_lossy(&output.stdout));
    let is_met = is_met(&figures);
    let line = json!({
        "task": "sealing",
        "commit": commit(root),
        "machine": machine(),
        "goal_sealed_per_s": SEALED_PER_S,
        "goal_ratio": RATIO,
        "is_met": is_met,
        "figures": figures,
    });
    println!("{line}");
    if !print_only {
        keep(root, EVIDENCE, &line)?;
    }
    if is_met {
        Ok(())
    } else {
        Err(Failure::new("a goal of sealing is not met".to_owned()))
    }
}

fn is_met(figures: &Value) -> bool {
    let figure = |name: String| figures.get(&name).and_then(Value::as_f64);
    let is_fast = |name| {
        let sealed = format!("64 B to one known recipient: {name} sealed, messages/s");
        figure(sealed).is_some_and(|sealed| sealed >= SEALED_PER_S)
    };
    let ratio = "64 KiB to one known recipient: aes-gcm beside aes-gcm in place, ratio";
    AEADS.into_iter().all(is_fast) && figure(ratio.to_owned()).is_some_and(|ratio| ratio <= RATIO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_met_by_all_or_not_at_all() {
        let text = |ccm: u32, ratio: f64| {
            format!(
                "64 B to one known recipient\n  aes-gcm sealed  400000 messages/s\n  aes-ccm sealed  {ccm} messages/s\n  chacha20-poly1305 sealed  300000 messages/s\n\
                 64 KiB to one known recipient\n  aes-gcm beside aes-gcm in place  {ratio} ratio\n"
            )
        };
        for (ccm, ratio, expect) in [
            (300_000, 1.8, true),
            (299_999, 1.8, false),
            (300_000, 1.81, false),
        ] {
            assert_eq!(is_met(&read_figures(&text(ccm, ratio))), expect);
        }
        assert!(!is_met(&json!({})));
    }
}

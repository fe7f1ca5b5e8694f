//! The authenticated cipher that suits the machine: AES-GCM where the processor has instructions for it, ChaCha20-Poly1305
//! where it has none, and over both what [`measured`] finds to be clearly faster. aes-ccm and what needs a MAC beside it are
//! never picked: they are for peers who ask for them.
//!
//! Deliberately not here: clocks. Who asks for `auto` and has one hands it in.

use std::sync::OnceLock;
use std::time::Duration;

use super::{aes_gcm, chacha20_poly1305};
use crate::{AtRest, Encrypt, Key, Nonce, Strategy, Use, find};

/// Its name.
pub const NAME: &str = "auto";

pub(super) const STRATEGY: Strategy = Strategy {
    name: NAME,
    aliases: &["automatic"],
    uses: &[Use::AtRest, Use::Sealing],
    summary: "aes-gcm where the processor has AES, chacha20-poly1305 where it has not, or what is clearly faster",
    source: "by the processor's instructions, and by measurement at the start",
    at_rest: None,
};

/// How much faster the other has to be before it takes the place of the one at work: measurements are not alike twice.
const CLEARLY: f64 = 1.10;

/// What each cipher seals in a round of the measurement,
const ROUND_BYTES: u32 = 16 << 10;

/// and how many rounds there are, in turn: the quickest of each counts, so that it does not matter what else the machine does.
/// All of it takes less than a millisecond with AES instructions, and some milliseconds without.
const ROUNDS: usize = 15;

/// What a choice is made from.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Evidence {
    /// Whether the processor has instructions for AES and for GCM's multiplication.
    pub has_aes: bool,
    /// MB/s of aes-gcm and of chacha20-poly1305, where somebody measured.
    pub measured: Option<(f64, f64)>,
}

/// What was chosen, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    strategy: &'static Strategy,
    reason: String,
}

impl Choice {
    /// What was chosen.
    pub fn strategy(&self) -> &'static Strategy {
        self.strategy
    }

    /// It, at rest.
    pub fn at_rest(&self) -> &'static AtRest {
        self.strategy.at_rest.unwrap_or(&aes_gcm::AT_REST)
    }

    /// Why.
    pub fn explain(&self) -> &str {
        &self.reason
    }
}

/// Chooses; `current` is the one at work, which stays unless the other is clearly faster.
pub fn choose(evidence: &Evidence, current: Option<&Strategy>) -> Choice {
    let by_instructions = if evidence.has_aes {
        (GCM, "the processor has instructions for AES")
    } else {
        (CHACHA, "the processor has no instructions for AES")
    };
    let Some((gcm, chacha)) = evidence.measured else {
        let (strategy, reason) = by_instructions;
        return Choice {
            strategy,
            reason: format!("{}: {reason}", strategy.name),
        };
    };
    let before = match current {
        Some(current) if current.name == CHACHA.name => CHACHA,
        Some(current) if current.name == GCM.name => GCM,
        _ => by_instructions.0,
    };
    let is_gcm = before.name == GCM.name;
    let (ours, theirs) = if is_gcm { (gcm, chacha) } else { (chacha, gcm) };
    let other = if is_gcm { CHACHA } else { GCM };
    let (strategy, said) = if theirs > ours * CLEARLY {
        (other, "is clearly faster")
    } else {
        (before, "stays: the other is not clearly faster")
    };
    Choice {
        strategy,
        reason: format!(
            "{} {said} (aes-gcm {gcm:.0} MB/s, chacha20-poly1305 {chacha:.0} MB/s)",
            strategy.name
        ),
    }
}

/// Whether `auto` is part of a suite's name.
pub fn is_in(suite: &str) -> bool {
    let mut parts = suite.split('+').map(|part| find(part.trim()));
    parts.any(|found| found.is_ok_and(|row| row.name == NAME))
}

/// The choice in this process, measured when it is asked for first; `clock` is the time since any moment.
pub fn measured(clock: impl Fn() -> Duration) -> &'static Choice {
    MEASURED.get_or_init(|| {
        let evidence = Evidence {
            has_aes: has_aes(),
            measured: speeds(clock),
        };
        choose(&evidence, None)
    })
}

/// What [`measured`] found, or the choice by this processor's instructions where nobody with a clock has asked.
pub fn for_this_processor() -> Choice {
    let by_instructions = || {
        let evidence = Evidence {
            has_aes: has_aes(),
            measured: None,
        };
        choose(&evidence, None)
    };
    MEASURED.get().cloned().unwrap_or_else(by_instructions)
}

/// A processor stays the same for as long as the process: it is measured once.
static MEASURED: OnceLock<Choice> = OnceLock::new();

/// MB/s of aes-gcm and of chacha20-poly1305; none with a clock that does not move.
fn speeds(clock: impl Fn() -> Duration) -> Option<(f64, f64)> {
    let key = Key::new([0; crate::KEY_BYTES]);
    let ciphers = [&aes_gcm::AT_REST, &chacha20_poly1305::AT_REST].map(|row| (row.new)(&key));
    let mut text = vec![0; ROUND_BYTES as usize];
    let mut round = |cipher: &dyn Encrypt| {
        let begun = clock();
        // The key has been nobody's and will be nobody's: its nonce may come again.
        let sealed = cipher.seal_in_place(Nonce::numbered(0), b"", &mut text);
        sealed.ok().map(|_| clock().saturating_sub(begun))
    };
    let mut quickest = [Duration::MAX; 2];
    for _ in 0..ROUNDS {
        for (cipher, quickest) in ciphers.iter().zip(&mut quickest) {
            *quickest = round(&**cipher)?.min(*quickest);
        }
    }
    let [gcm, chacha] = quickest.map(|took| f64::from(ROUND_BYTES) / 1e6 / took.as_secs_f64());
    (gcm.is_finite() && chacha.is_finite()).then_some((gcm, chacha))
}

const GCM: &Strategy = &aes_gcm::STRATEGY;
const CHACHA: &Strategy = &chacha20_poly1305::STRATEGY;

fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("aes")
            && std::arch::is_x86_feature_detected!("pclmulqdq")
    }
    #[cfg(target_arch = "aarch64")]
    {
        std::arch::is_aarch64_feature_detected!("aes")
            && std::arch::is_aarch64_feature_detected!("pmull")
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        has_aes: bool,
        measured: Option<(f64, f64)>,
        current: Option<&Strategy>,
        expect: &str,
    ) {
        let choice = choose(&Evidence { has_aes, measured }, current);
        assert_eq!(choice.strategy().name, expect, "{}", choice.explain());
        assert!(choice.explain().starts_with(expect), "{}", choice.explain());
        assert_eq!(choice.at_rest().name, expect);
    }

    #[test]
    fn instructions_decide_where_nobody_measured() {
        check(true, None, None, "aes-gcm");
        check(false, None, None, "chacha20-poly1305");
        check(false, None, Some(GCM), "chacha20-poly1305");
    }

    /// Goal: what was quicker is found, whatever disturbs single rounds. Method: a clock that goes by so many microseconds in
    /// each round, in turn for both ciphers.
    #[test]
    fn the_quickest_rounds_count() {
        let check = |rounds_us: &[u64], expect: Option<(f64, f64)>| {
            let asked = std::cell::Cell::new(0);
            let now = std::cell::Cell::new(Duration::ZERO);
            let found = speeds(|| {
                let count = asked.replace(asked.get() + 1);
                if count % 2 == 1 {
                    let took = rounds_us[count / 2 % rounds_us.len()];
                    now.set(now.get() + Duration::from_micros(took));
                }
                now.get()
            });
            let rounded = found.map(|(gcm, chacha)| (gcm.round(), chacha.round()));
            assert_eq!(rounded, expect, "{rounds_us:?}");
        };
        check(&[10, 20], Some((1638.0, 819.0)));
        check(&[900, 20, 10, 7_000], Some((1638.0, 819.0)));
        check(&[100, 25], Some((164.0, 655.0)));
        check(&[0, 0], None);
    }

    #[test]
    fn this_machine_is_measured_once_and_the_choice_says_so() {
        let begun = std::time::Instant::now();
        let choice = measured(|| begun.elapsed());
        assert!(choice.explain().contains(" MB/s"), "{}", choice.explain());
        assert_eq!(measured(|| panic!("once")), choice);
        assert_eq!(for_this_processor(), *choice);
        // Hardware is that much faster here, and only a real measurement tells.
        let (gcm, chacha) = speeds(|| begun.elapsed()).unwrap();
        if gcm > 2.0 * chacha {
            assert_eq!(choice.strategy(), GCM);
        } else if chacha > 2.0 * gcm {
            assert_eq!(choice.strategy(), CHACHA);
        }
    }

    #[test]
    fn it_is_found_in_the_names_of_suites() {
        for (name, expect) in [
            ("auto", true),
            ("ecc + Automatic", true),
            ("ecc+aes-gcm", false),
            ("autos", false),
        ] {
            assert_eq!(is_in(name), expect, "{name}");
        }
    }

    #[test]
    fn only_what_is_clearly_faster_takes_the_place() {
        check(true, Some((1000.0, 1099.0)), None, "aes-gcm");
        check(true, Some((1000.0, 1101.0)), None, "chacha20-poly1305");
        check(
            true,
            Some((1099.0, 1000.0)),
            Some(CHACHA),
            "chacha20-poly1305",
        );
        check(true, Some((1101.0, 1000.0)), Some(CHACHA), "aes-gcm");
        check(false, Some((3000.0, 500.0)), None, "aes-gcm");
    }
}

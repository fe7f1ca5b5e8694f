//! The authenticated cipher that suits the machine: AES-GCM where the processor has instructions for it, ChaCha20-Poly1305
//! where it has none, and what was measured to be clearly faster over both. aes-ccm and what needs a MAC beside it are never
//! picked: they are for peers who ask for them.
//!
//! Deliberately not here: clocks. Whoever can measure hands in figures.

use super::{aes_gcm, chacha20_poly1305};
use crate::{AtRest, Strategy, Use};

/// Its name.
pub const NAME: &str = "auto";

pub(super) const STRATEGY: Strategy = Strategy {
    name: NAME,
    aliases: &["automatic"],
    uses: &[Use::AtRest, Use::Sealing],
    summary: "aes-gcm where the processor has AES, chacha20-poly1305 where it has not",
    source: "by the processor's instructions, or by measurement",
    at_rest: None,
};

/// How much faster the other has to be before it takes the place of the one at work: measurements are not alike twice.
const CLEARLY: f64 = 1.10;

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

/// The choice by this processor's instructions.
pub fn for_this_processor() -> Choice {
    let evidence = Evidence {
        has_aes: has_aes(),
        measured: None,
    };
    choose(&evidence, None)
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

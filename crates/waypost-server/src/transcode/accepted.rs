//! What a client accepts: the User Properties `accept-encoding` of its CONNECT (RFC 9110 §12.5.3).

use waypost_compress::{Stages, Strategy, find_encoding, registry};
use waypost_mqtt::Properties;

/// The User Property of CONNECT; several are one list.
const ACCEPT_ENCODING: &str = "accept-encoding";

/// The strategies a client accepts, one bit for each, in the order of the registry. What this server does not know it
/// cannot undo, so it need not remember whether that is accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accepted(u32);

impl Accepted {
    fn bit(strategy: &Strategy) -> u32 {
        let place = registry().iter().position(|row| row == strategy);
        let place = place.and_then(|place| u32::try_from(place).ok());
        place
            .and_then(|place| 1_u32.checked_shl(place))
            .unwrap_or(0)
    }

    /// All that undoing these takes; `None`: one of them has no bit, and nobody can be known to accept it.
    pub(crate) fn of(stages: &Stages) -> Option<Self> {
        let mut bits = 0;
        for strategy in stages.strategies() {
            let bit = Self::bit(strategy);
            if bit == 0 {
                return None;
            }
            bits |= bit;
        }
        Some(Self(bits))
    }

    /// Whether all of `needed` is accepted.
    pub(crate) fn covers(self, needed: Self) -> bool {
        self.0 & needed.0 == needed.0
    }
}

/// What a CONNECT says that its client accepts.
pub(crate) fn accepted_by(properties: Properties<'_>) -> Accepted {
    let (mut said, mut accepted, mut all) = (0, 0, false);
    let lists = properties
        .user_properties()
        .filter(|(name, _)| *name == ACCEPT_ENCODING);
    for item in lists.flat_map(|(_, list)| list.split(',')) {
        let mut parts = item.split(';').map(str::trim);
        let encoding = parts.next().unwrap_or_default();
        // Which of several a client likes best is not asked: the publisher, or the policy, has chosen.
        let is_accepted = !parts.any(is_zero);
        if encoding == "*" {
            all = is_accepted;
        } else if let Some(strategy) = find_encoding(encoding) {
            let bit = Accepted::bit(strategy);
            said |= bit;
            accepted = if is_accepted {
                accepted | bit
            } else {
                accepted & !bit
            };
        }
    }
    Accepted(if all { accepted | !said } else { accepted })
}

/// `q=0`, `q=0.000`
fn is_zero(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else {
        return false;
    };
    name.trim().eq_ignore_ascii_case("q")
        && value
            .trim()
            .strip_prefix('0')
            .is_some_and(|rest| rest.chars().all(|digit| matches!(digit, '.' | '0')))
}

#[cfg(test)]
mod tests {
    use waypost_mqtt::{Property, PropertyBuffer};

    use super::*;

    #[test]
    fn lists_are_read_with_their_weights() {
        let check = |lists: &[&str], accepted: &[&str], refused: &[&str]| {
            let mut buffer = PropertyBuffer::new();
            for list in lists {
                buffer.push(Property::UserProperty("accept-encoding", list));
            }
            let said = accepted_by(buffer.as_properties());
            let is_accepted =
                |name: &&str| said.covers(Accepted::of(&Stages::parse(name).unwrap()).unwrap());
            assert!(accepted.iter().all(is_accepted), "{lists:?}: {said:?}");
            assert!(!refused.iter().any(is_accepted), "{lists:?}: {said:?}");
        };
        check(&[], &[], &["zstd", "lz4"]);
        check(&["zstd"], &["zstd"], &["lz4", "lz4+zstd"]);
        check(
            &["ZSTD ; q=0.3, waypost-lz4"],
            &["zstd", "lz4", "lz4+zstd"],
            &[],
        );
        check(&["gzip", "zstd"], &["zstd"], &["lz4"]);
        check(&["*"], &["zstd", "lz4+zstd"], &[]);
        check(&["*, zstd;q=0"], &["lz4"], &["zstd", "lz4+zstd"]);
        check(&["zstd;Q=0.000;x=1, *"], &["lz4"], &["zstd"]);
        check(&["zstd;q=0.001, *;q=0"], &["zstd"], &["lz4"]);
        check(&["zstd;q=nonsense", ",;,"], &["zstd"], &["lz4"]);
        check(&["zstd, zstd;q=0"], &[], &["zstd"]);
    }

    #[test]
    fn every_strategy_has_a_bit() {
        assert!(registry().len() <= 32);
        for strategy in registry() {
            assert_ne!(Accepted::bit(strategy), 0, "{}", strategy.name);
        }
    }
}

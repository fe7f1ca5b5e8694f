//! What a seed says of one round: when the server is killed, who leaves before that, and how.

use std::time::Duration;

use waypost_tests::random::Random;

/// Between two lines of `mosquitto_pub`.
pub const LINE_EVERY: Duration = Duration::from_millis(5);
/// The longest time under load. Half of the rounds are shorter than a quarter of it.
const LOAD_MAX_MS: u64 = 1_600;
/// The sleeper is away for so many rounds.
const SLEEP_ROUNDS: u64 = 4;

pub struct Plan {
    pub round: u64,
    /// How long the server lives under load.
    pub load: Duration,
    pub steps: Vec<Step>,
    /// A second kill, so long after the start: while it recovers, or while clients come back.
    pub kill_again_after: Option<Duration>,
    pub wakes_sleeper: bool,
}

pub struct Step {
    pub at: Duration,
    pub what: What,
}

pub enum What {
    Leave { which: usize, is_polite: bool },
    Sleep,
    ChangeFilters,
}

impl Plan {
    pub fn new(seed: u64, round: u64) -> Self {
        let mut random = Random::new(seed.wrapping_mul(0x0100_0000_01B3) ^ round);
        let longest = random.below(LOAD_MAX_MS) + 1;
        let load_ms = random.below(longest) + 20;
        let load = Duration::from_millis(load_ms);
        let mut steps = Vec::new();
        let mut at = || Duration::from_millis(random.below(load_ms));
        let (first, second, third) = (at(), at(), at());
        for at in [first, second] {
            let what = What::Leave {
                which: usize::try_from(random.below(3)).unwrap_or_default(),
                is_polite: random.below(2) == 0,
            };
            if random.below(2) == 0 {
                steps.push(Step { at, what });
            }
        }
        steps.push(Step {
            at: third,
            what: What::ChangeFilters,
        });
        if round.is_multiple_of(SLEEP_ROUNDS + 1) {
            steps.push(Step {
                at: first,
                what: What::Sleep,
            });
        }
        steps.sort_by_key(|step| step.at);
        let again = random.below(4) == 0;
        Self {
            round,
            load,
            steps,
            kill_again_after: again.then(|| Duration::from_millis(random.below(120))),
            wakes_sleeper: round % (SLEEP_ROUNDS + 1) == SLEEP_ROUNDS,
        }
    }
}

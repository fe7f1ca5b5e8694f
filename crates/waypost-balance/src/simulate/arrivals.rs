//! When messages come, of which key, and how much work each is.

use std::collections::HashMap;
use std::net::IpAddr;

use super::scenario::Model;
use crate::hash::{self, mix, unit};
use crate::random::Random;

/// The messages of a run, in the order they arrive.
pub(super) struct Arrivals {
    pub messages: Vec<Message>,
    pub keys: Vec<Key>,
}

#[derive(Clone, Copy)]
pub(super) struct Message {
    pub at_ns: u64,
    /// Its place in the keys.
    pub key: u32,
    /// How long a member of speed 1 works on it.
    pub work_ns: u64,
}

/// A key is a topic, a publisher and an address of its own.
#[derive(Clone)]
pub(super) struct Key {
    pub topic: String,
    pub publisher: u64,
    pub address: IpAddr,
}

impl Key {
    fn new(name: &str) -> Self {
        let publisher = hash::text(name);
        let [.., a, b, c, d] = mix(publisher).to_be_bytes();
        Self {
            topic: name.to_owned(),
            publisher,
            address: [a, b, c, d].into(),
        }
    }
}

/// How much work messages are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
    Exponential,
    /// With this exponent above 1; below 2 the variance is infinite.
    Pareto(f64),
}

impl Work {
    /// A draw with mean 1.
    fn draw(self, random: &mut Random) -> f64 {
        let drawn = unit(random.next());
        match self {
            Self::Exponential => -drawn.ln(),
            Self::Pareto(shape) => (shape - 1.0) / shape * drawn.powf(-1.0 / shape),
        }
    }
}

/// Which keys messages have.
#[derive(Clone, Debug)]
pub(super) enum Keys {
    Uniform(u32),
    /// So many keys, the n-th as likely as n to the minus this power.
    Zipf(u32, f64),
}

impl Keys {
    fn count(&self) -> u32 {
        match self {
            Self::Uniform(count) | Self::Zipf(count, _) => *count,
        }
    }

    /// For each key how likely it or one before it is.
    fn cumulative(&self) -> Vec<f64> {
        let likely = |rank: u32| match self {
            Self::Uniform(_) => 1.0,
            Self::Zipf(_, power) => f64::from(rank).powf(-power),
        };
        let total: f64 = (1..=self.count()).map(likely).sum();
        let mut sum = 0.0;
        (1..=self.count())
            .map(|rank| {
                sum += likely(rank) / total;
                sum
            })
            .collect()
    }
}

/// Poisson arrivals.
pub(super) fn poisson(model: &Model, messages: u32, seed: u64) -> Arrivals {
    let mut random = Random::new(seed);
    let keys = model.keys.cumulative();
    let mut at_ns = 0.0;
    let messages = (0..messages)
        .map(|_| {
            at_ns += -unit(random.next()).ln() * model.gap_ns();
            let drawn = unit(random.next());
            let key = keys.partition_point(|sum| *sum < drawn).min(keys.len() - 1);
            Message {
                at_ns: whole(at_ns),
                key: u32::try_from(key).unwrap_or(0),
                work_ns: model.work_ns(&mut random),
            }
        })
        .collect();
    let keys = (0..model.keys.count()).map(|key| Key::new(&format!("key/{key}")));
    Arrivals {
        messages,
        keys: keys.collect(),
    }
}

impl Model {
    fn work_ns(&self, random: &mut Random) -> u64 {
        whole(self.work.draw(random) * self.service_ns)
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "nanoseconds of a simulation, not negative; a cast saturates"
)]
fn whole(nanoseconds: f64) -> u64 {
    nanoseconds.round() as u64
}

/// Arrivals as they were recorded: times and keys.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// Milliseconds since the first, key; sorted by time, those of one time in the order of the recording.
    messages: Vec<(f64, u32)>,
    keys: Vec<String>,
}

/// What is wrong with a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordedError {
    /// Without two times there is no rate.
    #[error("needs at least two messages at different times")]
    NoSpan,
}

impl Recorded {
    /// A recording of (milliseconds since whenever, key), in the order it was written.
    pub fn new(records: impl IntoIterator<Item = (f64, String)>) -> Result<Self, RecordedError> {
        let mut recorded = Self::default();
        let mut known = HashMap::new();
        for (time_ms, key) in records {
            let next = u32::try_from(recorded.keys.len()).unwrap_or(u32::MAX);
            let number = *known.entry(key).or_insert_with_key(|key| {
                recorded.keys.push(key.clone());
                next
            });
            recorded.messages.push((time_ms, number));
        }
        recorded.messages.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let start = recorded.messages.first().map_or(0.0, |(first, _)| *first);
        for (time_ms, _) in &mut recorded.messages {
            *time_ms -= start;
        }
        if recorded.span_ms() > 0.0 {
            Ok(recorded)
        } else {
            Err(RecordedError::NoSpan)
        }
    }

    /// From the first message to the last.
    pub fn span_ms(&self) -> f64 {
        self.messages.last().map_or(0.0, |(last, _)| *last)
    }

    /// How many there are.
    pub fn messages(&self) -> usize {
        self.messages.len()
    }

    /// How many different keys there are.
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// The recording with fresh draws of work.
    pub(super) fn arrivals(&self, model: &Model, seed: u64) -> Arrivals {
        let mut random = Random::new(seed);
        let messages = self.messages.iter().map(|(time_ms, key)| Message {
            at_ns: whole(time_ms * 1e6 / model.speed),
            key: *key,
            work_ns: model.work_ns(&mut random),
        });
        Arrivals {
            messages: messages.collect(),
            keys: self.keys.iter().map(|name| Key::new(name)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_the_mean_they_should() {
        let mut random = Random::new(1);
        for work in [Work::Exponential, Work::Pareto(3.0)] {
            let sum: f64 = (0..200_000).map(|_| work.draw(&mut random)).sum();
            let mean = sum / 200_000.0;
            assert!((mean - 1.0).abs() < 0.01, "{work:?}: {mean}");
        }
        // Without a variance the mean does not settle; the median does: (α − 1) ÷ α × 2^(1 ÷ α).
        let mut drawn: Vec<_> = (0..200_001)
            .map(|_| Work::Pareto(1.5).draw(&mut random))
            .collect();
        drawn.sort_by(f64::total_cmp);
        assert!(
            (drawn[100_000] - 0.529_1).abs() < 0.01,
            "{}",
            drawn[100_000]
        );
    }

    #[test]
    fn zipf_is_zipf() {
        let cumulative = Keys::Zipf(10_000, 1.1).cumulative();
        // 1 ÷ Σ n^−1.1 for n to 10,000, by Python.
        assert!(
            (cumulative[0] - 0.151_437_214_940).abs() < 1e-9,
            "{}",
            cumulative[0]
        );
        assert!((cumulative[9_999] - 1.0).abs() < 1e-9);
        let uniform = Keys::Uniform(4).cumulative();
        assert!((uniform[0] - 0.25).abs() < 1e-12);
    }

    #[test]
    fn a_recording_is_sorted_and_starts_at_0() {
        let record = |time_ms: f64, key: &str| (time_ms, key.to_owned());
        let recorded = Recorded::new([
            record(70.0, "b"),
            record(50.0, "a"),
            record(70.0, "a"),
            record(60.0, "c"),
        ])
        .unwrap();
        assert_eq!(
            recorded.messages,
            [(0.0, 1), (10.0, 2), (20.0, 0), (20.0, 1)]
        );
        assert_eq!((recorded.keys(), recorded.span_ms()), (3, 20.0));
        assert_eq!(
            Recorded::new([record(1.0, "a"), record(1.0, "b")]).err(),
            Some(RecordedError::NoSpan)
        );
        assert!(Recorded::new([]).is_err());
    }
}

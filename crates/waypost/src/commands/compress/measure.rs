//! One strategy's figures: all messages packed, unpacked and compared, and the CPU time of both.

use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use waypost_compress::auto::{Auto, Cpu, Prices, cpu as stated_cpu};
use waypost_compress::dictionary::{Dictionary, Privacy, Trainer};
use waypost_compress::{
    Compress, CompressError, DecompressError, Stages, StagesAtWork, Strategy, find, zstd_dict,
};

use super::messages::Message;
use crate::Failure;

/// What takes less is done again, so that a clock's steps do not count.
const CPU_MIN: Duration = Duration::from_millis(40);
/// But not more often.
const ROUNDS_MAX: u32 = 50;

/// What is learnt from and what is measured.
pub(super) struct Halves<'a> {
    /// What is measured: the second half, or all messages if nobody learns from any.
    pub(super) second: &'a [Message],
    dictionary: Option<Arc<Dictionary>>,
    /// Why there is no dictionary, though one was to be.
    pub(super) no_dictionary: Option<String>,
}

/// What one strategy came to.
pub(super) struct Row {
    pub(super) strategy: String,
    pub(super) messages: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) dictionary_bytes: usize,
    /// What it says of itself; empty: nothing.
    pub(super) explained: String,
    /// Bytes and processor time at [`Prices::default`], the time as `auto` reckons with.
    cost_usd: f64,
    compress: Duration,
    decompress: Duration,
}

fn has_dictionary(strategy: &Strategy) -> bool {
    matches!(strategy.name, "zstd-dict" | "auto")
}

impl<'a> Halves<'a> {
    /// All messages are measured, unless one of the strategies learns from the first half of them.
    pub(super) fn of(messages: &'a [Message], strategies: &[Stages], no_privacy: bool) -> Self {
        let mut halves = Self {
            second: messages,
            dictionary: None,
            no_dictionary: None,
        };
        let mut every = strategies.iter().flat_map(Stages::strategies);
        if messages.len() < 2 || !every.any(|strategy| has_dictionary(strategy)) {
            return halves;
        }
        let (first, second) = messages.split_at(messages.len() / 2);
        let mut trainer = Trainer::new(if no_privacy {
            Privacy::None
        } else {
            Privacy::Shared
        });
        for message in first {
            trainer.add(message.publisher, &message.bytes);
        }
        match trainer.train(&|_| false) {
            Ok(dictionary) => {
                halves.dictionary = Some(Arc::new(dictionary));
                halves.second = second;
            }
            Err(error) => halves.no_dictionary = Some(error.to_string()),
        }
        halves
    }

    fn make(&self, strategy: &'static Strategy) -> Box<dyn Compress> {
        if strategy.name == "zstd-dict" {
            zstd_dict::with(Arc::new(()), self.dictionary.clone())
        } else {
            (strategy.new)()
        }
    }

    /// The time of one strategy by the table. `zstd-dict` is quick because of its dictionary: without one it is `zstd`.
    fn stated_cpu(&self, strategy: &Strategy) -> Cpu {
        match (strategy.name, &self.dictionary) {
            ("zstd-dict", None) => find("zstd").map_or(stated_cpu(strategy), stated_cpu),
            _ => stated_cpu(strategy),
        }
    }

    fn dictionary_bytes(&self, stages: &Stages) -> usize {
        let mut every = stages.strategies().iter();
        let dictionary = self.dictionary.as_ref();
        let dictionary = dictionary.filter(|_| every.any(|strategy| has_dictionary(strategy)));
        dictionary.map_or(0, |dictionary| dictionary.bytes().len())
    }
}

/// The CPU time of this thread: what others do on the machine does not count.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or_default();
    Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds)
}

/// What packs: stages, or `auto`, whose messages carry the name of what packed each beside them.
enum AtWork<'a> {
    Stages(StagesAtWork),
    Auto {
        auto: Box<Auto>,
        halves: &'a Halves<'a>,
        unpacking: Vec<(&'static Strategy, Box<dyn Compress>)>,
    },
}

impl<'a> AtWork<'a> {
    fn new(stages: &Stages, halves: &'a Halves<'a>) -> Self {
        if !matches!(stages.strategies(), [only] if only.name == "auto") {
            return Self::Stages(stages.at_work_with(|strategy| halves.make(strategy)));
        }
        let mut auto = Box::new(Auto::new(Prices::default()));
        auto.set_dictionary(Arc::new(()), halves.dictionary.as_ref());
        Self::Auto {
            auto,
            halves,
            unpacking: Vec::new(),
        }
    }

    /// Appends a message, packed; gives what unpacks it, if that is not always the same.
    fn pack(
        &mut self,
        message: &[u8],
        into: &mut Vec<u8>,
    ) -> Result<Option<&'static Strategy>, CompressError> {
        match self {
            Self::Stages(stages) => stages.compress(message, into).map(|()| None),
            Self::Auto { auto, .. } => auto.pack(message, None, into).map(Some),
        }
    }

    fn unpack(
        &mut self,
        by: Option<&'static Strategy>,
        packed: &[u8],
        limit: usize,
        into: &mut Vec<u8>,
    ) -> Result<(), DecompressError> {
        match (self, by) {
            (Self::Stages(stages), _) => stages.decompress(packed, limit, into),
            (
                Self::Auto {
                    halves, unpacking, ..
                },
                Some(by),
            ) => {
                if !unpacking.iter().any(|(strategy, _)| *strategy == by) {
                    unpacking.push((by, halves.make(by)));
                }
                let found = unpacking.iter_mut().find(|(strategy, _)| *strategy == by);
                found.map_or(Ok(()), |(_, it)| it.decompress(packed, limit, into))
            }
            (Self::Auto { .. }, None) => Ok(()),
        }
    }
}

/// Packs and unpacks what is to be measured.
pub(super) fn measure(stages: &Stages, halves: &Halves<'_>) -> Result<Row, Failure> {
    let name = stages.to_string();
    let mut at_work = AtWork::new(stages, halves);
    // Who learns is measured learning, once.
    let rounds_max = match &at_work {
        AtWork::Stages(_) => ROUNDS_MAX,
        AtWork::Auto { .. } => 1,
    };
    let failed = |error: &dyn std::fmt::Display| Failure::new(format!("{name}: {error}"));
    let mut packed: Vec<u8> = Vec::new();
    let mut ends = Vec::with_capacity(halves.second.len());
    let (compress, rounds) = timed(rounds_max, |is_first| {
        packed.clear();
        for message in halves.second {
            let outcome = at_work.pack(&message.bytes, &mut packed);
            let by = outcome.map_err(|error| failed(&error))?;
            if is_first {
                ends.push((packed.len(), by));
            }
        }
        Ok(())
    })?;
    let compress = compress / rounds;
    let mut unpacked = Vec::new();
    let (decompress, rounds) = timed(ROUNDS_MAX, |_| {
        let mut from = 0;
        for (message, (end, by)) in halves.second.iter().zip(&ends) {
            unpacked.clear();
            let bytes = packed.get(from..*end).unwrap_or_default();
            let outcome = at_work.unpack(*by, bytes, message.bytes.len(), &mut unpacked);
            outcome.map_err(|error| failed(&error))?;
            if unpacked != message.bytes {
                return Err(failed(&"what came out is not what went in"));
            }
            from = *end;
        }
        Ok(())
    })?;
    let bytes_out = packed.len() as u64;
    let (cost_usd, explained) = match &at_work {
        AtWork::Stages(_) => {
            let ns = |message: &Message| {
                let each = stages.strategies().iter();
                each.map(|strategy| halves.stated_cpu(strategy).ns(message.bytes.len()))
                    .sum::<f64>()
            };
            let cpu_ns = halves.second.iter().map(ns).sum();
            (
                1e-9 * Prices::default().nano_usd(bytes_out, cpu_ns),
                String::new(),
            )
        }
        AtWork::Auto { auto, .. } => (auto.cost_usd(), auto.explain()),
    };
    Ok(Row {
        messages: halves.second.len() as u64,
        bytes_in: halves.second.iter().map(|it| it.bytes.len() as u64).sum(),
        bytes_out,
        dictionary_bytes: halves.dictionary_bytes(stages),
        explained,
        cost_usd,
        compress,
        decompress: decompress / rounds,
        strategy: name,
    })
}

/// Does something until it took a while; gives the time and how often it was done.
fn timed(
    rounds_max: u32,
    mut once: impl FnMut(bool) -> Result<(), Failure>,
) -> Result<(Duration, u32), Failure> {
    let begun = cpu();
    for round in 1.. {
        once(round == 1)?;
        let took = cpu().saturating_sub(begun);
        if took >= CPU_MIN || round >= rounds_max {
            return Ok((took, round));
        }
    }
    Ok((Duration::ZERO, 1))
}

#[allow(
    clippy::cast_precision_loss,
    reason = "numbers of bytes and messages, in 53 bits"
)]
impl Row {
    /// What is left, of 1; nothing of nothing is 1.
    pub(super) fn ratio(&self) -> f64 {
        match self.bytes_in {
            0 => 1.0,
            bytes => self.bytes_out as f64 / bytes as f64,
        }
    }

    fn mb_per_s(&self, took: Duration) -> f64 {
        self.bytes_in as f64 / 1e6 / took.as_secs_f64().max(1e-9)
    }

    pub(super) fn compress_mb_per_s(&self) -> f64 {
        self.mb_per_s(self.compress)
    }

    pub(super) fn decompress_mb_per_s(&self) -> f64 {
        self.mb_per_s(self.decompress)
    }

    fn per_message(&self, took: Duration) -> f64 {
        took.as_secs_f64() * 1e6 / self.messages.max(1) as f64
    }

    pub(super) fn compress_us_per_message(&self) -> f64 {
        self.per_message(self.compress)
    }

    pub(super) fn decompress_us_per_message(&self) -> f64 {
        self.per_message(self.decompress)
    }

    /// What a million such messages cost.
    pub(super) fn usd_per_million(&self) -> f64 {
        1e6 * self.cost_usd / self.messages.max(1) as f64
    }

    /// CPU time of packing and unpacking a message once.
    pub(super) fn us_per_message(&self) -> f64 {
        self.per_message(self.compress + self.decompress)
    }
}

#[cfg(test)]
mod tests {
    use waypost_compress::dictionary::Publisher;

    use super::*;

    fn messages(count: u32) -> Vec<Message> {
        let message = |n: u32| {
            Message {
            bytes: format!("{{\"room\":\"lobby\",\"kind\":\"greeting\",\"n\":{n},\"text\":\"hello to everybody in the lobby\"}}").into_bytes(),
            publisher: Publisher::named(&(n % 50).to_le_bytes()),
        }
        };
        (0..count).map(message).collect()
    }

    /// Goal: a dictionary is not measured on what it was made of, and all strategies are measured on the same.
    #[test]
    fn a_dictionary_is_of_the_first_half_and_all_are_measured_on_the_second() {
        let messages = messages(401);
        let both = ["zstd", "zstd-dict"].map(|name| Stages::parse(name).unwrap());
        let halves = Halves::of(&messages, &both, false);
        assert_eq!((halves.second.len(), &halves.no_dictionary), (201, &None));
        assert_eq!(halves.second[0].bytes, messages[200].bytes);
        let [plain, with] = both.map(|stages| measure(&stages, &halves).unwrap());
        assert_eq!(
            (plain.messages, plain.bytes_in),
            (with.messages, with.bytes_in)
        );
        assert!(2 * with.bytes_out < plain.bytes_out);
        assert_eq!(plain.dictionary_bytes, 0);
        let bytes = halves.dictionary.as_ref().unwrap().bytes().len();
        assert_eq!(with.dictionary_bytes, bytes);
        assert!(with.us_per_message() > 0.0 && with.compress_mb_per_s() > 0.0);
    }

    /// Goal: without a dictionary `zstd-dict` is no cheaper than `zstd`, whose frames it writes; with one, it is.
    #[test]
    fn zstd_dict_costs_what_zstd_does_until_it_has_a_dictionary() {
        let both = ["zstd", "zstd-dict"].map(|name| Stages::parse(name).unwrap());
        let costs = |count| {
            let messages = messages(count);
            let halves = Halves::of(&messages, &both, false);
            both.each_ref()
                .map(|stages| measure(stages, &halves).unwrap().usd_per_million())
        };
        let [plain, without] = costs(30);
        assert!(without >= plain, "{without} < {plain}");
        let [plain, with] = costs(401);
        assert!(with < plain, "{with} >= {plain}");
    }

    #[test]
    fn who_learns_nothing_is_measured_on_all() {
        let messages = messages(30);
        let plain = [Stages::parse("zstd").unwrap()];
        assert_eq!(Halves::of(&messages, &plain, false).second.len(), 30);
        let with = [Stages::parse("zstd-dict+huffman").unwrap()];
        let halves = Halves::of(&messages, &with, false);
        assert!(
            halves
                .no_dictionary
                .as_ref()
                .unwrap()
                .contains("publishers")
        );
        assert_eq!(halves.second.len(), 30);
        let row = measure(&with[0], &halves).unwrap();
        assert_eq!((row.messages, row.dictionary_bytes), (30, 0));
        let halves = Halves::of(&messages[..1], &with, false);
        assert_eq!((halves.second.len(), halves.no_dictionary), (1, None));
    }
}

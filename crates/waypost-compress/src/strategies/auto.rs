//! Auto: for messages of each kind and size, what costs least, bytes and processor time together.
//!
//! Messages are told apart by kind (JSON, text, other; by content type and by a look at the bytes) and by size, in steps of
//! four times: a class. What is packed or encrypted already, by its content type, by how it begins or because it looks like
//! noise, is left as it is. A message in some is packed by several strategies and the cheapest result is sent: the first few
//! of a class, then one now and then. What takes more time than the whole message is worth is not tried. These runs are paid for: their processor time is part of what is spent, and beyond the
//! first few stays below one part in a hundred of it. Strategies far behind are tried seldom. Who is better by a margin takes
//! over; what was measured counts less the longer it is ago. What nothing makes shorter is sent as it is.
//!
//! A byte and a core's hour have prices ([`Prices`]); how long a strategy takes is a table ([`Cpu`]), so that the same messages
//! are always packed in the same way.
//!
//! As a strategy of the registry its output begins with the number of the strategy that packed the rest. Whoever can name
//! that strategy beside the bytes, in `content-encoding`, uses [`Auto`] itself.

mod look;
mod prices;

use std::sync::Arc;

pub use look::{Kind, look};
pub use prices::{Cpu, Prices, USD_PER_CORE_HOUR, USD_PER_GB, cpu};

use super::{by_number, identity, zstd_dict};
use crate::{
    Compress, CompressError, DecompressError, Strategy, check_length,
    dictionary::{Dictionaries, Dictionary},
};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "auto",
    aliases: &["adaptive"],
    number: 10,
    encoding: "waypost-auto",
    summary: "for each kind and size of message what costs least, bytes and processor time together",
    source: "explore, then commit: paired trials on few messages, paid for from a budget",
    new: || Box::new(Framed::default()),
};

/// The first so many messages of a class are tried with everything that may still be best.
const FIRST_TRIALS: u64 = 4;

/// After that one message in so many, if the budget allows.
const TRIAL_EVERY: u64 = 32;

/// Trials after the first ones cost at most this part of everything.
const TRIALS_PART_MAX: f64 = 0.01;

/// What costs by this factor more than the best is not tried,
const FAR: f64 = 1.25;

/// but in one of so many trials.
const FAR_EVERY: u64 = 16;

/// Better by this part takes over.
const MARGIN: f64 = 0.01;

/// What was measured loses this part of its weight with each trial after it.
const FORGOTTEN: f64 = 0.05;

/// Of a longer message its first so many bytes are tried.
const TRIAL_BYTES_MAX: usize = 64 << 10;

/// The sizes of the first class end here; those of each further one at four times as much.
const SIZE_FIRST: usize = 64;

/// Classes of size; the last one has no end.
const SIZES: usize = 8;

/// JSON, text and binary.
const KINDS: usize = 3;

/// Chooses a strategy for each message, and packs it.
pub struct Auto {
    prices: Prices,
    cpu: fn(&Strategy) -> Cpu,
    dictionaries: Arc<dyn Dictionaries>,
    candidates: Vec<Candidate>,
    classes: Vec<Class>,
    /// What trials cost beyond the first ones, and what everything cost, in 10^-9 US dollars.
    trials_cost: f64,
    cost: f64,
    spent: Spent,
    trial: Vec<u8>,
    best: Vec<u8>,
}

/// What an [`Auto`] did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    /// Messages packed, or left as they were.
    pub messages: u64,
    /// Those of them that were packed already.
    pub already_packed: u64,
    /// Those of them that were tried with several strategies.
    pub trials: u64,
    /// Bytes that came in.
    pub bytes_in: u64,
    /// Bytes that came out.
    pub bytes: u64,
    /// By the table, all trials included.
    pub cpu_ns: f64,
}

struct Candidate {
    strategy: &'static Strategy,
    cpu: Cpu,
    at_work: Box<dyn Compress>,
    /// Has what it needs: `zstd-dict` its dictionary.
    is_ready: bool,
}

/// Messages of one kind and size.
#[derive(Clone, Default)]
struct Class {
    messages: u64,
    trials: u64,
    /// The place of the strategy at work.
    at: usize,
    since: u64,
    moves: u64,
    /// For each candidate what was measured; empty before the first trial.
    measured: Vec<Measured>,
}

/// Sums over trials, those long ago counted less.
#[derive(Clone, Copy, Default)]
struct Measured {
    cost: f64,
    bytes_in: f64,
}

impl Measured {
    fn cost_per_byte(self) -> f64 {
        if self.bytes_in > 0.0 {
            self.cost / self.bytes_in
        } else {
            f64::INFINITY
        }
    }
}

impl Class {
    /// The place of what costs least, and what that is for a byte.
    fn best(&self) -> Option<(usize, f64)> {
        let each = self.measured.iter().enumerate();
        let each = each.map(|(at, measured)| (at, measured.cost_per_byte()));
        each.min_by(|a, b| a.1.total_cmp(&b.1))
    }

    fn choose(&mut self) {
        let (Some((best, cost)), Some(now)) = (self.best(), self.measured.get(self.at)) else {
            return;
        };
        let is_first = self.trials <= FIRST_TRIALS;
        if best != self.at && (is_first || cost < now.cost_per_byte() * (1.0 - MARGIN)) {
            self.at = best;
            self.since = self.messages;
            self.moves += u64::from(!is_first);
        }
    }
}

impl Default for Auto {
    fn default() -> Self {
        Self::new(Prices::default())
    }
}

impl Auto {
    /// One that weighs bytes and processor time at these prices, without a dictionary.
    #[must_use]
    pub fn new(prices: Prices) -> Self {
        Self::with(prices, cpu)
    }

    /// As [`Auto::new`], with another table of how long each strategy takes.
    #[must_use]
    pub fn with(prices: Prices, cpu: fn(&Strategy) -> Cpu) -> Self {
        let others = super::registry().iter();
        let others = others.filter(|strategy| strategy.name != "auto");
        let candidate = |strategy: &'static Strategy| Candidate {
            strategy,
            cpu: cpu(strategy),
            at_work: (strategy.new)(),
            is_ready: *strategy != zstd_dict::STRATEGY,
        };
        Self {
            prices,
            cpu,
            dictionaries: Arc::new(()),
            candidates: others.map(candidate).collect(),
            classes: vec![Class::default(); KINDS * SIZES],
            trials_cost: 0.0,
            cost: 0.0,
            spent: Spent::default(),
            trial: Vec::new(),
            best: Vec::new(),
        }
    }

    /// Packs with `current` from now on where `zstd-dict` is chosen, and tries that anew.
    pub fn set_dictionary(
        &mut self,
        dictionaries: Arc<dyn Dictionaries>,
        current: Option<&Arc<Dictionary>>,
    ) {
        self.dictionaries = dictionaries;
        for candidate in &mut self.candidates {
            if *candidate.strategy == zstd_dict::STRATEGY {
                let known = Arc::clone(&self.dictionaries);
                candidate.at_work = zstd_dict::with(known, current.cloned());
                candidate.is_ready = current.is_some();
            }
        }
        for class in &mut self.classes {
            (class.at, class.trials) = (0, 0);
            class.measured.clear();
        }
    }

    /// Appends the message to `into`, packed by the strategy it returns. That is `identity` where nothing makes it shorter.
    pub fn pack(
        &mut self,
        message: &[u8],
        content_type: Option<&str>,
        into: &mut Vec<u8>,
    ) -> Result<&'static Strategy, CompressError> {
        check_length(message)?;
        self.spent.messages += 1;
        self.spent.bytes_in += message.len() as u64;
        let kind = look(message, content_type);
        let before = into.len();
        let chosen = match class_of(kind, message.len()) {
            None => {
                self.spent.already_packed += 1;
                None
            }
            Some(class) => self.pack_in(class, message, into)?,
        };
        let chosen = chosen.unwrap_or(&identity::STRATEGY);
        if *chosen == identity::STRATEGY {
            into.truncate(before);
            into.extend_from_slice(message);
        }
        let bytes = (into.len() - before) as u64;
        self.spent.bytes += bytes;
        self.cost += self.prices.nano_usd(bytes, 0.0);
        Ok(chosen)
    }

    /// Packs a message of this class; `None` if it became no shorter.
    fn pack_in(
        &mut self,
        class: usize,
        message: &[u8],
        into: &mut Vec<u8>,
    ) -> Result<Option<&'static Strategy>, CompressError> {
        if let Some(is_first) = self.count(class) {
            let best = self.try_all(class, is_first, message)?;
            if message.len() <= TRIAL_BYTES_MAX {
                let shorter = best.filter(|_| self.best.len() < message.len());
                if shorter.is_some() {
                    into.extend_from_slice(&self.best);
                }
                return Ok(shorter.and_then(|at| Some(self.candidates.get(at)?.strategy)));
            }
        }
        let at = self.classes.get(class).map_or(0, |of| of.at);
        let before = into.len();
        let Some(candidate) = self.candidates.get_mut(at) else {
            return Ok(None);
        };
        candidate.at_work.compress(message, into)?;
        let ns = candidate.cpu.ns(message.len());
        let strategy = candidate.strategy;
        self.spend(ns);
        Ok((into.len() - before < message.len()).then_some(strategy))
    }

    /// Counts a message of this class. `Some`: it is to be tried, as one of the first or not.
    fn count(&mut self, class: usize) -> Option<bool> {
        let of = self.classes.get_mut(class)?;
        of.messages += 1;
        let is_first = of.trials < FIRST_TRIALS;
        let is_due =
            of.messages % TRIAL_EVERY == 0 && self.trials_cost <= self.cost * TRIALS_PART_MAX;
        (is_first || is_due).then_some(is_first)
    }

    /// For whoever packs elsewhere, and for receivers who do not all take everything: what makes messages such as this one
    /// cheaper than they are, the cheapest first. Counts the message, and tries it where that is due.
    pub fn rank(
        &mut self,
        message: &[u8],
        content_type: Option<&str>,
    ) -> Result<Vec<&'static Strategy>, CompressError> {
        check_length(message)?;
        self.spent.messages += 1;
        self.spent.bytes_in += message.len() as u64;
        let Some(class) = class_of(look(message, content_type), message.len()) else {
            self.spent.already_packed += 1;
            return Ok(Vec::new());
        };
        if let Some(is_first) = self.count(class) {
            self.try_all(class, is_first, message)?;
        }
        let Some(of) = self.classes.get(class) else {
            return Ok(Vec::new());
        };
        let mut ranked: Vec<_> = of
            .measured
            .iter()
            .zip(&self.candidates)
            .enumerate()
            .filter(|(_, (measured, _))| measured.bytes_in > 0.0)
            .map(|(at, (measured, candidate))| {
                // Who is at work is passed by a margin only.
                let part = if at == of.at { 1.0 - MARGIN } else { 1.0 };
                (measured.cost_per_byte() * part, candidate.strategy)
            })
            .collect();
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
        #[allow(clippy::cast_precision_loss, reason = "below 2^53")]
        let bytes = message.len() as f64;
        self.cost += ranked.first().map_or(0.0, |(cost, _)| cost * bytes);
        let ranked = ranked.into_iter().map(|(_, strategy)| strategy);
        Ok(ranked
            .take_while(|strategy| **strategy != identity::STRATEGY)
            .collect())
    }

    fn spend(&mut self, ns: f64) -> f64 {
        let cost = self.prices.nano_usd(0, ns);
        self.spent.cpu_ns += ns;
        self.cost += cost;
        cost
    }

    /// Packs a message, or its beginning, with everything that may be best. What came out cheapest is in `self.best`.
    fn try_all(
        &mut self,
        class: usize,
        is_first: bool,
        message: &[u8],
    ) -> Result<Option<usize>, CompressError> {
        self.spent.trials += 1;
        let message = message.get(..TRIAL_BYTES_MAX).unwrap_or(message);
        let mut of = self.classes.get(class).cloned().unwrap_or_default();
        of.trials += 1;
        of.measured
            .resize(self.candidates.len(), Measured::default());
        let tries_far = of.trials == 1 || of.trials % FAR_EVERY == 0;
        let near = of.best().map_or(f64::INFINITY, |(_, cost)| cost * FAR);
        let mut best: Option<(usize, f64)> = None;
        let mut all = 0.0;
        for at in 0..self.candidates.len() {
            let measured = of.measured.get(at).copied().unwrap_or_default();
            let is_near = measured.bytes_in > 0.0 && measured.cost_per_byte() <= near;
            if !is_near && !tries_far && at != of.at {
                continue;
            }
            let Some(candidate) = self.candidates.get_mut(at).filter(|it| it.is_ready) else {
                continue;
            };
            let ns = candidate.cpu.ns(message.len());
            if self.prices.nano_usd(0, ns) > self.prices.nano_usd(message.len() as u64, 0.0) {
                continue;
            }
            self.trial.clear();
            candidate.at_work.compress(message, &mut self.trial)?;
            let bytes = self.trial.len().min(message.len()) as u64;
            let cost = self.prices.nano_usd(bytes, ns);
            all += self.spend(ns);
            if let Some(measured) = of.measured.get_mut(at) {
                #[allow(clippy::cast_precision_loss, reason = "at most 64 KiB")]
                let bytes_in = message.len() as f64;
                measured.cost = measured.cost * (1.0 - FORGOTTEN) + cost;
                measured.bytes_in = measured.bytes_in * (1.0 - FORGOTTEN) + bytes_in;
            }
            // The processor time is spent: what counts for this one message is its length.
            let length = self.prices.nano_usd(bytes, 0.0);
            if best.is_none_or(|(_, shortest)| length < shortest) {
                best = Some((at, length));
                std::mem::swap(&mut self.trial, &mut self.best);
            }
        }
        if !is_first {
            self.trials_cost += all;
        }
        of.choose();
        if let Some(place) = self.classes.get_mut(class) {
            *place = of;
        }
        Ok(best.map(|(at, _)| at))
    }

    /// What it did and what that cost.
    #[must_use]
    pub fn spent(&self) -> Spent {
        self.spent
    }

    /// The prices it weighs at.
    #[must_use]
    pub fn prices(&self) -> Prices {
        self.prices
    }

    /// What all of it cost, bytes and processor time with all trials, in US dollars.
    #[must_use]
    pub fn cost_usd(&self) -> f64 {
        self.cost * 1e-9
    }

    /// What is chosen for which messages, and why: a line for each class that has been met.
    #[must_use]
    pub fn explain(&self) -> String {
        let Spent {
            messages,
            already_packed,
            trials,
            bytes_in,
            bytes,
            ..
        } = self.spent;
        let Prices {
            usd_per_gb,
            usd_per_core_hour,
        } = self.prices;
        let mut lines = vec![format!(
            "{messages} messages, {bytes_in} bytes to {bytes}, at {usd_per_gb} USD/GB and {usd_per_core_hour} USD/core hour; \
             {trials} of them tried with several strategies, {already_packed} packed already and left so"
        )];
        let classes = self.classes.iter().enumerate();
        for (at, class) in classes.filter(|(_, class)| class.messages > 0) {
            lines.push(format!("{}: {}", class_name(at), self.explain_class(class)));
        }
        lines.join("\n")
    }

    fn explain_class(&self, class: &Class) -> String {
        let name = |at: usize| self.candidates.get(at).map_or("", |it| it.strategy.name);
        let mut ways: Vec<_> = class.measured.iter().enumerate().collect();
        ways.sort_by(|a, b| a.1.cost_per_byte().total_cmp(&b.1.cost_per_byte()));
        let plain = self.prices.nano_usd(1, 0.0);
        let ways: Vec<_> = ways
            .iter()
            .filter(|(_, measured)| measured.bytes_in > 0.0)
            .map(|(at, measured)| format!("{} {:.2}", name(*at), measured.cost_per_byte() / plain))
            .collect();
        let since = match class.moves {
            0 => "from its first trials".to_owned(),
            1 => format!("since message {}, after 1 move", class.since),
            moves => format!("since message {}, after {moves} moves", class.since),
        };
        format!(
            "{} {since}, of {} messages; cost in {} trials as a part of sending it as it is: {}",
            name(class.at),
            class.messages,
            class.trials,
            ways.join(", ")
        )
    }

    /// How long a strategy takes, as this one reckons.
    #[must_use]
    pub fn cpu(&self, strategy: &Strategy) -> Cpu {
        (self.cpu)(strategy)
    }
}

fn class_of(kind: Kind, length: usize) -> Option<usize> {
    let kind = match kind {
        Kind::Json => 0,
        Kind::Text => 1,
        Kind::Binary => 2,
        Kind::Packed(_) => return None,
    };
    let size = (0..SIZES - 1).take_while(|size| length >= SIZE_FIRST << (2 * size));
    Some(kind * SIZES + size.count())
}

fn class_name(at: usize) -> String {
    let kind = ["JSON", "text", "binary"].get(at / SIZES).unwrap_or(&"");
    match at % SIZES {
        0 => format!("{kind} below {SIZE_FIRST} B"),
        size if size == SIZES - 1 => format!("{kind} from {} B", SIZE_FIRST << (2 * size - 2)),
        size => format!(
            "{kind} of {} to {} B",
            SIZE_FIRST << (2 * size - 2),
            (SIZE_FIRST << (2 * size)) - 1
        ),
    }
}

/// As a strategy of the registry: a number, then what that strategy packed.
#[derive(Default)]
struct Framed {
    auto: Auto,
    unpacking: Vec<(u8, Box<dyn Compress>)>,
}

impl Compress for Framed {
    fn compress(&mut self, input: &[u8], into: &mut Vec<u8>) -> Result<(), CompressError> {
        let before = into.len();
        into.push(identity::STRATEGY.number);
        match self.auto.pack(input, None, into) {
            Ok(strategy) => {
                if let Some(number) = into.get_mut(before) {
                    *number = strategy.number;
                }
                Ok(())
            }
            Err(error) => {
                into.truncate(before);
                Err(error)
            }
        }
    }

    fn decompress(
        &mut self,
        packed: &[u8],
        limit: usize,
        into: &mut Vec<u8>,
    ) -> Result<(), DecompressError> {
        let Some((number, packed)) = packed.split_first() else {
            return Err(DecompressError::damaged("shorter than its number"));
        };
        let known = self.unpacking.iter().position(|(of, _)| of == number);
        let place = if let Some(place) = known {
            place
        } else {
            let strategy = by_number(*number).filter(|strategy| **strategy != STRATEGY);
            let strategy =
                strategy.ok_or_else(|| DecompressError::damaged("no strategy has its number"))?;
            self.unpacking.push((*number, (strategy.new)()));
            self.unpacking.len() - 1
        };
        match self.unpacking.get_mut(place) {
            Some((_, strategy)) => strategy.decompress(packed, limit, into),
            None => Err(DecompressError::damaged("no strategy has its number")),
        }
    }
}

#[cfg(test)]
mod tests;

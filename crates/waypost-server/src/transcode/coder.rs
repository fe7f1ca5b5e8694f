//! A shard's transcoding: which form of a message somebody gets, and where it comes from.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use waypost_compress::dictionary::Publisher;
use waypost_compress::{Stages, StagesAtWork};
use waypost_core::{Message, ShardId};

use super::accepted::Accepted;
use super::books::Books;
use super::choosers::Choosers;
use super::message::{content_encoding, content_type, is_sealed, owned, packed, unpacked};
use super::plan::{Plan, Way};
use super::recent::{Direction, Outcome, Recent};
use super::rules::{By, Codings, Packing};
use super::workers::{Failure, Job, JobId, Worked, Workers, work};
use crate::dictionaries::{Sampler, Shelf};
use crate::metrics::ShellCounters;

/// Payloads up to this size are transcoded on the shard's loop, where the slowest strategy takes about a millisecond
/// for them.
pub(super) const INLINE_BYTES_MAX: usize = 16 * 1024;
/// And what they are unpacked to there; what would be larger is begun anew by a worker.
pub(super) const INLINE_UNPACKED_BYTES_MAX: usize = 64 * 1024;
/// Shorter payloads are not packed: `content-encoding` alone takes half of that.
const PACKED_BYTES_MIN: usize = 64;
/// Strategies that are kept at work with their memory.
const AT_WORK_MAX: usize = 8;
/// How often trouble with messages is told in the log.
const TELL_EVERY: Duration = Duration::from_mins(1);

/// The bounds of a shard's transcoding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CoderLimits {
    /// The most that a payload may be unpacked to.
    pub(crate) unpacked_bytes_max: usize,
}

/// What somebody gets whom a plan concerns.
#[derive(Debug)]
pub(crate) enum Form {
    /// This.
    Other(Coded),
    /// The message as it came: it cannot be transcoded, or it would not be worth it.
    AsItIs,
    /// It is being worked on.
    Later(JobId),
}

/// A message's other form.
#[derive(Clone, Debug)]
pub(crate) struct Coded {
    payload: Rc<Vec<u8>>,
    properties: Vec<u8>,
}

impl Coded {
    fn new(
        direction: Direction,
        stages: &Stages,
        payload: Rc<Vec<u8>>,
        message: &Message<'_>,
    ) -> Self {
        let properties = match direction {
            Direction::Unpack => unpacked(message.properties),
            Direction::Pack(_) => packed(message.properties, &stages.content_encoding()),
        };
        Self {
            payload,
            properties,
        }
    }

    /// The message in this form.
    pub(crate) fn of<'a>(&'a self, message: &Message<'a>) -> Message<'a> {
        Message {
            topic: message.topic,
            payload: waypost_core::Payload {
                bytes: &self.payload,
                shared: Some(&self.payload),
            },
            properties: &self.properties,
            expiry_s: message.expiry_s,
            verbatim: None,
        }
    }
}

/// What a worker is at.
#[derive(Debug)]
struct Working {
    direction: Direction,
    stages: Stages,
    payload_bytes: usize,
    /// Who waits for it, by their places in the shard; some may be gone.
    connections: Vec<usize>,
}

/// What a worker was at, done.
#[derive(Debug)]
pub(crate) struct Settled {
    direction: Direction,
    stages: Stages,
    /// `None`: the message keeps its form.
    payload: Option<Rc<Vec<u8>>>,
    pub(crate) connections: Vec<usize>,
}

impl Settled {
    /// The form that a message has now which waited for it.
    pub(crate) fn form(&self, message: &Message<'_>) -> Option<Coded> {
        let payload = Rc::clone(self.payload.as_ref()?);
        Some(Coded::new(self.direction, &self.stages, payload, message))
    }
}

/// A strategy with its memory: the dictionary it packs with is one of its own.
struct AtWork {
    stages: Stages,
    dictionary: Option<u32>,
    strategy: StagesAtWork,
}

/// A shard's part in transcoding.
pub(crate) struct Coder {
    shard: ShardId,
    codings: Arc<Codings>,
    limits: CoderLimits,
    workers: Workers,
    recent: Recent,
    working: HashMap<JobId, Working>,
    next_job: u64,
    at_work: Vec<AtWork>,
    choosers: Choosers,
    shelf: Arc<Shelf>,
    sampler: Option<Sampler>,
    told: Option<Instant>,
    untold: u64,
}

impl Coder {
    pub(crate) fn new(
        shard: ShardId,
        codings: Arc<Codings>,
        limits: CoderLimits,
        workers: Workers,
        (shelf, sampler): (Arc<Shelf>, Option<Sampler>),
    ) -> Self {
        Self {
            shard,
            codings,
            limits,
            workers,
            recent: Recent::default(),
            working: HashMap::new(),
            next_job: 0,
            at_work: Vec::new(),
            choosers: Choosers::default(),
            shelf,
            sampler,
            told: None,
            untold: 0,
        }
    }

    /// These policies hold from now on.
    pub(crate) fn adopt(&mut self, codings: Arc<Codings>) {
        if !codings.transcodes() {
            self.recent = Recent::default();
            self.at_work = Vec::new();
        }
        self.choosers = Choosers::default();
        self.codings = codings;
    }

    /// Whether any message at all is transcoded.
    #[inline]
    pub(crate) fn is_at_work(&self) -> bool {
        self.codings.transcodes()
    }

    /// Payloads that workers have.
    pub(crate) fn waiting(&self) -> usize {
        self.working.len()
    }

    /// Whether any message is learnt from.
    #[inline]
    pub(crate) fn learns(&self) -> bool {
        self.codings.learns() && self.sampler.is_some()
    }

    /// What is to be done with a message; `None`: everybody gets it as it came. `is_accepted`: somebody who gets it accepts
    /// any packing at all.
    pub(crate) fn plan(
        &mut self,
        message: &Message<'_>,
        is_accepted: bool,
        counters: &mut ShellCounters,
    ) -> Option<Plan> {
        let payload = message.payload.bytes;
        if payload.is_empty() {
            return None;
        }
        let Some(encoding) = content_encoding(message.properties) else {
            let packing = is_accepted.then(|| self.packing(message)).flatten()?;
            return Some(Plan::Pack(self.ways(&packing, message)));
        };
        self.codings.for_topic(message.topic)?;
        let stages = match Stages::from_content_encoding(&encoding) {
            Ok(stages) if stages.content_encoding() == "identity" => return None,
            Ok(stages) => stages,
            Err(_) => {
                counters.transcode_unknown_encodings += 1;
                return None;
            }
        };
        let way = Way::unpacking(stages, payload, &self.shelf)?;
        (!is_sealed(message)).then_some(Plan::Unpack(way))
    }

    /// How the server packs a message that came unpacked, if it does.
    fn packing(&self, message: &Message<'_>) -> Option<Arc<Packing>> {
        if !self.codings.packs() || message.payload.bytes.len() < PACKED_BYTES_MIN {
            return None;
        }
        let packing = self.codings.for_topic(message.topic)?.pack?;
        (!is_sealed(message)).then(|| Arc::clone(packing))
    }

    /// The ways to pack a message by this policy, the best first.
    fn ways(&mut self, packing: &Packing, message: &Message<'_>) -> Vec<Way> {
        let dictionary = packing
            .has_dictionaries
            .then(|| self.shelf.current(&packing.filter))
            .flatten();
        let dictionary = dictionary.as_ref();
        let way = |stages| Way::packing(packing.key, stages, &packing.filter, dictionary);
        match &packing.by {
            By::Stages { stages, needs } => vec![way((stages.clone(), *needs))],
            By::Auto => {
                let seen = (message.payload.bytes, content_type(message.properties));
                let known = &self.shelf;
                let ranked = self.choosers.rank(packing.key, dictionary, known, seen);
                let stages = ranked.into_iter().filter_map(|one| {
                    let stages = Stages::new(vec![one]).ok()?;
                    let needs = Accepted::of(&stages)?;
                    Some((stages, needs))
                });
                stages.map(way).collect()
            }
        }
    }

    /// The other form of a message, once for all who come for it.
    pub(crate) fn form(
        &mut self,
        way: &Way,
        message: &Message<'_>,
        counters: &mut ShellCounters,
    ) -> Form {
        let (direction, stages) = (way.direction, &way.stages);
        let payload = message.payload;
        if let Some(known) = self.recent.find(direction, stages, payload.bytes) {
            return match known {
                Outcome::Done(other) => Form::Other(Coded::new(direction, stages, other, message)),
                Outcome::AsItIs => Form::AsItIs,
                Outcome::Waiting(job) => Form::Later(job),
            };
        }
        let bytes_max = self.bytes_max(direction, message);
        if payload.bytes.len() <= INLINE_BYTES_MAX {
            let inline_max = match direction {
                Direction::Unpack => INLINE_UNPACKED_BYTES_MAX.min(bytes_max),
                Direction::Pack(_) => bytes_max,
            };
            let worked = self.work(way, payload.bytes, inline_max);
            let is_large = worked == Err(Failure::TooLong) && inline_max < bytes_max;
            if !is_large {
                return self.settle_now(way, message, worked, counters);
            }
        }
        let id = JobId(self.next_job);
        let is_taken = self.workers.take(Job {
            id,
            shard: self.shard,
            direction,
            stages: stages.clone(),
            books: self.books(way),
            payload: payload.bytes.to_vec(),
            bytes_max,
        });
        if !is_taken {
            counters.transcode_workers_full += 1;
            // What a strategy can take for a large payload is seconds, and nobody has to have it packed.
            if let Direction::Pack(_) = direction {
                return Form::AsItIs;
            }
            let worked = self.work(way, payload.bytes, bytes_max);
            return self.settle_now(way, message, worked, counters);
        }
        counters.transcode_off_loop += 1;
        self.next_job += 1;
        let working = Working {
            direction,
            stages: stages.clone(),
            payload_bytes: payload.bytes.len(),
            connections: Vec::new(),
        };
        self.working.insert(id, working);
        self.recent.remember(
            direction,
            stages.clone(),
            owned(payload),
            Outcome::Waiting(id),
        );
        Form::Later(id)
    }

    /// A connection waits for that.
    pub(crate) fn wait(&mut self, job: JobId, connection: usize) {
        if let Some(working) = self.working.get_mut(&job) {
            working.connections.push(connection);
        }
    }

    /// A worker is done.
    pub(crate) fn settle(
        &mut self,
        job: JobId,
        worked: Worked,
        counters: &mut ShellCounters,
    ) -> Option<Settled> {
        let Working {
            direction,
            stages,
            payload_bytes,
            connections,
        } = self.working.remove(&job)?;
        let outcome = self.count(direction, payload_bytes, worked, counters);
        self.recent.settle(job, outcome.clone());
        let payload = match outcome {
            Outcome::Done(payload) => Some(payload),
            Outcome::AsItIs | Outcome::Waiting(_) => None,
        };
        Some(Settled {
            direction,
            stages,
            payload,
            connections,
        })
    }

    fn settle_now(
        &mut self,
        way: &Way,
        message: &Message<'_>,
        worked: Worked,
        counters: &mut ShellCounters,
    ) -> Form {
        let (direction, stages) = (way.direction, &way.stages);
        let payload = message.payload;
        let outcome = self.count(direction, payload.bytes.len(), worked, counters);
        let form = match &outcome {
            Outcome::Done(other) => {
                Form::Other(Coded::new(direction, stages, Rc::clone(other), message))
            }
            Outcome::AsItIs | Outcome::Waiting(_) => Form::AsItIs,
        };
        self.recent
            .remember(direction, stages.clone(), owned(payload), outcome);
        form
    }

    /// What may come out: a payload that is packed for its size alone has to become smaller, the property included.
    fn bytes_max(&self, direction: Direction, message: &Message<'_>) -> usize {
        match direction {
            Direction::Unpack => self.limits.unpacked_bytes_max,
            Direction::Pack(_) => message.payload.bytes.len().saturating_sub(PACKED_BYTES_MIN),
        }
    }

    /// What packs and unpacks on that way.
    fn books(&self, way: &Way) -> Books {
        Books {
            shelf: Arc::clone(&self.shelf),
            current: way.dictionary.clone(),
        }
    }

    /// Learns by these from now on.
    #[cfg(test)]
    pub(crate) fn learn_by(&mut self, known: Arc<Shelf>, sampler: Sampler) {
        (self.shelf, self.sampler) = (known, Some(sampler));
    }

    /// Somebody sent a message: if the server packs such ones with dictionaries, it is learnt from.
    pub(crate) fn learn(&self, publisher: Publisher, message: &Message<'_>) {
        if let Some(sampler) = &self.sampler
            && content_encoding(message.properties).is_none()
            && let Some(packing) = self.packing(message)
            && packing.has_dictionaries
        {
            sampler.offer(&packing.filter, publisher, message.payload.bytes);
        }
    }

    fn work(&mut self, way: &Way, payload: &[u8], bytes_max: usize) -> Worked {
        let (direction, stages) = (way.direction, &way.stages);
        let books = self.books(way);
        let dictionary = books.id();
        let is_it = |one: &AtWork| one.stages == *stages && one.dictionary == dictionary;
        let place = self.at_work.iter().position(is_it);
        let one = place.map_or_else(
            || AtWork {
                stages: stages.clone(),
                dictionary,
                strategy: books.at_work(stages),
            },
            |place| self.at_work.remove(place),
        );
        if self.at_work.len() == AT_WORK_MAX {
            self.at_work.remove(0);
        }
        self.at_work.push(one);
        let Some(one) = self.at_work.last_mut() else {
            return Err(Failure::Damaged);
        };
        work(direction, &mut one.strategy, payload, bytes_max)
    }

    fn count(
        &mut self,
        direction: Direction,
        bytes: usize,
        worked: Worked,
        counters: &mut ShellCounters,
    ) -> Outcome {
        match worked {
            Ok(other) => {
                let (from, to) = (bytes as u64, other.len() as u64);
                match direction {
                    Direction::Unpack => {
                        counters.transcode_unpacked += 1;
                        counters.transcode_unpacked_bytes_in += from;
                        counters.transcode_unpacked_bytes_out += to;
                    }
                    Direction::Pack(_) => {
                        counters.transcode_packed += 1;
                        counters.transcode_packed_bytes_in += from;
                        counters.transcode_packed_bytes_out += to;
                    }
                }
                Outcome::Done(Rc::new(other))
            }
            Err(failure) => {
                match failure {
                    Failure::NotShorter => counters.transcode_not_shorter += 1,
                    Failure::Damaged => counters.transcode_undecodable += 1,
                    Failure::TooLong => counters.transcode_bombs += 1,
                }
                if failure != Failure::NotShorter {
                    self.tell(failure);
                }
                Outcome::AsItIs
            }
        }
    }

    /// Says that messages are not what they say, once in a while.
    fn tell(&mut self, failure: Failure) {
        self.untold += 1;
        if self.told.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return;
        }
        let why = match failure {
            Failure::TooLong => "would be longer than limits.transcoded_bytes_max",
            Failure::Damaged | Failure::NotShorter => "is not what its content-encoding says",
        };
        log::warn!(
            "a payload {why} and was forwarded as it came ({} such since the last time)",
            self.untold
        );
        self.told = Some(Instant::now());
        self.untold = 0;
    }
}

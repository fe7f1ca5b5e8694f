//! A shard's transcoding: which form of a message somebody gets, and where it comes from.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use waypost_compress::dictionary::Publisher;
use waypost_compress::{Stages, StagesAtWork};
use waypost_core::{Message, ShardId};
use waypost_encrypt::check_sealed;

use super::accepted::Accepted;
use super::books::Books;
use super::message::{content_encoding, owned, packed, says_sealed, unpacked};
use super::recent::{Direction, Outcome, Recent};
use super::rules::{Codings, Packing};
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

/// What is to be done with a message.
#[derive(Debug)]
pub(crate) enum Plan {
    /// It is packed, and unpacked for whoever does not accept that.
    Unpack { stages: Stages, accepts: Accepted },
    /// It is not packed, but is for whoever accepts that.
    Pack(Arc<Packing>),
}

impl Plan {
    /// Whether a client that accepts this gets the message in its other form.
    pub(crate) fn concerns(&self, accepted: Accepted) -> bool {
        match self {
            Self::Unpack { accepts, .. } => !accepted.covers(*accepts),
            Self::Pack(packing) => accepted.covers(packing.needs),
        }
    }

    fn direction(&self) -> Direction {
        match self {
            Self::Unpack { .. } => Direction::Unpack,
            Self::Pack(packing) => Direction::Pack(packing.key),
        }
    }

    fn stages(&self) -> &Stages {
        match self {
            Self::Unpack { stages, .. } => stages,
            Self::Pack(packing) => &packing.stages,
        }
    }
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

    /// What is to be done with a message; `None`: everybody gets it as it came.
    pub(crate) fn plan(
        &mut self,
        message: &Message<'_>,
        counters: &mut ShellCounters,
    ) -> Option<Plan> {
        let payload = message.payload.bytes;
        if payload.is_empty() {
            return None;
        }
        let encoding = content_encoding(message.properties);
        if encoding.is_none() && (!self.codings.packs() || payload.len() < PACKED_BYTES_MIN) {
            return None;
        }
        let coding = self.codings.for_topic(message.topic)?;
        let plan = match encoding {
            Some(encoding) => match Stages::from_content_encoding(&encoding) {
                Ok(stages) if stages.content_encoding() == "identity" => None,
                Ok(stages) => Accepted::of(&stages).map(|accepts| Plan::Unpack { stages, accepts }),
                Err(_) => {
                    counters.transcode_unknown_encodings += 1;
                    None
                }
            },
            None => coding.pack.map(|packing| Plan::Pack(Arc::clone(packing))),
        }?;
        // What nobody but its receivers can open stays as it was sent.
        let is_sealed = says_sealed(message.properties) || check_sealed(payload).is_ok();
        (!is_sealed).then_some(plan)
    }

    /// The other form of a message, once for all who come for it.
    pub(crate) fn form(
        &mut self,
        plan: &Plan,
        message: &Message<'_>,
        counters: &mut ShellCounters,
    ) -> Form {
        let (direction, stages) = (plan.direction(), plan.stages());
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
            let worked = self.work(plan, payload.bytes, inline_max);
            let is_large = worked == Err(Failure::TooLong) && inline_max < bytes_max;
            if !is_large {
                return self.settle_now(plan, message, worked, counters);
            }
        }
        let id = JobId(self.next_job);
        let is_taken = self.workers.take(Job {
            id,
            shard: self.shard,
            direction,
            stages: stages.clone(),
            books: self.books(plan),
            payload: payload.bytes.to_vec(),
            bytes_max,
        });
        if !is_taken {
            counters.transcode_workers_full += 1;
            let worked = self.work(plan, payload.bytes, bytes_max);
            return self.settle_now(plan, message, worked, counters);
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
        plan: &Plan,
        message: &Message<'_>,
        worked: Worked,
        counters: &mut ShellCounters,
    ) -> Form {
        let (direction, stages) = (plan.direction(), plan.stages());
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

    /// What a plan packs and unpacks with.
    fn books(&self, plan: &Plan) -> Books {
        let current = match plan {
            Plan::Pack(packing) if packing.has_dictionaries => self.shelf.current(&packing.filter),
            Plan::Pack(_) | Plan::Unpack { .. } => None,
        };
        Books {
            shelf: Arc::clone(&self.shelf),
            current,
        }
    }

    /// Learns by these from now on.
    #[cfg(test)]
    pub(crate) fn learn_by(&mut self, known: Arc<Shelf>, sampler: Sampler) {
        (self.shelf, self.sampler) = (known, Some(sampler));
    }

    /// A message that is packed by the server, to be learnt from: somebody sent it just now.
    pub(crate) fn learn(&self, plan: &Plan, publisher: Publisher, payload: &[u8]) {
        if let (Plan::Pack(packing), Some(sampler)) = (plan, &self.sampler)
            && packing.has_dictionaries
        {
            sampler.offer(&packing.filter, publisher, payload);
        }
    }

    fn work(&mut self, plan: &Plan, payload: &[u8], bytes_max: usize) -> Worked {
        let (direction, stages) = (plan.direction(), plan.stages());
        let books = self.books(plan);
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

//! The thread that learns dictionaries, behind everybody else.
//!
//! Shards hand in messages, as many as its queue has room for; the rest goes unlearnt. Of each policy it keeps samples in
//! bounded memory, and a few messages aside to measure by. After the first [`FIRST_MESSAGES`] it makes a dictionary, after
//! [`MORE`] times as many again another, and so on; one that saves less than [`GAIN`] more than the current one is thrown
//! away.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use waypost_compress::dictionary::{
    Dictionary, Privacy, Publisher, SAMPLE_BYTES_MAX, Trainer, TrainingError,
};
use waypost_compress::zstd_dict;

use super::{Files, Shelf, VERSIONS_MAX, topic_of};
use crate::mailbox::{Inbound, Mailbox};
use crate::metrics::Stats;
use crate::threads::Threads;

/// How nice the thread is: everybody comes before it.
const NICENESS: i32 = 19;

/// Messages that wait to be learnt from, at most: 4 MiB with the longest samples.
const WAITING_MAX: usize = 256;

/// Policies that are learnt for, at most: the samples of each are 4 MiB.
const POLICIES_MAX: usize = 64;

/// Messages of a policy before its first dictionary.
const FIRST_MESSAGES: u64 = 1_000;

/// So many times as many before the next.
const MORE: u64 = 4;

/// One message in so many is not learnt from, but measured by.
const ASIDE_EVERY: u64 = 8;

/// So many of these are kept, the last.
const ASIDE_MAX: usize = 256;

/// What a new dictionary leaves is at most this part of what the current one leaves, or there is no use in it.
const GAIN: f64 = 0.97;

/// A message, on its way from a shard.
#[derive(Debug)]
struct Sample {
    filter: Arc<str>,
    publisher: Publisher,
    bytes: Box<[u8]>,
}

/// Where shards hand in messages.
#[derive(Clone, Debug)]
pub(crate) struct Sampler {
    sender: SyncSender<Sample>,
    stats: Arc<Stats>,
}

impl Sampler {
    /// Hands in a message of the policy with this filter, if there is room.
    pub(crate) fn offer(&self, filter: &Arc<str>, publisher: Publisher, payload: &[u8]) {
        let sample = Sample {
            filter: Arc::clone(filter),
            publisher,
            bytes: payload.get(..SAMPLE_BYTES_MAX).unwrap_or(payload).into(),
        };
        let counter = match self.sender.try_send(sample) {
            Ok(()) => &self.stats.server.dictionary_samples,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                &self.stats.server.dictionary_samples_dropped
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// What is known of one policy's messages.
struct Learning {
    trainer: Trainer,
    seen: u64,
    next: u64,
    aside: Vec<Box<[u8]>>,
}

/// The thread's state.
pub(crate) struct Training {
    samples: Receiver<Sample>,
    shelf: Arc<Shelf>,
    files: Files,
    policies: HashMap<Arc<str>, Learning>,
    stats: Arc<Stats>,
}

impl Training {
    /// One that has learnt nothing, and where messages for it are handed in.
    pub(crate) fn new(shelf: Arc<Shelf>, files: Files, stats: &Arc<Stats>) -> (Sampler, Self) {
        let (sender, samples) = sync_channel(WAITING_MAX);
        let hand_in = Sampler {
            sender,
            stats: Arc::clone(stats),
        };
        let training = Self {
            samples,
            shelf,
            files,
            policies: HashMap::new(),
            stats: Arc::clone(stats),
        };
        (hand_in, training)
    }

    /// Learns from all that wait.
    #[cfg(test)]
    pub(crate) fn learn_all(&mut self) -> Vec<Arc<Dictionary>> {
        let waiting: Vec<_> = self.samples.try_iter().collect();
        let each = waiting.iter().filter_map(|sample| self.learn(sample));
        each.collect()
    }

    fn learn(&mut self, sample: &Sample) -> Option<Arc<Dictionary>> {
        let is_known = self.policies.contains_key(&sample.filter);
        if !is_known && (self.policies.len() >= POLICIES_MAX || sample.filter.contains('\n')) {
            return None;
        }
        let filter = Arc::clone(&sample.filter);
        let learning = self.policies.entry(filter).or_insert_with(|| Learning {
            trainer: Trainer::new(Privacy::Shared),
            seen: 0,
            next: FIRST_MESSAGES,
            aside: Vec::new(),
        });
        learning.seen += 1;
        if learning.seen.is_multiple_of(ASIDE_EVERY) {
            if learning.aside.len() == ASIDE_MAX {
                learning.aside.remove(0);
            }
            learning.aside.push(sample.bytes.clone());
        } else {
            learning.trainer.add(sample.publisher, &sample.bytes);
        }
        if learning.seen < learning.next || self.shelf.versions(&sample.filter) >= VERSIONS_MAX {
            return None;
        }
        learning.next = learning.next.saturating_mul(MORE);
        // The next one is of messages to come: what is talked about changes.
        let trainer = std::mem::replace(&mut learning.trainer, Trainer::new(Privacy::Shared));
        let aside = std::mem::take(&mut learning.aside);
        learning.seen = 0;
        self.make(&sample.filter, &trainer, &aside)
    }

    fn make(
        &mut self,
        filter: &Arc<str>,
        trainer: &Trainer,
        aside: &[Box<[u8]>],
    ) -> Option<Arc<Dictionary>> {
        let dictionary = match trainer.train(&|id| self.shelf.is_taken(id)) {
            Ok(dictionary) => Arc::new(dictionary),
            Err(TrainingError::TooFewPublishers { .. } | TrainingError::TooLittleShared { .. }) => {
                return None;
            }
            Err(error) => {
                log::warn!("no dictionary for the policy {filter:?}: {error}");
                return None;
            }
        };
        let now = packed_bytes(self.shelf.current(filter), aside);
        let then = packed_bytes(Some(Arc::clone(&dictionary)), aside);
        if then >= now * GAIN {
            return None;
        }
        // First on disk: a frame that names one that is lost can never be read.
        if let Err(error) = self.files.keep(filter, &dictionary) {
            log::error!("a dictionary for the policy {filter:?} cannot be kept: {error}");
            return None;
        }
        self.shelf.put(filter, Arc::clone(&dictionary));
        self.stats
            .server
            .dictionaries_trained
            .fetch_add(1, Ordering::Relaxed);
        log::info!(
            "the policy {filter:?} packs with dictionary {} now: {:.0} % of what was left before",
            dictionary.id(),
            100.0 * then / now
        );
        Some(dictionary)
    }
}

/// What messages come to, packed with a dictionary or without one.
fn packed_bytes(dictionary: Option<Arc<Dictionary>>, messages: &[Box<[u8]>]) -> f64 {
    let mut strategy = zstd_dict::with(Arc::new(()), dictionary);
    let mut packed = Vec::new();
    for message in messages {
        if strategy.compress(message, &mut packed).is_err() {
            return f64::INFINITY;
        }
    }
    #[allow(clippy::cast_precision_loss, reason = "some MiB, in 53 bits")]
    let bytes = packed.len() as f64;
    bytes
}

/// Starts the thread, which ends with the last shard, and publishes what is on the shelf and what comes there.
pub(crate) fn start_training(
    mut training: Training,
    mailboxes: &Arc<[Arc<Mailbox>]>,
    threads: &mut Threads,
) -> io::Result<()> {
    let publisher = mailboxes.first().cloned();
    let publish = move |dictionaries: &[Arc<Dictionary>]| {
        let messages = dictionaries.iter();
        let messages = messages.map(|one| (topic_of(one.id()), one.bytes().to_vec()));
        if let (Some(mailbox), false) = (&publisher, dictionaries.is_empty()) {
            // A waker fails only when the shard is gone, and its subscribers with it.
            let _ = mailbox.send([Inbound::System(messages.collect())]);
        }
    };
    threads.spawn("dictionaries".to_owned(), move || {
        // On Linux this is the calling thread's own priority, not the process's.
        if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
            log::warn!("the thread that learns dictionaries keeps its priority: {error}");
        }
        publish(&training.shelf.all());
        // Until no shard is left.
        while let Ok(sample) = training.samples.recv() {
            publish(training.learn(&sample).as_slice());
        }
        Ok(())
    })
}

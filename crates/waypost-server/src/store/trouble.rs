//! The disk refuses: who is to know, and until when.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use waypost_core::journal::Refusal;

use super::figures::set;
use crate::mailbox::{Inbound, Mailbox};
use crate::metrics::Stats;

/// The retained topic that says what is wrong with the store, or that nothing is.
pub(crate) const ALARM_TOPIC: &str = "$SYS/broker/store/alarm";
/// The one that says what is wrong with the clock.
pub(crate) const CLOCK_TOPIC: &str = "$SYS/broker/store/clock";
/// What they say while nothing is.
pub(crate) const NO_ALARM: &str = "none";

/// Which part of the store cannot write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The log.
    Log,
    /// The views: the log could go on for a while, but a start would have to read more of it than it may.
    Views,
}

/// Whether the store refuses, where every thread of it can see, and the alarms that go with it.
pub(crate) struct Trouble {
    /// 0: none; else 1 + a refusal, as [`code`] says.
    now: AtomicU8,
    sources: Mutex<[Option<(Refusal, String)>; 2]>,
    mailboxes: Arc<[Arc<Mailbox>]>,
    stats: Arc<Stats>,
}

/// What shards are told of an error that room on the disk would help against, or not.
pub(super) fn refusal(is_full: bool) -> Refusal {
    if is_full {
        Refusal::Full
    } else {
        Refusal::Failed
    }
}

fn code(refusal: Option<Refusal>) -> u8 {
    match refusal {
        None => 0,
        Some(Refusal::Full) => 1,
        Some(Refusal::Failed) => 2,
    }
}

impl Trouble {
    pub(super) fn none(mailboxes: Arc<[Arc<Mailbox>]>, stats: Arc<Stats>) -> Self {
        let none = Self {
            now: AtomicU8::new(code(None)),
            sources: Mutex::default(),
            mailboxes,
            stats,
        };
        none.say(ALARM_TOPIC, NO_ALARM);
        none
    }

    /// Why the store refuses, while it does.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        match self.now.load(Ordering::Acquire) {
            0 => None,
            1 => Some(Refusal::Full),
            _ => Some(Refusal::Failed),
        }
    }

    /// Part of the store cannot write.
    pub(super) fn begin(&self, source: Source, refusal: Refusal, reason: String) {
        self.change(source, Some((refusal, reason)));
    }

    /// It can again.
    pub(super) fn end(&self, source: Source) {
        self.change(source, None);
    }

    fn change(&self, source: Source, to: Option<(Refusal, String)>) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let [log, views] = &mut *sources;
        let place = match source {
            Source::Log => log,
            Source::Views => views,
        };
        if *place == to {
            return;
        }
        *place = to;
        let worst = sources.iter().flatten().next();
        let before = self
            .now
            .swap(code(worst.map(|(refusal, _)| *refusal)), Ordering::AcqRel);
        let (is_full, has_failed) = match worst {
            None => (0, 0),
            Some((Refusal::Full, _)) => (1, 0),
            Some((Refusal::Failed, _)) => (0, 1),
        };
        set(&self.stats.server.store_full, is_full);
        set(&self.stats.server.store_failed, has_failed);
        match worst {
            Some((_, reason)) => log::error!(
                "the store refuses, nothing that has to outlive the server is acknowledged: {reason}"
            ),
            None if before != 0 => log::info!("the store works again"),
            None => {}
        }
        let said = worst.map_or(NO_ALARM, |(_, reason)| reason);
        self.say(ALARM_TOPIC, said);
    }

    /// Says what is wrong, retained.
    pub(super) fn say(&self, topic: &str, alarm: &str) {
        let message = (topic.to_owned(), alarm.as_bytes().to_vec());
        if let Some(mailbox) = self.mailboxes.first() {
            // A waker fails only when the shard is gone, and then nobody listens.
            let _ = mailbox.send([Inbound::System(vec![message])]);
        }
    }
}

//! Retained messages that may yet be taken back: who publishes one is told by the store whether it is kept.
//!
//! What is retained changes at once, so that whoever subscribes after the live copies went gets it. Until the publisher's
//! shard says that it is kept, its owner remembers what it replaced.

use std::collections::VecDeque;

use crate::broker::Broker;
use crate::effects::{Effects, Message, Now, ShardId};
use crate::interest::post;
use crate::mail::{Mail, Origin};
use crate::retained::Retained;
use crate::topics::is_server_topic;

/// What each unsure change replaced, in the order they were made.
#[derive(Debug, Default)]
pub(crate) struct Unsure(VecDeque<Change>);

#[derive(Debug)]
struct Change {
    stamp: u64,
    topic: Box<str>,
    before: Option<Retained>,
    /// It stays; earlier ones are unsure.
    is_kept: bool,
}

impl Unsure {
    pub fn push(&mut self, topic: &str, stamp: u64, before: Option<Retained>) {
        self.0.push_back(Change {
            stamp,
            topic: topic.into(),
            before,
            is_kept: false,
        });
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    fn keep(&mut self, stamp: u64) {
        let mut changes = self.0.iter_mut();
        if let Some(change) = changes.find(|change| change.stamp == stamp) {
            change.is_kept = true;
        }
        self.forget_kept();
    }

    fn forget_kept(&mut self) {
        while self.0.pop_front_if(|change| change.is_kept).is_some() {}
    }

    /// Takes a change out that is not kept. Returns its topic and what is retained there again, unless there is a later
    /// change: that has replaced what was before this one.
    fn take_back(&mut self, stamp: u64) -> Option<(Box<str>, Option<Retained>)> {
        let at = self.0.iter().position(|change| change.stamp == stamp)?;
        let Change { topic, before, .. } = self.0.remove(at)?;
        let mut later = self.0.iter_mut().skip(at);
        let again = match later.find(|change| change.topic == topic) {
            Some(later) => {
                later.before = before;
                None
            }
            None => Some((topic, before)),
        };
        self.forget_kept();
        again
    }
}

impl Broker {
    /// Whether the publisher's shard will say what became of a retained message.
    pub(crate) fn is_unsure(&self, origin: Origin) -> bool {
        self.has_store && origin.publisher != 0 && origin.qos != waypost_mqtt::QoS::AtMostOnce
    }

    /// As the publisher's shard: a retained message is kept, or not.
    pub(crate) fn tell_retained(
        &mut self,
        owner: ShardId,
        stamp: u64,
        is_kept: bool,
        out: &mut impl Effects,
    ) {
        if owner == self.shard {
            self.hear_retained(stamp, is_kept);
        } else {
            post(owner, Mail::Retained { stamp, is_kept }, out);
        }
    }

    /// As owner: likewise.
    pub(crate) fn hear_retained(&mut self, stamp: u64, is_kept: bool) {
        if is_kept {
            self.retained.unsure.keep(stamp);
        } else if let Some((topic, before)) = self.retained.unsure.take_back(stamp) {
            self.retained.put_back(&topic, before);
            self.retained.arm(&mut self.timers);
        }
    }

    /// As owner: something has expired.
    pub(crate) fn retained_due(&mut self, due_ms: u64, now: Now, out: &mut impl Effects) {
        let expired = self.retained.expire(due_ms, now);
        self.counters.retained_expired += expired.len() as u64;
        self.retained.arm(&mut self.timers);
        for (topic, stamp) in expired {
            if self.has_store && !is_server_topic(&topic) && self.is_written_down(&topic) {
                self.forget_retained_row(&topic, stamp, out);
            }
        }
    }

    /// As owner: a change is about to be made.
    pub(crate) fn remember_retained(&mut self, message: &Message<'_>, origin: Origin) {
        if self.is_unsure(origin) {
            let before = self.retained.get(message.topic).cloned();
            let (topic, stamp) = (message.topic, origin.stamp);
            self.retained.unsure.push(topic, stamp, before);
        }
    }
}

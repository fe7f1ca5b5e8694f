//! What a SUBSCRIBE wants of the retained messages, until it has been sent all of it.

use std::collections::VecDeque;

use waypost_mqtt::{Filter, QoS};

use crate::effects::Now;
use crate::index::Cursor;
use crate::parcel::RetainedParcel;
use crate::retained::{Retained, STAMP_SHARD_BITS};

/// What a subscription still wants of the retained messages.
#[derive(Debug)]
pub(crate) struct RetainedRequest {
    pub filter: Box<str>,
    pub qos: QoS,
    /// Subscription Identifier; 0 = none.
    pub identifier: u32,
    pub no_local: bool,
    /// Per shard, its clock when it knew of the subscription: what it stamped later comes live.
    pub confirmed: Box<[u64]>,
    /// The shard whose messages are read now.
    pub owner: u16,
    /// The number under which it was asked, while its answer is awaited; else 0.
    pub asked: u64,
    pub cursor: Cursor,
    /// Read and not sent yet.
    pub ready: VecDeque<Retained>,
    /// Everything was read.
    pub is_read: bool,
    /// Topics and stamps of what was sent while an answer is awaited.
    pub overtaken: Vec<(Box<str>, u64)>,
}

impl RetainedRequest {
    /// One owner was read to its end.
    pub fn next_owner(&mut self, shards: u16) {
        let has_wildcards = Filter::parse(&self.filter).is_ok_and(Filter::has_wildcards);
        self.cursor = Cursor::default();
        self.owner += 1;
        self.is_read = !has_wildcards || self.owner >= shards;
    }

    /// An owner answered.
    pub fn take(&mut self, retained: Vec<RetainedParcel>, cursor: Option<Cursor>, shards: u16) {
        self.asked = 0;
        let overtaken = std::mem::take(&mut self.overtaken);
        self.ready.extend(
            retained
                .into_iter()
                .map(RetainedParcel::open)
                .filter(|kept| {
                    overtaken.iter().all(|(topic, stamp)| {
                        kept.stamp >= *stamp || kept.message.topic() != &**topic
                    })
                }),
        );
        match cursor {
            Some(cursor) => self.cursor = cursor,
            None => self.next_owner(shards),
        }
    }

    /// A newer message on this topic goes to the client first.
    pub fn overtake(&mut self, topic: &str, stamp: u64) {
        self.ready
            .retain(|kept| kept.stamp >= stamp || kept.message.topic() != topic);
        if self.asked != 0 {
            self.overtaken.push((topic.into(), stamp));
        }
    }

    pub fn wants(&self, retained: &Retained, now: Now) -> bool {
        let clock = retained.stamp >> STAMP_SHARD_BITS;
        let shard =
            usize::try_from(retained.stamp & ((1 << STAMP_SHARD_BITS) - 1)).unwrap_or(usize::MAX);
        let is_live = self
            .confirmed
            .get(shard)
            .is_some_and(|confirmed| clock > *confirmed);
        !is_live && !retained.message.is_expired(now)
    }
}

//! A data directory as an earlier run leaves it: sessions that are away, and a log of messages that some are owed.
//!
//! It is written through the store itself, in seconds instead of a million connections.

use std::{
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use waypost_core::{
    index::Subscription,
    journal,
    rows::{SessionRow, SubscriptionRow, filter_key, queue_key},
};
use waypost_mqtt::{QoS, SubscriptionOptions};
use waypost_store::{
    Batch, MessageId, QueueId, Store, StoreOptions, StoreWriter, Table, disk::RealDisk,
};

use crate::random::Random;

/// How much is appended at once, at most: each is a sync.
const APPEND_BYTES_MAX: u64 = 4 << 20;

/// `QoS` 1, without RETAIN and identifiers.
const OWED_AS: [u8; 1] = [1];

/// What an earlier run left.
#[derive(Clone, Copy, Debug)]
pub struct Past {
    /// Sessions that are away for ever, each with one subscription.
    pub sessions: u64,
    /// Bytes of the log that somebody is owed.
    pub log_bytes: u64,
    /// How many of the sessions are owed something, in turn.
    pub debtors: u64,
    /// Bytes of each payload, which do not compress.
    pub payload_bytes: usize,
    /// When a segment is full.
    pub segment_bytes: u64,
    /// How much of the log the views do not know of yet: a start has to read it.
    pub tail_bytes: u64,
}

/// What it came to.
#[derive(Clone, Copy, Debug)]
pub struct Left {
    /// Messages that are owed, each to one session.
    pub messages: u64,
    /// Files of the log.
    pub segments: u64,
    /// Their bytes.
    pub log_bytes: u64,
    /// Bytes of the views' file.
    pub views_bytes: u64,
    /// Bytes of the log that the views do not know of.
    pub tail_bytes: u64,
}

/// The client id of a session; the first is 1.
pub fn client_id(session: u64) -> String {
    format!("device-{session:07}")
}

/// A topic that its subscription matches, and no other's.
pub fn topic(session: u64) -> String {
    format!("site/{}/device/{session:07}/state", session % 1_000)
}

fn filter(session: u64) -> String {
    format!("site/{}/device/{session:07}/+", session % 1_000)
}

/// The store of a data directory.
pub fn store_directory(data_dir: &Path) -> PathBuf {
    data_dir.join("store")
}

struct Writing {
    store: Store<RealDisk>,
    writer: StoreWriter<RealDisk>,
    batch: Batch,
    wall_ms: u64,
    appended_bytes: u64,
    append_bytes: usize,
}

impl Writing {
    /// Appends what there is; folds it as well, unless a start is to do that.
    fn append(&mut self, fold: bool) {
        let batch = self.batch.take();
        let appended = self.writer.append(&[batch], self.wall_ms).unwrap();
        self.writer.sync().unwrap();
        self.appended_bytes += appended.log_bytes;
        if fold {
            self.store.apply(&appended).unwrap();
            if self.store.is_commit_due(self.wall_ms) {
                self.store.commit(self.wall_ms).unwrap();
            }
        }
    }

    fn append_if_large(&mut self, fold: bool) {
        if self.batch.len() > self.append_bytes {
            self.append(fold);
        }
    }
}

impl Past {
    /// Writes the store of a new data directory.
    pub fn leave(&self, data_dir: &Path) -> Left {
        let directory = store_directory(data_dir);
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(data_dir).unwrap();
        builder.create(&directory).unwrap();
        let mut options = StoreOptions::default();
        options.log.segment_bytes = self.segment_bytes;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let wall_ms = u64::try_from(now.as_millis()).unwrap();
        let disk = Arc::new(RealDisk::open(&directory).unwrap());
        let (store, writer, _) = Store::open(disk, options, wall_ms).unwrap();
        let mut writing = Writing {
            store,
            writer,
            batch: Batch::new(),
            wall_ms,
            appended_bytes: 0,
            append_bytes: usize::try_from((self.log_bytes >> 8).min(APPEND_BYTES_MAX)).unwrap(),
        };
        for session in 1..=self.sessions {
            write_session(&mut writing.batch, session, wall_ms);
            writing.append_if_large(true);
        }
        writing.append(true);
        let mut random = Random::new(self.sessions);
        let (mut messages, mut tail_begin) = (0, None);
        let folded_bytes = self.log_bytes.saturating_sub(self.tail_bytes);
        while writing.appended_bytes < self.log_bytes {
            if tail_begin.is_none() && writing.appended_bytes >= folded_bytes {
                writing.store.commit(wall_ms).unwrap();
                tail_begin = Some(writing.appended_bytes);
            }
            messages += 1;
            let session = 1 + messages % self.debtors;
            write_message(
                &mut writing.batch,
                messages,
                session,
                self.payload_bytes,
                wall_ms,
                &mut random,
            );
            writing.append_if_large(tail_begin.is_none());
        }
        writing.append(tail_begin.is_none());
        if tail_begin.is_none() {
            writing.store.commit(wall_ms).unwrap();
        }
        let figures = writing.store.figures().unwrap();
        Left {
            messages,
            segments: figures.log_segments + figures.kept_segments,
            log_bytes: figures.log_bytes,
            views_bytes: figures.views_file_bytes,
            tail_bytes: tail_begin.map_or(0, |begin| writing.appended_bytes - begin),
        }
    }
}

fn write_session(batch: &mut Batch, session: u64, wall_ms: u64) {
    let queue = journal::QueueId(session);
    let client_id = client_id(session);
    let mut value = Vec::new();
    let row = SessionRow {
        client_id: &client_id,
        user: None,
        expiry_s: u32::MAX,
        away_since_ms: Some(wall_ms),
        in_flight: Vec::new(),
    };
    row.encode(&mut value);
    batch.put(Table(journal::Table::SESSIONS.0), &queue_key(queue), &value);
    let (mut key, mut value) = (Vec::new(), Vec::new());
    filter_key(queue, &filter(session), &mut key);
    let row = SubscriptionRow {
        subscription: Subscription {
            options: SubscriptionOptions {
                qos: QoS::AtLeastOnce,
                ..SubscriptionOptions::default()
            },
            identifier: 0,
        },
        weight: 0,
    };
    row.encode(&mut value);
    batch.put(Table(journal::Table::SUBSCRIPTIONS.0), &key, &value);
    batch.end();
}

fn write_message(
    batch: &mut Batch,
    number: u64,
    session: u64,
    payload_bytes: usize,
    wall_ms: u64,
    random: &mut Random,
) {
    let mut body = body(&topic(session), wall_ms);
    let begin = body.len();
    body.resize(begin + payload_bytes, 0);
    for bytes in body[begin..].chunks_mut(8) {
        let number = random.below(u64::MAX).to_le_bytes();
        bytes.copy_from_slice(&number[..bytes.len()]);
    }
    batch.message(MessageId(number), u64::MAX, &body);
    batch.owe(MessageId(number), &OWED_AS, [QueueId(session)]);
    batch.end();
}

/// What stands before the payload of a message at `QoS` 1 that never expires.
fn body(topic: &str, wall_ms: u64) -> Vec<u8> {
    let mut body = vec![1];
    body.extend_from_slice(&[0; 8]);
    put_number(wall_ms, &mut body);
    put_number(topic.len() as u64, &mut body);
    body.extend_from_slice(topic.as_bytes());
    put_number(0, &mut body);
    body
}

fn put_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// What the files of a data directory's store take.
pub fn disk_bytes(data_dir: &Path) -> u64 {
    let entries = fs::read_dir(store_directory(data_dir)).unwrap();
    // One may be taken away meanwhile.
    let sizes = entries.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()));
    sizes.sum()
}

#[cfg(test)]
mod tests {
    use waypost_core::rows::{message, options};

    use super::*;

    #[test]
    fn what_is_owed_is_as_the_server_writes_it() {
        let mut body = body("a/b", 1_700_000_000_000);
        body.extend_from_slice(b"payload");
        let message = message::decode_message(&body).unwrap();
        assert_eq!((message.topic, message.payload), ("a/b", &b"payload"[..]));
        assert_eq!(message.date_wall_ms, 1_700_000_000_000);
        assert_eq!(message.expires_wall_ms, u64::MAX);
        let owed = options::decode_options(&OWED_AS).unwrap();
        assert_eq!((owed.qos, owed.retain), (QoS::AtLeastOnce, false));
    }
}

//! From the offline store to the session: what was published without a connection goes first, in order.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use waypost_mqtt::{Packet, PacketId, ProtocolVersion, QoS, Role, decode, encode};

use crate::completions::{Completions, Finished};
use crate::core::{Admission, Core};
use crate::desk::{Done, Published, Status};
use crate::error::PublishError;
use crate::offline::{OfflineError, OfflineStore};
use crate::protocol::event::Closed;
use crate::protocol::options::Outgoing;
use crate::protocol::remains::Waiting;
use crate::shared::Shared;

/// What is kept while there is no connection, and how far it was sent.
pub(crate) struct Outbox {
    shared: Arc<Shared>,
    kept: Mutex<Kept>,
    /// What became of records that were sent.
    completions: Completions,
    /// There is something to send.
    stored: Notify,
}

struct Kept {
    store: Box<dyn OfflineStore>,
    /// The first record that the session has not seen.
    next: u64,
    /// Those it has, and whether they are finished.
    handed: BTreeMap<u64, bool>,
    /// Who waits for records of this run.
    waiting: HashMap<u64, Done>,
}

/// What becomes of a message that is offered.
pub(crate) enum Offer {
    /// It is on disk.
    Stored,
    /// There is a connection, and nothing waits before it.
    Direct(Box<Waiting>, Done),
}

impl Outbox {
    pub(crate) fn new(shared: Arc<Shared>, store: Box<dyn OfflineStore>) -> Self {
        let kept = Kept {
            next: store.first(),
            store,
            handed: BTreeMap::new(),
            waiting: HashMap::new(),
        };
        Self {
            shared,
            kept: Mutex::new(kept),
            completions: Completions::new(),
            stored: Notify::new(),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a message of QoS 1 or 2, unless it can go at once. There is no connection then that
    /// the sync to disk could hold up.
    pub(crate) fn offer(&self, message: Waiting, done: Done) -> Result<Offer, OfflineError> {
        let mut kept = self.kept();
        let is_connected = self.shared.with(|core| core.desk.is_connected);
        if message.qos == QoS::AtMostOnce || (is_connected && kept.next == kept.store.end()) {
            return Ok(Offer::Direct(Box::new(message), done));
        }
        if !is_connected {
            self.spill(&mut kept)?;
        }
        let number = kept.store.append(&encoded(&message.message()))?;
        kept.waiting.insert(number, done);
        drop(kept);
        self.stored.notify_one();
        Ok(Offer::Stored)
    }

    /// Keeps what was on its way when the connection was lost: it was published before.
    fn spill(&self, kept: &mut Kept) -> Result<(), OfflineError> {
        let completions = &self.completions;
        self.shared.with(|core| {
            core.spill(|message| {
                let number = kept.store.append(&encoded(message))?;
                kept.handed.insert(number, false);
                Ok((completions.clone(), number))
            })
        })
    }

    /// Sends what is kept whenever there is a connection, until the client has ended.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut status = self.shared.status();
        loop {
            let room = self.shared.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            // Seen before it is acted on: a change that comes meanwhile wakes.
            let now = status.borrow_and_update().clone();
            while self.forward() {}
            match now {
                Status::Ended(why) => return self.end(&why),
                Status::Connecting => {
                    // What cannot be kept stays in memory, as without a store.
                    let _ = self.spill(&mut self.kept());
                }
                Status::Connected { .. } => {}
            }
            tokio::select! {
                finished = self.completions.next() => self.finish(finished),
                _ = status.changed() => {}
                () = &mut room => {}
                () = self.stored.notified() => {}
            }
        }
    }

    /// Hands the next record to the session; false: there is none, or no room.
    fn forward(&self) -> bool {
        let mut kept = self.kept();
        let number = kept.next;
        if kept.handed.contains_key(&number) {
            kept.next += 1;
            return true;
        }
        let (message, bytes) = match kept.store.read(number) {
            Ok(None) => return false,
            Ok(Some(record)) => (decoded(&record), record.len()),
            Err(_) => (None, 0),
        };
        let Some(message) = message else {
            kept.next += 1;
            kept.handed.insert(number, false);
            kept.finish(number, Err(PublishError::Damaged));
            return true;
        };
        let is_handed = self.shared.with(|core| {
            let is_room = matches!(core.admit(bytes), Admission::Room);
            let is_open = core.desk.is_connected && is_room;
            if is_open {
                core.publish(message, Done::Into(self.completions.clone(), number));
            }
            is_open
        });
        if is_handed {
            kept.next += 1;
            kept.handed.insert(number, false);
        }
        is_handed
    }

    fn finish(&self, (number, outcome): Finished) {
        // A client that ends leaves its records for the next.
        if !matches!(outcome, Err(PublishError::Ended(_))) {
            self.kept().finish(number, outcome);
        }
    }

    fn end(&self, why: &Arc<Closed>) {
        while let Some(finished) = self.completions.try_next() {
            self.finish(finished);
        }
        for (_, done) in self.kept().waiting.drain() {
            done.tell(Err(PublishError::Ended(Arc::clone(why))));
        }
    }
}

impl Kept {
    /// A record is acknowledged or refused: with all before it, it is not needed any more.
    fn finish(&mut self, number: u64, outcome: Outcome) {
        if let Some(done) = self.waiting.remove(&number) {
            done.tell(outcome);
        }
        if let Some(is_finished) = self.handed.get_mut(&number) {
            *is_finished = true;
        }
        let mut removed = None;
        while let Some(entry) = self.handed.first_entry()
            && *entry.get()
        {
            removed = Some(*entry.key());
            entry.remove();
        }
        if let Some(number) = removed {
            self.next = self.next.max(number + 1);
            // What cannot be removed is sent again after a restart.
            let _ = self.store.remove(number);
        }
    }
}

/// What became of a message.
type Outcome = Result<Published, PublishError>;

/// As the wire has it; the packet id is another each time.
fn encoded(message: &Outgoing<'_>) -> Vec<u8> {
    let mut record = Vec::new();
    let publish = Packet::Publish(waypost_mqtt::Publish {
        dup: false,
        qos: message.qos,
        retain: message.retain,
        topic: message.topic,
        packet_id: PacketId::new(1),
        properties: message.properties,
        payload: message.payload,
    });
    encode(&publish, ProtocolVersion::V5, &mut record);
    record
}

fn decoded(record: &[u8]) -> Option<Waiting> {
    match decode(record, ProtocolVersion::V5, Role::Client) {
        Ok(Packet::Publish(publish)) => Some(Waiting::new(
            &Outgoing {
                topic: publish.topic,
                payload: publish.payload,
                qos: publish.qos,
                retain: publish.retain,
                properties: publish.properties,
            },
            0,
        )),
        _ => None,
    }
}

impl Core {
    /// Gives each message of QoS 1 and 2 that a lost connection left, and that no record stands for,
    /// a record.
    pub(crate) fn spill(
        &mut self,
        mut keep: impl FnMut(&Outgoing<'_>) -> Result<(Completions, u64), OfflineError>,
    ) -> Result<(), OfflineError> {
        let Some((remains, desk)) = self.remains() else {
            return Ok(());
        };
        for message in remains.messages() {
            if message.qos > QoS::AtMostOnce && !desk.is_recorded(message.tag) {
                let (completions, number) = keep(&message.message())?;
                desk.record(message.tag, completions, number);
            }
        }
        Ok(())
    }
}

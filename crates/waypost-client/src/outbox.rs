//! From the offline store to the session: what was published without a connection goes first, in order.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{Mutex, Notify, OwnedMutexGuard, watch};
use waypost_mqtt::{Packet, PacketId, ProtocolVersion, QoS, Role, decode, encode};

use crate::completions::Completions;
use crate::core::{Admission, Core};
use crate::desk::{Done, Published, Status};
use crate::error::PublishError;
use crate::offline::{OfflineError, OfflineStore};
use crate::protocol::event::Closed;
use crate::protocol::options::Outgoing;
use crate::protocol::remains::Waiting;
use crate::shared::Shared;

/// What is kept while there is no connection, and how far it was sent.
///
/// The store is worked on by threads of the runtime that may block, one at a time: whoever comes
/// meanwhile waits for the lock, which goes in the order of asking and so keeps that of messages.
pub(crate) struct Outbox {
    runtime: Handle,
    shared: Arc<Shared>,
    kept: Arc<Mutex<Kept>>,
    /// What became of records that were sent.
    completions: Completions,
    /// There is something to send.
    stored: Notify,
    /// The client has ended, and the store is let go of.
    is_closed: watch::Sender<bool>,
}

struct Kept {
    shared: Arc<Shared>,
    completions: Completions,
    /// Nothing: the client has ended.
    store: Option<Box<dyn OfflineStore>>,
    /// The first record that the session has not seen.
    next: u64,
    /// The number the next record will have.
    end: u64,
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
    pub(crate) fn new(runtime: Handle, shared: Arc<Shared>, store: Box<dyn OfflineStore>) -> Self {
        let kept = Kept::new(Arc::clone(&shared), store);
        Self {
            runtime,
            shared,
            completions: kept.completions.clone(),
            kept: Arc::new(Mutex::new(kept)),
            stored: Notify::new(),
            is_closed: watch::Sender::new(false),
        }
    }

    /// Keeps a message of QoS 1 or 2, unless it can go at once: then nothing touches the disk. If the
    /// future is dropped it may be kept all the same.
    pub(crate) async fn offer(&self, message: Waiting, done: Done) -> Result<Offer, PublishError> {
        if message.qos == QoS::AtMostOnce {
            return Ok(Offer::Direct(Box::new(message), done));
        }
        let kept = Arc::clone(&self.kept).lock_owned().await;
        if kept.is_open() {
            return Ok(Offer::Direct(Box::new(message), done));
        }
        self.work(kept, move |kept| kept.keep(&message, done))
            .await?;
        self.stored.notify_one();
        Ok(Offer::Stored)
    }

    /// Works on what is kept where that may block; it goes on to its end whoever waits for it.
    async fn work(
        &self,
        mut kept: OwnedMutexGuard<Kept>,
        work: impl FnOnce(&mut Kept) -> Result<(), PublishError> + Send + 'static,
    ) -> Result<(), PublishError> {
        let task = self.runtime.spawn_blocking(move || work(&mut kept));
        task.await.unwrap_or(Err(OfflineError::Lost.into()))
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
            let kept = Arc::clone(&self.kept).lock_owned().await;
            if kept.is_open() && self.completions.is_empty() {
                drop(kept);
            } else {
                let is_ended = matches!(now, Status::Ended(_));
                let worked = self.work(kept, move |kept| {
                    kept.advance(&now);
                    Ok(())
                });
                // A store that panicked is asked again when there is something new.
                let _ = worked.await;
                if is_ended {
                    self.is_closed.send_replace(true);
                    return;
                }
            }
            tokio::select! {
                () = self.completions.arrived() => {}
                _ = status.changed() => {}
                () = &mut room => {}
                () = self.stored.notified() => {}
            }
        }
    }

    /// Waits until the store is let go of, with all in it that the client knows of.
    pub(crate) async fn closed(&self) {
        let mut is_closed = self.is_closed.subscribe();
        // It is told before its sender is dropped.
        let _ = is_closed.wait_for(|is_closed| *is_closed).await;
    }
}

impl Kept {
    fn new(shared: Arc<Shared>, store: Box<dyn OfflineStore>) -> Self {
        Self {
            shared,
            completions: Completions::new(),
            next: store.first(),
            end: store.end(),
            store: Some(store),
            handed: BTreeMap::new(),
            waiting: HashMap::new(),
        }
    }

    /// Whether there is a connection and nothing waits for it.
    fn is_open(&self) -> bool {
        self.next == self.end && self.shared.with(|core| core.desk.is_connected)
    }

    /// Keeps a message, behind those before it.
    fn keep(&mut self, message: &Waiting, done: Done) -> Result<(), PublishError> {
        if let Some(why) = self.shared.with(|core| core.ended().cloned()) {
            return Err(PublishError::Ended(why));
        }
        if !self.shared.with(|core| core.desk.is_connected) {
            self.spill()?;
        }
        let number = self.append(&encoded(&message.message()))?;
        self.waiting.insert(number, done);
        Ok(())
    }

    fn append(&mut self, record: &[u8]) -> Result<u64, PublishError> {
        let Some(store) = &mut self.store else {
            return Err(PublishError::Ended(Arc::new(Closed::Finished)));
        };
        let number = store.append(record)?;
        self.end = number + 1;
        Ok(number)
    }

    /// Keeps what was on its way when the connection was lost: it was published before.
    fn spill(&mut self) -> Result<(), PublishError> {
        // Not written where the client's state is locked: the connection would wait for the disk.
        let found = self.shared.with(Core::unrecorded);
        self.write_down(found)
    }

    fn write_down(&mut self, found: Vec<(u64, Vec<u8>)>) -> Result<(), PublishError> {
        for (tag, record) in found {
            let number = self.append(&record)?;
            self.handed.insert(number, false);
            let completions = self.completions.clone();
            let is_unfinished = self
                .shared
                .with(|core| core.desk.record(tag, completions, number));
            if !is_unfinished {
                self.mark(number);
            }
        }
        Ok(())
    }

    /// Does what can be done now: ends what is finished, sends what there is room for, keeps what a
    /// lost connection left.
    fn advance(&mut self, status: &Status) {
        while let Some((number, outcome)) = self.completions.try_next() {
            // A client that ends leaves its records for the next.
            if !matches!(outcome, Err(PublishError::Ended(_))) {
                self.finish(number, outcome);
            }
        }
        while self.forward() {}
        self.trim();
        match status {
            Status::Connected { .. } => {}
            // What cannot be kept stays in memory, as without a store.
            Status::Connecting => drop(self.spill()),
            Status::Ended(why) => {
                self.store = None;
                for (_, done) in self.waiting.drain() {
                    done.tell(Err(PublishError::Ended(Arc::clone(why))));
                }
            }
        }
    }

    /// Hands the next record to the session; false: there is none, or no room.
    fn forward(&mut self) -> bool {
        let number = self.next;
        if self.handed.contains_key(&number) {
            self.next += 1;
            return true;
        }
        if !self.shared.with(|core| core.desk.is_connected) {
            return false;
        }
        let record = self.store.as_mut().map(|store| store.read(number));
        let (message, bytes) = match record {
            None | Some(Ok(None)) => return false,
            Some(Ok(Some(record))) => (decoded(&record), record.len()),
            Some(Err(_)) => (None, 0),
        };
        let Some(message) = message else {
            self.next += 1;
            self.handed.insert(number, false);
            self.finish(number, Err(PublishError::Damaged));
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
            self.next += 1;
            self.handed.insert(number, false);
        }
        is_handed
    }

    /// A record is acknowledged or refused: its message is not needed any more.
    fn finish(&mut self, number: u64, outcome: Outcome) {
        if let Some(done) = self.waiting.remove(&number) {
            done.tell(outcome);
        }
        self.mark(number);
    }

    fn mark(&mut self, number: u64) {
        if let Some(is_finished) = self.handed.get_mut(&number) {
            *is_finished = true;
        }
    }

    /// Removes the records that are finished with all before them. One that a lost connection left
    /// may be finished while others before it are not even sent: it stays until they are.
    fn trim(&mut self) {
        let mut removed = None;
        while let Some(entry) = self.handed.first_entry()
            && *entry.get()
            && *entry.key() < self.next
        {
            removed = Some(entry.remove_entry().0);
        }
        if let (Some(number), Some(store)) = (removed, &mut self.store) {
            // What cannot be removed is sent again after a restart.
            let _ = store.remove(number);
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
    /// The messages of QoS 1 and 2 that a lost connection left and that no record stands for: their
    /// tags, and their records to be.
    fn unrecorded(&mut self) -> Vec<(u64, Vec<u8>)> {
        let Some((remains, desk)) = self.remains() else {
            return Vec::new();
        };
        let messages = remains.messages();
        messages
            .filter(|message| message.qos > QoS::AtMostOnce && !desk.is_recorded(message.tag))
            .map(|message| (message.tag, encoded(&message.message())))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use waypost_mqtt::PropertyBuffer;

    use super::*;
    use crate::backoff::{Backoff, Retries};
    use crate::core::{UnfinishedMax, waiting};
    use crate::desk::Desk;
    use crate::protocol::options::{Acknowledge, Options};

    /// Records in memory.
    #[derive(Default)]
    struct Memory {
        records: Vec<Vec<u8>>,
        first: u64,
    }

    impl OfflineStore for Memory {
        fn append(&mut self, record: &[u8]) -> Result<u64, OfflineError> {
            self.records.push(record.to_owned());
            Ok(self.end() - 1)
        }

        fn read(&mut self, number: u64) -> Result<Option<Vec<u8>>, OfflineError> {
            let record = self.records.get(usize::try_from(number).unwrap());
            Ok(record.cloned())
        }

        fn remove(&mut self, up_to: u64) -> Result<(), OfflineError> {
            self.first = up_to + 1;
            Ok(())
        }

        fn first(&self) -> u64 {
            self.first
        }

        fn end(&self) -> u64 {
            self.records.len() as u64
        }
    }

    fn kept() -> Kept {
        let options = Options {
            version: ProtocolVersion::V5,
            client_id: "c".to_owned(),
            clean_start: true,
            keep_alive: 0,
            user_name: None,
            password: None,
            will: None,
            properties: PropertyBuffer::new(),
            in_flight_max: 10,
            resume_seconds: 0,
            acknowledge: Acknowledge::ByCaller,
        };
        let unfinished_max = UnfinishedMax {
            messages: 10,
            bytes: 10_000,
        };
        let desk = Desk::new(ProtocolVersion::V5, Retries::new(Backoff::new(), 1));
        let core = Core::new(options, unfinished_max, true, desk);
        let shared = Arc::new(Shared::new(core, None));
        Kept::new(shared, Box::new(Memory::default()))
    }

    fn message(payload: &str) -> Waiting {
        let payload = payload.as_bytes().to_vec();
        let (topic, properties) = ("t".to_owned(), PropertyBuffer::new());
        waiting(topic, payload, QoS::AtLeastOnce, false, properties)
    }

    fn done() -> Done {
        Done::Into(Completions::new(), 0)
    }

    const SUCCESS: Published = Published {
        reason: waypost_mqtt::ReasonCode::Success,
    };

    /// Goal: nothing is lost that was told as kept. Method: what was on its way is kept behind a message that waits, and is
    /// acknowledged before that one is sent.
    #[test]
    fn a_record_that_is_finished_first_does_not_take_others_along() {
        let mut kept = kept();
        kept.keep(&message("waits"), done()).unwrap();
        let shared = Arc::clone(&kept.shared);
        shared.with(|core| core.publish(message("was on its way"), done()));
        kept.advance(&Status::Connecting);
        assert_eq!((kept.next, kept.end), (0, 2));
        kept.completions.push(1, Ok(SUCCESS));
        kept.advance(&Status::Connecting);
        assert_eq!(kept.store.as_ref().unwrap().first(), 0, "it still waits");
        // It is sent and acknowledged, too.
        kept.handed.insert(0, false);
        kept.completions.push(0, Ok(SUCCESS));
        kept.advance(&Status::Connecting);
        assert_eq!((kept.next, kept.store.as_ref().unwrap().first()), (2, 2));
        assert!(kept.handed.is_empty());
    }

    /// What was acknowledged while its record was written is not sent again.
    #[test]
    fn what_is_finished_while_it_is_written_down_is_removed() {
        let mut kept = kept();
        let shared = Arc::clone(&kept.shared);
        shared.with(|core| core.publish(message("was on its way"), done()));
        let found = shared.with(Core::unrecorded);
        shared.with(|core| core.desk.finish(found[0].0, Ok(SUCCESS)));
        kept.write_down(found).unwrap();
        kept.advance(&Status::Connecting);
        assert_eq!((kept.next, kept.store.as_ref().unwrap().first()), (1, 1));
    }

    /// Each message is written down once, however often a connection is lost.
    #[test]
    fn what_is_written_down_is_not_written_down_again() {
        let mut kept = kept();
        let shared = Arc::clone(&kept.shared);
        shared.with(|core| core.publish(message("1"), done()));
        for _ in 0..3 {
            kept.advance(&Status::Connecting);
        }
        assert_eq!(kept.end, 1);
        kept.advance(&Status::Ended(Arc::new(Closed::Finished)));
        let refused = kept.keep(&message("2"), done());
        assert!(matches!(refused, Err(PublishError::Ended(_))));
    }
}

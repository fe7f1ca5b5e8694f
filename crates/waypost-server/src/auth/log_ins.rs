//! Passwords are checked here: a desk that says whose turn it is, and threads that hash.
//!
//! Hashing takes tens of milliseconds and 19 MiB, so the threads that do it are few and the nicest there are; no shard
//! ever waits for one. The desk is the only one that tells shards about rules and verdicts, so that a verdict under old
//! rules cannot come behind new ones.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use waypost_auth::{
    HashMemory, Joined, KEY_BYTES, Origin, PasswordCheck, Question, Queue, Remembered, Rules,
};
use waypost_core::{Answer, Authentication, ConnectionId, ShardId, Ticket};
use waypost_mqtt::ReasonCode;

use super::judges::Judges;
use crate::config::Config;
use crate::mailbox::{Inbound, Mailbox};
use crate::metrics::Stats;
use crate::threads::Threads;

/// How nice a thread that hashes is.
const NICENESS: i32 = 19;
/// More threads for hashing than this take turns on the cores anyway.
const THREADS_BY_DEFAULT: usize = 4;
/// A thread that had nothing to hash for this long gives its memory back.
const MEMORY_KEPT: Duration = Duration::from_secs(10);

/// Who waits: shard, slot, and which of the connections that have been there.
type Waiter = (u16, u32, u32);

/// What the desk is told.
pub(super) enum Message {
    Ask(ShardId, Question),
    Forget(ShardId, Ticket),
    Checked(Check, bool),
    /// The rules until now and from now on; told when every shard has them before anything else that comes.
    Rules(Arc<Rules>, Arc<Rules>, Sender<()>),
    End,
}

/// A password on its way through a thread that hashes.
pub(super) struct Check {
    waiter: Waiter,
    origin: Origin,
    question: Question,
    thread: usize,
}

/// What the shards and others tell the desk through.
#[derive(Clone)]
pub(super) struct DeskPort {
    messages: Sender<Message>,
    /// Connections that wait for the desk.
    parked: Arc<AtomicUsize>,
    parked_max: usize,
}

impl DeskPort {
    pub(super) fn tell(&self, message: Message) -> bool {
        self.messages.send(message).is_ok()
    }
}

/// What one shard asks through. It never waits.
pub(super) struct ShardPasswords {
    pub(super) shard: ShardId,
    pub(super) desk: DeskPort,
    pub(super) stats: Arc<Stats>,
}

impl PasswordCheck for ShardPasswords {
    fn ask(&mut self, question: Question) -> bool {
        let desk = &self.desk;
        let has_place = desk.parked.fetch_add(1, Ordering::Relaxed) < desk.parked_max;
        if has_place && desk.tell(Message::Ask(self.shard, question)) {
            return true;
        }
        desk.parked.fetch_sub(1, Ordering::Relaxed);
        count(&self.stats.server.log_ins_refused);
        false
    }

    fn forget(&mut self, ticket: Ticket) {
        // When the desk is gone, nobody is told anything any more.
        self.desk.tell(Message::Forget(self.shard, ticket));
    }
}

/// Decides whose password is checked next, and tells the shards what came out.
pub(super) struct Desk {
    port: DeskPort,
    messages: Receiver<Message>,
    queue: Queue<Waiter, Question>,
    remembered: Remembered,
    rules: Arc<Rules>,
    judges: Judges,
    mailboxes: Arc<[Arc<Mailbox>]>,
    threads: Vec<Sender<Check>>,
    idle: Vec<usize>,
    stats: Arc<Stats>,
    started: Instant,
}

/// The desk, and what tells it something.
pub(super) fn open(config: &Config) -> (DeskPort, Receiver<Message>) {
    let (messages, inbox) = channel();
    let port = DeskPort {
        messages,
        parked: Arc::default(),
        // The desk makes room by its own rules; this holds while it does not come to it.
        parked_max: config.shell.log_ins_waiting_max.saturating_mul(2),
    };
    (port, inbox)
}

impl Desk {
    /// Starts the desk and the threads that hash.
    pub(super) fn start(
        config: &Config,
        (port, messages): (DeskPort, Receiver<Message>),
        rules: Arc<Rules>,
        judges: Judges,
        mailboxes: Arc<[Arc<Mailbox>]>,
        stats: Arc<Stats>,
        all: &mut Threads,
    ) -> io::Result<()> {
        let mut key = [0; KEY_BYTES];
        getrandom::fill(&mut key).map_err(io::Error::from)?;
        let mut threads = Vec::new();
        for index in 0..thread_count(config) {
            let (work, checks) = channel();
            let messages = port.messages.clone();
            all.spawn(format!("hash-{index}"), move || {
                hash(&checks, &messages);
                Ok(())
            })?;
            threads.push(work);
        }
        let desk = Self {
            queue: Queue::new(config.shell.log_ins_waiting_max),
            remembered: Remembered::new(key, config.shell.log_ins_remembered_max),
            idle: (0..threads.len()).collect(),
            port,
            messages,
            rules,
            judges,
            mailboxes,
            threads,
            stats,
            started: Instant::now(),
        };
        all.spawn("log-ins".to_owned(), move || {
            desk.run();
            Ok(())
        })
    }

    fn run(mut self) {
        loop {
            let next = match self.queue.next_due_ms() {
                None => self
                    .messages
                    .recv()
                    .map_err(|_| RecvTimeoutError::Disconnected),
                Some(due_ms) => {
                    let wait_ms = due_ms.saturating_sub(self.now_ms());
                    self.messages.recv_timeout(Duration::from_millis(wait_ms))
                }
            };
            match next {
                Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(message) => self.handle(message),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let now_ms = self.now_ms();
            while let Some(waiter) = self.queue.due(now_ms) {
                self.answer(waiter, rejected(ReasonCode::BadUserNameOrPassword));
            }
            self.give_work(now_ms);
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn handle(&mut self, message: Message) {
        let now_ms = self.now_ms();
        match message {
            Message::Ask(shard, question) => self.handle_question(shard, question, now_ms),
            Message::Forget(shard, ticket) => {
                if self.queue.forget(waiter(shard, ticket), now_ms) {
                    self.port.parked.fetch_sub(1, Ordering::Relaxed);
                }
            }
            Message::Checked(check, is_right) => self.handle_checked(check, is_right, now_ms),
            Message::Rules(before, rules, done) => {
                self.remembered.clear();
                for (index, mailbox) in (0..).zip(self.mailboxes.iter()) {
                    let (permit, authenticate) = self.judges.of(ShardId(index), &rules, &before);
                    // A waker fails only when the shard is gone, and its clients with it.
                    let _ = mailbox.send([Inbound::Rules(permit, authenticate)]);
                }
                self.rules = rules;
                let _ = done.send(());
            }
            Message::End => {}
        }
    }

    fn handle_question(&mut self, shard: ShardId, question: Question, now_ms: u64) {
        let waiter = waiter(shard, question.ticket);
        if self.answer_remembered(waiter, &question, now_ms) {
            return;
        }
        let origin = Origin::of(question.address);
        let sent_away = match self.queue.join(waiter, origin, question, now_ms) {
            Joined::Waits => return,
            Joined::InsteadOf(other) => other,
            Joined::Refused => waiter,
        };
        count(&self.stats.server.log_ins_refused);
        self.answer(sent_away, rejected(ReasonCode::ServerBusy));
    }

    /// Answers one whose credentials were right a moment ago.
    fn answer_remembered(&mut self, waiter: Waiter, question: &Question, now_ms: u64) -> bool {
        let Question { user, password, .. } = question;
        let is_right = question.is_known
            && self.remembered.knows(user, password, now_ms)
            && self.rules.has_password(user, &question.hash);
        if is_right {
            count(&self.stats.server.log_ins_remembered);
            self.answer(waiter, accepted(question));
        }
        is_right
    }

    fn handle_checked(&mut self, check: Check, is_right: bool, now_ms: u64) {
        let Check {
            waiter,
            origin,
            question,
            thread,
        } = check;
        self.idle.push(thread);
        count(&self.stats.server.passwords_hashed);
        if !is_right || !question.is_known {
            count(&self.stats.server.passwords_wrong);
            self.queue.wrong(waiter, origin, now_ms);
            return;
        }
        self.queue.right(origin, now_ms);
        let Question { user, password, .. } = &question;
        if self.rules.has_password(user, &question.hash) {
            let forgotten = self.remembered.remember(user, password, now_ms);
            let counter = &self.stats.server.log_ins_forgotten;
            counter.fetch_add(forgotten as u64, Ordering::Relaxed);
            self.answer(waiter, accepted(&question));
        } else {
            // It was right until the users changed meanwhile.
            self.answer(waiter, rejected(ReasonCode::BadUserNameOrPassword));
        }
    }

    fn give_work(&mut self, now_ms: u64) {
        while let Some(thread) = self.idle.pop() {
            let Some((waiter, origin, question)) = self.queue.next(now_ms) else {
                self.idle.push(thread);
                return;
            };
            // Many that share a user come at once: one of them was checked while the others waited.
            if self.answer_remembered(waiter, &question, now_ms) {
                self.queue.right(origin, now_ms);
                self.idle.push(thread);
                continue;
            }
            let check = Check {
                waiter,
                origin,
                question,
                thread,
            };
            if let Some(work) = self.threads.get(thread) {
                // A thread that is gone has panicked, and the server ends.
                let _ = work.send(check);
            }
        }
    }

    fn answer(&self, (shard, connection, opened): Waiter, outcome: Authentication) {
        self.port.parked.fetch_sub(1, Ordering::Relaxed);
        let ticket = Ticket {
            connection: ConnectionId(connection),
            opened,
        };
        if let Some(mailbox) = self.mailboxes.get(usize::from(shard)) {
            // A waker fails only when the shard is gone, and its clients with it.
            let _ = mailbox.send([Inbound::Verdict(ticket, Answer::Authenticate(outcome))]);
        }
    }
}

/// A thread that hashes, until the desk is gone.
fn hash(checks: &Receiver<Check>, messages: &Sender<Message>) {
    // On Linux this is the calling thread's own priority, not the process's.
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        log::warn!("a thread that hashes passwords keeps its priority: {error}");
    }
    let mut memory = HashMemory::default();
    loop {
        let check = match checks.recv_timeout(MEMORY_KEPT) {
            Err(RecvTimeoutError::Timeout) => {
                memory = HashMemory::default();
                checks.recv().map_err(|_| RecvTimeoutError::Disconnected)
            }
            received => received,
        };
        let Ok(check) = check else {
            return;
        };
        let Question { hash, password, .. } = &check.question;
        let is_right = hash.verify(password, &mut memory);
        if messages.send(Message::Checked(check, is_right)).is_err() {
            return;
        }
    }
}

fn thread_count(config: &Config) -> usize {
    match config.server.hash_threads {
        0 => std::thread::available_parallelism()
            .map_or(1, |cores| cores.get().div_ceil(2))
            .min(THREADS_BY_DEFAULT),
        threads => usize::from(threads),
    }
}

fn waiter(shard: ShardId, ticket: Ticket) -> Waiter {
    (shard.0, ticket.connection.0, ticket.opened)
}

fn accepted(question: &Question) -> Authentication {
    Authentication::Accept {
        user: Some(question.user.clone()),
        data: None,
    }
}

fn rejected(reason: ReasonCode) -> Authentication {
    Authentication::Reject(reason)
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

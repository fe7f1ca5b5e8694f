//! All clients of one life of a data directory, and what is known of them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver},
    },
    time::{Duration, Instant},
};

use rumqttc::QoS;
use waypost_tests::{
    Program, Server,
    ledger::{Counts, Entry, Event, Ledger, Message},
    required_program,
};

use crate::{
    mosquitto,
    paho::Paho,
    report::{Report, Reports},
    rumq::Rumq,
    stream,
};

/// How long everybody may take to be back and to have everything, all of it together.
const PATIENCE: Duration = Duration::from_mins(1);
/// The same in a round that has already failed.
const PATIENCE_LOST: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(10);
/// Topics of the publisher of retained messages, `kept/0` and so on.
const KEPT: u64 = 4;

/// Publishers to `crash/…`, and last the client whose connections end in a will, which no group hears.
const HEARD: &[&str] = &[
    "paho1", "paho2", "rumq1", "rumq2", "mpub", "mlater", "mortal",
];
/// Those that are `mosquitto_pub`, and after how many seconds what they publish is to come: most of it while the server is
/// down, or starts, or is to be killed again.
const LINES: [(&str, u32); 2] = [("mpub", 0), ("mlater", 1)];
/// Publishers that repeat what was not acknowledged; rumqttc's count for themselves.
const REPEATING: &[&str] = &["paho1", "paho2", "keeper"];
const SUBSCRIBERS: &[&str] = &["steady", "flapper", "sleeper", "rumqs", "msub"];
/// It reads the stream from its beginning on, in a session that outlives its connections.
const READER: &str = "reader";
const GROUP: &str = "group";
/// Clients that may be told to leave.
const LEAVING: &[&str] = &["flapper", "member1", "member2"];

/// What a round came to see.
pub struct Scene {
    paho: Paho,
    publishers: [Rumq; 2],
    _subscribers: [Rumq; 3],
    stream: stream::Seen,
    _msub: mosquitto::Subscriber,
    mpubs: Vec<mosquitto::Publisher>,
    port: u16,
    mpub_numbers: [u64; LINES.len()],
    era: Arc<AtomicU64>,
    to: Reports,
    reports: Receiver<Report>,
    ledger: Ledger,
    online: HashSet<String>,
    /// Clients whose subscriptions were granted: from then on their sessions must be there.
    granted: HashSet<String>,
    away: HashSet<&'static str>,
    paused: usize,
    kept: Kept,
    filters: Filters,
    wrong: Vec<String>,
    deadline: Instant,
}

/// Retained messages as one looker saw them since the last kill.
#[derive(Default)]
struct Kept {
    /// What was acknowledged when the server was killed, by topic.
    at_least: BTreeMap<u64, u64>,
    retained: BTreeMap<u64, u64>,
    latest: BTreeMap<u64, u64>,
}

/// The subscriptions that change.
#[derive(Default)]
struct Filters {
    asked: HashMap<String, (String, bool)>,
    /// Whether a filter is there; none: the answer has not come.
    is_there: BTreeMap<String, Option<bool>>,
    told: HashSet<String>,
}

impl Scene {
    /// Starts everybody against the server at `port`.
    pub fn new(port: u16, era: Arc<AtomicU64>) -> Self {
        let (to, reports) = mpsc::channel();
        let filters: &[&str] = &["crash/#", "will/#"];
        let mut ledger = Ledger::default();
        for subscriber in SUBSCRIBERS {
            ledger.subscribe(subscriber, Entry::Subscriber, HEARD);
        }
        ledger.subscribe(GROUP, Entry::Group, &HEARD[..HEARD.len() - 1]);
        for reader in [READER, stream::ENTRY] {
            ledger.subscribe(reader, Entry::Subscriber, &HEARD[..HEARD.len() - 1]);
        }
        let python = required_program(Program::Python).expect("Python with paho");
        Self {
            paho: Paho::start(python, port, to.clone()),
            publishers: [
                Rumq::publisher("rumq1", port, QoS::AtLeastOnce, to.clone()),
                Rumq::publisher("rumq2", port, QoS::ExactlyOnce, to.clone()),
            ],
            _subscribers: [
                Rumq::subscriber("rumqs", port, &["crash/#", "will/#"], "rumqs", to.clone()),
                Rumq::subscriber(
                    "member4",
                    port,
                    &["$share/group/crash/#"],
                    GROUP,
                    to.clone(),
                ),
                Rumq::subscriber(
                    READER,
                    port,
                    &[stream::FROM_THE_BEGINNING],
                    READER,
                    to.clone(),
                ),
            ],
            stream: stream::Seen::default(),
            _msub: mosquitto::Subscriber::start(
                "msub",
                port,
                filters,
                Arc::clone(&era),
                to.clone(),
            ),
            mpubs: Vec::new(),
            port,
            mpub_numbers: [0; LINES.len()],
            era,
            to,
            reports,
            ledger,
            online: HashSet::new(),
            granted: HashSet::new(),
            away: HashSet::new(),
            paused: 0,
            kept: Kept::default(),
            filters: Filters::default(),
            wrong: Vec::new(),
            deadline: Instant::now() + PATIENCE,
        }
    }

    /// Whether everybody is there and has subscribed, so that all is owed to all; a finding otherwise.
    pub fn gather(&mut self) {
        let subscribing = [
            "steady", "flapper", "sleeper", "rumqs", "member1", "member2", "member3", "member4",
            READER,
        ];
        self.until("everybody to have subscribed", |scene| {
            subscribing.iter().all(|&name| scene.granted.contains(name))
        });
        // mosquitto_sub does not say when it has subscribed: it has when it hears something.
        self.start_mpubs(0);
        self.until("mosquitto_sub to hear", |scene| {
            scene.publish_line();
            std::thread::sleep(POLL);
            scene.ledger.has_heard("msub")
        });
        self.end_mpubs();
        // What it missed before that was not owed to it.
        self.ledger.forgive("msub");
    }

    fn start_mpubs(&mut self, round: u64) {
        let lines = LINES.into_iter().zip(self.mpub_numbers);
        self.mpubs = lines
            .map(|(line, number)| {
                mosquitto::Publisher::start(line, self.port, number, round, self.to.clone())
            })
            .collect();
    }

    /// `mosquitto_pub` ends with the server that it has published to.
    pub fn end_mpubs(&mut self) {
        for (mpub, number) in self.mpubs.drain(..).zip(&mut self.mpub_numbers) {
            *number = mpub.number();
        }
    }

    /// Lets all publishers publish.
    pub fn publish(&mut self, round: u64) {
        self.deadline = Instant::now() + PATIENCE;
        self.paused = 0;
        self.paho.tell("publish");
        for publisher in &self.publishers {
            publisher.switch(true);
        }
        self.start_mpubs(round);
    }

    /// One line more through each `mosquitto_pub`.
    pub fn publish_line(&mut self) {
        for mpub in &mut self.mpubs {
            mpub.publish();
        }
    }

    /// Stops all publishers; what is on its way goes on.
    pub fn pause(&mut self) {
        self.paho.tell("pause");
        for publisher in &self.publishers {
            publisher.switch(false);
        }
        self.until("the publishers to stop", |scene| {
            scene.paused >= REPEATING.len()
        });
    }

    /// A client goes offline, politely or not, until [`Scene::return_all`].
    pub fn leave(&mut self, which: usize, is_polite: bool) {
        if let Some(name) = LEAVING.get(which % LEAVING.len()) {
            self.leave_by_name(name, is_polite);
        }
    }

    /// The sleeper goes, for rounds.
    pub fn sleep(&mut self) {
        self.leave_by_name("sleeper", true);
    }

    fn leave_by_name(&mut self, name: &'static str, is_polite: bool) {
        if self.away.insert(name) {
            self.paho.tell(&format!(
                "leave {name} {}",
                if is_polite { "bye" } else { "cut" }
            ));
            self.online.remove(name);
        }
    }

    /// Everybody comes back, the sleeper only when it is to wake up.
    pub fn return_all(&mut self, wakes_sleeper: bool) {
        let coming: Vec<_> = self
            .away
            .iter()
            .copied()
            .filter(|&name| name != "sleeper" || wakes_sleeper)
            .collect();
        for name in coming {
            self.away.remove(name);
            self.paho.tell(&format!("come {name}"));
        }
    }

    /// A subscription for this round, and the end of the last round's.
    pub fn change_filters(&mut self, round: u64) {
        let (new, old) = (
            format!("changing/{round}"),
            format!("changing/{}", round.saturating_sub(1)),
        );
        self.paho.tell(&format!("subscribe {new}"));
        self.filters.is_there.insert(new, None);
        if self.filters.is_there.contains_key(&old) {
            self.paho.tell(&format!("unsubscribe {old}"));
            self.filters.is_there.insert(old, None);
        }
    }

    /// Remembers what was acknowledged of the retained messages, before a killed server starts again.
    pub fn remember_kept(&mut self) {
        self.hear();
        self.kept = Kept::default();
        for topic in 0..KEPT {
            if let Some(number) = self
                .ledger
                .acked_max("keeper", |number| number % KEPT == topic)
            {
                self.kept.at_least.insert(topic, number);
            }
        }
    }

    /// A new client looks at all retained messages.
    pub fn look(&mut self, round: u64) {
        self.paho.tell(&format!("look looker{round}"));
    }

    /// Counts the connections of clients that do not say when they lost one.
    pub fn next_era(&self) {
        self.era.fetch_add(1, Ordering::SeqCst);
    }

    /// Takes note of all that was reported.
    pub fn hear(&mut self) {
        while let Ok(report) = self.reports.try_recv() {
            self.note(report);
        }
    }

    fn note(&mut self, report: Report) {
        match report {
            Report::Ledger(event) => self.ledger.note(event),
            Report::On {
                client,
                connection,
                session_present,
            } => {
                if !session_present && self.granted.contains(&client) {
                    self.wrong.push(format!("the session of {client} is lost"));
                }
                if client == "mortal" {
                    let message = Message {
                        publisher: client.clone(),
                        number: connection,
                    };
                    self.ledger.note(Event::Sent {
                        message,
                        connection,
                    });
                    // Its session has no subscriptions; it must be there again all the same.
                    self.granted.insert(client.clone());
                }
                self.online.insert(client);
            }
            Report::Off { client, connection } => {
                self.online.remove(&client);
                if client == "mortal" && connection > 0 {
                    let message = Message {
                        publisher: client,
                        number: connection,
                    };
                    self.ledger.note(Event::Acked {
                        message,
                        connection,
                    });
                }
            }
            Report::Subscribed {
                client,
                packet_id,
                is_granted,
            } => {
                if !is_granted {
                    self.wrong
                        .push(format!("a subscription of {client} was refused"));
                }
                if client == "changer" {
                    self.filters.answered(&packet_id);
                }
                self.granted.insert(client);
            }
            Report::Unsubscribed { packet_id } => self.filters.answered(&packet_id),
            Report::Asked { filter, packet_id } => self.filters.ask(filter, packet_id),
            Report::Kept {
                topic,
                number,
                is_retained,
            } => self.kept.note(&topic, number, is_retained),
            Report::Told { topic } => {
                self.filters.told.insert(topic);
            }
            Report::Ended { client } => self.wrong.push(format!("{client} has ended")),
            Report::Paused => self.paused += 1,
        }
    }

    /// Hears until `condition` holds; a finding when it does not in time.
    fn until(&mut self, what: &str, mut condition: impl FnMut(&mut Self) -> bool) -> bool {
        loop {
            self.hear();
            if condition(self) {
                return true;
            }
            if !self.wrong.is_empty() {
                self.deadline = self.deadline.min(Instant::now() + PATIENCE_LOST);
            }
            if Instant::now() > self.deadline {
                self.wrong.push(format!("waited in vain for {what}"));
                return false;
            }
            if let Ok(report) = self.reports.recv_timeout(POLL) {
                self.note(report);
            }
        }
    }

    /// Waits until everybody has everything, then judges it. Returns what is wrong.
    pub fn judge(&mut self, server: Option<&Server>, round: u64) -> Vec<String> {
        let hearing: Vec<&str> = SUBSCRIBERS
            .iter()
            .copied()
            .filter(|&name| !self.away.contains(name))
            .chain([GROUP, READER])
            .collect();
        self.until("clients to come back", |scene| {
            let mut paho = [
                "paho1", "paho2", "keeper", "steady", "flapper", "changer", "mortal",
            ]
            .iter();
            paho.all(|&name| scene.online.contains(name))
        });
        self.until("acknowledgements", |scene| {
            REPEATING
                .iter()
                .all(|name| scene.ledger.unanswered(name) == 0)
                && scene.publishers.iter().all(Rumq::is_idle)
        });
        let waited = hearing.clone();
        self.until("what was acknowledged", |scene| {
            waited
                .iter()
                .all(|name| scene.ledger.missing(name).is_empty())
        });
        self.judge_filters();
        self.until("retained messages", |scene| {
            scene.kept.is_complete(&scene.ledger)
        });
        self.paho.tell("unlook");
        let mut wrong = std::mem::take(&mut self.wrong);
        if let Some(server) = server {
            wrong.extend(self.stream.read(server, round, &self.to));
            self.hear();
        }
        let judged = [&hearing[..], &[stream::ENTRY]].concat();
        wrong.extend(self.ledger.settle(&judged));
        wrong.extend(self.kept.judge(&self.ledger));
        wrong
    }

    /// Publishes to the filters that were changed: those that are gone first, so that one that is there shows the end.
    fn judge_filters(&mut self) {
        let known = |state: bool| {
            let here = self
                .filters
                .is_there
                .iter()
                .filter(move |(_, is_there)| **is_there == Some(state));
            here.map(|(filter, _)| filter.clone()).collect::<Vec<_>>()
        };
        let (gone, here) = (known(false), known(true));
        self.filters.told.clear();
        for filter in gone.iter().chain(&here) {
            self.paho.tell(&format!("tell {filter}"));
        }
        self.until("messages to changed subscriptions", |scene| {
            here.iter()
                .all(|filter| scene.filters.told.contains(filter))
        });
        for filter in gone
            .iter()
            .filter(|filter| self.filters.told.contains(*filter))
        {
            self.wrong
                .push(format!("{filter} was unsubscribed from and still heard"));
        }
        self.filters
            .is_there
            .retain(|_, is_there| *is_there == Some(true));
    }

    /// What has been counted so far.
    pub fn counts(&self) -> Counts {
        self.ledger.counts
    }
}

impl Filters {
    fn ask(&mut self, filter: String, packet_id: String) {
        // The last thing asked of a filter is to subscribe to it, unless it was there before.
        let is_subscribe = !self.asked.values().any(|(asked, _)| *asked == filter);
        self.asked.insert(packet_id, (filter, is_subscribe));
    }

    fn answered(&mut self, packet_id: &str) {
        let Some((filter, is_subscribe)) = self.asked.get(packet_id) else {
            return;
        };
        if let Some(is_there) = self.is_there.get_mut(filter) {
            *is_there = Some(*is_subscribe);
        }
    }
}

/// Whether a number of the publisher of retained messages deletes, as its script says.
fn deletes(number: u64) -> bool {
    number / KEPT % 3 == 2
}

impl Kept {
    fn note(&mut self, topic: &str, number: u64, is_retained: bool) {
        let Some(topic) = topic
            .strip_prefix("kept/")
            .and_then(|topic| topic.parse().ok())
        else {
            return;
        };
        if is_retained {
            self.retained.insert(topic, number);
        }
        if number > 0 {
            self.latest.insert(topic, number);
        }
    }

    fn is_complete(&self, ledger: &Ledger) -> bool {
        (0..KEPT).all(
            |topic| match ledger.acked_max("keeper", |number| number % KEPT == topic) {
                Some(number) if !deletes(number) => {
                    self.latest.get(&topic).is_some_and(|&seen| seen >= number)
                }
                _ => true,
            },
        )
    }

    fn judge(&self, ledger: &Ledger) -> Vec<String> {
        let sent = ledger.sent_max("keeper");
        let mut wrong = Vec::new();
        for topic in 0..KEPT {
            let at_least = self.at_least.get(&topic).copied().unwrap_or(0);
            let later = |number: &u64| *number >= at_least && number % KEPT == topic;
            let what = match self.retained.get(&topic) {
                Some(seen) if seen % KEPT != topic || deletes(*seen) => {
                    format!("has {seen}, which is not its own")
                }
                Some(seen) if *seen < at_least => {
                    format!("has {seen}, and {at_least} was acknowledged")
                }
                Some(seen) if *seen > sent => format!("has {seen}, which was never sent"),
                None if at_least > 0 && !(at_least..=sent).filter(later).any(deletes) => {
                    // A live copy, sent anew before the subscription was answered, is not marked as retained.
                    if self.latest.contains_key(&topic) {
                        continue;
                    }
                    format!("has nothing, and {at_least} was acknowledged")
                }
                _ => continue,
            };
            wrong.push(format!("retained kept/{topic} {what}"));
        }
        wrong
    }
}

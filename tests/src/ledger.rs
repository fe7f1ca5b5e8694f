//! What clients said they did, held against what a server has promised them: the model of `cargo xtask crash`.
//!
//! Publishers number their messages from 1. A subscriber is owed every message of a publisher that the publisher's
//! library reported as acknowledged; it may get those that were sent and not acknowledged; it gets them in order, those
//! of QoS 2 once, those of QoS 1 again only where a connection ended in between. Several subscribers may share one
//! entry: a group, which is owed every message by some member.
//!
//! Deliberately not here: processes, sockets, time. Events may come in any order between two clients, so nothing is
//! judged before [`Ledger::settle`], when everybody has been heard.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// One message: its publisher's name and its number, from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Message {
    /// Who published it.
    pub publisher: String,
    /// Which of that publisher's.
    pub number: u64,
}

/// What a client reports; `connection` counts that client's own connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A publisher has handed a message to its library, or the library has written it anew.
    Sent {
        /// Which message.
        message: Message,
        /// On which of the publisher's connections.
        connection: u64,
    },
    /// The publisher's library has its PUBACK or PUBCOMP.
    Acked {
        /// Which message.
        message: Message,
        /// On which of the publisher's connections.
        connection: u64,
    },
    /// The publisher's library has a refusal.
    Refused {
        /// Which message.
        message: Message,
        /// The reason code.
        reason: String,
    },
    /// A subscriber's application has got a message.
    Received {
        /// Whose entry in the ledger: the subscriber's, or the group's.
        subscriber: String,
        /// Which message.
        message: Message,
        /// The QoS that it was delivered with.
        qos: u8,
        /// On which of the subscriber's connections.
        connection: u64,
    },
}

/// What a subscriber's entry promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// One subscriber: everything, in order.
    Subscriber,
    /// Members of a group: everything to some member.
    Group,
}

#[derive(Debug, Default)]
struct Published {
    /// The connection of the first sending, by number; what is settled is forgotten.
    first: BTreeMap<u64, u64>,
    acked: BTreeMap<u64, u64>,
    refused: BTreeSet<u64>,
    sent_max: u64,
    /// The connection of the last sending, and the highest number sent on it.
    on_connection: (u64, u64),
    /// Sent by its library behind a later one: no order is owed.
    out_of_order: BTreeSet<u64>,
}

#[derive(Debug)]
struct Receipt {
    number: u64,
    qos: u8,
    connection: u64,
}

#[derive(Debug)]
struct Heard {
    entry: Entry,
    /// From which publishers it hears.
    publishers: Vec<String>,
    receipts: HashMap<String, Vec<Receipt>>,
    /// All up to this number has been judged, by publisher.
    settled: HashMap<String, u64>,
}

/// What is known of all publishers and subscribers.
#[derive(Debug, Default)]
pub struct Ledger {
    published: BTreeMap<String, Published>,
    heard: BTreeMap<String, Heard>,
    /// Acknowledged messages, deliveries, repeated deliveries at QoS 1.
    pub counts: Counts,
    wrong: Vec<String>,
}

/// What a ledger has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that were acknowledged.
    pub acked: u64,
    /// Messages that came to an application.
    pub received: u64,
    /// Of these, those at QoS 1 that had come before.
    pub repeated: u64,
}

impl Ledger {
    /// An entry that is owed what these publishers send from now on.
    pub fn subscribe(&mut self, subscriber: &str, entry: Entry, publishers: &[&str]) {
        let publishers: Vec<String> = publishers.iter().map(|&name| name.to_owned()).collect();
        let settled = publishers
            .iter()
            .map(|name| (name.clone(), self.sent_max(name)));
        let heard = Heard {
            entry,
            settled: settled.collect(),
            publishers,
            receipts: HashMap::new(),
        };
        self.heard.insert(subscriber.to_owned(), heard);
    }

    /// How far a publisher has sent.
    pub fn sent_max(&self, publisher: &str) -> u64 {
        self.published
            .get(publisher)
            .map_or(0, |published| published.sent_max)
    }

    /// The highest of a publisher's numbers that pass `wanted` and are acknowledged.
    pub fn acked_max(&self, publisher: &str, wanted: impl Fn(u64) -> bool) -> Option<u64> {
        let acked = &self.published.get(publisher)?.acked;
        acked.keys().rev().copied().find(|&number| wanted(number))
    }

    /// Messages that a publisher has sent and nobody has answered.
    pub fn unanswered(&self, publisher: &str) -> usize {
        let Some(of_publisher) = self.published.get(publisher) else {
            return 0;
        };
        let answered = |number: &&u64| {
            of_publisher.acked.contains_key(number) || of_publisher.refused.contains(number)
        };
        of_publisher
            .first
            .keys()
            .filter(|number| !answered(number))
            .count()
    }

    /// Takes note of what a client reports.
    pub fn note(&mut self, event: Event) {
        match event {
            Event::Sent {
                message,
                connection,
            } => self.sent(&message, connection),
            Event::Acked {
                message,
                connection,
            } => {
                let published = self.published.entry(message.publisher).or_default();
                if published.acked.insert(message.number, connection).is_none() {
                    self.counts.acked += 1;
                }
            }
            Event::Refused { message, reason } => {
                self.wrong
                    .push(format!("{message:?} was refused with {reason}"));
                let published = self.published.entry(message.publisher).or_default();
                published.refused.insert(message.number);
            }
            Event::Received {
                subscriber,
                message,
                qos,
                connection,
            } => {
                self.counts.received += 1;
                let Some(heard) = self.heard.get_mut(&subscriber) else {
                    self.wrong.push(format!(
                        "{subscriber} has subscribed to nothing and got {message:?}"
                    ));
                    return;
                };
                let receipt = Receipt {
                    number: message.number,
                    qos,
                    connection,
                };
                heard
                    .receipts
                    .entry(message.publisher)
                    .or_default()
                    .push(receipt);
            }
        }
    }

    fn sent(&mut self, message: &Message, connection: u64) {
        let published = self.published.entry(message.publisher.clone()).or_default();
        let number = message.number;
        published.first.entry(number).or_insert(connection);
        published.sent_max = published.sent_max.max(number);
        let (last, highest) = published.on_connection;
        if last == connection && number < highest {
            published.out_of_order.insert(number);
        }
        published.on_connection = (
            connection,
            if last == connection {
                highest.max(number)
            } else {
                number
            },
        );
    }

    /// What a subscriber still waits for: acknowledged, owed to it and not heard.
    pub fn missing(&self, subscriber: &str) -> Vec<Message> {
        let Some(heard) = self.heard.get(subscriber) else {
            return Vec::new();
        };
        let mut missing = Vec::new();
        for publisher in &heard.publishers {
            let Some(published) = self.published.get(publisher) else {
                continue;
            };
            let settled = heard.settled.get(publisher).copied().unwrap_or_default();
            let got: BTreeSet<u64> = heard
                .receipts
                .get(publisher)
                .map(|receipts| receipts.iter().map(|receipt| receipt.number).collect())
                .unwrap_or_default();
            let owed = published
                .acked
                .range(settled + 1..)
                .map(|(&number, _)| number);
            missing.extend(
                owed.filter(|number| !got.contains(number))
                    .map(|number| Message {
                        publisher: publisher.clone(),
                        number,
                    }),
            );
        }
        missing
    }

    /// Whether a subscriber has heard anything since it was judged last.
    pub fn has_heard(&self, subscriber: &str) -> bool {
        self.heard
            .get(subscriber)
            .is_some_and(|heard| !heard.receipts.is_empty())
    }

    /// Owes a subscriber nothing of what it has not heard of what was sent before now.
    pub fn forgive(&mut self, subscriber: &str) {
        let Some(heard) = self.heard.get_mut(subscriber) else {
            return;
        };
        heard.receipts.clear();
        for publisher in &heard.publishers {
            let sent = self
                .published
                .get(publisher)
                .map_or(0, |published| published.sent_max);
            heard.settled.insert(publisher.clone(), sent);
        }
    }

    /// Judges everything heard by the subscribers named, who have all that they will get of what was sent, and forgets it.
    pub fn settle(&mut self, subscribers: &[&str]) -> Vec<String> {
        let mut wrong = std::mem::take(&mut self.wrong);
        for &subscriber in subscribers {
            let missing = self.missing(subscriber);
            if let Some(first) = missing.first() {
                wrong.push(format!(
                    "{subscriber} lost {} messages, first {first:?}",
                    missing.len()
                ));
            }
            let Some(heard) = self.heard.get_mut(subscriber) else {
                continue;
            };
            for (publisher, receipts) in std::mem::take(&mut heard.receipts) {
                if !heard.publishers.contains(&publisher) {
                    wrong.push(format!(
                        "{subscriber} got messages of {publisher}, to whom it does not listen"
                    ));
                    continue;
                }
                let published = self.published.entry(publisher.clone()).or_default();
                let settled = heard.settled.get(&publisher).copied().unwrap_or_default();
                let judged = judge(heard.entry, published, settled, &receipts);
                self.counts.repeated += judged.repeated;
                wrong.extend(
                    judged
                        .wrong
                        .into_iter()
                        .map(|what| format!("{subscriber} from {publisher}: {what}")),
                );
            }
            for publisher in &heard.publishers {
                let published = self.published.entry(publisher.clone()).or_default();
                heard.settled.insert(publisher.clone(), published.sent_max);
            }
        }
        self.forget();
        wrong
    }

    /// Forgets what no entry will ask for any more.
    fn forget(&mut self) {
        for (publisher, published) in &mut self.published {
            let waiting = self
                .heard
                .values()
                .filter_map(|heard| heard.settled.get(publisher))
                .min();
            let unanswered = published
                .first
                .keys()
                .copied()
                .find(|number| !published.acked.contains_key(number));
            // One more stays, so that `acked_max` has an answer for what is not delivered but kept.
            let keep = waiting
                .copied()
                .unwrap_or(0)
                .min(unanswered.unwrap_or(u64::MAX));
            published.first = published.first.split_off(&(keep + 1));
            published.out_of_order = published.out_of_order.split_off(&(keep + 1));
            if waiting.is_some() {
                published.acked = published.acked.split_off(&(keep + 1));
            }
        }
    }
}

#[derive(Default)]
struct Judged {
    repeated: u64,
    wrong: Vec<String>,
}

/// One subscriber's receipts of one publisher, in the order in which they came.
fn judge(entry: Entry, published: &Published, settled: u64, receipts: &[Receipt]) -> Judged {
    let mut judged = Judged::default();
    let mut first: HashMap<u64, (u64, u8)> = HashMap::new();
    let mut highest = 0;
    for receipt in receipts {
        let number = receipt.number;
        if number == 0 || number > published.sent_max {
            judged.wrong.push(format!("{number} was never sent"));
            continue;
        }
        let before = first.get(&number).copied();
        if before.is_some() || number <= settled {
            // A member of a group that subscribed at QoS 1 may have had it before.
            let was_qos_2 = before.map_or(entry == Entry::Subscriber, |(_, qos)| qos == 2);
            if receipt.qos == 2 && was_qos_2 {
                judged.wrong.push(format!("{number} came twice at QoS 2"));
            } else if entry == Entry::Subscriber
                && before.is_some_and(|(connection, _)| connection == receipt.connection)
                && !was_resent(published, number)
            {
                judged.wrong.push(format!(
                    "{number} came twice on one connection and was sent once"
                ));
            } else {
                judged.repeated += 1;
            }
            continue;
        }
        first.insert(number, (receipt.connection, receipt.qos));
        if entry == Entry::Subscriber
            && number < highest
            && !published.out_of_order.contains(&number)
        {
            judged.wrong.push(format!("{number} came after {highest}"));
        }
        highest = highest.max(number);
    }
    judged
}

/// Whether a publisher's connection ended between the message's first sending and its acknowledgement.
fn was_resent(published: &Published, number: u64) -> bool {
    match (published.first.get(&number), published.acked.get(&number)) {
        (Some(sent), Some(acked)) => sent != acked,
        // It was never acknowledged, or both were settled before: it may have been.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: u64) -> Message {
        Message {
            publisher: "p".to_owned(),
            number,
        }
    }

    /// Publishers send and acknowledge `p`'s numbers on the connections given; `s` hears (number, QoS, connection).
    fn check(
        sent: &[(u64, u64)],
        acked: &[(u64, u64)],
        heard: &[(u64, u8, u64)],
        entry: Entry,
    ) -> (Vec<String>, u64) {
        let mut ledger = Ledger::default();
        ledger.subscribe("s", entry, &["p"]);
        for &(number, connection) in sent {
            ledger.note(Event::Sent {
                message: message(number),
                connection,
            });
        }
        for &(number, connection) in acked {
            ledger.note(Event::Acked {
                message: message(number),
                connection,
            });
        }
        for &(number, qos, connection) in heard {
            let subscriber = "s".to_owned();
            ledger.note(Event::Received {
                subscriber,
                message: message(number),
                qos,
                connection,
            });
        }
        let wrong = ledger.settle(&["s"]);
        (wrong, ledger.counts.repeated)
    }

    #[track_caller]
    fn good(sent: &[(u64, u64)], acked: &[(u64, u64)], heard: &[(u64, u8, u64)], repeated: u64) {
        assert_eq!(
            check(sent, acked, heard, Entry::Subscriber),
            (vec![], repeated)
        );
    }

    #[track_caller]
    fn bad(sent: &[(u64, u64)], acked: &[(u64, u64)], heard: &[(u64, u8, u64)], expected: &str) {
        let (wrong, _) = check(sent, acked, heard, Entry::Subscriber);
        assert!(
            wrong.iter().any(|what| what.contains(expected)),
            "{wrong:?}"
        );
    }

    #[test]
    fn acknowledged_is_owed_and_sent_is_allowed() {
        good(&[(1, 0), (2, 0)], &[(1, 0)], &[(1, 1, 0)], 0);
        good(&[(1, 0), (2, 0)], &[(1, 0)], &[(1, 1, 0), (2, 1, 0)], 0);
        bad(
            &[(1, 0), (2, 0)],
            &[(1, 0), (2, 0)],
            &[(1, 1, 0)],
            "lost 1 messages",
        );
        bad(
            &[(1, 0)],
            &[(1, 0)],
            &[(1, 1, 0), (2, 1, 0)],
            "2 was never sent",
        );
    }

    #[test]
    fn order_is_owed_unless_the_library_sent_it_otherwise() {
        let sent = [(1, 0), (2, 0), (3, 0)];
        bad(
            &sent,
            &sent,
            &[(1, 1, 0), (3, 1, 0), (2, 1, 0)],
            "2 came after 3",
        );
        let again = [(1, 0), (2, 0), (3, 0), (3, 1), (2, 1)];
        good(
            &again,
            &[(1, 0), (2, 1), (3, 1)],
            &[(1, 1, 0), (3, 1, 0), (2, 1, 0)],
            0,
        );
    }

    #[test]
    fn repeats_are_for_qos_1_where_a_connection_ended() {
        let sent = [(1, 0)];
        good(&sent, &sent, &[(1, 1, 0), (1, 1, 1)], 1);
        good(&sent, &[(1, 1)], &[(1, 1, 0), (1, 1, 0)], 1);
        bad(
            &sent,
            &sent,
            &[(1, 1, 0), (1, 1, 0)],
            "twice on one connection",
        );
        bad(&sent, &sent, &[(1, 2, 0), (1, 2, 1)], "twice at QoS 2");
    }

    #[test]
    fn what_is_settled_counts_as_heard() {
        let mut ledger = Ledger::default();
        ledger.subscribe("s", Entry::Subscriber, &["p"]);
        let sent = Event::Sent {
            message: message(1),
            connection: 0,
        };
        let heard = |qos| Event::Received {
            subscriber: "s".to_owned(),
            message: message(1),
            qos,
            connection: 1,
        };
        ledger.note(sent);
        ledger.note(Event::Acked {
            message: message(1),
            connection: 0,
        });
        ledger.note(heard(1));
        assert_eq!(ledger.settle(&["s"]), Vec::<String>::new());
        ledger.note(heard(1));
        assert_eq!(ledger.settle(&["s"]), Vec::<String>::new());
        ledger.note(heard(2));
        assert_eq!(ledger.settle(&["s"]).len(), 1);
    }

    #[test]
    fn a_group_is_owed_everything_and_no_order() {
        let sent = [(1, 0), (2, 0)];
        assert_eq!(
            check(&sent, &sent, &[(2, 1, 0), (1, 1, 0)], Entry::Group),
            (vec![], 0)
        );
        assert_eq!(check(&sent, &sent, &[(2, 1, 0)], Entry::Group).0.len(), 1);
    }

    #[test]
    fn a_refusal_is_a_finding() {
        let mut ledger = Ledger::default();
        ledger.note(Event::Sent {
            message: message(1),
            connection: 0,
        });
        assert_eq!(ledger.unanswered("p"), 1);
        ledger.note(Event::Refused {
            message: message(1),
            reason: "Quota exceeded".to_owned(),
        });
        assert_eq!(ledger.unanswered("p"), 0);
        assert_eq!(ledger.settle(&[]).len(), 1);
    }
}

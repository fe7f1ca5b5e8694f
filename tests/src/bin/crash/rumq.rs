//! The clients of rumqttc: durable sessions of MQTT 3.1.1.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use rumqttc::{Client, Connection, Event as Happened, Incoming, MqttOptions, Outgoing, QoS};
use waypost_tests::ledger::{Event, Message};

use crate::report::{Report, Reports, received};

const REQUESTS_MAX: usize = 1_000;
/// What a publisher has in flight at most.
const IN_FLIGHT_MAX: u64 = 20;
/// rumqttc gives identifiers up to this one and then begins again, and what it sends anew it sends in their order, against
/// [MQTT-4.6.0-1]: no life has so many messages.
const IDENTIFIERS_MAX: u16 = 60_000;
const RECONNECT: Duration = Duration::from_millis(30);
const PAUSE: Duration = Duration::from_millis(3);

/// One client on two threads: one drives the connection, a publisher has one that publishes.
pub struct Rumq {
    client: Client,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    name: String,
    is_over: AtomicBool,
    is_on: AtomicBool,
    handed: AtomicU64,
    acked: AtomicU64,
    /// Numbers that are handed over and not yet written, in order.
    waiting: Mutex<VecDeque<u64>>,
}

impl Rumq {
    /// A client that publishes to `crash/<name>` while it is switched on.
    pub fn publisher(name: &str, port: u16, qos: QoS, reports: Reports) -> Self {
        let (rumq, connection) = Self::new(name, port);
        rumq.drive(connection, None, reports);
        let (client, state) = (rumq.client.clone(), Arc::clone(&rumq.state));
        thread::spawn(move || {
            while !state.is_over.load(Ordering::Relaxed) {
                let in_flight =
                    state.handed.load(Ordering::SeqCst) - state.acked.load(Ordering::SeqCst);
                if state.is_on.load(Ordering::SeqCst) && in_flight < IN_FLIGHT_MAX {
                    let number = state.handed.fetch_add(1, Ordering::SeqCst) + 1;
                    state.waiting.lock().unwrap().push_back(number);
                    let (topic, payload) = (
                        format!("crash/{}", state.name),
                        format!("{} {number} ", state.name),
                    );
                    drop(client.publish(topic, qos, false, payload));
                }
                thread::sleep(PAUSE);
            }
        });
        rumq
    }

    /// A client that subscribes at QoS 1 whenever the server does not know its session.
    pub fn subscriber(
        name: &str,
        port: u16,
        filters: &'static [&'static str],
        entry: &'static str,
        reports: Reports,
    ) -> Self {
        let (rumq, connection) = Self::new(name, port);
        rumq.drive(connection, Some((filters, entry)), reports);
        rumq
    }

    fn new(name: &str, port: u16) -> (Self, Connection) {
        let mut options = MqttOptions::new(name, "127.0.0.1", port);
        options
            .set_keep_alive(Duration::from_mins(1))
            .set_inflight(IDENTIFIERS_MAX)
            .set_clean_session(false);
        let (client, connection) = Client::new(options, REQUESTS_MAX);
        let state = State {
            name: name.to_owned(),
            ..State::default()
        };
        (
            Self {
                client,
                state: Arc::new(state),
            },
            connection,
        )
    }

    /// Publishes, or stops.
    pub fn switch(&self, is_on: bool) {
        self.state.is_on.store(is_on, Ordering::SeqCst);
    }

    /// Whether all that was published is acknowledged.
    pub fn is_idle(&self) -> bool {
        self.state.handed.load(Ordering::SeqCst) == self.state.acked.load(Ordering::SeqCst)
    }

    fn drive(
        &self,
        mut connection: Connection,
        hears: Option<(&'static [&'static str], &'static str)>,
        reports: Reports,
    ) {
        let (client, state) = (self.client.clone(), Arc::clone(&self.state));
        thread::spawn(move || {
            let mut in_flight: HashMap<u16, u64> = HashMap::new();
            let mut number = 0;
            let mut is_up = false;
            for event in connection.iter() {
                if state.is_over.load(Ordering::Relaxed) {
                    return;
                }
                let name = || state.name.clone();
                let message = |number| Message {
                    publisher: name(),
                    number,
                };
                let report = match event {
                    Err(_) => {
                        thread::sleep(RECONNECT);
                        if !std::mem::take(&mut is_up) {
                            continue;
                        }
                        Report::Off {
                            client: name(),
                            connection: number,
                        }
                    }
                    Ok(Happened::Incoming(Incoming::ConnAck(answer))) => {
                        number += 1;
                        is_up = true;
                        if !answer.session_present {
                            for filter in hears.into_iter().flat_map(|(filters, _)| filters) {
                                drop(client.try_subscribe(*filter, QoS::AtLeastOnce));
                            }
                        }
                        Report::On {
                            client: name(),
                            connection: number,
                            session_present: answer.session_present,
                        }
                    }
                    Ok(Happened::Incoming(Incoming::SubAck(answer))) => Report::Subscribed {
                        client: name(),
                        packet_id: answer.pkid.to_string(),
                        is_granted: !answer
                            .return_codes
                            .contains(&rumqttc::SubscribeReasonCode::Failure),
                    },
                    Ok(Happened::Incoming(Incoming::Publish(publish))) => {
                        let payload = String::from_utf8_lossy(&publish.payload);
                        let entry = hears.map_or("", |(_, entry)| entry);
                        received(entry, &payload, publish.qos as u8, number)
                    }
                    Ok(Happened::Outgoing(Outgoing::Publish(packet_id))) => {
                        let next = || {
                            state
                                .waiting
                                .lock()
                                .unwrap()
                                .pop_front()
                                .unwrap_or_default()
                        };
                        let sent = *in_flight.entry(packet_id).or_insert_with(next);
                        Report::Ledger(Event::Sent {
                            message: message(sent),
                            connection: number,
                        })
                    }
                    Ok(Happened::Incoming(
                        Incoming::PubAck(rumqttc::PubAck { pkid })
                        | Incoming::PubComp(rumqttc::PubComp { pkid }),
                    )) => {
                        let Some(acked) = in_flight.remove(&pkid) else {
                            continue;
                        };
                        let report = Report::Ledger(Event::Acked {
                            message: message(acked),
                            connection: number,
                        });
                        drop(reports.send(report));
                        state.acked.fetch_add(1, Ordering::SeqCst);
                        continue;
                    }
                    Ok(_) => continue,
                };
                drop(reports.send(report));
            }
        });
    }
}

impl Drop for Rumq {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Relaxed);
        drop(self.client.try_disconnect());
    }
}

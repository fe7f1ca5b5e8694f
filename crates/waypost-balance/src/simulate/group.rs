//! The group itself: members, credit, queues, played event by event.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::arrivals::{Arrivals, Message};
use super::scenario::Model;
use crate::hash::mix;
use crate::{Balance, Choice, Member, MemberId, Request, Strategy};

/// Shards that members and publishers are spread over.
const SHARDS: u16 = 4;

/// What happened in a run.
pub(super) struct Played {
    /// Of each message, in the order of arrival, from arrival to the beginning of the work that completed it.
    pub waits_ns: Vec<u64>,
    /// Messages that each member completed.
    pub served: Vec<u64>,
    /// How long each was online.
    pub online_ns: Vec<u64>,
    /// Messages that were done after a later one of their key.
    pub overtaken: u64,
    pub finished_ns: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A member is done with what it worked on in this term of its membership.
    Done {
        station: usize,
        term: u64,
    },
    Leave {
        station: usize,
    },
    Return {
        station: usize,
    },
}

/// A member's side: what it works on and what waits there.
#[derive(Default)]
struct Station {
    speed: f64,
    working_on: Option<usize>,
    /// In flight and not begun.
    received: VecDeque<usize>,
    /// Bound to it by affinity, and not sent for want of credit.
    bound: VecDeque<usize>,
    /// Counts its memberships: what it worked on when it left is never done.
    term: u64,
    /// Where it is in the slice of members, while online.
    place: Option<usize>,
    since_ns: u64,
    online_ns: u64,
    served: u64,
    as_member: Option<Member>,
}

/// What is known of a message under way.
#[derive(Clone, Copy, Default)]
struct Under {
    token: u64,
    sent_ns: u64,
    begun_ns: u64,
}

struct Group<'a> {
    arrivals: &'a Arrivals,
    balance: Box<dyn Balance>,
    credit: u64,
    members: Vec<Member>,
    stations: Vec<Station>,
    /// While nobody has credit.
    queue: VecDeque<usize>,
    under_way: Vec<Under>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    events_made: u64,
    now_ns: u64,
    /// Of each key the latest message that is done.
    latest: Vec<Option<usize>>,
    waits_ns: Vec<u64>,
    overtaken: u64,
    done: usize,
}

/// Plays the arrivals to their end.
pub(super) fn play(
    model: &Model,
    arrivals: &Arrivals,
    strategy: &Strategy,
    credit: u64,
    seed: u64,
) -> Played {
    let mut group = Group {
        arrivals,
        balance: (strategy.new)(mix(seed)),
        credit: credit.max(1),
        members: Vec::new(),
        stations: stations(model, seed),
        queue: VecDeque::new(),
        under_way: vec![Under::default(); arrivals.messages.len()],
        events: BinaryHeap::new(),
        events_made: 0,
        now_ns: 0,
        latest: vec![None; arrivals.keys.len()],
        waits_ns: vec![0; arrivals.messages.len()],
        overtaken: 0,
        done: 0,
    };
    for station in 0..group.stations.len() {
        group.join(station);
    }
    if let Some(churn) = model.churn {
        group.after(churn.every_ns, Event::Leave { station: 0 });
    }
    group.run(model);
    Played {
        served: group
            .stations
            .iter()
            .map(|station| station.served)
            .collect(),
        online_ns: group
            .stations
            .iter()
            .map(|station| station.online_ns + station.online_now_ns(group.now_ns))
            .collect(),
        waits_ns: group.waits_ns,
        overtaken: group.overtaken,
        finished_ns: group.now_ns,
    }
}

/// Identities come from the run's seed, so that the luck of hashing varies between runs.
fn stations(model: &Model, seed: u64) -> Vec<Station> {
    (0_u32..)
        .zip(&model.stations)
        .map(|(id, (weight, speed))| Station {
            speed: *speed,
            as_member: Some(Member {
                id: MemberId(id),
                identity: mix(seed ^ mix(u64::from(id) + 1)),
                weight: *weight,
                in_flight: 0,
                is_ready: true,
                shard: u16::try_from(id % u32::from(SHARDS)).unwrap_or(0),
                site: 0,
            }),
            ..Station::default()
        })
        .collect()
}

impl Station {
    fn online_now_ns(&self, now_ns: u64) -> u64 {
        self.place.map_or(0, |_| now_ns - self.since_ns)
    }
}

impl Group<'_> {
    fn run(&mut self, model: &Model) {
        let mut next = 0;
        while self.done < self.arrivals.messages.len() {
            let arrival = self
                .arrivals
                .messages
                .get(next)
                .map(|message| message.at_ns);
            let event = self.events.peek().map(|Reverse((at_ns, ..))| *at_ns);
            match (arrival, event) {
                (Some(arrival), event) if event.is_none_or(|event| arrival <= event) => {
                    self.now_ns = arrival;
                    self.queue.push_back(next);
                    next += 1;
                    // With others before it nobody has credit.
                    if self.queue.len() == 1 {
                        self.dispatch();
                    }
                }
                (_, Some(at_ns)) => {
                    self.now_ns = at_ns;
                    if let Some(Reverse((.., event))) = self.events.pop() {
                        self.handle(event, model);
                    }
                }
                _ => break,
            }
        }
    }

    fn handle(&mut self, event: Event, model: &Model) {
        match event {
            Event::Done { station, term } => self.finish(station, term),
            Event::Leave { station } => {
                self.leave(station);
                if let Some(churn) = model.churn {
                    let following = (station + 1) % self.stations.len().max(1);
                    self.after(churn.away_ns, Event::Return { station });
                    self.after(churn.every_ns, Event::Leave { station: following });
                }
            }
            Event::Return { station } => {
                self.join(station);
                self.dispatch();
            }
        }
    }

    fn after(&mut self, delay_ns: u64, event: Event) {
        self.events_made += 1;
        let at_ns = self.now_ns.saturating_add(delay_ns);
        self.events.push(Reverse((at_ns, self.events_made, event)));
    }

    fn message(&self, number: usize) -> Option<&Message> {
        self.arrivals.messages.get(number)
    }

    /// Gives away what waits for somebody with credit.
    fn dispatch(&mut self) {
        while let Some(number) = self.queue.front().copied() {
            let arrivals = self.arrivals;
            let Some(key) = self
                .message(number)
                .and_then(|message| arrivals.keys.get(message.key as usize))
            else {
                return;
            };
            let request = Request {
                topic: &key.topic,
                key: None,
                publisher: key.publisher,
                address: Some(key.address),
                shard: u16::try_from(key.publisher % u64::from(SHARDS)).unwrap_or(0),
                now_us: self.now_ns / 1_000,
            };
            let choice = self.balance.choose(&self.members, &request);
            let (Choice::Now(place) | Choice::Later(place)) = choice else {
                return;
            };
            let Some(member) = self.members.get(place).copied() else {
                return;
            };
            self.queue.pop_front();
            let token = self.balance.on_sent(member.id, &request);
            if let Some(under_way) = self.under_way.get_mut(number) {
                under_way.token = token;
            }
            let station = member.id.0 as usize;
            if matches!(choice, Choice::Now(_)) {
                self.send(number, station);
            } else if let Some(station) = self.stations.get_mut(station) {
                station.bound.push_back(number);
            }
        }
    }

    fn send(&mut self, number: usize, station: usize) {
        if let Some(under_way) = self.under_way.get_mut(number) {
            under_way.sent_ns = self.now_ns;
        }
        self.change_in_flight(station, 1);
        if let Some(station) = self.stations.get_mut(station) {
            station.received.push_back(number);
        }
        self.begin(station);
    }

    fn change_in_flight(&mut self, station: usize, change: i64) {
        let place = self.stations.get(station).and_then(|station| station.place);
        if let Some(member) = place.and_then(|place| self.members.get_mut(place)) {
            member.in_flight = member.in_flight.saturating_add_signed(change);
            member.is_ready = member.in_flight < self.credit;
        }
    }

    /// Begins with the next message, if it is idle and has one.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "nanoseconds of a simulation, not negative; a cast saturates"
    )]
    fn begin(&mut self, at: usize) {
        let Some(station) = self.stations.get_mut(at) else {
            return;
        };
        if station.working_on.is_some() {
            return;
        }
        let Some(number) = station.received.pop_front() else {
            return;
        };
        station.working_on = Some(number);
        let (term, speed) = (station.term, station.speed);
        if let Some(under_way) = self.under_way.get_mut(number) {
            under_way.begun_ns = self.now_ns;
        }
        let work_ns = self.message(number).map_or(0, |message| message.work_ns);
        let takes_ns = (work_ns as f64 / speed) as u64;
        self.after(takes_ns, Event::Done { station: at, term });
    }

    fn finish(&mut self, at: usize, term: u64) {
        let Some(station) = self.stations.get_mut(at) else {
            return;
        };
        if station.term != term {
            return;
        }
        let Some(number) = station.working_on.take() else {
            return;
        };
        station.served += 1;
        let id = MemberId(u32::try_from(at).unwrap_or(u32::MAX));
        self.record(number, id);
        self.change_in_flight(at, -1);
        self.begin(at);
        let bound = self.stations.get_mut(at);
        if let Some(next) = bound.and_then(|station| station.bound.pop_front()) {
            self.send(next, at);
        }
        self.dispatch();
    }

    fn record(&mut self, number: usize, id: MemberId) {
        let under_way = self.under_way.get(number).copied().unwrap_or_default();
        let elapsed_us = (self.now_ns - under_way.sent_ns) / 1_000;
        let now_us = self.now_ns / 1_000;
        self.balance
            .on_done(id, under_way.token, Some(elapsed_us), now_us);
        self.done += 1;
        let Some(message) = self.message(number).copied() else {
            return;
        };
        if let Some(wait_ns) = self.waits_ns.get_mut(number) {
            *wait_ns = under_way.begun_ns - message.at_ns;
        }
        if let Some(latest) = self.latest.get_mut(message.key as usize) {
            if latest.is_some_and(|latest| latest > number) {
                self.overtaken += 1;
            }
            *latest = (*latest).max(Some(number));
        }
    }

    fn join(&mut self, at: usize) {
        let place = self.members.len();
        if let Some(station) = self.stations.get_mut(at)
            && let Some(member) = station.as_member
        {
            station.place = Some(place);
            station.since_ns = self.now_ns;
            self.members.push(member);
            self.balance.on_joined(&member);
        }
    }

    /// What was sent or bound to it goes before what was given to nobody yet, in the order it came.
    fn leave(&mut self, at: usize) {
        let Some(station) = self.stations.get_mut(at) else {
            return;
        };
        let Some(place) = station.place else {
            return;
        };
        station.online_ns += station.online_now_ns(self.now_ns);
        station.place = None;
        station.term += 1;
        let mut back: Vec<_> = station.working_on.take().into_iter().collect();
        back.extend(station.received.drain(..));
        back.extend(station.bound.drain(..));
        back.sort_unstable();
        let left = self.members.remove(place);
        for station in &mut self.stations {
            station.place = station.place.map(|at| at - usize::from(at > place));
        }
        self.balance.on_left(left.id);
        for number in back.into_iter().rev() {
            self.queue.push_front(number);
        }
        self.dispatch();
    }
}

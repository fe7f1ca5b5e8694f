//! Where every accepted connection enters: a place among the server's, then a shard.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use waypost_balance::{Balance, Choice, Member, MemberId, Request, Strategy};

use crate::mailbox::{Handover, Inbound, Mailbox};

/// One connection's place among the `limits.connections_max` of the server, free again when this is
/// dropped. Until a shard has it, the connection is in the lobby.
pub(crate) struct Place(Arc<Room>);

/// Connections in one shard, or in the lobby.
struct Room {
    here: AtomicUsize,
    in_all: Arc<AtomicUsize>,
}

impl Room {
    fn new(in_all: &Arc<AtomicUsize>) -> Arc<Self> {
        Arc::new(Self {
            here: AtomicUsize::new(0),
            in_all: Arc::clone(in_all),
        })
    }
}

impl Place {
    fn go_to(&mut self, room: &Arc<Room>) {
        room.here.fetch_add(1, Ordering::Relaxed);
        self.0.here.fetch_sub(1, Ordering::Relaxed);
        self.0 = Arc::clone(room);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.here.fetch_sub(1, Ordering::Relaxed);
        self.0.in_all.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The way from the doors to the shards, shared by every thread that lets connections in.
pub(crate) struct Entrance {
    mailboxes: Arc<[Arc<Mailbox>]>,
    lobby: Arc<Room>,
    rooms: Vec<Arc<Room>>,
    places: usize,
    choosing: Mutex<Choosing>,
}

/// The strategy of `server.balance` at work, with a member for each shard.
struct Choosing {
    strategy: Box<dyn Balance>,
    members: Vec<Member>,
    started: Instant,
}

impl Entrance {
    pub(crate) fn new(
        mailboxes: Arc<[Arc<Mailbox>]>,
        connections_max: usize,
        strategy: &Strategy,
        seed: u64,
    ) -> Self {
        let in_all = Arc::default();
        let shards = u16::try_from(mailboxes.len()).unwrap_or(u16::MAX);
        let members: Vec<Member> = (0..shards).map(member).collect();
        let mut strategy = (strategy.new)(seed);
        for member in &members {
            strategy.on_joined(member);
        }
        Self {
            lobby: Room::new(&in_all),
            rooms: members.iter().map(|_| Room::new(&in_all)).collect(),
            mailboxes,
            places: connections_max,
            choosing: Mutex::new(Choosing {
                strategy,
                members,
                started: Instant::now(),
            }),
        }
    }

    /// A place in the lobby; `None` when all places of the server are taken.
    pub(crate) fn place(&self) -> Option<Place> {
        let in_all = &self.lobby.in_all;
        let taken = in_all.fetch_add(1, Ordering::Relaxed);
        if taken >= self.places {
            in_all.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        self.lobby.here.fetch_add(1, Ordering::Relaxed);
        Some(Place(Arc::clone(&self.lobby)))
    }

    /// Hands each connection to a shard; one wake per shard.
    pub(crate) fn admit(&self, handovers: impl IntoIterator<Item = Handover>) {
        let mut batches: Vec<Vec<Inbound>> = Vec::new();
        batches.resize_with(self.mailboxes.len(), Vec::new);
        {
            let mut choosing = self.choosing.lock().unwrap_or_else(PoisonError::into_inner);
            for mut handover in handovers {
                let shard = choosing.choose(&self.rooms, handover.peer);
                let (Some(room), Some(batch)) = (self.rooms.get(shard), batches.get_mut(shard))
                else {
                    continue;
                };
                handover.place.go_to(room);
                batch.push(Inbound::Handover(handover));
            }
        }
        for (batch, mailbox) in batches.into_iter().zip(self.mailboxes.iter()) {
            if !batch.is_empty() {
                // A waker fails only when its shard is gone: the connections close with it.
                let _ = mailbox.send(batch);
            }
        }
    }
}

impl Choosing {
    fn choose(&mut self, rooms: &[Arc<Room>], peer: Option<SocketAddr>) -> usize {
        for (member, room) in self.members.iter_mut().zip(rooms) {
            member.in_flight = room.here.load(Ordering::Relaxed) as u64;
        }
        let address = peer.map(|peer| peer.ip().to_canonical());
        // Nothing is known of the client yet but where it comes from, so that is what keys go by.
        let from = address.map_or_else(String::new, |address| address.to_string());
        let request = Request {
            topic: "",
            key: Some(&from),
            publisher: identity(&from),
            address,
            shard: 0,
            now_us: u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX),
        };
        match self.strategy.choose(&self.members, &request) {
            Choice::Now(index) | Choice::Later(index) => {
                if let Some(member) = self.members.get(index) {
                    // A connection has no end that a strategy could time: its length is the client's
                    // business.
                    self.strategy.on_sent(member.id, &request);
                }
                index
            }
            Choice::Nobody => 0,
        }
    }
}

fn member(shard: u16) -> Member {
    Member {
        id: MemberId(u32::from(shard)),
        identity: identity(&format!("shard-{shard}")),
        weight: 1,
        in_flight: 0,
        is_ready: true,
        shard,
        site: 0,
    }
}

/// FNV-1a, finished well: the same in every build and at every start.
fn identity(text: &str) -> u64 {
    let mut hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ (hash >> 32)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::VecDeque;

    use mio::{Poll, Token, Waker};

    use super::*;
    use crate::socket::Socket;

    /// An entrance to `shards` mailboxes that nobody reads but the test.
    pub(crate) fn entrance(shards: usize, places: usize, strategy: &str) -> Arc<Entrance> {
        let mailbox = |_| {
            let poll = Poll::new().unwrap();
            Mailbox::new(Waker::new(poll.registry(), Token(0)).unwrap(), 1 << 20)
        };
        let mailboxes = (0..shards).map(mailbox).collect();
        let strategy = waypost_balance::find(strategy).unwrap();
        Arc::new(Entrance::new(mailboxes, places, strategy, 7))
    }

    impl Entrance {
        pub(crate) fn places_taken(&self) -> usize {
            self.lobby.in_all.load(Ordering::Relaxed)
        }

        /// What waits for a shard.
        pub(crate) fn taken_by(&self, shard: usize) -> Vec<Handover> {
            let mut inbound = VecDeque::new();
            self.mailboxes[shard].take(&mut inbound, &mut Vec::new());
            inbound
                .into_iter()
                .filter_map(|inbound| match inbound {
                    Inbound::Handover(handover) => Some(handover),
                    _ => None,
                })
                .collect()
        }
    }

    fn handover(entrance: &Entrance) -> Handover {
        let (socket, _) = mio::net::UnixStream::pair().unwrap();
        Handover::plain(Socket::Unix(socket), None, entrance.place().unwrap())
    }

    #[test]
    fn places_are_bounded_and_come_back() {
        for places in [1, 4] {
            let entrance = entrance(2, places, "round-robin");
            let mut taken: Vec<_> = (0..places).map(|_| entrance.place().unwrap()).collect();
            for _ in 0..=places {
                assert!(entrance.place().is_none());
            }
            taken.pop();
            assert!(entrance.place().is_some());
            drop(taken);
            let handed: Vec<_> = (0..places).map(|_| handover(&entrance)).collect();
            entrance.admit(handed);
            assert!(
                entrance.place().is_none(),
                "a shard's connection has its place"
            );
            let (first, second) = (entrance.taken_by(0), entrance.taken_by(1));
            assert_eq!(first.len() + second.len(), places);
            drop((first, second));
            assert!(entrance.place().is_some());
        }
    }

    #[test]
    fn round_robin_takes_turns() {
        let entrance = entrance(3, 100, "round-robin");
        entrance.admit((0..9).map(|_| handover(&entrance)).collect::<Vec<_>>());
        for shard in 0..3 {
            assert_eq!(entrance.taken_by(shard).len(), 3);
        }
    }
}

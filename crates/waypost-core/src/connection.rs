//! The connections of a shard, in the server's slots.

use core::net::SocketAddr;

use waypost_mqtt::ProtocolVersion;

use crate::alias::{AliasesIn, AliasesOut};
use crate::effects::{ConnectionId, Peer};
use crate::held_counts::HeldPlace;
use crate::permit::Ticket;
use crate::timers::NEVER;
use crate::waiting::Waiting;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// CONNECT has not come.
    Opened,
    /// CONNECT came, CONNACK has not gone: it authenticates, or waits for a verdict or for its session.
    Connecting,
    /// CONNACK has gone.
    Connected,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub peer: Option<SocketAddr>,
    pub phase: Phase,
    pub version: ProtocolVersion,
    /// 5 [MQTT-3.1.2-29]: `false` keeps Reason Strings and User Properties out of all but three packets.
    pub problem_information: bool,
    /// Slot of its session, once connected.
    pub session: u32,
    /// One and a half times the keep alive; 0 = none.
    pub silence_max_ms: u32,
    /// When the last packet came; before CONNECT, when it was opened.
    pub last_packet_ms: u64,
    /// The client's Maximum Packet Size.
    pub packet_bytes_max: u32,
    pub aliases_in: Option<Box<AliasesIn>>,
    pub aliases_out: Option<Box<AliasesOut>>,
    /// What it waits for before it can go on.
    pub waiting: Option<Box<Waiting>>,
    /// Its answers that wait for the store.
    pub held: HeldPlace,
    /// What it shows of itself beyond a name and a password.
    pub proof: Option<Box<Proof>>,
    /// Which of the connections that have been in this slot.
    pub opened: u32,
}

/// Few clients have it.
#[derive(Debug, Default)]
pub(crate) struct Proof {
    /// The names of its certificate.
    pub certificate: Box<[String]>,
    /// Authentication Method of its CONNECT.
    pub method: Option<Box<str>>,
    /// The step a re-authentication is at, while there is one.
    pub reauthentication: Option<u32>,
}

impl Connection {
    fn new(peer: Peer<'_>, opened: u32, now_ms: u64) -> Self {
        Self {
            peer: peer.address,
            phase: Phase::Opened,
            version: ProtocolVersion::V311,
            problem_information: true,
            session: u32::MAX,
            silence_max_ms: 0,
            last_packet_ms: now_ms,
            packet_bytes_max: u32::MAX,
            aliases_in: None,
            aliases_out: None,
            waiting: None,
            held: HeldPlace::default(),
            proof: (!peer.certificate.is_empty()).then(|| {
                Box::new(Proof {
                    certificate: peer.certificate.into(),
                    ..Proof::default()
                })
            }),
            opened,
        }
    }

    /// The names of its certificate; none without one.
    pub fn certificate(&self) -> &[String] {
        self.proof.as_ref().map_or(&[], |proof| &proof.certificate)
    }

    /// What an answer for this connection is to name; it is in slot `id`.
    pub fn ticket(&self, id: ConnectionId) -> Ticket {
        Ticket {
            connection: id,
            opened: self.opened,
        }
    }

    pub fn is_v5(&self) -> bool {
        self.version == ProtocolVersion::V5
    }

    /// When it is to be closed if nothing more comes.
    pub fn deadline_ms(&self, connect_timeout_ms: u64) -> u64 {
        match (self.phase, self.silence_max_ms) {
            (Phase::Connected, 0) => NEVER,
            (Phase::Connected, silence_max_ms) => self.last_packet_ms + u64::from(silence_max_ms),
            _ => self.last_packet_ms + connect_timeout_ms,
        }
    }
}

#[derive(Debug)]
struct Place {
    connection: Option<Connection>,
    /// When the timer of this slot fires; it survives the connection.
    armed_ms: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Connections {
    places: Vec<Place>,
    open: usize,
    opened: u32,
}

impl Connections {
    pub fn insert(&mut self, id: ConnectionId, peer: Peer<'_>, now_ms: u64) {
        let at = id.0 as usize;
        if self.places.len() <= at {
            // An eighth more, not twice as many: memory per idle connection is counted.
            self.places
                .reserve_exact((at + 1 - self.places.len()).max(self.places.len() / 8));
            self.places.resize_with(at + 1, || Place {
                connection: None,
                armed_ms: NEVER,
            });
        }
        self.opened = self.opened.wrapping_add(1);
        if let Some(place) = self.places.get_mut(at) {
            if place.connection.is_none() {
                self.open += 1;
            }
            place.connection = Some(Connection::new(peer, self.opened, now_ms));
        }
    }

    #[inline]
    pub fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.places.get(id.0 as usize)?.connection.as_ref()
    }

    #[inline]
    pub fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.places.get_mut(id.0 as usize)?.connection.as_mut()
    }

    pub fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        let connection = self.places.get_mut(id.0 as usize)?.connection.take()?;
        self.open -= 1;
        Some(connection)
    }

    /// What the slot remembers of its timer.
    pub fn armed_ms(&mut self, id: ConnectionId) -> Option<&mut u64> {
        self.places
            .get_mut(id.0 as usize)
            .map(|place| &mut place.armed_ms)
    }

    pub fn is_armed_at(&self, slot: u32, due_ms: u64) -> bool {
        self.places
            .get(slot as usize)
            .is_some_and(|place| place.armed_ms == due_ms)
    }

    /// Connections there are.
    pub fn len(&self) -> usize {
        self.open
    }

    pub fn ids(&self) -> impl Iterator<Item = ConnectionId> + use<> {
        (0..u32::try_from(self.places.len()).unwrap_or(u32::MAX)).map(ConnectionId)
    }
}

//! How a client connects and what it publishes.

use waypost_mqtt::{Properties, PropertyBuffer, ProtocolVersion, QoS};

/// How a client connects.
#[derive(Debug, Clone)]
pub struct Options {
    /// The protocol spoken.
    pub version: ProtocolVersion,
    /// Empty: the server names the client.
    pub client_id: String,
    /// Forget an earlier session of this client id.
    pub clean_start: bool,
    /// Seconds; 0: none.
    pub keep_alive: u16,
    /// Who connects.
    pub user_name: Option<String>,
    /// How they prove it.
    pub password: Option<Vec<u8>>,
    /// What the server publishes when the connection fails.
    pub will: Option<WillOptions>,
    /// Version 5 properties of CONNECT.
    pub properties: PropertyBuffer,
    /// QoS 1 and 2 messages sent and not acknowledged, at most; at least 1.
    pub in_flight_max: u16,
    /// How long the session outlives a lost connection when `properties` do not say; above 0
    /// what is not acknowledged is kept, to be sent again. MQTT 3.x cannot say seconds: there the
    /// server forgets.
    pub resume_seconds: u32,
    /// Who acknowledges what is received.
    pub acknowledge: Acknowledge,
}

/// Who acknowledges messages of QoS 1 and 2 that are received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledge {
    /// The session, as they come.
    AtOnce,
    /// The caller, once it has dealt with them ([`Session::acknowledge`]); until then they count
    /// against the Receive Maximum.
    ///
    /// [`Session::acknowledge`]: super::session::Session::acknowledge
    ByCaller,
}

/// A will.
#[derive(Debug, Clone)]
pub struct WillOptions {
    /// A topic name.
    pub topic: String,
    /// What it says.
    pub payload: Vec<u8>,
    /// How surely.
    pub qos: QoS,
    /// Whether it is retained.
    pub retain: bool,
    /// Version 5 properties.
    pub properties: PropertyBuffer,
}

/// A message to publish.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// A valid topic name.
    pub topic: &'a str,
    /// What it says.
    pub payload: &'a [u8],
    /// How surely.
    pub qos: QoS,
    /// Whether the server keeps it.
    pub retain: bool,
    /// Version 5 properties.
    pub properties: Properties<'a>,
}

//! Users and permissions, end to end: who comes in, what they may do, and what a change of the users file does to them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod certificates;
mod changes;
mod command;
mod log_in;
mod permissions;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;
use waypost_mqtt::{
    Connect, Filter, Packet, Properties, ProtocolVersion, Publish, QoS, ReasonCode, Subscribe,
    SubscriptionOptions, SubscriptionRequest, Topic,
};
use waypost_tests::{LIMIT, RawClient, Server, ServerOptions, connect_packet};

pub(crate) const V5: ProtocolVersion = ProtocolVersion::V5;
pub(crate) const V311: ProtocolVersion = ProtocolVersion::V311;
pub(crate) const BOTH: [ProtocolVersion; 2] = [V311, V5];

/// Hashes that cost next to nothing, of "secret" and "other".
const SECRET: &str =
    "$argon2id$v=19$m=8,t=1,p=1$BwcHBwcHBwcHBwcHBwcHBw$4R1PEQPItpvkTH5juMUak3oEb8rtWEdaRzGIjigkYIU";
/// One of "secret" that costs as much as those of `waypost users`.
const SLOW_SECRET: &str = "$argon2id$v=19$m=19456,t=2,p=1$nDHXTt995xtVMCxY5hQm9w$/ZvMOQMY8eIz2P/9Z89ZaimsH1D2kiBHoLEdTb2+xC4";
const OTHER: &str =
    "$argon2id$v=19$m=8,t=1,p=1$BwcHBwcHBwcHBwcHBwcHBw$MLRCDXb+RxayCJntq8zu7Tr9vBq/uT2FThD33ukHaZg";

/// A user with the password "secret", and what it may do, as lines of the file.
pub(crate) fn user(name: &str, rules: &str) -> String {
    format!("[[user]]\nname = {name:?}\npassword = \"{SECRET}\"\n{rules}\n")
}

/// The same with the password "other".
pub(crate) fn user_with_other_password(name: &str, rules: &str) -> String {
    user(name, rules).replace(SECRET, OTHER)
}

/// A server with a users file of its own.
pub(crate) struct House {
    pub(crate) server: Server,
    directory: TempDir,
}

impl House {
    pub(crate) fn new(users: &str) -> Self {
        Self::with(users, ServerOptions::new())
    }

    pub(crate) fn with(users: &str, options: ServerOptions) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("users.toml");
        std::fs::write(&file, users).unwrap();
        // Passwords are hashed with what others leave of the machine: nobody is sent away for taking long.
        let options = options
            .environment("WAYPOST_AUTH__USERS_FILE", file.to_str().unwrap())
            .environment("WAYPOST_LIMITS__CONNECT_TIMEOUT", "5m");
        Self {
            server: options.start(),
            directory,
        }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.directory.path().join("users.toml")
    }

    /// A counter now.
    pub(crate) fn count(&self, name: &str) -> u64 {
        let count = self.server.metric(name);
        format!("{count}").parse().unwrap()
    }

    /// Writes other users and asks the server to read them; its status and what it says.
    pub(crate) fn change(&self, users: &str) -> (u16, String) {
        std::fs::write(self.file(), users).unwrap();
        let address = self.server.http();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        write!(
            stream,
            "POST /api/v1/reload HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    /// Logs in with the password "secret".
    #[track_caller]
    pub(crate) fn log_in(&self, version: ProtocolVersion, user: &str) -> RawClient {
        self.log_in_as(version, user, user)
    }

    /// The same under another client id.
    #[track_caller]
    pub(crate) fn log_in_as(
        &self,
        version: ProtocolVersion,
        user: &str,
        client_id: &str,
    ) -> RawClient {
        let connect = credentials(version, client_id, Some(user), Some("secret"));
        RawClient::connect_with(&self.server, &connect).0
    }

    /// What CONNACK says, to somebody from an address that has never failed.
    #[track_caller]
    pub(crate) fn answer_to(&self, connect: &Connect<'_>) -> u8 {
        static ADDRESSES: AtomicU32 = AtomicU32::new(0x7f01_0001);
        let fresh = Ipv4Addr::from(ADDRESSES.fetch_add(1, Ordering::Relaxed));
        self.answer_from(&fresh.to_string(), connect)
    }

    /// What CONNACK says, to somebody from that address.
    #[track_caller]
    pub(crate) fn answer_from(&self, address: &str, connect: &Connect<'_>) -> u8 {
        let mut client = RawClient::open_from(address, self.server.mqtt(), connect.version);
        client.send(&Packet::Connect(*connect));
        let answer = client.receive();
        // Variable header: flags, then the code as it is on the wire.
        let code = answer.bytes()[3];
        if code != 0 {
            client.expect_closed();
        }
        code
    }

    /// Somebody who may do everything, to look from.
    #[track_caller]
    pub(crate) fn watcher(&self, filter: &str) -> RawClient {
        let mut watcher = self.log_in(V5, "root");
        watcher.subscribe(filter, QoS::AtLeastOnce);
        watcher
    }
}

/// The user `root`, with the password "secret", who may do everything.
pub(crate) fn root() -> String {
    user("root", r##"allow = ["#", "$SYS/#", "$events/#"]"##)
}

pub(crate) fn credentials<'a>(
    version: ProtocolVersion,
    client_id: &'a str,
    user_name: Option<&'a str>,
    password: Option<&'a str>,
) -> Connect<'a> {
    Connect {
        user_name,
        password: password.map(str::as_bytes),
        ..connect_packet(version, client_id)
    }
}

/// What SUBACK says of one filter.
#[track_caller]
pub(crate) fn ask(client: &mut RawClient, filter: &str) -> u8 {
    let packet_id = client.next_packet_id();
    let requests = [SubscriptionRequest {
        filter: Filter::parse(filter).unwrap(),
        options: SubscriptionOptions {
            qos: QoS::AtLeastOnce,
            ..SubscriptionOptions::default()
        },
    }];
    client.send(&Packet::Subscribe(Subscribe::new(
        packet_id,
        Properties::EMPTY,
        &requests,
    )));
    // What is retained may come first.
    let mut answer = client.receive();
    while matches!(answer.packet(), Packet::Publish(_)) {
        answer = client.receive();
    }
    let sub_ack = answer.sub_ack();
    assert_eq!(sub_ack.packet_id, packet_id);
    sub_ack.reasons.iter().next().unwrap().as_u8()
}

/// What PUBACK or PUBREC says of one message; a QoS 2 one is released.
#[track_caller]
pub(crate) fn publish(client: &mut RawClient, topic: &str, qos: QoS, retain: bool) -> ReasonCode {
    let packet_id = client.next_packet_id();
    client.send(&Packet::Publish(Publish {
        dup: false,
        qos,
        retain,
        topic: Topic::parse(topic).unwrap().as_str(),
        packet_id: (qos != QoS::AtMostOnce).then_some(packet_id),
        properties: Properties::EMPTY,
        payload: topic.as_bytes(),
    }));
    match qos {
        QoS::AtMostOnce => {
            client.fence();
            ReasonCode::Success
        }
        QoS::AtLeastOnce => client.receive().pub_ack().reason,
        QoS::ExactlyOnce => {
            let reason = client.receive().pub_rec().reason;
            if !reason.is_error() {
                client.send(&Packet::PubRel(waypost_mqtt::Ack::new(
                    packet_id,
                    ReasonCode::Success,
                )));
                client.receive().pub_comp();
            }
            reason
        }
    }
}

/// The topics of the messages that have come so far.
#[track_caller]
pub(crate) fn topics(client: &mut RawClient) -> Vec<String> {
    let packets = client.drain();
    packets
        .iter()
        .map(|packet| packet.publish().topic.to_owned())
        .collect()
}

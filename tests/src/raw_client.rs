//! One MQTT connection, packet by packet, with nothing done behind the test's back.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use waypost_mqtt::{
    Ack, Auth, ConnAck, Connect, Disconnect, Filter, Packet, PacketId, Properties, ProtocolVersion,
    Publish, QoS, ReasonCode, Role, SubAck, Subscribe, SubscriptionOptions, SubscriptionRequest,
    UnsubAck, Unsubscribe, decode, decode_header, encode,
};

use crate::{LIMIT, Server};

/// A CONNECT with Clean Start 1, Keep Alive 60 and nothing optional; change fields with `Connect { .., ..connect_packet(v, id) }`.
pub fn connect_packet(version: ProtocolVersion, client_id: &str) -> Connect<'_> {
    Connect {
        version,
        clean_start: true,
        keep_alive: 60,
        client_id,
        properties: Properties::EMPTY,
        will: None,
        user_name: None,
        password: None,
    }
}

/// One packet as it came from the server.
#[derive(Clone)]
pub struct Received {
    bytes: Vec<u8>,
    version: ProtocolVersion,
}

impl std::fmt::Debug for Received {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match decode(&self.bytes, self.version, Role::Server) {
            Ok(packet) => write!(formatter, "{packet:?}"),
            Err(error) => write!(formatter, "{:02x?}: {error}", self.bytes),
        }
    }
}

/// Each accessor fails the test when the packet is of another type.
macro_rules! accessors {
    ($($(#[$doc:meta])* $name:ident: $variant:ident($packet:ty);)*) => {
        $(
            $(#[$doc])*
            #[track_caller]
            pub fn $name(&self) -> $packet {
                match self.packet() {
                    Packet::$variant(packet) => packet,
                    other => panic!(concat!("expected ", stringify!($variant), ", got {:?}"), other),
                }
            }
        )*
    };
}

impl Received {
    /// The packet, which must be well formed and one that a server may send.
    #[track_caller]
    pub fn packet(&self) -> Packet<'_> {
        decode(&self.bytes, self.version, Role::Server).unwrap_or_else(|error| {
            panic!(
                "the server sent a malformed packet: {error}: {:02x?}",
                self.bytes
            )
        })
    }

    /// The whole packet as it was on the wire.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    accessors! {
        /// As CONNACK.
        conn_ack: ConnAck(ConnAck<'_>);
        /// As PUBLISH.
        publish: Publish(Publish<'_>);
        /// As PUBACK.
        pub_ack: PubAck(Ack<'_>);
        /// As PUBREC.
        pub_rec: PubRec(Ack<'_>);
        /// As PUBREL.
        pub_rel: PubRel(Ack<'_>);
        /// As PUBCOMP.
        pub_comp: PubComp(Ack<'_>);
        /// As SUBACK.
        sub_ack: SubAck(SubAck<'_>);
        /// As UNSUBACK.
        unsub_ack: UnsubAck(UnsubAck<'_>);
        /// As DISCONNECT, which only MQTT 5 servers send.
        disconnect: Disconnect(Disconnect<'_>);
        /// As AUTH.
        auth: Auth(Auth<'_>);
    }
}

/// A TCP connection that speaks MQTT as the test says, right or wrong.
pub struct RawClient {
    stream: TcpStream,
    version: ProtocolVersion,
    /// Received but not yet taken.
    buffer: Vec<u8>,
    last_packet_id: u16,
}

impl RawClient {
    /// Opens a connection and sends nothing.
    pub fn open(address: SocketAddr, version: ProtocolVersion) -> Self {
        let stream = TcpStream::connect(address).expect("the server accepts");
        stream.set_nodelay(true).expect("TCP_NODELAY can be set");
        Self {
            stream,
            version,
            buffer: Vec::new(),
            last_packet_id: 0,
        }
    }

    /// The same from that address of this machine, such as `127.0.0.2`.
    pub fn open_from(from: &str, address: SocketAddr, version: ProtocolVersion) -> Self {
        use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
        let from: SocketAddr = format!("{from}:0").parse().expect("an IPv4 address");
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        bind(&socket, &from).expect("an address of this machine");
        connect(&socket, &address).expect("the server accepts");
        Self {
            stream: TcpStream::from(socket),
            version,
            buffer: Vec::new(),
            last_packet_id: 0,
        }
    }

    /// Connects with [`connect_packet`] and takes the CONNACK, which must say success.
    #[track_caller]
    pub fn connect(server: &Server, version: ProtocolVersion, client_id: &str) -> Self {
        Self::connect_with(server, &connect_packet(version, client_id)).0
    }

    /// Connects with `connect` and takes the CONNACK, which must say success.
    #[track_caller]
    pub fn connect_with(server: &Server, connect: &Connect<'_>) -> (Self, Received) {
        let mut client = Self::open(server.mqtt(), connect.version);
        client.send(&Packet::Connect(*connect));
        let answer = client.receive();
        assert_eq!(answer.conn_ack().reason, ReasonCode::Success);
        (client, answer)
    }

    /// The connection itself; nothing that was received may be untaken.
    #[track_caller]
    pub fn into_stream(self) -> TcpStream {
        assert!(self.buffer.is_empty());
        self.stream
    }

    /// Sends one packet.
    pub fn send(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        encode(packet, self.version, &mut bytes);
        self.send_raw(&bytes);
    }

    /// Sends bytes as they are. A connection that the server has closed meanwhile is not an error here:
    /// what follows (`expect_closed`) decides.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        if let Err(error) = self.stream.write_all(bytes) {
            assert!(
                matches!(
                    error.kind(),
                    ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
                ),
                "the packet cannot be sent: {error}"
            );
        }
    }

    /// The next packet, within [`LIMIT`].
    #[track_caller]
    pub fn receive(&mut self) -> Received {
        self.receive_within(LIMIT)
            .unwrap_or_else(|| panic!("the server closed the connection; a packet was expected"))
    }

    /// The next packet, or none when the server closed the connection first. Fails after `limit`.
    #[track_caller]
    pub fn receive_within(&mut self, limit: Duration) -> Option<Received> {
        let deadline = Instant::now() + limit;
        loop {
            let header =
                decode_header(&self.buffer).expect("the server sends well-formed fixed headers");
            if let Some(length) = header.map(|header| header.total_len())
                && self.buffer.len() >= length
            {
                let rest = self.buffer.split_off(length);
                let bytes = std::mem::replace(&mut self.buffer, rest);
                return Some(Received {
                    bytes,
                    version: self.version,
                });
            }
            if !self.read_more(deadline) {
                assert!(
                    self.buffer.is_empty(),
                    "closed in the middle of a packet: {:02x?}",
                    self.buffer
                );
                return None;
            }
        }
    }

    /// Reads what there is; false at the end of the stream.
    #[track_caller]
    fn read_more(&mut self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(
            !left.is_zero(),
            "nothing (or no whole packet) arrived within the limit"
        );
        self.stream
            .set_read_timeout(Some(left))
            .expect("a read timeout can be set");
        let mut chunk = vec![0; 64 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => false,
            Ok(count) => {
                self.buffer.extend_from_slice(&chunk[..count]);
                true
            }
            Err(error) => match error.kind() {
                ErrorKind::ConnectionReset => false,
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => true,
                _ => panic!("the connection failed: {error}"),
            },
        }
    }

    /// The server closes the connection without another packet.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        if let Some(packet) = self.receive_within(LIMIT) {
            panic!("expected the connection to close, got {packet:?}");
        }
    }

    /// The server refuses to go on: MQTT 5 says DISCONNECT with `reason`, then closes; MQTT 3.x only closes.
    #[track_caller]
    pub fn expect_refused(&mut self, reason: ReasonCode) {
        if self.version >= ProtocolVersion::V5 {
            assert_eq!(self.receive().disconnect().reason, reason);
        }
        self.expect_closed();
    }

    /// Nothing has been sent to this client: the next packet is the answer to a PINGREQ of now.
    ///
    /// This is exact for what the server had handled before the PINGREQ: wait first for the answer that proves
    /// it has (the publisher's PUBACK, or [`RawClient::fence`] on the publisher's connection).
    #[track_caller]
    pub fn expect_nothing(&mut self) {
        let answer = self.ping();
        assert!(
            matches!(answer.packet(), Packet::PingResp),
            "expected nothing, got {answer:?}"
        );
    }

    /// Returns when the server has handled all that this client has sent; no other packet may have arrived.
    #[track_caller]
    pub fn fence(&mut self) {
        self.expect_nothing();
    }

    fn ping(&mut self) -> Received {
        self.send(&Packet::PingReq);
        self.receive()
    }

    /// All packets up to the answer to a PINGREQ of now.
    #[track_caller]
    pub fn drain(&mut self) -> Vec<Received> {
        self.send(&Packet::PingReq);
        let mut packets = Vec::new();
        loop {
            let received = self.receive();
            if matches!(received.packet(), Packet::PingResp) {
                return packets;
            }
            packets.push(received);
        }
    }

    /// At least so many packets, and all up to the answer to a PINGREQ of then. What a session is owed is read from the
    /// store, so it may come after the answer to a PINGREQ of now.
    #[track_caller]
    pub fn drain_owed(&mut self, count: usize) -> Vec<Received> {
        let mut packets: Vec<_> = (0..count).map(|_| self.receive()).collect();
        packets.extend(self.drain());
        packets
    }

    /// A packet identifier not used before on this connection.
    pub fn next_packet_id(&mut self) -> PacketId {
        self.last_packet_id += 1;
        PacketId::new(self.last_packet_id).expect("fewer than 65,536 packets in a test")
    }

    /// Subscribes to one filter and takes the SUBACK, which must grant `qos`. MQTT 5: default options.
    #[track_caller]
    pub fn subscribe(&mut self, filter: &str, qos: QoS) {
        self.subscribe_with(
            filter,
            SubscriptionOptions {
                qos,
                ..SubscriptionOptions::default()
            },
            Properties::EMPTY,
        );
    }

    /// Subscribes to one filter and takes the SUBACK, which must grant the QoS that was asked for.
    #[track_caller]
    pub fn subscribe_with(
        &mut self,
        filter: &str,
        options: SubscriptionOptions,
        properties: Properties<'_>,
    ) {
        let packet_id = self.next_packet_id();
        let requests = [SubscriptionRequest {
            filter: Filter::parse(filter).expect("a valid filter"),
            options,
        }];
        self.send(&Packet::Subscribe(Subscribe::new(
            packet_id, properties, &requests,
        )));
        let answer = self.receive();
        assert_eq!(answer.sub_ack().packet_id, packet_id);
        let granted: Vec<u8> = answer
            .sub_ack()
            .reasons
            .iter()
            .map(ReasonCode::as_u8)
            .collect();
        assert_eq!(granted, [options.qos as u8]);
    }

    /// Unsubscribes from one filter and takes the UNSUBACK.
    #[track_caller]
    pub fn unsubscribe(&mut self, filter: &str) {
        let packet_id = self.next_packet_id();
        let filters = [Filter::parse(filter).expect("a valid filter")];
        self.send(&Packet::Unsubscribe(Unsubscribe::new(
            packet_id,
            Properties::EMPTY,
            &filters,
        )));
        assert_eq!(self.receive().unsub_ack().packet_id, packet_id);
    }

    /// Publishes and completes the QoS 1 or 2 exchange; at QoS 0 a PINGREQ shows that the server has handled it.
    #[track_caller]
    pub fn publish(&mut self, topic: &str, qos: QoS, payload: &[u8]) {
        self.publish_with(&Publish {
            topic,
            qos,
            payload,
            ..empty_publish()
        });
    }

    /// As [`RawClient::publish`], retained.
    #[track_caller]
    pub fn publish_retained(&mut self, topic: &str, qos: QoS, payload: &[u8]) {
        self.publish_with(&Publish {
            topic,
            qos,
            payload,
            retain: true,
            ..empty_publish()
        });
    }

    /// Publishes `publish` under a new packet identifier and completes the exchange.
    #[track_caller]
    pub fn publish_with(&mut self, publish: &Publish<'_>) {
        let packet_id = (publish.qos > QoS::AtMostOnce).then(|| self.next_packet_id());
        self.send(&Packet::Publish(Publish {
            packet_id,
            ..*publish
        }));
        match publish.qos {
            QoS::AtMostOnce => self.fence(),
            QoS::AtLeastOnce => assert_eq!(Some(self.receive().pub_ack().packet_id), packet_id),
            QoS::ExactlyOnce => {
                let packet_id = self.receive().pub_rec().packet_id;
                self.send(&Packet::PubRel(Ack::new(packet_id, ReasonCode::Success)));
                assert_eq!(self.receive().pub_comp().packet_id, packet_id);
            }
        }
    }

    /// Takes one PUBLISH and completes its exchange.
    #[track_caller]
    pub fn receive_message(&mut self) -> Received {
        let received = self.receive();
        let publish = received.publish();
        if let Some(packet_id) = publish.packet_id {
            if publish.qos == QoS::AtLeastOnce {
                self.send(&Packet::PubAck(Ack::new(packet_id, ReasonCode::Success)));
            } else {
                self.send(&Packet::PubRec(Ack::new(packet_id, ReasonCode::Success)));
                assert_eq!(self.receive().pub_rel().packet_id, packet_id);
                self.send(&Packet::PubComp(Ack::new(packet_id, ReasonCode::Success)));
            }
        }
        received
    }

    /// DISCONNECT with reason 0x00, then waits for the server to close.
    #[track_caller]
    pub fn disconnect(mut self) {
        self.send(&Packet::Disconnect(Disconnect {
            reason: ReasonCode::Success,
            properties: Properties::EMPTY,
        }));
        self.expect_closed();
    }

    /// Ends the connection without DISCONNECT, as a network failure does.
    pub fn cut(self) {
        drop(self.stream.shutdown(Shutdown::Both));
    }

    /// The socket, for tests that stop reading or set buffer sizes.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

/// PUBLISH, QoS 0, to no topic yet: a base for struct update.
pub fn empty_publish<'a>() -> Publish<'a> {
    Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: "",
        packet_id: None,
        properties: Properties::EMPTY,
        payload: &[],
    }
}

/// A SUBSCRIBE without properties, its options given as raw bytes, so that tests can also send wrong ones.
pub fn subscribe_bytes(
    version: ProtocolVersion,
    packet_id: u16,
    requests: &[(&str, u8)],
) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    if version >= ProtocolVersion::V5 {
        body.push(0);
    }
    for (filter, options) in requests {
        let length = u16::try_from(filter.len()).expect("a filter of at most 65,535 bytes");
        body.extend(length.to_be_bytes());
        body.extend(filter.as_bytes());
        body.push(*options);
    }
    with_fixed_header(0x82, &body)
}

/// An UNSUBSCRIBE without properties.
pub fn unsubscribe_bytes(version: ProtocolVersion, packet_id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    if version >= ProtocolVersion::V5 {
        body.push(0);
    }
    for filter in filters {
        let length = u16::try_from(filter.len()).expect("a filter of at most 65,535 bytes");
        body.extend(length.to_be_bytes());
        body.extend(filter.as_bytes());
    }
    with_fixed_header(0xA2, &body)
}

/// Puts a first byte and the Remaining Length before `body`.
pub fn with_fixed_header(first_byte: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first_byte];
    let mut rest = body.len();
    loop {
        let low = u8::try_from(rest % 128).expect("below 128");
        rest /= 128;
        if rest == 0 {
            packet.push(low);
            break;
        }
        packet.push(low | 0x80);
    }
    packet.extend(body);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remaining_length_has_as_many_bytes_as_it_needs() {
        for (length, expect) in [
            (0, vec![0]),
            (127, vec![0x7f]),
            (128, vec![0x80, 1]),
            (16_384, vec![0x80, 0x80, 1]),
        ] {
            let packet = with_fixed_header(0x30, &vec![0; length]);
            assert_eq!(packet[1..packet.len() - length], expect);
        }
    }

    #[test]
    fn subscribe_bytes_differ_by_version_in_the_property_length_only() {
        assert_eq!(
            subscribe_bytes(ProtocolVersion::V311, 1, &[("a", 2)]),
            [0x82, 6, 0, 1, 0, 1, b'a', 2]
        );
        assert_eq!(
            subscribe_bytes(ProtocolVersion::V5, 1, &[("a", 2)]),
            [0x82, 7, 0, 1, 0, 0, 1, b'a', 2]
        );
    }
}

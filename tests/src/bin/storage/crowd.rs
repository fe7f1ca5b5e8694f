//! Many clients of MQTT 3.1.1 on one thread: everybody's packets are read as they come and answered at once.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use waypost_mqtt::{
    Ack, Connect, Filter, Packet, PacketId, Properties, ProtocolVersion, Publish, QoS, ReasonCode,
    Role, Subscribe, SubscriptionOptions, SubscriptionRequest, decode, decode_header, encode,
};
use waypost_tests::{LIMIT, connect_packet, empty_publish};

const VERSION: ProtocolVersion = ProtocolVersion::V311;
const READ_BYTES: usize = 64 << 10;

/// One client.
pub struct Client {
    stream: TcpStream,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    /// Messages that came.
    pub received: u64,
    /// Messages sent that wait for their PUBACK.
    pub in_flight: usize,
    packet_id: u16,
}

/// What a client got.
pub enum Got<'a> {
    Message(Publish<'a>),
    PubAck,
    Other,
}

impl Client {
    /// Connects; a session that is not `clean` outlives the connection.
    pub fn connect(server: SocketAddr, client_id: &str, clean: bool) -> Self {
        let mut client = Self::begin(server, client_id, clean);
        client.take(2);
        client
    }

    /// As [`Self::connect`], without waiting for CONNACK.
    pub fn begin(server: SocketAddr, client_id: &str, clean: bool) -> Self {
        let stream = TcpStream::connect(server).expect("the server accepts");
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut client = Self {
            stream,
            inbox: Vec::new(),
            outbox: Vec::new(),
            received: 0,
            in_flight: 0,
            packet_id: 0,
        };
        client.push(&Packet::Connect(Connect {
            clean_start: clean,
            keep_alive: 0,
            ..connect_packet(VERSION, client_id)
        }));
        client.flush();
        client
    }

    /// Subscribes at `QoS` 1.
    pub fn subscribe(&mut self, filter: &str) {
        let requests = [SubscriptionRequest {
            filter: Filter::parse(filter).unwrap(),
            options: SubscriptionOptions {
                qos: QoS::AtLeastOnce,
                ..SubscriptionOptions::default()
            },
        }];
        let packet_id = self.next_packet_id();
        self.push(&Packet::Subscribe(Subscribe::new(
            packet_id,
            Properties::EMPTY,
            &requests,
        )));
        self.flush();
        self.take(3);
    }

    /// Publishes at `QoS` 1; it goes out with the next turn of the crowd.
    pub fn publish(&mut self, topic: &str, payload: &[u8]) {
        let packet_id = self.next_packet_id();
        self.in_flight += 1;
        self.push(&Packet::Publish(Publish {
            topic,
            qos: QoS::AtLeastOnce,
            payload,
            packet_id: Some(packet_id),
            ..empty_publish()
        }));
    }

    /// Leaves in order, as seen by the server too.
    pub fn disconnect(mut self) {
        self.push(&Packet::Disconnect(waypost_mqtt::Disconnect {
            reason: ReasonCode::Success,
            properties: Properties::EMPTY,
        }));
        self.stream.set_nonblocking(false).unwrap();
        self.flush();
        let mut rest = Vec::new();
        // Until the server has closed.
        let _ = self.stream.read_to_end(&mut rest);
    }

    fn push(&mut self, packet: &Packet<'_>) {
        encode(packet, VERSION, &mut self.outbox);
    }

    fn next_packet_id(&mut self) -> PacketId {
        self.packet_id = self.packet_id % u16::MAX + 1;
        PacketId::new(self.packet_id).unwrap()
    }

    /// Writes what the socket takes.
    fn flush(&mut self) {
        while !self.outbox.is_empty() {
            match self.stream.write(&self.outbox) {
                Ok(count) => drop(self.outbox.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("the server reads no more: {error}"),
            }
        }
    }

    /// Takes one packet of that type, CONNACK or SUBACK, and nothing after it.
    fn take(&mut self, len_after_header: usize) {
        let mut packet = [0; 5];
        let packet = &mut packet[..2 + len_after_header];
        self.stream.read_exact(packet).expect("an answer");
        assert!(
            packet.last().is_some_and(|reason| *reason < 0x80),
            "refused: {packet:?}"
        );
        assert!(
            packet[0] == 0x20 && packet[3] == 0 || packet[0] == 0x90,
            "{packet:?}"
        );
    }

    /// Reads what there is, and answers it.
    fn read(&mut self, buffer: &mut [u8], mut on: impl FnMut(&mut Self, Got<'_>)) {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => panic!("the server closed a connection"),
                Ok(count) => self.inbox.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("a connection failed: {error}"),
            }
            if self.inbox.len() >= buffer.len() {
                break;
            }
        }
        let inbox = std::mem::take(&mut self.inbox);
        let mut rest = &inbox[..];
        while let Some(len) = decode_header(rest)
            .unwrap()
            .map(|header| header.total_len())
            && rest.len() >= len
        {
            let (packet, behind) = rest.split_at(len);
            rest = behind;
            let got = match decode(packet, VERSION, Role::Server).unwrap() {
                Packet::Publish(publish) => {
                    self.received += 1;
                    if let Some(packet_id) = publish.packet_id {
                        self.push(&Packet::PubAck(Ack::new(packet_id, ReasonCode::Success)));
                    }
                    Got::Message(publish)
                }
                Packet::PubAck(_) => {
                    self.in_flight -= 1;
                    Got::PubAck
                }
                _ => Got::Other,
            };
            on(self, got);
        }
        let taken = inbox.len() - rest.len();
        self.inbox = inbox;
        self.inbox.drain(..taken);
    }
}

/// Clients that are looked after together.
pub struct Crowd {
    pub clients: Vec<Client>,
    buffer: Vec<u8>,
}

impl Crowd {
    pub fn new(clients: Vec<Client>) -> Self {
        for client in &clients {
            client.stream.set_nonblocking(true).unwrap();
        }
        Self {
            clients,
            buffer: vec![0; READ_BYTES],
        }
    }

    /// Writes what waits, then reads and answers what came until then or comes within a moment.
    pub fn turn(&mut self, mut on: impl FnMut(usize, &mut Client, Got<'_>)) {
        for client in &mut self.clients {
            client.flush();
        }
        let mut fds: Vec<_> = self
            .clients
            .iter()
            .map(|client| {
                let mut wanted = PollFlags::IN;
                wanted.set(PollFlags::OUT, !client.outbox.is_empty());
                PollFd::new(&client.stream, wanted)
            })
            .collect();
        let moment = Timespec {
            tv_sec: 0,
            tv_nsec: 100_000_000,
        };
        poll(&mut fds, Some(&moment)).expect("poll");
        let ready: Vec<bool> = fds
            .iter()
            .map(|fd| !(fd.revents() & !PollFlags::OUT).is_empty())
            .collect();
        for (index, client) in self.clients.iter_mut().enumerate() {
            if ready[index] {
                client.read(&mut self.buffer, |client, got| on(index, client, got));
            }
        }
    }

    pub fn received(&self) -> u64 {
        self.clients.iter().map(|client| client.received).sum()
    }

    pub fn in_flight(&self) -> usize {
        self.clients.iter().map(|client| client.in_flight).sum()
    }

    pub fn disconnect(self) {
        self.clients.into_iter().for_each(Client::disconnect);
    }
}

/// Publishes messages, so many in flight, until all are acknowledged or `go_on` says no; how many were.
pub fn publish_all(
    server: SocketAddr,
    count: u64,
    in_flight: usize,
    mut message: impl FnMut(u64, &mut Client),
    go_on: impl Fn() -> bool,
) -> u64 {
    let publisher = Client::connect(server, "storage-publisher", true);
    let mut crowd = Crowd::new(vec![publisher]);
    let mut sent = 0;
    loop {
        let wanted = if go_on() { count } else { sent };
        let client = &mut crowd.clients[0];
        while sent < wanted && client.in_flight < in_flight {
            message(sent, client);
            sent += 1;
        }
        if crowd.in_flight() == 0 {
            break;
        }
        crowd.turn(|_, _, _| ());
    }
    crowd.disconnect();
    sent
}

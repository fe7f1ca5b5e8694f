//! A shard, its clients and the bytes they say.

use super::*;
use crate::transcode::{CoderLimits, Jobs, Workers};

pub(super) const LIMIT: Duration = Duration::from_mins(1);

/// What the kernel keeps of a connection in each direction where a test says so: it counts twice as much, and would let
/// the buffers of a connection that is busy grow to tens of megabytes.
pub(super) const SMALL_SOCKET_BYTES: usize = 16 * 1024;

pub(super) struct World {
    pub(super) shard: Shard,
    pub(super) events: Events,
    pub(super) listener: TcpListener,
    pub(super) entrance: Arc<Entrance>,
    /// What the next connection's doors had read already.
    pub(super) unread: Vec<u8>,
    /// What waits to be transcoded.
    jobs: Jobs,
}

/// The most that a payload is unpacked to here.
pub(super) const UNPACKED_BYTES_MAX: usize = 256 * 1024;

pub(super) fn limits() -> (Limits, ShellLimits) {
    let limits = Limits::default();
    let shell = ShellLimits {
        packet_bytes_max: limits.packet_bytes_max as usize,
        outbox_bytes_max: limits.outbox_bytes_max,
        outboxes_bytes_max: 512 * 1024 * 1024,
        receive_bytes_max: 256 * 1024 * 1024,
        drain_timeout_ms: 10_000,
    };
    (limits, shell)
}

impl World {
    pub(super) fn new() -> Self {
        let (limits, shell) = limits();
        Self::with(limits, shell)
    }

    pub(super) fn with_outboxes(each_bytes_max: usize, all_bytes_max: usize) -> Self {
        let (mut limits, mut shell) = limits();
        limits.outbox_bytes_max = each_bytes_max;
        shell.outbox_bytes_max = each_bytes_max;
        shell.outboxes_bytes_max = all_bytes_max;
        Self::with(limits, shell)
    }

    pub(super) fn with(limits: Limits, shell: ShellLimits) -> Self {
        Self::with_all(limits, shell, usize::MAX)
    }

    /// So many bytes may wait to be transcoded.
    pub(super) fn with_transcode_bytes(bytes_max: usize) -> Self {
        let (limits, shell) = limits();
        Self::with_all(limits, shell, bytes_max)
    }

    fn with_all(limits: Limits, shell: ShellLimits, transcode_bytes_max: usize) -> Self {
        let (workers, jobs) = Workers::new(transcode_bytes_max);
        let coder_limits = CoderLimits {
            unpacked_bytes_max: UNPACKED_BYTES_MAX,
        };
        let coder = Coder::new(
            ShardId(0),
            Arc::default(),
            coder_limits,
            workers,
            (Arc::default(), None),
        );
        let port = ShardPort::new(1 << 20).unwrap();
        let mailboxes: Arc<[_]> = Arc::new([Arc::clone(&port.mailbox)]);
        let config = BrokerConfig {
            shard: ShardId(0),
            shards: 1,
            seed: 1,
            limits,
            clock: RetainedClock::default(),
            policies: Arc::default(),
            streams: Arc::default(),
            has_store: false,
            is_sealed: |_| false,
            numbers: waypost_core::journal::Numbers::default(),
        };
        let broker = Broker::new(config, Box::new(AllowAll), Box::new(AllowAll));
        let stats = Arc::default();
        let store = StorePort::new(1, 1 << 20, WallClock::default());
        Self {
            jobs,
            shard: Shard::new(
                ShardId(0),
                port,
                mailboxes,
                store,
                broker,
                shell,
                stats,
                coder,
            ),
            events: Events::with_capacity(EVENTS_PER_TICK),
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
            entrance: entrance(1, usize::MAX, "round-robin"),
            unread: Vec::new(),
        }
    }

    /// Reads what clients sent, and does what it gave the transcoding threads to do.
    pub(super) fn work(&mut self) {
        self.settle();
        while let Some((job, worked)) = self.jobs.work_once() {
            let inbound = Inbound::Transcoded(job, worked);
            self.shard.inbox.send([inbound]).unwrap();
        }
        self.settle();
    }

    /// One tick; a shard that would sleep is woken after a moment.
    pub(super) fn tick(&mut self) {
        let most = Duration::from_millis(5);
        let timeout = self.shard.timeout().map_or(most, |due| due.min(most));
        self.shard.wait(&mut self.events, Some(timeout)).unwrap();
        self.shard.tick();
    }

    pub(super) fn tick_until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !holds(self) {
            assert!(Instant::now() < deadline, "{what} did not come");
            self.tick();
        }
    }

    /// Connections made from now on have small buffers in the kernel: on the shard's side from the listener, on the
    /// client's side by [`Client::with_small_buffers`].
    pub(super) fn with_small_buffers(self) -> Self {
        make_small(&self.listener);
        self
    }

    /// A connection the shard has, without a word on it.
    pub(super) fn open(&mut self) -> Client {
        self.open_through(Door::PLAIN)
    }

    pub(super) fn open_through(&mut self, door: Door) -> Client {
        let (layers, tls) = PeerLayers::new(door);
        self.open_with(layers, tls, door.framing)
    }

    pub(super) fn open_with(
        &mut self,
        layers: PeerLayers,
        tls: Option<Tls>,
        framing: Framing,
    ) -> Client {
        let stream = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        let (socket, peer) = self.listener.accept().unwrap();
        self.hand_over(socket, peer, tls, framing);
        stream.set_nonblocking(true).unwrap();
        stream.set_nodelay(true).unwrap();
        Client {
            stream,
            layers,
            received: Vec::new(),
            is_closed: false,
        }
    }

    pub(super) fn hand_over(
        &mut self,
        socket: TcpStream,
        peer: SocketAddr,
        tls: Option<Tls>,
        framing: Framing,
    ) {
        socket.set_nonblocking(true).unwrap();
        let socket = mio::net::TcpStream::from_std(socket);
        let place = self.entrance.place().unwrap();
        let handover = Handover {
            tls,
            framing,
            unread: std::mem::take(&mut self.unread),
            ..Handover::plain(Socket::Tcp(socket), Some(peer), place)
        };
        self.shard
            .inbox
            .send([Inbound::Handover(handover)])
            .unwrap();
    }

    pub(super) fn connect(&mut self, id: &str) -> Client {
        self.connect_through(Door::PLAIN, id)
    }

    pub(super) fn connect_through(&mut self, door: Door, id: &str) -> Client {
        let mut client = self.open_through(door);
        self.write(&mut client, &connect(id));
        assert_eq!(self.packet(&mut client), [0x20, 2, 0, 0]);
        client
    }

    pub(super) fn subscribe(&mut self, client: &mut Client, filter: &str, qos: u8) {
        let body = [&[0, 1], text(filter).as_slice(), &[qos]].concat();
        self.write(client, &framed(0x82, &body));
        assert_eq!(self.packet(client), [0x90, 3, 0, 1, qos]);
    }

    /// Writes everything, the shard reading meanwhile.
    pub(super) fn write(&mut self, client: &mut Client, bytes: &[u8]) {
        let wire = client.layers.said(bytes);
        self.write_wire(client, &wire);
    }

    pub(super) fn write_wire(&mut self, client: &mut Client, mut bytes: &[u8]) {
        self.tick_until("the end of writing", |_| {
            match client.stream.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            bytes.is_empty()
        });
    }

    /// The next whole packet.
    pub(super) fn packet(&mut self, client: &mut Client) -> Vec<u8> {
        let mut packet = None;
        self.tick_until("a packet", |_| {
            client.read();
            packet = client.take_packet();
            packet.is_some()
        });
        packet.unwrap()
    }

    pub(super) fn settle(&mut self) {
        for _ in 0..20 {
            self.tick();
        }
    }
}

pub(super) struct Client {
    pub(super) stream: TcpStream,
    pub(super) layers: PeerLayers,
    pub(super) received: Vec<u8>,
    pub(super) is_closed: bool,
}

impl Client {
    pub(super) fn with_small_buffers(self) -> Self {
        make_small(&self.stream);
        self
    }

    pub(super) fn read(&mut self) {
        let mut buffer = vec![0; 1 << 20];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.is_closed = true,
                Ok(count) => {
                    self.layers.understand(&buffer[..count], &mut self.received);
                    continue;
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            return;
        }
    }

    pub(super) fn take_packet(&mut self) -> Option<Vec<u8>> {
        let len = decode_header(&self.received).unwrap()?.total_len();
        (self.received.len() >= len).then(|| self.received.drain(..len).collect())
    }

    /// All whole packets that have come.
    pub(super) fn packets(&mut self) -> Vec<Vec<u8>> {
        self.read();
        std::iter::from_fn(|| self.take_packet()).collect()
    }
}

pub(super) fn make_small(socket: impl AsFd) {
    set_socket_send_buffer_size(&socket, SMALL_SOCKET_BYTES).unwrap();
    set_socket_recv_buffer_size(&socket, SMALL_SOCKET_BYTES).unwrap();
}

pub(super) fn text(text: &str) -> Vec<u8> {
    let len = u16::try_from(text.len()).unwrap();
    [&len.to_be_bytes(), text.as_bytes()].concat()
}

pub(super) fn framed(first_byte: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first_byte];
    let mut len = body.len();
    loop {
        let low = u8::try_from(len % 128).unwrap();
        len /= 128;
        bytes.push(low | if len > 0 { 0x80 } else { 0 });
        if len == 0 {
            return [bytes.as_slice(), body].concat();
        }
    }
}

pub(super) fn connect(id: &str) -> Vec<u8> {
    let body = [&text("MQTT"), &[4, 2, 0, 0][..], &text(id)].concat();
    framed(0x10, &body)
}

/// At `QoS` 0, or 1 with a packet id.
pub(super) fn publish(topic: &str, packet_id: u16, payload: &[u8]) -> Vec<u8> {
    let id = packet_id.to_be_bytes();
    let id = if packet_id > 0 { &id[..] } else { &[] };
    let qos = u8::from(packet_id > 0);
    framed(0x30 | qos << 1, &[&text(topic), id, payload].concat())
}

//! What the core asks of the allocator: nothing per delivery at QoS 0, little per idle session.
//!
//! Method: an allocator that counts, and an `Effects` that keeps nothing. One test, so that nothing else counts.

#![allow(unsafe_code, clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

use waypost_core::{
    AllowAll, Broker, BrokerConfig, ConnectionId, Effects, Frame, Limits, MailBatch, Message, Now,
    Peer, Policies, RetainedClock, ShardId, Stream, Streams, Target, TopicPolicy,
};
use waypost_mqtt::{
    Connect, Filter, Packet, PacketId, Properties, Property, PropertyBuffer, ProtocolVersion,
    Publish, QoS, Role, Subscribe, SubscriptionOptions, SubscriptionRequest, decode, encode,
};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicIsize = AtomicIsize::new(0);

fn size(layout: Layout) -> isize {
    isize::try_from(layout.size()).unwrap_or(isize::MAX)
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches no memory it gives.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(size(layout), Ordering::Relaxed);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        BYTES.fetch_sub(size(layout), Ordering::Relaxed);
        // SAFETY: `place` came from `alloc` with this layout, as the caller promises.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Counts deliveries and keeps nothing.
#[derive(Default)]
struct Nowhere {
    deliveries: usize,
    bytes: usize,
    mail: MailBatch,
    journal: waypost_core::journal::NoJournal,
}

impl Effects for Nowhere {
    fn journal(&mut self) -> &mut dyn waypost_core::journal::Journal {
        &mut self.journal
    }

    fn send(&mut self, _: ConnectionId, _: &Packet<'_>) {}

    fn deliver_many(&mut self, message: &Message<'_>, targets: &[Target], _: &[u32]) {
        self.deliveries += targets.len();
        self.bytes += message.payload.bytes.len();
    }

    fn outbox_bytes(&self, _: ConnectionId) -> usize {
        0
    }

    fn tell_when_written(&mut self, _: ConnectionId) {}

    fn close(&mut self, _: ConnectionId) {}

    fn read(&mut self, _: ConnectionId, _: bool) {}

    fn mailbox(&mut self, _: ShardId) -> &mut MailBatch {
        &mut self.mail
    }
}

const NOW: Now = Now {
    monotonic_ms: 1_000,
    wall_ms: 1_700_000_000_000,
};

fn config() -> BrokerConfig {
    BrokerConfig {
        shard: ShardId(0),
        shards: 1,
        seed: 1,
        limits: Limits::default(),
        clock: RetainedClock::default(),
        policies: std::sync::Arc::default(),
        streams: std::sync::Arc::default(),
        has_store: false,
        is_sealed: |_| false,
        numbers: waypost_core::journal::Numbers::default(),
    }
}

fn broker() -> Broker {
    Broker::new(config(), Box::new(AllowAll), Box::new(AllowAll))
}

fn handle(
    broker: &mut Broker,
    out: &mut Nowhere,
    connection: u32,
    version: ProtocolVersion,
    packet: &Packet<'_>,
) {
    let mut bytes = Vec::new();
    encode(packet, version, &mut bytes);
    let packet = decode(&bytes, version, Role::Client).unwrap();
    broker.handle_packet(
        ConnectionId(connection),
        &packet,
        Frame {
            bytes: &bytes,
            shared: None,
        },
        NOW,
        out,
    );
}

fn connect(broker: &mut Broker, out: &mut Nowhere, connection: u32, version: ProtocolVersion) {
    broker.handle_open(ConnectionId(connection), Peer::default(), NOW, out);
    let client_id = format!("client-{connection:06}");
    let connect = Connect {
        version,
        clean_start: true,
        keep_alive: 60,
        client_id: &client_id,
        properties: Properties::EMPTY,
        will: None,
        user_name: None,
        password: None,
    };
    handle(broker, out, connection, version, &Packet::Connect(connect));
}

fn subscribe(
    broker: &mut Broker,
    out: &mut Nowhere,
    connection: u32,
    version: ProtocolVersion,
    filter: &str,
    qos: QoS,
) {
    let filter = Filter::parse(filter).unwrap();
    let options = SubscriptionOptions {
        qos,
        ..SubscriptionOptions::default()
    };
    let requests = [SubscriptionRequest { filter, options }];
    let packet = Subscribe::new(PacketId::new(1).unwrap(), Properties::EMPTY, &requests);
    handle(broker, out, connection, version, &Packet::Subscribe(packet));
}

fn versions(connection: u32) -> ProtocolVersion {
    if connection.is_multiple_of(2) {
        ProtocolVersion::V5
    } else {
        ProtocolVersion::V311
    }
}

fn a_delivery_at_qos_0_allocates_nothing() {
    let (mut broker, mut out) = (broker(), Nowhere::default());
    for connection in 0..1_000 {
        connect(&mut broker, &mut out, connection, versions(connection));
        let qos = if connection % 3 == 0 {
            QoS::AtMostOnce
        } else {
            QoS::AtLeastOnce
        };
        subscribe(
            &mut broker,
            &mut out,
            connection,
            versions(connection),
            "a/+/c",
            qos,
        );
    }
    let mut properties = PropertyBuffer::new();
    properties
        .push(Property::UserProperty("k", "v"))
        .push(Property::MessageExpiryInterval(9));
    let cases = [
        (ProtocolVersion::V311, Properties::EMPTY, false),
        (ProtocolVersion::V5, Properties::EMPTY, false),
        (ProtocolVersion::V5, properties.as_properties(), false),
    ];
    for (version, properties, retain) in cases {
        let topic = "a/b/c";
        let (qos, payload) = (QoS::AtMostOnce, b"payload".as_slice());
        let publish = Publish {
            dup: false,
            qos,
            retain,
            topic,
            packet_id: None,
            properties,
            payload,
        };
        let mut bytes = Vec::new();
        encode(&Packet::Publish(publish), version, &mut bytes);
        let publisher = u32::from(version != ProtocolVersion::V5);
        let mut publish_once = || {
            let packet = decode(&bytes, version, Role::Client).unwrap();
            let frame = Frame {
                bytes: &bytes,
                shared: None,
            };
            broker.handle_packet(ConnectionId(publisher), &packet, frame, NOW, &mut out);
        };
        publish_once();
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        for _ in 0..100 {
            publish_once();
        }
        let after = ALLOCATIONS.load(Ordering::Relaxed);
        assert_eq!(
            after - before,
            0,
            "{version:?}: {} allocations in 100 messages",
            after - before
        );
        assert_eq!(std::mem::take(&mut out.deliveries), 101_000);
    }
}

fn a_message_of_a_group_at_qos_0_allocates_nothing() {
    for strategy in waypost_balance::registry() {
        let (mut broker, mut out) = (broker(), Nowhere::default());
        let policy = TopicPolicy {
            filter: "#".into(),
            balance: Some(strategy),
            ..TopicPolicy::default()
        };
        let policies = Policies::new(vec![policy]).unwrap();
        broker.handle_policies(policies.into(), NOW, &mut out);
        for connection in 0..20 {
            connect(&mut broker, &mut out, connection, versions(connection));
            let filter = "$share/group/a/+/c";
            let qos = QoS::AtMostOnce;
            subscribe(
                &mut broker,
                &mut out,
                connection,
                versions(connection),
                filter,
                qos,
            );
        }
        let publish = Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: "a/b/c",
            packet_id: None,
            properties: Properties::EMPTY,
            payload: b"payload",
        };
        let mut bytes = Vec::new();
        encode(&Packet::Publish(publish), ProtocolVersion::V311, &mut bytes);
        let mut publish_often = || {
            for _ in 0..100 {
                let packet = decode(&bytes, ProtocolVersion::V311, Role::Client).unwrap();
                let frame = Frame {
                    bytes: &bytes,
                    shared: None,
                };
                broker.handle_packet(ConnectionId(1), &packet, frame, NOW, &mut out);
            }
        };
        publish_often();
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        publish_often();
        let after = ALLOCATIONS.load(Ordering::Relaxed);
        assert_eq!(after - before, 0, "{}", strategy.name);
        assert_eq!(out.deliveries, 200, "{}", strategy.name);
    }
}

fn an_idle_session_takes_few_bytes() {
    for (version, has_subscription, bytes_max) in [
        (ProtocolVersion::V311, false, 360),
        (ProtocolVersion::V5, false, 360),
        (ProtocolVersion::V311, true, 500),
    ] {
        let before = BYTES.load(Ordering::Relaxed);
        let (mut broker, mut out) = (broker(), Nowhere::default());
        let count = 10_000;
        for connection in 0..count {
            connect(&mut broker, &mut out, connection, version);
            if has_subscription {
                let filter = format!("client/{connection}/in");
                subscribe(
                    &mut broker,
                    &mut out,
                    connection,
                    version,
                    &filter,
                    QoS::AtLeastOnce,
                );
            }
        }
        let bytes = (BYTES.load(Ordering::Relaxed) - before) / isize::try_from(count).unwrap();
        println!("{version:?}, subscription: {has_subscription}: {bytes} bytes");
        assert!(
            bytes <= bytes_max,
            "{bytes} bytes per idle session ({version:?}, {has_subscription})"
        );
        assert_eq!(broker.sessions(), count as usize);
    }
}

/// With streams, one that takes it or not; and what enters is encoded into memory that is used again.
fn a_message_at_qos_0_with_streams_allocates_nothing() {
    for filter in ["a/#", "other/#"] {
        let mut out = Nowhere::default();
        let stream = Stream {
            id: waypost_core::stream::StreamId(1),
            name: "s".into(),
            filters: vec![filter.into()],
        };
        let streams = Streams::new(vec![stream]).unwrap();
        let mut broker = Broker::new(
            BrokerConfig {
                streams: streams.into(),
                has_store: true,
                is_sealed: |_| false,
                ..config()
            },
            Box::new(AllowAll),
            Box::new(AllowAll),
        );
        let version = ProtocolVersion::V5;
        connect(&mut broker, &mut out, 1, version);
        let publish = Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: "a/b/c",
            packet_id: None,
            properties: Properties::EMPTY,
            payload: b"payload",
        };
        let mut bytes = Vec::new();
        encode(&Packet::Publish(publish), version, &mut bytes);
        let mut publish_often = || {
            for _ in 0..100 {
                let packet = decode(&bytes, version, Role::Client).unwrap();
                let frame = Frame {
                    bytes: &bytes,
                    shared: None,
                };
                broker.handle_packet(ConnectionId(1), &packet, frame, NOW, &mut out);
            }
        };
        publish_often();
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        publish_often();
        let after = ALLOCATIONS.load(Ordering::Relaxed);
        assert_eq!(after - before, 0, "{filter}");
    }
}

#[test]
fn what_the_core_asks_of_the_allocator() {
    a_delivery_at_qos_0_allocates_nothing();
    a_message_of_a_group_at_qos_0_allocates_nothing();
    a_message_at_qos_0_with_streams_allocates_nothing();
    an_idle_session_takes_few_bytes();
}

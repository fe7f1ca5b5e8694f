//! No acknowledgement leaves before the `fdatasync` that covers what it promises has returned, seen from outside: every
//! call of the server is traced while clients publish, subscribe and take part in QoS 2.

use std::path::PathBuf;

use waypost_mqtt::{Packet, ProtocolVersion, Publish, QoS, Role, decode, decode_header};
use waypost_tests::{
    RawClient, ServerOptions, empty_publish,
    trace::{Call, Trace, is_inside},
};

use crate::plain::{PLAIN, durable, take};

const V5: ProtocolVersion = ProtocolVersion::V5;
/// Messages one after the other, of each kind.
const EACH: usize = 10;
/// Messages in flight at once.
const AT_ONCE: usize = 200;

/// A packet on a client's connection, and the calls that carried its last byte.
struct Passed {
    bytes: Vec<u8>,
    is_from_client: bool,
    entered: usize,
    returned: usize,
}

impl Passed {
    fn packet(&self) -> Packet<'_> {
        let from = if self.is_from_client {
            Role::Client
        } else {
            Role::Server
        };
        decode(&self.bytes, V5, from).expect("a well-formed packet")
    }
}

/// All packets of one client in both directions, in the order in which they were read and written.
fn packets(calls: &[Call], port: u16) -> Vec<Passed> {
    let mut passed = Vec::new();
    for is_from_client in [true, false] {
        let mut bytes = Vec::new();
        for call in calls.iter().filter(|call| call.peer_port() == Some(port)) {
            if is_from_client && call.is_read() || !is_from_client && call.is_write() {
                bytes.extend_from_slice(&call.bytes);
            }
            while let Some(header) = decode_header(&bytes).expect("MQTT") {
                if bytes.len() < header.total_len() {
                    break;
                }
                let rest = bytes.split_off(header.total_len());
                let bytes = std::mem::replace(&mut bytes, rest);
                passed.push(Passed {
                    bytes,
                    is_from_client,
                    entered: call.entered,
                    returned: call.returned,
                });
            }
        }
    }
    passed.sort_by_key(|packet| packet.returned);
    passed
}

/// A server's calls, and which of its files is the log.
struct Traced {
    calls: Vec<Call>,
    store: PathBuf,
}

impl Traced {
    fn is_log(&self, call: &Call) -> bool {
        is_inside(&call.place, &self.store)
            && [".log", ".kept"]
                .iter()
                .any(|end| call.place.ends_with(end))
    }

    /// The line at which what `wanted` says of a write, entered behind line `after`, is on the disk.
    fn durable_at(&self, after: usize, wanted: impl Fn(&[u8]) -> bool) -> Option<usize> {
        let write = |call: &&Call| {
            self.is_log(call) && call.is_write() && call.entered > after && wanted(&call.bytes)
        };
        // What is written twice counts from its first time on the disk.
        let synced = self.calls.iter().filter(write).filter_map(|write| {
            let covers = |call: &&Call| {
                call.is_sync() && call.place == write.place && call.entered > write.returned
            };
            self.calls
                .iter()
                .filter(covers)
                .map(|call| call.returned)
                .min()
        });
        synced.min()
    }

    /// `answer` may only have been begun when something that the log got after `request` was on the disk, and what it got
    /// holds `text`.
    #[track_caller]
    fn check(&self, what: &str, request: &Passed, answer: &Passed, text: &[u8]) {
        let has_text = |bytes: &[u8]| {
            text.is_empty() || bytes.windows(text.len()).any(|window| window == text)
        };
        let durable = self.durable_at(request.returned, has_text);
        assert!(
            durable.is_some_and(|line| line < answer.entered),
            "{what}: read at line {}, on the disk at {durable:?}, answered at {}",
            request.returned,
            answer.entered,
        );
    }
}

/// The server's packet that answers the client's.
fn answer<'a>(
    passed: &'a [Passed],
    is_answer: impl Fn(&Packet<'_>, &Packet<'_>) -> bool,
    request: &Passed,
) -> &'a Passed {
    let found = passed.iter().find(|answer| {
        !answer.is_from_client
            && answer.returned >= request.returned
            && is_answer(&request.packet(), &answer.packet())
    });
    found.expect("every request has its answer")
}

fn port(client: &RawClient) -> u16 {
    client
        .stream()
        .local_addr()
        .expect("a connected socket")
        .port()
}

fn payload(name: &str, number: usize) -> String {
    format!("traced-{name}-{number:06}.")
}

/// QoS 1 and 2 one after the other, then many at once.
fn publish(publisher: &mut RawClient) {
    for number in 0..EACH {
        publisher.publish(
            "traced/one",
            QoS::AtLeastOnce,
            payload("one", number).as_bytes(),
        );
        publisher.publish(
            "traced/two",
            QoS::ExactlyOnce,
            payload("two", number).as_bytes(),
        );
    }
    for number in 0..AT_ONCE {
        let packet_id = Some(publisher.next_packet_id());
        let payload = payload("many", number);
        let (qos, payload) = (QoS::AtLeastOnce, payload.as_bytes());
        publisher.send(&Packet::Publish(Publish {
            topic: "traced/many",
            qos,
            payload,
            packet_id,
            ..empty_publish()
        }));
    }
    for _ in 0..AT_ONCE {
        publisher.receive().pub_ack();
    }
}

/// Checks each PUBLISH and PUBREL of a publisher against its answer; how many of each there were.
fn check_publisher(traced: &Traced, told: &[Passed]) -> (usize, usize) {
    let same = |request: &Packet<'_>, answer: &Packet<'_>| match (request, answer) {
        (Packet::Publish(sent), Packet::PubAck(ack) | Packet::PubRec(ack)) => {
            sent.packet_id == Some(ack.packet_id)
        }
        (Packet::PubRel(sent), Packet::PubComp(ack)) => sent.packet_id == ack.packet_id,
        _ => false,
    };
    let (mut messages, mut releases) = (0, 0);
    for request in told.iter().filter(|passed| passed.is_from_client) {
        match request.packet() {
            Packet::Publish(sent) => {
                traced.check(
                    "PUBACK or PUBREC",
                    request,
                    answer(told, same, request),
                    sent.payload,
                );
                messages += 1;
            }
            Packet::PubRel(_) => {
                traced.check("PUBCOMP", request, answer(told, same, request), b"");
                releases += 1;
            }
            _ => {}
        }
    }
    (messages, releases)
}

/// Checks each SUBSCRIBE, UNSUBSCRIBE and PUBREC of a subscriber against its answer; how many changes and releases.
fn check_subscriber(traced: &Traced, heard: &[Passed]) -> (usize, usize) {
    let same = |request: &Packet<'_>, answer: &Packet<'_>| match (request, answer) {
        (Packet::Subscribe(sent), Packet::SubAck(ack)) => sent.packet_id == ack.packet_id,
        (Packet::Unsubscribe(sent), Packet::UnsubAck(ack)) => sent.packet_id == ack.packet_id,
        (Packet::PubRec(sent), Packet::PubRel(ack)) => sent.packet_id == ack.packet_id,
        _ => false,
    };
    let (mut changes, mut releases) = (0, 0);
    for request in heard.iter().filter(|passed| passed.is_from_client) {
        let (what, filter) = match request.packet() {
            Packet::Subscribe(sent) => (
                "SUBACK",
                sent.requests().next().map(|request| request.filter),
            ),
            Packet::Unsubscribe(sent) => ("UNSUBACK", sent.filters().next()),
            Packet::PubRec(_) => ("PUBREL", None),
            _ => continue,
        };
        let text = filter.map_or("", |filter| filter.as_str());
        traced.check(what, request, answer(heard, same, request), text.as_bytes());
        *(if what == "PUBREL" {
            &mut releases
        } else {
            &mut changes
        }) += 1;
    }
    (changes, releases)
}

/// A PUBLISH of QoS 2 goes out when its identifier is kept, which is after its message came; how many there were.
fn check_sent(traced: &Traced, told: &[Passed], heard: &[Passed]) -> usize {
    let mut count = 0;
    for sent in heard.iter().filter(|passed| !passed.is_from_client) {
        if let Packet::Publish(message) = sent.packet()
            && message.qos == QoS::ExactlyOnce
        {
            let came = |passed: &&Passed| matches!(passed.packet(), Packet::Publish(came) if came.payload == message.payload);
            let request = told.iter().find(came).expect("what is heard was published");
            traced.check("PUBLISH at QoS 2", request, sent, b"");
            count += 1;
        }
    }
    count
}

fn answers_wait(shards: u16) {
    let options = ServerOptions::new().shards(shards).configuration(PLAIN);
    let Some((trace, options)) = Trace::begin(options) else {
        return;
    };
    let mut server = options.start();
    let store = server.data_dir().join("store");
    let (mut subscriber, mut publisher) = (
        durable(&server, "subscriber"),
        durable(&server, "publisher"),
    );
    let (hearing, telling) = (port(&subscriber), port(&publisher));
    for number in 0..EACH {
        subscriber.subscribe(&format!("traced-filter-{number}/#"), QoS::AtLeastOnce);
        subscriber.unsubscribe(&format!("traced-filter-{number}/#"));
    }
    subscriber.subscribe("traced/#", QoS::ExactlyOnce);
    let reader = std::thread::spawn(move || {
        take(&mut subscriber, 2 * EACH + AT_ONCE);
    });
    publish(&mut publisher);
    reader.join().expect("all messages arrive");
    drop(publisher);
    server.terminate();
    let traced = Traced {
        calls: trace.calls(),
        store,
    };
    let (heard, told) = (
        packets(&traced.calls, hearing),
        packets(&traced.calls, telling),
    );
    assert_eq!(check_publisher(&traced, &told), (2 * EACH + AT_ONCE, EACH));
    assert_eq!(check_subscriber(&traced, &heard), (2 * EACH + 1, EACH));
    assert_eq!(check_sent(&traced, &told, &heard), EACH);
}

#[test]
fn no_answer_leaves_before_what_it_promises_is_on_the_disk() {
    answers_wait(1);
}

#[test]
fn no_answer_leaves_before_what_it_promises_is_on_the_disk_with_two_shards() {
    answers_wait(2);
}

/// QoS 1 that nobody durable wants touches no disk.
#[test]
fn qos_1_without_durable_interest_writes_nothing() {
    let Some((trace, options)) = Trace::begin(ServerOptions::new().configuration(PLAIN)) else {
        return;
    };
    let mut server = options.start();
    let data_dir = server.data_dir();
    let mut durable = durable(&server, "durable");
    durable.subscribe("elsewhere", QoS::AtLeastOnce);
    let mut subscriber = RawClient::connect(&server, V5, "subscriber");
    let mut publisher = RawClient::connect(&server, V5, "publisher");
    subscriber.subscribe("traced/#", QoS::AtLeastOnce);
    let port = port(&publisher);
    let reader = std::thread::spawn(move || {
        take(&mut subscriber, 2 * EACH + AT_ONCE);
    });
    publish(&mut publisher);
    reader.join().expect("all messages arrive");
    drop(publisher);
    server.terminate();
    let calls = trace.calls();
    let passed = packets(&calls, port);
    let of_publisher = |wanted: fn(&Packet<'_>) -> bool| {
        passed.iter().filter(move |passed| wanted(&passed.packet()))
    };
    let first = of_publisher(|packet| matches!(packet, Packet::Publish(_)))
        .next()
        .expect("a PUBLISH")
        .entered;
    let last = of_publisher(|packet| matches!(packet, Packet::PubAck(_)))
        .next_back()
        .expect("a PUBACK")
        .returned;
    let touched: Vec<_> = calls
        .iter()
        .filter(|call| (first..last).contains(&call.entered) && is_inside(&call.place, &data_dir))
        .filter(|call| call.is_write() || call.is_sync())
        .map(|call| format!("{} {} of {} bytes", call.name, call.place, call.bytes.len()))
        .collect();
    assert_eq!(touched, Vec::<String>::new());
}

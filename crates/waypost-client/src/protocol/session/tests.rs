//! A session beside a server that is the test.

use waypost_mqtt::ReasonCodes;

use super::*;
use crate::protocol::options::Outgoing;

/// A session and what it was told, beside a server that is the test.
struct Pair {
    session: Session,
    now: Instant,
    told: Vec<String>,
}

impl Pair {
    /// A client that was accepted, with a window of two.
    fn new(connack: &PropertyBuffer) -> Self {
        let answer = ConnAck {
            session_present: false,
            reason: ReasonCode::Success,
            properties: connack.as_properties(),
        };
        Self::connect(0, None, answer)
    }

    fn connect(resume_seconds: u32, remains: Option<Remains>, answer: ConnAck<'_>) -> Self {
        let options = Options {
            version: ProtocolVersion::V5,
            client_id: "c".into(),
            clean_start: true,
            keep_alive: 10,
            user_name: None,
            password: None,
            will: None,
            properties: PropertyBuffer::new(),
            in_flight_max: 2,
            resume_seconds,
            acknowledge: Acknowledge::AtOnce,
        };
        let now = Instant::now();
        let session = Session::new(&options, remains, now);
        let mut pair = Self {
            session,
            now,
            told: Vec::new(),
        };
        assert_eq!(pair.sent(), ["CONNECT"]);
        pair.receive(&[Packet::ConnAck(answer)]).unwrap();
        pair.told.retain(|told| !told.starts_with("Connected"));
        pair
    }

    fn receive(&mut self, packets: &[Packet<'_>]) -> Result<(), Closed> {
        let mut bytes = Vec::new();
        for packet in packets {
            encode(packet, ProtocolVersion::V5, &mut bytes);
        }
        let Self { session, now, told } = self;
        let taken = session.handle_bytes(&bytes, *now, &mut |event| tell(told, &event))?;
        assert_eq!(taken, bytes.len());
        Ok(())
    }

    fn publish(&mut self, qos: QoS, tag: u64) {
        let properties = Properties::EMPTY;
        let message = Outgoing {
            topic: "t",
            payload: b"xy",
            qos,
            retain: false,
            properties,
        };
        let Self { session, told, .. } = self;
        session.publish(&message, tag, &mut |event| tell(told, &event));
    }

    /// What the client wrote, packet by packet.
    fn sent(&mut self) -> Vec<String> {
        let bytes = self.session.outbox().to_vec();
        let Self { session, now, told } = self;
        session.on_written(bytes.len(), *now, &mut |event| tell(told, &event));
        let mut rest = bytes.as_slice();
        let mut packets = Vec::new();
        while let Some(header) = decode_header(rest).unwrap() {
            let (packet, after) = rest.split_at(header.total_len());
            let packet = decode(packet, ProtocolVersion::V5, Role::Client).unwrap();
            packets.push(match packet {
                Packet::Publish(publish) if publish.dup => "PUBLISH DUP".into(),
                Packet::PubRel(ack) | Packet::PubComp(ack) => {
                    format!("{} {:?}", packet.packet_type().name(), ack.reason)
                }
                other => other.packet_type().name().to_owned(),
            });
            rest = after;
        }
        packets
    }
}

fn tell(told: &mut Vec<String>, event: &Event<'_>) -> ControlFlow<()> {
    told.push(match event {
        Event::Done { tag, reason, .. } => format!("{tag} {}", reason.text()),
        Event::Lost { tag } => format!("{tag} lost"),
        Event::Resent => "again".into(),
        Event::Message(publish) => String::from_utf8_lossy(publish.payload).into_owned(),
        other => format!("{other:?}"),
    });
    ControlFlow::Continue(())
}

fn ack(packet_id: u16) -> Ack<'static> {
    Ack::new(PacketId::new(packet_id).unwrap(), ReasonCode::Success)
}

fn incoming(qos: QoS, packet_id: u16) -> Packet<'static> {
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        topic: "t",
        packet_id: PacketId::new(packet_id),
        properties: Properties::EMPTY,
        payload: b"in",
    })
}

#[test]
fn beyond_the_window_messages_wait_in_order() {
    let mut pair = Pair::new(&PropertyBuffer::new());
    for tag in 1..=4 {
        pair.publish(QoS::AtLeastOnce, tag);
    }
    pair.publish(QoS::AtMostOnce, 5);
    assert_eq!(pair.sent(), ["PUBLISH", "PUBLISH"]);
    assert_eq!(pair.session.unfinished(), 5);
    pair.receive(&[Packet::PubAck(ack(1))]).unwrap();
    assert_eq!(pair.sent(), ["PUBLISH"]);
    pair.receive(&[Packet::PubAck(ack(2)), Packet::PubAck(ack(3))])
        .unwrap();
    assert_eq!(pair.sent(), ["PUBLISH", "PUBLISH"]);
    let remains = pair
        .session
        .handle_closed(&mut |event| tell(&mut pair.told, &event));
    assert_eq!(remains.tags().count(), 0);
    assert_eq!(
        pair.told,
        ["1 Success", "2 Success", "3 Success", "5 Success", "4 lost"]
    );
    assert_eq!(pair.session.unfinished(), 0);
}

/// Goal: nothing unacknowledged is lost with its connection, and nothing of QoS 2 is doubled.
/// Method: the connection ends with QoS 1, QoS 2 and QoS 2 released on the way and one waiting;
/// the next one finds the server with the session, or without.
#[test]
fn the_next_connection_goes_on_where_this_one_ended() {
    let answer = |session_present| ConnAck {
        session_present,
        reason: ReasonCode::Success,
        properties: Properties::EMPTY,
    };
    let check = |session_present, sent: &[&str], told: &[&str], unfinished| {
        let mut pair = Pair::connect(60, None, answer(false));
        pair.publish(QoS::ExactlyOnce, 1);
        pair.publish(QoS::ExactlyOnce, 2);
        pair.receive(&[Packet::PubRec(ack(1)), Packet::PubRec(ack(2))])
            .unwrap();
        pair.receive(&[Packet::PubComp(ack(1))]).unwrap();
        pair.publish(QoS::AtLeastOnce, 3);
        pair.publish(QoS::ExactlyOnce, 4);
        assert_eq!(pair.told, ["1 Success"]);
        let Pair {
            session,
            told: heard,
            ..
        } = &mut pair;
        let remains = session.handle_closed(&mut |event| tell(heard, &event));
        assert_eq!(remains.tags().collect::<Vec<_>>(), [2, 3, 4]);
        let mut pair = Pair::connect(60, Some(remains), answer(session_present));
        assert_eq!(pair.sent(), sent);
        assert_eq!(pair.told, told);
        assert_eq!(pair.session.unfinished(), unfinished);
        if session_present {
            // The server had finished it: its PUBCOMP was lost with the connection.
            let mut lost = ack(2);
            lost.reason = ReasonCode::PacketIdentifierNotFound;
            pair.receive(&[Packet::PubComp(lost)]).unwrap();
            assert_eq!(pair.told.last().map(String::as_str), Some("2 Success"));
        }
    };
    check(true, &["PUBREL Success", "PUBLISH DUP"], &["again"], 3);
    check(false, &["PUBLISH", "PUBLISH"], &["again", "2 lost"], 2);
}

#[test]
fn the_servers_limits_are_kept() {
    let mut connack = PropertyBuffer::new();
    connack
        .push(Property::ReceiveMaximum(1))
        .push(Property::MaximumQoS(1));
    connack.push(Property::MaximumPacketSize(9));
    let mut pair = Pair::new(&connack);
    pair.publish(QoS::ExactlyOnce, 1);
    pair.publish(QoS::AtMostOnce, 2);
    assert_eq!(pair.sent(), ["PUBLISH"]);
    pair.publish(QoS::AtLeastOnce, 3);
    assert!(pair.sent().is_empty());
    assert_eq!(
        pair.told,
        ["1 QoS not supported", "2 Success", "3 Packet too large"]
    );
}

#[test]
fn qos_2_goes_out_in_four_steps() {
    let mut pair = Pair::new(&PropertyBuffer::new());
    pair.publish(QoS::ExactlyOnce, 1);
    pair.receive(&[Packet::PubRec(ack(1)), Packet::PubRec(ack(9))])
        .unwrap();
    assert_eq!(
        pair.sent(),
        [
            "PUBLISH",
            "PUBREL Success",
            "PUBREL PacketIdentifierNotFound"
        ]
    );
    assert!(pair.told.is_empty());
    pair.receive(&[Packet::PubComp(ack(1))]).unwrap();
    assert_eq!(pair.told, ["1 Success"]);
}

#[test]
fn qos_2_comes_in_once() {
    let mut pair = Pair::new(&PropertyBuffer::new());
    let message = incoming(QoS::ExactlyOnce, 5);
    pair.receive(&[
        message,
        message,
        Packet::PubRel(ack(5)),
        Packet::PubRel(ack(5)),
    ])
    .unwrap();
    assert_eq!(pair.told, ["in"]);
    assert_eq!(
        pair.sent(),
        [
            "PUBREC",
            "PUBREC",
            "PUBCOMP Success",
            "PUBCOMP PacketIdentifierNotFound"
        ]
    );
}

#[test]
fn a_quiet_client_pings_and_gives_up_on_silence() {
    let mut pair = Pair::new(&PropertyBuffer::new());
    let margin = Duration::from_secs(1);
    let at = |seconds| pair.now + Duration::from_secs(seconds);
    let (quiet, due, hopeless) = (at(8), at(9), at(20));
    pair.session.handle_timeout(quiet, margin).unwrap();
    assert!(pair.sent().is_empty());
    pair.session.handle_timeout(due, margin).unwrap();
    assert_eq!(pair.sent(), ["PINGREQ"]);
    let silent = pair.session.handle_timeout(hopeless, margin);
    assert!(
        matches!(silent, Err(Closed::Silent("PINGREQ"))),
        "{silent:?}"
    );
    pair.receive(&[Packet::PingResp]).unwrap();
    pair.session.handle_timeout(hopeless, margin).unwrap();
}

#[test]
fn a_server_that_breaks_the_protocol_is_left() {
    let connack = Packet::ConnAck(ConnAck {
        session_present: false,
        reason: ReasonCode::Success,
        properties: Properties::EMPTY,
    });
    let closed = Pair::new(&PropertyBuffer::new()).receive(&[connack]);
    assert!(matches!(closed, Err(Closed::Protocol(_))), "{closed:?}");
    let suback = Packet::SubAck(waypost_mqtt::SubAck {
        packet_id: PacketId::new(1).unwrap(),
        properties: Properties::EMPTY,
        reasons: ReasonCodes::new(&[ReasonCode::NotAuthorized]),
    });
    let mut pair = Pair::new(&PropertyBuffer::new());
    pair.receive(&[suback]).unwrap();
    assert_eq!(pair.told.len(), 1);
}

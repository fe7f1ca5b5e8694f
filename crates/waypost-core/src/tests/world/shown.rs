//! Packets as text.

use std::fmt::Write as _;

use waypost_mqtt::{Packet, Properties, Property, ReasonCode};

/// One packet as one line.
pub(super) fn line(packet: &Packet<'_>) -> String {
    let mut text = packet.packet_type().name().to_string();
    let properties = match packet {
        Packet::ConnAck(connack) => {
            let _ = write!(text, " {:02X}", connack.reason.as_u8());
            if connack.session_present {
                text.push_str(" present");
            }
            // What every CONNACK has is no news.
            return text
                + &shown(connack.properties, |property| {
                    !matches!(
                        property,
                        Property::ReceiveMaximum(1_000)
                            | Property::MaximumPacketSize(16_777_216)
                            | Property::TopicAliasMaximum(1_000)
                            | Property::SharedSubscriptionAvailable(false)
                    )
                });
        }
        Packet::Publish(publish) => {
            let _ = write!(text, " q{}", u8::from(publish.qos));
            if let Some(packet_id) = publish.packet_id {
                let _ = write!(text, " #{}", packet_id.value());
            }
            text.push_str(if publish.dup { " dup" } else { "" });
            text.push_str(if publish.retain { " retain" } else { "" });
            let payload = String::from_utf8_lossy(publish.payload);
            let _ = write!(text, " {}={payload}", publish.topic);
            publish.properties
        }
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            let _ = write!(text, " #{}", ack.packet_id.value());
            if ack.reason != ReasonCode::Success {
                let _ = write!(text, " {:02X}", ack.reason.as_u8());
            }
            ack.properties
        }
        Packet::SubAck(ack) => {
            let _ = write!(text, " #{}", ack.packet_id.value());
            for reason in ack.reasons.iter() {
                let _ = write!(text, " {:02X}", reason.as_u8());
            }
            ack.properties
        }
        Packet::UnsubAck(ack) => {
            let _ = write!(text, " #{}", ack.packet_id.value());
            for reason in ack.reasons.iter() {
                let _ = write!(text, " {:02X}", reason.as_u8());
            }
            ack.properties
        }
        Packet::Disconnect(disconnect) => {
            let _ = write!(text, " {:02X}", disconnect.reason.as_u8());
            disconnect.properties
        }
        Packet::Auth(auth) => {
            let _ = write!(text, " {:02X}", auth.reason.as_u8());
            auth.properties
        }
        _ => Properties::EMPTY,
    };
    text + &shown(properties, |_| true)
}

fn shown(properties: Properties<'_>, keep: impl Fn(&Property<'_>) -> bool) -> String {
    let mut text = String::new();
    for property in properties.iter().filter(|property| keep(property)) {
        let _ = write!(text, " {property:?}");
    }
    text
}

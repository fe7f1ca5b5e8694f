//! Properties: bytes that nobody validated never panic, and those of a decoded PUBLISH are split
//! into what goes on to a receiver and what belongs to the hop.
//!
//! Input: property bytes, without the length before them.

use waypost_mqtt::{
    Packet, Properties, Property, PropertyBuffer, ProtocolVersion, PublishHead, QoS, Role, decode,
    encode_publish_head, publish_len,
};

/// Runs the target.
pub fn run(input: &[u8]) {
    let unchecked = Properties::from_validated(input);
    let mut out = Vec::new();
    unchecked.forward_into(&mut out);
    assert!(out.len() <= input.len());
    let _ = (
        unchecked.iter().count(),
        unchecked.user_properties().count(),
        unchecked.forwardable(),
    );

    let packet = publish(input);
    let Ok(Packet::Publish(publish)) = decode(&packet, ProtocolVersion::V5, Role::Server) else {
        return;
    };
    let properties = publish.properties;
    assert_eq!(properties.as_bytes(), input);
    check_buffer(properties);
    check_forwarding(properties);
}

fn publish(properties: &[u8]) -> Vec<u8> {
    let head = PublishHead {
        version: ProtocolVersion::V5,
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: "a",
        packet_id: 0,
        topic_alias: None,
        message_expiry_interval: None,
        subscription_identifiers: &[],
        properties,
        payload_len: 0,
    };
    let mut packet = Vec::new();
    encode_publish_head(&head, &mut packet);
    assert_eq!(packet.len(), publish_len(&head));
    packet
}

/// Pushed one by one they are the same bytes, and every getter says what the list says.
fn check_buffer(properties: Properties<'_>) {
    let mut buffer = PropertyBuffer::new();
    for property in properties.iter() {
        buffer.push(property);
        match property {
            Property::TopicAlias(alias) => assert_eq!(properties.topic_alias(), Some(alias)),
            Property::ContentType(text) => assert_eq!(properties.content_type(), Some(text)),
            Property::MessageExpiryInterval(seconds) => {
                assert_eq!(properties.message_expiry_interval(), Some(seconds));
            }
            _ => {}
        }
    }
    assert_eq!(buffer.as_bytes(), properties.as_bytes());
}

fn check_forwarding(properties: Properties<'_>) {
    let belongs_to_hop = |property: &Property<'_>| {
        matches!(
            property,
            Property::TopicAlias(_)
                | Property::MessageExpiryInterval(_)
                | Property::SubscriptionIdentifier(_)
        )
    };
    let mut forwarded = Vec::new();
    properties.forward_into(&mut forwarded);
    let kept = properties
        .iter()
        .filter(|property| !belongs_to_hop(property));
    assert!(Properties::from_validated(&forwarded).iter().eq(kept));
    let whole = (!properties.iter().any(|property| belongs_to_hop(&property)))
        .then_some(properties.as_bytes());
    assert_eq!(properties.forwardable(), whole);
}

//! The rules a packet can break, each with the statement of either standard that makes it one.
//!
//! Where a 3.1 or 3.1.1 packet cannot break a rule its number there is empty. Version 3.1 has no
//! numbered statements; its breaches quote those of 3.1.1.
//!
//! A string that is no Topic Name or Topic Filter makes its packet malformed: 0x90 and 0x8F are for
//! those that are "correctly formed, but not accepted" (5 §3.14.2.1).

use crate::error::DecodeErrorKind::{self, Malformed, Protocol, Unsupported};
use crate::reason::ReasonCode;

/// A rule, and what to say when it is broken.
pub(crate) struct Rule {
    pub problem: &'static str,
    pub v3: &'static str,
    pub v5: &'static str,
    pub kind: DecodeErrorKind,
    pub reason: ReasonCode,
}

macro_rules! rules {
    ($($name:ident: $kind:ident $reason:ident, $problem:literal, $v3:literal, $v5:literal;)*) => {
        $(pub(crate) static $name: Rule = Rule {
            problem: $problem,
            v3: $v3,
            v5: $v5,
            kind: $kind,
            reason: ReasonCode::$reason,
        };)*
    };
}

rules! {
    // The fixed header
    TYPE_RESERVED: Malformed MalformedPacket, "is the reserved type 0", "3.1.1 §2.2.1", "5 §2.1.2";
    TYPE_UNKNOWN: Malformed MalformedPacket, "is a type this version does not have", "3.1.1 §2.2.1", "";
    WRONG_SENDER: Protocol ProtocolError, "is a type that the other side sends", "3.1.1 §2.2.1", "5 §2.1.2";
    FLAGS: Malformed MalformedPacket, "are not those of the flag table", "3.1.1 [MQTT-2.2.2-1]", "5 [MQTT-2.1.3-1]";
    INTEGER_TOO_LONG: Malformed MalformedPacket, "has more than four bytes", "3.1.1 §2.2.3", "5 §1.5.5";
    INTEGER_NOT_SHORTEST: Malformed MalformedPacket, "is not in its shortest form", "", "5 [MQTT-1.5.5-1]";
    WRONG_LENGTH: Malformed MalformedPacket, "is not the packet's length", "3.1.1 §2.2.3", "5 §2.1.4";
    TRUNCATED: Malformed MalformedPacket, "goes beyond the end of what contains it", "3.1.1 §2.2.3", "5 §2.1.4";
    TRAILING: Malformed MalformedPacket, "have bytes behind the last field", "3.1.1 §2.2.3", "5 §2.1.4";

    // Data types
    UTF8: Malformed MalformedPacket, "is not well-formed UTF-8", "3.1.1 [MQTT-1.5.3-1]", "5 [MQTT-1.5.4-1]";
    UTF8_NULL: Malformed MalformedPacket, "contains the null character", "3.1.1 [MQTT-1.5.3-2]", "5 [MQTT-1.5.4-2]";
    CLIENT_PACKET_ID_ZERO: Protocol ProtocolError, "is 0", "3.1.1 [MQTT-2.3.1-1]", "5 [MQTT-2.2.1-3]";
    SERVER_PACKET_ID_ZERO: Protocol ProtocolError, "is 0", "3.1.1 [MQTT-2.3.1-1]", "5 [MQTT-2.2.1-4]";
    ACK_PACKET_ID_ZERO: Protocol ProtocolError, "is 0", "3.1.1 [MQTT-2.3.1-6]", "5 [MQTT-2.2.1-5]";
    SUBACK_PACKET_ID_ZERO: Protocol ProtocolError, "is 0", "3.1.1 [MQTT-2.3.1-7]", "5 [MQTT-2.2.1-6]";

    // Properties
    PROPERTY_UNKNOWN: Malformed MalformedPacket, "is not known", "", "5 §2.2.2.2";
    PROPERTY_MISPLACED: Malformed MalformedPacket, "is not valid in this packet", "", "5 §2.2.2.2";
    PROPERTY_TWICE: Protocol ProtocolError, "is given twice", "", "5 §2.2.2.2";
    PAYLOAD_FORMAT: Protocol ProtocolError, "is neither 0 nor 1", "", "5 §3.3.2.3.2";
    REQUEST_PROBLEM_INFORMATION: Protocol ProtocolError, "is neither 0 nor 1", "", "5 §3.1.2.11.7";
    REQUEST_RESPONSE_INFORMATION: Protocol ProtocolError, "is neither 0 nor 1", "", "5 §3.1.2.11.6";
    RETAIN_AVAILABLE: Protocol ProtocolError, "is neither 0 nor 1", "", "5 §3.2.2.3.5";
    WILDCARD_SUBSCRIPTION_AVAILABLE: Protocol ProtocolError, "is neither 0 nor 1", "", "5 §3.2.2.3.11";
    SUBSCRIPTION_IDENTIFIER_AVAILABLE: Protocol ProtocolError, "is neither 0 nor 1", "", "5 §3.2.2.3.12";
    SHARED_SUBSCRIPTION_AVAILABLE: Protocol ProtocolError, "is neither 0 nor 1", "", "5 §3.2.2.3.13";
    RECEIVE_MAXIMUM_ZERO: Protocol ProtocolError, "is 0", "", "5 §3.1.2.11.3";
    MAXIMUM_PACKET_SIZE_ZERO: Protocol ProtocolError, "is 0", "", "5 §3.1.2.11.4";
    TOPIC_ALIAS_ZERO: Protocol TopicAliasInvalid, "is 0", "", "5 [MQTT-3.3.2-8]";
    SUBSCRIPTION_IDENTIFIER_ZERO: Protocol ProtocolError, "is 0", "", "5 §3.8.2.1.2";
    SUBSCRIPTION_IDENTIFIER_FROM_CLIENT: Protocol ProtocolError, "is in a PUBLISH of a client", "", "5 [MQTT-3.3.4-6]";
    MAXIMUM_QOS: Protocol ProtocolError, "is neither 0 nor 1", "", "5 §3.2.2.3.4";
    RESPONSE_TOPIC: Malformed MalformedPacket, "contains a wildcard", "", "5 [MQTT-3.3.2-14]";
    AUTHENTICATION_DATA_ALONE: Protocol ProtocolError, "comes without an Authentication Method", "", "5 §3.1.2.11.10";
    AUTHENTICATION_METHOD_MISSING: Protocol ProtocolError, "is missing", "", "5 §3.15.2.2.2";
    SESSION_EXPIRY_FROM_SERVER: Protocol ProtocolError, "is in a DISCONNECT of a server", "", "5 [MQTT-3.14.2-2]";

    // CONNECT and CONNACK
    PROTOCOL_NAME: Unsupported UnsupportedProtocolVersion, "is neither MQTT nor MQIsdp", "3.1.1 [MQTT-3.1.2-1]", "5 [MQTT-3.1.2-1]";
    PROTOCOL_VERSION: Unsupported UnsupportedProtocolVersion, "is none that is spoken here", "3.1.1 [MQTT-3.1.2-2]", "5 [MQTT-3.1.2-2]";
    CONNECT_RESERVED: Malformed MalformedPacket, "have the reserved bit set", "3.1.1 [MQTT-3.1.2-3]", "5 [MQTT-3.1.2-3]";
    WILL_QOS_WITHOUT_WILL: Malformed MalformedPacket, "have a Will QoS without a Will", "3.1.1 [MQTT-3.1.2-13]", "5 [MQTT-3.1.2-11]";
    WILL_RETAIN_WITHOUT_WILL: Malformed MalformedPacket, "have Will Retain without a Will", "3.1.1 [MQTT-3.1.2-15]", "5 [MQTT-3.1.2-13]";
    WILL_QOS: Malformed MalformedPacket, "have Will QoS 3", "3.1.1 [MQTT-3.1.2-14]", "5 [MQTT-3.1.2-12]";
    PASSWORD_ALONE: Malformed MalformedPacket, "have a Password without a User Name", "3.1.1 [MQTT-3.1.2-22]", "";
    CONNACK_RESERVED: Malformed MalformedPacket, "have a reserved bit set", "3.1.1 §3.2.2.1", "5 [MQTT-3.2.2-1]";
    SESSION_PRESENT_ON_REFUSAL: Protocol ProtocolError, "is 1 in a refusal", "3.1.1 [MQTT-3.2.2-4]", "5 [MQTT-3.2.2-6]";
    CONNACK_REASON: Protocol ProtocolError, "is none a CONNACK may have", "3.1.1 §3.2.2.3", "5 [MQTT-3.2.2-8]";

    // PUBLISH and what answers it
    PUBLISH_QOS: Malformed MalformedPacket, "is 3", "3.1.1 [MQTT-3.3.1-4]", "5 [MQTT-3.3.1-4]";
    PUBLISH_DUP: Malformed MalformedPacket, "is 1 at QoS 0", "3.1.1 [MQTT-3.3.1-2]", "5 [MQTT-3.3.1-2]";
    TOPIC_WILDCARD: Malformed MalformedPacket, "contains a wildcard", "3.1.1 [MQTT-3.3.2-2]", "5 [MQTT-3.3.2-2]";
    TOPIC_EMPTY: Malformed MalformedPacket, "is empty", "3.1.1 [MQTT-4.7.3-1]", "5 [MQTT-4.7.3-1]";
    TOPIC_AND_ALIAS_MISSING: Protocol ProtocolError, "is empty and there is no Topic Alias", "", "5 §3.3.2.1";
    PUBACK_REASON: Protocol ProtocolError, "is none a PUBACK of this sender may have", "", "5 [MQTT-3.4.2-1]";
    PUBREC_REASON: Protocol ProtocolError, "is none a PUBREC of this sender may have", "", "5 [MQTT-3.5.2-1]";
    PUBREL_REASON: Protocol ProtocolError, "is none a PUBREL may have", "", "5 [MQTT-3.6.2-1]";
    PUBCOMP_REASON: Protocol ProtocolError, "is none a PUBCOMP may have", "", "5 [MQTT-3.7.2-1]";
    PUBREL_FLAGS: Malformed MalformedPacket, "are not 0010", "3.1.1 [MQTT-3.6.1-1]", "5 [MQTT-3.6.1-1]";

    // SUBSCRIBE, UNSUBSCRIBE and their answers
    SUBSCRIBE_FLAGS: Malformed MalformedPacket, "are not 0010", "3.1.1 [MQTT-3.8.1-1]", "5 [MQTT-3.8.1-1]";
    SUBSCRIBE_EMPTY: Protocol ProtocolError, "has no Topic Filter", "3.1.1 [MQTT-3.8.3-3]", "5 [MQTT-3.8.3-2]";
    SUBSCRIBE_RESERVED: Malformed MalformedPacket, "have a reserved bit set", "3.1.1 [MQTT-3.8.3-4]", "5 [MQTT-3.8.3-5]";
    SUBSCRIBE_QOS: Protocol ProtocolError, "ask for QoS 3", "3.1.1 [MQTT-3.8.3-4]", "5 §3.8.3.1";
    RETAIN_HANDLING: Protocol ProtocolError, "have Retain Handling 3", "", "5 §3.8.3.1";
    NO_LOCAL_SHARED: Protocol ProtocolError, "have No Local on a Shared Subscription", "", "5 [MQTT-3.8.3-4]";
    FILTER_EMPTY: Malformed MalformedPacket, "is empty", "3.1.1 [MQTT-4.7.3-1]", "5 [MQTT-4.7.3-1]";
    FILTER_MULTI_LEVEL: Malformed MalformedPacket, "has a # that is not alone in its last level", "3.1.1 [MQTT-4.7.1-2]", "5 [MQTT-4.7.1-1]";
    FILTER_SINGLE_LEVEL: Malformed MalformedPacket, "has a + that does not fill its level", "3.1.1 [MQTT-4.7.1-3]", "5 [MQTT-4.7.1-2]";
    SHARE_NAME: Malformed MalformedPacket, "has a ShareName that is empty or contains a wildcard", "", "5 [MQTT-4.8.2-1]";
    SHARE_FILTER: Malformed MalformedPacket, "has no Topic Filter after its ShareName", "", "5 [MQTT-4.8.2-2]";
    SUBACK_EMPTY: Protocol ProtocolError, "has no Reason Code", "3.1.1 [MQTT-3.8.4-5]", "5 [MQTT-3.8.4-6]";
    SUBACK_REASON: Protocol ProtocolError, "is none a SUBACK may have", "3.1.1 [MQTT-3.9.3-2]", "5 [MQTT-3.9.3-2]";
    UNSUBSCRIBE_FLAGS: Malformed MalformedPacket, "are not 0010", "3.1.1 [MQTT-3.10.1-1]", "5 [MQTT-3.10.1-1]";
    UNSUBSCRIBE_EMPTY: Protocol ProtocolError, "has no Topic Filter", "3.1.1 [MQTT-3.10.3-2]", "5 [MQTT-3.10.3-2]";
    UNSUBACK_EMPTY: Protocol ProtocolError, "has no Reason Code", "", "5 §3.11.3";
    UNSUBACK_REASON: Protocol ProtocolError, "is none an UNSUBACK may have", "", "5 [MQTT-3.11.3-2]";

    // DISCONNECT and AUTH
    DISCONNECT_FLAGS: Malformed MalformedPacket, "are not 0000", "3.1.1 [MQTT-3.14.1-1]", "5 [MQTT-3.14.1-1]";
    DISCONNECT_REASON: Protocol ProtocolError, "is none a DISCONNECT of this sender may have", "", "5 [MQTT-3.14.2-1]";
    AUTH_FLAGS: Malformed MalformedPacket, "are not 0000", "", "5 [MQTT-3.15.1-1]";
    AUTH_REASON: Protocol ProtocolError, "is none an AUTH of this sender may have", "", "5 [MQTT-3.15.2-1]";
}

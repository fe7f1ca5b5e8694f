//! Reason Codes (5 §2.4) and which of them each packet may carry.

use crate::protocol::{PacketType, Role};

macro_rules! reason_codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        /// A Reason Code of MQTT 5. 0x80 and above are failures.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum ReasonCode {
            $(#[doc = $text] $name = $value,)*
        }

        impl ReasonCode {
            /// Every Reason Code there is, ascending.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The standard's words for it.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }

        impl TryFrom<u8> for ReasonCode {
            type Error = u8;

            #[inline]
            fn try_from(value: u8) -> Result<Self, u8> {
                match value {
                    $($value => Ok(Self::$name),)*
                    other => Err(other),
                }
            }
        }
    };
}

reason_codes! {
    Success = 0x00, "Success";
    GrantedQoS1 = 0x01, "Granted QoS 1";
    GrantedQoS2 = 0x02, "Granted QoS 2";
    DisconnectWithWillMessage = 0x04, "Disconnect with Will Message";
    NoMatchingSubscribers = 0x10, "No matching subscribers";
    NoSubscriptionExisted = 0x11, "No subscription existed";
    ContinueAuthentication = 0x18, "Continue authentication";
    ReAuthenticate = 0x19, "Re-authenticate";
    UnspecifiedError = 0x80, "Unspecified error";
    MalformedPacket = 0x81, "Malformed Packet";
    ProtocolError = 0x82, "Protocol Error";
    ImplementationSpecificError = 0x83, "Implementation specific error";
    UnsupportedProtocolVersion = 0x84, "Unsupported Protocol Version";
    ClientIdentifierNotValid = 0x85, "Client Identifier not valid";
    BadUserNameOrPassword = 0x86, "Bad User Name or Password";
    NotAuthorized = 0x87, "Not authorized";
    ServerUnavailable = 0x88, "Server unavailable";
    ServerBusy = 0x89, "Server busy";
    Banned = 0x8A, "Banned";
    ServerShuttingDown = 0x8B, "Server shutting down";
    BadAuthenticationMethod = 0x8C, "Bad authentication method";
    KeepAliveTimeout = 0x8D, "Keep Alive timeout";
    SessionTakenOver = 0x8E, "Session taken over";
    TopicFilterInvalid = 0x8F, "Topic Filter invalid";
    TopicNameInvalid = 0x90, "Topic Name invalid";
    PacketIdentifierInUse = 0x91, "Packet Identifier in use";
    PacketIdentifierNotFound = 0x92, "Packet Identifier not found";
    ReceiveMaximumExceeded = 0x93, "Receive Maximum exceeded";
    TopicAliasInvalid = 0x94, "Topic Alias invalid";
    PacketTooLarge = 0x95, "Packet too large";
    MessageRateTooHigh = 0x96, "Message rate too high";
    QuotaExceeded = 0x97, "Quota exceeded";
    AdministrativeAction = 0x98, "Administrative action";
    PayloadFormatInvalid = 0x99, "Payload format invalid";
    RetainNotSupported = 0x9A, "Retain not supported";
    QoSNotSupported = 0x9B, "QoS not supported";
    UseAnotherServer = 0x9C, "Use another server";
    ServerMoved = 0x9D, "Server moved";
    SharedSubscriptionsNotSupported = 0x9E, "Shared Subscriptions not supported";
    ConnectionRateExceeded = 0x9F, "Connection rate exceeded";
    MaximumConnectTime = 0xA0, "Maximum connect time";
    SubscriptionIdentifiersNotSupported = 0xA1, "Subscription Identifiers not supported";
    WildcardSubscriptionsNotSupported = 0xA2, "Wildcard Subscriptions not supported";
}

/// Who may send a Reason Code in a given packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sender {
    Either,
    Client,
    Server,
    Nobody,
}

impl ReasonCode {
    /// 0x00 in a DISCONNECT.
    pub const NORMAL_DISCONNECTION: Self = Self::Success;
    /// 0x00 in a SUBACK.
    pub const GRANTED_QOS_0: Self = Self::Success;

    /// The code's byte.
    #[inline]
    pub const fn as_u8(self) -> u8 {
        self as u8
    }

    /// Whether it tells of a failure: 0x80 and above.
    #[inline]
    pub const fn is_error(self) -> bool {
        self.as_u8() >= 0x80
    }

    /// Whether `sender` may send this code in such a packet (each packet's own list, 5 §3.x.2).
    pub fn is_valid_in(self, packet: PacketType, sender: Role) -> bool {
        match self.sender_in(packet) {
            Sender::Either => true,
            Sender::Client => sender == Role::Client,
            Sender::Server => sender == Role::Server,
            Sender::Nobody => false,
        }
    }

    fn sender_in(self, packet: PacketType) -> Sender {
        let code = self.as_u8();
        match (packet, code) {
            // 5 §3.2.2.2, table 3-1
            (
                PacketType::ConnAck,
                0x00 | 0x80..=0x8A | 0x8C | 0x90 | 0x95 | 0x97 | 0x99..=0x9D | 0x9F,
            )
            // 5 §3.9.3, §3.11.3
            | (
                PacketType::SubAck,
                0x00..=0x02 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91 | 0x97 | 0x9E | 0xA1 | 0xA2,
            )
            | (PacketType::UnsubAck, 0x00 | 0x11 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91)
            // 5 §3.4.2.1, §3.5.2.1: "This is sent only by the Server."
            | (PacketType::PubAck | PacketType::PubRec, 0x10)
            // 5 §3.14.2.1, table 3-10
            | (
                PacketType::Disconnect,
                0x87 | 0x89 | 0x8B..=0x8F | 0x9A..=0xA2,
            )
            // 5 §3.15.2.1
            | (PacketType::Auth, 0x00) => Sender::Server,
            (PacketType::Disconnect, 0x04) | (PacketType::Auth, 0x19) => Sender::Client,
            (
                PacketType::PubAck | PacketType::PubRec,
                0x00 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99,
            )
            | (PacketType::PubRel | PacketType::PubComp, 0x00 | 0x92)
            | (PacketType::Disconnect, 0x00 | 0x80..=0x83 | 0x90 | 0x93..=0x99)
            | (PacketType::Auth, 0x18) => Sender::Either,
            _ => Sender::Nobody,
        }
    }

    /// The CONNACK return code of 3.1 and 3.1.1 that says the same, if there is one.
    pub const fn to_return_code(self) -> Option<u8> {
        match self {
            Self::Success => Some(0),
            Self::UnsupportedProtocolVersion => Some(1),
            Self::ClientIdentifierNotValid => Some(2),
            Self::ServerUnavailable | Self::ServerBusy | Self::ConnectionRateExceeded => Some(3),
            Self::BadUserNameOrPassword => Some(4),
            Self::NotAuthorized | Self::Banned => Some(5),
            _ => None,
        }
    }

    /// The Reason Code that says what a 3.1 or 3.1.1 CONNACK return code says.
    pub const fn from_return_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Success,
            1 => Self::UnsupportedProtocolVersion,
            2 => Self::ClientIdentifierNotValid,
            3 => Self::ServerUnavailable,
            4 => Self::BadUserNameOrPassword,
            5 => Self::NotAuthorized,
            _ => return None,
        })
    }
}

impl std::fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (0x{:02X})", self.text(), self.as_u8())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_codes_agree() {
        for value in 0..=u8::MAX {
            match ReasonCode::try_from(value) {
                Ok(code) => assert_eq!(code.as_u8(), value),
                Err(byte) => assert_eq!(byte, value),
            }
        }
        assert_eq!(ReasonCode::ALL.len(), 43);
        assert!(!ReasonCode::ReAuthenticate.is_error());
        assert!(ReasonCode::UnspecifiedError.is_error());
    }

    /// Goal: each packet's list is the standard's. Method: the lists again, as hexadecimal text.
    #[test]
    fn each_packet_has_its_own_list() {
        let lists = [
            (
                PacketType::ConnAck,
                Role::Server,
                "00 80 81 82 83 84 85 86 87 88 89 8A 8C 90 95 97 99 9A 9B 9C 9D 9F",
            ),
            (
                PacketType::PubAck,
                Role::Server,
                "00 10 80 83 87 90 91 97 99",
            ),
            (PacketType::PubAck, Role::Client, "00 80 83 87 90 91 97 99"),
            (
                PacketType::PubRec,
                Role::Server,
                "00 10 80 83 87 90 91 97 99",
            ),
            (PacketType::PubRec, Role::Client, "00 80 83 87 90 91 97 99"),
            (PacketType::PubRel, Role::Client, "00 92"),
            (PacketType::PubComp, Role::Client, "00 92"),
            (
                PacketType::SubAck,
                Role::Server,
                "00 01 02 80 83 87 8F 91 97 9E A1 A2",
            ),
            (PacketType::UnsubAck, Role::Server, "00 11 80 83 87 8F 91"),
            (
                PacketType::Disconnect,
                Role::Client,
                "00 04 80 81 82 83 90 93 94 95 96 97 98 99",
            ),
            (
                PacketType::Disconnect,
                Role::Server,
                "00 80 81 82 83 87 89 8B 8C 8D 8E 8F 90 93 94 95 96 97 98 99 9A 9B 9C 9D 9E 9F A0 A1 A2",
            ),
            (PacketType::Auth, Role::Client, "18 19"),
            (PacketType::Auth, Role::Server, "00 18"),
        ];
        for (packet, sender, list) in lists {
            let found: Vec<String> = ReasonCode::ALL
                .iter()
                .filter(|code| code.is_valid_in(packet, sender))
                .map(|code| format!("{:02X}", code.as_u8()))
                .collect();
            assert_eq!(found.join(" "), list, "{packet:?} from {sender:?}");
        }
    }

    #[test]
    fn return_codes_of_3_1_1_survive_the_way_there_and_back() {
        for code in 0..=5 {
            let reason = ReasonCode::from_return_code(code).unwrap();
            assert_eq!(reason.to_return_code(), Some(code));
        }
        assert_eq!(ReasonCode::from_return_code(6), None);
        assert_eq!(ReasonCode::PacketTooLarge.to_return_code(), None);
    }
}

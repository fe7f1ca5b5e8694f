//! How `waypost sub` lays a message out.

use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use waypost_mqtt::{Properties, Publish};

use waypost_client::Place;

use crate::commands::sealing::Origin;

/// A layout of pieces, parsed once.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    pieces: Vec<Piece>,
}

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Topic,
    Payload,
    PayloadHexadecimal,
    PayloadLength,
    QoS,
    Retain,
    PacketId,
    UnixTime,
    IsoTime,
    ContentType,
    ResponseTopic,
    MessageExpiry,
    UserProperties,
    Stream,
    Offset,
    Entered,
    Signer,
    Sender,
    Json,
}

impl Layout {
    /// The payload as it came.
    pub fn payload() -> Self {
        Self {
            pieces: vec![Piece::Payload],
        }
    }

    /// Topic, a blank, payload.
    pub fn verbose(coloured: bool) -> Self {
        let text = |text: &str| Piece::Text(text.to_owned());
        let pieces = if coloured {
            vec![
                text("\x1b[36m"),
                Piece::Topic,
                text("\x1b[0m "),
                Piece::Payload,
            ]
        } else {
            vec![Piece::Topic, text(" "), Piece::Payload]
        };
        Self { pieces }
    }

    /// One JSON object.
    pub fn json() -> Self {
        Self {
            pieces: vec![Piece::Json],
        }
    }

    /// Reads the text of `-F`; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            let piece = match (character, characters.clone().next()) {
                ('%', Some('%')) => Piece::Text("%".into()),
                ('%', Some('t')) => Piece::Topic,
                ('%', Some('p')) => Piece::Payload,
                ('%', Some('x')) => Piece::PayloadHexadecimal,
                ('%', Some('l')) => Piece::PayloadLength,
                ('%', Some('q')) => Piece::QoS,
                ('%', Some('r')) => Piece::Retain,
                ('%', Some('m')) => Piece::PacketId,
                ('%', Some('U')) => Piece::UnixTime,
                ('%', Some('I')) => Piece::IsoTime,
                ('%', Some('C')) => Piece::ContentType,
                ('%', Some('R')) => Piece::ResponseTopic,
                ('%', Some('E')) => Piece::MessageExpiry,
                ('%', Some('P')) => Piece::UserProperties,
                ('%', Some('S')) => Piece::Stream,
                ('%', Some('O')) => Piece::Offset,
                ('%', Some('T')) => Piece::Entered,
                ('%', Some('s')) => Piece::Signer,
                ('%', Some('j' | 'J')) => Piece::Json,
                ('%', Some(other)) => {
                    return Err(format!(
                        "-F: `%{other}` means nothing; `waypost sub --help` lists what does"
                    ));
                }
                ('%', None) => return Err("-F: write `%%` for a percent sign".into()),
                ('\\', Some('n')) => Piece::Text("\n".into()),
                ('\\', Some('r')) => Piece::Text("\r".into()),
                ('\\', Some('t')) => Piece::Text("\t".into()),
                ('\\', Some('0')) => Piece::Text("\0".into()),
                ('\\', Some('\\')) => Piece::Text("\\".into()),
                ('\\', Some(other)) => {
                    return Err(format!(
                        "-F: `\\{other}` means nothing; there are \\n \\r \\t \\0 \\\\"
                    ));
                }
                (other, _) => {
                    literal.push(other);
                    continue;
                }
            };
            characters.next();
            if let Piece::Text(text) = piece {
                literal.push_str(&text);
            } else {
                if !literal.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut literal)));
                }
                pieces.push(piece);
            }
        }
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        Ok(Self { pieces })
    }

    /// Says after each message who signed it.
    pub fn name_sender(&mut self) {
        self.pieces.push(Piece::Sender);
    }

    /// Ends each message with a line break.
    pub fn end_line(&mut self) {
        self.pieces.push(Piece::Text("\n".into()));
    }

    /// Lays `message` out at the end of `out`; `origin` is that of one that was opened.
    pub fn write(
        &self,
        message: &Publish<'_>,
        origin: Option<&Origin>,
        now: Timestamp,
        out: &mut Vec<u8>,
    ) {
        let signer = origin.and_then(|origin| origin.signer.as_ref());
        let properties = message.properties;
        for piece in &self.pieces {
            // Writing into memory cannot fail.
            let _ = match piece {
                Piece::Text(text) => out.write_all(text.as_bytes()),
                Piece::Topic => out.write_all(message.topic.as_bytes()),
                Piece::Payload => out.write_all(message.payload),
                Piece::PayloadHexadecimal => message
                    .payload
                    .iter()
                    .try_for_each(|byte| write!(out, "{byte:02x}")),
                Piece::PayloadLength => write!(out, "{}", message.payload.len()),
                Piece::QoS => write!(out, "{}", u8::from(message.qos)),
                Piece::Retain => write!(out, "{}", u8::from(message.retain)),
                Piece::PacketId => write!(
                    out,
                    "{}",
                    message.packet_id.map_or(0, waypost_mqtt::PacketId::value)
                ),
                Piece::UnixTime => {
                    let ns = now.subsec_nanosecond();
                    write!(out, "{}.{ns:09}", now.as_second())
                }
                Piece::IsoTime => write!(out, "{now:.3}"),
                Piece::ContentType => {
                    write!(out, "{}", properties.content_type().unwrap_or_default())
                }
                Piece::ResponseTopic => {
                    write!(out, "{}", properties.response_topic().unwrap_or_default())
                }
                Piece::MessageExpiry => match properties.message_expiry_interval() {
                    Some(seconds) => write!(out, "{seconds}"),
                    None => Ok(()),
                },
                Piece::UserProperties => {
                    let mut separator = "";
                    properties.user_properties().try_for_each(|(name, value)| {
                        let written = write!(out, "{separator}{name}:{value}");
                        separator = " ";
                        written
                    })
                }
                Piece::Stream | Piece::Offset | Piece::Entered => match Place::of(message) {
                    Some(place) => match piece {
                        Piece::Stream => out.write_all(place.stream.as_bytes()),
                        Piece::Offset => write!(out, "{}", place.offset),
                        _ => write!(out, "{}", entered(&place).unwrap_or_default()),
                    },
                    None => Ok(()),
                },
                Piece::Signer => match signer {
                    Some(signer) => out.write_all(signer.name.as_bytes()),
                    None => Ok(()),
                },
                Piece::Sender => match signer {
                    Some(signer) => write!(out, " (signed by {})", signer.name),
                    None => write!(out, " (sender unknown)"),
                },
                Piece::Json => write!(out, "{}", object(message, origin, now)),
            };
        }
    }
}

/// When a message entered its stream, as ISO 8601.
fn entered(place: &Place<'_>) -> Option<String> {
    let time = Timestamp::from_millisecond(place.time_ms?).ok()?;
    Some(format!("{time:.3}"))
}

fn object(message: &Publish<'_>, origin: Option<&Origin>, now: Timestamp) -> Value {
    let mut object = Map::new();
    object.insert("topic".into(), message.topic.into());
    match std::str::from_utf8(message.payload) {
        Ok(text) => object.insert("payload".into(), text.into()),
        Err(_) => object.insert(
            "payload_base64".into(),
            STANDARD.encode(message.payload).into(),
        ),
    };
    object.insert("qos".into(), u8::from(message.qos).into());
    object.insert("retain".into(), message.retain.into());
    object.insert("time".into(), format!("{now:.3}").into());
    if let Some(place) = Place::of(message) {
        object.insert("stream".into(), place.stream.into());
        object.insert("offset".into(), place.offset.into());
        if let Some(entered) = entered(&place) {
            object.insert("entered".into(), entered.into());
        }
    }
    if let Some(origin) = origin {
        let signer = origin.signer.as_ref();
        let sealed = json!({
            "suite": origin.suite,
            "message_id": origin.message_id,
            "signed_by": signer.map(|signer| &signer.name),
            "key_id": signer.map(|signer| signer.key_id.to_string()),
        });
        object.insert("sealed".into(), sealed);
    }
    if !message.properties.is_empty() {
        object.insert("properties".into(), property_object(message.properties));
    }
    Value::Object(object)
}

fn property_object(properties: Properties<'_>) -> Value {
    let mut object = Map::new();
    let mut insert = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            object.insert(name.into(), value);
        }
    };
    insert(
        "payload_format_indicator",
        properties.payload_format_indicator().map(Value::from),
    );
    insert(
        "message_expiry_interval",
        properties.message_expiry_interval().map(Value::from),
    );
    insert("content_type", properties.content_type().map(Value::from));
    insert(
        "response_topic",
        properties.response_topic().map(Value::from),
    );
    match properties
        .correlation_data()
        .map(|data| (std::str::from_utf8(data), data))
    {
        Some((Ok(text), _)) => insert("correlation_data", Some(text.into())),
        Some((Err(_), data)) => {
            insert(
                "correlation_data_base64",
                Some(STANDARD.encode(data).into()),
            );
        }
        None => {}
    }
    let identifiers: Vec<_> = properties.subscription_identifiers().collect();
    insert(
        "subscription_identifiers",
        (!identifiers.is_empty()).then(|| identifiers.into()),
    );
    // Pairs, not an object: a name may come twice and the order counts.
    let pairs: Vec<_> = properties
        .user_properties()
        .map(|(name, value)| json!([name, value]))
        .collect();
    insert("user_properties", (!pairs.is_empty()).then(|| pairs.into()));
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use waypost_encrypt::KeyId;
    use waypost_mqtt::{PacketId, Property, PropertyBuffer, QoS};

    use super::*;
    use crate::commands::sealing::Signer;

    fn check(layout: &Layout, payload: &[u8], properties: &PropertyBuffer, expect: &str) {
        let message = Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: true,
            topic: "a/b",
            packet_id: PacketId::new(7),
            properties: properties.as_properties(),
            payload,
        };
        let mut out = Vec::new();
        layout.write(&message, None, Timestamp::UNIX_EPOCH, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expect);
    }

    #[test]
    fn layouts_are_filled() {
        let mut properties = PropertyBuffer::new();
        properties
            .push(Property::UserProperty("k", "v"))
            .push(Property::UserProperty("k", "w"));
        for (layout, expect) in [
            ("%t %p", "a/b hi"),
            ("%q%r%m%l", "1172"),
            ("%%\\t%x\\n", "%\t6869\n"),
            ("%I %U", "1970-01-01T00:00:00.000Z 0.000000000"),
            ("[%P] [%C]", "[k:v k:w] []"),
        ] {
            check(&Layout::parse(layout).unwrap(), b"hi", &properties, expect);
        }
        check(&Layout::verbose(false), b"hi", &properties, "a/b hi");
        let mut line = Layout::payload();
        line.end_line();
        check(&line, b"", &properties, "\n");
        for wrong in ["%", "%y", "\\q"] {
            assert!(Layout::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn json_says_all_and_keeps_bytes() {
        let mut properties = PropertyBuffer::new();
        check(
            &Layout::json(),
            "ü\n".as_bytes(),
            &properties,
            r#"{"topic":"a/b","payload":"ü\n","qos":1,"retain":true,"time":"1970-01-01T00:00:00.000Z"}"#,
        );
        properties
            .push(Property::ContentType("x"))
            .push(Property::UserProperty("k", "v"));
        check(
            &Layout::json(),
            &[0xff],
            &properties,
            r#"{"topic":"a/b","payload_base64":"/w==","qos":1,"retain":true,"time":"1970-01-01T00:00:00.000Z","properties":{"content_type":"x","user_properties":[["k","v"]]}}"#,
        );
    }

    #[test]
    fn the_place_in_a_stream_is_shown() {
        let mut properties = PropertyBuffer::new();
        let layout = Layout::parse("%S %O %T").unwrap();
        check(&layout, b"", &properties, "  ");
        properties
            .push(Property::UserProperty("waypost-stream", "chat"))
            .push(Property::UserProperty("waypost-offset", "41"))
            .push(Property::UserProperty("waypost-time", "1500"));
        check(
            &layout,
            b"",
            &properties,
            "chat 41 1970-01-01T00:00:01.500Z",
        );
        check(
            &Layout::json(),
            b"",
            &properties,
            r#"{"topic":"a/b","payload":"","qos":1,"retain":true,"time":"1970-01-01T00:00:00.000Z","stream":"chat","offset":41,"entered":"1970-01-01T00:00:01.500Z","properties":{"user_properties":[["waypost-stream","chat"],["waypost-offset","41"],["waypost-time","1500"]]}}"#,
        );
    }

    #[test]
    fn who_signed_is_said() {
        let signed = Origin {
            signer: Some(Signer {
                name: "ann".to_owned(),
                key_id: KeyId([1; 8]),
            }),
            suite: "ecc+aes-gcm".to_owned(),
            message_id: "00ff".to_owned(),
        };
        let unknown = Origin {
            signer: None,
            ..signed.clone()
        };
        let properties = PropertyBuffer::new();
        let message = Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: "a/b",
            packet_id: None,
            properties: properties.as_properties(),
            payload: b"hi",
        };
        let mut named = Layout::payload();
        named.name_sender();
        let own = Layout::parse("[%s] %p").unwrap();
        let json = r#"{"topic":"a/b","payload":"hi","qos":0,"retain":false,"time":"1970-01-01T00:00:00.000Z","sealed":{"suite":"ecc+aes-gcm","message_id":"00ff","signed_by":"ann","key_id":"0101010101010101"}}"#;
        for (layout, origin, expect) in [
            (&named, &signed, "hi (signed by ann)"),
            (&named, &unknown, "hi (sender unknown)"),
            (&own, &signed, "[ann] hi"),
            (&own, &unknown, "[] hi"),
            (&Layout::json(), &signed, json),
        ] {
            let mut out = Vec::new();
            layout.write(&message, Some(origin), Timestamp::UNIX_EPOCH, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expect);
        }
    }
}

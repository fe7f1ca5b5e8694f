//! A record of a stream as one line of JSON, and back.
//!
//! ```json
//! {"offset":41,"time_ms":1732406400000,"topic":"orders/7","payload":"two coffees","qos":1,"publisher":"a1b2c3d4e5f60718"}
//! ```
//!
//! Reading back what was written gives the same record; a record that was made by hand needs only a topic.

use std::io::Write;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use waypost_core::rows::message::{KeptMessage, decode_message};
use waypost_mqtt::{Properties, Property, PropertyBuffer, QoS, Topic};
use waypost_store::streams::StreamRecord;

/// The longest line that is read: a message of 16 MiB as base64, with its properties.
pub const LINE_BYTES_MAX: usize = 32 << 20;

/// A record as it goes into a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The offset it had, if it says so.
    pub offset: Option<u64>,
    /// When it entered, if it says so, in milliseconds since 1970.
    pub wall_ms: Option<u64>,
    /// When it expires, in milliseconds since 1970; `u64::MAX` = never.
    pub expires_wall_ms: u64,
    /// The message, as the store keeps it.
    pub body: Vec<u8>,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It is no JSON object.
    #[error("not a JSON object: {0}")]
    NotAnObject(String),
    /// A field that is missing or cannot be right.
    #[error("{field}: expected {expected}")]
    Field {
        /// Which.
        field: &'static str,
        /// What it has to be.
        expected: &'static str,
    },
    /// More than the properties of a message can be.
    #[error("its properties are longer than a packet can have")]
    TooLong,
}

impl Record {
    /// A message that nobody published before.
    pub fn made(message: &KeptMessage<'_>) -> Self {
        let mut body = Vec::new();
        message.encode(&mut body);
        Self {
            offset: None,
            wall_ms: None,
            expires_wall_ms: message.expires_wall_ms,
            body,
        }
    }

    /// A message with a topic, a payload and a time, and nothing else to say.
    pub fn plain(topic: &str, payload: &[u8], wall_ms: u64) -> Self {
        Self {
            wall_ms: Some(wall_ms),
            ..Self::made(&KeptMessage {
                topic,
                properties: &[],
                payload,
                qos: QoS::AtLeastOnce,
                publisher: 0,
                address: None,
                date_wall_ms: wall_ms,
                expires_wall_ms: u64::MAX,
            })
        }
    }
}

/// Appends a record and the end of its line.
pub fn encode_line(record: &StreamRecord, out: &mut Vec<u8>) {
    encode(
        Some(record.offset),
        Some(record.wall_ms),
        record.body(),
        out,
    );
}

impl Record {
    /// Appends it and the end of its line.
    pub fn encode_line(&self, out: &mut Vec<u8>) {
        encode(self.offset, self.wall_ms, &self.body, out);
    }
}

fn encode(offset: Option<u64>, wall_ms: Option<u64>, body: &[u8], out: &mut Vec<u8>) {
    let mut object = Map::new();
    let mut number = |name: &str, value: Option<u64>| {
        if let Some(value) = value {
            object.insert(name.into(), value.into());
        }
    };
    number("offset", offset);
    number("time_ms", wall_ms);
    match decode_message(body) {
        Some(message) => describe(&message, wall_ms, &mut object),
        None => {
            object.insert("body_base64".into(), STANDARD.encode(body).into());
        }
    }
    // Writing into memory cannot fail.
    let _ = serde_json::to_writer(&mut *out, &object);
    let _ = out.write_all(b"\n");
}

fn describe(message: &KeptMessage<'_>, wall_ms: Option<u64>, object: &mut Map<String, Value>) {
    object.insert("topic".into(), message.topic.into());
    let (name, payload) = text_or_base64("payload", "payload_base64", message.payload);
    object.insert(name.into(), payload);
    object.insert("qos".into(), u8::from(message.qos).into());
    if message.publisher != 0 {
        let publisher = format!("{:016x}", message.publisher);
        object.insert("publisher".into(), publisher.into());
    }
    if let Some(address) = message.address {
        object.insert("address".into(), address.to_string().into());
    }
    if Some(message.date_wall_ms) != wall_ms {
        object.insert("published_ms".into(), message.date_wall_ms.into());
    }
    if message.expires_wall_ms != u64::MAX {
        object.insert("expires_ms".into(), message.expires_wall_ms.into());
    }
    if !message.properties.is_empty() {
        let properties = Properties::from_validated(message.properties);
        object.insert("properties".into(), property_object(properties));
    }
}

/// As text where that is what it is for people and not longer than base64 could be.
fn text_or_base64(text: &'static str, base64: &'static str, bytes: &[u8]) -> (&'static str, Value) {
    let is_plain = |c: char| !c.is_control() || c == '\n' || c == '\t' || c == '\r';
    match std::str::from_utf8(bytes) {
        Ok(read) if read.chars().all(is_plain) => (text, read.into()),
        _ => (base64, STANDARD.encode(bytes).into()),
    }
}

fn property_object(properties: Properties<'_>) -> Value {
    let mut object = Map::new();
    let mut pairs = Vec::new();
    for property in properties.iter() {
        let (name, value) = match property {
            Property::PayloadFormatIndicator(value) => ("payload_format_indicator", value.into()),
            Property::ContentType(value) => ("content_type", value.into()),
            Property::ResponseTopic(value) => ("response_topic", value.into()),
            Property::CorrelationData(value) => {
                text_or_base64("correlation_data", "correlation_data_base64", value)
            }
            Property::UserProperty(name, value) => {
                // Pairs, not an object: a name may come twice and the order counts.
                pairs.push(json!([name, value]));
                continue;
            }
            // No other goes on to a receiver.
            _ => continue,
        };
        object.insert(name.to_owned(), value);
    }
    if !pairs.is_empty() {
        object.insert("user_properties".to_owned(), pairs.into());
    }
    Value::Object(object)
}

/// Reads a line. Times that it does not say are `now_ms`.
pub fn decode_line(line: &[u8], now_ms: u64) -> Result<Record, LineError> {
    let object = match serde_json::from_slice(line) {
        Ok(Value::Object(object)) => object,
        Ok(_) => return Err(LineError::NotAnObject("another JSON value".to_owned())),
        Err(error) => return Err(LineError::NotAnObject(error.to_string())),
    };
    let fields = Fields(&object);
    let offset = fields.number("offset")?;
    let wall_ms = fields.number("time_ms")?;
    if let Some(body) = fields.bytes("body", "body_base64")? {
        return Ok(Record {
            offset,
            wall_ms,
            expires_wall_ms: u64::MAX,
            body,
        });
    }
    let topic = fields.text("topic")?;
    let topic = topic.filter(|topic| Topic::parse(topic).is_ok());
    let topic = topic.ok_or(LineError::Field {
        field: "topic",
        expected: "a Topic Name",
    })?;
    let payload = fields
        .bytes("payload", "payload_base64")?
        .unwrap_or_default();
    let properties = fields.properties()?;
    let date_wall_ms = fields.number("published_ms")?.or(wall_ms).unwrap_or(now_ms);
    // Kept in whole seconds from the date on.
    let lifetime_s = |expires_ms: u64| expires_ms.saturating_sub(date_wall_ms).div_ceil(1_000);
    let expires_wall_ms = match fields.number("expires_ms")? {
        None => u64::MAX,
        Some(expires_ms) => {
            let lifetime_s = lifetime_s(expires_ms).min(u32::MAX.into());
            date_wall_ms.saturating_add(lifetime_s * 1_000)
        }
    };
    let made = Record::made(&KeptMessage {
        topic,
        properties: properties.as_bytes(),
        payload: &payload,
        qos: fields.qos()?,
        publisher: fields.publisher()?,
        address: fields.address()?,
        date_wall_ms,
        expires_wall_ms,
    });
    Ok(Record {
        offset,
        wall_ms,
        ..made
    })
}

/// The fields of a line. One that is not there, or null, is `None`.
struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    fn read<T>(
        &self,
        field: &'static str,
        expected: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, LineError> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match read(value) {
                None => Err(LineError::Field { field, expected }),
                read => Ok(read),
            },
        }
    }

    fn number(&self, field: &'static str) -> Result<Option<u64>, LineError> {
        self.read(field, "a whole number, 0 or more", Value::as_u64)
    }

    fn text(&self, field: &'static str) -> Result<Option<&'a str>, LineError> {
        self.read(field, "text", Value::as_str)
    }

    /// Bytes as text or as base64; what is neither, as JSON: that is how records are made by hand.
    fn bytes(
        &self,
        text: &'static str,
        base64: &'static str,
    ) -> Result<Option<Vec<u8>>, LineError> {
        let decoded = self.read(base64, "base64", |value| {
            STANDARD.decode(value.as_str()?).ok()
        })?;
        let written = |value: &Value| match value {
            Value::String(text) => text.clone().into_bytes(),
            value => value.to_string().into_bytes(),
        };
        Ok(decoded.or(self.read(text, "anything", |value| Some(written(value)))?))
    }

    fn qos(&self) -> Result<QoS, LineError> {
        let qos = |value: &Value| QoS::try_from(u8::try_from(value.as_u64()?).ok()?).ok();
        let qos = self.read("qos", "0, 1 or 2", qos)?;
        Ok(qos.unwrap_or(QoS::AtMostOnce))
    }

    fn publisher(&self) -> Result<u64, LineError> {
        let number = |value: &Value| u64::from_str_radix(value.as_str()?, 16).ok();
        let publisher = self.read("publisher", "a hexadecimal number of 64 bits", number)?;
        Ok(publisher.unwrap_or(0))
    }

    fn address(&self) -> Result<Option<IpAddr>, LineError> {
        self.read("address", "an IP address", |value| {
            value.as_str()?.parse().ok()
        })
    }

    fn properties(&self) -> Result<PropertyBuffer, LineError> {
        let object = |value: &'a Value| value.as_object();
        let mut buffer = PropertyBuffer::new();
        let Some(object) = self.read("properties", "an object", object)? else {
            return Ok(buffer);
        };
        let fields = Fields(object);
        let format = fields.read("payload_format_indicator", "0 or 1", |value| {
            value.as_u64().filter(|value| *value <= 1)
        })?;
        if let Some(format) = format {
            buffer.push(Property::PayloadFormatIndicator(u8::from(format == 1)));
        }
        let short = |value: &'a Value| value.as_str().filter(|text| is_short(text));
        if let Some(text) = fields.read("content_type", TEXT, short)? {
            buffer.push(Property::ContentType(text));
        }
        let topic = |value| short(value).filter(|text| Topic::parse(text).is_ok());
        if let Some(topic) = fields.read("response_topic", "a Topic Name", topic)? {
            buffer.push(Property::ResponseTopic(topic));
        }
        let data = fields.bytes("correlation_data", "correlation_data_base64")?;
        if let Some(data) = data {
            if data.len() > usize::from(u16::MAX) {
                return Err(LineError::TooLong);
            }
            buffer.push(Property::CorrelationData(&data));
        }
        let pairs = fields.read("user_properties", "pairs of text", |value| {
            let pair = |pair: &'a Value| match pair.as_array()?.as_slice() {
                [name, value] => Some((short(name)?, short(value)?)),
                _ => None,
            };
            value
                .as_array()?
                .iter()
                .map(pair)
                .collect::<Option<Vec<_>>>()
        })?;
        for (name, value) in pairs.unwrap_or_default() {
            buffer.push(Property::UserProperty(name, value));
        }
        if buffer.as_bytes().len() > PROPERTIES_BYTES_MAX {
            return Err(LineError::TooLong);
        }
        Ok(buffer)
    }
}

const TEXT: &str = "text of at most 65535 bytes, without NUL";

/// What a Variable Byte Integer can say.
const PROPERTIES_BYTES_MAX: usize = 268_435_455;

/// Whether MQTT can say it as a string.
fn is_short(text: &str) -> bool {
    u16::try_from(text.len()).is_ok() && !text.contains('\0')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    fn stored(offset: u64, wall_ms: u64, body: &[u8]) -> StreamRecord {
        StreamRecord {
            offset,
            wall_ms,
            expires_wall_ms: u64::MAX,
            block: body.into(),
            body: 0..u32::try_from(body.len()).unwrap(),
        }
    }

    fn line(record: &StreamRecord) -> String {
        let mut out = Vec::new();
        encode_line(record, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn plain<'a>(topic: &'a str, payload: &'a [u8]) -> KeptMessage<'a> {
        KeptMessage {
            topic,
            properties: &[],
            payload,
            qos: QoS::AtLeastOnce,
            publisher: 0,
            address: None,
            date_wall_ms: NOW,
            expires_wall_ms: u64::MAX,
        }
    }

    #[test]
    fn a_record_is_a_line_for_people() {
        let made = Record::made(&plain("a/b", "ü\n".as_bytes()));
        assert_eq!(
            line(&stored(41, NOW, &made.body)),
            "{\"offset\":41,\"time_ms\":1700000000000,\"topic\":\"a/b\",\"payload\":\"ü\\n\",\"qos\":1}\n"
        );
        let mut properties = PropertyBuffer::new();
        properties
            .push(Property::ContentType("x"))
            .push(Property::UserProperty("k", "v"))
            .push(Property::UserProperty("k", "w"));
        let made = Record::made(&KeptMessage {
            properties: properties.as_bytes(),
            publisher: 0xab,
            address: Some("10.0.0.1".parse().unwrap()),
            expires_wall_ms: NOW + 5_000,
            ..plain("a", &[0xff])
        });
        let said: Value = serde_json::from_str(&line(&stored(0, NOW + 1, &made.body))).unwrap();
        assert_eq!(
            said,
            json!({
                "offset": 0, "time_ms": NOW + 1, "topic": "a", "payload_base64": "/w==", "qos": 1,
                "publisher": "00000000000000ab", "address": "10.0.0.1", "published_ms": NOW,
                "expires_ms": NOW + 5_000,
                "properties": {"content_type": "x", "user_properties": [["k", "v"], ["k", "w"]]},
            })
        );
        assert_eq!(
            line(&stored(7, NOW, b"\xff")),
            "{\"offset\":7,\"time_ms\":1700000000000,\"body_base64\":\"/w==\"}\n",
            "what is damaged is kept as it is"
        );
    }

    #[test]
    fn a_record_made_by_hand_needs_only_a_topic() {
        let record = decode_line(b"{\"topic\":\"a/b\"}", NOW).unwrap();
        assert_eq!((record.offset, record.wall_ms), (None, None));
        let message = decode_message(&record.body).unwrap();
        assert_eq!(
            message,
            KeptMessage {
                qos: QoS::AtMostOnce,
                ..plain("a/b", b"")
            }
        );
        let record = decode_line(b"{\"topic\":\"a\",\"payload\":{\"n\":1}}", NOW).unwrap();
        assert_eq!(decode_message(&record.body).unwrap().payload, b"{\"n\":1}");
    }

    #[test]
    fn what_is_wrong_with_a_line_is_told() {
        for (line, expect) in [
            ("[]", "not a JSON object: another JSON value"),
            ("{}", "topic: expected a Topic Name"),
            (r#"{"topic":"a/+"}"#, "topic: expected a Topic Name"),
            (r#"{"topic":5}"#, "topic: expected text"),
            (
                r#"{"topic":"a","offset":-1}"#,
                "offset: expected a whole number, 0 or more",
            ),
            (r#"{"topic":"a","qos":3}"#, "qos: expected 0, 1 or 2"),
            (
                r#"{"topic":"a","payload_base64":"?"}"#,
                "payload_base64: expected base64",
            ),
            (
                r#"{"topic":"a","properties":{"user_properties":[["a"]]}}"#,
                "user_properties: expected pairs of text",
            ),
        ] {
            let told = decode_line(line.as_bytes(), NOW).unwrap_err();
            assert_eq!(told.to_string(), expect, "{line}");
        }
        assert!(decode_line(b"{", NOW).is_err());
    }

    fn a_property() -> impl Strategy<Value = Vec<(u8, String, String)>> {
        proptest::collection::vec((0_u8..5, "[a-zü]{0,9}", "[ -~ü]{0,9}"), 0..6)
    }

    proptest! {
        /// Goal: what was exported is imported as it was. Method: any message there and back.
        #[test]
        fn records_come_back(
            offset: u64,
            wall_ms in 0_u64..1 << 45,
            date in 0_u64..1 << 45,
            lifetime: Option<u32>,
            topic in "[a-z/ü]{1,20}",
            payload: Vec<u8>,
            qos in 0_u8..3,
            publisher: u64,
            address: Option<IpAddr>,
            pairs in a_property(),
        ) {
            let mut properties = PropertyBuffer::new();
            let mut once = [false; 4];
            let mut single: Vec<_> = pairs.iter().filter(|(kind, ..)| *kind < 4).collect();
            single.sort_by_key(|(kind, ..)| *kind);
            for (kind, name, value) in single {
                if std::mem::replace(&mut once[usize::from(*kind)], true) {
                    continue;
                }
                properties.push(match kind {
                    0 => Property::PayloadFormatIndicator(1),
                    1 => Property::ContentType(value),
                    2 if name.is_empty() => continue,
                    2 => Property::ResponseTopic(name),
                    _ => Property::CorrelationData(value.as_bytes()),
                });
            }
            for (_, name, value) in pairs.iter().filter(|(kind, ..)| *kind == 4) {
                properties.push(Property::UserProperty(name, value));
            }
            let lifetime = lifetime.map(|s| date + u64::from(s) * 1_000);
            let made = Record::made(&KeptMessage {
                topic: &topic,
                properties: properties.as_bytes(),
                payload: &payload,
                qos: QoS::try_from(qos).unwrap(),
                publisher,
                address,
                date_wall_ms: date,
                expires_wall_ms: lifetime.unwrap_or(u64::MAX),
            });
            let written = line(&stored(offset, wall_ms, &made.body));
            let read = decode_line(written.as_bytes(), NOW).unwrap();
            prop_assert_eq!((read.offset, read.wall_ms), (Some(offset), Some(wall_ms)));
            prop_assert_eq!(read.expires_wall_ms, lifetime.unwrap_or(u64::MAX));
            prop_assert_eq!(decode_message(&read.body), decode_message(&made.body));
            prop_assert_eq!(read.body, made.body);
        }
    }
}

//! `-D PACKET NAME VALUE`: MQTT 5 properties on the command line, in mosquitto's words.

use waypost_mqtt::{Property, PropertyBuffer};

use crate::Failure;

/// A packet that carries properties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// CONNECT.
    Connect,
    /// The will inside CONNECT.
    Will,
    /// PUBLISH.
    Publish,
    /// SUBSCRIBE.
    Subscribe,
}

impl Carrier {
    fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "connect" => Some(Self::Connect),
            "will" => Some(Self::Will),
            "publish" => Some(Self::Publish),
            "subscribe" => Some(Self::Subscribe),
            _ => None,
        }
    }

    /// The names that may follow it, for an error.
    fn names(self) -> &'static str {
        match self {
            Self::Connect => {
                "session-expiry-interval, receive-maximum, maximum-packet-size, user-property"
            }
            Self::Will => {
                "will-delay-interval, payload-format-indicator, message-expiry-interval, \
                 content-type, response-topic, correlation-data, user-property"
            }
            Self::Publish => {
                "payload-format-indicator, message-expiry-interval, content-type, \
                 response-topic, correlation-data, user-property"
            }
            Self::Subscribe => "subscription-identifier, user-property",
        }
    }
}

/// The properties of `carrier` among all `-D` words, which follow one another without separators:
/// the name says how many values come.
pub fn collect(words: &[String], carrier: Carrier) -> Result<PropertyBuffer, Failure> {
    let mut buffer = PropertyBuffer::new();
    let mut words = words.iter().map(String::as_str);
    while let Some(packet) = words.next() {
        let to = Carrier::parse(packet).ok_or_else(|| {
            Failure::usage(format!("-D: `{packet}` is not a packet with properties"))
                .hint("write connect, will, publish or subscribe")
        })?;
        let name = words.next().unwrap_or_default().to_ascii_lowercase();
        let value = words.next().unwrap_or_default();
        let second = if name == "user-property" {
            words.next().ok_or_else(|| {
                Failure::usage("-D: a user property has a name and a value")
                    .hint(format!("write -D {packet} user-property NAME VALUE"))
            })?
        } else {
            ""
        };
        let property = parse(to, &name, value, second)?;
        if to == carrier {
            buffer.push(property);
        }
    }
    Ok(buffer)
}

fn parse<'a>(
    carrier: Carrier,
    name: &str,
    value: &'a str,
    second: &'a str,
) -> Result<Property<'a>, Failure> {
    let number = |max: u32| match value.parse::<u32>() {
        Ok(number) if number <= max => Ok(number),
        _ => Err(Failure::usage(format!(
            "-D: {name} takes a number up to {max}, not `{value}`"
        ))),
    };
    let message = matches!(carrier, Carrier::Publish | Carrier::Will);
    Ok(match name {
        "user-property" => Property::UserProperty(value, second),
        "content-type" if message => Property::ContentType(value),
        "response-topic" if message => Property::ResponseTopic(value),
        "correlation-data" if message => Property::CorrelationData(value.as_bytes()),
        "message-expiry-interval" if message => Property::MessageExpiryInterval(number(u32::MAX)?),
        "payload-format-indicator" if message => {
            Property::PayloadFormatIndicator(u8::from(number(1)? == 1))
        }
        "will-delay-interval" if carrier == Carrier::Will => {
            Property::WillDelayInterval(number(u32::MAX)?)
        }
        "session-expiry-interval" if carrier == Carrier::Connect => {
            Property::SessionExpiryInterval(number(u32::MAX)?)
        }
        "receive-maximum" if carrier == Carrier::Connect => {
            let maximum = u16::try_from(number(u16::MAX.into())?).unwrap_or(u16::MAX);
            Property::ReceiveMaximum(maximum.max(1))
        }
        "maximum-packet-size" if carrier == Carrier::Connect => {
            Property::MaximumPacketSize(number(u32::MAX)?.max(1))
        }
        "subscription-identifier" if carrier == Carrier::Subscribe => {
            Property::SubscriptionIdentifier(number(268_435_455)?.max(1))
        }
        _ => {
            return Err(
                Failure::usage(format!("-D: `{name}` is not a property there"))
                    .hint(format!("choose one of {}", carrier.names())),
            );
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn each_packet_gets_its_own_properties() {
        let words = words(
            "publish content-type text/plain PUBLISH user-property a b connect user-property c d \
             publish message-expiry-interval 60 subscribe subscription-identifier 7",
        );
        let publish = collect(&words, Carrier::Publish).unwrap();
        let expect = [
            Property::ContentType("text/plain"),
            Property::UserProperty("a", "b"),
            Property::MessageExpiryInterval(60),
        ];
        assert!(publish.as_properties().iter().eq(expect));
        let connect = collect(&words, Carrier::Connect).unwrap();
        assert!(
            connect
                .as_properties()
                .iter()
                .eq([Property::UserProperty("c", "d")])
        );
        let subscribe = collect(&words, Carrier::Subscribe).unwrap();
        assert!(
            subscribe
                .as_properties()
                .iter()
                .eq([Property::SubscriptionIdentifier(7)])
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("publsh content-type x", "`publsh` is not a packet"),
            (
                "publish contenttype x",
                "`contenttype` is not a property there",
            ),
            ("publish user-property x", "has a name and a value"),
            ("publish message-expiry-interval soon", "takes a number"),
            ("subscribe content-type x", "is not a property there"),
        ] {
            let error = collect(&words(text), Carrier::Publish)
                .unwrap_err()
                .to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}

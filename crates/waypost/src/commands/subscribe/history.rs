//! `waypost sub --from`: beginning with what a stream has, and going on there when the connection is made again.

use jiff::Timestamp;
use waypost_mqtt::Publish;

/// Where a message is in a stream, as its properties say; MQTT 3.1.1 has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The offset in it.
    pub offset: u64,
    /// When the message entered it, in milliseconds since 1970.
    pub time_ms: Option<i64>,
}

impl<'a> Place<'a> {
    /// That of a message, if it came from a stream.
    pub fn of(message: &Publish<'a>) -> Option<Self> {
        let properties = message.properties;
        let find = |wanted: &str| {
            let mut all = properties.user_properties();
            all.find(|(name, _)| *name == wanted)
                .map(|(_, value)| value)
        };
        Some(Self {
            stream: find("waypost-stream")?,
            offset: find("waypost-offset")?.parse().ok()?,
            time_ms: find("waypost-time").and_then(|time| time.parse().ok()),
        })
    }
}

impl Place<'_> {
    /// When the message entered the stream, as ISO 8601.
    pub fn entered(&self) -> Option<String> {
        let time = Timestamp::from_millisecond(self.time_ms?).ok()?;
        Some(format!("{time:.3}"))
    }
}

/// What was asked for and how far it was read.
#[derive(Debug)]
pub struct History {
    spec: String,
    /// The stream, and the offset behind the last message.
    reached: Option<(String, u64)>,
}

impl History {
    /// Nothing is read yet.
    pub fn new(spec: String) -> Self {
        Self {
            spec,
            reached: None,
        }
    }

    /// A message came.
    pub fn note(&mut self, message: &Publish<'_>) {
        if let Some(place) = Place::of(message) {
            let next = place.offset.saturating_add(1);
            match &mut self.reached {
                Some((stream, reached)) if stream == place.stream => *reached = next,
                _ => self.reached = Some((place.stream.to_owned(), next)),
            }
        }
    }

    /// The filters to subscribe to: from the beginning, or, where it is known, from behind what came. Several may have
    /// come from several places: they begin anew.
    pub fn filters(&self, topics: &[String]) -> Vec<String> {
        let spec = match (&self.reached, topics) {
            (Some((stream, next)), [_]) => format!("offset={next};stream={stream}"),
            _ => self.spec.clone(),
        };
        let full = |topic: &String| format!("$from/{spec}/{topic}");
        topics.iter().map(full).collect()
    }
}

/// One topic level; what it means is the server's to say.
pub fn parse_spec(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(['/', '+', '#']) || !text.contains('=') {
        return Err(
            "last=N, each=N, since=10m, time=2026-11-24T05:00:00Z or offset=N, then optionally ;stream=NAME"
                .to_owned(),
        );
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use waypost_mqtt::{Property, PropertyBuffer, QoS};

    use super::*;

    fn topics(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn note(history: &mut History, pairs: &[(&str, &str)]) {
        let mut properties = PropertyBuffer::new();
        for (name, value) in pairs {
            properties.push(Property::UserProperty(name, value));
        }
        history.note(&Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: "a",
            packet_id: None,
            properties: properties.as_properties(),
            payload: b"",
        });
    }

    #[test]
    fn a_connection_made_again_reads_on() {
        let mut history = History::new("last=5".to_owned());
        let one = topics(&["a/#"]);
        assert_eq!(history.filters(&one), ["$from/last=5/a/#"]);
        note(&mut history, &[("k", "v")]);
        assert_eq!(
            history.filters(&one),
            ["$from/last=5/a/#"],
            "not of a stream"
        );
        note(
            &mut history,
            &[
                ("waypost-stream", "s"),
                ("waypost-offset", "41"),
                ("waypost-time", "7"),
            ],
        );
        assert_eq!(history.filters(&one), ["$from/offset=42;stream=s/a/#"]);
        let two = topics(&["a", "b"]);
        assert_eq!(history.filters(&two), ["$from/last=5/a", "$from/last=5/b"]);
    }

    #[test]
    fn a_spec_is_one_level() {
        for (text, is_right) in [
            ("last=5", true),
            ("offset=0;stream=chat", true),
            ("", false),
            ("last", false),
            ("last=5/a", false),
            ("last=+", false),
        ] {
            assert_eq!(parse_spec(text).is_ok(), is_right, "{text}");
        }
    }
}

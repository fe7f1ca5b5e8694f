//! Where in a stream a subscription begins, and how far it has come.

use std::fmt;
use std::time::Duration;

use waypost_mqtt::Publish;

/// Where in a stream's past a subscription begins; what is published then follows without a gap.
///
/// The server needs a stream (`[[stream]]` in its settings) that has all of the filter's messages.
///
/// ```
/// use std::time::Duration;
/// use waypost_client::Spec;
///
/// assert_eq!(Spec::last(50).to_string(), "last=50");
/// assert_eq!(Spec::since(Duration::from_secs(600)).stream("chat").to_string(), "since=600s;stream=chat");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec(String);

/// Why a text is no [`Spec`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no place in a stream; write last=N, each=N, since=10m, time=2026-11-24T05:00:00Z or offset=N, \
     then optionally ;stream=NAME"
)]
pub struct SpecError(String);

impl Spec {
    /// The last so many messages.
    pub fn last(messages: u64) -> Self {
        Self(format!("last={messages}"))
    }

    /// The last so many messages of each topic.
    pub fn each(messages: u64) -> Self {
        Self(format!("each={messages}"))
    }

    /// What came within this time, in whole seconds.
    pub fn since(age: Duration) -> Self {
        Self(format!("since={}s", age.as_secs()))
    }

    /// What came from this time on, in milliseconds since 1970.
    pub fn time_ms(time_ms: u64) -> Self {
        Self(format!("time={time_ms}"))
    }

    /// From this offset on.
    pub fn offset(offset: u64) -> Self {
        Self(format!("offset={offset}"))
    }

    /// Of the stream with this name, where several have the messages.
    #[must_use]
    pub fn stream(mut self, name: &str) -> Self {
        self.0.push_str(";stream=");
        self.0.push_str(name);
        self
    }

    /// Reads what [`Self::last`] and the others write; what it means is the server's to say.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        if text.is_empty() || text.contains(['/', '+', '#', '\0']) || !text.contains('=') {
            return Err(SpecError(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a message is in a stream, as its properties say; MQTT 3.1.1 has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// What was asked for and how far it was read.
#[derive(Debug)]
pub(crate) struct History {
    spec: Spec,
    /// The stream, and the offset behind the last message.
    reached: Option<(String, u64)>,
}

impl History {
    /// Nothing is read yet.
    pub(crate) fn new(spec: Spec) -> Self {
        Self {
            spec,
            reached: None,
        }
    }

    /// A message came.
    pub(crate) fn note(&mut self, message: &Publish<'_>) {
        if let Some(place) = Place::of(message) {
            let next = place.offset.saturating_add(1);
            match &mut self.reached {
                Some((stream, reached)) if stream == place.stream => *reached = next,
                _ => self.reached = Some((place.stream.to_owned(), next)),
            }
        }
    }

    /// The filters to subscribe to: from the beginning, or, where it is known, from behind what
    /// came. Several may have come from several places: they begin anew.
    pub(crate) fn filters(&self, filters: &[String]) -> Vec<String> {
        let spec = match (&self.reached, filters) {
            (Some((stream, next)), [_]) => Spec::offset(*next).stream(stream),
            _ => self.spec.clone(),
        };
        let full = |filter: &String| format!("$from/{spec}/{filter}");
        filters.iter().map(full).collect()
    }
}

#[cfg(test)]
mod tests {
    use waypost_mqtt::{Property, PropertyBuffer, QoS};

    use super::*;

    fn filters(names: &[&str]) -> Vec<String> {
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
        let mut history = History::new(Spec::last(5));
        let one = filters(&["a/#"]);
        assert_eq!(history.filters(&one), ["$from/last=5/a/#"]);
        note(&mut history, &[("k", "v")]);
        let beginning = history.filters(&one);
        assert_eq!(beginning, ["$from/last=5/a/#"], "not of a stream");
        let place = [
            ("waypost-stream", "s"),
            ("waypost-offset", "41"),
            ("waypost-time", "7"),
        ];
        note(&mut history, &place);
        assert_eq!(history.filters(&one), ["$from/offset=42;stream=s/a/#"]);
        let two = filters(&["a", "b"]);
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
            assert_eq!(Spec::parse(text).is_ok(), is_right, "{text}");
        }
    }
}

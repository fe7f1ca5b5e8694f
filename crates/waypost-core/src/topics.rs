//! What clients may not do with topics and properties because they are the server's.

use waypost_mqtt::Properties;

/// Topics only the server publishes to.
const SERVER_TOPICS: [&str; 4] = ["$SYS", "$events", "$dictionary", "$from"];

/// User Properties only the server gives; one that ends in `-` stands for all that begin with it.
const RESERVED_PROPERTIES: [&str; 4] = [
    "waypost-stream",
    "waypost-offset",
    "waypost-time",
    "waypost-dead-",
];

/// Whether clients cannot publish to this topic.
#[inline]
pub(crate) fn is_server_topic(topic: &str) -> bool {
    topic.starts_with('$')
        && SERVER_TOPICS.iter().any(|first| {
            topic
                .strip_prefix(first)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
}

/// Whether a client's message carries a User Property that is the server's.
pub(crate) fn has_reserved_property(properties: Properties<'_>) -> bool {
    !properties.is_empty()
        && properties.user_properties().any(|(name, _)| {
            RESERVED_PROPERTIES.iter().any(|reserved| {
                if reserved.ends_with('-') {
                    name.starts_with(reserved)
                } else {
                    name == *reserved
                }
            })
        })
}

/// Whether a topic or filter has more levels than that.
#[inline]
pub(crate) fn levels_exceed(topic: &str, levels_max: u16) -> bool {
    topic.len() >= usize::from(levels_max)
        && topic.bytes().filter(|byte| *byte == b'/').count() >= usize::from(levels_max)
}

#[cfg(test)]
mod tests {
    use waypost_mqtt::{Property, PropertyBuffer};

    use super::*;

    #[test]
    fn the_servers_topics_are_whole_levels() {
        for (topic, expected) in [
            ("$SYS", true),
            ("$SYS/a", true),
            ("$SYSTEM", false),
            ("$events/client/connected", true),
            ("$dictionary/1", true),
            ("$from/last=1/a", true),
            ("$fromage", false),
            ("$other", false),
            ("a/$SYS", false),
            ("/$SYS", false),
        ] {
            assert_eq!(is_server_topic(topic), expected, "{topic}");
        }
    }

    #[test]
    fn reserved_properties_by_name_or_prefix() {
        for (name, expected) in [
            ("waypost-stream", true),
            ("waypost-streams", false),
            ("waypost-dead-topic", true),
            ("waypost-dead-anything", true),
            ("waypost-dead", false),
            ("waypost-key", false),
            ("Waypost-time", false),
        ] {
            let mut buffer = PropertyBuffer::new();
            buffer
                .push(Property::UserProperty("other", "x"))
                .push(Property::UserProperty(name, "1"));
            assert_eq!(
                has_reserved_property(buffer.as_properties()),
                expected,
                "{name}"
            );
        }
        assert!(!has_reserved_property(Properties::EMPTY));
    }

    #[test]
    fn levels_at_the_bound() {
        assert!(!levels_exceed("a/b/c", 3));
        assert!(levels_exceed("a/b/c/d", 3));
        assert!(levels_exceed("///", 3));
        assert!(!levels_exceed("abcdef", 3));
    }
}

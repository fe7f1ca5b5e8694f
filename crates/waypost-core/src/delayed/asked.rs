//! What a PUBLISH asks for: `$delayed/<seconds>/<topic>`, or User Properties.

use waypost_mqtt::{Properties, Property, PropertyBuffer, ReasonCode};

/// The longest delay: a year, in seconds.
pub(super) const DELAY_MAX_S: u32 = 31_536_000;
/// The first level of a topic that says how long its message waits.
const PREFIX: &str = "$delayed";
/// The User Property that says so for any topic.
const DELAY: &str = "waypost-delay";
/// What the publisher calls the message.
const DELAY_ID: &str = "waypost-delay-id";

/// A message that is to be published later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked<'a> {
    /// Where to.
    pub topic: &'a str,
    pub delay_s: u32,
    /// What its publisher calls it: another one of the same name takes its place.
    pub delay_id: Option<&'a str>,
}

/// Why it cannot be.
pub(crate) type Wrong = (ReasonCode, &'static str);

const fn wrong_topic(why: &'static str) -> Wrong {
    (ReasonCode::TopicNameInvalid, why)
}

const fn wrong_property(why: &'static str) -> Wrong {
    (ReasonCode::ImplementationSpecificError, why)
}

/// Whether a topic says how long its message waits, or tries to.
#[inline]
fn is_delayed_topic(topic: &str) -> bool {
    topic
        .strip_prefix(PREFIX)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What a PUBLISH asks for; `None`: it goes at once, as it is.
pub(crate) fn asked<'a>(
    topic: &'a str,
    properties: Properties<'a>,
) -> Result<Option<Asked<'a>>, Wrong> {
    let (mut delay, mut delay_id) = (None, None);
    if !properties.is_empty() {
        for (name, value) in properties.user_properties() {
            let place = match name {
                DELAY => &mut delay,
                DELAY_ID => &mut delay_id,
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err(wrong_property("waypost-delay or waypost-delay-id twice"));
            }
        }
    }
    let (topic, delay_s) = match (topic_and_seconds(topic), delay) {
        (None, None) if delay_id.is_some() => {
            return Err(wrong_property("waypost-delay-id without a delay"));
        }
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            return Err(wrong_property("both $delayed and waypost-delay"));
        }
        (Some(said), None) => said?,
        (None, Some(text)) => {
            let delay_s = seconds(text);
            let delay_s = delay_s.ok_or(wrong_property(
                "waypost-delay takes whole seconds, 0 to 31536000",
            ))?;
            (topic, delay_s)
        }
    };
    Ok(Some(Asked {
        topic,
        delay_s,
        delay_id,
    }))
}

/// `None`: the topic is an ordinary one.
fn topic_and_seconds(topic: &str) -> Option<Result<(&str, u32), Wrong>> {
    if !is_delayed_topic(topic) {
        return None;
    }
    let rest = topic.get(PREFIX.len() + 1..).unwrap_or_default();
    let Some((text, topic)) = rest.split_once('/') else {
        return Some(Err(wrong_topic("not $delayed/<seconds>/<topic>")));
    };
    let Some(delay_s) = seconds(text) else {
        return Some(Err(wrong_topic(
            "$delayed takes whole seconds, 0 to 31536000",
        )));
    };
    // 5 [MQTT-4.7.3-1]: a Topic Name has at least one character.
    Some(if topic.is_empty() {
        Err(wrong_topic("$delayed without a topic"))
    } else if is_delayed_topic(topic) {
        Err(wrong_topic("$delayed in $delayed"))
    } else {
        Ok((topic, delay_s))
    })
}

fn seconds(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let delay_s = text.parse().ok().filter(|_| is_number)?;
    (delay_s <= DELAY_MAX_S).then_some(delay_s)
}

/// Appends the properties that whoever gets the message gets: all but those that are for the server.
pub(crate) fn forward_without_delay(properties: Properties<'_>, out: &mut Vec<u8>) {
    let mut buffer = PropertyBuffer::new();
    for property in properties.iter() {
        if !matches!(property, Property::UserProperty(DELAY | DELAY_ID, _)) {
            buffer.push(property);
        }
    }
    buffer.as_properties().forward_into(out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(topic: &str, properties: &[(&str, &str)], expect: Result<Option<Asked<'_>>, u8>) {
        let mut buffer = PropertyBuffer::new();
        for (name, value) in properties {
            buffer.push(Property::UserProperty(name, value));
        }
        let asked = asked(topic, buffer.as_properties());
        let asked = asked.map_err(|(reason, why)| {
            assert!(!why.is_empty());
            reason.as_u8()
        });
        assert_eq!(asked, expect, "{topic} {properties:?}");
    }

    fn check_later(
        topic: &str,
        properties: &[(&str, &str)],
        (inner, delay_s, delay_id): (&str, u32, Option<&str>),
    ) {
        let asked = Asked {
            topic: inner,
            delay_s,
            delay_id,
        };
        check(topic, properties, Ok(Some(asked)));
    }

    #[test]
    fn a_delay_is_said_by_topic_or_by_property() {
        check("a/b", &[], Ok(None));
        check("a/b", &[("x", "1")], Ok(None));
        check("$delayedly/5/a", &[], Ok(None));
        check("a/$delayed/5/b", &[], Ok(None));
        check_later("$delayed/5/a/b", &[], ("a/b", 5, None));
        check_later("$delayed/0//", &[], ("/", 0, None));
        check_later("$delayed/007/a", &[], ("a", 7, None));
        check_later("$delayed/31536000/a", &[], ("a", DELAY_MAX_S, None));
        check_later(
            "a",
            &[("waypost-delay", "31536000")],
            ("a", DELAY_MAX_S, None),
        );
        check_later("a", &[("waypost-delay", "0")], ("a", 0, None));
        let named = [("waypost-delay-id", "x"), ("waypost-delay", "9")];
        check_later("a", &named, ("a", 9, Some("x")));
        check_later("$delayed/1/a", &named[..1], ("a", 1, Some("x")));
    }

    #[test]
    fn what_is_no_delay_is_refused() {
        for topic in [
            "$delayed",
            "$delayed/",
            "$delayed/5",
            "$delayed/5/",
            "$delayed//a",
            "$delayed/x/a",
            "$delayed/-1/a",
            "$delayed/+1/a",
            "$delayed/1.5/a",
            "$delayed/ 1/a",
            "$delayed/31536001/a",
            "$delayed/99999999999999999999/a",
            "$delayed/1/$delayed/1/a",
        ] {
            check(topic, &[], Err(0x90));
        }
        for value in ["", "x", "-1", "+1", "1.5", "1 ", "31536001"] {
            check("a", &[("waypost-delay", value)], Err(0x83));
        }
        let twice = [("waypost-delay", "1"), ("waypost-delay", "1")];
        check("a", &twice, Err(0x83));
        check("$delayed/1/a", &twice[..1], Err(0x83));
        check("a", &[("waypost-delay-id", "x")], Err(0x83));
    }

    #[test]
    fn receivers_do_not_see_what_was_for_the_server() {
        let mut buffer = PropertyBuffer::new();
        buffer
            .push(Property::UserProperty("a", "1"))
            .push(Property::UserProperty("waypost-delay", "5"))
            .push(Property::ContentType("text"))
            .push(Property::UserProperty("waypost-delay-id", "x"))
            .push(Property::MessageExpiryInterval(9))
            .push(Property::UserProperty("waypost-key", "k"));
        let mut forwarded = Vec::new();
        forward_without_delay(buffer.as_properties(), &mut forwarded);
        let mut expect = PropertyBuffer::new();
        expect
            .push(Property::UserProperty("a", "1"))
            .push(Property::ContentType("text"))
            .push(Property::UserProperty("waypost-key", "k"));
        assert_eq!(forwarded, expect.as_properties().as_bytes());
    }
}

//! A message's own words about its packing, and the same message in another form.

use std::borrow::Cow;
use std::rc::Rc;

use waypost_core::{Message, Payload};
use waypost_encrypt::check_sealed;
use waypost_mqtt::{Properties, Property, PropertyBuffer};

/// The User Property of PUBLISH: how its payload is packed (RFC 9110 §8.4).
const CONTENT_ENCODING: &str = "content-encoding";

/// How a message says that its payload is packed; several properties are one list, in their order.
pub(super) fn content_encoding(properties: &[u8]) -> Option<Cow<'_, str>> {
    if properties.is_empty() {
        return None;
    }
    let said = Properties::from_validated(properties).user_properties();
    let mut said = said.filter(|(name, _)| *name == CONTENT_ENCODING);
    let (_, first) = said.next()?;
    Some(said.fold(Cow::Borrowed(first), |all, (_, next)| {
        Cow::Owned(format!("{all}, {next}"))
    }))
}

/// What a message says that its payload is.
pub(super) fn content_type(properties: &[u8]) -> Option<&str> {
    if properties.is_empty() {
        return None;
    }
    Properties::from_validated(properties).content_type()
}

/// Whether nobody but its receivers can open it: it stays as it was sent.
pub(super) fn is_sealed(message: &Message<'_>) -> bool {
    content_type(message.properties) == Some("application/cose")
        || check_sealed(message.payload.bytes).is_ok()
}

/// The same properties without a word of packing.
pub(super) fn unpacked(properties: &[u8]) -> Vec<u8> {
    let mut buffer = PropertyBuffer::new();
    for property in Properties::from_validated(properties).iter() {
        if !matches!(property, Property::UserProperty(CONTENT_ENCODING, _)) {
            buffer.push(property);
        }
    }
    buffer.as_bytes().to_vec()
}

/// The same properties, and how the payload is packed now. 5 §3.3.2.3.2: it is no text any more, whatever was said.
pub(super) fn packed(properties: &[u8], encoding: &str) -> Vec<u8> {
    let mut buffer = PropertyBuffer::new();
    for property in Properties::from_validated(properties).iter() {
        if !matches!(property, Property::PayloadFormatIndicator(_)) {
            buffer.push(property);
        }
    }
    buffer.push(Property::UserProperty(CONTENT_ENCODING, encoding));
    buffer.as_bytes().to_vec()
}

/// A message that outlives the call that brought it.
#[derive(Clone, Debug)]
pub(crate) struct OwnedMessage {
    pub(crate) topic: Rc<str>,
    pub(crate) payload: Rc<Vec<u8>>,
    pub(crate) properties: Vec<u8>,
    pub(crate) expiry_s: Option<u32>,
}

impl OwnedMessage {
    pub(crate) fn new(message: &Message<'_>) -> Self {
        Self {
            topic: message.topic.into(),
            payload: owned(message.payload),
            properties: message.properties.to_vec(),
            expiry_s: message.expiry_s,
        }
    }

    /// As it is delivered.
    pub(crate) fn as_message(&self) -> Message<'_> {
        Message {
            topic: &self.topic,
            payload: Payload {
                bytes: &self.payload,
                shared: Some(&self.payload),
            },
            properties: &self.properties,
            expiry_s: self.expiry_s,
            verbatim: None,
        }
    }
}

/// The payload in an allocation of its own; the one that it lies in may have other bytes before it.
pub(super) fn owned(payload: Payload<'_>) -> Rc<Vec<u8>> {
    match payload.shared {
        Some(all) if all.len() == payload.bytes.len() => Rc::clone(all),
        _ => Rc::new(payload.bytes.to_vec()),
    }
}

//! Sealing what is published for who may read it, and opening what came.

use std::sync::Arc;
use std::time::Instant;

use waypost_encrypt::{
    Agreement, KeyKind, KeyRing, KeySet, MessageId, OpeningError, PrivateKey, Sealing,
    SealingError, Sender, Suite, SuiteError, SystemRandom, auto, check_sealed,
};
use waypost_mqtt::{Property, PropertyBuffer};

use crate::content::{ContentError, Expectations, packed};
use crate::error::PublishError;
use crate::keys::Recipient;
use crate::message::Message;

/// What a sealed payload says it is (MQTT 5).
const COSE: &str = "application/cose";
/// With what is sealed, unless asked otherwise.
const CIPHER_DEFAULT: &str = "aes-gcm";

/// How a message was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    /// Who sent it: the owner of a key we trust, or nobody who said so.
    pub sender: Sender,
    /// Its id, which no other message of the sender has.
    pub message_id: MessageId,
    /// With what.
    pub suite: Suite,
}

/// Why a message was not sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// There is no such suite.
    #[error(transparent)]
    Suite(#[from] SuiteError),
    /// The keys or the suite do not allow it.
    #[error(transparent)]
    Sealing(#[from] SealingError),
    /// A sealed message is `application/cose`.
    #[error(
        "a sealed message has the content type application/cose; leave content_type out, and say inside what it is"
    )]
    ContentType,
    /// It has nobody to read it.
    #[error("a message is sealed for somebody: name at least one recipient with seal_for")]
    Nobody,
    /// A shared key has others beside it.
    #[error("a shared key is for a message of its own: everybody who has it reads it")]
    SharedBesideOthers,
    /// The cipher is for another kind of recipient.
    #[error("{0} does not authenticate by itself, so it is for a shared key only")]
    SharedOnly(Suite),
}

/// The keys a client opens with.
pub(crate) type Ring = Arc<dyn KeyRing + Send + Sync>;

/// How a message is to be sealed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seal {
    pub(crate) recipients: Vec<Recipient>,
    pub(crate) suite: Option<String>,
    pub(crate) is_legacy_allowed: bool,
    pub(crate) signer: Option<Arc<PrivateKey>>,
}

impl Seal {
    /// Seals a payload, packed first where that was asked for.
    pub(crate) fn apply(
        &self,
        topic: &str,
        compress: Option<&str>,
        payload: &mut Vec<u8>,
        properties: &mut PropertyBuffer,
    ) -> Result<(), PublishError> {
        let suite = self.check(properties)?;
        let encoding = match compress {
            Some(names) => packed(names, payload)?,
            None => None,
        };
        let recipients: Vec<_> = self.recipients.iter().map(borrowed).collect();
        let sealing = Sealing {
            suite,
            topic: delivered(topic),
            recipients: &recipients,
            signer: self.signer.as_deref(),
            content_encoding: encoding.as_deref(),
        };
        let mut sealed = Vec::new();
        waypost_encrypt::seal(payload, &sealing, &mut SystemRandom, &mut sealed)
            .map_err(SealError::Sealing)?;
        *payload = sealed;
        properties.push(Property::ContentType(COSE));
        Ok(())
    }

    /// What can be said before there is a payload; gives the suite.
    pub(crate) fn check(&self, properties: &PropertyBuffer) -> Result<Suite, SealError> {
        if properties.as_properties().content_type().is_some() {
            return Err(SealError::ContentType);
        }
        self.suite()
    }

    /// The one that was asked for; of a cipher alone the recipients say the rest.
    fn suite(&self) -> Result<Suite, SealError> {
        let is_shared = |recipient: &Recipient| matches!(recipient, Recipient::Shared(_));
        let agreement = match self.recipients.as_slice() {
            [] => return Err(SealError::Nobody),
            [Recipient::Shared(_)] => Agreement::Shared,
            [Recipient::Public(key)] if key.kind() == KeyKind::Rsa => Agreement::Rsa,
            [Recipient::Public(_)] => Agreement::Ecc,
            several if several.iter().any(is_shared) => return Err(SealError::SharedBesideOthers),
            _ => Agreement::Hybrid,
        };
        let name = self.suite.as_deref().unwrap_or(CIPHER_DEFAULT);
        if auto::is_in(name) {
            let begun = Instant::now();
            auto::measured(|| begun.elapsed());
        }
        let asked = if self.is_legacy_allowed {
            Suite::parse_legacy(name)?
        } else {
            Suite::parse(name)?
        };
        if asked.agreement() != Agreement::Shared {
            return Ok(asked);
        }
        Suite::new(agreement, asked.content()).ok_or(SealError::SharedOnly(asked))
    }
}

fn borrowed(recipient: &Recipient) -> waypost_encrypt::Recipient<'_> {
    match recipient {
        Recipient::Public(key) => waypost_encrypt::Recipient::Public(key),
        Recipient::Shared(key) => waypost_encrypt::Recipient::Shared(key),
    }
}

/// The topic that receivers will see.
fn delivered(topic: &str) -> &str {
    let delayed = topic.strip_prefix("$delayed/");
    let after = delayed.and_then(|rest| rest.split_once('/'));
    after.map_or(topic, |(_, topic)| topic)
}

/// What opening a message gave.
pub(crate) struct Inside {
    pub(crate) payload: Vec<u8>,
    pub(crate) sealed: Sealed,
    pub(crate) content_encoding: Option<String>,
}

/// Opens a message; nothing: it is not sealed, and need not be.
pub(crate) fn open(
    message: &Message,
    ring: Option<&Ring>,
    wanted: &Expectations,
) -> Result<Option<Inside>, ContentError> {
    // Where all are to be sealed the bytes themselves must say so, not what is written beside them.
    if !wanted.is_sealed_only && (ring.is_none() || !says_sealed(message)) {
        return Ok(None);
    }
    let no_keys = KeySet::default();
    let ring = ring.map_or(&no_keys as &dyn KeyRing, |ring| &**ring);
    // A message is read by the topic it came on: another may be where somebody moved it to.
    let dead_topic = message
        .user_property("waypost-dead-topic")
        .filter(|_| wanted.reads_dead_letters);
    let topic = dead_topic.unwrap_or(message.topic());
    let opened = waypost_encrypt::open(message.payload(), topic, ring);
    let opened = opened.map_err(|error| match error {
        OpeningError::NotSealed(why) => ContentError::NotSealed(why),
        error => ContentError::Opening(error),
    })?;
    Ok(Some(Inside {
        payload: opened.plaintext,
        sealed: Sealed {
            sender: opened.sender,
            message_id: opened.message_id,
            suite: opened.suite,
        },
        content_encoding: opened.content_encoding,
    }))
}

/// Whether a message says that it is sealed, and looks like it.
fn says_sealed(message: &Message) -> bool {
    let is_said = match message.properties().content_type() {
        Some(content_type) => content_type == COSE,
        None => message.properties().as_bytes().is_empty(),
    };
    is_said && check_sealed(message.payload()).is_ok()
}

#[cfg(test)]
mod tests {
    use waypost_encrypt::{Jwk, SymmetricKey};
    use waypost_mqtt::{Publish, QoS};

    use super::*;

    fn public(kind: KeyKind) -> Recipient {
        let key = PrivateKey::generate(kind, &mut SystemRandom).unwrap();
        Recipient::Public(Arc::new(key.public().clone()))
    }

    fn shared() -> Recipient {
        Recipient::Shared(Arc::new(SymmetricKey::generate(&mut SystemRandom).unwrap()))
    }

    /// Goal: of a cipher alone the recipients say the rest, and what does not go together is refused with the reason.
    #[test]
    fn the_suite_goes_with_the_recipients() {
        let (p256, x25519) = (public(KeyKind::P256), public(KeyKind::X25519));
        let both = [p256.clone(), x25519];
        let mixed = [p256.clone(), shared()];
        let (one, shared) = ([p256], [shared()]);
        for (recipients, name, is_legacy_allowed, expect) in [
            (&one[..], None, false, "ecc+aes-gcm"),
            (&shared, None, false, "aes-gcm"),
            (&both, None, false, "hybrid+aes-gcm"),
            (
                &one,
                Some("chacha20-poly1305"),
                false,
                "ecc+chacha20-poly1305",
            ),
            (&both, Some("aes-ccm"), false, "hybrid+aes-ccm"),
            (&one, Some("hybrid"), false, "hybrid+aes-gcm"),
            (&shared, Some("des"), true, "des"),
            (&shared, Some("des"), false, "legacy"),
            (&one, Some("aes"), false, "for a shared key only"),
            (&mixed, None, false, "a message of its own"),
            (&mixed, Some("hybrid"), false, "a message of its own"),
            (&[], None, false, "at least one recipient"),
        ] {
            let seal = Seal {
                recipients: recipients.to_vec(),
                suite: name.map(str::to_owned),
                is_legacy_allowed,
                signer: None,
            };
            match seal.suite() {
                Ok(suite) => assert_eq!(suite.to_string(), expect, "{name:?}"),
                Err(error) => assert!(error.to_string().contains(expect), "{name:?}: {error}"),
            }
        }
    }

    #[test]
    fn receivers_see_the_topic_behind_the_delay() {
        for (topic, expect) in [
            ("a/b", "a/b"),
            ("$delayed/10/a/b", "a/b"),
            ("$delayed/10", "$delayed/10"),
        ] {
            assert_eq!(delivered(topic), expect);
        }
    }

    fn message(topic: &str, payload: &[u8], properties: &PropertyBuffer) -> Message {
        Message::new(&Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic,
            packet_id: None,
            properties: properties.as_properties(),
            payload,
        })
    }

    /// Goal: where all are to be sealed no property can make a message pass unopened, and who has no keys is told so.
    #[test]
    fn sealed_only_goes_by_the_bytes() {
        let key = PrivateKey::generate(KeyKind::P256, &mut SystemRandom).unwrap();
        let seal = Seal {
            recipients: vec![Recipient::Public(Arc::new(key.public().clone()))],
            ..Seal::default()
        };
        let (mut payload, mut cose) = (b"hi".to_vec(), PropertyBuffer::new());
        seal.apply("a", None, &mut payload, &mut cose).unwrap();
        let mut ring = KeySet::default();
        ring.insert(Jwk::Private(key));
        let ring: Ring = Arc::new(ring);
        let mut text = PropertyBuffer::new();
        text.push(Property::ContentType("text/plain"));
        let check = |payload: &[u8], said, has_ring: bool, is_sealed_only, expect: &str| {
            let wanted = Expectations {
                is_sealed_only,
                ..Expectations::default()
            };
            let ring = has_ring.then_some(&ring);
            let outcome = match open(&message("a", payload, said), ring, &wanted) {
                Ok(Some(inside)) => String::from_utf8(inside.payload).unwrap(),
                Ok(None) => "as it came".to_owned(),
                Err(error) => error.to_string(),
            };
            assert!(outcome.contains(expect), "{outcome}, not {expect}");
        };
        check(&payload, &cose, true, false, "hi");
        check(&payload, &text, true, false, "as it came");
        check(&payload, &cose, false, false, "as it came");
        check(b"plain", &text, true, false, "as it came");
        check(&payload, &cose, true, true, "hi");
        check(&payload, &text, true, true, "hi");
        check(&payload, &cose, false, true, "none of these keys is here");
        check(b"plain", &text, true, true, "sealed_only wants all");
        check(b"plain", &cose, false, true, "sealed_only wants all");
    }
}

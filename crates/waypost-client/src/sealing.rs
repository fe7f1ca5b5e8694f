//! Sealing what is published for who may read it, and opening what came.

use std::sync::Arc;

use waypost_encrypt::{
    KeyKind, KeyRing, MessageId, PrivateKey, Sealing, SealingError, Sender, Suite, SuiteError,
    SystemRandom, check_sealed,
};
use waypost_mqtt::{Property, PropertyBuffer};

use crate::content::{ContentError, packed};
use crate::error::PublishError;
use crate::keys::Recipient;
use crate::message::Message;

/// What a sealed payload says it is (MQTT 5).
const COSE: &str = "application/cose";

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
}

/// The keys a client opens with.
pub(crate) type Ring = Arc<dyn KeyRing + Send + Sync>;

/// How a message is to be sealed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seal {
    pub(crate) recipients: Vec<Recipient>,
    pub(crate) suite: Option<String>,
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
        if properties.as_properties().content_type().is_some() {
            return Err(SealError::ContentType.into());
        }
        let encoding = match compress {
            Some(names) => packed(names, payload)?,
            None => None,
        };
        let recipients: Vec<_> = self.recipients.iter().map(borrowed).collect();
        let sealing = Sealing {
            suite: self.suite()?,
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

    /// The one that was asked for, or what goes with the recipients.
    fn suite(&self) -> Result<Suite, SealError> {
        let name = match (&self.suite, self.recipients.as_slice()) {
            (_, []) => return Err(SealError::Nobody),
            (Some(name), _) => name,
            (None, [Recipient::Shared(_)]) => "aes-gcm",
            (None, [Recipient::Public(key)]) if key.kind() == KeyKind::Rsa => "rsa",
            (None, [Recipient::Public(_)]) => "ecc",
            (None, _) => "hybrid",
        };
        Ok(Suite::parse(name)?)
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

/// Opens a message; nothing: it is not sealed.
pub(crate) fn open(
    message: &Message,
    ring: &Ring,
    reads_dead_letters: bool,
) -> Result<Option<Inside>, ContentError> {
    let is_said = match message.properties().content_type() {
        Some(content_type) => content_type == COSE,
        None => message.properties().as_bytes().is_empty(),
    };
    if !is_said || check_sealed(message.payload()).is_err() {
        return Ok(None);
    }
    // A message is read by the topic it came on: another may be where somebody moved it to.
    let dead_topic = message
        .user_property("waypost-dead-topic")
        .filter(|_| reads_dead_letters);
    let topic = dead_topic.unwrap_or(message.topic());
    let opened = waypost_encrypt::open(message.payload(), topic, &**ring)?;
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

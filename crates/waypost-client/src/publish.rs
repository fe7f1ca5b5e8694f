//! A message to be published.

use std::sync::Arc;
use std::time::Duration;

use waypost_encrypt::PrivateKey;
use waypost_mqtt::{Property, PropertyBuffer, QoS, Topic};

use crate::content;
use crate::error::PublishError;
use crate::keys::Recipient;
use crate::sealing::Seal;

/// A message to be published: a topic, a payload, and what is asked for beyond QoS 0.
///
/// ```
/// use std::time::Duration;
/// use waypost_client::{Publish, QoS};
///
/// let order = Publish::new("orders/17", r#"{"item": 4}"#)
///     .qos(QoS::AtLeastOnce)
///     .content_type("application/json")
///     .expires_in(Duration::from_secs(3600))
///     .user_property("shop", "north");
/// let state = Publish::new("door/1", "open").retain();
/// let later = Publish::new("lamp", "off").delay(Duration::from_secs(600));
/// # let _ = (order, state, later);
/// ```
#[derive(Debug, Clone)]
pub struct Publish {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) properties: PropertyBuffer,
    compress: Option<String>,
    seal: Option<Box<Seal>>,
}

impl Publish {
    /// A message of QoS 0.
    pub fn new(topic: impl Into<String>, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            topic: topic.into(),
            payload: payload.into(),
            qos: QoS::AtMostOnce,
            retain: false,
            properties: PropertyBuffer::new(),
            compress: None,
            seal: None,
        }
    }

    /// Says something else.
    #[must_use]
    pub fn payload(mut self, payload: impl Into<Vec<u8>>) -> Self {
        self.payload = payload.into();
        self
    }

    /// How surely it arrives.
    #[must_use]
    pub fn qos(mut self, qos: QoS) -> Self {
        self.qos = qos;
        self
    }

    /// The server keeps it and shows it to later subscribers.
    #[must_use]
    pub fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    /// Packs the payload before it is sent, if that makes it shorter: a name of the compress family,
    /// or several with `+` between them (`zstd`, `brotli`, `lz77+huffman`). The user property
    /// `content-encoding` says so to whoever receives it (MQTT 5).
    ///
    /// Not `zstd-dict` ([`PackError::Dictionary`](crate::PackError::Dictionary)): a server tells the
    /// dictionary of a policy to who receives what is packed with it, not to who publishes.
    #[must_use]
    pub fn compress(mut self, names: &str) -> Self {
        self.compress = Some(names.to_owned());
        self
    }

    /// Seals the payload end to end: only these can read it, the server cannot. What of the message
    /// stays open is its topic, its size and its properties. Keys come from a
    /// [`KeyDirectory`](crate::keys::KeyDirectory) or elsewhere.
    #[must_use]
    pub fn seal_for(mut self, recipients: impl IntoIterator<Item = Recipient>) -> Self {
        let seal = self.seal.get_or_insert_default();
        seal.recipients.extend(recipients);
        self
    }

    /// Signs what is sealed, so that its recipients know who sent it; without, they do not.
    #[must_use]
    pub fn sign_as(mut self, signer: Arc<PrivateKey>) -> Self {
        self.seal.get_or_insert_default().signer = Some(signer);
        self
    }

    /// Seals with this suite (`ecc+chacha20-poly1305`) instead of `aes-gcm`. Of a cipher alone the
    /// recipients say the rest: one shared key is used as it is, `ecc` or `rsa` is for one public key,
    /// `hybrid` for several.
    #[must_use]
    pub fn suite(mut self, name: &str) -> Self {
        self.seal.get_or_insert_default().suite = Some(name.to_owned());
        self
    }

    /// Lets [`Self::suite`] be `des`, which is obsolete, for peers that know nothing newer.
    #[must_use]
    pub fn allow_legacy(mut self) -> Self {
        self.seal.get_or_insert_default().is_legacy_allowed = true;
        self
    }

    /// A property of MQTT 5; 3.1.1 has none.
    #[must_use]
    pub fn property(mut self, property: Property<'_>) -> Self {
        self.properties.push(property);
        self
    }

    /// A name and a value of the application's own (MQTT 5).
    #[must_use]
    pub fn user_property(self, name: &str, value: &str) -> Self {
        self.property(Property::UserProperty(name, value))
    }

    /// What the payload is, such as `application/json` (MQTT 5).
    #[must_use]
    pub fn content_type(self, content_type: &str) -> Self {
        self.property(Property::ContentType(content_type))
    }

    /// Where an answer is expected, and what it should carry (MQTT 5).
    #[must_use]
    pub fn response(self, topic: &str, correlation_data: &[u8]) -> Self {
        self.property(Property::ResponseTopic(topic))
            .property(Property::CorrelationData(correlation_data))
    }

    /// It is of no use later, in whole seconds (MQTT 5).
    #[must_use]
    pub fn expires_in(self, time: Duration) -> Self {
        let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        self.property(Property::MessageExpiryInterval(seconds))
    }

    /// The server keeps it and publishes it after so long, in whole seconds (MQTT 5; in 3.1.1 write
    /// the topic as `$delayed/SECONDS/TOPIC`).
    #[must_use]
    pub fn delay(self, time: Duration) -> Self {
        self.user_property("waypost-delay", &time.as_secs().to_string())
    }

    /// What `ordered` groups keep in order and compacted streams keep the last of (MQTT 5).
    #[must_use]
    pub fn key(self, key: &str) -> Self {
        self.user_property("waypost-key", key)
    }

    /// Whether it can be published as far as that shows before it is packed and sealed: its topic,
    /// and how it is to be packed and sealed.
    pub fn check(&self) -> Result<(), PublishError> {
        self.check_topic()?;
        if let Some(names) = &self.compress {
            content::stages(names)?;
        }
        if let Some(seal) = &self.seal {
            seal.check(&self.properties)?;
        }
        Ok(())
    }

    pub(crate) fn check_topic(&self) -> Result<(), PublishError> {
        match Topic::parse(&self.topic) {
            Ok(_) => Ok(()),
            Err(error) => Err(PublishError::Topic {
                topic: self.topic.clone(),
                error,
            }),
        }
    }

    /// Bytes of the payload; as it is sent, of one that is [`Self::prepared`].
    pub fn payload_len(&self) -> usize {
        self.payload.len()
    }

    /// As it is sent: packed and sealed where that was asked for. Publishing does so by itself; done
    /// before, it says what is wrong with the message apart from what is wrong with the connection.
    /// It is for one time: a sealed message that is published twice is refused as repeated.
    pub fn prepared(mut self) -> Result<Self, PublishError> {
        if let Some(seal) = self.seal.take() {
            let (payload, properties) = (&mut self.payload, &mut self.properties);
            let compress = self.compress.take();
            seal.apply(&self.topic, compress.as_deref(), payload, properties)?;
        } else if let Some(names) = self.compress.take() {
            content::pack(&names, &mut self.payload, &mut self.properties)?;
        }
        Ok(self)
    }
}

//! `[[topic]] seal`: which topics take only what is sealed end to end, and which take nothing that is.
//!
//! A message is sealed if the server's [`IsSealed`] says so of its payload and, in MQTT 5, its Content Type is
//! `application/cose`. It is looked at before anything of it is stored or forwarded: at PUBLISH, for a will at CONNECT, and
//! again when a will fires or a delayed message is due, for the policy may have come meanwhile. Not here: what a sealed
//! payload looks like, and keys.

use std::borrow::Cow;

use waypost_mqtt::{Properties, Publish, ReasonCode, Topic};

use crate::broker::Broker;
use crate::connection::Connection;
use crate::effects::ConnectionId;
use crate::policy::Policies;

/// Whether a payload is sealed, by its structure alone: the server knows, the core does not.
pub type IsSealed = fn(&[u8]) -> bool;

/// The Content Type of a sealed message (RFC 9052 §11.3.1).
const CONTENT_TYPE: &str = "application/cose";

/// What a policy says about sealed messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Seal {
    /// They are forwarded like all others.
    #[default]
    Allowed,
    /// All others are refused.
    Required,
    /// They are refused.
    Refused,
}

impl Seal {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Allowed, Self::Required, Self::Refused];

    /// As the configuration writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Required => "required",
            Self::Refused => "refused",
        }
    }
}

/// Where a message says that it is sealed, beside its payload.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Said<'a> {
    /// Nowhere: MQTT 3.1.1 has no place for it.
    Nowhere,
    /// In these properties, by its Content Type.
    In(Properties<'a>),
    /// In these properties, if its publisher had any: it was kept, and of which version it was is not.
    Perhaps(Properties<'a>),
}

impl Said<'_> {
    fn agrees(self) -> bool {
        match self {
            Self::Nowhere => true,
            Self::In(properties) => properties.content_type() == Some(CONTENT_TYPE),
            Self::Perhaps(properties) => properties
                .content_type()
                .is_none_or(|content_type| content_type == CONTENT_TYPE),
        }
    }
}

/// Why a PUBLISH is refused, as a Reason String says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// In these words.
    Said(&'static str),
    /// A policy wants its messages like this; it is told by its number until somebody asks for the words.
    Policy(Seal, usize),
}

impl Why {
    /// There is nothing to say.
    pub const NOTHING: Self = Self::Said("");

    /// Empty too if the policies have changed since.
    pub fn text(self, policies: &Policies) -> Cow<'static, str> {
        let (seal, number) = match self {
            Self::Said(text) => return text.into(),
            Self::Policy(seal, number) => (seal, number),
        };
        let filter = policies.filter_that_says(seal, number);
        let (Some(filter), true) = (filter, seal != Seal::Allowed) else {
            return "".into();
        };
        if seal == Seal::Required {
            format!(
                "the policy of {filter} takes only sealed messages: seal it end to end (COSE; in MQTT 5 with \
                 Content Type {CONTENT_TYPE})"
            )
        } else {
            format!(
                "the policy of {filter} takes no sealed messages: publish it unsealed, or on another topic"
            )
        }
        .into()
    }
}

impl From<&'static str> for Why {
    fn from(text: &'static str) -> Self {
        Self::Said(text)
    }
}

impl Broker {
    /// Why a message may not be published on a topic that wants it sealed, or not; it is counted.
    #[inline]
    pub(crate) fn refuses_seal(
        &mut self,
        topic: &str,
        payload: &[u8],
        said: Said<'_>,
    ) -> Option<(ReasonCode, Why)> {
        if !self.policies.has_seals() {
            return None;
        }
        self.judge_seal(topic, payload, said)
    }

    /// The same of what a connected client publishes.
    #[inline]
    pub(crate) fn refuses_seal_of(
        &mut self,
        id: ConnectionId,
        topic: &str,
        publish: &Publish<'_>,
    ) -> Option<(ReasonCode, Why)> {
        if !self.policies.has_seals() {
            return None;
        }
        let is_v5 = self.connections.get(id).is_some_and(Connection::is_v5);
        let said = if is_v5 {
            Said::In(publish.properties)
        } else {
            Said::Nowhere
        };
        self.judge_seal(topic, publish.payload, said)
    }

    fn judge_seal(
        &mut self,
        topic: &str,
        payload: &[u8],
        said: Said<'_>,
    ) -> Option<(ReasonCode, Why)> {
        let (seal, number) = self.policies.seal_of(Topic::parse(topic).ok()?)?;
        let is_sealed = || said.agrees() && (self.is_sealed)(payload);
        match seal {
            Seal::Required if !is_sealed() => self.counters.publishes_unsealed_refused += 1,
            Seal::Refused if is_sealed() => self.counters.publishes_sealed_refused += 1,
            _ => return None,
        }
        // 5 §3.4.2.1: 0x83 is for what is valid and the receiver is not willing to accept. 0x99 would say that the payload
        // contradicts its Payload Format Indicator, 0x87 that somebody else might send it.
        let reason = ReasonCode::ImplementationSpecificError;
        Some((reason, Why::Policy(seal, number)))
    }
}

//! What a message is sealed with, by name: a cipher for the content, and where its key comes from.

use crate::{Strategy, UnknownStrategy, Use, auto, find};

/// Where the content's key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Agreement {
    /// A key that sender and receivers share.
    Shared,
    /// One receiver's P-256 or X25519 key: agreed anew for each message.
    Ecc,
    /// Receivers' RSA keys: a random key, wrapped for each.
    Rsa,
    /// Receivers' keys of any kind: a random key, wrapped for each.
    Hybrid,
}

/// What hides the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// AES-256-GCM.
    AesGcm,
    /// AES-256-CCM.
    AesCcm,
    /// ChaCha20-Poly1305.
    ChaCha20Poly1305,
    /// AES-256-CBC, then HMAC: with a shared key only.
    Aes,
    /// 3DES-CBC, then HMAC: with a shared key only, for peers of long ago.
    Des,
}

/// A legal combination of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Suite {
    agreement: Agreement,
    content: Content,
}

/// Why a text names no suite.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuiteError {
    /// A name that no strategy has.
    #[error(transparent)]
    Unknown(#[from] UnknownStrategy),
    /// Strategies that do not make a pair.
    #[error("{given:?} is no suite; there are: {}", legal.join(", "))]
    Pair {
        /// What was given.
        given: String,
        /// What there is.
        legal: Vec<String>,
    },
    /// 3DES where nobody asked for what is obsolete.
    #[error(
        "des is 3DES, which is obsolete: it seals only with legacy = true, and aes-gcm is the better choice"
    )]
    Legacy,
}

impl Agreement {
    const ALL: [Self; 4] = [Self::Shared, Self::Ecc, Self::Rsa, Self::Hybrid];

    /// Its strategy's name; none for a shared key.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Shared => None,
            Self::Ecc => Some("ecc"),
            Self::Rsa => Some("rsa"),
            Self::Hybrid => Some("hybrid"),
        }
    }
}

impl Content {
    const ALL: [Self; 5] = [
        Self::AesGcm,
        Self::AesCcm,
        Self::ChaCha20Poly1305,
        Self::Aes,
        Self::Des,
    ];

    /// Its strategy's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::AesGcm => "aes-gcm",
            Self::AesCcm => "aes-ccm",
            Self::ChaCha20Poly1305 => "chacha20-poly1305",
            Self::Aes => "aes",
            Self::Des => "des",
        }
    }

    /// Whether it authenticates by itself: only then does it go with keys that were agreed on.
    pub fn is_aead(self) -> bool {
        !matches!(self, Self::Aes | Self::Des)
    }
}

impl Suite {
    /// A combination, if it is legal.
    pub fn new(agreement: Agreement, content: Content) -> Option<Self> {
        let is_legal = content.is_aead() || agreement == Agreement::Shared;
        is_legal.then_some(Self { agreement, content })
    }

    /// Every suite there is.
    pub fn all() -> impl Iterator<Item = Self> {
        Agreement::ALL.into_iter().flat_map(|agreement| {
            let contents = Content::ALL.into_iter();
            contents.filter_map(move |content| Self::new(agreement, content))
        })
    }

    /// A suite by name: a content cipher alone (`aes-gcm`, for a shared key), a key agreement alone (`ecc`, with aes-gcm), or
    /// both (`ecc+chacha20-poly1305`). `auto` is the content cipher that suits this processor.
    pub fn parse(name: &str) -> Result<Self, SuiteError> {
        match Self::parse_legacy(name)? {
            suite if suite.content == Content::Des => Err(SuiteError::Legacy),
            suite => Ok(suite),
        }
    }

    /// The same where somebody said `legacy = true`: `des` too.
    pub fn parse_legacy(name: &str) -> Result<Self, SuiteError> {
        let mut parts = name.split('+').map(|part| find(part.trim()));
        let first = parts.next().unwrap_or_else(|| find(name))?;
        let second = parts.next().transpose()?;
        let agreement = |row: &Strategy| {
            let mut all = Agreement::ALL.into_iter();
            all.find(|agreement| agreement.name() == Some(row.name))
        };
        let content = |row: &Strategy| {
            let name = if row.name == auto::NAME {
                auto::for_this_processor().strategy().name
            } else {
                row.name
            };
            Content::ALL
                .into_iter()
                .find(|content| content.name() == name)
        };
        let suite = match (agreement(first), second) {
            (Some(agreement), None) => Self::new(agreement, Content::AesGcm),
            (Some(agreement), Some(second)) => {
                content(second).and_then(|content| Self::new(agreement, content))
            }
            (None, None) => {
                content(first).and_then(|content| Self::new(Agreement::Shared, content))
            }
            (None, Some(_)) => None,
        };
        let no_pair = || SuiteError::Pair {
            given: name.into(),
            legal: Self::all().map(|suite| suite.to_string()).collect(),
        };
        match suite {
            Some(suite) if parts.next().is_none() => Ok(suite),
            _ => Err(no_pair()),
        }
    }

    /// Where the content's key comes from.
    pub fn agreement(self) -> Agreement {
        self.agreement
    }

    /// What hides the content.
    pub fn content(self) -> Content {
        self.content
    }
}

impl std::fmt::Display for Suite {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(name) = self.agreement.name() {
            write!(formatter, "{name}+")?;
        }
        formatter.write_str(self.content.name())
    }
}

/// Whether a strategy is of use for something, or what is instead.
pub fn require(strategy: &'static Strategy, wanted: Use) -> Result<(), NotForThat> {
    if strategy.uses.contains(&wanted) {
        return Ok(());
    }
    let legal = crate::registry().iter();
    Err(NotForThat {
        name: strategy.name,
        wanted,
        legal: legal
            .filter(|row| row.uses.contains(&wanted))
            .map(|row| row.name)
            .collect(),
    })
}

/// A strategy is not for what it was named for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} is not for {wanted}; there are: {}", legal.join(", "))]
pub struct NotForThat {
    /// Its name.
    pub name: &'static str,
    /// What it was named for.
    pub wanted: Use,
    /// What is for that.
    pub legal: Vec<&'static str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_is_found_however_it_is_written() {
        for (given, expect) in [
            ("aes-gcm", "aes-gcm"),
            ("ecc", "ecc+aes-gcm"),
            ("ECC + AES_256_GCM", "ecc+aes-gcm"),
            ("hybrid+chacha20-poly1305", "hybrid+chacha20-poly1305"),
            ("rsa", "rsa+aes-gcm"),
            ("ecdh+ccm", "ecc+aes-ccm"),
            ("aes", "aes"),
        ] {
            assert_eq!(Suite::parse(given).unwrap().to_string(), expect, "{given}");
        }
        for suite in Suite::all() {
            assert_eq!(Suite::parse_legacy(&suite.to_string()), Ok(suite));
        }
        assert!(Suite::parse("auto").unwrap().content().is_aead());
        assert!(Suite::parse("ecc+auto").unwrap().content().is_aead());
    }

    #[test]
    fn what_is_no_suite_is_answered_with_those_there_are() {
        for given in [
            "ecc+rsa",
            "ecc+aes",
            "rsa+des",
            "aes-gcm+ecc",
            "ecc+aes-gcm+aes-gcm",
        ] {
            let Err(SuiteError::Pair { legal, .. }) = Suite::parse_legacy(given) else {
                panic!("{given}");
            };
            assert!(legal.contains(&"ecc+aes-gcm".to_owned()));
            assert_eq!(legal.len(), 5 + 3 * 3);
        }
        assert!(matches!(
            Suite::parse("ecc+rot13"),
            Err(SuiteError::Unknown(_))
        ));
        assert!(matches!(Suite::parse(""), Err(SuiteError::Unknown(_))));
    }

    #[test]
    fn des_is_only_for_who_says_legacy() {
        for name in ["des", "3DES", "triple-des"] {
            assert_eq!(Suite::parse(name), Err(SuiteError::Legacy));
            assert_eq!(Suite::parse_legacy(name).unwrap().to_string(), "des");
        }
    }

    #[test]
    fn a_strategy_used_for_what_it_is_not_names_those_that_are() {
        let error = require(find("rsa").unwrap(), Use::AtRest).unwrap_err();
        assert_eq!(
            error.to_string(),
            "rsa is not for data at rest; there are: aes-gcm, aes-ccm, chacha20-poly1305, auto"
        );
        assert_eq!(require(find("aes-ccm").unwrap(), Use::AtRest), Ok(()));
    }
}

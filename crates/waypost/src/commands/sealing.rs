//! What `pub` and `sub` do about messages sealed end to end: sealing what is sent, opening what comes.

use std::sync::Arc;

use waypost_client::keys::{KeyDirectory, KeyName, Recipient};
use waypost_compress::Stages;
use waypost_encrypt::{
    Agreement, KeyId, KeyKind, OpeningError, PrivateKey, RepeatGuard, Sealing, Sender, Suite,
    SuiteError, SymmetricKey, SystemRandom, open, seal,
};

use super::keys::{self, KeysArgs};
use crate::Failure;

/// The Content Type of what is sealed.
pub const CONTENT_TYPE: &str = "application/cose";
/// The longest message that is unpacked after it was opened: beyond it, it is taken for a bomb.
const UNPACKED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How `pub` seals.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Sealing and packing")]
pub struct SealArgs {
    /// Seal it for who has this name (`waypost keys list`): nobody else can read it, the server included (may be repeated)
    #[arg(long, value_name = "NAME")]
    seal_for: Vec<KeyName>,
    /// Sign it with the key of this name of yours: who opens it knows who wrote it
    #[arg(long, value_name = "NAME", requires = "seal_for")]
    sign_as: Option<KeyName>,
    /// Seal with this cipher, or pair: chacha20-poly1305, hybrid+aes-ccm; without it what suits the keys, with aes-gcm
    #[arg(long, value_name = "SUITE", requires = "seal_for")]
    encrypt: Option<String>,
    /// Let `--encrypt des` be, for peers of long ago
    #[arg(long, requires = "encrypt")]
    legacy: bool,
    /// Pack it first, if that makes it shorter: zstd, brotli, lz77 (deflate) and others, or several with + between them
    #[arg(long, value_name = "NAME")]
    compress: Option<String>,
    #[command(flatten)]
    place: KeysArgs,
}

/// How `sub` opens.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Sealed messages")]
pub struct OpenArgs {
    /// Open sealed messages with your keys and say who signed them. What does not open is told on standard error: what is not
    /// for you, was changed, came before, or on another topic than it was sealed for, and what is not sealed
    #[arg(long)]
    open: bool,
    /// Read dead letters: what counts is the topic that they were first published to
    #[arg(long, requires = "open")]
    dead_letters: bool,
    /// Open what is sealed with des, too
    #[arg(long, requires = "open")]
    legacy: bool,
    #[command(flatten)]
    place: KeysArgs,
}

/// What is sent.
pub struct Prepared {
    /// The payload.
    pub payload: Vec<u8>,
    /// How it is packed, where whoever gets it has to be told.
    pub content_encoding: Option<String>,
}

/// Seals and packs what `pub` sends, as far as that was asked for.
pub struct Sealer {
    seal: Option<Seal>,
    stages: Option<Stages>,
}

struct Seal {
    directory: KeyDirectory,
    topic: String,
    recipients: Vec<Recipient>,
    signer: Option<Arc<PrivateKey>>,
    suite: Suite,
    /// Shared keys, and what each had sealed before.
    counted: Vec<(Arc<SymmetricKey>, (u64, u64))>,
}

impl SealArgs {
    /// Whether messages are sealed.
    pub fn seals(&self) -> bool {
        !self.seal_for.is_empty()
    }

    /// Whether messages are packed.
    pub fn packs(&self) -> bool {
        self.compress.is_some()
    }

    /// What seals messages for `topic`.
    pub fn sealer(&self, topic: &str) -> Result<Sealer, Failure> {
        let stages = self.compress.as_deref().map(Stages::parse).transpose();
        let stages = stages.map_err(|error| Failure::usage(format!("--compress: {error}")))?;
        let seal = self.seals().then(|| self.seal(topic)).transpose()?;
        Ok(Sealer { seal, stages })
    }

    fn seal(&self, topic: &str) -> Result<Seal, Failure> {
        let directory = self.place.open()?;
        let recipients = self.seal_for.iter().map(|name| directory.recipient(name));
        let recipients: Vec<_> = recipients
            .collect::<Result<_, _>>()
            .map_err(keys::failure)?;
        let signer = self.sign_as.as_ref().map(|name| directory.signer(name));
        let signer = signer.transpose().map_err(keys::failure)?;
        let counted = recipients.iter().filter_map(|recipient| match recipient {
            Recipient::Shared(key) => Some((Arc::clone(key), (key.sealed(), key.legacy_blocks()))),
            Recipient::Public(_) => None,
        });
        let counted = counted.collect();
        Ok(Seal {
            suite: self.suite(&recipients)?,
            directory,
            topic: seen_topic(topic).to_owned(),
            recipients,
            signer,
            counted,
        })
    }

    fn suite(&self, recipients: &[Recipient]) -> Result<Suite, Failure> {
        let agreement = match recipients {
            [Recipient::Shared(_)] => Agreement::Shared,
            [Recipient::Public(key)] if key.kind() == KeyKind::Rsa => Agreement::Rsa,
            [Recipient::Public(_)] => Agreement::Ecc,
            _ if recipients
                .iter()
                .any(|recipient| matches!(recipient, Recipient::Shared(_))) =>
            {
                return Err(Failure::usage(
                    "a shared key is for a message of its own: everybody who has it reads it",
                )
                .hint("publish twice, or use the keys of those who share it"));
            }
            _ => Agreement::Hybrid,
        };
        let name = self.encrypt.as_deref().unwrap_or("aes-gcm");
        let asked = if self.legacy {
            Suite::parse_legacy(name)
        } else {
            Suite::parse(name)
        };
        let asked = asked.map_err(|error| {
            let failure = Failure::usage(format!("--encrypt: {error}"));
            match error {
                SuiteError::Legacy => failure.hint("--legacy, if a peer knows nothing else"),
                _ => failure,
            }
        })?;
        if self.legacy {
            eprintln!(
                "warning: {asked} is for peers that know nothing newer; docs/ciphers.md says why"
            );
        }
        if asked.agreement() != Agreement::Shared {
            return Ok(asked);
        }
        // A cipher alone: the keys say the rest.
        Suite::new(agreement, asked.content()).ok_or_else(|| {
            Failure::usage(format!(
                "--encrypt: {asked} does not authenticate by itself, so it is for a shared key only"
            ))
            .hint("aes-gcm and chacha20-poly1305 are for every key")
        })
    }
}

/// The topic as receivers will see it.
fn seen_topic(topic: &str) -> &str {
    topic
        .strip_prefix("$delayed/")
        .and_then(|rest| rest.split_once('/'))
        .map_or(topic, |(_, topic)| topic)
}

impl Sealer {
    /// A message as it is sent.
    pub fn prepare(&self, payload: Vec<u8>) -> Result<Prepared, Failure> {
        let (payload, content_encoding) = self.packed(payload)?;
        let Some(sealing) = &self.seal else {
            return Ok(Prepared {
                payload,
                content_encoding,
            });
        };
        let recipients: Vec<_> = sealing
            .recipients
            .iter()
            .map(|recipient| match recipient {
                Recipient::Shared(key) => waypost_encrypt::Recipient::Shared(key),
                Recipient::Public(key) => waypost_encrypt::Recipient::Public(key),
            })
            .collect();
        let how = Sealing {
            suite: sealing.suite,
            topic: &sealing.topic,
            recipients: &recipients,
            signer: sealing.signer.as_deref(),
            content_encoding: content_encoding.as_deref(),
        };
        let mut sealed = Vec::new();
        seal(&payload, &how, &mut SystemRandom, &mut sealed)
            .map_err(|error| Failure::usage(error.to_string()))?;
        Ok(Prepared {
            payload: sealed,
            content_encoding: None,
        })
    }

    fn packed(&self, payload: Vec<u8>) -> Result<(Vec<u8>, Option<String>), Failure> {
        let Some(stages) = &self.stages else {
            return Ok((payload, None));
        };
        let mut packed = Vec::new();
        stages
            .compress(&payload, &mut packed)
            .map_err(|error| Failure::usage(format!("--compress: {error}")))?;
        if packed.len() >= payload.len() {
            return Ok((payload, None));
        }
        Ok((packed, Some(stages.content_encoding())))
    }

    /// Keeps what shared keys have sealed.
    pub fn finish(self) -> Result<(), Failure> {
        let Some(mut seal) = self.seal else {
            return Ok(());
        };
        for (key, before) in seal.counted {
            let noted = seal.directory.note_sealed(&key, before);
            noted.map_err(keys::failure)?;
        }
        Ok(())
    }
}

impl OpenArgs {
    /// Whether messages are opened.
    pub fn is_asked_for(&self) -> bool {
        self.open
    }

    /// What opens messages, if that was asked for.
    pub fn opener(&self) -> Result<Option<Opener>, Failure> {
        if !self.open {
            return Ok(None);
        }
        let mut directory = self.place.open()?;
        if self.legacy {
            directory = directory.with_legacy();
        }
        if !directory.keys().iter().any(keys::opens) {
            eprintln!(
                "warning: no key that opens anything in {}; `waypost keys new NAME` makes one",
                directory.path().display()
            );
        }
        Ok(Some(Opener {
            directory,
            guard: RepeatGuard::default(),
            reads_dead_letters: self.dead_letters,
        }))
    }
}

/// Opens messages, each once.
pub struct Opener {
    directory: KeyDirectory,
    guard: RepeatGuard,
    reads_dead_letters: bool,
}

/// Where an opened message comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Who signed it; none: nobody did.
    pub signer: Option<Signer>,
    /// What it was sealed with.
    pub suite: String,
    /// What tells it from every other.
    pub message_id: String,
}

/// Who signed a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// What their key is called here.
    pub name: String,
    /// What stands for it.
    pub key_id: KeyId,
}

impl Opener {
    /// Opens a message, or says why it does not open.
    pub fn open(
        &mut self,
        message: &waypost_mqtt::Publish<'_>,
    ) -> Result<(Vec<u8>, Origin), String> {
        let mut properties = message.properties.user_properties();
        let dead = properties.find(|(name, _)| *name == "waypost-dead-topic");
        let topic = match dead {
            Some((_, topic)) if self.reads_dead_letters => topic,
            _ => message.topic,
        };
        let opened = open(message.payload, topic, &self.directory).map_err(|error| {
            let hint = match &error {
                OpeningError::UnknownSigner { .. } => {
                    "; `waypost keys trust NAME FILE` if you know whose it is"
                }
                OpeningError::Topic { .. } if dead.is_some() => {
                    "; --dead-letters if this is where dead letters are read"
                }
                _ => "",
            };
            format!("{error}{hint}")
        })?;
        let repeated = self.guard.check(opened.sender, opened.message_id);
        repeated.map_err(|error| error.to_string())?;
        let payload = match &opened.content_encoding {
            None => opened.plaintext,
            Some(encoding) => unpacked(encoding, &opened.plaintext)?,
        };
        let signer = match opened.sender {
            Sender::Unknown => None,
            Sender::Signed { key_id } => Some(Signer {
                name: self
                    .directory
                    .name_of(key_id)
                    .map_or_else(|| key_id.to_string(), ToString::to_string),
                key_id,
            }),
        };
        let origin = Origin {
            signer,
            suite: opened.suite.to_string(),
            message_id: opened.message_id.to_string(),
        };
        Ok((payload, origin))
    }
}

fn unpacked(encoding: &str, packed: &[u8]) -> Result<Vec<u8>, String> {
    let mut unpacked = Vec::new();
    Stages::from_content_encoding(encoding)
        .map_err(|error| error.to_string())?
        .decompress(packed, UNPACKED_BYTES_MAX, &mut unpacked)
        .map_err(|error| error.to_string())?;
    Ok(unpacked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receivers_see_the_topic_behind_the_delay() {
        for (topic, expect) in [
            ("a/b", "a/b"),
            ("$delayed/10/a/b", "a/b"),
            ("$delayed/10", "$delayed/10"),
        ] {
            assert_eq!(seen_topic(topic), expect);
        }
    }
}

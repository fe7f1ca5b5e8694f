//! What `pub` and `sub` say to the SDK about messages sealed end to end: for whom, by whom, with which keys.

use std::sync::Arc;

use waypost_client::keys::{KeyDirectory, KeyName, Recipient};
use waypost_client::{
    Builder, ContentError, Message, MessageError, Publish, PublishError, SealError, Sealed,
};
use waypost_encrypt::{KeyId, OpeningError, Sender, Suite, SuiteError, SymmetricKey};

use super::keys::{self, KeysArgs};
use crate::Failure;

/// The Content Type of what is sealed.
pub const CONTENT_TYPE: &str = "application/cose";

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

/// What shared keys have sealed, which their files are to say.
#[derive(Default)]
pub struct Tally {
    directory: Option<KeyDirectory>,
    /// The keys, and what each had sealed before.
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

    /// `message` as it is to be sealed and packed.
    pub fn apply(&self, mut message: Publish) -> Result<(Publish, Tally), Failure> {
        if let Some(names) = &self.compress {
            message = message.compress(names);
            message.check().map_err(|error| failure(&error))?;
        }
        if !self.seals() {
            return Ok((message, Tally::default()));
        }
        let directory = self.place.open()?;
        let recipients = self.seal_for.iter().map(|name| directory.recipient(name));
        let recipients: Vec<_> = recipients
            .collect::<Result<_, _>>()
            .map_err(keys::failure)?;
        let counted = recipients.iter().filter_map(|recipient| match recipient {
            Recipient::Shared(key) => Some((Arc::clone(key), (key.sealed(), key.legacy_blocks()))),
            Recipient::Public(_) => None,
        });
        let counted = counted.collect();
        message = message.seal_for(recipients);
        if let Some(name) = &self.sign_as {
            message = message.sign_as(directory.signer(name).map_err(keys::failure)?);
        }
        if let Some(name) = &self.encrypt {
            message = message.suite(name);
            if self.legacy {
                message = message.allow_legacy();
            }
        }
        let checked = message.check();
        if self.legacy
            && let Some(Ok(suite)) = self.encrypt.as_deref().map(Suite::parse_legacy)
            && !matches!(
                checked,
                Err(PublishError::Seal(SealError::SharedBesideOthers))
            )
        {
            eprintln!(
                "warning: {suite} is for peers that know nothing newer; docs/ciphers.md says why"
            );
        }
        checked.map_err(|error| failure(&error))?;
        let directory = Some(directory);
        Ok((message, Tally { directory, counted }))
    }
}

/// What is wrong with how a message is to be sealed and packed.
pub fn failure(error: &PublishError) -> Failure {
    let text = error.to_string();
    match error {
        PublishError::Pack(_) => Failure::usage(format!("--compress: {text}")),
        PublishError::Seal(SealError::Suite(SuiteError::Legacy)) => {
            Failure::usage(format!("--encrypt: {text}"))
                .hint("--legacy, if a peer knows nothing else")
        }
        PublishError::Seal(SealError::Suite(_)) => Failure::usage(format!("--encrypt: {text}")),
        PublishError::Seal(SealError::SharedOnly(_)) => {
            Failure::usage(format!("--encrypt: {text}"))
                .hint("aes-gcm and chacha20-poly1305 are for every key")
        }
        PublishError::Seal(SealError::SharedBesideOthers) => {
            Failure::usage(text).hint("publish twice, or use the keys of those who share it")
        }
        _ => Failure::usage(text),
    }
}

impl Tally {
    /// Keeps it.
    pub fn keep(self) -> Result<(), Failure> {
        let Some(mut directory) = self.directory else {
            return Ok(());
        };
        for (key, before) in self.counted {
            directory.note_sealed(&key, before).map_err(keys::failure)?;
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
            directory: Arc::new(directory),
            reads_dead_letters: self.dead_letters,
        }))
    }
}

/// Has messages opened, and knows who signs them.
pub struct Opener {
    directory: Arc<KeyDirectory>,
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
    /// A client that opens what comes.
    pub fn equip(&self, client: Builder) -> Builder {
        let client = client.keys(Arc::clone(&self.directory) as _).sealed_only();
        if self.reads_dead_letters {
            client.dead_letters()
        } else {
            client
        }
    }

    /// Where a message comes from that was opened.
    pub fn origin(&self, sealed: &Sealed) -> Origin {
        let signer = match sealed.sender {
            Sender::Unknown => None,
            Sender::Signed { key_id } => Some(Signer {
                name: self
                    .directory
                    .name_of(key_id)
                    .map_or_else(|| key_id.to_string(), ToString::to_string),
                key_id,
            }),
        };
        Origin {
            signer,
            suite: sealed.suite.to_string(),
            message_id: sealed.message_id.to_string(),
        }
    }
}

/// Why a message does not open, and what its reader can do.
pub fn why(error: &MessageError) -> String {
    let is_dead = |message: &Message| message.user_property("waypost-dead-topic").is_some();
    match &error.why {
        ContentError::Opening(why @ OpeningError::UnknownSigner { .. }) => {
            format!("{why}; `waypost keys trust NAME FILE` if you know whose it is")
        }
        ContentError::Opening(why @ OpeningError::Topic { .. }) if is_dead(&error.message) => {
            format!("{why}; --dead-letters if this is where dead letters are read")
        }
        ContentError::NotSealed(why) => why.to_string(),
        ContentError::Encoding(why) => why.to_string(),
        ContentError::Unpack(why) => why.to_string(),
        why => why.to_string(),
    }
}

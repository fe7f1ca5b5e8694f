//! What payloads are packed in: packing what is published, unpacking what came.

use std::fmt;
use std::sync::Arc;

use waypost_compress::{
    Compress, CompressError, DecompressError, Stages, StagesError, dictionary::Dictionaries,
    zstd_dict,
};
use waypost_encrypt::{NotSealed, OpeningError, RepeatGuard, Repeated};
use waypost_mqtt::{Property, PropertyBuffer};

use crate::dictionaries::Library;
use crate::message::Message;
use crate::sealing::{self, Ring, Sealed};

/// The user property that says how a payload is packed, in HTTP's words.
const CONTENT_ENCODING: &str = "content-encoding";
/// The longest payload that is unpacked, unless asked otherwise.
pub(crate) const CONTENT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// In HTTP's words: not packed.
const IDENTITY: &str = "identity";
/// The method that needs a dictionary.
const DICTIONARY: &str = "zstd-dict";

/// Why a payload was not packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// There is no such method, or the methods do not go together.
    #[error(transparent)]
    Stages(#[from] StagesError),
    /// A method refused.
    #[error(transparent)]
    Compress(#[from] CompressError),
    /// A policy's dictionary is not to be found by who publishes.
    #[error(
        "zstd-dict packs with the dictionary of a topic's policy, which a server does not tell to who publishes; pack with \
         zstd, or let the server do it (transcode)"
    )]
    Dictionary,
}

/// A message that came and cannot be read; what came is in it.
#[derive(Debug, thiserror::Error)]
#[error("a message on `{}` cannot be read: {why}", message.topic())]
pub struct MessageError {
    /// The message, its payload as it came.
    pub message: Box<Message>,
    /// What is wrong with it.
    #[source]
    pub why: ContentError,
}

/// Why a payload cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// It is packed in a way that is not known here.
    #[error("{0}; take it as it comes with Builder::raw")]
    Encoding(#[from] StagesError),
    /// It cannot be unpacked.
    #[error("{0}{hint}", hint = unpack_hint(.0))]
    Unpack(#[from] DecompressError),
    /// It is sealed and cannot be opened.
    #[error("{0}")]
    Opening(#[from] OpeningError),
    /// It came before.
    #[error("{0}")]
    Repeated(#[from] Repeated),
    /// Only sealed messages are wanted.
    #[error("{0}; sealed_only wants all to be sealed: this, anybody may have written")]
    NotSealed(NotSealed),
    /// The dictionary it is packed with cannot be had from the server.
    #[error(
        "it is packed with dictionary {id}, which the server does not show ({why}); whoever may subscribe to all of a \
         policy's messages may read its dictionary"
    )]
    Dictionary {
        /// Which.
        id: u32,
        /// Why not.
        why: String,
    },
}

fn unpack_hint(error: &DecompressError) -> &'static str {
    match error {
        DecompressError::TooLong { .. } => {
            "; if you trust who sends it, allow more with Builder::content_bytes_max"
        }
        _ => "",
    }
}

/// How what came is read.
pub(crate) struct Reading {
    pub(crate) is_raw: bool,
    pub(crate) bytes_max: usize,
    pub(crate) dictionaries: Arc<Library>,
    /// What sealed messages are opened with.
    pub(crate) ring: Option<Ring>,
    /// What every subscription wants.
    pub(crate) is_sealed_only: bool,
    pub(crate) reads_dead_letters: bool,
}

/// What one subscription wants of its messages, and the ids of those that came sealed.
#[derive(Debug, Default)]
pub(crate) struct Expectations {
    pub(crate) reads_dead_letters: bool,
    pub(crate) is_sealed_only: bool,
    pub(crate) guard: RepeatGuard,
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading").finish_non_exhaustive()
    }
}

/// What to do about a message.
#[derive(Debug)]
pub(crate) enum Read {
    Message(Message),
    /// A dictionary is needed first.
    Dictionary(Message, u32),
    Error(MessageError),
}

impl Reading {
    /// What a subscription wants that says no more than the client does.
    pub(crate) fn expectations(&self) -> Expectations {
        Expectations {
            reads_dead_letters: self.reads_dead_letters,
            is_sealed_only: self.is_sealed_only,
            guard: RepeatGuard::default(),
        }
    }

    /// Reads what came.
    pub(crate) fn read(&self, mut message: Message, wanted: &mut Expectations) -> Read {
        if self.is_raw {
            return Read::Message(message);
        }
        match self.content(&message, wanted) {
            Ok((sealed, payload)) => {
                if let Some(sealed) = sealed {
                    message.set_sealed(sealed);
                }
                if let Some(payload) = payload {
                    message.set_payload(payload);
                }
                Read::Message(message)
            }
            Err(ContentError::Unpack(DecompressError::NoDictionary { id })) => {
                Read::Dictionary(message, id)
            }
            Err(why) => Read::Error(MessageError {
                message: Box::new(message),
                why,
            }),
        }
    }

    /// How it was sealed, and the payload opened and unpacked where it was.
    fn content(
        &self,
        message: &Message,
        wanted: &mut Expectations,
    ) -> Result<(Option<Sealed>, Option<Vec<u8>>), ContentError> {
        let inside = sealing::open(message, self.ring.as_ref(), wanted)?;
        let Some(inside) = inside else {
            return Ok((None, self.unpacked(message)?));
        };
        let payload = match &inside.content_encoding {
            Some(encoding) => self.unpack(encoding, &inside.payload)?,
            None => inside.payload,
        };
        let Sealed {
            sender, message_id, ..
        } = inside.sealed;
        // What is retained too: whoever plays a message back could say that it is.
        wanted.guard.check(sender, message_id)?;
        Ok((Some(inside.sealed), Some(payload)))
    }

    /// The payload unpacked; nothing: it is not packed.
    fn unpacked(&self, message: &Message) -> Result<Option<Vec<u8>>, ContentError> {
        match message.user_property(CONTENT_ENCODING) {
            None | Some(IDENTITY) => Ok(None),
            Some(encoding) => self.unpack(encoding, message.payload()).map(Some),
        }
    }

    fn unpack(&self, encoding: &str, packed: &[u8]) -> Result<Vec<u8>, ContentError> {
        let stages = Stages::from_content_encoding(encoding)?;
        let mut unpacked = Vec::new();
        self.at_work(&stages)
            .decompress(packed, self.bytes_max, &mut unpacked)?;
        Ok(unpacked)
    }

    fn at_work(&self, stages: &Stages) -> waypost_compress::StagesAtWork {
        stages.at_work_with(|strategy| {
            if strategy.name == DICTIONARY {
                let dictionaries: Arc<dyn Dictionaries> = Arc::clone(&self.dictionaries) as _;
                zstd_dict::with(dictionaries, None)
            } else {
                (strategy.new)()
            }
        })
    }
}

/// Packs a payload as `names` says (`lz77+huffman`), if that makes it shorter, and notes how.
pub(crate) fn pack(
    names: &str,
    payload: &mut Vec<u8>,
    properties: &mut PropertyBuffer,
) -> Result<(), PackError> {
    if let Some(encoding) = packed(names, payload)? {
        properties.push(Property::UserProperty(CONTENT_ENCODING, &encoding));
    }
    Ok(())
}

/// The methods of these names.
pub(crate) fn stages(names: &str) -> Result<Stages, PackError> {
    let stages = Stages::parse(names)?;
    let mut strategies = stages.strategies().iter();
    if strategies.any(|strategy| strategy.name == DICTIONARY) {
        return Err(PackError::Dictionary);
    }
    Ok(stages)
}

/// Packs a payload if that makes it shorter; gives how.
pub(crate) fn packed(names: &str, payload: &mut Vec<u8>) -> Result<Option<String>, PackError> {
    let stages = stages(names)?;
    let encoding = stages.content_encoding();
    if encoding == IDENTITY {
        return Ok(None);
    }
    let mut packed = Vec::new();
    stages.compress(payload, &mut packed)?;
    if packed.len() >= payload.len() {
        return Ok(None);
    }
    *payload = packed;
    Ok(Some(encoding))
}

#[cfg(test)]
mod tests {
    use waypost_mqtt::{Publish, QoS};

    use super::*;

    fn reading(bytes_max: usize) -> Reading {
        Reading {
            is_raw: false,
            bytes_max,
            dictionaries: Arc::default(),
            ring: None,
            is_sealed_only: false,
            reads_dead_letters: false,
        }
    }

    fn read(reading: &Reading, message: Message) -> Read {
        reading.read(message, &mut Expectations::default())
    }

    fn message(payload: &[u8], properties: &PropertyBuffer) -> Message {
        Message::new(&Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: "a",
            packet_id: None,
            properties: properties.as_properties(),
            payload,
        })
    }

    fn sent(names: &str, payload: &[u8]) -> Message {
        let (mut bytes, mut properties) = (payload.to_vec(), PropertyBuffer::new());
        pack(names, &mut bytes, &mut properties).unwrap();
        message(&bytes, &properties)
    }

    #[test]
    fn what_is_packed_is_read() {
        let text = b"one fish, two fish, red fish, blue fish; ".repeat(20);
        for names in ["zstd", "lz4", "lz77", "lz77+huffman", "brotli"] {
            let packed = sent(names, &text);
            assert!(packed.payload().len() < text.len() / 2, "{names}");
            let Read::Message(read) = read(&reading(10_000), packed) else {
                panic!("{names}")
            };
            assert_eq!(read.payload(), text, "{names}");
        }
    }

    #[test]
    fn what_would_not_get_shorter_goes_as_it_is() {
        let short = sent("zstd", b"ab");
        assert_eq!(
            (short.payload(), short.user_property(CONTENT_ENCODING)),
            (&b"ab"[..], None)
        );
        assert!(packed("gnu", &mut Vec::new()).is_err());
    }

    /// A frame in its name without its dictionary would be plain zstd under a name that fewer can read.
    #[test]
    fn dictionaries_are_the_servers() {
        for names in ["zstd-dict", "zstd-dict+huffman"] {
            let mut payload = vec![0; 1_000];
            let refused = packed(names, &mut payload);
            assert!(matches!(refused, Err(PackError::Dictionary)), "{names}");
            assert_eq!(payload.len(), 1_000, "left as it is");
        }
    }

    /// A payload may unpack to the bound and not to a byte more.
    #[test]
    fn bombs_are_refused_at_the_bound() {
        for (length, is_read) in [
            (1_000, true),
            (1_001, false),
            (2_000, false),
            (9_000_000, false),
        ] {
            let bomb = sent("zstd", &vec![0; length]);
            match read(&reading(1_000), bomb) {
                Read::Message(_) => assert!(is_read, "{length}"),
                Read::Error(error) => {
                    assert!(!is_read, "{length}");
                    assert!(error.to_string().contains("content_bytes_max"), "{error}");
                }
                Read::Dictionary(..) => panic!("{length}"),
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_kept_with_the_reason() {
        let mut properties = PropertyBuffer::new();
        properties.push(Property::UserProperty(CONTENT_ENCODING, "x-mine"));
        let Read::Error(error) = read(&reading(10), message(b"abc", &properties)) else {
            panic!()
        };
        assert_eq!(error.message.payload(), b"abc");
        assert!(error.to_string().contains("x-mine"), "{error}");
        let raw = Reading {
            is_raw: true,
            ..reading(10)
        };
        assert!(matches!(
            read(&raw, message(b"abc", &properties)),
            Read::Message(_)
        ));
    }
}

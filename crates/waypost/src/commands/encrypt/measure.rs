//! Seals and opens, and counts this thread's CPU time: what others do on the machine does not count.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use waypost_encrypt::{
    Agreement, Content, Jwk, KeyKind, KeySet, LEGACY_BLOCKS_MAX, PrivateKey, PublicKey, Recipient,
    Sealing, Suite, SymmetricKey, SystemRandom, open, seal,
};

use super::Load;

/// CPU time after which a suite was measured long enough.
const ENOUGH: Duration = Duration::from_millis(100);

/// How often all messages are sealed at most: of one short message, a hundred thousand times.
const ROUNDS_MAX: u32 = 100_000;

const TOPIC: &str = "waypost/encrypt/simulate";

/// What one suite came to on one load.
pub(super) struct Row {
    pub(super) suite: Suite,
    pub(super) load: String,
    pub(super) messages: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_sealed: u64,
    /// CPU time of sealing, and of opening, all messages once.
    seal: Duration,
    open: Duration,
}

/// The keys of two receivers, and one they share.
pub(super) struct Keys {
    shared: [u8; 32],
    ring: KeySet,
    curve: PublicKey,
    second: PublicKey,
    rsa: PublicKey,
}

impl Keys {
    pub(super) fn generate() -> Result<Self, String> {
        let mut ring = KeySet::default().with_legacy();
        let mut pair = |kind| {
            let key = PrivateKey::generate(kind, &mut SystemRandom);
            let key = key.map_err(|error| error.to_string())?;
            let public = key.public().clone();
            ring.insert(Jwk::Private(key));
            Ok::<_, String>(public)
        };
        let (curve, second) = (pair(KeyKind::P256)?, pair(KeyKind::X25519)?);
        let rsa = pair(KeyKind::Rsa)?;
        let mut shared = [0; 32];
        getrandom::fill(&mut shared).map_err(|error| error.to_string())?;
        let key = SymmetricKey::new(&shared).map_err(|error| error.to_string())?;
        ring.insert(Jwk::Symmetric(key));
        Ok(Self {
            shared,
            ring,
            curve,
            second,
            rsa,
        })
    }

    /// Seals and opens a load; none if a key may not seal so much.
    pub(super) fn measure(&self, suite: Suite, load: &Load) -> Result<Option<Row>, String> {
        let failed = |error: &dyn std::fmt::Display| format!("{suite}: {error}");
        let bytes_in: usize = load.messages.iter().map(Vec::len).sum();
        let blocks = |message: &Vec<u8>| message.len() as u64 / 8 + 1;
        let legacy_blocks: u64 = load.messages.iter().map(blocks).sum();
        let is_legacy = suite.content() == Content::Des;
        if is_legacy && legacy_blocks > LEGACY_BLOCKS_MAX {
            return Ok(None);
        }
        // Its count of messages and blocks begins anew with each round; the bytes stay the same.
        let fresh = || SymmetricKey::new(&self.shared).map_err(|error| failed(&error));
        let mut key = fresh()?;
        let mut envelopes: Vec<Vec<u8>> = vec![Vec::new(); load.messages.len()];
        let mut rounds = 0;
        let mut sealing_time = Duration::ZERO;
        while rounds == 0 || sealing_time < ENOUGH && rounds < ROUNDS_MAX {
            if is_legacy && key.legacy_blocks() + legacy_blocks > LEGACY_BLOCKS_MAX {
                key = fresh()?;
            }
            let recipients = self.recipients(suite.agreement(), &key);
            let sealing = Sealing {
                suite,
                topic: TOPIC,
                recipients: &recipients,
                signer: None,
                content_encoding: None,
            };
            let begun = cpu();
            for (message, into) in load.messages.iter().zip(&mut envelopes) {
                into.clear();
                seal(message, &sealing, &mut SystemRandom, into).map_err(|error| failed(&error))?;
            }
            sealing_time += cpu().saturating_sub(begun);
            rounds += 1;
        }
        let seal = sealing_time / rounds;
        let mut rounds = 0;
        let mut opening_time = Duration::ZERO;
        while rounds == 0 || opening_time < ENOUGH && rounds < ROUNDS_MAX {
            let begun = cpu();
            for (message, envelope) in load.messages.iter().zip(&envelopes) {
                let opened = open(envelope, TOPIC, &self.ring).map_err(|error| failed(&error))?;
                if opened.plaintext != *message {
                    return Err(failed(&"gave back another message than it was given"));
                }
            }
            opening_time += cpu().saturating_sub(begun);
            rounds += 1;
        }
        Ok(Some(Row {
            suite,
            load: load.name.clone(),
            messages: load.messages.len() as u64,
            bytes_in: bytes_in as u64,
            bytes_sealed: envelopes.iter().map(|envelope| envelope.len() as u64).sum(),
            seal,
            open: opening_time / rounds,
        }))
    }

    fn recipients<'a>(&'a self, agreement: Agreement, key: &'a SymmetricKey) -> Vec<Recipient<'a>> {
        match agreement {
            Agreement::Shared => vec![Recipient::Shared(key)],
            Agreement::Ecc => vec![Recipient::Public(&self.curve)],
            Agreement::Rsa => vec![Recipient::Public(&self.rsa)],
            Agreement::Hybrid => vec![
                Recipient::Public(&self.curve),
                Recipient::Public(&self.second),
            ],
        }
    }
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or_default();
    Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds)
}

#[allow(
    clippy::cast_precision_loss,
    reason = "counts of bytes and messages, in 53 bits"
)]
impl Row {
    pub(super) fn seal_us(&self) -> f64 {
        self.seal.as_secs_f64() * 1e6 / self.messages.max(1) as f64
    }

    pub(super) fn open_us(&self) -> f64 {
        self.open.as_secs_f64() * 1e6 / self.messages.max(1) as f64
    }

    pub(super) fn seal_messages_per_s(&self) -> f64 {
        1e6 / self.seal_us().max(1e-3)
    }

    pub(super) fn open_messages_per_s(&self) -> f64 {
        1e6 / self.open_us().max(1e-3)
    }

    pub(super) fn seal_mb_per_s(&self) -> f64 {
        self.bytes_in as f64 / 1e6 / self.seal.as_secs_f64().max(1e-9)
    }

    pub(super) fn open_mb_per_s(&self) -> f64 {
        self.bytes_in as f64 / 1e6 / self.open.as_secs_f64().max(1e-9)
    }

    /// How many bytes longer a sealed message is.
    pub(super) fn overhead_bytes(&self) -> f64 {
        self.bytes_sealed.saturating_sub(self.bytes_in) as f64 / self.messages.max(1) as f64
    }
}

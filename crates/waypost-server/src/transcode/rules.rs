//! Which topics are transcoded, and into what: the policies as the coder needs them.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use waypost_compress::{Stages, zstd_dict};
use waypost_core::Policies;
use waypost_mqtt::Topic;

use super::accepted::Accepted;

/// What one `[[topic]]` says.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) filter: Arc<str>,
    pub(crate) transcode: Option<bool>,
    pub(crate) compress: Option<Stages>,
}

/// Filters are told apart by this.
const KEYS: BuildHasherDefault<DefaultHasher> = BuildHasherDefault::new();

/// How the server packs messages.
#[derive(Debug)]
pub(crate) struct Packing {
    pub(super) stages: Stages,
    /// What a client has to accept.
    pub(super) needs: Accepted,
    /// The filter of the policy that says so.
    pub(super) filter: Arc<str>,
    /// Its hash, for short.
    pub(super) key: u64,
    /// Whether it packs with dictionaries.
    pub(super) has_dictionaries: bool,
}

/// What holds for a topic whose messages are transcoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Coding<'a> {
    /// How they are packed for whoever accepts it.
    pub(super) pack: Option<&'a Arc<Packing>>,
}

/// Every policy's word on it.
#[derive(Debug, Default)]
pub(crate) struct Codings {
    policies: Arc<Policies>,
    rows: Vec<Row>,
    transcodes: bool,
    packs: bool,
}

#[derive(Debug)]
struct Row {
    transcode: Option<bool>,
    pack: Option<Pack>,
}

/// What a policy says of packing.
#[derive(Debug)]
enum Pack {
    /// Messages are not packed, whatever a less specific policy says.
    Not,
    By(Arc<Packing>),
}

impl Codings {
    /// `said` is of the same policies, in their order.
    pub(crate) fn new(policies: Arc<Policies>, said: Vec<Said>) -> Self {
        let rows: Vec<_> = said.into_iter().map(Row::from).collect();
        let transcodes = rows.iter().any(|row| row.transcode == Some(true));
        Self {
            policies,
            transcodes,
            packs: transcodes && rows.iter().any(|row| matches!(row.pack, Some(Pack::By(_)))),
            rows,
        }
    }

    /// Whether any topic's messages are.
    #[inline]
    pub(crate) fn transcodes(&self) -> bool {
        self.transcodes
    }

    /// Whether any are packed by the server.
    pub(super) fn packs(&self) -> bool {
        self.packs
    }

    /// `None`: messages with this topic are left as they are.
    pub(super) fn for_topic(&self, topic: &str) -> Option<Coding<'_>> {
        let topic = Topic::parse(topic).ok()?;
        let transcode = |number: usize| self.rows.get(number)?.transcode;
        if !self.policies.first(topic, transcode)? {
            return None;
        }
        let pack = |number: usize| self.rows.get(number)?.pack.as_ref();
        let pack = self.packs.then(|| self.policies.first(topic, pack));
        let pack = match pack.flatten() {
            Some(Pack::By(packing)) => Some(packing),
            Some(Pack::Not) | None => None,
        };
        Some(Coding { pack })
    }
}

impl From<Said> for Row {
    fn from(said: Said) -> Self {
        let filter = said.filter;
        let pack = |stages: Stages| {
            // Identity packs nothing.
            let is_packing = stages.strategies().iter().any(|one| one.name != "identity");
            let has_dictionaries = |stages: &Stages| {
                let mut names = stages.strategies().iter().map(|one| one.name);
                names.any(|name| name == zstd_dict::NAME)
            };
            match Accepted::of(&stages) {
                Some(needs) if is_packing => Pack::By(Arc::new(Packing {
                    needs,
                    key: KEYS.hash_one(&filter),
                    has_dictionaries: has_dictionaries(&stages),
                    stages,
                    filter,
                })),
                _ => Pack::Not,
            }
        };
        Self {
            transcode: said.transcode,
            pack: said.compress.map(pack),
        }
    }
}

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
pub(super) struct Packing {
    pub(super) by: By,
    /// The filter of the policy that says so.
    pub(super) filter: Arc<str>,
    /// Its hash, for short.
    pub(super) key: u64,
    /// Whether it packs with dictionaries.
    pub(super) has_dictionaries: bool,
}

/// What packs them.
#[derive(Debug)]
pub(super) enum By {
    /// These stages, for whoever accepts all of them.
    Stages { stages: Stages, needs: Accepted },
    /// What costs least of what somebody accepts.
    Auto,
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
    learns: bool,
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
            learns: transcodes && rows.iter().any(Row::has_dictionaries),
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

    /// Whether any are packed with dictionaries.
    #[inline]
    pub(super) fn learns(&self) -> bool {
        self.learns
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

impl Row {
    fn has_dictionaries(&self) -> bool {
        matches!(&self.pack, Some(Pack::By(packing)) if packing.has_dictionaries)
    }
}

impl From<Said> for Row {
    fn from(said: Said) -> Self {
        let filter = said.filter;
        let pack = |stages: Stages| {
            let has = |name: &str| stages.strategies().iter().any(|one| one.name == name);
            let is_auto = has("auto");
            let has_dictionaries = is_auto || has(zstd_dict::NAME);
            let by = match Accepted::of(&stages) {
                // Identity packs nothing.
                _ if has("identity") => None,
                _ if is_auto => Some(By::Auto),
                Some(needs) => Some(By::Stages { stages, needs }),
                None => None,
            };
            by.map_or(Pack::Not, |by| {
                Pack::By(Arc::new(Packing {
                    key: KEYS.hash_one(&filter),
                    by,
                    has_dictionaries,
                    filter,
                }))
            })
        };
        Self {
            transcode: said.transcode,
            pack: said.compress.map(pack),
        }
    }
}

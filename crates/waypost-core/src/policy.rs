//! What the configuration says about topics: the policies of `[[topic]]`, the most specific filter first, key by key.
//!
//! A filter is more specific than another where, level by level from the left, a literal stands for `+` and `+` for `#`.
//! What holds for a topic, or for a group's filter, is looked for in the policies that cover all of it, the most
//! specific first, until every key is found. Two filters that cover the same topic tie only if they are identical, and
//! then they may not disagree.
//!
//! The walk of a [`FilterTree`] meets what covers a topic in just that order, so that a look-up sorts nothing. Not here: where the policies were written, and what each key makes happen.

use std::ops::ControlFlow;
use std::sync::Arc;

use thiserror::Error;
use waypost_balance::Strategy;
use waypost_mqtt::{Filter, Topic};

use crate::filter_tree::FilterTree;
use crate::journal::Until;
use crate::seal::Seal;

/// What holds for one topic or for one group's filter, every key resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How a group's messages are shared out.
    pub balance: &'static Strategy,
    /// How often a group tries to deliver one message before it gives it up; 0 = for ever.
    pub max_deliveries: u32,
    /// What an acknowledgement of a message means.
    pub durability: Durability,
    /// Where a message goes that cannot be delivered; `None`: nowhere.
    pub dead_letter: Option<Arc<str>>,
    /// Whether messages are sealed end to end.
    pub seal: Seal,
}

/// What an acknowledgement means for those who are owed the message later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// It is on disk.
    #[default]
    Sync,
    /// It is with the operating system: a crash of the machine may lose it, one of the process does not.
    Os,
    /// It is in memory.
    Memory,
}

impl Durability {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sync, Self::Os, Self::Memory];

    /// As the configuration writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Os => "os",
            Self::Memory => "memory",
        }
    }

    /// How far a transaction has to come before the publisher is answered; `None`: there is none.
    pub(crate) fn until(self) -> Option<Until> {
        match self {
            Self::Sync => Some(Until::Durable),
            Self::Os => Some(Until::Written),
            Self::Memory => None,
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            balance: waypost_balance::default_strategy(),
            max_deliveries: 0,
            durability: Durability::default(),
            dead_letter: None,
            seal: Seal::default(),
        }
    }
}

/// One `[[topic]]`: what it says, and nothing of what it leaves out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicPolicy {
    /// The topics it is for: a valid Topic Filter.
    pub filter: String,
    /// See [`Policy::balance`].
    pub balance: Option<&'static Strategy>,
    /// See [`Policy::max_deliveries`].
    pub max_deliveries: Option<u32>,
    /// See [`Policy::durability`].
    pub durability: Option<Durability>,
    /// See [`Policy::dead_letter`]: a valid Topic Name, or nothing, where a less specific policy is not to hold.
    pub dead_letter: Option<Arc<str>>,
    /// See [`Policy::seal`].
    pub seal: Option<Seal>,
}

/// Why a list of policies cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PolicyError {
    /// Two policies with the same filter say different things.
    #[error("{key} differs between two policies for the same filter")]
    Conflict {
        /// The places of both in the list.
        policies: (usize, usize),
        /// What they disagree about.
        key: &'static str,
    },
    /// A filter with more than [`LEVELS_MAX`] levels.
    #[error("the filter has more than {LEVELS_MAX} levels")]
    TooManyLevels {
        /// Its place in the list.
        policy: usize,
    },
}

/// Levels the filter of a policy may have.
pub const LEVELS_MAX: usize = 128;

/// Every policy of the configuration, for look-ups by topic and by filter.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    rows: Vec<TopicPolicy>,
    filters: FilterTree,
    has_dead_letters: bool,
    has_seals: bool,
}

/// The policies by number, where they stand in the list they were made from, that gave each key; `None`: the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Who gave [`Policy::balance`].
    pub balance: Option<usize>,
    /// Who gave [`Policy::max_deliveries`].
    pub max_deliveries: Option<usize>,
    /// Who gave [`Policy::durability`].
    pub durability: Option<usize>,
    /// Who gave [`Policy::dead_letter`].
    pub dead_letter: Option<usize>,
    /// Who gave [`Policy::seal`].
    pub seal: Option<usize>,
}

impl Policies {
    /// Takes the policies in any order. All that is wrong with them is told.
    pub fn new(policies: Vec<TopicPolicy>) -> Result<Self, Vec<PolicyError>> {
        let mut filters = FilterTree::default();
        let mut errors = Vec::new();
        for (number, policy) in policies.iter().enumerate() {
            let filter = Filter::from_validated(&policy.filter);
            if filter.levels().count() > LEVELS_MAX {
                errors.push(PolicyError::TooManyLevels { policy: number });
                continue;
            }
            let twins = filters.place(filter);
            // Who agrees with the first that says something agrees with all that agree with it.
            let disagreements = [
                (
                    "balance",
                    disagrees(policy, twins, &policies, |said| said.balance),
                ),
                (
                    "max_deliveries",
                    disagrees(policy, twins, &policies, |said| said.max_deliveries),
                ),
                (
                    "durability",
                    disagrees(policy, twins, &policies, |said| said.durability),
                ),
                (
                    "dead_letter",
                    disagrees(policy, twins, &policies, |said| said.dead_letter.clone()),
                ),
                (
                    "seal",
                    disagrees(policy, twins, &policies, |said| said.seal),
                ),
            ];
            errors.extend(disagreements.into_iter().filter_map(|(key, first)| {
                let policies = (first?, number);
                Some(PolicyError::Conflict { policies, key })
            }));
            twins.push(number);
        }
        if errors.is_empty() {
            Ok(Self {
                has_dead_letters: policies.iter().any(|policy| policy.dead_letter.is_some()),
                has_seals: policies.iter().any(|policy| policy.seal.is_some()),
                rows: policies,
                filters,
            })
        } else {
            Err(errors)
        }
    }

    /// What holds for a group with this filter: the policies whose filters cover all of it.
    pub fn for_filter(&self, filter: Filter<'_>) -> Policy {
        self.resolve(filter.levels()).0
    }

    /// What holds for a message with this topic.
    pub fn for_topic(&self, topic: Topic<'_>) -> Policy {
        self.resolve(topic.levels()).0
    }

    /// What holds for a group with this filter, and which policies say so. A topic is a filter too.
    pub fn explain(&self, filter: Filter<'_>) -> (Policy, Sources) {
        self.resolve(filter.levels())
    }

    /// The policies whose filters cover all of this one, by number, the most specific first.
    pub fn covering(&self, filter: Filter<'_>) -> Vec<usize> {
        let mut covering = Vec::new();
        let _ = self.filters.covering(filter.levels(), &mut |number| {
            covering.push(number);
            ControlFlow::Continue(())
        });
        covering
    }

    /// Where a message with this topic goes that a session is owed and cannot be delivered.
    pub(crate) fn dead_letter_of(&self, topic: &str) -> Option<Arc<str>> {
        if !self.has_dead_letters {
            return None;
        }
        self.for_topic(Topic::parse(topic).ok()?).dead_letter
    }

    /// Whether any policy says where dead letters go.
    pub(crate) fn has_dead_letters(&self) -> bool {
        self.has_dead_letters
    }

    /// Whether any policy says whether messages are sealed.
    #[inline]
    pub(crate) fn has_seals(&self) -> bool {
        self.has_seals
    }

    /// Whether messages with this topic are sealed, and the policy that says so; `None`: none does.
    pub(crate) fn seal_of(&self, topic: Topic<'_>) -> Option<(Seal, usize)> {
        self.first(topic, |number| Some((self.rows.get(number)?.seal?, number)))
    }

    /// What the most specific policy says that covers a topic and says anything, by its number.
    pub fn first<T>(
        &self,
        topic: Topic<'_>,
        mut said: impl FnMut(usize) -> Option<T>,
    ) -> Option<T> {
        let mut found = None;
        let _ = self.filters.covering(topic.levels(), &mut |number| {
            found = said(number);
            if found.is_some() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        found
    }

    /// The filter of a policy, if that is what it says.
    pub(crate) fn filter_that_says(&self, seal: Seal, number: usize) -> Option<&str> {
        let said = self.rows.get(number)?;
        (said.seal == Some(seal)).then_some(&said.filter)
    }

    fn resolve<'a>(&self, levels: impl Iterator<Item = &'a str> + Clone) -> (Policy, Sources) {
        let mut policy = Policy::default();
        let mut sources = Sources::default();
        // It ends early as soon as nothing is left to find.
        let _ = self.filters.covering(levels, &mut |number| {
            if let Some(said) = self.rows.get(number) {
                take(
                    said.balance,
                    number,
                    &mut policy.balance,
                    &mut sources.balance,
                );
                let (value, source) = (&mut policy.max_deliveries, &mut sources.max_deliveries);
                take(said.max_deliveries, number, value, source);
                let (value, source) = (&mut policy.durability, &mut sources.durability);
                take(said.durability, number, value, source);
                take(said.seal, number, &mut policy.seal, &mut sources.seal);
                // The text itself is taken at the end, once.
                if said.dead_letter.is_some() {
                    sources.dead_letter.get_or_insert(number);
                }
            }
            if sources.balance.is_some()
                && sources.max_deliveries.is_some()
                && sources.durability.is_some()
                && (sources.dead_letter.is_some() || !self.has_dead_letters)
                && (sources.seal.is_some() || !self.has_seals)
            {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        let dead_letter = sources.dead_letter.and_then(|number| self.rows.get(number));
        let dead_letter = dead_letter.and_then(|said| said.dead_letter.clone());
        policy.dead_letter = dead_letter.filter(|topic| !topic.is_empty());
        (policy, sources)
    }
}

/// Takes what a policy says about a key that no more specific one has said anything about.
fn take<T>(said: Option<T>, number: usize, value: &mut T, source: &mut Option<usize>) {
    if let (Some(said), None) = (said, &source) {
        *value = said;
        *source = Some(number);
    }
}

/// The first of the policies with the same filter that says something about that key, if it is something else.
fn disagrees<T: PartialEq>(
    policy: &TopicPolicy,
    twins: &[usize],
    policies: &[TopicPolicy],
    key: impl Fn(&TopicPolicy) -> Option<T>,
) -> Option<usize> {
    let said = key(policy)?;
    let mut others = twins
        .iter()
        .filter_map(|twin| Some((*twin, key(policies.get(*twin)?)?)));
    let (first, other) = others.next()?;
    (other != said).then_some(first)
}

#[cfg(test)]
mod tests;

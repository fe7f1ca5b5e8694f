//! What a shard tells the others it wants: for a filter nothing, what goes to whoever is there, or also what somebody who
//! outlives the process is owed.

use waypost_mqtt::{Filter, QoS, SubscriptionOptions};

use crate::broker::Broker;
use crate::effects::{Effects, ShardId};
use crate::index::{FilterId, SubscriberId, Subscription};

/// What a shard has for subscribers to a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// None.
    No,
    /// Only such as end with the process.
    Live,
    /// Also such as outlive it: whoever publishes asks them before it acknowledges.
    Durable,
}

impl Wanted {
    pub fn to_byte(self) -> u8 {
        match self {
            Self::No => 0,
            Self::Live => 1,
            Self::Durable => 2,
        }
    }

    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::No, Self::Live, Self::Durable]
            .into_iter()
            .find(|wanted| wanted.to_byte() == byte)
    }

    /// In the index, where what matches is merged: the highest says whether to ask.
    fn qos(self) -> QoS {
        if self == Self::Durable {
            QoS::AtLeastOnce
        } else {
            QoS::AtMostOnce
        }
    }
}

impl Broker {
    /// A subscription was added.
    pub(crate) fn interest_gained(
        &mut self,
        filter: Filter<'_>,
        filter_id: FilterId,
        is_durable: bool,
        out: &mut impl Effects,
    ) {
        if self.shards == 1 {
            return;
        }
        if is_durable {
            let count = self.interest.durable.entry(filter_id.number()).or_default();
            *count += 1;
            if *count == 1 {
                self.tell_interest(filter.as_str(), filter_id, Wanted::Durable, out);
            }
        } else if self.index.has_one_local(filter_id) {
            self.tell_interest(filter.as_str(), filter_id, Wanted::Live, out);
        }
    }

    /// A subscription is about to be removed.
    pub(crate) fn interest_ends(
        &mut self,
        filter_id: FilterId,
        is_durable: bool,
        out: &mut impl Effects,
    ) {
        if self.shards == 1 {
            return;
        }
        let is_last_durable = is_durable && self.count_durable_less(filter_id);
        let wanted = if self.index.has_one_local(filter_id) {
            Wanted::No
        } else if is_last_durable {
            Wanted::Live
        } else {
            return;
        };
        let filter = self.index.filter_string(filter_id);
        self.tell_interest(&filter, filter_id, wanted, out);
    }

    /// Whether that was the last one.
    fn count_durable_less(&mut self, filter_id: FilterId) -> bool {
        let Some(count) = self.interest.durable.get_mut(&filter_id.number()) else {
            return false;
        };
        *count -= 1;
        let is_last = *count == 0;
        if is_last {
            self.interest.durable.remove(&filter_id.number());
        }
        is_last
    }

    /// A subscriber that was here all the time outlives the process from now on, or does so no more.
    pub(crate) fn interest_lasts(
        &mut self,
        filter_id: FilterId,
        is_durable: bool,
        out: &mut impl Effects,
    ) {
        if self.shards == 1 {
            return;
        }
        let wanted = if is_durable {
            let count = self.interest.durable.entry(filter_id.number()).or_default();
            *count += 1;
            (*count == 1).then_some(Wanted::Durable)
        } else {
            let is_last = self.count_durable_less(filter_id);
            is_last.then_some(Wanted::Live)
        };
        if let Some(wanted) = wanted {
            let filter = self.index.filter_string(filter_id);
            self.tell_interest(&filter, filter_id, wanted, out);
        }
    }

    fn tell_interest(
        &mut self,
        filter: &str,
        filter_id: FilterId,
        wanted: Wanted,
        out: &mut impl Effects,
    ) {
        self.interest.told = self.interest.told.wrapping_add(1);
        for shard in self.others() {
            let mailbox = out.mailbox(shard);
            mailbox.push_interest(filter, filter_id, wanted);
        }
    }

    /// Another shard's interest changed.
    pub(crate) fn hear_interest(
        &mut self,
        from: ShardId,
        filter: &str,
        filter_id: FilterId,
        wanted: Wanted,
    ) {
        if let Some(heard) = self.interest.heard.get_mut(usize::from(from.0)) {
            *heard = heard.wrapping_add(1);
        }
        let Ok(filter) = Filter::parse(filter) else {
            return;
        };
        let subscriber = SubscriberId::of_shard(from.0);
        if wanted != Wanted::No {
            let subscription = Subscription {
                options: SubscriptionOptions {
                    qos: wanted.qos(),
                    ..SubscriptionOptions::default()
                },
                identifier: filter_id.number(),
            };
            let (_, replaced) = self.index.insert(filter, subscriber, subscription);
            self.interest.remote += usize::from(replaced.is_none());
        } else if let Some(found) = self.index.find(filter) {
            let removed = self.index.remove(found, subscriber);
            self.interest.remote -= usize::from(removed.is_some());
        }
    }
}

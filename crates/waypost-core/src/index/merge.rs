//! From the subscriptions that match a topic to what each subscriber gets: one copy.

use waypost_mqtt::QoS;

use super::trie::SCRATCH_KEPT;
use super::{Matched, SubscriberId};

/// What one subscriber gets of a message, whatever the number of its subscriptions that match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Merged {
    /// Who gets it.
    pub subscriber: SubscriberId,
    /// Where its Subscription Identifiers begin in [`CachedMatch::identifiers`].
    pub identifiers_start: u32,
    /// How many there are. One subscriber's matching subscriptions beyond 65,535 keep their QoS, not their identifier.
    pub identifiers_len: u16,
    /// Maximum QoS, Retain As Published, No Local.
    pub flags: MergedFlags,
}

const _: () = assert!(size_of::<Merged>() == 12, "five to a cache line");

/// The options of the merged subscriptions, in one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergedFlags(u8);

impl MergedFlags {
    const QOS: u8 = 0b0011;
    const RETAIN_AS_PUBLISHED: u8 = 0b0100;
    const NO_LOCAL: u8 = 0b1000;
    const NO_LOCAL_SOME: u8 = 0b1_0000;

    /// The highest QoS of the subscriptions.
    // [MQTT-3.3.4-2]: the message is delivered respecting the maximum QoS of all matching subscriptions.
    #[inline]
    pub const fn qos(self) -> QoS {
        match self.0 & Self::QOS {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        }
    }

    /// Whether any of the subscriptions has Retain As Published.
    #[inline]
    pub const fn retain_as_published(self) -> bool {
        self.0 & Self::RETAIN_AS_PUBLISHED != 0
    }

    /// Whether any of the subscriptions has No Local: if the subscriber is the publisher, what it gets is answered by
    /// [`CachedMatch::for_publisher`]; for everybody else it makes no difference.
    #[inline]
    pub const fn no_local(self) -> bool {
        self.0 & (Self::NO_LOCAL | Self::NO_LOCAL_SOME) != 0
    }
}

/// Who gets the messages on one topic.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CachedMatch {
    /// One per subscriber, ascending: sessions, then groups, then other shards; then once more those that have No Local
    /// in some of their matching subscriptions, merged from the others only.
    list: Box<[Merged]>,
    sessions: u32,
    locals: u32,
    subscribers: u32,
    identifiers: Box<[u32]>,
}

impl CachedMatch {
    /// One entry per session, ascending by subscriber.
    #[inline]
    pub fn merged(&self) -> &[Merged] {
        self.list.get(..self.sessions as usize).unwrap_or_default()
    }

    /// One entry per group of this shard, ascending.
    #[inline]
    pub fn groups(&self) -> &[Merged] {
        self.list
            .get(self.sessions as usize..self.locals as usize)
            .unwrap_or_default()
    }

    /// One entry per other shard, ascending. Their identifiers are filters of that shard.
    #[inline]
    pub fn shards(&self) -> &[Merged] {
        self.list
            .get(self.locals as usize..self.subscribers as usize)
            .unwrap_or_default()
    }

    /// Whether nobody gets it, here or on another shard.
    pub fn is_empty(&self) -> bool {
        self.subscribers == 0
    }

    /// The Subscription Identifiers of all entries, one range each.
    #[inline]
    pub fn identifiers(&self) -> &[u32] {
        &self.identifiers
    }

    /// The Subscription Identifiers of one entry.
    #[inline]
    pub fn identifiers_of(&self, merged: Merged) -> &[u32] {
        let start = merged.identifiers_start as usize;
        self.identifiers
            .get(start..start + usize::from(merged.identifiers_len))
            .unwrap_or_default()
    }

    /// What the publisher itself gets when this entry is its own: what its subscriptions without No Local ask for.
    // [MQTT-3.8.3-3]: with No Local, messages are not forwarded to the connection that published them.
    #[inline]
    pub fn for_publisher(&self, merged: Merged) -> Option<Merged> {
        if !merged.flags.no_local() {
            return Some(merged);
        }
        let mixed = self.list.get(self.subscribers as usize..)?;
        let position = mixed
            .binary_search_by_key(&merged.subscriber, |entry| entry.subscriber)
            .ok()?;
        mixed.get(position).copied()
    }

    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.list) + size_of_val(&*self.identifiers)
    }
}

/// Memory to merge in, used again and again.
#[derive(Default)]
pub(super) struct Merge {
    list: Vec<Merged>,
    mixed: Vec<Merged>,
    identifiers: Vec<u32>,
}

impl Merge {
    /// Merges what matches a topic, ordered by subscriber.
    pub(super) fn merge(&mut self, matched: &[Matched]) -> CachedMatch {
        self.list.clear();
        self.mixed.clear();
        self.identifiers.clear();
        for of_one in matched.chunk_by(|a, b| a.subscriber == b.subscriber) {
            let mut merged = self.one(of_one.iter());
            let local = of_one
                .iter()
                .filter(|matched| !matched.subscription.options.no_local);
            match local.clone().count() {
                count if count == of_one.len() => {}
                0 => merged.flags.0 |= MergedFlags::NO_LOCAL,
                _ => {
                    merged.flags.0 |= MergedFlags::NO_LOCAL_SOME;
                    let for_publisher = self.one(local);
                    self.mixed.push(for_publisher);
                }
            }
            self.list.push(merged);
        }
        let sessions = self
            .list
            .partition_point(|merged| merged.subscriber.is_session());
        let locals = self
            .list
            .partition_point(|merged| merged.subscriber.is_local());
        let [sessions, locals, subscribers] = [sessions, locals, self.list.len()]
            .map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        self.list.append(&mut self.mixed);
        CachedMatch {
            list: self.list.as_slice().into(),
            sessions,
            locals,
            subscribers,
            identifiers: self.identifiers.as_slice().into(),
        }
    }

    /// Gives back what only an unusually large match needs.
    pub(super) fn trim(&mut self) {
        self.list.clear();
        self.list.shrink_to(SCRATCH_KEPT);
        self.mixed.shrink_to(SCRATCH_KEPT);
        self.identifiers.clear();
        self.identifiers.shrink_to(SCRATCH_KEPT);
    }

    fn one<'a>(&mut self, of_one: impl Iterator<Item = &'a Matched>) -> Merged {
        let start = self.identifiers.len();
        let mut subscriber = SubscriberId(0);
        let mut flags = 0;
        for matched in of_one {
            subscriber = matched.subscriber;
            let options = matched.subscription.options;
            flags =
                (flags & !MergedFlags::QOS) | (flags & MergedFlags::QOS).max(options.qos.into());
            if options.retain_as_published {
                flags |= MergedFlags::RETAIN_AS_PUBLISHED;
            }
            // [MQTT-3.3.4-3], [MQTT-3.3.4-4]: a single copy carries the identifiers of all matching subscriptions
            // that have one; the same may come more than once.
            if matched.subscription.identifier != 0
                && self.identifiers.len() - start < usize::from(u16::MAX)
            {
                self.identifiers.push(matched.subscription.identifier);
            }
        }
        Merged {
            subscriber,
            identifiers_start: u32::try_from(start).unwrap_or(u32::MAX),
            identifiers_len: u16::try_from(self.identifiers.len() - start).unwrap_or(u16::MAX),
            flags: MergedFlags(flags),
        }
    }
}

#[cfg(test)]
mod tests {
    use waypost_mqtt::{QoS, RetainHandling, SubscriptionOptions};

    use super::*;
    use crate::index::Subscription;

    fn matched(
        subscriber: u32,
        qos: QoS,
        no_local: bool,
        retain_as_published: bool,
        identifier: u32,
    ) -> Matched {
        let retain_handling = RetainHandling::SendAtSubscribe;
        let options = SubscriptionOptions {
            qos,
            no_local,
            retain_as_published,
            retain_handling,
        };
        Matched {
            subscriber: SubscriberId(subscriber),
            subscription: Subscription {
                options,
                identifier,
            },
        }
    }

    #[test]
    fn one_copy_has_the_highest_qos_and_all_identifiers() {
        let merged = Merge::default().merge(&[
            matched(3, QoS::AtLeastOnce, false, false, 7),
            matched(3, QoS::ExactlyOnce, false, true, 0),
            matched(3, QoS::AtMostOnce, false, false, 7),
            matched(9, QoS::AtMostOnce, false, false, 5),
        ]);
        let [three, nine] = merged.merged() else {
            panic!("two subscribers")
        };
        assert_eq!(
            (three.subscriber, three.flags.qos()),
            (SubscriberId(3), QoS::ExactlyOnce)
        );
        assert!(three.flags.retain_as_published() && !nine.flags.retain_as_published());
        assert_eq!(merged.identifiers_of(*three), [7, 7]);
        assert_eq!(merged.identifiers_of(*nine), [5]);
        assert_eq!(merged.for_publisher(*three), Some(*three));
    }

    #[test]
    fn the_publisher_gets_what_its_subscriptions_without_no_local_ask_for() {
        let merged = Merge::default().merge(&[
            matched(1, QoS::ExactlyOnce, true, true, 4),
            matched(2, QoS::ExactlyOnce, true, true, 4),
            matched(2, QoS::AtLeastOnce, false, false, 6),
            matched(3, QoS::AtLeastOnce, false, false, 8),
        ]);
        let [one, two, three] = merged.merged() else {
            panic!("three subscribers")
        };
        assert!(one.flags.no_local() && two.flags.no_local() && !three.flags.no_local());
        assert_eq!(merged.for_publisher(*one), None);
        let own = merged.for_publisher(*two).unwrap();
        assert_eq!(
            (own.flags.qos(), own.flags.retain_as_published()),
            (QoS::AtLeastOnce, false)
        );
        assert_eq!(merged.identifiers_of(own), [6]);
        assert_eq!(two.flags.qos(), QoS::ExactlyOnce);
        assert_eq!(merged.identifiers_of(*two), [4, 6]);
    }

    #[test]
    fn identifiers_of_one_subscriber_are_bounded() {
        for (count, kept) in [(65_535, 65_535), (65_536, 65_535), (131_072, 65_535)] {
            let mut all = vec![matched(1, QoS::AtMostOnce, false, false, 1); count];
            all.push(matched(1, QoS::ExactlyOnce, false, false, 2));
            all.push(matched(2, QoS::AtMostOnce, false, false, 3));
            let merged = Merge::default().merge(&all);
            let [one, two] = merged.merged() else {
                panic!("two subscribers")
            };
            assert_eq!(one.flags.qos(), QoS::ExactlyOnce);
            assert_eq!(merged.identifiers_of(*one).len(), kept);
            assert_eq!(merged.identifiers_of(*two), [3]);
        }
    }
}

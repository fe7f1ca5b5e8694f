//! What is told of messages that a group gave up: `$events/group/dropped`, as JSON, and a counter for each reason.

use std::fmt::Write as _;
use std::rc::Rc;

use waypost_mqtt::Filter;

use super::group_of;
use super::message::{Dropped, Given};
use crate::broker::Broker;
use crate::dead::{Cause, DeadLetter};
use crate::effects::{Effects, Now};
use crate::events::push_string;
use crate::unsettled::Settled;

/// Where it is told.
const DROPPED_TOPIC: &str = "$events/group/dropped";

impl Broker {
    /// Counts and tells of what was dropped.
    pub(super) fn tell_dropped(&mut self, now: Now, out: &mut impl Effects) {
        while !self.groups.news.is_empty() {
            for (slot, dropped) in std::mem::take(&mut self.groups.news) {
                if self.bury_for_group(slot, &dropped) {
                    self.count_drop(dropped.reason);
                    continue;
                }
                self.settle_for_group(slot, dropped.waiting.debt, out);
                let filter = self.groups.get(slot).map(|group| group.filter.clone());
                self.tell_of_drop(filter.as_deref(), &dropped, now, out);
            }
        }
    }

    fn count_drop(&mut self, reason: Given) -> &'static str {
        let counters = &mut self.counters;
        let (counter, reason) = match reason {
            Given::Refused => (&mut counters.group_dropped_refused, "refused"),
            Given::TooLarge => (&mut counters.group_dropped_too_large, "refused"),
            Given::MaxDeliveries => (&mut counters.group_dropped_max_deliveries, "max-deliveries"),
            Given::QueueFull => (&mut counters.group_dropped_queue_full, "queue-full"),
            Given::Expired => (&mut counters.group_dropped_expired, "expired"),
            Given::SessionEnded => (&mut counters.group_dropped_session_ended, "session-ended"),
        };
        *counter += 1;
        reason
    }

    /// Buries what a group gave up, if its policy says where. `false`: it is dropped.
    fn bury_for_group(&mut self, slot: u32, dropped: &Dropped) -> bool {
        let Some(cause) = cause_of(dropped) else {
            return false;
        };
        let waiting = &dropped.waiting;
        let topic = self.groups.get(slot).and_then(|group| group.dead_letter());
        let Some(topic) = topic.cloned() else {
            return false;
        };
        let letter = DeadLetter {
            topic,
            message: Rc::clone(&waiting.message),
            qos: waiting.qos,
            cause,
            deliveries: waiting.deliveries,
        };
        let queue = self.groups.number_of(slot);
        let Some((queue, id)) = queue.zip(waiting.debt) else {
            return self.bury(Some(letter));
        };
        let settled = Settled {
            queue,
            id,
            packet_id: None,
        };
        let is_logged = !self.groups.unlogged.is_unlogged(queue, id);
        let Self {
            dead,
            limits,
            counters,
            ..
        } = self;
        if !dead.add(letter, Some((settled, is_logged)), limits, counters) {
            return false;
        }
        self.done_at_group(slot, id);
        true
    }

    /// Counts and tells of one that a group of this filter dropped.
    pub(super) fn tell_of_drop(
        &mut self,
        filter: Option<&str>,
        dropped: &Dropped,
        now: Now,
        out: &mut impl Effects,
    ) {
        let reason = self.count_drop(dropped.reason);
        // What is told of them is not told of again.
        let topic = dropped.waiting.message.topic();
        if topic == DROPPED_TOPIC || !self.is_wanted(DROPPED_TOPIC) {
            return;
        }
        if let Some(filter) = filter {
            let json = json(filter, dropped, reason, now);
            self.tell(DROPPED_TOPIC, &json, now, out);
        }
    }
}

/// Why a message died; `None`: its group ended, and nobody wants it any more.
fn cause_of(dropped: &Dropped) -> Option<Cause> {
    match dropped.reason {
        Given::Refused | Given::TooLarge => Some(Cause::Refused),
        Given::MaxDeliveries => Some(Cause::MaxDeliveries),
        Given::QueueFull => Some(Cause::QueueFull),
        Given::Expired => Some(Cause::Expired),
        // 5 [MQTT-4.8.2-5]: it was this member's alone, and had all the deliveries it may have.
        Given::SessionEnded => dropped.client_id.is_some().then_some(Cause::MaxDeliveries),
    }
}

fn json(filter: &str, dropped: &Dropped, reason: &str, now: Now) -> String {
    let parts = Filter::parse(filter).ok().and_then(group_of);
    let (group, inner) = match parts {
        Some(Ok((group, inner))) => (group, inner.as_str()),
        _ => ("", filter),
    };
    let mut json = String::with_capacity(256);
    let _ = write!(json, "{{\"time_ms\":{},\"group\":", now.wall_ms);
    push_string(&mut json, group);
    json.push_str(",\"filter\":");
    push_string(&mut json, inner);
    json.push_str(",\"topic\":");
    push_string(&mut json, dropped.waiting.message.topic());
    json.push_str(",\"client_id\":");
    match &dropped.client_id {
        Some(client_id) => push_string(&mut json, client_id),
        None => json.push_str("null"),
    }
    let deliveries = dropped.waiting.deliveries;
    let _ = write!(
        json,
        ",\"reason\":\"{reason}\",\"deliveries\":{deliveries}}}"
    );
    json
}

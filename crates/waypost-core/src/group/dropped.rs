//! What is told of messages that a group gave up: `$events/group/dropped`, as JSON, and a counter for each reason.

use std::fmt::Write as _;

use waypost_mqtt::Filter;

use super::group_of;
use super::message::{Dropped, Given};
use crate::broker::Broker;
use crate::effects::{Effects, Now};
use crate::events::push_string;

/// Where it is told.
const DROPPED_TOPIC: &str = "$events/group/dropped";

impl Broker {
    /// Counts and tells of what was dropped.
    pub(super) fn tell_dropped(&mut self, now: Now, out: &mut impl Effects) {
        while !self.groups.news.is_empty() {
            for (slot, dropped) in std::mem::take(&mut self.groups.news) {
                self.settle_for_group(slot, dropped.waiting.debt, out);
                let filter = self.groups.get(slot).map(|group| group.filter.clone());
                self.tell_of_drop(filter.as_deref(), &dropped, now, out);
            }
        }
    }

    /// Counts and tells of one that a group of this filter dropped.
    pub(super) fn tell_of_drop(
        &mut self,
        filter: Option<&str>,
        dropped: &Dropped,
        now: Now,
        out: &mut impl Effects,
    ) {
        let counters = &mut self.counters;
        let (counter, reason) = match dropped.reason {
            Given::Refused => (&mut counters.group_dropped_refused, "refused"),
            Given::TooLarge => (&mut counters.group_dropped_too_large, "refused"),
            Given::MaxDeliveries => (&mut counters.group_dropped_max_deliveries, "max-deliveries"),
            Given::QueueFull => (&mut counters.group_dropped_queue_full, "queue-full"),
            Given::Expired => (&mut counters.group_dropped_expired, "expired"),
            Given::SessionEnded => (&mut counters.group_dropped_session_ended, "session-ended"),
        };
        *counter += 1;
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

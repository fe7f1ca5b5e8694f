//! The strategies, one file each.

mod hash_client;
mod hash_topic;
mod ip_hash;
mod least_connections;
mod least_latency;
mod local_least_connections;
mod ordered;
mod power_of_two;
mod random;
mod rendezvous;
mod round_robin;
mod source_ip_hash;
mod sticky;
#[cfg(test)]
pub(crate) mod testing;
mod weighted_round_robin;

use crate::Strategy;

/// The strategy where nobody chose one: it needs nothing to be told, follows members that slow down, and honours weights.
pub fn default_strategy() -> &'static Strategy {
    &least_connections::STRATEGY
}

/// Every balance strategy there is.
pub fn registry() -> &'static [Strategy] {
    &[
        round_robin::STRATEGY,
        weighted_round_robin::STRATEGY,
        least_connections::STRATEGY,
        local_least_connections::STRATEGY,
        least_latency::STRATEGY,
        random::STRATEGY,
        power_of_two::STRATEGY,
        ip_hash::STRATEGY,
        source_ip_hash::STRATEGY,
        hash_topic::STRATEGY,
        hash_client::STRATEGY,
        sticky::STRATEGY,
        ordered::STRATEGY,
    ]
}

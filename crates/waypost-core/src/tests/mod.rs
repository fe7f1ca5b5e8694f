//! The broker as its clients see it. Every test runs real brokers in a [`world::World`].

mod basic;
mod beginnings;
mod dead_letters;
mod delayed;
mod delayed_refusals;
mod disk_store;
mod durable_asks;
mod durable_groups;
mod durable_promises;
mod durable_publish;
mod durable_refusals;
mod durable_restart;
mod durable_sessions;
mod flow;
mod group_promises;
mod promises;
mod properties;
mod retained;
mod rules;
mod sessions;
mod shards;
mod sharing;
mod store;
mod subscriptions;
mod wills;
mod world;

//! The broker of one shard, sans-I/O: sessions, topic index, retained messages, timers.
//!
//! What happens on the network comes in through `Broker::handle_*`; what is to happen goes out through [`Effects`].
//! Time comes in as [`Now`], randomness from the seed in [`BrokerConfig`]. Deliberately not here: sockets, files,
//! clocks, threads, the encoding of packets, users and their rules ([`Permit`], [`Authenticate`]).
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

mod alias;
mod arrivals;
mod auth;
mod broker;
mod calendar;
mod census;
mod clock;
mod close;
mod connect;
mod connection;
mod counters;
mod cursor;
mod dead;
mod debtor;
mod debts;
mod delayed;
mod deliver;
mod effects;
mod events;
mod exactly_once;
mod filter_tree;
mod flow;
mod fresh;
mod group;
mod hash;
mod held;
mod held_counts;
mod history;
pub mod index;
mod inflight;
mod interest;
pub mod journal;
mod keep;
mod kept_session;
mod limits;
mod mail;
mod moving;
mod orphans;
mod parcel;
mod permit;
mod policy;
mod publish;
mod queue;
mod refused;
mod registrar;
mod released;
mod restore;
mod restoring;
mod retained;
mod retained_request;
pub mod rows;
mod rules;
mod seal;
mod send;
mod session;
mod stored;
pub mod stream;
mod streams;
mod subscribe;
mod sweep;
mod timers;
mod topics;
mod unsettled;
mod unsure;
mod waiting;
mod wanted;
mod will;

pub use broker::{Broker, BrokerConfig, Client};
pub use calendar::Calendar;
pub use clock::RetainedClock;
pub use counters::Counters;
pub use effects::{
    ConnectionId, DeliveryFlags, Effects, Frame, IdentifierRange, Message, Now, Payload, Peer,
    ShardId, Target,
};
pub use limits::Limits;
pub use mail::MailBatch;
pub use permit::{
    Action, AllowAll, Answer, Authenticate, Authentication, Credentials, Permit, Standing, Ticket,
    Verdict, Who,
};

pub use policy::{
    Durability, LEVELS_MAX as POLICY_LEVELS_MAX, Policies, Policy, PolicyError,
    Sources as PolicySources, TopicPolicy,
};
pub use seal::{IsSealed, Seal};
pub use streams::{STREAM_NAME_BYTES_MAX, Stream, Streams, StreamsError, is_stream_name};

#[cfg(test)]
mod tests;

//! Some thousand connections on one thread, for `bench`: [`swarm`] is the loop, [`socket`] its sockets. The protocol is
//! the SDK's ([`waypost_client::protocol`]).

pub mod socket;
pub mod swarm;

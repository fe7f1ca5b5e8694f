//! When a lost connection is made again, and when that is given up.

use std::time::Duration;

use waypost_client::{Backoff, Closed, ReasonCode};

/// How long a publisher tries before it gives up what it could not deliver.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Connections lost one after another without a message finished before a publisher gives up: it
/// may be the message that ends them.
pub const FRUITLESS_MAX: u32 = 5;
/// How long a publisher's session outlives its connection: longer than it tries.
pub const RESUME_SECONDS: u32 = 60;

/// For who has something to deliver.
pub fn publisher() -> Backoff {
    Backoff::new()
        .patience(PATIENCE)
        .fruitless_max(FRUITLESS_MAX)
        .when(Closed::is_passing)
}

/// For who waits for messages: as long as it takes, unless the server refuses or another has the id.
pub fn subscriber() -> Backoff {
    Backoff::new().when(|why| match why {
        Closed::Finished | Closed::Refused { .. } | Closed::Protocol(_) => false,
        Closed::Unreachable(_) | Closed::Lost(_) | Closed::Silent(_) => true,
        Closed::Door(error) => error.is_passing(),
        Closed::Disconnected { reason, .. } => *reason != ReasonCode::SessionTakenOver,
    })
}

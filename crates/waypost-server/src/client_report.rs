//! What an operator sees of one client: asked of every shard, answered by the one that has it.

use tokio::sync::mpsc::Sender;

/// One client as its shard sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientReport {
    /// The session's client id.
    pub client_id: String,
    /// The user who made the session; `None` = anonymous.
    pub user: Option<String>,
    /// The shard that has it.
    pub shard: u16,
    /// Whether it is connected now.
    pub connected: bool,
    /// Where its connection comes from.
    pub address: Option<String>,
    /// Subscriptions it has.
    pub subscriptions: usize,
    /// Messages that wait in its queue.
    pub queued: usize,
    /// Messages sent and not acknowledged.
    pub in_flight: usize,
    /// Bytes that wait to be written to it.
    pub outbox_bytes: usize,
    /// Messages at QoS 1 and 2 it lost because its queue was full.
    pub dropped_queue_full: u64,
    /// Messages at QoS 0 it lost on this connection because its outbox was full.
    pub dropped_outbox_full: u64,
}

/// A question for every shard. The shard that has the client answers; all others drop the sender,
/// so that the receiver ends when nobody has it.
pub(crate) struct ClientQuestion {
    pub(crate) client_id: String,
    pub(crate) answer: Sender<ClientReport>,
}

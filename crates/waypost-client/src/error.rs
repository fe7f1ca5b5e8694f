//! What can go wrong, and what to do about it.

use std::sync::Arc;

use waypost_mqtt::{ReasonCode, TopicError};

use crate::content::PackError;
use crate::door::NoWay;
use crate::door::endpoint::UrlError;
use crate::offline::OfflineError;
use crate::protocol::event::Closed;
use crate::sealing::SealError;
use crate::spec::SpecError;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL is none.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// There is no way there: no such name, or TLS cannot be set up.
    #[error(transparent)]
    NoWay(#[from] NoWay),
    /// The will's topic is none.
    #[error("the will's topic `{topic}` cannot be published to: {error}")]
    WillTopic {
        /// What was given.
        topic: String,
        /// What is wrong with it.
        error: TopicError,
    },
    /// The server cannot be reached or does not want the client.
    #[error("{}", closed_text(.0))]
    Closed(Arc<Closed>),
    /// Nothing runs that could drive a connection.
    #[error("there is no tokio runtime here; connect inside one that has I/O and time enabled")]
    NoRuntime,
    /// The system gives no random numbers, for a client id and for chance.
    #[error("the system gives no random numbers: {0}")]
    NoRandom(#[from] getrandom::Error),
}

/// Why a message was not published, or not surely.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Its topic is none.
    #[error("`{topic}` cannot be published to: {error}{}", wildcard_hint(topic))]
    Topic {
        /// What was given.
        topic: String,
        /// What is wrong with it.
        error: TopicError,
    },
    /// It cannot be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// There is no connection, and it cannot be kept until there is.
    #[error(transparent)]
    Offline(#[from] OfflineError),
    /// What the offline store kept of it cannot be read.
    #[error("the disk has damaged what was kept of the message; publish it again")]
    Damaged,
    /// It cannot be packed.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The server said no.
    #[error("the server refused the message: {}{}", reason.text(), because(text.as_deref()))]
    Refused {
        /// Why.
        reason: ReasonCode,
        /// The server's own words.
        text: Option<String>,
    },
    /// Its connection was lost: a message of QoS 0 may have arrived, and so may one of QoS 2 whose
    /// session the server has forgotten. Neither is sent again.
    #[error(
        "the connection was lost with the message, which may have arrived or not; publish at QoS 1 or 2, \
         and give sessions time (session_expiry) so that it can be sent again"
    )]
    Unsure,
    /// The client ended before the server answered.
    #[error("the client ended before the server answered: {}", closed_text(.0))]
    Ended(Arc<Closed>),
}

/// Why there is no subscription.
#[derive(Debug, thiserror::Error)]
pub enum SubscribeError {
    /// There is no filter.
    #[error("a subscription needs a topic filter")]
    NoFilter,
    /// It begins nowhere.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// It wants more of its messages than the inbox they come to.
    #[error(
        "the inbox reads what comes for all its subscriptions alike; ask the builder for sealed_only and dead_letters"
    )]
    Inbox,
    /// A filter is none.
    #[error(
        "`{filter}` is not a topic filter: {error}; `+` stands for one whole level, `#` for all that follow, at the \
         end only"
    )]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        error: TopicError,
    },
    /// The server said no, to all of the filters.
    #[error("the server refused the subscription: {}{}", reason.text(), because(text.as_deref()))]
    Refused {
        /// Why; of several filters the last.
        reason: ReasonCode,
        /// The server's own words.
        text: Option<String>,
    },
    /// The client ended before the server answered.
    #[error("the client ended before the server answered: {}", closed_text(.0))]
    Ended(Arc<Closed>),
}

/// What a lost or refused connection says of itself, and what its user can do.
fn closed_text(closed: &Closed) -> String {
    let hint = match closed {
        Closed::Unreachable(_) => "is a server running there? `waypost serve` starts one",
        Closed::Refused { reason, .. } => match reason {
            ReasonCode::BadUserNameOrPassword | ReasonCode::NotAuthorized => {
                "say who you are with credentials"
            }
            ReasonCode::ClientIdentifierNotValid => "choose another client_id",
            ReasonCode::UnsupportedProtocolVersion => "ask for another with version",
            _ => "",
        },
        Closed::Disconnected {
            reason: ReasonCode::SessionTakenOver,
            ..
        } => "another client uses the same client_id; give each its own",
        _ => "",
    };
    if hint.is_empty() {
        closed.to_string()
    } else {
        format!("{closed}; {hint}")
    }
}

fn because(text: Option<&str>) -> String {
    text.map(|text| format!(" ({text})")).unwrap_or_default()
}

fn wildcard_hint(topic: &str) -> &'static str {
    if topic.contains(['+', '#']) {
        "; wildcards are for subscriptions"
    } else {
        ""
    }
}

//! What became of each message of a replay.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};
use waypost_mqtt::{QoS, ReasonCode};

use waypost_client::protocol::event::Closed;

/// The counts of one replay. At its end `published` = `sent` + `lost` and, beyond QoS 0,
/// `sent` = `acked` + `refused`.
#[derive(Debug, Default)]
pub struct Tally {
    /// The QoS of every message.
    pub qos: QoS,
    /// Bad records passed over.
    pub skipped: u64,
    /// Messages handed to a connection.
    pub published: u64,
    /// Messages that reached the network (QoS 0) or were answered.
    pub sent: u64,
    /// Messages the server acknowledged.
    pub acked: u64,
    /// Messages the server refused.
    pub refused: u64,
    /// Messages whose connection ended first and that could not be sent again.
    pub lost: u64,
    /// Messages sent again after a connection was lost, each time counted.
    pub resent: u64,
    /// Bytes of payload handed to a connection and not finished.
    pub unfinished_bytes: u64,
    /// Connections made.
    pub connections_opened: u64,
    /// The most at once.
    pub connections_peak: usize,
    /// Connections made that ended otherwise than by our DISCONNECT.
    pub connections_lost: u64,
    /// The first failure, for the summary.
    pub first_failure: Option<String>,
}

impl Tally {
    /// A message is handed over; gives the tag that brings its size back.
    pub fn begin(&mut self, payload_bytes: usize) -> u64 {
        self.published += 1;
        let tag = payload_bytes as u64;
        self.unfinished_bytes += tag;
        tag
    }

    /// The server answered, or took a message of QoS 0.
    pub fn finish(&mut self, tag: u64, reason: ReasonCode) {
        self.unfinished_bytes -= tag;
        self.sent += 1;
        if reason.is_error() {
            self.refused += 1;
            self.first_failure
                .get_or_insert_with(|| format!("a message was refused: {}", reason.text()));
        } else if self.qos > QoS::AtMostOnce {
            self.acked += 1;
        }
    }

    /// The connection ended first.
    pub fn lose(&mut self, tag: u64) {
        self.unfinished_bytes -= tag;
        self.lost += 1;
    }

    /// A connection ended unasked, or was never made.
    pub fn disconnect(&mut self, client: &str, why: &Closed, was_connected: bool) {
        self.connections_lost += u64::from(was_connected);
        self.first_failure
            .get_or_insert_with(|| format!("client `{client}`: {why}"));
    }

    /// The replay is given up: what is unfinished is lost.
    pub fn abandon(&mut self) {
        self.lost += self.unfinished();
        self.unfinished_bytes = 0;
    }

    /// Messages that did not arrive, or not surely.
    pub fn failed(&self) -> u64 {
        self.refused + self.lost
    }

    /// Messages handed to a connection and not finished.
    pub fn unfinished(&self) -> u64 {
        self.published - self.sent - self.lost
    }

    /// Records dealt with, the skipped ones too.
    pub fn records(&self) -> u64 {
        self.published + self.skipped
    }

    /// For a script.
    pub fn to_json(&self, elapsed: Duration) -> Value {
        json!({
            "records": self.records(),
            "skipped": self.skipped,
            "published": self.published,
            "by_qos": [{
                "qos": u8::from(self.qos),
                "sent": self.sent,
                "acked": self.acked,
                "failed": self.failed(),
            }],
            "sent": self.sent,
            "acked": self.acked,
            "failed": self.failed(),
            "resent": self.resent,
            "connections_opened": self.connections_opened,
            "connections_peak": self.connections_peak,
            "connections_lost": self.connections_lost,
            "first_failure": self.first_failure,
            "seconds": elapsed.as_secs_f64(),
            "messages_per_s": self.per_second(elapsed),
        })
    }

    /// For a reader. (Writing to a String cannot fail.)
    pub fn to_text(&self, elapsed: Duration) -> String {
        let mut text = format!("{} records", self.records());
        if self.skipped > 0 {
            let _ = write!(text, ", {} bad ones skipped", self.skipped);
        }
        let qos = u8::from(self.qos);
        let _ = write!(text, "; QoS {qos}: {} sent", self.sent);
        if self.qos > QoS::AtMostOnce {
            let _ = write!(text, ", {} acknowledged", self.acked);
        }
        let _ = write!(
            text,
            ", {} failed\n{} connections, at most {} at once; {:.1} s, {:.0} messages/s",
            self.failed(),
            self.connections_opened,
            self.connections_peak,
            elapsed.as_secs_f64(),
            self.per_second(elapsed),
        );
        if self.connections_lost > 0 {
            let _ = write!(
                text,
                "\n{} connections lost, {} messages sent again",
                self.connections_lost, self.resent
            );
        }
        if let Some(failure) = &self.first_failure {
            let _ = write!(text, "\nfirst failure: {failure}");
        }
        text
    }

    fn per_second(&self, elapsed: Duration) -> f64 {
        #[allow(clippy::cast_precision_loss)] // 2^53 messages are out of reach
        let sent = self.sent as f64;
        sent / elapsed.as_secs_f64().max(1e-9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_is_counted_once() {
        let mut tally = Tally {
            qos: QoS::AtLeastOnce,
            ..Tally::default()
        };
        let tags: Vec<_> = (1..=4).map(|size| tally.begin(size)).collect();
        assert_eq!(tally.unfinished(), 4);
        tally.finish(tags[0], ReasonCode::Success);
        tally.finish(tags[1], ReasonCode::NoMatchingSubscribers);
        tally.finish(tags[2], ReasonCode::NotAuthorized);
        tally.lose(tags[3]);
        assert_eq!((tally.sent, tally.acked, tally.failed()), (3, 2, 2));
        assert_eq!((tally.unfinished(), tally.unfinished_bytes), (0, 0));
        assert_eq!(
            tally.first_failure.as_deref(),
            Some("a message was refused: Not authorized")
        );
    }
}

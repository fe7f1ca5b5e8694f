//! Two clients who mind their own business while others misbehave, and what the server counts meanwhile.

use std::collections::HashMap;

use waypost_mqtt::{ProtocolVersion::V5, QoS};
use waypost_tests::{LIMIT, RawClient, Server, wait_for};

/// A publisher and a subscriber whose messages arrive all, in order, whatever others do.
pub struct Neighbours {
    publisher: RawClient,
    subscriber: RawClient,
    sent: u32,
}

impl Neighbours {
    pub fn new(server: &Server) -> Self {
        let mut subscriber = RawClient::connect(server, V5, "neighbour-sub");
        subscriber.subscribe("neighbours/#", QoS::ExactlyOnce);
        let publisher = RawClient::connect(server, V5, "neighbour-pub");
        Self {
            publisher,
            subscriber,
            sent: 0,
        }
    }

    /// One message at each QoS arrives, and nothing else does.
    #[track_caller]
    pub fn converse(&mut self) {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            self.sent += 1;
            let payload = self.sent.to_be_bytes();
            self.publisher.publish("neighbours/t", qos, &payload);
            let received = self.subscriber.receive_message();
            assert_eq!(received.publish().payload, payload);
        }
        self.subscriber.expect_nothing();
    }
}

/// The sum of a metric over its labels.
pub fn metric(server: &Server, name: &str) -> u64 {
    let (status, body) = server.get("/metrics");
    assert_eq!(status, 200);
    let values: Vec<u64> = body
        .lines()
        .filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let found = series.split('{').next()?;
            (found == name).then(|| value.parse().expect("a whole number"))
        })
        .collect();
    assert!(!values.is_empty(), "no metric {name} in\n{body}");
    values.iter().sum()
}

/// Waits until a metric has this value.
#[track_caller]
pub fn expect_metric(server: &Server, name: &str, expected: u64) {
    let mut seen = HashMap::new();
    wait_for(&format!("{name} {expected}; seen {seen:?}"), LIMIT, || {
        let value = metric(server, name);
        *seen.entry(value).or_insert(0) += 1;
        (value == expected).then_some(())
    });
}

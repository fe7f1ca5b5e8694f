//! Statements of MQTT 3.1.1, section 3.12: PINGREQ.

use waypost_mqtt::{Packet, ProtocolVersion::V311};
use waypost_tests::{RawClient, Server};

/// [MQTT-3.12.4-1]: each PINGREQ is answered by one PINGRESP, in turn.
#[test]
fn each_pingreq_is_answered() {
    let server = Server::start();
    let mut client = RawClient::connect(&server, V311, "pinger");
    for _ in 0..3 {
        client.send(&Packet::PingReq);
        assert!(matches!(client.receive().packet(), Packet::PingResp));
    }
    client.disconnect();
}

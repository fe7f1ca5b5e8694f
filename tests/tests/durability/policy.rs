//! What an acknowledgement means, as `durability` of `[[topic]]` says it: who is killed finds what was promised.

use rustix::process::Signal;
use waypost_mqtt::{
    ProtocolVersion::{V5, V311},
    QoS,
};
use waypost_tests::{RawClient, ServerOptions, connect_packet};

const POLICIES: &str = r#"
[[topic]]
filter = "memory/#"
durability = "memory"

[[topic]]
filter = "os/#"
durability = "os"
"#;

/// Goal: memory forgets with the process, os and sync do not. Method: `kill -9` behind the last acknowledgement, for a
/// session that was away and for what was retained, with one shard and with two.
#[test]
fn durability_says_what_a_killed_server_still_has() {
    for shards in [1, 2] {
        let directory = tempfile::tempdir().unwrap();
        let options = ServerOptions::new()
            .configuration(POLICIES)
            .shards(shards)
            .data_dir(directory.path());
        let mut server = options.clone().start();
        let mut away = connect_packet(V311, "away");
        away.clean_start = false;
        let (mut subscriber, _) = RawClient::connect_with(&server, &away);
        subscriber.subscribe("+/owed", QoS::AtLeastOnce);
        subscriber.disconnect();
        let mut publisher = RawClient::connect(&server, V5, "publisher");
        for topic in ["memory", "os", "sync"] {
            // Each waits for its acknowledgement.
            publisher.publish(&format!("{topic}/owed"), QoS::AtLeastOnce, b"x");
            publisher.publish_retained(&format!("{topic}/kept"), QoS::AtLeastOnce, b"x");
        }
        server.signal(Signal::KILL);
        server.wait();
        let server = options.start();
        let (mut subscriber, _) = RawClient::connect_with(&server, &away);
        let mut topics: Vec<_> = (0..2)
            .map(|_| subscriber.receive_message().publish().topic.to_owned())
            .collect();
        topics.sort();
        assert_eq!(topics, ["os/owed", "sync/owed"], "{shards} shards");
        let mut reader = RawClient::connect(&server, V5, "reader");
        reader.subscribe("+/kept", QoS::AtMostOnce);
        let mut topics: Vec<_> = (0..2)
            .map(|_| reader.receive_message().publish().topic.to_owned())
            .collect();
        topics.sort();
        assert_eq!(topics, ["os/kept", "sync/kept"], "{shards} shards");
        reader.fence();
    }
}

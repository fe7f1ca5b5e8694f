//! `[[topic]] transcode` as clients meet it: paho, mosquitto's programs, and every way by which a message reaches somebody.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::fmt::Write;

use waypost_compress::Stages;
use waypost_mqtt::{
    Packet, Property, PropertyBuffer,
    ProtocolVersion::{V5, V311},
    Publish, QoS, Topic, Will,
};
use waypost_tests::{
    Program, RawClient, Received, Run, Running, Server, ServerOptions, connect_packet,
    empty_publish, required_program,
};

const POLICIES: &str = r#"
[[topic]]
filter = "t/#"
transcode = true

[[topic]]
filter = "t/chatty"
compress = "zstd"

[[topic]]
filter = "t/raw"
transcode = false

[[stream]]
name = "all"
filters = ["t/#"]
"#;

fn server() -> Server {
    ServerOptions::new().configuration(POLICIES).start()
}

fn zstd(payload: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    let stages = Stages::parse("zstd").unwrap();
    stages.compress(payload, &mut packed).unwrap();
    packed
}

fn says_zstd() -> PropertyBuffer {
    let mut properties = PropertyBuffer::new();
    properties.push(Property::UserProperty("content-encoding", "zstd"));
    properties
}

fn publish_packed(client: &mut RawClient, topic: &str, qos: QoS, retain: bool, plain: &[u8]) {
    client.publish_with(&Publish {
        topic,
        qos,
        retain,
        payload: &zstd(plain),
        properties: says_zstd().as_properties(),
        ..empty_publish()
    });
}

fn connect_accepting(server: &Server, client_id: &str, accepts: &str) -> RawClient {
    let mut properties = PropertyBuffer::new();
    properties.push(Property::UserProperty("accept-encoding", accepts));
    let mut connect = connect_packet(V5, client_id);
    connect.properties = properties.as_properties();
    RawClient::connect_with(server, &connect).0
}

/// The payload, and how it says that it is packed.
fn understood(message: &Received) -> (Vec<u8>, Option<String>) {
    let publish = message.publish();
    let mut said = publish.properties.user_properties();
    let encoding = said.find(|(name, _)| *name == "content-encoding");
    let encoding = encoding.map(|(_, value)| value.to_owned());
    (publish.payload.to_vec(), encoding)
}

#[test]
fn paho_gets_what_it_accepts() {
    let Some(python) = required_program(Program::Python) else {
        return;
    };
    let server = server();
    let url = format!("mqtt://{}", server.mqtt());
    let mut packed = String::new();
    for byte in zstd(&b"hello ".repeat(100)) {
        write!(packed, "{byte:02x}").unwrap();
    }
    Run::to_end(python, ["python/policies.py", &url, "transcode", &packed]).expect_success();
    assert!((server.metric("waypost_transcode_unpacked_total") - 1.0).abs() < 0.5);
}

#[test]
fn mosquitto_sub_of_3_1_1_reads_what_was_packed() {
    let Some(mut command) = required_program(Program::MosquittoSub) else {
        return;
    };
    let server = server();
    let (host, port) = (
        server.mqtt().ip().to_string(),
        server.mqtt().port().to_string(),
    );
    command.args([
        "-h", &host, "-p", &port, "-V", "mqttv311", "-t", "t/#", "-v", "-C", "1", "-W", "60",
    ]);
    let subscriber = Running::start(command);
    server.wait_for_metric("waypost_subscriptions", 1.0);
    let mut publisher = RawClient::connect(&server, V5, "publisher");
    publish_packed(
        &mut publisher,
        "t/a",
        QoS::AtLeastOnce,
        false,
        b"hello, all of you",
    );
    assert_eq!(
        subscriber.finish().expect_success(),
        "t/a hello, all of you\n"
    );
}

/// Goal: every way to a subscriber knows of it. Method: one that accepts, one that does not, by each of them.
#[test]
fn by_whatever_way_a_message_comes() {
    let plain = b"hello ".repeat(50);
    let server = server();
    let mut publisher = RawClient::connect(&server, V5, "publisher");
    let mut away = RawClient::connect_with(&server, &{
        let mut connect = connect_packet(V311, "away");
        connect.clean_start = false;
        connect
    })
    .0;
    away.subscribe("t/session", QoS::AtLeastOnce);
    away.disconnect();
    publish_packed(&mut publisher, "t/session", QoS::AtLeastOnce, false, &plain);
    publish_packed(&mut publisher, "t/retained", QoS::AtLeastOnce, true, &plain);
    publish_packed(&mut publisher, "t/raw", QoS::AtLeastOnce, true, &plain);
    // A will, which says how it is packed as any message does.
    let properties = says_zstd();
    let packed = zstd(&plain);
    let mut connect = connect_packet(V5, "will");
    connect.will = Some(Will {
        topic: Topic::parse("t/will").unwrap(),
        payload: &packed,
        qos: QoS::AtLeastOnce,
        retain: true,
        properties: properties.as_properties(),
    });
    RawClient::connect_with(&server, &connect).0.cut();
    server.wait_for_metric("waypost_wills_published_total", 1.0);
    let mut away = RawClient::connect_with(&server, &{
        let mut connect = connect_packet(V311, "away");
        connect.clean_start = false;
        connect
    })
    .0;
    assert_eq!(understood(&away.receive_message()), (plain.clone(), None));
    let mut taker = connect_accepting(&server, "taker", "zstd");
    let mut other = RawClient::connect(&server, V5, "other");
    for filter in ["t/retained", "t/will", "$from/last=1/t/session"] {
        taker.subscribe(filter, QoS::AtLeastOnce);
        let got = understood(&taker.receive_message());
        assert_eq!(got, (packed.clone(), Some("zstd".into())), "{filter}");
        other.subscribe(filter, QoS::AtLeastOnce);
        let got = understood(&other.receive_message());
        assert_eq!(got, (plain.clone(), None), "{filter}");
    }
    other.subscribe("t/raw", QoS::AtLeastOnce);
    let got = understood(&other.receive_message());
    assert_eq!(got, (packed, Some("zstd".into())), "no policy says so");
    let mut member = RawClient::connect(&server, V5, "member");
    member.subscribe("$share/group/t/shared", QoS::AtLeastOnce);
    publish_packed(&mut publisher, "t/shared", QoS::ExactlyOnce, false, &plain);
    assert_eq!(understood(&member.receive_message()), (plain, None));
}

/// Goal: one word packs a chatty topic. Method: the bytes that leave the server for who accepts it and who does not.
#[test]
fn the_server_packs_for_those_who_accept_it() {
    let server = server();
    let line = br#"{"room":"lobby","user":"alice","text":"hello"}"#.repeat(20);
    let mut taker = connect_accepting(&server, "taker", "zstd, br");
    let mut other = RawClient::connect(&server, V311, "other");
    for client in [&mut taker, &mut other] {
        client.subscribe("t/chatty", QoS::AtMostOnce);
    }
    let mut publisher = RawClient::connect(&server, V311, "publisher");
    publisher.publish("t/chatty", QoS::AtLeastOnce, &line);
    let (packed, encoding) = understood(&taker.receive_message());
    assert_eq!(encoding.as_deref(), Some("zstd"));
    assert!(packed.len() * 5 < line.len(), "{}", packed.len());
    let mut unpacked = Vec::new();
    let stages = Stages::from_content_encoding("zstd").unwrap();
    stages
        .decompress(&packed, line.len(), &mut unpacked)
        .unwrap();
    assert_eq!(unpacked, line);
    assert_eq!(understood(&other.receive_message()), (line, None));
    assert!((server.metric("waypost_transcode_packed_total") - 1.0).abs() < 0.5);
}

/// Goal: a large payload keeps its place. Method: a thousand small ones around it, from one publisher, on two shards.
#[test]
fn large_payloads_keep_their_place() {
    let server = ServerOptions::new()
        .configuration(POLICIES)
        .shards(2)
        .start();
    let mut subscribers: Vec<_> = (0..4)
        .map(|number| RawClient::connect(&server, V5, &format!("subscriber-{number}")))
        .collect();
    for subscriber in &mut subscribers {
        subscriber.subscribe("t/#", QoS::AtMostOnce);
    }
    let mut publisher = RawClient::connect(&server, V5, "publisher");
    let large = vec![b'x'; 1 << 20];
    for number in 0..100_u32 {
        if number % 50 == 10 {
            publish_packed(&mut publisher, "t/a", QoS::AtMostOnce, false, &large);
        }
        publisher.publish("t/a", QoS::AtMostOnce, &number.to_be_bytes());
    }
    for subscriber in &mut subscribers {
        for number in 0..100_u32 {
            if number % 50 == 10 {
                assert!(understood(&subscriber.receive_message()) == (large.clone(), None));
            }
            let got = understood(&subscriber.receive_message());
            assert_eq!(got, (number.to_be_bytes().to_vec(), None));
        }
    }
    // Once for each shard's subscribers, and the second of the two alike is known by then or waits for the first.
    let unpacked = server.metric("waypost_transcode_unpacked_total");
    assert!((1.0..=2.0).contains(&unpacked), "{unpacked}");
    assert!(server.metric("waypost_transcode_waiting").abs() < 0.5);
}

/// Goal: the limits hold. Method: a bomb, and a queue for workers that takes nothing but what it must.
#[test]
fn bombs_go_as_they_came() {
    let server = ServerOptions::new()
        .configuration(&format!(
            "[limits]\ntranscoded_bytes_max = \"128KiB\"\ntranscode_waiting_bytes_max = \"0B\"\n{POLICIES}"
        ))
        .start();
    let mut subscriber = RawClient::connect(&server, V5, "subscriber");
    subscriber.subscribe("t/#", QoS::AtLeastOnce);
    let mut publisher = RawClient::connect(&server, V5, "publisher");
    for (bytes, is_bomb) in [
        (128 << 10, false),
        ((128 << 10) + 1, true),
        (256 << 10, true),
    ] {
        let plain = vec![0; bytes];
        publish_packed(&mut publisher, "t/a", QoS::AtLeastOnce, false, &plain);
        let got = understood(&subscriber.receive_message());
        let expect = if is_bomb {
            (zstd(&plain), Some("zstd".into()))
        } else {
            (plain, None)
        };
        assert!(got == expect, "{bytes}");
    }
    assert!((server.metric("waypost_transcode_bombs_total") - 2.0).abs() < 0.5);
    // Sent without waiting, so that one waits for a worker while the next comes.
    server.wait_for_metric("waypost_transcode_off_loop_total", 1.0);
    let mut queued = 0;
    while server.metric("waypost_transcode_workers_full_total") < 1.0 {
        for _ in 0..20 {
            queued += 1;
            let payload = [queued.to_string().as_bytes(), &vec![b'x'; 100_000]].concat();
            publisher.send(&Packet::Publish(Publish {
                topic: "t/a",
                payload: &zstd(&payload),
                properties: says_zstd().as_properties(),
                ..empty_publish()
            }));
        }
        publisher.fence();
    }
    for number in 1..=queued {
        let (payload, encoding) = understood(&subscriber.receive_message());
        assert!(payload.starts_with(number.to_string().as_bytes()) && encoding.is_none());
    }
}

/// Goal: what is sealed is nobody's to unpack. Method: a sealed payload that says that it is packed.
#[test]
fn sealed_payloads_are_left_alone() {
    let server = server();
    let mut subscriber = RawClient::connect(&server, V5, "subscriber");
    subscriber.subscribe("t/#", QoS::AtLeastOnce);
    let mut taker = connect_accepting(&server, "taker", "*");
    taker.subscribe("t/#", QoS::AtLeastOnce);
    let mut publisher = RawClient::connect(&server, V5, "publisher");
    let mut head = vec![
        0xd0, 0x83, 0x43, 0xa1, 0x01, 0x03, 0xa1, 0x05, 0x4c, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11,
        0x59, 1, 0,
    ];
    head.resize(head.len() + 256, 7);
    let mut properties = says_zstd();
    properties.push(Property::ContentType("application/cose"));
    for (topic, properties) in [("t/a", &properties), ("t/chatty", &PropertyBuffer::new())] {
        publisher.publish_with(&Publish {
            topic,
            qos: QoS::AtLeastOnce,
            payload: &head,
            properties: properties.as_properties(),
            ..empty_publish()
        });
        for client in [&mut subscriber, &mut taker] {
            let got = client.receive_message();
            assert_eq!(got.publish().payload, head, "{topic}");
            assert_eq!(
                got.publish().properties.as_bytes(),
                properties.as_bytes(),
                "{topic}"
            );
        }
    }
}

fn order(number: u32) -> Vec<u8> {
    let total = number % 97;
    format!(
        "{{\"order\":{number},\"event\":\"order.placed\",\"status\":\"waiting for the kitchen\",\
         \"currency\":\"GBP\",\"note\":\"leave it at the front door, please, and ring the bell twice\",\"total\":{total}}}"
    )
    .into_bytes()
}

/// Goal: short messages are packed with what they share, and the SDK reads them. Method: thirty publishers on two shards until
/// there is a dictionary, while nobody subscribes; then one that asks for `$dictionary/<id>` by itself, one that takes the
/// frame as it is, one that knows nothing, and all of it again with `auto` and where the store is encrypted.
#[test]
fn the_sdk_fetches_the_dictionary_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "07".repeat(32)).unwrap();
    let sealed = format!(
        "[store]\nencrypt = \"aes-gcm\"\nkey_file = \"{}\"\n",
        key.display()
    );
    for (compress, store) in [("zstd-dict", ""), ("auto", sealed.as_str())] {
        let server = ServerOptions::new()
            .configuration(&format!(
                "{store}[[topic]]\nfilter = \"orders/#\"\ntranscode = true\ncompress = \"{compress}\"\n"
            ))
            .shards(2)
            .start();
        let mut publishers: Vec<_> = (0..30)
            .map(|number| RawClient::connect(&server, V5, &format!("publisher-{number}")))
            .collect();
        let mut number = 0;
        waypost_tests::wait_for("a dictionary", waypost_tests::LIMIT, || {
            for publisher in &mut publishers {
                number += 1;
                publisher.publish("orders/new", QoS::AtLeastOnce, &order(number));
            }
            (server.metric("waypost_dictionaries_trained_total") > 0.5).then_some(())
        });
        let accepts = ["waypost-zstd-dict"];
        let mut frames = connect_accepting(&server, "frames", accepts[0]);
        let mut plain = RawClient::connect(&server, V311, "plain");
        for client in [&mut frames, &mut plain] {
            client.subscribe("orders/#", QoS::AtLeastOnce);
        }
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        runtime.block_on(async {
            let url = format!("mqtt://{}", server.mqtt());
            let builder = waypost_client::Client::builder(url).accept_encoding(accepts);
            let client = builder.connect().await.unwrap();
            let mut orders = client.subscribe("orders/#").await.unwrap();
            for number in [7_000, 7_001] {
                publishers[3].publish("orders/new", QoS::AtLeastOnce, &order(number));
                let message = tokio::time::timeout(waypost_tests::LIMIT, orders.next());
                let message = message.await.unwrap().unwrap().unwrap();
                assert_eq!(message.payload(), order(number));
            }
            client.disconnect().await;
        });
        let (frame, encoding) = understood(&frames.receive_message());
        assert_eq!(encoding.as_deref(), Some(accepts[0]));
        let id = waypost_compress::zstd_dict::dictionary_id(&frame).unwrap();
        assert!(frame.len() * 2 < order(7_000).len(), "{}", frame.len());
        assert_eq!(understood(&plain.receive_message()), (order(7_000), None));
        assert_eq!(understood(&plain.receive_message()).0, order(7_001));
        plain.subscribe(&format!("$dictionary/{id}"), QoS::AtMostOnce);
        let dictionary = understood(&plain.receive_message()).0;
        let contains = |bytes: &[u8]| bytes.windows(11).any(|window| window == b"the kitchen");
        assert!(contains(&dictionary));
        publishers[4].publish_with(&Publish {
            topic: "orders/last",
            qos: QoS::AtLeastOnce,
            retain: true,
            payload: &order(7_002),
            ..empty_publish()
        });
        let port = server.mqtt().port().to_string();
        let said = "sub -t orders/last -C 1 -W 60 -D connect user-property accept-encoding";
        let mut arguments: Vec<_> = said.split(' ').collect();
        arguments.extend([accepts[0], "-p", &port]);
        let shown = Run::to_end(waypost_tests::waypost(), arguments).expect_success();
        assert_eq!(shown.trim_end().as_bytes(), order(7_002));
        let written = std::fs::read(server.data_dir().join("dictionaries/0")).unwrap();
        assert_eq!(contains(&written), store.is_empty());
    }
}

/// SIGHUP is enough.
#[test]
fn a_policy_can_come_while_clients_are_there() {
    let server = ServerOptions::new()
        .configuration("[[topic]]\nfilter = \"x\"\ntranscode = true\n")
        .start();
    let mut subscriber = RawClient::connect(&server, V5, "subscriber");
    subscriber.subscribe("t/#", QoS::AtLeastOnce);
    let mut publisher = RawClient::connect(&server, V5, "publisher");
    publish_packed(
        &mut publisher,
        "t/a",
        QoS::AtLeastOnce,
        false,
        b"hello hello",
    );
    assert_eq!(
        understood(&subscriber.receive_message()).1.as_deref(),
        Some("zstd")
    );
    let file = server.data_dir().with_file_name("waypost.toml");
    std::fs::write(file, POLICIES).unwrap();
    server.signal(rustix::process::Signal::HUP);
    server.wait_for_metric("waypost_reloads_total", 1.0);
    waypost_tests::wait_for("the policy to hold", waypost_tests::LIMIT, || {
        publish_packed(
            &mut publisher,
            "t/a",
            QoS::AtLeastOnce,
            false,
            b"hello hello",
        );
        (understood(&subscriber.receive_message()).1.is_none()).then_some(())
    });
}

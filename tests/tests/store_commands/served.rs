//! The store of a server at work: copied while it is served, damaged and served all the same.

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use waypost_mqtt::{ProtocolVersion, QoS};
use waypost_tests::{LIMIT, RawClient, Server, ServerOptions, connect_packet, wait_for, waypost};

use super::{World, files};

/// Leaves a session that is owed what is published on `orders/#`.
fn leave_a_session(server: &Server) {
    let mut connect = connect_packet(ProtocolVersion::V311, "kitchen");
    connect.clean_start = false;
    let (mut client, _) = RawClient::connect_with(server, &connect);
    client.subscribe("orders/#", QoS::AtLeastOnce);
    client.disconnect();
}

/// Publishes messages with these numbers; each is acknowledged.
fn publish(server: &Server, numbers: std::ops::Range<u32>) {
    let mut client = RawClient::connect(server, ProtocolVersion::V5, "till");
    for number in numbers {
        let payload = format!("order {number}: {}", "tea ".repeat(20));
        client.publish("orders/1", QoS::AtLeastOnce, payload.as_bytes());
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn what_was_acknowledged_before_a_backup_is_in_it() {
    let world = World::new();
    let server = Server::start();
    let data_dir = server.data_dir();
    leave_a_session(&server);
    publish(&server, 0..50);
    let done = world.store_json(text(&data_dir), &["backup", "b"]);
    assert_eq!(done["directory"], text(&world.path("b")));
    publish(&server, 50..80);
    world
        .store(text(&data_dir), &["backup", "b"])
        .failed_with(1, &["the server makes no backup: there are files already"]);
    let restored = world.store_json("new", &["restore", "b"]);
    assert_eq!(restored["taken_wall_ms"], done["taken_wall_ms"]);
    let report = world.store_json("new", &["check"]);
    assert_eq!(
        (&report["sound"], &report["messages"]),
        (&true.into(), &50.into())
    );
    // A server takes it over: who was owed messages gets them, and what it writes goes to files of its own.
    let before = files(&world.path("new/store"));
    let server = ServerOptions::new().data_dir(&world.path("new")).start();
    let mut connect = connect_packet(ProtocolVersion::V311, "kitchen");
    connect.clean_start = false;
    let (mut client, answer) = RawClient::connect_with(&server, &connect);
    assert!(answer.conn_ack().session_present);
    for number in 0..50 {
        let message = client.receive_message();
        let payload = message.publish().payload.to_vec();
        let expect = format!("order {number}: ");
        assert!(
            payload.starts_with(expect.as_bytes()),
            "{number}: {payload:?}"
        );
    }
    client.disconnect();
    publish(&server, 0..5);
    let mut server = server;
    server.signal(Signal::TERM);
    server.wait();
    for (name, content) in before {
        let now = fs::read(world.path("new/store").join(&name)).unwrap();
        assert!(
            content.starts_with(&now) || now == content,
            "{name} was written to"
        );
    }
    assert_eq!(world.store_json("new", &["check"])["sound"], true);
}

/// What a server learnt, from `$dictionary/<id>`: by then it has been asked for, as who gets a frame would.
fn dictionary(server: &Server, id: &str) -> (String, Vec<u8>) {
    let mut client = RawClient::connect(server, ProtocolVersion::V311, "learner");
    client.subscribe(&format!("$dictionary/{id}"), QoS::AtMostOnce);
    let received = client.receive_message();
    let publish = received.publish();
    assert!(publish.retain);
    (publish.topic.to_owned(), publish.payload.to_vec())
}

/// Goal: what was packed with a dictionary can be read from a server that was restored. Method: thirty publishers until there is
/// a dictionary, a backup of that server at work, and what the restored one serves under its id; in the clear and encrypted.
#[test]
fn a_restored_server_serves_the_dictionaries_of_the_one_at_work() {
    let world = World::new();
    fs::write(world.path("key"), "07".repeat(32)).unwrap();
    let key = text(&world.path("key")).to_owned();
    let encrypted = format!("[store]\nencrypt = \"aes-gcm\"\nkey_file = \"{key}\"\n");
    for (name, store) in [("clear", ""), ("encrypted", encrypted.as_str())] {
        let configuration = format!(
            "{store}[[topic]]\nfilter = \"orders/#\"\ntranscode = true\ncompress = \"zstd-dict\"\n"
        );
        let server = ServerOptions::new().configuration(&configuration).start();
        let mut publishers: Vec<_> = (0..30)
            .map(|number| {
                let id = format!("publisher-{number}");
                RawClient::connect(&server, ProtocolVersion::V5, &id)
            })
            .collect();
        let mut number = 0;
        wait_for("a dictionary", LIMIT, || {
            for publisher in &mut publishers {
                number += 1;
                let order = format!(
                    "{{\"order\":{number},\"status\":\"waiting for the kitchen\",\"note\":\"leave it at the front \
                     door, please, and ring the bell twice\",\"total\":{}}}",
                    number * 37 % 9_000
                );
                publisher.publish("orders/new", QoS::AtLeastOnce, order.as_bytes());
            }
            (server.metric("waypost_dictionaries_trained_total") > 0.5).then_some(())
        });
        drop(publishers);
        let (topic, expect) = dictionary(&server, "+");
        let data_dir = server.data_dir();
        let backup = format!("backup-{name}");
        world.store_json(text(&data_dir), &["backup", &backup]);
        drop(server);
        let restored = format!("restored-{name}");
        world.store_json(&restored, &["restore", &backup]);
        let server = ServerOptions::new()
            .configuration(&configuration)
            .data_dir(&world.path(&restored))
            .start();
        let id = topic.strip_prefix("$dictionary/").unwrap();
        assert_eq!(dictionary(&server, id), (topic.clone(), expect), "{name}");
    }
}

/// Goal: a damaged block is told with file and offset, the rest served, and a repair ends it. Method: a server that is
/// killed, a byte changed, and its views taken away so that the next one reads everything.
#[test]
fn a_damaged_store_is_served_told_and_repaired() {
    let world = World::new();
    let data = world.path("data");
    let mut server = ServerOptions::new().data_dir(&data).start();
    leave_a_session(&server);
    publish(&server, 0..50);
    server.signal(Signal::KILL);
    server.wait();
    let segment = data.join("store/00000001.log");
    let mut bytes = fs::read(&segment).unwrap();
    bytes[2_000] ^= 4;
    fs::write(&segment, bytes).unwrap();
    fs::remove_file(data.join("store/views.redb")).unwrap();

    let mut server = ServerOptions::new().data_dir(&data).start();
    assert_eq!(server.get("/health/ready").0, 200);
    assert!(server.metric("waypost_store_damage") >= 1.0);
    wait_for("the damage in the log", LIMIT, || {
        let log = server.log();
        log.contains("the store is damaged, what can be read is served: 00000001.log, byte ")
            .then_some(())
    });
    publish(&server, 50..60);
    server.signal(Signal::TERM);
    server.wait();

    world
        .store("data", &["check"])
        .failed_with(3, &["is damaged in one place"]);
    let repaired = world.store_json("data", &["repair"]);
    assert_eq!(repaired["mended"][0]["file"], "00000001.log");
    assert_eq!(repaired["mended"][0]["how"], "hole");
    assert_eq!(world.store_json("data", &["check"])["sound"], true);
    let server = ServerOptions::new().data_dir(&data).start();
    assert!(server.metric("waypost_store_damage") < 1.0);
    publish(&server, 60..70);
}

#[test]
fn a_server_refuses_what_a_later_version_wrote_and_leaves_it_alone() {
    let world = World::new();
    let data = world.path("data");
    let mut server = ServerOptions::new().data_dir(&data).start();
    leave_a_session(&server);
    server.signal(Signal::TERM);
    server.wait();
    let segment = data.join("store/00000001.log");
    let mut bytes = fs::read(&segment).unwrap();
    bytes[8] = 2;
    let sum = crc32c::crc32c(&bytes[..124]).to_le_bytes();
    bytes[124..128].copy_from_slice(&sum);
    fs::write(&segment, bytes).unwrap();
    let before = fs::read(&segment).unwrap();
    let mut serve = waypost();
    serve.args(["serve", "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    let output = serve.arg("--data-dir").arg(&data).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    for part in [
        "00000001.log has format 2",
        "start the version that wrote it",
    ] {
        assert!(stderr.contains(part), "{stderr}");
    }
    assert_eq!(fs::read(&segment).unwrap(), before);
}

#[test]
fn an_encrypted_store_is_looked_at_with_its_key_only() {
    let world = World::new();
    let data = world.path("data");
    let key = world.path("store.key");
    fs::write(&key, "ab".repeat(32)).unwrap();
    let toml = format!(
        "[store]\nencrypt = \"aes-gcm\"\nkey_file = \"{}\"\n",
        text(&key)
    );
    let file = world.path("waypost.toml");
    fs::write(&file, &toml).unwrap();
    let mut server = ServerOptions::new()
        .data_dir(&data)
        .configuration(&toml)
        .start();
    leave_a_session(&server);
    publish(&server, 0..10);
    server.signal(Signal::TERM);
    server.wait();
    world.store("data", &["check"]).failed_with(
        1,
        &[
            "00000001.log is encrypted with key ",
            "hint: name the settings",
        ],
    );
    let with_key = ["check", "--config", text(&file)];
    let report = world.store_json("data", &with_key);
    assert_eq!(
        (&report["sound"], &report["messages"]),
        (&true.into(), &10.into())
    );
    fs::write(&key, "cd".repeat(32)).unwrap();
    world
        .store("data", &with_key)
        .failed_with(1, &["which is not among the keys given"]);
    // A backup needs no key, nor does bringing it back.
    world.store_json("data", &["backup", "b"]);
    world.store_json("new", &["restore", "b"]);
    fs::write(&key, "ab".repeat(32)).unwrap();
    assert_eq!(world.store_json("new", &with_key)["messages"], 10);
}

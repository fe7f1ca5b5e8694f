//! What may be read in a data directory: everything, or with encryption nothing that a client has said.

use std::path::Path;

use waypost_mqtt::{Connect, ProtocolVersion, QoS, Topic, Will};
use waypost_tests::{RawClient, ServerOptions, connect_packet};

use crate::plain::{PLAIN, durable, take};

const CLIENT: &str = "planted-client-id";
const TOPIC: &str = "planted/topic/name";
const FILTER: &str = "planted/+/filter";
const PAYLOAD: &str = "planted payload of a message";
const RETAINED: &str = "planted payload that is retained";
const WILL: &str = "planted payload of a will";
const RETAINED_TOPIC: &str = "planted/retained/name";
const WILL_TOPIC: &str = "planted/will/name";
const USER: &str = "planted-user-name";
/// 32 bytes.
const KEY: &str = "9f1d6c3a5b7e8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f70819";

/// Which of `texts` stand in a file below `directory`.
fn found<'a>(directory: &Path, texts: &[&'a str]) -> Vec<&'a str> {
    let mut found = Vec::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("the data directory can be read") {
            let entry = entry.expect("the data directory can be read");
            let kind = entry.file_type().expect("the data directory can be read");
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                let bytes = std::fs::read(entry.path()).expect("the data directory can be read");
                let stands = |text: &&&str| {
                    bytes
                        .windows(text.len())
                        .any(|window| window == text.as_bytes())
                };
                found.extend(texts.iter().filter(stands).copied());
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// A session with a subscription, a will and messages that wait for it, then a restart, so that the views have them too.
fn plant(options: &ServerOptions) {
    let server = options.clone().start();
    let mut subscriber = durable(&server, CLIENT);
    subscriber.subscribe(TOPIC, QoS::AtLeastOnce);
    subscriber.subscribe(FILTER, QoS::ExactlyOnce);
    subscriber.disconnect();
    let stays = Connect {
        clean_start: false,
        ..connect_packet(ProtocolVersion::V311, USER)
    };
    let will = Will {
        topic: Topic::parse(WILL_TOPIC).expect("a topic"),
        payload: WILL.as_bytes(),
        qos: QoS::AtLeastOnce,
        retain: true,
        properties: waypost_mqtt::Properties::EMPTY,
    };
    let (mut publisher, _) = RawClient::connect_with(
        &server,
        &Connect {
            will: Some(will),
            ..stays
        },
    );
    publisher.publish(TOPIC, QoS::ExactlyOnce, PAYLOAD.as_bytes());
    publisher.publish_retained(RETAINED_TOPIC, QoS::AtLeastOnce, RETAINED.as_bytes());
    drop(server);
    let mut server = options.clone().start();
    server.terminate();
}

fn search(configuration: &str, environment: Option<(&str, &str)>) -> Vec<&'static str> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut options = ServerOptions::new()
        .data_dir(directory.path())
        .configuration(configuration);
    if let Some((name, value)) = environment {
        options = options.environment(name, value);
    }
    plant(&options);
    found(
        directory.path(),
        &[
            CLIENT,
            TOPIC,
            FILTER,
            PAYLOAD,
            RETAINED_TOPIC,
            RETAINED,
            WILL_TOPIC,
            WILL,
            USER,
        ],
    )
}

/// DESIGN, at rest: client ids, topics, filters, payloads and wills are not to be found, in the log or in the views.
#[test]
fn an_encrypted_store_shows_nothing_of_what_it_holds() {
    let configuration = format!("{PLAIN}encrypt = \"aes-gcm\"\nkey_env = \"TEST_STORE_KEY\"\n");
    assert_eq!(
        search(&configuration, Some(("TEST_STORE_KEY", KEY))),
        Vec::<&str>::new()
    );
}

/// The search of the test above finds what is there.
#[test]
fn a_plain_store_can_be_searched() {
    let mut expected = vec![
        CLIENT,
        TOPIC,
        FILTER,
        PAYLOAD,
        RETAINED_TOPIC,
        RETAINED,
        WILL_TOPIC,
        WILL,
        USER,
    ];
    expected.sort_unstable();
    assert_eq!(search(PLAIN, None), expected);
}

/// Without its key nothing starts, and what is there stays.
#[test]
fn an_encrypted_store_does_not_open_without_its_key() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let configuration = format!("{PLAIN}encrypt = \"aes-gcm\"\nkey_env = \"TEST_STORE_KEY\"\n");
    let with_key = ServerOptions::new()
        .data_dir(directory.path())
        .configuration(&configuration)
        .environment("TEST_STORE_KEY", KEY);
    plant(&with_key);
    let other: String = KEY.chars().rev().collect();
    let refused =
        |options: ServerOptions| std::panic::catch_unwind(|| drop(options.start())).is_err();
    assert!(refused(
        with_key.clone().environment("TEST_STORE_KEY", &other)
    ));
    assert!(refused(
        ServerOptions::new()
            .data_dir(directory.path())
            .configuration(PLAIN)
    ));
    let server = with_key.start();
    let mut subscriber = durable(&server, CLIENT);
    assert_eq!(
        subscriber.receive_message().publish().payload,
        PAYLOAD.as_bytes()
    );
}

/// Changing the key: what stands under the old one is read with it, what comes stands under the new one, and without the old one
/// nothing starts while something is needed from under it.
#[test]
fn a_key_is_changed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let keys = tempfile::tempdir().expect("a temporary directory");
    let key_file = |name: &str, key: &str| {
        let path = keys.path().join(name);
        std::fs::write(&path, key).expect("a key file");
        let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, owner_only).expect("a key file");
        path.display().to_string()
    };
    let old = key_file("old", KEY);
    let new = key_file("new", &KEY.chars().rev().collect::<String>());
    let with = |current: &str, older: &[&str]| {
        ServerOptions::new()
            .data_dir(directory.path())
            .configuration(&format!(
                "{PLAIN}encrypt = \"aes-gcm\"\nkey_file = {current:?}\nold_key_files = {older:?}\n"
            ))
    };
    plant(&with(&old, &[]));

    let mut server = with(&new, &[&old]).start();
    durable(&server, "publisher").publish(TOPIC, QoS::AtLeastOnce, b"under the new key");
    server.terminate();
    drop(server);

    let refused =
        |options: ServerOptions| std::panic::catch_unwind(|| drop(options.start())).is_err();
    assert!(refused(with(&new, &[])));
    assert!(refused(with(&old, &[])));

    let server = with(&new, &[&old]).start();
    let mut subscriber = durable(&server, CLIENT);
    let payloads: Vec<_> = take(&mut subscriber, 2)
        .iter()
        .map(|received| received.publish().payload.to_vec())
        .collect();
    assert_eq!(
        payloads,
        [PAYLOAD.as_bytes(), b"under the new key".as_slice()]
    );
}

/// Goal: `encrypt` of a `[[topic]]` keeps messages out of the files of a stream, though the log is in the clear, and they are
/// read all the same. Method: a stream with the policy and without.
#[test]
fn a_policy_encrypts_the_files_of_a_stream() {
    let stream =
        "[[stream]]\nname = \"planted\"\nfilters = [\"planted/#\"]\ncompress = \"identity\"\n";
    let policy = "[[topic]]\nfilter = \"planted/topic/+\"\nencrypt = \"chacha20-poly1305\"\n";
    for (more, expect) in [
        (stream.to_owned(), vec![PAYLOAD, TOPIC]),
        (
            format!("key_env = \"TEST_STORE_KEY\"\n{stream}{policy}"),
            vec![],
        ),
    ] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let options = ServerOptions::new()
            .data_dir(directory.path())
            .configuration(&format!("{PLAIN}{more}"))
            .environment("TEST_STORE_KEY", KEY);
        let mut server = options.clone().start();
        durable(&server, "publisher").publish(TOPIC, QoS::AtLeastOnce, PAYLOAD.as_bytes());
        server.terminate();
        drop(server);
        let files = tempfile::tempdir().expect("a temporary directory");
        let mut count = 0;
        for entry in std::fs::read_dir(directory.path().join("store")).expect("the store") {
            let entry = entry.expect("a file of the store");
            if entry.file_name().to_string_lossy().starts_with("stream-") {
                let copied = std::fs::copy(entry.path(), files.path().join(entry.file_name()));
                copied.expect("a file of a stream");
                count += 1;
            }
        }
        assert_eq!(count, 1);
        assert_eq!(found(files.path(), &[TOPIC, PAYLOAD]), expect);
        let server = options.start();
        let mut reader = durable(&server, "reader");
        reader.subscribe("$from/last=1/planted/#", QoS::AtLeastOnce);
        assert_eq!(
            reader.receive_message().publish().payload,
            PAYLOAD.as_bytes()
        );
    }
}

//! Debian's `mosquitto_pub` and `mosquitto_sub`, as a first-time user types them.

use std::{fs::File, process::Command};

use waypost_mqtt::{ProtocolVersion, QoS};
use waypost_tests::{Program, RawClient, Run, Running, Server, required_program};

const VERSIONS: [&str; 3] = ["mqttv31", "mqttv311", "mqttv5"];

/// `program -h … -p … words`, the words split at spaces; none where it is not installed.
fn command(program: Program, server: &Server, words: &str) -> Option<Command> {
    let mut command = required_program(program)?;
    let (host, port) = (
        server.mqtt().ip().to_string(),
        server.mqtt().port().to_string(),
    );
    command
        .args(["-h", &host, "-p", &port])
        .args(words.split(' '));
    Some(command)
}

fn publish(server: &Server, words: &str) -> Option<()> {
    let command = command(Program::MosquittoPub, server, words)?;
    Run::to_end(command, [""; 0]).expect_success();
    Some(())
}

/// Starts a subscriber and returns when the server has its subscription.
fn subscribe(server: &Server, words: &str) -> Option<Running> {
    let running = Running::start(command(Program::MosquittoSub, server, words)?);
    server.wait_for_metric("waypost_subscriptions", 1.0);
    Some(running)
}

fn conversation(words: &str, expect: &str) -> Option<()> {
    for version in VERSIONS {
        for qos in ["0", "1", "2"] {
            let server = Server::start();
            let subscriber = subscribe(
                &server,
                &format!("-V {version} -q {qos} -t chat/# -v -C 1 -W 20"),
            )?;
            publish(&server, &format!("-V {version} -q {qos} {words}"))?;
            assert_eq!(
                subscriber.finish().expect_success(),
                expect,
                "{version}, QoS {qos}"
            );
        }
    }
    Some(())
}

#[test]
fn a_first_conversation_at_every_version_and_qos() {
    conversation("-t chat/lobby -m hello", "chat/lobby hello\n");
}

#[test]
fn lines_of_standard_input_arrive_in_order() {
    let server = Server::start();
    let lines: Vec<String> = (0..500).map(|number| format!("line {number}")).collect();
    let lines = lines.join(
        "
",
    ) + "
";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lines");
    std::fs::write(&file, &lines).unwrap();
    let Some(subscriber) = subscribe(&server, "-q 1 -t log/# -C 500 -W 20") else {
        return;
    };
    let mut publisher = command(Program::MosquittoPub, &server, "-q 1 -t log/app -l").unwrap();
    publisher.stdin(File::open(&file).unwrap());
    Run::to_end(publisher, [""; 0]).expect_success();
    assert_eq!(subscriber.finish().expect_success(), lines);
}

#[test]
fn a_retained_message_waits_for_its_reader() {
    let server = Server::start();
    if publish(&server, "-t lamp -m on -q 1 -r").is_none() {
        return;
    }
    for version in VERSIONS {
        let reader = command(
            Program::MosquittoSub,
            &server,
            &format!("-V {version} -t lamp -C 1 -W 20"),
        )
        .unwrap();
        assert_eq!(Run::to_end(reader, [""; 0]).expect_success(), "on\n");
    }
}

#[test]
fn a_session_that_was_away_gets_what_it_missed() {
    let server = Server::start();
    let reader = "-i reader -c -q 1 -t news -V mqttv311";
    let Some(first) = subscribe(&server, &format!("{reader} -C 1 -W 20")) else {
        return;
    };
    publish(&server, "-q 1 -t news -m one").unwrap();
    assert_eq!(first.finish().expect_success(), "one\n");
    publish(&server, "-q 1 -t news -m two").unwrap();
    let second = command(
        Program::MosquittoSub,
        &server,
        &format!("{reader} -C 1 -W 20"),
    )
    .unwrap();
    assert_eq!(Run::to_end(second, [""; 0]).expect_success(), "two\n");
}

#[test]
fn the_will_of_a_killed_client_is_published() {
    let server = Server::start();
    let mut watcher = RawClient::connect(&server, ProtocolVersion::V311, "watcher");
    watcher.subscribe("gone", QoS::AtLeastOnce);
    let words = "-t x -i doomed --will-topic gone --will-payload lost --will-qos 1";
    let Some(command) = command(Program::MosquittoSub, &server, words) else {
        return;
    };
    let doomed = Running::start(command);
    server.wait_for_metric("waypost_clients", 2.0);
    drop(doomed);
    assert_eq!(watcher.receive_message().publish().payload, b"lost");
}

#[test]
fn properties_of_mqtt_5_pass_through() {
    let server = Server::start();
    let Some(subscriber) = subscribe(&server, "-V mqttv5 -t q -C 1 -W 20 -F %R|%C|%P|%p") else {
        return;
    };
    let said = "-D publish response-topic answers -D publish content-type text/plain -D publish user-property a b";
    publish(&server, &format!("-V mqttv5 -t q -m why {said}")).unwrap();
    assert_eq!(
        subscriber.finish().expect_success(),
        "answers|text/plain|a:b|why\n"
    );
}

//! `mosquitto_pub` and `mosquitto_sub` over TLS, with and without client certificates, and over the Unix socket.

use std::process::Command;

use waypost_tests::{Program, Run, Running, required_program};

use crate::doors::Doors;

/// The command with its words, which may name files of the certificates as `@name`.
fn command(program: Program, doors: &Doors, door: &str, words: &str) -> Option<Command> {
    let mut command = required_program(program)?;
    if door == "unix" {
        command.args(["--unix", &doors.certificates.file("mqtt.sock")]);
    } else {
        let place = doors.place(door);
        let (host, port) = place.split_once(':').unwrap();
        command.args(["-h", host, "-p", port]);
    }
    for word in words.split_whitespace() {
        match word.strip_prefix('@') {
            Some(file) => command.arg(doors.certificates.path(file)),
            None => command.arg(word),
        };
    }
    Some(command)
}

/// One message at each QoS and a big one, through `door`; none without mosquitto's clients.
fn conversation(doors: &Doors, door: &str, words: &str) -> Option<()> {
    let big: String = "0123456789abcdef".repeat(1 << 16);
    std::fs::write(doors.certificates.path("big"), &big).unwrap();
    for version in ["mqttv311", "mqttv5"] {
        let reader = format!("{words} -V {version} -i reader -q 2 -t chat/# -C 4 -W 20");
        let reader = Running::start(command(Program::MosquittoSub, doors, door, &reader)?);
        doors.server.wait_for_metric("waypost_subscriptions", 1.0);
        for body in ["-q 0 -m zero", "-q 1 -m one", "-q 2 -m two", "-q 1 -f @big"] {
            let words = format!("{words} -V {version} -t chat/lobby {body}");
            let publisher = command(Program::MosquittoPub, doors, door, &words)?;
            Run::to_end(publisher, [""; 0]).expect_success();
        }
        let heard = reader.finish().expect_success();
        assert_eq!(
            heard,
            format!("zero\none\ntwo\n{big}\n"),
            "{door}, {version}"
        );
        waypost_tests::wait_for("the reader to be gone", waypost_tests::LIMIT, || {
            (doors.server.metric("waypost_subscriptions") < 1.0).then_some(())
        });
    }
    Some(())
}

#[test]
fn conversations_over_tls_and_the_unix_socket() {
    let doors = Doors::open();
    for (door, words) in [
        ("mqtts", "--cafile @ca.pem"),
        ("mqtts", "--cafile @ca.pem --tls-version tlsv1.2"),
        ("mqtts", "--cafile @ca.pem --tls-version tlsv1.3"),
        ("unix", ""),
    ] {
        if conversation(&doors, door, words).is_none() {
            return;
        }
    }
}

#[test]
fn client_certificates_are_wanted_and_checked() {
    let doors = Doors::with(
        "client_ca = \"@ca.pem\"\nclient_certificates = \"required\"\ncrl = [\"@crl.pem\"]\n",
    );
    let known = "--cafile @ca.pem --cert @client.pem --key @client.key";
    if conversation(&doors, "mqtts", known).is_none() {
        return;
    }
    for (name, words) in [
        ("none", "--cafile @ca.pem"),
        (
            "expired",
            "--cafile @ca.pem --cert @expired-client.pem --key @expired-client.key",
        ),
        (
            "a stranger's",
            "--cafile @ca.pem --cert @stranger.pem --key @stranger.key",
        ),
        (
            "a server's",
            "--cafile @ca.pem --cert @server.pem --key @server.key",
        ),
        (
            "revoked",
            "--cafile @ca.pem --cert @revoked.pem --key @revoked.key",
        ),
    ] {
        let words = format!("{words} -t a -m x -q 1");
        let publisher = command(Program::MosquittoPub, &doors, "mqtts", &words).unwrap();
        let run = Run::to_end(publisher, [""; 0]);
        assert!(!run.success, "{name}: {run:?}");
    }
    assert!(doors.server.metric("waypost_clients") < 1.0);
    conversation(&doors, "mqtts", known).unwrap();
}

#[test]
fn a_server_that_is_not_whom_it_says_is_left() {
    for server in ["expired", "other-name", "stranger-server"] {
        let doors = Doors::as_server(server);
        let words = "--cafile @ca.pem -t a -m x";
        let Some(publisher) = command(Program::MosquittoPub, &doors, "mqtts", words) else {
            return;
        };
        assert!(!Run::to_end(publisher, [""; 0]).success, "{server}");
        let insecure = format!("{words} --insecure");
        let publisher = command(Program::MosquittoPub, &doors, "mqtts", &insecure).unwrap();
        let served = Run::to_end(publisher, [""; 0]).success;
        assert_eq!(served, server == "other-name", "{server} with --insecure");
    }
}

#[test]
fn users_say_their_passwords() {
    let doors = Doors::with_users();
    let publish = |words: &str| {
        let words = format!("--cafile @ca.pem -V mqttv5 -q 1 -m x {words}");
        let command = command(Program::MosquittoPub, &doors, "mqtts", &words)?;
        Some(Run::to_end(command, [""; 0]))
    };
    let ann = "--cafile @ca.pem -V mqttv5 -u ann -P secret -t ann/# -C 1 -W 20";
    let Some(reader) = command(Program::MosquittoSub, &doors, "mqtts", ann) else {
        return;
    };
    let reader = Running::start(reader);
    doors.server.wait_for_metric("waypost_subscriptions", 1.0);
    for (words, part) in [
        ("-u ann -P guess -t ann/a", "password"),
        ("-t ann/a", "authori"),
        ("-u bob -P secret -t ann/a", "authori"),
    ] {
        let run = publish(words).unwrap();
        let said = format!("{}{}", run.stdout, run.stderr);
        assert!(said.to_lowercase().contains(part), "{words}: {said}");
    }
    publish("-u ann -P secret -t ann/a")
        .unwrap()
        .expect_success();
    assert_eq!(reader.finish().expect_success(), "x\n");
}

/// Two members, each message to one of them.
#[test]
fn a_group_shares_over_tls() {
    let doors = Doors::open();
    let words = "--cafile @ca.pem -V mqttv5 -q 1 -t $share/pair/jobs -C 2 -W 20";
    let Some(first) = command(Program::MosquittoSub, &doors, "mqtts", words) else {
        return;
    };
    let first = Running::start(first);
    doors.server.wait_for_metric("waypost_subscriptions", 1.0);
    let second = Running::start(command(Program::MosquittoSub, &doors, "mqtts", words).unwrap());
    doors.server.wait_for_metric("waypost_subscriptions", 2.0);
    for job in ["a", "b", "c", "d"] {
        let words = format!("--cafile @ca.pem -q 1 -t jobs -m {job}");
        let publisher = command(Program::MosquittoPub, &doors, "mqtts", &words).unwrap();
        Run::to_end(publisher, [""; 0]).expect_success();
    }
    let heard = first.finish().expect_success() + &second.finish().expect_success();
    let mut jobs: Vec<_> = heard.lines().collect();
    jobs.sort_unstable();
    assert_eq!(jobs, ["a", "b", "c", "d"]);
}

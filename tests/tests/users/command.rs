//! `waypost users`, and what a running server makes of it.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Output, Stdio};

use waypost_mqtt::ReasonCode;
use waypost_tests::{RawClient, Server, ServerOptions, connect_packet, waypost};

use crate::{V5, credentials};

fn users(data_dir: &std::path::Path, arguments: &[&str], input: &str) -> Output {
    let mut child = waypost()
        .arg("users")
        .args(arguments)
        .arg("--data-dir")
        .arg(data_dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Who fails before it asks for a password has gone.
    if let Err(error) = child.stdin.take().unwrap().write_all(input.as_bytes()) {
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    }
    child.wait_with_output().unwrap()
}

#[track_caller]
fn done(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
fn failed(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_running_server_acts_on_each_change_at_once() {
    let server = Server::start();
    let directory = server.data_dir();
    let mut nobody = RawClient::connect(&server, V5, "nobody");
    let said = done(&users(
        &directory,
        &["add", "alice", "--allow", "a/#", "--password-stdin"],
        "secret\n",
    ));
    assert!(
        said.contains("added alice") && said.contains("the running server acts on it"),
        "{said}"
    );
    nobody.expect_refused(ReasonCode::NotAuthorized);
    let connect = |password| credentials(V5, "alice", Some("alice"), Some(password));
    let (mut alice, _) = RawClient::connect_with(&server, &connect("secret"));
    alice.subscribe("a/x", waypost_mqtt::QoS::AtMostOnce);

    let secret = directory.join("new-secret");
    std::fs::write(&secret, "better\n").unwrap();
    let said = done(&users(
        &directory,
        &[
            "passwd",
            "alice",
            "--password-file",
            secret.to_str().unwrap(),
        ],
        "",
    ));
    assert!(said.contains("changed the password of alice"), "{said}");
    alice.expect_refused(ReasonCode::NotAuthorized);
    let (mut alice, _) = RawClient::connect_with(&server, &connect("better"));

    let said = done(&users(&directory, &["list", "--json"], ""));
    assert_eq!(
        said,
        "[{\"name\":\"alice\",\"password\":true,\"certificate\":[],\"allow\":[\"a/#\"],\"publish\":[],\"subscribe\":[]}]\n"
    );
    let mode = std::fs::metadata(directory.join("users.toml"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(
        !std::fs::read_to_string(directory.join("users.toml"))
            .unwrap()
            .contains("better")
    );

    let said = done(&users(&directory, &["remove", "alice"], ""));
    assert!(
        said.contains("removed alice, the last user: nobody is asked who they are any more"),
        "{said}"
    );
    alice.expect_refused(ReasonCode::NotAuthorized);
    // With the last user gone, everybody is let in again: on loopback only.
    RawClient::connect_with(&server, &connect_packet(V5, "nobody"));
}

#[test]
fn a_server_that_refuses_is_told() {
    let server = ServerOptions::new().start();
    let directory = server.data_dir();
    done(&users(
        &directory,
        &["add", "alice", "--certificate", "cn=alice"],
        "",
    ));
    std::fs::write(directory.join("users.toml"), "[[usr]]\n").unwrap();
    let told = failed(&users(&directory, &["remove", "alice"], ""), 2);
    assert!(
        told.contains("users.toml:1: unknown section [[usr]]"),
        "{told}"
    );
}

#[test]
fn without_a_server_the_file_is_changed() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    let said = done(&users(
        &data_dir,
        &[
            "add",
            "pump",
            "--certificate",
            "cn=pump",
            "--publish",
            "p/#",
        ],
        "",
    ));
    assert!(said.contains("no server runs on"), "{said}");
    assert_eq!(
        done(&users(&data_dir, &["list"], "")),
        "pump  certificate cn=pump, publish p/#\n"
    );
    for (arguments, expect) in [
        (
            &["add", "pump", "--certificate", "cn=x"][..],
            "there is a user \"pump\" already",
        ),
        (&["add", "x", "--certificate", "x"], "expected kind=value"),
        (
            &["add", "x", "--allow", "a+", "--password-stdin"],
            "has a + that does not fill its level",
        ),
        (&["add", "x", "--password-stdin"], "the password is empty"),
        (
            &["passwd", "pumpe", "--password-stdin"],
            "there is no user \"pumpe\"; did you mean pump?",
        ),
        (
            &["remove", "pumpe"],
            "there is no user \"pumpe\"; did you mean pump?",
        ),
    ] {
        let input = if expect.contains("empty") {
            "\n"
        } else {
            "secret\n"
        };
        let told = failed(&users(&data_dir, arguments, input), 2);
        assert!(told.contains(expect), "{told}");
    }
    // A password on the command line is none of its words.
    let told = failed(
        &users(&data_dir, &["add", "x", "--password", "secret"], ""),
        2,
    );
    assert!(told.contains("--password-"), "{told}");
}

/// Goal: a server that other machines reach asks everybody, or does not start. Method: a door on every address, without
/// users, with one, and with the last one removed while it runs.
#[test]
fn a_door_beyond_loopback_needs_users() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    let file = data_dir.join("users.toml");
    let start = |mqtt: &str| {
        let mut command = waypost();
        command.args([
            "serve",
            "--mqtt",
            mqtt,
            "--http",
            "127.0.0.1:0",
            "--data-dir",
        ]);
        command.arg(&data_dir).output().unwrap()
    };
    let refused = failed(&start("0.0.0.0:0"), 2);
    let fix = format!(
        "add a user: `waypost users add NAME --data-dir '{}'`",
        data_dir.display()
    );
    assert!(refused.contains(&fix), "{refused}");
    done(&users(
        &data_dir,
        &["add", "alice", "--password-stdin"],
        "secret\n",
    ));
    let server = ServerOptions::new()
        .arguments(["--mqtt", "0.0.0.0:0"])
        .environment("WAYPOST_AUTH__USERS_FILE", file.to_str().unwrap())
        .start();
    let mut remove = waypost();
    remove
        .args(["users", "remove", "alice", "--data-dir"])
        .arg(server.data_dir())
        .env("WAYPOST_AUTH__USERS_FILE", &file);
    let told = failed(&remove.output().unwrap(), 1);
    assert!(
        told.contains("the running server keeps its old users"),
        "{told}"
    );
    assert!(
        told.contains("listen.mqtt = \"0.0.0.0:0\" can be reached from other machines"),
        "{told}"
    );
    let mut stranger = RawClient::open(server.mqtt(), V5);
    stranger.send(&waypost_mqtt::Packet::Connect(connect_packet(
        V5, "stranger",
    )));
    assert_eq!(
        stranger.receive().conn_ack().reason,
        ReasonCode::NotAuthorized
    );
    drop(server);
    done(&users(
        &data_dir,
        &["add", "alice", "--password-stdin"],
        "secret\n",
    ));
    // The words of the configuration that would open it to anybody.
    let told = failed(
        &waypost()
            .args([
                "serve",
                "--mqtt",
                "0.0.0.0:0",
                "--set",
                "auth.anonymous=true",
                "--data-dir",
            ])
            .arg(&data_dir)
            .output()
            .unwrap(),
        2,
    );
    assert!(
        told.contains("clients without a name are let in (auth.anonymous)"),
        "{told}"
    );
}

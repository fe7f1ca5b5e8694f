//! MQTT through a Unix socket.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

use waypost_tests::{LIMIT, Run, ServerOptions, waypost};

use crate::peer::{greet, ping};

#[test]
fn a_unix_socket_is_a_door_for_its_owner() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mqtt.sock");
    let text = path.display().to_string();
    // What a server left that was killed.
    drop(UnixListener::bind(&path).unwrap());
    let mut server = ServerOptions::new().arguments(["--unix", &text]).start();
    assert_eq!(server.door("unix"), text);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    greet(&mut stream, "local").unwrap();
    ping(&mut stream).unwrap();
    let (status, client) = server.get("/api/v1/clients/local");
    assert_eq!(status, 200);
    assert!(client.contains("\"address\": null"), "{client}");

    let other = tempfile::tempdir().unwrap();
    let mut command = waypost();
    command
        .args([
            "serve",
            "--mqtt",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
            "--unix",
            &text,
            "--data-dir",
        ])
        .arg(other.path().join("data"));
    let run = Run::to_end(command, [""; 0]);
    assert!(!run.success);
    assert!(
        run.stderr.contains("another program listens there"),
        "{}",
        run.stderr
    );
    ping(&mut stream).unwrap();

    assert!(server.terminate().success());
    assert!(!path.exists(), "the socket goes with its server");
}

//! HTTPS and WSS on the HTTP address.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};

use super::tests::{LIMIT, Running, read_all};
use crate::config::Config;
use crate::control::{Doors, Upgraded};
use crate::stream::Outgoing;
use crate::stream::peer;

type Client = StreamOwned<ClientConnection, TcpStream>;

/// Makes the HTTP address speak TLS, with a certificate of its own.
fn with_tls(config: &mut Config) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let folder = config.server.data_dir.parent().unwrap();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    config.http.tls = true;
    config.tls.cert = Some(cert);
    config.tls.key = Some(key);
}

/// The connection is closed a moment before it is counted.
fn wait_for_one(counter: &AtomicU64) {
    let deadline = Instant::now() + LIMIT;
    while counter.load(Ordering::Relaxed) != 1 {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
}

fn client(running: &Running) -> Client {
    StreamOwned::new(peer::client(), running.connect())
}

#[test]
fn the_http_address_speaks_tls_where_it_is_to() {
    let running = Running::with(with_tls);
    let mut client = client(&running);
    let ask = |client: &mut Client, path: &str, origin: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{origin}\r\n");
        client.write_all(request.as_bytes()).unwrap();
        let mut answer = vec![0; 64 * 1024];
        let count = client.read(&mut answer).unwrap();
        String::from_utf8(answer[..count].to_vec()).unwrap()
    };
    // One connection, several requests, one of them refused.
    assert!(ask(&mut client, "/health/live", "").starts_with("HTTP/1.1 200"));
    let own = "Origin: https://localhost\r\n";
    assert!(ask(&mut client, "/api/v1/server", own).starts_with("HTTP/1.1 200"));
    let plain = "Origin: http://localhost\r\n";
    assert!(ask(&mut client, "/api/v1/server", plain).starts_with("HTTP/1.1 403"));
}

/// Goal: plain text gets an alert and an end, and is counted; who says nothing holds its place for a bounded time.
#[test]
fn who_does_not_speak_tls_is_closed() {
    let running = Running::with(|config| {
        with_tls(config);
        config.http.request_timeout = Duration::from_millis(100);
    });
    let counts = &running.stats.server;
    let mut plain = running.connect();
    plain
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    plain.read_to_end(&mut answer).unwrap();
    assert_eq!(answer.first(), Some(&0x15), "an alert: {answer:?}");
    wait_for_one(&counts.handshakes_failed_tls);
    let mut silent = running.connect();
    assert_eq!(read_all(&mut silent), "");
    wait_for_one(&counts.http_timeouts);
}

/// Goal: an upgraded connection goes on where HTTP left it. Method: MQTT's first bytes come in one record with the
/// request; what is said after that is read by the connection that was handed over.
#[test]
fn an_upgrade_hands_over_the_tls_connection() {
    let (admit, admitted) = mpsc::channel::<Upgraded>();
    let admit = Box::new(move |upgraded| {
        let _ = admit.send(upgraded);
    });
    let running = Running::admitting(admit, with_tls);
    let mut client = client(&running);
    client
        .write_all(
            b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
              Sec-WebSocket-Protocol: mqtt\r\n\r\nfirst",
        )
        .unwrap();
    let mut upgraded = admitted.recv_timeout(LIMIT).unwrap();
    assert_eq!(upgraded.unread, b"first");
    let mut head = [0; 12];
    client.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 101");
    client.write_all(b"second").unwrap();
    let (mut tls, names) = upgraded.tls.take().unwrap();
    assert!(names.is_empty());
    upgraded.socket.set_nonblocking(false).unwrap();
    upgraded.socket.set_read_timeout(Some(LIMIT)).unwrap();
    let (mut plain, mut out, mut wire) = (Vec::new(), Outgoing::default(), [0; 1024]);
    while plain.is_empty() {
        let count = upgraded.socket.read(&mut wire).unwrap();
        tls.read(&wire[..count], &mut out, &mut |bytes| {
            plain.extend_from_slice(bytes);
        })
        .unwrap();
    }
    assert_eq!(plain, b"second");
    tls.write(b"third", &mut out).unwrap();
    upgraded.socket.write_all(out.as_slice()).unwrap();
    let mut rest = Vec::new();
    while !rest.ends_with(b"third") {
        let mut piece = [0; 256];
        let count = client.read(&mut piece).unwrap();
        rest.extend_from_slice(&piece[..count]);
    }
}

#[test]
fn a_certificate_that_cannot_be_read_is_told_at_the_start() {
    let mut config = Running::start().config.clone();
    let folder = tempfile::tempdir().unwrap();
    config.server.data_dir = folder.path().join("data");
    with_tls(&mut config);
    std::fs::write(config.tls.cert.as_ref().unwrap(), "nonsense").unwrap();
    let error = Doors::open(&config).map(|_| ()).unwrap_err().to_string();
    assert!(
        error.starts_with("http.tls: ") && error.contains("cert.pem"),
        "{error}"
    );
}

/// Goal: a renewed certificate is shown to whoever comes next; a broken one leaves the old.
#[test]
fn a_reload_takes_the_new_certificate() {
    let running = Running::with(with_tls);
    let shown = || {
        let mut client = client(&running);
        client
            .write_all(b"GET /health/live HTTP/1.1\r\n\r\n")
            .unwrap();
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        client.conn.peer_certificates().unwrap()[0].to_vec()
    };
    let first = shown();
    let control = running.control.as_ref().unwrap();
    let mut next = running.config.clone();
    with_tls(&mut next);
    *running.next.lock().unwrap() = Ok(Config {
        tls: crate::config::TlsConfig::default(),
        ..next.clone()
    });
    let kept = control.reload().unwrap().kept.concat();
    assert!(
        kept.contains("the HTTP address keeps its certificate"),
        "{kept}"
    );
    assert!(shown() == first);
    *running.next.lock().unwrap() = Ok(next);
    let kept = control.reload().unwrap().kept.concat();
    assert!(!kept.contains("the HTTP address"), "{kept}");
    assert!(shown() != first);
}

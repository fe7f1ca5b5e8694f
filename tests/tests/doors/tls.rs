//! TLS: which handshakes succeed, which do not, and what the others see of it.

use std::process::{Command, Stdio};
use std::sync::Arc;

use rustix::process::Signal;
use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};
use waypost_tests::{Certificates, LIMIT, Server, ServerOptions, wait_for};

use crate::peer::{client, client_of, greet_over_tls, ping};

fn server(certificates: &Certificates, toml: &str) -> Server {
    ServerOptions::new()
        .arguments([
            "--mqtts",
            "127.0.0.1:0",
            "--cert",
            &certificates.file("server.pem"),
            "--key",
            &certificates.file("server.key"),
        ])
        .configuration(toml)
        .start()
}

#[test]
fn both_versions_that_are_safe_connect() {
    let certificates = Certificates::make();
    let server = server(&certificates, "");
    for version in [&TLS12, &TLS13] {
        let config = Arc::new(client_of(&certificates, None, &[version]));
        let mut stream = greet_over_tls(&server, &config, "a").unwrap();
        ping(&mut stream).unwrap();
        assert_eq!(stream.conn.protocol_version(), Some(version.version));
    }
    server.wait_for_metric("waypost_handshakes_total", 2.0);
}

/// What openssl's client says of a handshake with these arguments; none where it is not installed.
fn openssl(server: &Server, arguments: &str) -> Option<String> {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &server.door("mqtts")])
        .args(arguments.split(' '))
        .stdin(Stdio::null())
        .output();
    let Ok(output) = output else {
        eprintln!("skipped: openssl is not installed");
        return None;
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn odd_handshakes_are_refused_with_an_alert() {
    let certificates = Certificates::make();
    let server = server(&certificates, "");
    let mut failed = 0.0;
    for (arguments, expect) in [
        ("-tls1_3 -alpn mqtt", "ALPN protocol: mqtt"),
        ("-tls1_3 -alpn h2,mqtt", "ALPN protocol: mqtt"),
        ("-tls1_3", "No ALPN negotiated"),
        // One certificate for whatever name the client asks for: it decides whether it believes it.
        ("-servername other.example", "Verification error"),
        ("-tls1_2", "Protocol  : TLSv1.2"),
        ("-tls1_1 -cipher DEFAULT@SECLEVEL=0", "alert"),
        ("-tls1_2 -cipher AES128-SHA", "alert handshake failure"),
        ("-tls1_2 -curves secp521r1", "alert handshake failure"),
        ("-alpn h2", "alert no application protocol"),
    ] {
        let Some(said) = openssl(&server, arguments) else {
            return;
        };
        assert!(said.contains(expect), "{arguments}: {said}");
        if expect.starts_with("alert") {
            failed += 1.0;
        }
    }
    server.wait_for_metric("waypost_handshakes_failed_tls_total", failed);
    let config = Arc::new(client(&certificates, None));
    greet_over_tls(&server, &config, "a").unwrap();
}

/// Goal: a phone that comes back pays no signature. Method: a client that keeps its tickets connects twice.
#[test]
fn a_client_that_returns_resumes() {
    let certificates = Certificates::make();
    let server = server(&certificates, "");
    for (count, version) in [(1.0, &TLS12), (2.0, &TLS13)] {
        let config = Arc::new(client_of(&certificates, None, &[version]));
        let mut first = greet_over_tls(&server, &config, "phone").unwrap();
        ping(&mut first).unwrap();
        drop(first);
        let mut second = greet_over_tls(&server, &config, "phone").unwrap();
        ping(&mut second).unwrap();
        assert_eq!(second.conn.handshake_kind(), Some(HandshakeKind::Resumed));
        server.wait_for_metric("waypost_handshakes_resumed_total", count);
    }
}

#[test]
fn client_certificates_are_asked_for_as_configured() {
    let certificates = Certificates::make();
    let mut refused = 0.0;
    for (mode, own, expect) in [
        ("none", None, true),
        ("none", Some("stranger"), true),
        ("optional", None, true),
        ("optional", Some("client"), true),
        ("optional", Some("stranger"), false),
        ("required", None, false),
        ("required", Some("client"), true),
        ("required", Some("expired-client"), false),
        ("required", Some("stranger"), false),
        ("required", Some("revoked"), false),
        // A server's certificate is not one of a client.
        ("required", Some("next-server"), false),
    ] {
        let toml = if mode == "none" {
            String::new()
        } else {
            with_client_certificates(&certificates, mode, true)
        };
        let server = server(&certificates, &toml);
        for version in [&TLS12, &TLS13] {
            let config = Arc::new(client_of(&certificates, own, &[version]));
            let greeted = greet_over_tls(&server, &config, "a");
            assert_eq!(greeted.is_ok(), expect, "{mode} {own:?}: {greeted:?}");
        }
        if !expect {
            refused += 1.0;
            server.wait_for_metric("waypost_handshakes_failed_certificate_total", 2.0);
        }
    }
    assert!(refused > 0.0);
}

fn with_client_certificates(certificates: &Certificates, mode: &str, with_crl: bool) -> String {
    let crl = if with_crl {
        format!("crl = [{:?}]\n", certificates.file("crl.pem"))
    } else {
        String::new()
    };
    // tls.client_ca, tls.client_certificates, tls.crl
    format!(
        "[tls]\nclient_ca = {:?}\nclient_certificates = {mode:?}\n{crl}",
        certificates.file("ca.pem")
    )
}

/// Goal: a list that is taken over on SIGHUP shuts out who is on it, also with a ticket from before; who is connected
/// stays.
#[test]
fn a_revocation_list_acts_after_sighup() {
    let certificates = Certificates::make();
    let server = server(
        &certificates,
        &with_client_certificates(&certificates, "required", false),
    );
    let eve = Arc::new(client(&certificates, Some("revoked")));
    let mut connected = greet_over_tls(&server, &eve, "eve").unwrap();
    ping(&mut connected).unwrap();
    let file = server.data_dir().parent().unwrap().join("waypost.toml");
    std::fs::write(
        file,
        with_client_certificates(&certificates, "required", true),
    )
    .unwrap();
    server.signal(Signal::HUP);
    server.wait_for_metric("waypost_reloads_total", 1.0);
    assert!(greet_over_tls(&server, &eve, "eve-again").is_err());
    ping(&mut connected).unwrap();
    let ann = Arc::new(client(&certificates, Some("client")));
    greet_over_tls(&server, &ann, "ann").unwrap();
}

#[test]
fn the_handshake_threads_are_as_many_as_configured_and_the_least_important() {
    let certificates = Certificates::make();
    // server.handshake_threads
    let server = server(&certificates, "[server]\nhandshake_threads = 3\n");
    let porters = wait_for("three threads at nice 19", LIMIT, || {
        let porters = threads(&server, "porter-");
        let are_nice = !porters.is_empty() && porters.iter().all(|(_, nice)| *nice == 19);
        are_nice.then_some(porters)
    });
    assert_eq!(porters.len(), 3, "{porters:?}");
    assert_eq!(threads(&server, "listener"), [("listener".to_owned(), 15)]);
    // The first is the process itself: whoever started it may be nice.
    let own = threads(&server, "waypost")[0].1;
    for (name, nice) in threads(&server, "shard-") {
        assert_eq!(nice, own, "{name}");
    }
}

/// Names and niceness of the server's threads whose name begins so.
fn threads(server: &Server, begin: &str) -> Vec<(String, i32)> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
    let stats =
        tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).ok());
    stats
        .filter_map(|stat| {
            let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
            // Behind the name: state is field 3, nice field 19.
            let nice = rest.split_whitespace().nth(16)?.parse().ok()?;
            name.starts_with(begin).then(|| (name.to_owned(), nice))
        })
        .collect()
}

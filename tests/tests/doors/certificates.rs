//! The server's certificate: what is said of files that are wrong, and taking over a new one while clients are connected.

use std::fs;
use std::sync::Arc;

use rustix::process::Signal;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use waypost_tests::{Certificates, LIMIT, Run, Server, ServerOptions, wait_for, waypost};

use crate::peer::{client, greet_over_tls, ping};

#[test]
fn files_that_cannot_be_used_are_told_with_a_remedy() {
    let certificates = Certificates::make();
    let write = |name: &str, text: &str| {
        fs::write(certificates.path(name), text).unwrap();
        certificates.file(name)
    };
    let read = |name: &str| fs::read_to_string(certificates.path(name)).unwrap();
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let (cert, key) = (
        certificates.file("server.pem"),
        certificates.file("server.key"),
    );
    let cut = write("cut.pem", &read("server.pem")[..200]);
    for (cert, key, expect) in [
        (
            "/nowhere/server.pem",
            key.as_str(),
            "cannot read /nowhere/server.pem",
        ),
        (
            &cert,
            "/nowhere/server.key",
            "cannot read /nowhere/server.key",
        ),
        (&key, &cert, "are the two files swapped?"),
        (&write("empty.pem", ""), &key, "PEM is needed"),
        (&cut, &key, "is damaged"),
        (
            &cert,
            &certificates.file("next-server.key"),
            "is not that of the certificate in",
        ),
        (&cert, &write("locked.key", encrypted), "is encrypted"),
        (
            &write("both.pem", &(read("server.key") + &read("server.pem"))),
            &cert,
            "there is no private key in",
        ),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let mut command = waypost();
        command
            .args([
                "serve",
                "--mqtt",
                "127.0.0.1:0",
                "--http",
                "127.0.0.1:0",
                "--mqtts",
                "127.0.0.1:0",
            ])
            .args(["--cert", cert, "--key", key, "--data-dir"])
            .arg(directory.path().join("data"));
        let run = Run::to_end(command, [""; 0]);
        assert!(!run.success);
        assert!(run.stderr.contains(expect), "{expect}: {}", run.stderr);
        assert!(run.stderr.contains("mqtts 127.0.0.1:0"), "{}", run.stderr);
    }
}

#[test]
fn an_expired_certificate_is_served_with_a_warning() {
    let certificates = Certificates::make();
    let server = start(&certificates, "expired");
    assert!(server.log().contains("has expired"), "{}", server.log());
    assert!(server.metric("waypost_certificate_expiry_time_seconds") < 1_600_000_000.0);
}

fn start(certificates: &Certificates, name: &str) -> Server {
    install(certificates, name);
    ServerOptions::new()
        .arguments([
            "--mqtts",
            "127.0.0.1:0",
            "--cert",
            &certificates.file("live.pem"),
            "--key",
            &certificates.file("live.key"),
        ])
        .start()
}

/// Puts a certificate where the server reads it.
fn install(certificates: &Certificates, name: &str) {
    for kind in ["pem", "key"] {
        let from = certificates.path(&format!("{name}.{kind}"));
        fs::copy(from, certificates.path(&format!("live.{kind}"))).unwrap();
    }
}

fn shown(server: &Server, certificates: &Certificates) -> CertificateDer<'static> {
    let config = Arc::new(client(certificates, None));
    let stream = greet_over_tls(server, &config, "looks").unwrap();
    stream.conn.peer_certificates().unwrap()[0]
        .clone()
        .into_owned()
}

fn certificate(certificates: &Certificates, name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(certificates.path(&format!("{name}.pem"))).unwrap()
}

/// Goal: renewing a certificate costs nobody a connection, and a mistake in it nothing at all.
#[test]
fn a_new_certificate_is_taken_over_and_a_bad_one_is_not() {
    let certificates = Certificates::make();
    let server = start(&certificates, "server");
    // 2100-01-01
    assert!(
        (server.metric("waypost_certificate_expiry_time_seconds") - 4_102_444_800.0).abs() < 1.0
    );
    let config = Arc::new(client(&certificates, None));
    let mut connected = greet_over_tls(&server, &config, "stays").unwrap();
    assert_eq!(
        shown(&server, &certificates),
        certificate(&certificates, "server")
    );

    install(&certificates, "next-server");
    server.signal(Signal::HUP);
    server.wait_for_metric("waypost_reloads_total", 1.0);
    assert_eq!(
        shown(&server, &certificates),
        certificate(&certificates, "next-server")
    );
    ping(&mut connected).unwrap();

    fs::write(certificates.path("live.pem"), "nonsense").unwrap();
    server.signal(Signal::HUP);
    server.wait_for_metric("waypost_certificate_reloads_failed_total", 1.0);
    wait_for("the reason in the log", LIMIT, || {
        server
            .log()
            .contains("keeps its certificates: there is no certificate in")
            .then_some(())
    });
    assert_eq!(
        shown(&server, &certificates),
        certificate(&certificates, "next-server")
    );
    ping(&mut connected).unwrap();
}

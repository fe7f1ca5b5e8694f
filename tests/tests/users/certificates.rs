//! Client certificates that are users.

use std::process::Output;

use waypost_tests::{Certificates, ServerOptions, waypost};

use crate::{House, user};

/// `waypost pub` through the door with TLS, with that certificate or none, at `QoS` 1 so that a refusal is seen.
fn publish(
    house: &House,
    certificates: &Certificates,
    own: Option<&str>,
    words: &[&str],
) -> Output {
    let port = house
        .server
        .door("mqtts")
        .rsplit_once(':')
        .unwrap()
        .1
        .to_owned();
    let mut command = waypost();
    command
        .args([
            "pub",
            "--url",
            &format!("mqtts://localhost:{port}"),
            "--cafile",
        ])
        .arg(certificates.path("ca.pem"))
        .args(["-m", "x", "-q", "1"])
        .args(words);
    if let Some(own) = own {
        command
            .arg("--cert")
            .arg(certificates.path(&format!("{own}.pem")));
        command
            .arg("--key")
            .arg(certificates.path(&format!("{own}.key")));
    }
    command.output().unwrap()
}

fn house(certificates: &Certificates, users: &str, shards: u16) -> House {
    let options = ServerOptions::new()
        .shards(shards)
        .arguments(["--mqtts", "127.0.0.1:0", "--cert"])
        .arguments([
            &certificates.file("server.pem"),
            "--key",
            &certificates.file("server.key"),
        ])
        .arguments([
            "--set",
            &format!("tls.client_ca={}", certificates.file("ca.pem")),
        ])
        .arguments(["--set", "tls.client_certificates=optional"]);
    House::with(users, options)
}

/// `ann` comes with the certificate of `cn=ann`; `carl` with a password.
fn users() -> String {
    "[[user]]\nname = \"ann\"\ncertificate = [\"cn=ann\"]\nallow = \"own/%u\"\n".to_owned()
        + &user("carl", "allow = \"own/%u\"")
}

#[test]
fn a_certificate_is_a_user() {
    let certificates = Certificates::make();
    let house = house(&certificates, &users(), 1);
    let (ann, bob) = (Some("client"), Some("bob"));
    for (own, words, expect) in [
        (ann, &["-t", "own/ann"][..], ""),
        (ann, &["-t", "own/ann", "-u", "ann"], ""),
        (ann, &["-t", "own/carl"], "Not authorized"),
        // Who shows a certificate and says a name must be the same in both.
        (
            ann,
            &["-t", "own/carl", "-u", "carl", "-P", "secret"],
            "Not authorized",
        ),
        (ann, &["-t", "own/ann", "-u", "bob"], "Not authorized"),
        // A certificate that is nobody's opens nothing, and is in nobody's way.
        (bob, &["-t", "own/bob"], "Not authorized"),
        (bob, &["-t", "own/carl", "-u", "carl", "-P", "secret"], ""),
        (None, &["-t", "own/ann"], "Not authorized"),
        // The name alone is nothing.
        (
            None,
            &["-t", "own/ann", "-u", "ann"],
            "Bad User Name or Password",
        ),
        (None, &["-t", "own/carl", "-u", "carl", "-P", "secret"], ""),
    ] {
        let output = publish(&house, &certificates, own, words);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            output.status.success(),
            expect.is_empty(),
            "{own:?} {words:?}: {told}"
        );
        assert!(told.contains(expect), "{own:?} {words:?}: {told}");
    }
}

/// Goal: a session of one who came by certificate is not another's, on whatever shard that one comes in. Method: the
/// same client id, and a session that stays.
#[test]
fn a_session_made_by_certificate_is_nobody_elses() {
    let certificates = Certificates::make();
    for shards in [1, 2] {
        let house = house(&certificates, &users(), shards);
        let stays = ["-t", "own/ann", "-i", "id", "-c", "-x", "600"];
        let output = publish(&house, &certificates, Some("client"), &stays);
        assert!(output.status.success(), "{output:?}");
        for _ in 0..4 {
            let carl = ["-t", "own/carl", "-i", "id", "-u", "carl", "-P", "secret"];
            let output = publish(&house, &certificates, None, &carl);
            assert!(!output.status.success(), "{shards} shards");
        }
        assert!(
            publish(&house, &certificates, Some("client"), &stays)
                .status
                .success()
        );
        assert_eq!(
            house.count("waypost_sessions_resumed_total"),
            1,
            "{shards} shards"
        );
    }
}

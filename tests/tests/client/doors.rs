//! The same client through every door.

use waypost_client::{Backoff, Client, ProtocolVersion, Publish, QoS, Subscribe};
use waypost_tests::{Certificates, Server, ServerOptions};

use crate::{builder, message, run, text};

fn server(certificates: &Certificates, directory: &std::path::Path) -> Server {
    let socket = directory.join("mqtt.sock");
    ServerOptions::new()
        .arguments([
            "--mqtts",
            "127.0.0.1:0",
            "--ws",
            "127.0.0.1:0",
            "--wss",
            "127.0.0.1:0",
            "--unix",
            socket.to_str().unwrap(),
            "--cert",
            &certificates.file("server.pem"),
            "--key",
            &certificates.file("server.key"),
        ])
        .start()
}

/// Goal: every door carries every QoS both ways. Method: a client goes through each, subscribes and publishes a small and
/// a large message at each QoS, and gets them back in order.
#[test]
fn every_door_carries_every_qos() {
    let certificates = Certificates::make();
    let directory = tempfile::tempdir().unwrap();
    let server = server(&certificates, directory.path());
    let urls = [
        format!("mqtt://{}", server.mqtt()),
        format!("mqtts://{}", server.door("mqtts")),
        format!("ws://{}", server.door("ws").trim_end_matches("/mqtt")),
        format!("wss://{}", server.door("wss").trim_end_matches("/mqtt")),
        format!("ws://{}", server.http()),
        format!("unix://{}", directory.path().join("mqtt.sock").display()),
    ];
    let large = "x".repeat(200_000);
    run(async {
        for url in &urls {
            let client = Client::builder(url).ca(certificates.path("ca.pem"));
            let client = client.connect().await.expect(url);
            let subscribe = Subscribe::to("door/+").qos(QoS::ExactlyOnce);
            let mut subscription = client.subscribe(subscribe).await.expect(url);
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                for payload in ["small", &large] {
                    let small_or_large = Publish::new("door/1", payload).qos(qos);
                    client.publish(small_or_large).await.expect(url);
                    let message = message(&mut subscription).await;
                    assert_eq!(
                        (message.qos(), message.payload()),
                        (qos, payload.as_bytes())
                    );
                }
            }
            drop(subscription);
            client.disconnect().await;
        }
    });
}

#[test]
fn older_versions_are_spoken_where_asked() {
    let server = Server::start();
    run(async {
        for version in [ProtocolVersion::V31, ProtocolVersion::V311] {
            let client = builder(&server).version(version).connect().await.unwrap();
            let mut all = client.subscribe("a/#").await.unwrap();
            let mut one = client.subscribe("a/b").await.unwrap();
            let message = Publish::new("a/b", "old").qos(QoS::ExactlyOnce);
            client.publish(message).await.unwrap();
            assert_eq!(
                (text(&mut all).await, text(&mut one).await),
                ("old".into(), "old".into())
            );
        }
    });
}

#[test]
fn a_certificate_nobody_vouches_for_is_refused() {
    let certificates = Certificates::make();
    let directory = tempfile::tempdir().unwrap();
    let server = server(&certificates, directory.path());
    run(async {
        let url = format!("mqtts://{}", server.door("mqtts"));
        let builder = Client::builder(url).ca(certificates.path("stranger-ca.pem"));
        let error = builder
            .reconnect(Backoff::new())
            .connect()
            .await
            .unwrap_err();
        assert!(error.to_string().contains("not trusted here"), "{error}");
    });
}

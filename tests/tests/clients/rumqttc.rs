//! rumqttc, the Rust client, in its blocking form.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rumqttc::{
    Client, Connection, Event, Incoming, LastWill, MqttOptions, QoS, TlsConfiguration, Transport,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use waypost_tests::{LIMIT, Server};

use crate::doors::Doors;

/// More than any test has in flight at once.
const REQUESTS_MAX: usize = 2000;

fn connect(
    server: &Server,
    client_id: &str,
    change: impl FnOnce(&mut MqttOptions),
) -> (Client, Connection) {
    let mut options = MqttOptions::new(
        client_id,
        server.mqtt().ip().to_string(),
        server.mqtt().port(),
    );
    options
        .set_keep_alive(Duration::from_secs(30))
        .set_max_packet_size(16 << 20, 16 << 20);
    change(&mut options);
    Client::new(options, REQUESTS_MAX)
}

/// Drives the connection until an incoming packet is what is looked for.
fn until<T>(
    connection: &mut Connection,
    what: &str,
    mut wanted: impl FnMut(&Incoming) -> Option<T>,
) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(event) = connection.recv_timeout(left) else {
            panic!("waited for {what}")
        };
        let event = event.unwrap_or_else(|error| panic!("{error} while waiting for {what}"));
        if let Event::Incoming(packet) = event
            && let Some(found) = wanted(&packet)
        {
            return found;
        }
    }
}

fn subscribed(connection: &mut Connection) {
    until(connection, "SUBACK", |packet| {
        matches!(packet, Incoming::SubAck(_)).then_some(())
    });
}

fn message(connection: &mut Connection) -> (String, Vec<u8>, QoS, bool) {
    until(connection, "a message", |packet| match packet {
        Incoming::Publish(publish) => Some((
            publish.topic.clone(),
            publish.payload.to_vec(),
            publish.qos,
            publish.retain,
        )),
        _ => None,
    })
}

#[test]
fn qos_round_trips_in_order() {
    round_trips(&Server::start(), |_| {});
}

#[test]
fn qos_round_trips_in_order_over_tls() {
    let doors = Doors::open();
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(doors.certificates.path("ca.pem"));
    roots.add(authority.unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let place = doors.place("mqtts");
    let (host, port) = place.split_once(':').unwrap();
    round_trips(&doors.server, |options| {
        let mut secret = MqttOptions::new(options.client_id(), host, port.parse().unwrap());
        secret.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(
            Arc::new(config.clone()),
        )));
        *options = secret;
    });
}

/// One client publishes to itself, at every QoS.
fn round_trips(server: &Server, change: impl Fn(&mut MqttOptions)) {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let (client, mut connection) = connect(server, "self", &change);
        client.subscribe("self/#", qos).unwrap();
        subscribed(&mut connection);
        for number in 0..200 {
            client
                .publish("self/count", qos, false, number.to_string())
                .unwrap();
        }
        for number in 0..200 {
            let expect = (
                "self/count".to_owned(),
                number.to_string().into_bytes(),
                qos,
                false,
            );
            assert_eq!(message(&mut connection), expect);
        }
    }
}

#[test]
fn large_payloads_and_retained_messages() {
    let server = Server::start();
    let (client, mut connection) = connect(&server, "large", |_| {});
    let payload: Vec<u8> = (0..4_000_000_u32)
        .map(|index| index.to_le_bytes()[0])
        .collect();
    client
        .publish("large", QoS::AtLeastOnce, true, payload.clone())
        .unwrap();
    until(&mut connection, "PUBACK", |packet| {
        matches!(packet, Incoming::PubAck(_)).then_some(())
    });
    client.subscribe("large", QoS::AtLeastOnce).unwrap();
    let (topic, heard, _, retain) = message(&mut connection);
    assert!(topic == "large" && retain && heard == payload);
}

#[test]
fn a_will_and_a_session_that_is_taken_up_again() {
    let server = Server::start();
    let (watching, mut watcher) = connect(&server, "watcher", |options| {
        options.set_clean_session(false);
    });
    watching.subscribe("gone", QoS::AtLeastOnce).unwrap();
    subscribed(&mut watcher);
    drop((watching, watcher));

    let (doomed, mut connection) = connect(&server, "doomed", |options| {
        options.set_last_will(LastWill::new("gone", "lost", QoS::AtLeastOnce, false));
    });
    until(&mut connection, "CONNACK", |packet| {
        matches!(packet, Incoming::ConnAck(_)).then_some(())
    });
    drop((doomed, connection));

    let (_watching, mut watcher) = connect(&server, "watcher", |options| {
        options.set_clean_session(false);
    });
    let present = until(&mut watcher, "CONNACK", |packet| match packet {
        Incoming::ConnAck(answer) => Some(answer.session_present),
        _ => None,
    });
    assert!(present);
    assert_eq!(message(&mut watcher).1, b"lost");
}

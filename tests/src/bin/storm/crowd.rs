//! Clients that all come at once.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use waypost_tests::{Certificates, LIMIT, Server};

/// Connections on their way at once.
const AT_ONCE: usize = 500;
/// The same over TLS, where each is a handshake for the client as well.
const AT_ONCE_TLS: usize = 100;
/// Connections from one address: each leaves a port that is not free for a minute.
const PER_ADDRESS: usize = 5_000;

pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// What the clients do.
enum Kind {
    /// Connect, and leave.
    Accept,
    /// Leave, connect again, CONNECT.
    Reconnect(Vec<TcpStream>),
    /// The same over TLS.
    Tls(Vec<TlsStream>, Arc<ClientConfig>),
}

pub struct Crowd {
    kind: Kind,
    len: usize,
    address: SocketAddr,
    opened: usize,
}

impl Crowd {
    pub fn new(server: &Server, certificates: &Certificates, kind: &str, len: u32) -> Self {
        let len = usize::try_from(len).unwrap();
        let (kind, address) = match kind {
            "accept" => (Kind::Accept, server.mqtt()),
            "reconnect" => (Kind::Reconnect(Vec::new()), server.mqtt()),
            _ => (
                Kind::Tls(Vec::new(), client(certificates)),
                server.door("mqtts").parse().unwrap(),
            ),
        };
        Self {
            kind,
            len,
            address,
            opened: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Before the first storm everybody is there.
    pub fn prepare(&mut self) {
        if !matches!(self.kind, Kind::Accept) {
            self.storm();
        }
    }

    /// Everybody leaves and comes again.
    pub fn storm(&mut self) {
        let len = self.len;
        let (address, opened) = (self.address, &mut self.opened);
        let mut open = |count: usize| -> Vec<TcpStream> {
            (0..count)
                .map(|_| {
                    *opened += 1;
                    connected(address, *opened)
                })
                .collect()
        };
        match &mut self.kind {
            Kind::Accept => {
                for begin in (0..len).step_by(AT_ONCE) {
                    drop(open(AT_ONCE.min(len - begin)));
                }
            }
            Kind::Reconnect(streams) => {
                streams.clear();
                for begin in (0..len).step_by(AT_ONCE) {
                    let mut new = open(AT_ONCE.min(len - begin));
                    for (number, stream) in new.iter_mut().enumerate() {
                        stream.write_all(&packet(begin + number)).unwrap();
                    }
                    for stream in &mut new {
                        take_connack(stream);
                    }
                    streams.append(&mut new);
                }
            }
            Kind::Tls(streams, config) => {
                streams.clear();
                for begin in (0..len).step_by(AT_ONCE_TLS) {
                    let new = open(AT_ONCE_TLS.min(len - begin));
                    let mut new: Vec<TlsStream> =
                        new.into_iter().map(|stream| wrap(stream, config)).collect();
                    for stream in &mut new {
                        stream.conn.write_tls(&mut stream.sock).unwrap();
                    }
                    for (number, stream) in new.iter_mut().enumerate() {
                        stream.write_all(&packet(begin + number)).unwrap();
                    }
                    for stream in &mut new {
                        take_connack(stream);
                    }
                    streams.append(&mut new);
                }
            }
        }
    }
}

/// From one of many addresses of loopback.
fn connected(to: SocketAddr, number: usize) -> TcpStream {
    let host = u32::try_from(number / PER_ADDRESS).unwrap();
    let from = SocketAddrV4::new(Ipv4Addr::from(0x7f00_0100 + host % 0xff00), 0);
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    );
    let socket = socket.unwrap();
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true).unwrap();
    bind(&socket, &from).unwrap();
    connect(&socket, &to).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true).unwrap();
    stream
        .set_read_timeout(Some(LIMIT + Duration::from_secs(10)))
        .unwrap();
    stream
}

/// CONNECT of MQTT 3.1.1.
fn packet(number: usize) -> Vec<u8> {
    let id = format!("storm-{number:06}");
    [
        &[0x10, 24, 0, 4][..],
        b"MQTT",
        &[4, 2, 0, 0, 0, 12],
        id.as_bytes(),
    ]
    .concat()
}

fn take_connack(stream: &mut impl Read) {
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).expect("nobody is lost");
    assert_eq!(answer, [0x20, 2, 0, 0]);
}

/// A client that resumes nothing: each handshake is a whole one.
pub fn client(certificates: &Certificates) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(certificates.path("ca.pem")).unwrap();
    roots.add(authority).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

pub fn wrap(stream: TcpStream, config: &Arc<ClientConfig>) -> TlsStream {
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
    StreamOwned::new(connection, stream)
}

//! The client's side of every door.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use waypost_tests::{Certificates, LIMIT, Server};

pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// What the server says to a CONNECT it accepts.
pub const CONNACK: [u8; 4] = [0x20, 2, 0, 0];

/// A CONNECT of MQTT 3.1.1 with that client id.
pub fn connect(client_id: &str) -> Vec<u8> {
    let length = u8::try_from(client_id.len()).unwrap();
    let mut packet = vec![
        0x10,
        12 + length,
        0,
        4,
        b'M',
        b'Q',
        b'T',
        b'T',
        4,
        2,
        0,
        60,
        0,
        length,
    ];
    packet.extend(client_id.bytes());
    packet
}

/// Sends a CONNECT and takes the CONNACK.
pub fn greet(stream: &mut (impl Read + Write), client_id: &str) -> io::Result<()> {
    stream.write_all(&connect(client_id))?;
    stream.flush()?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    assert_eq!(answer, CONNACK);
    Ok(())
}

/// Whether the server still answers: PINGREQ, PINGRESP.
pub fn ping(stream: &mut (impl Read + Write)) -> io::Result<()> {
    stream.write_all(&[0xc0, 0])?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer)?;
    assert_eq!(answer, [0xd0, 0]);
    Ok(())
}

/// All that comes until the server closes.
pub fn read_to_end(stream: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}"),
    }
    bytes
}

pub fn tcp(address: &str) -> TcpStream {
    let address: SocketAddr = address.parse().unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A client of TLS that believes the authority of `certificates` and shows the certificate of that name, if any.
pub fn client(certificates: &Certificates, name: Option<&str>) -> ClientConfig {
    client_of(certificates, name, rustls::DEFAULT_VERSIONS)
}

pub fn client_of(
    certificates: &Certificates,
    name: Option<&str>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(certificates.path("ca.pem")).unwrap();
    roots.add(authority).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let Some(name) = name else {
        return builder.with_no_client_auth();
    };
    let own = CertificateDer::from_pem_file(certificates.path(&format!("{name}.pem"))).unwrap();
    let key = PrivateKeyDer::from_pem_file(certificates.path(&format!("{name}.key"))).unwrap();
    builder.with_client_auth_cert(vec![own], key).unwrap()
}

/// A TLS connection over `socket`; its handshake happens with the first byte.
pub fn wrap(socket: TcpStream, config: &Arc<ClientConfig>) -> TlsStream {
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
    StreamOwned::new(connection, socket)
}

/// Greets through a TLS door; the error is what the client's TLS says of it.
pub fn greet_over_tls(
    server: &Server,
    config: &Arc<ClientConfig>,
    client_id: &str,
) -> Result<TlsStream, String> {
    let mut stream = wrap(tcp(&server.door("mqtts")), config);
    greet(&mut stream, client_id).map_err(|error| error.to_string())?;
    Ok(stream)
}

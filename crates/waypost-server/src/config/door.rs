//! The doors: `[listen]` and `[tls]`, and `[[listener]]` for a door with settings of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;

use super::Config;
use super::array::{Key, Row};
use super::field::{Field, Word};

/// `[listen]`: where the server listens. Port 0 lets the system choose.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenConfig {
    /// MQTT over TCP.
    pub mqtt: Vec<SocketAddr>,
    /// MQTT over TLS.
    pub mqtts: Vec<SocketAddr>,
    /// MQTT over WebSocket.
    pub ws: Vec<SocketAddr>,
    /// MQTT over WebSocket over TLS.
    pub wss: Vec<SocketAddr>,
    /// MQTT through a Unix socket.
    pub unix: Option<PathBuf>,
    /// HTTP: API, health, metrics.
    pub http: SocketAddr,
    /// `[[listener]]`: the doors with settings of their own.
    pub own: Vec<ListenerConfig>,
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self {
            mqtt: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 1883))],
            mqtts: Vec::new(),
            ws: Vec::new(),
            wss: Vec::new(),
            unix: None,
            http: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            own: Vec::new(),
        }
    }
}

/// What one door needs for TLS: `[tls]`, over it what its own `[[listener]]` says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TlsConfig {
    /// The server's certificate and the chain behind it, PEM. A TLS door has one.
    pub cert: Option<PathBuf>,
    /// Its private key, PEM. A TLS door has one.
    pub key: Option<PathBuf>,
    /// The authorities whose client certificates are taken, PEM.
    pub client_ca: Option<PathBuf>,
    /// Whether clients are asked for a certificate.
    pub client_certificates: ClientCertificates,
    /// Certificate revocation lists for client certificates, PEM or DER.
    pub crl: Vec<PathBuf>,
}

/// Whether clients are asked for a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// They are not asked.
    #[default]
    None,
    /// They are asked; one that is given must be good.
    Optional,
    /// Without a good one there is no connection.
    Required,
}

impl ClientCertificates {
    const ALL: [Self; 3] = [Self::None, Self::Optional, Self::Required];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Optional => "optional",
            Self::Required => "required",
        }
    }

    pub(super) fn names() -> Vec<&'static str> {
        Self::ALL.into_iter().map(Self::as_str).collect()
    }

    pub(super) fn put(&mut self, name: &str) -> bool {
        let found = Self::ALL.into_iter().find(|known| known.as_str() == name);
        found.map(|found| *self = found).is_some()
    }
}

/// What a door speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// MQTT over TCP.
    #[default]
    Mqtt,
    /// MQTT over TLS.
    Mqtts,
    /// MQTT over WebSocket.
    Ws,
    /// MQTT over WebSocket over TLS.
    Wss,
    /// MQTT through a Unix socket.
    Unix,
}

impl Protocol {
    const ALL: [Self; 5] = [Self::Mqtt, Self::Mqtts, Self::Ws, Self::Wss, Self::Unix];

    /// As it is written: the key of `[listen]`, the scheme of a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mqtt => "mqtt",
            Self::Mqtts => "mqtts",
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Unix => "unix",
        }
    }

    /// Whether it begins with a TLS handshake.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Mqtts | Self::Wss)
    }

    /// Whether MQTT is wrapped in WebSocket frames.
    pub fn is_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }

    fn names() -> Vec<&'static str> {
        Self::ALL.into_iter().map(Self::as_str).collect()
    }

    fn put(&mut self, name: &str) -> bool {
        let found = Self::ALL.into_iter().find(|known| known.as_str() == name);
        found.map(|found| *self = found).is_some()
    }
}

/// Where a door is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// At an address and port of TCP.
    Tcp(SocketAddr),
    /// At a path, for [`Protocol::Unix`].
    Unix(PathBuf),
}

/// One door for MQTT and all that holds for it.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerConfig {
    /// What it speaks.
    pub protocol: Protocol,
    /// Where it is.
    pub place: Place,
    /// What its TLS needs, where it has TLS.
    pub tls: TlsConfig,
    /// The proxies that begin each connection with a PROXY header; empty: there is none.
    pub proxy_from: Vec<IpNet>,
    /// Origins whose pages may connect through WebSocket; `None`: those of `[http]`.
    pub allowed_origins: Option<Vec<String>>,
}

impl Config {
    /// Every door for MQTT: those of `[listen]`, then those of `[[listener]]`, as they are written.
    pub fn doors(&self) -> Vec<ListenerConfig> {
        let of = |protocol, places: &[SocketAddr]| -> Vec<ListenerConfig> {
            let places = places.iter().map(|address| Place::Tcp(*address));
            places.map(|place| self.quick(protocol, place)).collect()
        };
        let listen = &self.listen;
        let unix = listen.unix.iter().cloned().map(Place::Unix);
        [
            of(Protocol::Mqtt, &listen.mqtt),
            of(Protocol::Mqtts, &listen.mqtts),
            of(Protocol::Ws, &listen.ws),
            of(Protocol::Wss, &listen.wss),
            unix.map(|place| self.quick(Protocol::Unix, place))
                .collect(),
            listen.own.clone(),
        ]
        .concat()
    }

    /// The HTTP address as a door, if it speaks TLS.
    pub(crate) fn http_door(&self) -> Option<ListenerConfig> {
        let place = Place::Tcp(self.listen.http);
        self.http.tls.then(|| self.quick(Protocol::Wss, place))
    }

    fn quick(&self, protocol: Protocol, place: Place) -> ListenerConfig {
        ListenerConfig {
            protocol,
            place,
            tls: self.tls.clone(),
            proxy_from: Vec::new(),
            allowed_origins: None,
        }
    }
}

/// More doors than this are a mistake: each is a socket that is polled.
pub(super) const LISTENERS_MAX: usize = 256;

/// A `[[listener]]` as it is written; what it leaves out is filled in by [`Draft::complete`].
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    pub(super) protocol: Protocol,
    pub(super) address: Vec<SocketAddr>,
    pub(super) path: Option<PathBuf>,
    pub(super) tls: TlsConfig,
    pub(super) proxy_from: Vec<IpNet>,
    pub(super) allowed_origins: Vec<String>,
}

impl Draft {
    /// The doors it makes, one per address.
    pub(super) fn complete(row: &Row<Self>, common: &TlsConfig) -> Vec<ListenerConfig> {
        let own = &row.value;
        let places: Vec<Place> = match own.protocol {
            Protocol::Unix => own.path.iter().cloned().map(Place::Unix).collect(),
            _ => own.address.iter().copied().map(Place::Tcp).collect(),
        };
        let tls = Self::tls(row, common);
        let origins = row.given("allowed_origins").is_some();
        let door = |place| ListenerConfig {
            protocol: own.protocol,
            place,
            tls: tls.clone(),
            proxy_from: own.proxy_from.clone(),
            allowed_origins: origins.then(|| own.allowed_origins.clone()),
        };
        places.into_iter().map(door).collect()
    }

    /// Its own `[tls]` over the common one.
    pub(super) fn tls(row: &Row<Self>, common: &TlsConfig) -> TlsConfig {
        let own = &row.value.tls;
        let from = |key: &str| {
            if row.given(key).is_some() {
                own
            } else {
                common
            }
        };
        TlsConfig {
            cert: from("cert").cert.clone(),
            key: from("key").key.clone(),
            client_ca: from("client_ca").client_ca.clone(),
            client_certificates: from("client_certificates").client_certificates,
            crl: from("crl").crl.clone(),
        }
    }
}

/// What docs/configuration.md says below the keys of `[[listener]]`.
pub(super) const PAGE: &str = r#"
For example, TLS with client certificates for devices on one port, and MQTT behind a load balancer on another:

```toml
[tls]
cert = "server.pem"
key = "server.key"

[[listener]]
protocol = "mqtts"
address = "127.0.0.1:8884"
client_ca = "devices-ca.pem"
client_certificates = "required"

[[listener]]
protocol = "mqtt"
address = "127.0.0.1:1884"
proxy_from = ["127.0.0.1"]

[auth]
allow_anonymous_from_anywhere = true   # or users: through the proxy anyone may come
```
"#;

/// The keys of `[[listener]]`.
pub(super) const LISTENER_KEYS: &[Key<Draft>] = &[
    Key {
        name: "protocol",
        doc: "What it speaks. Has to be said.",
        example: r#""mqtts""#,
        field: Field::Word(Word {
            words: Protocol::names,
            read: |draft| draft.protocol.as_str(),
            write: |draft, name| draft.protocol.put(name),
        }),
    },
    Key {
        name: "address",
        doc: "Where it listens, for all but unix. One address or several.",
        example: r#""127.0.0.1:8883""#,
        field: Field::Addresses(|draft| &mut draft.address),
    },
    Key {
        name: "path",
        doc: "Where a unix door is.",
        example: r#""/run/waypost/mqtt.sock""#,
        field: Field::OptionalPath(|draft| &mut draft.path),
    },
    Key {
        name: "cert",
        doc: "As tls.cert, for this door.",
        example: r#""server.pem""#,
        field: Field::OptionalPath(|draft| &mut draft.tls.cert),
    },
    Key {
        name: "key",
        doc: "As tls.key, for this door.",
        example: r#""server.key""#,
        field: Field::OptionalPath(|draft| &mut draft.tls.key),
    },
    Key {
        name: "client_ca",
        doc: "As tls.client_ca, for this door.",
        example: r#""clients-ca.pem""#,
        field: Field::OptionalPath(|draft| &mut draft.tls.client_ca),
    },
    Key {
        name: "client_certificates",
        doc: "As tls.client_certificates, for this door.",
        example: r#""required""#,
        field: Field::Word(Word {
            words: ClientCertificates::names,
            read: |draft| draft.tls.client_certificates.as_str(),
            write: |draft, name| draft.tls.client_certificates.put(name),
        }),
    },
    Key {
        name: "crl",
        doc: "As tls.crl, for this door.",
        example: r#"["clients.crl"]"#,
        field: Field::Paths(|draft| &mut draft.tls.crl),
    },
    Key {
        name: "proxy_from",
        doc: "Networks of the proxies in front of this door. Connections from there begin with a \
              PROXY protocol header (version 2) that says who the client is, or are closed; those \
              from elsewhere are the clients' own, and a header there is refused. Not for unix.",
        example: r#"["10.0.0.0/8"]"#,
        field: Field::Networks(|draft| &mut draft.proxy_from),
    },
    Key {
        name: "allowed_origins",
        doc: "As http.allowed_origins, for this door; for ws and wss only.",
        example: r#"["https://app.example.org"]"#,
        field: Field::Names(|draft| &mut draft.allowed_origins),
    },
];

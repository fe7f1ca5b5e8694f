//! The doors of a server: the way there, found once and used by every connection, and why one stays
//! shut.
//!
//! [`endpoint`] reads URLs, [`tls`] files into a TLS configuration, [`wire`] is what lies between a
//! socket and MQTT, bytes in and bytes out; [`websocket`] the part of it that is RFC 6455.

pub mod endpoint;
pub mod tls;
pub mod websocket;
pub mod wire;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig};

use self::endpoint::{Endpoint, Scheme};
use self::tls::{TlsError, TlsOptions};
use self::websocket::Request;

/// Where a socket goes.
#[derive(Debug, Clone)]
pub enum Address {
    /// Over TCP.
    Tcp(SocketAddr),
    /// On this machine.
    Unix(PathBuf),
}

/// What a connection needs to reach MQTT behind a door.
#[derive(Debug, Clone)]
pub struct Door {
    /// Where the socket goes.
    pub address: Address,
    /// TLS to this name, where the door has it.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// The upgrade to ask for, where the door is a WebSocket.
    pub websocket: Option<Request>,
}

/// Why there is no way to a server.
#[derive(Debug, thiserror::Error)]
pub enum NoWay {
    /// The name has no address, or none answers.
    #[error("{0}")]
    Unresolved(#[from] io::Error),
    /// TLS cannot be set up.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// Certificates are for names and addresses.
    #[error("`{0}` is neither a host name nor an address, so no certificate can be for it")]
    Name(String),
}

/// Why a door stays shut: what went wrong between the socket and MQTT.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// TLS failed.
    #[error("{}", tls_text(.0))]
    Tls(rustls::Error),
    /// What answers does not speak TLS.
    #[error("what answers there does not speak TLS")]
    NotTls,
    /// What answers speaks TLS, which nobody asked for.
    #[error("what answers there speaks TLS")]
    OnlyTls,
    /// What answers speaks HTTP, which nobody asked for.
    #[error("what answers there speaks HTTP")]
    OnlyHttp,
    /// The connection ended before TLS was agreed on.
    #[error("the server closed the connection before TLS was agreed on")]
    ClosedBeforeTls,
    /// The connection ended before the answer to the upgrade.
    #[error("the server closed the connection without answering the WebSocket request")]
    ClosedBeforeUpgrade,
    /// The connection ended before the answer to CONNECT.
    #[error("the server closed the connection without answering CONNECT")]
    ClosedBeforeMqtt,
    /// What answers does not speak HTTP.
    #[error("what answers there is not a WebSocket server")]
    NotWebSocket,
    /// The server answered the upgrade with another status.
    #[error("the server refused the WebSocket: {status} {reason}")]
    UpgradeRefused {
        /// HTTP's status code.
        status: u16,
        /// The server's words for it.
        reason: String,
    },
    /// The server accepted the upgrade, but not as RFC 6455 wants it.
    #[error("the server's answer to the WebSocket request is wrong: {0}")]
    BadUpgrade(&'static str),
    /// RFC 6455 was broken after the upgrade.
    #[error("the server broke the WebSocket protocol: a frame {0}")]
    BadFrame(&'static str),
}

impl Door {
    /// Finds the way to `endpoint`.
    pub fn find(endpoint: &Endpoint, options: &TlsOptions) -> Result<Self, NoWay> {
        let mut door = Self::at(
            Address::Unix(PathBuf::from(&endpoint.host)),
            endpoint,
            options,
        )?;
        if endpoint.scheme != Scheme::Unix {
            door.address = Address::Tcp(endpoint.resolve()?);
        }
        Ok(door)
    }

    /// The door of `endpoint` at an address that is known.
    pub fn at(address: Address, endpoint: &Endpoint, options: &TlsOptions) -> Result<Self, NoWay> {
        let tls = if endpoint.scheme.is_tls() {
            let name = ServerName::try_from(endpoint.host.clone())
                .map_err(|_| NoWay::Name(endpoint.host.clone()))?;
            Some((tls::client_config(options)?, name))
        } else {
            None
        };
        let websocket = endpoint
            .scheme
            .is_websocket()
            .then(|| Request::new(&authority(endpoint), &endpoint.path));
        Ok(Self {
            address,
            tls,
            websocket,
        })
    }
}

impl DoorError {
    /// Whether the same door may open later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::ClosedBeforeTls | Self::ClosedBeforeUpgrade | Self::ClosedBeforeMqtt => true,
            Self::UpgradeRefused { status, .. } => *status >= 500,
            _ => false,
        }
    }

    /// What its user can do about it.
    pub fn hint(&self, endpoint: &Endpoint) -> Option<String> {
        let place = endpoint.authority();
        let websocket = endpoint.scheme.is_websocket();
        Some(match self {
            Self::Tls(error) => tls_hint(error)?.to_owned(),
            Self::NotTls | Self::ClosedBeforeTls => {
                let plain = if websocket { "ws" } else { "mqtt" };
                format!("is it a TLS port? Without TLS it is {plain}://{place}")
            }
            Self::ClosedBeforeMqtt if endpoint.scheme == Scheme::Mqtt => {
                format!("is it a port for plain MQTT? With TLS it is mqtts://{place}")
            }
            Self::OnlyTls => {
                let secret = if websocket { "wss" } else { "mqtts" };
                format!("write {secret}://{place}{}", endpoint.path)
            }
            Self::OnlyHttp => format!("for MQTT over WebSocket write ws://{place}"),
            Self::NotWebSocket | Self::ClosedBeforeUpgrade => {
                let raw = if endpoint.scheme.is_tls() {
                    "mqtts"
                } else {
                    "mqtt"
                };
                format!("without WebSocket it is {raw}://{place}")
            }
            Self::UpgradeRefused { status: 404, .. } => {
                format!("is MQTT at another path than {}?", endpoint.path)
            }
            Self::UpgradeRefused {
                status: 401 | 403, ..
            } => "the server must be told which hosts and origins it serves".to_owned(),
            Self::UpgradeRefused { .. } | Self::BadUpgrade(_) => {
                format!("does the server speak MQTT at {}?", endpoint.path)
            }
            Self::BadFrame(_) | Self::ClosedBeforeMqtt => return None,
        })
    }
}

/// A host as HTTP's Host header has it: without the port where it is the registered one.
fn authority(endpoint: &Endpoint) -> String {
    let with_port = endpoint.authority();
    if endpoint.port == endpoint.scheme.port_default() {
        let port = format!(":{}", endpoint.port);
        with_port
            .strip_suffix(&port)
            .map(str::to_owned)
            .unwrap_or(with_port)
    } else {
        with_port
    }
}

fn tls_text(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(error) => {
            let what = match error {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    "has expired".to_owned()
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    "is not valid yet".to_owned()
                }
                CertificateError::UnknownIssuer => {
                    "is signed by an authority that is not trusted here".to_owned()
                }
                CertificateError::NotValidForName => "is for another name".to_owned(),
                CertificateError::NotValidForNameContext {
                    expected,
                    presented,
                } => {
                    let names: Vec<_> = presented.iter().map(|name| bare(name)).collect();
                    let names = if names.is_empty() {
                        "no name".to_owned()
                    } else {
                        names.join(", ")
                    };
                    format!("is for {names}, not for {}", expected.to_str())
                }
                CertificateError::Revoked => "was revoked".to_owned(),
                CertificateError::Other(other) => format!("cannot be used: {other}"),
                other => format!("cannot be used: {other}"),
            };
            format!("the server's certificate {what}")
        }
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired => {
                "the server wants a client certificate".to_owned()
            }
            AlertDescription::UnknownCA => {
                "the server does not trust who signed the client certificate".to_owned()
            }
            AlertDescription::CertificateExpired => "the client certificate has expired".to_owned(),
            AlertDescription::CertificateRevoked => "the client certificate was revoked".to_owned(),
            AlertDescription::ProtocolVersion => {
                "the server speaks no version of TLS that is allowed here".to_owned()
            }
            other => format!("the server refused TLS: {other:?}"),
        },
        other => format!("TLS failed: {other}"),
    }
}

/// A name as people write it, from `DnsName("name")`.
fn bare(name: &str) -> &str {
    let inside = name.split_once('(').map_or(name, |(_, rest)| rest);
    inside.trim_end_matches(')').trim_matches('"')
}

fn tls_hint(error: &rustls::Error) -> Option<&'static str> {
    Some(match error {
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::UnknownIssuer => "if you trust it, name its authority: --cafile FILE",
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "connect by a name the certificate has; --insecure takes any (and trusts whoever has one)"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the server needs a new one (if it has: check the clock of this machine)"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "check the clocks of this machine and of the server"
            }
            CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
                "an authority's own certificate cannot be a server's: make one that it signs (docs/tls.md)"
            }
            _ => return None,
        },
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired => "name one: --cert FILE --key FILE",
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired => "name another: --cert FILE --key FILE",
            AlertDescription::ProtocolVersion => "allow an older one: --tls-version tlsv1.2",
            _ => return None,
        },
        _ => return None,
    })
}

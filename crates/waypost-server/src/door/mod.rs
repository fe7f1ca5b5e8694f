//! The doors: where clients come in, and what happens to a connection before a shard has it.
//!
//! `gate` is what listens; `porter` has the threads for handshakes, `handshake` one connection's way through them:
//! `proxy` (who is behind a proxy), `tls` with `certificate`, `upgrade` (HTTP to WebSocket); `entrance` gives each
//! connection a place and a shard.
//!
//! Deliberately not here: accepting (`listener`), WebSocket's frames and TLS's records after the handshake (`stream`).

mod certificate;
pub(crate) mod entrance;
pub(crate) mod gate;
mod handshake;
pub(crate) mod porter;
mod proxy;
mod tls;
pub(crate) mod upgrade;

pub use certificate::{CertificateError, Found};
pub use proxy::{
    PROXY_FIXED_BYTES, PROXY_HEADER_BYTES_MAX, ProxyError, ProxySource, decode_proxy_header,
    decode_proxy_length,
};

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use ipnet::IpNet;

use crate::config::{Config, HttpConfig, ListenerConfig, Place, Protocol};
use crate::metrics::Stats;
use crate::stream::tls::{Tls, TlsError};
use tls::DoorTls;

/// One door for MQTT.
pub(crate) struct Door {
    pub(crate) protocol: Protocol,
    /// As it was configured; what it is found by when the configuration is read again.
    configured: Place,
    /// As it was bound.
    pub(crate) bound: Bound,
    settings: RwLock<Arc<Settings>>,
}

/// Where a door is, with the port the system chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// At an address and port of TCP.
    Tcp(SocketAddr),
    /// At a path.
    Unix(PathBuf),
}

impl fmt::Display for Bound {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(path) => path.display().fmt(formatter),
        }
    }
}

/// What of a door can change while it is open.
struct Settings {
    tls: Option<DoorTls>,
    proxy_from: Vec<IpNet>,
    allowed_origins: Vec<String>,
    allowed_hosts: Vec<String>,
}

impl Settings {
    fn load(config: &ListenerConfig, http: &HttpConfig) -> Result<Self, CertificateError> {
        let tls = config
            .protocol
            .is_tls()
            .then(|| DoorTls::load(config))
            .transpose()?;
        Ok(Self {
            tls,
            proxy_from: config.proxy_from.clone(),
            allowed_origins: config
                .allowed_origins
                .clone()
                .unwrap_or_else(|| http.allowed_origins.clone()),
            allowed_hosts: http.allowed_hosts.clone(),
        })
    }

    fn is_proxy(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.proxy_from
            .iter()
            .any(|network| network.contains(&address))
    }
}

impl fmt::Display for Door {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.protocol.as_str(), self.bound)
    }
}

impl Door {
    pub(crate) fn new(
        config: &ListenerConfig,
        http: &HttpConfig,
        bound: Bound,
    ) -> Result<Self, CertificateError> {
        Ok(Self {
            protocol: config.protocol,
            configured: config.place.clone(),
            bound,
            settings: RwLock::new(Arc::new(Settings::load(config, http)?)),
        })
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_on_loopback(&self) -> bool {
        match &self.bound {
            Bound::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Bound::Unix(_) => false,
        }
    }

    /// Takes over what a configuration says of it now. Connections stay; handshakes from now on go by it.
    pub(crate) fn reload(
        &self,
        config: &ListenerConfig,
        http: &HttpConfig,
    ) -> Result<(), CertificateError> {
        let settings = Arc::new(Settings::load(config, http)?);
        *self
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner) = settings;
        Ok(())
    }

    /// A new connection by the door's certificates as they are now; `None` at a door without TLS.
    pub(crate) fn begin_tls(&self) -> Option<Result<Tls, TlsError>> {
        let settings = self.settings();
        let tls = settings.tls.as_ref()?;
        Some(Tls::new(Arc::clone(&tls.config)))
    }

    /// The names of the client's certificate after the handshake; `None`: it is not good any more.
    pub(crate) fn certificate_names(&self, tls: &Tls) -> Option<Vec<String>> {
        let settings = self.settings();
        settings
            .tls
            .as_ref()
            .filter(|settings| settings.is_still_good(tls))?;
        let own = tls.peer_certificates().and_then(<[_]>::first);
        Some(own.map(certificate::names).unwrap_or_default())
    }

    /// Whether connections from there have handshakes before them. A Unix socket has none.
    pub(crate) fn has_handshake(&self, peer: Option<SocketAddr>) -> bool {
        self.protocol.is_tls()
            || self.protocol.is_websocket()
            || peer.is_some_and(|peer| self.settings().is_proxy(peer.ip()))
    }

    /// Whether any connection could have handshakes before it.
    pub(crate) fn may_have_handshake(&self) -> bool {
        self.has_handshake(None) || !self.settings().proxy_from.is_empty()
    }
}

/// How a door is called in messages: as it was configured.
pub(crate) fn name(config: &ListenerConfig) -> String {
    let place = match &config.place {
        Place::Tcp(address) => address.to_string(),
        Place::Unix(path) => path.display().to_string(),
    };
    format!("{} {place}", config.protocol.as_str())
}

/// Takes over what a configuration says of the open doors: certificates, revocation lists, proxies, origins. Connections
/// stay; handshakes from now on go by the new ones. What cannot be used is told, counted, and the old stays.
pub(crate) fn reload(doors: &[Arc<Door>], config: &Config, stats: &Stats) -> Vec<String> {
    let mut problems = Vec::new();
    for own in config.doors() {
        let same =
            |door: &&Arc<Door>| door.protocol == own.protocol && door.configured == own.place;
        let Some(door) = doors.iter().find(same) else {
            continue;
        };
        if let Err(problem) = door.reload(&own, &config.http) {
            stats.count_failed_certificates();
            problems.push(format!("{door} keeps its certificates: {problem}"));
        }
    }
    tell_expiry(doors, stats);
    problems
}

/// Puts into the metrics when the first certificate ends.
pub(crate) fn tell_expiry(doors: &[Arc<Door>], stats: &Stats) {
    let first = doors
        .iter()
        .filter_map(|door| door.settings().tls.as_ref()?.expires_s)
        .min();
    stats.set_certificate_expiry(first.and_then(|time| time.try_into().ok()).unwrap_or(0));
}

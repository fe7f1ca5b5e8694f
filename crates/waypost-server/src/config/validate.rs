//! What no single value shows: rules between settings, and what is not safe to do.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Config;
use super::array::Row;
use super::door::{ClientCertificates, Draft, Place, Protocol, TlsConfig};
use super::error::{Origin, Problem};
use super::load::{Loading, line_for};
use super::setting::Setting;

pub(super) fn validate(loading: &mut Loading) {
    let mut problems = Vec::new();
    for row in &loading.listeners {
        check_listener(row, &loading.config.tls, &mut problems);
    }
    let doors = doors(loading);
    if !loading.config.auth.allow_anonymous_from_anywhere {
        let asks_everybody = crate::auth::asks_everybody(&loading.config);
        let open = doors
            .iter()
            .filter(|door| door.is_http() || !asks_everybody);
        problems.extend(open.filter_map(|door| door.beyond_loopback(&loading.config)));
    }
    check_places(&doors, &mut problems);
    check_tls(loading, &mut problems);
    super::store::check(loading, &mut problems);
    loading.problems.append(&mut problems);
}

/// A door as its rules see it; HTTP is one too.
struct Door {
    key: String,
    origin: Origin,
    place: Place,
    /// The row of the table that says where it is; none for a `[[listener]]`.
    setting: Option<&'static Setting>,
    has_proxy: bool,
}

fn doors(loading: &Loading) -> Vec<Door> {
    let listen = &loading.config.listen;
    let quick = |key: &'static str, place: Place| {
        let setting = Setting::find("listen", key);
        Door {
            key: format!("listen.{key}"),
            origin: loading.origin("listen", key),
            place,
            setting,
            has_proxy: false,
        }
    };
    let addresses = [
        ("mqtt", listen.mqtt.as_slice()),
        ("mqtts", &listen.mqtts),
        ("ws", &listen.ws),
        ("wss", &listen.wss),
        ("http", std::slice::from_ref(&listen.http)),
    ];
    let mut doors: Vec<Door> = Vec::new();
    for (key, addresses) in addresses {
        let places = addresses.iter().map(|address| Place::Tcp(*address));
        doors.extend(places.map(|place| quick(key, place)));
    }
    let path = listen.unix.clone().map(Place::Unix);
    doors.extend(path.map(|place| quick("unix", place)));
    for row in &loading.listeners {
        let key = if row.value.protocol == Protocol::Unix {
            "path"
        } else {
            "address"
        };
        let own = Draft::complete(row, &loading.config.tls);
        doors.extend(own.into_iter().map(|door| Door {
            key: format!("listener.{key}"),
            origin: row.given(key).unwrap_or(&row.origin).clone(),
            place: door.place,
            setting: None,
            has_proxy: !door.proxy_from.is_empty(),
        }));
    }
    doors
}

impl Door {
    fn is_http(&self) -> bool {
        self.key == "listen.http"
    }

    fn beyond_loopback(&self, config: &Config) -> Option<Problem> {
        let Place::Tcp(address) = self.place else {
            return None;
        };
        let is_loopback = address.ip().to_canonical().is_loopback();
        if is_loopback && !self.has_proxy {
            return None;
        }
        let quoted = format!("\"{}\"", on_loopback(address));
        let line = self.setting.map_or_else(
            || format!("address = {quoted}"),
            |setting| line_for(&self.origin, setting, &quoted),
        );
        let fix = if is_loopback {
            "leave proxy_from out".to_owned()
        } else if self.has_proxy {
            format!("listen on loopback without proxy_from: {line}")
        } else {
            format!("listen on loopback: {line}")
        };
        Some(Problem::BeyondLoopback {
            origin: self.origin.clone(),
            key: self.key.clone(),
            address,
            through: if is_loopback {
                " through its proxy"
            } else {
                ""
            },
            nobody_asks: match (self.is_http(), config.auth.anonymous) {
                (true, _) => "nobody is asked over HTTP who they are",
                (false, Some(true)) => "clients without a name are let in (auth.anonymous)",
                (false, _) => "nobody is asked who they are",
            },
            fix: format!(
                "{}{fix}, or say that it is meant: auth.allow_anonymous_from_anywhere = true",
                self.fix_by_users(config)
            ),
        })
    }

    /// What would have everybody asked, where something would.
    fn fix_by_users(&self, config: &Config) -> String {
        match (self.is_http(), config.auth.anonymous) {
            (true, _) => String::new(),
            (false, Some(true)) => "auth.anonymous = false, or ".to_owned(),
            (false, _) => format!("add a user: `{}`, or ", add_user(config)),
        }
    }
}

/// The command that adds the first user.
fn add_user(config: &Config) -> String {
    let data_dir = &config.server.data_dir;
    let elsewhere = if *data_dir == Config::default().server.data_dir {
        String::new()
    } else {
        format!(" --data-dir '{}'", data_dir.display())
    };
    format!("waypost users add NAME{elsewhere}")
}

/// The same port where only this machine reaches it.
fn on_loopback(address: SocketAddr) -> SocketAddr {
    if address.is_ipv4() {
        SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()))
    } else {
        SocketAddr::from((Ipv6Addr::LOCALHOST, address.port()))
    }
}

fn check_places(doors: &[Door], problems: &mut Vec<Problem>) {
    // A door that nobody spoke of was there first: the line to change is another's.
    let (unsaid, said): (Vec<&Door>, Vec<&Door>) = doors
        .iter()
        .partition(|door| door.origin == Origin::Default);
    let mut seen: Vec<&Door> = Vec::new();
    for door in unsaid.into_iter().chain(said) {
        let (place, is_chosen) = match &door.place {
            Place::Tcp(address) => (address.to_string(), address.port() == 0),
            Place::Unix(path) => (path.display().to_string(), false),
        };
        let other = seen.iter().find(|other| other.place == door.place);
        if let Some(other) = other
            && !is_chosen
        {
            problems.push(Problem::SamePlace {
                origin: door.origin.clone(),
                key: door.key.clone(),
                place,
                other: other.key.clone(),
            });
        }
        seen.push(door);
    }
}

const CERT: (&str, &str) = ("cert", "\"server.pem\"");
const KEY: (&str, &str) = ("key", "\"server.key\"");

/// `[tls]`, and the doors of `[listen]` that need it.
fn check_tls(loading: &Loading, problems: &mut Vec<Problem>) {
    let (listen, tls) = (&loading.config.listen, &loading.config.tls);
    let mut missing =
        |section: &'static str, key: &'static str, missing, lines: &[(&str, &str)]| {
            let origin = loading.origin(section, key);
            let lines = lines
                .iter()
                .filter_map(|(key, value)| tls_line(&origin, key, value));
            problems.push(Problem::Missing {
                fix: lines.collect::<Vec<_>>().join(" and "),
                origin,
                key: format!("{section}.{key}"),
                missing,
            });
        };
    match (&tls.cert, &tls.key) {
        (None, None) => {
            if loading.config.http.tls {
                let what = "a certificate and its private key";
                missing("http", "tls", what, &[CERT, KEY]);
            }
            for (key, addresses) in [("mqtts", &listen.mqtts), ("wss", &listen.wss)] {
                if !addresses.is_empty() {
                    missing(
                        "listen",
                        key,
                        "a certificate and its private key",
                        &[CERT, KEY],
                    );
                }
            }
        }
        (Some(_), None) => missing("tls", "cert", "its private key", &[KEY]),
        (None, Some(_)) => missing("tls", "key", "the certificate it belongs to", &[CERT]),
        (Some(_), Some(_)) => {}
    }
    let asks = tls.client_certificates != ClientCertificates::None;
    if asks && tls.client_ca.is_none() {
        let lines = [("client_ca", "\"clients-ca.pem\"")];
        missing("tls", "client_certificates", NO_AUTHORITY, &lines);
    }
    let a_door_asks = |door: &super::ListenerConfig| {
        door.protocol.is_tls() && door.tls.client_certificates != ClientCertificates::None
    };
    if !asks && !listen.own.iter().any(a_door_asks) {
        for (key, is_given) in [
            ("client_ca", tls.client_ca.is_some()),
            ("crl", !tls.crl.is_empty()),
        ] {
            if is_given {
                problems.push(Problem::Idle {
                    origin: loading.origin("tls", key),
                    key: format!("tls.{key}"),
                    reason: NOT_ASKED.to_owned(),
                });
            }
        }
    }
}

const NO_AUTHORITY: &str = "the authorities whose certificates are taken";
const NOT_ASKED: &str =
    "no client is asked for a certificate; add client_certificates = \"required\", or \"optional\"";

/// A line of `[tls]` as it would be written at that place.
fn tls_line(origin: &Origin, key: &str, value: &str) -> Option<String> {
    let line = line_for(origin, Setting::find("tls", key)?, value);
    Some(match origin {
        Origin::File { .. } | Origin::Default => format!("{line} under [tls]"),
        _ => line,
    })
}

/// One `[[listener]]`: what its protocol needs, and what would do nothing there.
fn check_listener(row: &Row<Draft>, common: &TlsConfig, problems: &mut Vec<Problem>) {
    let protocol = row.value.protocol;
    let mut missing = |key: &str, missing, fix: &str| {
        problems.push(Problem::Missing {
            origin: row.given(key).unwrap_or(&row.origin).clone(),
            key: if key.is_empty() {
                "[[listener]]".to_owned()
            } else {
                format!("listener.{key}")
            },
            missing,
            fix: fix.to_owned(),
        });
    };
    if row.given("protocol").is_none() {
        return missing(
            "",
            "a protocol",
            "protocol = \"mqtts\", or mqtt, ws, wss, unix",
        );
    }
    if protocol == Protocol::Unix {
        if row.value.path.is_none() {
            missing("", "a path", "path = \"/run/waypost/mqtt.sock\"");
        }
    } else if row.value.address.is_empty() {
        missing("", "an address", "address = \"127.0.0.1:8883\"");
    }
    let own = &row.value.tls;
    let is_asking = |certificates| certificates != ClientCertificates::None;
    if protocol.is_tls() {
        match (&own.cert, &own.key) {
            (Some(_), None) => missing("cert", "its private key", "key = \"server.key\""),
            (None, Some(_)) => missing(
                "key",
                "the certificate it belongs to",
                "cert = \"server.pem\"",
            ),
            (None, None) if common.cert.is_none() && common.key.is_none() => missing(
                "",
                "a certificate and its private key",
                "cert = \"server.pem\" and key = \"server.key\", there or under [tls]",
            ),
            _ => {}
        }
        let client_ca = own.client_ca.as_ref().or(common.client_ca.as_ref());
        if is_asking(own.client_certificates) && client_ca.is_none() {
            missing(
                "client_certificates",
                NO_AUTHORITY,
                "client_ca = \"clients-ca.pem\"",
            );
        }
    }
    for (key, reason) in idle_keys(row, common) {
        if let Some(origin) = row.given(key) {
            problems.push(Problem::Idle {
                origin: origin.clone(),
                key: format!("listener.{key}"),
                reason,
            });
        }
    }
}

/// The keys that do nothing at a door of that kind, and why.
fn idle_keys(row: &Row<Draft>, common: &TlsConfig) -> Vec<(&'static str, String)> {
    let protocol = row.value.protocol;
    let name = protocol.as_str();
    let mut idle = Vec::new();
    if protocol == Protocol::Unix {
        idle.push(("address", "a unix door has a path".to_owned()));
        idle.push((
            "proxy_from",
            "what comes through a Unix socket has no address".to_owned(),
        ));
    } else {
        idle.push(("path", format!("a door that speaks {name} has an address")));
    }
    if !protocol.is_tls() {
        for key in ["cert", "key", "client_ca", "client_certificates", "crl"] {
            idle.push((key, format!("{name} has no TLS; mqtts and wss have")));
        }
    } else if Draft::tls(row, common).client_certificates == ClientCertificates::None {
        for key in ["client_ca", "crl"] {
            idle.push((key, NOT_ASKED.to_owned()));
        }
    }
    if !protocol.is_websocket() {
        idle.push((
            "allowed_origins",
            format!("only browsers have an origin, and they speak ws and wss, not {name}"),
        ));
    }
    idle
}

//! Who may ask: a browser only for the server's own pages, on the socket only its owner.
//!
//! A local server with no password is still reachable by every web page its user opens: through a
//! name of the page's own that resolves to 127.0.0.1 (so the Host must be one we know), or by a
//! plain cross-site request (so the Origin must be one we know).

use std::net::IpAddr;

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, HOST, ORIGIN};
use axum::http::{HeaderMap, Request, StatusCode, Uri};

use crate::config::HttpConfig;

/// The largest body a request may have.
pub(super) const BODY_BYTES_MAX: usize = 64 << 10;

/// And with records for a stream: some long lines, from the administrator alone.
pub(super) const IMPORT_BYTES_MAX: usize = 64 << 20;

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// Anybody who reaches the HTTP address.
    Network,
    /// On the socket: the server's own user, or root.
    Administrator,
    /// On the socket: somebody else.
    Stranger,
}

impl Peer {
    /// Who that user is to a server that runs as `server`.
    pub(super) fn of_user(user: u32, server: u32) -> Self {
        if user == server || user == 0 {
            Self::Administrator
        } else {
            Self::Stranger
        }
    }
}

/// A request that is not answered, and why.
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) why: String,
}

/// Whether that peer may make that request. For a page of another origin that may, the origin, to
/// be confirmed to its browser.
pub(super) fn check(
    peer: Peer,
    request: &Request<Body>,
    http: &HttpConfig,
) -> Result<Option<String>, Refusal> {
    let forbidden = |why: String| Refusal {
        status: StatusCode::FORBIDDEN,
        why,
    };
    let bytes_max = match peer {
        Peer::Administrator if request.uri().path().ends_with("/records") => IMPORT_BYTES_MAX,
        _ => BODY_BYTES_MAX,
    };
    let length = request.headers().get(CONTENT_LENGTH);
    if length.is_some_and(|length| !is_at_most(length.as_bytes(), bytes_max)) {
        return Err(Refusal {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            why: format!("a body may have {bytes_max} bytes"),
        });
    }
    match peer {
        Peer::Administrator => return Ok(None),
        Peer::Stranger => {
            return Err(forbidden(
                "this socket is for the user the server runs as, and for root".to_owned(),
            ));
        }
        Peer::Network if !is_guarded(request.uri().path()) => return Ok(None),
        Peer::Network => {}
    }
    let host = host(request.uri(), request.headers())
        .filter(|host| is_known_host(host, &http.allowed_hosts))
        .ok_or_else(|| {
            forbidden(
                "the Host of this request is not one of this server's; use 127.0.0.1, localhost or \
                 [::1], or add the name to http.allowed_hosts"
                    .to_owned(),
            )
        })?;
    let mut origins = request.headers().get_all(ORIGIN).iter();
    let Some(origin) = origins.next() else {
        return Ok(None);
    };
    let origin = origin.to_str().unwrap_or_default();
    let scheme = if http.tls { "https://" } else { "http://" };
    let own = origin.strip_prefix(scheme) == Some(host);
    let allowed = http
        .allowed_origins
        .iter()
        .any(|allowed| allowed.eq_ignore_ascii_case(origin));
    if origins.next().is_some() || !(own || allowed) {
        return Err(forbidden(
            "the Origin of this request is not this server's; to let that page use the API, add its \
             origin to http.allowed_origins"
                .to_owned(),
        ));
    }
    Ok(allowed.then(|| origin.to_owned()))
}

/// The API and MQTT over WebSocket act or tell; health and metrics are for probes, which use
/// whatever name they like.
fn is_guarded(path: &str) -> bool {
    ["/api", "/mqtt"].iter().any(|guarded| {
        path.strip_prefix(guarded)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// The one host the request names. Two that differ are none: a proxy may have looked at the other.
fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let mut named = headers
        .get_all(HOST)
        .iter()
        .map(|host| host.to_str().unwrap_or_default())
        .chain(uri.authority().map(axum::http::uri::Authority::as_str));
    let host = named.next()?;
    named.all(|other| other == host).then_some(host)
}

/// Whether a Host is loopback, or one of those the operator named.
pub(crate) fn is_known_host(host: &str, allowed_hosts: &[String]) -> bool {
    let name = without_port(host);
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || address
            .parse()
            .is_ok_and(|address: IpAddr| address.to_canonical().is_loopback())
        || allowed_hosts
            .iter()
            .any(|allowed| allowed.eq_ignore_ascii_case(name) || allowed.eq_ignore_ascii_case(host))
}

/// `broker.example.org:8080` without its port; the colons of `[::1]` are none.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn is_at_most(length: &[u8], bytes_max: usize) -> bool {
    str::from_utf8(length)
        .ok()
        .and_then(|length| length.parse::<usize>().ok())
        .is_some_and(|length| length <= bytes_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(peer: Peer, path: &str, headers: &[(&str, &str)]) -> u16 {
        let http = HttpConfig {
            allowed_hosts: vec!["broker.example.org".to_owned()],
            allowed_origins: vec!["https://dash.example.org".to_owned()],
            ..HttpConfig::default()
        };
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match check(peer, &request.body(Body::empty()).unwrap(), &http) {
            Ok(_) => 200,
            Err(refusal) => refusal.status.as_u16(),
        }
    }

    #[test]
    fn the_api_is_for_known_hosts() {
        for (host, expect) in [
            ("127.0.0.1:8080", 200),
            ("127.1.2.3", 200),
            ("localhost", 200),
            ("LOCALHOST:8080", 200),
            ("[::1]:8080", 200),
            ("[::1]", 200),
            ("[::ffff:127.0.0.1]:80", 200),
            ("broker.example.org:8080", 200),
            ("Broker.Example.Org", 200),
            ("evil.example", 403),
            ("broker.example.org.evil.example", 403),
            ("localhost.evil.example", 403),
            ("127.0.0.1.evil.example", 403),
            ("evil.example:127.0.0.1", 403),
            ("192.168.1.5:8080", 403),
            ("0.0.0.0:8080", 403),
            ("", 403),
        ] {
            assert_eq!(
                status(Peer::Network, "/api/v1/server", &[("host", host)]),
                expect,
                "{host}"
            );
        }
        assert_eq!(status(Peer::Network, "/api/v1/server", &[]), 403);
        let two = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(status(Peer::Network, "/api/v1/server", &two), 403);
        let absolute = "http://evil.example/api/v1/server";
        assert_eq!(
            status(Peer::Network, absolute, &[("host", "localhost")]),
            403
        );
    }

    #[test]
    fn the_api_is_for_own_and_configured_origins() {
        for (origin, expect) in [
            ("http://localhost:8080", 200),
            ("https://dash.example.org", 200),
            ("http://dash.example.org", 403),
            ("https://localhost:8080", 403),
            ("http://localhost:9090", 403),
            ("http://evil.example", 403),
            ("null", 403),
            ("", 403),
        ] {
            let headers = [("host", "localhost:8080"), ("origin", origin)];
            assert_eq!(
                status(Peer::Network, "/api/v1/server", &headers),
                expect,
                "{origin}"
            );
        }
        let two = [
            ("host", "localhost"),
            ("origin", "http://localhost"),
            ("origin", "http://evil.example"),
        ];
        assert_eq!(status(Peer::Network, "/api/v1/server", &two), 403);
    }

    #[test]
    fn what_is_guarded() {
        for (path, expect) in [
            ("/api", 403),
            ("/api/", 403),
            ("/api/v1/server", 403),
            ("/api/nothing", 403),
            ("/mqtt", 403),
            ("/", 200),
            ("/metrics", 200),
            ("/health/ready", 200),
            ("/apiary", 200),
        ] {
            assert_eq!(
                status(Peer::Network, path, &[("host", "evil.example")]),
                expect,
                "{path}"
            );
        }
    }

    #[test]
    fn the_socket_is_for_its_owner_and_root() {
        for (user, server, expect) in [
            (1000, 1000, 200),
            (0, 1000, 200),
            (0, 0, 200),
            (1001, 1000, 403),
            (1000, 0, 403),
        ] {
            let peer = Peer::of_user(user, server);
            assert_eq!(
                status(peer, "/api/v1/server", &[]),
                expect,
                "{user} to {server}"
            );
            assert_eq!(
                status(peer, "/health/live", &[]),
                expect,
                "{user} to {server}"
            );
        }
    }

    #[test]
    fn bodies_are_bounded() {
        for (length, expect) in [
            ("65536", 200),
            ("65537", 413),
            ("99999999999999999999999", 413),
            ("x", 413),
        ] {
            assert_eq!(
                status(Peer::Administrator, "/", &[("content-length", length)]),
                expect,
                "{length}"
            );
        }
    }
}

//! What is answered at each path.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Extension, Path, Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
    HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, UPGRADE, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::backup;
use super::guard::{self, Peer};
use super::secure::Secure;
use super::{Phase, Reloaded, Shared, Upgraded, streams};
use crate::config::SETTINGS;
use crate::door::upgrade;
use crate::metrics::{self, METRICS, Process, Scope};
use crate::server::DoorAddress;

/// How long the shards may take to say whether they have a client.
const SHARDS_ANSWER_WITHIN: Duration = Duration::from_secs(2);

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
pub(super) const JSON: &str = "application/json";
/// The version of Prometheus's text format is part of its content type.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Nothing on the pages is loaded from anywhere, and nobody may frame them.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";

/// The same for both doors; the peer comes with each request.
pub(super) fn router(shared: &Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/mqtt", get(mqtt))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/metrics", get(prometheus))
        .route("/api/v1/server", get(server))
        .route("/api/v1/reload", post(reload))
        .route("/api/v1/clients/{client_id}", get(client))
        .route("/api/v1/streams", get(streams::list))
        .route(
            "/api/v1/streams/{name}",
            get(streams::info).delete(streams::forget),
        )
        .route(
            "/api/v1/streams/{name}/records",
            get(streams::records).post(streams::import),
        )
        .route("/api/v1/streams/{name}/purge", post(streams::purge))
        .route(
            "/api/v1/store/backup",
            get(how_far_backup).post(begin_backup).delete(stop_backup),
        )
        .fallback(nothing)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(guard::BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(shared), guarded))
        .with_state(Arc::clone(shared))
}

async fn guarded(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let counts = &shared.stats.server;
    counts.http_requests.fetch_add(1, Ordering::Relaxed);
    let mut response = match guard::check(peer, &request, &shared.http()) {
        Ok(origin) => {
            let mut response = next.run(request).await;
            if let Some(origin) = origin.and_then(|origin| HeaderValue::try_from(origin).ok()) {
                response
                    .headers_mut()
                    .insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
                response
                    .headers_mut()
                    .insert(VARY, HeaderValue::from_static("Origin"));
            }
            response
        }
        Err(refusal) => {
            counts.http_requests_refused.fetch_add(1, Ordering::Relaxed);
            page(refusal.status, TEXT, refusal.why + "\n")
        }
    };
    for (name, value) in [
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

pub(super) fn page(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Body>,
) -> Response {
    (status, [(CONTENT_TYPE, content_type)], body.into()).into_response()
}

async fn home() -> Response {
    page(
        StatusCode::OK,
        HTML,
        include_str!("home.html").replace("{version}", crate::VERSION),
    )
}

/// The process is there and this thread answers.
async fn live() -> Response {
    page(StatusCode::OK, TEXT, "live\n")
}

/// Clients are served, and what they are told is kept is kept.
async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    match (shared.phase.get(), store_trouble(&shared)) {
        (Phase::Serving, None) => page(StatusCode::OK, TEXT, "ready\n"),
        (Phase::Serving, Some(trouble)) => unavailable(trouble),
        (phase, _) => unavailable(phase.as_str()),
    }
}

fn unavailable(reason: &str) -> Response {
    page(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{reason}\n"))
}

/// Why nothing that has to outlive the server is acknowledged, while that is so.
fn store_trouble(shared: &Shared) -> Option<&'static str> {
    let stats = &shared.stats.server;
    if stats.store_full.load(Ordering::Relaxed) > 0 {
        Some("the disk is full")
    } else if stats.store_failed.load(Ordering::Relaxed) > 0 {
        Some("the disk fails")
    } else {
        None
    }
}

async fn prometheus(State(shared): State<Arc<Shared>>) -> Response {
    let process = Process {
        version: crate::VERSION,
        uptime: shared.started.elapsed(),
        ready: shared.phase.get() == Phase::Serving && store_trouble(&shared).is_none(),
    };
    page(
        StatusCode::OK,
        PROMETHEUS,
        metrics::render(&shared.stats, &process),
    )
}

async fn server(State(shared): State<Arc<Shared>>) -> Response {
    let mut addresses = DoorAddress::by_protocol(&shared.doors);
    addresses.insert("http".to_owned(), shared.http_address.to_string().into());
    let socket = shared.socket_path.to_string_lossy();
    addresses.insert("socket".to_owned(), socket.into());
    let description = json!({
        "version": crate::VERSION,
        "phase": shared.phase.get().as_str(),
        "uptime_s": shared.started.elapsed().as_secs(),
        "process": std::process::id(),
        "shards": shared.stats.shards.len(),
        "data_dir": shared.data_dir.to_string_lossy(),
        "addresses": addresses,
        "counts": counts(&shared),
        "limits": limits(&shared),
    });
    page(StatusCode::OK, JSON, format!("{description:#}\n"))
}

/// One client, from the shard that has it.
async fn client(State(shared): State<Arc<Shared>>, Path(client_id): Path<String>) -> Response {
    let mut reports = (shared.find_client)(&client_id);
    match timeout(SHARDS_ANSWER_WITHIN, reports.recv()).await {
        Ok(Some(report)) => {
            let description = json!({
                "client_id": report.client_id,
                "user": report.user,
                "shard": report.shard,
                "connected": report.connected,
                "address": report.address,
                "subscriptions": report.subscriptions,
                "queued": report.queued,
                "in_flight": report.in_flight,
                "outbox_bytes": report.outbox_bytes,
                "dropped_queue_full": report.dropped_queue_full,
                "dropped_outbox_full": report.dropped_outbox_full,
            });
            page(StatusCode::OK, JSON, format!("{description:#}\n"))
        }
        Ok(None) => page(
            StatusCode::NOT_FOUND,
            TEXT,
            "no session has this client id\n",
        ),
        Err(_) => page(
            StatusCode::SERVICE_UNAVAILABLE,
            TEXT,
            "the shards are too busy to answer; try again\n",
        ),
    }
}

/// MQTT over WebSocket: the connection leaves HTTP for a shard.
async fn mqtt(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
) -> Response {
    if peer == Peer::Administrator {
        let why = "MQTT is at /mqtt of the HTTP address, not on this socket\n";
        return page(StatusCode::NOT_FOUND, TEXT, why);
    }
    let headers = request.headers().iter();
    let head = upgrade::Head {
        method: request.method().as_str(),
        path: request.uri().path(),
        headers: headers
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect(),
    };
    let agreed = match head.agree() {
        Ok(agreed) => agreed,
        Err(refused) => {
            let failed = &shared.stats.server.handshakes_failed_upgrade;
            failed.fetch_add(1, Ordering::Relaxed);
            let status = StatusCode::from_u16(refused.status).unwrap_or(StatusCode::BAD_REQUEST);
            let mut response = page(status, TEXT, format!("{}\n", refused.why));
            if let Some((name, value)) = refused.header {
                let (name, value) = (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                );
                response.headers_mut().insert(name, value);
            }
            return response;
        }
    };
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        // A client that is gone by now is nobody to hand over.
        if let Ok(upgraded) = upgrade.await
            && let Some(upgraded) = leave_http(upgraded)
        {
            (shared.admit_websocket)(upgraded);
        }
    });
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(accept) = HeaderValue::try_from(agreed.accept) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    headers.insert(
        SEC_WEBSOCKET_PROTOCOL,
        HeaderValue::from_static(agreed.subprotocol),
    );
    response
}

/// Takes the connection away from hyper and tokio.
fn leave_http(upgraded: hyper::upgrade::Upgraded) -> Option<Upgraded> {
    let (socket, tls, read, unread) = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => (parts.io.into_inner(), None, parts.read_buf, Vec::new()),
        Err(upgraded) => {
            let parts = upgraded.downcast::<TokioIo<Secure>>().ok()?;
            let (socket, tls, unread, names) = parts.io.into_inner().into_parts()?;
            (socket, Some((tls, names)), parts.read_buf, unread)
        }
    };
    Some(Upgraded {
        socket: socket.into_std().ok()?,
        unread: [&read[..], &unread].concat(),
        tls,
    })
}

/// Reads the configuration again, as SIGHUP does.
async fn reload(State(shared): State<Arc<Shared>>) -> Response {
    let (status, answer) = match shared.reload() {
        Ok(Reloaded { kept, at_start }) if kept.is_empty() => (
            StatusCode::OK,
            json!({"reloaded": true, "at_start": at_start}),
        ),
        Ok(Reloaded { kept, at_start }) => (
            StatusCode::UNPROCESSABLE_ENTITY,
            json!({"reloaded": true, "at_start": at_start, "error": kept.join("\n")}),
        ),
        Err(error) => (
            StatusCode::UNPROCESSABLE_ENTITY,
            json!({"reloaded": false, "error": error}),
        ),
    };
    page(status, JSON, format!("{answer:#}\n"))
}

/// How far the backup is.
async fn how_far_backup(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
) -> Response {
    administrators(peer, || shared.backups.describe())
}

async fn begin_backup(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    body: Bytes,
) -> Response {
    administrators(peer, || {
        shared.backups.begin(&body, shared.back_up.as_ref())
    })
}

async fn stop_backup(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
) -> Response {
    administrators(peer, || shared.backups.stop())
}

/// What reads or writes files by a name in the request is for the socket alone.
fn administrators(peer: Peer, answer: impl FnOnce() -> backup::Answer) -> Response {
    if peer != Peer::Administrator {
        let why = "this is for the administrator's socket: `waypost store backup DIR` asks there";
        let answer = json!({ "error": why });
        return page(StatusCode::FORBIDDEN, JSON, format!("{answer:#}\n"));
    }
    let (status, answer) = answer();
    page(status, JSON, format!("{answer:#}\n"))
}

/// Every metric, summed over the shards, under its name without `waypost_` and `_total`.
fn counts(shared: &Shared) -> Map<String, Value> {
    let totals = shared.stats.totals();
    METRICS
        .iter()
        .map(|metric| {
            let name = metric
                .name
                .trim_start_matches("waypost_")
                .trim_end_matches("_total");
            let value = match metric.scope {
                Scope::Shard(read) => read(&totals),
                Scope::Server(read) => read(&shared.stats.server),
            };
            (name.to_owned(), value.into())
        })
        .collect()
}

fn limits(shared: &Shared) -> Map<String, Value> {
    SETTINGS
        .iter()
        .filter(|setting| setting.section == "limits")
        .filter_map(|setting| setting.number(&shared.config))
        .map(|(name, value)| (name, value.into()))
        .collect()
}

async fn nothing() -> Response {
    page(
        StatusCode::NOT_FOUND,
        TEXT,
        "nothing is here; / says what is where\n",
    )
}

async fn wrong_method() -> Response {
    page(
        StatusCode::METHOD_NOT_ALLOWED,
        TEXT,
        "this page takes another method: GET, or POST where something is to be done\n",
    )
}

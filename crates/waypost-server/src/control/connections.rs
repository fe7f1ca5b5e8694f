//! Accepting and answering: HTTP/1.1 on the network and on the administrator's socket, bounded.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::process::geteuid;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::ServiceExt;

use super::guard::Peer;
use super::secure::Secure;
use super::{Phase, PublishSystem, Shared, pages};
use crate::metrics::SystemTopics;

/// The head of a request, in bytes; above it the answer is 431.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Headers of a request; above it the answer is 431.
const HEADERS_MAX: usize = 64;
/// A connection ends then, whatever it does: one that never reads its answers would hold its place
/// for ever.
const CONNECTION_LIFETIME: Duration = Duration::from_mins(5);
/// How long to wait after accepting failed: it fails for want of file descriptors, and at once again.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Starts the tasks of the control side on the current runtime.
pub(super) fn answer(
    http: TcpListener,
    socket: UnixListener,
    shared: &Arc<Shared>,
    publish_system: PublishSystem,
) -> io::Result<()> {
    let http = tokio::net::TcpListener::from_std(http)?;
    let socket = tokio::net::UnixListener::from_std(socket)?;
    tokio::spawn(accept_network(http, Arc::new(Answerer::new(shared))));
    // With places of its own: a crowd at the HTTP address does not lock the administrator out.
    tokio::spawn(accept_administrator(socket, Answerer::new(shared)));
    tokio::spawn(report(Arc::clone(shared), publish_system));
    Ok(())
}

/// One door's side of all its connections.
struct Answerer {
    shared: Arc<Shared>,
    router: Router,
    places: Arc<Semaphore>,
}

impl Answerer {
    fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
            router: pages::router(shared),
            places: Arc::new(Semaphore::new(shared.config.http.connections_max)),
        }
    }

    /// Waits for a place; whoever connects meanwhile waits in the kernel's backlog.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    fn answer<S>(&self, stream: S, peer: Peer, place: OwnedSemaphorePermit)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        let service = self
            .router
            .clone()
            .map_request(move |request: Request<Incoming>| {
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(peer);
                request
            });
        let counts = &shared.stats.server;
        counts.http_connections.fetch_add(1, Ordering::Relaxed);
        let answering = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(shared.config.http.request_timeout)
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
            .with_upgrades();
        tokio::spawn(async move {
            let timed_out = match tokio::time::timeout(CONNECTION_LIFETIME, answering).await {
                Ok(Ok(())) => false,
                Ok(Err(error)) => error.is_timeout(),
                Err(_elapsed) => true,
            };
            if timed_out {
                shared
                    .stats
                    .server
                    .http_timeouts
                    .fetch_add(1, Ordering::Relaxed);
            }
            drop(place);
        });
    }
}

async fn accept_network(listener: tokio::net::TcpListener, answerer: Arc<Answerer>) {
    while let Some(place) = answerer.place().await {
        match listener.accept().await {
            Ok((stream, _)) if answerer.shared.http_door.is_some() => {
                tokio::spawn(shake_hands(stream, Arc::clone(&answerer), place));
            }
            Ok((stream, _)) => answerer.answer(stream, Peer::Network, place),
            Err(error) => accept_failed("HTTP", &error).await,
        }
    }
}

/// TLS first, within the time that a request's head may take.
async fn shake_hands(stream: TcpStream, answerer: Arc<Answerer>, place: OwnedSemaphorePermit) {
    let shared = &answerer.shared;
    let counts = &shared.stats.server;
    let Some(door) = &shared.http_door else {
        return;
    };
    let Some(Ok(tls)) = door.begin_tls() else {
        counts.handshakes_failed_tls.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let request_timeout = shared.config.http.request_timeout;
    match tokio::time::timeout(request_timeout, Secure::accept(stream, tls)).await {
        Ok(Ok(mut secure)) => {
            let Some(names) = door.certificate_names(secure.tls()) else {
                let failed = &counts.handshakes_failed_certificate;
                failed.fetch_add(1, Ordering::Relaxed);
                return;
            };
            secure.certificate = names;
            answerer.answer(secure, Peer::Network, place);
        }
        Ok(Err(error)) => {
            counts.handshakes_failed_tls.fetch_add(1, Ordering::Relaxed);
            log::debug!("TLS failed at the HTTP address: {error}");
        }
        Err(_elapsed) => {
            counts.http_timeouts.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn accept_administrator(listener: tokio::net::UnixListener, answerer: Answerer) {
    let server = geteuid().as_raw();
    while let Some(place) = answerer.place().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                // SO_PEERCRED: what the kernel knows of the process that connected.
                let peer = stream
                    .peer_cred()
                    .map_or(Peer::Stranger, |who| Peer::of_user(who.uid(), server));
                answerer.answer(stream, peer, place);
            }
            Err(error) => accept_failed("the administrator's socket", &error).await,
        }
    }
}

async fn accept_failed(door: &str, error: &io::Error) {
    log::warn!("accepting a connection on {door} failed: {error}");
    tokio::time::sleep(ACCEPT_RETRY).await;
}

/// Publishes `$SYS`.
async fn report(shared: Arc<Shared>, publish_system: PublishSystem) {
    let interval = shared.config.server.sys_interval;
    if interval.is_zero() {
        return;
    }
    let mut topics = SystemTopics::default();
    let mut ticks = tokio::time::interval(interval);
    // After a pause of the machine one report is enough.
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if shared.phase.get() == Phase::Serving {
            let (stats, uptime) = (&shared.stats, shared.started.elapsed());
            publish_system(topics.report(uptime, &stats.totals(), &stats.server));
        }
    }
}

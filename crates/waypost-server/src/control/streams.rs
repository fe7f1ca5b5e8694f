//! `/api/v1/streams…`: what streams there are, pages of their records, records in, records away.
//!
//! What is in a stream is for the administrator's socket alone: on the HTTP address nobody says who he is, and clients
//! have permissions. A page is bounded and says where the next one begins, so that a stream of any size is read, or
//! filled, in bounded memory at either end, and a connection that breaks costs one page.

use std::sync::Arc;
use std::time::SystemTime;

use axum::body::{Bytes, to_bytes};
use axum::extract::{Extension, Path, Request, State};
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use waypost_store::streams::Purge;

use super::Shared;
use super::guard::{IMPORT_BYTES_MAX, Peer};
use super::pages::{JSON, page};
use crate::history::{
    Access, AccessError, LINE_BYTES_MAX, Offsets, Record, decode_line, describe, page_asked,
};

/// Where the next page begins: the parameters `from` and `after` of its request.
pub(super) const NEXT: HeaderName = HeaderName::from_static("waypost-next");
/// Whether nothing stood behind this page.
pub(super) const END: HeaderName = HeaderName::from_static("waypost-end");

const JSON_LINES: &str = "application/x-ndjson";

type Answer = Result<Response, Refused>;

/// A request that is not answered: its status, and why.
pub(super) struct Refused(StatusCode, String);

impl Refused {
    fn wrong(why: impl Into<String>) -> Self {
        Self(StatusCode::UNPROCESSABLE_ENTITY, why.into())
    }
}

impl std::convert::From<AccessError> for Refused {
    fn from(error: AccessError) -> Self {
        let status = match error {
            AccessError::NoStream(_) => StatusCode::NOT_FOUND,
            AccessError::Configured(_) => StatusCode::CONFLICT,
            AccessError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(status, error.to_string())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        json_page(self.0, &json!({"error": self.1}))
    }
}

fn json_page(status: StatusCode, answer: &Value) -> Response {
    page(status, JSON, format!("{answer:#}\n"))
}

/// All there are.
pub(super) async fn list(State(shared): State<Arc<Shared>>) -> Answer {
    let streams = streams(&shared)?;
    let configured = shared.streams_configured();
    let all = off_this_thread(move || Ok(streams.list())).await?;
    let all: Vec<_> = all
        .iter()
        .map(|info| {
            let configured = configured.iter().find(|stream| stream.name == info.name);
            describe(info, configured)
        })
        .collect();
    Ok(json_page(StatusCode::OK, &json!({"streams": all})))
}

/// One.
pub(super) async fn info(State(shared): State<Arc<Shared>>, Path(name): Path<String>) -> Answer {
    let streams = streams(&shared)?;
    let configured = shared.streams_configured();
    let wanted = name.clone();
    let info = off_this_thread(move || Ok(streams.find(&wanted)?)).await?;
    let configured = configured.iter().find(|stream| stream.name == name);
    Ok(json_page(StatusCode::OK, &describe(&info, configured)))
}

/// Takes one away that is not configured any more.
pub(super) async fn forget(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
) -> Answer {
    administrator(peer)?;
    let streams = streams(&shared)?;
    off_this_thread(move || Ok(streams.forget(&name)?)).await?;
    Ok(json_page(StatusCode::OK, &json!({"forgotten": true})))
}

/// A page of records.
pub(super) async fn records(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
    request: Request,
) -> Answer {
    administrator(peer)?;
    let streams = streams(&shared)?;
    let query = request.uri().query().unwrap_or_default();
    let ask = page_asked(query, now_ms()).map_err(Refused::wrong)?;
    let start = ask.start;
    let found = off_this_thread(move || {
        let page = streams.page(&name, &ask)?;
        let lines = page.lines();
        Ok((page, lines))
    });
    let (found, lines) = found.await?;
    let next = found.next(start);
    let end = if found.is_end { "true" } else { "false" };
    let mut response = (StatusCode::OK, [(CONTENT_TYPE, JSON_LINES)], lines).into_response();
    let headers = response.headers_mut();
    headers.insert(END, HeaderValue::from_static(end));
    if let Ok(next) = HeaderValue::try_from(next) {
        headers.insert(NEXT, next);
    }
    Ok(response)
}

/// Puts records in: all lines of the body, or, if there is a mistake, none. With `offsets=new` behind all there are,
/// whatever offsets they say.
pub(super) async fn import(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
    request: Request,
) -> Answer {
    administrator(peer)?;
    let streams = streams(&shared)?;
    let offsets = match request.uri().query().unwrap_or_default() {
        "" | "offsets=keep" => Offsets::Keep,
        "offsets=new" => Offsets::New,
        _ => return Err(Refused::wrong("there are offsets=keep and offsets=new")),
    };
    let body = request.into_body();
    let body = to_bytes(body, IMPORT_BYTES_MAX).await;
    let body = body.map_err(|error| Refused(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()))?;
    let imported = off_this_thread(move || {
        let records = read_lines(&body, now_ms()).map_err(Refused::wrong)?;
        let done = streams.import(&name, &records, offsets)?;
        Ok(json!({"imported": done.imported, "skipped": done.skipped, "next": done.next}))
    });
    Ok(json_page(StatusCode::OK, &imported.await?))
}

/// Takes records away for good.
pub(super) async fn purge(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
    body: Bytes,
) -> Answer {
    administrator(peer)?;
    let streams = streams(&shared)?;
    let what = what_to_purge(&body).ok_or_else(|| {
        Refused::wrong("say what: {\"all\": true}, {\"before\": OFFSET} or {\"before_ms\": TIME}")
    })?;
    let purged = off_this_thread(move || {
        streams.purge(&name, what)?;
        Ok(describe(&streams.find(&name)?, None))
    });
    Ok(json_page(StatusCode::OK, &purged.await?))
}

fn what_to_purge(body: &[u8]) -> Option<Purge> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let body = body.as_object().filter(|body| body.len() == 1)?;
    let number = |name: &str| body.get(name).and_then(Value::as_u64);
    let all = || (body.get("all") == Some(&Value::Bool(true))).then_some(Purge::All);
    number("before")
        .map(Purge::Before)
        .or_else(|| number("before_ms").map(Purge::BeforeTime))
        .or_else(all)
}

fn read_lines(body: &[u8], now_ms: u64) -> Result<Vec<Record>, String> {
    let lines = body.split(|byte| *byte == b'\n').enumerate();
    let filled = lines.filter(|(_, line)| !line.trim_ascii().is_empty());
    filled
        .map(|(index, line)| {
            let wrong = |why: String| format!("line {}: {why}", index + 1);
            if line.len() > LINE_BYTES_MAX {
                return Err(wrong(format!("longer than {LINE_BYTES_MAX} bytes")));
            }
            decode_line(line, now_ms).map_err(|error| wrong(error.to_string()))
        })
        .collect()
}

fn streams(shared: &Shared) -> Result<Arc<dyn Access>, Refused> {
    let none = || {
        Refused(
            StatusCode::NOT_FOUND,
            "this server keeps no store".to_owned(),
        )
    };
    shared.streams.clone().ok_or_else(none)
}

fn administrator(peer: Peer) -> Result<(), Refused> {
    if peer == Peer::Administrator {
        return Ok(());
    }
    let why = "this is for the administrator's socket: `waypost streams` asks there; clients read with $from/…";
    Err(Refused(StatusCode::FORBIDDEN, why.to_owned()))
}

/// Reads and writes files where nobody waits for the thread that answers everybody.
async fn off_this_thread<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, Refused> + Send + 'static,
) -> Result<T, Refused> {
    let done = tokio::task::spawn_blocking(act).await;
    done.unwrap_or_else(|error| {
        Err(Refused(
            StatusCode::INTERNAL_SERVER_ERROR,
            error.to_string(),
        ))
    })
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_purged_is_said() {
        for (body, expect) in [
            (r#"{"all": true}"#, Some(Purge::All)),
            (r#"{"before": 5}"#, Some(Purge::Before(5))),
            (r#"{"before_ms": 5}"#, Some(Purge::BeforeTime(5))),
            (r#"{"all": false}"#, None),
            (r#"{"before": 5, "all": true}"#, None),
            ("{}", None),
            ("", None),
        ] {
            assert_eq!(what_to_purge(body.as_bytes()), expect, "{body}");
        }
    }

    #[test]
    fn a_mistake_has_its_line() {
        let told = read_lines(b"{\"topic\":\"a\"}\n\n{\"topic\":\"\"}\n", 0).unwrap_err();
        assert_eq!(told, "line 3: topic: expected a Topic Name");
        assert_eq!(read_lines(b"\n{\"topic\":\"a\"}", 0).unwrap().len(), 1);
    }
}

//! `/api/v1/streams…`: what streams there are, pages of their records, records in, records away.
//!
//! What is in a stream is for the administrator's socket alone: on the HTTP address nobody says who he is, and clients
//! have permissions. A page is bounded and says where the next one begins, so that a stream of any size is read, or
//! filled, in bounded memory at either end, and a connection that breaks costs one page.

use std::sync::Arc;
use std::time::SystemTime;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Extension, Path, Request, State};
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use waypost_mqtt::Filter;
use waypost_store::streams::{Purge, Start};

use super::Shared;
use super::guard::{IMPORT_BYTES_MAX, Peer};
use super::pages::{JSON, page};
use crate::history::{
    Access, AccessError, From, LINE_BYTES_MAX, PageAsk, Record, decode_line, describe,
};

/// Where the next page begins: the parameters `from` and `after` of its request.
pub(super) const NEXT: HeaderName = HeaderName::from_static("waypost-next");
/// Whether nothing stood behind this page.
pub(super) const END: HeaderName = HeaderName::from_static("waypost-end");

/// Records of a page, where the request says nothing, and at most.
const COUNT_DEFAULT: usize = 100;
const COUNT_MAX: usize = 100_000;
/// A page ends when its records have more bytes than this.
const PAGE_BYTES_MAX: u64 = 1 << 20;

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
    let all: Vec<_> = streams
        .list()
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
    let info = streams(&shared)?.find(&name)?;
    let configured = shared.streams_configured();
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
    let ask = asked(request.uri().query().unwrap_or_default(), now_ms()).map_err(Refused::wrong)?;
    let start = ask.start;
    let found = off_this_thread(move || {
        let page = streams.page(&name, &ask)?;
        let lines = page.lines();
        Ok((page, lines))
    });
    let (found, lines) = found.await?;
    let next = match (start, found.after) {
        (Start::Each(count), Some(after)) => format!("from=each={count}&after={after}"),
        (Start::Each(count), None) => format!("from=each={count}"),
        (_, after) => format!("from=offset={}", after.map_or(0, |after| after + 1)),
    };
    let end = if found.is_end { "true" } else { "false" };
    let mut response = (StatusCode::OK, [(CONTENT_TYPE, JSON_LINES)], lines).into_response();
    let headers = response.headers_mut();
    headers.insert(END, HeaderValue::from_static(end));
    if let Ok(next) = HeaderValue::try_from(next) {
        headers.insert(NEXT, next);
    }
    Ok(response)
}

/// Puts records in: all lines of the body, or, if there is a mistake, none.
pub(super) async fn import(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
    body: Body,
) -> Answer {
    administrator(peer)?;
    let streams = streams(&shared)?;
    let body = to_bytes(body, IMPORT_BYTES_MAX).await;
    let body = body.map_err(|error| Refused(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()))?;
    let imported = off_this_thread(move || {
        let records = read_lines(&body, now_ms()).map_err(Refused::wrong)?;
        let next = streams.import(&name, &records)?;
        Ok(json!({"imported": records.len(), "next": next}))
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

/// What the parameters of a request for records say.
fn asked(query: &str, now_ms: u64) -> Result<PageAsk, String> {
    let mut ask = PageAsk {
        start: Start::Offset(0),
        after: None,
        filter: None,
        count_max: COUNT_DEFAULT,
        bytes_max: PAGE_BYTES_MAX,
    };
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = percent_decoded(value).ok_or_else(|| format!("{name}: not UTF-8"))?;
        let number = || {
            let number: Option<u64> = value.parse().ok();
            number.ok_or_else(|| format!("{name}: expected a whole number"))
        };
        match name {
            "from" => {
                let from: From = value.parse().map_err(|error| format!("from: {error}"))?;
                ask.start = from.start(now_ms);
            }
            "after" => ask.after = Some(number()?),
            "count" => {
                let count = usize::try_from(number()?).unwrap_or(usize::MAX);
                ask.count_max = count.clamp(1, COUNT_MAX);
            }
            "filter" => {
                Filter::parse(&value).map_err(|error| format!("filter: {value} {error}"))?;
                ask.filter = Some(value);
            }
            _ => return Err(format!("{name}: there are from, after, count and filter")),
        }
    }
    Ok(ask)
}

/// `%20` and so on as the bytes they stand for.
fn percent_decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let (digits, behind) = rest.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok()?;
        // A sign would be taken for part of the number.
        let is_hexadecimal = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        out.push(
            u8::from_str_radix(digits, 16)
                .ok()
                .filter(|_| is_hexadecimal)?,
        );
        rest = behind;
    }
    String::from_utf8(out).ok()
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
    fn what_is_asked_is_read() {
        let ask = asked("from=last=5&filter=a%2f%2B/%C3%BC&count=7&after=3", 0).unwrap();
        assert_eq!(
            (ask.start, ask.after, ask.filter.as_deref(), ask.count_max),
            (Start::Last(5), Some(3), Some("a/+/ü"), 7)
        );
        let ask = asked("", 0).unwrap();
        assert_eq!(
            (ask.start, ask.count_max),
            (Start::Offset(0), COUNT_DEFAULT)
        );
        for (count, expect) in [
            (0, 1),
            (COUNT_MAX, COUNT_MAX),
            (COUNT_MAX + 1, COUNT_MAX),
            (2 * COUNT_MAX, COUNT_MAX),
        ] {
            let ask = asked(&format!("count={count}"), 0).unwrap();
            assert_eq!(ask.count_max, expect);
        }
        for wrong in [
            "from=5",
            "count=x",
            "filter=a/%23/b",
            "filter=%",
            "filter=%+1",
            "filter=%ff",
            "limit=5",
        ] {
            assert!(asked(wrong, 0).is_err(), "{wrong}");
        }
    }

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

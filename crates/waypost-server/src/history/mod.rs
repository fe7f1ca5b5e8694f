//! What an operator sees of streams: their records as lines of JSON, where to begin, how to look after them.
//!
//! The same for a running server (`control/streams.rs`) and for a data directory that no server uses (`waypost streams`).
//!
//! Deliberately not here: clients that read history; they ask through the core (`store/stream_reader.rs`).

mod access;
mod line;
mod paging;
mod start;

pub(crate) use access::with_filter;
pub use access::{
    Access, AccessError, Around, Clock, Imports, OfStore, Offsets, Page, PageAsk, describe,
};
pub use line::{LINE_BYTES_MAX, LineError, Record, decode_line, encode_line};
pub use paging::page_asked;
pub use start::{From, FromError, utc_ms};

//! `waypost store stats`: what is on the disk, from the first and last bytes of each file.

use std::io;

use indicatif::{HumanBytes, HumanCount};
use serde_json::{Value, json};
use waypost_server::config::Config;
use waypost_store::Disk;
use waypost_store::check;
use waypost_store::log::{SegmentInfo, SegmentKind};
use waypost_store::streams::StreamFiles;

use super::{Opened, cannot_read, timestamp};
use crate::Failure;
use crate::commands::output::{Align, Cell, print, table};
use crate::failure::colour;

const EXAMPLES: &str = "\
Of a store that no server uses; a running server tells more: `curl http://127.0.0.1:8080/metrics` has
waypost_store_… .

  log      a part of the log
  kept     what was still needed of a part of the log
  sealed   ended in good order; its figures are known without reading it

Examples:
  waypost store stats
  waypost store stats --json | jq '.segments | length'

Exit codes:
  0 done, 1 not done, 2 a mistake in flags or settings";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[arg(
        long,
        help = "Print one JSON object: store, bytes, views_bytes, free_bytes, segments with number, kind, \
                file, bytes, wall_ms and sealed (null, or blocks, transactions, record_bytes, last_wall_ms), streams \
                with id, name, files, bytes, first and next"
    )]
    json: bool,
}

pub fn run(arguments: &Args, config: &Config) -> Result<(), Failure> {
    let opened = Opened::new(config)?;
    let segments = check::segments(opened.disk.clone(), opened.log_options())
        .map_err(|error| cannot_read(&opened, &error))?;
    let streams = check::streams(opened.disk.clone(), opened.log_options())
        .map_err(|error| cannot_read(&opened, &error))?;
    let views_bytes = std::fs::metadata(opened.path.join("views.redb")).map_or(0, |it| it.len());
    let free_bytes = opened.disk.free_bytes()?;
    let bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
    if arguments.json {
        let stats = json!({
            "store": opened.path.to_string_lossy(),
            "bytes": bytes,
            "views_bytes": views_bytes,
            "free_bytes": free_bytes,
            "segments": segments.iter().map(as_json).collect::<Vec<_>>(),
            "streams": streams.iter().map(stream_json).collect::<Vec<_>>(),
        });
        return print(&format!("{stats:#}\n"));
    }
    let head = [
        ("segment", Align::Left),
        ("kind", Align::Left),
        ("size", Align::Right),
        ("blocks", Align::Right),
        ("transactions", Align::Right),
        ("unpacked", Align::Right),
        ("begun", Align::Left),
    ];
    let rows: Vec<_> = segments.iter().map(row).collect();
    print(&table(&head, &rows, colour(&io::stdout())))?;
    if !streams.is_empty() {
        let head = [
            ("stream", Align::Left),
            ("files", Align::Right),
            ("size", Align::Right),
            ("offsets", Align::Left),
        ];
        let rows: Vec<_> = streams.iter().map(stream_row).collect();
        print(&table(&head, &rows, colour(&io::stdout())))?;
    }
    print(&format!(
        "log {} in {} segments, views {}, free on this disk {}\n",
        HumanBytes(bytes),
        segments.len(),
        HumanBytes(views_bytes),
        HumanBytes(free_bytes)
    ))
}

fn kind(segment: &SegmentInfo) -> &'static str {
    match segment.kind {
        SegmentKind::Log => "log",
        SegmentKind::Kept => "kept",
    }
}

fn row(segment: &SegmentInfo) -> Vec<Cell> {
    let sealed = segment.sealed.map(|sealed| {
        [
            HumanCount(sealed.blocks.into()).to_string(),
            HumanCount(sealed.transactions).to_string(),
            HumanBytes(sealed.record_bytes).to_string(),
        ]
    });
    let figures = sealed.unwrap_or_else(|| ["not sealed", "", ""].map(str::to_owned));
    let head = [
        segment.number.to_string(),
        kind(segment).to_owned(),
        HumanBytes(segment.bytes).to_string(),
    ];
    head.into_iter()
        .chain(figures)
        .chain([timestamp(segment.wall_ms)])
        .map(Cell::new)
        .collect()
}

fn stream_row(stream: &StreamFiles) -> Vec<Cell> {
    let cells = [
        stream.name.clone(),
        HumanCount(stream.files).to_string(),
        HumanBytes(stream.bytes).to_string(),
        format!("{} to {}", stream.first, stream.next),
    ];
    cells.into_iter().map(Cell::new).collect()
}

fn stream_json(stream: &StreamFiles) -> Value {
    json!({
        "id": stream.id.0,
        "name": stream.name,
        "files": stream.files,
        "bytes": stream.bytes,
        "first": stream.first,
        "next": stream.next,
    })
}

fn as_json(segment: &SegmentInfo) -> Value {
    json!({
        "number": segment.number,
        "kind": kind(segment),
        "file": segment.file,
        "bytes": segment.bytes,
        "wall_ms": segment.wall_ms,
        "sealed": segment.sealed.map(|sealed| json!({
            "blocks": sealed.blocks,
            "transactions": sealed.transactions,
            "record_bytes": sealed.record_bytes,
            "last_wall_ms": sealed.last_wall_ms,
        })),
    })
}

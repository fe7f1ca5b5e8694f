//! `waypost store check`: every block read, every checksum and key tried, nothing changed.

use std::sync::atomic::Ordering;

use indicatif::{HumanBytes, HumanCount};
use serde_json::{Value, json};
use waypost_server::config::Config;
use waypost_store::check::{self, Report};
use waypost_store::log::LogDamage;

use super::{Opened, cannot_read, progress, timestamp};
use crate::Failure;
use crate::commands::output::print;
use crate::failure::interrupted;

const EXAMPLES: &str = "\
Reads all of the store; a running server must be stopped first, or its backup restored elsewhere and
checked there. Where a part is damaged, file and offset are told: a server serves everything else,
`waypost store repair` makes it whole again without what is lost.

Examples:
  waypost store check
  waypost store check --data-dir /var/lib/waypost --json | jq '.damage[]'

Exit codes:
  0 sound, 1 not looked through (in use, no key, a later version's), 2 a mistake in flags or settings,
  3 damaged";

/// The exit code for a store that is damaged.
pub const DAMAGED: u8 = 3;

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[arg(
        long,
        help = "Print one JSON object: store, sound, damage with file, offset, bytes and what, segments, \
                bytes, record_bytes, blocks, operations, messages, last_wall_ms, stream_files, stream_bytes, \
                stream_records"
    )]
    json: bool,
}

pub fn run(arguments: &Args, config: &Config) -> Result<(), Failure> {
    let opened = Opened::new(config)?;
    let interrupted = interrupted()?;
    let bar = progress();
    let report = check::check(
        opened.disk.clone(),
        opened.log_options(),
        &mut |bytes, total| {
            bar.set_length(total);
            bar.set_position(bytes);
            !interrupted.load(Ordering::Relaxed)
        },
    );
    bar.finish_and_clear();
    let report = report.map_err(|error| cannot_read(&opened, &error))?;
    let store = opened.path.display();
    print(&if arguments.json {
        format!("{:#}\n", as_json(&opened, &report))
    } else {
        as_text(&report)
    })?;
    match report.damage.len() {
        0 => Ok(()),
        1 => Err(format!("{store} is damaged in one place")),
        places => Err(format!("{store} is damaged in {places} places")),
    }
    .map_err(|message| {
        Failure::new(message).code(DAMAGED).hint(
            "`waypost store repair` makes it whole again, without what is lost; a backup has more",
        )
    })
}

/// One damage, for programs.
pub fn damage_json(damage: &LogDamage) -> Value {
    json!({
        "file": damage.file,
        "offset": damage.offset,
        "bytes": damage.bytes,
        "what": damage.what,
    })
}

fn as_json(opened: &Opened, report: &Report) -> Value {
    json!({
        "store": opened.path.to_string_lossy(),
        "sound": report.damage.is_empty(),
        "damage": report.damage.iter().map(damage_json).collect::<Vec<_>>(),
        "segments": report.segments.len(),
        "bytes": report.bytes(),
        "record_bytes": report.record_bytes,
        "blocks": report.blocks,
        "operations": report.operations,
        "messages": report.messages,
        "last_wall_ms": report.last_wall_ms,
        "stream_files": report.stream_files,
        "stream_bytes": report.stream_bytes,
        "stream_records": report.stream_records,
    })
}

fn as_text(report: &Report) -> String {
    let mut lines: Vec<_> = report.damage.iter().map(LogDamage::to_string).collect();
    let verdict = if report.damage.is_empty() {
        "sound"
    } else {
        "the rest is sound"
    };
    let last = if report.blocks > 0 {
        format!("; last written {}", timestamp(report.last_wall_ms))
    } else {
        String::new()
    };
    lines.push(format!(
        "{verdict}: {} in {} segments, {} blocks, {} messages{last}",
        HumanBytes(report.bytes()),
        report.segments.len(),
        HumanCount(report.blocks),
        HumanCount(report.messages)
    ));
    if report.stream_files > 0 {
        lines.push(format!(
            "streams: {} in {} files, {} records",
            HumanBytes(report.stream_bytes),
            HumanCount(report.stream_files),
            HumanCount(report.stream_records)
        ));
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_told_with_file_and_offset() {
        let mut report = Report::default();
        assert_eq!(
            as_text(&report),
            "sound: 0 B in 0 segments, 0 blocks, 0 messages\n"
        );
        report.damage.push(LogDamage {
            file: "00000003.log".to_owned(),
            offset: 128,
            bytes: 65_536,
            what: "the checksum of a block is wrong",
        });
        report.blocks = 1_234;
        (report.stream_files, report.stream_bytes) = (2, 2_048);
        report.stream_records = 1_500;
        report.last_wall_ms = 1_790_000_000_000;
        assert_eq!(
            as_text(&report),
            "00000003.log, byte 128: the checksum of a block is wrong; 65536 bytes are lost\n\
             the rest is sound: 0 B in 0 segments, 1,234 blocks, 0 messages; last written 2026-09-21T14:13:20Z\n\
             streams: 2.00 KiB in 2 files, 1,500 records\n"
        );
    }
}

//! What is counted for each stream, under its name. As many rows as there are streams, which `[[stream]]` bounds.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use waypost_store::streams::StreamInfo;

use super::table::Kind;

/// The numbers of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamFigures {
    /// Its name.
    pub name: String,
    /// Records that can be read.
    pub records: u64,
    /// Bytes of its files and of what is not in them yet.
    pub bytes: u64,
    /// Its files.
    pub segments: u64,
    /// The first offset that can be read.
    pub first: u64,
    /// The offset of the next record.
    pub next: u64,
    /// Between the two, offsets whose records compaction took away.
    pub compacted: u64,
    /// Offsets that went since the start, because nothing older is kept or by a purge.
    pub dropped: u64,
    /// Blocks that cannot be read.
    pub damaged_blocks: u64,
    /// Records read by clients.
    pub read_records: u64,
    /// Their bytes.
    pub read_bytes: u64,
}

/// Reads one number of a stream.
type Read = fn(&StreamFigures) -> u64;

/// Name, kind, help and where the number is.
pub(super) const STREAM_METRICS: &[(&str, Kind, &str, Read)] = &[
    (
        "waypost_stream_records",
        Kind::Gauge,
        "Records that can be read.",
        |stream| stream.records,
    ),
    (
        "waypost_stream_bytes",
        Kind::Gauge,
        "Bytes of its files, and of what is not in them yet.",
        |stream| stream.bytes,
    ),
    (
        "waypost_stream_segments",
        Kind::Gauge,
        "Its files.",
        |stream| stream.segments,
    ),
    (
        "waypost_stream_first_offset",
        Kind::Gauge,
        "The first offset that can be read.",
        |stream| stream.first,
    ),
    (
        "waypost_stream_next_offset",
        Kind::Gauge,
        "The offset that the next record gets: records that ever entered.",
        |stream| stream.next,
    ),
    (
        "waypost_stream_compacted_records",
        Kind::Gauge,
        "Offsets from the first on whose records compaction took away.",
        |stream| stream.compacted,
    ),
    (
        "waypost_stream_dropped_total",
        Kind::Counter,
        "Offsets that went because of retention or a purge.",
        |stream| stream.dropped,
    ),
    (
        "waypost_stream_damaged_blocks",
        Kind::Gauge,
        "Blocks of its files that could not be read since the start.",
        |stream| stream.damaged_blocks,
    ),
    (
        "waypost_stream_read_records_total",
        Kind::Counter,
        "Records read by clients; what several read together counts once.",
        |stream| stream.read_records,
    ),
    (
        "waypost_stream_read_bytes_total",
        Kind::Counter,
        "Their bytes.",
        |stream| stream.read_bytes,
    ),
];

/// The numbers of all streams.
#[derive(Debug, Default)]
pub struct StreamStats(Mutex<BTreeMap<u32, StreamFigures>>);

impl StreamStats {
    /// Clients read records of a stream.
    pub(crate) fn count_read(&self, stream: u32, records: u64, bytes: u64) {
        if records > 0 {
            let mut streams = self.lock();
            let figures = streams.entry(stream).or_default();
            figures.read_records += records;
            figures.read_bytes += bytes;
        }
    }

    /// What there is now; streams that are not among it are gone.
    pub(crate) fn publish(&self, all: &[StreamInfo]) {
        let mut streams = self.lock();
        streams.retain(|id, _| all.iter().any(|info| info.id.0 == *id));
        for info in all {
            let figures = streams.entry(info.id.0).or_default();
            // The first time it is what the start found.
            if !figures.name.is_empty() {
                figures.dropped += info.first.saturating_sub(figures.first);
            }
            figures.name.clone_from(&info.name);
            figures.records = info.records;
            figures.bytes = info.bytes;
            figures.segments = info.segments;
            figures.first = info.first;
            figures.next = info.next;
            let offsets = info.next.saturating_sub(info.first);
            figures.compacted = offsets.saturating_sub(info.records);
            figures.damaged_blocks = info.damaged_blocks;
        }
    }

    /// Those whose names are known, by number.
    pub fn all(&self) -> Vec<StreamFigures> {
        let streams = self.lock();
        let known = streams.values().filter(|figures| !figures.name.is_empty());
        known.cloned().collect()
    }

    /// Every stream in every row, in Prometheus's format.
    pub(super) fn render(&self, out: &mut String) {
        let all = self.all();
        for (name, kind, help, read) in STREAM_METRICS {
            super::prometheus::head(out, name, kind.as_str(), help);
            for stream in &all {
                // Writing to a String cannot fail.
                let _ = writeln!(out, "{name}{{stream=\"{}\"}} {}", stream.name, read(stream));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, StreamFigures>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use waypost_store::StreamId;

    use super::*;

    fn info(id: u32, first: u64, next: u64, records: u64) -> StreamInfo {
        StreamInfo {
            id: StreamId(id),
            name: format!("s{id}"),
            is_configured: true,
            is_compacted: false,
            first,
            next,
            records,
            bytes: 1_000,
            segments: 2,
            first_ms: None,
            last_ms: None,
            damaged_blocks: 3,
        }
    }

    #[test]
    fn streams_are_counted_under_their_names() {
        let stats = StreamStats::default();
        stats.count_read(1, 5, 50);
        assert_eq!(stats.all(), [], "no name yet");
        stats.publish(&[info(1, 10, 30, 15), info(2, 0, 0, 0)]);
        stats.count_read(1, 1, 7);
        stats.publish(&[info(1, 14, 40, 26), info(2, 0, 0, 0)]);
        let mut page = String::new();
        stats.render(&mut page);
        for line in [
            "waypost_stream_records{stream=\"s1\"} 26",
            "waypost_stream_bytes{stream=\"s2\"} 1000",
            "waypost_stream_segments{stream=\"s1\"} 2",
            "waypost_stream_first_offset{stream=\"s1\"} 14",
            "waypost_stream_next_offset{stream=\"s1\"} 40",
            "waypost_stream_compacted_records{stream=\"s1\"} 0",
            "waypost_stream_dropped_total{stream=\"s1\"} 4",
            "waypost_stream_dropped_total{stream=\"s2\"} 0",
            "waypost_stream_damaged_blocks{stream=\"s1\"} 3",
            "waypost_stream_read_records_total{stream=\"s1\"} 6",
            "waypost_stream_read_bytes_total{stream=\"s1\"} 57",
            "# TYPE waypost_stream_dropped_total counter",
        ] {
            assert!(page.lines().any(|other| other == line), "{line}\n{page}");
        }
        stats.publish(&[info(2, 0, 0, 0)]);
        assert_eq!(stats.all().len(), 1, "one that is gone is not told");
    }
}

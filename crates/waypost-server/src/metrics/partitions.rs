//! The partitions of the store's message cache, as Prometheus reads them: the label is the partition's name, of which there
//! are at most [`waypost_store::PARTITIONS_MAX`] and one.

use std::fmt::Write;

use waypost_store::PartitionFigures;

/// Writes one value.
type Show = fn(&PartitionFigures) -> String;

/// Name, kind, help, and the value.
pub(super) const PARTITION_METRICS: [(&str, &str, &str, Show); 4] = [
    (
        "waypost_store_cache_partition_hits_total",
        "counter",
        "Messages wanted back that were in this part of the message cache; the label is the filter of the [[topic]] that has memory of its own, or a strategy, streams for what their readers share, or store for all the others.",
        |part| part.counters.hits.to_string(),
    ),
    (
        "waypost_store_cache_partition_misses_total",
        "counter",
        "Messages wanted back that belong there and had to be read from the log.",
        |part| part.counters.misses.to_string(),
    ),
    (
        "waypost_store_cache_partition_bytes",
        "gauge",
        "Bytes in it.",
        |part| part.bytes.to_string(),
    ),
    (
        "waypost_store_cache_partition_hit_ratio",
        "gauge",
        "The part of the messages wanted back since the start that were in it.",
        |part| format!("{:.4}", hit_ratio(part.counters.hits, part.counters.misses)),
    ),
];

/// The part of all that were hits; 0 as long as nothing was wanted.
#[allow(
    clippy::cast_precision_loss,
    reason = "a ratio needs no more than 53 bits"
)]
pub(super) fn hit_ratio(hits: u64, misses: u64) -> f64 {
    hits as f64 / hits.saturating_add(misses).max(1) as f64
}

/// All of them, as samples of the page.
pub(super) fn render(parts: &[PartitionFigures], out: &mut String) {
    for (name, kind, help, show) in PARTITION_METRICS {
        // Writing to a String cannot fail, here and below.
        let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for part in parts {
            let _ = writeln!(
                out,
                "{name}{{partition=\"{}\"}} {}",
                escaped(&part.name),
                show(part)
            );
        }
    }
}

/// What there is to say where another strategy is at work in a partition than before.
pub(super) fn news(before: Option<&PartitionFigures>, now: &PartitionFigures) -> Option<String> {
    let at_work = |part: &PartitionFigures| {
        let name = part.explanation.split(' ').next();
        name.unwrap_or_default().to_owned()
    };
    let now_at_work = at_work(now);
    if now_at_work.is_empty() || before.is_some_and(|before| at_work(before) == now_at_work) {
        return None;
    }
    Some(format!(
        "the message cache of {}: {} chose {}",
        now.name, now.strategy, now.explanation
    ))
}

/// As the text format wants label values.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_store::cache::Counters;

    fn part(name: &str, hits: u64, explanation: &str) -> PartitionFigures {
        PartitionFigures {
            name: name.into(),
            strategy: "auto",
            counters: Counters {
                hits,
                misses: 1,
                evictions: 0,
            },
            bytes: 70,
            explanation: explanation.to_owned(),
        }
    }

    #[test]
    fn each_partition_has_its_samples() {
        let mut page = String::new();
        render(&[part("store", 3, ""), part("a/\"b\"/#", 0, "")], &mut page);
        for line in [
            "waypost_store_cache_partition_hits_total{partition=\"store\"} 3",
            "waypost_store_cache_partition_misses_total{partition=\"store\"} 1",
            "waypost_store_cache_partition_bytes{partition=\"store\"} 70",
            "waypost_store_cache_partition_hit_ratio{partition=\"store\"} 0.7500",
            "waypost_store_cache_partition_hit_ratio{partition=\"a/\\\"b\\\"/#\"} 0.0000",
        ] {
            assert!(page.lines().any(|it| it == line), "{line}\n{page}");
        }
    }

    #[test]
    fn a_choice_is_told_when_it_changes() {
        let lru = part(
            "store",
            1,
            "lru since request 5, after 1 move; of 9 requests …",
        );
        let still = part(
            "store",
            2,
            "lru since request 5, after 1 move; of 99 requests …",
        );
        let arc = part(
            "store",
            3,
            "arc since request 50, after 2 moves; of 9 requests …",
        );
        assert_eq!(news(Some(&lru), &still), None);
        let said = news(Some(&still), &arc).unwrap();
        assert!(said.starts_with("the message cache of store: auto chose arc since request 50"));
        assert!(news(None, &lru).is_some(), "the first choice too");
        assert_eq!(news(None, &part("store", 1, "")), None, "nothing to choose");
    }
}

//! The table against what is counted, and the numbers on their way out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use waypost_core::Counters;

use super::*;

const PROCESS: Process = Process {
    version: "1.2.3",
    uptime: Duration::from_millis(1_500),
    ready: true,
};

/// The value of each sample on the page.
fn samples(page: &str) -> BTreeMap<String, String> {
    page.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[test]
fn every_counter_of_the_core_is_exported() {
    let counted: BTreeSet<_> = Counters::default()
        .rows()
        .map(|(name, _)| format!("waypost_{name}_total"))
        .collect();
    let exported: BTreeSet<_> = METRICS
        .iter()
        .map(|metric| metric.name.to_owned())
        .collect();
    let missing: Vec<_> = counted.difference(&exported).collect();
    assert!(
        missing.is_empty(),
        "add them to metrics/table.rs: {missing:?}"
    );
}

/// Goal: no two rows read one number, and none is lost on the way. Method: a different number in
/// every field, published, read back and summed.
#[test]
fn every_metric_reads_a_number_of_its_own() {
    let numbered = Snapshot::numbered();
    let stats = Stats::new(1);
    stats.shards[0].publish(&numbered.core, &numbered.shell, &numbered.gauges);
    assert_eq!(stats.shards[0].read(), numbered);
    assert_eq!(stats.totals(), numbered);
    let read: BTreeSet<u64> = METRICS
        .iter()
        .filter_map(|metric| match metric.scope {
            Scope::Shard(read) => Some(read(&numbered)),
            Scope::Server(_) => None,
        })
        .collect();
    let fields = size_of::<Snapshot>() / size_of::<u64>();
    assert_eq!(
        read.into_iter().collect::<Vec<_>>(),
        (1..=fields as u64).collect::<Vec<_>>()
    );

    let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), METRICS.len());
    // Beside the table: three rows of the process, and the buckets of one histogram with sum and count.
    assert_eq!(
        samples(&render(&stats, &PROCESS)).len(),
        METRICS.len() + 3 + 15
    );
}

#[test]
fn a_shards_numbers_reach_the_page_under_its_label() {
    let stats = Stats::new(2);
    let core = Counters {
        deliveries: 7,
        ..Counters::default()
    };
    let shell = ShellCounters {
        bytes_sent: 70,
        ..ShellCounters::default()
    };
    let gauges = Gauges {
        connections: 3,
        ..Gauges::default()
    };
    stats.shards[0].publish(&core, &shell, &gauges);
    stats.shards[1].publish(&core, &ShellCounters::default(), &Gauges::default());
    stats.server.accepts.fetch_add(5, Ordering::Relaxed);
    let page = render(&stats, &PROCESS);
    let samples = samples(&page);
    for (name, expect) in [
        ("waypost_deliveries_total{shard=\"0\"}", "7"),
        ("waypost_deliveries_total{shard=\"1\"}", "7"),
        ("waypost_bytes_sent_total{shard=\"0\"}", "70"),
        ("waypost_bytes_sent_total{shard=\"1\"}", "0"),
        ("waypost_connections{shard=\"0\"}", "3"),
        ("waypost_accepts_total", "5"),
        ("waypost_info{version=\"1.2.3\"}", "1"),
        ("waypost_uptime_seconds", "1.500"),
        ("waypost_ready", "1"),
    ] {
        assert_eq!(
            samples.get(name).map(String::as_str),
            Some(expect),
            "{name}"
        );
    }
    assert!(page.contains("# TYPE waypost_deliveries_total counter\n"));
    assert!(page.contains("# TYPE waypost_connections gauge\n"));

    let totals = stats.totals();
    assert_eq!(totals.core.deliveries, 14);
    assert_eq!(totals.shell.bytes_sent, 70);
    assert_eq!(totals.gauges.connections, 3);
}

#[test]
fn system_topics_are_named_and_written_as_mosquittos() {
    let mut topics = SystemTopics::default();
    let mut now = Snapshot::default();
    now.core.publishes_received = 60;
    now.core.dropped_queue_full = 2;
    now.shell.publish_bytes_received = 6_000;
    now.shell.publish_bytes_sent = 7_000;
    now.shell.dropped_qos0_outbox = 1;
    now.gauges.clients = 3;
    now.gauges.sessions = 5;
    now.gauges.retained_messages = 4;
    let server = ServerStats::default();
    server.store_messages.store(8, Ordering::Relaxed);
    server.store_message_bytes.store(800, Ordering::Relaxed);
    let first: BTreeMap<_, _> = topics
        .report(Duration::from_mins(1), &now, &server)
        .into_iter()
        .map(|(topic, payload)| (topic, String::from_utf8(payload).unwrap()))
        .collect();
    for (topic, expect) in [
        ("uptime", "60 seconds"),
        ("clients/connected", "3"),
        ("clients/disconnected", "2"),
        ("clients/total", "5"),
        ("clients/maximum", "3"),
        ("publish/messages/received", "60"),
        ("publish/messages/dropped", "3"),
        ("publish/bytes/received", "6000"),
        ("publish/bytes/sent", "7000"),
        ("store/messages/count", "8"),
        ("store/messages/bytes", "800"),
        ("retained messages/count", "4"),
        // 60 in the first minute, averaged as 60 × (1 − e^(−60/window)).
        ("load/publish/received/1min", "37.93"),
        ("load/publish/received/5min", "10.88"),
        ("load/publish/received/15min", "3.87"),
    ] {
        assert_eq!(
            first
                .get(&format!("$SYS/broker/{topic}"))
                .map(String::as_str),
            Some(expect),
            "{topic}"
        );
    }
    assert_eq!(
        first["$SYS/broker/version"],
        format!("waypost version {}", crate::VERSION)
    );

    // The page lists what is said, and nothing else is.
    let listed: BTreeSet<String> = system::SYSTEM_TOPICS
        .iter()
        .flat_map(|(topic, _)| {
            ["1min", "5min", "15min"]
                .map(|window| format!("$SYS/broker/{}", topic.replace('+', window)))
        })
        .collect();
    assert_eq!(first.into_keys().collect::<BTreeSet<_>>(), listed);
}

#[test]
fn only_what_changed_is_said_again() {
    let mut topics = SystemTopics::default();
    let mut now = Snapshot::default();
    let server = ServerStats::default();
    topics.report(Duration::from_secs(10), &now, &server);
    let said = |topics: &mut SystemTopics, now: &Snapshot, uptime| -> Vec<String> {
        topics
            .report(Duration::from_secs(uptime), now, &server)
            .into_iter()
            .map(|(topic, _)| topic)
            .collect()
    };
    assert_eq!(said(&mut topics, &now, 20), ["$SYS/broker/uptime"]);
    now.gauges.clients = 2;
    now.gauges.sessions = 2;
    let changed = said(&mut topics, &now, 30);
    assert_eq!(changed.len(), 4, "{changed:?}");
    now.gauges.clients = 1;
    let changed = said(&mut topics, &now, 40);
    assert!(
        !changed.contains(&"$SYS/broker/clients/maximum".to_owned()),
        "{changed:?}"
    );
}

/// Goal: `docs/metrics.md` says what the code does. `RENEW_DOCS=1` writes it anew.
#[test]
fn the_page_about_metrics_is_current() {
    crate::docs::check("metrics.md", &markdown());
}

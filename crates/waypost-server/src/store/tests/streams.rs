//! Streams read by shards, through the thread that answers them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use waypost_core::journal::{Journal, MessageId, Until};
use waypost_core::rows::message::{KeptMessage, decode_message};
use waypost_core::stream::{
    ReaderId, Start, StreamAnswer, StreamAsk, StreamId, StreamRead, Wanted,
};
use waypost_mqtt::QoS;

use super::super::stream_reader::PARKED_MAX;
use super::Rig;
use crate::config::{Config, StreamConfig};

fn configured() -> Config {
    Config {
        streams: vec![StreamConfig {
            name: "a".to_owned(),
            filters: vec!["a/#".to_owned()],
            ..StreamConfig::default()
        }],
        ..Config::default()
    }
}

const STREAM: StreamId = StreamId(1);

/// A message of the first shard that enters the stream.
fn enter(rig: &mut Rig, id: u64, topic: &str, until: Until) {
    let mut body = Vec::new();
    KeptMessage {
        topic,
        properties: &[],
        payload: &id.to_be_bytes(),
        qos: QoS::AtLeastOnce,
        publisher: 1,
        address: None,
        date_wall_ms: 1,
        expires_wall_ms: u64::MAX,
    }
    .encode(&mut body);
    let journal = &mut rig.shards[0].journal;
    journal.message(MessageId(id), u64::MAX, &body);
    journal.enter(MessageId(id), &[STREAM]);
    journal.end(until);
    journal.hand_in();
}

fn ask(rig: &mut Rig, shard: usize, reader: u64, filter: &str, wanted: Wanted) {
    let journal = &mut rig.shards[shard].journal;
    journal.read_stream(StreamAsk {
        reader: ReaderId(reader),
        stream: STREAM,
        filter: filter.into(),
        wanted,
    });
    journal.hand_in();
}

fn from(offset: u64, waits: bool) -> Wanted {
    Wanted::From {
        offset,
        count_max: 100,
        bytes_max: 1 << 20,
        waits,
    }
}

/// The next answer to a shard.
fn answer(rig: &mut Rig, shard: usize) -> (ReaderId, StreamAnswer) {
    rig.until("an answer", |rig| !rig.shards[shard].answers.is_empty());
    rig.shards[shard].answers.remove(0)
}

fn records(answer: StreamAnswer) -> StreamRead {
    match answer {
        StreamAnswer::Records(read) => read,
        other => panic!("{other:?}"),
    }
}

fn offsets_and_topics(read: &StreamRead) -> Vec<(u64, String)> {
    let told = read.records.iter().map(|record| {
        let message = decode_message(record.body()).unwrap();
        (record.offset, message.topic.to_owned())
    });
    told.collect()
}

fn waiting(rig: &Rig) -> u64 {
    let waiting = &rig.stats.server.stream_reads_waiting;
    waiting.load(Ordering::Relaxed)
}

#[test]
fn a_shard_reads_what_it_wrote_down_before() {
    let directory = tempfile::tempdir().unwrap();
    let mut rig = Rig::with_config(&directory, 1, &configured());
    for (id, topic) in (1..).zip(["a/1", "a/2", "a/1"]) {
        enter(&mut rig, id, topic, Until::Whenever);
    }
    ask(&mut rig, 0, 7, "#", from(0, false));
    let (reader, read) = answer(&mut rig, 0);
    let read = records(read);
    assert_eq!((reader, read.next, read.is_end), (ReaderId(7), 3, true));
    let topic = |topic: &str| topic.to_owned();
    assert_eq!(
        offsets_and_topics(&read),
        [(0, topic("a/1")), (1, topic("a/2")), (2, topic("a/1"))]
    );
    ask(&mut rig, 0, 8, "a/+", Wanted::Start(Start::Each(1)));
    let picked = Arc::from([1, 2]);
    assert_eq!(
        answer(&mut rig, 0).1,
        StreamAnswer::Start { picked, offset: 3 }
    );
    ask(&mut rig, 0, 8, "a/1", Wanted::Picked(Arc::from([0, 1, 2])));
    let read = records(answer(&mut rig, 0).1);
    assert_eq!(
        offsets_and_topics(&read),
        [(0, topic("a/1")), (2, topic("a/1"))]
    );
    rig.until("the figures", |rig| !rig.stats.streams.all().is_empty());
    let figures = &rig.stats.streams.all()[0];
    assert_eq!(figures.read_records, 5, "waypost_stream_read_records_total");
    assert!(figures.read_bytes > 50, "waypost_stream_read_bytes_total");
    rig.shards[0].journal.read_stream(StreamAsk {
        reader: ReaderId(9),
        stream: StreamId(99),
        filter: "#".into(),
        wanted: from(0, true),
    });
    rig.shards[0].journal.hand_in();
    assert_eq!(answer(&mut rig, 0).1, StreamAnswer::Gone);
    rig.close();
}

#[test]
fn who_waits_is_answered_when_the_stream_grew() {
    let directory = tempfile::tempdir().unwrap();
    let mut rig = Rig::with_config(&directory, 2, &configured());
    ask(&mut rig, 0, 1, "#", from(0, true));
    ask(&mut rig, 1, 2, "a/2", from(0, true));
    rig.until("both to wait", |rig| waiting(rig) == 2);
    enter(&mut rig, 1, "a/1", Until::Durable);
    let (reader, read) = answer(&mut rig, 0);
    assert_eq!((reader, records(read).next), (ReaderId(1), 1));
    rig.until("the other to wait on", |rig| waiting(rig) == 1);
    assert!(
        rig.shards[1].answers.is_empty(),
        "nothing that matches came"
    );
    enter(&mut rig, 2, "a/2", Until::Durable);
    let (reader, read) = answer(&mut rig, 1);
    let read = records(read);
    assert_eq!((reader, read.next), (ReaderId(2), 2));
    assert_eq!(offsets_and_topics(&read), [(1, "a/2".to_owned())]);
    rig.until("nobody to wait", |rig| waiting(rig) == 0);
    rig.close();
}

/// Goal: who waits is bounded. Method: so many, one more, and as many again.
#[test]
fn who_waited_longest_makes_room() {
    let directory = tempfile::tempdir().unwrap();
    let mut rig = Rig::with_config(&directory, 1, &configured());
    let n = PARKED_MAX as u64;
    for reader in 0..n {
        ask(&mut rig, 0, reader, "#", from(0, true));
    }
    rig.until("all to wait", |rig| waiting(rig) == n);
    let crowded_out = |rig: &Rig| {
        let counter = &rig.stats.server.stream_reads_crowded_out;
        counter.load(Ordering::Relaxed)
    };
    assert_eq!(crowded_out(&rig), 0);
    for reader in n..2 * n {
        ask(&mut rig, 0, reader, "#", from(0, true));
        let (first, read) = answer(&mut rig, 0);
        assert_eq!(first, ReaderId(reader - n));
        assert_eq!(
            records(read),
            StreamRead {
                records: Vec::new(),
                next: 0,
                is_end: true
            }
        );
        assert_eq!(crowded_out(&rig), reader - n + 1);
    }
    rig.until("all that can to wait", |rig| waiting(rig) == n);
    rig.close();
}

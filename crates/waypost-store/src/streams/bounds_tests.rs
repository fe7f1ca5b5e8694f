//! Every bound of streams, at it, behind it, and far behind it.

use super::{
    table::TOPICS_MAX,
    tests::{A, World},
    *,
};

fn named(count: usize) -> Vec<StreamOptions> {
    let names = (0..count).map(|number| format!("s{number}"));
    names.map(StreamOptions::named).collect()
}

#[test]
fn there_are_so_many_streams_at_most_and_a_forgotten_one_makes_room() {
    let world = World::new(named(STREAMS_MAX));
    let streams = world.store.streams();
    for count in [STREAMS_MAX + 1, 2 * STREAMS_MAX] {
        let refused = streams.configure(&named(count));
        assert!(matches!(refused, Err(StoreError::TooManyStreams)));
    }
    assert_eq!(streams.list(0).len(), STREAMS_MAX);
    streams.configure(&named(STREAMS_MAX - 1)).unwrap();
    let last = format!("s{}", STREAMS_MAX - 1);
    assert!(streams.forget(&last).unwrap());
    assert_eq!(
        streams.configure(&named(STREAMS_MAX)).unwrap().len(),
        STREAMS_MAX
    );
}

/// Of more than may be picked the newest are.
#[test]
fn so_many_records_are_picked_at_most() {
    for topics in [PICKED_MAX, PICKED_MAX + 1, 2 * PICKED_MAX] {
        let mut world = World::one();
        for topic in 0..topics {
            world.enter(&[&format!("t/{topic}:x")]);
        }
        let find = world
            .store
            .streams()
            .find(A, Start::Each(1), Filter::All, 0);
        let found = find.unwrap().unwrap();
        let newest: Vec<u64> = (0..topics as u64).skip(topics - PICKED_MAX).collect();
        assert_eq!(*found.picked, newest);
        assert_eq!(found.offset, topics as u64);
    }
}

/// A segment with more topics than are listed is searched block by block, to the same end.
#[test]
fn so_many_topics_of_a_segment_are_listed_at_most() {
    for topics in [TOPICS_MAX, TOPICS_MAX + 1, 2 * TOPICS_MAX] {
        let mut world = World::one();
        world.enter_topics(topics);
        for is_file in [false, true] {
            if is_file {
                world.store.commit(0).unwrap();
                world.reopen(false);
            }
            let streams = world.store.streams();
            for topic in [0, 1, topics / 2, topics - 1] {
                let topic = format!("t/{topic}");
                let filter = Filter::Topic(&topic);
                let last = streams.find(A, Start::Last(1), filter, 0).unwrap().unwrap();
                let read = streams.read(A, last.offset, filter, (9, 900), 0);
                assert_eq!(read.unwrap().unwrap().records.len(), 1, "{topics}, {topic}");
                let mut offset = 0;
                let mut found = 0;
                loop {
                    let read = streams
                        .read(A, offset, filter, (9, 900), 0)
                        .unwrap()
                        .unwrap();
                    found += read.records.len();
                    offset = read.next;
                    if read.is_end {
                        break;
                    }
                }
                assert_eq!(found, 3);
            }
        }
    }
}

impl World {
    /// Three records of each topic, all in one segment, which is ended.
    fn enter_topics(&mut self, topics: usize) {
        self.options.streams.segment_bytes_max = 3_000;
        self.reopen(false);
        for _ in 0..3 {
            for topic in 0..topics {
                self.enter(&[&format!("t/{topic}:x")]);
            }
        }
    }
}

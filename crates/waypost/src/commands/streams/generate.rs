//! Messages made up, to fill a stream for a measurement.

use waypost_server::history::Record;

/// The most topics.
pub const TOPICS_MAX: u64 = 1_000_000;

/// Messages one millisecond apart, on topics in turn, with payloads that cannot be packed. The same every time.
pub struct Generator {
    topics: Vec<String>,
    payload: Vec<u8>,
    random: u64,
    next: u64,
    count: u64,
    first_ms: u64,
}

impl Generator {
    /// So many, of which the last one entered now.
    pub fn new(filter: &str, topics: u64, count: u64, bytes: usize, now_ms: u64) -> Self {
        Self {
            topics: topics_of(filter, topics.clamp(1, TOPICS_MAX)),
            payload: vec![0; bytes],
            random: 0x9e37_79b9_7f4a_7c15,
            next: 0,
            count,
            first_ms: now_ms.saturating_sub(count.saturating_sub(1)),
        }
    }

    fn fill(&mut self) {
        for piece in self.payload.chunks_mut(8) {
            // xorshift64: fast, and no packer finds anything in it.
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            let bytes = self.random.to_le_bytes();
            for (to, from) in piece.iter_mut().zip(bytes) {
                *to = from;
            }
        }
    }
}

impl Iterator for Generator {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        if self.next >= self.count {
            return None;
        }
        self.fill();
        let wall_ms = self.first_ms + self.next;
        let count = self.topics.len() as u64;
        let index = usize::try_from(self.next % count).unwrap_or(0);
        self.next += 1;
        let topic = self.topics.get(index)?;
        Some(Record::plain(topic, &self.payload, wall_ms))
    }
}

/// Topics that match a filter: a number for each wildcard. A filter without one is a topic.
fn topics_of(filter: &str, count: u64) -> Vec<String> {
    if !filter.contains(['+', '#']) {
        return vec![filter.to_owned()];
    }
    let topic = |number: u64| filter.replace(['+', '#'], &number.to_string());
    (0..count).map(topic).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn topics_match_their_filter() {
        assert_eq!(topics_of("past/#", 2), ["past/0", "past/1"]);
        assert_eq!(topics_of("a/+/b/#", 2), ["a/0/b/0", "a/1/b/1"]);
        assert_eq!(topics_of("a/b", 2), ["a/b"]);
    }

    #[test]
    fn messages_are_made() {
        let made: Vec<_> = Generator::new("a/#", 2, 3, 13, 1_000).collect();
        let times: Vec<_> = made.iter().filter_map(|record| record.wall_ms).collect();
        assert_eq!(times, [998, 999, 1_000]);
        let read = made.iter().map(|record| {
            let mut line = Vec::new();
            record.encode_line(&mut line);
            serde_json::from_slice::<Value>(&line).unwrap()
        });
        let read: Vec<_> = read.collect();
        let topics: Vec<_> = read.iter().map(|line| line["topic"].clone()).collect();
        assert_eq!(topics, ["a/0", "a/1", "a/0"]);
        assert!(made.windows(2).all(|two| two[0].body != two[1].body));
        assert_eq!(Generator::new("a", 1, 0, 1, 0).count(), 0);
    }
}

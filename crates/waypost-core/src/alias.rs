//! Topic Aliases (5 §3.3.2.3.4). 5 [MQTT-3.3.2-7]: they do not outlive their connection, so the connection owns them.

use hashbrown::HashTable;

/// What a client taught the server.
#[derive(Debug, Default)]
pub(crate) struct AliasesIn {
    topics: Vec<Option<Box<str>>>,
}

impl AliasesIn {
    /// Remembers `topic` under `alias`, which the caller has checked against the maximum.
    pub fn teach(&mut self, alias: u16, topic: &str) {
        let at = usize::from(alias);
        if self.topics.len() <= at {
            self.topics.resize(at + 1, None);
        }
        if let Some(place) = self.topics.get_mut(at)
            && place.as_deref() != Some(topic)
        {
            *place = Some(topic.into());
        }
    }

    /// The topic `alias` stands for.
    pub fn topic(&self, alias: u16) -> Option<&str> {
        self.topics.get(usize::from(alias))?.as_deref()
    }
}

/// What the server taught a client: the first topics get the aliases.
#[derive(Debug)]
pub(crate) struct AliasesOut {
    aliases: HashTable<(Box<str>, u16)>,
    max: u16,
}

impl AliasesOut {
    pub fn new(max: u16) -> Self {
        Self {
            aliases: HashTable::new(),
            max,
        }
    }

    /// The alias to send with `topic`, and whether the client knows it already; `None` when there is none left or
    /// the topic is too short to gain from one.
    pub fn assign(&mut self, topic: &str, hash: impl Fn(&str) -> u64) -> Option<(u16, bool)> {
        // The alias property costs three bytes.
        if topic.len() <= 3 {
            return None;
        }
        let topic_hash = hash(topic);
        if let Some((_, alias)) = self
            .aliases
            .find(topic_hash, |(known, _)| **known == *topic)
        {
            return Some((*alias, true));
        }
        let alias = u16::try_from(self.aliases.len() + 1)
            .ok()
            .filter(|alias| *alias <= self.max)?;
        self.aliases
            .insert_unique(topic_hash, (topic.into(), alias), |(known, _)| hash(known));
        Some((alias, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_topics_get_the_aliases() {
        // 5 [MQTT-3.3.2-11]: none above the client's maximum; 5 [MQTT-3.3.2-8]: never 0.
        let mut aliases = AliasesOut::new(2);
        let hash = |topic: &str| topic.len() as u64;
        assert_eq!(aliases.assign("a/long", hash), Some((1, false)));
        assert_eq!(aliases.assign("a/long", hash), Some((1, true)));
        assert_eq!(aliases.assign("b/long", hash), Some((2, false)));
        assert_eq!(aliases.assign("c/long", hash), None);
        assert_eq!(aliases.assign("b/long", hash), Some((2, true)));
        assert_eq!(aliases.assign("abc", hash), None);
    }

    #[test]
    fn a_client_may_teach_an_alias_anew() {
        let mut aliases = AliasesIn::default();
        aliases.teach(7, "a");
        aliases.teach(7, "b");
        assert_eq!(
            (aliases.topic(7), aliases.topic(6), aliases.topic(8)),
            (Some("b"), None, None)
        );
    }
}

//! Packing with dictionaries on a shard: who is learnt from, what packs, and who gets it. The thread's part is done by hand.

use std::sync::atomic::Ordering;

use waypost_compress::Stages;
use waypost_compress::dictionary::{Dictionaries, Dictionary};
use waypost_compress::zstd_dict;
use waypost_core::{Action, Permit, Verdict, Who};
use waypost_mqtt::ProtocolVersion::{V5, V311};

use super::transcode::{connect_v5, noise, publish_v5, subscribe_v5, understood, world};
use super::*;
use crate::dictionaries::{AtRest, Files, Shelf, Training};
use crate::metrics::Stats;

struct Learning {
    world: World,
    shelf: Arc<Shelf>,
    stats: Arc<Stats>,
    training: Training,
    writers: Vec<Client>,
    _folder: tempfile::TempDir,
}

impl Learning {
    /// Thirty who write, where these policies hold.
    fn new(said: &[(&str, bool, Option<&str>)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (shelf, stats) = (Arc::new(Shelf::default()), Arc::new(Stats::new(1)));
        let files = Files::open(folder.path(), &shelf, AtRest::default()).unwrap();
        let (sampler, training) = Training::new(Arc::clone(&shelf), files, &stats);
        let mut world = world(said);
        let coder = &mut world.shard.outlets.coder;
        coder.learn_by(Arc::clone(&shelf), sampler);
        let writers = (0..30)
            .map(|number| connect_v5(&mut world, &format!("writer {number}"), "", None))
            .collect();
        Self {
            world,
            shelf,
            stats,
            training,
            writers,
            _folder: folder,
        }
    }

    fn write(&mut self, writer: usize, packet: &[u8]) {
        self.world.write(&mut self.writers[writer], packet);
        self.world.settle();
    }

    /// A thousand messages, and the dictionary that comes of them.
    fn teach(&mut self, topic: &str) -> Arc<Dictionary> {
        let mut made = Vec::new();
        for number in 0..1_000 {
            let writer = number % self.writers.len();
            let message = publish_v5(topic, &[], &say(number));
            self.world.write(&mut self.writers[writer], &message);
            // Below what its queue has room for.
            if number % 200 == 199 {
                self.world.settle();
                made.extend(self.training.learn_all());
            }
        }
        assert_eq!(made.len(), 1);
        made.remove(0)
    }

    fn learnt(&self) -> u64 {
        let samples = &self.stats.server.dictionary_samples;
        samples.load(Ordering::Relaxed)
    }

    fn packet(&mut self, client: &mut Client) -> (Vec<u8>, Option<String>) {
        understood(&self.world.packet(client), V5)
    }

    /// What a client reads of a message, which must say truly how it is packed; and what it says.
    fn read(&mut self, client: &mut Client) -> (Vec<u8>, Option<String>) {
        let (payload, encoding) = self.packet(client);
        let Some(names) = &encoding else {
            return (payload, None);
        };
        let stages = Stages::from_content_encoding(names).unwrap();
        let known = Arc::<Shelf>::clone(&self.shelf);
        let mut at_work = stages.at_work_with(|strategy| {
            if strategy.name == zstd_dict::NAME {
                return zstd_dict::with(Arc::<Shelf>::clone(&known), None);
            }
            (strategy.new)()
        });
        let mut plain = Vec::new();
        waypost_compress::Compress::decompress(&mut at_work, &payload, 1 << 20, &mut plain)
            .unwrap();
        (plain, encoding)
    }
}

fn say(number: usize) -> Vec<u8> {
    let text = format!(
        "{{\"number\":{number},\"text\":\"what everybody says here, again and again and again, on this topic and on no other\"}}"
    );
    text.into_bytes()
}

/// Goal: a policy's messages are learnt from, each with its sender, whoever gets them; what is sealed or packed already is
/// not. Method: thirty clients write, and nobody subscribes; then messages of other kinds.
#[test]
fn messages_are_learnt_from_though_nobody_subscribes() {
    let mut learning = Learning::new(&[
        ("t/#", true, Some("zstd-dict")),
        ("u/#", true, Some("zstd")),
        ("v/#", false, Some("zstd-dict")),
        ("w/#", true, Some("auto")),
    ]);
    learning.teach("t/a");
    assert_eq!(learning.learnt(), 1_000);
    let mut sealed = vec![0xd0, 0x83, 0x43, 0xa1, 0x01, 0x03, 0xa0, 0x58, 100];
    sealed.extend([7; 100]);
    assert!(waypost_encrypt::check_sealed(&sealed).is_ok());
    let zstd = [("content-encoding", "zstd")];
    for (topic, said, payload) in [
        ("t/a", &[][..], &sealed),
        ("t/a", &zstd[..], &say(8)),
        ("u/a", &[][..], &say(8)),
        ("v/a", &[][..], &say(8)),
        ("x/a", &[][..], &say(8)),
    ] {
        learning.write(2, &publish_v5(topic, said, payload));
        assert_eq!(learning.learnt(), 1_000, "{topic} {said:?}");
    }
    learning.write(2, &publish_v5("w/a", &[], &say(8)));
    assert_eq!(learning.learnt(), 1_001);
}

/// Goal: packed with a dictionary for who accepts that, and unpacked for who does not.
#[test]
fn a_policy_packs_with_a_dictionary_of_its_own() {
    let mut learning = Learning::new(&[("t/#", true, Some("zstd-dict"))]);
    let made = learning.teach("t/a");
    let world = &mut learning.world;
    let mut knowing = connect_v5(world, "knowing", "waypost-zstd-dict", None);
    subscribe_v5(world, &mut knowing, "t/#", 0);
    let mut plain = world.connect("plain");
    world.subscribe(&mut plain, "t/#", 0);
    learning.write(0, &publish_v5("t/a", &[], &say(7)));
    let got = learning.packet(&mut knowing);
    assert_eq!(got.1.as_deref(), Some("waypost-zstd-dict"));
    assert_eq!(zstd_dict::dictionary_id(&got.0), Some(made.id()));
    assert!(got.0.len() * 2 < say(7).len(), "{} bytes", got.0.len());
    let as_it_is = understood(&learning.world.packet(&mut plain), V311);
    assert_eq!(as_it_is, (say(7), None));

    // What comes packed with it is unpacked for who does not accept it.
    let encoding = [("content-encoding", "waypost-zstd-dict")];
    learning.write(1, &publish_v5("t/a", &encoding, &got.0));
    assert_eq!(learning.packet(&mut knowing).0, got.0);
    let unpacked = understood(&learning.world.packet(&mut plain), V311);
    assert_eq!(unpacked, (say(7), None));
}

/// Goal: `auto` sends what it chose under that one's own name, to each something it accepts, and uses the dictionary. Method:
/// clients that accept this and that, before there is a dictionary and after; short messages, long ones, noise.
#[test]
fn auto_says_what_it_chose_and_chooses_what_is_accepted() {
    let mut learning = Learning::new(&[("t/#", true, Some("auto"))]);
    let accepts = [
        "*",
        "waypost-zstd-dict",
        "zstd",
        "br;q=0.1, waypost-huffman",
        "waypost-auto",
        "",
    ];
    let long = |number: usize| say(number).repeat(20);
    let mut found = Vec::new();
    for has_dictionary in [false, true] {
        let made = has_dictionary.then(|| learning.teach("t/a"));
        let world = &mut learning.world;
        let mut clients: Vec<_> = accepts
            .iter()
            .map(|accepts| connect_v5(world, &format!("c {accepts}"), accepts, None))
            .collect();
        for client in &mut clients {
            subscribe_v5(world, client, "t/#", 0);
        }
        for (what, message) in [
            ("short", say(5)),
            ("long", long(6)),
            ("noise", noise(3_000)),
            ("large", long(7).repeat(20)),
        ] {
            learning.write(3, &publish_v5("t/a", &[], &message));
            learning.world.work();
            let each = clients.iter_mut().zip(accepts);
            for (client, accepts) in each {
                let (plain, encoding) = learning.read(client);
                assert!(plain == message, "{what} for {accepts}");
                found.push((has_dictionary, what, accepts, encoding));
            }
        }
        assert_eq!(made.is_some(), has_dictionary);
    }
    let got = |has_dictionary, what, accepts| {
        let mut found = found.iter();
        let one = found.find(|one| (one.0, one.1, one.2) == (has_dictionary, what, accepts));
        one.unwrap().3.as_deref()
    };
    for (has_dictionary, what, accepts, encoding) in &found {
        let encoding = encoding.as_deref().unwrap_or("identity");
        assert!(encoding != "waypost-auto");
        let is_accepted = *accepts == "*" || encoding == "identity" || accepts.contains(encoding);
        assert!(is_accepted, "{has_dictionary} {what} {accepts}: {encoding}");
        let must_be_plain = *what == "noise" || ["", "waypost-auto"].contains(accepts);
        assert!(!must_be_plain || encoding == "identity", "{what} {accepts}");
    }
    assert_eq!(got(true, "short", "*"), Some("waypost-zstd-dict"));
    assert_eq!(
        got(true, "short", "waypost-zstd-dict"),
        Some("waypost-zstd-dict")
    );
    assert_eq!(got(false, "short", "waypost-zstd-dict"), None);
    for what in ["long", "large"] {
        assert_eq!(got(false, what, "zstd"), Some("zstd"));
        assert_eq!(got(true, what, "zstd"), Some("zstd"));
        assert!(got(true, what, "br;q=0.1, waypost-huffman").is_some());
    }
}

/// May subscribe to everything but these.
struct Without(&'static [&'static str]);

impl Permit for Without {
    fn check(&mut self, who: &Who<'_>, action: Action, topic: &str) -> Verdict {
        let is_forbidden = action == Action::Subscribe && self.0.contains(&topic);
        if is_forbidden && who.client_id == "part" {
            Verdict::Deny
        } else {
            Verdict::Allow
        }
    }
}

/// Goal: nobody gets a frame whose dictionary they may not read. Method: one who may read all of a policy's messages and one
/// who may read a part; what the server packs, what comes packed, and the same after the rules have changed.
#[test]
fn who_may_not_read_the_dictionary_gets_no_frame_that_needs_it() {
    for compress in ["zstd-dict", "auto"] {
        let mut learning = Learning::new(&[("t/#", true, Some(compress))]);
        let made = learning.teach("t/a");
        learning.rules(&["t/#", "#"]);
        let world = &mut learning.world;
        let accepts = "waypost-zstd-dict, waypost-lz4";
        let mut whole = connect_v5(world, "whole", accepts, None);
        let mut part = connect_v5(world, "part", accepts, None);
        for client in [&mut whole, &mut part] {
            subscribe_v5(world, client, "t/a", 0);
        }
        let is_packed = |got: &(Vec<u8>, Option<String>)| {
            got.1.as_deref() == Some("waypost-zstd-dict")
                && zstd_dict::dictionary_id(&got.0) == Some(made.id())
        };
        // Who is not known yet gets the first message without it.
        for number in 0..3 {
            learning.write(0, &publish_v5("t/a", &[], &say(number)));
            let got = learning.packet(&mut whole);
            assert!(number == 0 || is_packed(&got), "{got:?}");
            assert_eq!(learning.packet(&mut part), (say(number), None));
        }
        let mut frame = Vec::new();
        let current = learning.shelf.find(made.id());
        zstd_dict::with(Arc::new(()), current)
            .compress(&say(9), &mut frame)
            .unwrap();
        let mut twice = Vec::new();
        Stages::parse("lz4")
            .unwrap()
            .compress(&frame, &mut twice)
            .unwrap();
        for (encoding, packed) in [
            ("waypost-zstd-dict", &frame),
            ("waypost-zstd-dict, waypost-lz4", &twice),
        ] {
            let said = [("content-encoding", encoding)];
            for _ in 0..2 {
                learning.write(0, &publish_v5("t/a", &said, packed));
                assert_eq!(learning.packet(&mut part), (say(9), None), "{encoding}");
            }
            learning.packet(&mut whole);
            let got = learning.packet(&mut whole);
            assert_eq!(got, (packed.clone(), Some(encoding.to_owned())));
        }
        learning.rules(&[]);
        for number in 10..12 {
            learning.write(0, &publish_v5("t/a", &[], &say(number)));
            let got = learning.packet(&mut part);
            assert!(number == 10 || is_packed(&got), "{got:?}");
        }
        learning.rules(&["t/#"]);
        for number in 12..14 {
            learning.write(0, &publish_v5("t/a", &[], &say(number)));
            assert_eq!(learning.packet(&mut part), (say(number), None));
        }
    }
}

impl Learning {
    /// Whoever is called "part" may not subscribe to these from now on.
    fn rules(&mut self, forbidden: &'static [&'static str]) {
        let rules = Inbound::Rules(Box::new(Without(forbidden)), Box::new(AllowAll));
        self.world.shard.inbox.send([rules]).unwrap();
        self.world.settle();
    }
}

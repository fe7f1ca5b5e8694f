use std::sync::Arc;
use std::sync::atomic::Ordering;

use waypost_compress::dictionary::{Dictionaries, Publisher};
use waypost_core::{Action, Permit, Verdict, Who};

use super::*;
use crate::metrics::Stats;

fn publisher(number: usize) -> Publisher {
    Publisher::named(format!("client {number}").as_bytes())
}

fn message(number: usize, what: &str) -> Vec<u8> {
    format!("{{\"{what}\":\"{}\",\"event\":\"{what}.placed\",\"note\":\"leave it at the {what} door\"}}", number * 7919)
        .into_bytes()
}

struct World {
    folder: tempfile::TempDir,
    stats: Arc<Stats>,
    shelf: Arc<Shelf>,
    sampler: Sampler,
    training: Training,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (stats, shelf) = (Arc::new(Stats::new(1)), Arc::new(Shelf::default()));
        let files = Files::open(folder.path(), &shelf, AtRest::default()).unwrap();
        let (sampler, training) = Training::new(Arc::clone(&shelf), files, &stats);
        Self {
            folder,
            stats,
            shelf,
            sampler,
            training,
        }
    }

    /// So many messages by so many publishers; the dictionaries that came of them.
    fn send(&mut self, filter: &Arc<str>, count: usize, publishers: usize) -> usize {
        let what = filter.split('/').next().unwrap_or_default().to_owned();
        let mut made = 0;
        for number in 0..count {
            self.sampler.offer(
                filter,
                publisher(number % publishers),
                &message(number, &what),
            );
            made += self.training.learn_all().len();
        }
        made
    }
}

/// Goal: each policy has a dictionary of its own messages, after a start too. Method: two policies, one with too few
/// publishers; then another shelf over the same folder.
#[test]
fn a_policy_gets_a_dictionary_of_its_own_messages() {
    let mut world = World::new();
    let (orders, chats, few): (Arc<str>, Arc<str>, Arc<str>) =
        ("orders/#".into(), "chats/#".into(), "few/#".into());
    assert_eq!(world.send(&orders, 999, 30), 0);
    assert_eq!(world.send(&orders, 1, 30), 1);
    assert_eq!(world.send(&chats, 1_000, 30), 1);
    assert_eq!(world.send(&few, 1_000, 19), 0);
    let one = world.shelf.current("orders/#").unwrap();
    let other = world.shelf.current("chats/#").unwrap();
    let contains = |bytes: &[u8], text: &str| {
        let mut windows = bytes.windows(text.len());
        windows.any(|window| window == text.as_bytes())
    };
    assert!(contains(one.bytes(), "orders door") && !contains(one.bytes(), "chats"));
    assert!(contains(other.bytes(), "chats door") && !contains(other.bytes(), "orders"));
    assert!(world.shelf.current("few/#").is_none());
    assert_eq!(
        world
            .stats
            .server
            .dictionaries_trained
            .load(Ordering::Relaxed),
        2
    );
    assert_eq!(
        world
            .stats
            .server
            .dictionary_samples
            .load(Ordering::Relaxed),
        3_000
    );

    let again = Shelf::default();
    Files::open(world.folder.path(), &again, AtRest::default()).unwrap();
    assert_eq!(again.find(one.id()).unwrap().bytes(), one.bytes());
    assert_eq!(*again.filter_of(other.id()).unwrap(), *chats);
    assert_eq!(again.current("orders/#").unwrap().id(), one.id());
}

/// Goal: what was packed with a retired dictionary stays readable, and there are not more and more of them. Method: what is
/// said changes again and again.
#[test]
fn retired_dictionaries_stay_and_are_bounded() {
    let mut world = World::new();
    let filter: Arc<str> = "orders/#".into();
    assert_eq!(world.send(&filter, 1_000, 30), 1);
    let first = world.shelf.current(&filter).unwrap();
    for number in 0..4_000_usize {
        let text = format!(
            "something else altogether is said from now on, number {number}, by everybody here"
        );
        world
            .sampler
            .offer(&filter, publisher(number % 30), text.as_bytes());
        world.training.learn_all();
    }
    let second = world.shelf.current(&filter).unwrap();
    assert_ne!(first.id(), second.id());
    assert_eq!(world.shelf.find(first.id()).unwrap().bytes(), first.bytes());
    assert!(world.shelf.is_taken(first.id()) && world.shelf.is_taken(second.id()));

    for (versions, expect) in [
        (VERSIONS_MAX - 1, 1),
        (VERSIONS_MAX, 0),
        (2 * VERSIONS_MAX, 0),
    ] {
        let mut world = World::new();
        for (_, id) in (0..versions).zip(40_000_u32..) {
            let mut bytes = first.bytes().to_vec();
            bytes[4..8].copy_from_slice(&id.to_le_bytes());
            let dictionary = waypost_compress::dictionary::Dictionary::new(bytes).unwrap();
            world.shelf.put(&filter, Arc::new(dictionary));
        }
        let mut made = 0;
        for number in 0..1_000_usize {
            let text = format!(
                "something else altogether is said from now on, number {number}, by everybody here"
            );
            world
                .sampler
                .offer(&filter, publisher(number % 30), text.as_bytes());
            made += world.training.learn_all().len();
        }
        assert_eq!(made, expect, "{versions} before");
        assert_eq!(world.shelf.all().len(), versions + expect);
    }
}

/// Goal: a shard never waits for who learns. Method: as many messages as have room, one more, twice as many.
#[test]
fn messages_beyond_the_queue_go_unlearnt() {
    const ROOM: u64 = 256;
    for (count, dropped) in [(ROOM, 0), (ROOM + 1, 1), (2 * ROOM, ROOM)] {
        let world = World::new();
        let filter: Arc<str> = "orders/#".into();
        for _ in 0..count {
            world.sampler.offer(&filter, publisher(0), b"a message");
        }
        let server = &world.stats.server;
        assert_eq!(server.dictionary_samples.load(Ordering::Relaxed), ROOM);
        assert_eq!(
            server.dictionary_samples_dropped.load(Ordering::Relaxed),
            dropped
        );
    }
}

/// Damaged files, and what is none.
#[test]
fn what_cannot_be_read_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("dictionaries");
    std::fs::create_dir(&files).unwrap();
    for (name, bytes) in [
        ("0", &b""[..]),
        ("1", b"a/#"),
        ("2", b"a/#\nnot a dictionary"),
        ("x", b"a/#\n"),
        ("unfinished", b""),
    ] {
        std::fs::write(files.join(name), bytes).unwrap();
    }
    let shelf = Shelf::default();
    Files::open(folder.path(), &shelf, AtRest::default()).unwrap();
    assert!(shelf.all().is_empty());
    assert_eq!(std::fs::read_dir(&files).unwrap().count(), 5);
}

/// Goal: a dictionary in which a bit has changed, or that ends early, is not packed or unpacked with: zstd would take it, and give
/// another message than was packed. Method: every length and every byte of a file.
#[test]
fn a_damaged_dictionary_is_not_used() {
    let mut world = World::new();
    assert_eq!(world.send(&"orders/#".into(), 1_000, 30), 1);
    let path = world.folder.path().join("dictionaries/0");
    let written = std::fs::read(&path).unwrap();
    let is_used = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let shelf = Shelf::default();
        Files::open(world.folder.path(), &shelf, AtRest::default()).unwrap();
        !shelf.all().is_empty()
    };
    assert!(is_used(&written));
    for at in 0..written.len() {
        let mut damaged = written.clone();
        damaged[at] ^= 1 << (at % 8);
        assert!(!is_used(&damaged), "byte {at}");
        assert!(!is_used(&written[..at]), "{at} bytes");
    }
}

/// May subscribe to these.
struct Allowed(&'static [&'static str]);

impl Permit for Allowed {
    fn check(&mut self, _who: &Who<'_>, _action: Action, topic: &str) -> Verdict {
        if self.0.contains(&topic) {
            Verdict::Allow
        } else {
            Verdict::Deny
        }
    }
}

/// Goal: a dictionary is read by who may read all that it was made of, and nobody else. Method: somebody who may read one
/// policy's whole filter and a part of another's, and who was even given `$dictionary/#` by a rule.
#[test]
fn a_dictionary_is_for_who_may_subscribe_to_the_whole_filter() {
    let mut world = World::new();
    let filters: [Arc<str>; 2] = ["orders/#".into(), "chats/#".into()];
    let mut ids = Vec::new();
    for filter in &filters {
        assert_eq!(world.send(filter, 1_000, 30), 1);
        ids.push(world.shelf.current(filter).unwrap().id());
    }
    let mut permit = ReadersOf {
        permit: Allowed(&[
            "orders/#",
            "chats/lobby",
            "$dictionary/#",
            "$dictionary/+",
            "$dictionaryx/1",
        ]),
        shelf: Arc::clone(&world.shelf),
    };
    let who = Who {
        client_id: "anna",
        user: Some("anna"),
        address: None,
        ticket: None,
    };
    let mut check = |topic: &str, expect| {
        assert_eq!(
            permit.check(&who, Action::Subscribe, topic),
            expect,
            "{topic}"
        );
    };
    check(&topic_of(ids[0]), Verdict::Allow);
    check(&topic_of(ids[1]), Verdict::Deny);
    check("$dictionary/1", Verdict::Deny);
    check("$dictionary/#", Verdict::Deny);
    check("$dictionary/+", Verdict::Deny);
    check("$dictionary", Verdict::Deny);
    check("$dictionary/", Verdict::Deny);
    check("$dictionaryx/1", Verdict::Allow);
    check("orders/#", Verdict::Allow);
    check("chats/#", Verdict::Deny);
    assert!(!permit.is_open());
    assert_eq!(
        permit.check(&who, Action::Publish, "orders/#"),
        Verdict::Allow
    );
}

/// Goal: with `store.encrypt` nothing of a dictionary can be read from the disk without the key. Method: one kept under each
/// cipher, read by its key, as an older key, without it, and damaged anywhere.
#[test]
fn files_are_sealed_where_the_store_is() {
    let dictionary = {
        let mut world = World::new();
        assert_eq!(world.send(&"orders/#".into(), 1_000, 30), 1);
        world.shelf.current("orders/#").unwrap()
    };
    for strategy in waypost_encrypt::at_rest() {
        let key = Arc::new(waypost_encrypt::MasterKey::new([7; 32]).with_strategy(strategy));
        let other = Arc::new(waypost_encrypt::MasterKey::new([8; 32]));
        let folder = tempfile::tempdir().unwrap();
        let at_rest = AtRest {
            current: Some(Arc::clone(&key)),
            older: Vec::new(),
        };
        let mut files = Files::open(folder.path(), &Shelf::default(), at_rest.clone()).unwrap();
        files.keep("orders/#", &dictionary).unwrap();
        let path = folder.path().join("dictionaries/0");
        let written = std::fs::read(&path).unwrap();
        for text in [&b"orders"[..], b"door", &dictionary.bytes()[..4]] {
            assert!(!written.windows(text.len()).any(|window| window == text));
        }
        let found = |at_rest: AtRest| {
            let shelf = Shelf::default();
            Files::open(folder.path(), &shelf, at_rest).unwrap();
            let found = shelf.find(dictionary.id());
            found.is_some_and(|found| found.bytes() == dictionary.bytes())
        };
        assert!(found(at_rest.clone()));
        assert!(found(AtRest {
            current: Some(Arc::clone(&other)),
            older: vec![key],
        }));
        assert!(!found(AtRest::default()));
        assert!(!found(AtRest {
            current: Some(other),
            older: Vec::new(),
        }));
        for at in [0, 1, 2, 10, 42, 58, written.len() - 1] {
            let mut damaged = written.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            assert!(!found(at_rest.clone()), "byte {at}");
            std::fs::write(&path, &written[..at]).unwrap();
            assert!(!found(at_rest.clone()), "{at} bytes");
        }
    }
}

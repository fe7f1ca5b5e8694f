//! What nobody may open: a changed byte, another topic, the same again, what is for somebody else or from a stranger.

use waypost_mqtt::{ProtocolVersion, QoS};
use waypost_tests::{RawClient, Server};

use crate::people::{People, Reader, all_installed, server};

/// Bob's three programs, which trust ann.
struct Readers([Reader; 3]);

impl Readers {
    fn start(people: &People, server: &Server) -> Self {
        let keys = [("bob", "bob.private.json"), ("ann", "ann.json")];
        Self([
            people.sub("bob", server, "letters/#"),
            people.python(&["bob.private.json"], &["ann.json"], server, "letters/#"),
            people.page(&keys, server, "letters/#"),
        ])
    }

    #[track_caller]
    fn open(&self, topic: &str, text: &str, signer: Option<&str>) {
        for reader in &self.0 {
            reader.opens(topic, text, signer);
        }
    }

    /// Each says why it does not open it; the programs have different words.
    #[track_caller]
    fn refuse(&self, topic: &str, why: &[&str]) {
        for reader in &self.0 {
            reader.refuses(topic, why);
        }
    }
}

/// Goal: each of the three refuses what was tampered with, goes on, and opens what comes next. Method: a client that has no key
/// takes a sealed message from the server, as anybody on its way could, and publishes variations of it.
#[test]
fn each_refuses_what_was_tampered_with_and_goes_on() {
    if !all_installed() {
        return;
    }
    let (server, people) = (server(), People::meet());
    let readers = Readers::start(&people, &server);
    let mut mallory = RawClient::connect(&server, ProtocolVersion::V5, "mallory");
    mallory.subscribe("letters/bob", QoS::AtMostOnce);
    people.write("ann", &server, "letters/bob", "at noon", "bob", Some("ann"));
    let sealed = mallory.receive_message().publish().payload.to_vec();
    mallory.unsubscribe("letters/bob");
    readers.open("letters/bob", "at noon", Some("ann"));

    let mut changed = sealed.clone();
    changed[sealed.len() / 2] ^= 1;
    let mut header = sealed.clone();
    header[20] ^= 1;
    let cut = &sealed[..sealed.len() - 1];
    for (topic, payload, why) in [
        ("letters/bob", &sealed[..], &["before"][..]),
        (
            "letters/carl",
            &sealed,
            &[
                "sealed for the topic letters/bob",
                "sealed for the topic \"letters/bob\"",
            ],
        ),
        ("letters/bob", &changed, &["it does not open"]),
        ("letters/bob", &header, &[""]),
        ("letters/bob", cut, &[""]),
        ("letters/plain", b"at one", &["not sealed"]),
    ] {
        mallory.publish(topic, QoS::AtMostOnce, payload);
        readers.refuse(topic, why);
    }
    people.write("ann", &server, "letters/bob", "still there?", "bob", None);
    readers.open("letters/bob", "still there?", None);
}

/// Goal: what is for a stranger does not open, and what a stranger signed is nobody's.
#[test]
fn each_refuses_a_strangers_keys() {
    if !all_installed() {
        return;
    }
    let (server, people) = (server(), People::meet());
    let readers = Readers::start(&people, &server);
    people.keys("stranger", &["new", "eve"]);
    let eve = people.file("eve.json");
    people.keys("stranger", &["export", "eve", "-o", &eve]);
    people.keys("stranger", &["trust", "bob", &people.file("bob.json")]);
    people.keys("ann", &["trust", "eve", &eve]);

    let (topic, signer) = ("letters/eve", Some("eve"));
    people.write("stranger", &server, topic, "trust me", "bob", signer);
    readers.refuse(topic, &["nobody here is known by it", "not trusted here"]);
    people.write("ann", &server, topic, "who are you?", "eve", Some("ann"));
    readers.refuse(topic, &["none of these keys is here"]);
    // Unsigned, anybody may have written it: that is said, and no more.
    people.write("stranger", &server, topic, "I am ann", "bob", None);
    readers.open(topic, "I am ann", None);
}

//! What nobody may open: a changed byte, another topic, the same again, a stranger's keys.

use waypost_mqtt::QoS;
use waypost_tests::RawClient;

use crate::people::{People, Reader, all_installed, server};

const V5: waypost_mqtt::ProtocolVersion = waypost_mqtt::ProtocolVersion::V5;

/// Goal: each of the three refuses what was tampered with, goes on, and opens what comes next. Method: a client that has no key
/// takes a sealed message from the server, as anybody on its way could, and publishes variations of it.
#[test]
fn each_refuses_what_was_tampered_with_and_goes_on() {
    if !all_installed() {
        return;
    }
    let (server, people) = (server(), People::meet());
    let readers = [
        people.sub("bob", &server, "letters/#"),
        people.python(&["bob.private.json"], &["ann.json"], &server, "letters/#"),
        people.page(
            &[("bob", "bob.private.json"), ("ann", "ann.json")],
            &server,
            "letters/#",
        ),
    ];
    let mut mallory = RawClient::connect(&server, V5, "mallory");
    mallory.subscribe("letters/bob", QoS::AtMostOnce);
    people.publish(
        "ann",
        &server,
        &[
            "-t",
            "letters/bob",
            "-m",
            "at noon",
            "--seal-for",
            "bob",
            "--sign-as",
            "ann",
        ],
    );
    let sealed = mallory.receive_message().publish().payload.to_vec();
    each(&readers, |reader| {
        reader.opens("letters/bob", "at noon", Some("ann"))
    });
    mallory.unsubscribe("letters/bob");
    let mut again = |topic: &str, payload: &[u8]| mallory.publish(topic, QoS::AtMostOnce, payload);
    again("letters/bob", &sealed);
    each(&readers, |reader| {
        reader.refuses("letters/bob", &["before"])
    });
    again("letters/carl", &sealed);
    let topic = [
        "sealed for the topic letters/bob",
        "sealed for the topic \"letters/bob\"",
    ];
    each(&readers, |reader| reader.refuses("letters/carl", &topic));

    // The last byte is the recipient's; somewhere before it is the text.
    let middle = sealed.len() / 2;
    for place in [20, middle] {
        let mut changed = sealed.clone();
        changed[place] ^= 1;
        again("letters/changed", &changed);
        each(&readers, |reader| reader.refuses("letters/changed", &[""]));
    }
    again("letters/plain", b"at one");
    each(&readers, |reader| {
        reader.refuses("letters/plain", &["not sealed"])
    });
    again("letters/cut", &sealed[..sealed.len() - 1]);
    each(&readers, |reader| reader.refuses("letters/cut", &[""]));

    // Signed by somebody whom none of them knows.
    people.keys("stranger", &["new", "eve"]);
    people.keys("stranger", &["trust", "bob", &people.file("bob.json")]);
    people.publish(
        "stranger",
        &server,
        &[
            "-t",
            "letters/eve",
            "-m",
            "trust me",
            "--seal-for",
            "bob",
            "--sign-as",
            "eve",
        ],
    );
    people.keys(
        "stranger",
        &["export", "eve", "-o", &people.file("eve.json")],
    );
    let unknown = ["nobody here is known by it", "not trusted here"];
    each(&readers, |reader| reader.refuses("letters/eve", &unknown));

    // For somebody who is none of them.
    people.keys("ann", &["trust", "eve", &people.file("eve.json")]);
    people.publish(
        "ann",
        &server,
        &[
            "-t",
            "letters/eve",
            "-m",
            "who are you?",
            "--seal-for",
            "eve",
        ],
    );
    let no_key = ["none of these keys is here"];
    each(&readers, |reader| reader.refuses("letters/eve", &no_key));

    people.publish(
        "ann",
        &server,
        &[
            "-t",
            "letters/bob",
            "-m",
            "still there?",
            "--seal-for",
            "bob",
        ],
    );
    each(&readers, |reader| {
        reader.opens("letters/bob", "still there?", None)
    });
}

fn each(readers: &[Reader], check: impl Fn(&Reader)) {
    readers.iter().for_each(check);
}

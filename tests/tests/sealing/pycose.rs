//! A COSE library that knows nothing of Waypost opens what `waypost pub` seals.

use waypost_tests::{Program, required_program};

use crate::people::{People, server};

/// Goal: the envelopes are COSE as others read it, all three, under every cipher, agreement and signature that pycose has.
/// Method: ann seals for bob's keys of every kind and for a room, signed on P-256 and on Ed25519; a reader made of pycose opens it.
#[test]
fn pycose_opens_all_three_envelopes() {
    if required_program(Program::Python).is_none() {
        return;
    }
    let (server, people) = (server(), People::meet());
    let mut keys = vec!["bob.private.json".to_owned(), "room.json".to_owned()];
    for (name, kind) in [("curve", "x25519"), ("old", "rsa")] {
        people.keys("bob", &["new", name, "--kind", kind]);
        let (public, private) = (format!("{name}.json"), format!("{name}.private.json"));
        people.keys("bob", &["export", name, "-o", &people.file(&public)]);
        let file = people.file(&private);
        people.keys("bob", &["export", name, "--private", "-o", &file]);
        people.keys("ann", &["trust", name, &people.file(&public)]);
        keys.push(private);
    }
    people.keys("ann", &["new", "edwards", "--kind", "ed25519"]);
    let edwards = people.file("edwards.json");
    people.keys("ann", &["export", "edwards", "-o", &edwards]);
    let keys: Vec<_> = keys.iter().map(String::as_str).collect();
    let trusted = ["ann.json", "edwards.json"];
    let reader = people.pycose(&keys, &trusted, &server, "letters/#");

    let letters: [(&[&str], &str, Option<&str>); 11] = [
        // COSE_Encrypt0.
        (&["room"], "aes-gcm", None),
        (&["room"], "aes-gcm", Some("edwards")),
        (&["room"], "aes-ccm", Some("ann")),
        // COSE_Mac0.
        (&["room"], "aes", None),
        (&["room"], "aes", Some("edwards")),
        // COSE_Encrypt, to one and to several.
        (&["bob"], "aes-gcm", Some("ann")),
        (&["bob"], "aes-ccm", Some("edwards")),
        (&["curve"], "aes-gcm", Some("edwards")),
        (&["curve", "ann"], "aes-gcm", None),
        (&["old"], "aes-gcm", Some("edwards")),
        (&["bob", "ann"], "aes-ccm", Some("ann")),
    ];
    for (number, (recipients, cipher, signer)) in letters.into_iter().enumerate() {
        let topic = format!("letters/{number}");
        let text = format!("{cipher} for {}", recipients.join(" and "));
        let mut arguments = vec!["-t", &topic, "-m", &text, "--encrypt", cipher];
        for recipient in recipients {
            arguments.extend(["--seal-for", recipient]);
        }
        arguments.extend(signer.map(|signer| ["--sign-as", signer]).iter().flatten());
        people.publish("ann", &server, &arguments);
        reader.opens(&topic, &text, signer);
    }
}

/// Goal: it is the signature and the keys that pycose goes by. Method: a signer whom it does not trust, and a room whose key it
/// has not.
#[test]
fn pycose_refuses_strangers() {
    if required_program(Program::Python).is_none() {
        return;
    }
    let (server, people) = (server(), People::meet());
    let reader = people.pycose(&["bob.private.json"], &["bob.json"], &server, "letters/#");
    people.write("ann", &server, "letters/1", "it is me", "bob", Some("ann"));
    reader.refuses("letters/1", &["KeyError"]);
    people.write("ann", &server, "letters/2", "secret", "room", None);
    reader.refuses("letters/2", &["KeyError"]);
    people.write("ann", &server, "letters/3", "nobody", "bob", None);
    reader.opens("letters/3", "nobody", None);
}

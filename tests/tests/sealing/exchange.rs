//! Each opens what each seals.

use serde_json::json;

use crate::people::{People, all_installed, server};

/// Goal: three programs that share no code understand each other, whoever seals and whoever opens. Method: bob reads in all
/// three; ann writes in each, for bob alone, for several, for a room, signed and not, packed and not.
#[test]
fn what_one_seals_all_others_open() {
    if !all_installed() {
        return;
    }
    let (server, people) = (server(), People::meet());
    let files = ["bob.private.json", "room.json"];
    let mut readers = [
        people.sub("bob", &server, "letters/#"),
        people.python(&files, &["ann.json"], &server, "letters/#"),
        people.page(
            &[
                ("bob", "bob.private.json"),
                ("ann", "ann.private.json"),
                ("room", "room.json"),
            ],
            &server,
            "letters/#",
        ),
    ];
    let all_open = |readers: &[_], topic: &str, text: &str, signer: Option<&str>| {
        for reader in readers {
            let reader: &crate::people::Reader = reader;
            reader.opens(topic, text, signer);
        }
    };

    let long = "all work and no play ".repeat(40);
    let long = long.trim_end();
    for (number, (text, arguments, signer)) in [
        ("for bob", &["--seal-for", "bob"][..], None),
        (
            "signed",
            &["--seal-for", "bob", "--sign-as", "ann"],
            Some("ann"),
        ),
        (
            "for both",
            &["--seal-for", "ann", "--seal-for", "bob", "--sign-as", "ann"],
            Some("ann"),
        ),
        (
            "for the room",
            &["--seal-for", "room", "--sign-as", "ann"],
            Some("ann"),
        ),
        (
            long,
            &[
                "--seal-for",
                "bob",
                "--sign-as",
                "ann",
                "--compress",
                "lz77",
            ],
            Some("ann"),
        ),
        ("", &["--seal-for", "bob"], None),
    ]
    .into_iter()
    .enumerate()
    {
        let topic = format!("letters/rust/{number}");
        let message = ["-t", &topic, "-m", text];
        people.publish("ann", &server, &[&message[..], arguments].concat());
        all_open(&readers, &topic, text, signer);
    }

    let (ann, bob, room) = (
        people.file("ann.json"),
        people.file("bob.json"),
        people.file("room.json"),
    );
    let private = people.file("ann.private.json");
    for (number, (text, arguments, signer)) in [
        ("for bob", &["--seal-for", &bob][..], None),
        (
            "signed",
            &["--seal-for", &bob, "--sign-as", &private],
            Some("ann"),
        ),
        ("for both", &["--seal-for", &ann, "--seal-for", &bob], None),
        (
            "for the room",
            &["--seal-for", &room, "--sign-as", &private],
            Some("ann"),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let topic = format!("letters/python/{number}");
        people.publish_in_python(&server, &[&[&topic, text][..], arguments].concat());
        all_open(&readers, &topic, text, signer);
    }

    for (number, (text, recipients, signer)) in [
        ("for bob", "bob", ""),
        ("signed", "bob", "ann"),
        ("for both", "ann bob", "ann"),
        ("for the room", "room", "ann"),
    ]
    .into_iter()
    .enumerate()
    {
        let topic = format!("letters/page/{number}");
        readers[2].types(&json!({
            "form": "message", "topic": topic, "recipients": recipients, "signer": signer, "text": text,
        }));
        let signer = (!signer.is_empty()).then_some(signer);
        all_open(&readers, &topic, text, signer);
    }
}

/// Goal: the page's own keys, which nobody can read out, do as well: what it shows of them is trusted by `waypost keys`.
#[test]
fn keys_made_in_the_page_are_trusted() {
    if !all_installed() {
        return;
    }
    let (server, people) = (server(), People::meet());
    let bob = people.sub("bob", &server, "letters/#");
    let mut page = people.page(&[("bob", "bob.json")], &server, "letters/#");
    page.types(&json!({"form": "keys", "name": "zoe", "jwk": ""}));
    let shown = page.says("key");
    let (_, set) = shown.split_once("(yours) ").unwrap();
    std::fs::write(people.file("zoe.json"), set).unwrap();

    // Not known yet.
    let send = json!({
        "form": "message", "topic": "letters/bob", "recipients": "bob", "signer": "zoe", "text": "it is me",
    });
    page.types(&send);
    bob.refuses("letters/bob", &["nobody here is known by it"]);
    drop(bob);
    people.keys("bob", &["trust", "zoe", &people.file("zoe.json")]);
    let bob = people.sub("bob", &server, "letters/#");
    page.types(&send);
    bob.opens("letters/bob", "it is me", Some("zoe"));
    people.publish(
        "bob",
        &server,
        &[
            "-t",
            "letters/zoe",
            "-m",
            "I see",
            "--seal-for",
            "zoe",
            "--sign-as",
            "bob",
        ],
    );
    page.opens("letters/zoe", "I see", Some("bob"));
}

/// Goal: what was sealed for an old key opens after a rotation, what is new is for the new one.
#[test]
fn old_messages_open_after_a_rotation() {
    let (server, people) = (server(), People::meet());
    let send = |text: &str| {
        people.publish(
            "ann",
            &server,
            &[
                "-t",
                "letters/bob",
                "-r",
                "-m",
                text,
                "--seal-for",
                "bob",
                "--sign-as",
                "ann",
            ],
        );
    };
    send("before");
    people.keys("bob", &["rotate", "bob"]);
    people.keys("ann", &["rotate", "ann"]);
    // What is retained is from before.
    let bob = people.sub("bob", &server, "letters/#");
    bob.opens("letters/bob", "before", Some("ann"));
    send("signed with the new key");
    bob.refuses("letters/bob", &["nobody here is known by it"]);
    drop(bob);
    let file = people.file("ann.new.json");
    people.keys("ann", &["export", "ann", "-o", &file]);
    people.keys("bob", &["trust", "ann", &file, "--replace"]);
    let bob = people.sub("bob", &server, "letters/#");
    bob.opens("letters/bob", "signed with the new key", Some("ann"));
}

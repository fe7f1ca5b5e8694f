//! Each opens what each seals.

use serde_json::json;

use waypost_tests::Server;

use crate::people::{People, Reader, all_installed, server};

/// How a text is sealed and signed; in words of `waypost keys`.
struct Letter {
    text: &'static str,
    recipients: &'static [&'static str],
    signer: Option<&'static str>,
}

const LETTERS: [Letter; 4] = [
    Letter {
        text: "for bob",
        recipients: &["bob"],
        signer: None,
    },
    Letter {
        text: "signed",
        recipients: &["bob"],
        signer: Some("ann"),
    },
    Letter {
        text: "for both",
        recipients: &["ann", "bob"],
        signer: Some("ann"),
    },
    Letter {
        text: "for the room",
        recipients: &["room"],
        signer: Some("ann"),
    },
];

/// Goal: three programs that share no code understand each other, whoever seals and whoever opens. Method: bob reads in all
/// three; ann writes in each, for bob alone, for several, for a room, signed and not.
#[test]
fn what_one_seals_all_others_open() {
    if !all_installed() {
        return;
    }
    let (server, people) = (server(), People::meet());
    let mut readers = three_readers(&people, &server);
    let all_open = |readers: &[Reader], topic: &str, letter: &Letter| {
        for reader in readers {
            reader.opens(topic, letter.text, letter.signer);
        }
    };
    for (number, letter) in LETTERS.iter().enumerate() {
        let topic = format!("letters/rust/{number}");
        let mut arguments = vec!["-t", &topic, "-m", letter.text];
        for name in letter.recipients {
            arguments.extend(["--seal-for", name]);
        }
        let signer = letter.signer.map(|signer| ["--sign-as", signer]);
        arguments.extend(signer.iter().flatten());
        people.publish("ann", &server, &arguments);
        all_open(&readers, &topic, letter);

        let topic = format!("letters/python/{number}");
        let mut arguments = vec![topic.clone(), letter.text.to_owned()];
        for name in letter.recipients {
            arguments.extend([
                "--seal-for".to_owned(),
                people.file(&format!("{name}.json")),
            ]);
        }
        if letter.signer.is_some() {
            arguments.extend(["--sign-as".to_owned(), people.file("ann.private.json")]);
        }
        People::publish_in_python(&server, &arguments);
        all_open(&readers, &topic, letter);

        let topic = format!("letters/page/{number}");
        readers[2].types(&json!({
            "form": "message",
            "topic": topic,
            "recipients": letter.recipients.join(" "),
            "signer": letter.signer.unwrap_or_default(),
            "text": letter.text,
        }));
        all_open(&readers, &topic, letter);
    }
    // Packed before it was sealed.
    let long = "all work and no play ".repeat(40) + "makes a dull boy";
    let (topic, seal) = ("letters/packed", ["--seal-for", "bob"]);
    let message = ["-t", topic, "-m", &long, "--compress", "lz77"];
    people.publish("ann", &server, &[&message[..], &seal].concat());
    for reader in &readers {
        reader.opens(topic, &long, None);
    }
}

/// Bob's.
fn three_readers(people: &People, server: &Server) -> [Reader; 3] {
    let files = ["bob.private.json", "room.json"];
    let keys = [
        ("bob", "bob.private.json"),
        ("ann", "ann.private.json"),
        ("room", "room.json"),
    ];
    [
        people.sub("bob", server, "letters/#"),
        people.python(&files, &["ann.json"], server, "letters/#"),
        people.page(&keys, server, "letters/#"),
    ]
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

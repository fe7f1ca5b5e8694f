//! The examples of docs/client.md: each is, word for word, in an example of the crate, and those run here.

use std::collections::HashSet;
use std::path::Path;

use waypost_tests::ServerOptions;

use crate::run;

#[path = "../../../crates/waypost-client/examples/hello.rs"]
mod hello;
#[path = "../../../crates/waypost-client/examples/history.rs"]
mod history;
#[path = "../../../crates/waypost-client/examples/many.rs"]
mod many;
#[path = "../../../crates/waypost-client/examples/offline.rs"]
mod offline;
#[path = "../../../crates/waypost-client/examples/sealed.rs"]
mod sealed;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const CHAT: &str = "[[stream]]\nname = \"chat\"\nfilters = [\"chat/#\"]\n";

#[test]
fn the_examples_run() {
    let server = ServerOptions::new().configuration(CHAT).start();
    let url = format!("mqtt://{}", server.mqtt());
    run(async {
        hello::example(&url).await.unwrap();
        many::example(&url).await.unwrap();
        history::example(&url).await.unwrap();
        offline::example(&url).await.unwrap();
        sealed::example(&url).await.unwrap();
    });
}

/// Without what a formatter decides.
fn normal(text: &str) -> String {
    text.chars()
        .filter(|letter| !letter.is_whitespace())
        .collect()
}

#[test]
fn the_page_shows_what_the_examples_do() {
    let page = std::fs::read_to_string(Path::new(ROOT).join("docs/client.md")).unwrap();
    let folder = Path::new(ROOT).join("crates/waypost-client/examples");
    let examples: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| normal(&std::fs::read_to_string(file.unwrap().path()).unwrap()))
        .collect();
    let mut blocks = 0;
    for block in page.split("```rust\n").skip(1) {
        let block = normal(block.split("```").next().unwrap());
        let is_shown = examples.iter().any(|example| example.contains(&block));
        assert!(is_shown, "in no example: {block}");
        blocks += 1;
    }
    assert_eq!(blocks, examples.len(), "one block for each example");
}

/// Goal: a reader of the page meets all there is. Method: each public method of what programs use is named on it.
#[test]
fn every_method_is_on_the_page() {
    let page = std::fs::read_to_string(Path::new(ROOT).join("docs/client.md")).unwrap();
    let words: HashSet<_> = page
        .split(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .collect();
    let mut methods = 0;
    for file in [
        "backoff",
        "builder",
        "client",
        "completions",
        "message",
        "offline",
        "publish",
        "spec",
        "subscription",
    ] {
        let path = format!("crates/waypost-client/src/{file}.rs");
        let code = std::fs::read_to_string(Path::new(ROOT).join(path)).unwrap();
        for line in code
            .lines()
            .filter_map(|line| line.trim().strip_prefix("pub "))
        {
            let signature = line.split("fn ").nth(1).filter(|_| line.contains("fn "));
            let Some(name) = signature.and_then(|rest| rest.split(['(', '<']).next()) else {
                continue;
            };
            assert!(
                words.contains(name),
                "docs/client.md does not say {name} ({file}.rs)"
            );
            methods += 1;
        }
    }
    assert!(methods > 80, "{methods} methods were found");
}

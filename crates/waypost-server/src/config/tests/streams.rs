//! `[[stream]]`.

use super::*;

fn streams(text: &str) -> Vec<StreamConfig> {
    load_file(text).unwrap().streams
}

fn with(line: &str) -> String {
    format!("[[stream]]\nname = \"a\"\nfilters = \"a\"\n{line}\n")
}

#[test]
fn streams_are_read_as_they_are_written() {
    let found = streams(
        r##"
[[stream]]
name = "orders"
filters = ["orders/#", "invoices/+/paid"]
retention = ["7d", "10GiB", "1_000_000 messages"]
compact = true
compress = "ZSTD"

[[stream]]
name = "all_the-rest0"
filters = "#"
"##,
    );
    let retention = Retention {
        age_ms: Some(7 * 86_400_000),
        bytes: Some(10 << 30),
        messages: Some(1_000_000),
    };
    assert_eq!(
        found,
        [
            StreamConfig {
                name: "orders".to_owned(),
                filters: vec!["orders/#".to_owned(), "invoices/+/paid".to_owned()],
                retention,
                compact: true,
                compress: Some("zstd"),
            },
            StreamConfig {
                name: "all_the-rest0".to_owned(),
                filters: vec!["#".to_owned()],
                ..StreamConfig::default()
            },
        ]
    );
    assert_eq!(retention.show(), ["7d", "10GiB", "1000000 messages"]);
    let takes = |topic| {
        found
            .iter()
            .map(|stream| stream.takes(topic))
            .collect::<Vec<_>>()
    };
    assert_eq!(takes("invoices/7/paid"), [true, true]);
    assert_eq!(takes("invoices/7"), [false, true]);
    assert_eq!(takes("$SYS/uptime"), [false, false]);
    assert_eq!(takes("a/+"), [false, false], "no topic");
}

#[test]
fn retention_is_one_of_each_kind() {
    for (written, expect) in [
        ("\"90s\"", Some("90s")),
        ("\"1 message\"", Some("1 message")),
        ("[\"5 messages\", \"64KiB\"]", Some("64KiB, 5 messages")),
        ("[]", Some("")),
        ("\"0s\"", None),
        ("\"0 messages\"", None),
        ("\"7\"", None),
        ("7", None),
        ("\"7 days\"", None),
        ("\"1 messages or so\"", None),
        ("[\"7d\", \"8d\"]", None),
        ("[\"7d\", 8]", None),
    ] {
        let loaded = load_file(&with(&format!("retention = {written}")));
        let found = loaded.as_ref().ok();
        let found = found.map(|config| config.streams[0].retention.show().join(", "));
        assert_eq!(found.as_deref(), expect, "{written}: {loaded:?}");
    }
}

#[test]
fn what_is_wrong_with_a_stream_is_told() {
    check_mistakes(&[
        (
            "[[stream]]\nfilters = [\"a\"]\n",
            "waypost.toml:1: [[stream]] needs a name: add name = \"orders\"",
        ),
        (
            "[[stream]]\nname = \"a\"\n",
            "waypost.toml:1: [[stream]] needs the filters of its messages: add filters = [\"orders/#\"]",
        ),
        (
            "[[stream]]\nname = \"a\"\nfilters = \"a\"\n[[stream]]\nfilters = \"b\"\nname = \"a\"\n",
            "waypost.toml:6: stream.name = \"a\" is taken by waypost.toml:2; each needs a name of its own",
        ),
        (
            &with("retention = \"7 days\""),
            "waypost.toml:4: stream.retention = \"7 days\": expected an age (ms, s, m, h, d), a size (B, KiB, MiB, \
             GiB, TiB), a number of messages, or a list with at most one of each; none of them 0, for example \
             retention = [\"7d\", \"10GiB\", \"1000000 messages\"]",
        ),
        (
            &with("compact = 1"),
            "waypost.toml:4: stream.compact = 1: expected true or false, for example compact = true",
        ),
        (
            &with("compres = \"lz4\""),
            "waypost.toml:4: unknown key stream.compres; did you mean stream.compress?",
        ),
        (
            "[[streams]]\nname = \"a\"\n",
            "waypost.toml:1: unknown section [[streams]]; did you mean [[stream]]?",
        ),
    ]);
    for (name, is_right) in [
        (&*"a".repeat(64), true),
        (&"a".repeat(65), false),
        (&"a".repeat(128), false),
        ("", false),
        ("Orders", false),
        ("a/b", false),
        ("a;b", false),
        ("0_-z", true),
    ] {
        let told = load_file(&format!("[[stream]]\nname = \"{name}\"\nfilters = \"a\"\n"));
        assert_eq!(told.is_ok(), is_right, "{name}: {told:?}");
    }
    for filters in [
        "[]",
        "\"a/#/b\"",
        "[\"a\", \"\"]",
        "\"$share/g/a\"",
        "\"$queue/a\"",
        "\"$from/last=1/a\"",
        "\"$delayed/5/a\"",
        &format!("\"{}\"", vec!["a"; 129].join("/")),
    ] {
        let told = load_file(&format!("[[stream]]\nname = \"a\"\nfilters = {filters}\n"));
        let told = told.unwrap_err();
        assert!(
            told.starts_with("waypost.toml:3: stream.filters = ")
                && told.contains("expected a list of 1 to 256 topic filters"),
            "{told}"
        );
    }
}

#[test]
fn streams_and_their_filters_are_counted() {
    let one = |number| format!("[[stream]]\nname = \"{number}\"\nfilters = \"{number}\"\n");
    let many = |count: usize| (0..count).map(one).collect::<Vec<_>>().concat();
    let max = stream::STREAMS_MAX;
    assert_eq!(streams(&many(max)).len(), max);
    for count in [max + 1, 2 * max] {
        assert_eq!(
            load_file(&many(count)).unwrap_err(),
            format!(
                "waypost.toml:{}: more than {max} of [[stream]]; leave some out",
                3 * max + 1
            )
        );
    }
    let filters = |count: usize| {
        let filters: Vec<_> = (0..count).map(|number| number.to_string()).collect();
        format!("[[stream]]\nname = \"a\"\nfilters = {filters:?}\n")
    };
    let max = stream::FILTERS_MAX;
    assert_eq!(streams(&filters(max))[0].filters.len(), max);
    for count in [max + 1, 2 * max] {
        assert!(load_file(&filters(count)).is_err());
    }
}

#[test]
fn streams_change_on_hangup() {
    let config = load_file(&with("")).unwrap();
    let changed = load_file(&with("retention = \"7d\"")).unwrap();
    assert_eq!(config.changed(&changed, Reload::OnHangup), ["[[stream]]"]);
    assert!(config.changed(&changed, Reload::AtStart).is_empty());
    let moved = load_file(&format!("# a comment\n{}", with(""))).unwrap();
    assert_eq!(config, moved);
}

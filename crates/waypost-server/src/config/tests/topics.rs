//! `[[topic]]`.

use waypost_mqtt::Filter;

use super::*;

const POLICIES: &str = r##"
[[topic]]
filter = "#"
max_deliveries = 9

[[topic]]
filter = "orders/#"
balance = "Round_Robin"

[[topic]]
max_deliveries = 3
durability = "os"
filter = "orders/#"
dead_letter = "orders/dead"

[[topic]]
filter = "orders/dead"
dead_letter = ""
"##;

/// `(key, value, line, filter)` of what is found.
fn explain(config: &Config, filter: &str) -> Vec<(&'static str, String, usize, String)> {
    let found = config.topics.explain(Filter::parse(filter).unwrap());
    let row = |row: Explained| {
        let line = match row.origin {
            Origin::File { line, .. } => line,
            _ => 0,
        };
        (row.key, row.value, line, row.filter.unwrap_or_default())
    };
    found.into_iter().map(row).collect()
}

#[test]
fn each_value_is_explained_by_its_line() {
    let config = load_file(POLICIES).unwrap();
    assert_eq!(config.topics.len(), 4);
    let row =
        |key, value: &str, line, filter: &str| (key, value.to_owned(), line, filter.to_owned());
    assert_eq!(
        explain(&config, "orders/17"),
        [
            row("balance", "\"round-robin\"", 8, "orders/#"),
            row("max_deliveries", "3", 11, "orders/#"),
            row("durability", "\"os\"", 12, "orders/#"),
            row("dead_letter", "\"orders/dead\"", 14, "orders/#"),
            row("seal", "\"allowed\"", 0, ""),
        ]
    );
    let default = format!("\"{}\"", waypost_balance::default_strategy().name);
    assert_eq!(
        explain(&config, "mail"),
        [
            row("balance", &default, 0, ""),
            row("max_deliveries", "9", 4, "#"),
            row("durability", "\"sync\"", 0, ""),
            row("dead_letter", "\"\"", 0, ""),
            row("seal", "\"allowed\"", 0, ""),
        ]
    );
    let policies = config.topics.policies();
    let policy = policies.for_filter(Filter::parse("orders/+").unwrap());
    assert_eq!(
        (
            policy.balance.name,
            policy.max_deliveries,
            policy.durability
        ),
        ("round-robin", 3, waypost_core::Durability::Os)
    );
    let dead_letter = |topic| {
        let policy = policies.for_topic(waypost_mqtt::Topic::parse(topic).unwrap());
        policy.dead_letter.as_deref().map(str::to_owned)
    };
    assert_eq!(dead_letter("orders/17").as_deref(), Some("orders/dead"));
    assert_eq!(dead_letter("orders/dead"), None, "taken back");
    assert!(!config.topics.is_empty());
    assert!(Config::default().topics.is_empty());
}

#[test]
fn a_message_is_cached_as_its_most_specific_policies_say() {
    let config = load_file(
        r#"
[[topic]]
filter = "orders/#"
cache = "S3_FIFO"
cache_bytes = "64MiB"

[[topic]]
filter = "orders/eu/+"
cache = "arc"

[[topic]]
filter = "logs/#"
cache = "fifo"

[[topic]]
filter = "same/#"
cache = "lru"

[[topic]]
filter = "small/#"
cache_bytes = "1KiB"
"#,
    )
    .unwrap();
    let check = |topic: &str, expect: Option<(&str, &str, u64)>| {
        let found = config.topics.partition(topic, &config.store);
        let found = found.as_ref();
        let found = found.map(|part| (&*part.name, part.strategy.name, part.bytes));
        assert_eq!(found, expect, "{topic}");
    };
    check("mail", None);
    check("orders/1", Some(("orders/#", "s3-fifo", 64 << 20)));
    check("orders/eu/1", Some(("orders/#", "arc", 64 << 20)));
    check("logs/1", Some(("fifo", "fifo", config.store.cache_bytes)));
    check("same/1", None);
    check("small/1", Some(("small/#", "lru", 1 << 10)));
    let explained = explain(&config, "orders/eu/1");
    let row =
        |key, value: &str, line, filter: &str| (key, value.to_owned(), line, filter.to_owned());
    assert_eq!(explained[5], row("cache", "\"arc\"", 9, "orders/eu/+"));
    assert_eq!(explained[6], row("cache_bytes", "\"64MiB\"", 5, "orders/#"));
    assert_eq!(explain(&config, "mail").len(), 5);
    let other = load_file("[[topic]]\nfilter = \"orders/#\"\ncache = \"lfu\"\n").unwrap();
    assert_eq!(
        config.changed(&other, Reload::AtStart),
        ["[[topic]] cache and cache_bytes"]
    );
    check_mistakes(&[(
        "[[topic]]\nfilter = \"a\"\ncache = \"lru\"\n[[topic]]\nfilter = \"a\"\ncache = \"arc\"\n",
        "waypost.toml:6: topic.cache differs from waypost.toml:3, for the same filter \"a\"; keep one of them",
    )]);
}

#[test]
fn sealing_and_packing_are_explained_where_they_are_said() {
    let config = load_file(
        r#"
[[topic]]
filter = "chat/#"
seal = "required"
transcode = true
compress = "LZ4 + zstd"

[[topic]]
filter = "chat/lobby"
seal = "allowed"
compress = "none"
"#,
    )
    .unwrap();
    let found = explain(&config, "chat/lobby");
    let row =
        |key, value: &str, line, filter: &str| (key, value.to_owned(), line, filter.to_owned());
    assert_eq!(
        found[4..],
        [
            row("seal", "\"allowed\"", 10, "chat/lobby"),
            row("compress", "\"identity\"", 11, "chat/lobby"),
            row("transcode", "true", 5, "chat/#"),
        ]
    );
    assert_eq!(explain(&config, "chat/a")[5].1, "\"lz4+zstd\"");
    check_mistakes(&[(
        "[[topic]]\nfilter = \"a\"\ntranscode = true\n[[topic]]\nfilter = \"a\"\ntranscode = false\n",
        "waypost.toml:6: topic.transcode differs from waypost.toml:3, for the same filter \"a\"; keep one of them",
    )]);
    let told = load_file("[[topic]]\nfilter = \"a\"\ncompress = \"zstd+zstd\"\n").unwrap_err();
    assert!(
        told.starts_with("waypost.toml:3: topic.compress = \"zstd+zstd\": expected one of ")
            && told.contains("or two or three different ones with + between them"),
        "{told}"
    );
}

#[test]
fn policies_that_say_the_same_elsewhere_are_no_change() {
    let config = load_file(POLICIES).unwrap();
    let moved = load_file(&format!("# a comment\n\n{POLICIES}")).unwrap();
    assert_eq!(config, moved);
    assert_eq!(
        config.changed(&moved, Reload::OnHangup),
        Vec::<String>::new()
    );
    let changed = load_file(&POLICIES.replace('9', "8")).unwrap();
    assert_eq!(config.changed(&changed, Reload::OnHangup), ["[[topic]]"]);
    assert_eq!(
        config.changed(&changed, Reload::AtStart),
        Vec::<String>::new()
    );
}

#[test]
fn what_is_wrong_with_a_policy_is_told() {
    let names: Vec<_> = waypost_balance::registry()
        .iter()
        .map(|strategy| strategy.name)
        .collect();
    let unknown = format!(
        "waypost.toml:3: topic.balance = \"leastconections\": expected one of {}, for example balance = \
         \"least-connections\"",
        names.join(", ")
    );
    check_mistakes(&[
        (
            "[[topic]]\nfilter = \"a\"\nbalance = \"leastconections\"\n",
            // The key is wrong, and so the policy says nothing.
            &format!(
                "{unknown}\nwaypost.toml:1: [[topic]] would do nothing: it says nothing about \"a\"; add \
                 balance = \"least-connections\" or max_deliveries = 5 or durability = \"sync\" or \
                 dead_letter = \"orders/dead\" or seal = \"required\" or transcode = true or compress = \"zstd\" or encrypt = \"aes-gcm\" or cache = \"s3-fifo\" or cache_bytes = \"64MiB\""
            ),
        ),
        (
            "[[topic]]\nfilter = \"orders/#\"\nbalance = \"random\"\nmax_deliveries = 1\n\
             [[topic]]\nfilter = \"orders/#\"\nbalance = \"power-of-two\"\nmax_deliveries = 1\n",
            "waypost.toml:7: topic.balance differs from waypost.toml:3, for the same filter \
             \"orders/#\"; keep one of them",
        ),
        (
            "[[topic]]\nbalance = \"random\"\n",
            "waypost.toml:1: [[topic]] needs the filter of its topics: add filter = \"orders/#\"",
        ),
        (
            "[[topic]]\nfiltre = \"orders/#\"\n",
            "waypost.toml:2: unknown key topic.filtre; did you mean topic.filter?\n\
             waypost.toml:1: [[topic]] needs the filter of its topics: add filter = \"orders/#\"",
        ),
        (
            "[[topics]]\nfilter = \"a\"\n",
            "waypost.toml:1: unknown section [[topics]]; did you mean [[topic]]?",
        ),
        (
            "[[topic]]\nfilter = \"a\"\nmax_deliveries = -1\nbalance = \"random\"\n",
            "waypost.toml:3: topic.max_deliveries = -1: expected a whole number from 0 to 1000000, \
             for example max_deliveries = 5",
        ),
    ]);
    for topic in [
        "orders/+",
        "#",
        "$SYS/dead",
        "$events/dead",
        "$delayed/5/dead",
        "$from/all/dead",
        "$share/group/dead",
        "$queue/dead",
    ] {
        let told = load_file(&format!(
            "[[topic]]\nfilter = \"a\"\nmax_deliveries = 1\ndead_letter = \"{topic}\"\n"
        ))
        .unwrap_err();
        assert!(
            told.starts_with(&format!(
                "waypost.toml:4: topic.dead_letter = \"{topic}\": expected a topic without wildcards"
            )) && told.ends_with("for example dead_letter = \"orders/dead\""),
            "{told}"
        );
    }
    for filter in [
        "a/#/b",
        "a+",
        "",
        "$share/g/a",
        "$queue/a",
        &vec!["a"; 129].join("/"),
    ] {
        let told = load_file(&format!(
            "[[topic]]\nfilter = \"{filter}\"\nmax_deliveries = 1\n"
        ))
        .unwrap_err();
        assert!(
            told.starts_with("waypost.toml:2: topic.filter = ")
                && told.contains("expected a topic filter"),
            "{told}"
        );
    }
}

#[test]
fn the_page_names_the_default_strategy() {
    let page = markdown();
    let default = waypost_balance::default_strategy().name;
    assert!(page.contains(&format!("Default: {default}.")));
}

#[test]
fn policies_are_counted() {
    let policy = |number| format!("[[topic]]\nfilter = \"{number}\"\nmax_deliveries = 1\n");
    let many = |count: usize| (0..count).map(policy).collect::<Vec<_>>().concat();
    let max = topic::TOPICS_MAX;
    assert_eq!(load_file(&many(max)).unwrap().topics.len(), max);
    for count in [max + 1, 2 * max] {
        assert_eq!(
            load_file(&many(count)).unwrap_err(),
            format!(
                "waypost.toml:{}: more than {max} of [[topic]]; leave some out",
                3 * max + 1
            )
        );
    }
}

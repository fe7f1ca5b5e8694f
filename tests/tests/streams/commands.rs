//! `waypost streams …`, of a server that runs and of files that no server uses.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};
use waypost_tests::{LIMIT, Server, ServerOptions, wait_for, waypost};

use super::{done, info, lines, numbered, payloads, publish, streams};

const ORDERS: &str = "[[stream]]\nname = \"orders\"\nfilters = [\"orders/#\"]\n";

fn start(configuration: &str) -> Server {
    ServerOptions::new().configuration(configuration).start()
}

/// The server is told to end, and has; its files stay.
fn stop(server: &mut Server) {
    server.signal(Signal::TERM);
    server.wait();
}

/// A file with that configuration.
fn file(directory: &Path, configuration: &str) -> String {
    let path = directory.join("waypost.toml");
    fs::write(&path, configuration).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn what_was_published_is_read_from_a_server_and_from_its_files() {
    let mut server = start(ORDERS);
    let data_dir = server.data_dir();
    publish(&server, "orders/1", 0..20);
    publish(&server, "else", 0..20);
    publish(&server, "orders/2", 20..30);
    for is_running in [true, false] {
        if !is_running {
            stop(&mut server);
        }
        let all = lines(&data_dir, &["read", "orders", "--json"]);
        assert_eq!(payloads(&all), numbered(0..30), "running: {is_running}");
        assert_eq!(all[25]["topic"], "orders/2");
        for (words, expect) in [
            (["--from", "last=3"], numbered(27..30)),
            (["--from", "offset=28"], numbered(28..30)),
            (["--from", "each=1"], numbered([19, 29])),
            (["--from", "since=1h"], numbered(0..30)),
            (["--from", "time=2020-01-01T00:00:00Z"], numbered(0..30)),
            (["--from", "time=99999999999999"], Vec::new()),
            (["-C", "4"], numbered(0..4)),
            (["--filter", "orders/2"], numbered(20..30)),
            (["--filter", "+/2"], numbered(20..30)),
        ] {
            let words = [&["read", "orders", "--json"][..], &words].concat();
            assert_eq!(payloads(&lines(&data_dir, &words)), expect, "{words:?}");
        }
        let told = done(&data_dir, &["read", "orders", "--from", "last=1"]);
        assert!(
            told.starts_with("29  20") && told.ends_with("Z  orders/2 29\n"),
            "{told}"
        );
        let told = info(&data_dir, "orders");
        let figure = |name: &str| told[name].as_u64().unwrap();
        assert_eq!(
            (figure("first"), figure("next"), figure("records")),
            (0, 30, 30)
        );
        assert_eq!(told["configured"], is_running, "here no settings are named");
        assert!(figure("bytes") > 0 && figure("segments") == 1);
        let listed: Value = serde_json::from_str(&done(&data_dir, &["list", "--json"])).unwrap();
        assert_eq!(listed["streams"][0]["name"], "orders");
        let listed = done(&data_dir, &["list"]);
        assert!(
            listed.contains("orders") && listed.contains("30"),
            "{listed}"
        );
    }
}

#[test]
fn an_export_is_imported_as_it_was() {
    let server = start(ORDERS);
    let data_dir = server.data_dir();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    publish(&server, "orders/1", 0..50);
    done(&data_dir, &["purge", "orders", "--before", "10"]);
    let expect = lines(&data_dir, &["read", "orders", "--json"]);
    let (plain, packed) = (path("orders.jsonl"), path("orders.jsonl.gz"));
    let told = done(&data_dir, &["export", "orders", &plain]);
    assert!(told.starts_with("exported 40 messages"), "{told}");
    done(&data_dir, &["export", "orders", &packed]);
    assert!(fs::metadata(&packed).unwrap().len() < fs::metadata(&plain).unwrap().len());
    assert_eq!(
        done(&data_dir, &["export", "orders"]),
        fs::read_to_string(&plain).unwrap()
    );
    let again = streams(&data_dir, &["export", "orders", &plain]);
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.stderr.contains("there is a file"), "{again:?}");

    // Into files that are not there yet, then into a server that runs.
    let configuration = file(directory.path(), ORDERS);
    let new = directory.path().join("new");
    let words = [
        "import",
        "orders",
        &packed,
        "--config",
        &configuration,
        "--json",
    ];
    let told: Value = serde_json::from_str(&done(&new, &words)).unwrap();
    assert_eq!((&told["imported"], &told["next"]), (&json!(40), &json!(50)));
    assert_eq!(lines(&new, &["read", "orders", "--json"]), expect);
    let told: Value = serde_json::from_str(&done(&new, &words)).unwrap();
    assert_eq!(
        (&told["imported"], &told["skipped"]),
        (&json!(0), &json!(40)),
        "made again"
    );
    let second = ServerOptions::new()
        .configuration(ORDERS)
        .data_dir(&new)
        .start();
    assert_eq!(lines(&new, &["read", "orders", "--json"]), expect);
    let told = done(&new, &["import", "orders", &plain]);
    assert!(told.contains("skipped 40"), "{told}");
    done(&new, &["import", "orders", &plain, "--append"]);
    let after = lines(&new, &["read", "orders", "--json"]);
    assert_eq!(after.len(), 80);
    assert_eq!(after[..40], expect);
    assert_eq!(
        (&after[79]["offset"], &after[79]["payload"]),
        (&json!(89), &json!("49"))
    );
    // What is published later stands behind it.
    publish(&second, "orders/9", [7]);
    let last = lines(&new, &["read", "orders", "--from", "last=1", "--json"]);
    assert_eq!(
        (&last[0]["offset"], &last[0]["topic"]),
        (&json!(90), &json!("orders/9"))
    );
}

#[test]
fn lines_made_by_hand_are_imported_up_to_the_one_that_is_wrong() {
    let server = start(ORDERS);
    let data_dir = server.data_dir();
    let mut child = waypost()
        .args(["streams", "import", "orders", "--data-dir"])
        .arg(&data_dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines_in = b"{\"topic\":\"orders/1\",\"payload\":\"0\"}\n\n{\"topic\":\"orders/1\",\"payload\":1}\n{\"topic\":\"\"}\n";
    child.stdin.take().unwrap().write_all(lines_in).unwrap();
    let ended: super::Ended = child.wait_with_output().unwrap().into();
    assert_eq!(ended.code, 2, "{ended:?}");
    for part in [
        "-:4: topic: expected a Topic Name",
        "2 messages before it are in the stream",
    ] {
        assert!(ended.stderr.contains(part), "{ended:?}");
    }
    let read = lines(&data_dir, &["read", "orders", "--json"]);
    assert_eq!(payloads(&read), numbered(0..2));
}

#[test]
fn messages_are_generated() {
    let directory = tempfile::tempdir().unwrap();
    let configuration = file(directory.path(), ORDERS);
    let data_dir = directory.path().join("data");
    let words = [
        "import",
        "orders",
        "--generate",
        "20000",
        "--bytes",
        "16",
        "--topics",
        "3",
    ];
    let words = [&words[..], &["--config", &configuration]].concat();
    let told = done(&data_dir, &words);
    assert!(
        told.starts_with("imported 20,000 messages into orders"),
        "{told}"
    );
    let told = info(&data_dir, "orders");
    assert_eq!(
        (&told["next"], &told["records"]),
        (&json!(20_000), &json!(20_000))
    );
    let first_ms = told["first_ms"].as_u64().unwrap();
    assert_eq!(told["last_ms"], first_ms + 19_999, "a millisecond apart");
    let spec = format!("time={}", first_ms + 12_345);
    let read = lines(
        &data_dir,
        &["read", "orders", "--from", &spec, "-C", "1", "--json"],
    );
    assert_eq!(read[0]["offset"], 12_345);
    assert_eq!(read[0]["topic"], "orders/0");
    // A server that runs takes them too.
    let server = ServerOptions::new()
        .configuration(ORDERS)
        .data_dir(&data_dir)
        .start();
    done(
        &data_dir,
        &["import", "orders", "--generate", "15000", "--bytes", "8"],
    );
    assert_eq!(info(&data_dir, "orders")["next"], 35_000);
    server.wait_for_metric("waypost_stream_next_offset{stream=\"orders\"}", 35_000.0);
}

#[test]
fn what_is_purged_is_gone_and_a_stream_that_ended_is_taken_away() {
    let mut server = start(ORDERS);
    let data_dir = server.data_dir();
    publish(&server, "orders/1", 0..30);
    let told = done(&data_dir, &["purge", "orders", "--before", "10"]);
    assert_eq!(told, "purged 10 messages; orders begins with offset 10\n");
    let all = lines(&data_dir, &["read", "orders", "--json"]);
    assert_eq!(payloads(&all), numbered(10..30));
    done(&data_dir, &["purge", "orders", "--before", "1h"]);
    assert_eq!(
        info(&data_dir, "orders")["records"],
        20,
        "nothing is that old"
    );
    done(
        &data_dir,
        &["purge", "orders", "--before", "2100-01-01T00:00:00Z"],
    );
    assert_eq!(info(&data_dir, "orders")["records"], 0);
    publish(&server, "orders/1", 30..32);
    let all = lines(&data_dir, &["read", "orders", "--json"]);
    assert_eq!(payloads(&all), numbered(30..32), "no offset is given twice");
    let told = done(&data_dir, &["purge", "orders", "--all", "--json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(
        (&told["purged"], &told["forgotten"]),
        (&json!(2), &json!(false))
    );
    stop(&mut server);

    // Its settings have it no more: then all of it goes.
    let told = done(&data_dir, &["purge", "orders", "--all"]);
    assert_eq!(told, "purged 0 messages; the stream orders is gone\n");
    let told = done(&data_dir, &["list"]);
    assert!(told.starts_with("There is no stream yet."), "{told}");
}

#[test]
fn what_cannot_be_is_told_with_what_would_help() {
    let server = start(ORDERS);
    let data_dir = server.data_dir();
    let nowhere = tempfile::tempdir().unwrap();
    for (data_dir, words, code, parts) in [
        (
            &*data_dir,
            &["read", "ordres"][..],
            1,
            &["there is no stream ordres", "there are: orders"][..],
        ),
        (
            &data_dir,
            &["read", "orders", "--from", "5"],
            2,
            &["last=N", "offset=N"],
        ),
        (
            &data_dir,
            &["read", "orders", "--filter", "a/#/b"],
            2,
            &["--filter"],
        ),
        (&data_dir, &["purge", "orders"], 2, &["--before", "--all"]),
        (
            &data_dir,
            &["purge", "orders", "--before", "yore"],
            2,
            &["an age like 90d"],
        ),
        (
            &data_dir,
            &["import", "orders", "/nowhere"],
            2,
            &["cannot read /nowhere"],
        ),
        (
            nowhere.path(),
            &["list"],
            1,
            &["there is no store", "--data-dir DIR"],
        ),
        (
            nowhere.path(),
            &["import", "x", "--generate", "1"],
            1,
            &["there is no stream x", "--config FILE", "[[stream]]"],
        ),
    ] {
        let ended = streams(data_dir, words);
        assert_eq!(ended.code, code, "{words:?}: {ended:?}");
        for part in parts {
            assert!(
                ended.stderr.contains(part),
                "no {part:?}: {words:?}: {ended:?}"
            );
        }
    }
    // Records are for the administrator's socket alone.
    let (status, body) = server.get("/api/v1/streams/orders/records");
    assert_eq!(status, 403, "{body}");
    let (status, body) = server.get("/api/v1/streams");
    assert!(status == 200 && body.contains("\"orders\""), "{body}");
}

#[test]
fn retention_takes_away_what_is_over() {
    let server = start(
        "[[stream]]\nname = \"few\"\nfilters = [\"few\"]\nretention = \"3 messages\"\n\
         [[stream]]\nname = \"new\"\nfilters = [\"few\"]\nretention = [\"300ms\", \"1GiB\"]\n\
         [[stream]]\nname = \"last\"\nfilters = [\"few\"]\ncompact = true\n",
    );
    let data_dir = server.data_dir();
    publish(&server, "few", 0..10);
    let few = lines(&data_dir, &["read", "few", "--json"]);
    assert_eq!(payloads(&few), numbered(7..10));
    wait_for("what is old to be gone", LIMIT, || {
        lines(&data_dir, &["read", "new", "--json"])
            .is_empty()
            .then_some(())
    });
    assert_eq!(info(&data_dir, "new")["next"], 10);
    assert_eq!(info(&data_dir, "last")["compact"], true);
    server.wait_for_metric("waypost_stream_first_offset{stream=\"few\"}", 7.0);
    server.wait_for_metric("waypost_stream_records{stream=\"few\"}", 3.0);
    server.wait_for_metric("waypost_stream_bytes{stream=\"few\"}", 1.0);
    server.wait_for_metric("waypost_stream_segments{stream=\"few\"}", 1.0);
    let compacted = server.metric("waypost_stream_compacted_records{stream=\"few\"}");
    assert_eq!(compacted, 0.0);
    done(&data_dir, &["purge", "last", "--before", "6"]);
    server.wait_for_metric("waypost_stream_dropped_total{stream=\"last\"}", 6.0);
}

#[test]
fn a_reload_adds_changes_and_ends_streams() {
    let directory = tempfile::tempdir().unwrap();
    let configuration = file(directory.path(), ORDERS);
    let server = ServerOptions::new()
        .arguments(["--config", &configuration])
        .start();
    let data_dir = server.data_dir();
    publish(&server, "orders/1", 0..5);
    let reload = |configuration: &str| {
        file(directory.path(), configuration);
        server.signal(Signal::HUP);
    };
    reload(&format!(
        "{ORDERS}retention = \"2 messages\"\n[[stream]]\nname = \"all\"\nfilters = [\"#\"]\n"
    ));
    wait_for("the new stream", LIMIT, || {
        done(&data_dir, &["list"]).contains("all").then_some(())
    });
    publish(&server, "orders/1", 5..8);
    let read = |name: &str| payloads(&lines(&data_dir, &["read", name, "--json"]));
    assert_eq!(read("orders"), numbered(6..8));
    let all: Vec<_> = read("all")
        .into_iter()
        .map(|(_, payload)| payload)
        .collect();
    assert_eq!(all, ["5", "6", "7"]);
    reload("[[stream]]\nname = \"all\"\nfilters = [\"#\"]\n");
    wait_for("the end of the other", LIMIT, || {
        (info(&data_dir, "orders")["configured"] == false).then_some(())
    });
    publish(&server, "orders/1", [8]);
    assert_eq!(info(&data_dir, "orders")["next"], 8, "it takes no more");
    assert_eq!(info(&data_dir, "all")["next"], 4);
    reload(&format!(
        "{ORDERS}\n[[stream]]\nname = \"all\"\nfilters = [\"#\"]\n"
    ));
    wait_for("its return", LIMIT, || {
        (info(&data_dir, "orders")["configured"] == true).then_some(())
    });
    publish(&server, "orders/1", [8]);
    assert_eq!(read("orders").last(), numbered([8]).last());
}

#[test]
fn a_block_that_is_damaged_is_counted_and_the_rest_is_read() {
    let mut server = start(ORDERS);
    let data_dir = server.data_dir();
    // What is published makes sure that the views outlast the start: without them the end has to be searched for.
    publish(&server, "orders/1", [0]);
    let words = ["import", "orders", "--generate", "4999", "--bytes", "100"];
    done(&data_dir, &words);
    stop(&mut server);
    let store = data_dir.join("store");
    let segment = fs::read_dir(&store)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with("stream-")
        })
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(&segment, bytes).unwrap();
    let server = ServerOptions::new()
        .configuration(ORDERS)
        .data_dir(&data_dir)
        .start();
    let read = lines(&data_dir, &["read", "orders", "--json"]);
    assert!((3_000..5_000).contains(&read.len()), "{}", read.len());
    assert_eq!(read.last().unwrap()["offset"], 4_999);
    server.wait_for_metric("waypost_stream_damaged_blocks{stream=\"orders\"}", 1.0);
    let told = done(&data_dir, &["info", "orders"]);
    assert!(told.contains("damaged  1 blocks"), "{told}");
}

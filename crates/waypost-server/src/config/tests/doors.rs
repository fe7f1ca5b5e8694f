//! `[listen]`, `[tls]` and `[[listener]]`.

use super::*;

const TLS: &str = "[tls]\ncert = \"c.pem\"\nkey = \"k.pem\"\n";

#[test]
fn a_listener_takes_from_tls_what_it_does_not_say() {
    let config = load_file(
        r#"
        [listen]
        mqtts = "127.0.0.1:8883"
        wss = ["127.0.0.1:8084"]
        unix = "/run/mqtt.sock"
        [tls]
        cert = "common.pem"
        key = "common.key"
        client_ca = "ca.pem"
        client_certificates = "optional"
        [http]
        allowed_origins = ["https://common.example"]
        [[listener]]
        protocol = "mqtts"
        address = ["127.0.0.1:1", "127.0.0.1:2"]
        client_certificates = "required"
        crl = "own.crl"
        [[listener]]
        protocol = "wss"
        address = "127.0.0.1:3"
        cert = "own.pem"
        key = "own.key"
        allowed_origins = []
        [[listener]]
        protocol = "unix"
        path = "/run/other.sock"
        "#,
    )
    .unwrap();
    let common = config.tls.clone();
    let doors = config.doors();
    let names: Vec<_> = doors
        .iter()
        .map(|door| format!("{} {:?}", door.protocol.as_str(), door.place))
        .collect();
    assert_eq!(
        names,
        [
            "mqtt Tcp(127.0.0.1:1883)",
            "mqtts Tcp(127.0.0.1:8883)",
            "wss Tcp(127.0.0.1:8084)",
            "unix Unix(\"/run/mqtt.sock\")",
            "mqtts Tcp(127.0.0.1:1)",
            "mqtts Tcp(127.0.0.1:2)",
            "wss Tcp(127.0.0.1:3)",
            "unix Unix(\"/run/other.sock\")",
        ]
    );
    assert_eq!(doors[1].tls, common);
    assert_eq!(doors[1].allowed_origins, None);
    let stricter = TlsConfig {
        client_certificates: ClientCertificates::Required,
        crl: vec!["own.crl".into()],
        ..common.clone()
    };
    assert_eq!(doors[4].tls, stricter);
    assert_eq!(doors[5].tls, stricter);
    let other = TlsConfig {
        cert: Some("own.pem".into()),
        key: Some("own.key".into()),
        ..common
    };
    assert_eq!(doors[6].tls, other);
    assert_eq!(doors[6].allowed_origins, Some(Vec::new()));
    assert_eq!(config.listen.own, doors[4..]);
}

#[test]
fn a_door_stays_where_it_is_and_what_holds_for_it_changes() {
    let listener = |address: &str, rest: &str| {
        let toml = format!("[[listener]]\nprotocol = \"ws\"\naddress = \"{address}\"\n{rest}");
        load_file(&toml).unwrap()
    };
    let one = listener("127.0.0.1:1", "");
    let none: &[&str] = &[];
    for (other, at_start, on_hangup) in [
        (listener("127.0.0.1:1", ""), none, none),
        (listener("127.0.0.1:2", ""), &["[[listener]]"], none),
        (
            listener("127.0.0.1:1", "allowed_origins = []"),
            none,
            &["[[listener]]"],
        ),
        (Config::default(), &["[[listener]]"], none),
    ] {
        assert_eq!(one.changed(&other, Reload::AtStart), at_start);
        assert_eq!(one.changed(&other, Reload::OnHangup), on_hangup);
    }
}

#[test]
fn a_later_source_takes_back_what_the_file_says() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(
        file,
        "[listen]\nmqtts = \"127.0.0.1:1\"\nunix = \"/a\"\n{TLS}"
    )
    .unwrap();
    let config = Config::load(&Sources {
        file: Some(file.path().to_owned()),
        environment: vec![
            ("WAYPOST_LISTEN__MQTTS".into(), "".into()),
            ("WAYPOST_LISTEN__UNIX".into(), "".into()),
            ("WAYPOST_LISTEN__MQTT".into(), "".into()),
        ],
        ..Sources::default()
    })
    .unwrap();
    assert_eq!(config.doors(), []);
}

/// What is missing is named as it would be given at the same place: the flags of the certificate, not that of the door.
#[test]
fn a_door_by_flag_says_which_flags_it_needs() {
    let by_flag = |name| load_flag(name, "listen.mqtts", "127.0.0.1:1").unwrap_err();
    let variable = ("WAYPOST_LISTEN__MQTTS", "127.0.0.1:1");
    for (said, lines) in [
        (by_flag("--mqtts"), "--cert server.pem and --key server.key"),
        (
            by_flag("--set"),
            "--set tls.cert=server.pem and --set tls.key=server.key",
        ),
        (
            load_environment(&[variable]).unwrap_err(),
            "WAYPOST_TLS__CERT=server.pem and WAYPOST_TLS__KEY=server.key",
        ),
    ] {
        assert!(said.contains(&format!("add {lines}")), "{said}");
    }
}

#[test]
fn a_door_says_what_it_needs() {
    check_mistakes(&[
        (
            "[listen]\nmqtts = \"127.0.0.1:1\"\n",
            "waypost.toml:2: listen.mqtts needs a certificate and its private key: add cert = \
             \"server.pem\" under [tls] and key = \"server.key\" under [tls]",
        ),
        (
            "[listen]\nwss = \"127.0.0.1:1\"\n[tls]\ncert = \"c\"\n",
            "waypost.toml:4: tls.cert needs its private key: add key = \"server.key\" under [tls]",
        ),
        (
            "[tls]\nkey = \"k\"\n",
            "waypost.toml:2: tls.key needs the certificate it belongs to: add cert = \"server.pem\" \
             under [tls]",
        ),
        (
            "[tls]\nclient_certificates = \"required\"\n",
            "waypost.toml:2: tls.client_certificates needs the authorities whose certificates are \
             taken: add client_ca = \"clients-ca.pem\" under [tls]",
        ),
        (
            "[tls]\nclient_ca = \"ca\"\n",
            "waypost.toml:2: tls.client_ca would do nothing: no client is asked for a certificate; \
             add client_certificates = \"required\", or \"optional\"",
        ),
        (
            "[tls]\nclient_certificates = \"requird\"\n",
            "waypost.toml:2: tls.client_certificates = \"requird\": expected one of none, optional, \
             required, for example client_certificates = \"required\"",
        ),
        (
            "\n[[listener]]\naddress = \"127.0.0.1:1\"\n",
            "waypost.toml:2: [[listener]] needs a protocol: add protocol = \"mqtts\", or mqtt, ws, \
             wss, unix",
        ),
        (
            "[[listener]]\nprotocol = \"mqqts\"\n",
            "waypost.toml:2: listener.protocol = \"mqqts\": expected one of mqtt, mqtts, ws, wss, \
             unix, for example protocol = \"mqtts\"\n\
             waypost.toml:1: [[listener]] needs a protocol: add protocol = \"mqtts\", or mqtt, ws, \
             wss, unix",
        ),
        (
            "[[listener]]\nprotocol = \"unix\"\n",
            "waypost.toml:1: [[listener]] needs a path: add path = \"/run/waypost/mqtt.sock\"",
        ),
        (
            "[[listener]]\nprotocol = \"mqtts\"\naddress = \"127.0.0.1:1\"\n",
            "waypost.toml:1: [[listener]] needs a certificate and its private key: add cert = \
             \"server.pem\" and key = \"server.key\", there or under [tls]",
        ),
        (
            "[tls]\ncert = \"c\"\nkey = \"k\"\n[[listener]]\nprotocol = \"mqtts\"\naddress = \
             \"127.0.0.1:1\"\ncert = \"own\"\n",
            "waypost.toml:7: listener.cert needs its private key: add key = \"server.key\"",
        ),
        (
            "[tls]\ncert = \"c\"\nkey = \"k\"\n[[listener]]\nprotocol = \"mqtts\"\naddress = \
             \"127.0.0.1:1\"\nclient_certificates = \"optional\"\n",
            "waypost.toml:7: listener.client_certificates needs the authorities whose certificates \
             are taken: add client_ca = \"clients-ca.pem\"",
        ),
    ]);
}

#[test]
fn what_would_do_nothing_at_a_door_is_told() {
    check_mistakes(&[
        (
            "[[listener]]\nprotocol = \"unix\"\npath = \"/a\"\naddress = \"127.0.0.1:1\"\n",
            "waypost.toml:4: listener.address would do nothing: a unix door has a path",
        ),
        (
            "[[listener]]\nprotocol = \"unix\"\npath = \"/a\"\nproxy_from = \"10.0.0.1\"\n",
            "waypost.toml:4: listener.proxy_from would do nothing: what comes through a Unix socket \
             has no address",
        ),
        (
            "[[listener]]\nprotocol = \"ws\"\naddress = \"127.0.0.1:1\"\npath = \"/mqtt\"\ncert = \
             \"c\"\n",
            "waypost.toml:4: listener.path would do nothing: a door that speaks ws has an address\n\
             waypost.toml:5: listener.cert would do nothing: ws has no TLS; mqtts and wss have",
        ),
        (
            "[[listener]]\nprotocol = \"mqtt\"\naddress = \"127.0.0.1:1\"\nallowed_origins = []\n",
            "waypost.toml:4: listener.allowed_origins would do nothing: only browsers have an \
             origin, and they speak ws and wss, not mqtt",
        ),
        (
            "[[listener]]\nprotocol = \"mqtts\"\naddress = \"127.0.0.1:1\"\ncert = \"c\"\nkey = \
             \"k\"\ncrl = \"x\"\n",
            "waypost.toml:6: listener.crl would do nothing: no client is asked for a certificate; \
             add client_certificates = \"required\", or \"optional\"",
        ),
    ]);
}

#[test]
fn two_doors_in_one_place_are_told() {
    check_mistakes(&[
        (
            "[listen]\nws = \"127.0.0.1:1883\"\n",
            "waypost.toml:2: listen.ws = \"127.0.0.1:1883\" is where listen.mqtt is already; each door \
             needs a place of its own",
        ),
        (
            "[listen]\nmqtt = \"127.0.0.1:8080\"\n",
            "waypost.toml:2: listen.mqtt = \"127.0.0.1:8080\" is where listen.http is already; each \
             door needs a place of its own",
        ),
        (
            "[listen]\nunix = \"/a\"\n[[listener]]\nprotocol = \"unix\"\npath = \"/a\"\n",
            "waypost.toml:5: listener.path = \"/a\" is where listen.unix is already; each door needs a \
             place of its own",
        ),
    ]);
    let any_ports = "[listen]\nmqtt = \"127.0.0.1:0\"\nws = [\"127.0.0.1:0\", \"127.0.0.1:0\"]\n";
    assert_eq!(load_file(any_ports).unwrap().doors().len(), 3);
}

/// Goal: no kind of door opens to strangers unasked. Method: each kind beyond loopback, then with the
/// word that says it is meant.
#[test]
fn no_kind_of_door_opens_to_strangers_unasked() {
    let meant = "[auth]\nallow_anonymous_from_anywhere = true\n";
    let proxied = |address: &str| {
        format!(
            "[[listener]]\nprotocol = \"mqtt\"\naddress = \"{address}\"\nproxy_from = \"10.0.0.0/8\"\n"
        )
    };
    for toml in [
        "[listen]\nmqtt = \"0.0.0.0:1\"\n".to_owned(),
        format!("[listen]\nmqtts = \"[::]:1\"\n{TLS}"),
        "[listen]\nws = \"192.0.2.1:1\"\n".to_owned(),
        format!("[listen]\nwss = \"[2001:db8::1]:1\"\n{TLS}"),
        "[listen]\nhttp = \"0.0.0.0:1\"\n".to_owned(),
        "[[listener]]\nprotocol = \"mqtt\"\naddress = \"0.0.0.0:1\"\n".to_owned(),
        format!("{TLS}[[listener]]\nprotocol = \"wss\"\naddress = \"[::ffff:192.0.2.1]:1\"\n"),
        proxied("127.0.0.1:1"),
        proxied("0.0.0.0:1"),
    ] {
        let told = load_file(&toml).unwrap_err();
        assert!(
            told.contains("can be reached from other machines"),
            "{toml}{told}"
        );
        assert!(
            told.contains("auth.allow_anonymous_from_anywhere = true"),
            "{told}"
        );
        load_file(&format!("{meant}{toml}")).unwrap();
    }
    check_mistakes(&[
        (
            &proxied("127.0.0.1:1"),
            "waypost.toml:3: listener.address = \"127.0.0.1:1\" can be reached from other machines \
             through its proxy, and nobody is asked who they are, so anyone could connect; add a user: `waypost users add NAME`, or leave \
             proxy_from out, or say that it is meant: auth.allow_anonymous_from_anywhere = true",
        ),
        (
            &proxied("[::]:1"),
            "waypost.toml:3: listener.address = \"[::]:1\" can be reached from other machines, and \
             nobody is asked who they are, so anyone could connect; add a user: `waypost users add NAME`, or listen on loopback without \
             proxy_from: address = \"[::1]:1\", or say that it is meant: \
             auth.allow_anonymous_from_anywhere = true",
        ),
    ]);
    load_file("[listen]\nunix = \"/run/mqtt.sock\"\nws = \"[::ffff:127.0.0.1]:1\"\n").unwrap();
}

/// Goal: users open the doors, but not HTTP's, which asks nobody; and letting in those without a name closes them.
#[test]
fn doors_may_be_open_to_those_who_are_asked() {
    let directory = tempfile::tempdir().unwrap();
    let users = directory.path().join("users.toml");
    let config = |rest: &str| {
        format!(
            "[server]\ndata_dir = {:?}\n{rest}",
            directory.path().display().to_string()
        )
    };
    let door = "[listen]\nmqtt = \"0.0.0.0:1\"\n";
    let told = load_file(&config(door)).unwrap_err();
    let fix = format!(
        "add a user: `waypost users add NAME --data-dir '{}'`",
        directory.path().display()
    );
    assert!(told.contains(&fix), "{told}");
    std::fs::write(
        &users,
        "[[user]]\nname = \"alice\"\ncertificate = \"cn=alice\"\n",
    )
    .unwrap();
    load_file(&config(door)).unwrap();
    let told = load_file(&config(&format!("{door}[auth]\nanonymous = true\n"))).unwrap_err();
    assert!(told.contains("clients without a name are let in (auth.anonymous), so anyone could connect; auth.anonymous = false, or listen"), "{told}");
    let told = load_file(&config("[listen]\nhttp = \"0.0.0.0:1\"\n")).unwrap_err();
    assert!(
        told.contains(
            "nobody is asked over HTTP who they are, so anyone could connect; listen on loopback"
        ),
        "{told}"
    );
    // With a file that cannot be read the server does not start: then that is what is told.
    std::fs::write(&users, "[[usr]]\n").unwrap();
    load_file(&config(door)).unwrap();
    // Nobody at all may come in.
    std::fs::remove_file(&users).unwrap();
    load_file(&config(&format!("{door}[auth]\nanonymous = false\n"))).unwrap();
}

#[test]
fn listeners_are_counted() {
    let listener =
        |port| format!("[[listener]]\nprotocol = \"mqtt\"\naddress = \"127.0.0.1:{port}\"\n");
    let many = |count: usize| {
        (2_000..2_000 + count)
            .map(listener)
            .collect::<Vec<_>>()
            .concat()
    };
    let max = door::LISTENERS_MAX;
    assert_eq!(load_file(&many(max)).unwrap().listen.own.len(), max);
    for count in [max + 1, 2 * max] {
        let line = max * 3 + 1;
        assert_eq!(
            load_file(&many(count)).unwrap_err(),
            format!("waypost.toml:{line}: more than {max} of [[listener]]; leave some out")
        );
    }
}

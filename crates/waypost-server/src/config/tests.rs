//! The table of settings against its three sources, and every message a user can get.

use std::collections::BTreeMap;
use std::io::Write as _;

use super::*;

mod arbitrary;
mod doors;
mod streams;
mod topics;

fn load_file(toml: &str) -> Result<Config, String> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(toml.as_bytes()).unwrap();
    let path = file.path().display().to_string();
    Config::load(&Sources {
        file: Some(file.path().to_owned()),
        ..Sources::default()
    })
    .map_err(|error| error.to_string().replace(&path, "waypost.toml"))
}

fn load_environment(variables: &[(&str, &str)]) -> Result<Config, String> {
    Config::load(&Sources {
        environment: variables
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        ..Sources::default()
    })
    .map_err(|error| error.to_string())
}

fn load_flag(name: &str, key: &str, value: &str) -> Result<Config, String> {
    Config::load(&Sources {
        flags: vec![Flag {
            name: name.to_owned(),
            key: key.to_owned(),
            value: value.to_owned(),
        }],
        ..Sources::default()
    })
    .map_err(|error| error.to_string())
}

/// A value other than the default for each setting: as TOML, and as text.
fn other_values() -> BTreeMap<String, (String, String)> {
    SETTINGS
        .iter()
        .map(|setting| {
            let toml = match setting.name().as_str() {
                "listen.mqtt" => r#"["127.0.0.1:0", "[::1]:1884"]"#.to_owned(),
                "listen.mqtts" | "listen.ws" | "listen.wss" => r#"["127.0.0.1:8883"]"#.to_owned(),
                "listen.unix" => r#""/run/mqtt.sock""#.to_owned(),
                "tls.cert" | "tls.key" | "tls.client_ca" => r#""/etc/waypost/file.pem""#.to_owned(),
                "tls.client_certificates" => r#""required""#.to_owned(),
                "tls.crl" => r#"["a.crl", "b.crl"]"#.to_owned(),
                "server.balance" => r#""least-connections""#.to_owned(),
                "auth.anonymous" => r#""false""#.to_owned(),
                "auth.users_file" => r#""/etc/waypost/users.toml""#.to_owned(),
                "auth.allow_anonymous_from_anywhere" | "http.tls" => "true".to_owned(),
                "listen.http" => r#""127.0.0.1:0""#.to_owned(),
                "server.data_dir" => r#""/var/lib/waypost""#.to_owned(),
                "http.allowed_hosts" => r#"["broker.example.org"]"#.to_owned(),
                "http.allowed_origins" => {
                    r#"["https://a.example", "https://b.example"]"#.to_owned()
                }
                "store.compress" => {
                    let other = |name: &&str| *name != Config::default().store.compress;
                    let names = waypost_compress::registry().iter().map(|row| row.name);
                    format!("\"{}\"", names.clone().find(other).unwrap())
                }
                "store.encrypt" => r#""aes-gcm""#.to_owned(),
                "store.key_file" => r#""/etc/waypost/key""#.to_owned(),
                "store.key_env" => r#""WAYPOST_KEY""#.to_owned(),
                "store.old_key_files" => r#"["old.key"]"#.to_owned(),
                "store.key_command" => r#"["pass", "show", "waypost"]"#.to_owned(),
                "log.level" => r#""debug""#.to_owned(),
                // The only one there is so far.
                "store.cache" => r#""lru""#.to_owned(),
                _ => setting.field.another_number(),
            };
            let text = toml.replace(['[', ']', '"'], "").replace("::1:", "[::1]:");
            (setting.name(), (toml, text))
        })
        .collect()
}

/// What else must be said for a setting to be right, as flags.
fn companions(name: &str) -> Vec<Flag> {
    let needed: &[&str] = match name {
        "listen.mqtts" | "listen.wss" | "http.tls" => &["tls.cert", "tls.key"],
        "tls.cert" => &["tls.key"],
        "tls.key" => &["tls.cert"],
        "tls.client_certificates" => &["tls.client_ca"],
        "tls.client_ca" => &["tls.client_certificates"],
        "store.encrypt" => &["store.key_file"],
        "store.key_file" | "store.key_env" | "store.key_command" => &["store.encrypt"],
        "tls.crl" => &["tls.client_ca", "tls.client_certificates"],
        _ => &[],
    };
    let others = other_values();
    let flag = |key: &&str| Flag {
        name: "--set".to_owned(),
        key: (*key).to_owned(),
        value: others[*key].1.clone(),
    };
    needed.iter().map(flag).collect()
}

#[test]
fn every_setting_is_read_from_every_source() {
    let others = other_values();
    for setting in SETTINGS {
        let name = setting.name();
        if others[&name].0 == setting.show(&Config::default()) {
            assert_eq!(name, "store.cache", "there is only one value");
            continue;
        }
        let (toml, text) = &others[&name];
        let load = |sources: Sources| Config::load(&sources).unwrap();
        let flags = companions(&name);

        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "[{}]\n{} = {toml}\n", setting.section, setting.key).unwrap();
        let from_file = load(Sources {
            file: Some(file.path().to_owned()),
            flags: flags.clone(),
            ..Sources::default()
        });
        assert_eq!(&setting.show(&from_file), toml, "{name} from the file");
        assert_ne!(
            setting.show(&from_file),
            setting.show(&Config::default()),
            "{name}"
        );
        let defaults = Config::default();
        let changed = from_file.changes(&defaults).map(Setting::name);
        let changed: Vec<_> = changed
            .filter(|changed| flags.iter().all(|flag| flag.key != *changed))
            .collect();
        assert_eq!(
            changed,
            std::slice::from_ref(&name),
            "one key changes one field"
        );

        let from_environment = load(Sources {
            environment: vec![(setting.variable().into(), text.into())],
            flags: flags.clone(),
            ..Sources::default()
        });
        assert_eq!(from_environment, from_file, "{name} from the environment");

        let mut flags = flags;
        flags.push(Flag {
            name: "--set".to_owned(),
            key: name.clone(),
            value: text.clone(),
        });
        let from_flag = load(Sources {
            flags,
            ..Sources::default()
        });
        assert_eq!(from_flag, from_file, "{name} from a flag");
    }
}

#[test]
fn a_later_source_overrides_an_earlier_one() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"[server]\nshards = 2\ndrain_timeout = \"2s\"\nsys_interval = \"2s\"")
        .unwrap();
    let config = Config::load(&Sources {
        file: Some(file.path().to_owned()),
        environment: vec![
            ("WAYPOST_SERVER__SHARDS".into(), "3".into()),
            ("WAYPOST_SERVER__DRAIN_TIMEOUT".into(), "3s".into()),
            ("PATH".into(), "/bin".into()),
            ("WAYPOST_KEYS".into(), "/nowhere/keys".into()),
        ],
        flags: vec![Flag {
            name: "--shards".to_owned(),
            key: "server.shards".to_owned(),
            value: "4".to_owned(),
        }],
    })
    .unwrap();
    assert_eq!(config.server.shards, 4);
    assert_eq!(config.server.drain_timeout, Duration::from_secs(3));
    assert_eq!(config.server.sys_interval, Duration::from_secs(2));
}

#[test]
fn the_default_file_says_what_the_defaults_are() {
    assert_eq!(load_file(&default_toml()).unwrap(), Config::default());
    let text = default_toml();
    for setting in SETTINGS {
        assert!(
            text.contains(&format!("\n{} = ", setting.key)),
            "{}",
            setting.name()
        );
    }
    assert!(
        text.lines().all(|line| line.chars().count() <= 100),
        "{text}"
    );
}

#[test]
fn every_setting_is_documented_and_named_once() {
    let mut names: Vec<_> = SETTINGS.iter().map(Setting::variable).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), SETTINGS.len());
    for setting in SETTINGS {
        assert!(setting.doc.ends_with('.'), "{}", setting.name());
        assert!(
            !setting.doc.contains('|'),
            "{} would break its table",
            setting.name()
        );
    }
}

/// Goal: a new bound of the broker cannot be forgotten here. Method: its fields, as `Debug` names
/// them, against the table.
#[test]
fn every_limit_of_the_broker_is_a_setting() {
    let debug = format!("{:?}", waypost_core::Limits::default());
    let fields: Vec<&str> = debug
        .split(['{', ','])
        .filter_map(|part| part.split_once(": "))
        .map(|(name, _)| name.trim())
        .map(|name| {
            name.strip_suffix("_ms")
                .or(name.strip_suffix("_s"))
                .unwrap_or(name)
        })
        .collect();
    assert!(fields.len() > 10, "{debug}");
    for field in fields {
        assert!(
            Setting::find("limits", field).is_some(),
            "limits.{field} is missing"
        );
    }
}

#[test]
fn no_shards_configured_means_one_per_core() {
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(usize::from(Config::default().server.shard_count()), cores);
}

/// Goal: each message names the place, the key, what was expected and a line that works.
fn check_mistakes(cases: &[(&str, &str)]) {
    for (toml, expect) in cases {
        assert_eq!(load_file(toml).unwrap_err(), *expect, "{toml}");
    }
}

/// Goal: what is on disk is encrypted only by what is for that: a cipher for messages, or a way to agree on keys, is refused by
/// its name, in the file, a variable and a flag, with those that do.
#[test]
fn strategies_that_are_not_for_data_at_rest_are_refused_with_those_that_are() {
    const LEGAL: &str = "none, aes-gcm, aes-ccm, chacha20-poly1305, auto";
    for name in ["rsa", "ecc", "hybrid", "aes", "des", "RSA", "rot13"] {
        let toml = format!("[store]\nencrypt = \"{name}\"\nkey_env = \"KEY\"\n");
        for said in [
            load_file(&toml).unwrap_err(),
            load_environment(&[("WAYPOST_STORE__ENCRYPT", name)]).unwrap_err(),
            load_flag("--set", "store.encrypt", name).unwrap_err(),
        ] {
            assert!(
                said.contains("store.encrypt") && said.contains(name),
                "{said}"
            );
            assert!(said.contains(LEGAL), "{said}");
        }
    }
    for name in LEGAL.split(", ").skip(1) {
        let toml = format!("[store]\nencrypt = \"{name}\"\nkey_env = \"KEY\"\n");
        assert_eq!(load_file(&toml).unwrap().store.encrypt, name);
    }
}

/// Goal: `[[topic]] encrypt` names what is for data at rest, and there is a key for it.
#[test]
fn a_policy_that_encrypts_needs_a_key() {
    let policy = "[[topic]]\nfilter = \"a/#\"\nencrypt = \"aes-gcm\"\n";
    check_mistakes(&[
        (
            policy,
            "waypost.toml:3: topic.encrypt needs a key: add key_file = \"/etc/waypost/store.key\" under [store]",
        ),
        (
            "[store]\nkey_env = \"KEY\"\n",
            "waypost.toml:2: store.key_env would do nothing: nothing is encrypted; add encrypt = \"aes-gcm\", or name it in \
             old_key_files if something was encrypted with it",
        ),
    ]);
    for name in ["rsa", "none", "des"] {
        let toml = policy.replace("aes-gcm", name);
        let said = load_file(&format!("{toml}[store]\nkey_env = \"KEY\"\n")).unwrap_err();
        assert!(
            said.contains("aes-gcm, aes-ccm, chacha20-poly1305, auto"),
            "{said}"
        );
    }
    let config = load_file(&format!("{policy}[store]\nkey_env = \"KEY\"\n")).unwrap();
    assert_eq!(config.store.encrypt, "none");
    let explained = config
        .topics
        .explain(waypost_mqtt::Filter::parse("a/b").unwrap());
    let line = explained.iter().find(|line| line.key == "encrypt").unwrap();
    assert_eq!(line.value, "\"aes-gcm\"");
}

#[test]
fn unknown_names_in_a_file_are_answered_with_the_nearest() {
    check_mistakes(&[
        (
            "[limits]\nconnections_mx = 5\n",
            "waypost.toml:2: unknown key limits.connections_mx; did you mean limits.connections_max?",
        ),
        (
            "\n\n[limit]\nconnections_max = 5\n",
            "waypost.toml:3: unknown section [limit]; did you mean [limits]?",
        ),
        (
            "shards = 2\n",
            "waypost.toml:1: unknown key shards; did you mean server.shards?",
        ),
        (
            "[http]\nshards = 2\n",
            "waypost.toml:2: unknown key http.shards; did you mean server.shards?",
        ),
        (
            "listen = \"127.0.0.1:1883\"\n",
            "waypost.toml:1: listen is a section: write its keys under a line [listen]",
        ),
        (
            "[[listen]]\nmqtt = \"127.0.0.1:1883\"\n",
            "waypost.toml:1: listen is a section: write its keys under a line [listen]",
        ),
        (
            "[listener]\nprotocol = \"mqtt\"\n",
            "waypost.toml:1: there may be several of listener: write its keys under a line [[listener]]",
        ),
        (
            "listener = [5]\n",
            "waypost.toml:1: there may be several of listener: write its keys under a line [[listener]]",
        ),
        (
            "\n[[listner]]\nprotocol = \"mqtt\"\n",
            "waypost.toml:2: unknown section [[listner]]; did you mean [[listener]]?",
        ),
        (
            "[[listener]]\nprotocol = \"mqtt\"\n\n[[listener]]\naddres = \"127.0.0.1:1\"\nprotocol = \"ws\"\naddress = \"127.0.0.1:2\"\n",
            "waypost.toml:5: unknown key listener.addres; did you mean listener.address?\n\
             waypost.toml:1: [[listener]] needs an address: add address = \"127.0.0.1:8883\"",
        ),
    ]);
}

#[test]
fn wrong_values_in_a_file_are_answered_with_an_example() {
    check_mistakes(&[
        (
            "[server]\n# two\nshards = \"2\"\n",
            "waypost.toml:3: server.shards = \"2\": expected a whole number from 0 to 256, for \
             example shards = 0",
        ),
        (
            "[server]\nshards = 257\n",
            "waypost.toml:2: server.shards = 257: expected a whole number from 0 to 256, for \
             example shards = 0",
        ),
        (
            "[server]\nshards = -1\n",
            "waypost.toml:2: server.shards = -1: expected a whole number from 0 to 256, for \
             example shards = 0",
        ),
        (
            "[server]\ndrain_timeout = 10\n",
            "waypost.toml:2: server.drain_timeout = 10: expected a duration with its unit (ms, s, \
             m, h, d) from 0s to 1h, for example drain_timeout = \"10s\"",
        ),
        (
            "[limits]\nreceive_bytes_max = \"64KB\"\n",
            "waypost.toml:2: limits.receive_bytes_max = \"64KB\": expected a size with its unit (B, \
             KiB, MiB, GiB, TiB) from 1MiB to 1TiB, for example receive_bytes_max = \"256MiB\"",
        ),
        (
            "[listen]\nmqtt = [\"1883\"]\n",
            "waypost.toml:2: listen.mqtt = [\"1883\"]: expected a list of numeric addresses \
             with ports, for example mqtt = [\"127.0.0.1:1883\"]",
        ),
        (
            "[listen]\nhttp = [\n  8080\n]\n",
            "waypost.toml:2: listen.http = […: expected a numeric address and port, for example \
             http = \"127.0.0.1:8080\"",
        ),
        (
            "[http]\nallowed_hosts = 5\n",
            "waypost.toml:2: http.allowed_hosts = 5: expected a list of names, for example \
             allowed_hosts = [\"broker.example.org\"]",
        ),
        (
            "[http]\nallowed_origins = [5]\n",
            "waypost.toml:2: http.allowed_origins = [5]: expected a list of names, for example \
             allowed_origins = [\"https://broker.example.org\"]",
        ),
        (
            "[log]\nlevel = \"loud\"\n",
            "waypost.toml:2: log.level = \"loud\": expected one of off, error, warn, info, debug, \
             trace, for example level = \"info\"",
        ),
        (
            "[server]\ndata_dir = \"\"\n",
            "waypost.toml:2: server.data_dir = \"\": expected a path, for example data_dir = \
             \"./waypost-data\"",
        ),
        (
            "[listen]\nmqtt = \"0.0.0.0:1883\"\n",
            "waypost.toml:2: listen.mqtt = \"0.0.0.0:1883\" can be reached from other machines, and \
             nobody is asked who they are, so anyone could connect; add a user: `waypost users add NAME`, or listen on loopback: mqtt = \
             \"127.0.0.1:1883\", or say that it is meant: auth.allow_anonymous_from_anywhere = true",
        ),
        (
            "[listen]\nmqtt = [\"127.0.0.1:1883\", \"localhost:1883\"]\n",
            "waypost.toml:2: listen.mqtt = \"127.0.0.1:1883\" is where listen.mqtt is already; each \
             door needs a place of its own",
        ),
    ]);
}

#[test]
fn a_file_that_is_not_toml_is_answered_with_the_line() {
    let syntax = load_file("[server]\nshards = \n").unwrap_err();
    assert!(
        syntax.starts_with("waypost.toml:2: not valid TOML: "),
        "{syntax}"
    );
    let twice = load_file("[server]\nshards = 1\nshards = 2\n").unwrap_err();
    assert!(
        twice.starts_with("waypost.toml:3: not valid TOML: duplicate key"),
        "{twice}"
    );
}

#[test]
fn all_mistakes_are_told_at_once() {
    let told = load_file("[server]\nshard = 1\ndrain_timeout = 5\n[log]\nlevel = 5\n").unwrap_err();
    assert_eq!(told.lines().count(), 3, "{told}");
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(&Sources {
        file: Some("/nowhere/waypost.toml".into()),
        ..Sources::default()
    })
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "/nowhere/waypost.toml: cannot read the configuration file: No such file or directory (os \
         error 2)"
    );
}

#[test]
fn mistakes_in_the_environment_are_answered_with_what_would_be_right() {
    for (name, value, expect) in [
        (
            "WAYPOST_SERVER__SHARD",
            "1",
            "unknown environment variable WAYPOST_SERVER__SHARD; did you mean \
             WAYPOST_SERVER__SHARDS?",
        ),
        (
            "WAYPOST_DATA_DIR",
            "/x",
            "unknown environment variable WAYPOST_DATA_DIR; did you mean \
             WAYPOST_SERVER__DATA_DIR?",
        ),
        (
            "WAYPOST_SERVER__DRAIN_TIMEOUT",
            "10",
            "environment variable WAYPOST_SERVER__DRAIN_TIMEOUT: server.drain_timeout = 10: \
             expected a duration with its unit (ms, s, m, h, d) from 0s to 1h, for example \
             WAYPOST_SERVER__DRAIN_TIMEOUT=10s",
        ),
        (
            "WAYPOST_LISTEN__HTTP",
            "[::]:8080",
            "environment variable WAYPOST_LISTEN__HTTP: listen.http = \"[::]:8080\" can be reached \
             from other machines, and nobody is asked over HTTP who they are, so anyone could connect; listen \
             on loopback: WAYPOST_LISTEN__HTTP=[::1]:8080, or say that it is meant: \
             auth.allow_anonymous_from_anywhere = true",
        ),
    ] {
        assert_eq!(
            load_environment(&[(name, value)]).unwrap_err(),
            expect,
            "{name}"
        );
    }
}

#[test]
fn what_kubernetes_says_about_a_service_called_waypost_is_not_a_mistake() {
    let config = load_environment(&[
        ("WAYPOST_SERVICE_HOST", "10.0.0.1"),
        ("WAYPOST_PORT_1883_TCP_ADDR", "10.0.0.1"),
        ("WAYPOST_PORT", "tcp://10.0.0.1:1883"),
    ]);
    assert_eq!(config.unwrap(), Config::default());
}

#[test]
fn mistakes_in_flags_are_answered_with_what_would_be_right() {
    for (flag, key, value, expect) in [
        (
            "--mqtt",
            "listen.mqtt",
            "1883",
            "flag --mqtt: listen.mqtt = 1883: expected a list of numeric addresses with ports, for \
             example --mqtt 127.0.0.1:1883",
        ),
        (
            "--mqtt",
            "listen.mqtt",
            "192.0.2.1:1883",
            "flag --mqtt: listen.mqtt = \"192.0.2.1:1883\" can be reached from other machines, and \
             nobody is asked who they are, so anyone could connect; add a user: `waypost users add NAME`, or listen on loopback: --mqtt \
             127.0.0.1:1883, or say that it is meant: auth.allow_anonymous_from_anywhere = true",
        ),
        (
            "--set",
            "server.drain",
            "1s",
            "flag --set: unknown key server.drain; did you mean server.drain_timeout?",
        ),
        (
            "--set",
            "log.level",
            "x",
            "flag --set: log.level = x: expected one of off, error, warn, info, debug, trace, for \
             example --set log.level=info",
        ),
    ] {
        assert_eq!(
            load_flag(flag, key, value).unwrap_err(),
            expect,
            "{flag} {value}"
        );
    }
}

/// Goal: `docs/configuration.md` says what the code does. `RENEW_DOCS=1` writes it anew.
#[test]
fn the_page_about_configuration_is_current() {
    crate::docs::check("configuration.md", &markdown());
}

#[test]
fn the_examples_on_the_page_have_no_mistakes() {
    let page = markdown();
    let examples: Vec<&str> = page
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("```"))
        .map(|(example, _)| example)
        .collect();
    assert!(examples.len() >= 2, "{page}");
    for example in examples {
        load_file(example).unwrap();
    }
}

//! A server with every door open, and every client through each door it knows.

use waypost_tests::{Certificates, Program, Run, Server, ServerOptions, required_program, waypost};

/// The origin of web pages that the server of these tests lets in.
pub const ORIGIN: &str = "http://page.example";

/// A server with every door open.
pub struct Doors {
    pub server: Server,
    pub certificates: Certificates,
}

impl Doors {
    pub fn open() -> Self {
        Self::with("")
    }

    /// With more lines in `[tls]`; `@NAME` is a file of the certificates.
    pub fn with(more: &str) -> Self {
        Self::start("server", more)
    }

    /// With another certificate than `server`.
    pub fn as_server(name: &str) -> Self {
        Self::start(name, "")
    }

    fn start(name: &str, more: &str) -> Self {
        let certificates = Certificates::make();
        let folder = certificates.folder().display();
        let more = more.replace('@', &format!("{folder}/"));
        let configuration = format!(
            "[http]\nallowed_origins = [\"{ORIGIN}\"]\n\
             [listen]\nmqtts = [\"127.0.0.1:0\"]\nws = [\"127.0.0.1:0\"]\nwss = [\"127.0.0.1:0\"]\n\
             unix = \"{folder}/mqtt.sock\"\n\
             [tls]\ncert = \"{folder}/{name}.pem\"\nkey = \"{folder}/{name}.key\"\n{more}"
        );
        let server = ServerOptions::new().configuration(&configuration).start();
        Self {
            server,
            certificates,
        }
    }

    /// Where `ann`, `bob` and `browser` may do what they like, each under a topic of the own name; their password is
    /// `secret`. Whoever is nobody of them is not let in.
    pub fn with_users() -> Self {
        let doors = Self::open();
        let password = doors.certificates.path("password");
        std::fs::write(&password, "secret\n").unwrap();
        for name in ["ann", "bob", "browser"] {
            let mut command = waypost();
            command.args(["users", "add", name, "--allow", &format!("{name}/#")]);
            command.arg("--data-dir").arg(doors.server.data_dir());
            command.arg("--password-file").arg(&password);
            Run::to_end(command, [""; 0]).expect_success();
        }
        doors
    }

    /// `localhost:PORT` of a door.
    pub fn place(&self, door: &str) -> String {
        let address = self.server.door(door);
        let (_, port) = address.rsplit_once(':').expect("an address");
        format!("localhost:{port}")
    }

    pub fn url(&self, door: &str) -> String {
        match door {
            "unix" => format!("unix://{}", self.certificates.file("mqtt.sock")),
            "ws" | "wss" => format!("{door}://{}/mqtt", self.place(door)),
            "mqtt" => format!("mqtt://{}", self.server.mqtt()),
            _ => format!("{door}://{}", self.place(door)),
        }
    }
}

/// `url` as a user.
pub fn as_user(url: &str, name: &str) -> String {
    url.replacen("://", &format!("://{name}:secret@"), 1)
}

fn scenario(program: Program, door: &str, version: &str, name: &str) {
    let Some(mut command) = required_program(program) else {
        return;
    };
    let doors = if name == "users" {
        Doors::with_users()
    } else {
        Doors::open()
    };
    command.env("TEST_CA", doors.certificates.path("ca.pem"));
    let script = match program {
        Program::Python => "python/scenarios.py",
        _ => "node/scenarios.mjs",
    };
    let mut url = doors.url(door);
    if name == "users" {
        url = as_user(&url, "ann");
    }
    Run::to_end(command, [script, &url, version, name]).expect_success();
}

/// One test for each door and scenario, against a server of its own.
macro_rules! scenarios {
    ($module:ident: $program:ident $version:literal; $($door:ident: $($scenario:ident)*;)*) => {
        mod $module {
            $(mod $door {
                $(
                    #[test]
                    fn $scenario() {
                        let program = waypost_tests::Program::$program;
                        let (door, scenario) = (stringify!($door), stringify!($scenario));
                        crate::doors::scenario(program, door, $version, scenario);
                    }
                )*
            })*
        }
    };
}

scenarios! {
    paho: Python "5";
    mqtt: shared users;
    mqtts: qos_round_trips order will large_payload shared users;
    ws: qos_round_trips order will large_payload shared users;
    wss: qos_round_trips order large_payload users;
    unix: qos_round_trips order large_payload;
}

scenarios! {
    paho_311: Python "3.1.1";
    mqtts: qos_round_trips offline_queue shared users;
    ws: qos_round_trips offline_queue;
}

scenarios! {
    mqtt_js: Node "5";
    mqtt: shared users;
    mqtts: qos_round_trips order will large_payload shared users;
    ws: qos_round_trips order will large_payload shared users;
    wss: qos_round_trips order large_payload users;
}

scenarios! {
    mqtt_js_311: Node "3.1.1";
    mqtts: qos_round_trips offline_queue shared;
    ws: qos_round_trips offline_queue;
}

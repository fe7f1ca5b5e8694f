//! A server with every door open, and every client through each door it knows.

use waypost_tests::{Certificates, Program, Run, Server, ServerOptions, required_program};

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
            _ => format!("{door}://{}", self.place(door)),
        }
    }
}

fn scenario(program: Program, door: &str, version: &str, name: &str) {
    let Some(mut command) = required_program(program) else {
        return;
    };
    let doors = Doors::open();
    command.env("TEST_CA", doors.certificates.path("ca.pem"));
    let script = match program {
        Program::Python => "python/scenarios.py",
        _ => "node/scenarios.mjs",
    };
    Run::to_end(command, [script, &doors.url(door), version, name]).expect_success();
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
    mqtts: qos_round_trips order will large_payload;
    ws: qos_round_trips order will large_payload;
    wss: qos_round_trips order large_payload;
    unix: qos_round_trips order large_payload;
}

scenarios! {
    paho_311: Python "3.1.1";
    mqtts: qos_round_trips offline_queue;
    ws: qos_round_trips offline_queue;
}

scenarios! {
    mqtt_js: Node "5";
    mqtts: qos_round_trips order will large_payload;
    ws: qos_round_trips order will large_payload;
    wss: qos_round_trips order large_payload;
}

scenarios! {
    mqtt_js_311: Node "3.1.1";
    mqtts: qos_round_trips offline_queue;
    ws: qos_round_trips offline_queue;
}

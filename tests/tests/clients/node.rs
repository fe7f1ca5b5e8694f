//! MQTT.js for Node.

use waypost_tests::{Program, Run, Server, required_program};

fn run(version: &str, scenario: &str) {
    let Some(node) = required_program(Program::Node) else {
        return;
    };
    let server = Server::start();
    let url = format!("mqtt://{}", server.mqtt());
    Run::to_end(node, ["node/scenarios.mjs", &url, version, scenario]).expect_success();
}

/// One test per scenario of `scenarios.mjs`, each against a server of its own.
macro_rules! scenarios {
    ($($version:literal $module:ident: $($scenario:ident)*;)*) => {
        $(mod $module {
            $(
                #[test]
                fn $scenario() {
                    super::run($version, stringify!($scenario));
                }
            )*
        })*
    };
}

scenarios! {
    "3.1" mqtt31: qos_round_trips order retained will offline_queue large_payload takeover;
    "3.1.1" mqtt311: qos_round_trips order retained will offline_queue large_payload takeover;
    "5" mqtt5: qos_round_trips order retained will offline_queue properties large_payload takeover;
}

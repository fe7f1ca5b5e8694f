//! MQTT.js in a real Chromium, on a page from another origin.

use waypost_tests::{Program, Run, required_program};

use crate::doors::{Doors, ORIGIN};

/// Loads a page from `origin` and lets it talk to `url`; none where there is no browser.
fn visit(doors: &Doors, url: &str, origin: &str, expect: &str) -> Option<()> {
    visit_as("", doors, url, origin, expect)
}

/// With a password.
fn visit_as(password: &str, doors: &Doors, url: &str, origin: &str, expect: &str) -> Option<()> {
    required_program(Program::Chromium)?;
    let mut node = required_program(Program::Node)?;
    if !password.is_empty() {
        let options = format!("{{\"username\":\"browser\",\"password\":\"{password}\"}}");
        node.env("TEST_CONNECT_OPTIONS", options);
    }
    node.env("TEST_SERVER_CERT", doors.certificates.path("server.pem"));
    let host = origin.trim_start_matches("http://");
    Run::to_end(node, ["node/browser.mjs", url, host, expect]).expect_success();
    Some(())
}

#[test]
fn a_page_that_is_allowed_talks_over_ws_and_wss_and_the_http_port() {
    let doors = Doors::open();
    let http = format!("ws://{}/mqtt", doors.server.http());
    for url in [doors.url("ws"), doors.url("wss"), http] {
        if visit(&doors, &url, ORIGIN, "served").is_none() {
            return;
        }
    }
}

/// A page from anywhere must not reach a local broker: the browser would let it.
#[test]
fn a_page_from_elsewhere_is_refused_at_every_door() {
    let doors = Doors::open();
    let http = format!("ws://{}/mqtt", doors.server.http());
    for url in [doors.url("ws"), doors.url("wss"), http] {
        if visit(&doors, &url, "http://elsewhere.example", "refused").is_none() {
            return;
        }
    }
    assert!(doors.server.metric("waypost_clients") < 1.0);
}

#[test]
fn a_page_says_who_its_user_is() {
    let doors = Doors::with_users();
    for (password, expect) in [("secret", "served"), ("guess", "refused"), ("", "refused")] {
        if visit_as(password, &doors, &doors.url("wss"), ORIGIN, expect).is_none() {
            return;
        }
    }
}

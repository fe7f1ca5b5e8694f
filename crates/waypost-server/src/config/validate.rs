//! What no single value shows: rules between settings, and what is not safe to do.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::error::Problem;
use super::load::{Loading, line_for};
use super::settings::Setting;

pub(super) fn validate(loading: &mut Loading) {
    let mut seen: Vec<SocketAddr> = Vec::new();
    let doors: Vec<(&'static str, SocketAddr)> = loading
        .config
        .listen
        .mqtt
        .iter()
        .map(|address| ("mqtt", *address))
        .chain([("http", loading.config.listen.http)])
        .collect();
    for (key, address) in doors {
        let Some(setting) = Setting::find("listen", key) else {
            continue;
        };
        let origin = loading.origin("listen", key);
        if !address.ip().to_canonical().is_loopback() {
            let fix = line_for(&origin, setting, &format!("\"{}\"", on_loopback(address)));
            loading.problems.push(Problem::BeyondLoopback {
                origin,
                key: setting.name(),
                address,
                fix,
            });
        } else if address.port() != 0 && seen.contains(&address) {
            loading.problems.push(Problem::SameAddress {
                origin,
                key: setting.name(),
                address,
            });
        }
        seen.push(address);
    }
}

/// The same port where only this machine reaches it.
fn on_loopback(address: SocketAddr) -> SocketAddr {
    if address.is_ipv4() {
        SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()))
    } else {
        SocketAddr::from((Ipv6Addr::LOCALHOST, address.port()))
    }
}

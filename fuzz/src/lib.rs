//! Fuzz targets: one per decoder, one per state machine. Each is a plain `fn(&[u8])` that panics
//! when something is wrong.
//!
//! To add one: a file in `targets/`, a line in [`targets`], and a few inputs in `corpus/<name>/`.
//! [`run`] is a small engine for the stable toolchain: it mutates the corpus, seeded, so that a
//! seed is a replay. The same functions serve cargo-fuzz where nightly is there.

#![forbid(unsafe_code)]
#![allow(
    clippy::missing_panics_doc,
    reason = "a panic is how a target tells what it found"
)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)
)]

mod corpus;
mod engine;
pub mod mutate;
pub mod targets;

pub use engine::{Crash, Report, replay, run};

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its folder in `corpus/`.
    pub name: &'static str,
    /// Runs it on one input.
    pub run: fn(&[u8]),
    /// The decoder or state machine it is for.
    pub decoder: &'static str,
}

/// Every target.
pub fn targets() -> &'static [Target] {
    TARGETS
}

const TARGETS: &[Target] = &[
    Target {
        name: "broker",
        run: targets::broker::run,
        decoder: "waypost_core::Broker",
    },
    Target {
        name: "cache",
        run: targets::cache::run,
        decoder: "waypost_cache::Cache",
    },
    Target {
        name: "decompress",
        run: targets::decompress::run,
        decoder: "waypost_compress::Compress",
    },
    Target {
        name: "decompress_stages",
        run: targets::decompress_stages::run,
        decoder: "waypost_compress::Stages",
    },
    Target {
        name: "dictionary",
        run: targets::dictionary::run,
        decoder: "waypost_compress::dictionary::Dictionary",
    },
    Target {
        name: "dictionary_file",
        run: targets::dictionary_file::run,
        decoder: "waypost_server::dictionaries::decode_dictionary_file",
    },
    Target {
        name: "encrypt_jwk",
        run: targets::encrypt_jwk::run,
        decoder: "waypost_encrypt::Jwk",
    },
    Target {
        name: "encrypt_key",
        run: targets::encrypt_key::run,
        decoder: "waypost_encrypt::MasterKey",
    },
    Target {
        name: "encrypt_open",
        run: targets::encrypt_open::run,
        decoder: "waypost_encrypt::Encrypt",
    },
    Target {
        name: "encrypt_sealed",
        run: targets::encrypt_sealed::run,
        decoder: "waypost_encrypt::open",
    },
    Target {
        name: "kept_rows",
        run: targets::kept_rows::run,
        decoder: "waypost_core::rows::message::decode_message",
    },
    Target {
        name: "keys_given",
        run: targets::keys_given::run,
        decoder: "waypost_client::keys",
    },
    Target {
        name: "mqtt_packet",
        run: targets::mqtt_packet::run,
        decoder: "waypost_mqtt::decode",
    },
    Target {
        name: "mqtt_stream",
        run: targets::mqtt_stream::run,
        decoder: "waypost_mqtt::decode_header",
    },
    Target {
        name: "mqtt_properties",
        run: targets::mqtt_properties::run,
        decoder: "waypost_mqtt::Properties",
    },
    Target {
        name: "mqtt_topic",
        run: targets::mqtt_topic::run,
        decoder: "waypost_mqtt::Filter",
    },
    Target {
        name: "proxy_header",
        run: targets::proxy_header::run,
        decoder: "waypost_server::decode_proxy_header",
    },
    Target {
        name: "store_log",
        run: targets::store_log::run,
        decoder: "waypost_store::log::Recovery",
    },
    Target {
        name: "store_records",
        run: targets::store_records::run,
        decoder: "waypost_store::decode_ops",
    },
    Target {
        name: "session_rows",
        run: targets::session_rows::run,
        decoder: "waypost_core::rows",
    },
    Target {
        name: "store_backup",
        run: targets::store_backup::run,
        decoder: "waypost_store::backup::decode_contents",
    },
    Target {
        name: "stream_file",
        run: targets::stream_file::run,
        decoder: "waypost_store::Streams",
    },
    Target {
        name: "stream_line",
        run: targets::stream_line::run,
        decoder: "waypost_server::history::decode_line",
    },
    Target {
        name: "stream_parts",
        run: targets::stream_parts::run,
        decoder: "waypost_store::streams::decode_part",
    },
    Target {
        name: "websocket",
        run: targets::websocket::run,
        decoder: "waypost_mqtt::websocket::Decoder",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_target_runs_over_its_corpus() {
        for target in targets() {
            let corpus = corpus::load(target.name);
            assert!(!corpus.is_empty(), "{} has no corpus", target.name);
            for input in &corpus {
                assert_eq!(replay(target, input), None, "{}", target.name);
            }
        }
    }

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<_> = targets().iter().map(|target| target.name).collect();
        assert_eq!(names.len(), targets().len());
    }
}

//! Streams between the configuration, the store and the shards.

use std::sync::Arc;
use std::time::Duration;

use waypost_core::rows::message::decode_message;
use waypost_core::stream::StreamId;
use waypost_core::{Stream, Streams};
use waypost_mqtt::Properties;
use waypost_names::UnknownStrategy;
use waypost_store::streams::{Described, StreamOptions, StreamsOptions};
use waypost_store::{Disk, Store, StoreError};

use super::clock::WallClock;
use super::intake::Intake;
use super::stream_desk::StreamDesk;
use crate::config::{Config, StreamConfig};
use crate::history::{Access, Around, OfStore};

/// The User Property that says under which key a message is the last value.
const KEY: &str = "waypost-key";

/// What a message in a stream says of itself.
fn describe(body: &[u8]) -> Option<Described<'_>> {
    let message = decode_message(body)?;
    let mut properties = Properties::from_validated(message.properties).user_properties();
    Some(Described {
        topic: message.topic,
        key: properties
            .find(|(name, _)| *name == KEY)
            .map(|(_, key)| key),
        is_tombstone: message.payload.is_empty(),
    })
}

/// How the store keeps the streams of a configuration.
pub fn stream_options(config: &Config) -> Result<StreamsOptions, UnknownStrategy> {
    let configured = config.streams.iter();
    Ok(StreamsOptions {
        describe,
        configured: configured
            .map(|stream| options(stream, config))
            .collect::<Result<_, _>>()?,
        ..StreamsOptions::default()
    })
}

fn options(stream: &StreamConfig, config: &Config) -> Result<StreamOptions, UnknownStrategy> {
    let of_policies = || config.topics.compress_of(&stream.filters);
    let compress = match stream.compress {
        Some(name) => waypost_compress::find(name)?,
        None => match of_policies() {
            Some(strategy) => strategy,
            None => waypost_compress::find(config.store.compress)?,
        },
    };
    let encrypt = config.topics.encrypt_of(&stream.filters);
    Ok(StreamOptions {
        name: stream.name.clone(),
        retention_ms: stream.retention.age_ms,
        retention_bytes: stream.retention.bytes,
        retention_messages: stream.retention.messages,
        compact: stream.compact,
        compress,
        encrypt: encrypt.and_then(|name| waypost_encrypt::find_at_rest(name).ok()),
    })
}

/// The streams of a running server, for whoever changes or looks after them.
pub(crate) trait Served: Send + Sync {
    /// Takes over what a configuration says of streams; gives what the shards go by from now on.
    fn configure(&self, config: &Config) -> Result<Arc<Streams>, String>;
    /// For the API.
    fn access(&self) -> Arc<dyn Access>;
}

/// How long a request waits until what came before it can be read.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(5);

pub(super) struct OfServer<D: Disk> {
    pub(super) store: Arc<Store<D>>,
    pub(super) desk: Arc<StreamDesk>,
    pub(super) intake: Arc<Intake>,
    pub(super) wall: WallClock,
}

impl<D: Disk> Served for OfServer<D> {
    fn configure(&self, config: &Config) -> Result<Arc<Streams>, String> {
        let options = stream_options(config).map_err(|error| error.to_string())?;
        let mut wanted = options.configured.iter();
        if !self.store.streams().has_key()
            && let Some(stream) = wanted.find(|stream| stream.encrypt.is_some())
        {
            log::error!(
                "stream {}: its files stay in the clear until the next start, when the key of [store] is read",
                stream.name
            );
        }
        let before = self.store.streams().list(self.wall.now_ms());
        let catalogue = configure(&self.store, &options.configured, &config.streams)
            .map_err(|error| error.to_string())?;
        // Whoever waits at one that takes no more goes on waiting: it may be configured again.
        for stream in &config.streams {
            let was = before.iter().find(|info| info.name == stream.name);
            match was.map(|info| info.is_configured) {
                Some(true) => {}
                Some(false) => log::info!("stream {}: takes messages again", stream.name),
                None => log::info!("stream {}: new", stream.name),
            }
        }
        for info in before.iter().filter(|info| info.is_configured) {
            if !config.streams.iter().any(|stream| stream.name == info.name) {
                log::info!(
                    "stream {}: takes no more messages; what is in it stays until `waypost streams purge`",
                    info.name
                );
            }
        }
        Ok(catalogue)
    }

    fn access(&self) -> Arc<dyn Access> {
        let (wall, desk) = (self.wall, Arc::clone(&self.desk));
        let intake = Arc::clone(&self.intake);
        Arc::new(OfStore::new(
            Arc::clone(&self.store),
            Box::new(move || wall.now_ms()),
            Around {
                changed: Box::new(move |stream| desk.changed([StreamId(stream.0)])),
                catch_up: Box::new(move || intake.catch_up(CATCH_UP_WITHIN)),
            },
        ))
    }
}

/// Has the store keep these streams; gives what the shards go by.
fn configure<D: Disk>(
    store: &Store<D>,
    options: &[StreamOptions],
    streams: &[StreamConfig],
) -> Result<Arc<Streams>, StoreError> {
    let numbers = store.streams().configure(options)?;
    let number = |name: &str| {
        let found = numbers.iter().find(|(other, _)| other == name);
        found.map(|(_, id)| StreamId(id.0))
    };
    let known = streams.iter().filter_map(|stream| {
        Some(Stream {
            id: number(&stream.name)?,
            name: stream.name.as_str().into(),
            filters: stream.filters.clone(),
        })
    });
    let catalogue = Streams::new(known.collect()).unwrap_or_else(|errors| {
        // The configuration was checked for all that can be wrong with it.
        log::error!("the streams cannot be used: {errors:?}");
        Streams::default()
    });
    Ok(Arc::new(catalogue))
}

#[cfg(test)]
mod tests {
    use waypost_core::rows::message::KeptMessage;
    use waypost_mqtt::{Property, PropertyBuffer, QoS};

    use super::*;

    #[test]
    fn a_message_says_its_topic_and_key() {
        let describe_with = |properties: &PropertyBuffer, payload: &[u8]| {
            let mut body = Vec::new();
            KeptMessage {
                topic: "a/b",
                properties: properties.as_bytes(),
                payload,
                qos: QoS::AtMostOnce,
                publisher: 1,
                address: None,
                date_wall_ms: 5,
                expires_wall_ms: u64::MAX,
            }
            .encode(&mut body);
            describe(&body).map(|found| (found.key().to_owned(), found.is_tombstone))
        };
        let mut properties = PropertyBuffer::new();
        let found = describe_with(&properties, b"x");
        assert_eq!(found, Some(("a/b".to_owned(), false)));
        properties
            .push(Property::UserProperty("k", "v"))
            .push(Property::UserProperty("waypost-key", "7"));
        let found = describe_with(&properties, b"");
        assert_eq!(found, Some(("7".to_owned(), true)));
        assert_eq!(describe(b"no message"), None);
    }

    /// Goal: which word holds. Method: streams that say something, that policies cover wholly, partly and with other
    /// words, and that nobody speaks of.
    #[test]
    fn what_a_stream_does_not_say_its_policies_do_and_then_the_store() {
        let policies = r#"
[store]
compress = "lz4"
[[topic]]
filter = "a/#"
compress = "zstd"
[[topic]]
filter = "a/b/#"
compress = "brotli"
[[topic]]
filter = "stages/#"
compress = "rle+zstd"
"#;
        let streams = [
            (r#"["a/#"]"#, "", "zstd"),
            (r#"["a/b/c"]"#, "", "brotli"),
            (r#"["a/x", "a/y"]"#, "", "zstd"),
            (r#"["a/x", "a/b/y"]"#, "", "lz4"),
            (r#"["a/x", "c"]"#, "", "lz4"),
            (r##"["#"]"##, "", "lz4"),
            (r#"["stages/x"]"#, "", "lz4"),
            (r#"["a/x"]"#, "compress = \"rle\"", "rle"),
        ];
        let mut toml = policies.to_owned();
        for (number, (filters, more, _)) in streams.iter().enumerate() {
            let row = format!("[[stream]]\nname = \"s{number}\"\nfilters = {filters}\n{more}\n");
            toml.push_str(&row);
        }
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("waypost.toml");
        std::fs::write(&file, toml).unwrap();
        let sources = crate::config::Sources {
            file: Some(file),
            ..Default::default()
        };
        let config = Config::load(&sources).unwrap();
        let found = stream_options(&config).unwrap().configured;
        let packed: Vec<_> = found.iter().map(|one| one.compress.name).collect();
        assert_eq!(packed, streams.map(|(_, _, expect)| expect));
    }

    /// Goal: no file has a message in the clear whose policy wants it encrypted. Method: streams that such a policy covers,
    /// is inside of, crosses, and has nothing to do with.
    #[test]
    fn a_stream_is_encrypted_if_any_of_its_messages_may_have_to_be() {
        let mut toml = r#"
[store]
key_env = "KEY"
[[topic]]
filter = "a/b/#"
encrypt = "chacha20-poly1305"
[[topic]]
filter = "a/+/x"
encrypt = "aes-gcm"
"#
        .to_owned();
        let streams = [
            (r#"["a/b/c"]"#, Some("chacha20-poly1305")),
            (r#"["a/#"]"#, Some("chacha20-poly1305")),
            (r##"["#"]"##, Some("chacha20-poly1305")),
            (r#"["c", "+/c/x"]"#, Some("aes-gcm")),
            (r#"["a/c/y", "b/#"]"#, None),
            (r#"["$SYS/#"]"#, None),
        ];
        for (number, (filters, _)) in streams.iter().enumerate() {
            let row = format!("[[stream]]\nname = \"s{number}\"\nfilters = {filters}\n");
            toml.push_str(&row);
        }
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("waypost.toml");
        std::fs::write(&file, toml).unwrap();
        let sources = crate::config::Sources {
            file: Some(file),
            ..Default::default()
        };
        let config = Config::load(&sources).unwrap();
        let found = stream_options(&config).unwrap().configured;
        let names: Vec<_> = found
            .iter()
            .map(|one| one.encrypt.map(|strategy| strategy.name))
            .collect();
        assert_eq!(names, streams.map(|(_, expect)| expect));
    }

    #[test]
    fn what_a_stream_does_not_say_the_store_does() {
        let mut config = Config::default();
        config.store.compress = "zstd";
        let stream = |name: &str, compress| StreamConfig {
            name: name.to_owned(),
            compress,
            ..StreamConfig::default()
        };
        config.streams = vec![stream("a", None), stream("b", Some("lz4"))];
        let found = stream_options(&config).unwrap().configured;
        let packed: Vec<_> = found.iter().map(|one| one.compress.name).collect();
        assert_eq!(packed, ["zstd", "lz4"]);
    }
}

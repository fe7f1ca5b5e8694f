//! The targets, one per file.

pub mod broker;
pub mod cache;
pub mod decompress;
pub mod decompress_stages;
pub mod dictionary;
pub mod dictionary_file;
pub mod encrypt_jwk;
pub mod encrypt_key;
pub mod encrypt_open;
pub mod encrypt_sealed;
pub mod kept_rows;
pub mod keys_given;
pub mod mqtt_packet;
pub mod mqtt_properties;
pub mod mqtt_stream;
pub mod mqtt_topic;
pub mod proxy_header;
pub mod session_rows;
pub mod store_backup;
pub mod store_log;
pub mod store_records;
pub mod stream_file;
pub mod stream_line;
pub mod stream_parts;
pub mod websocket;

//! Fuzz targets: one per decoder, one per state machine. Each is a plain `fn(&[u8])`.

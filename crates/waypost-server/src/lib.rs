//! Shards, transports, configuration, metrics: the part of Waypost that touches the world.

//! `[limits]` of transcoding.

use super::field::{Field, Number, number};
use super::setting::{Reload, Setting};

pub(super) const TRANSCODED_BYTES_MAX: Setting = Setting {
    section: "limits",
    key: "transcoded_bytes_max",
    doc: "The most that a payload is unpacked to under a policy with transcode = true; where limits.packet_bytes_max is \
          less, that holds. One that would be larger is forwarded as it came.",
    reload: Reload::AtStart,
    flag: None,
    field: Field::Bytes(number!(1 << 10, 256 << 20, shell.transcoded_bytes_max)),
};

pub(super) const TRANSCODE_WAITING_BYTES_MAX: Setting = Setting {
    section: "limits",
    key: "transcode_waiting_bytes_max",
    doc: "Large payloads that wait to be transcoded by threads of their own. Beyond it a shard unpacks by itself, and its \
          publishers are slowed; nothing large is packed. One payload is always taken.",
    reload: Reload::AtStart,
    flag: None,
    field: Field::Bytes(number!(0, 1 << 40, shell.transcode_waiting_bytes_max)),
};

//! What a byte and a nanosecond cost, and how many nanoseconds each strategy takes.

use crate::Strategy;
use crate::strategies::brotli;

/// What a byte costs that is sent or kept, in US dollars for 10^9 of them: what clouds take between two of their zones.
pub const USD_PER_GB: f64 = 0.01;

/// What an hour of one core costs, in US dollars: what clouds take.
pub const USD_PER_CORE_HOUR: f64 = 0.05;

/// What is weighed against each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prices {
    /// US dollars for 10^9 bytes.
    pub usd_per_gb: f64,
    /// US dollars for an hour of one core.
    pub usd_per_core_hour: f64,
}

impl Default for Prices {
    fn default() -> Self {
        Self {
            usd_per_gb: USD_PER_GB,
            usd_per_core_hour: USD_PER_CORE_HOUR,
        }
    }
}

impl Prices {
    /// What so many bytes and so many nanoseconds cost, in 10^-9 US dollars.
    #[must_use]
    pub fn nano_usd(&self, bytes: u64, cpu_ns: f64) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "a sum of lengths, in 53 bits")]
        let bytes = bytes as f64;
        bytes * self.usd_per_gb + cpu_ns * self.usd_per_core_hour / 3_600.0
    }
}

/// How long a strategy takes, in nanoseconds: for a message, and for each byte of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cpu {
    /// Whatever its length, packed and unpacked once.
    pub message_ns: f64,
    /// For each byte that is packed.
    pub pack_byte_ns: f64,
    /// For each byte that is unpacked.
    pub unpack_byte_ns: f64,
    /// The same three, and for messages of how many bytes at most, where short ones are packed in another way.
    pub short: Option<(usize, [f64; 3])>,
}

impl Cpu {
    /// For one message, packed once and unpacked once.
    #[must_use]
    pub fn ns(&self, bytes: usize) -> f64 {
        let [message_ns, pack_byte_ns, unpack_byte_ns] = match self.short {
            Some((bytes_max, short)) if bytes <= bytes_max => short,
            _ => [self.message_ns, self.pack_byte_ns, self.unpack_byte_ns],
        };
        #[allow(clippy::cast_precision_loss, reason = "a length, in 53 bits")]
        let bytes = bytes as f64;
        message_ns + bytes * (pack_byte_ns + unpack_byte_ns)
    }
}

/// Measured on presence and orders (what a message takes) and pieces of a book of 64 KiB (a byte), on a core of 2026: `(name, [message, pack, unpack])`.
/// A model and no clock: the same messages are packed in the same way everywhere.
const MEASURED: &[(&str, [f64; 3])] = &[
    ("identity", [0.0, 0.0, 0.0]),
    ("rle", [150.0, 3.0, 0.1]),
    ("huffman", [22_000.0, 2.5, 5.5]),
    ("arithmetic", [1_000.0, 150.0, 190.0]),
    ("lz77", [30_000.0, 110.0, 4.0]),
    ("lz78", [500.0, 11.0, 6.0]),
    ("lz4", [300.0, 3.0, 0.4]),
    ("zstd", [6_000.0, 5.0, 1.0]),
    ("zstd-dict", [1_000.0, 7.5, 1.2]),
    ("brotli", [3_000_000.0, 245.0, 5.0]),
];

/// What messages of at most so many bytes take, where a strategy packs them in another way: pieces of a book of 64 B to 4 KiB.
const MEASURED_SHORT: &[(&str, usize, [f64; 3])] =
    &[("brotli", brotli::SHORT_BYTES_MAX, [50_000.0, 43.0, 8.0])];

/// What is assumed of a strategy that is not in the table: more than of most.
const UNKNOWN: [f64; 3] = [5_000.0, 50.0, 50.0];

/// How long this strategy takes, by the table.
#[must_use]
pub fn cpu(strategy: &Strategy) -> Cpu {
    let row = MEASURED.iter().find(|(name, _)| *name == strategy.name);
    let [message_ns, pack_byte_ns, unpack_byte_ns] = row.map_or(UNKNOWN, |(_, row)| *row);
    let short = MEASURED_SHORT
        .iter()
        .find(|(name, ..)| *name == strategy.name);
    Cpu {
        message_ns,
        pack_byte_ns,
        unpack_byte_ns,
        short: short.map(|(_, bytes_max, row)| (*bytes_max, *row)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_strategy_has_a_row() {
        for strategy in crate::registry() {
            let is_known = MEASURED.iter().any(|(name, _)| *name == strategy.name);
            assert!(is_known || strategy.name == "auto", "{strategy:?}");
        }
        let row = cpu(crate::find("lz4").unwrap());
        assert!((row.ns(1_000) - 3_700.0).abs() < 1e-9);
        let brotli = cpu(crate::find("brotli").unwrap());
        assert!((brotli.ns(1_000) - 101_000.0).abs() < 1e-6);
        assert!((brotli.ns(4_096) - 258_896.0).abs() < 1e-6);
        assert!((brotli.ns(4_097) - 4_024_250.0).abs() < 1e-6);
        let prices = Prices {
            usd_per_gb: 2.0,
            usd_per_core_hour: 3.6,
        };
        assert!((prices.nano_usd(10, 1_000.0) - 21.0).abs() < 1e-9);
    }
}

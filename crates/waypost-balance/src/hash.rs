//! The hashes of the family: the same on every machine, at every start, because sites and shards must agree.

/// The finisher of `SplitMix64` (Stafford's variant 13 of `MurmurHash3`'s): every bit of the input moves every bit.
#[inline]
pub(crate) fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// FNV-1a (64 bits) of a text, finished by [`mix`].
#[inline]
pub(crate) fn text(text: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in text.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    mix(hash)
}

/// A hash as a number above 0 and below 1.
#[inline]
#[allow(clippy::cast_precision_loss, reason = "53 bits fit, the half included")]
pub(crate) fn unit(hash: u64) -> f64 {
    ((hash >> 12) as f64 + 0.5) * (1.0 / 4_503_599_627_370_496.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_stay_inside() {
        for hash in [0, 1, u64::MAX / 2, u64::MAX] {
            assert!(unit(hash) > 0.0 && unit(hash) < 1.0, "{hash}");
        }
    }

    /// Sites of different versions must agree: these numbers, computed apart from the definitions, may never change.
    #[test]
    fn hashes_are_fixed() {
        assert_eq!(text(""), 0xf52a_15e9_a9b5_e89b);
        assert_eq!(text("orders/17"), 0xa5ea_17dc_d393_f339);
    }
}

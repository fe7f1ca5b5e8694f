//! Which pieces of the samples a dictionary is made of, and how they are put one behind the other.
//!
//! The pieces are substrings of what is shared. A window of a piece is worth as many messages as it is in, once: what one
//! piece has is worth nothing in the next (the idea of COVER: Liao, Petri, Moffat, Wirth: Effective Construction of Relative
//! Lempel-Ziv Dictionaries, WWW 2016). Each byte of the dictionary has a price; a piece is taken where the sum of its
//! windows is above the price of its bytes by a margin, as long or short as is best at that price. The price begins high and
//! falls, until the dictionary is full: so what is worth most comes first, in pieces as long as they are worth it.

use std::collections::HashSet;

use super::{
    WINDOW_BYTES,
    windows::{Sample, Shared, window, windows},
};

/// A piece costs so many bytes beside its windows: it begins and ends, and a match that it makes possible is itself several
/// bytes. Long pieces are so preferred to many short ones. Chosen by measuring on orders and chats (2 to 40).
const PIECE_COST_BYTES: f64 = 20.0;

/// The price of a byte falls by this factor,
const PRICE_FALLS: f64 = 1.5;

/// to this many messages.
const PRICE_MIN: f64 = 0.5;

/// Seams are looked after so many times; then only the best piece is left.
const SEAM_ROUNDS: usize = 16;

/// Bytes of a sample of which every window is shared.
struct Run<'a> {
    bytes: &'a [u8],
    /// The place of each of its windows.
    places: Vec<u32>,
    /// None of its windows is worth more.
    worth_max: u32,
}

/// The pieces, those that are worth most first, together at most `bytes_max` with a byte between two.
pub(super) fn choose<'a>(
    samples: &[Sample<'a>],
    shared: &Shared,
    bytes_max: usize,
) -> Vec<&'a [u8]> {
    let mut worth = shared.messages().to_vec();
    let mut runs = runs(samples, shared);
    let top = worth.iter().max().copied().unwrap_or_default();
    let mut price = f64::from(top) / 2.0;
    let mut pieces = Vec::new();
    let mut room = bytes_max;
    while price >= PRICE_MIN {
        for run in &mut runs {
            while f64::from(run.worth_max) > price {
                let Some((piece, places)) = run.best(&worth, price) else {
                    break;
                };
                let Some(left) = room.checked_sub(piece.len() + 1) else {
                    return pieces;
                };
                room = left;
                pieces.push(piece);
                for place in places {
                    if let Some(worth) = worth.get_mut(*place as usize) {
                        *worth = 0;
                    }
                }
            }
        }
        price /= PRICE_FALLS;
    }
    pieces
}

/// Every run of the samples, once.
fn runs<'a>(samples: &[Sample<'a>], shared: &Shared) -> Vec<Run<'a>> {
    let mut known = HashSet::new();
    let mut runs = Vec::new();
    for sample in samples {
        let mut places = Vec::new();
        let mut from = 0;
        let ends = std::iter::once(None);
        let each = windows(sample.bytes).map(|window| shared.place(window));
        for (at, place) in each.chain(ends).enumerate() {
            if let Some(place) = place {
                places.push(place);
                continue;
            }
            let bytes = sample.bytes.get(from..at + WINDOW_BYTES - 1);
            from = at + 1;
            if let (Some(bytes), false) = (bytes, places.is_empty())
                && known.insert(bytes)
            {
                runs.push(Run {
                    bytes,
                    places: std::mem::take(&mut places),
                    worth_max: u32::MAX,
                });
            }
            places.clear();
        }
    }
    runs
}

impl<'a> Run<'a> {
    /// The part of it that is worth most above its price, and the places of its windows; `None` if none is.
    fn best(&mut self, worth: &[u32], price: f64) -> Option<(&'a [u8], &[u32])> {
        let (mut best, mut best_from, mut best_to) = (PIECE_COST_BYTES * price, 0, 0);
        let (mut sum, mut from) = (0.0, 0);
        self.worth_max = 0;
        for (at, place) in self.places.iter().enumerate() {
            let worth = worth.get(*place as usize).copied().unwrap_or_default();
            self.worth_max = self.worth_max.max(worth);
            if sum <= 0.0 {
                (sum, from) = (0.0, at);
            }
            sum += f64::from(worth) - price;
            if sum > best {
                (best, best_from, best_to) = (sum, from, at + 1);
            }
        }
        let places = self.places.get(best_from..best_to)?;
        let piece = self.bytes.get(best_from..best_to + WINDOW_BYTES - 1)?;
        (best_to > best_from).then_some((piece, places))
    }
}

/// Puts pieces one behind the other, the best last: what is near is named in fewer bits. No window across a seam is one that
/// was sent and is not shared.
pub(super) fn join(mut pieces: Vec<&[u8]>, samples: &[Sample<'_>], shared: &Shared) -> Vec<u8> {
    let (separator, is_in_samples) = separator(samples);
    for _ in 0..SEAM_ROUNDS {
        if !is_in_samples {
            break;
        }
        let across = seams(&pieces, separator);
        let among: HashSet<u64> = across.iter().flatten().copied().collect();
        let sent = samples.iter().flat_map(|sample| windows(sample.bytes));
        let secret: HashSet<u64> = sent
            .filter(|window| among.contains(window) && shared.place(*window).is_none())
            .collect();
        if secret.is_empty() {
            return concatenate(&pieces, separator);
        }
        // The piece behind a seam is worth less than the one before it: it goes.
        let mut across = across.iter();
        let mut is_first = true;
        pieces.retain(|_| {
            let stays = is_first
                || across
                    .next()
                    .is_some_and(|seam| seam.iter().all(|window| !secret.contains(window)));
            is_first = false;
            stays
        });
    }
    if is_in_samples {
        pieces.truncate(1);
    }
    concatenate(&pieces, separator)
}

/// The byte that the samples have least often, and whether they have it at all.
fn separator(samples: &[Sample<'_>]) -> (u8, bool) {
    let mut counts = [0_u64; 256];
    for byte in samples.iter().flat_map(|sample| sample.bytes) {
        if let Some(count) = counts.get_mut(usize::from(*byte)) {
            *count += 1;
        }
    }
    let least = (0..=u8::MAX).zip(counts).min_by_key(|(_, count)| *count);
    least.map_or((0, true), |(byte, count)| (byte, count > 0))
}

/// The windows across each seam: that between the first and the second piece, and so on.
fn seams(pieces: &[&[u8]], separator: u8) -> Vec<Vec<u64>> {
    let around = WINDOW_BYTES - 1;
    pieces
        .windows(2)
        .map(|pair| {
            let [better, worse] = pair else {
                return Vec::new();
            };
            let mut seam = Vec::with_capacity(2 * around + 1);
            seam.extend_from_slice(
                worse
                    .get(worse.len().saturating_sub(around)..)
                    .unwrap_or(worse),
            );
            seam.push(separator);
            seam.extend_from_slice(better.get(..around).unwrap_or(better));
            seam.windows(WINDOW_BYTES).filter_map(window).collect()
        })
        .collect()
}

fn concatenate(pieces: &[&[u8]], separator: u8) -> Vec<u8> {
    let mut content = Vec::new();
    for piece in pieces.iter().rev() {
        if !content.is_empty() {
            content.push(separator);
        }
        content.extend_from_slice(piece);
    }
    content
}

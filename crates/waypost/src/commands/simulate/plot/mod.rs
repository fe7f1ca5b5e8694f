//! Plots as SVG: [`Chart`] has ratios over something, [`Bars`] times side by side.

mod bars;
mod chart;

pub use bars::{Bars, Pair};
pub use chart::{Across, Chart, Series};

/// A drawing; its colours are those of the page it stands on.
pub struct Plot {
    pub width: f64,
    pub height: f64,
    /// What it shows, for who does not see it.
    pub label: String,
    /// What is drawn, as SVG.
    pub body: String,
}

/// The colour of one of so many strategies.
pub fn colour(at: usize, count: usize) -> String {
    format!("hsl({} 65% 48%)", at * 360 / count.max(1))
}

/// Microseconds with three digits that count, in a unit that fits.
pub fn readable(us: f64) -> String {
    let (number, unit) = match us {
        ..1.0 => (us * 1e3, "ns"),
        1.0..1e3 => (us, "µs"),
        1e3..1e6 => (us / 1e3, "ms"),
        _ => (us / 1e6, "s"),
    };
    let decimals = match number {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    let text = format!("{number:.decimals$}");
    let text = match text.split_once('.') {
        Some(_) => text.trim_end_matches('0').trim_end_matches('.'),
        None => &text,
    };
    format!("{text} {unit}")
}

/// Times are drawn by factors of ten, strategies are that far apart: how many of them a time in microseconds is, of at least a
/// picosecond.
fn power(us: f64) -> f64 {
    us.max(1e-6).log10()
}

/// Times by factors of ten: the whole powers that all of them lie between. What is less than a hundred-thousandth of the longest
/// counts as that, so that a zero does not press the others together.
fn powers(times_us: &[f64]) -> (f64, f64) {
    let longest = times_us.iter().copied().map(power).fold(-6.0, f64::max);
    let shortest = times_us.iter().copied().map(power).fold(longest, f64::min);
    let first = shortest.max(longest - 5.0).floor();
    (first, longest.ceil().max(first + 1.0))
}

/// Their marks: each power, and the time it stands for.
#[allow(clippy::cast_possible_truncation, reason = "powers of ten")]
fn marks((first, last): (f64, f64)) -> impl Iterator<Item = (f64, String)> {
    (first as i32..=last as i32).map(|power| (f64::from(power), readable(10_f64.powi(power))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_readable() {
        for (us, expect) in [
            (0.0, "0 ns"),
            (0.01, "10 ns"),
            (0.9, "900 ns"),
            (1.0, "1 µs"),
            (3.324, "3.32 µs"),
            (12.58, "12.6 µs"),
            (100.0, "100 µs"),
            (1041.6, "1.04 ms"),
            (36_787.0, "36.8 ms"),
            (2_000_000.0, "2 s"),
        ] {
            assert_eq!(readable(us), expect);
        }
    }

    #[test]
    fn times_lie_between_whole_powers_of_ten() {
        for (times_us, expect) in [
            (&[0.5, 30.0][..], (-1.0, 2.0)),
            (&[10.0], (1.0, 2.0)),
            (&[0.0, 1000.0], (-2.0, 3.0)),
            (&[], (-6.0, -5.0)),
        ] {
            assert_eq!(powers(times_us), expect, "{times_us:?}");
        }
        let names: Vec<_> = marks((2.0, 4.0)).map(|(_, name)| name).collect();
        assert_eq!(names, ["100 µs", "1 ms", "10 ms"]);
    }
}

//! Two times a strategy, as bars side by side.

use std::fmt::Write as _;

use super::super::page::escaped;
use super::{Plot, marks, power, powers, readable};

const WIDTH: f64 = 720.0;
/// For the names of the strategies, left of the bars.
const NAMES: f64 = 200.0;
/// For the figures, right of them.
const FIGURES: f64 = 140.0;
const LINE: f64 = 22.0;
/// For what the bars are, above them.
const KEY: f64 = 26.0;
/// For the scale, below them.
const SCALE: f64 = 22.0;

/// A strategy's two times, in microseconds.
pub struct Pair {
    pub name: String,
    pub times_us: [f64; 2],
}

/// Times by factors of ten, two a strategy.
pub struct Bars<'a> {
    /// What it shows, in a few words.
    pub label: &'a str,
    /// What the first time is, and the second.
    pub names: [&'a str; 2],
    pub pairs: Vec<Pair>,
}

impl Bars<'_> {
    #[allow(clippy::cast_precision_loss, reason = "a handful of strategies")]
    pub fn draw(&self) -> Plot {
        let times: Vec<_> = self.pairs.iter().flat_map(|pair| pair.times_us).collect();
        let (first, last) = powers(&times);
        let length = |power: f64| (WIDTH - NAMES - FIGURES) * (power - first) / (last - first);
        let bottom = KEY + LINE * self.pairs.len() as f64;
        let [one, other] = self.names.map(escaped);
        let mut body = format!(
            "<rect x=\"{NAMES}\" y=\"4\" width=\"24\" height=\"7\" fill=\"var(--first)\"/><text x=\"{}\" y=\"12\">{one}</text>\
             <rect x=\"{1}\" y=\"4\" width=\"24\" height=\"7\" fill=\"var(--second)\"/><text x=\"{2}\" y=\"12\">{other}</text>\n",
            NAMES + 30.0,
            NAMES + 180.0,
            NAMES + 210.0
        );
        for (power, name) in marks((first, last)) {
            let x = NAMES + length(power);
            let _ = writeln!(
                body,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{KEY}\" y2=\"{bottom:.1}\" stroke=\"var(--rule)\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text>",
                bottom + 15.0
            );
        }
        for (at, pair) in self.pairs.iter().enumerate() {
            let top = KEY + LINE * at as f64;
            let _ = write!(
                body,
                "<text x=\"0\" y=\"{:.1}\">{}</text>",
                top + 14.0,
                escaped(&pair.name)
            );
            let bars = pair.times_us.iter().zip([&one, &other]);
            let places = [("first", 3.0), ("second", 11.0)];
            for ((time, name), (colour, below)) in bars.zip(places) {
                let _ = write!(
                    body,
                    "<rect x=\"{NAMES}\" y=\"{:.1}\" width=\"{:.1}\" height=\"7\" fill=\"var(--{colour})\">\
                     <title>{name}: {}</title></rect>",
                    top + below,
                    length(power(*time)).max(1.0),
                    readable(*time)
                );
            }
            let [shorter, longer] = pair.times_us.map(readable);
            let _ = writeln!(
                body,
                "<text x=\"{}\" y=\"{:.1}\">{shorter}, {longer}</text>",
                WIDTH - FIGURES + 10.0,
                top + 14.0
            );
        }
        Plot {
            width: WIDTH,
            height: bottom + SCALE,
            label: self.label.to_owned(),
            body,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_has_its_bar_and_its_figure() {
        let pair = |name: &str, times_us| Pair {
            name: name.into(),
            times_us,
        };
        let bars = Bars {
            label: "CPU time of a message",
            names: ["to seal", "to open"],
            pairs: vec![pair("a<b", [1.0, 10.0]), pair("c", [100.0, 0.0])],
        };
        let plot = bars.draw();
        for part in [
            ">to seal</text>",
            ">a&lt;b</text>",
            // From 1 ns, a hundred-thousandth of the longest, to 100 µs.
            "width=\"228.0\" height=\"7\" fill=\"var(--first)\"><title>to seal: 1 µs</title>",
            "width=\"304.0\" height=\"7\" fill=\"var(--second)\"><title>to open: 10 µs</title>",
            "width=\"380.0\"",
            "width=\"1.0\"",
            ">100 µs, 0 ns</text>",
        ] {
            assert!(plot.body.contains(part), "{part}: {}", plot.body);
        }
        assert!((plot.height - 92.0).abs() < 0.1);
    }
}

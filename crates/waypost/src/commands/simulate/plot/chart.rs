//! Ratios over something: a line for each strategy, or a dot.

use std::fmt::Write as _;

use super::super::page::escaped;
use super::{Plot, colour, marks, power, powers, readable};

const WIDTH: f64 = 640.0;
/// For the names of the strategies, right of the plot.
const NAMES: f64 = 190.0;
const LINE: f64 = 20.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 48.0;
const BOTTOM: f64 = 44.0;
const TOP: f64 = 8.0;
const RIGHT: f64 = 12.0;

/// The most that is drawn in full: who makes messages longer by more stands at the top edge.
const RATIO_MAX: f64 = 1.5;

/// What the ratios are over.
pub enum Across {
    /// Steps with these names, side by side and as far apart.
    Steps(Vec<String>),
    /// Times in microseconds, by factors of ten.
    Times,
}

/// One strategy.
pub struct Series {
    pub name: String,
    /// The number of a step, or a time; and the ratio there.
    pub points: Vec<(f64, f64)>,
}

/// Ratios, 0 to 1 and a little beyond, over something.
pub struct Chart<'a> {
    /// What it shows, in a few words.
    pub label: &'a str,
    pub across: Across,
    /// What it is over, with the unit if there is one.
    pub across_name: &'a str,
    pub series: Vec<Series>,
}

/// Where a ratio stands, from above.
fn y(ratio: f64, most: f64) -> f64 {
    TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - ratio.min(most) / most)
}

impl Across {
    /// From where to where.
    #[allow(clippy::cast_precision_loss, reason = "a handful of steps")]
    fn ends(&self, series: &[Series]) -> (f64, f64) {
        match self {
            Self::Steps(names) => (0.0, (names.len().max(2) - 1) as f64),
            Self::Times => {
                let points = series.iter().flat_map(|one| &one.points);
                let times: Vec<_> = points.map(|(time, _)| *time).collect();
                powers(&times)
            }
        }
    }

    fn place(&self, value: f64, (first, last): (f64, f64)) -> f64 {
        let value = match self {
            Self::Steps(_) => value,
            Self::Times => power(value).clamp(first, last),
        };
        LEFT + (WIDTH - LEFT - RIGHT) * (value - first) / (last - first)
    }

    /// What is written below, and where.
    #[allow(clippy::cast_precision_loss, reason = "a handful of steps")]
    fn marks(&self, ends: (f64, f64)) -> Vec<(f64, String)> {
        let x = |at: f64| LEFT + (WIDTH - LEFT - RIGHT) * (at - ends.0) / (ends.1 - ends.0);
        match self {
            Self::Steps(names) => names
                .iter()
                .enumerate()
                .map(|(at, name)| (x(at as f64), name.clone()))
                .collect(),
            Self::Times => marks(ends).map(|(at, name)| (x(at), name)).collect(),
        }
    }

    /// A point, for who points at it.
    fn said(&self, (across, ratio): (f64, f64)) -> String {
        let ratio = format!("{:.2} %", ratio * 100.0);
        match self {
            Self::Steps(_) => ratio,
            Self::Times => format!("{ratio}, {}", readable(across)),
        }
    }
}

impl Chart<'_> {
    #[allow(clippy::cast_precision_loss, reason = "a handful of strategies")]
    pub fn draw(&self) -> Plot {
        let ratios = self.series.iter().flat_map(|one| &one.points);
        let most = ratios.map(|(_, ratio)| *ratio).fold(1.0, f64::max);
        let most = most.min(RATIO_MAX);
        let ends = self.across.ends(&self.series);
        let mut body = String::new();
        self.draw_frame(&mut body, most, ends);
        for (at, series) in self.series.iter().enumerate() {
            let colour = colour(at, self.series.len());
            let name = escaped(&series.name);
            let (mut line, mut dots) = (String::new(), String::new());
            for (across, ratio) in &series.points {
                let (x, y) = (self.across.place(*across, ends), y(*ratio, most));
                let said = self.across.said((*across, *ratio));
                let _ = write!(line, "{x:.1},{y:.1} ");
                let _ = write!(
                    dots,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.5\" fill=\"{colour}\"><title>{name}: {said}</title></circle>"
                );
            }
            if series.points.len() > 1 {
                let _ = write!(
                    body,
                    "<polyline points=\"{line}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"
                );
            }
            let figure = match series.points.as_slice() {
                [(_, ratio)] => format!(" {:.1} %", ratio * 100.0),
                _ => String::new(),
            };
            let (left, top) = (WIDTH + RIGHT, TOP + LINE * (at as f64 + 0.5));
            let _ = writeln!(
                body,
                "{dots}<circle cx=\"{}\" cy=\"{top}\" r=\"4.5\" fill=\"{colour}\"/>\
                 <text x=\"{}\" y=\"{}\">{name}{figure}</text>",
                left + 6.0,
                left + 18.0,
                top + 4.0
            );
        }
        Plot {
            width: WIDTH + NAMES,
            height: HEIGHT.max(TOP + LINE * (self.series.len() + 1) as f64),
            label: self.label.to_owned(),
            body,
        }
    }

    fn draw_frame(&self, body: &mut String, most: f64, ends: (f64, f64)) {
        for fifth in 0..=5_u32 {
            let ratio = f64::from(fifth) / 5.0;
            let y = y(ratio, most);
            let _ = writeln!(
                body,
                "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"var(--rule)\"/>\
                 <text x=\"4\" y=\"{:.1}\">{:.0} %</text>",
                WIDTH - RIGHT,
                y + 4.0,
                ratio * 100.0
            );
        }
        let marks = self.across.marks(ends);
        for (at, (x, name)) in marks.iter().enumerate() {
            let anchor = match at {
                0 => "start",
                at if at + 1 == marks.len() => "end",
                _ => "middle",
            };
            let _ = writeln!(
                body,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{}\" stroke=\"var(--rule)\"/>\
                 <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
                HEIGHT - BOTTOM,
                HEIGHT - BOTTOM + 16.0,
                escaped(name)
            );
        }
        let _ = writeln!(
            body,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            f64::midpoint(LEFT, WIDTH - RIGHT),
            HEIGHT - 8.0,
            escaped(self.across_name)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(across: Across, series: &[(&str, &[(f64, f64)])], parts: &[&str]) {
        let series = series.iter().map(|(name, points)| Series {
            name: (*name).to_owned(),
            points: points.to_vec(),
        });
        let chart = Chart {
            label: "a label",
            across,
            across_name: "entries & bytes",
            series: series.collect(),
        };
        let body = chart.draw().body;
        for part in parts {
            assert!(body.contains(part), "{part}: {body}");
        }
    }

    #[test]
    fn steps_make_lines_from_end_to_end() {
        check(
            Across::Steps(vec!["3".into(), "4".into()]),
            &[("lru", &[(0.0, 0.0), (1.0, 1.0)])],
            &[
                "points=\"48.0,316.0 628.0,8.0 \"",
                "text-anchor=\"start\">3</text>",
                "text-anchor=\"end\">4</text>",
                "<title>lru: 100.00 %</title>",
                ">lru</text>",
                ">entries &amp; bytes</text>",
            ],
        );
    }

    #[test]
    fn times_make_dots_by_factors_of_ten() {
        check(
            Across::Times,
            &[("lz4", &[(10.0, 0.5)]), ("rle", &[(1000.0, 2.0)])],
            &[
                "cx=\"48.0\" cy=\"213.3\"",
                "<title>lz4: 50.00 %, 10 µs</title>",
                ">lz4 50.0 %</text>",
                // Beyond the edge is at the edge.
                "cx=\"628.0\" cy=\"8.0\"",
                "text-anchor=\"middle\">100 µs</text>",
            ],
        );
    }
}

//! The page with plots, and the plot alone: hit ratio over capacity, one line for each strategy. Nothing is loaded from
//! elsewhere.

use std::fmt::Write as _;

use super::{Row, named};

const WIDTH: f64 = 640.0;
/// For the names of the strategies, right of the plot.
const NAMES: f64 = 120.0;
const LINE: f64 = 20.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 48.0;
const BOTTOM: f64 = 28.0;
const TOP: f64 = 8.0;
const RIGHT: f64 = 12.0;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--rule:#d0d7de}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--paper:#0d1117;--rule:#30363d}}
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;padding:1rem;max-width:60rem;color:var(--ink);background:var(--paper)}
svg{width:100%;height:auto}text{fill:var(--ink);font-size:12px}
table{border-collapse:collapse;width:100%}td,th{padding:.2rem .5rem;text-align:right;border-bottom:1px solid var(--rule)}
td:first-child,th:first-child{text-align:left}.table{overflow-x:auto}
.key{display:inline-block;width:1rem;height:.25rem;margin-right:.5rem;vertical-align:middle}";

const COLOURS: &str = "\
:root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--rule:#d0d7de}\
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--paper:#0d1117;--rule:#30363d}}\
svg{background:var(--paper)}text{fill:var(--ink);font:12px system-ui,sans-serif}";

/// The plot alone, as a file of its own.
pub(super) fn picture(rows: &[Row]) -> String {
    let plot = plot(&strategies_of(rows), rows);
    plot.replacen("<svg ", "<svg xmlns=\"http://www.w3.org/2000/svg\" ", 1)
        .replacen(">\n", &format!("><style>{COLOURS}</style>\n"), 1)
}

fn strategies_of(rows: &[Row]) -> Vec<&'static str> {
    let mut strategies = Vec::new();
    for row in rows {
        if !strategies.contains(&row.strategy) {
            strategies.push(row.strategy);
        }
    }
    strategies
}

/// One page with everything in it.
pub(super) fn page(trace: &str, rows: &[Row]) -> String {
    let strategies = strategies_of(rows);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>Cache strategies: {0}</title>\
         <style>{STYLE}</style>\n<h1>Cache strategies</h1><p>Trace: {0}</p>\n",
        escaped(trace)
    );
    page.push_str(&plot(&strategies, rows));
    page.push_str(&figures(&strategies, rows));
    page.push_str("</html>\n");
    page
}

fn colour_of(strategies: &[&str], name: &str) -> String {
    let at = strategies.iter().position(|it| *it == name).unwrap_or(0);
    format!("hsl({} 65% 48%)", at * 360 / strategies.len().max(1))
}

/// Capacities are drawn side by side, evenly: they usually grow by factors.
#[allow(clippy::cast_precision_loss, reason = "a handful of capacities")]
fn plot(strategies: &[&str], rows: &[Row]) -> String {
    let mut capacities: Vec<_> = rows.iter().map(|row| row.capacity).collect();
    capacities.sort_by_key(|capacity| capacity.number());
    capacities.dedup();
    let across = (capacities.len().max(2) - 1) as f64;
    let x = |at: usize| LEFT + (WIDTH - LEFT - RIGHT) * at as f64 / across;
    let y = |ratio: f64| TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - ratio);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {} {HEIGHT}\" role=\"img\" aria-label=\"hit ratio over capacity\">\n",
        WIDTH + NAMES
    );
    for tenth in 0..=5_u32 {
        let ratio = f64::from(tenth) / 5.0;
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{2:.1}\" y2=\"{2:.1}\" stroke=\"var(--rule)\"/>\
             <text x=\"4\" y=\"{3:.1}\">{1:.0} %</text>",
            WIDTH - RIGHT,
            ratio * 100.0,
            y(ratio),
            y(ratio) + 4.0
        );
    }
    for (at, capacity) in capacities.iter().enumerate() {
        let anchor = match at {
            0 => "start",
            at if at + 1 == capacities.len() => "end",
            _ => "middle",
        };
        let (x, y) = (x(at), HEIGHT - 8.0);
        let name = named(*capacity);
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"{anchor}\">{name}</text>"
        );
    }
    for (line, name) in strategies.iter().enumerate() {
        let mut points = String::new();
        let mut dots = String::new();
        let colour = colour_of(strategies, name);
        let (left, top) = (WIDTH + RIGHT, TOP + LINE * (line as f64 + 0.5));
        let _ = writeln!(
            svg,
            "<rect x=\"{left}\" y=\"{top}\" width=\"16\" height=\"4\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"{}\">{name}</text>",
            left + 22.0,
            top + 6.0
        );
        for (at, capacity) in capacities.iter().enumerate() {
            let row = rows
                .iter()
                .find(|row| row.strategy == *name && row.capacity == *capacity);
            if let Some(row) = row {
                let (x, y) = (x(at), y(row.outcome.hit_ratio()));
                let _ = write!(points, "{x:.1},{y:.1} ");
                let ratio = row.outcome.hit_ratio() * 100.0;
                let _ = write!(
                    dots,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"><title>{name}: {ratio:.2} %</title></circle>"
                );
            }
        }
        let _ = writeln!(
            svg,
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>{dots}"
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn figures(strategies: &[&str], rows: &[Row]) -> String {
    let mut html = "<div class=\"table\"><table><tr><th>strategy<th>kept<th>hits<th>hit ratio<th>of the bytes<th>ns a request\n".to_owned();
    for row in rows {
        let _ = writeln!(
            html,
            "<tr><td><span class=\"key\" style=\"background:{}\"></span>{}<td>{}<td>{}<td>{:.2} %<td>{:.2} %<td>{:.0}",
            colour_of(strategies, row.strategy),
            row.strategy,
            named(row.capacity),
            row.outcome.hits,
            row.outcome.hit_ratio() * 100.0,
            row.outcome.byte_hit_ratio() * 100.0,
            row.ns_per_request
        );
    }
    html.push_str("</table></div>\n");
    html
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
